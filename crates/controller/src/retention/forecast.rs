//! When points go, if every run succeeds from now on.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use jiff::{SignedDuration, Timestamp};
use stillwater_policy::{Moments, Policy, When};
use stillwater_types::PointId;

use super::judge::{Fate, Held, Present, Proof, judge, protects};

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Made-up points are named by a count behind this, which no UUID begins with that a clock made in this age.
const MADE_UP: u8 = 0xff;

/// How much is worked out: judging one point once is one unit of it.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// How many days ahead.
    pub days: u16,
    /// How many units are left.
    pub units: usize,
}

/// Until when each point of one VM on one repository is gone; those that stay longer than it was looked are not told, and
/// none when the budget does not last.
pub fn forecast(
    held: Vec<Held>,
    present: &Present<'_>,
    budget: &mut Budget,
) -> BTreeMap<PointId, Timestamp> {
    let Some(newest) = held.iter().max_by_key(|held| held.at).cloned() else {
        return BTreeMap::new();
    };
    let mut asked: BTreeSet<PointId> = held.iter().map(|held| held.point).collect();
    let mut makers: Vec<Maker<'_>> = present
        .promises
        .policies
        .iter()
        .filter(|promise| protects(promise, &newest.vm, newest.repository, present))
        .map(|promise| Maker::new(&promise.policy, &newest, present.now))
        .collect();
    let (mut held, mut gone, mut made) = (held, BTreeMap::new(), 0);
    let mut now = present.now;
    for _ in 0..budget.days {
        let Some(left) = budget.units.checked_sub(held.len()) else {
            return BTreeMap::new();
        };
        budget.units = left;
        let judged = judge(held, &Present { now, ..*present });
        held = Vec::with_capacity(judged.len());
        for judged in judged {
            match judged.fate {
                Fate::Keep(_) => held.push(judged.held),
                Fate::Expire(_) if asked.remove(&judged.held.point) => {
                    gone.insert(judged.held.point, now);
                }
                Fate::Expire(_) => {}
            }
        }
        if asked.is_empty() {
            break;
        }
        let Ok(next) = now.checked_add(DAY) else {
            break;
        };
        now = next;
        for maker in &mut makers {
            maker.make_until(now, &mut made, &mut held);
        }
    }
    gone
}

/// Makes the points of one policy that come.
struct Maker<'a> {
    policy: &'a Policy,
    moments: Peekable<Moments<'a>>,
    like: &'a Held,
    lock: SignedDuration,
}

impl<'a> Maker<'a> {
    /// Points as the newest one is: whoever verifies goes on with it, and a disk that is missing stays so.
    fn new(policy: &'a Policy, like: &'a Held, now: Timestamp) -> Self {
        let from = match policy.schedule.when {
            When::Rpo(rpo) => policy.schedule.after(like.at, rpo).max(now),
            When::Cron { .. } => now,
        };
        Self {
            policy,
            moments: policy.schedule.moments(from).peekable(),
            like,
            lock: like.retain_until.duration_since(like.committed_at),
        }
    }

    fn make_until(&mut self, end: Timestamp, made: &mut u64, held: &mut Vec<Held>) {
        while let Some(at) = self.moments.next_if(|at| *at <= end) {
            *made += 1;
            let mut id = [MADE_UP; 16];
            id[8..].copy_from_slice(&made.to_be_bytes());
            held.push(Held {
                point: PointId::from_bytes(id),
                policy: Some(self.policy.name.clone()),
                at,
                committed_at: at,
                retain_until: at.saturating_add(self.lock).unwrap_or(at),
                proof: match self.like.proof {
                    Proof::Damaged => Proof::None,
                    proof => proof,
                },
                is_in_use: false,
                ..self.like.clone()
            });
        }
    }
}

#[cfg(test)]
mod tests;
