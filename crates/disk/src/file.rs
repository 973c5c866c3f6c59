//! Disks on a datastore that this machine has mounted itself, such as an NFS export.
//!
//! Only disks that are one flat file are read; of a chain of deltas only the hosts know the whole.
//! Nothing is ever written, and no path leads out of the directory that the administrator named.

mod beneath;
mod mounts;
mod reader;

pub use crate::folder::descriptor::{FlatExtent, flat_extent};
pub use mounts::Mounts;
pub use reader::FileReader;

#[cfg(test)]
mod tests;
