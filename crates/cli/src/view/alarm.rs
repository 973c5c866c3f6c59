//! Alarms.

use serde_json::{Value, json};
use stillwater_controller_api::Alarm;

use crate::output::{Field, moment, table};

pub(crate) fn list(alarms: &[Alarm]) -> String {
    let header = ["ALARM", "SUBJECT", "SINCE", "OVER", "MESSAGE"];
    table(header, alarms.iter().map(row))
}

fn row(alarm: &Alarm) -> [Field; 5] {
    [
        Field::text(&alarm.kind),
        Field::text(&alarm.subject),
        Field::text(moment(alarm.raised_at)),
        Field::maybe(alarm.cleared_at.map(moment)),
        Field::text(&alarm.message),
    ]
}

pub(crate) fn json(alarms: &[Alarm]) -> Value {
    let alarm = |alarm: &Alarm| {
        json!({
            "kind": alarm.kind,
            "subject": alarm.subject,
            "vm_id": alarm.vm_id.as_ref().map(ToString::to_string),
            "disk_key": alarm.disk_key,
            "node_id": alarm.node_id.map(|node| node.to_string()),
            "message": alarm.message,
            "raised_at": alarm.raised_at.to_string(),
            "changed_at": alarm.changed_at.to_string(),
            "cleared_at": alarm.cleared_at.map(|at| at.to_string()),
        })
    };
    alarms.iter().map(alarm).collect()
}
