//! What points reach: one bit for each record of each pack.
//!
//! Points are walked from their manifests down. A node is read once in a cycle, however many points
//! share it. Every record that a walk comes to is looked up in the index, and the copy that the index
//! prefers is marked: one in a pack that is not condemned, if there is one. A record whose best copy is
//! in a pack that came after the cycle began needs no mark, since such a pack is not judged.
//!
//! Of a node that an earlier cycle read, what it reaches is remembered (see `memory`): its marks are set
//! again without reading it, or the tables of its packs, or asking the index. So a cycle costs what is new.
//!
//! **Memory.** Two bits for each record; about 200 bytes for each pack; 102 to 204 bytes for each node; and
//! 32 MiB for marks that are gathered until the tables of their packs are read, so that each table is
//! read a few times and never kept. For 1 TiB of disks in chunks of 32 KiB, 256 to a node, and packs of
//! 64 MiB that is at most 8 MiB, 4 MiB and 26 MiB beside the 32 MiB. What is remembered below nodes comes
//! to that: 4 MiB for a TiB for the nodes below nodes, and 12 bytes for each run of records that lie one
//! after the other in a pack: 3 MiB where a disk was sent in order, 200 MiB more if every second
//! chunk lies elsewhere. Nodes and what is below them are remembered up to 256 MiB in all; those that
//! come after are read again in each cycle.
//!
//! **What cannot be read.** A manifest or node that cannot be read ends the cycle: nobody knows what it
//! reaches. A chunk that the index does not know reaches nothing; it is remembered, and a pack in whose
//! table it turns up is not condemned.

use std::collections::HashSet;

use stillwater_format::manifest::{MANIFEST_BYTES_MAX, Manifest, manifest_hash};
use stillwater_format::node::{Entries, Leaf, Node};
use stillwater_format::pack::{Entry, RECORD_HEADER_LEN, RecordId};
use stillwater_types::{DatasetId, PackId, PointId, TreeId};

use super::memory::{Memory, Met, NodeKey, Run};
use super::roots::Root;
use crate::index::Location;
use crate::store::Inner;
use crate::{Error, durable, layout};

/// Marks that are gathered before tables are read: 30 MiB.
const GATHERED_MAX: usize = 5 << 19;
/// Of nodes that wait for their marks to be set there are at most this part as many.
const WAITING_PART: usize = 16;
/// Chunks that points name and nobody has; more of them end the cycle.
const MISSING_MAX: usize = 1 << 20;
/// Tables that are read in one step.
const TABLES_PER_STEP: usize = 64;

/// The marks of one cycle.
#[derive(Debug, Default)]
pub(super) struct Marks {
    memory: Memory,
    /// By the numbers of packs.
    seats: Vec<Seat>,
    gathered: Vec<Gathered>,
    gathered_max: usize,
    /// How many of the gathered marks were brought to their tables; none while more are gathered.
    brought: Option<usize>,
    waiting: Vec<Waiting>,
    /// Whether nodes are remembered that were not read in this cycle.
    has_earlier: bool,
    missing: HashSet<(DatasetId, RecordId)>,
    read_count: u64,
}

/// A mark on its way to a pack's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Gathered {
    seat: u32,
    /// The record's offset, and once it was brought to the table its place there.
    at: u32,
    /// The node of those that wait that is remembered by it.
    node: u32,
}

/// In place of a node: nobody remembers the mark.
const NOBODY: u32 = u32::MAX;
/// In place of a node: no mark, but a copy of a record of which another one is marked.
const OUTDONE: u32 = u32::MAX - 1;

/// A node that was read, and is remembered once its marks are set.
#[derive(Debug)]
struct Waiting {
    key: NodeKey,
    below: Box<[TreeId]>,
    is_firm: bool,
}

/// A pack that a cycle sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) pack: PackId,
    /// Whether its trailer is good.
    pub(super) is_whole: bool,
    /// Whether what is remembered of its records still holds: it is whole, in use and in its place, and
    /// nobody had trouble with it.
    pub(super) is_trusted: bool,
    /// Records and salts.
    pub(super) entry_count: u32,
}

/// The marks of a pack.
#[derive(Debug, Default)]
struct Seat {
    /// None if the number is nobody's.
    pack: Option<PackId>,
    is_whole: bool,
    is_trusted: bool,
    entry_count: u32,
    /// One for each record, in the order of offsets; empty until one is set.
    bits: Vec<u64>,
    live_bytes: u64,
    /// Whether `live_bytes` are those of all bits.
    is_weighed: bool,
}

/// The points that are still to be walked.
pub(super) struct Walk {
    roots: std::vec::IntoIter<Root>,
    total: u64,
    done: u64,
    at: Option<Root>,
    open: Vec<TreeId>,
}

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
    /// No marks yet, of packs that the cycle sees, with what earlier cycles found.
    pub(super) fn new(packs: &[Known], memory: Memory) -> Self {
        Self::with_room(packs, memory, GATHERED_MAX)
    }

    fn with_room(packs: &[Known], mut memory: Memory, gathered_max: usize) -> Self {
        let packs: Vec<_> = packs
            .iter()
            .map(|known| Known {
                is_trusted: known.is_trusted && !memory.is_copied(known.pack),
                ..*known
            })
            .collect();
        memory.begin(&packs);
        let mut seats = Vec::new();
        seats.resize_with(memory.number_count(), Seat::default);
        for known in packs {
            let number = memory.number_of(known.pack);
            if let Some(seat) = number.and_then(|number| seats.get_mut(number as usize)) {
                seat.pack = Some(known.pack);
                seat.is_whole = known.is_whole;
                seat.is_trusted = known.is_trusted;
                seat.entry_count = known.entry_count;
            }
        }
        Self {
            has_earlier: !memory.is_blank(),
            memory,
            seats,
            gathered_max,
            ..Self::default()
        }
    }

    /// Gives what is remembered. If the cycle went through, that is what it came to and nothing else.
    pub(super) fn into_memory(self, is_over: bool) -> Memory {
        let Self {
            mut memory, seats, ..
        } = self;
        if is_over {
            memory.keep_seen();
            for seat in seats {
                if let Some(pack) = seat.pack.filter(|_| seat.is_weighed) {
                    memory.note_weight(pack, seat.bits, seat.live_bytes);
                }
            }
        }
        memory
    }

    /// Walks on, by at most `nodes_max` nodes. Tells whether all is walked and every mark is set.
    pub(super) fn advance(
        &mut self,
        inner: &Inner,
        walk: &mut Walk,
        nodes_max: usize,
    ) -> Result<bool, Error> {
        if self.brought.is_some() || self.is_full() {
            self.bring(inner, TABLES_PER_STEP)?;
            return Ok(false);
        }
        for _ in 0..nodes_max {
            if self.is_full() {
                return Ok(false);
            }
            let Some(root) = walk.at else {
                let Some(root) = walk.roots.next() else {
                    let is_set = self.bring(inner, TABLES_PER_STEP)?;
                    return Ok(is_set && self.weigh(inner, TABLES_PER_STEP)?);
                };
                walk.open = tops(inner, &root)?;
                walk.at = Some(root);
                continue;
            };
            match walk.open.pop() {
                Some(id) => {
                    let below = self.visit(inner, (root.dataset, id));
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

    fn is_full(&self) -> bool {
        self.gathered.len() >= self.gathered_max
            || self.waiting.len() > self.gathered_max / WAITING_PART
    }

    /// Marks a node and the chunks below it; gives the nodes below.
    fn visit(&mut self, inner: &Inner, key: NodeKey) -> Result<Vec<TreeId>, Error> {
        let Self { memory, seats, .. } = self;
        match memory.meet(&key) {
            Some(Met::Again) => return Ok(Vec::new()),
            Some(Met::Known(memo)) => {
                for run in &memo.runs {
                    if let Some(seat) = seats.get_mut(run.seat as usize) {
                        run.places().for_each(|place| seat.set(place as usize));
                    }
                }
                return Ok(memo.below.to_vec());
            }
            None => {}
        }
        let begun = self.gathered.len();
        let (node, mut is_firm) = self.read(inner, key)?;
        self.read_count += 1;
        self.memory.note_read(key);
        let mut below = Vec::new();
        match node.into_entries() {
            Entries::Branches(branches) => below.extend(branches.iter().map(|branch| branch.id)),
            Entries::Leaves(leaves) => {
                for leaf in leaves {
                    if let Leaf::Chunk { id, .. } = leaf {
                        is_firm &= self.mark_chunk(inner, key.0, RecordId::from(id))?;
                    }
                }
            }
        }
        if is_firm {
            self.wait_for(begun, key, &below);
        }
        Ok(below)
    }

    /// Has a node remembered once the marks that were gathered for it are set.
    fn wait_for(&mut self, begun: usize, key: NodeKey, below: &[TreeId]) {
        let node = self.waiting.len() as u32;
        let marks = self.gathered.iter_mut().skip(begun);
        for mark in marks.filter(|mark| mark.node == NOBODY) {
            mark.node = node;
        }
        self.waiting.push(Waiting {
            key,
            below: below.into(),
            is_firm: true,
        });
    }

    /// Reads a node from the best copy that is good, and marks that one. Tells whether the mark is one to
    /// be remembered.
    fn read(&mut self, inner: &Inner, (dataset, id): NodeKey) -> Result<(Node, bool), Error> {
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
    ) -> Result<(Node, bool), Error> {
        let mut outcome = Err(Error::RecordNotFound { record });
        for at in copies {
            match inner.read_at(record, *at) {
                Ok(found) => {
                    let is_firm = self.choose(*at, copies);
                    let node = Node::decode(&found.stored).map_err(Error::malformed)?;
                    return Ok((node, is_firm));
                }
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Marks the best copy of a chunk; if none of them is where the index has it, all of them. Tells
    /// whether that is one mark, to be remembered.
    fn mark_chunk(
        &mut self,
        inner: &Inner,
        dataset: DatasetId,
        record: RecordId,
    ) -> Result<bool, Error> {
        let copies = inner.index.copies(dataset, &record)?;
        if copies.is_empty() {
            self.missing.insert((dataset, record));
            return if self.missing.len() > MISSING_MAX {
                Err(Error::RecordNotFound { record })
            } else {
                Ok(false)
            };
        }
        let is_good = |at: &Location| {
            self.seat(at.pack).is_none_or(|seat| seat.is_whole)
                && inner.packs.vouch(&*inner.vfs, &record, *at)
        };
        match copies.iter().copied().find(is_good) {
            Some(at) => Ok(self.choose(at, &copies)),
            None => {
                for at in copies {
                    self.gather(at, NOBODY);
                }
                Ok(false)
            }
        }
    }

    fn seat(&self, pack: PackId) -> Option<&Seat> {
        let number = self.memory.number_of(pack)?;
        self.seats.get(number as usize)
    }

    /// Marks one of a record's copies, and takes note of the others, which may be remembered elsewhere.
    /// Tells whether its pack is one that the cycle sees.
    fn choose(&mut self, best: Location, copies: &[Location]) -> bool {
        if self.has_earlier {
            for other in copies.iter().filter(|at| **at != best) {
                if self.seat(other.pack).is_some_and(|seat| seat.is_trusted) {
                    self.gather(*other, OUTDONE);
                }
            }
        }
        self.gather(best, NOBODY)
    }

    /// Gathers a mark; tells whether there is a pack to be marked.
    fn gather(&mut self, at: Location, node: u32) -> bool {
        let Some(seat) = self.memory.number_of(at.pack) else {
            return false;
        };
        match u32::try_from(at.offset) {
            Ok(at) => {
                self.gathered.push(Gathered { seat, at, node });
                true
            }
            // No pack is that long.
            Err(_) => {
                if let Some(seat) = self.seats.get_mut(seat as usize) {
                    seat.disown();
                }
                false
            }
        }
    }

    /// Brings gathered marks to the tables of at most `tables_max` packs; tells whether that was all.
    fn bring(&mut self, inner: &Inner, tables_max: usize) -> Result<bool, Error> {
        if self.brought.is_none() {
            self.gathered.sort_unstable();
            self.gathered.dedup();
        }
        let mut start = self.brought.unwrap_or_default();
        for _ in 0..tables_max {
            let rest = self.gathered.get(start..).unwrap_or_default();
            let Some(Gathered { seat, .. }) = rest.first().copied() else {
                self.remember();
                self.brought = None;
                return Ok(true);
            };
            let end = start + rest.partition_point(|mark| mark.seat == seat);
            self.set(inner, seat, start..end)?;
            start = end;
            self.brought = Some(start);
        }
        Ok(false)
    }

    /// Sets the bits of one pack.
    fn set(
        &mut self,
        inner: &Inner,
        number: u32,
        range: std::ops::Range<usize>,
    ) -> Result<(), Error> {
        let Self {
            memory,
            seats,
            gathered,
            waiting,
            ..
        } = self;
        let seat = seats.get_mut(number as usize);
        let Some((seat, pack)) = seat.and_then(|seat| seat.pack.map(|pack| (seat, pack))) else {
            return Ok(());
        };
        // The scrub may have set it aside meanwhile.
        let is_there = inner.fates().is_readable(pack);
        let entries = match is_there {
            true => by_offset(inner, pack)?,
            false => Vec::new(),
        };
        let mut is_odd = false;
        for mark in gathered.get_mut(range).unwrap_or_default() {
            let offset = u64::from(mark.at);
            let place = entries.binary_search_by_key(&offset, |entry| entry.offset);
            match (place, mark.node) {
                (Ok(place), OUTDONE) => memory.note_outdone(number, place as u32),
                (Err(_), OUTDONE) => {}
                (Ok(place), _) => {
                    seat.set(place);
                    mark.at = place as u32;
                }
                (Err(_), node) => {
                    is_odd = true;
                    if let Some(node) = waiting.get_mut(node as usize) {
                        node.is_firm = false;
                    }
                }
            }
        }
        if is_there {
            seat.weigh(&entries);
            if is_odd {
                seat.disown();
            }
        }
        Ok(())
    }

    /// Remembers the nodes all of whose marks are set.
    fn remember(&mut self) {
        let (mut gathered, waiting) = (
            std::mem::take(&mut self.gathered),
            std::mem::take(&mut self.waiting),
        );
        gathered.sort_unstable_by_key(|mark| (mark.node, mark.seat, mark.at));
        let mut groups = gathered.chunk_by(|a, b| a.node == b.node);
        // In the order of nodes, and each has a mark of its own.
        for (node, number) in waiting.into_iter().zip(0..) {
            let marks = groups.next().filter(|marks| is_of(marks, number));
            if let Some(marks) = marks.filter(|_| node.is_firm) {
                self.memory.learn(node.key, runs(marks), node.below);
            }
        }
        gathered.clear();
        self.gathered = gathered;
    }

    /// Finds the bytes of what is marked in packs whose marks are not those of the last cycle; tells whether
    /// that was all.
    fn weigh(&mut self, inner: &Inner, tables_max: usize) -> Result<bool, Error> {
        let Self { memory, seats, .. } = self;
        let mut left = tables_max;
        for seat in seats {
            let is_to_do = !seat.is_weighed && !seat.bits.is_empty();
            let Some(pack) = seat.pack.filter(|_| is_to_do) else {
                continue;
            };
            if let Some(live_bytes) = memory.weight(pack, &seat.bits) {
                seat.live_bytes = live_bytes;
                seat.is_weighed = true;
                continue;
            }
            if left == 0 {
                return Ok(false);
            }
            left -= 1;
            // Of what the scrub set aside meanwhile, nothing is decided here any more.
            let is_there = inner.fates().is_readable(pack);
            seat.weigh(&match is_there {
                true => by_offset(inner, pack)?,
                false => Vec::new(),
            });
        }
        Ok(true)
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

    /// Takes note that the live records of a pack were copied to another one.
    pub(super) fn note_copied(&mut self, pack: PackId) {
        self.memory.note_copied(pack);
    }

    /// Nodes that were read.
    pub(super) const fn read_count(&self) -> u64 {
        self.read_count
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
    fn set(&mut self, place: usize) {
        if self.bits.len() <= place / 64 {
            let words = (self.entry_count as usize).div_ceil(64);
            self.bits.resize(words.max(place / 64 + 1), 0);
        }
        let Some(word) = self.bits.get_mut(place / 64) else {
            return;
        };
        let bit = 1 << (place % 64);
        self.is_weighed &= *word & bit != 0;
        *word |= bit;
    }

    fn has(&self, place: usize) -> bool {
        let word = self.bits.get(place / 64).copied().unwrap_or_default();
        word & (1 << (place % 64)) != 0
    }

    /// Adds up the bytes of what is marked.
    fn weigh(&mut self, entries: &[Entry]) {
        let marked = entries
            .iter()
            .zip(0..)
            .filter(|(_, place)| self.has(*place));
        let bytes = marked.map(|(entry, _)| RECORD_HEADER_LEN as u64 + u64::from(entry.stored_len));
        self.live_bytes = bytes.sum();
        self.is_weighed = true;
    }

    /// Leaves a pack alone that is not as the index has it.
    fn disown(&mut self) {
        if let Some(pack) = self.pack {
            tracing::error!(%pack, "the index has a record that the pack does not");
        }
        self.is_whole = false;
    }
}

/// Whether these are the marks of the node with that number.
fn is_of(marks: &[Gathered], number: u32) -> bool {
    marks.first().is_some_and(|mark| mark.node == number)
}

/// The marks of one node, in the order of packs and places, as runs.
fn runs(marks: &[Gathered]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for Gathered { seat, at, .. } in marks {
        match runs.last_mut() {
            Some(run) if run.seat == *seat && run.places().end == *at => run.count += 1,
            _ => runs.push(Run {
                seat: *seat,
                place: *at,
                count: 1,
            }),
        }
    }
    runs
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
pub(crate) mod tests;
