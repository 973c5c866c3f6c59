//! vSphere, proxies and repositories as one small world that can fail at any call.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use stillwater_catalog::SystemClock;
use stillwater_controller_api as api;
use stillwater_controller_api::NodeLoad;
use stillwater_format::manifest::{Manifest, manifest_hash};
use stillwater_proxy_api as proxy_api;
use stillwater_proxy_api::{Transfer, TransferProgress, TransferState};
use stillwater_repository_api as repository_api;
use stillwater_rpc::grant::GrantSigner;
use stillwater_rpc::retry::Backoff;
use stillwater_seal::{DatasetKey, KeyEncryptionKey, Purpose};
use stillwater_types::{
    ClusterId, DatasetId, ExportId, ExtentSet, Fault, NodeId, PointId, Reason, RequestId, Role,
    RunId, TransferId, TreeId, VcenterId, VmId,
};
use stillwater_vsphere::{
    AttachDisk, AttachMode, ChangeId, DataAccess, FrozenDisk, GuestFamily, GuestLogin,
    HostIdentity, MissingPrivilege, NfcAccess, NfcTicket, Power, PrivilegeGroup, Protectability,
    Quiesce, RestoreSite, RungOutcome, Seat, SiteQuery, SnapshotConfig, Tag, Told, Tools, Trust,
    Vm, VmDisk, VmRef, VmSurroundings,
};

use crate::dataset::{DatasetEvent, Wrapped};
use crate::event::Actor;
use crate::guest::{
    CredentialEvent, Hook, HookEnd, HookRun, Hooks, Keeper, OnFailure, Phase, Release, Subject,
};
use crate::memory::Memory;
use crate::node::{Directory, NodeEvent};
use crate::point::{OpenedPoint, Points};
use crate::restore::Outfit;
use crate::run::act::{Bays, World};
use crate::run::bases::Bases;
use crate::run::budget::Budgets;
use crate::run::engine::Runs;
use crate::run::event::{BackupWork, ExportWork, Placement, RestoreOptions, RestoreWork, Work};
use crate::run::guard::Guards;
use crate::run::lease::Lease;
use crate::run::marker::Marker;
use crate::run::outside::{
    Around, Changes, Circumstances, DressOrder, FreezeEvidence, LeasedFiles, LeasedSnapshot,
    MadeDisk, MadeSnapshot, MadeVm, Placed, Proxies, Refusal, Removal, Repositories, UnfinishedVm,
    Visitor, VmOrder, Vsphere,
};
use crate::run::reading::Trust as MapTrust;
use crate::run::slots::Slots;
use crate::run::timing::Timing;
use crate::run::turnstile::Turnstile;
use crate::secret::{Sealed, Secrets};
use crate::vcenter::{Trust as VcenterTrust, VcenterEvent};

pub const DISK_BYTES: u64 = 1 << 20;

pub fn cluster() -> ClusterId {
    ClusterId::from_bytes([1; 16])
}

pub fn vcenter() -> VcenterId {
    VcenterId::from_bytes([2; 16])
}

pub fn repository() -> NodeId {
    NodeId::from_bytes([3; 16])
}

pub fn proxy(n: u8) -> NodeId {
    NodeId::from_bytes([4 + n; 16])
}

pub fn dataset() -> DatasetId {
    DatasetId::from_bytes([6; 16])
}

pub fn vm() -> VmId {
    VmId {
        vcenter: vcenter(),
        moref: "vm-1".into(),
    }
}

/// What is out there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Things {
    /// Snapshots by VM: name and description.
    pub snapshots: BTreeMap<String, Vec<(String, String)>>,
    /// VMs with deltas that no snapshot explains, and how often merging them fails still.
    pub deltas: BTreeMap<String, u32>,
    /// VMs that were created: moref, and what their notes say.
    pub vms: BTreeMap<String, String>,
    /// What VMs got besides their disks, in order.
    pub dressed: Vec<Outfit>,
    /// Data sessions that are open.
    pub accesses: BTreeSet<String>,
    /// Transfers that run.
    pub transfers: BTreeSet<TransferId>,
    /// Exports that are open, and whether they were read.
    pub exports: BTreeMap<ExportId, bool>,
    /// Sessions by run.
    pub sessions: BTreeMap<RunId, u64>,
    /// Manifests that were proposed, by point.
    pub proposals: BTreeMap<PointId, Hidden>,
    /// Manifests of points that exist.
    pub points: BTreeMap<PointId, Hidden>,
    /// Whether change tracking is on.
    pub tracking: bool,
    /// Whether hooks hold the guest; none when nothing of them is there.
    pub guest_held: Option<bool>,
    /// The hooks that ran in the guest, and the snapshots that were made meanwhile.
    pub guest_log: Vec<String>,
    /// Files that are attached to VMs of proxies.
    pub attached: BTreeMap<String, BTreeSet<String>>,
    /// Counts what was made, for names.
    pub made: u64,
}

/// Bytes that nobody wants to read in a failed test.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub Vec<u8>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A listing of points that is on its way for as long as a test wants.
#[derive(Debug, Default)]
pub struct LateListing {
    /// It was made.
    pub made: tokio::sync::Notify,
    /// It may arrive.
    pub arrive: tokio::sync::Notify,
}

/// How the world behaves.
#[derive(Debug, Clone, Default)]
pub struct Habits {
    /// Which call fails, counted from 0; none when none.
    pub fails_at: Option<u64>,
    /// Whether that call happens all the same.
    pub happens: bool,
    /// How that call fails.
    pub reason: Option<Reason>,
    /// Whether the folder has a VM of the name that a restored one is to have.
    pub name_is_taken: bool,
    /// What a restored VM does not get.
    pub undressed: Vec<&'static str>,
    /// Whether every later call of the same name fails too.
    pub stays: bool,
    /// The next listing of points is old when it arrives.
    pub late_listing: Option<Arc<LateListing>>,
    /// Disks with their obstacles.
    pub disks: Vec<(i32, Protectability)>,
    /// How many transfers are lost by their proxy before one succeeds.
    pub transfers_lost: u32,
    /// How long each transfer takes.
    pub transfers_last: Duration,
    /// How every transfer fails.
    pub transfers_fail: Option<Reason>,
    /// Whether transfers go on for ever.
    pub transfers_hang: bool,
    /// Whether exports are read as soon as they are open.
    pub exports_are_read: bool,
    /// Whether a reader is at exports as soon as they are open.
    pub exports_are_being_read: bool,
    /// Disks that are in the snapshot and were not there when the VM was read.
    pub disks_added: Vec<i32>,
    /// By how much a proxy's root is shorter than the disk.
    pub roots_short_by: u64,
    /// Whether a snapshot that is removed leaves its deltas.
    pub removals_leave_deltas: bool,
    /// The VM whose snapshots take for ever to remove.
    pub removal_hangs_on: Option<&'static str>,
    /// How long it takes to remove a snapshot.
    pub removals_last: Duration,
    /// Snapshots of others on the VM.
    pub foreign_snapshots: usize,
    /// Whether no change map is to be had.
    pub maps_are_lost: bool,
    /// Bytes that proxies find changed where the map said that nothing had.
    pub lie_bytes: u64,
    /// How transfers fail that need a base.
    pub bases_fail: Option<Reason>,
    /// What our account lacks.
    pub privileges_missing: Vec<MissingPrivilege>,
    /// The VM's NVRAM.
    pub nvram: Option<Vec<u8>>,
    /// How many requests to quiesce fail.
    pub quiesce_fails: u32,
    /// Whether vSphere ignores requests to quiesce.
    pub quiesce_is_ignored: bool,
    /// What the guest tells of a freeze.
    pub report: Option<Vec<u8>>,
    /// Whether disks can be attached to the VMs of proxies.
    pub hot_adds: bool,
    /// How it fails to attach a disk.
    pub attaching_fails: Option<Reason>,
    /// The file that spoils every attaching that it is part of.
    pub attaching_is_spoiled_by: Option<&'static str>,
    /// How many disks can be attached to the VM of a proxy, if that is bounded.
    pub attached_max: Option<usize>,
    /// Whether hosts' disk servers give tickets.
    pub gives_nfc_tickets: bool,
    /// How transfers fail that write through nfc.
    pub nfc_writes_fail: Option<Reason>,
    /// Whether VMware Tools are absent.
    pub no_tools: bool,
    /// Hooks that end with exit code 3.
    pub hooks_fail: Vec<&'static str>,
    /// Whether hooks never end.
    pub hooks_hang: bool,
    /// Whether the guest knows no password.
    pub refuses_guest_logins: bool,
    /// Whether the guest releases itself when a snapshot is made.
    pub watchdog_is_quick: bool,
    /// How many proposals that share something unread are refused for missing chunks.
    pub bases_refused: u32,
}

#[derive(Default)]
struct Inner {
    things: Things,
    habits: Habits,
    calls: Vec<&'static str>,
    failing: Option<&'static str>,
    journal: Option<std::path::PathBuf>,
    history: Vec<(u64, Things)>,
    touched: BTreeMap<String, u64>,
    orders: Vec<proxy_api::StartTransferRequest>,
    asked: Vec<Quiesce>,
}

/// One world, shared by what the engine sees as three.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Inner>>);

impl Fake {
    pub fn new(habits: Habits) -> Self {
        let fake = Self::default();
        fake.locked().habits = habits;
        let foreign = fake.locked().habits.foreign_snapshots;
        let names = (0..foreign).map(|n| (format!("foreign-{n}"), "before update".to_owned()));
        fake.locked()
            .things
            .snapshots
            .insert(vm().moref, names.collect());
        fake
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub fn things(&self) -> Things {
        self.locked().things.clone()
    }

    pub fn set(&self, things: Things) {
        self.locked().things = things;
    }

    pub fn call_count(&self) -> u64 {
        self.locked().calls.len() as u64
    }

    pub fn calls(&self) -> Vec<&'static str> {
        self.locked().calls.clone()
    }

    /// From now on, every call of that name fails before it happens.
    pub fn fail_every(&self, name: &'static str) {
        let mut inner = self.locked();
        inner.failing = Some(name);
        inner.habits.stays = true;
    }

    /// From now on, calls succeed.
    pub fn forget_failing(&self) {
        let mut inner = self.locked();
        inner.failing = None;
        inner.habits.fails_at = None;
        inner.habits.stays = false;
    }

    pub fn change_habits(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.locked().habits);
    }

    /// Remembers the world at each change, with the journal's length then.
    pub fn record(&self, journal: std::path::PathBuf) {
        let mut inner = self.locked();
        inner.journal = Some(journal);
        let things = inner.things.clone();
        inner.history = vec![(0, things)];
    }

    /// How the guest was asked to be quiesced, in order.
    pub fn asked(&self) -> Vec<Quiesce> {
        self.locked().asked.clone()
    }

    /// What proxies were told to do, in order.
    pub fn orders(&self) -> Vec<proxy_api::StartTransferRequest> {
        self.locked().orders.clone()
    }

    /// How often each data session was used for its own sake, by cookie.
    pub fn touched(&self) -> BTreeMap<String, u64> {
        self.locked().touched.clone()
    }

    pub fn history(&self) -> Vec<(u64, Things)> {
        self.locked().history.clone()
    }

    /// One call: what it does happens, or fails as planned.
    fn call<T>(
        &self,
        name: &'static str,
        act: impl FnOnce(&mut Things, &mut Habits) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut inner = self.locked();
        let at = inner.calls.len() as u64;
        inner.calls.push(name);
        if inner.habits.fails_at == Some(at) {
            inner.failing = Some(name);
        }
        let fails =
            inner.habits.fails_at == Some(at) || inner.habits.stays && inner.failing == Some(name);
        let planned = || {
            let reason = inner.habits.reason.unwrap_or(Reason::RepositoryUnreachable);
            Fault::new(reason, format!("planned for call {at}, {name}"))
        };
        if fails && !inner.habits.happens {
            return Err(planned());
        }
        let fault = fails.then(planned);
        let Inner { things, habits, .. } = &mut *inner;
        let done = act(things, habits);
        if let Some(path) = &inner.journal {
            let length = std::fs::metadata(path).unwrap().len();
            let things = inner.things.clone();
            inner.history.push((length, things));
        }
        match fault {
            Some(fault) => Err(fault),
            None => done,
        }
    }
}

fn gone(reason: Reason) -> Fault {
    Fault::new(reason, "not there")
}

fn described(lease: &Lease) -> String {
    lease.to_string()
}

#[async_trait]
impl Vsphere for Fake {
    async fn vm(&self, id: &VmId) -> Result<Vm, Fault> {
        self.call("vm", |things, habits| {
            let mut vm = fake_vm(id, planned_disks(habits), things);
            if habits.no_tools {
                vm.tools = Tools::NotRunning;
            }
            if habits.removal_hangs_on == Some(id.moref.as_str()) {
                // Whoever shares its host or datastore waits for it, and is meant to.
                vm.host = Some("esx-2".into());
                vm.datastores = vec!["other".into()];
            }
            Ok(vm)
        })
    }

    async fn circumstances(
        &self,
        _vm: &VmId,
        _purposes: &[PrivilegeGroup],
    ) -> Result<Circumstances, Fault> {
        self.call("circumstances", |_, habits| {
            Ok(Circumstances {
                datastores: Told::Known(Vec::new()),
                missing: Told::Known(habits.privileges_missing.clone()),
            })
        })
    }

    async fn around(&self, _vm: &VmId) -> Result<Around, Fault> {
        self.call("around", |_, _| Ok(around()))
    }

    async fn nvram(&self, _vcenter: VcenterId, _vm: &Vm) -> Result<Option<Vec<u8>>, Fault> {
        self.call("nvram", |_, habits| Ok(habits.nvram.clone()))
    }

    async fn instance(&self, _vcenter: VcenterId) -> Result<String, Fault> {
        self.call("instance", |_, _| Ok("instance".to_owned()))
    }

    async fn enable_tracking(&self, _vm: &VmId) -> Result<(), Fault> {
        self.call("enable_tracking", |things, _| {
            assert!(
                things.snapshots.values().all(Vec::is_empty),
                "tracking is turned on while snapshots exist"
            );
            things.tracking = true;
            Ok(())
        })
    }

    async fn begin_hooks(
        &self,
        _vm: &VmId,
        login: &GuestLogin,
        _keeper: &Keeper,
    ) -> Result<(), Fault> {
        assert_eq!(login.password.expose_secret(), "canary");
        self.call("begin_hooks", |things, habits| {
            if habits.refuses_guest_logins {
                return Err(gone(Reason::GuestLoginRefused));
            }
            things.guest_held.get_or_insert(true);
            Ok(())
        })
    }

    async fn run_hook(
        &self,
        _vm: &VmId,
        _login: &GuestLogin,
        keeper: &Keeper,
        number: usize,
    ) -> Result<Option<HookRun>, Fault> {
        if self.locked().habits.hooks_hang {
            std::future::pending::<()>().await;
        }
        self.call("run_hook", |things, habits| {
            if things.guest_held != Some(true) {
                return Ok(None);
            }
            let hook = &keeper.hooks().hooks[number];
            if !things.guest_log.contains(&hook.name) {
                things.guest_log.push(hook.name.clone());
            }
            Ok(Some(hook_run(hook, habits)))
        })
    }

    async fn holds_guest(
        &self,
        _vm: &VmId,
        _login: &GuestLogin,
        _keeper: &Keeper,
    ) -> Result<bool, Fault> {
        self.call("holds_guest", |things, _| {
            Ok(things.guest_held == Some(true))
        })
    }

    async fn release_guest(
        &self,
        _vm: &VmId,
        _login: &GuestLogin,
        keeper: &Keeper,
    ) -> Result<Option<(Release, Vec<HookRun>)>, Fault> {
        self.call("release_guest", |things, habits| {
            if habits.refuses_guest_logins {
                return Err(gone(Reason::GuestLoginRefused));
            }
            let Some(is_held) = things.guest_held.take() else {
                return Ok(None);
            };
            let after = || keeper.hooks().of(Phase::After).map(|(_, hook)| hook);
            if is_held {
                things
                    .guest_log
                    .extend(after().map(|hook| hook.name.clone()));
            }
            let release = Release {
                by_watchdog: !is_held,
                at: Timestamp::UNIX_EPOCH,
            };
            let runs = after().map(|hook| hook_run(hook, habits)).collect();
            Ok(Some((release, runs)))
        })
    }

    async fn freeze_evidence(&self, _vm: &VmId, _snapshot: &str) -> Result<FreezeEvidence, Fault> {
        self.call("freeze_evidence", |_, habits| {
            Ok(FreezeEvidence {
                report: habits.report.clone(),
                stun_micros: Some(1500),
            })
        })
    }

    async fn create_snapshot(
        &self,
        vm: &VmId,
        lease: &Lease,
        quiesce: Quiesce,
    ) -> Result<MadeSnapshot, Refusal> {
        let asked = quiesce != Quiesce::None;
        let refused = {
            let mut inner = self.locked();
            inner.asked.push(quiesce);
            let refused = asked && inner.habits.quiesce_fails > 0;
            inner.habits.quiesce_fails -= u32::from(refused);
            refused
        };
        if refused {
            self.call("create_snapshot", |_, _| Ok(()))?;
            return Err(Refusal {
                fault: Fault::new(Reason::SnapshotFailed, "the guest's freeze script failed"),
                outcome: RungOutcome::Failed,
            });
        }
        let made = self.call("create_snapshot", |things, habits| {
            assert!(
                !things.sessions.is_empty(),
                "frozen before the storage is ready"
            );
            if things.guest_held.is_some() {
                things.guest_log.push("snapshot".to_owned());
            }
            if habits.watchdog_is_quick && things.guest_held == Some(true) {
                things.guest_held = Some(false);
                things.guest_log.push("free".to_owned());
            }
            let snapshots = things.snapshots.entry(vm.moref.clone()).or_default();
            if !snapshots.iter().any(|(_, text)| *text == described(lease)) {
                things.made += 1;
                snapshots.push((format!("snapshot-{}", things.made), described(lease)));
            }
            let (name, _) = snapshots.last().unwrap();
            Ok(MadeSnapshot {
                snapshot: name.clone(),
                is_quiesced: asked && !habits.quiesce_is_ignored,
            })
        });
        Ok(made?)
    }

    async fn snapshot_config(&self, vm: &VmId, snapshot: &str) -> Result<SnapshotConfig, Fault> {
        self.call("snapshot_config", |things, habits| {
            let snapshots = things.snapshots.get(&vm.moref).unwrap();
            assert!(snapshots.iter().any(|(name, _)| name == snapshot));
            let disk = |key, protectability| FrozenDisk {
                key,
                label: format!("Hard disk {key}"),
                capacity_bytes: DISK_BYTES,
                file_name: format!("[ds] web/web-{key}.vmdk"),
                change_id: ChangeId::parse("52 de/1").filter(|_| things.tracking),
                backing_uuid: Some(format!("uuid-{key}")),
                protectability,
                traits: stillwater_vsphere::DiskTraits::default(),
            };
            let added = habits.disks_added.iter();
            let added = added.map(|key| (*key, Protectability::Protectable));
            let disks = planned_disks(habits).into_iter().chain(added);
            Ok(SnapshotConfig {
                config_xml: config_xml(disks.clone().map(|(key, _)| key)),
                disks: disks.map(|(key, kind)| disk(key, kind)).collect(),
            })
        })
    }

    async fn disable_tracking(&self, _vm: &VmId) -> Result<(), Fault> {
        self.call("disable_tracking", |things, _| {
            things.tracking = false;
            Ok(())
        })
    }

    async fn changed_areas(
        &self,
        _vm: &VmId,
        _snapshot: &str,
        _key: i32,
        capacity_bytes: u64,
        since: Option<&ChangeId>,
    ) -> Result<Changes, Fault> {
        let name = match since {
            None => "allocated_areas",
            Some(_) => "changed_areas",
        };
        self.call(name, |_, habits| {
            if habits.maps_are_lost {
                return Err(gone(Reason::VcenterTaskFailed));
            }
            let part = if since.is_some() { 16 } else { 2 };
            Ok(Changes {
                areas: ExtentSet::whole(capacity_bytes / part),
                oddities: Vec::new(),
            })
        })
    }

    async fn remove_snapshot(&self, vm: &VmId, lease: &Lease) -> Result<Removal, Fault> {
        let hangs_on = self.locked().habits.removal_hangs_on;
        if hangs_on == Some(vm.moref.as_str()) {
            std::future::pending::<()>().await;
        }
        let lasts = self.locked().habits.removals_last;
        tokio::time::sleep(lasts).await;
        self.call("remove_snapshot", |things, habits| {
            let is_calm = habits.fails_at.is_none() && !habits.stays;
            assert!(
                !is_calm || things.accesses.is_empty(),
                "removed while its disks are open"
            );
            let snapshots = things.snapshots.entry(vm.moref.clone()).or_default();
            let before = snapshots.len();
            snapshots.retain(|(_, text)| {
                !Lease::find(text).is_some_and(|found| found.is_for(lease.cluster, lease.run))
            });
            let removed_count = (before - snapshots.len()) as u32;
            if removed_count > 0 && habits.removals_leave_deltas {
                things.deltas.insert(vm.moref.clone(), 2);
            }
            Ok(Removal {
                removed_count,
                consolidation_needed: things.deltas.contains_key(&vm.moref),
            })
        })
    }

    async fn has_deltas(&self, vm: &VmId) -> Result<bool, Fault> {
        self.call("has_deltas", |things, _| {
            Ok(things.deltas.contains_key(&vm.moref))
        })
    }

    async fn consolidate(&self, vm: &VmId) -> Result<bool, Fault> {
        self.call("consolidate", |things, _| {
            match things.deltas.get_mut(&vm.moref) {
                Some(failures) if *failures > 0 => {
                    *failures -= 1;
                    Ok(false)
                }
                _ => {
                    things.deltas.remove(&vm.moref);
                    Ok(true)
                }
            }
        })
    }

    async fn leased_snapshots(&self, vcenter: VcenterId) -> Result<Vec<LeasedSnapshot>, Fault> {
        self.call("leased_snapshots", |things, _| {
            let all = things.snapshots.iter();
            let found = all.flat_map(|(moref, snapshots)| {
                let vm = VmId {
                    vcenter,
                    moref: moref.clone(),
                };
                let leases = snapshots.iter().filter_map(|(_, text)| Lease::find(text));
                leases.map(move |lease| LeasedSnapshot {
                    vm: vm.clone(),
                    lease,
                })
            });
            Ok(found.collect())
        })
    }

    async fn open_access(&self, _vm: &VmId) -> Result<DataAccess, Fault> {
        self.call("open_access", |things, _| {
            things.made += 1;
            let cookie = format!("cookie-{}", things.made);
            things.accesses.insert(cookie.clone());
            Ok(DataAccess {
                address: "vc.example".into(),
                cookie: cookie.into(),
                trust: Trust::Ca(Vec::new()),
                datacenter: "/DC0".into(),
            })
        })
    }

    async fn nfc_tickets(
        &self,
        _vm: &VmId,
        access: NfcAccess,
        count: usize,
    ) -> Result<Vec<NfcTicket>, Fault> {
        self.call("nfc_tickets", |_, habits| {
            if !habits.gives_nfc_tickets {
                return Err(gone(Reason::NotSupported));
            }
            let ticket = |n| NfcTicket {
                host: "esx1".into(),
                port: 902,
                identity: HostIdentity::Sha1([1; 20]),
                service: "vpxa-nfc".into(),
                service_version: None,
                session_id: format!("{access:?} {n}").into(),
            };
            Ok((0..count).map(ticket).collect())
        })
    }

    async fn vm_of_proxy(
        &self,
        vcenter: VcenterId,
        uuids: &[String],
    ) -> Result<Option<VmId>, Fault> {
        self.call("vm_of_proxy", |_, _| {
            let moref = format!("vm-{}", uuids[0]);
            Ok(Some(VmId { vcenter, moref }))
        })
    }

    async fn seat(&self, _vm: &VmId) -> Result<Option<Seat>, Fault> {
        self.call("seat", |_, _| Ok(None))
    }

    async fn attach_disks(
        &self,
        to: &VmId,
        disks: &[AttachDisk],
        _mode: AttachMode,
    ) -> Result<Vec<Placed>, Fault> {
        self.call("attach_disks", |things, habits| {
            if let Some(reason) = habits.attaching_fails {
                return Err(gone(reason));
            }
            let spoils =
                |disk: &AttachDisk| Some(&*disk.file_name) == habits.attaching_is_spoiled_by;
            if disks.iter().any(spoils) {
                return Err(gone(Reason::VcenterTaskFailed));
            }
            let there = things.attached.get(&to.moref).map_or(0, BTreeSet::len);
            if habits
                .attached_max
                .is_some_and(|most| there + disks.len() > most)
            {
                return Err(gone(Reason::NoProxySlot));
            }
            for disk in disks {
                let file = disk.file_name.clone();
                let there = things.attached.values().any(|files| files.contains(&file));
                assert!(!there, "{file} is attached already");
                things
                    .attached
                    .entry(to.moref.clone())
                    .or_default()
                    .insert(file);
            }
            let placed = |_| Placed {
                pci_slot: Some(160),
                unit: 1,
                backing_uuid: None,
            };
            Ok(disks.iter().map(placed).collect())
        })
    }

    async fn detach_disks(&self, from: &VmId, files: &[String]) -> Result<(), Fault> {
        self.call("detach_disks", |things, _| {
            if let Some(there) = things.attached.get_mut(&from.moref) {
                there.retain(|file| !files.contains(file));
            }
            things.attached.retain(|_, files| !files.is_empty());
            Ok(())
        })
    }

    async fn visitors(&self, vcenter: VcenterId) -> Result<Vec<Visitor>, Fault> {
        self.call("visitors", |things, _| {
            let attached = things.attached.iter();
            let all = attached.flat_map(|(vm, files)| files.iter().map(move |file| (vm, file)));
            let visitor = |(moref, file): (&String, &String)| Visitor {
                on: VmId {
                    vcenter,
                    moref: moref.clone(),
                },
                on_name: moref.clone(),
                device: "disk-1000-1".into(),
                files: vec![file.clone()],
                is_read_only: !file.starts_with("[ds] new/"),
                owner: ["web", "new"]
                    .into_iter()
                    .find(|owner| file.starts_with(&format!("[ds] {owner}/")))
                    .map(str::to_owned),
            };
            Ok(all.map(visitor).collect())
        })
    }

    async fn leased_files(&self, vm: &VmId, lease: &Lease) -> Result<LeasedFiles, Fault> {
        self.call("leased_files", |things, habits| {
            let snapshots = things.snapshots.get(&vm.moref).into_iter().flatten();
            let ours = snapshots
                .filter(|(_, text)| *text == described(lease) && *vm == super::world::vm());
            let keys = planned_disks(habits);
            let files = ours.flat_map(|_| &keys);
            Ok(LeasedFiles {
                frozen: files
                    .map(|(key, _)| format!("[ds] web/web-{key}.vmdk"))
                    .collect(),
                all: BTreeSet::new(),
            })
        })
    }

    async fn unfinished_vms(&self, vcenter: VcenterId) -> Result<Vec<UnfinishedVm>, Fault> {
        self.call("unfinished_vms", |things, _| {
            let unfinished = |(moref, notes): (&String, &String)| {
                Some(UnfinishedVm {
                    vm: VmId {
                        vcenter,
                        moref: moref.clone(),
                    },
                    name: "new".into(),
                    marker: Marker::find_unfinished(notes)?,
                })
            };
            Ok(things.vms.iter().filter_map(unfinished).collect())
        })
    }

    async fn touch_access(&self, _vcenter: VcenterId, access: &DataAccess) -> Result<bool, Fault> {
        use secrecy::ExposeSecret;
        let mut inner = self.locked();
        let cookie = access.cookie.expose_secret();
        *inner.touched.entry(cookie.to_owned()).or_default() += 1;
        Ok(inner.things.accesses.contains(cookie))
    }

    async fn close_access(&self, _vcenter: VcenterId, access: &DataAccess) -> Result<(), Fault> {
        use secrecy::ExposeSecret;
        self.call("close_access", |things, _| {
            things.accesses.remove(access.cookie.expose_secret());
            // What reads through the session cannot go on.
            things.transfers.clear();
            Ok(())
        })
    }

    async fn restore_site(
        &self,
        _vcenter: VcenterId,
        query: &SiteQuery,
    ) -> Result<RestoreSite, Fault> {
        self.call("restore_site", |things, habits| {
            Ok(RestoreSite {
                name_is_taken: habits.name_is_taken,
                ..site(query, things)
            })
        })
    }

    async fn dress_vm(&self, vm: &VmId, order: &DressOrder) -> Result<Vec<String>, Fault> {
        self.call("dress_vm", |things, habits| {
            let notes = things.vms.get_mut(&vm.moref);
            let notes = notes.expect("nobody is dressed");
            if let Some(finished) = order.marker.finish(notes) {
                *notes = finished;
            }
            things.dressed.push(order.outfit.clone());
            Ok(habits.undressed.iter().map(ToString::to_string).collect())
        })
    }

    async fn create_vm(&self, order: &VmOrder) -> Result<MadeVm, Fault> {
        self.call("create_vm", |things, _| {
            things.made += 1;
            let moref = format!("vm-new-{}", things.made);
            things
                .vms
                .insert(moref.clone(), order.marker.annotate(None));
            let disks = order.new.disks.iter().map(|disk| {
                let key = disk.source_key;
                let made = MadeDisk {
                    key: key + 1000,
                    file_name: format!("[ds] new/{key}.vmdk"),
                };
                (key, made)
            });
            Ok(MadeVm {
                vm: VmId {
                    vcenter: vcenter(),
                    moref,
                },
                disks: disks.collect(),
            })
        })
    }

    async fn destroy_vm(
        &self,
        _vcenter: VcenterId,
        _name: &str,
        _known: Option<&VmId>,
        marker: &Marker,
    ) -> Result<(), Fault> {
        self.call("destroy_vm", |things, habits| {
            let is_calm = habits.fails_at.is_none() && !habits.stays;
            assert!(
                !is_calm || things.attached.is_empty(),
                "a vm is removed while its disks are attached elsewhere"
            );
            things.vms.retain(|_, notes| !marker.is_in(notes));
            Ok(())
        })
    }

    async fn power_on(&self, _vm: &VmId) -> Result<(), Fault> {
        self.call("power_on", |things, _| {
            assert!(things.attached.is_empty(), "started without its disks");
            Ok(())
        })
    }
}

fn planned_disks(habits: &Habits) -> Vec<(i32, Protectability)> {
    match habits.disks.is_empty() {
        true => vec![
            (2000, Protectability::Protectable),
            (2001, Protectability::Protectable),
        ],
        false => habits.disks.clone(),
    }
}

/// A configuration with disks of these keys.
pub fn config_xml(keys: impl Iterator<Item = i32>) -> String {
    let disks: String = (0..)
        .zip(keys)
        .map(|(unit, key)| {
            format!(
                r#"<device x:type="VirtualDisk"><key>{key}</key><backing x:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds] web/web-{key}.vmdk</fileName><diskMode>persistent</diskMode></backing><controllerKey>1000</controllerKey><unitNumber>{unit}</unitNumber><capacityInBytes>{DISK_BYTES}</capacityInBytes></device>"#
            )
        })
        .collect();
    format!(
        r#"<config xmlns:x="i"><guestId>debian11_64Guest</guestId><hardware><numCPU>2</numCPU><memoryMB>1024</memoryMB><device x:type="ParaVirtualSCSIController"><key>1000</key><busNumber>0</busNumber></device>{disks}</hardware></config>"#
    )
}

/// A place that has all that is asked for.
pub fn site(query: &SiteQuery, _things: &Things) -> RestoreSite {
    RestoreSite {
        placement: stillwater_vsphere::Placement {
            datacenter: "/DC0".into(),
            datastore: stillwater_vsphere::DatastoreRef::new("datastore-1"),
            datastore_name: query.placement.datastore.clone(),
            free_bytes: 1 << 40,
            folder: stillwater_vsphere::FolderRef::new("group-v3"),
            folder_path: "/DC0/vm".into(),
            pool: stillwater_vsphere::PoolRef::new("resgroup-1"),
            host: stillwater_vsphere::HostRef::new("host-1"),
            host_name: "esx-1".into(),
        },
        name_is_taken: false,
        datastores: Vec::new(),
        networks: Vec::new(),
        attributes: Vec::new(),
        tags: Told::Known(query.tags.clone()),
        policies: Told::Known(query.policies.clone()),
        owners: Vec::new(),
        missing: Told::Known(Vec::new()),
    }
}

pub fn around() -> Around {
    Around {
        vcenter: "VMware vCenter Server 8.0.2 build-22385739".into(),
        surroundings: VmSurroundings {
            folder: Some("/DC0/vm".into()),
            resource_pool: None,
            host: Some("esx-1".into()),
            cluster: None,
            networks: Vec::new(),
            custom_attributes: Vec::new(),
            tags: Told::Known(vec![Tag {
                category: "tier".into(),
                name: "gold".into(),
            }]),
            storage_policies: Told::Unknown("status 403".into()),
        },
    }
}

fn hook_run(hook: &Hook, habits: &Habits) -> HookRun {
    let fails = habits.hooks_fail.contains(&hook.name.as_str());
    HookRun {
        name: hook.name.clone(),
        phase: hook.phase,
        end: HookEnd::Code(if fails { 3 } else { 0 }),
        started_at: Timestamp::UNIX_EPOCH,
        ended_at: Timestamp::UNIX_EPOCH,
        output: "no such table".into(),
        truncated: false,
    }
}

fn fake_vm(id: &VmId, disks: Vec<(i32, Protectability)>, things: &Things) -> Vm {
    let snapshots = things.snapshots.get(&id.moref).cloned().unwrap_or_default();
    let disk = |(key, protectability)| VmDisk {
        key,
        label: format!("Hard disk {key}"),
        capacity_bytes: DISK_BYTES,
        file_name: format!("[ds] web/web-{key}.vmdk"),
        backing_uuid: None,
        mode: "persistent".into(),
        protectability,
        controller_key: 1000,
        unit: 0,
        traits: stillwater_vsphere::DiskTraits::default(),
    };
    Vm {
        vm: VmRef::new(&id.moref),
        name: "web".into(),
        path: "/DC0/vm/web".into(),
        datacenter: "/DC0".into(),
        uuid: "uuid".into(),
        instance_uuid: None,
        guest_id: "debian11_64Guest".into(),
        power: Power::On,
        tools: Tools::Running,
        cbt_enabled: things.tracking,
        cbt_supported: true,
        consolidation_needed: false,
        template: false,
        host: Some("esx-1".into()),
        datastores: vec!["ds".into()],
        disks: disks.into_iter().map(disk).collect(),
        snapshots: snapshots
            .into_iter()
            .map(|(name, description)| stillwater_vsphere::SnapshotInfo {
                snapshot: stillwater_vsphere::SnapshotRef::new(&name),
                name,
                description,
                created_at: String::new(),
                quiesced: false,
                parent: None,
                is_current: false,
                backup_manifest: None,
            })
            .collect(),
        facts: stillwater_vsphere::VmFacts {
            guest_family: GuestFamily::Linux,
            ..stillwater_vsphere::VmFacts::default()
        },
        config_xml: "<config/>".into(),
    }
}

fn finished(transfer_id: TransferId) -> Transfer {
    Transfer {
        transfer_id,
        state: TransferState::Succeeded,
        progress: TransferProgress {
            done_bytes: DISK_BYTES,
            length_bytes: DISK_BYTES,
            read_bytes: DISK_BYTES / 2,
            new_bytes: 4096,
            sent_bytes: 1024,
            chunk_count: 32,
            new_chunk_count: 1,
            hole_bytes: DISK_BYTES / 2,
        },
        root: Some(proxy_api::DiskRoot {
            length_bytes: DISK_BYTES,
            cutter: "block-v1".into(),
            top: TreeId::from_bytes([7; 32]),
            level: 1,
        }),
        fault: None,
        findings: None,
    }
}

fn running(transfer_id: TransferId) -> Transfer {
    Transfer {
        state: TransferState::Running,
        root: None,
        progress: TransferProgress {
            done_bytes: 4096,
            ..TransferProgress::default()
        },
        ..finished(transfer_id)
    }
}

#[async_trait]
impl Proxies for Fake {
    async fn start_transfer(
        &self,
        _proxy: NodeId,
        request: proxy_api::StartTransferRequest,
    ) -> Result<Transfer, Fault> {
        self.locked().orders.push(request.clone());
        self.call("start_transfer", |things, _| {
            assert!(
                !things.accesses.is_empty(),
                "a transfer without a data session"
            );
            things.transfers.insert(request.transfer_id);
            Ok(running(request.transfer_id))
        })
    }

    async fn watch_transfer(
        &self,
        _proxy: NodeId,
        transfer: TransferId,
    ) -> Result<BoxStream<'static, Result<Transfer, Fault>>, Fault> {
        let (lost, hangs) = self.call("watch_transfer", |things, habits| {
            if !things.transfers.contains(&transfer) {
                return Err(gone(Reason::TransferNotFound));
            }
            let lost = habits.transfers_lost > 0;
            habits.transfers_lost -= u32::from(lost);
            if lost || !habits.transfers_hang {
                things.transfers.remove(&transfer);
            }
            Ok((lost, habits.transfers_hang))
        })?;
        let mut end = finished(transfer);
        let short_by = self.locked().habits.roots_short_by;
        if let Some(root) = &mut end.root {
            root.length_bytes -= short_by;
            end.progress.done_bytes -= short_by;
        }
        let Habits {
            transfers_last,
            transfers_fail,
            nfc_writes_fail,
            lie_bytes,
            ..
        } = self.locked().habits;
        end.findings = Some(proxy_api::TransferFindings {
            compared_bytes: 1 << 20,
            lie_bytes,
            ..proxy_api::TransferFindings::default()
        });
        let is_based = self.orders().iter().any(|order| {
            let full = |work: &proxy_api::Work| match work {
                proxy_api::Work::Backup(backup) => {
                    matches!(backup.reading, proxy_api::Reading::Full { .. })
                }
                proxy_api::Work::Restore(_)
                | proxy_api::Work::Verify(_)
                | proxy_api::Work::Rewrite(_) => true,
            };
            order.transfer_id == transfer && !full(&order.work)
        });
        let bases_fail = self.locked().habits.bases_fail.filter(|_| is_based);
        let through_nfc = self.orders().iter().any(|order| {
            let target = match &order.work {
                proxy_api::Work::Restore(restore) => Some(&restore.target),
                proxy_api::Work::Backup(_)
                | proxy_api::Work::Verify(_)
                | proxy_api::Work::Rewrite(_) => None,
            };
            order.transfer_id == transfer && matches!(target, Some(proxy_api::Disk::Nfc(_)))
        });
        let nfc_fails = nfc_writes_fail.filter(|_| through_nfc);
        if let Some(reason) = transfers_fail.or(bases_fail).or(nfc_fails) {
            end.state = TransferState::Failed;
            end.root = None;
            end.fault = Some(Fault::new(reason, "planned for every transfer"));
        }
        let first = stream::iter([Ok(running(transfer))]);
        if lost {
            return Ok(first.boxed());
        }
        match hangs {
            true => Ok(first.chain(stream::pending()).boxed()),
            false => Ok(first
                .chain(stream::once(async move {
                    tokio::time::sleep(transfers_last).await;
                    Ok(end)
                }))
                .boxed()),
        }
    }

    async fn cancel_transfer(&self, _proxy: NodeId, transfer: TransferId) -> Result<(), Fault> {
        self.call("cancel_transfer", |things, _| {
            match things.transfers.remove(&transfer) {
                true => Ok(()),
                false => Err(gone(Reason::TransferNotFound)),
            }
        })
    }

    async fn probe_disk(
        &self,
        _proxy: NodeId,
        request: proxy_api::ProbeDiskRequest,
    ) -> Result<proxy_api::ProbeDiskResponse, Fault> {
        self.call("probe_disk", |things, _| {
            assert!(
                things.snapshots.values().any(|held| !held.is_empty()),
                "probed without a snapshot"
            );
            if matches!(request.disk, proxy_api::Disk::Nfc(_)) {
                return Err(gone(Reason::DiskReadFailed));
            }
            Ok(proxy_api::ProbeDiskResponse {
                read_bytes: request.areas.bytes(),
                ..proxy_api::ProbeDiskResponse::default()
            })
        })
    }

    async fn open_export(
        &self,
        _proxy: NodeId,
        request: proxy_api::OpenExportRequest,
    ) -> Result<proxy_api::OpenExportResponse, Fault> {
        self.call("open_export", |things, habits| {
            let opened_before = things.exports.contains_key(&request.export_id);
            let completed = opened_before && habits.exports_are_read;
            things.exports.insert(request.export_id, completed);
            let reading = opened_before && habits.exports_are_being_read;
            Ok(proxy_api::OpenExportResponse { completed, reading })
        })
    }

    async fn close_export(&self, _proxy: NodeId, export: ExportId) -> Result<bool, Fault> {
        self.call("close_export", |things, _| {
            Ok(things.exports.remove(&export).unwrap_or(false))
        })
    }
}

fn stored(point: PointId, manifest: &[u8]) -> repository_api::Point {
    let at: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    repository_api::Point {
        point_id: point,
        dataset_id: dataset(),
        run_id: Manifest::decode(manifest).unwrap().run,
        sequence: 1,
        committed_at: at,
        retain_until: at,
        manifest_hash: manifest_hash(manifest),
    }
}

#[async_trait]
impl Repositories for Fake {
    async fn create_dataset(
        &self,
        _repository: NodeId,
        _dataset: repository_api::Dataset,
    ) -> Result<(), Fault> {
        self.call("create_dataset", |_, _| Ok(()))
    }

    async fn open_session(
        &self,
        _repository: NodeId,
        request: repository_api::OpenSessionRequest,
    ) -> Result<repository_api::Session, Fault> {
        self.call("open_session", |things, _| {
            things.made += 1;
            things.sessions.insert(request.run_id, things.made);
            Ok(repository_api::Session {
                run_id: request.run_id,
                dataset_id: request.dataset_id,
                fence: things.made,
                expires_at: Timestamp::now() + Duration::from_secs(60),
            })
        })
    }

    async fn renew_session(
        &self,
        _repository: NodeId,
        request: repository_api::RenewSessionRequest,
    ) -> Result<repository_api::Session, Fault> {
        match self.things().sessions.get(&request.run_id) {
            Some(fence) if *fence == request.fence => Ok(repository_api::Session {
                run_id: request.run_id,
                dataset_id: dataset(),
                fence: request.fence,
                expires_at: Timestamp::now() + Duration::from_secs(60),
            }),
            _ => Err(gone(Reason::FenceStale)),
        }
    }

    async fn close_session(
        &self,
        _repository: NodeId,
        request: repository_api::CloseSessionRequest,
    ) -> Result<(), Fault> {
        self.call("close_session", |things, _| {
            if things
                .sessions
                .get(&request.run_id)
                .is_some_and(|fence| *fence != request.fence)
            {
                return Err(gone(Reason::FenceStale));
            }
            things.sessions.remove(&request.run_id);
            things.proposals.clear();
            Ok(())
        })
    }

    async fn propose_point(
        &self,
        _repository: NodeId,
        request: repository_api::ProposePointRequest,
    ) -> Result<(), Fault> {
        if self.locked().habits.bases_refused > 0 {
            let mut inner = self.locked();
            inner.habits.bases_refused -= 1;
            inner.calls.push("propose_point");
            let is_shared = |order: &proxy_api::StartTransferRequest| {
                matches!(
                    &order.work,
                    proxy_api::Work::Backup(proxy_api::Backup {
                        reading: proxy_api::Reading::Increment { .. },
                        ..
                    })
                )
            };
            let latest = inner.orders.len().saturating_sub(2);
            if inner.orders[latest..].iter().any(is_shared) {
                return Err(gone(Reason::ChunkNotFound));
            }
        }
        self.call("propose_point", |things, _| {
            if things.sessions.get(&request.run_id) != Some(&request.fence) {
                return Err(gone(Reason::FenceStale));
            }
            let manifest = Manifest::decode(&request.manifest).unwrap();
            assert!(manifest.disks.len() >= 2 || !manifest.whole);
            things
                .proposals
                .insert(manifest.point, Hidden(request.manifest.to_vec()));
            Ok(())
        })
    }

    async fn commit_point(
        &self,
        _repository: NodeId,
        request: repository_api::CommitPointRequest,
    ) -> Result<repository_api::Point, Fault> {
        self.call("commit_point", |things, _| {
            if let Some(there) = things.points.get(&request.point_id) {
                return Ok(stored(request.point_id, &there.0));
            }
            if things.sessions.get(&request.run_id) != Some(&request.fence) {
                return Err(gone(Reason::FenceStale));
            }
            let manifest = things
                .proposals
                .remove(&request.point_id)
                .ok_or(gone(Reason::PointNotFound))?;
            let point = stored(request.point_id, &manifest.0);
            things.points.insert(request.point_id, manifest);
            Ok(point)
        })
    }

    async fn list_points(
        &self,
        _repository: NodeId,
        _page_token: Option<String>,
    ) -> Result<repository_api::ListPointsResponse, Fault> {
        let things = self.things();
        let points = things
            .points
            .iter()
            .map(|(id, manifest)| stored(*id, &manifest.0))
            .collect();
        let late = self.locked().habits.late_listing.take();
        if let Some(late) = late {
            late.made.notify_one();
            late.arrive.notified().await;
        }
        Ok(repository_api::ListPointsResponse {
            points,
            next_page_token: None,
        })
    }

    async fn get_point(
        &self,
        _repository: NodeId,
        point: PointId,
    ) -> Result<repository_api::GetPointResponse, Fault> {
        self.call("get_point", |things, _| {
            let manifest = things
                .points
                .get(&point)
                .ok_or(gone(Reason::PointNotFound))?;
            Ok(repository_api::GetPointResponse {
                point: stored(point, &manifest.0),
                manifest: manifest.0.clone().into(),
            })
        })
    }
}

pub fn quick() -> Timing {
    let backoff = Backoff {
        first: Duration::from_micros(100),
        longest: Duration::from_millis(1),
        attempts: 3,
    };
    Timing {
        lease: Duration::from_secs(3600),
        lease_margin: Duration::from_secs(60),
        renew_first: Duration::from_secs(1),
        renew_longest: Duration::from_secs(10),
        touch_access: Duration::from_millis(2),
        quiesce_pause: Duration::from_millis(5),
        slot_wait: Duration::from_millis(200),
        gather: Duration::from_millis(20),
        host_wait: Duration::from_millis(200),
        call: backoff,
        commit: backoff,
        release: backoff,
        follow: backoff,
        silence: Duration::from_secs(30),
        export: Duration::from_millis(300),
        export_poll: Duration::from_millis(1),
        reap_every: Duration::from_millis(5),
        search_every: Duration::from_millis(5),
        alarm_after: Duration::from_secs(15 * 60),
        grant: Duration::from_secs(3600),
    }
}

/// A key-encryption key that every opening of the same directory shares.
fn kek() -> KeyEncryptionKey {
    KeyEncryptionKey::from_slice(&[9; 32]).unwrap()
}

/// One snapshot at a time: a turn that somebody keeps shows at once.
fn turnstile() -> Turnstile {
    Turnstile::new(&Guards {
        host_tasks: 1,
        datastore_tasks: 1,
        ..Guards::default()
    })
}

pub fn secrets() -> Secrets {
    Secrets::new(kek())
}

/// The writer of a killed controller lets the journal go a moment after its last handle is gone.
fn reopen(dir: &Path) -> Memory {
    let until = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        match Memory::open(dir, Arc::new(SystemClock)) {
            Ok(memory) => return memory,
            Err(fault) => assert!(
                fault.reason == Reason::StorageFailed && std::time::Instant::now() < until,
                "{fault}"
            ),
        }
        std::thread::yield_now();
    }
}

/// A controller over a directory and a world.
pub struct Cluster {
    pub memory: Memory,
    pub nodes: Directory,
    pub world: Arc<World>,
    pub runs: Runs,
    pub fake: Fake,
}

impl Cluster {
    /// Opens the directory, joining the nodes at the first time.
    pub async fn open(dir: &Path, fake: &Fake) -> Self {
        Self::open_with(dir, fake, quick()).await
    }

    pub async fn open_with(dir: &Path, fake: &Fake, timing: Timing) -> Self {
        let dir = dir.to_owned();
        let memory = tokio::task::spawn_blocking(move || reopen(&dir))
            .await
            .unwrap();
        join_all(&memory).await;
        let nodes = Directory::new(memory.clone());
        let load = |slots| NodeLoad {
            transfer_slots: slots,
            writable_bytes: 1 << 40,
            ..NodeLoad::default()
        };
        let in_vm = |name: &str| stillwater_controller_api::ProxyReach {
            vm_uuids: vec![name.to_owned()],
            ..stillwater_controller_api::ProxyReach::default()
        };
        nodes.note(repository(), "1".into(), load(0), None);
        nodes.note(proxy(0), "1".into(), load(1), Some(in_vm("proxy-0")));
        nodes.note(proxy(1), "1".into(), load(1), Some(in_vm("proxy-1")));
        let shared = Arc::new(fake.clone());
        let points = Points::new(memory.clone(), nodes.clone(), shared.clone(), secrets());
        let habits = fake.locked().habits.clone();
        let world = Arc::new(World {
            cluster: cluster(),
            memory: memory.clone(),
            nodes: nodes.clone(),
            points,
            vsphere: shared.clone(),
            proxies: shared.clone(),
            repositories: shared,
            grants: Arc::new(GrantSigner::generate().unwrap()),
            secrets: secrets(),
            clock: Arc::new(SystemClock),
            slots: Slots::new(nodes.clone()),
            turns: Arc::new(tokio::sync::Semaphore::new(4)),
            stuck: Mutex::default(),
            timing,
            trust: MapTrust::default(),
            bases: Bases::default(),
            guards: Guards::default(),
            turnstile: turnstile(),
            reads_nfc: habits.gives_nfc_tickets,
            bays: Bays::default(),
            hot_adds: habits.hot_adds,
            budgets: Budgets::default(),
        });
        let runs = Runs::launch(Arc::clone(&world));
        Self {
            memory,
            nodes,
            world,
            runs,
            fake: fake.clone(),
        }
    }

    /// A point as a key holder reads it.
    pub async fn show(&self, point: PointId) -> OpenedPoint {
        let stored = Repositories::get_point(&self.fake, repository(), point);
        let state = self.memory.state();
        let dataset = state.datasets.find(dataset()).unwrap();
        let key = dataset.open_key(&secrets()).unwrap();
        OpenedPoint::open(&stored.await.unwrap(), &key).unwrap()
    }

    pub async fn start(&self, work: Work) -> api::Run {
        self.runs
            .start(Actor::Console, RequestId::mint(), work)
            .await
            .unwrap()
    }

    /// Waits until a run has ended.
    pub async fn ended(&self, run: RunId) -> api::Run {
        let mut changes = self.memory.watch();
        loop {
            let told = self.runs.tell(run).await.unwrap();
            if told.state.is_final() {
                return told;
            }
            let changed = tokio::time::timeout(Duration::from_secs(20), changes.changed()).await;
            changed
                .unwrap_or_else(|_| panic!("hangs: {told:?}, {:?}", self.fake.calls()))
                .unwrap();
        }
    }

    pub async fn run(&self, work: Work) -> api::Run {
        let run = self.start(work).await;
        self.ended(run.run_id).await
    }

    /// Waits until no run is active and no snapshot of ours is left: at most what the reaper takes.
    pub async fn settled(&self) {
        let settled = async {
            loop {
                let idle = self.memory.state().runs.iter().next().is_none();
                if idle && ours(&self.fake.things()).is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, settled)
            .await
            .unwrap_or_else(|_| {
                panic!("does not settle: {:?}", self.fake.things());
            });
    }

    /// As a kill would: every task stops where it is.
    pub async fn kill(self) {
        self.runs.drop_all().await;
        drop(self.world);
    }
}

/// Snapshots that carry a lease.
pub fn ours(things: &Things) -> Vec<String> {
    let all = things.snapshots.values().flatten();
    all.filter(|(_, text)| Lease::find(text).is_some())
        .map(|(name, _)| name.clone())
        .collect()
}

async fn join_all(memory: &Memory) {
    if memory.state().datasets.of(repository()).is_some() {
        return;
    }
    let joined = |node, role, name: &str| NodeEvent::Joined {
        node,
        role,
        name: name.into(),
        address: "127.0.0.1:1".into(),
        certificate_expires_at: Timestamp::MAX,
    };
    let key = DatasetKey::generate().unwrap();
    let sealed = secrets()
        .seal(Purpose::DatasetKey, dataset().as_bytes(), key.expose())
        .unwrap();
    let password = Sealed::try_from("c2VhbGVk".to_owned()).unwrap();
    memory
        .append(
            Actor::Console,
            joined(repository(), Role::Repository, "repo"),
        )
        .await
        .unwrap();
    memory
        .append(Actor::Console, joined(proxy(0), Role::Proxy, "proxy-0"))
        .await
        .unwrap();
    memory
        .append(Actor::Console, joined(proxy(1), Role::Proxy, "proxy-1"))
        .await
        .unwrap();
    let added = VcenterEvent::Added {
        vcenter: vcenter(),
        request: RequestId::mint(),
        name: "lab".into(),
        address: "vc.example".into(),
        username: "backup".into(),
        password,
        trust: VcenterTrust::Ca(String::new()),
    };
    memory.append(Actor::Console, added).await.unwrap();
    keep_account(memory).await;
    let wrapped = Wrapped(vec![1]);
    let made = DatasetEvent::Made {
        dataset: dataset(),
        repository: repository(),
        key: sealed,
        wrapped,
    };
    memory.append(Actor::Console, made).await.unwrap();
    memory
        .append(Actor::Console, DatasetEvent::Ready { dataset: dataset() })
        .await
        .unwrap();
}

pub fn backup() -> Work {
    Work::Backup(BackupWork::new(vm(), "web"))
}

/// A backup with hooks of every phase, which all mean the same when they fail.
pub fn hooked(on_failure: OnFailure) -> Work {
    let hook = |name: &str, phase| Hook {
        name: name.to_owned(),
        phase,
        program: "/bin/true".into(),
        arguments: vec![],
        timeout_seconds: 60,
        on_failure,
    };
    let hooks = vec![
        hook("free", Phase::After),
        hook("hold", Phase::Before),
        hook("look", Phase::During),
    ];
    match backup() {
        Work::Backup(work) => Work::Backup(BackupWork {
            hooks: Some(Hooks {
                hooks,
                budget_seconds: 300,
            }),
            ..work
        }),
        other => other,
    }
}

/// Keeps the account that the fake guest knows.
async fn keep_account(memory: &Memory) {
    let subject = Subject::Folder {
        vcenter: vcenter(),
        path: "/DC0/vm".into(),
    };
    let context = subject.to_string();
    let password = secrets()
        .seal(Purpose::GuestPassword, context.as_bytes(), b"canary")
        .unwrap();
    let event = CredentialEvent::Set {
        subject,
        username: "root".into(),
        password,
    };
    memory.append(Actor::Console, event).await.unwrap();
}

pub fn reading_everything() -> Work {
    Work::Backup(BackupWork {
        full: true,
        ..BackupWork::new(vm(), "web")
    })
}

pub fn excluding(keys: &[i32]) -> Work {
    Work::Backup(BackupWork {
        exclude: keys.to_vec(),
        ..BackupWork::new(vm(), "web")
    })
}

pub fn restore(point: PointId, power_on: bool) -> Work {
    let placement = Placement {
        vcenter: vcenter(),
        datastore: "ds".into(),
        folder: None,
        resource_pool: None,
        host: None,
        datacenter: None,
        cluster: None,
    };
    let name = "web-restored".into();
    Work::RestoreVm(Box::new(RestoreWork {
        point,
        repository: repository(),
        name,
        placement,
        power_on,
        options: RestoreOptions::default(),
    }))
}

pub fn export(point: PointId) -> Work {
    Work::ExportDisk(ExportWork {
        point,
        repository: repository(),
        disk: 2000,
    })
}

/// The point of a backup that succeeded.
pub fn point_of(run: &api::Run) -> PointId {
    match &run.kind {
        api::RunKind::Backup(backup) => backup.point_id.expect("a point"),
        _ => panic!("no backup: {run:?}"),
    }
}

/// However a run went, what held the guest is released, and once.
#[track_caller]
pub fn check_guest(things: &Things, context: &str) {
    let count = |name: &str| things.guest_log.iter().filter(|ran| *ran == name).count();
    let is_released = things.guest_held != Some(true);
    assert!(count("hold") <= 1 && count("free") <= 1, "{context}");
    if count("hold") == 1 && is_released {
        assert_eq!(count("free"), 1, "the guest stays held: {context}");
    }
}
