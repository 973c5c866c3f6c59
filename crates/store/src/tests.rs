//! The engine's promises, each tried by breaking something.

mod catalogue;
mod collection;
mod damage;
mod faults;
pub(crate) mod memfs;
mod model;
pub(crate) mod rig;
mod sessions;
