//! The decision: what starts now, what moves, and when to look again.
//!
//! What is due starts in the order of its promises, as long as there is enough. A policy that has had
//! more than its share, by priority, waits until the others have caught up: so one that asks for more
//! than there is takes nothing from those that do not, and nobody starves.

use jiff::Timestamp;

use crate::place::{Blocked, Plan, Start};
use crate::resource::Standing;
use crate::{JobIx, PolicyIx, ProxyIx, State, plus};

/// By how much a policy may be ahead of its share before others go first, in slot seconds by priority. Little:
/// a policy that comes anew would wait for all of it each time.
const AHEAD_MAX: f64 = 10.0;
/// For how many late runs things are held back at once.
const RESERVED_MAX: usize = 16;
/// A run that cannot start is tried again when something ends; where nothing runs, after this.
const LOOK_AGAIN_SECS: i64 = 60;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start this run; everything that it needs is free.
    Start(Start),
    /// Go on with a lane of a run on another proxy, from its last durable pack: its own is lost.
    Move {
        /// The job whose run it is.
        job: JobIx,
        /// Which of its lanes.
        lane: usize,
        /// The proxy that is lost.
        from: ProxyIx,
        /// The proxy that goes on.
        to: ProxyIx,
    },
    /// Give up a cron time that was missed, as its policy says.
    Skip {
        /// The job.
        job: JobIx,
        /// Times up to then are given up.
        until: Timestamp,
    },
}

/// What to do now, and what has to wait for what.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// In this order.
    pub actions: Vec<Action>,
    /// Runs that are due and do not start.
    pub waiting: Vec<(JobIx, Blocked)>,
}

/// What starts now, and on what.
pub fn decide(state: &State, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    let is_lost =
        |proxy: &crate::state::ProxyEntry| proxy.used > 0 && proxy.facts.standing == Standing::Lost;
    let any_lost = state.proxies.iter().any(is_lost);
    let due = due(state, now, &mut decision);
    if due.is_empty() && !any_lost {
        return decision;
    }
    let mut plan = Plan::new(state);
    if any_lost {
        move_lanes(&mut plan, &mut decision);
    }
    share_out(&mut plan, due, now, &mut decision);
    decision
}

/// When to decide again, if nothing happens before.
pub fn next_wake(state: &State, now: Timestamp) -> Option<Timestamp> {
    let after = |set: &std::collections::BTreeSet<(Timestamp, JobIx)>| {
        // The greatest job of this moment: what follows is later.
        let now = (now, JobIx(u32::MAX));
        let later = (std::ops::Bound::Excluded(now), std::ops::Bound::Unbounded);
        set.range(later).next().map(|(at, _)| *at)
    };
    let waits = state.by_due.first().is_some_and(|(due, _)| *due <= now);
    let again = waits.then(|| plus(now, LOOK_AGAIN_SECS));
    [after(&state.by_due), after(&state.by_deadline), again]
        .into_iter()
        .flatten()
        .min()
}

/// Jobs that are due and may start by their policies.
fn due(state: &State, now: Timestamp, decision: &mut Decision) -> Vec<JobIx> {
    // Asked once for each policy and only if one of its jobs is due: calendars are slow.
    let mut closed: Vec<Option<bool>> = vec![None; state.policies.len()];
    let mut jobs = Vec::new();
    for (_, ix) in state.by_due.range(..=(now, JobIx(u32::MAX))) {
        let job = &state.jobs[ix.at()];
        let schedule = &state.policies[job.policy.at()].terms.schedule;
        let closed = closed[job.policy.at()].get_or_insert_with(|| {
            !schedule.blackout.is_empty() && schedule.blackout_until(now).is_some()
        });
        if *closed {
            continue;
        }
        match job.plan.lapses {
            Some(lapses) if lapses < now => decision.actions.push(Action::Skip {
                job: *ix,
                until: now,
            }),
            _ => jobs.push(*ix),
        }
    }
    jobs
}

/// Starts what is due: the earliest promise among policies that are not ahead of their share.
fn share_out(plan: &mut Plan<'_>, jobs: Vec<JobIx>, now: Timestamp, decision: &mut Decision) {
    let state = plan.state;
    let dates = |job: &JobIx| state.jobs[job.at()].plan;
    let mut queues: Vec<Vec<JobIx>> = vec![Vec::new(); state.policies.len()];
    for job in jobs {
        queues[state.jobs[job.at()].policy.at()].push(job);
    }
    for queue in &mut queues {
        // The last one is taken first.
        queue.sort_unstable_by_key(|job| std::cmp::Reverse((dates(job).must_start, *job)));
    }
    let mut waiting: Vec<PolicyIx> = (0..queues.len())
        .filter(|at| !queues[*at].is_empty())
        .map(PolicyIx::of)
        .collect();
    let mut reserved = 0;
    while !waiting.is_empty() {
        let turns = waiting.iter().map(|policy| plan.turn(*policy));
        let least = turns.min_by(f64::total_cmp).unwrap_or(0.0);
        let next = waiting
            .iter()
            .enumerate()
            .filter(|(_, policy)| plan.turn(**policy) <= least + AHEAD_MAX)
            .filter_map(|(at, policy)| Some((*queues[policy.at()].last()?, at, *policy)))
            .min_by_key(|(job, ..)| (dates(job).must_start, *job));
        let Some((job, at, policy)) = next else {
            return;
        };
        queues[policy.at()].pop();
        if queues[policy.at()].is_empty() {
            waiting.swap_remove(at);
        }
        let blocked = start(plan, job, least, decision);
        // Only what needs several things at once can miss each of them in turn.
        let scattered = matches!(
            blocked,
            Some(Blocked::HostSnapshots(_) | Blocked::DatastoreSnapshots(_))
        );
        if scattered && dates(&job).deadline <= now && reserved < RESERVED_MAX {
            reserved += 1;
            plan.reserve(job);
        }
    }
}

/// Starts a run, or tells what blocks it.
fn start(plan: &mut Plan<'_>, job: JobIx, least: f64, decision: &mut Decision) -> Option<Blocked> {
    match plan.place(job) {
        Ok(start) => {
            // The fair order has come so far: who comes later begins there, and saved up nothing.
            let start = Start {
                fair: least,
                ..start
            };
            plan.take(&start);
            decision.actions.push(Action::Start(start));
            None
        }
        Err(blocked) => {
            decision.waiting.push((job, blocked));
            Some(blocked)
        }
    }
}

/// Gives the lanes of lost proxies to others, as far as those have room; before anything starts.
fn move_lanes(plan: &mut Plan<'_>, decision: &mut Decision) {
    let state = plan.state;
    for (job, running) in &state.running {
        for (index, lane) in running.start.lanes.iter().enumerate() {
            let from = lane.proxy;
            if state.proxies[from.at()].facts.standing != Standing::Lost {
                continue;
            }
            let reads = |key: &i32| {
                let disks = &state.jobs[job.at()].load.disks;
                disks.iter().find(|disk| disk.key == *key)
            };
            let Some(first) = lane.disks.iter().find_map(reads) else {
                continue;
            };
            let others = lane.disks.iter().filter_map(reads);
            let reaches_all = |to: ProxyIx| {
                others.clone().all(|disk| {
                    let readers = &state.readers[disk.datastore.at()];
                    readers.iter().any(|(_, proxy)| *proxy == to)
                })
            };
            let to = plan
                .reader(first.datastore, &[], true)
                .filter(|to| reaches_all(*to));
            if let Some(to) = to {
                plan.take_slot(to, lane.bytes);
                decision.actions.push(Action::Move {
                    job: *job,
                    lane: index,
                    from,
                    to,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
