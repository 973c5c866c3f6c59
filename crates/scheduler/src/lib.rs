//! Which run starts now, on what, and whether every VM's promise is kept.
//!
//! A decision is a pure function of the [`State`] and the present: no I/O, no clock, no randomness,
//! and the order in which facts were told plays no part beyond the numbers that things were given. The state only
//! remembers what it was told; what is derived from it (who is due next) is kept up to date rather
//! than searched for, so that a decision costs what is due and not what exists.
//!
//! Nothing is started here: an [`Action::Start`] names every resource that the run needs, all of them free, and
//! whoever carries it out says so by [`State::started`].

mod decide;
#[cfg(test)]
mod fixture;
mod job;
mod judge;
mod place;
mod resource;
mod sketch;
mod state;

pub use decide::{Action, Decision, decide, next_wake};
pub use job::{DiskLoad, History, Job, Outcome, Rhythm, VmLoad};
pub use judge::{Breach, Cause, judge};
pub use place::{Blocked, Lane, Start};
pub use resource::{
    DatastoreFacts, DatastoreIx, HostFacts, HostIx, JobIx, PolicyIx, ProxyFacts, ProxyIx,
    RepositoryFacts, RepositoryIx, Standing, Transport, VmIx,
};
pub use sketch::Sketch;
pub use state::{PolicyTerms, State};

use jiff::{SignedDuration, Timestamp};

/// Moments beyond what a timestamp holds are as good as its last one.
pub(crate) fn plus(at: Timestamp, secs: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(secs))
        .unwrap_or(if secs < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
}

/// Whole seconds from one moment to a later one.
pub(crate) fn secs_between(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs()
}
