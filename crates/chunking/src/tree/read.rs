//! Reading a tree's leaves in order.

use std::collections::{HashMap, HashSet};

use stillwater_format::node::{Branch, DiskRoot, Entries, Leaf, Node, tree_id};
use stillwater_types::{Extent, TreeId};

use super::TreeError;

/// Nodes that are asked for at once; with the path down to them, all that a reader ever holds.
const LOOK_AHEAD: usize = 16;

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
    top: Option<Wanted>,
    frames: Vec<Frame>,
    asked: HashSet<TreeId>,
    ready: HashMap<TreeId, Node>,
}

#[derive(Clone, Copy)]
struct Wanted {
    branch: Branch,
    level: u8,
    offset: u64,
}

/// A node on the path, with what is left of its entries.
struct Frame {
    level: u8,
    offset: u64,
    rest: Rest,
}

enum Rest {
    Leaves(std::vec::IntoIter<Leaf>),
    Branches(std::vec::IntoIter<Branch>),
}

/// What the frame at hand gives.
enum Found {
    Leaf { offset: u64, leaf: Leaf },
    Down(Wanted),
    Missing,
    End,
}

impl TreeReader {
    /// Reads the leaves that touch `range` of the disk.
    pub fn new(root: &DiskRoot, range: Extent) -> Result<Self, TreeError> {
        if !root.is_valid() {
            return Err(TreeError::Root);
        }
        if range.end() > root.length {
            return Err(TreeError::BeyondEnd {
                end: range.end(),
                length: root.length,
            });
        }
        let branch = Branch {
            span: root.length,
            id: root.top,
        };
        Ok(Self {
            range,
            top: Some(Wanted {
                branch,
                level: root.level,
                offset: 0,
            }),
            frames: Vec::new(),
            asked: HashSet::new(),
            ready: HashMap::new(),
        })
    }

    /// Reads every leaf, and with them checks that the tree covers the whole disk.
    pub fn whole(root: &DiskRoot) -> Result<Self, TreeError> {
        Self::new(root, Extent::new(0, root.length))
    }

    /// Takes the bytes of a node that a [`Step::Nodes`] asked for; tells which it was.
    pub fn supply(&mut self, bytes: &[u8]) -> Result<TreeId, TreeError> {
        let id = tree_id(bytes);
        if !self.asked.remove(&id) {
            return Err(TreeError::Unasked { id });
        }
        let node = Node::decode(bytes).map_err(|source| TreeError::Node { id, source })?;
        self.ready.insert(id, node);
        Ok(id)
    }

    /// Goes on to the next leaf, or says which nodes that takes.
    pub fn step(&mut self) -> Result<Step, TreeError> {
        if let Some(top) = self.top {
            if !self.ready.contains_key(&top.branch.id) {
                return Ok(self.ask(vec![top.branch.id]));
            }
            self.top = None;
            self.descend(top)?;
        }
        while let Some(frame) = self.frames.last_mut() {
            match frame.advance(self.range, &self.ready) {
                Found::Leaf { offset, leaf } => return Ok(Step::Leaf { offset, leaf }),
                Found::Down(wanted) => self.descend(wanted)?,
                Found::Missing => {
                    let ids = frame.look_ahead(self.range, &self.ready);
                    return Ok(self.ask(ids));
                }
                Found::End => {
                    self.frames.pop();
                }
            }
        }
        Ok(Step::Done)
    }

    fn ask(&mut self, ids: Vec<TreeId>) -> Step {
        self.asked.extend(&ids);
        Step::Nodes(ids)
    }

    fn descend(&mut self, wanted: Wanted) -> Result<(), TreeError> {
        let id = wanted.branch.id;
        let misplaced = TreeError::Misplaced { id };
        // The same node may come again soon, as disks repeat themselves.
        let again = self.frames.last().is_some_and(|frame| frame.comes_soon(id));
        let node = if again {
            self.ready.get(&id).cloned()
        } else {
            self.ready.remove(&id)
        };
        let node = node.ok_or_else(|| misplaced.clone())?;
        if node.level() != wanted.level || node.span() != wanted.branch.span {
            return Err(misplaced);
        }
        let rest = match node.into_entries() {
            Entries::Leaves(leaves) => Rest::Leaves(leaves.into_iter()),
            Entries::Branches(branches) => Rest::Branches(branches.into_iter()),
        };
        self.frames.push(Frame {
            level: wanted.level,
            offset: wanted.offset,
            rest,
        });
        Ok(())
    }
}

impl Frame {
    /// Skips what lies before the range, stops after it.
    fn advance(&mut self, range: Extent, ready: &HashMap<TreeId, Node>) -> Found {
        loop {
            let offset = self.offset;
            if offset >= range.end() {
                return Found::End;
            }
            let (span, found) = match &mut self.rest {
                Rest::Leaves(leaves) => match leaves.next() {
                    Some(leaf) => (leaf.span(), Found::Leaf { offset, leaf }),
                    None => return Found::End,
                },
                Rest::Branches(branches) => match branches.as_slice().first().copied() {
                    Some(branch) => {
                        let outside = offset.saturating_add(branch.span) <= range.start;
                        if !outside && !ready.contains_key(&branch.id) {
                            return Found::Missing;
                        }
                        branches.next();
                        let level = self.level.saturating_sub(1);
                        (
                            branch.span,
                            Found::Down(Wanted {
                                branch,
                                level,
                                offset,
                            }),
                        )
                    }
                    None => return Found::End,
                },
            };
            self.offset = offset.saturating_add(span);
            if self.offset > range.start {
                return found;
            }
        }
    }

    fn coming(&self) -> impl Iterator<Item = &Branch> {
        match &self.rest {
            Rest::Leaves(_) => [].iter(),
            Rest::Branches(branches) => branches.as_slice().iter(),
        }
        .take(LOOK_AHEAD)
    }

    fn comes_soon(&self, id: TreeId) -> bool {
        self.coming().any(|branch| branch.id == id)
    }

    /// The next nodes that are not there yet, each once.
    fn look_ahead(&self, range: Extent, ready: &HashMap<TreeId, Node>) -> Vec<TreeId> {
        let mut ids = Vec::with_capacity(LOOK_AHEAD);
        let mut offset = self.offset;
        for branch in self.coming() {
            if offset >= range.end() {
                break;
            }
            if !ready.contains_key(&branch.id) && !ids.contains(&branch.id) {
                ids.push(branch.id);
            }
            offset = offset.saturating_add(branch.span);
        }
        ids
    }
}
