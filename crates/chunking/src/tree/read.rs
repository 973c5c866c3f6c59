//! Reading a tree's leaves in order.

use stillwater_format::node::{DiskRoot, Leaf};
use stillwater_types::{Extent, TreeId};

use super::TreeError;
use super::walk::{Entry, Walk};

/// What a reader does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It needs these nodes: give each to [`TreeReader::supply`], then ask again.
    Nodes(Vec<TreeId>),
    /// The next leaf that touches the range, whole.
    Leaf {
        /// Where on the disk it begins.
        offset: u64,
        /// The leaf.
        leaf: Leaf,
    },
    /// The range is read.
    Done,
}

/// Walks a tree without doing any I/O itself: it says which nodes it needs.
///
/// Trusts nothing but the root: every node must have the id, level and span that its parent says.
/// Levels sink with every step down, so no tree can make it loop, and it holds no more than the
/// path to the current leaf and a few nodes ahead.
pub struct TreeReader {
    range: Extent,
    walk: Walk,
}

impl TreeReader {
    /// Reads the leaves that touch `range` of the disk.
    pub fn new(root: &DiskRoot, range: Extent) -> Result<Self, TreeError> {
        let walk = Walk::new(root)?;
        if range.end() > root.length {
            return Err(TreeError::BeyondEnd {
                end: range.end(),
                length: root.length,
            });
        }
        Ok(Self { range, walk })
    }

    /// Reads every leaf, and with them checks that the tree covers the whole disk.
    pub fn whole(root: &DiskRoot) -> Result<Self, TreeError> {
        Self::new(root, Extent::new(0, root.length))
    }

    /// Takes the bytes of a node that a [`Step::Nodes`] asked for; tells which it was.
    pub fn supply(&mut self, bytes: &[u8]) -> Result<TreeId, TreeError> {
        self.walk.supply(bytes)
    }

    /// Goes on to the next leaf, or says which nodes that takes.
    pub fn step(&mut self) -> Result<Step, TreeError> {
        let range = self.range;
        while let Some(placed) = self.walk.at_hand() {
            // The top is proved even when there is nothing to read below it.
            let top = self.walk.is_at_top();
            if placed.offset >= range.end() && !top {
                break;
            }
            if placed.end() <= range.start && !top {
                self.walk.pass();
                continue;
            }
            match placed.entry {
                Entry::Leaf(leaf) => {
                    self.walk.pass();
                    let offset = placed.offset;
                    return Ok(Step::Leaf { offset, leaf });
                }
                Entry::Node { .. } => {
                    let soon = self.walk.open(|next| next.offset < range.end())?;
                    if let Some(ids) = soon {
                        return Ok(Step::Nodes(ids));
                    }
                }
            }
        }
        Ok(Step::Done)
    }
}
