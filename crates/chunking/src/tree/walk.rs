//! A place in a tree that moves forward, entry by entry.

use std::collections::HashMap;

use stillwater_format::node::{Branch, DiskRoot, Entries, Leaf, Node, tree_id};
use stillwater_types::{Extent, TreeId};

use super::TreeError;

/// Nodes that are asked for at once.
const LOOK_AHEAD: usize = 16;

/// A place in a tree: whoever holds it passes over the entry at hand, or opens it.
///
/// Trusts nothing but the root: every node must have the id, level and span that its parent says.
/// Levels sink with every step down, so no tree can make it loop, and it holds no more than the
/// path to the place and, for each level, a few nodes ahead.
pub(crate) struct Walk {
    frames: Vec<Frame>,
    /// Nodes that were asked for, with the depth of the frame that waits for each.
    asked: HashMap<TreeId, usize>,
}

/// An entry of a node, where it lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub offset: u64,
    pub entry: Entry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Leaf(Leaf),
    /// A node of this level that is not open.
    Node {
        level: u8,
        branch: Branch,
    },
}

impl Placed {
    pub(crate) fn extent(&self) -> Extent {
        let span = match &self.entry {
            Entry::Leaf(leaf) => leaf.span(),
            Entry::Node { branch, .. } => branch.span,
        };
        Extent::new(self.offset, span)
    }

    pub(crate) fn end(&self) -> u64 {
        self.extent().end()
    }
}

/// A node on the path, with what is left of its entries.
struct Frame {
    level: u8,
    offset: u64,
    rest: Rest,
    /// Nodes below that came and are not open yet.
    ready: HashMap<TreeId, Node>,
}

enum Rest {
    Leaves(std::vec::IntoIter<Leaf>),
    Branches(std::vec::IntoIter<Branch>),
}

impl Walk {
    /// Stands before the top, which is the first entry.
    pub(crate) fn new(root: &DiskRoot) -> Result<Self, TreeError> {
        if !root.is_valid() {
            return Err(TreeError::Root);
        }
        let top = Branch {
            span: root.length,
            id: root.top,
        };
        let above = Frame {
            level: root.level.saturating_add(1),
            offset: 0,
            rest: Rest::Branches(vec![top].into_iter()),
            ready: HashMap::new(),
        };
        Ok(Self {
            frames: vec![above],
            asked: HashMap::new(),
        })
    }

    /// Takes the bytes of a node that [`Walk::open`] asked for; tells which it was.
    pub(crate) fn supply(&mut self, bytes: &[u8]) -> Result<TreeId, TreeError> {
        let id = tree_id(bytes);
        if !self.waits_for(id) {
            return Err(TreeError::Unasked { id });
        }
        self.give(id, decode(id, bytes)?);
        Ok(id)
    }

    pub(crate) fn waits_for(&self, id: TreeId) -> bool {
        self.asked.contains_key(&id)
    }

    /// Takes a node whose id was checked.
    pub(crate) fn give(&mut self, id: TreeId, node: Node) {
        let frame = self.asked.remove(&id);
        if let Some(frame) = frame.and_then(|depth| self.frames.get_mut(depth)) {
            frame.ready.insert(id, node);
        }
    }

    /// The entry at hand; none after the last.
    pub(crate) fn at_hand(&mut self) -> Option<Placed> {
        while let Some(frame) = self.frames.last() {
            if let Some(placed) = frame.at_hand() {
                return Some(placed);
            }
            self.frames.pop();
        }
        None
    }

    /// Whether nothing was opened or passed yet.
    pub(crate) fn is_at_top(&self) -> bool {
        self.frames.len() == 1
    }

    /// Goes on behind the entry at hand.
    pub(crate) fn pass(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.pass();
        }
    }

    /// Opens the node at hand, or says which nodes must come first: that one, and those of the next
    /// that `soon` says will be opened too.
    pub(crate) fn open(
        &mut self,
        soon: impl Fn(&Placed) -> bool,
    ) -> Result<Option<Vec<TreeId>>, TreeError> {
        let depth = self.frames.len().saturating_sub(1);
        let Some(frame) = self.frames.last_mut() else {
            return Ok(None);
        };
        let Some(Placed {
            offset,
            entry: Entry::Node { level, branch },
        }) = frame.at_hand()
        else {
            return Ok(None);
        };
        if !frame.ready.contains_key(&branch.id) {
            let ids = frame.look_ahead(soon);
            self.asked.extend(ids.iter().map(|id| (*id, depth)));
            return Ok(Some(ids));
        }
        let misplaced = TreeError::Misplaced { id: branch.id };
        let node = frame.take(branch.id).ok_or_else(|| misplaced.clone())?;
        frame.pass();
        if node.level() != level || node.span() != branch.span {
            return Err(misplaced);
        }
        self.frames.push(Frame {
            level,
            offset,
            rest: match node.into_entries() {
                Entries::Leaves(leaves) => Rest::Leaves(leaves.into_iter()),
                Entries::Branches(branches) => Rest::Branches(branches.into_iter()),
            },
            ready: HashMap::new(),
        });
        Ok(None)
    }

    /// The nodes from the one at hand on, as far as one looks ahead.
    pub(crate) fn coming(&self) -> impl Iterator<Item = Placed> + '_ {
        self.frames.last().into_iter().flat_map(Frame::coming)
    }
}

impl Frame {
    fn at_hand(&self) -> Option<Placed> {
        let entry = match &self.rest {
            Rest::Leaves(leaves) => Entry::Leaf(*leaves.as_slice().first()?),
            Rest::Branches(branches) => self.node(*branches.as_slice().first()?),
        };
        Some(Placed {
            offset: self.offset,
            entry,
        })
    }

    fn node(&self, branch: Branch) -> Entry {
        Entry::Node {
            level: self.level.saturating_sub(1),
            branch,
        }
    }

    fn pass(&mut self) {
        let Some(placed) = self.at_hand() else {
            return;
        };
        self.offset = placed.end();
        match &mut self.rest {
            Rest::Leaves(leaves) => {
                leaves.next();
            }
            Rest::Branches(branches) => {
                let passed = branches.next();
                if let Some(id) = passed.map(|branch| branch.id)
                    && !self.comes_soon(id)
                {
                    self.ready.remove(&id);
                }
            }
        }
    }

    /// Takes the node at hand. It may come again soon, as disks repeat themselves.
    fn take(&mut self, id: TreeId) -> Option<Node> {
        let again = self
            .coming()
            .skip(1)
            .any(|placed| matches!(placed.entry, Entry::Node { branch, .. } if branch.id == id));
        if again {
            self.ready.get(&id).cloned()
        } else {
            self.ready.remove(&id)
        }
    }

    fn comes_soon(&self, id: TreeId) -> bool {
        match &self.rest {
            Rest::Leaves(_) => false,
            Rest::Branches(branches) => {
                let mut coming = branches.as_slice().iter().take(LOOK_AHEAD);
                coming.any(|branch| branch.id == id)
            }
        }
    }

    fn coming(&self) -> impl Iterator<Item = Placed> + '_ {
        let branches = match &self.rest {
            Rest::Leaves(_) => &[],
            Rest::Branches(branches) => branches.as_slice(),
        };
        let mut offset = self.offset;
        branches.iter().take(LOOK_AHEAD).map(move |branch| {
            let placed = Placed {
                offset,
                entry: self.node(*branch),
            };
            offset = placed.end();
            placed
        })
    }

    /// The node at hand and those of the next that `soon` wants, each once, without those that
    /// are there.
    fn look_ahead(&self, soon: impl Fn(&Placed) -> bool) -> Vec<TreeId> {
        let mut ids = Vec::with_capacity(LOOK_AHEAD);
        for (at, placed) in self.coming().enumerate() {
            if let Entry::Node { branch, .. } = placed.entry
                && (at == 0 || soon(&placed))
                && !self.ready.contains_key(&branch.id)
                && !ids.contains(&branch.id)
            {
                ids.push(branch.id);
            }
        }
        ids
    }
}

/// Reads the bytes of the node with this id.
pub(crate) fn decode(id: TreeId, bytes: &[u8]) -> Result<Node, TreeError> {
    Node::decode(bytes).map_err(|source| TreeError::Node { id, source })
}
