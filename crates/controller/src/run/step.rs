//! The run engine's decisions: from a state and an event to the next state and what to do.
//!
//! Pure: no clock, no I/O, no randomness. It runs twice on each event: when the journal is
//! replayed, for the state alone, and in the loop, for the effects. It is total, so that any prefix
//! of a journal, and any late answer, leads to a state.

use jiff::Timestamp;
use stillwater_types::{Fault, NodeId, PointId, Reason, TransferId};

use super::cause::Cause;
use super::effect::Effect;
use super::event::{BackupWork, Damage, Hold, Outcome, PlannedDisk, RunEvent, Work};
use super::state::{
    ATTEMPTS_MAX, Assignment, Disk, HeldExport, HeldSnapshot, Moved, NewVm, Run, Stage,
};
use crate::guest::Phase;
use crate::point::QuiesceTry;

/// Takes `event` into `run` and says what to do next.
pub fn step(run: &Run, at: Timestamp, event: &RunEvent) -> (Run, Vec<Effect>) {
    let mut next = run.clone();
    if run.is_over() {
        return (next, Vec::new());
    }
    let effects = match event {
        RunEvent::Started { .. } => vec![Effect::Plan],
        RunEvent::CancelRequested => next.stop(Outcome::Cancelled),
        RunEvent::Failed(cause) => next.stop(Outcome::Failed(cause.clone())),
        RunEvent::Halted => next.halted(),
        RunEvent::Restarted => next.restarted(),
        RunEvent::LetGo { hold } => next.let_go(*hold),
        RunEvent::Stuck { hold, cause } => next.stuck(*hold, cause),
        RunEvent::Ended(outcome) => next.ended(at, outcome),
        forward => {
            next.remember(forward);
            next.go_on(forward)
        }
    };
    if next.stage < Stage::Halting {
        next.reached = next.stage;
    }
    if next.stage != run.stage {
        next.came_to(at, next.stage);
    }
    (next, effects)
}

impl Run {
    /// Takes in what an event says about the world, whatever the run makes of it: an answer that
    /// comes after the run was told to stop still names something that must be given back.
    fn remember(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Planned {
                target,
                disks,
                missing,
                warnings,
            } => {
                self.target = Some(*target);
                self.session_held = true;
                self.disks = disks
                    .iter()
                    .map(|disk| (disk.key, Disk::new(disk)))
                    .collect();
                self.missing.clone_from(missing);
                self.warnings.extend_from_slice(warnings);
            }
            RunEvent::Reserved { fence } => self.fence = Some(*fence),
            RunEvent::GuestIntended => self.guest_held = true,
            RunEvent::HooksRan { warnings, .. } => self.warnings.extend_from_slice(warnings),
            RunEvent::SnapshotIntended { lease, ladder } => {
                self.snapshot = Some(HeldSnapshot::intended(*lease, ladder));
            }
            RunEvent::RungFailed { failed, may_repeat } => {
                if let Some(held) = &mut self.snapshot {
                    held.rung_failed(failed, *may_repeat);
                }
            }
            RunEvent::SnapshotCreated {
                snapshot,
                warnings,
                stun_micros,
            } => {
                self.stun_micros = *stun_micros;
                if let Some(held) = &mut self.snapshot {
                    held.snapshot = Some(snapshot.clone());
                }
                self.warnings.extend_from_slice(warnings);
            }
            RunEvent::Mapped {
                missing,
                readings,
                warnings,
            } => {
                for (key, disk) in &mut self.disks {
                    disk.reading = readings.get(key).copied();
                }
                self.missing.extend_from_slice(missing);
                self.warnings.extend_from_slice(warnings);
            }
            RunEvent::InPlaceBegun => self.in_place_begun = true,
            RunEvent::VmIntended => self.vm = Some(NewVm::Intended),
            RunEvent::VmCreated { vm, warnings } => {
                self.vm = Some(NewVm::Created(vm.clone()));
                self.warnings.extend_from_slice(warnings);
            }
            RunEvent::Assigned {
                disk,
                proxy,
                transfer,
                attachment,
            } => {
                self.attachments.extend(attachment.clone());
                if let Some(disk) = self.disks.get_mut(disk) {
                    disk.attempts += 1;
                    disk.attachment.clone_from(attachment);
                    disk.transfer = Some(Assignment {
                        transfer: *transfer,
                        proxy: *proxy,
                    });
                }
            }
            RunEvent::Transferred {
                disk,
                transfer,
                root,
                counts,
                findings,
                transport,
                transport_reason,
            } => {
                if let Some((disk, proxy)) = self.finish_transfer(*disk, *transfer) {
                    disk.moved = Some(Moved {
                        root: root.clone(),
                        counts: *counts,
                        proxy,
                        findings: *findings,
                        transport: transport.clone(),
                        transport_reason: transport_reason.to_string(),
                    });
                }
            }
            RunEvent::DamageFound {
                disk,
                transfer,
                damage,
                parts,
            } => {
                let disk = self.disks.get_mut(disk);
                let is_of = |way: &Assignment| way.transfer == *transfer;
                if let Some(disk) = disk.filter(|disk| disk.transfer.as_ref().is_some_and(is_of)) {
                    disk.damage = *damage;
                    self.warnings.extend_from_slice(parts);
                }
            }
            RunEvent::TransferFailed { disk, transfer, .. } => {
                if let Some((disk, proxy)) = self.finish_transfer(*disk, *transfer) {
                    disk.failed_on.insert(proxy);
                }
            }
            RunEvent::BaseRefused { readings, cause } => {
                for (key, reading) in readings {
                    if let Some(disk) = self.disks.get_mut(key) {
                        disk.reading = Some(*reading);
                        disk.moved = None;
                    }
                }
                self.warnings.push(cause.clone());
            }
            RunEvent::Proposed { point } => self.proposed = Some(*point),
            RunEvent::Committed(committed) => self.committed = Some(*committed),
            RunEvent::Dressed { warnings } => self.warnings.extend_from_slice(warnings),
            RunEvent::PoweredOn { warning } => self.warnings.extend(warning.clone()),
            RunEvent::ExportIntended { export, proxy } => {
                self.export = Some(HeldExport {
                    export: *export,
                    proxy: *proxy,
                });
            }
            RunEvent::ExportRead => self.export_read = true,
            RunEvent::Warned(cause) => self.warnings.push(cause.clone()),
            _ => {}
        }
    }

    /// The disk and its proxy, if `transfer` is the one under way; a late answer of an earlier
    /// attempt must not end the present one.
    fn finish_transfer(&mut self, disk: i32, transfer: TransferId) -> Option<(&mut Disk, NodeId)> {
        let disk = self.disks.get_mut(&disk)?;
        let proxy = disk
            .transfer
            .filter(|under_way| under_way.transfer == transfer)?
            .proxy;
        disk.transfer = None;
        Some((disk, proxy))
    }

    /// The next act on the way forward. An event that does not belong to the stage moves nothing.
    fn go_on(&mut self, event: &RunEvent) -> Vec<Effect> {
        match (self.stage, event) {
            (Stage::Planning, RunEvent::Planned { .. }) => self.enter(Stage::Reserving),
            (Stage::Reserving, RunEvent::Reserved { .. }) => match self.work {
                Work::Backup(_) | Work::RestoreInPlace(_) => self.enter(Stage::Freezing),
                Work::RestoreVm(_) => self.enter(Stage::CreatingVm),
                Work::ExportDisk(_) => self.enter(Stage::Exporting),
                // No disk of a VM is touched.
                Work::VerifyPoint(_) => self.enter(Stage::Transferring),
            },
            (Stage::Freezing, RunEvent::GuestIntended) => vec![Effect::HoldGuest],
            (Stage::Freezing, RunEvent::HooksRan { phase, .. }) => match phase {
                Phase::Before => vec![Effect::IntendSnapshot],
                Phase::During | Phase::After => vec![Effect::LetGo(Hold::Guest)],
            },
            (Stage::Freezing, RunEvent::SnapshotIntended { .. }) => vec![Effect::CreateSnapshot],
            (Stage::Freezing, RunEvent::RungFailed { failed, .. }) => self.try_rung(failed),
            (Stage::Freezing, RunEvent::SnapshotCreated { .. }) => match self.guest_held {
                true => vec![Effect::UseHeldGuest],
                false => self.enter(Stage::Mapping),
            },
            (Stage::CreatingVm, RunEvent::VmIntended) => vec![Effect::CreateVm],
            // What is written over must have no snapshot above it.
            (Stage::Mapping, RunEvent::Mapped { .. })
                if matches!(self.work, Work::RestoreInPlace(_)) =>
            {
                self.enter(Stage::Releasing)
            }
            (Stage::Mapping, RunEvent::Mapped { .. })
            | (Stage::CreatingVm, RunEvent::VmCreated { .. })
            | (Stage::Beginning, RunEvent::InPlaceBegun) => self.enter(Stage::Opening),
            (Stage::Opening, RunEvent::AccessOpened) => self.enter(Stage::Transferring),
            (
                Stage::Transferring,
                RunEvent::Assigned {
                    disk,
                    proxy,
                    transfer,
                    ..
                },
            ) => {
                vec![Effect::Transfer {
                    disk: *disk,
                    proxy: *proxy,
                    transfer: *transfer,
                }]
            }
            (Stage::Transferring, RunEvent::Transferred { .. }) => self.detach_when_all_moved(),
            (
                Stage::Transferring,
                RunEvent::TransferFailed {
                    disk,
                    cause,
                    goes_another_way,
                    ..
                },
            ) => self.try_again(*disk, cause, *goes_another_way),
            (Stage::Proposing, RunEvent::BaseRefused { .. }) => self.enter(Stage::Opening),
            (Stage::Proposing, RunEvent::Proposed { .. }) => self.enter(Stage::Releasing),
            (Stage::Releasing, RunEvent::ReleaseIntended) => vec![Effect::LetGo(Hold::Snapshot)],
            (Stage::Committing, RunEvent::CommitIntended) => vec![Effect::Commit],
            (Stage::Committing, RunEvent::Committed(_)) => self.finish(),
            (Stage::Dressing, RunEvent::Dressed { .. }) => self.dressed(),
            (Stage::PoweringOn, RunEvent::PoweredOn { .. }) => self.finish(),
            (Stage::Exporting, RunEvent::ExportIntended { .. }) => vec![Effect::OpenExport],
            (Stage::Exporting, RunEvent::ExportOpened) => vec![Effect::ServeExport],
            (Stage::Exporting, RunEvent::ExportRead) => self.finish(),
            _ => Vec::new(),
        }
    }

    /// Goes to a stage; what it does first.
    fn enter(&mut self, stage: Stage) -> Vec<Effect> {
        self.stage = stage;
        match stage {
            Stage::Planning => vec![Effect::Plan],
            Stage::Reserving => vec![Effect::Reserve],
            Stage::Freezing => match &self.work {
                Work::Backup(BackupWork { hooks: Some(_), .. }) => {
                    vec![Effect::Record(Box::new(RunEvent::GuestIntended))]
                }
                _ => vec![Effect::IntendSnapshot],
            },
            Stage::Mapping => vec![Effect::Map],
            Stage::CreatingVm => vec![Effect::Record(Box::new(RunEvent::VmIntended))],
            Stage::Beginning => vec![Effect::BeginInPlace],
            Stage::Opening => {
                self.access_held = true;
                vec![Effect::OpenAccess]
            }
            // A run without disks is refused when it is planned; here it would wait for ever.
            Stage::Transferring if self.disks.is_empty() => self.enter(Stage::Detaching),
            Stage::Transferring => self
                .disks
                .iter()
                .filter(|(_, disk)| disk.moved.is_none())
                .map(|(&disk, _)| Effect::Assign { disk })
                .collect(),
            Stage::Detaching => vec![Effect::LetGo(Hold::Access)],
            Stage::Proposing => vec![Effect::Propose],
            Stage::Releasing => vec![Effect::Record(Box::new(RunEvent::ReleaseIntended))],
            Stage::Committing => vec![Effect::Record(Box::new(RunEvent::CommitIntended))],
            Stage::Dressing => vec![Effect::Dress],
            Stage::PoweringOn => vec![Effect::PowerOn],
            Stage::Exporting => vec![Effect::IntendExport],
            Stage::Halting => vec![Effect::Halt],
            Stage::Cleaning => self.clean(),
            Stage::Ended => Vec::new(),
        }
    }

    /// Tries the rung that the run is at now, or gives up when none is left.
    fn try_rung(&mut self, failed: &QuiesceTry) -> Vec<Effect> {
        let rung = self.snapshot.as_ref().and_then(HeldSnapshot::rung);
        match rung {
            Some(_) => vec![Effect::CreateSnapshot],
            None => self.stop(Outcome::Failed(Cause::new(
                Reason::QuiesceFailed,
                format!(
                    "the vm could not be frozen as consistently as was asked for: {}: {}; allow a lower rung, or mend the guest",
                    failed.level, failed.problem
                ),
            ))),
        }
    }

    fn detach_when_all_moved(&mut self) -> Vec<Effect> {
        match self.disks.values().all(|disk| disk.moved.is_some()) {
            true if matches!(self.work, Work::VerifyPoint(_)) => self.finish(),
            true => self.enter(Stage::Detaching),
            false => Vec::new(),
        }
    }

    /// Gives a disk to a proxy once more, or gives up.
    fn try_again(&mut self, disk: i32, cause: &Cause, goes_another_way: bool) -> Vec<Effect> {
        let attempts = self
            .disks
            .get(&disk)
            .map_or(ATTEMPTS_MAX, |disk| disk.attempts);
        let is_worth_it = goes_another_way || cause.is_worth_another_transfer();
        match is_worth_it && attempts < ATTEMPTS_MAX {
            true => vec![Effect::Assign { disk }],
            false => self.stop(Outcome::Failed(cause.clone())),
        }
    }

    /// Decides that the run is over, unless that was decided before.
    ///
    /// A cancellation comes too late once the commit was asked for: the point may exist, and a run
    /// that says `cancelled` beside an existing point would lie. A restored VM is whole at that
    /// moment too.
    fn stop(&mut self, outcome: Outcome) -> Vec<Effect> {
        let too_late = matches!(self.stage, Stage::Committing | Stage::PoweringOn)
            && outcome == Outcome::Cancelled;
        if self.ending.is_some() || too_late {
            return Vec::new();
        }
        self.ending = Some(outcome);
        self.enter(Stage::Halting)
    }

    /// The work is done: what is left is to give back.
    fn finish(&mut self) -> Vec<Effect> {
        self.enter(Stage::Cleaning)
    }

    /// How the run ends. What was achieved counts more than what was decided meanwhile: a commit
    /// whose answer comes while the run is stopping has made a point all the same.
    fn outcome(&self) -> Outcome {
        let verified = self.verified();
        if let Some((point, damage)) = verified
            && damage != Damage::default()
        {
            return Outcome::Failed(damaged(point, damage));
        }
        let is_done = self.committed.is_some()
            || matches!(self.vm, Some(NewVm::Kept(_)))
            || self.export_read
            || verified.is_some()
            || self.is_taken_back();
        match (is_done, self.missing.is_empty(), &self.ending) {
            (true, true, _) => Outcome::Succeeded,
            (true, false, _) => Outcome::Incomplete,
            (false, _, Some(ending)) => ending.clone(),
            (false, _, None) => {
                Outcome::Failed(Cause::new(Reason::Bug, "the run stopped without a reason"))
            }
        }
    }

    fn halted(&mut self) -> Vec<Effect> {
        match self.stage {
            Stage::Halting => self.enter(Stage::Cleaning),
            _ => Vec::new(),
        }
    }

    /// What was in flight is lost. A run that had proposed its point finishes it: everything is
    /// durable already. Any other is cleaned up; a retry is a new run.
    fn restarted(&mut self) -> Vec<Effect> {
        // What is to be written over the VM's disks was known in memory only.
        let is_lost = matches!(self.work, Work::RestoreInPlace(_));
        match self.stage {
            Stage::Releasing | Stage::Committing | Stage::PoweringOn if !is_lost => {
                self.enter(self.stage)
            }
            _ => {
                self.ending.get_or_insert_with(|| {
                    Outcome::Failed(Cause::new(
                        Reason::ControllerRestarted,
                        "the controller was restarted in the middle of the run; start it again",
                    ))
                });
                self.enter(Stage::Cleaning)
            }
        }
    }

    fn let_go(&mut self, hold: Hold) -> Vec<Effect> {
        self.drop_hold(hold);
        match (self.stage, hold) {
            (Stage::Cleaning, _) => self.clean(),
            (Stage::Freezing, Hold::Guest) => self.enter(Stage::Mapping),
            (Stage::Detaching, Hold::Access) => self.detached(),
            (Stage::Releasing, Hold::Snapshot) => match self.work {
                Work::RestoreInPlace(_) => self.enter(Stage::Beginning),
                _ => self.enter(Stage::Committing),
            },
            _ => Vec::new(),
        }
    }

    /// What cannot be given back is told and left to whoever cleans up later: the reaper a
    /// snapshot or a VM, its own expiry a session. A whole backup is not thrown away for it.
    fn stuck(&mut self, hold: Hold, cause: &Cause) -> Vec<Effect> {
        if self.stage == Stage::Releasing && matches!(self.work, Work::RestoreInPlace(_)) {
            // Writing below a snapshot would spoil what it holds.
            self.drop_hold(hold);
            return self.stop(Outcome::Failed(cause.clone()));
        }
        self.warnings.push(cause.clone());
        if hold == Hold::Access {
            self.left_attached.append(&mut self.attachments);
        }
        if let (Hold::Vm, Some(NewVm::Created(vm))) = (hold, &self.vm) {
            self.left_vm = Some(vm.clone());
        }
        self.let_go(hold)
    }

    fn detached(&mut self) -> Vec<Effect> {
        match &self.work {
            Work::Backup(_) => self.enter(Stage::Proposing),
            Work::RestoreVm(_) => self.enter(Stage::Dressing),
            Work::RestoreInPlace(_) => self.finish(),
            Work::ExportDisk(_) | Work::VerifyPoint(_) => Vec::new(),
        }
    }

    /// From here on the VM is whole and stays, whatever becomes of the run.
    fn dressed(&mut self) -> Vec<Effect> {
        self.keep_vm();
        match &self.work {
            Work::RestoreVm(work) if work.power_on => self.enter(Stage::PoweringOn),
            _ => self.enter(Stage::Cleaning),
        }
    }

    fn keep_vm(&mut self) {
        if let Some(NewVm::Created(vm)) = &self.vm {
            self.vm = Some(NewVm::Kept(vm.clone()));
        }
    }

    fn drop_hold(&mut self, hold: Hold) {
        match hold {
            Hold::Guest => self.guest_held = false,
            Hold::Transfers => self
                .disks
                .values_mut()
                .for_each(|disk| disk.transfer = None),
            Hold::Export => self.export = None,
            Hold::Access => {
                self.access_held = false;
                self.attachments.clear();
            }
            Hold::Snapshot => self.snapshot = None,
            Hold::Vm => self.vm = None,
            Hold::Session => self.session_held = false,
        }
    }

    /// Gives back one thing after the other, then ends.
    fn clean(&self) -> Vec<Effect> {
        match self.holds().first() {
            Some(hold) => vec![Effect::LetGo(*hold)],
            None => vec![Effect::Record(Box::new(RunEvent::Ended(self.outcome())))],
        }
    }

    fn ended(&mut self, at: Timestamp, outcome: &Outcome) -> Vec<Effect> {
        self.ended_at = Some(at);
        self.ending = Some(outcome.clone());
        self.stage = Stage::Ended;
        Vec::new()
    }
}

impl Disk {
    fn new(planned: &PlannedDisk) -> Self {
        Self {
            planned: planned.clone(),
            reading: None,
            attempts: 0,
            failed_on: std::collections::BTreeSet::new(),
            transfer: None,
            attachment: None,
            moved: None,
            damage: Damage::default(),
        }
    }
}

fn damaged(point: PointId, damage: Damage) -> Cause {
    let Damage { bytes, chunk_count } = damage;
    let message = format!(
        "{bytes} bytes of the point's disks cannot be restored, {chunk_count} chunks are damaged: the warnings name the parts, other points may have them whole"
    );
    Cause(Fault::new(Reason::ChunkHashMismatch, message).with("point", point))
}

#[cfg(test)]
mod tests;
