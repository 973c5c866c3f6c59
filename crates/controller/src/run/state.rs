//! What is known of one run: what the journal says happened, folded together.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_types::{ExportId, NodeId, PointId, RequestId, RunId, TransferId, VmId};

use super::cause::Cause;
use super::event::{
    Attachment, CommittedPoint, Counts, Damage, DiskReading, Findings, Hold, Outcome, PlannedDisk,
    Root, Target, Work,
};
use super::ladder::{Level, Rung};
use super::lease::Lease;
use crate::point::QuiesceTry;

/// How often a disk is given to a proxy before the run fails.
pub const ATTEMPTS_MAX: u32 = 4;

/// The step that a run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reads the VM afresh, or the point.
    Planning,
    /// Opens the repository session and takes a proxy slot.
    Reserving,
    /// Makes the vSphere snapshot.
    Freezing,
    /// Asks which areas to read.
    Mapping,
    /// Creates the VM to restore into.
    CreatingVm,
    /// Sees that the VM's own disks may be written over.
    Beginning,
    /// Opens access to the disks.
    Opening,
    /// Moves the disks.
    Transferring,
    /// Closes access to the disks.
    Detaching,
    /// Has the repository check the manifest and its closure.
    Proposing,
    /// Removes the snapshot.
    Releasing,
    /// Commits the point. From here on a run is not cancelled: the point may exist already.
    Committing,
    /// Gives the new VM what belongs to it besides its disks.
    Dressing,
    /// Powers the new VM on.
    PoweringOn,
    /// Serves an export.
    Exporting,
    /// Waits until nothing is in flight, because the run is to stop.
    Halting,
    /// Gives back what it holds.
    Cleaning,
    /// Over.
    Ended,
}

/// The vSphere snapshot of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSnapshot {
    /// What its description says.
    pub lease: Lease,
    /// Its managed object reference, once the answer came.
    pub snapshot: Option<String>,
    /// What is tried, strongest first.
    #[serde(default)]
    pub ladder: Vec<Rung>,
    /// The rung that is tried.
    #[serde(default)]
    pub rung: usize,
    /// How often it failed.
    #[serde(default)]
    pub failures: u32,
    /// Every try that failed.
    #[serde(default)]
    pub failed: Vec<QuiesceTry>,
}

impl HeldSnapshot {
    /// A snapshot that is about to be asked for.
    pub fn intended(lease: Lease, ladder: &[Rung]) -> Self {
        let ladder = match ladder.is_empty() {
            true => vec![Rung::new(Level::Crash)],
            false => ladder.to_vec(),
        };
        Self {
            lease,
            snapshot: None,
            ladder,
            rung: 0,
            failures: 0,
            failed: Vec::new(),
        }
    }

    /// The rung that is tried; none when all have failed.
    pub fn rung(&self) -> Option<Rung> {
        self.ladder.get(self.rung).copied()
    }

    /// Takes in that a try failed.
    pub fn rung_failed(&mut self, failed: &QuiesceTry, may_repeat: bool) {
        self.failed.push(failed.clone());
        self.failures += 1;
        let tries = self.rung().map_or(0, |rung| rung.tries);
        if !may_repeat || self.failures >= tries {
            self.rung += 1;
            self.failures = 0;
        }
    }
}

/// One disk of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// What was planned.
    pub planned: PlannedDisk,
    /// How it is read, once that is known; of backups only.
    #[serde(default)]
    pub reading: Option<DiskReading>,
    /// How often it was given to a proxy.
    pub attempts: u32,
    /// Proxies that failed it.
    pub failed_on: BTreeSet<NodeId>,
    /// The transfer that is under way.
    pub transfer: Option<Assignment>,
    /// Where it is attached for that, if it is.
    #[serde(default)]
    pub attachment: Option<Attachment>,
    /// What came of it.
    pub moved: Option<Moved>,
    /// What of it cannot be restored; of verifications only.
    #[serde(default)]
    pub damage: Damage,
}

/// A disk given to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The transfer.
    pub transfer: TransferId,
    /// The proxy.
    pub proxy: NodeId,
}

/// A disk that was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Its tree.
    pub root: Root,
    /// How much was moved.
    pub counts: Counts,
    /// The proxy that moved it.
    pub proxy: NodeId,
    /// What was found out about the change map.
    #[serde(default)]
    pub findings: Findings,
    /// By which way.
    #[serde(default)]
    pub transport: String,
    /// Why by that way, and not by a better one.
    #[serde(default)]
    pub transport_reason: String,
}

/// An export of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldExport {
    /// The export.
    pub export: ExportId,
    /// The proxy that serves it.
    pub proxy: NodeId,
}

/// The VM that a restore creates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewVm {
    /// Asked for; it may or may not exist, and is found by the run's marker.
    Intended,
    /// It exists and goes when the run fails.
    Created(VmId),
    /// It is whole and stays.
    Kept(VmId),
}

/// How many steps of a run are kept with their times: far more than a run has that nothing restarts.
const PATH_MAX: usize = 64;

/// One run, folded from its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Names it.
    pub id: RunId,
    /// The request that asked for it.
    pub request: RequestId,
    /// What it is for.
    pub work: Work,
    /// When it was asked for.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The step it is at.
    pub stage: Stage,
    /// The last step that it reached on its way; what a person is told after it ended.
    pub reached: Stage,
    /// When it came to which step, the first `PATH_MAX` of them.
    #[serde(default)]
    pub path: Vec<(Timestamp, Stage)>,
    /// Why it is to stop, once that is decided.
    pub ending: Option<Outcome>,
    /// Where chunks go to or come from.
    pub target: Option<Target>,
    /// The session's fencing token, once known.
    pub fence: Option<u64>,
    /// Whether a session may be open.
    pub session_held: bool,
    /// Whether hooks may hold the guest.
    #[serde(default)]
    pub guest_held: bool,
    /// The snapshot that exists or may exist.
    pub snapshot: Option<HeldSnapshot>,
    /// For how long the VM stood still for its snapshot, as far as its log tells.
    #[serde(default)]
    pub stun_micros: Option<u64>,
    /// The VM that exists or may exist.
    pub vm: Option<NewVm>,
    /// Whether the VM's own disks may have been written to.
    #[serde(default)]
    pub in_place_begun: bool,
    /// One that could not be removed although it is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_vm: Option<VmId>,
    /// Whether access to the disks may be open.
    pub access_held: bool,
    /// Disks that are or may be attached to VMs of proxies.
    #[serde(default)]
    pub attachments: BTreeSet<Attachment>,
    /// Those that could not be detached when the rest of the access was given back: no snapshot goes
    /// before they are.
    #[serde(default)]
    pub left_attached: BTreeSet<Attachment>,
    /// The disks to move.
    pub disks: BTreeMap<i32, Disk>,
    /// Disks that should be moved and cannot be.
    pub missing: Vec<Cause>,
    /// What a person should know.
    pub warnings: Vec<Cause>,
    /// The point that was proposed.
    pub proposed: Option<PointId>,
    /// The point that exists.
    pub committed: Option<CommittedPoint>,
    /// The export that is or may be open.
    pub export: Option<HeldExport>,
    /// Whether a reader got the export to its end.
    pub export_read: bool,
}

impl Run {
    /// A run that was just asked for.
    pub fn new(id: RunId, started_at: Timestamp, request: RequestId, work: Work) -> Self {
        Self {
            id,
            request,
            work,
            started_at,
            ended_at: None,
            stage: Stage::Planning,
            reached: Stage::Planning,
            path: vec![(started_at, Stage::Planning)],
            ending: None,
            target: None,
            fence: None,
            session_held: false,
            guest_held: false,
            snapshot: None,
            stun_micros: None,
            vm: None,
            in_place_begun: false,
            left_vm: None,
            access_held: false,
            attachments: BTreeSet::new(),
            left_attached: BTreeSet::new(),
            disks: BTreeMap::new(),
            missing: Vec::new(),
            warnings: Vec::new(),
            proposed: None,
            committed: None,
            export: None,
            export_read: false,
        }
    }

    /// Writes down that the run came to another step.
    pub fn came_to(&mut self, at: Timestamp, stage: Stage) {
        if self.path.len() < PATH_MAX {
            self.path.push((at, stage));
        }
    }

    /// Whether nothing will change any more.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// The VM that nobody else may work on meanwhile.
    pub fn vm_in_use(&self) -> Option<&VmId> {
        match (&self.work, &self.vm) {
            (Work::Backup(work), _) => Some(&work.vm),
            (Work::RestoreInPlace(work), _) => Some(&work.vm),
            (Work::RestoreVm(_), Some(NewVm::Created(vm) | NewVm::Kept(vm))) => Some(vm),
            _ => None,
        }
    }

    /// The VM whose disks are moved, once it is there.
    pub fn vm_at_work(&self) -> Option<&VmId> {
        match (&self.work, &self.vm) {
            (Work::Backup(work), _) => Some(&work.vm),
            (Work::RestoreInPlace(work), _) => Some(&work.vm),
            (_, Some(NewVm::Created(vm) | NewVm::Kept(vm))) => Some(vm),
            _ => None,
        }
    }

    /// What a verification found, once every disk was looked at.
    pub fn verified(&self) -> Option<(PointId, Damage)> {
        let Work::VerifyPoint(work) = &self.work else {
            return None;
        };
        let is_done =
            !self.disks.is_empty() && self.disks.values().all(|disk| disk.moved.is_some());
        is_done.then(|| (work.point, self.damage()))
    }

    /// Whether every disk of the VM is as the point has it.
    pub fn is_taken_back(&self) -> bool {
        matches!(self.work, Work::RestoreInPlace(_))
            && self.in_place_begun
            && !self.disks.is_empty()
            && self.disks.values().all(|disk| disk.moved.is_some())
    }

    /// How much of the point's disks cannot be restored, as far as it was looked at.
    pub fn damage(&self) -> Damage {
        let disks = self.disks.values();
        disks.fold(Damage::default(), |sum, disk| Damage {
            bytes: sum.bytes.saturating_add(disk.damage.bytes),
            chunk_count: sum.chunk_count.saturating_add(disk.damage.chunk_count),
        })
    }

    /// What the run holds in the world, in the order in which it is to be given back.
    ///
    /// A guest that is held still serves nobody, so it goes first. Readers go before what they read: a disk that a proxy still holds blocks the removal of its
    /// snapshot. The session goes last, because its end drops what was stored for the run.
    pub fn holds(&self) -> Vec<Hold> {
        let held = [
            (Hold::Guest, self.guest_held),
            (
                Hold::Transfers,
                self.disks.values().any(|disk| disk.transfer.is_some()),
            ),
            (Hold::Export, self.export.is_some()),
            (
                Hold::Access,
                self.access_held || !self.attachments.is_empty(),
            ),
            (Hold::Snapshot, self.snapshot.is_some()),
            (
                Hold::Vm,
                matches!(self.vm, Some(NewVm::Intended | NewVm::Created(_))),
            ),
            (Hold::Session, self.session_held),
        ];
        held.into_iter()
            .filter_map(|(hold, is_held)| is_held.then_some(hold))
            .collect()
    }
}
