//! Random sessions, points, deletions, time, cycles and crashes against a model that knows what must
//! be readable, and what must be gone in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use stillwater_format::pack::RecordKind;
use stillwater_types::{PointId, RunId};

use super::super::memfs::MemFs;
use super::super::rig::*;
use crate::*;

/// Everything is compacted that is not wholly live, so that garbage must converge to nothing.
const EAGER: Options = Options {
    retention: Duration::from_secs(3600),
    session_term: Duration::from_secs(40 * 24 * 3600),
    compact_below_percent: 100,
    ..OPTIONS
};

/// Sessions that may be open at once.
const ACTORS: usize = 3;
/// Different chunks.
const SEEDS: u64 = 12;

#[derive(Debug, Clone)]
enum Op {
    /// Opens a session for an actor; a new one of the same run if one is open.
    Open(usize),
    Close(usize),
    /// Asks for chunks and their tree, and sends what is missing: from here on they are promised.
    Send(usize, Vec<u64>),
    /// Makes a point of what was promised, without sending anything.
    Point(usize),
    /// Proposes what was promised, and commits with the next `Commit`.
    Propose(usize),
    Commit(usize),
    Delete(prop::sample::Index),
    Pass(u64),
    /// Begins a cycle if none goes on, and makes steps.
    Step(u8),
    Cycle,
    PowerCut(u64),
    /// The kernel lives on.
    Kill,
}

fn op() -> impl Strategy<Value = Op> {
    let actor = || 0..ACTORS;
    let seeds = prop::collection::vec(0..SEEDS, 1..5);
    prop_oneof![
        3 => actor().prop_map(Op::Open),
        2 => actor().prop_map(Op::Close),
        6 => (actor(), seeds).prop_map(|(actor, seeds)| Op::Send(actor, seeds)),
        4 => actor().prop_map(Op::Point),
        2 => actor().prop_map(Op::Propose),
        2 => actor().prop_map(Op::Commit),
        3 => any::<prop::sample::Index>().prop_map(Op::Delete),
        3 => (1..60u64).prop_map(Op::Pass),
        6 => (1..12u8).prop_map(Op::Step),
        3 => Just(Op::Cycle),
        1 => any::<u64>().prop_map(Op::PowerCut),
        1 => Just(Op::Kill),
    ]
}

#[derive(Debug, Clone)]
struct Actor {
    run: RunId,
    key: Option<SessionKey>,
    /// Disks that the session was told are stored whole.
    promised: Vec<Vec<u64>>,
    proposed: Option<(PointId, Vec<u64>)>,
}

/// Makes the index that a store opens with.
type MakeIndex = fn(&Rig, &MemFs) -> Arc<dyn Index>;

struct World {
    rig: Rig,
    index: MakeIndex,
    fs: MemFs,
    store: Option<Store>,
    collection: Option<Collection>,
    actors: Vec<Actor>,
    points: BTreeMap<PointId, Vec<u64>>,
    turn: u64,
}

impl World {
    fn new(index: MakeIndex) -> Self {
        let rig = Rig::default();
        let fs = MemFs::new();
        rig.init(&fs).unwrap();
        let actor = |n: usize| Actor {
            run: RunId::from_bytes([n as u8; 16]),
            key: None,
            promised: Vec::new(),
            proposed: None,
        };
        let mut world = Self {
            rig,
            index,
            fs,
            store: None,
            collection: None,
            actors: (0..ACTORS).map(actor).collect(),
            points: BTreeMap::new(),
            turn: 0,
        };
        world.open();
        world.store().create_dataset(dataset()).unwrap();
        world
    }

    fn open(&mut self) {
        let env = Environment {
            index: (self.index)(&self.rig, &self.fs),
            ..self.rig.env(&self.fs)
        };
        self.store = Some(Store::open(env, EAGER).unwrap());
    }

    fn store(&self) -> Store {
        self.store.clone().unwrap()
    }

    fn apply(&mut self, op: &Op) {
        self.turn += 1;
        match op {
            Op::Open(actor) => {
                let run = self.actors[*actor].run;
                let key = self.store().open_session(run, dataset().id, 0).unwrap().key;
                let actor = &mut self.actors[*actor];
                actor.key = Some(key);
                // Whoever opens a session asks again.
                actor.promised.clear();
            }
            Op::Close(actor) => {
                let actor = &mut self.actors[*actor];
                actor.promised.clear();
                if let Some(key) = actor.key.take() {
                    self.store().close_session(key).unwrap();
                }
            }
            Op::Send(actor, seeds) => self.send(*actor, seeds),
            Op::Point(actor) => {
                self.propose(*actor);
                self.commit(*actor);
            }
            Op::Propose(actor) => self.propose(*actor),
            Op::Commit(actor) => self.commit(*actor),
            Op::Delete(index) => self.delete(*index),
            Op::Pass(hours) => {
                self.rig.clock.advance(Duration::from_secs(hours * 3600));
                self.store().tick().unwrap();
            }
            Op::Step(steps) => self.step(*steps),
            Op::Cycle => {
                self.collection = None;
                self.store().collect(&()).unwrap();
            }
            Op::PowerCut(seed) => {
                let mut bits = blake3::Hasher::new();
                let mut bits = bits.update(&seed.to_le_bytes()).finalize_xof();
                self.reopen(|fs| {
                    fs.crash(&mut || {
                        let mut byte = [0];
                        bits.fill(&mut byte);
                        byte[0] & 1 == 1
                    })
                });
            }
            Op::Kill => self.reopen(MemFs::restart),
        }
    }

    fn reopen(&mut self, crash: impl FnOnce(&MemFs) -> MemFs) {
        // The cycle dies with the process, and does not tidy up.
        self.fs = crash(&self.fs);
        self.collection = None;
        self.store = None;
        self.open();
    }

    fn send(&mut self, actor: usize, seeds: &[u64]) {
        let Some(key) = self.actors[actor].key else {
            return;
        };
        let store = self.store();
        let mut records = chunks(seeds);
        records.extend(tree(seeds).1);
        let ids: Vec<_> = records.iter().map(Sent::id).collect();
        let found = store.find(key, &ids).unwrap();
        let missing: Vec<_> = records
            .into_iter()
            .zip(found)
            .filter_map(|(record, found)| (!found).then_some(record))
            .collect();
        if !missing.is_empty() {
            put(&store, key, salt(self.turn), &missing).unwrap();
        }
        self.actors[actor].promised.push(seeds.to_vec());
    }

    /// Nothing is sent: what was promised must be enough.
    fn propose(&mut self, actor: usize) {
        let Actor {
            run, key, promised, ..
        } = &self.actors[actor];
        let (Some(key), Some(seeds)) = (*key, promised.last().cloned()) else {
            return;
        };
        let point = PointId::mint();
        let bytes = manifest(point, *run, vec![tree(&seeds).0]).encode();
        let outcome = self.store().propose_point(key, &bytes.unwrap());
        outcome.expect("a promise was broken");
        self.actors[actor].proposed = Some((point, seeds));
    }

    /// A proposal of an earlier session of the run may be refused, and then is no point.
    fn commit(&mut self, actor: usize) {
        let Actor { key, proposed, .. } = &mut self.actors[actor];
        let (Some(key), Some((point, seeds))) = (*key, proposed.take()) else {
            return;
        };
        if self.store().commit_point(key, point).is_ok() {
            self.points.insert(point, seeds);
        }
    }

    fn delete(&mut self, index: prop::sample::Index) {
        if self.points.is_empty() {
            return;
        }
        let point = *self
            .points
            .keys()
            .nth(index.index(self.points.len()))
            .unwrap();
        if self.store().delete_point(point).is_ok() {
            self.points.remove(&point);
        }
    }

    fn step(&mut self, steps: u8) {
        let store = self.store();
        for _ in 0..steps {
            let collection = self
                .collection
                .get_or_insert_with(|| store.begin_collection().unwrap());
            if let Progress::Done(_) = collection.step().unwrap() {
                self.collection = None;
                return;
            }
        }
    }

    /// Every point reads whole, and every promise to an open session holds.
    fn check(&self) {
        let store = self.store();
        let listed: BTreeSet<_> = store
            .points(0, 1000)
            .unwrap()
            .iter()
            .map(|point| point.commit.point)
            .collect();
        assert_eq!(listed, self.points.keys().copied().collect());
        for (point, seeds) in &self.points {
            check_point(&store, *point, seeds);
        }
        for actor in self.actors.iter().filter(|actor| actor.key.is_some()) {
            for seeds in &actor.promised {
                let nodes = tree(seeds).1;
                for sent in nodes.iter().chain(&chunks(seeds)) {
                    check_record(&store, sent);
                }
            }
        }
        gc::check_memory(&store);
    }

    /// With everybody gone and time passing, what is left is what points reach, once.
    fn check_convergence(&mut self) {
        for actor in 0..ACTORS {
            self.apply(&Op::Close(actor));
        }
        for _ in 0..8 {
            self.apply(&Op::Pass(9 * 24));
            self.apply(&Op::Cycle);
            self.check();
        }
        let reachable: BTreeSet<_> = self
            .points
            .values()
            .flat_map(|seeds| [chunks(seeds), tree(seeds).1].concat())
            .map(|sent| sent.id().id)
            .collect();
        let store = self.store();
        let mut stored = Vec::new();
        for pack in store.inner.packs.list() {
            let table = store.inner.packs.table(&*store.inner.vfs, pack).unwrap();
            let records = table.iter().filter(|entry| entry.kind != RecordKind::Salt);
            stored.extend(records.map(|entry| entry.id));
        }
        stored.sort_unstable();
        assert_eq!(stored, reachable.into_iter().collect::<Vec<_>>());
        let index = std::path::Path::new("quarantine/index");
        let aside = self.fs.files_in("quarantine").into_iter();
        assert_eq!(aside.filter(|path| !path.starts_with(index)).count(), 0);
        for dir in ["manifests", "copy/manifests"] {
            assert_eq!(self.fs.files_in(dir).len(), self.points.len());
        }
        let usage = store.usage().unwrap();
        assert_eq!(usage.pack_count, self.fs.files_in("packs").len() as u64);
    }
}

fn check(index: MakeIndex, ops: &[Op]) {
    let mut world = World::new(index);
    for op in ops {
        world.apply(op);
        world.check();
    }
    world.check_convergence();
    world.reopen(|fs| fs.crash(&mut || false));
    world.check_convergence();
}

fn memory(_: &Rig, _: &MemFs) -> Arc<dyn Index> {
    Arc::new(MemoryIndex::default())
}

/// Segments that are written and merged all the time.
fn segments(rig: &Rig, fs: &MemFs) -> Arc<dyn Index> {
    let limits = IndexLimits {
        fresh_records: 12,
        fresh_packs: 3,
        bulk_records: 30,
        fan_in: 2,
    };
    let vfs = Arc::new(fs.clone());
    Arc::new(SegmentIndex::with(
        vfs,
        rig.rng.clone(),
        limits,
        Upkeep::Caller,
    ))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_live_never_leave_and_the_dead_do(ops in prop::collection::vec(op(), 1..60)) {
        check(memory, &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nor_do_they_with_an_index_of_segments(ops in prop::collection::vec(op(), 1..60)) {
        check(segments, &ops);
    }
}
