//! Policies: what is promised, to whom, and what a file would change.

use serde_json::{Value, json};
use stillwater_controller_api::{ApplyPolicyResponse, Policy, PolicyChange, PolicyMember};

use crate::output::{Field, moment, table};

/// How many paths of VMs that come and go are shown: the rest is counted.
const PATHS_SHOWN: usize = 20;

pub(crate) fn list(policies: &[Policy]) -> String {
    let header = ["POLICY", "POINTS", "REPOSITORY", "PRIORITY", "SINCE"];
    let row = |policy: &Policy| {
        [
            Field::text(&policy.name),
            Field::text(&policy.promise),
            Field::text(&policy.repository),
            Field::count(policy.priority),
            Field::text(moment(policy.since)),
        ]
    };
    table(header, policies.iter().map(row))
}

pub(crate) fn json(policy: &Policy) -> Value {
    json!({
        "name": policy.name,
        "promise": policy.promise,
        "repository": policy.repository,
        "priority": policy.priority,
        "since": policy.since.to_string(),
        "changed_at": policy.changed_at.to_string(),
        "file": policy.file,
    })
}

pub(crate) fn members(members: &[PolicyMember]) -> String {
    let row = |member: &PolicyMember| {
        [
            Field::text(&member.path),
            Field::text(if member.is_in { "in" } else { "out" }),
            Field::text(&member.why),
        ]
    };
    table(["VM", "SCOPE", "WHY"], members.iter().map(row))
}

pub(crate) fn member_json(member: &PolicyMember) -> Value {
    json!({
        "vm_id": member.vm_id.to_string(),
        "path": member.path,
        "is_in": member.is_in,
        "why": member.why,
    })
}

/// What a file changes, or would change.
pub(crate) fn applied(told: &ApplyPolicyResponse) -> String {
    let mut lines = vec![match (told.is_new, told.changes.is_empty()) {
        (true, _) => format!("policy {} is new:", told.name),
        (false, true) => format!("policy {} is there as the file has it", told.name),
        (false, false) => format!("policy {} changes:", told.name),
    }];
    lines.extend(told.changes.iter().map(change));
    for (word, paths) in [("comes in", &told.enter), ("goes out", &told.leave)] {
        let shown = paths.iter().take(PATHS_SHOWN);
        lines.extend(shown.map(|path| format!("  {word}: {path}")));
        if let Some(more) = paths
            .len()
            .checked_sub(PATHS_SHOWN)
            .filter(|more| *more > 0)
        {
            lines.push(format!("  {word}: {more} more"));
        }
    }
    lines.join("\n")
}

fn change(change: &PolicyChange) -> String {
    let word = |side: &Option<String>| side.clone().unwrap_or_else(|| "not set".to_owned());
    let (before, after) = (word(&change.before), word(&change.after));
    let weaker = if change.is_weaker { " (weaker)" } else { "" };
    format!("  {}: {before} -> {after}{weaker}", change.key)
}

pub(crate) fn applied_json(told: &ApplyPolicyResponse) -> Value {
    let change = |change: &PolicyChange| {
        json!({
            "key": change.key,
            "before": change.before,
            "after": change.after,
            "is_weaker": change.is_weaker,
        })
    };
    json!({
        "name": told.name,
        "is_new": told.is_new,
        "changes": told.changes.iter().map(change).collect::<Vec<_>>(),
        "enter": told.enter,
        "leave": told.leave,
    })
}
