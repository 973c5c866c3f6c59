//! Which points of a VM are kept, and why: a pure function of the points, the rule and the time.
//!
//! It only ever asks: an expired point is a request that the repository decides, by its own locks and
//! its own time. What makes it safe to ask again and again: a decision does not depend on the order of
//! the points, and a point that is kept stays kept when those that expired are gone. Periods are
//! counted among those that have points, so that a VM without new points loses no old ones and a clock
//! that jumped takes nothing along.

mod period;
mod simulate;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_types::PointId;

pub use period::{Label, Period};
pub use simulate::{Day, Simulation};

use crate::{Span, Zone};

const COUNT_MAX: u32 = 10_000;
/// What a repository takes as the end of a lock at most: ten years ahead.
const LOCK_MAX: Span = Span::from_days(3_650);

/// How many points are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Retention {
    /// The newest so many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub keep_last: u32,
    /// The last point of each of so many hours.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hourly: u32,
    /// The last point of each of so many days.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub daily: u32,
    /// The last point of each of so many weeks, which begin on Mondays.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub weekly: u32,
    /// The last point of each of so many months.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub monthly: u32,
    /// The last point of each of so many years.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub yearly: u32,
    /// How long nobody can delete a point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Span>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What a point is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Complete, and verified.
    Good,
    /// Nobody has verified it yet: it counts for nothing, and takes no other point's place.
    Unverified,
    /// Incomplete or damaged.
    Bad,
}

/// A restore point, as far as retention asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Names it.
    pub id: PointId,
    /// The moment that its content is of.
    pub at: Timestamp,
    /// When it began to exist.
    pub committed_at: Timestamp,
    /// Until when its repository lets nobody delete it, if it told.
    pub locked_until: Option<Timestamp>,
    /// What it is worth.
    pub standing: Standing,
}

/// Whether a policy still makes points of the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Course {
    /// It does. Periods are counted among those that have points.
    Protected,
    /// The VM left scope or is gone. Periods are counted back from now, so that its points come to
    /// their end as if new ones had been made.
    Left,
}

/// By what it is decided.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// How many points are kept.
    pub retention: &'a Retention,
    /// Whose calendar counts.
    pub zone: &'a Zone,
    /// Whether new points come.
    pub course: Course,
    /// The present.
    pub now: Timestamp,
}

/// What becomes of a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, for every one of these reasons.
    Keep(Vec<Keep>),
    /// It may go.
    Expire(Expire),
}

/// Why a point stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Among the newest; the newest one is the first.
    Last(u32),
    /// The last point of a period.
    Period(Label),
    /// Nobody can delete it before then.
    Locked(Timestamp),
    /// The VM's newest good point, which never goes.
    LastGood,
    /// Not verified yet; it would stay if it were.
    Unverified,
    /// The VM has no good point, and this is the best that there is.
    NothingBetter,
    /// It is dated after now: some clock was or is wrong, and nothing is decided by it.
    ClockDoubtful,
}

/// Why a point may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expire {
    /// Good, but every period that it is in has a newer one, or is over.
    Superseded,
    /// Not verified, and it would go if it were.
    Unverified,
    /// Incomplete or damaged, and the VM has better.
    Bad,
}

impl Retention {
    /// What is wrong with it, and what to write instead.
    pub(crate) fn fault(&self) -> Option<String> {
        let counts = [self.keep_last]
            .into_iter()
            .chain(Period::ALL.map(|period| self.count(period)));
        if counts.clone().all(|count| count == 0) {
            return Some("nothing would be kept: write daily = 14, say".into());
        }
        if counts.clone().any(|count| count > COUNT_MAX) {
            return Some(format!("write counts of at most {COUNT_MAX}"));
        }
        let lock = self.lock.is_some_and(|lock| lock > LOCK_MAX);
        lock.then(|| format!("write lock = \"{LOCK_MAX}\" or less"))
    }

    /// How many periods of this length have a point.
    pub const fn count(&self, period: Period) -> u32 {
        match period {
            Period::Hour => self.hourly,
            Period::Day => self.daily,
            Period::Week => self.weekly,
            Period::Month => self.monthly,
            Period::Year => self.yearly,
        }
    }
}

impl Verdict {
    /// Whether the point stays.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Verdict::Keep(_))
    }
}

impl Point {
    /// Until when nobody deletes it, by its repository's word and by the policy.
    fn lock_end(&self, retention: &Retention) -> Option<Timestamp> {
        let policy = retention.lock.map(|lock| {
            self.committed_at
                .checked_add(jiff::SignedDuration::from_secs(lock.secs()))
                .unwrap_or(Timestamp::MAX)
        });
        self.locked_until.max(policy)
    }
}

/// What becomes of each point of one VM, in the order of `points`.
pub fn decide(points: &[Point], terms: &Terms<'_>) -> Vec<(PointId, Verdict)> {
    let mut reasons: Vec<Vec<Keep>> = points.iter().map(|p| undisputed(p, terms)).collect();
    // Newest first; the id settles what the time leaves open, so that order of arrival plays no part.
    let mut newest: Vec<usize> = (0..points.len())
        .filter(|&index| !is_ahead(&points[index], terms.now))
        .collect();
    newest.sort_by_key(|&index| std::cmp::Reverse((points[index].at, points[index].id)));

    let good = of(points, &newest, |standing| standing == Standing::Good);
    for (index, keep) in counted(points, &good, terms) {
        reasons[index].push(keep);
    }
    if let Some(&index) = good.first() {
        reasons[index].push(Keep::LastGood);
    }
    // A second count with those that may yet turn out good: they stay, but push nobody out.
    let hopeful = of(points, &newest, |standing| standing != Standing::Bad);
    let would_stay: BTreeSet<usize> = counted(points, &hopeful, terms)
        .into_iter()
        .map(|(index, _)| index)
        .filter(|&index| points[index].standing == Standing::Unverified)
        .collect();
    for index in would_stay {
        reasons[index].push(Keep::Unverified);
    }
    if good.is_empty()
        && let Some(&index) = hopeful.first().or(newest.first())
    {
        reasons[index].push(Keep::NothingBetter);
    }
    let verdict = |(point, reasons): (&Point, Vec<Keep>)| {
        let verdict = if reasons.is_empty() {
            Verdict::Expire(match point.standing {
                Standing::Good => Expire::Superseded,
                Standing::Unverified => Expire::Unverified,
                Standing::Bad => Expire::Bad,
            })
        } else {
            Verdict::Keep(reasons)
        };
        (point.id, verdict)
    };
    points.iter().zip(reasons).map(verdict).collect()
}

/// Why a point stays whatever other points there are.
fn undisputed(point: &Point, terms: &Terms<'_>) -> Vec<Keep> {
    let mut reasons = Vec::new();
    if is_ahead(point, terms.now) {
        reasons.push(Keep::ClockDoubtful);
    }
    let lock = point
        .lock_end(terms.retention)
        .filter(|end| *end > terms.now);
    reasons.extend(lock.map(Keep::Locked));
    reasons
}

fn is_ahead(point: &Point, now: Timestamp) -> bool {
    point.at.max(point.committed_at) > now
}

fn of(points: &[Point], newest: &[usize], wanted: impl Fn(Standing) -> bool) -> Vec<usize> {
    newest
        .iter()
        .copied()
        .filter(|&index| wanted(points[index].standing))
        .collect()
}

/// Who stays by the counts, of points that all count, newest first.
fn counted(points: &[Point], newest: &[usize], terms: &Terms<'_>) -> Vec<(usize, Keep)> {
    let mut kept = Vec::new();
    let ages = terms.course == Course::Left;
    let calendar = Period::ALL
        .iter()
        .any(|period| terms.retention.count(*period) > 0);
    // Points of a VM that left would stay for ever by their number alone.
    if !(ages && calendar) {
        let last = newest.iter().zip(1..=terms.retention.keep_last);
        kept.extend(last.map(|(&index, rank)| (index, Keep::Last(rank))));
    }
    for period in Period::ALL {
        let count = terms.retention.count(period);
        let mut seen = BTreeSet::new();
        for &index in newest {
            if seen.len() as u64 >= u64::from(count) {
                break;
            }
            let label = period.label(points[index].at, terms.zone);
            if ages && !label.is_within(count, terms.now, terms.zone) {
                continue;
            }
            if seen.insert(label) {
                kept.push((index, Keep::Period(label)));
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests;
