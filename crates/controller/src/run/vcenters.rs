//! vSphere over crate `vsphere`.
//!
//! The client never sends a changing call twice. What was lost is decided here by reading: a
//! snapshot is found by its lease, a VM by its marker, and tasks that still run are waited for.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use stillwater_types::{Fault, Reason, VcenterId, VmId};
use stillwater_vsphere::{
    AttachDisk, AttachMode, AttachedDisk, ChangeId, Client, DataAccess, DatastoreFacts,
    DatastoreRef, DetachDisk, Error, FaultKind, Guest, GuestLogin, NfcAccess, NfcTicket,
    PrivilegeGroup, Quiesce, RestoreSite, Seat, Since, SiteQuery, SnapshotConfig, SnapshotInfo,
    SnapshotRef, SnapshotSpec, Tag, Told, Vm, VmNotes, VmRef,
};

use super::lease::Lease;
use super::marker::Marker;
use super::outside::{
    Around, Changes, Circumstances, DressOrder, FreezeEvidence, LeasedFiles, LeasedSnapshot,
    MadeDisk, MadeSnapshot, MadeVm, Placed, Refusal, Removal, UnfinishedVm, Visitor, VmOrder,
    Vsphere,
};
use crate::guest::{Drive, HookRun, Keeper, Release};
use crate::restore::Outfit;
use crate::vcenter::Sessions;

/// The end of a VM's log that has its last stun.
const LOG_TAIL_BYTES: usize = 64 * 1024;
/// Reconfiguring, creating, destroying and powering on.
const SHORT_TASK: Duration = Duration::from_secs(10 * 60);
/// How often a VM is looked for whose making was asked for and whose answer was lost: the task may
/// still run, and what it makes after the last look would stay.
const STRAY_LOOKS: u32 = 5;
const STRAY_PAUSE: Duration = Duration::from_secs(2);
/// How many fields in which a VM differs are named.
const DIFFERENCES_TOLD: usize = 16;
/// How many VMs are searched for leases at a time on one vCenter.
const SEARCH_PARALLEL: usize = 4;

/// How long tasks are waited for. What has not ended then goes on, and is waited for again by
/// whoever cleans up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// A snapshot without quiescing takes seconds; with many disks on slow storage, minutes.
    pub create: Duration,
    /// Removing merges what was written meanwhile, which can take hours on a busy VM.
    pub remove: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            create: Duration::from_secs(15 * 60),
            remove: Duration::from_secs(4 * 3600),
        }
    }
}

/// The registered vCenters.
pub struct Vcenters {
    sessions: Sessions,
    patience: Patience,
}

impl Vcenters {
    /// Calls through `sessions`.
    pub fn new(sessions: Sessions, patience: Patience) -> Self {
        Self { sessions, patience }
    }

    async fn client(&self, vm: &VmId) -> Result<(Client, VmRef), Fault> {
        let client = self.sessions.client(vm.vcenter).await?;
        Ok((client, VmRef::new(&vm.moref)))
    }

    async fn guest(&self, vm: &VmId, login: &GuestLogin) -> Result<Guest, Fault> {
        let (client, vm) = self.client(vm).await?;
        Ok(client.guest(&vm, login.clone()).await?)
    }
}

/// The VM's snapshots that carry the lease of this cluster and run.
async fn leased(client: &Client, vm: &VmRef, lease: &Lease) -> Result<Vec<SnapshotInfo>, Error> {
    let mut snapshots = client.snapshots(vm).await?;
    snapshots.retain(|snapshot| {
        Lease::find(&snapshot.description)
            .is_some_and(|found| found.is_for(lease.cluster, lease.run))
    });
    Ok(snapshots)
}

/// What a server will not or cannot tell is noted; one that does not answer fails the call.
fn told<T>(answer: Result<T, Error>) -> Result<Told<T>, Error> {
    match answer {
        Ok(known) => Ok(Told::Known(known)),
        Err(error @ (Error::Fault { .. } | Error::BadAnswer { .. })) => {
            Ok(Told::Unknown(Fault::from(error).message))
        }
        Err(error) => Err(error),
    }
}

async fn datastores(
    client: &Client,
    datastores: &[DatastoreRef],
) -> Result<Vec<DatastoreFacts>, Error> {
    let mut all = Vec::with_capacity(datastores.len());
    for datastore in datastores {
        all.push(client.datastore(datastore).await?);
    }
    Ok(all)
}

fn refusal(error: Error) -> Refusal {
    Refusal {
        outcome: error.rung_outcome(),
        fault: error.into(),
    }
}

/// The last time that the log says how long the VM stood still, such as
/// `Checkpoint_Unstun: vm stopped for 123456 us`.
fn stun_micros(log: &str) -> Option<u64> {
    let told = log.lines().rev().find_map(|line| {
        line.split_once("Checkpoint_Unstun: vm stopped for ")
            .map(|(_, rest)| rest)
    });
    told?.split_whitespace().next()?.parse().ok()
}

fn made(snapshot: &SnapshotInfo) -> MadeSnapshot {
    MadeSnapshot {
        snapshot: snapshot.snapshot.to_string(),
        is_quiesced: snapshot.quiesced,
    }
}

#[async_trait]
impl Vsphere for Vcenters {
    async fn vm(&self, vm: &VmId) -> Result<Vm, Fault> {
        let (client, vm) = self.client(vm).await?;
        Ok(client.vm(&vm).await?)
    }

    async fn circumstances(
        &self,
        vm: &VmId,
        purposes: &[PrivilegeGroup],
    ) -> Result<Circumstances, Fault> {
        let (client, vm) = self.client(vm).await?;
        let places = client.vm_places(&vm).await?;
        let entities = places.entities(&vm);
        Ok(Circumstances {
            datastores: told(datastores(&client, &places.datastores).await)?,
            missing: told(client.missing_privileges(&entities, purposes).await)?,
        })
    }

    async fn around(&self, vm: &VmId) -> Result<Around, Fault> {
        let (client, vm) = self.client(vm).await?;
        Ok(Around {
            vcenter: client.about().full_name.clone(),
            surroundings: client.vm_surroundings(&vm).await?,
        })
    }

    async fn nvram(&self, vcenter: VcenterId, vm: &Vm) -> Result<Option<Vec<u8>>, Fault> {
        let client = self.sessions.client(vcenter).await?;
        Ok(client.nvram(vm).await?)
    }

    async fn instance(&self, vcenter: VcenterId) -> Result<String, Fault> {
        let client = self.sessions.client(vcenter).await?;
        Ok(client.about().instance_uuid.clone().unwrap_or_default())
    }

    async fn enable_tracking(&self, vm: &VmId) -> Result<(), Fault> {
        let (client, vm) = self.client(vm).await?;
        Ok(client.set_change_tracking(&vm, true, SHORT_TASK).await?)
    }

    async fn create_snapshot(
        &self,
        vm: &VmId,
        lease: &Lease,
        quiesce: Quiesce,
    ) -> Result<MadeSnapshot, Refusal> {
        let (client, vm) = self.client(vm).await?;
        let spec = SnapshotSpec {
            name: format!("stillwater {}", lease.run),
            description: lease.to_string(),
            quiesce,
        };
        let limit = self.patience.create;
        // One that an earlier try asked for and never heard of is found: there are never two of one run.
        let ensured = client.ensure_snapshot(&vm, &spec, limit).await;
        Ok(made(&ensured.map_err(refusal)?.info))
    }

    async fn begin_hooks(
        &self,
        vm: &VmId,
        login: &GuestLogin,
        keeper: &Keeper,
    ) -> Result<(), Fault> {
        let guest = self.guest(vm, login).await?;
        Drive::new(&guest, keeper)?.begin().await
    }

    async fn run_hook(
        &self,
        vm: &VmId,
        login: &GuestLogin,
        keeper: &Keeper,
        number: usize,
    ) -> Result<Option<HookRun>, Fault> {
        let guest = self.guest(vm, login).await?;
        Drive::new(&guest, keeper)?.hook(number).await
    }

    async fn holds_guest(
        &self,
        vm: &VmId,
        login: &GuestLogin,
        keeper: &Keeper,
    ) -> Result<bool, Fault> {
        let guest = self.guest(vm, login).await?;
        Drive::new(&guest, keeper)?.is_held().await
    }

    async fn release_guest(
        &self,
        vm: &VmId,
        login: &GuestLogin,
        keeper: &Keeper,
    ) -> Result<Option<(Release, Vec<HookRun>)>, Fault> {
        let guest = self.guest(vm, login).await?;
        Drive::new(&guest, keeper)?.release().await
    }

    async fn freeze_evidence(&self, vm: &VmId, snapshot: &str) -> Result<FreezeEvidence, Fault> {
        let (client, vm) = self.client(vm).await?;
        let vm = client.vm(&vm).await?;
        let info = vm
            .snapshots
            .iter()
            .find(|info| info.snapshot.as_str() == snapshot);
        let report = match info {
            Some(info) => client.backup_manifest(&vm, info).await?,
            None => None,
        };
        // A log that cannot be read costs a figure, not the proof.
        let log = client.log_tail(&vm, LOG_TAIL_BYTES).await.ok().flatten();
        let stun_micros = log.and_then(|log| stun_micros(&String::from_utf8_lossy(&log.bytes)));
        Ok(FreezeEvidence {
            report,
            stun_micros,
        })
    }

    async fn snapshot_config(&self, vm: &VmId, snapshot: &str) -> Result<SnapshotConfig, Fault> {
        let (client, _) = self.client(vm).await?;
        Ok(client.snapshot_config(&SnapshotRef::new(snapshot)).await?)
    }

    async fn disable_tracking(&self, vm: &VmId) -> Result<(), Fault> {
        let (client, vm) = self.client(vm).await?;
        Ok(client.set_change_tracking(&vm, false, SHORT_TASK).await?)
    }

    async fn changed_areas(
        &self,
        vm: &VmId,
        snapshot: &str,
        key: i32,
        capacity_bytes: u64,
        since: Option<&ChangeId>,
    ) -> Result<Changes, Fault> {
        let (client, vm) = self.client(vm).await?;
        let snapshot = SnapshotRef::new(snapshot);
        let since = since.map_or(Since::Beginning, Since::Change);
        let map = client
            .changed_areas(&vm, &snapshot, key, since, capacity_bytes)
            .await?;
        let oddities = (!map.oddities.is_none()).then(|| map.oddities.to_string());
        Ok(Changes {
            areas: map.areas,
            oddities: oddities.into_iter().collect(),
        })
    }

    async fn remove_snapshot(&self, vm: &VmId, lease: &Lease) -> Result<Removal, Fault> {
        let (client, vm) = self.client(vm).await?;
        let limit = self.patience.remove;
        // A snapshot may still be made; and a removal that an earlier controller began goes on.
        client.settle_snapshot_tasks(&vm, limit).await?;
        let found = leased(&client, &vm, lease).await?;
        let mut failed = None;
        for snapshot in &found {
            // One that resists must not keep the others.
            let removed = remove_one(&client, &snapshot.snapshot, limit).await;
            failed = failed.or(removed.err());
        }
        // The tree decides: a removal can fail and leave nothing but deltas.
        match (leased(&client, &vm, lease).await?.is_empty(), failed) {
            (true, _) => {}
            (false, Some(error)) => return Err(error.into()),
            (false, None) => {
                return Err(Fault::new(
                    Reason::VcenterTaskFailed,
                    "vsphere said that the snapshot is removed, but it is still there",
                ));
            }
        }
        // Also when none was found: an earlier call, whose answer was lost, may have left deltas.
        let consolidation_needed = !consolidated(&client, &vm, limit).await?;
        let removed_count = u32::try_from(found.len()).unwrap_or(u32::MAX);
        Ok(Removal {
            removed_count,
            consolidation_needed,
        })
    }

    async fn has_deltas(&self, vm: &VmId) -> Result<bool, Fault> {
        let (client, vm) = self.client(vm).await?;
        Ok(!client.unmerged(&vm).await?.is_none())
    }

    async fn consolidate(&self, vm: &VmId) -> Result<bool, Fault> {
        let (client, vm) = self.client(vm).await?;
        let limit = self.patience.remove;
        client.settle_snapshot_tasks(&vm, limit).await?;
        consolidated(&client, &vm, limit).await
    }

    async fn leased_snapshots(&self, vcenter: VcenterId) -> Result<Vec<LeasedSnapshot>, Fault> {
        let client = self.sessions.client(vcenter).await?;
        let vms = client.inventory().await?;
        let searches = vms.into_iter().map(|summary| {
            let client = client.clone();
            async move {
                let vm = VmId {
                    vcenter,
                    moref: summary.vm.as_str().to_owned(),
                };
                match client.snapshots(&summary.vm).await {
                    Ok(snapshots) => Ok(leases(&vm, &snapshots)),
                    // It went away between the list and the question.
                    Err(Error::VmNotFound { .. }) => Ok(Vec::new()),
                    // One VM that cannot be read must not hide the leftovers of all others.
                    Err(error @ (Error::Fault { .. } | Error::BadAnswer { .. })) => {
                        let fault = Fault::from(error);
                        tracing::warn!(vm.id = %vm, %fault, "cannot look for leftovers of one vm");
                        Ok(Vec::new())
                    }
                    Err(error) => Err(Fault::from(error)),
                }
            }
        });
        let found: Vec<Vec<LeasedSnapshot>> = stream::iter(searches)
            .buffer_unordered(SEARCH_PARALLEL)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn open_access(&self, vm: &VmId) -> Result<DataAccess, Fault> {
        let (client, vm) = self.client(vm).await?;
        Ok(client.open_data_access(&vm).await?)
    }

    async fn nfc_tickets(
        &self,
        vm: &VmId,
        access: NfcAccess,
        count: usize,
    ) -> Result<Vec<NfcTicket>, Fault> {
        let (client, vm) = self.client(vm).await?;
        let mut tickets: Vec<NfcTicket> = Vec::with_capacity(count);
        for _ in 0..count {
            let ticket = client.nfc_ticket(&vm, access, None).await?;
            // A proxy is told one host; a ticket for another dies by itself.
            let is_same = |first: &NfcTicket| {
                first.host == ticket.host
                    && first.port == ticket.port
                    && first.identity == ticket.identity
            };
            if tickets.first().is_none_or(is_same) {
                tickets.push(ticket);
            }
        }
        Ok(tickets)
    }

    async fn vm_of_proxy(
        &self,
        vcenter: VcenterId,
        uuids: &[String],
    ) -> Result<Option<VmId>, Fault> {
        let client = self.sessions.client(vcenter).await?;
        for uuid in uuids {
            let found = client.vms_by_bios_uuid(uuid).await?;
            match found.as_slice() {
                [] => {}
                [vm] => {
                    let moref = vm.as_str().to_owned();
                    return Ok(Some(VmId { vcenter, moref }));
                }
                // Clones share it: a disk must not be attached to the wrong one.
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    async fn seat(&self, vm: &VmId) -> Result<Option<Seat>, Fault> {
        let (client, vm) = self.client(vm).await?;
        Ok(client.seat(&vm).await?)
    }

    async fn attach_disks(
        &self,
        to: &VmId,
        disks: &[AttachDisk],
        mode: AttachMode,
    ) -> Result<Vec<Placed>, Fault> {
        let (client, to) = self.client(to).await?;
        let attached = client.attach_disks(&to, disks, mode, SHORT_TASK).await?;
        let placed = attached.into_iter().map(|disk| Placed {
            pci_slot: disk.pci_slot,
            unit: disk.unit,
            backing_uuid: disk.backing_uuid,
        });
        Ok(placed.collect())
    }

    async fn detach_disks(&self, from: &VmId, files: &[String]) -> Result<(), Fault> {
        let (client, from) = self.client(from).await?;
        let attached = client.attached_disks(&from).await?;
        // A disk in the VM's own directory is its own, whatever its file is called.
        let guests = attached.iter().filter(|disk| !disk.is_at_home);
        let find = |disk: &AttachedDisk| {
            let file_name = files.iter().find(|file| disk.has_file(file))?.clone();
            let key = disk.key;
            Some(DetachDisk { key, file_name })
        };
        let ours: Vec<DetachDisk> = guests.filter_map(find).collect();
        Ok(client.detach_disks(&from, &ours, SHORT_TASK).await?)
    }

    async fn visitors(&self, vcenter: VcenterId) -> Result<Vec<Visitor>, Fault> {
        let client = self.sessions.client(vcenter).await?;
        let visitors = client.visitors().await?;
        Ok(visitors
            .into_iter()
            .map(|found| visitor(vcenter, found))
            .collect())
    }

    async fn leased_files(&self, vm: &VmId, lease: &Lease) -> Result<LeasedFiles, Fault> {
        let (client, vm) = self.client(vm).await?;
        let mut files = LeasedFiles::default();
        for snapshot in leased(&client, &vm, lease).await? {
            let config = client.snapshot_config(&snapshot.snapshot).await?;
            let frozen = config.disks.into_iter().map(|disk| disk.file_name);
            files.frozen.extend(frozen);
        }
        let disks = client.attached_disks(&vm).await?;
        let all = disks.iter().flat_map(AttachedDisk::files);
        files.all = all.cloned().collect();
        Ok(files)
    }

    async fn unfinished_vms(&self, vcenter: VcenterId) -> Result<Vec<UnfinishedVm>, Fault> {
        let client = self.sessions.client(vcenter).await?;
        let unfinished = |noted: VmNotes| {
            let marker = Marker::find_unfinished(&noted.notes)?;
            let moref = noted.vm.as_str().to_owned();
            Some(UnfinishedVm {
                vm: VmId { vcenter, moref },
                name: noted.name,
                marker,
            })
        };
        let noted = client.all_notes().await?;
        Ok(noted.into_iter().filter_map(unfinished).collect())
    }

    async fn touch_access(&self, vcenter: VcenterId, access: &DataAccess) -> Result<bool, Fault> {
        let client = self.sessions.client(vcenter).await?;
        match client.keep_data_access_alive(access).await {
            Ok(()) => Ok(true),
            Err(error) if error.is(&FaultKind::NotAuthenticated) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn close_access(&self, vcenter: VcenterId, access: &DataAccess) -> Result<(), Fault> {
        let client = self.sessions.client(vcenter).await?;
        Ok(client.close_data_access(access).await?)
    }

    async fn restore_site(
        &self,
        vcenter: VcenterId,
        query: &SiteQuery,
    ) -> Result<RestoreSite, Fault> {
        let client = self.sessions.client(vcenter).await?;
        Ok(client.restore_site(query).await?)
    }

    async fn dress_vm(&self, vm: &VmId, order: &DressOrder) -> Result<Vec<String>, Fault> {
        let (client, vm) = self.client(vm).await?;
        dress(&client, &vm, order).await
    }

    async fn create_vm(&self, order: &VmOrder) -> Result<MadeVm, Fault> {
        let VmOrder {
            vcenter,
            placement,
            marker,
            new,
        } = order;
        let client = self.sessions.client(*vcenter).await?;
        let mut new = new.clone();
        new.annotation = Some(marker.annotate(new.annotation.as_deref()));
        let created = client.create_vm(&new, placement, SHORT_TASK).await?;
        let made = created.disks.into_iter().map(|disk| {
            let made = MadeDisk {
                key: disk.key,
                file_name: disk.file_name,
            };
            (disk.source_key, made)
        });
        let disks = made.collect();
        let vm = VmId {
            vcenter: *vcenter,
            moref: created.vm.as_str().to_owned(),
        };
        Ok(MadeVm { vm, disks })
    }

    async fn destroy_vm(
        &self,
        vcenter: VcenterId,
        name: &str,
        known: Option<&VmId>,
        marker: &Marker,
    ) -> Result<(), Fault> {
        let client = self.sessions.client(vcenter).await?;
        if let Some(vm) = known {
            return destroy_known(&client, &VmRef::new(&vm.moref), marker).await;
        }
        for _ in 0..STRAY_LOOKS {
            if destroy_marked(&client, name, marker).await? {
                return Ok(());
            }
            tokio::time::sleep(STRAY_PAUSE).await;
        }
        Ok(())
    }

    async fn power_on(&self, vm: &VmId) -> Result<(), Fault> {
        let (client, vm) = self.client(vm).await?;
        if client.vm(&vm).await?.power == stillwater_vsphere::Power::On {
            return Ok(());
        }
        Ok(client.power_on(&vm, SHORT_TASK).await?)
    }
}

/// Gives a VM what belongs to it, one thing after the other; what failed, in words.
async fn dress(client: &Client, vm: &VmRef, order: &DressOrder) -> Result<Vec<String>, Fault> {
    let Outfit {
        nvram,
        tags,
        attributes,
        policies,
        template,
    } = &order.outfit;
    let mut failed = Vec::new();
    let mut note = |what: &str, done: Result<(), Error>| {
        if let Err(error) = done {
            failed.push(format!("{what}: {}", Fault::from(error).message));
        }
    };
    let made = client.vm(vm).await?;
    if let Some(nvram) = nvram {
        let bytes = nvram.unpack()?;
        let put = client.put_nvram(&made, bytes).await;
        note("its nvram could not be written", put.map(drop));
    }
    for attribute in attributes {
        let what = format!("custom attribute {} could not be set", attribute.name);
        note(&what, client.set_attribute(vm, attribute).await);
    }
    if policies.home.is_some() || !policies.disks.is_empty() {
        let applied = client.apply_policies(vm, policies, SHORT_TASK).await;
        note("its storage policies could not be applied", applied);
    }
    note(
        "its notes still call it unfinished",
        finish(client, vm, &order.marker).await,
    );
    for (tag, why) in client.attach_tags(vm, tags).await {
        let Tag { category, name } = tag;
        failed.push(format!(
            "tag {category}:{name} could not be attached: {why}"
        ));
    }
    failed.extend(differences(&order.config_xml, &made.config_xml));
    if *template && !made.template {
        client.mark_as_template(vm).await?;
    }
    Ok(failed)
}

/// Has the VM's notes say no more that it is half made.
async fn finish(client: &Client, vm: &VmRef, marker: &Marker) -> Result<(), Error> {
    match marker.finish(&client.notes(vm).await?) {
        Some(notes) => client.set_notes(vm, &notes, SHORT_TASK).await,
        None => Ok(()),
    }
}

/// How a new VM is not as the saved configuration says and is not meant to be otherwise, in words.
fn differences(saved: &str, made: &str) -> Option<String> {
    let differing = match stillwater_vsphere::compare(saved, made) {
        Ok(differing) => differing,
        Err(error) => {
            let why = Fault::from(error).message;
            return Some(format!(
                "it could not be held against what was saved: {why}"
            ));
        }
    };
    let unmeant = differing.iter().filter(|found| found.intended.is_none());
    let words: Vec<String> = unmeant
        .map(|found| {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
            let (was, is) = (value(&found.source), value(&found.restored));
            format!("{} is {is} and was {was}", found.field)
        })
        .collect();
    let more = words.len().saturating_sub(DIFFERENCES_TOLD);
    let shown = words.iter().take(DIFFERENCES_TOLD).cloned();
    let mut shown: Vec<String> = shown.collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    (!words.is_empty()).then(|| format!("its configuration differs: {}", shown.join(", ")))
}

/// Destroys a VM that is known to be the run's, unless somebody made it theirs.
async fn destroy_known(client: &Client, vm: &VmRef, marker: &Marker) -> Result<(), Fault> {
    let found = match client.vm(vm).await {
        Err(Error::VmNotFound { .. }) => return Ok(()),
        found => found?,
    };
    if !marker.is_in(&found.config_xml) {
        return Err(Fault::new(
            Reason::VcenterTaskFailed,
            "the vm does not carry the mark of its restore any more and is left alone; it is not whole, remove it in vsphere",
        )
        .with("vm", vm)
        .with("path", found.path));
    }
    Ok(client.destroy_vm(vm, SHORT_TASK).await?)
}

/// Destroys the VM of that name and mark; whether it was there.
async fn destroy_marked(client: &Client, name: &str, marker: &Marker) -> Result<bool, Fault> {
    let mut found = false;
    for summary in client
        .inventory()
        .await?
        .into_iter()
        .filter(|vm| vm.name == name)
    {
        let vm = match client.vm(&summary.vm).await {
            Err(Error::VmNotFound { .. }) => continue,
            vm => vm?,
        };
        if marker.is_in(&vm.config_xml) {
            client.destroy_vm(&summary.vm, SHORT_TASK).await?;
            found = true;
        }
    }
    Ok(found)
}

async fn remove_one(client: &Client, snapshot: &SnapshotRef, limit: Duration) -> Result<(), Error> {
    match client.remove_snapshot(snapshot, true).await? {
        Some(task) => client.wait_task(&task, limit).await.map(drop),
        None => Ok(()),
    }
}

/// Merges deltas that a removal left, once; whether none are left.
async fn consolidated(client: &Client, vm: &VmRef, limit: Duration) -> Result<bool, Fault> {
    if client.unmerged(vm).await?.is_none() {
        return Ok(true);
    }
    let merged = match client.consolidate(vm).await {
        Ok(task) => client.wait_task(&task, limit).await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = merged {
        tracing::warn!(vm.moref = %vm, fault = %Fault::from(error), "cannot consolidate");
    }
    Ok(client.unmerged(vm).await?.is_none())
}

fn visitor(vcenter: VcenterId, found: stillwater_vsphere::Visitor) -> Visitor {
    let moref = found.on.as_str().to_owned();
    Visitor {
        on: VmId { vcenter, moref },
        on_name: found.on_name,
        device: found.disk.device_name(),
        files: found.disk.files().to_vec(),
        is_read_only: found.disk.mode == AttachMode::Read.as_str(),
        owner: found.owner,
    }
}

fn leases(vm: &VmId, snapshots: &[SnapshotInfo]) -> Vec<LeasedSnapshot> {
    let leases = snapshots
        .iter()
        .filter_map(|snapshot| Lease::find(&snapshot.description));
    leases
        .map(|lease| LeasedSnapshot {
            vm: vm.clone(),
            lease,
        })
        .collect()
}
