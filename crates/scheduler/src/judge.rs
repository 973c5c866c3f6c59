//! Whether every VM's promise is kept, and if one is not, why.

use jiff::Timestamp;

use crate::job::Rhythm;
use crate::place::{Blocked, Plan};
use crate::{JobIx, State, secs_between};

/// A run that is due and could start is started within this, or nobody decides any more.
const NOBODY_SECS: i64 = 180;

/// A promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breach {
    /// Whose.
    pub job: JobIx,
    /// Since when.
    pub since: Timestamp,
    /// The moment of the newest good point, if there is one.
    pub last_point: Option<Timestamp>,
    /// Why.
    pub cause: Cause,
}

/// Why a promise is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A run is on its way and takes too long.
    Running {
        /// Since when.
        since: Timestamp,
    },
    /// Runs fail.
    Failing {
        /// How many in a row.
        runs: u32,
    },
    /// Something that it needs is taken or missing: add some of it.
    Missing(Blocked),
    /// The VM suffers from its snapshots and is held back.
    Suffering,
    /// It could start, and has not for minutes: dead-man.
    NothingRan,
    /// It is about to start.
    Starting,
}

/// Every promise that is broken now, the longest broken first.
///
/// Time in a blackout is no part of a promise. The causes are those of this moment.
pub fn judge(state: &State, now: Timestamp) -> Vec<Breach> {
    let broken = state.by_deadline.range(..(now, JobIx(0)));
    let mut plan = None;
    broken
        .map(|(since, ix)| Breach {
            job: *ix,
            since: *since,
            last_point: state.jobs[ix.at()].history.last_point,
            cause: cause(
                plan.get_or_insert_with(|| Plan::new(state)),
                state,
                *ix,
                now,
            ),
        })
        .collect()
}

/// What lies deepest comes first: a run on its way that is late by three failures is late by them.
fn cause(plan: &mut Plan<'_>, state: &State, ix: JobIx, now: Timestamp) -> Cause {
    let job = &state.jobs[ix.at()];
    if job.history.failures > 0 {
        return Cause::Failing {
            runs: job.history.failures,
        };
    }
    let schedule = &state.policies[job.policy.at()].terms.schedule;
    if matches!(job.rhythm(schedule), Rhythm::BackedOff(_)) {
        return Cause::Suffering;
    }
    if let Some(running) = state.running.get(&ix) {
        return Cause::Running {
            since: running.since,
        };
    }
    match plan.place(ix) {
        Err(blocked) => Cause::Missing(blocked),
        Ok(_) if waits_secs(state, ix, now) > NOBODY_SECS => Cause::NothingRan,
        Ok(_) => Cause::Starting,
    }
}

/// For how long a job has been due, as far as its schedule let it start.
fn waits_secs(state: &State, ix: JobIx, now: Timestamp) -> i64 {
    let job = &state.jobs[ix.at()];
    let schedule = &state.policies[job.policy.at()].terms.schedule;
    if schedule.blackout_until(now).is_some() {
        return 0;
    }
    secs_between(job.plan.due, now)
}

#[cfg(test)]
mod tests;
