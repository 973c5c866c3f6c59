//! Every file that the kernel (or the tool that a file system comes with) shows, held against what is read
//! here: names, content, modes, owners, times, links, attributes.
//!
//! Images are made and filled when a test runs. Mounting them takes root and loop devices; without these the
//! tests say aloud that they were skipped.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its setting too")]

mod btrfs;
mod damage;
mod ext4;
mod fat;
mod lab;
mod ntfs;
mod tree;
mod volumes;
mod xfs;
