//! A store, runs that use it, and what they were promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use stillwater_format::commit::AdminKey;
use stillwater_format::pack::RecordId;
use stillwater_store::vfs::Vfs;
use stillwater_store::*;
use stillwater_testkit::fault_fs::{Journal, Trouble};
use stillwater_testkit::{Dice, FaultClock, FaultFs, SeededRng};
use stillwater_types::{ClusterId, NodeId, PointId, RunId};

use super::content::{Sent, dataset, disk, manifest};

const RUNS: usize = 3;
const SEEDS: u64 = 6;
const HOUR: Duration = Duration::from_secs(3600);

const OPTIONS: Options = Options {
    allow_volatile: true,
    reserve_bytes: 0,
    retention: Duration::from_secs(3600),
    session_term: Duration::from_secs(40 * 3600),
    // What is live in part is compacted, so that nothing but what points reach is left.
    compact_below_percent: 100,
    ..Options::DEFAULT
};

/// Nobody signs anything here.
struct NoVerifier;

impl Verifier for NoVerifier {
    fn verify(&self, _: &AdminKey, _: &[u8], _: &[u8; 64]) -> bool {
        false
    }
}

/// What a run does next.
enum Stage {
    Idle,
    Ask,
    Send {
        left: Vec<Sent>,
    },
    Write {
        writer: Box<PackWriter>,
        left: Vec<Sent>,
        sent: Vec<RecordId>,
    },
    Propose,
    Commit,
    Leave,
}

/// A run as its proxy and controller see it.
struct Run {
    id: RunId,
    key: Option<SessionKey>,
    stage: Stage,
    disk: Vec<u8>,
    /// What this session was told that it may rely on.
    promised: BTreeSet<RecordId>,
    point: PointId,
}

/// A store, and all that was promised by it.
pub struct World {
    dice: Dice,
    fs: FaultFs,
    clock: Arc<FaultClock>,
    rng: Arc<SeededRng>,
    uses_segments: bool,
    store: Option<Store>,
    collection: Option<Collection>,
    runs: Vec<Run>,
    kept: BTreeMap<PointId, Vec<u8>>,
    deleted: BTreeSet<PointId>,
    turn: u64,
    pub committed_count: u64,
    pub removed_count: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let run = |number| Run {
            id: RunId::from_bytes([number; 16]),
            key: None,
            stage: Stage::Idle,
            disk: Vec::new(),
            promised: BTreeSet::new(),
            point: PointId::from_bytes([0; 16]),
        };
        let mut world = Self {
            fs: FaultFs::default(),
            clock: Arc::default(),
            rng: Arc::new(SeededRng::new(dice.draw())),
            uses_segments: dice.one_in(4),
            store: None,
            collection: None,
            runs: (1..).take(RUNS).map(run).collect(),
            kept: BTreeMap::new(),
            deleted: BTreeSet::new(),
            turn: 0,
            committed_count: 0,
            removed_count: 0,
            dice,
        };
        let identity = Identity {
            cluster: ClusterId::from_bytes([0xc1; 16]),
            node: NodeId::from_bytes([0xd2; 16]),
        };
        Store::init(&world.env(), &OPTIONS, identity).expect("a repository");
        world.open();
        world.store().create_dataset(dataset()).expect("a dataset");
        world
    }

    fn env(&self) -> Environment {
        let vfs: Arc<dyn Vfs> = Arc::new(self.fs.clone());
        let limits = IndexLimits {
            fresh_records: 12,
            fresh_packs: 3,
            bulk_records: 20,
            fan_in: 2,
        };
        let index: Arc<dyn Index> = if self.uses_segments {
            let (vfs, rng) = (Arc::clone(&vfs), self.rng.clone());
            Arc::new(SegmentIndex::with(vfs, rng, limits, Upkeep::Caller))
        } else {
            Arc::new(MemoryIndex::default())
        };
        Environment {
            vfs,
            clock: self.clock.clone(),
            rng: self.rng.clone(),
            catalogue: Box::new(MemoryCatalogue::default()),
            index,
            verifier: Arc::new(NoVerifier),
        }
    }

    fn open(&mut self) {
        let opened = Store::open(self.env(), OPTIONS);
        self.store = Some(opened.expect("a repository that opens"));
    }

    fn store(&self) -> Store {
        self.store.clone().expect("an open store")
    }

    /// Whoever is drawn does one step.
    pub fn step(&mut self) {
        self.turn += 1;
        match self.dice.below(100) {
            0..66 => {
                let run = self.dice.place(RUNS);
                self.step_run(run);
            }
            66..85 => {
                for _ in 0..=self.dice.below(4) {
                    self.step_collection();
                }
            }
            85..89 => self.delete(),
            89..94 => {
                let hours = 1 + self.dice.below(36);
                self.pass(hours);
            }
            94..96 => {
                let found = self.store().scrub(u64::MAX, &()).expect("a scrub");
                assert_eq!(found.damaged_pack_count, 0);
            }
            96..98 => self.check(),
            _ => self.crash(),
        }
    }

    fn step_run(&mut self, number: usize) {
        if self.runs[number].key.is_some() && self.dice.one_in(25) {
            // The run begins again while its older session is open. What that was told is believed on.
            return self.open_session(number);
        }
        let stage = std::mem::replace(&mut self.runs[number].stage, Stage::Idle);
        self.runs[number].stage = match stage {
            Stage::Idle => {
                self.choose_disk(number);
                self.open_session(number);
                // Some splice what they never asked for.
                if self.dice.one_in(5) {
                    Stage::Propose
                } else {
                    Stage::Ask
                }
            }
            Stage::Ask => self.ask(number),
            Stage::Send { left } => self.begin_pack(number, left),
            Stage::Write { writer, left, sent } => self.write(number, writer, left, sent),
            Stage::Propose => self.propose(number),
            Stage::Commit => self.commit(number),
            Stage::Leave => self.leave(number),
        };
    }

    fn choose_disk(&mut self, number: usize) {
        let count = 1 + self.dice.below(4);
        let seeds = (0..count).map(|_| self.dice.below(SEEDS) as u8).collect();
        let mut point = [0xa0; 16];
        point[..8].copy_from_slice(&self.turn.to_be_bytes());
        self.runs[number].disk = seeds;
        self.runs[number].point = PointId::from_bytes(point);
    }

    fn open_session(&mut self, number: usize) {
        let (store, id) = (self.store(), self.runs[number].id);
        let session = store.open_session(id, dataset().id, 0).expect("a session");
        let run = &mut self.runs[number];
        let older = run.key.replace(session.key);
        run.promised.clear();
        if let Some(older) = older {
            assert!(session.key.fence > older.fence, "a fence was given twice");
            let refused = store.begin_pack(older, &[9; 32]).err();
            assert!(
                matches!(refused, Some(Error::FenceStale { .. })),
                "{refused:?}"
            );
        }
    }

    /// The session may be over since its term is; then the run begins again.
    fn is_over(&mut self, number: usize, error: &Error) -> bool {
        let is_over = matches!(error, Error::FenceStale { .. });
        if is_over {
            self.runs[number].key = None;
            self.runs[number].promised.clear();
        }
        is_over
    }

    fn ask(&mut self, number: usize) -> Stage {
        let (store, key) = (self.store(), self.key(number));
        let records = disk(&self.runs[number].disk).1;
        let ids: Vec<_> = records.iter().map(Sent::id).collect();
        let found = match store.find(key, &ids) {
            Ok(found) => found,
            Err(error) if self.is_over(number, &error) => return Stage::Idle,
            Err(error) => panic!("find: {error}"),
        };
        for (id, is_stored) in ids.iter().zip(&found) {
            let was_promised = self.runs[number].promised.contains(id);
            assert!(
                *is_stored || !was_promised,
                "{id} was promised and is not there"
            );
        }
        let (known, left): (Vec<_>, Vec<_>) = records
            .into_iter()
            .zip(found)
            .partition(|(_, is_stored)| *is_stored);
        let promised = &mut self.runs[number].promised;
        promised.extend(known.iter().map(|(sent, _)| sent.id()));
        match left.is_empty() {
            true => Stage::Propose,
            false => Stage::Send {
                left: left.into_iter().map(|(sent, _)| sent).collect(),
            },
        }
    }

    fn begin_pack(&mut self, number: usize, left: Vec<Sent>) -> Stage {
        let salt = *blake3::hash(&self.turn.to_le_bytes()).as_bytes();
        match self.store().begin_pack(self.key(number), &salt) {
            Ok(writer) => Stage::Write {
                writer: Box::new(writer),
                left,
                sent: Vec::new(),
            },
            Err(error) if self.is_over(number, &error) => Stage::Idle,
            Err(error) => panic!("begin a pack: {error}"),
        }
    }

    fn write(
        &mut self,
        number: usize,
        mut writer: Box<PackWriter>,
        mut left: Vec<Sent>,
        mut sent: Vec<RecordId>,
    ) -> Stage {
        let last = left.pop();
        let outcome = match &last {
            Some(record) => writer.append(&record.header, &record.stored).map(drop),
            None => return self.finish_pack(number, *writer, &sent),
        };
        match outcome {
            Ok(()) => {
                sent.extend(last.iter().map(Sent::id));
                Stage::Write { writer, left, sent }
            }
            Err(error) if self.is_over(number, &error) => Stage::Idle,
            Err(error) => panic!("send a record: {error}"),
        }
    }

    fn finish_pack(&mut self, number: usize, writer: PackWriter, sent: &[RecordId]) -> Stage {
        match writer.finish() {
            Ok(_) => {
                self.runs[number].promised.extend(sent.iter().copied());
                Stage::Propose
            }
            Err(error) if self.is_over(number, &error) => Stage::Idle,
            // The run began again while the pack was under way.
            Err(error) => panic!("finish a pack: {error}"),
        }
    }

    fn propose(&mut self, number: usize) -> Stage {
        let Run {
            id,
            disk: seeds,
            point,
            promised,
            ..
        } = &self.runs[number];
        let (root, records) = disk(seeds);
        let is_promised = records.iter().all(|sent| promised.contains(&sent.id()));
        let bytes = manifest(*point, *id, root);
        match self.store().propose_point(self.key(number), &bytes) {
            Ok(_) => Stage::Commit,
            Err(error) if self.is_over(number, &error) => Stage::Idle,
            Err(Error::RecordNotFound { record }) => {
                assert!(!is_promised, "{record} was promised and is not there");
                Stage::Ask
            }
            Err(error) => panic!("propose: {error}"),
        }
    }

    fn commit(&mut self, number: usize) -> Stage {
        let (key, point) = (self.key(number), self.runs[number].point);
        match self.store().commit_point(key, point) {
            Ok(_) => {
                self.committed_count += 1;
                self.kept.insert(point, self.runs[number].disk.clone());
                self.check_point(point);
                Stage::Leave
            }
            Err(error) if self.is_over(number, &error) => Stage::Idle,
            // What an older session proposed is walked again, and something of it may be out of sight.
            Err(Error::RecordNotFound { .. }) => Stage::Ask,
            // A cycle found it without a session, and its id is spent.
            Err(Error::PointNotFound(_) | Error::ProposalRefused { .. }) => Stage::Leave,
            Err(error) => panic!("commit: {error}"),
        }
    }

    fn leave(&mut self, number: usize) -> Stage {
        let key = self.key(number);
        // Its answer may have been lost: it is asked again, and must not bring a point back.
        if self.dice.one_in(3) {
            let point = self.runs[number].point;
            let again = self.store().commit_point(key, point);
            let is_there = self.kept.contains_key(&point);
            assert!(again.is_ok() <= is_there, "a deleted point came back");
        }
        match self.store().close_session(key) {
            Ok(()) => {}
            Err(error) => panic!("close a session: {error}"),
        }
        let run = &mut self.runs[number];
        run.key = None;
        run.promised.clear();
        Stage::Idle
    }

    /// The session of a run that has begun.
    fn key(&self, number: usize) -> SessionKey {
        self.runs[number].key.expect("a run that has begun")
    }

    fn step_collection(&mut self) {
        if self.collection.is_none() {
            self.collection = Some(self.store().begin_collection().expect("a cycle"));
        }
        let Some(collection) = &mut self.collection else {
            return;
        };
        match collection.step().expect("a step of a cycle") {
            Progress::Working { .. } => {}
            Progress::Done(done) => {
                self.removed_count += done.removed.pack_count;
                self.collection = None;
            }
        }
    }

    fn delete(&mut self) {
        let place = self.dice.place(self.kept.len());
        let Some(point) = self.kept.keys().nth(place).copied() else {
            return;
        };
        match self.store().delete_point(point) {
            Ok(()) => {
                self.kept.remove(&point);
                self.deleted.insert(point);
            }
            Err(Error::PointLocked { .. } | Error::TimeFrozen { .. }) => {}
            Err(error) => panic!("delete: {error}"),
        }
    }

    fn pass(&mut self, hours: u64) {
        self.clock.pass(HOUR * hours as u32);
        self.store().tick().expect("a tick");
    }

    /// The power fails, perhaps in the middle of something, and comes back.
    fn crash(&mut self) {
        if self.dice.one_in(2) {
            self.die();
        }
        self.collection = None;
        for run in &mut self.runs {
            // What was being written is gone; what was acknowledged is believed on.
            if matches!(run.stage, Stage::Write { .. } | Stage::Send { .. }) {
                run.stage = Stage::Ask;
            }
        }
        self.store = None;
        let journals = [Journal::Ordered, Journal::Scattered, Journal::Torn];
        let journal = journals[self.dice.place(journals.len())];
        self.fs = self.fs.crash(journal, &mut self.dice);
        self.clock.reboot(Duration::from_secs(self.dice.below(200)));
        self.open();
        self.check();
    }

    /// A cycle is cut off at one of its calls.
    fn die(&mut self) {
        let within = 1 + self.dice.below(40);
        self.fs.trouble_in(within, Trouble::Dies);
        let store = self.store();
        if self.collection.is_none() {
            self.collection = store.begin_collection().ok();
        }
        while let Some(collection) = &mut self.collection {
            if !matches!(collection.step(), Ok(Progress::Working { .. })) {
                return;
            }
        }
    }

    /// Everything that was promised is there, and nothing that was deleted.
    fn check(&self) {
        let listed = self.store().points(0, 1000).expect("points");
        let listed: BTreeSet<_> = listed.iter().map(|point| point.commit.point).collect();
        let kept: BTreeSet<_> = self.kept.keys().copied().collect();
        assert_eq!(
            listed, kept,
            "other points are listed than were committed and not deleted"
        );
        for point in self.kept.keys() {
            self.check_point(*point);
        }
        for run in &self.runs {
            let is_open = |key: &SessionKey| self.store().check_session(*key).is_ok();
            let Some(key) = run.key.filter(is_open) else {
                continue;
            };
            let promised: Vec<_> = run.promised.iter().copied().collect();
            let found = self.store().find(key, &promised).expect("a lookup");
            assert!(
                found.iter().all(|found| *found),
                "a promise to an open session was broken"
            );
        }
    }

    fn check_point(&self, point: PointId) {
        let store = self.store();
        store.manifest(point).expect("a manifest");
        for sent in disk(&self.kept[&point]).1 {
            let read = store.read(dataset().id, sent.id());
            let read = read.unwrap_or_else(|error| panic!("{} of {point}: {error}", sent.id()));
            assert_eq!(read.stored, sent.stored);
        }
    }

    /// All runs end, and a few cycles leave what points reach and nothing else.
    pub fn settle(&mut self) {
        for run in &mut self.runs {
            run.stage = Stage::Idle;
            run.key = None;
        }
        self.collection = None;
        self.pass(50);
        for _ in 0..6 {
            let done = self.store().collect(&()).expect("a cycle");
            assert_eq!(done.held, None);
            self.removed_count += done.removed.pack_count;
            // No more at once: a clock that jumps is one in doubt.
            self.pass(8 * 24);
        }
        self.check();
        let records: BTreeSet<_> = self
            .kept
            .values()
            .flat_map(|seeds| disk(seeds).1)
            .map(|sent| sent.id())
            .collect();
        let usage = self.store().usage().expect("usage");
        let stored = usage.chunk_count + usage.node_count;
        assert_eq!(
            stored,
            records.len() as u64,
            "garbage is left, or something is missing"
        );
        let files = |dir: &str| {
            let paths = self.fs.paths();
            paths.iter().filter(|path| path.starts_with(dir)).count() as u64
        };
        assert_eq!(files("packs/"), usage.pack_count);
        assert_eq!(files("quarantine/"), 0, "garbage is left in quarantine");
        assert_eq!(files("tmp/"), 0, "unfinished files are left");
        let manifests = self.fs.paths();
        let manifests = manifests
            .iter()
            .filter(|path| path.ends_with(".mf"))
            .count();
        assert_eq!(
            manifests,
            2 * self.kept.len(),
            "manifests of nothing are left"
        );
    }
}
