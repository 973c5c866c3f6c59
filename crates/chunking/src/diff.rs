//! Where two trees differ.

use stillwater_format::node::{DiskRoot, Leaf, tree_id};
use stillwater_types::{Extent, TreeId};

use crate::TreeError;
use crate::tree::{Entry, Placed, Walk, decode};

/// What a difference does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffStep {
    /// It needs these nodes, of either tree: give each to [`TreeDiff::supply`], then ask again.
    Nodes(Vec<TreeId>),
    /// Content that may differ: ascending and apart.
    Differs(Extent),
    /// There is no more.
    Done,
}

/// Compares two trees, of which it opens only nodes that the other one does not have in the same
/// place.
///
/// Outside of what it tells both disks have the same bytes. What it tells differs but for chance: a
/// chunk that begins elsewhere may hold the same bytes, and chunks are told whole. What one disk is
/// longer by is told unread.
pub struct TreeDiff {
    one: Walk,
    other: Walk,
    /// Length of the shorter disk, and of the longer one.
    lengths: (u64, u64),
    at: u64,
    differs: Option<Extent>,
}

impl TreeDiff {
    /// Compares two disks.
    pub fn new(one: &DiskRoot, other: &DiskRoot) -> Result<Self, TreeError> {
        let (a, b) = (one.length, other.length);
        Ok(Self {
            one: Walk::new(one)?,
            other: Walk::new(other)?,
            lengths: (a.min(b), a.max(b)),
            at: 0,
            differs: None,
        })
    }

    /// Takes the bytes of a node that a [`DiffStep::Nodes`] asked for; tells which it was.
    pub fn supply(&mut self, bytes: &[u8]) -> Result<TreeId, TreeError> {
        let id = tree_id(bytes);
        let (one, other) = (self.one.waits_for(id), self.other.waits_for(id));
        if !(one || other) {
            return Err(TreeError::Unasked { id });
        }
        let node = decode(id, bytes)?;
        if one {
            self.one.give(id, node.clone());
        }
        if other {
            self.other.give(id, node);
        }
        Ok(id)
    }

    /// Goes on to the next difference, or says which nodes that takes.
    pub fn step(&mut self) -> Result<DiffStep, TreeError> {
        while self.at < self.lengths.0 {
            let (Some(one), Some(other)) = (self.one.at_hand(), self.other.at_hand()) else {
                // Both trees reach at least this far.
                return Err(TreeError::Root);
            };
            let told = match (one.entry, other.entry) {
                _ if one == other => {
                    self.advance(one.end());
                    None
                }
                (Entry::Leaf(a), Entry::Leaf(b)) => {
                    let end = one.end().min(other.end());
                    let extent = Extent::new(self.at, end.saturating_sub(self.at));
                    self.advance(end);
                    match (a, b) {
                        (Leaf::Hole { .. }, Leaf::Hole { .. }) => None,
                        _ => self.tell(extent),
                    }
                }
                _ => {
                    let ids = self.open(one, other)?;
                    if !ids.is_empty() {
                        return Ok(DiffStep::Nodes(ids));
                    }
                    None
                }
            };
            if let Some(extent) = told {
                return Ok(DiffStep::Differs(extent));
            }
        }
        let tail = Extent::new(self.at, self.lengths.1 - self.at);
        self.at = self.lengths.1;
        let told = if tail.length > 0 {
            self.tell(tail)
        } else {
            None
        };
        let told = told.or_else(|| self.differs.take());
        Ok(told.map_or(DiffStep::Done, DiffStep::Differs))
    }

    /// Opens the higher one of two entries that are not the same, or both.
    fn open(&mut self, one: Placed, other: Placed) -> Result<Vec<TreeId>, TreeError> {
        let (a, b) = (level(one), level(other));
        // Nodes that both have need not be opened when their turn comes.
        let ones: Vec<Placed> = self.one.coming().collect();
        let others: Vec<Placed> = self.other.coming().collect();
        let mut ids = Vec::new();
        if a >= b {
            let needed = self.one.open(|next| a == b && !others.contains(next))?;
            ids.extend(needed.unwrap_or_default());
        }
        if b >= a {
            let needed = self.other.open(|next| a == b && !ones.contains(next))?;
            let needed = needed.unwrap_or_default().into_iter();
            let new: Vec<TreeId> = needed.filter(|id| !ids.contains(id)).collect();
            ids.extend(new);
        }
        Ok(ids)
    }

    /// Everything before `at` is compared.
    fn advance(&mut self, at: u64) {
        self.at = at;
        for walk in [&mut self.one, &mut self.other] {
            while walk.at_hand().is_some_and(|placed| placed.end() <= at) {
                walk.pass();
            }
        }
    }

    /// Adds a difference to the run at hand; gives the run before, when it is over.
    fn tell(&mut self, extent: Extent) -> Option<Extent> {
        match &mut self.differs {
            Some(run) if run.end() == extent.start => {
                run.length = run.length.saturating_add(extent.length);
                None
            }
            _ => self.differs.replace(extent),
        }
    }
}

/// Levels of nodes, counted from above those of leaves.
fn level(placed: Placed) -> u8 {
    match placed.entry {
        Entry::Leaf(_) => 0,
        Entry::Node { level, .. } => level.saturating_add(1),
    }
}

#[cfg(test)]
mod tests;
