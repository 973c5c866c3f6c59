//! Files in restore points.

use jiff::Timestamp;
use serde_json::{Value, json};
use stillwater_files::{Event, Facts, VolumeFacts};
use stillwater_types::PointId;

use crate::files::{Find, Version, shown};
use crate::output::{Field, moment, table};

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

/// What was found, for people.
pub(crate) fn found(found: &[(PointId, Find)]) -> String {
    let rows = found.iter().map(|(point_id, find)| {
        let [kind, _, _, _, size, modified, name] = row(&find.path, &find.facts);
        let (point, volume) = (Field::text(point_id), Field::text(&find.volume));
        [point, volume, kind, size, modified, name]
    });
    table(
        ["POINT", "VOLUME", "KIND", "SIZE", "MODIFIED", "PATH"],
        rows,
    )
}

/// What was found, for programs.
pub(crate) fn found_json(found: &[(PointId, Find)]) -> Value {
    let each = found.iter().map(|(point_id, find)| {
        let mut json = entry_json(&find.path, &find.facts);
        if let Some(fields) = json.as_object_mut() {
            fields.insert("point_id".to_owned(), json!(point_id.to_string()));
            fields.insert("volume".to_owned(), json!(find.volume));
            for (name, path) in [("name", "path"), ("name_bytes", "path_bytes")] {
                let value = fields.remove(name).unwrap_or_default();
                fields.insert(path.to_owned(), value);
            }
        }
        json
    });
    each.collect()
}

/// How a version is to the one before it: they come the newest first.
fn change(versions: &[Version], index: usize) -> &'static str {
    let hash = |version: &Version| {
        let content = version.content.as_ref().ok()?;
        Some(content.as_ref().map(|content| content.hash.clone()))
    };
    let now = versions.get(index).and_then(hash);
    let before = versions.get(index + 1).map(hash);
    match (now, before) {
        (None, _) | (_, Some(None)) => "unknown",
        (Some(None), Some(Some(None)) | None) => "not there",
        (Some(None), Some(Some(Some(_)))) => "gone",
        (Some(Some(_)), None) => "first",
        (Some(Some(_)), Some(Some(None))) => "new",
        (Some(Some(now)), Some(Some(Some(before)))) if now == before => "same",
        (Some(Some(_)), Some(Some(Some(_)))) => "changed",
    }
}

/// The versions of a file for people.
pub(crate) fn history(versions: &[Version]) -> String {
    let rows = versions.iter().enumerate().map(|(index, version)| {
        let content = version.content.as_ref().ok().and_then(Option::as_ref);
        let hash = content.map(|content| content.hash.get(..16).unwrap_or_default());
        let change = match &version.content {
            Err(why) => why.as_str(),
            Ok(_) => change(versions, index),
        };
        [
            Field::text(version.point_id),
            Field::text(moment(version.committed_at)),
            content.map_or(Field::maybe(None::<&str>), |content| {
                Field::bytes(content.facts.bytes)
            }),
            Field::maybe(content.and_then(|content| modified(&content.facts))),
            Field::maybe(hash),
            Field::text(change),
        ]
    });
    table(
        ["POINT", "TAKEN", "SIZE", "MODIFIED", "CONTENT", "CHANGE"],
        rows,
    )
}

/// The versions of a file for programs.
pub(crate) fn history_json(versions: &[Version]) -> Value {
    let each = versions.iter().enumerate().map(|(index, version)| {
        let content = version.content.as_ref().ok().and_then(Option::as_ref);
        json!({
            "point_id": version.point_id.to_string(),
            "committed_at": version.committed_at.to_string(),
            "size_bytes": content.map(|content| content.facts.bytes),
            "modified_at": content
                .and_then(|content| modified(&content.facts))
                .map(|moment| moment.to_string()),
            "content_blake3": content.map(|content| &content.hash),
            "change": change(versions, index),
            "error": version.content.as_ref().err(),
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Content;

    #[test]
    fn a_version_is_held_against_the_one_before_it() {
        let version = |hash: Option<&str>| Version {
            point_id: PointId::mint(),
            committed_at: Timestamp::UNIX_EPOCH,
            content: Ok(hash.map(|hash| Content {
                facts: Facts {
                    kind: "file".to_owned(),
                    bytes: 1,
                    mode: None,
                    owner: None,
                    group: None,
                    modified: None,
                    accessed: None,
                    links: 1,
                    device: None,
                    target: None,
                    losses: Vec::new(),
                },
                hash: hash.to_owned(),
            })),
        };
        let unknown = Version {
            content: Err("damaged".to_owned()),
            ..version(None)
        };
        let check = |versions: Vec<Version>, expected: &[&str]| {
            let json = history_json(&versions);
            let changes = json.as_array().unwrap().iter().map(|row| &row["change"]);
            assert_eq!(changes.collect::<Vec<_>>(), expected);
            assert_eq!(history(&versions).lines().count(), versions.len() + 1);
        };
        check(
            vec![
                version(None),
                version(Some("b")),
                version(Some("a")),
                version(Some("a")),
                version(None),
                version(None),
            ],
            &["gone", "changed", "same", "new", "not there", "not there"],
        );
        check(vec![version(Some("a"))], &["first"]);
        check(
            vec![version(Some("a")), unknown, version(Some("a"))],
            &["unknown", "unknown", "first"],
        );
    }
}
