//! What must be read of a disk that a map says changed.

use stillwater_format::node::{DiskRoot, Leaf};
use stillwater_types::{Extent, ExtentSet, TreeId};

use super::SpliceError;
use crate::areas::Areas;
use crate::tree::{Entry, Walk};
use crate::{BLOCK_LEN, TreeError};

/// What a plan does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanStep {
    /// It needs these nodes of the base: give each to [`SplicePlan::supply`], then ask again.
    Nodes(Vec<TreeId>),
    /// What must be read.
    Done(ExtentSet),
}

/// Finds what must be read: the changed areas on the block grid, every chunk of the base that
/// touches one, and what lies behind the base's end.
///
/// Opens only nodes at the edges of changed areas, so a disk that changed everywhere costs none.
pub struct SplicePlan {
    walk: Walk,
    changed: ExtentSet,
    areas: Areas,
    /// Chunks that reach out of an area.
    edges: Vec<Extent>,
}

impl SplicePlan {
    /// For a disk of `length` bytes that differs from `base` in `changed` at most.
    pub fn new(base: &DiskRoot, changed: &ExtentSet, length: u64) -> Result<Self, SpliceError> {
        if length < base.length {
            return Err(SpliceError::Shrunk {
                base: base.length,
                length,
            });
        }
        let growth = Extent::new(base.length, length - base.length);
        let changed = ExtentSet::collect(changed.iter().chain([growth]), length);
        let changed = changed.widen(BLOCK_LEN as u64, length);
        Ok(Self {
            walk: Walk::new(base)?,
            areas: Areas::new(&changed),
            changed,
            edges: Vec::new(),
        })
    }

    /// Takes the bytes of a node that a [`PlanStep::Nodes`] asked for; tells which it was.
    pub fn supply(&mut self, bytes: &[u8]) -> Result<TreeId, TreeError> {
        self.walk.supply(bytes)
    }

    /// Goes on to the end, or says which nodes that takes.
    pub fn step(&mut self) -> Result<PlanStep, TreeError> {
        while let Some(placed) = self.walk.at_hand() {
            let extent = placed.extent();
            if !is_edge(&self.areas, extent) {
                self.walk.pass();
                continue;
            }
            match placed.entry {
                Entry::Leaf(leaf) => {
                    if let Leaf::Chunk { .. } = leaf {
                        self.edges.push(extent);
                    }
                    self.walk.pass();
                }
                Entry::Node { .. } => {
                    let areas = &self.areas;
                    let soon = self.walk.open(|next| is_edge(areas, next.extent()))?;
                    if let Some(ids) = soon {
                        return Ok(PlanStep::Nodes(ids));
                    }
                }
            }
        }
        let edges = self.edges.iter().copied();
        let extents = ExtentSet::collect(self.changed.iter().chain(edges), u64::MAX);
        Ok(PlanStep::Done(extents))
    }
}

/// Whether an area begins or ends inside.
fn is_edge(areas: &Areas, extent: Extent) -> bool {
    areas.overlap(extent) && !areas.cover(extent)
}
