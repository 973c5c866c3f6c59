//! Moving disks: which proxy, with what right, and to which end.

use std::collections::BTreeSet;

use futures::StreamExt;
use stillwater_proxy_api as proxy_api;
use stillwater_proxy_api::{FolderDisk, FolderTrust, Transfer, TransferState};
use stillwater_rpc::grant::Verbs;
use stillwater_types::{Fault, NodeId, Reason, TransferId};
use stillwater_vsphere::{DataAccess, FrozenDisk, Trust};

use super::verify::{self, Damages};
use super::{Act, Came, missing};
use crate::node::NodeInfo;
use crate::point::root_of;
use crate::run::budget::Lease;
use crate::run::cause::Cause;
use crate::run::event::{Counts, Findings, Root, RunEvent, Work};
use crate::run::scratch::{Notes, Progress};
use crate::run::slots::Permit;
use crate::run::state::Disk;
use crate::run::transport::Account;

/// How a disk behind a datastore's HTTPS folder is reached, the last of all ways.
pub(crate) const FOLDER: &str = "folder";
/// How a disk is reached through its host's port 902.
pub(crate) const NFC: &str = "nfc";

impl Act {
    pub(super) async fn open_access(&self) -> Came {
        self.add_access().await?;
        Ok(vec![RunEvent::AccessOpened])
    }

    async fn add_access(&self) -> Result<(), Fault> {
        let vm = self.vm()?;
        let access = self
            .repeat(&self.world.timing.call, || async {
                self.world.vsphere.open_access(vm).await
            })
            .await?;
        self.scratch.notes().accesses.push(access);
        Ok(())
    }

    pub(super) async fn assign(&self, disk: i32) -> Came {
        let failed_on = self.disk(disk)?.failed_on.clone();
        let proxy = self.slot(disk, &failed_on).await?;
        let attachment = match self.run.work {
            Work::Backup(_) => self.backup_attachment(disk, &proxy).await,
            Work::VerifyPoint(_) => Err(String::new()),
            _ => self.restore_attachment(disk, &proxy).await,
        };
        let (attachment, unattached) = match attachment {
            Ok(attachment) => (Some(attachment), String::new()),
            Err(why) => (None, why),
        };
        let progress = Progress {
            transport: match self.run.work {
                Work::VerifyPoint(_) => verify::STORED,
                _ if self.world.reads_nfc => NFC,
                _ => FOLDER,
            },
            unattached,
            proxy_name: proxy.name,
            ..Progress::default()
        };
        let mut notes = self.scratch.notes();
        notes.progress.insert(disk, progress);
        Ok(vec![RunEvent::Assigned {
            disk,
            proxy: proxy.node,
            transfer: TransferId::mint(),
            attachment,
        }])
    }

    /// A slot for a disk: one that the run has to spare, or another. While other disks of the run
    /// are being moved there is no hurry, for theirs become spare: a VM may have more disks than all
    /// proxies have slots.
    async fn slot(&self, disk: i32, failed_on: &BTreeSet<NodeId>) -> Result<NodeInfo, Fault> {
        let way = self.way(Some(disk));
        loop {
            let spared = self.scratch.spared();
            let spare = self.spare_permit(disk, failed_on);
            if let Some(proxy) = spare.and_then(|permit| self.hold(disk, permit)) {
                return Ok(proxy);
            }
            let limit = self.world.timing.slot_wait;
            // Those that move already are as many as may: one of theirs becomes spare.
            let may_grow = self.scratch.notes().permits.len() < self.disks_at_once();
            let permit = tokio::select! {
                permit = self.world.slots.wait(failed_on, &way, limit), if may_grow => permit,
                () = spared => continue,
                () = self.halt.cancelled() => {
                    return Err(Fault::new(Reason::RunCancelled, "the run was told to stop"));
                }
            };
            let others_move = !self.scratch.notes().permits.is_empty();
            match permit {
                Err(fault) if fault.reason == Reason::NoProxySlot && others_move => {}
                Err(fault) => return Err(fault),
                Ok(permit) => {
                    if let Some(proxy) = self.hold(disk, permit) {
                        return Ok(proxy);
                    }
                }
            }
        }
    }

    /// Gives a slot to a disk, unless as many disks have one as may; it is given back then.
    fn hold(&self, disk: i32, permit: Permit) -> Option<NodeInfo> {
        let mut notes = self.scratch.notes();
        if notes.permits.len() >= self.disks_at_once() {
            return None;
        }
        let proxy = permit.proxy.clone();
        notes.permits.insert(disk, permit);
        Some(proxy)
    }

    /// A slot that the run has and no disk uses. The disk's own last one is given back: its proxy
    /// failed it. Slots of a proxy that drains by now are given back as well while another proxy
    /// takes work; else the run ends where it began, for its VM is frozen.
    fn spare_permit(&self, disk: i32, avoid: &BTreeSet<NodeId>) -> Option<Permit> {
        let mut notes = self.scratch.notes();
        let failed = notes.permits.remove(&disk);
        let (drained, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut notes.free_permits)
            .into_iter()
            .partition(|permit| self.world.slots.is_to_leave(permit));
        notes.free_permits = stay;
        let at = notes
            .free_permits
            .iter()
            .position(|permit| !avoid.contains(&permit.proxy.node));
        let spare = at.map(|at| notes.free_permits.swap_remove(at));
        drop(notes);
        drop((failed, drained));
        spare
    }

    pub(super) async fn transfer(&self, disk: i32, proxy: NodeId, transfer: TransferId) -> Came {
        let moved = self.move_disk(disk, proxy, transfer).await;
        if moved.is_ok() {
            self.scratch.spare(disk);
        }
        match moved {
            Ok(moved) => {
                let lie = lie(disk, &moved.findings).map(RunEvent::Warned);
                let other_ways = moved.fallbacks.iter();
                let other_ways = other_ways.map(|cause| self.other_way(disk, cause));
                let damage = verify::damage(disk, transfer, moved.damage);
                let told = lie.into_iter().chain(other_ways).chain(damage);
                let told: Vec<RunEvent> = told.collect();
                let ended = RunEvent::Transferred {
                    disk,
                    transfer,
                    root: moved.root,
                    counts: moved.counts,
                    findings: moved.findings,
                    transport: moved.transport.to_owned(),
                    transport_reason: moved.transport_reason.into(),
                };
                Ok(told.into_iter().chain([ended]).collect())
            }
            // Whether it still runs is not known: it stays held, and is cancelled with the rest.
            Err(_) if self.halt.is_cancelled() => Ok(Vec::new()),
            Err(fault) => {
                if fault.reason == Reason::ProxyUnreachable {
                    self.world.nodes.doubt(proxy);
                }
                let without = self.without_base(disk, &fault);
                let without = without.or_else(|| self.without_way(disk, &fault));
                let ended = RunEvent::TransferFailed {
                    disk,
                    transfer,
                    goes_another_way: without.is_some(),
                    cause: fault.with("disk", disk).with("proxy", proxy).into(),
                };
                Ok(without.into_iter().chain([ended]).collect())
            }
        }
    }

    /// A base whose nodes cannot be read is of no use: the disk is read without it, and the damage is
    /// told.
    fn without_base(&self, disk: i32, fault: &Fault) -> Option<RunEvent> {
        if !matches!(
            fault.reason,
            Reason::ChunkNotFound | Reason::ChunkHashMismatch
        ) {
            return None;
        }
        let mut notes = self.scratch.notes();
        let base = notes.base.as_ref().map(|base| base.manifest.point)?;
        let reading = notes.readings.get_mut(&disk)?;
        if !reading.drop_base() {
            return None;
        }
        self.world.bases.note_damaged(base);
        let message = format!(
            "the data of point {base}, which this one was to be built upon, cannot be read: everything is read instead; run `stillwater point verify {base}`"
        );
        Some(RunEvent::BaseRefused {
            readings: [(disk, reading.told())].into(),
            cause: Cause(Fault::new(fault.reason, message).with("disk", disk)),
        })
    }

    async fn move_disk(
        &self,
        key: i32,
        proxy: NodeId,
        transfer: TransferId,
    ) -> Result<Ended, Fault> {
        let has_access = !self.scratch.notes().accesses.is_empty();
        let needs_access = !matches!(self.run.work, Work::VerifyPoint(_));
        if needs_access && (self.disk(key)?.attempts > 1 || !has_access) {
            // What ended the last attempt may have been the data session.
            self.add_access().await?;
        }
        let Ordered {
            work,
            verbs,
            ways,
            lease,
            fallbacks,
            mut account,
        } = self.order(key).await?;
        let followed = match self.store(proxy, verbs) {
            Ok(store) => {
                let request = proxy_api::StartTransferRequest {
                    transfer_id: transfer,
                    store,
                    work,
                };
                self.follow(key, proxy, request).await
            }
            Err(fault) => Err(fault),
        };
        if followed.is_err() {
            self.abandon(proxy, transfer).await;
        }
        // The disks of a backup are detached together, in the end; one that is tried again, before.
        let is_moved = matches!(&followed, Ok(ended) if ended.state == TransferState::Succeeded);
        let is_to_stay = is_moved && matches!(self.run.work, Work::Backup(_));
        if !self.halt.is_cancelled()
            && !is_to_stay
            && let Err(fault) = self.detach(&self.disk(key)?.attachment).await
        {
            // It is tried again, and told, when the run gives its access back.
            tracing::warn!(run.id = %self.run.id, disk = key, %fault, "a disk is still attached");
        }
        if self.halt.is_cancelled() {
            // The transfer may go on until it is cancelled.
            self.scratch.notes().host_leases.extend(lease);
        } else {
            drop(lease);
        }
        let mut ended = self.result(key, &ways, followed?)?;
        for cause in &ended.fallbacks {
            account.fell(cause);
        }
        ended.transport_reason = account.told(ended.transport);
        if !ended.fallbacks.is_empty() {
            let name = format!("disk {key} ended by {}", ended.transport);
            let mut notes = self.scratch.notes();
            notes.note(name, &ended.transport_reason);
        }
        ended.fallbacks.splice(0..0, fallbacks);
        Ok(ended)
    }

    /// What a proxy is told to do with a disk, and by which ways.
    async fn order(&self, key: i32) -> Result<Ordered, Fault> {
        match &self.run.work {
            Work::Backup(_) => self.order_backup(key).await,
            Work::RestoreVm(_) => self.order_restore(key).await,
            Work::RestoreInPlace(_) => self.order_in_place(key).await,
            Work::VerifyPoint(_) => self.order_verification(key),
            Work::ExportDisk(_) => Err(missing("transfer")),
        }
    }

    /// Tries to stop a transfer that is given up. A proxy that does not hear of it loses its data
    /// session and its fence when the run ends.
    async fn abandon(&self, proxy: NodeId, transfer: TransferId) {
        if self.halt.is_cancelled() {
            return;
        }
        if let Err(fault) = self.world.proxies.cancel_transfer(proxy, transfer).await {
            tracing::debug!(run.id = %self.run.id, proxy.id = %proxy, %fault, "cannot stop a lost transfer");
        }
    }

    /// Starts the transfer and stays with it to its end, also across breaks of the connection.
    async fn follow(
        &self,
        key: i32,
        proxy: NodeId,
        request: proxy_api::StartTransferRequest,
    ) -> Result<Transfer, Fault> {
        let transfer = request.transfer_id;
        let proxies = &self.world.proxies;
        self.repeat(&self.world.timing.follow, || async {
            proxies.start_transfer(proxy, request.clone()).await
        })
        .await?;
        loop {
            // One attempt succeeds when the stream told anything: only silence uses attempts up.
            let told = self
                .repeat(&self.world.timing.follow, || async {
                    self.watch_once(key, proxy, transfer).await
                })
                .await
                .map_err(lost)?;
            if told.state.is_final() {
                return Ok(told);
            }
        }
    }

    /// Follows one stream while it lasts; answers with the last state that it told.
    async fn watch_once(
        &self,
        key: i32,
        proxy: NodeId,
        transfer: TransferId,
    ) -> Result<Transfer, Fault> {
        let stopped = || Fault::new(Reason::RunCancelled, "the run was told to stop");
        let mut states = self.world.proxies.watch_transfer(proxy, transfer).await?;
        let mut last = None;
        loop {
            let next = tokio::time::timeout(self.world.timing.silence, states.next());
            let next = self
                .halt
                .run_until_cancelled(next)
                .await
                .ok_or_else(stopped)?;
            // A proxy tells something every second; one that does not is gone, whatever TCP thinks.
            let next = next.unwrap_or(None);
            match (next, last) {
                (Some(Ok(state)), _) => {
                    self.note_progress(key, &state);
                    if state.state.is_final() {
                        return Ok(state);
                    }
                    last = Some(state);
                }
                (_, Some(last)) => return Ok(last),
                (Some(Err(fault)), None) => return Err(fault),
                (None, None) => {
                    return Err(Fault::new(
                        Reason::ProxyUnreachable,
                        "the proxy ended the stream of a transfer without a word",
                    ));
                }
            }
        }
    }

    fn note_progress(&self, key: i32, state: &Transfer) {
        if let Some(progress) = self.scratch.notes().progress.get_mut(&key) {
            progress.counts = state.progress;
        }
    }

    fn result(&self, key: i32, ways: &[&'static str], ended: Transfer) -> Result<Ended, Fault> {
        let root = match (ended.state, &self.run.work) {
            (TransferState::Succeeded, Work::Backup(_)) => {
                ended.root.map(root_of).ok_or_else(|| {
                    Fault::new(Reason::Bug, "the proxy told no root of a finished disk")
                })
            }
            (TransferState::Succeeded, _) => self.stored_root(key).map(root_of),
            (TransferState::Failed, _) => Err(ended.fault.unwrap_or_else(|| {
                Fault::new(
                    Reason::ProxyUnreachable,
                    "the transfer failed and the proxy told no cause",
                )
            })),
            (TransferState::Cancelled | TransferState::Running, _) => Err(Fault::new(
                Reason::ProxyUnreachable,
                "the proxy stopped the transfer",
            )),
        }?;
        let counts = ended.progress;
        let findings = ended.findings.as_ref().map(findings_of).unwrap_or_default();
        let wanted = self.length_of(key)?;
        if root.length_bytes != wanted {
            return Err(Fault::new(
                Reason::ProposalRefused,
                "the proxy dealt with a disk of another length than it was told",
            )
            .with("length_bytes", root.length_bytes)
            .with("wanted_bytes", wanted));
        }
        if root.length_bytes != counts.done_bytes {
            return Err(Fault::new(
                Reason::ProposalRefused,
                "the proxy did not deal with every byte of the disk",
            )
            .with("length_bytes", root.length_bytes)
            .with("done_bytes", counts.done_bytes));
        }
        let told = ended.findings.unwrap_or_default();
        let index = usize::try_from(told.source_index).unwrap_or(usize::MAX);
        Ok(Ended {
            root,
            counts: counts_of(&counts),
            findings,
            fallbacks: told.fallbacks,
            damage: Damages {
                bytes: told.damaged_bytes,
                chunk_count: told.damaged_chunk_count,
                areas: told.damage,
            },
            transport: ways.get(index).or(ways.last()).copied().unwrap_or(FOLDER),
            transport_reason: String::new(),
        })
    }

    pub(super) fn backup_work(
        &self,
        key: i32,
        frozen: &FrozenDisk,
        sources: Vec<proxy_api::Disk>,
    ) -> Result<proxy_api::Work, Fault> {
        let notes = self.scratch.notes();
        let mapped = notes.readings.get(&key).ok_or_else(|| missing("map"))?;
        Ok(proxy_api::Work::Backup(proxy_api::Backup {
            sources,
            length_bytes: frozen.capacity_bytes,
            reading: mapped.reading.clone(),
        }))
    }

    /// How long a disk is: as it was frozen, or as the point has it.
    fn length_of(&self, key: i32) -> Result<u64, Fault> {
        match self.run.work {
            Work::Backup(_) => {
                let notes = self.scratch.notes();
                let frozen = notes.frozen.iter().flat_map(|frozen| &frozen.disks);
                let disk = frozen.into_iter().find(|disk| disk.key == key);
                disk.map(|disk| disk.capacity_bytes)
                    .ok_or_else(|| missing("frozen disk"))
            }
            Work::RestoreVm(_)
            | Work::RestoreInPlace(_)
            | Work::ExportDisk(_)
            | Work::VerifyPoint(_) => self.stored_root(key).map(|root| root.length_bytes),
        }
    }

    /// The root that the point has for a disk.
    pub(super) fn stored_root(&self, key: i32) -> Result<proxy_api::DiskRoot, Fault> {
        let notes = self.scratch.notes();
        let point = notes.point.as_ref().ok_or_else(|| missing("point"))?;
        let disk = point.manifest.disks.iter().find(|disk| disk.key == key);
        let root = &disk.ok_or_else(|| missing("stored disk"))?.root;
        Ok(proxy_api::DiskRoot {
            length_bytes: root.length,
            cutter: root.cutter.clone(),
            top: root.top,
            level: u32::from(root.level),
        })
    }

    /// What a person is told of a way that did not lead to the disk's end.
    fn other_way(&self, disk: i32, cause: &Fault) -> RunEvent {
        let done = match self.run.work {
            Work::Backup(_) => "read on",
            Work::RestoreVm(_) | Work::RestoreInPlace(_) | Work::ExportDisk(_) => "written",
            Work::VerifyPoint(_) => "proved",
        };
        let Fault { message, .. } = cause;
        let message =
            format!("disk {disk} was {done} by another way, nothing is missing: {message}");
        let told = Fault {
            message,
            ..cause.clone()
        };
        RunEvent::Warned(Cause(told.with("disk", disk)))
    }

    pub(super) fn disk(&self, key: i32) -> Result<&Disk, Fault> {
        self.run.disks.get(&key).ok_or_else(|| missing("disk"))
    }
}

/// A proxy that does not know the transfer any more was restarted: another attempt may fare better.
fn lost(fault: Fault) -> Fault {
    match fault.reason {
        Reason::TransferNotFound => Fault {
            reason: Reason::ProxyUnreachable,
            message: "the proxy was restarted and lost the transfer".to_owned(),
            ..fault
        },
        _ => fault,
    }
}

pub(super) fn folder_disk(notes: &Notes, path: &str) -> Result<proxy_api::Disk, Fault> {
    let access = notes.accesses.last().cloned();
    let access = access.ok_or_else(|| missing("data access"))?;
    Ok(proxy_api::Disk::Folder(folder(access, path)))
}

/// A disk as a data session reaches it.
pub(in crate::run) fn folder(access: DataAccess, path: &str) -> FolderDisk {
    let DataAccess {
        address,
        cookie,
        trust,
        datacenter,
    } = access;
    FolderDisk {
        address,
        cookie,
        trust: match trust {
            Trust::Ca(pem) => FolderTrust::CaPem(pem.into()),
            Trust::Fingerprint(pin) => FolderTrust::CertificateSha256(*pin.as_bytes()),
        },
        datacenter,
        path: path.to_owned(),
    }
}

/// What a proxy is told to do with a disk.
pub(super) struct Ordered {
    pub(super) work: proxy_api::Work,
    pub(super) verbs: Verbs,
    /// The ways that the order names, in its order.
    pub(super) ways: Vec<&'static str>,
    /// The disk's share of its host.
    pub(super) lease: Option<Lease>,
    /// Why better ways are not in the order.
    pub(super) fallbacks: Vec<Fault>,
    /// Why by these ways.
    pub(super) account: Account,
}

/// A disk that was moved, as its proxy told.
struct Ended {
    root: Root,
    counts: Counts,
    findings: Findings,
    fallbacks: Vec<Fault>,
    damage: Damages,
    transport: &'static str,
    transport_reason: String,
}

/// What a person is told of a map that lied. The point is right all the same.
fn lie(disk: i32, findings: &Findings) -> Option<Cause> {
    let Findings { lie_bytes, .. } = *findings;
    (lie_bytes > 0).then(|| {
        let message = format!(
            "vsphere's change map of disk {disk} left out {lie_bytes} changed bytes; everything was read and the point is right, change tracking is reset"
        );
        Cause(Fault::new(Reason::ChangeMapLied, message).with("disk", disk))
    })
}

fn findings_of(findings: &proxy_api::TransferFindings) -> Findings {
    Findings {
        compared_bytes: findings.compared_bytes,
        lie_bytes: findings.lie_bytes,
        compared_all: findings.compared_all,
        replaced_chunk_count: findings.replaced_chunk_count,
        replaced_hole_bytes: findings.replaced_hole_bytes,
    }
}

fn counts_of(progress: &proxy_api::TransferProgress) -> Counts {
    // Destructured so that a new count cannot be forgotten here.
    let proxy_api::TransferProgress {
        done_bytes,
        length_bytes: _,
        read_bytes,
        new_bytes,
        sent_bytes,
        chunk_count,
        new_chunk_count,
        hole_bytes,
    } = *progress;
    Counts {
        done_bytes,
        read_bytes,
        new_bytes,
        sent_bytes,
        hole_bytes,
        chunk_count,
        new_chunk_count,
    }
}
