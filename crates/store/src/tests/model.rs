//! Random operations against a plain map.

use std::collections::BTreeMap;

use proptest::prelude::*;
use stillwater_types::{PointId, RunId};

use super::memfs::MemFs;
use super::rig::*;
use crate::*;

#[derive(Debug, Clone)]
enum Op {
    Put(Vec<u64>),
    /// A pack that is dropped before it is finished.
    Abandon(Vec<u64>),
    Point(Vec<u64>),
    /// A proposal that nobody commits.
    Propose(Vec<u64>),
    Restart,
    PowerCut(u64),
    NewSession,
    Tick,
}

fn op() -> impl Strategy<Value = Op> {
    let seeds = || prop::collection::vec(0..40u64, 1..8);
    prop_oneof![
        4 => seeds().prop_map(Op::Put),
        1 => seeds().prop_map(Op::Abandon),
        3 => seeds().prop_map(Op::Point),
        1 => seeds().prop_map(Op::Propose),
        1 => Just(Op::Restart),
        2 => any::<u64>().prop_map(Op::PowerCut),
        1 => Just(Op::NewSession),
        1 => Just(Op::Tick),
    ]
}

struct World {
    rig: Rig,
    fs: MemFs,
    store: Option<Store>,
    key: SessionKey,
    turn: u64,
    /// The model: what must be readable.
    chunks: BTreeMap<u64, ()>,
    points: Vec<(PointId, Vec<u64>)>,
}

impl World {
    fn new() -> Self {
        let rig = Rig::default();
        let (fs, store) = rig.fresh();
        let key = store
            .open_session(RunId::from_bytes([1; 16]), dataset().id, 0)
            .unwrap()
            .key;
        let (chunks, points) = (BTreeMap::new(), Vec::new());
        Self {
            rig,
            fs,
            store: Some(store),
            key,
            turn: 0,
            chunks,
            points,
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn apply(&mut self, op: Op) {
        self.turn += 1;
        match op {
            Op::Put(seeds) => {
                put(self.store(), self.key, salt(self.turn), &chunks(&seeds)).unwrap();
                self.chunks.extend(seeds.into_iter().map(|seed| (seed, ())));
            }
            Op::Abandon(seeds) => {
                let mut writer = self.store().begin_pack(self.key, &salt(self.turn)).unwrap();
                for sent in chunks(&seeds) {
                    writer.append(&sent.header, &sent.stored).unwrap();
                }
            }
            Op::Point(seeds) => {
                let point = self.propose(&seeds);
                if let Some(point) = point {
                    self.store().commit_point(self.key, point).unwrap();
                    self.points.push((point, seeds));
                }
            }
            Op::Propose(seeds) => drop(self.propose(&seeds)),
            Op::Restart => self.reopen(|fs| fs.restart()),
            Op::PowerCut(seed) => self.reopen(|fs| {
                let mut bits = blake3::Hasher::new()
                    .update(&seed.to_le_bytes())
                    .finalize_xof();
                fs.crash(&mut || {
                    let mut byte = [0];
                    bits.fill(&mut byte);
                    byte[0] & 1 == 1
                })
            }),
            Op::NewSession => {
                let old = self.key;
                self.key = self
                    .store()
                    .open_session(old.run, dataset().id, 0)
                    .unwrap()
                    .key;
                assert!(self.key.fence > old.fence);
                assert!(self.store().find(old, &[]).is_err());
            }
            Op::Tick => self.store().tick().unwrap(),
        }
    }

    /// Proposes a point; refused exactly when the model lacks a chunk.
    fn propose(&self, seeds: &[u64]) -> Option<PointId> {
        let (root, nodes) = tree(seeds);
        put(self.store(), self.key, salt(self.turn), &nodes).unwrap();
        let point = PointId::mint();
        let bytes = manifest(point, self.key.run, vec![root]).encode().unwrap();
        let outcome = self.store().propose_point(self.key, &bytes);
        let complete = seeds.iter().all(|seed| self.chunks.contains_key(seed));
        assert_eq!(outcome.is_ok(), complete, "{outcome:?}");
        complete.then_some(point)
    }

    fn reopen(&mut self, crash: impl FnOnce(&MemFs) -> MemFs) {
        self.fs = crash(&self.fs);
        self.store = None;
        self.store = Some(self.rig.open(&self.fs).unwrap());
    }

    fn check(&self) {
        for seed in 0..40 {
            let sent = chunk(seed, 0);
            let outcome = self.store().read(dataset().id, sent.id());
            assert_eq!(
                outcome.is_ok(),
                self.chunks.contains_key(&seed),
                "{seed}: {outcome:?}"
            );
            if let Ok(read) = outcome {
                assert_eq!(read.stored, sent.stored);
                assert!(read.salt.is_some());
            }
        }
        let listed: Vec<_> = self
            .store()
            .points(0, 1000)
            .unwrap()
            .iter()
            .map(|p| p.commit.point)
            .collect();
        let wanted: Vec<_> = self.points.iter().map(|(point, _)| *point).collect();
        assert_eq!(listed, wanted);
        for (point, seeds) in &self.points {
            check_point(self.store(), *point, seeds);
        }
        let usage = self.store().usage().unwrap();
        assert_eq!(usage.chunk_count, self.chunks.len() as u64);
        assert_eq!(usage.point_count, self.points.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_agrees_with_a_plain_map(ops in prop::collection::vec(op(), 1..25)) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
        }
        world.check();
        world.reopen(|fs| fs.crash(&mut || false));
        world.check();
    }
}
