//! A run as the controller's protocol tells it.

use stillwater_controller_api as api;
use stillwater_types::{Fault, NodeId};

use crate::node::Nodes;

use super::act::FOLDER;
use super::cause::Cause;
use super::event::{Counts, Outcome, Work};
use super::scratch::{Notes, Progress};
use super::state::{Disk, NewVm, Run, Stage};

/// What a person sees of `run`; `notes` are those of a run at work, `nodes` name its proxies.
pub fn view(run: &Run, notes: Option<&Notes>, nodes: &Nodes) -> api::Run {
    let disks = run.disks.values();
    api::Run {
        run_id: run.id,
        kind: kind(run, notes),
        state: state(run, notes),
        phase: Some(phase(run)),
        disks: disks
            .map(|disk| self::disk(disk, progress(disk, notes), nodes))
            .collect(),
        started_at: run.started_at,
        ended_at: run.ended_at,
        fault: fault(run),
        warnings: run
            .missing
            .iter()
            .chain(&run.warnings)
            .map(|cause| cause.0.clone())
            .collect(),
        phases: phases(run),
    }
}

/// Steps that a person is told as one phase are one.
fn phases(run: &Run) -> Vec<api::RunPhaseStart> {
    let mut phases: Vec<api::RunPhaseStart> = Vec::new();
    for (started_at, stage) in &run.path {
        let phase = phase_of(*stage);
        let is_same = phases.last().is_some_and(|last| last.phase == phase);
        if !is_same && *stage != Stage::Ended {
            phases.push(api::RunPhaseStart {
                phase,
                started_at: *started_at,
            });
        }
    }
    phases
}

fn kind(run: &Run, notes: Option<&Notes>) -> api::RunKind {
    match &run.work {
        Work::Backup(work) => api::RunKind::Backup(api::BackupRun {
            vm_id: work.vm.clone(),
            vm_name: work.vm_name.clone(),
            point_id: run.committed.map(|committed| committed.point),
        }),
        Work::RestoreVm(work) => api::RunKind::RestoreVm(api::RestoreVmRun {
            point_id: work.point,
            vm_name: work.name.clone(),
            vm_id: match &run.vm {
                Some(NewVm::Created(vm) | NewVm::Kept(vm)) => Some(vm.clone()),
                Some(NewVm::Intended) | None => None,
            },
        }),
        Work::ExportDisk(work) => api::RunKind::ExportDisk(api::ExportDiskRun {
            point_id: work.point,
            disk_key: work.disk,
            access: match run.stage {
                Stage::Exporting => notes.and_then(|notes| notes.opened_export()),
                _ => None,
            },
        }),
        Work::VerifyPoint(work) => {
            let damage = run.damage();
            api::RunKind::VerifyPoint(api::VerifyPointRun {
                point_id: work.point,
                vm_name: work.vm_name.clone(),
                damaged_bytes: damage.bytes,
                damaged_chunk_count: damage.chunk_count,
            })
        }
        Work::RestoreInPlace(work) => api::RunKind::RestoreInPlace(api::RestoreInPlaceRun {
            point_id: work.point,
            vm_id: work.vm.clone(),
            vm_name: work.vm_name.clone(),
        }),
    }
}

fn state(run: &Run, notes: Option<&Notes>) -> api::RunState {
    match (run.stage, &run.ending) {
        (Stage::Ended, Some(Outcome::Succeeded)) => api::RunState::Succeeded,
        (Stage::Ended, Some(Outcome::Incomplete)) => api::RunState::Incomplete,
        (Stage::Ended, Some(Outcome::Cancelled)) => api::RunState::Cancelled,
        (Stage::Ended, Some(Outcome::Failed(_)) | None) => api::RunState::Failed,
        (Stage::Planning, None) if notes.is_some_and(|notes| notes.turn.is_none()) => {
            api::RunState::Pending
        }
        _ => api::RunState::Running,
    }
}

fn phase(run: &Run) -> api::RunPhase {
    phase_of(match run.is_over() {
        true => run.reached,
        false => run.stage,
    })
}

const fn phase_of(stage: Stage) -> api::RunPhase {
    match stage {
        Stage::Planning => api::RunPhase::Planning,
        Stage::Reserving => api::RunPhase::Reserving,
        Stage::Freezing => api::RunPhase::Freezing,
        Stage::Mapping => api::RunPhase::Mapping,
        Stage::CreatingVm | Stage::Dressing | Stage::PoweringOn => api::RunPhase::CreatingVm,
        Stage::Beginning
        | Stage::Opening
        | Stage::Transferring
        | Stage::Detaching
        | Stage::Exporting => api::RunPhase::Transferring,
        Stage::Proposing => api::RunPhase::Proposing,
        Stage::Releasing => api::RunPhase::Releasing,
        Stage::Committing => api::RunPhase::Committing,
        Stage::Halting | Stage::Cleaning | Stage::Ended => api::RunPhase::CleaningUp,
    }
}

fn fault(run: &Run) -> Option<Fault> {
    match &run.ending {
        Some(Outcome::Failed(cause)) => Some(cause.0.clone()),
        Some(Outcome::Cancelled) if run.is_over() => Some(cancelled().0),
        _ => None,
    }
}

fn cancelled() -> Cause {
    Cause::new(
        stillwater_types::Reason::RunCancelled,
        "the run was cancelled",
    )
}

fn progress<'a>(disk: &Disk, notes: Option<&'a Notes>) -> Option<&'a Progress> {
    notes?.progress.get(&disk.planned.key)
}

/// Who moved a disk: a node that was removed since then keeps its name, an unknown one its id.
fn proxy_name(nodes: &Nodes, proxy: NodeId) -> String {
    let found = nodes.find(proxy).map(|node| node.name.clone());
    found.unwrap_or_else(|| proxy.to_string())
}

fn disk(disk: &Disk, progress: Option<&Progress>, nodes: &Nodes) -> api::RunDisk {
    let told = progress.map(|progress| progress.counts).unwrap_or_default();
    // What was journalled at a disk's end counts; before that, what its proxy told last.
    let counts = disk.moved.as_ref().map_or(
        Counts {
            done_bytes: told.done_bytes,
            read_bytes: told.read_bytes,
            new_bytes: told.new_bytes,
            sent_bytes: told.sent_bytes,
            hole_bytes: told.hole_bytes,
            chunk_count: told.chunk_count,
            new_chunk_count: told.new_chunk_count,
        },
        |moved| moved.counts,
    );
    api::RunDisk {
        key: disk.planned.key,
        label: disk.planned.label.clone(),
        length_bytes: disk.planned.length_bytes,
        done_bytes: counts.done_bytes,
        read_bytes: counts.read_bytes,
        new_bytes: counts.new_bytes,
        sent_bytes: counts.sent_bytes,
        hole_bytes: counts.hole_bytes,
        chunk_count: counts.chunk_count,
        new_chunk_count: counts.new_chunk_count,
        transport: match (progress, &disk.moved) {
            (_, Some(moved)) if !moved.transport.is_empty() => moved.transport.clone(),
            (_, Some(_)) => FOLDER.to_owned(),
            (Some(progress), None) => progress.transport.to_owned(),
            (None, None) => String::new(),
        },
        transport_reason: match (progress, &disk.moved) {
            (_, Some(moved)) => moved.transport_reason.clone(),
            (Some(progress), None) => progress.transport_reason.clone(),
            (None, None) => String::new(),
        },
        reading: disk
            .reading
            .map(|reading| reading.how.to_string())
            .unwrap_or_default(),
        reading_reason: disk
            .reading
            .and_then(|reading| reading.why)
            .map(|why| why.to_string())
            .unwrap_or_default(),
        proxy_name: match (progress, &disk.moved) {
            (Some(progress), _) => progress.proxy_name.clone(),
            (None, Some(moved)) => proxy_name(nodes, moved.proxy),
            (None, None) => String::new(),
        },
    }
}
