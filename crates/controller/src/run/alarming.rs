//! Which alarms a run raises and clears: a pure function of the run and what happened to it.

use stillwater_types::{DiskId, Reason, VmId};

use super::event::{Findings, InPlaceWork, Outcome, RunEvent, Work};
use super::reading::Why;
use super::state::Run;
use crate::alarm::{AlarmKind, Subject};
use crate::point::How;

/// A change of what stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Something is wrong.
    Raise(AlarmKind, Subject, String),
    /// It is over.
    Clear(AlarmKind, Subject),
}

/// What `event` means for alarms; `run` is as it was before.
pub fn changes(run: &Run, event: &RunEvent) -> Option<Change> {
    let work = match &run.work {
        Work::Backup(work) => work,
        Work::RestoreInPlace(work) => return in_place(run, work, event),
        _ => return None,
    };
    let vm = &work.vm;
    match event {
        RunEvent::Transferred { disk, findings, .. } => {
            let found = of_map(run, *disk, findings)?;
            let subject = Subject::from(DiskId {
                vm: vm.clone(),
                key: *disk,
            });
            Some(match found {
                Found::Lie => {
                    let message = format!(
                        "vsphere's change map of disk {disk} of {} left out {} changed bytes in run {}; points of this disk that were made since it was read whole may lack changes, see `stillwater point show`",
                        work.vm_name, findings.lie_bytes, run.id
                    );
                    Change::Raise(AlarmKind::ChangeMapLied, subject, message)
                }
                Found::Truth => Change::Clear(AlarmKind::ChangeMapLied, subject),
            })
        }
        RunEvent::Failed(cause) if cause.0.reason == Reason::SnapshotTooOld => Some(too_old(
            vm,
            format!(
                "run {} of {} was ended: {}",
                run.id, work.vm_name, cause.0.message
            ),
        )),
        RunEvent::Committed(_) => Some(Change::Clear(
            AlarmKind::SnapshotTooOld,
            Subject::from(vm.clone()),
        )),
        _ => None,
    }
}

/// A VM of which some disks were written over is neither what it was nor what it was to be, until a run
/// that takes it back to a point comes to its end.
fn in_place(run: &Run, work: &InPlaceWork, event: &RunEvent) -> Option<Change> {
    let (kind, subject) = (AlarmKind::HalfRestored, Subject::from(work.vm.clone()));
    match event {
        RunEvent::Ended(Outcome::Succeeded | Outcome::Incomplete) => {
            Some(Change::Clear(kind, subject))
        }
        RunEvent::Ended(_) if run.in_place_begun => {
            let message = format!(
                "run {} wrote parts of point {} over the disks of {} and did not come to its end: do not start the vm, and run `stillwater restore vm {} --in-place` again, which goes on",
                run.id, work.point, work.vm_name, work.point
            );
            Some(Change::Raise(kind, subject, message))
        }
        _ => None,
    }
}

fn too_old(vm: &VmId, message: String) -> Change {
    let subject = Subject::from(vm.clone());
    Change::Raise(AlarmKind::SnapshotTooOld, subject, message)
}

/// What a transfer found out about a change map.
enum Found {
    Lie,
    Truth,
}

/// A map is found true only where all of it was looked at: a disk that was read whole because there was
/// no map to believe says nothing of one.
fn of_map(run: &Run, disk: i32, findings: &Findings) -> Option<Found> {
    if findings.lie_bytes > 0 {
        return Some(Found::Lie);
    }
    let reading = run.disks.get(&disk)?.reading?;
    let is_test = reading.how == How::Compare
        && matches!(reading.why, Some(Why::Due | Why::Asked))
        && findings.compared_all;
    is_test.then_some(Found::Truth)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use stillwater_types::{PointId, RequestId, RunId, TransferId, TreeId, VcenterId};

    use super::*;
    use crate::run::cause::Cause;
    use crate::run::event::{BackupWork, CommittedPoint, Counts, DiskReading, PlannedDisk, Root};
    use crate::run::state::Disk;

    fn vm() -> VmId {
        VmId {
            vcenter: VcenterId::from_bytes([2; 16]),
            moref: "vm-1".into(),
        }
    }

    fn run(how: How, why: Option<Why>) -> Run {
        let work = Work::Backup(BackupWork::new(vm(), "web"));
        let (id, request) = (RunId::from_bytes([1; 16]), RequestId::from_bytes([1; 16]));
        let mut run = Run::new(id, Timestamp::UNIX_EPOCH, request, work);
        let disk = Disk {
            planned: PlannedDisk {
                key: 2000,
                label: "Hard disk 1".into(),
                length_bytes: 1 << 20,
            },
            reading: Some(DiskReading { how, why }),
            attempts: 1,
            failed_on: Default::default(),
            transfer: None,
            attachment: None,
            moved: None,
            damage: Default::default(),
        };
        run.disks.insert(2000, disk);
        run
    }

    fn transferred(lie_bytes: u64, compared_all: bool) -> RunEvent {
        RunEvent::Transferred {
            disk: 2000,
            transfer: TransferId::from_bytes([1; 16]),
            root: Root {
                length_bytes: 1 << 20,
                cutter: String::new(),
                top: TreeId::from_bytes([0; 32]),
                level: 0,
            },
            counts: Counts::default(),
            findings: Findings {
                lie_bytes,
                compared_all,
                ..Findings::default()
            },
            transport: "https".into(),
            transport_reason: Box::default(),
        }
    }

    #[track_caller]
    fn check(how: How, why: Option<Why>, event: &RunEvent, expected: Option<(bool, AlarmKind)>) {
        let change = changes(&run(how, why), event);
        let told = change.map(|change| match change {
            Change::Raise(kind, ..) => (true, kind),
            Change::Clear(kind, _) => (false, kind),
        });
        assert_eq!(told, expected, "{how:?} {why:?}");
    }

    #[test]
    fn a_lie_is_an_alarm_until_all_of_a_map_was_found_true() {
        let lied = Some((true, AlarmKind::ChangeMapLied));
        let true_again = Some((false, AlarmKind::ChangeMapLied));
        check(How::Increment, None, &transferred(1, true), lied);
        check(How::Compare, Some(Why::Due), &transferred(1, true), lied);
        check(How::Increment, None, &transferred(0, false), None);
        check(
            How::Compare,
            Some(Why::Due),
            &transferred(0, true),
            true_again,
        );
        check(
            How::Compare,
            Some(Why::Asked),
            &transferred(0, true),
            true_again,
        );
        check(
            How::Compare,
            Some(Why::TrackingReset),
            &transferred(0, true),
            None,
        );
        check(How::Compare, Some(Why::NoMap), &transferred(0, true), None);
        check(How::Full, Some(Why::First), &transferred(0, true), None);
    }

    #[test]
    fn a_vm_that_is_half_restored_is_an_alarm_until_a_run_ends_well() {
        let work = Work::RestoreInPlace(InPlaceWork {
            point: PointId::from_bytes([1; 16]),
            repository: stillwater_types::NodeId::from_bytes([1; 16]),
            vm: vm(),
            vm_name: "web".into(),
            discard_changes: true,
        });
        let (id, request) = (RunId::from_bytes([1; 16]), RequestId::from_bytes([1; 16]));
        let mut run = Run::new(id, Timestamp::UNIX_EPOCH, request, work);
        let ended = |run: &Run, outcome: Outcome| {
            changes(run, &RunEvent::Ended(outcome)).map(|change| match change {
                Change::Raise(kind, subject, _) => (true, kind, subject),
                Change::Clear(kind, subject) => (false, kind, subject),
            })
        };
        let half = |raised| Some((raised, AlarmKind::HalfRestored, Subject::from(vm())));
        // One that was refused says nothing of what an earlier one left.
        let failed = || Outcome::Failed(Cause::new(Reason::VmNotOff, "why"));
        assert_eq!(ended(&run, failed()), None);
        run.in_place_begun = true;
        assert_eq!(ended(&run, failed()), half(true));
        assert_eq!(ended(&run, Outcome::Cancelled), half(true));
        assert_eq!(ended(&run, Outcome::Succeeded), half(false));
    }

    #[test]
    fn a_snapshot_that_grew_too_old_is_an_alarm_until_the_next_point() {
        let failed = |reason| RunEvent::Failed(Cause::new(reason, "why"));
        let too_old = Some((true, AlarmKind::SnapshotTooOld));
        check(How::Full, None, &failed(Reason::SnapshotTooOld), too_old);
        check(How::Full, None, &failed(Reason::Deadline), None);
        let committed = RunEvent::Committed(CommittedPoint {
            point: PointId::from_bytes([1; 16]),
            sequence: 1,
            committed_at: Timestamp::UNIX_EPOCH,
        });
        check(
            How::Full,
            None,
            &committed,
            Some((false, AlarmKind::SnapshotTooOld)),
        );
    }
}
