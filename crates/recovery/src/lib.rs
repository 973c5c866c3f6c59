//! Reads a repository's directory with nothing but the recovery key: no controller, no index, no
//! catalogue, no lock, and not one write.
//!
//! It is for the day when everything else is gone, so it takes whichever copy of a thing is good, finds
//! records by itself, and gives out no byte that the dataset's key does not prove. What it cannot find it
//! names; it never guesses and never repairs.

mod directory;
mod error;
mod history;
mod image;
mod ledger;
mod notes;
mod output;
mod packs;
mod records;
mod recovery;
mod salvage;
mod section;
mod tree;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use image::ImageFormat;
pub use ledger::Point;
pub use notes::Notes;
pub use output::Draft;
pub use recovery::{Listener, Progress, Recovery, Restored};
pub use section::{Fact, Section};
pub use stillwater_format::Time;
pub use stillwater_format::manifest::{Consistency, Disk, Manifest};
pub use stillwater_seal::RecoveryKey;
