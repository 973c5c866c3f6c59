//! Every index against a plain map.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use stillwater_format::pack::Codec;

use super::*;

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
#[derive(Debug, Clone, Default)]
struct Model {
    packs: BTreeMap<PackId, PackTable>,
    condemned: BTreeSet<PackId>,
    /// All packs that ever came.
    ever: Vec<PackId>,
}

fn dataset(number: u8) -> DatasetId {
    DatasetId::from_bytes([number; 16])
}

fn entry(kind: RecordKind, id: [u8; 32], place: u32) -> Entry {
    Entry {
        kind,
        id,
        offset: u64::from(place) * 1000 + 64,
        stored_len: place + 17,
        plain_len: place + 1,
        counter: 0,
        slot: 0,
        codec: Codec::Raw,
    }
}

impl Model {
    fn make(&mut self, number: u8, records: &[(bool, u8)]) -> PackTable {
        let pack = PackId::from_bytes((self.ever.len() as u128 + 1).to_be_bytes());
        let kind = |is_node| {
            if is_node {
                RecordKind::Node
            } else {
                RecordKind::Chunk
            }
        };
        let records: BTreeSet<_> = records
            .iter()
            .map(|(n, id)| (kind(*n), [*id; 32]))
            .collect();
        let mut entries = vec![entry(
            RecordKind::Salt,
            *blake3::hash(pack.as_bytes()).as_bytes(),
            0,
        )];
        entries.extend(
            records
                .into_iter()
                .zip(1..)
                .map(|((kind, id), n)| entry(kind, id, n)),
        );
        let header = Header {
            pack,
            dataset: dataset(number),
            fence: self.ever.len() as u64,
        };
        let facts = PackFacts::of(&header, &entries, 1_000_000, true);
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
            for kind in [RecordKind::Chunk, RecordKind::Node] {
                for id in 0..=IDS {
                    let record = RecordId { kind, id: [id; 32] };
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
                    packs
                        .iter()
                        .for_each(|pack| drop(self.condemned.remove(pack)));
                }
                Turn::Forget(picks) => {
                    let packs = self.pick(picks);
                    index.forget(&packs);
                    for pack in packs {
                        self.condemned.remove(&pack);
                        self.packs.remove(&pack);
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

proptest! {
    #[test]
    fn the_index_in_memory_agrees_with_a_plain_map(turns in turns()) {
        Model::default().play(&turns, |_| Box::new(MemoryIndex::default()));
    }
}
