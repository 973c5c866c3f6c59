//! Cut, identify and compress disk content, and build and read its Merkle tree.
//!
//! Everything here is a pure function of bytes: no I/O, no clock, no randomness, so that the same
//! content under the same key and cutter always gives the same tree, however it was read. It holds
//! no cipher: sealing is the business of the `seal` crate. The rules stand in `docs/format.md`,
//! "Cut", "Identify and seal" and "Tree nodes".

mod areas;
mod codec;
mod cutter;
mod diff;
mod disk;
#[cfg(test)]
mod fixture;
mod rollback;
mod sample;
mod splice;
mod tree;
mod zero;

pub use codec::{CodecError, Compressed, Compressor, Decompressor};
pub use cutter::{Cutter, CutterParams, InvalidCutter};
pub use diff::{DiffStep, TreeDiff};
pub use disk::{CutError, DiskCutter, Item, areas_to_read, identify};
pub use rollback::{Rollback, RollbackStep, differing};
pub use sample::{Expected, Sample, SampleCheck, SampleStep, Spot};
pub use splice::{Compare, PlanStep, Replaced, Splice, SpliceError, SplicePlan, SpliceStep};
pub use stillwater_format::pack::Codec;
pub use tree::{FinishedNode, Step, Top, TreeBuilder, TreeError, TreeReader};
pub use zero::is_zero;

/// Disks are cut and searched for zeros in blocks of this size: no guest writes smaller ones.
pub const BLOCK_LEN: usize = 4096;

/// A run of zero blocks of at least this length is a hole; a shorter one is not worth a leaf.
pub const HOLE_LEN_MIN: u64 = 16 * 1024;
