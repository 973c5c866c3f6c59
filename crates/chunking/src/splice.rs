//! A new tree out of an old one and the bytes that may differ from it.
//!
//! [`SplicePlan`] says what must be read; [`Splice`] takes those bytes in order, cuts them between
//! cut points of the old tree and shares everything else unread. [`Compare`] reads everything and
//! keeps each old chunk that still has its id, so that distrust costs reading and not storage.
//!
//! Both give the tree that [`crate::TreeBuilder`] makes of the same leaves: where its nodes end
//! depends on the leaves alone, not on what was shared. Nothing here does I/O: the steps say which
//! nodes and which bytes they need.

mod compare;
mod increment;
mod plan;
#[cfg(test)]
mod tests;
mod weave;

use bytes::Bytes;
use stillwater_format::node::Leaf;
use stillwater_types::{ChunkId, Extent, TreeId};

pub use compare::Compare;
pub use increment::Splice;
pub use plan::{PlanStep, SplicePlan};

use crate::{CutError, FinishedNode, Top, TreeError};

/// What a [`Splice`] or [`Compare`] does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpliceStep {
    /// It needs these nodes of the base: supply each, then ask again.
    Nodes(Vec<TreeId>),
    /// It needs the bytes that were read at `offset`: push them, then ask again.
    Data {
        /// Where the next piece begins.
        offset: u64,
    },
    /// Bytes that were read, as the tree has them now.
    Chunk {
        /// Where on the disk they begin.
        offset: u64,
        /// The plaintext.
        bytes: Bytes,
        /// Names it.
        id: ChunkId,
    },
    /// Zeros, read or known from the base.
    Hole {
        /// Where on the disk they begin.
        offset: u64,
        /// Count of zeros.
        length: u64,
    },
    /// Taken over from the base unread: chunks, and whole subtrees with the holes in them.
    Shared {
        /// Where on the disk it begins.
        offset: u64,
        /// Count of bytes.
        length: u64,
    },
    /// Content that differs from the base; only [`Compare`] tells it.
    Differs {
        /// Whole chunks of the base, or blocks in its holes; runs are merged.
        extent: Extent,
        /// Whether the map told of it. A map that tells of a part of a chunk tells of the chunk.
        told: bool,
    },
    /// A node that is complete: all below it came before. It may be one that the base has too.
    Node(FinishedNode),
    /// The tree is complete.
    Done(Top),
}

/// Leaves of the base that came to be told instead of shared.
///
/// A chunk that is told as [`SpliceStep::Chunk`] and a hole of which any part is told as
/// [`SpliceStep::Hole`] count here even if the new tree has the same one. So the counts of the whole
/// new disk are those of the base, less these, and those that were told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Chunks.
    pub chunk_count: u64,
    /// Bytes of holes.
    pub hole_bytes: u64,
}

impl Replaced {
    fn add(&mut self, leaf: &Leaf) {
        match leaf {
            Leaf::Hole { length } => self.hole_bytes = self.hole_bytes.saturating_add(*length),
            Leaf::Chunk { .. } => self.chunk_count = self.chunk_count.saturating_add(1),
        }
    }
}

/// A base that cannot be spliced into, or a caller's mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    /// A node of the base is not what it must be, or a node cannot be built.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Pieces came out of order.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// The disk became shorter: read it in full.
    #[error("splice a disk of {length} bytes into a base of {base}: read the disk in full")]
    Shrunk {
        /// Length of the base.
        base: u64,
        /// Length of the disk.
        length: u64,
    },
    /// The base was cut by other rules: compare the disk with it.
    #[error("splice into a base cut by {cutter}: compare the disk with it")]
    Cutter {
        /// The base's cutter.
        cutter: String,
    },
    /// A leaf of the base that would be shared does not lie on the block grid: compare the disk with
    /// it.
    #[error(
        "splice into a base with a leaf off the block grid at {offset}: compare the disk with it"
    )]
    OffGrid {
        /// Where.
        offset: u64,
    },
    /// The extents to read are not those of a plan for this base.
    #[error("splice a disk: the extents to read do not fit the base at {offset}")]
    Extents {
        /// Where.
        offset: u64,
    },
}

impl SpliceError {
    /// Whether a [`Compare`] with the same base can do it all the same.
    pub const fn asks_compare(&self) -> bool {
        matches!(self, Self::Cutter { .. } | Self::OffGrid { .. })
    }
}
