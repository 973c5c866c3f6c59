//! What applying a policy would change, told before it is applied.

use std::fmt;

use stillwater_types::VmId;

use crate::{Policy, Span, VmFacts, When};

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Key {
    Name,
    Priority,
    ScopeInclude,
    ScopeExclude,
    ScopeExcludeDisks,
    ConsistencyLadder,
    Schedule,
    TimeZone,
    Blackout,
    RetentionKeepLast,
    RetentionHourly,
    RetentionDaily,
    RetentionWeekly,
    RetentionMonthly,
    RetentionYearly,
    RetentionLock,
    StoreRepository,
    StoreCopies,
    LimitsBandwidth,
    LimitsRuns,
    LimitsDisksPerVm,
    /// `limits.ways`
    LimitsWays,
}

/// Which way a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// More is kept, or it is kept better.
    Stronger,
    /// Less is kept, or worse: what an administrator should look at twice.
    Weaker,
    /// Neither, or it depends.
    Other,
}

/// One key that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub key: Key,
    /// What it says now; nothing is not set.
    pub before: Option<String>,
    /// What it would say.
    pub after: Option<String>,
    /// Which way it goes.
    pub effect: Effect,
}

/// VMs whose protection changes with a policy's scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves {
    /// They come in.
    pub enter: Vec<VmId>,
    /// They go out; their points stay until retention ends them.
    pub leave: Vec<VmId>,
}

impl Key {
    /// As the file has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Key::Name => "name",
            Key::Priority => "priority",
            Key::ScopeInclude => "scope.include",
            Key::ScopeExclude => "scope.exclude",
            Key::ScopeExcludeDisks => "scope.exclude-disks",
            Key::ConsistencyLadder => "consistency.ladder",
            Key::Schedule => "schedule",
            Key::TimeZone => "schedule.time-zone",
            Key::Blackout => "schedule.blackout",
            Key::RetentionKeepLast => "retention.keep-last",
            Key::RetentionHourly => "retention.hourly",
            Key::RetentionDaily => "retention.daily",
            Key::RetentionWeekly => "retention.weekly",
            Key::RetentionMonthly => "retention.monthly",
            Key::RetentionYearly => "retention.yearly",
            Key::RetentionLock => "retention.lock",
            Key::StoreRepository => "store.repository",
            Key::StoreCopies => "store.copies",
            Key::LimitsBandwidth => "limits.bandwidth",
            Key::LimitsRuns => "limits.runs",
            Key::LimitsDisksPerVm => "limits.disks-per-vm",
            Key::LimitsWays => "limits.ways",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |side: &Option<String>| side.clone().unwrap_or_else(|| "not set".into());
        let (before, after) = (word(&self.before), word(&self.after));
        write!(f, "{}: {before} -> {after}", self.key.as_str())?;
        match self.effect {
            Effect::Weaker => f.write_str(" (weaker)"),
            Effect::Stronger | Effect::Other => Ok(()),
        }
    }
}

/// Every key in which two policies differ; a new policy differs from none in all that it sets.
pub fn diff(before: Option<&Policy>, after: &Policy) -> Vec<Change> {
    let old = before.map(rows).unwrap_or_default();
    rows(after)
        .into_iter()
        .enumerate()
        .filter_map(|(index, new)| {
            let old = old.get(index);
            let told = old.and_then(|row| row.text.clone());
            (told != new.text).then(|| Change {
                key: new.key,
                effect: match (old, new.text.is_some()) {
                    (None, _) => Effect::Other,
                    (Some(old), _) => effect(old.weight, new.weight),
                },
                before: told,
                after: new.text,
            })
        })
        .collect()
}

/// Which of these VMs come in and which go out when `before` becomes `after`; no policy holds none.
pub fn moves(before: Option<&Policy>, after: Option<&Policy>, vms: &[VmFacts]) -> Moves {
    let holds = |policy: Option<&Policy>, vm: &VmFacts| {
        policy.is_some_and(|policy| policy.scope.verdict(vm).is_in())
    };
    let mut moves = Moves::default();
    for vm in vms {
        match (holds(before, vm), holds(after, vm)) {
            (false, true) => moves.enter.push(vm.vm.clone()),
            (true, false) => moves.leave.push(vm.vm.clone()),
            (true, true) | (false, false) => {}
        }
    }
    moves
}

/// One key of a policy; the heavier, the stronger the protection.
struct Row {
    key: Key,
    text: Option<String>,
    weight: Option<i64>,
}

fn effect(before: Option<i64>, after: Option<i64>) -> Effect {
    match (before, after) {
        (Some(before), Some(after)) if after > before => Effect::Stronger,
        (Some(before), Some(after)) if after < before => Effect::Weaker,
        _ => Effect::Other,
    }
}

/// Every key, always all of them and in the same order.
fn rows(policy: &Policy) -> Vec<Row> {
    let Policy {
        name,
        priority,
        scope,
        consistency,
        schedule,
        retention,
        store,
        limits,
    } = policy;
    let text = |key, text: String| Row {
        key,
        text: Some(text).filter(|text| !text.is_empty()),
        weight: None,
    };
    let count = |key, count: u32| Row {
        key,
        text: (count > 0).then(|| count.to_string()),
        weight: Some(i64::from(count)),
    };
    let list = |items: Vec<String>| items.join(", ");
    let least = consistency.ladder.last().map(|rung| rung.level as i64);
    vec![
        text(Key::Name, name.clone()),
        text(Key::Priority, priority.to_string()),
        text(
            Key::ScopeInclude,
            list(scope.include.iter().map(ToString::to_string).collect()),
        ),
        text(
            Key::ScopeExclude,
            list(scope.exclude.iter().map(ToString::to_string).collect()),
        ),
        text(
            Key::ScopeExcludeDisks,
            list(
                scope
                    .exclude_disks
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            ),
        ),
        Row {
            weight: least,
            ..text(Key::ConsistencyLadder, consistency.to_string())
        },
        Row {
            weight: match &schedule.when {
                When::Rpo(rpo) => Some(-rpo.secs()),
                When::Cron { .. } => None,
            },
            ..text(Key::Schedule, schedule.when.to_string())
        },
        text(Key::TimeZone, schedule.zone.to_string()),
        text(
            Key::Blackout,
            list(schedule.blackout.iter().map(ToString::to_string).collect()),
        ),
        count(Key::RetentionKeepLast, retention.keep_last),
        count(Key::RetentionHourly, retention.hourly),
        count(Key::RetentionDaily, retention.daily),
        count(Key::RetentionWeekly, retention.weekly),
        count(Key::RetentionMonthly, retention.monthly),
        count(Key::RetentionYearly, retention.yearly),
        Row {
            key: Key::RetentionLock,
            text: retention.lock.as_ref().map(ToString::to_string),
            weight: Some(retention.lock.map_or(0, Span::secs)),
        },
        text(Key::StoreRepository, store.repository.clone()),
        Row {
            weight: i64::try_from(store.copies.len()).ok(),
            ..text(Key::StoreCopies, store.copies.join(", "))
        },
        text(
            Key::LimitsBandwidth,
            limits
                .bandwidth
                .map(|rate| rate.to_string())
                .unwrap_or_default(),
        ),
        text(
            Key::LimitsRuns,
            limits.runs.map(|runs| runs.to_string()).unwrap_or_default(),
        ),
        text(
            Key::LimitsDisksPerVm,
            limits
                .disks_per_vm
                .map(|disks| disks.to_string())
                .unwrap_or_default(),
        ),
        text(
            Key::LimitsWays,
            list(limits.ways.iter().map(ToString::to_string).collect()),
        ),
    ]
}

#[cfg(test)]
mod tests;
