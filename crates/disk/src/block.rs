//! Reading and writing blocks of local files and devices.
//!
//! Calls of the kernel block, so they run on a bounded number of threads, past the page cache
//! where that is possible: a disk is read once, and would only push out what is of use.

mod blocks;
mod buffer;
mod file;
mod pool;
mod reader;
mod rewriter;
mod writer;

pub use pool::BlockPool;
pub use writer::Unwritten;

pub(crate) use blocks::LocalBlocks;
pub(crate) use buffer::{Buffer, Shelf};
pub(crate) use file::{Access, BlockFile, probe_direct};
pub(crate) use reader::BlockReader;
pub(crate) use rewriter::BlockRewriter;
pub(crate) use writer::{BlockWriter, Target};

#[cfg(test)]
mod tests;
