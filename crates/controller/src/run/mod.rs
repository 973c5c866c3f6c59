//! Runs: attempts to protect a VM or to restore one.
//!
//! [`step()`] decides, the engine journals what happened and performs what was decided, against the
//! three traits of `outside`. The engine keeps nothing that matters in memory only: whatever must be
//! given back to the world is in the journal before it is taken.

mod act;
mod alarming;
mod bases;
mod budget;
mod cause;
mod effect;
mod engine;
mod event;
mod guard;
mod ladder;
mod lease;
mod marker;
mod outside;
mod peers;
mod probe;
mod reading;
mod reaper;
mod runner;
mod runs;
mod scratch;
mod service;
mod slots;
mod state;
mod step;
mod strays;
mod timing;
mod transport;
mod turnstile;
mod vcenters;
mod view;

pub use act::World;
pub use bases::Bases;
pub use budget::Limits as HostLimits;
pub use cause::Cause;
pub use effect::Effect;
pub use engine::{Engine, Kept};
pub use event::{
    Attachment, BackupWork, CommittedPoint, Counts, Damage, DiskReading, ExportWork, Findings,
    Hold, Identity, InPlaceWork, Outcome, Placement, PlannedDisk, Provisioning, RestoreOptions,
    RestoreWork, Root, RunEvent, Target, VerifyWork, Work,
};
pub use guard::{Guards, Judgement};
pub use ladder::{Level, Rung};
pub use lease::{Lease, NoLease};
pub use marker::Marker;
pub use outside::{
    Around, Changes, Circumstances, DressOrder, FreezeEvidence, LeasedSnapshot, MadeDisk,
    MadeSnapshot, MadeVm, Placed, Proxies, Refusal, Removal, Repositories, VmOrder, Vsphere,
};
pub(crate) use peers::Peers;
pub use reading::{Trust, Why};
pub use runs::Runs;
pub use service::Service;
pub use state::{
    ATTEMPTS_MAX, Assignment, Disk, HeldExport, HeldSnapshot, Moved, NewVm, Run, Stage,
};
pub use step::step;
pub use timing::Timing;
pub use vcenters::Patience;

#[cfg(test)]
mod tests;
