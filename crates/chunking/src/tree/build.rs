//! Building the tree while the disk goes by.

use stillwater_format::node::{
    Branch, Leaf, NODE_ENTRIES_MAX, Node, NodeError, put_branch, put_leaf, tree_id,
};
use stillwater_types::TreeId;
use xxhash_rust::xxh3::xxh3_64;

use super::TreeError;

/// No node but the last of its level has fewer entries.
pub(super) const NODE_ENTRIES_MIN: usize = 64;
/// From there on each entry ends its node with this chance, so that a node has 256 on average.
const END_CHANCES: u64 = 192;

/// A node that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedNode {
    /// Names it.
    pub id: TreeId,
    /// Its level.
    pub level: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The top of a finished tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top {
    /// Names the top node.
    pub id: TreeId,
    /// Its level.
    pub level: u8,
    /// Bytes of the disk.
    pub span: u64,
}

/// Turns leaves into nodes, and hands each node out as soon as it is complete.
///
/// Where a node ends is decided by the entry that ends it, so trees of like disks have like nodes.
/// Holds one unfinished node of each level.
#[derive(Default)]
pub struct TreeBuilder {
    hole: u64,
    leaves: Pending<Leaf>,
    /// The unfinished nodes of levels 1 and up.
    branches: Vec<Pending<Branch>>,
}

struct Pending<T> {
    entries: Vec<T>,
    finished: u64,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            finished: 0,
        }
    }
}

impl<T> Pending<T> {
    /// Adds an entry; says whether the node ends with it.
    fn push(&mut self, entry: T, bytes: &[u8]) -> bool {
        self.entries.push(entry);
        let count = self.entries.len();
        count >= NODE_ENTRIES_MAX
            || (count >= NODE_ENTRIES_MIN && xxh3_64(bytes) <= u64::MAX / END_CHANCES)
    }

    fn take(&mut self) -> Vec<T> {
        self.finished += 1;
        std::mem::take(&mut self.entries)
    }
}

impl TreeBuilder {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next leaf of the disk; `done` gets every node that is complete with it. Holes side
    /// by side become one.
    pub fn push(
        &mut self,
        leaf: Leaf,
        done: &mut impl FnMut(FinishedNode),
    ) -> Result<(), TreeError> {
        match leaf {
            Leaf::Hole { length } => {
                self.hole = self.hole.checked_add(length).ok_or(overflow())?;
                Ok(())
            }
            Leaf::Chunk { .. } => {
                self.end_hole(done)?;
                self.push_leaf(leaf, done)
            }
        }
    }

    /// Whether a whole node of `level` can be added with [`TreeBuilder::push_node`]: nothing is
    /// unfinished up to that level.
    pub fn takes_node(&self, level: u8) -> bool {
        let mut below = self.branches.iter().take(usize::from(level));
        self.hole == 0 && self.leaves.entries.is_empty() && below.all(|p| p.entries.is_empty())
    }

    /// Adds a finished node of `level` in place of all leaves below it. Where
    /// [`TreeBuilder::takes_node`] says no this is refused, as the tree would not be the one that
    /// its leaves give.
    ///
    /// The node must be one that a builder made from leaves, and the last of its level there only if
    /// nothing follows it here either. Its first leaf must not be a hole behind a hole.
    pub fn push_node(
        &mut self,
        level: u8,
        branch: Branch,
        done: &mut impl FnMut(FinishedNode),
    ) -> Result<(), TreeError> {
        let above = usize::from(level);
        if !self.takes_node(level) {
            return Err(TreeError::Build(NodeError::Level { level }));
        }
        // The leaves below it would have finished a node of each level up to its own.
        self.leaves.finished += 1;
        while self.branches.len() < above {
            self.branches.push(Pending::default());
        }
        let below = self.branches.iter_mut().take(above);
        below.for_each(|pending| pending.finished += 1);
        self.push_branch(above, branch, done)
    }

    /// Ends the disk: `done` gets the remaining nodes, the last of which is the top.
    pub fn finish(mut self, done: &mut impl FnMut(FinishedNode)) -> Result<Top, TreeError> {
        self.end_hole(done)?;
        if self.leaves.finished == 0 {
            let node = Node::leaves(self.leaves.take()).map_err(TreeError::Build)?;
            return Ok(hand_out(&node, done).0);
        }
        if !self.leaves.entries.is_empty() {
            self.end_leaves(done)?;
        }
        let mut at = 0;
        while let Some(pending) = self.branches.get_mut(at) {
            // One node below, and it is the only one of its level: that one is the top.
            if let ([only], 0) = (pending.entries.as_slice(), pending.finished) {
                return Ok(Top {
                    id: only.id,
                    level: level(at)? - 1,
                    span: only.span,
                });
            }
            if pending.finished == 0 {
                let node = Node::branches(level(at)?, pending.take()).map_err(TreeError::Build)?;
                return Ok(hand_out(&node, done).0);
            }
            if !pending.entries.is_empty() {
                self.end_branches(at, done)?;
            }
            at += 1;
        }
        // Every finished node left a branch one level up, so the loop ends with a top.
        Err(overflow())
    }

    fn end_hole(&mut self, done: &mut impl FnMut(FinishedNode)) -> Result<(), TreeError> {
        match std::mem::take(&mut self.hole) {
            0 => Ok(()),
            length => self.push_leaf(Leaf::Hole { length }, done),
        }
    }

    fn push_leaf(
        &mut self,
        leaf: Leaf,
        done: &mut impl FnMut(FinishedNode),
    ) -> Result<(), TreeError> {
        let mut bytes = Vec::with_capacity(40);
        put_leaf(&mut bytes, &leaf);
        if self.leaves.push(leaf, &bytes) {
            self.end_leaves(done)
        } else {
            Ok(())
        }
    }

    fn end_leaves(&mut self, done: &mut impl FnMut(FinishedNode)) -> Result<(), TreeError> {
        let node = Node::leaves(self.leaves.take()).map_err(TreeError::Build)?;
        let (_, branch) = hand_out(&node, done);
        self.push_branch(0, branch, done)
    }

    /// Adds a branch at `branches[at]`, and ends as many nodes upwards as end with it.
    fn push_branch(
        &mut self,
        mut at: usize,
        mut branch: Branch,
        done: &mut impl FnMut(FinishedNode),
    ) -> Result<(), TreeError> {
        loop {
            if self.branches.len() <= at {
                self.branches.push(Pending::default());
            }
            let Some(pending) = self.branches.get_mut(at) else {
                return Err(overflow());
            };
            let mut bytes = Vec::with_capacity(40);
            put_branch(&mut bytes, &branch);
            if !pending.push(branch, &bytes) {
                return Ok(());
            }
            let node = Node::branches(level(at)?, pending.take()).map_err(TreeError::Build)?;
            branch = hand_out(&node, done).1;
            at += 1;
        }
    }

    fn end_branches(
        &mut self,
        at: usize,
        done: &mut impl FnMut(FinishedNode),
    ) -> Result<(), TreeError> {
        let Some(pending) = self.branches.get_mut(at) else {
            return Err(overflow());
        };
        let node = Node::branches(level(at)?, pending.take()).map_err(TreeError::Build)?;
        let (_, branch) = hand_out(&node, done);
        self.push_branch(at + 1, branch, done)
    }
}

/// The level of the nodes in `branches[at]`.
fn level(at: usize) -> Result<u8, TreeError> {
    u8::try_from(at + 1).map_err(|_| overflow())
}

fn overflow() -> TreeError {
    TreeError::Build(NodeError::Span)
}

fn hand_out(node: &Node, done: &mut impl FnMut(FinishedNode)) -> (Top, Branch) {
    let bytes = node.encode();
    let (id, level, span) = (tree_id(&bytes), node.level(), node.span());
    done(FinishedNode { id, level, bytes });
    (Top { id, level, span }, Branch { span, id })
}
