//! What a cycle starts from, as the commit log says it.
//!
//! Kept beside the log entry by entry, and not in the point catalogue: that is a cache, and a point that
//! a cache lost would cost its data here.

use std::collections::{BTreeMap, HashMap};

use stillwater_format::commit::{Cycle, Entry};
use stillwater_types::{DatasetId, PointId};

/// A point, as far as collection needs it: about 100 bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) point: PointId,
    pub(crate) dataset: DatasetId,
    pub(crate) manifest_hash: [u8; 32],
}

/// The points that exist, by their places in the log, and the cycles so far.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    points: BTreeMap<u64, Root>,
    places: HashMap<PointId, u64>,
    cycles: Vec<Cycle>,
}

/// How many cycles the brake looks back on.
const CYCLES_MAX: usize = 32;

impl Roots {
    /// Takes in an entry at its place in the log.
    pub(crate) fn take(&mut self, sequence: u64, entry: &Entry) {
        match entry {
            Entry::PointCommitted(commit) => {
                let (point, dataset) = (commit.point, commit.dataset);
                let manifest_hash = commit.manifest_hash;
                let root = Root {
                    point,
                    dataset,
                    manifest_hash,
                };
                self.points.insert(sequence, root);
                self.places.insert(point, sequence);
            }
            Entry::PointDeleted { point, .. } => {
                if let Some(place) = self.places.remove(point) {
                    self.points.remove(&place);
                }
            }
            Entry::CycleEnded(cycle) => {
                if self.cycles.len() >= CYCLES_MAX {
                    self.cycles.remove(0);
                }
                self.cycles.push(*cycle);
            }
            _ => {}
        }
    }

    /// The points that came after a place in the log.
    pub(crate) fn after(&self, sequence: u64) -> Vec<Root> {
        let after = self.points.range(sequence.saturating_add(1)..);
        after.map(|(_, root)| *root).collect()
    }

    /// Whether the point exists.
    pub(crate) fn has(&self, point: PointId) -> bool {
        self.places.contains_key(&point)
    }

    /// The last cycles that went through, oldest first.
    pub(crate) fn cycles(&self) -> &[Cycle] {
        &self.cycles
    }

    pub(crate) fn last_cycle(&self) -> Option<Cycle> {
        self.cycles.last().copied()
    }
}
