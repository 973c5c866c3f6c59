//! Walking a tree that may have holes where nodes are lost.

use stillwater_format::node::{Branch, DiskRoot, Entries, Leaf, NODE_LEVEL_MAX, Node};
use stillwater_types::{ChunkId, Extent, TreeId};

/// A piece of a disk, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Zeros.
    Hole(Extent),
    /// A chunk.
    Chunk {
        offset: u64,
        length: u32,
        id: ChunkId,
    },
    /// A node is lost, and with it all that it told of.
    Lost(Extent),
}

/// What is still to be walked; the next is the last.
pub(crate) struct Walk {
    rest: Vec<Step>,
}

enum Step {
    Down {
        offset: u64,
        level: u8,
        branch: Branch,
    },
    Leaf {
        offset: u64,
        leaf: Leaf,
    },
}

impl Walk {
    pub(crate) fn new(root: &DiskRoot) -> Self {
        let branch = Branch {
            span: root.length,
            id: root.top,
        };
        let (offset, level) = (0, root.level.min(NODE_LEVEL_MAX));
        Self {
            rest: vec![Step::Down {
                offset,
                level,
                branch,
            }],
        }
    }

    /// The next piece. Every node must have the level and span that its parent says, so no tree can make
    /// this loop or go beyond the disk.
    pub(crate) fn next(&mut self, mut fetch: impl FnMut(TreeId) -> Option<Node>) -> Option<Piece> {
        loop {
            let (offset, level, branch) = match self.rest.pop()? {
                Step::Leaf {
                    offset,
                    leaf: Leaf::Hole { length },
                } => {
                    return Some(Piece::Hole(Extent::new(offset, length)));
                }
                Step::Leaf {
                    offset,
                    leaf: Leaf::Chunk { length, id },
                } => {
                    return Some(Piece::Chunk { offset, length, id });
                }
                Step::Down {
                    offset,
                    level,
                    branch,
                } => (offset, level, branch),
            };
            let node =
                fetch(branch.id).filter(|node| node.level() == level && node.span() == branch.span);
            match node {
                Some(node) => self.push(offset, level, node),
                None => return Some(Piece::Lost(Extent::new(offset, branch.span))),
            }
        }
    }

    fn push(&mut self, start: u64, level: u8, node: Node) {
        let from = self.rest.len();
        let mut offset = start;
        match node.into_entries() {
            Entries::Leaves(leaves) => self.rest.extend(leaves.into_iter().map(|leaf| {
                let step = Step::Leaf { offset, leaf };
                offset = offset.saturating_add(leaf.span());
                step
            })),
            Entries::Branches(branches) => {
                self.rest.extend(branches.into_iter().map(|branch| {
                    let level = level.saturating_sub(1);
                    let step = Step::Down {
                        offset,
                        level,
                        branch,
                    };
                    offset = offset.saturating_add(branch.span);
                    step
                }));
            }
        }
        if let Some(pushed) = self.rest.get_mut(from..) {
            pushed.reverse();
        }
    }
}

/// Adds an extent behind the others, joined to the last one if they touch.
pub(crate) fn add(extents: &mut Vec<Extent>, next: Extent) {
    match extents.last_mut() {
        Some(last) if last.end() == next.start => last.length += next.length,
        _ if next.length == 0 => {}
        _ => extents.push(next),
    }
}
