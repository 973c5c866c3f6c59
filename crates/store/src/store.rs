//! The repository engine.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use stillwater_format::Time;
use stillwater_format::commit::{Dataset, Decision, Entry, Fate};
use stillwater_format::pack::{Header, RecordId, RecordKind, SALT_LEN};
use stillwater_format::superblock::{FORMAT_VERSION, LogHead, Superblock};
use stillwater_types::{ClusterId, DatasetId, NodeId, PointId, RunId, TreeId};

use crate::authority::{Authority, Verifier};
use crate::catalogue::{Catalogue, Point, Points};
use crate::closure::{self, WholeTrees};
use crate::commit_log::CommitLog;
use crate::counters::Counters;
use crate::fates::Fates;
use crate::gc::{self, Roots};
use crate::history::{History, points_of};
use crate::index::{Index, IndexCount, Location, PackFacts};
use crate::pack::{FinishedPack, PackCount, PackHost, PackWriter, Packs, StoredRecord};
use crate::point::Proposal;
use crate::session::{Session, SessionKey, Sessions};
use crate::time::TimeKeeper;
use crate::vfs::{Access, File, Vfs};
use crate::{Clock, Error, Rng, durable, fitness, layout, pack, scrub, superblock};

/// What the store takes from outside.
pub struct Environment {
    /// Where the repository is.
    pub vfs: Arc<dyn Vfs>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub rng: Arc<dyn Rng>,
    /// Keeps the points by id.
    pub catalogue: Box<dyn Catalogue>,
    /// Keeps where records are; empty.
    pub index: Arc<dyn Index>,
    /// Checks the signatures of administrators.
    pub verifier: Arc<dyn Verifier>,
}

/// What an administrator decides.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Accept storage that forgets, such as tmpfs. For tests only.
    pub allow_volatile: bool,
    /// Room that packs leave free at least, for the commit log and manifests; 2 % of the file system
    /// if that is more.
    pub reserve_bytes: u64,
    /// How long a new point cannot be removed.
    pub retention: Duration,
    /// How long a session lasts without being renewed.
    pub session_term: Duration,
    /// How long a condemned pack waits before it may go to quarantine.
    pub condemn_wait: Duration,
    /// How long a pack lies in quarantine before it is removed.
    pub quarantine_wait: Duration,
    /// Packs of which less than this many percent are live are compacted.
    pub compact_below_percent: u8,
    /// A cycle that would condemn more than this many percent of all bytes waits for administrators.
    pub sweep_brake_percent: u8,
    /// A cycle that would condemn no more than this never waits.
    pub sweep_brake_min_bytes: u64,
    /// Every pack is read again within this time.
    pub scrub_period: Duration,
    /// A fresh pack is read for the first time within this time.
    pub scrub_fresh: Duration,
}

impl Options {
    /// What is right for most.
    pub const DEFAULT: Self = Self {
        allow_volatile: false,
        reserve_bytes: 10 << 30,
        retention: Duration::from_secs(14 * 24 * 3600),
        session_term: Duration::from_secs(300),
        condemn_wait: Duration::from_secs(24 * 3600),
        quarantine_wait: Duration::from_secs(7 * 24 * 3600),
        compact_below_percent: 50,
        sweep_brake_percent: 20,
        sweep_brake_min_bytes: 1 << 30,
        scrub_period: Duration::from_secs(14 * 24 * 3600),
        scrub_fresh: Duration::from_secs(24 * 3600),
    };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Whose repository it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The repository's node.
    pub node: NodeId,
}

/// What the repository holds and has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Size of the file system.
    pub capacity_bytes: u64,
    /// What packs may still take.
    pub writable_bytes: u64,
    /// Bytes in packs.
    pub stored_bytes: u64,
    /// Packs.
    pub pack_count: u64,
    /// Packs that were found damaged at the start.
    pub damaged_pack_count: u64,
    /// Chunks.
    pub chunk_count: u64,
    /// Tree nodes.
    pub node_count: u64,
    /// Restore points.
    pub point_count: u64,
    /// Restore points of which no manifest was found at the start.
    pub damaged_point_count: u64,
    /// Sessions that are open.
    pub session_count: u64,
    /// How far trusted time is behind the wall clock.
    pub time_lag: Duration,
    /// Whether the clock is in doubt, so that nothing is deleted.
    pub time_frozen: bool,
    /// Statements that wait: one that nobody can explain must not wait unseen.
    pub waiting_statement_count: u64,
}

/// How far the mark of trusted time on record may allow more than what was told.
const UNRECORDED_MAX: Duration = Duration::from_secs(1);

/// The version of the format that is read and written.
pub const STORE_FORMAT_VERSION: u16 = FORMAT_VERSION;

/// A repository that is open. Clones share it; all calls may block on the disk.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) verifier: Arc<dyn Verifier>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) options: Options,
    pub(crate) index: Arc<dyn Index>,
    pub(crate) packs: Packs,
    /// Taken before `sessions` where both are.
    ledger: Mutex<Ledger>,
    sessions: RwLock<Sessions>,
    /// Never taken while `whole` is being written.
    pub(crate) fates: RwLock<Fates>,
    pub(crate) whole: RwLock<WholeTrees>,
    pub(crate) gc: gc::State,
    pub(crate) scrub: scrub::State,
    pub(crate) counters: Counters,
    write_failures: AtomicU32,
    read_only: AtomicBool,
    /// Whether there was no room to try the storage at the start: until that is done, no session opens.
    untried: AtomicBool,
    damaged_point_count: u64,
    /// Keeps other processes out as long as it is open.
    _lock: Box<dyn File>,
}

/// What is written one at a time.
pub(crate) struct Ledger {
    pub(crate) log: CommitLog,
    pub(crate) points: Points,
    pub(crate) proposals: HashMap<PointId, Proposal>,
    datasets: Vec<Dataset>,
    superblock: Superblock,
    pub(crate) keeper: TimeKeeper,
    pub(crate) authority: Authority,
    /// Points that were deleted, and when.
    pub(crate) deleted: BTreeMap<PointId, Time>,
    pub(crate) roots: Roots,
}

impl Store {
    /// Tries whether a repository can be kept here; leaves directories behind and no repository.
    ///
    /// # Errors
    /// When the storage is unfit, or another process has the repository that is there.
    pub fn probe(env: &Environment, options: &Options) -> Result<(), Error> {
        fitness::check_medium(&*env.vfs, options.allow_volatile)?;
        make_directories(&*env.vfs)?;
        let _lock = lock(&*env.vfs)?;
        fitness::self_test(&*env.vfs, &*env.rng)
    }

    /// Makes a repository in an empty directory.
    ///
    /// # Errors
    /// When there is one already, or the storage is unfit.
    pub fn init(env: &Environment, options: &Options, identity: Identity) -> Result<(), Error> {
        let Environment {
            vfs, rng, clock, ..
        } = env;
        let (vfs, rng) = (&**vfs, &**rng);
        fitness::check_medium(vfs, options.allow_volatile)?;
        if superblock::read(vfs)?.is_some() {
            return Err(Error::AlreadyInitialised);
        }
        make_directories(vfs)?;
        let _lock = lock(vfs)?;
        pack::clean_tmp(vfs)?;
        fitness::self_test(vfs, rng)?;
        let Identity { cluster, node } = identity;
        let head = CommitLog::create(vfs, rng, &Entry::Identity { cluster, node })?;
        let mark = TimeKeeper::begin(&**clock).advance(&**clock);
        let (version, floor, generation) = (FORMAT_VERSION, FORMAT_VERSION, 1);
        // Last, since a repository exists from here on.
        let first = Superblock {
            version,
            floor,
            generation,
            cluster,
            node,
            mark,
            head,
        };
        superblock::write(vfs, rng, &first)
    }

    /// Opens a repository: heals what a crash left, and reads logs and trailers.
    ///
    /// A disk without any room is no reason not to: what is stored can be read, points deleted and garbage
    /// collected. Sessions are refused, and the storage is tried once there is room.
    ///
    /// # Errors
    /// When there is none, another process has it, the storage is unfit, or its truth is damaged
    /// beyond what its copies can heal.
    pub fn open(env: Environment, options: Options) -> Result<Self, Error> {
        let Environment {
            vfs,
            clock,
            rng,
            catalogue,
            index,
            verifier,
        } = env;
        fitness::check_medium(&*vfs, options.allow_volatile)?;
        let Some(recorded) = superblock::read(&*vfs)? else {
            return Err(Error::NotInitialised);
        };
        let lock = lock(&*vfs)?;
        let removed = pack::clean_tmp(&*vfs)?;
        let untried = allow_full(fitness::self_test(&*vfs, &*rng), "try the storage")?;
        let (log, entries) = CommitLog::open(&*vfs, &*rng, recorded.head)?;
        let packs = Packs::default();
        let History {
            datasets,
            points,
            fates,
            sessions,
            authority,
            deleted,
            told,
            losses,
            ..
        } = History::of(&entries, options.session_term, clock.since_boot());
        let keeper = TimeKeeper::resume(recorded.mark, told, &*clock);
        let mut roots = Roots::default();
        for placed in &entries {
            roots.take(placed.sequence, &placed.entry);
        }
        // A cycle does it again once there is room.
        allow_full(
            gc::sweep::settle(&*vfs, &fates, &roots),
            "move packs to quarantine",
        )?;
        packs.load(&*vfs, &*index, &fates)?;
        let points: Vec<_> = points.into_values().collect();
        let damaged_point_count = count_damaged(&*vfs, &points)?;
        let points = Points::open(catalogue, &points);
        tracing::info!(removed, entries = entries.len(), "opened the repository");
        let proposals = HashMap::new();
        let mut ledger = Ledger {
            log,
            points,
            proposals,
            datasets,
            superblock: recorded,
            keeper,
            authority,
            deleted,
            roots,
        };
        allow_full(
            ledger.record(&*vfs, &*rng, &*clock),
            "put trusted time on record",
        )?;
        let inner = Inner {
            vfs,
            clock,
            verifier,
            rng,
            options,
            index,
            packs,
            ledger: Mutex::new(ledger),
            sessions: RwLock::new(sessions),
            fates: RwLock::new(fates),
            whole: RwLock::default(),
            gc: gc::State::default(),
            scrub: scrub::State::default(),
            counters: Counters::default(),
            write_failures: AtomicU32::new(0),
            read_only: AtomicBool::new(false),
            untried: AtomicBool::new(untried),
            damaged_point_count,
            _lock: lock,
        };
        scrub::State::resume(&inner, !losses.is_empty());
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Whose repository it is.
    pub fn identity(&self) -> Identity {
        self.inner.ledger().identity()
    }

    /// Gives the repository to another node or cluster, as after it joined again.
    ///
    /// # Errors
    /// When that cannot be made durable.
    pub fn adopt(&self, identity: Identity) -> Result<(), Error> {
        let mut ledger = self.inner.ledger();
        ledger.superblock.cluster = identity.cluster;
        ledger.superblock.node = identity.node;
        self.inner.record(&mut ledger)
    }

    /// Does what time brings: closes sessions that expired, lets statements take effect, looks whether
    /// the clock was set, and puts trusted time on record. To be called about once a minute.
    ///
    /// # Errors
    /// When that cannot be made durable.
    pub fn tick(&self) -> Result<(), Error> {
        if self.inner.untried.load(Ordering::Relaxed) && self.inner.writable_bytes()? > 0 {
            self.inner.try_storage()?;
        }
        let mut ledger = self.inner.ledger();
        let expired = self.inner.sessions().expired(self.inner.clock.since_boot());
        for key in expired {
            self.inner.end_session(&mut ledger, key)?;
        }
        self.inner.watch_time(&mut ledger);
        self.inner.settle(&mut ledger)?;
        self.inner.record(&mut ledger)
    }

    /// Whether the store still takes anything. Once it does not, only a restart helps.
    pub fn is_writable(&self) -> bool {
        !self.inner.read_only.load(Ordering::Relaxed)
    }

    /// Creates a dataset; gives the one that there is if it is the same.
    ///
    /// # Errors
    /// When one of that id has another label or key, or it cannot be made durable.
    pub fn create_dataset(&self, dataset: Dataset) -> Result<Dataset, Error> {
        let mut ledger = self.inner.writable_ledger()?;
        match ledger.datasets.iter().find(|known| known.id == dataset.id) {
            Some(known) if *known == dataset => return Ok(dataset),
            Some(_) => {
                return Err(Error::malformed(
                    "a dataset of that id has another label or key",
                ));
            }
            None => {}
        }
        self.inner
            .append(&mut ledger, &Entry::Dataset(dataset.clone()))?;
        ledger.datasets.push(dataset.clone());
        Ok(dataset)
    }

    /// The datasets, oldest first.
    pub fn datasets(&self) -> Vec<Dataset> {
        self.inner.ledger().datasets.clone()
    }

    /// Opens a session. The same run gets a higher fence, which shuts out whoever holds the old one.
    ///
    /// # Errors
    /// When the dataset does not exist, `expected_bytes` do not fit, or it cannot be made durable.
    pub fn open_session(
        &self,
        run: RunId,
        dataset: DatasetId,
        expected_bytes: u64,
    ) -> Result<Session, Error> {
        // A session that is to store nothing serves a restore, which needs no room.
        if expected_bytes > 0 {
            self.inner.check_room(expected_bytes)?;
            self.inner.try_storage()?;
        }
        let mut ledger = self.inner.writable_ledger()?;
        if !ledger.datasets.iter().any(|known| known.id == dataset) {
            return Err(Error::DatasetNotFound(dataset));
        }
        let at = ledger.keeper.now(&*self.inner.clock);
        let opened = Entry::SessionOpened { run, dataset, at };
        let fence = self.inner.append(&mut ledger, &opened)?;
        let now = self.inner.clock.since_boot();
        Ok(self
            .inner
            .sessions_mut()
            .open(SessionKey { run, fence }, dataset, now))
    }

    /// Moves the end of a session.
    ///
    /// # Errors
    /// When it is over.
    pub fn renew_session(&self, key: SessionKey) -> Result<Session, Error> {
        let now = self.inner.clock.since_boot();
        self.inner.sessions_mut().renew(key, now)
    }

    /// Ends a session; succeeds when it has ended already.
    ///
    /// # Errors
    /// When a newer one of the run is open, or it cannot be made durable.
    pub fn close_session(&self, key: SessionKey) -> Result<(), Error> {
        let mut ledger = self.inner.ledger();
        let fence = self.inner.sessions().fence(key.run);
        match fence {
            None => Ok(()),
            Some(fence) if fence == key.fence => self.inner.end_session(&mut ledger, key),
            Some(_) => Err(Error::FenceStale { run: key.run }),
        }
    }

    /// The dataset of a session that is current.
    ///
    /// # Errors
    /// When it is over.
    pub fn check_session(&self, key: SessionKey) -> Result<DatasetId, Error> {
        self.inner.check_session(key)
    }

    /// Which of these records are stored. What is answered as stored stays so for the session's life:
    /// the session is on record since it was opened, and what it may see leaves only after its end.
    ///
    /// # Errors
    /// When the session is over, or the index cannot be read.
    pub fn find(&self, key: SessionKey, records: &[RecordId]) -> Result<Vec<bool>, Error> {
        let dataset = self.inner.check_session(key)?;
        let sight = self.inner.sight(key.fence);
        let stored = |record| sight.find(dataset, record).map(|at| at.is_some());
        records.iter().map(stored).collect()
    }

    /// Begins a pack for chunks that are sealed under `salt`.
    ///
    /// # Errors
    /// When the session is over, the salt was used before, or there is no room.
    pub fn begin_pack(&self, key: SessionKey, salt: &[u8; SALT_LEN]) -> Result<PackWriter, Error> {
        let inner = &self.inner;
        let dataset = inner.check_session(key)?;
        inner.check_writable()?;
        if inner.packs.is_used(salt) {
            return Err(Error::malformed(
                "a salt that another pack was sealed under",
            ));
        }
        let pack = durable::mint_pack(&*inner.clock, &*inner.rng)?;
        let tmp = durable::tmp_path(&*inner.rng)?;
        let header = Header {
            pack,
            dataset,
            fence: key.fence,
        };
        let host: Arc<dyn PackHost> = Arc::clone(inner) as Arc<dyn PackHost>;
        PackWriter::begin(host, key, header, tmp, salt)
    }

    /// Reads a record and checks it against its hash.
    ///
    /// # Errors
    /// When it is not stored, damaged or cannot be read.
    pub fn read(&self, dataset: DatasetId, record: RecordId) -> Result<StoredRecord, Error> {
        self.inner.read(dataset, record)
    }

    /// What the repository holds and has left.
    ///
    /// # Errors
    /// When the file system does not tell.
    pub fn usage(&self) -> Result<Usage, Error> {
        let inner = &self.inner;
        let room = inner
            .vfs
            .room()
            .map_err(Error::io("measure", Path::new(".")))?;
        let PackCount {
            pack_count,
            stored_bytes,
            damaged_count,
        } = inner.packs.count();
        let IndexCount {
            chunk_count,
            node_count,
        } = inner.index.count();
        let session_count = inner.sessions().count() as u64;
        let mut ledger = inner.ledger();
        let trusted = ledger.keeper.now(&*inner.clock);
        let time_lag = inner.clock.wall().since(trusted);
        let time_frozen = inner.watch_time(&mut ledger).is_some();
        let waiting_statement_count = ledger.authority.waiting_count(trusted) as u64;
        let Ledger { points, log, .. } = &mut *ledger;
        let point_count = points.ask(|catalogue| catalogue.count(), || all_points(log))?;
        Ok(Usage {
            capacity_bytes: room.capacity_bytes,
            writable_bytes: inner.writable_bytes()?,
            stored_bytes,
            pack_count,
            damaged_pack_count: damaged_count,
            chunk_count,
            node_count,
            point_count,
            damaged_point_count: inner.damaged_point_count,
            session_count,
            time_lag,
            time_frozen,
            waiting_statement_count,
        })
    }

    /// What the store has done since it was opened.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// How often the point catalogue had to be made anew.
    pub fn catalogue_rebuilt_count(&self) -> u64 {
        self.inner.ledger().points.rebuilt_count()
    }
}

impl Inner {
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn writable_ledger(&self) -> Result<MutexGuard<'_, Ledger>, Error> {
        self.check_writable()?;
        Ok(self.ledger())
    }

    fn sessions(&self) -> RwLockReadGuard<'_, Sessions> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions_mut(&self) -> RwLockWriteGuard<'_, Sessions> {
        self.sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn check_session(&self, key: SessionKey) -> Result<DatasetId, Error> {
        self.sessions().check(key, self.clock.since_boot())
    }

    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        if self.read_only.load(Ordering::Relaxed) {
            Err(Error::ReadOnly)
        } else {
            Ok(())
        }
    }

    /// Trusted time and the wall clock.
    pub(crate) fn times(&self, ledger: &mut Ledger) -> (Time, Time) {
        (ledger.keeper.now(&*self.clock), self.clock.wall())
    }

    /// Appends to the commit log. A failure leaves it in an unknown state: nothing is taken any more.
    pub(crate) fn append(&self, ledger: &mut Ledger, entry: &Entry) -> Result<u64, Error> {
        // What begins now must not be over earlier after a restart than without one.
        if ledger.keeper.unrecorded(&*self.clock) > UNRECORDED_MAX {
            self.record(ledger)?;
        }
        let outcome = ledger.log.append(entry);
        if ledger.log.failed() {
            self.stop("append to the commit log");
        }
        let sequence = outcome?;
        ledger.authority.take(entry);
        ledger.roots.take(sequence, entry);
        match entry {
            Entry::Packs(decision) => self.take_decision(sequence, decision),
            Entry::RecordsLost(_) => {
                self.fates_mut().take_loss(sequence);
                self.forget_whole();
            }
            _ => {}
        }
        if let Entry::TimeAdvanced { to, .. } = entry {
            ledger.keeper.raise(*to);
        }
        Ok(sequence)
    }

    /// Takes in a decision that is on the log, before anything is done about the files.
    fn take_decision(&self, sequence: u64, decision: &Decision) {
        self.fates_mut().take(sequence, decision);
        let packs = &decision.packs;
        match decision.fate {
            Fate::Condemned => self.index.condemn(packs),
            Fate::Spared => self.index.spare(packs),
            Fate::Quarantined | Fate::Damaged => {
                self.index.forget(packs);
                self.packs.forget(packs);
            }
            Fate::Removed => {}
        }
        if matches!(decision.fate, Fate::Condemned | Fate::Damaged) {
            self.forget_whole();
        }
    }

    /// What was whole may not be so for sessions that open from here on. After the entry that says so is
    /// on the log, and under its lock: otherwise a commit could bring back between what is forgotten.
    fn forget_whole(&self) {
        let mut whole = self.whole.write().unwrap_or_else(PoisonError::into_inner);
        *whole = WholeTrees::default();
    }

    fn fates_mut(&self) -> RwLockWriteGuard<'_, Fates> {
        self.fates.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sessions that were not closed, in no order.
    pub(crate) fn open_sessions(&self) -> Vec<SessionKey> {
        self.sessions().keys()
    }

    pub(crate) fn record(&self, ledger: &mut Ledger) -> Result<(), Error> {
        self.check_writable()?;
        let outcome = ledger.record(&*self.vfs, &*self.rng, &*self.clock);
        match &outcome {
            // The other superblock stands, and this one is written again.
            Ok(()) | Err(Error::Full { .. }) => {}
            Err(_) => self.stop("write the superblock"),
        }
        outcome
    }

    /// Tries the storage, if there was no room for that when it was opened.
    fn try_storage(&self) -> Result<(), Error> {
        if !self.untried.load(Ordering::Relaxed) {
            return Ok(());
        }
        match fitness::self_test(&*self.vfs, &*self.rng) {
            Ok(()) => {
                tracing::info!("tried the storage now that there is room");
                self.untried.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(error @ Error::Full { .. }) => Err(error),
            Err(error) => {
                self.stop("try the storage");
                Err(error)
            }
        }
    }

    pub(crate) fn stop(&self, act: &'static str) {
        tracing::error!(
            act,
            "stopped taking data after a failure; restart the repository"
        );
        self.read_only.store(true, Ordering::Relaxed);
    }

    fn end_session(&self, ledger: &mut Ledger, key: SessionKey) -> Result<(), Error> {
        let at = ledger.keeper.now(&*self.clock);
        let closed = Entry::SessionClosed {
            run: key.run,
            fence: key.fence,
            at,
        };
        self.append(ledger, &closed)?;
        self.sessions_mut().close(key);
        ledger
            .proposals
            .retain(|_, proposal| proposal.key.run != key.run);
        Ok(())
    }

    /// Reads a record from the best of its copies that is good.
    pub(crate) fn read(&self, dataset: DatasetId, record: RecordId) -> Result<StoredRecord, Error> {
        let copies = self.index.copies(dataset, &record)?;
        let outcome = self.read_best(record, &copies);
        if outcome.is_ok() {
            return outcome;
        }
        // The scrub or a collection may have moved it meanwhile, after it was copied.
        let moved = self.index.copies(dataset, &record)?;
        if moved == copies {
            return outcome;
        }
        self.read_best(record, &moved)
    }

    fn read_best(&self, record: RecordId, copies: &[Location]) -> Result<StoredRecord, Error> {
        let mut outcome = Err(Error::RecordNotFound { record });
        for at in copies {
            outcome = self.read_at(record, *at);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    pub(crate) fn read_at(&self, record: RecordId, at: Location) -> Result<StoredRecord, Error> {
        let outcome = self.packs.read(&*self.vfs, record, at);
        self.counters.note_read(&outcome);
        if matches!(outcome, Err(Error::Damaged { .. })) {
            self.scrub.suspect(at.pack);
        }
        outcome
    }

    /// The store as the session with this fence may rely on it.
    pub(crate) const fn sight(&self, fence: u64) -> Sight<'_> {
        Sight { inner: self, fence }
    }

    pub(crate) fn fates(&self) -> RwLockReadGuard<'_, Fates> {
        self.fates.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Free space less the reserve.
    fn writable_bytes(&self) -> Result<u64, Error> {
        let room = self
            .vfs
            .room()
            .map_err(Error::io("measure", Path::new(".")))?;
        let reserve = self.options.reserve_bytes.max(room.capacity_bytes / 50);
        Ok(room.free_bytes.saturating_sub(reserve))
    }
}

impl PackHost for Inner {
    fn vfs(&self) -> &dyn Vfs {
        &*self.vfs
    }

    fn is_stored(
        &self,
        key: SessionKey,
        dataset: DatasetId,
        record: &RecordId,
    ) -> Result<bool, Error> {
        let found = self.sight(key.fence).find(dataset, record);
        found.map(|at| at.is_some())
    }

    fn check_room(&self, bytes: u64) -> Result<(), Error> {
        let writable_bytes = self.writable_bytes()?;
        if bytes < writable_bytes {
            return Ok(());
        }
        Err(Error::Full {
            wanted_bytes: bytes,
            writable_bytes,
        })
    }

    fn publish(&self, pack: &FinishedPack<'_>) -> Result<(), Error> {
        // Held over the rename, so that no lower fence changes anything once a higher one is given.
        let sessions = self.sessions();
        sessions.check(pack.key, self.clock.since_boot())?;
        durable::reveal(&*self.vfs, pack.tmp, &layout::pack(pack.header.pack))?;
        drop(sessions);
        let facts = PackFacts::of(&pack.header, pack.entries, pack.length, true);
        self.packs.note(facts.clone());
        self.index.add(&facts, pack.entries)?;
        self.write_failures.store(0, Ordering::Relaxed);
        self.counters.note_pack(pack);
        Ok(())
    }

    fn note_failure(&self, error: &Error) {
        // One failure may be a bad spot; a second without a success between is a bad disk.
        if matches!(error, Error::Io { .. })
            && self.write_failures.fetch_add(1, Ordering::Relaxed) > 0
        {
            self.stop("write a pack");
        }
    }
}

/// The store as a session may rely on it.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'a> {
    inner: &'a Inner,
    fence: u64,
}

impl Sight<'_> {
    /// Where a record is, unless its pack was condemned before the session was opened.
    pub(crate) fn find(
        &self,
        dataset: DatasetId,
        record: &RecordId,
    ) -> Result<Option<Location>, Error> {
        let Inner {
            index, packs, vfs, ..
        } = self.inner;
        let copies = index.copies(dataset, record)?;
        let is_seen = |at: &Location| self.inner.fates().is_seen_by(self.fence, at.pack);
        let vouches = |at: &Location| {
            let is_there = packs.vouch(&**vfs, record, *at);
            if !is_there {
                self.inner.scrub.suspect(at.pack);
            }
            is_there
        };
        Ok(copies.into_iter().filter(is_seen).find(vouches))
    }
}

impl closure::Source for Sight<'_> {
    fn node(&self, dataset: DatasetId, id: TreeId) -> Result<Vec<u8>, Error> {
        let record = RecordId::from(id);
        let at = self.find(dataset, &record)?;
        let at = at.ok_or(Error::RecordNotFound { record })?;
        self.inner.read_at(record, at).map(|record| record.stored)
    }

    fn chunk(&self, dataset: DatasetId, record: &RecordId) -> Result<Option<u32>, Error> {
        debug_assert_eq!(record.kind, RecordKind::Chunk);
        let found = self.find(dataset, record)?;
        Ok(found.map(|at| at.plain_len))
    }
}

impl Ledger {
    /// The datasets, oldest first.
    pub(crate) fn datasets(&self) -> &[Dataset] {
        &self.datasets
    }

    /// The place of the last entry in the log.
    pub(crate) fn head(&self) -> u64 {
        self.log.head().sequence
    }

    /// What was written last.
    pub(crate) const fn superblock(&self) -> Superblock {
        self.superblock
    }

    /// Whose repository it is.
    pub(crate) const fn identity(&self) -> Identity {
        let Superblock { cluster, node, .. } = self.superblock;
        Identity { cluster, node }
    }

    /// Writes the next superblock: trusted time, and the log as far as it is known.
    fn record(&mut self, vfs: &dyn Vfs, rng: &dyn Rng, clock: &dyn Clock) -> Result<(), Error> {
        let LogHead { sequence, hash } = self.log.head();
        let next = Superblock {
            generation: self.superblock.generation + 1,
            mark: self.keeper.advance(clock),
            head: LogHead { sequence, hash },
            ..self.superblock
        };
        superblock::write(vfs, rng, &next)?;
        self.superblock = next;
        Ok(())
    }
}

/// Lets a start go on that found no room for something that is not needed for reading. Tells whether it did.
fn allow_full(outcome: Result<(), Error>, act: &'static str) -> Result<bool, Error> {
    match outcome {
        Ok(()) => Ok(false),
        Err(Error::Full { .. }) => {
            tracing::error!(
                act,
                "found no room at all; opened for reading, deleting and collecting, and for no \
                 session: make room"
            );
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

fn make_directories(vfs: &dyn Vfs) -> Result<(), Error> {
    for dir in layout::directories() {
        match vfs.make_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.map_err(Error::io("make directory", &dir))?,
        }
    }
    // The directories that these lie in are synced once the commit log has its names there.
    for dir in layout::fans() {
        vfs.sync_dir(dir)
            .map_err(Error::io("sync directory", dir))?;
    }
    Ok(())
}

/// Keeps other processes out of the repository.
fn lock(vfs: &dyn Vfs) -> Result<Box<dyn File>, Error> {
    let path = Path::new(layout::LOCK);
    let file = match vfs.open(path, Access::Write) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            vfs.create_new(path).map_err(Error::io("create", path))?
        }
        opened => opened.map_err(Error::io("open", path))?,
    };
    if file.try_lock().map_err(Error::io("lock", path))? {
        Ok(file)
    } else {
        Err(Error::InUse)
    }
}

/// All points, read again from the log.
pub(crate) fn all_points(log: &CommitLog) -> Result<Vec<Point>, Error> {
    log.entries().map(|entries| points_of(&entries))
}

/// Names every point that no manifest is left of. It stays: a replica may still have it.
fn count_damaged(vfs: &dyn Vfs, points: &[Point]) -> Result<u64, Error> {
    let mut found = std::collections::HashSet::new();
    for copy in 0..2 {
        for dir in layout::manifest_dirs(copy) {
            let names = vfs.list(&dir).map_err(Error::io("list", &dir))?;
            found.extend(
                names
                    .iter()
                    .filter_map(|name| layout::parse_manifest(&name.name)),
            );
        }
    }
    let missing = points
        .iter()
        .filter(|point| !found.contains(&point.commit.point));
    Ok(missing
        .inspect(|p| tracing::error!(point = %p.commit.point, "found no manifest"))
        .count() as u64)
}
