//! Transfers: one disk moved once. Knows traits of disks and repositories, no wire and no vSphere.

mod backup;
mod cut;
#[cfg(test)]
pub(crate) mod fake;
mod fetch;
mod find;
mod increment;
mod limits;
mod nodes;
mod open;
mod pack;
mod part;
mod progress;
mod read;
mod restore;
mod rewrite;
mod seal;
mod store;
mod verify;
mod weave;

pub use backup::{Backup, Reading, Saved};
pub use fetch::{Sink, Stored};
pub use increment::Probe;
pub use limits::Limits;
pub use open::ChunkOpeners;
pub use part::PartReader;
pub use progress::Progress;
pub use read::Source;
pub use restore::{Target, restore};
pub use rewrite::{Content, Known, rewrite};
pub use seal::{Compress, NewCompress, zstd};
pub use store::{PackStream, RecordStore, Repository};
