//! What points reach: one bit for each record of each pack.
//!
//! Points are walked from their manifests down. A node is read once in a cycle, however many points
//! share it. Every record that a walk comes to is looked up in the index, and the copy that the index
//! prefers is marked: one in a pack that is not condemned, if there is one. A record whose best copy is
//! in a pack that came after the cycle began needs no mark, since such a pack is not judged.
//!
//! **Memory.** A bit for each record; about 120 bytes for each pack; 56 to 112 bytes for each node; and
//! 32 MiB for marks that are gathered until the tables of their packs are read, so that each table is
//! read a few times and never kept. For 1 TiB of disks in chunks of 32 KiB, 256 to a node, and packs of
//! 64 MiB that is at most 4 MiB, 2 MiB and 13 MiB beside the 32 MiB; each TiB more takes 19 MiB at most.
//!
//! **What cannot be read.** A manifest or node that cannot be read ends the cycle: nobody knows what it
//! reaches. A chunk that the index does not know reaches nothing; it is remembered, and a pack in whose
//! table it turns up is not condemned.

use std::collections::{HashMap, HashSet};

use stillwater_format::manifest::{MANIFEST_BYTES_MAX, Manifest, manifest_hash};
use stillwater_format::node::{Entries, Leaf, Node};
use stillwater_format::pack::{Entry, RECORD_HEADER_LEN, RecordId};
use stillwater_types::{DatasetId, PackId, PointId, TreeId};

use super::roots::Root;
use crate::index::Location;
use crate::store::Inner;
use crate::{Error, durable, layout};

/// Marks that are gathered before tables are read: 32 MiB.
const GATHERED_MAX: usize = 1 << 22;
/// Chunks that points name and nobody has; more of them end the cycle.
const MISSING_MAX: usize = 1 << 20;
/// Tables that are read in one step.
const TABLES_PER_STEP: usize = 64;

/// The marks of one cycle.
pub(super) struct Marks {
    numbers: HashMap<PackId, u32>,
    seats: Vec<Seat>,
    gathered: Vec<Gathered>,
    gathered_max: usize,
    /// Whether gathered marks are in order, to be brought to their tables.
    is_sorted: bool,
    nodes: HashSet<(DatasetId, TreeId)>,
    missing: HashSet<(DatasetId, RecordId)>,
}

/// A mark on its way to a pack's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Gathered {
    seat: u32,
    offset: u32,
}

/// The marks of a pack.
#[derive(Debug)]
struct Seat {
    pack: PackId,
    is_whole: bool,
    /// One for each record, in the order of offsets; empty until one is set.
    bits: Vec<u64>,
    live_bytes: u64,
}

/// The points that are still to be walked.
pub(super) struct Walk {
    roots: std::vec::IntoIter<Root>,
    total: u64,
    done: u64,
    at: Option<Root>,
    open: Vec<TreeId>,
}

/// Packs, and whether each is whole.
pub(super) type Known = Vec<(PackId, bool)>;

impl Walk {
    pub(super) fn over(roots: Vec<Root>) -> Self {
        Self {
            total: roots.len() as u64,
            done: 0,
            roots: roots.into_iter(),
            at: None,
            open: Vec::new(),
        }
    }

    /// Points that were walked, and all of them.
    pub(super) const fn progress(&self) -> (u64, u64) {
        (self.done, self.total)
    }
}

impl Marks {
    pub(super) fn new(packs: Known) -> Self {
        Self::with_room(packs, GATHERED_MAX)
    }

    fn with_room(packs: Known, gathered_max: usize) -> Self {
        let seat = |(pack, is_whole)| Seat {
            pack,
            is_whole,
            bits: Vec::new(),
            live_bytes: 0,
        };
        let numbered = packs.iter().zip(0..).map(|((pack, _), n)| (*pack, n));
        Self {
            numbers: numbered.collect(),
            seats: packs.into_iter().map(seat).collect(),
            gathered: Vec::new(),
            gathered_max,
            is_sorted: false,
            nodes: HashSet::new(),
            missing: HashSet::new(),
        }
    }

    /// Walks on, by at most `nodes_max` nodes. Tells whether all is walked and every mark is set.
    pub(super) fn advance(
        &mut self,
        inner: &Inner,
        walk: &mut Walk,
        nodes_max: usize,
    ) -> Result<bool, Error> {
        if self.is_sorted || self.gathered.len() >= self.gathered_max {
            self.bring(inner, TABLES_PER_STEP)?;
            return Ok(false);
        }
        for _ in 0..nodes_max {
            if self.gathered.len() >= self.gathered_max {
                return Ok(false);
            }
            let Some(root) = walk.at else {
                let Some(root) = walk.roots.next() else {
                    return self.bring(inner, TABLES_PER_STEP);
                };
                walk.open = tops(inner, &root)?;
                walk.at = Some(root);
                continue;
            };
            match walk.open.pop() {
                Some(id) => {
                    let below = self.visit(inner, root.dataset, id);
                    walk.open.extend(below.map_err(blocked(root.point))?);
                }
                None => {
                    walk.at = None;
                    walk.done += 1;
                }
            }
        }
        Ok(false)
    }

    /// Marks a node and the chunks below it; gives the nodes below.
    fn visit(
        &mut self,
        inner: &Inner,
        dataset: DatasetId,
        id: TreeId,
    ) -> Result<Vec<TreeId>, Error> {
        if self.nodes.contains(&(dataset, id)) {
            return Ok(Vec::new());
        }
        let node = self.read(inner, dataset, id)?;
        self.nodes.insert((dataset, id));
        match node.into_entries() {
            Entries::Branches(branches) => Ok(branches.iter().map(|branch| branch.id).collect()),
            Entries::Leaves(leaves) => {
                for leaf in leaves {
                    if let Leaf::Chunk { id, .. } = leaf {
                        self.mark_chunk(inner, dataset, RecordId::from(id))?;
                    }
                }
                Ok(Vec::new())
            }
        }
    }

    /// Reads a node from the best copy that is good, and marks that one.
    fn read(&mut self, inner: &Inner, dataset: DatasetId, id: TreeId) -> Result<Node, Error> {
        let record = RecordId::from(id);
        let copies = inner.index.copies(dataset, &record)?;
        let outcome = self.read_best(inner, record, &copies);
        if outcome.is_ok() {
            return outcome;
        }
        // The scrub may have moved it meanwhile, after it was copied.
        let moved = inner.index.copies(dataset, &record)?;
        if moved == copies {
            return outcome;
        }
        self.read_best(inner, record, &moved)
    }

    fn read_best(
        &mut self,
        inner: &Inner,
        record: RecordId,
        copies: &[Location],
    ) -> Result<Node, Error> {
        let mut outcome = Err(Error::RecordNotFound { record });
        for at in copies {
            match inner.read_at(record, *at) {
                Ok(found) => {
                    self.gather(*at);
                    return Node::decode(&found.stored).map_err(Error::malformed);
                }
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Marks the best copy of a chunk; if none of them is where the index has it, all of them.
    fn mark_chunk(
        &mut self,
        inner: &Inner,
        dataset: DatasetId,
        record: RecordId,
    ) -> Result<(), Error> {
        let copies = inner.index.copies(dataset, &record)?;
        if copies.is_empty() {
            self.missing.insert((dataset, record));
            return if self.missing.len() > MISSING_MAX {
                Err(Error::RecordNotFound { record })
            } else {
                Ok(())
            };
        }
        let is_good = |at: &Location| {
            self.seat(at.pack).is_none_or(|seat| seat.is_whole)
                && inner.packs.vouch(&*inner.vfs, &record, *at)
        };
        match copies.iter().copied().find(is_good) {
            Some(at) => self.gather(at),
            None => copies.into_iter().for_each(|at| self.gather(at)),
        }
        Ok(())
    }

    fn seat(&self, pack: PackId) -> Option<&Seat> {
        let number = *self.numbers.get(&pack)?;
        self.seats.get(number as usize)
    }

    fn gather(&mut self, at: Location) {
        let Some(seat) = self.numbers.get(&at.pack).copied() else {
            return;
        };
        match u32::try_from(at.offset) {
            Ok(offset) => self.gathered.push(Gathered { seat, offset }),
            // No pack is that long.
            Err(_) => self.disown(seat),
        }
    }

    /// Brings gathered marks to the tables of at most `tables_max` packs; tells whether that was all.
    fn bring(&mut self, inner: &Inner, tables_max: usize) -> Result<bool, Error> {
        if !self.is_sorted {
            self.gathered.sort_unstable();
            self.gathered.dedup();
            self.is_sorted = true;
        }
        for _ in 0..tables_max {
            let Some(Gathered { seat, .. }) = self.gathered.last().copied() else {
                self.is_sorted = false;
                return Ok(true);
            };
            let start = self.gathered.partition_point(|mark| mark.seat < seat);
            let marks = self.gathered.split_off(start);
            self.set(inner, seat, &marks)?;
        }
        Ok(false)
    }

    /// Sets the bits of one pack.
    fn set(&mut self, inner: &Inner, number: u32, marks: &[Gathered]) -> Result<(), Error> {
        let Some(seat) = self.seats.get_mut(number as usize) else {
            return Ok(());
        };
        // The scrub may have set it aside meanwhile.
        if !inner.fates().is_readable(seat.pack) {
            return Ok(());
        }
        let entries = by_offset(inner, seat.pack)?;
        seat.bits.resize(entries.len().div_ceil(64), 0);
        let mut is_odd = false;
        for mark in marks {
            let offset = u64::from(mark.offset);
            match entries.binary_search_by_key(&offset, |entry| entry.offset) {
                Ok(place) => seat.set(place, &entries),
                Err(_) => is_odd = true,
            }
        }
        if is_odd {
            self.disown(number);
        }
        Ok(())
    }

    /// Leaves a pack alone that is not as the index has it.
    fn disown(&mut self, number: u32) {
        if let Some(seat) = self.seats.get_mut(number as usize) {
            tracing::error!(pack = %seat.pack, "the index has a record that the pack does not");
            seat.is_whole = false;
        }
    }

    /// Bytes of records of a pack that points reach.
    pub(super) fn live_bytes(&self, pack: PackId) -> u64 {
        self.seat(pack).map_or(0, |seat| seat.live_bytes)
    }

    /// Whether all records of the pack are known, and lie where the index has them.
    pub(super) fn is_whole(&self, pack: PackId) -> bool {
        self.seat(pack).is_some_and(|seat| seat.is_whole)
    }

    /// Bytes of all records that points reach.
    pub(super) fn all_live_bytes(&self) -> u64 {
        self.seats.iter().map(|seat| seat.live_bytes).sum()
    }

    /// The records of a pack that points reach.
    pub(super) fn live_records(
        &self,
        inner: &Inner,
        pack: PackId,
    ) -> Result<Vec<(RecordId, Location)>, Error> {
        let Some(seat) = self.seat(pack) else {
            return Ok(Vec::new());
        };
        let entries = by_offset(inner, pack)?;
        let live = entries
            .iter()
            .zip(0..)
            .filter(|(_, place)| seat.has(*place));
        Ok(live.map(|(entry, _)| located(pack, entry)).collect())
    }

    /// Chunks that points name and the index does not know.
    pub(super) fn missing_count(&self) -> u64 {
        self.missing.len() as u64
    }

    /// Whether the pack's table has a chunk that the index should know.
    pub(super) fn has_missing(
        &self,
        inner: &Inner,
        dataset: DatasetId,
        pack: PackId,
    ) -> Result<bool, Error> {
        if self.missing.is_empty() {
            return Ok(false);
        }
        let entries = inner.packs.table(&*inner.vfs, pack)?;
        let mut ids = entries.iter().map(|entry| located(pack, entry).0);
        Ok(ids.any(|record| self.missing.contains(&(dataset, record))))
    }
}

impl Seat {
    fn set(&mut self, place: usize, entries: &[Entry]) {
        let (Some(word), Some(entry)) = (self.bits.get_mut(place / 64), entries.get(place)) else {
            return;
        };
        let bit = 1 << (place % 64);
        if *word & bit == 0 {
            *word |= bit;
            self.live_bytes += RECORD_HEADER_LEN as u64 + u64::from(entry.stored_len);
        }
    }

    fn has(&self, place: usize) -> bool {
        let word = self.bits.get(place / 64).copied().unwrap_or_default();
        word & (1 << (place % 64)) != 0
    }
}

/// A pack's table in the order of offsets, which numbers its bits.
fn by_offset(inner: &Inner, pack: PackId) -> Result<Vec<Entry>, Error> {
    let mut entries = inner.packs.table(&*inner.vfs, pack)?;
    entries.sort_unstable_by_key(|entry| entry.offset);
    Ok(entries)
}

fn located(pack: PackId, entry: &Entry) -> (RecordId, Location) {
    let (kind, id) = (entry.kind, entry.id);
    let Entry {
        offset,
        stored_len,
        plain_len,
        ..
    } = *entry;
    let at = Location {
        pack,
        offset,
        stored_len,
        plain_len,
    };
    (RecordId { kind, id }, at)
}

/// The top nodes of a point's disks, from whichever copy of its manifest fits the log.
fn tops(inner: &Inner, root: &Root) -> Result<Vec<TreeId>, Error> {
    let mut outcome = Err(Error::ManifestUnreadable(root.point));
    for path in layout::manifest(root.point) {
        match durable::read_all(&*inner.vfs, &path, MANIFEST_BYTES_MAX as u64 + 1) {
            Ok(bytes) if manifest_hash(&bytes) == root.manifest_hash => {
                let manifest = Manifest::decode(&bytes).map_err(Error::malformed);
                let manifest = manifest.map_err(blocked(root.point))?;
                return Ok(manifest.disks.iter().map(|disk| disk.root.top).collect());
            }
            Ok(_) => {}
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => outcome = Err(error),
        }
    }
    outcome.map_err(blocked(root.point))
}

/// Names the point that a cycle cannot go on without. A failure of the storage is no fault of it.
fn blocked(point: PointId) -> impl Fn(Error) -> Error {
    move |error| match error {
        Error::Io { .. } => error,
        source => Error::CollectionBlocked {
            point,
            source: Box::new(source),
        },
    }
}

#[cfg(test)]
mod tests;
