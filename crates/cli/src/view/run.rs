//! Runs.

use std::time::Duration;

use serde_json::{Value, json};
use stillwater_controller_api::{Run, RunDisk, RunKind, RunPhase, RunState};
use stillwater_types::Fault;

use crate::output::{Field, moment, plain, sheet, size, table};

pub(crate) fn list(runs: &[Run]) -> String {
    let row = |run: &Run| {
        let sum = |of: fn(&RunDisk) -> u64| Field::bytes(run.disks.iter().map(of).sum());
        [
            Field::text(run.run_id),
            Field::text(kind(&run.kind)),
            Field::text(subject(&run.kind)),
            Field::text(state(run.state)),
            Field::text(moment(run.started_at)),
            Field::maybe(run.ended_at.map(moment)),
            sum(|disk| disk.read_bytes),
            sum(|disk| disk.new_bytes),
            Field::maybe(run.fault.as_ref().map(|fault| fault.reason)),
        ]
    };
    let header = [
        "ID", "KIND", "OF", "STATE", "STARTED", "ENDED", "READ", "NEW", "REASON",
    ];
    table(header, runs.iter().map(row))
}

pub(crate) fn show(run: &Run) -> String {
    let mut lines = vec![
        ("id", run.run_id.to_string()),
        ("kind", kind(&run.kind).to_owned()),
        ("of", subject(&run.kind)),
        ("state", state(run.state).to_owned()),
    ];
    lines.extend(run.phase.map(|at| ("phase", phase(at).to_owned())));
    lines.extend(product(&run.kind));
    lines.push(("started", moment(run.started_at)));
    lines.extend(run.ended_at.map(|at| ("ended", moment(at))));
    lines.extend(durations(run).map(|text| ("took", text)));
    let mut text = sheet(&lines);
    if !run.disks.is_empty() {
        text.push_str(&format!("\n\n{}", disks(&run.disks)));
    }
    for disk in run
        .disks
        .iter()
        .filter(|disk| !disk.reading_reason.is_empty())
    {
        let line = format!("disk {} is read whole: {}", disk.key, disk.reading_reason);
        text.push_str(&format!("\n{}", plain(&line)));
    }
    let moved = run.disks.iter();
    for disk in moved.filter(|disk| !disk.transport_reason.is_empty()) {
        let RunDisk {
            key,
            transport,
            transport_reason,
            ..
        } = disk;
        let line = format!("disk {key} by {transport}: {transport_reason}");
        text.push_str(&format!("\n{}", plain(&line)));
    }
    for line in remarks(run) {
        text.push_str(&format!("\n{}", plain(&line)));
    }
    text
}

/// How long each phase took, together where one came again; of ended runs.
fn durations(run: &Run) -> Option<String> {
    let mut sums: Vec<(RunPhase, Duration)> = Vec::new();
    let ends = run.phases.iter().skip(1).map(|next| next.started_at);
    for (start, end) in run.phases.iter().zip(ends.chain([run.ended_at?])) {
        let took = Duration::try_from(end.duration_since(start.started_at)).unwrap_or_default();
        match sums.iter_mut().find(|(phase, _)| *phase == start.phase) {
            Some((_, sum)) => *sum += took,
            None => sums.push((start.phase, took)),
        }
    }
    let texts = sums
        .iter()
        .map(|(at, took)| format!("{} {:.1} s", phase(*at), took.as_secs_f64()));
    (!sums.is_empty()).then(|| texts.collect::<Vec<_>>().join(", "))
}

fn disks(disks: &[RunDisk]) -> String {
    let row = |disk: &RunDisk| {
        [
            Field::text(disk.key),
            Field::text(&disk.label),
            Field::bytes(disk.length_bytes),
            Field::bytes(disk.done_bytes),
            Field::bytes(disk.read_bytes),
            Field::bytes(disk.new_bytes),
            Field::bytes(disk.sent_bytes),
            Field::text(&disk.reading),
            Field::text(&disk.transport),
            Field::text(&disk.proxy_name),
        ]
    };
    let header = [
        "KEY",
        "DISK",
        "SIZE",
        "DONE",
        "READ",
        "NEW",
        "SENT",
        "READING",
        "TRANSPORT",
        "PROXY",
    ];
    table(header, disks.iter().map(row))
}

/// What a person should read: why it failed, and the warnings.
pub(crate) fn remarks(run: &Run) -> Vec<String> {
    let line = |word: &str, fault: &Fault| {
        format!(
            "{word}: {fault}, see docs/operations/errors/{}.md",
            fault.reason
        )
    };
    let fault = run.fault.iter().map(|fault| line("fault", fault));
    fault
        .chain(run.warnings.iter().map(|warning| line("warning", warning)))
        .collect()
}

/// What came of it, if it did.
pub(crate) fn product(kind: &RunKind) -> Option<(&'static str, String)> {
    match kind {
        RunKind::Backup(run) => run.point_id.map(|id| ("point", id.to_string())),
        RunKind::RestoreVm(run) => run.vm_id.as_ref().map(|id| ("new vm", id.to_string())),
        RunKind::VerifyPoint(run) if run.damaged_chunk_count + run.damaged_bytes > 0 => Some((
            "damaged",
            format!(
                "{} in {} chunks",
                size(run.damaged_bytes),
                run.damaged_chunk_count
            ),
        )),
        RunKind::ExportDisk(_) | RunKind::VerifyPoint(_) | RunKind::RestoreInPlace(_) => None,
    }
}

/// What it is about.
pub(crate) fn subject(kind: &RunKind) -> String {
    match kind {
        RunKind::Backup(run) => run.vm_name.clone(),
        RunKind::RestoreVm(run) => run.vm_name.clone(),
        RunKind::ExportDisk(run) => format!("disk {} of {}", run.disk_key, run.point_id),
        RunKind::VerifyPoint(run) => format!("{} of {}", run.point_id, run.vm_name),
        RunKind::RestoreInPlace(run) => run.vm_name.clone(),
    }
}

pub(crate) fn json(run: &Run) -> Value {
    let mut value = json!({
        "run_id": run.run_id.to_string(),
        "state": state(run.state),
        "phase": run.phase.map(phase),
        "disks": run.disks.iter().map(disk_json).collect::<Vec<_>>(),
        "started_at": run.started_at.to_string(),
        "ended_at": run.ended_at.map(|time| time.to_string()),
        "fault": run.fault.as_ref().map(self::fault),
        "warnings": run.warnings.iter().map(self::fault).collect::<Vec<_>>(),
        "phases": run.phases.iter().map(|start| json!({
            "phase": phase(start.phase),
            "started_at": start.started_at.to_string(),
        })).collect::<Vec<_>>(),
    });
    value[kind(&run.kind)] = match &run.kind {
        RunKind::Backup(run) => json!({
            "vm_id": run.vm_id.to_string(),
            "vm_name": run.vm_name,
            "point_id": run.point_id.map(|id| id.to_string()),
        }),
        RunKind::RestoreVm(run) => json!({
            "point_id": run.point_id.to_string(),
            "vm_name": run.vm_name,
            "vm_id": run.vm_id.as_ref().map(|id| id.to_string()),
        }),
        // Without the access: its ticket is a secret of the call that asked for it.
        RunKind::ExportDisk(run) => json!({
            "point_id": run.point_id.to_string(),
            "disk_key": run.disk_key,
        }),
        RunKind::VerifyPoint(run) => json!({
            "point_id": run.point_id.to_string(),
            "vm_name": run.vm_name,
            "damaged_bytes": run.damaged_bytes,
            "damaged_chunk_count": run.damaged_chunk_count,
        }),
        RunKind::RestoreInPlace(run) => json!({
            "point_id": run.point_id.to_string(),
            "vm_id": run.vm_id.to_string(),
            "vm_name": run.vm_name,
        }),
    };
    value
}

fn disk_json(disk: &RunDisk) -> Value {
    json!({
        "key": disk.key,
        "label": disk.label,
        "length_bytes": disk.length_bytes,
        "done_bytes": disk.done_bytes,
        "read_bytes": disk.read_bytes,
        "new_bytes": disk.new_bytes,
        "sent_bytes": disk.sent_bytes,
        "hole_bytes": disk.hole_bytes,
        "chunk_count": disk.chunk_count,
        "new_chunk_count": disk.new_chunk_count,
        "transport": disk.transport,
        "transport_reason": disk.transport_reason,
        "proxy_name": disk.proxy_name,
        "reading": disk.reading,
        "reading_reason": disk.reading_reason,
    })
}

pub(crate) fn fault(fault: &Fault) -> Value {
    json!({
        "reason": fault.reason.as_str(),
        "message": fault.message,
        "details": fault.details,
    })
}

const fn kind(kind: &RunKind) -> &'static str {
    match kind {
        RunKind::Backup(_) => "backup",
        RunKind::RestoreVm(_) => "restore_vm",
        RunKind::ExportDisk(_) => "export_disk",
        RunKind::VerifyPoint(_) => "verify_point",
        RunKind::RestoreInPlace(_) => "restore_in_place",
    }
}

pub(crate) const fn state(state: RunState) -> &'static str {
    match state {
        RunState::Pending => "pending",
        RunState::Running => "running",
        RunState::Succeeded => "succeeded",
        RunState::Incomplete => "incomplete",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
    }
}

pub(crate) const fn phase(phase: RunPhase) -> &'static str {
    match phase {
        RunPhase::Planning => "planning",
        RunPhase::Reserving => "reserving",
        RunPhase::Freezing => "freezing",
        RunPhase::Mapping => "mapping",
        RunPhase::Transferring => "transferring",
        RunPhase::Proposing => "proposing",
        RunPhase::Releasing => "releasing",
        RunPhase::Committing => "committing",
        RunPhase::CreatingVm => "creating_vm",
        RunPhase::CleaningUp => "cleaning_up",
    }
}
