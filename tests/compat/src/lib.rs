//! Makes the golden repository of this format version, and tells what must be in it.
//!
//! The disks, ids and times come from a fixed seed; salts, signatures and the wrapped key are drawn anew
//! each time, so that two runs give like repositories of unlike bytes. What is checked in is never made
//! again once its version was released.

mod content;
mod expected;
mod ingest;
mod make;
mod time;

pub use expected::{Expected, ExpectedDisk, ExpectedPoint, RECOVERY_KEY};
pub use make::make;
pub use time::{Hands, Seeded};
