//! What of a disk must be looked at, and what written, so that it is again as a point has it.

use stillwater_format::node::DiskRoot;
use stillwater_types::{Extent, ExtentSet, TreeId};

use crate::diff::{DiffStep, TreeDiff};
use crate::{BLOCK_LEN, TreeError};

/// Most ranges that a plan holds; beyond that neighbours are joined, at the cost of reading what
/// lies between them.
const SPOTS_MAX: usize = 1 << 16;

/// What a plan does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackStep {
    /// It needs these nodes, of either tree: give each to [`Rollback::supply`], then ask again.
    Nodes(Vec<TreeId>),
    /// Outside of these the disk is as the point has it: whole blocks, but for the end of the disk.
    Done(ExtentSet),
}

/// Works out where a disk may differ from a point, without reading the disk.
///
/// What is known of the disk is another point of it and what may have changed since. Where nothing
/// is known, all of it may differ. The plan says where to look, never what to write: each of its
/// blocks is still read and [held against](differing) the point's. So it stays right when some of
/// it was written already, and a roll back that was broken off is resumed by the same plan.
pub struct Rollback {
    diff: Option<TreeDiff>,
    spots: Spots,
}

impl Rollback {
    /// Plans for a disk that was as `base` has it, and of which at most `changed` is not any more.
    pub fn new(
        point: &DiskRoot,
        base: Option<&DiskRoot>,
        changed: &ExtentSet,
    ) -> Result<Self, TreeError> {
        let base = base.filter(|base| base.length == point.length);
        let mut spots = Spots::new(point.length);
        match base {
            Some(_) => changed.iter().for_each(|extent| spots.add(extent)),
            None => spots.add(Extent::new(0, point.length)),
        }
        let diff = base.map(|base| TreeDiff::new(point, base)).transpose()?;
        Ok(Self { diff, spots })
    }

    /// Takes the bytes of a node that a [`RollbackStep::Nodes`] asked for; tells which it was.
    pub fn supply(&mut self, bytes: &[u8]) -> Result<TreeId, TreeError> {
        match &mut self.diff {
            Some(diff) => diff.supply(bytes),
            None => Err(TreeError::Unasked {
                id: stillwater_format::node::tree_id(bytes),
            }),
        }
    }

    /// Goes on until it needs nodes or is done.
    pub fn step(&mut self) -> Result<RollbackStep, TreeError> {
        while let Some(diff) = &mut self.diff {
            match diff.step()? {
                DiffStep::Nodes(ids) => return Ok(RollbackStep::Nodes(ids)),
                DiffStep::Differs(extent) => self.spots.add(extent),
                DiffStep::Done => self.diff = None,
            }
        }
        Ok(RollbackStep::Done(self.spots.all()))
    }
}

/// Ranges of a disk, few of them.
struct Spots {
    length: u64,
    /// They are widened to multiples of this.
    grain: u64,
    spots: Vec<Extent>,
}

impl Spots {
    fn new(length: u64) -> Self {
        Self {
            length,
            grain: BLOCK_LEN as u64,
            spots: Vec::new(),
        }
    }

    fn add(&mut self, extent: Extent) {
        self.spots.push(extent);
        if self.spots.len() <= SPOTS_MAX {
            return;
        }
        // Half of the room at least is free after it: a range costs as much as adding it twice.
        let mut joined = self.all();
        while joined.len() > SPOTS_MAX / 2 {
            self.grain = self.grain.saturating_mul(2);
            joined = self.all();
        }
        self.spots = joined.iter().collect();
    }

    fn all(&self) -> ExtentSet {
        let spots = ExtentSet::collect(self.spots.iter().copied(), self.length);
        spots.widen(self.grain, self.length)
    }
}

/// The blocks of `wanted` that `current` has otherwise, neighbours as one. Both begin at `start`,
/// where a block of the disk begins, and are as long.
pub fn differing(start: u64, current: &[u8], wanted: &[u8]) -> Vec<Extent> {
    let mut runs: Vec<Extent> = Vec::new();
    let blocks = current.chunks(BLOCK_LEN).zip(wanted.chunks(BLOCK_LEN));
    let mut at = start;
    for (is, to_be) in blocks {
        let length = to_be.len() as u64;
        if is != to_be {
            match runs.last_mut() {
                Some(run) if run.end() == at => run.length += length,
                _ => runs.push(Extent::new(at, length)),
            }
        }
        at += length;
    }
    runs
}

#[cfg(test)]
mod tests;
