//! Policies: what is promised, to whom, and what a file would change.

use serde_json::{Value, json};
use stillwater_controller_api::{
    ApplyPolicyResponse, Policy, PolicyChange, PolicyMember, PolicyPoint, SimulatePolicyResponse,
    SimulatedDay, SimulatedPoint,
};

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

/// Up to so many days are shown each; of more, the last one of each month and the last of all.
const DAYS_SHOWN: usize = 31;

/// What a policy keeps, day by day or month by month, and the points of the last day.
pub(crate) fn simulated(told: &SimulatePolicyResponse) -> String {
    let header = ["UNTIL", "MADE", "KEPT", "OLDEST"];
    let shows_each = told.days.len() <= DAYS_SHOWN;
    let is_one_row = |day: &SimulatedDay, next: &SimulatedDay| {
        !shows_each && month(&day.date) == month(&next.date)
    };
    let row = |days: &[SimulatedDay]| {
        let made: u64 = days.iter().map(|day| u64::from(day.made_count)).sum();
        let last = days.last();
        [
            Field::text(last.map(|day| day.date.as_str()).unwrap_or_default()),
            Field::count(made),
            Field::count(last.map_or(0, |day| day.kept_count)),
            Field::maybe(last.and_then(|day| day.oldest_at).map(moment)),
        ]
    };
    let days = table(header, told.days.chunk_by(is_one_row).map(row));
    let row = |point: &SimulatedPoint| {
        [
            Field::text(moment(point.at)),
            Field::text(point.why.join("; ")),
        ]
    };
    let kept = table(["KEPT AT THE END", "WHY"], told.kept.iter().map(row));
    format!("{days}\n\n{kept}")
}

/// The month of a date such as `2026-03-29`.
fn month(date: &str) -> &str {
    date.rsplit_once('-').map_or(date, |(month, _)| month)
}

pub(crate) fn simulated_json(told: &SimulatePolicyResponse) -> Value {
    let day = |day: &SimulatedDay| {
        json!({
            "date": day.date,
            "over_at": day.over_at.to_string(),
            "made_count": day.made_count,
            "kept_count": day.kept_count,
            "oldest_at": day.oldest_at.map(|at| at.to_string()),
        })
    };
    let point = |point: &SimulatedPoint| json!({"at": point.at.to_string(), "why": point.why});
    json!({
        "name": told.name,
        "days": told.days.iter().map(day).collect::<Vec<_>>(),
        "kept": told.kept.iter().map(point).collect::<Vec<_>>(),
    })
}

/// What becomes of points.
pub(crate) fn points(points: &[PolicyPoint]) -> String {
    let header = ["VM", "POINT", "REPOSITORY", "OF", "FATE", "WHY"];
    let row = |point: &PolicyPoint| {
        let fate = match (point.is_expired, point.gone_by, &point.refusal) {
            (true, _, Some(_)) => "refused".to_owned(),
            (true, _, None) => "goes".to_owned(),
            (false, Some(by), _) => format!("gone by {}", moment(by)),
            (false, None, _) => "stays".to_owned(),
        };
        let why = point.why.iter().chain(&point.refusal);
        let why: Vec<&str> = why.map(String::as_str).collect();
        [
            Field::text(&point.vm_name),
            Field::text(point.point_id.to_string()),
            Field::text(&point.repository_name),
            Field::text(moment(point.at)),
            Field::text(fate),
            Field::text(why.join("; ")),
        ]
    };
    table(header, points.iter().map(row))
}

pub(crate) fn point_json(point: &PolicyPoint) -> Value {
    json!({
        "point_id": point.point_id.to_string(),
        "vm_id": point.vm_id.to_string(),
        "vm_name": point.vm_name,
        "repository": point.repository_name,
        "at": point.at.to_string(),
        "is_expired": point.is_expired,
        "why": point.why,
        "gone_by": point.gone_by.map(|at| at.to_string()),
        "refusal": point.refusal,
    })
}
