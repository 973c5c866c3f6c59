//! Restore points.

use serde_json::{Value, json};
use stillwater_controller_api::{
    Consistency, DiskReading, Evidence, GetPointResponse, HookPhase, HookRun, Point, PointDisk,
    QuiesceWriter, Quiescence,
};
use stillwater_types::{Fault, PointId};

use crate::output::{Field, moment, sheet, size, table};

/// How many lines of what a hook printed are shown; JSON has them all.
const OUTPUT_LINES_MAX: usize = 10;

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
        "PROVED",
    ];
    table(header, points.iter().map(row))
}

fn row(point: &Point) -> [Field; 10] {
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
        Field::text(proved(point)),
    ]
}

/// When every byte was last proved with the key, and what came of it.
fn proved(point: &Point) -> String {
    match &point.verification {
        None => "never".to_owned(),
        Some(done) if done.damaged_bytes == 0 => moment(done.verified_at),
        Some(done) => format!("DAMAGED {}", moment(done.verified_at)),
    }
}

pub(crate) fn show(shown: &GetPointResponse) -> String {
    let GetPointResponse {
        point,
        evidence,
        readings,
        quiescence,
    } = shown;
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
        ("proved with the key", proved(point)),
    ]);
    let mut text = format!(
        "{head}\n\n{}\n{}",
        disks(&point.disks),
        shared(&point.disks)
    );
    for missing in &point.missing {
        text.push_str(&format!("\nmissing: {}", crate::output::plain(missing)));
    }
    if !readings.is_empty() {
        text.push_str(&format!("\n\n{}", self::readings(readings)));
    }
    if let Some(quiescence) = quiescence {
        text.push_str(&format!("\n\n{}", self::quiescence(quiescence)));
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

/// How each disk was read, and how far its change map can be trusted.
fn readings(readings: &[DiskReading]) -> String {
    let row = |reading: &DiskReading| {
        [
            Field::text(reading.disk_key),
            Field::text(&reading.how),
            Field::text(reading.changed_bytes.map(size).unwrap_or_default()),
            Field::bytes(reading.compared_bytes),
            Field::text(trust(reading)),
            Field::text(format!(
                "{}, {} points ago",
                moment(reading.checked_at),
                reading.points_since
            )),
        ]
    };
    let header = ["KEY", "READING", "CHANGED", "COMPARED", "MAP", "READ WHOLE"];
    let mut text = table(header, readings.iter().map(row));
    for reading in readings {
        let reason = Some(&reading.reason).filter(|reason| !reason.is_empty());
        for line in reason.into_iter().chain(&reading.remarks) {
            let line = format!("disk {}: {line}", reading.disk_key);
            text.push_str(&format!("\n{}", crate::output::plain(&line)));
        }
    }
    text
}

/// Why the point is called as consistent as it is.
fn quiescence(quiescence: &Quiescence) -> String {
    let asked: Vec<&str> = quiescence.asked.iter().copied().map(consistency).collect();
    let mut lines = vec![
        ("asked for", asked.join(", then ")),
        ("achieved", consistency(quiescence.achieved).to_owned()),
        (
            "quiesced",
            if quiescence.quiesced { "yes" } else { "no" }.to_owned(),
        ),
        ("vmware tools", quiescence.tools.clone()),
    ];
    let millis = |name, millis: u64| (name, format!("{millis} ms"));
    lines.extend(
        quiescence
            .freeze_millis
            .map(|took| millis("snapshot took", took)),
    );
    let stun = quiescence.stun_micros.map(|micros| micros.div_ceil(1000));
    lines.extend(stun.map(|took| millis("vm stood still", took)));
    let mut text = sheet(&lines);
    let tried = quiescence
        .tries
        .iter()
        .map(|tried| format!("tried {}: {}", consistency(tried.level), tried.problem));
    for line in tried.chain(quiescence.remarks.iter().cloned()) {
        text.push_str(&format!("\n{}", crate::output::plain(&line)));
    }
    if !quiescence.writers.is_empty() {
        text.push_str(&format!("\n\n{}", writers(&quiescence.writers)));
    }
    if !quiescence.hooks.is_empty() {
        text.push_str(&format!("\n\n{}", hooks(&quiescence.hooks)));
    }
    if let Some(release) = &quiescence.hook_release {
        let by = match release.by_watchdog {
            true => "by itself, because its time was over",
            false => "by the controller",
        };
        let at = moment(release.released_at);
        text.push_str(&format!(
            "\nthe guest was released {by}, at {at} of its own"
        ));
    }
    text
}

/// What came of each hook, with the end of what it printed.
fn hooks(runs: &[HookRun]) -> String {
    let row = |run: &HookRun| {
        let took = run.ended_at.duration_since(run.started_at);
        [
            Field::text(&run.name),
            Field::text(phase(run.phase)),
            Field::text(moment(run.started_at)),
            Field::text(format!("{} s", took.as_secs())),
            Field::text(ended(run)),
        ]
    };
    let header = ["HOOK", "PHASE", "STARTED", "TOOK", "ENDED"];
    let mut text = table(header, runs.iter().map(row));
    for run in runs {
        let lines: Vec<&str> = run.output.lines().collect();
        for line in &lines[lines.len().saturating_sub(OUTPUT_LINES_MAX)..] {
            let line = crate::output::plain(line);
            text.push_str(&format!("\n{}: {line}", crate::output::plain(&run.name)));
        }
    }
    text
}

fn phase(phase: HookPhase) -> &'static str {
    match phase {
        HookPhase::Before => "before",
        HookPhase::During => "during",
        HookPhase::After => "after",
    }
}

fn ended(run: &HookRun) -> String {
    match (run.timed_out, run.exit_code) {
        (true, _) => "ran too long and was ended".to_owned(),
        (false, Some(code)) => format!("exit code {code}"),
        (false, None) => "was ended with the guest's release".to_owned(),
    }
}

fn hook_json(run: &HookRun) -> Value {
    json!({
        "name": run.name,
        "phase": phase(run.phase),
        "started_at": run.started_at.to_string(),
        "ended_at": run.ended_at.to_string(),
        "exit_code": run.exit_code,
        "timed_out": run.timed_out,
        "output": run.output,
        "truncated": run.truncated,
    })
}

fn writers(writers: &[QuiesceWriter]) -> String {
    let row = |writer: &QuiesceWriter| {
        [
            Field::text(&writer.name),
            Field::text(writer.failure.as_deref().unwrap_or("took part")),
            Field::count(u64::from(writer.component_count)),
        ]
    };
    table(["WRITER", "STATE", "COMPONENTS"], writers.iter().map(row))
}

fn trust(reading: &DiskReading) -> String {
    match (reading.lie_bytes, reading.last_lie_at) {
        (0, None) => "no lie found".to_owned(),
        (0, Some(at)) => format!("lied {} times, last {}", reading.lie_count, moment(at)),
        (bytes, _) => format!("lied about {}", size(bytes)),
    }
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
        "verification": point.verification.as_ref().map(|done| json!({
            "run_id": done.run_id.to_string(),
            "verified_at": done.verified_at.to_string(),
            "damaged_bytes": done.damaged_bytes,
        })),
    })
}

/// The point's own fields, and its evidence.
pub(crate) fn shown_json(shown: &GetPointResponse) -> Value {
    let mut value = json(&shown.point);
    let line = |line: &stillwater_controller_api::EvidenceLine| json!({"name": line.name, "value": line.value});
    value["quiescence"] = shown.quiescence.as_ref().map(quiescence_json).into();
    value["readings"] = shown.readings.iter().map(reading_json).collect();
    value["evidence"] = shown.evidence.lines.iter().map(line).collect();
    value
}

fn quiescence_json(quiescence: &Quiescence) -> Value {
    let tries = quiescence.tries.iter();
    let tries =
        tries.map(|tried| json!({"level": consistency(tried.level), "problem": tried.problem}));
    let writers = quiescence.writers.iter().map(|writer| {
        json!({
            "name": writer.name,
            "failure": writer.failure,
            "component_count": writer.component_count,
        })
    });
    json!({
        "asked": quiescence.asked.iter().copied().map(consistency).collect::<Vec<_>>(),
        "achieved": consistency(quiescence.achieved),
        "tries": tries.collect::<Vec<_>>(),
        "tools": quiescence.tools,
        "quiesced": quiescence.quiesced,
        "hooks": quiescence.hooks.iter().map(hook_json).collect::<Vec<_>>(),
        "hook_release": quiescence.hook_release.map(|release| json!({
            "by_watchdog": release.by_watchdog,
            "released_at": release.released_at.to_string(),
        })),
        "writers": writers.collect::<Vec<_>>(),
        "stun_micros": quiescence.stun_micros,
        "freeze_millis": quiescence.freeze_millis,
        "has_report": quiescence.has_report,
        "remarks": quiescence.remarks,
    })
}

fn reading_json(reading: &DiskReading) -> Value {
    json!({
        "disk_key": reading.disk_key,
        "how": reading.how,
        "reason": reading.reason,
        "remarks": reading.remarks,
        "base_point_id": reading.base_point_id.map(|id| id.to_string()),
        "changed_bytes": reading.changed_bytes,
        "compared_bytes": reading.compared_bytes,
        "lie_bytes": reading.lie_bytes,
        "checked_at": reading.checked_at.to_string(),
        "points_since": reading.points_since,
        "lie_count": reading.lie_count,
        "last_lie_at": reading.last_lie_at.map(|time| time.to_string()),
    })
}

pub(super) const fn consistency(consistency: Consistency) -> &'static str {
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
