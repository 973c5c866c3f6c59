//! Tasks of repositories and what they found.

use serde_json::{Value, json};
use stillwater_controller_api::{
    CollectResult, ScrubResult, Task, TaskKind, TaskResult, TaskState, VerifyResult,
};

use crate::output::{Field, moment, sheet, size, table};

pub(crate) fn show(task: &Task) -> String {
    let mut lines = vec![
        ("task", task.task_id.to_string()),
        ("kind", kind(task.kind).to_owned()),
        ("state", state(task.state).to_owned()),
        ("started", moment(task.started_at)),
    ];
    if let Some(point) = task.point_id {
        lines.push(("point", point.to_string()));
    }
    if let Some(ended) = task.ended_at {
        lines.push(("ended", moment(ended)));
    }
    if let Some(fault) = &task.fault {
        lines.push(("fault", format!("{}: {}", fault.reason, fault.message)));
    }
    match &task.result {
        None => sheet(&lines),
        Some(TaskResult::Scrub(found)) => {
            lines.extend(scrub(found));
            sheet(&lines)
        }
        Some(TaskResult::Collect(found)) => {
            lines.extend(collect(found));
            sheet(&lines)
        }
        Some(TaskResult::Verify(found)) => {
            lines.extend(verify(found));
            format!("{}{}", sheet(&lines), extents(found))
        }
    }
}

fn scrub(found: &ScrubResult) -> Vec<(&'static str, String)> {
    vec![
        (
            "re-read",
            format!("{} in {} packs", size(found.read_bytes), found.pack_count),
        ),
        ("damaged packs", found.damaged_pack_count.to_string()),
        ("records saved", found.salvaged_record_count.to_string()),
        ("records lost", found.lost_record_count.to_string()),
    ]
}

fn collect(found: &CollectResult) -> Vec<(&'static str, String)> {
    let packs = |count: u64, bytes: u64| format!("{count} packs, {}", size(bytes));
    let mut lines = vec![
        (
            "in use",
            format!("{} of {}", size(found.live_bytes), size(found.stored_bytes)),
        ),
        (
            "condemned",
            packs(found.condemned_pack_count, found.condemned_bytes),
        ),
        ("spared", format!("{} packs", found.spared_pack_count)),
        (
            "quarantined",
            format!("{} packs", found.quarantined_pack_count),
        ),
        (
            "removed",
            packs(found.removed_pack_count, found.removed_bytes),
        ),
        ("compacted", size(found.compacted_bytes)),
    ];
    if !found.held.is_empty() {
        lines.push((
            "held back",
            format!("{}: {}", size(found.held_bytes), found.held),
        ));
    }
    lines
}

fn verify(found: &VerifyResult) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("whole", if found.whole { "yes" } else { "no" }.to_owned()),
        ("re-read", size(found.read_bytes)),
    ];
    if !found.whole {
        let damaged = format!(
            "{} in {} extents",
            size(found.damaged_bytes),
            found.damaged_extent_count
        );
        lines.push(("damaged", damaged));
    }
    lines
}

fn extents(found: &VerifyResult) -> String {
    if found.extents.is_empty() {
        return String::new();
    }
    let rows = found.extents.iter().map(|extent| {
        [
            Field::text(extent.disk_key),
            Field::count(extent.offset_bytes),
            Field::count(extent.length_bytes),
        ]
    });
    let mut text = format!("\n\n{}", table(["DISK", "OFFSET", "LENGTH"], rows));
    let unnamed = found
        .damaged_extent_count
        .saturating_sub(found.extents.len() as u64);
    if unnamed > 0 {
        text.push_str(&format!("\nand {unnamed} more"));
    }
    text
}

pub(crate) fn json(task: &Task) -> Value {
    json!({
        "task_id": task.task_id.to_string(),
        "kind": kind(task.kind),
        "point_id": task.point_id.map(|id| id.to_string()),
        "state": state(task.state),
        "phase": task.phase,
        "done": task.done,
        "total": task.total,
        "unit": task.unit,
        "started_at": task.started_at.to_string(),
        "ended_at": task.ended_at.map(|time| time.to_string()),
        "result": task.result.as_ref().map(result),
        "fault": task.fault.as_ref().map(super::run::fault),
    })
}

fn result(result: &TaskResult) -> Value {
    match result {
        TaskResult::Scrub(found) => json!({
            "pack_count": found.pack_count,
            "read_bytes": found.read_bytes,
            "damaged_pack_count": found.damaged_pack_count,
            "lost_record_count": found.lost_record_count,
            "salvaged_record_count": found.salvaged_record_count,
        }),
        TaskResult::Collect(found) => json!({
            "live_bytes": found.live_bytes,
            "stored_bytes": found.stored_bytes,
            "condemned_pack_count": found.condemned_pack_count,
            "condemned_bytes": found.condemned_bytes,
            "spared_pack_count": found.spared_pack_count,
            "quarantined_pack_count": found.quarantined_pack_count,
            "removed_pack_count": found.removed_pack_count,
            "removed_bytes": found.removed_bytes,
            "compacted_bytes": found.compacted_bytes,
            "held": found.held,
            "held_bytes": found.held_bytes,
        }),
        TaskResult::Verify(found) => {
            let extents = found.extents.iter().map(|extent| {
                json!({
                    "disk_key": extent.disk_key,
                    "offset_bytes": extent.offset_bytes,
                    "length_bytes": extent.length_bytes,
                })
            });
            json!({
                "whole": found.whole,
                "read_bytes": found.read_bytes,
                "extents": extents.collect::<Vec<_>>(),
                "damaged_extent_count": found.damaged_extent_count,
                "damaged_bytes": found.damaged_bytes,
            })
        }
    }
}

pub(crate) const fn kind(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Scrub => "scrub",
        TaskKind::Collect => "gc",
        TaskKind::Verify => "verify",
    }
}

pub(crate) const fn state(state: TaskState) -> &'static str {
    match state {
        TaskState::Running => "running",
        TaskState::Succeeded => "succeeded",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "cancelled",
    }
}
