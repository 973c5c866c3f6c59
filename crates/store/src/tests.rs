//! The engine's promises, each tried by breaking something.

mod catalogue;
mod damage;
mod faults;
mod memfs;
mod model;
mod rig;
mod sessions;
