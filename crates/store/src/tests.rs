//! The engine's promises, each tried by breaking something.

mod attack;
mod catalogue;
mod collection;
mod damage;
mod faults;
mod guarded;
pub(crate) mod memfs;
mod model;
mod retention;
pub(crate) mod rig;
mod scrub;
mod sessions;
