//! An increment: what was read again between what is shared.

use bytes::Bytes;
use stillwater_format::node::{CUTTER_BYTES_MAX, DiskRoot, Leaf};
use stillwater_types::{Extent, ExtentSet, TreeId};

use super::weave::Weave;
use super::{Replaced, SpliceError, SpliceStep};
use crate::areas::Areas;
use crate::tree::{Entry, Placed, Walk};
use crate::{CutError, Cutter, TreeError};

/// Splices what was read again into a base, of which it reads only nodes near those bytes.
///
/// A node is shared whole where nothing in or beside it was read and the new tree has a node
/// boundary too. Beside: the leaf next to bytes that were read must be known, as holes that meet
/// become one; and the last node of a level lies beside what a disk grew by, so it is opened when
/// something follows it.
///
/// Holds the path to the place at hand, a few nodes ahead, and what the last piece gave. How many
/// chunks and holes the shared nodes hold is not known: [`SpliceStep::Shared`] counts their bytes,
/// and [`Splice::replaced`] tells what the rest of the base held.
pub struct Splice {
    walk: Walk,
    weave: Weave,
    extents: Areas,
    length: u64,
    at: u64,
    replaced: Replaced,
    done: bool,
}

impl Splice {
    /// For a disk of `length` bytes of which `extents` are read: those that a
    /// [`super::SplicePlan`] of this base gave.
    pub fn new(
        base: &DiskRoot,
        cutter: Cutter,
        id_key: &[u8; 32],
        extents: &ExtentSet,
        length: u64,
    ) -> Result<Self, SpliceError> {
        if cutter.params().to_string() != base.cutter {
            return Err(SpliceError::Cutter {
                cutter: base.cutter.chars().take(CUTTER_BYTES_MAX).collect(),
            });
        }
        let beyond = extents.iter().last().filter(|last| last.end() > length);
        if let Some(Extent { start, .. }) = beyond {
            return Err(SpliceError::Extents { offset: start });
        }
        Ok(Self {
            walk: Walk::new(base)?,
            weave: Weave::new(base, cutter, id_key, length)?,
            extents: Areas::new(extents),
            length,
            at: 0,
            replaced: Replaced::default(),
            done: false,
        })
    }

    /// Takes the bytes of a node that a [`SpliceStep::Nodes`] asked for; tells which it was.
    pub fn supply(&mut self, bytes: &[u8]) -> Result<TreeId, TreeError> {
        self.walk.supply(bytes)
    }

    /// Takes the bytes that were read where a [`SpliceStep::Data`] asked for them: some or all of
    /// the rest of that extent.
    pub fn push(&mut self, offset: u64, bytes: Bytes) -> Result<(), SpliceError> {
        let due = self.extents.at(self.at);
        let end = offset.saturating_add(bytes.len() as u64);
        let fits = due.is_some_and(|extent| offset == self.at && end <= extent.end());
        if !fits {
            return Err(SpliceError::Cut(CutError::OutOfOrder {
                expected: self.at,
                found: offset,
            }));
        }
        self.weave.data(offset, bytes)?;
        self.at = end;
        Ok(())
    }

    /// What of the base was replaced so far.
    pub const fn replaced(&self) -> Replaced {
        self.replaced
    }

    /// Goes on; after [`SpliceStep::Done`] it must not be called again.
    pub fn step(&mut self) -> Result<SpliceStep, SpliceError> {
        loop {
            if let Some(step) = self.weave.next() {
                return Ok(step);
            }
            if self.done || self.extents.at(self.at).is_some() {
                return Ok(SpliceStep::Data { offset: self.at });
            }
            let ids = match self.walk.at_hand() {
                Some(placed) if placed.end() <= self.at && self.at > 0 => self.leave(placed)?,
                Some(placed) => self.take(placed)?,
                None => {
                    self.finish()?;
                    None
                }
            };
            if let Some(ids) = ids {
                return Ok(SpliceStep::Nodes(ids));
            }
        }
    }

    /// Shares the entry at hand, of which some lies behind the place, or opens it.
    fn take(&mut self, placed: Placed) -> Result<Option<Vec<TreeId>>, SpliceError> {
        let extent = placed.extent();
        match placed.entry {
            Entry::Node { level, branch } => {
                let whole = extent.start == self.at && !self.extents.touch(extent);
                if whole && self.weave.takes_node(level) {
                    self.weave.share_node(extent, level, branch)?;
                    self.pass_to(extent.end());
                    return Ok(None);
                }
                let extents = &self.extents;
                let soon =
                    |next: &Placed| extents.touch(next.extent()) && !extents.cover(next.extent());
                Ok(self.walk.open(soon)?)
            }
            Entry::Leaf(Leaf::Hole { .. }) => {
                let next = self
                    .extents
                    .next(self.at)
                    .map_or(u64::MAX, |next| next.start);
                let end = extent.end().min(next);
                self.weave.hole(Extent::new(self.at, end - self.at))?;
                self.at = end;
                Ok(None)
            }
            Entry::Leaf(leaf) => {
                if extent.start != self.at || self.extents.overlap(extent) {
                    let offset = extent.start;
                    return Err(SpliceError::Extents { offset });
                }
                self.weave.share_chunk(extent, leaf)?;
                self.pass_to(extent.end());
                Ok(None)
            }
        }
    }

    /// Counts what was replaced.
    fn leave(&mut self, placed: Placed) -> Result<Option<Vec<TreeId>>, SpliceError> {
        match placed.entry {
            Entry::Node { .. } => self.open(),
            Entry::Leaf(leaf) => {
                self.replaced.add(&leaf);
                self.walk.pass();
                Ok(None)
            }
        }
    }

    fn open(&mut self) -> Result<Option<Vec<TreeId>>, SpliceError> {
        let extents = &self.extents;
        Ok(self.walk.open(|next| extents.touch(next.extent()))?)
    }

    fn pass_to(&mut self, end: u64) {
        self.walk.pass();
        self.at = end;
    }

    fn finish(&mut self) -> Result<(), SpliceError> {
        if self.at != self.length {
            return Err(SpliceError::Extents { offset: self.at });
        }
        self.done = true;
        self.weave.finish()
    }
}
