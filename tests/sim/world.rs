//! A repository, its clients, and what they were promised.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use stillwater_format::Time;
use stillwater_format::commit::AdminKey;
use stillwater_format::pack::RecordId;
use stillwater_store::vfs::Vfs;
use stillwater_store::*;
use stillwater_testkit::{FaultClock, FaultFs, SeededRng};
use stillwater_types::{ClusterId, NodeId, PointId, RunId};

use crate::content::{Sent, dataset, disk, manifest};
use crate::op::Op;
use crate::oracle::{Kept, Loose, Oracle};

pub const ACTORS: usize = 3;
pub const HOUR: Duration = Duration::from_secs(3600);

pub const OPTIONS: Options = Options {
    reserve_bytes: 0,
    retention: Duration::from_secs(48 * 3600),
    session_term: Duration::from_secs(1000 * 24 * 3600),
    compact_below_percent: 80,
    ..Options::DEFAULT
};

pub const IDENTITY: Identity = Identity {
    cluster: ClusterId::from_bytes([0xc1; 16]),
    node: NodeId::from_bytes([0xd2; 16]),
};

/// Nobody signs anything here.
struct NoVerifier;

impl Verifier for NoVerifier {
    fn verify(&self, _: &AdminKey, _: &[u8], _: &[u8; 64]) -> bool {
        false
    }
}

/// Which index the store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    Memory,
    Segments,
}

/// A client: a run, and what its session was promised.
#[derive(Debug, Clone)]
pub struct Actor {
    pub run: RunId,
    pub key: Option<SessionKey>,
    /// The key that it had before.
    pub stale: Option<SessionKey>,
    /// Disks that are stored whole.
    pub disks: Vec<Vec<u64>>,
    pub records: BTreeSet<RecordId>,
    /// When a cycle first ran during its session.
    pub collected_at: Option<Duration>,
    pub proposed: Option<(PointId, Vec<u64>, SessionKey)>,
}

/// What came to pass, to tell whether a history is worth something.
#[derive(Debug, Clone, Copy, Default)]
pub struct Events {
    pub committed: u64,
    pub deleted: u64,
    pub condemned: u64,
    pub spared: u64,
    pub quarantined: u64,
    pub removed: u64,
    pub compacted: u64,
    pub scrubbed: u64,
}

impl Events {
    pub fn add(&mut self, more: &Self) {
        self.committed += more.committed;
        self.deleted += more.deleted;
        self.condemned += more.condemned;
        self.spared += more.spared;
        self.quarantined += more.quarantined;
        self.removed += more.removed;
        self.compacted += more.compacted;
        self.scrubbed += more.scrubbed;
    }

    fn collected(&mut self, found: &Collected) {
        self.condemned += found.condemned.pack_count;
        self.spared += found.spared.pack_count;
        self.quarantined += found.quarantined.pack_count;
        self.removed += found.removed.pack_count;
        self.compacted += found.compacted.pack_count;
    }
}

/// A repository, its clients, and what they were promised.
pub struct World {
    pub fs: FaultFs,
    pub clock: Arc<FaultClock>,
    pub rng: Arc<SeededRng>,
    pub kind: IndexKind,
    pub store: Option<Store>,
    pub collection: Option<Collection>,
    pub actors: Vec<Actor>,
    pub oracle: Oracle,
    pub turn: u64,
    pub events: Events,
}

impl World {
    /// An empty disk.
    pub fn new(seed: u64, kind: IndexKind) -> Self {
        let actor = |n: usize| Actor {
            run: RunId::from_bytes([n as u8 + 1; 16]),
            key: None,
            stale: None,
            disks: Vec::new(),
            records: BTreeSet::new(),
            collected_at: None,
            proposed: None,
        };
        Self {
            fs: FaultFs::default(),
            clock: Arc::default(),
            rng: Arc::new(SeededRng::new(seed)),
            kind,
            store: None,
            collection: None,
            actors: (0..ACTORS).map(actor).collect(),
            oracle: Oracle::default(),
            turn: 0,
            events: Events::default(),
        }
    }

    /// A repository with a dataset, open.
    pub fn founded(seed: u64, kind: IndexKind) -> Self {
        let mut world = Self::new(seed, kind);
        world.init().expect("a repository");
        world.open().expect("a repository that opens");
        world
    }

    /// The same promises on another disk, closed.
    pub fn on(&self, fs: FaultFs, seed: u64) -> Self {
        Self {
            fs,
            clock: Arc::new(self.clock.copy()),
            rng: Arc::new(SeededRng::new(seed)),
            kind: self.kind,
            store: None,
            collection: None,
            actors: self.actors.clone(),
            oracle: self.oracle.clone(),
            turn: self.turn,
            events: self.events,
        }
    }

    pub fn env(&self) -> Environment {
        self.env_with(self.kind)
    }

    pub fn env_with(&self, kind: IndexKind) -> Environment {
        let vfs: Arc<dyn Vfs> = Arc::new(self.fs.clone());
        let limits = IndexLimits {
            fresh_records: 12,
            fresh_packs: 3,
            bulk_records: 20,
            fan_in: 2,
        };
        let index: Arc<dyn Index> = match kind {
            IndexKind::Memory => Arc::new(MemoryIndex::default()),
            IndexKind::Segments => Arc::new(SegmentIndex::with(
                Arc::clone(&vfs),
                self.rng.clone(),
                limits,
                Upkeep::Caller,
            )),
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

    pub fn init(&self) -> Result<(), Error> {
        Store::init(&self.env(), &OPTIONS, IDENTITY)
    }

    pub fn open(&mut self) -> Result<(), Error> {
        self.close();
        let store = Store::open(self.env(), OPTIONS)?;
        let made = store.create_dataset(dataset());
        self.store = Some(store);
        made.map(drop)
    }

    pub fn close(&mut self) {
        self.collection = None;
        self.store = None;
    }

    pub fn store(&self) -> Store {
        self.store.clone().expect("an open store")
    }

    /// Does one thing. What is refused with good reason is no error.
    pub fn apply(&mut self, op: &Op) -> Result<()> {
        self.turn += 1;
        match op {
            Op::Open(actor) => self.open_session(*actor),
            Op::Close(actor) => self.close_session(*actor),
            Op::Send(actor, seeds) => self.send(*actor, seeds),
            Op::Propose(actor) => self.propose(*actor),
            Op::Commit(actor) => self.commit(*actor),
            Op::StaleAct(actor) => self.act_stale(*actor),
            Op::Delete(choice) => self.delete(*choice),
            Op::Lock(choice, hours) => self.lock(*choice, *hours),
            Op::Pass(hours) => self.pass(*hours),
            Op::SetWall(hours) => {
                self.clock.set_wall_by(*hours * 3_600_000);
                Ok(())
            }
            Op::Steps(count) => self.step(*count),
            Op::Collect => self.collect(),
            Op::Scrub => self.scrub(),
            Op::Verify(choice) => self.verify(*choice),
            Op::Restart => self.restart(),
        }
    }

    fn open_session(&mut self, actor: usize) -> Result<()> {
        self.release(actor);
        let run = self.actors[actor].run;
        let key = self.store().open_session(run, dataset().id, 0)?.key;
        ensure!(
            key.fence > self.oracle.last_fence,
            "I11: fence {} was given before",
            key.fence
        );
        self.oracle.last_fence = key.fence;
        let actor = &mut self.actors[actor];
        actor.key = Some(key);
        actor.collected_at = None;
        Ok(())
    }

    fn close_session(&mut self, actor: usize) -> Result<()> {
        let key = self.actors[actor].key;
        self.release(actor);
        key.map_or(Ok(()), |key| Ok(self.store().close_session(key)?))
    }

    /// What a session held may leave once it may be over.
    fn release(&mut self, actor: usize) {
        let actor = &mut self.actors[actor];
        actor.stale = actor.key.take().or(actor.stale);
        actor.disks.clear();
        let loose = Loose {
            condemned_at: actor.collected_at,
        };
        let records = std::mem::take(&mut actor.records);
        for record in records {
            let entry = self.oracle.loose.entry(record).or_insert(loose);
            let cycles = [entry.condemned_at, loose.condemned_at];
            entry.condemned_at = cycles.into_iter().flatten().min();
        }
    }

    /// Asks what is missing of a disk and sends that.
    fn send(&mut self, actor: usize, seeds: &[u64]) -> Result<()> {
        let Some(key) = self.actors[actor].key else {
            return Ok(());
        };
        let (store, records) = (self.store(), disk(seeds).1);
        let ids: Vec<_> = records.iter().map(Sent::id).collect();
        let found = store.find(key, &ids)?;
        let (known, missing): (Vec<_>, Vec<_>) =
            records.iter().zip(found).partition(|(_, found)| *found);
        let held = &mut self.actors[actor].records;
        held.extend(known.iter().map(|(sent, _)| sent.id()));
        if !missing.is_empty() {
            let salt = *blake3::hash(&self.turn.to_le_bytes()).as_bytes();
            let mut writer = store.begin_pack(key, &salt)?;
            for (sent, _) in &missing {
                writer.append(&sent.header, &sent.stored)?;
            }
            writer.finish()?;
            let held = &mut self.actors[actor].records;
            held.extend(missing.iter().map(|(sent, _)| sent.id()));
        }
        self.actors[actor].disks.push(seeds.to_vec());
        Ok(())
    }

    /// Nothing is sent: what was promised must be enough.
    fn propose(&mut self, actor: usize) -> Result<()> {
        let Actor {
            run, key, disks, ..
        } = &self.actors[actor];
        let (Some(key), Some(seeds)) = (*key, disks.last().cloned()) else {
            return Ok(());
        };
        let mut id = [0xa0; 16];
        id[..8].copy_from_slice(&self.turn.to_be_bytes());
        let point = PointId::from_bytes(id);
        let bytes = manifest(point, *run, &seeds);
        self.store().propose_point(key, &bytes)?;
        self.actors[actor].proposed = Some((point, seeds, key));
        Ok(())
    }

    /// What another session of the run proposed may be refused, and is no point then.
    fn commit(&mut self, actor: usize) -> Result<()> {
        let Actor {
            run,
            key,
            proposed,
            collected_at,
            ..
        } = &mut self.actors[actor];
        let (Some(key), Some((point, seeds, by))) = (*key, proposed.take()) else {
            return Ok(());
        };
        let kept = Kept {
            manifest: manifest(point, *run, &seeds),
            seeds,
            retain_until: Time::default(),
            free_at: self.oracle.lived,
            condemned_at: *collected_at,
        };
        self.oracle.maybe.insert(point, kept.clone());
        match self.store().commit_point(key, point) {
            Ok(committed) => {
                ensure!(
                    committed.commit.point == point,
                    "another point was committed"
                );
                self.oracle.commit(point, kept, &committed);
                self.events.committed += 1;
                Ok(())
            }
            Err(error @ (Error::Io { .. } | Error::ReadOnly | Error::Full { .. })) => {
                Err(error.into())
            }
            Err(error) if self.fs.struck().is_some() => Err(error.into()),
            Err(error) => {
                self.oracle.maybe.remove(&point);
                ensure!(
                    by != key,
                    "I5: a promise to an open session was broken: {error}"
                );
                Ok(())
            }
        }
    }

    /// I11: whoever holds a fence that is over changes nothing.
    fn act_stale(&mut self, actor: usize) -> Result<()> {
        let Some(stale) = self.actors[actor].stale else {
            return Ok(());
        };
        let refused = self.store().begin_pack(stale, &[9; 32]).err();
        let is_refused = matches!(refused, Some(Error::FenceStale { .. }));
        // A close that was not answered may not have happened.
        let may_be_open = self.actors[actor].key.is_none();
        ensure!(
            is_refused || may_be_open,
            "I11: a stale fence was not refused: {refused:?}"
        );
        Ok(())
    }

    fn choose(&self, choice: u64) -> Option<PointId> {
        let count = self.oracle.kept.len() as u64;
        let at = choice.checked_rem(count)?;
        self.oracle
            .kept
            .keys()
            .nth(usize::try_from(at).ok()?)
            .copied()
    }

    fn delete(&mut self, choice: u64) -> Result<()> {
        let Some(point) = self.choose(choice) else {
            return Ok(());
        };
        self.oracle.doomed.insert(point);
        match self.store().delete_point(point) {
            Ok(()) => {
                let free_at = self.oracle.kept[&point].free_at;
                let lived = self.oracle.lived;
                ensure!(
                    lived >= free_at,
                    "I10: {point} was deleted after {lived:?}, not {free_at:?}"
                );
                self.oracle.delete(point);
                self.events.deleted += 1;
                Ok(())
            }
            Err(Error::PointLocked { .. } | Error::TimeFrozen { .. }) => {
                self.oracle.doomed.remove(&point);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn lock(&mut self, choice: u64, hours: u32) -> Result<()> {
        let Some(point) = self.choose(choice) else {
            return Ok(());
        };
        let until = self.oracle.kept[&point].retain_until.after(HOUR * hours);
        self.oracle.locking.insert(point, until);
        let locked = self.store().lock_point(point, until)?;
        ensure!(
            locked.commit.retain_until >= until,
            "I10: a lock is shorter than was answered"
        );
        self.oracle.lock(point, until);
        Ok(())
    }

    fn pass(&mut self, hours: u64) -> Result<()> {
        let span = HOUR * u32::try_from(hours)?;
        self.clock.pass(span);
        self.oracle.lived += span;
        Ok(self.store().tick()?)
    }

    fn note_cycle(&mut self) {
        self.oracle.collect(&OPTIONS);
        let lived = self.oracle.lived;
        for actor in &mut self.actors {
            actor.collected_at.get_or_insert(lived);
        }
    }

    fn step(&mut self, count: u8) -> Result<()> {
        for _ in 0..count {
            self.note_cycle();
            if self.collection.is_none() {
                self.collection = Some(self.store().begin_collection()?);
            }
            let Some(collection) = &mut self.collection else {
                return Ok(());
            };
            match collection.step() {
                Ok(Progress::Working { .. }) => {}
                Ok(Progress::Done(found)) => {
                    self.events.collected(&found);
                    self.collection = None;
                }
                Err(error) => {
                    self.collection = None;
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    fn collect(&mut self) -> Result<()> {
        self.collection = None;
        self.note_cycle();
        let found = self.store().collect(&())?;
        self.events.collected(&found);
        Ok(())
    }

    fn scrub(&mut self) -> Result<()> {
        self.store().request_scrub();
        let found = self.store().scrub(u64::MAX, &())?;
        self.events.scrubbed += found.pack_count;
        let is_sound = found.damaged_pack_count == 0 && found.lost_record_count == 0;
        ensure!(
            is_sound || self.fs.struck().is_some(),
            "I22: found damage: {found:?}"
        );
        Ok(())
    }

    fn verify(&mut self, choice: u64) -> Result<()> {
        let Some(point) = self.choose(choice) else {
            return Ok(());
        };
        let found = self.store().verify_point(point, &())?;
        ensure!(
            found.extent_count == 0 || self.fs.struck().is_some(),
            "I2: {point} is damaged: {found:?}"
        );
        Ok(())
    }

    /// The process is killed and started again.
    pub fn restart(&mut self) -> Result<()> {
        self.close();
        self.fs = self.fs.copy();
        Ok(self.open()?)
    }
}
