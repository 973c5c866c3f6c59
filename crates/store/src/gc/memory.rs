//! What cycles found below tree nodes, so that the next one reads only nodes that are new.
//!
//! A node never changes: its id is its hash. What was read of it is true for good, and only where the best
//! copies of its records lie may change. So a node is remembered by its children, and by the places of
//! those copies of its records that a cycle marked; and it is read again as soon as one of these copies
//! may not be the one to be marked any more:
//!
//! * its pack is not in use, not whole, not there, or somebody had trouble with it;
//! * its pack was compacted, so that newer copies are to be marked;
//! * another node's walk came to the same record and marked another copy of it. Otherwise two copies
//!   of one record would be live for ever.
//!
//! That is looked at when a cycle begins, for everything that is remembered. A mark that is remembered is
//! therefore one that a walk could have set then; marks are only ever added. A node is not remembered
//! unless each of its marks was set: not if a chunk is missing, or lies in a pack that came meanwhile.
//!
//! It is kept in memory only, and all of it may be lost at any time: then nodes are read again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem::size_of;

use stillwater_types::{DatasetId, PackId, TreeId};

use super::mark::Known;

/// What may be remembered, unless it is told otherwise: nodes of 8 TiB of disks and more.
pub(super) const ROOM_BYTES: usize = 256 << 20;

/// Names a node.
pub(super) type NodeKey = (DatasetId, TreeId);

/// Records of one pack that follow each other in the order of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The pack's number.
    pub(super) seat: u32,
    /// The first record.
    pub(super) place: u32,
    /// How many there are.
    pub(super) count: u32,
}

/// What is remembered of a node.
#[derive(Debug, Clone, Default)]
pub(super) struct Memo {
    /// The copies of its records that are marked: its own and those of its chunks. Empty if it is only
    /// known that this cycle came to the node.
    pub(super) runs: Box<[Run]>,
    /// The nodes below.
    pub(super) below: Box<[TreeId]>,
    is_seen: bool,
}

/// The marks of a pack at the end of a cycle, and the bytes of what was marked.
#[derive(Debug, Clone)]
struct Weight {
    bits: Box<[u64]>,
    live_bytes: u64,
}

/// What cycles found.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    nodes: HashMap<NodeKey, Memo>,
    numbers: HashMap<PackId, u32>,
    /// Packs by their numbers; none where a number is free.
    packs: Vec<Option<PackId>>,
    weights: HashMap<PackId, Weight>,
    /// Packs whose live records were copied to others since the last cycle began.
    copied: HashSet<PackId>,
    /// Copies of records of which other copies were marked: number and place.
    outdone: BTreeSet<(u32, u32)>,
    used_bytes: usize,
    room_bytes: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_room(ROOM_BYTES)
    }
}

/// Copies that are told one by one; beyond that a whole pack is taken for one that was copied.
const OUTDONE_MAX: usize = 1 << 18;

/// What a node costs beside what it names: a place in the table, of which there are up to 16 for 7.
pub(super) const MEMO_BYTES: usize = 2 * (size_of::<(NodeKey, Memo)>() + 1);

impl Memo {
    const fn is_known(&self) -> bool {
        !self.runs.is_empty()
    }

    fn bytes(&self) -> usize {
        MEMO_BYTES + size_of_val(&*self.runs) + size_of_val(&*self.below)
    }
}

impl Memory {
    /// Remembers nothing yet, and never more than so many bytes.
    pub(super) fn with_room(room_bytes: usize) -> Self {
        Self {
            nodes: HashMap::new(),
            numbers: HashMap::new(),
            packs: Vec::new(),
            weights: HashMap::new(),
            copied: HashSet::new(),
            outdone: BTreeSet::new(),
            used_bytes: 0,
            room_bytes,
        }
    }

    /// Begins a cycle that sees these packs: forgets every node of which a copy may not be the one to be
    /// marked, and numbers the packs.
    pub(super) fn begin(&mut self, known: &[Known]) {
        let Self {
            nodes,
            packs,
            outdone,
            ..
        } = self;
        let trusted = known.iter().filter(|known| known.is_trusted);
        let trusted: HashSet<PackId> = trusted.map(|known| known.pack).collect();
        let pack = |run: &Run| packs.get(run.seat as usize).copied().flatten();
        let is_outdone = |run: &Run| outdone.range(run.copies()).next().is_some();
        let is_good =
            |run: &Run| pack(run).is_some_and(|pack| trusted.contains(&pack)) && !is_outdone(run);
        nodes.retain(|_, memo| {
            memo.is_seen = false;
            memo.is_known() && memo.runs.iter().all(is_good)
        });
        self.used_bytes = nodes.values().map(Memo::bytes).sum();
        self.copied.clear();
        self.outdone.clear();
        self.number(known);
    }

    /// No node is left that names a pack which is not there, so its number may be given to another.
    fn number(&mut self, known: &[Known]) {
        let there: HashSet<PackId> = known.iter().map(|known| known.pack).collect();
        self.numbers.retain(|pack, _| there.contains(pack));
        self.weights.retain(|pack, _| there.contains(pack));
        for slot in &mut self.packs {
            *slot = slot.filter(|pack| there.contains(pack));
        }
        let mut free = (0..)
            .zip(&mut self.packs)
            .filter(|(_, slot)| slot.is_none());
        let mut later = Vec::new();
        for Known { pack, .. } in known {
            if self.numbers.contains_key(pack) {
                continue;
            }
            match free.next() {
                Some((number, slot)) => {
                    *slot = Some(*pack);
                    self.numbers.insert(*pack, number);
                }
                None => later.push(*pack),
            }
        }
        for (number, pack) in (self.packs.len() as u32..).zip(later) {
            self.packs.push(Some(pack));
            self.numbers.insert(pack, number);
        }
    }

    /// The number of a pack that the cycle sees.
    pub(super) fn number_of(&self, pack: PackId) -> Option<u32> {
        self.numbers.get(&pack).copied()
    }

    /// How many numbers there are.
    pub(super) const fn number_count(&self) -> usize {
        self.packs.len()
    }

    /// Whether nothing is remembered of any node.
    pub(super) fn is_blank(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What is remembered of a node that the cycle comes to; none if it is to be read.
    pub(super) fn meet(&mut self, key: &NodeKey) -> Option<Met<'_>> {
        let memo = self.nodes.get_mut(key)?;
        Some(if std::mem::replace(&mut memo.is_seen, true) {
            Met::Again
        } else {
            Met::Known(memo)
        })
    }

    /// Takes note that the cycle came to a node and read it.
    pub(super) fn note_read(&mut self, key: NodeKey) {
        self.nodes.entry(key).or_default().is_seen = true;
    }

    /// Remembers a node that was read, all of whose marks are set, if there is room.
    pub(super) fn learn(&mut self, key: NodeKey, runs: Vec<Run>, below: Box<[TreeId]>) {
        let memo = Memo {
            runs: runs.into(),
            below,
            is_seen: true,
        };
        let used_bytes = self.used_bytes.saturating_add(memo.bytes());
        if used_bytes <= self.room_bytes {
            self.used_bytes = used_bytes;
            self.nodes.insert(key, memo);
        }
    }

    /// Takes note that the live records of a pack were copied to another one.
    pub(super) fn note_copied(&mut self, pack: PackId) {
        self.copied.insert(pack);
    }

    /// Whether the live records of a pack were copied to another one since the last cycle began.
    pub(super) fn is_copied(&self, pack: PackId) -> bool {
        self.copied.contains(&pack)
    }

    /// Takes note of a copy of a record of which another copy was marked.
    pub(super) fn note_outdone(&mut self, seat: u32, place: u32) {
        if self.outdone.len() < OUTDONE_MAX {
            self.outdone.insert((seat, place));
        } else if let Some(pack) = self.packs.get(seat as usize).copied().flatten() {
            self.copied.insert(pack);
        }
    }

    /// The bytes of a pack's marked records, if the same were marked at the end of the last cycle.
    pub(super) fn weight(&self, pack: PackId, bits: &[u64]) -> Option<u64> {
        let weight = self.weights.get(&pack)?;
        (*weight.bits == *bits).then_some(weight.live_bytes)
    }

    /// Notes the marks of a pack for the next cycle.
    pub(super) fn note_weight(&mut self, pack: PackId, bits: Vec<u64>, live_bytes: u64) {
        let bits = bits.into();
        self.weights.insert(pack, Weight { bits, live_bytes });
    }

    /// Lets go of the nodes that the cycle did not come to: no point reaches them.
    pub(super) fn keep_seen(&mut self) {
        self.nodes.retain(|_, memo| memo.is_seen && memo.is_known());
        if self.nodes.len() < self.nodes.capacity() / 4 {
            self.nodes.shrink_to_fit();
        }
        self.weights.clear();
    }

    #[cfg(test)]
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// What the tables of packs take.
    #[cfg(test)]
    pub(super) fn pack_bytes(&self) -> usize {
        self.packs.capacity() * size_of::<Option<PackId>>()
            + table_bytes::<(PackId, u32)>(self.numbers.capacity())
            + table_bytes::<(PackId, Weight)>(self.weights.capacity())
    }

    #[cfg(test)]
    pub(super) fn table_bytes(&self) -> usize {
        table_bytes::<(NodeKey, Memo)>(self.nodes.capacity())
    }

    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }
}

/// A node that a cycle comes to, and of which something is remembered.
pub(super) enum Met<'a> {
    /// The cycle came to it before.
    Again,
    /// It need not be read.
    Known(&'a Memo),
}

impl Run {
    /// The copies of the records, by pack and place.
    const fn copies(&self) -> std::ops::Range<(u32, u32)> {
        let places = self.places();
        (self.seat, places.start)..(self.seat, places.end)
    }

    /// The records, by their places.
    pub(super) const fn places(&self) -> std::ops::Range<u32> {
        self.place..self.place.saturating_add(self.count)
    }
}

/// What a hash table of that room takes: 8 places for each 7, and a byte beside each.
#[cfg(test)]
fn table_bytes<T>(room: usize) -> usize {
    room.div_ceil(7) * 8 * (size_of::<T>() + 1)
}
