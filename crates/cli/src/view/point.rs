//! Restore points.

use serde_json::{Value, json};
use stillwater_controller_api::{Consistency, Evidence, GetPointResponse, Point, PointDisk};
use stillwater_types::{Fault, PointId};

use crate::output::{Field, moment, sheet, size, table};

pub(crate) fn list(points: &[Point]) -> String {
    let header = [
        "ID",
        "VM",
        "COMMITTED",
        "CONSISTENCY",
        "COMPLETE",
        "DISKS",
        "SIZE",
        "NEW",
        "STORED",
    ];
    table(header, points.iter().map(row))
}

fn row(point: &Point) -> [Field; 9] {
    let sum = |of: fn(&PointDisk) -> u64| Field::bytes(point.disks.iter().map(of).sum());
    [
        Field::text(point.point_id),
        Field::text(&point.vm_name),
        Field::text(moment(point.committed_at)),
        Field::text(consistency(point.consistency)),
        Field::text(if point.complete { "yes" } else { "no" }),
        Field::count(point.disks.len() as u64),
        sum(|disk| disk.length_bytes),
        sum(|disk| disk.new_bytes),
        sum(|disk| disk.stored_bytes),
    ]
}

pub(crate) fn show(shown: &GetPointResponse) -> String {
    let GetPointResponse { point, evidence } = shown;
    let head = sheet(&[
        ("id", point.point_id.to_string()),
        ("vm", format!("{} ({})", point.vm_name, point.vm_id)),
        ("run", point.run_id.to_string()),
        ("repository", point.repository_name.clone()),
        ("committed", moment(point.committed_at)),
        ("retain until", moment(point.retain_until)),
        ("consistency", consistency(point.consistency).to_owned()),
        (
            "complete",
            if point.complete { "yes" } else { "no" }.to_owned(),
        ),
    ]);
    let mut text = format!(
        "{head}\n\n{}\n{}",
        disks(&point.disks),
        shared(&point.disks)
    );
    for missing in &point.missing {
        text.push_str(&format!("\nmissing: {}", crate::output::plain(missing)));
    }
    if !evidence.lines.is_empty() {
        text.push_str(&format!("\n\n{}", self::evidence(evidence)));
    }
    text
}

fn disks(disks: &[PointDisk]) -> String {
    let row = |disk: &PointDisk| {
        [
            Field::text(disk.key),
            Field::text(&disk.label),
            Field::bytes(disk.length_bytes),
            Field::bytes(disk.read_bytes),
            Field::bytes(disk.hole_bytes),
            Field::bytes(disk.new_bytes),
            Field::bytes(disk.stored_bytes),
            Field::count(disk.chunk_count),
            Field::count(disk.new_chunk_count),
            Field::text(&disk.root.to_string()[..16]),
        ]
    };
    let header = [
        "KEY",
        "DISK",
        "SIZE",
        "READ",
        "HOLES",
        "NEW",
        "STORED",
        "CHUNKS",
        "NEW CHUNKS",
        "ROOT",
    ];
    table(header, disks.iter().map(row))
}

/// How much of the content an earlier point held already.
fn shared(disks: &[PointDisk]) -> String {
    let sum = |of: fn(&PointDisk) -> u64| disks.iter().map(of).sum::<u64>();
    let content = sum(|disk| disk.length_bytes.saturating_sub(disk.hole_bytes));
    let new = sum(|disk| disk.new_bytes).min(content);
    let percent = match content {
        0 => 0.0,
        content => (content - new) as f64 * 100.0 / content as f64,
    };
    format!(
        "\nshared with earlier points: {} of {} ({percent:.1} %)",
        size(content - new),
        size(content)
    )
}

fn evidence(evidence: &Evidence) -> String {
    let rows = evidence
        .lines
        .iter()
        .map(|line| [Field::text(&line.name), Field::text(&line.value)]);
    table(["EVIDENCE", "FOUND"], rows)
}

pub(crate) fn json(point: &Point) -> Value {
    let disk = |disk: &PointDisk| {
        json!({
            "key": disk.key,
            "label": disk.label,
            "length_bytes": disk.length_bytes,
            "root": disk.root.to_string(),
            "read_bytes": disk.read_bytes,
            "new_bytes": disk.new_bytes,
            "stored_bytes": disk.stored_bytes,
            "hole_bytes": disk.hole_bytes,
            "chunk_count": disk.chunk_count,
            "new_chunk_count": disk.new_chunk_count,
        })
    };
    json!({
        "point_id": point.point_id.to_string(),
        "vm_id": point.vm_id.to_string(),
        "vm_name": point.vm_name,
        "run_id": point.run_id.to_string(),
        "repository_name": point.repository_name,
        "committed_at": point.committed_at.to_string(),
        "retain_until": point.retain_until.to_string(),
        "consistency": consistency(point.consistency),
        "complete": point.complete,
        "disks": point.disks.iter().map(disk).collect::<Vec<_>>(),
        "missing": point.missing,
    })
}

/// The point's own fields, and its evidence.
pub(crate) fn shown_json(shown: &GetPointResponse) -> Value {
    let mut value = json(&shown.point);
    let line = |line: &stillwater_controller_api::EvidenceLine| json!({"name": line.name, "value": line.value});
    value["evidence"] = shown.evidence.lines.iter().map(line).collect();
    value
}

const fn consistency(consistency: Consistency) -> &'static str {
    match consistency {
        Consistency::Crash => "crash",
        Consistency::FileSystem => "file_system",
        Consistency::Application => "application",
        Consistency::Offline => "offline",
    }
}

/// What became of points that were to be deleted, one a line.
pub(crate) fn deleted(results: &[(PointId, Result<(), Fault>)]) -> String {
    let row = |(point, outcome): &(PointId, Result<(), Fault>)| {
        let outcome = match outcome {
            Ok(()) => "deleted".to_owned(),
            Err(fault) => format!("kept: {}", fault.message),
        };
        [Field::text(point), Field::text(outcome)]
    };
    table(["POINT", "OUTCOME"], results.iter().map(row))
}

pub(crate) fn deleted_json(results: &[(PointId, Result<(), Fault>)]) -> Value {
    let one = |(point, outcome): &(PointId, Result<(), Fault>)| {
        json!({
            "point_id": point.to_string(),
            "deleted": outcome.is_ok(),
            "fault": outcome.as_ref().err().map(super::run::fault),
        })
    };
    results.iter().map(one).collect()
}
