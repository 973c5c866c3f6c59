//! What is to be protected and how well: policies, their scope, times and retention.
//!
//! Everything here is a pure function of what is passed in: no I/O, no clock, and time zones come
//! with the program. It takes no snapshot and deletes nothing: the scheduler decides when a run
//! starts, and the repository alone decides what is deleted.

mod consistency;
mod diff;
mod glob;
mod policy;
pub mod retention;
mod schedule;
mod scope;
mod unit;
mod way;

pub use consistency::{Consistency, Level, Rung};
pub use diff::{Change, Effect, Key, Moves, diff, moves};
pub use policy::{Error, KeyFault, Limits, Policy, Store};
pub use retention::Retention;
pub use schedule::{Blackout, Cron, Day, Misfire, Moments, Schedule, When, Zone};
pub use scope::{Clause, DiskClause, DiskFacts, DiskVerdict, Scope, Tag, Verdict, VmFacts};
pub use unit::{Rate, Span};
pub use way::{NoWay, Way};
