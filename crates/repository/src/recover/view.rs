//! What is printed: results on stdout, everything else on stderr.

use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, Table, presets};
use jiff::Timestamp;
use serde_json::{Value, json};
use stillwater_recovery::{
    Consistency, Draft, ImageFormat, Manifest, Point, Recovery, Restored, Section, Time,
};
use stillwater_types::{Extent, Fault, Reason};

/// A point as it is listed.
pub(super) struct Line {
    point: Point,
    manifest: Option<Manifest>,
    lost: Vec<Vec<Extent>>,
}

impl Line {
    /// Looks at all that the point needs.
    pub fn of(recovery: &mut Recovery, point: &Point) -> Self {
        let manifest = recovery.manifest(point.commit.point, true).ok();
        let lost = manifest.iter().flat_map(|manifest| &manifest.disks);
        let lost = lost.map(|disk| recovery.survey(disk)).collect();
        let point = point.clone();
        Self {
            point,
            manifest,
            lost,
        }
    }

    fn state(&self) -> &'static str {
        match &self.manifest {
            None => "no manifest",
            Some(_) if self.lost.iter().any(|lost| !lost.is_empty()) => "damaged",
            Some(_) => "whole",
        }
    }

    fn lost_bytes(&self) -> u64 {
        self.lost.iter().map(|lost| sum(lost)).sum()
    }

    /// The point for programs.
    pub fn json(&self) -> Value {
        let commit = &self.point.commit;
        let mut line = json!({
            "point_id": commit.point,
            "committed_at": moment(commit.committed_at),
            "retain_until": moment(commit.retain_until),
            "deleted_at": self.point.deleted_at.map(moment),
            "state": self.state(),
        });
        if let (Some(manifest), Some(fields)) = (&self.manifest, line.as_object_mut()) {
            let disks = manifest.disks.iter().zip(&self.lost).map(|(disk, lost)| {
                json!({
                    "key": disk.key,
                    "label": disk.label,
                    "length_bytes": disk.root.length,
                    "lost": lost.iter().map(extent).collect::<Vec<_>>(),
                })
            });
            fields.extend(facts(manifest));
            fields.insert("disks".into(), disks.collect());
        }
        line
    }
}

/// Points in a table.
pub(super) fn table(lines: &[Line]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["POINT", "VM", "TAKEN", "DISKS", "SIZE", "STATE"]);
    for line in lines {
        let text = |of: fn(&Manifest) -> String| {
            Cell::new(plain(
                &line.manifest.as_ref().map_or_else(|| "-".to_owned(), of),
            ))
        };
        let mut state = match line.state() {
            "damaged" => format!("damaged: {} lost", size(line.lost_bytes())),
            state => state.to_owned(),
        };
        if line.point.deleted_at.is_some() {
            state = format!("deleted, {state}");
        }
        let bytes =
            |manifest: &Manifest| size(manifest.disks.iter().map(|disk| disk.root.length).sum());
        table.add_row([
            Cell::new(line.point.commit.point),
            text(|manifest| manifest.vm_name.clone()),
            text(|manifest| moment(manifest.taken_at)),
            text(|manifest| manifest.disks.len().to_string()).set_alignment(CellAlignment::Right),
            text(bytes).set_alignment(CellAlignment::Right),
            Cell::new(state),
        ]);
    }
    let unindented = |line: &str| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned();
    let lines: Vec<_> = table.to_string().lines().map(unindented).collect();
    lines.join("\n")
}

/// What was restored, for programs and for the file beside the disks.
pub(super) fn restored(
    manifest: &Manifest,
    section: Option<&Section>,
    restored: &[(Draft, Restored)],
    format: ImageFormat,
) -> Value {
    let is_whole = restored.iter().all(|(_, disk)| disk.zero_filled.is_empty());
    let disks = restored.iter().map(|(draft, disk)| {
        let known = manifest.disks.iter().find(|known| known.key == disk.key);
        json!({
            "key": disk.key,
            "label": known.map(|known| known.label.as_str()),
            "backing": known.and_then(|known| known.backing.as_deref()),
            "file": draft.path(),
            "format": format.suffix(),
            "length_bytes": disk.length,
            "zero_filled": disk.zero_filled.iter().map(extent).collect::<Vec<_>>(),
        })
    });
    let mut told = json!({
        "point_id": manifest.point,
        "outcome": if is_whole { "restored" } else { "zero_filled" },
        "disks": disks.collect::<Vec<_>>(),
    });
    if let Some(fields) = told.as_object_mut() {
        fields.extend(facts(manifest));
        if let Some(section) = section {
            fields.insert("evidence".into(), json!(section.evidence));
            fields.insert("missing".into(), json!(section.missing));
            fields.insert("excluded".into(), json!(section.excluded));
            fields.insert("surroundings".into(), surroundings(section));
        }
    }
    told
}

/// What was restored, for people.
pub(super) fn outcome(told: &Value) -> String {
    let empty = Vec::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for disk in told["disks"].as_array().unwrap_or(&empty) {
        let file = plain(disk["file"].as_str().unwrap_or_default());
        let length = size(disk["length_bytes"].as_u64().unwrap_or_default());
        let filled = list(&disk["zero_filled"]);
        let proved = if filled.is_empty() {
            ", every byte proved"
        } else {
            ""
        };
        lines.push(format!("disk {}: {file}, {length}{proved}", disk["key"]));
        lines.extend(filled.iter().map(|extent| {
            format!(
                "disk {}: {} bytes at {} are zero-filled",
                disk["key"], extent["length"], extent["start"]
            )
        }));
    }
    lines.join("\n")
}

fn facts(manifest: &Manifest) -> serde_json::Map<String, Value> {
    let consistency = match manifest.consistency {
        Consistency::Crash => "crash",
        Consistency::FileSystem => "file_system",
        Consistency::Application => "application",
        Consistency::Offline => "offline",
    };
    let facts = [
        ("vm_name", json!(manifest.vm_name)),
        ("vm_id", json!(manifest.vm.to_string())),
        ("vcenter_instance", json!(manifest.vcenter_instance)),
        ("taken_at", json!(moment(manifest.taken_at))),
        ("consistency", json!(consistency)),
        ("has_every_disk", json!(manifest.whole)),
    ];
    facts
        .map(|(name, fact)| (name.to_owned(), fact))
        .into_iter()
        .collect()
}

fn extent(extent: &Extent) -> Value {
    json!({ "start": extent.start, "length": extent.length })
}

fn sum(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.length).sum()
}

/// RFC 3339 in UTC, whole seconds; the count of milliseconds if no calendar has it.
fn moment(time: Time) -> String {
    let seconds = i64::try_from(time.millis() / 1000).ok();
    match seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        Some(time) => time.to_string(),
        None => format!("{} ms after 1970", time.millis()),
    }
}

/// Writes to stdout, with one line end.
pub(super) fn print(text: &str) -> Result<(), Fault> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    match written {
        // Whoever reads has seen enough, such as `head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| {
            Fault::new(Reason::StorageFailed, format!("write to stdout: {error}"))
        }),
    }
}

/// Says something to a person.
pub(super) fn say(text: &str) {
    // Nobody is left to tell when stderr is closed.
    drop(writeln!(io::stderr().lock(), "{}", plain(text)));
}

/// The text without control characters: names come from a vCenter, and a terminal obeys escape sequences.
pub(super) fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// A size for people, by powers of 1024.
pub(super) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut scaled, mut unit) = (bytes as f64, None);
    for next in units {
        // 1023.95 would be shown as 1024.0.
        if scaled < 1023.95 {
            break;
        }
        scaled /= 1024.0;
        unit = Some(next);
    }
    match unit {
        None => format!("{bytes} B"),
        Some(unit) => format!("{scaled:.1} {unit}"),
    }
}

/// What the VM lay in and hung on. Its NVRAM is a file of its own.
fn surroundings(section: &Section) -> Value {
    let mut told = section.surroundings.clone().unwrap_or_default();
    if let Some(nvram) = told.get_mut("nvram").and_then(Value::as_object_mut) {
        nvram.remove("zstd");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_the_unit_that_reads_best() {
        assert_eq!(
            [0, 1023, 1536, 42 << 30].map(size),
            ["0 B", "1023 B", "1.5 KiB", "42.0 GiB"]
        );
    }

    #[test]
    fn a_time_that_no_calendar_has_is_told_all_the_same() {
        assert_eq!(
            moment(Time::from_millis(1_800_000_000_999)),
            "2027-01-15T08:00:00Z"
        );
        assert_eq!(
            moment(Time::from_millis(u64::MAX)),
            format!("{} ms after 1970", u64::MAX)
        );
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(plain("web\u{1b}[2J"), "web\u{fffd}[2J");
    }
}
