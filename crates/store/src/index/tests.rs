//! Every index against a plain map.

use std::collections::{BTreeMap, BTreeSet};

use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use stillwater_format::pack::{Builder, Codec, RecordHeader};
use stillwater_types::ChunkId;

use super::*;
use crate::layout;
use crate::tests::memfs::MemFs;
use crate::tests::rig::TestRng;
use crate::vfs::Vfs;

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
        for turn in turns {
            match turn {
                Turn::Add(number, records) => {
                    let (facts, entries) = self.make(*number, records);
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
                    self.load(&*index);
                }
            }
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
        prop_assert!(model.fs.files_in("tmp").is_empty());
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
