//! Files in restore points.

use jiff::Timestamp;
use serde_json::{Value, json};
use stillwater_files::{Event, Facts, VolumeFacts};

use crate::output::{Field, table};

/// Volumes for people.
pub(crate) fn volumes(events: &[Event]) -> String {
    let rows = events.iter().filter_map(|event| match event {
        Event::Volume(volume) => Some([
            Field::text(&volume.name),
            Field::bytes(volume.bytes),
            Field::text(if volume.readable { "yes" } else { "no" }),
            Field::text(&volume.contents),
            Field::maybe(volume.label.as_ref()),
        ]),
        _ => None,
    });
    table(["VOLUME", "SIZE", "FILES", "CONTENTS", "LABEL"], rows)
}

/// Names for people.
pub(crate) fn names(events: &[Event]) -> String {
    let rows = events.iter().filter_map(|event| match event {
        Event::Entry(entry) => Some(row(&entry.name, &entry.facts)),
        _ => None,
    });
    table(
        ["KIND", "MODE", "OWNER", "GROUP", "SIZE", "MODIFIED", "NAME"],
        rows,
    )
}

fn row(name: &[u8], facts: &Result<Facts, String>) -> [Field; 7] {
    let name = shown(name);
    let facts = match facts {
        Ok(facts) => facts,
        Err(why) => {
            let nothing = || Field::maybe(None::<&str>);
            let name = Field::text(format!("{name} ({why})"));
            return [
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                name,
            ];
        }
    };
    let mut words = name;
    if let Some(target) = &facts.target {
        words = format!("{words} -> {}", shown(target));
    }
    if !facts.losses.is_empty() {
        words = format!("{words} ({})", facts.losses.join("; "));
    }
    [
        Field::text(&facts.kind),
        Field::maybe(facts.mode.map(|mode| format!("{mode:04o}"))),
        Field::maybe(facts.owner),
        Field::maybe(facts.group),
        Field::bytes(facts.bytes),
        Field::maybe(modified(facts)),
        Field::text(words),
    ]
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn modified(facts: &Facts) -> Option<Timestamp> {
    let moment = facts.modified?;
    Timestamp::new(moment.seconds, moment.nanoseconds.cast_signed()).ok()
}

/// Volumes or names for programs. A name that is no text has its bytes beside it.
pub(crate) fn json(events: &[Event], of_volumes: bool) -> Value {
    let each = events.iter().filter_map(|event| match event {
        Event::Volume(volume) if of_volumes => Some(volume_json(volume)),
        Event::Entry(entry) => Some(entry_json(&entry.name, &entry.facts)),
        _ => None,
    });
    each.collect()
}

fn volume_json(volume: &VolumeFacts) -> Value {
    json!({
        "name": volume.name,
        "size_bytes": volume.bytes,
        "readable": volume.readable,
        "contents": volume.contents,
        "label": volume.label,
        "losses": volume.losses,
    })
}

fn entry_json(name: &[u8], facts: &Result<Facts, String>) -> Value {
    let text = std::str::from_utf8(name).ok();
    let bytes = text.is_none().then(|| data_encoding::HEXLOWER.encode(name));
    match facts {
        Err(why) => json!({ "name": shown(name), "name_bytes": bytes, "error": why }),
        Ok(facts) => json!({
            "name": shown(name),
            "name_bytes": bytes,
            "kind": facts.kind,
            "mode": facts.mode,
            "owner": facts.owner,
            "group": facts.group,
            "size_bytes": facts.bytes,
            "modified_at": modified(facts).map(|moment| moment.to_string()),
            "target": facts.target.as_deref().map(shown),
            "losses": facts.losses,
        }),
    }
}
