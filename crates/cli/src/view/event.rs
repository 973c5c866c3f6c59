//! Events.

use serde_json::{Value, json};
use stillwater_controller_api::{Event, EventSeverity};

use crate::output::{Field, moment, plain, table};

pub(crate) fn list(events: &[Event]) -> String {
    let header = ["TIME", "SEVERITY", "EVENT", "BY", "MESSAGE"];
    table(header, events.iter().map(row))
}

fn row(event: &Event) -> [Field; 5] {
    [
        Field::text(moment(event.at)),
        Field::text(severity(event.severity)),
        Field::text(&event.kind),
        Field::text(by(event)),
        Field::text(&event.message),
    ]
}

/// One line for somebody who watches.
pub(crate) fn line(event: &Event) -> String {
    plain(&format!(
        "{} {:7} {} {} ({})",
        moment(event.at),
        severity(event.severity),
        event.kind,
        event.message,
        by(event)
    ))
}

/// Who did it, by name where there is one.
fn by(event: &Event) -> String {
    match (&event.by_name, event.by.split_once('/')) {
        (Some(name), Some((role, _))) => format!("{role} {name}"),
        _ => event.by.clone(),
    }
}

fn severity(severity: EventSeverity) -> &'static str {
    match severity {
        EventSeverity::Info => "info",
        EventSeverity::Warning => "warning",
        EventSeverity::Error => "error",
    }
}

pub(crate) fn json(event: &Event) -> Value {
    json!({
        "number": event.number,
        "kind": event.kind,
        "severity": severity(event.severity),
        "at": event.at.to_string(),
        "by": event.by,
        "by_name": event.by_name,
        "message": event.message,
        "vm_id": event.vm_id.as_ref().map(ToString::to_string),
        "vm_name": event.vm_name,
        "run_id": event.run_id.map(|run| run.to_string()),
        "point_id": event.point_id.map(|point| point.to_string()),
        "node_id": event.node_id.map(|node| node.to_string()),
        "policy": event.policy,
        "alarm": event.alarm,
    })
}
