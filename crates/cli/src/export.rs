//! A disk of a restore point, written to a file on this machine.
//!
//! The file appears under its name when it is whole and on the disk, or not at all: it is written
//! beside it, synced, renamed, and the directory is synced.

mod blocks;
mod file;
mod pipe;
mod qcow2;
mod stream;
mod vmdk;
mod vmdk_stream;

pub(crate) use file::Target;
pub(crate) use pipe::Pipe;
pub(crate) use stream::{Place, receive};

#[cfg(test)]
mod tests;
