//! Throws bytes that nobody wrote at everything that reads bytes from disks, networks and guests.
//!
//! A target takes any bytes and panics when something is wrong: a decoder that panics, that gives what does
//! not encode to the same bytes, or that takes more than its bound. Inputs are seeds that were changed at
//! random; since almost every structure is closed by a checksum, a target may mend the checksums of what
//! was changed, so that the fields behind them are reached.
//!
//! Everything follows from one number: a failing run is repeated by its seed and case.

mod campaign;
mod mutate;
mod random;
mod seeds;
mod targets;

pub use campaign::{Budget, Failure, cap_memory, run};
pub use targets::{TARGETS, Target};
