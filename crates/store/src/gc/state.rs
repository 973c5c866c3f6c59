//! What collections keep between cycles, in memory only: all of it may be lost.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stillwater_format::Time;
use stillwater_types::{PackId, PointId};

use super::{Tally, Turn, memory};

/// What collections keep between cycles.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(super) turn: Turn,
    pub(super) tally: Tally,
    memory: Mutex<Memory>,
    /// What the next cycle need not read again.
    nodes: Mutex<memory::Memory>,
}

/// What a cycle learned for the next ones.
#[derive(Debug, Default)]
struct Memory {
    /// Bytes of records of a pack that compaction copied to another: condemning it loses only the rest.
    copied: HashMap<PackId, u64>,
    /// Packs in which compaction found a damaged record.
    stubborn: HashSet<PackId>,
    /// Deleted points whose manifests are gone.
    cleared: HashSet<PointId>,
    /// Manifests without a commit record, and when a cycle saw them first.
    orphans: HashMap<PointId, Time>,
}

impl State {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What earlier cycles found below nodes; the next one that asks finds nothing.
    pub(super) fn take_nodes(&self) -> memory::Memory {
        std::mem::take(&mut *self.nodes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn keep_nodes(&self, nodes: memory::Memory) {
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    /// Bytes of records of these packs that lie in others too.
    pub(super) fn copied(&self) -> HashMap<PackId, u64> {
        self.memory().copied.clone()
    }

    pub(super) fn note_copied(&self, pack: PackId, bytes: u64) {
        self.memory().copied.insert(pack, bytes);
    }

    pub(super) fn note_stubborn(&self, pack: PackId) {
        self.memory().stubborn.insert(pack);
    }

    /// Leaves out the packs that cannot be compacted.
    pub(super) fn without_stubborn(&self, packs: &mut Vec<(PackId, u64)>) {
        let memory = self.memory();
        packs.retain(|(pack, _)| !memory.stubborn.contains(pack));
    }

    /// The points whose manifests may still be there.
    pub(super) fn without_cleared(&self, points: &[(PointId, Time)]) -> Vec<(PointId, Time)> {
        let memory = self.memory();
        let waiting = points.iter().filter(|(p, _)| !memory.cleared.contains(p));
        waiting.copied().collect()
    }

    pub(super) fn note_cleared(&self, points: impl IntoIterator<Item = PointId>) {
        self.memory().cleared.extend(points);
    }

    /// Of the orphans that there are, those that were seen first at least `wait` ago.
    pub(super) fn ripe_orphans(
        &self,
        found: &BTreeSet<PointId>,
        now: Time,
        wait: Duration,
    ) -> Vec<PointId> {
        let mut memory = self.memory();
        memory.orphans.retain(|point, _| found.contains(point));
        let mut ripe = |point: &&PointId| {
            let first = memory.orphans.entry(**point).or_insert(now);
            now >= first.after(wait)
        };
        found.iter().filter(|point| ripe(point)).copied().collect()
    }

    /// Forgets what it knew of packs that were taken out.
    pub(super) fn forget(&self, packs: &[PackId]) {
        let mut memory = self.memory();
        for pack in packs {
            memory.copied.remove(pack);
            memory.stubborn.remove(pack);
        }
    }
}
