//! The Merkle tree of a disk: built from leaves, read back as leaves.

mod build;
mod read;
#[cfg(test)]
mod tests;
mod walk;

use stillwater_format::node::NodeError;
use stillwater_types::TreeId;

pub use build::{FinishedNode, Top, TreeBuilder};
pub use read::{Step, TreeReader};
pub(crate) use walk::{Entry, Placed, Walk, decode};

/// A tree that cannot be built or must not be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A leaf or node that the format cannot hold.
    #[error("build a tree node")]
    Build(#[source] NodeError),
    /// Bytes came for a node that was not asked for, or that have another id.
    #[error("read a tree: {id} was not asked for")]
    Unasked {
        /// The id of the bytes.
        id: TreeId,
    },
    /// The node's bytes are no node.
    #[error("read tree node {id}")]
    Node {
        /// The node.
        id: TreeId,
        /// What is wrong with it.
        #[source]
        source: NodeError,
    },
    /// The node is sound but does not fit where its parent has it.
    #[error("read tree node {id}: its level or span is not what its parent says")]
    Misplaced {
        /// The node.
        id: TreeId,
    },
    /// The root breaks a bound of the format.
    #[error("read a tree: its root is not valid")]
    Root,
    /// The range to read goes beyond the disk.
    #[error("read a tree: the range ends at {end} on a disk of {length} bytes")]
    BeyondEnd {
        /// End of the range.
        end: u64,
        /// Size of the disk.
        length: u64,
    },
}
