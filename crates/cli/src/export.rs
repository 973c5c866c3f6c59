//! A disk of a restore point, written to a file on this machine.
//!
//! The file appears under its name when it is whole and on the disk, or not at all: it is written
//! beside it, synced, renamed, and the directory is synced.

mod file;
mod stream;
mod vmdk;

pub(crate) use file::Target;
pub(crate) use stream::receive;

#[cfg(test)]
mod tests;
