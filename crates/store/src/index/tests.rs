//! Every index against a plain map.

use std::collections::{BTreeMap, BTreeSet};

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use stillwater_format::pack::{Builder, Codec, RecordHeader};
use stillwater_types::ChunkId;

use super::*;
use crate::layout;
use crate::tests::memfs::{MemFs, Trouble};
use crate::tests::rig::TestRng;
use crate::vfs::{Access, File, Medium, Name, Room, Vfs};

/// Something that happens to an index.
#[derive(Debug, Clone)]
enum Turn {
    /// A pack comes with these records: whether they are nodes, and their ids.
    Add(u8, Vec<(bool, u8)>),
    /// Packs by their place among all that ever came.
    Condemn(Vec<prop::sample::Index>),
    Spare(Vec<prop::sample::Index>),
    Forget(Vec<prop::sample::Index>),
    /// The process ends and another one begins.
    Reopen,
    /// At the next turn, this call of those that write fails.
    Stumble(u64),
}

const DATASETS: u8 = 2;
const IDS: u8 = 24;

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let some = || prop::collection::vec(any::<prop::sample::Index>(), 1..3);
    let records = prop::collection::vec((any::<bool>(), 0..IDS), 0..10);
    let turn = prop_oneof![
        8 => (0..DATASETS, records).prop_map(|(dataset, records)| Turn::Add(dataset, records)),
        1 => some().prop_map(Turn::Condemn),
        1 => some().prop_map(Turn::Spare),
        1 => some().prop_map(Turn::Forget),
        1 => Just(Turn::Reopen),
        2 => (1..12u64).prop_map(Turn::Stumble),
    ];
    prop::collection::vec(turn, 0..40)
}

/// What is true.
#[derive(Debug, Clone)]
struct Model {
    fs: MemFs,
    packs: BTreeMap<PackId, PackTable>,
    condemned: BTreeSet<PackId>,
    /// All packs that ever came.
    ever: Vec<PackId>,
}

impl Default for Model {
    fn default() -> Self {
        let fs = MemFs::new();
        for dir in layout::directories() {
            fs.make_dir(&dir).unwrap();
        }
        Self {
            fs,
            packs: BTreeMap::new(),
            condemned: BTreeSet::new(),
            ever: Vec::new(),
        }
    }
}

fn dataset(number: u8) -> DatasetId {
    DatasetId::from_bytes([number; 16])
}

/// Some ids differ from their first byte on, some only late.
fn record(is_node: bool, number: u8) -> RecordId {
    let mut id = [number; 32];
    if number % 2 == 1 {
        id[..24].fill(3);
    }
    match is_node {
        false => RecordId {
            kind: RecordKind::Chunk,
            id,
        },
        true => RecordId {
            kind: RecordKind::Node,
            id: *blake3::hash(&[number]).as_bytes(),
        },
    }
}

fn header(is_node: bool, number: u8) -> (RecordHeader, Vec<u8>) {
    if is_node {
        let stored = vec![number];
        return (RecordHeader::node(&stored).unwrap(), stored);
    }
    let stored = vec![number; 20 + usize::from(number)];
    let id = ChunkId::from_bytes(record(false, number).id);
    let header = RecordHeader::chunk(id, Codec::Zstd, 0, u32::from(number), 4096, &stored);
    (header.unwrap(), stored)
}

impl Model {
    /// Writes a pack and gives its table.
    fn make(&mut self, number: u8, records: &[(bool, u8)]) -> PackTable {
        let pack = PackId::from_bytes((self.ever.len() as u128 + 1).to_be_bytes());
        let fence = self.ever.len() as u64;
        let dataset = dataset(number);
        let head = Header {
            pack,
            dataset,
            fence,
        };
        let (mut builder, start) = Builder::begin(&head);
        let mut bytes = start.to_vec();
        let salt = *blake3::hash(pack.as_bytes()).as_bytes();
        let mut put = |header: RecordHeader, stored: &[u8]| {
            bytes.extend_from_slice(&builder.append(&header, stored).unwrap());
            bytes.extend_from_slice(stored);
        };
        put(RecordHeader::salt(0, &salt), &salt);
        for (is_node, number) in records.iter().collect::<BTreeSet<_>>() {
            let (header, stored) = header(*is_node, *number);
            put(header, &stored);
        }
        let (end, entries) = builder.finish();
        bytes.extend_from_slice(&end);
        let file = self.fs.create_new(&layout::pack(pack)).unwrap();
        file.write_at(&bytes, 0).unwrap();
        let facts = PackFacts::of(&head, &entries, bytes.len() as u64, true);
        self.packs.insert(pack, (facts.clone(), entries.clone()));
        self.ever.push(pack);
        (facts, entries)
    }

    fn pick(&self, picks: &[prop::sample::Index]) -> Vec<PackId> {
        let some =
            |pick: &prop::sample::Index| (!self.ever.is_empty()).then(|| *pick.get(&self.ever));
        picks.iter().filter_map(some).collect()
    }

    /// Packs come in the order of their ids, also after they were read again.
    fn copies(&self, dataset: DatasetId, record: &RecordId) -> Vec<Location> {
        let mut found = Vec::new();
        for (pack, (facts, entries)) in &self.packs {
            let hit = entries
                .iter()
                .find(|e| (e.kind, e.id) == (record.kind, record.id));
            if let (true, Some(entry)) = (facts.dataset == dataset, hit) {
                let at = Location {
                    pack: *pack,
                    offset: entry.offset,
                    stored_len: entry.stored_len,
                    plain_len: entry.plain_len,
                };
                found.push((!self.condemned.contains(pack), at));
            }
        }
        found.sort_by_key(|(good, at)| (*good, at.pack));
        found.into_iter().rev().map(|(_, at)| at).collect()
    }

    #[track_caller]
    fn check(&self, index: &dyn Index) {
        for number in 0..DATASETS {
            for is_node in [false, true] {
                for id in 0..=IDS {
                    let record = record(is_node, id);
                    let found = index.copies(dataset(number), &record).unwrap();
                    assert_eq!(found, self.copies(dataset(number), &record), "{record}");
                }
            }
        }
        let sum = |count: fn(&PackFacts) -> u32| {
            self.packs
                .values()
                .map(|(facts, _)| u64::from(count(facts)))
                .sum::<u64>()
        };
        let IndexCount {
            chunk_count,
            node_count,
        } = index.count();
        assert_eq!(chunk_count, sum(|facts| facts.chunk_count));
        assert_eq!(node_count, sum(|facts| facts.node_count));
    }

    /// Opens an index as the store does.
    fn load(&self, index: &dyn Index) {
        let condemned: Vec<_> = self.condemned.iter().copied().collect();
        index.condemn(&condemned);
        let covered = index.open(&self.packs.keys().copied().collect());
        let mut missing = self.packs.clone();
        for facts in covered {
            assert_eq!(
                missing.remove(&facts.pack).map(|(known, _)| known),
                Some(facts)
            );
        }
        index.add_all(&mut missing.into_values().map(Ok)).unwrap();
    }

    /// Does the same to model and index; `begin` gives the index of the next process.
    fn play(
        &mut self,
        turns: &[Turn],
        mut begin: impl FnMut(&Model) -> Box<dyn Index>,
    ) -> Box<dyn Index> {
        let mut index = begin(self);
        self.load(&*index);
        let mut stumble = None;
        for turn in turns {
            let trip = |fs: &MemFs, stumble: Option<u64>| {
                if let Some(call) = stumble {
                    fs.trouble_at(call, Trouble::Error(ErrorKind::StorageFull));
                }
            };
            match turn {
                Turn::Add(number, records) => {
                    let (facts, entries) = self.make(*number, records);
                    trip(&self.fs, stumble.take());
                    index.add(&facts, &entries).unwrap();
                    index.add(&facts, &entries).unwrap();
                }
                Turn::Condemn(picks) => {
                    let packs = self.pick(picks);
                    index.condemn(&packs);
                    self.condemned.extend(packs);
                }
                Turn::Spare(picks) => {
                    let packs = self.pick(picks);
                    index.spare(&packs);
                    self.condemned.retain(|pack| !packs.contains(pack));
                }
                Turn::Forget(picks) => {
                    let packs = self.pick(picks);
                    index.forget(&packs);
                    for pack in packs {
                        self.condemned.remove(&pack);
                        if self.packs.remove(&pack).is_some() {
                            self.fs.remove_file(&layout::pack(pack)).unwrap();
                        }
                    }
                }
                Turn::Reopen => {
                    drop(index);
                    index = begin(self);
                    trip(&self.fs, stumble.take());
                    self.load(&*index);
                }
                Turn::Stumble(call) => stumble = Some(*call),
            }
            self.fs.heal();
            self.check(&*index);
        }
        index
    }
}

/// Bounds so small that every few packs make a segment, and every few segments a merge.
const SMALL: IndexLimits = IndexLimits {
    fresh_records: 12,
    fresh_packs: 3,
    bulk_records: 30,
    fan_in: 2,
};

fn segments(fs: &MemFs, limits: IndexLimits) -> SegmentIndex {
    let rng = Arc::new(TestRng::default());
    SegmentIndex::with(Arc::new(fs.clone()), rng, limits, Upkeep::Caller)
}

fn kept(fs: &MemFs) -> Vec<PathBuf> {
    fs.files_in(layout::INDEX)
}

proptest! {
    #[test]
    fn the_index_in_memory_agrees_with_a_plain_map(turns in turns()) {
        Model::default().play(&turns, |_| Box::new(MemoryIndex::default()));
    }

    #[test]
    fn the_index_in_segments_agrees_with_a_plain_map(turns in turns()) {
        let mut model = Model::default();
        let index = model.play(&turns, |model| Box::new(segments(&model.fs, SMALL)));
        drop(index);
        let stumbled = turns.iter().any(|turn| matches!(turn, Turn::Stumble(_)));
        prop_assert!(stumbled || model.fs.files_in("tmp").is_empty());
    }

    #[test]
    fn any_flipped_byte_or_cut_is_noticed_or_harmless(
        turns in turns(),
        file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
        cuts in any::<bool>(),
        opens_after in any::<bool>(),
    ) {
        let mut model = Model::default();
        let index = model.play(&turns, |model| Box::new(segments(&model.fs, SMALL)));
        drop(index);
        model.make(0, &[(false, 1), (true, 2)]);
        let index = segments(&model.fs, SMALL);
        model.load(&index);
        index.settle();
        model.check(&index);
        let files = kept(&model.fs);
        prop_assert!(!files.is_empty());
        let path = file.get(&files);
        let mut bytes = model.fs.bytes(path).unwrap();
        let at = at.index(bytes.len());
        if cuts {
            bytes.truncate(at);
        } else {
            bytes[at] ^= flip;
        }
        model.fs.set_bytes(path, bytes);
        if opens_after {
            drop(index);
            let index = segments(&model.fs, SMALL);
            model.load(&index);
            model.check(&index);
        } else {
            model.check(&index);
            index.settle();
            model.check(&index);
        }
    }
}

/// A model with some packs, and their index in segments, closed.
fn filled(packs: u8) -> Model {
    let mut model = Model::default();
    let records: Vec<_> = (0..IDS).map(|id| (id % 3 == 0, id)).collect();
    let turns: Vec<_> = (0..packs)
        .map(|n| Turn::Add(n % DATASETS, records[usize::from(n % 8)..].to_vec()))
        .collect();
    drop(model.play(&turns, |model| Box::new(segments(&model.fs, SMALL))));
    model
}

fn garble(fs: &MemFs) {
    for path in kept(fs) {
        let mut bytes = fs.bytes(&path).unwrap();
        bytes[10] ^= 1;
        fs.set_bytes(&path, bytes);
    }
}

#[test]
fn a_damaged_index_is_kept_in_quarantine_until_the_next_one() {
    let model = filled(9);
    let index = segments(&model.fs, SMALL);
    model.load(&index);
    let mut aside = Vec::new();
    for turn in 1..4 {
        let damaged = kept(&model.fs);
        garble(&model.fs);
        model.check(&index);
        assert_eq!(index.size().rebuilt_count, turn);
        aside = model.fs.files_in("quarantine/index");
        assert_eq!(aside.len(), damaged.len());
    }
    assert!(!aside.is_empty() && !kept(&model.fs).is_empty());
}

#[test]
fn a_lookup_waits_for_packs_that_cannot_be_read_and_misses_nothing() {
    let model = filled(9);
    let index = segments(&model.fs, SMALL);
    model.load(&index);
    garble(&model.fs);
    model.fs.trouble_at(0, Trouble::Death);
    let found = index.copies(dataset(0), &record(false, 1));
    assert!(found.is_err(), "{found:?}");
    model.fs.heal();
    let gone = *model.packs.keys().next().unwrap();
    index.forget(&[gone]);
    let mut model = model;
    model.packs.remove(&gone);
    model.check(&index);
}

#[test]
fn an_index_that_is_no_directory_is_set_aside() {
    let model = filled(0);
    let fs = MemFs::new();
    for dir in layout::directories() {
        fs.make_dir(&dir).unwrap();
    }
    drop(fs.create_new(Path::new(layout::INDEX)).unwrap());
    let mut model = Model { fs, ..model };
    let turns: Vec<_> = (0..9).map(|id| Turn::Add(0, vec![(false, id)])).collect();
    drop(model.play(&turns, |model| Box::new(segments(&model.fs, SMALL))));
    assert!(!kept(&model.fs).is_empty());
    assert_eq!(model.fs.files_in(layout::QUARANTINE).len(), 1);
}

#[test]
fn packs_that_come_while_segments_are_merged_are_found_at_once() {
    let mut model = Model::default();
    let packs: Vec<_> = (0..200u32)
        .map(|n| model.make(0, &[(false, (n % 24) as u8), (true, (n % 7) as u8)]))
        .collect();
    let rng = Arc::new(TestRng::default());
    let vfs = Arc::new(model.fs.clone());
    let index = SegmentIndex::with(vfs, rng, SMALL, Upkeep::Thread);
    index.open(&HashSet::new());
    std::thread::scope(|scope| {
        for part in packs.chunks(50) {
            let index = &index;
            scope.spawn(move || {
                for (facts, entries) in part {
                    index.add(facts, entries).unwrap();
                    for entry in entries.iter().filter(|e| e.kind != RecordKind::Salt) {
                        let (kind, id) = (entry.kind, entry.id);
                        let found = index.copies(facts.dataset, &RecordId { kind, id }).unwrap();
                        assert!(found.iter().any(|at| at.pack == facts.pack));
                    }
                }
            });
        }
    });
    drop(index);
    let index = segments(&model.fs, SMALL);
    model.load(&index);
    let count: u32 = packs.iter().map(|(facts, _)| facts.chunk_count).sum();
    assert_eq!(index.count().chunk_count, u64::from(count));
    // Threads came in any order, so only which copies there are is known.
    for id in 0..IDS {
        let mut found = index.copies(dataset(0), &record(false, id)).unwrap();
        let mut expected = model.copies(dataset(0), &record(false, id));
        found.sort_by_key(|at| at.pack);
        expected.sort_by_key(|at| at.pack);
        assert_eq!(found, expected);
    }
}

/// A file system of which every read of a segment panics while it is told to.
struct Panicking {
    inner: MemFs,
    panics: Arc<AtomicBool>,
}

struct PanickingFile(Box<dyn File>, Arc<AtomicBool>);

impl Vfs for Panicking {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = self.inner.create_new(path)?;
        // Segments are read through the file that they were written to.
        Ok(Box::new(PanickingFile(file, Arc::clone(&self.panics))))
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let file = self.inner.open(path, access)?;
        if path.starts_with(layout::INDEX) {
            return Ok(Box::new(PanickingFile(file, Arc::clone(&self.panics))));
        }
        Ok(file)
    }
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename_noreplace(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.make_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Name>> {
        self.inner.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
    fn room(&self) -> io::Result<Room> {
        self.inner.room()
    }
    fn medium(&self) -> io::Result<Medium> {
        self.inner.medium()
    }
}

impl File for PanickingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        // Once, so that what heals it can read again.
        assert!(!self.1.swap(false, Ordering::SeqCst), "made to panic");
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.reserve(offset, length)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }
}

#[test]
fn a_panic_in_open_lookup_or_merge_makes_the_index_anew() {
    let mut model = filled(9);
    let panics = Arc::new(AtomicBool::new(false));
    let (inner, rng) = (model.fs.clone(), Arc::new(TestRng::default()));
    let vfs = Panicking {
        inner,
        panics: Arc::clone(&panics),
    };
    let index = SegmentIndex::with(Arc::new(vfs), rng, SMALL, Upkeep::Caller);
    panics.store(true, Ordering::SeqCst);
    model.load(&index);
    assert!(!panics.load(Ordering::SeqCst), "opening read no segment");
    model.check(&index);
    panics.store(true, Ordering::SeqCst);
    model.check(&index);
    assert_eq!(index.size().rebuilt_count, 1);
    panics.store(true, Ordering::SeqCst);
    for number in 0..9 {
        let (facts, entries) = model.make(0, &[(false, number), (true, number)]);
        index.add(&facts, &entries).unwrap();
    }
    assert!(!panics.load(Ordering::SeqCst), "no segments were merged");
    model.check(&index);
    assert_eq!(index.size().rebuilt_count, 2);
}
