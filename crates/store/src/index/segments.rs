//! The index on disk: segments, and a table in memory for what is fresh.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use stillwater_format::pack::{Entry, RecordId};
use stillwater_types::{DatasetId, PackId};

use super::merge;
use super::plan::{self, Weight};
use super::roster::Roster;
use super::row::{Key, PACKS_MAX, Row};
use super::segment::{self, ABSENT, Covered, Segment, Trouble, Writer};
use super::table::Table;
use super::worker::Worker;
use super::{Index, IndexCount, Location, PackFacts, PackTable};
use crate::pack::table;
use crate::vfs::Vfs;
use crate::{Error, Rng, durable, layout};

/// Filters up to this size are read when the index is opened; others after that.
const FILTER_BYTES_AT_OPEN: u64 = 256 << 20;

/// Who merges segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// A thread of the index's own.
    Thread,
    /// Whoever adds a pack: the same calls come in the same order every time.
    Caller,
}

/// Bounds of the index.
#[derive(Debug, Clone, Copy)]
pub struct IndexLimits {
    /// Records in memory beyond which they are written to a segment: about 90 bytes each.
    pub fresh_records: usize,
    /// Packs in memory beyond which they are written to a segment. After a kill as many trailers are
    /// read again.
    pub fresh_packs: usize,
    /// Records that are sorted at once when trailers are read in bulk: 52 bytes each.
    pub bulk_records: usize,
    /// Segments of a size that make a merge.
    pub fan_in: usize,
}

impl Default for IndexLimits {
    fn default() -> Self {
        Self {
            fresh_records: 1 << 16,
            fresh_packs: 256,
            bulk_records: 1 << 19,
            fan_in: 4,
        }
    }
}

/// What the index takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexSize {
    /// Segments.
    pub segment_count: u64,
    /// Bytes of memory for filters, fences and tables.
    pub memory_bytes: u64,
    /// Bytes of disk.
    pub disk_bytes: u64,
    /// How often it was made anew since it was opened.
    pub rebuilt_count: u64,
}

/// The index in immutable sorted segments, with a filter in front of each and a table in memory for
/// what is fresh.
///
/// It takes less than 3 bytes of memory for each record beside the fresh table, and less than 48 bytes
/// of disk. A segment names the packs that it covers with their facts, so that opening reads the
/// trailers of other packs only. Rows of packs that are gone are dropped when segments are merged.
///
/// Nothing in it is truth. Every block is checked when it is read; any damage, and any panic, moves
/// all of it to `quarantine/index` (whose earlier content is removed) and makes it anew from the
/// trailers, while calls wait. A segment that cannot be written leaves its rows in memory.
pub struct SegmentIndex {
    inner: Arc<Inner>,
    upkeep: Upkeep,
    worker: Mutex<Option<Worker>>,
}

/// Locks are taken in the order of these fields.
pub(super) struct Inner {
    vfs: Arc<dyn Vfs>,
    rng: Arc<dyn Rng>,
    limits: IndexLimits,
    merging: Mutex<()>,
    flushing: Mutex<()>,
    state: RwLock<State>,
    next_sequence: AtomicU64,
    /// How many want merges to come to their end.
    stop: AtomicU32,
}

#[derive(Default)]
struct State {
    roster: Roster,
    fresh: Table,
    /// What is being written to a segment, or could not be.
    frozen: Option<Arc<Table>>,
    segments: Vec<Arc<Segment>>,
    /// Beyond this many rows the fresh table is written.
    flush_at: usize,
    /// Whether segments may be written.
    on_disk: bool,
    /// Whether making it anew came to an early end.
    torn: bool,
    /// Packs that this attempt was for.
    unread: Vec<PackId>,
    rebuilt_count: u64,
}

impl SegmentIndex {
    /// The index of the repository in `vfs`, with a thread for merges.
    pub fn new(vfs: Arc<dyn Vfs>, rng: Arc<dyn Rng>) -> Self {
        Self::with(vfs, rng, IndexLimits::default(), Upkeep::Thread)
    }

    /// The same with other bounds.
    pub fn with(vfs: Arc<dyn Vfs>, rng: Arc<dyn Rng>, limits: IndexLimits, upkeep: Upkeep) -> Self {
        let inner = Inner {
            vfs,
            rng,
            limits,
            merging: Mutex::default(),
            flushing: Mutex::default(),
            state: RwLock::default(),
            next_sequence: AtomicU64::new(1),
            stop: AtomicU32::new(0),
        };
        Self {
            inner: Arc::new(inner),
            upkeep,
            worker: Mutex::default(),
        }
    }

    /// What it takes.
    pub fn size(&self) -> IndexSize {
        let state = self.inner.read();
        let sum = |bytes: fn(&Segment) -> u64| state.segments.iter().map(|one| bytes(one)).sum();
        let tables = state.fresh.bytes() + state.frozen.as_ref().map_or(0, |table| table.bytes());
        let segment_bytes: u64 = sum(Segment::memory_bytes);
        IndexSize {
            segment_count: state.segments.len() as u64,
            memory_bytes: segment_bytes + tables + state.roster.bytes(),
            disk_bytes: sum(Segment::disk_bytes),
            rebuilt_count: state.rebuilt_count,
        }
    }

    /// Writes what is fresh to a segment, and merges until there is nothing to merge. Otherwise both
    /// happen by themselves.
    pub fn settle(&self) {
        self.inner.flush();
        self.inner.settle();
    }

    fn keep_up(&self) {
        match self.upkeep {
            Upkeep::Caller => self.inner.settle(),
            Upkeep::Thread => {
                let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
                if worker.is_none() {
                    match Worker::start(Arc::clone(&self.inner)) {
                        Ok(started) => *worker = Some(started),
                        Err(error) => tracing::warn!(%error, "leave index segments unmerged"),
                    }
                }
                worker.iter().for_each(Worker::wake);
            }
        }
    }
}

impl Drop for SegmentIndex {
    fn drop(&mut self) {
        self.inner.stop.fetch_add(1, Ordering::Relaxed);
        let worker = self
            .worker
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = worker.take() {
            worker.join();
        }
    }
}

impl Index for SegmentIndex {
    fn open(&self, present: &HashSet<PackId>) -> Vec<PackFacts> {
        let facts = self.inner.open(present);
        self.keep_up();
        facts
    }

    fn copies(&self, dataset: DatasetId, record: &RecordId) -> Result<Vec<Location>, Error> {
        let inner = &self.inner;
        let mut attempts = 0;
        loop {
            let seen = inner.read().rebuilt_count;
            let outcome = guard(|| inner.search(dataset, record));
            match outcome {
                Ok(found) => return Ok(found),
                Err(trouble) if attempts < REBUILDS_MAX => {
                    inner.rebuild(&trouble, seen)?;
                    self.keep_up();
                }
                Err(trouble) => return Err(Error::malformed(trouble)),
            }
            attempts += 1;
        }
    }

    fn add(&self, facts: &PackFacts, entries: &[Entry]) -> Result<(), Error> {
        if self.inner.add(facts, entries)? {
            self.inner.flush();
            self.keep_up();
        }
        Ok(())
    }

    fn add_all(
        &self,
        packs: &mut dyn Iterator<Item = Result<PackTable, Error>>,
    ) -> Result<(), Error> {
        let outcome = self.inner.bulk(&mut self.inner.write(), packs);
        self.keep_up();
        outcome
    }

    fn condemn(&self, packs: &[PackId]) {
        self.inner.write().roster.condemn(packs);
    }

    fn spare(&self, packs: &[PackId]) {
        self.inner.write().roster.spare(packs);
    }

    fn forget(&self, packs: &[PackId]) {
        let State {
            roster,
            fresh,
            unread,
            ..
        } = &mut *self.inner.write();
        fresh.forget(&roster.forget(packs));
        unread.retain(|pack| !packs.contains(pack));
    }

    fn count(&self) -> IndexCount {
        self.inner.read().roster.count()
    }
}

/// How often one call makes the index anew before it gives up.
const REBUILDS_MAX: u32 = 2;

/// Turns a panic into trouble that is healed like damage.
fn guard<T>(act: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    // What a panic may have left half done is thrown away by the rebuild that follows.
    catch_unwind(AssertUnwindSafe(act)).unwrap_or(Err(Trouble::Panicked))
}

fn locked(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn sequence(&self) -> u64 {
        self.next_sequence.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) > 0
    }

    fn open(&self, present: &HashSet<PackId>) -> Vec<PackFacts> {
        let state = &mut *self.write();
        state.flush_at = self.limits.fresh_records;
        state.on_disk = true;
        let error = match guard(|| self.open_segments(state, present)) {
            Ok(facts) => return facts,
            Err(error) => error,
        };
        tracing::warn!(cause = %chain(&error), "make the chunk index anew from the trailers of packs");
        state.forget_all();
        self.set_aside(state);
        Vec::new()
    }

    fn open_segments(
        &self,
        state: &mut State,
        present: &HashSet<PackId>,
    ) -> Result<Vec<PackFacts>, Trouble> {
        let dir = Path::new(layout::INDEX);
        let Ok(names) = self.vfs.list(dir) else {
            self.make_dir(state);
            return Ok(Vec::new());
        };
        let mut sequences: Vec<_> = names
            .iter()
            .filter_map(|name| segment::parse(&name.name))
            .collect();
        sequences.sort_unstable_by(|a, b| b.cmp(a));
        let newest = sequences.first().copied().unwrap_or_default();
        self.next_sequence
            .store(newest.saturating_add(1), Ordering::Relaxed);
        let mut opened = Vec::new();
        let mut known = BTreeMap::<(u64, PackId), PackFacts>::new();
        let mut covered_packs = HashSet::new();
        for sequence in sequences {
            let (segment, covered) = Segment::open(&*self.vfs, sequence)?;
            let mut is_needed = false;
            for Covered { facts, rank } in &covered {
                if present.contains(&facts.pack) && covered_packs.insert(facts.pack) {
                    is_needed = true;
                    known.insert((*rank, facts.pack), facts.clone());
                }
            }
            if is_needed {
                opened.push((segment, covered));
            } else {
                // Merged into a newer one, or all of its packs are gone.
                self.discard(sequence);
            }
        }
        for ((rank, _), facts) in &known {
            let seat = state.roster.seat(facts, *rank);
            seat.map_err(Trouble::Write)?;
        }
        for (mut segment, covered) in opened {
            let number = |one: &Covered| state.roster.number(one.facts.pack).unwrap_or(ABSENT);
            segment.set_packs(covered.iter().map(number).collect());
            state.segments.push(Arc::new(segment));
        }
        let filter_bytes: u64 = state.segments.iter().map(|one| one.filter_bytes()).sum();
        if filter_bytes <= FILTER_BYTES_AT_OPEN {
            state
                .segments
                .iter()
                .try_for_each(|one| one.load_filter())?;
        }
        Ok(known.into_values().collect())
    }

    /// Makes the directory; if that fails, all stays in memory until the next start.
    fn make_dir(&self, state: &mut State) {
        let dir = Path::new(layout::INDEX);
        let made = match self.vfs.make_dir(dir) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                // It is there, and no directory.
                let moved = durable::quarantine(&*self.vfs, &*self.rng, dir);
                moved.and_then(|_| {
                    self.vfs
                        .make_dir(dir)
                        .map_err(Error::io("make directory", dir))
                })
            }
            Err(error) => Err(Error::io("make directory", dir)(error)),
        };
        let root = Path::new(".");
        let outcome = made.and_then(|()| {
            self.vfs
                .sync_dir(root)
                .map_err(Error::io("sync directory", root))
        });
        if let Err(error) = outcome {
            tracing::error!(error = %chain(&error), "keep the chunk index in memory until the next start");
            state.on_disk = false;
        }
    }

    /// Moves all segments to `quarantine/index`, in place of what an earlier time left there.
    fn set_aside(&self, state: &mut State) {
        let (from, to) = (
            Path::new(layout::INDEX),
            Path::new(layout::QUARANTINE).join(layout::INDEX),
        );
        let Ok(names) = self.vfs.list(from) else {
            return self.make_dir(state);
        };
        let outcome = self.empty(&to).and_then(|()| {
            for name in names.iter().filter(|name| !name.is_dir) {
                let (old, new) = (from.join(&name.name), to.join(&name.name));
                self.vfs
                    .rename_noreplace(&old, &new)
                    .map_err(Error::io("move to quarantine", &old))?;
            }
            [to.as_path(), from].into_iter().try_for_each(|dir| {
                self.vfs
                    .sync_dir(dir)
                    .map_err(Error::io("sync directory", dir))
            })
        });
        if let Err(error) = outcome {
            tracing::error!(error = %chain(&error), "keep the chunk index in memory until the next start");
            state.on_disk = false;
        }
    }

    /// Makes a directory of cache files that is empty.
    fn empty(&self, dir: &Path) -> Result<(), Error> {
        let Ok(names) = self.vfs.list(dir) else {
            return self
                .vfs
                .make_dir(dir)
                .map_err(Error::io("make directory", dir));
        };
        for name in names.iter().filter(|name| !name.is_dir) {
            let path = dir.join(&name.name);
            self.vfs
                .remove_file(&path)
                .map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }

    /// Removes a segment that nobody needs. If that fails, the next start removes it.
    fn discard(&self, sequence: u64) {
        let path = segment::path(sequence);
        if let Err(error) = self.vfs.remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "left an index segment for the next start");
        }
    }

    fn search(&self, dataset: DatasetId, record: &RecordId) -> Result<Vec<Location>, Trouble> {
        let state = self.read();
        if state.torn {
            return Err(Trouble::Torn);
        }
        let key = Key::of(record);
        let mut rows = Vec::new();
        rows.extend(state.fresh.copies(key));
        if let Some(frozen) = &state.frozen {
            rows.extend(frozen.copies(key));
        }
        for segment in &state.segments {
            segment.find(&key, &mut rows)?;
        }
        Ok(state.roster.locations(dataset, &rows))
    }

    /// Takes in a pack; true if the fresh table is full.
    fn add(&self, facts: &PackFacts, entries: &[Entry]) -> Result<bool, Error> {
        let State {
            roster,
            fresh,
            flush_at,
            on_disk,
            ..
        } = &mut *self.write();
        let Some(number) = roster.enter(facts)? else {
            return Ok(false);
        };
        fresh.add(number, facts.clone(), entries);
        let is_full = fresh.len() >= *flush_at || fresh.packs().len() >= self.limits.fresh_packs;
        Ok(*on_disk && is_full)
    }

    /// Writes the fresh table to a segment, unless somebody does. Should that fail, the rows stay in
    /// memory and it is tried again when as many more have come.
    fn flush(&self) {
        let Ok(_flushing) = self.flushing.try_lock() else {
            return;
        };
        let table = {
            let state = &mut *self.write();
            if !state.on_disk || state.torn {
                return;
            }
            if state.frozen.is_none() && state.fresh.packs().is_empty() {
                return;
            }
            let fresh = &mut state.fresh;
            let frozen = &mut state.frozen;
            Arc::clone(frozen.get_or_insert_with(|| Arc::new(std::mem::take(fresh))))
        };
        let written = guard(|| {
            let packs = cover(&self.read().roster, table.packs());
            self.write_segment(packs, table.rows(), table.len() as u64)
        });
        let state = &mut *self.write();
        match written {
            Ok(segment) => {
                state.segments.extend(segment.map(Arc::new));
                state.frozen = None;
                state.flush_at = self.limits.fresh_records;
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "keep fresh index entries in memory");
                state.flush_at = state.fresh.len() + self.limits.fresh_records;
            }
        }
    }

    /// Writes the rows of these packs, which come in their order; none if there are no packs.
    fn write_segment(
        &self,
        packs: BTreeMap<u32, Covered>,
        mut rows: impl Iterator<Item = Row>,
        rows_max: u64,
    ) -> Result<Option<Segment>, Trouble> {
        if packs.is_empty() {
            return Ok(None);
        }
        let writer = Writer::begin(&*self.vfs, self.sequence(), rows_max);
        let mut output = merge::Output::new(writer.map_err(Trouble::Write)?, packs);
        rows.try_for_each(|row| output.push(row))?;
        output.finish().map(Some)
    }

    /// Merges until there is nothing to merge.
    pub(super) fn settle(&self) {
        while !self.is_stopped() && self.merge_once() {}
    }

    /// Reads the filters that were left out when the index was opened.
    pub(super) fn load_filters(&self) {
        let segments = self.read().segments.clone();
        for segment in segments {
            let seen = self.read().rebuilt_count;
            if self.is_stopped() {
                return;
            }
            if let Err(trouble) = guard(|| segment.load_filter()) {
                return self.rebuild_or_log(&trouble, seen);
            }
        }
    }

    fn rebuild_or_log(&self, trouble: &Trouble, seen: u64) {
        if let Err(error) = self.rebuild(trouble, seen) {
            tracing::error!(error = %chain(&error), "try to make the chunk index anew at the next lookup");
        }
    }

    /// Merges some segments into one; false if there was nothing to merge or it failed.
    fn merge_once(&self) -> bool {
        let merging = locked(&self.merging);
        let (inputs, seen) = {
            let state = self.read();
            (self.choose(&state), state.rebuilt_count)
        };
        let Some(inputs) = inputs else { return false };
        let merged = guard(|| self.merge(&inputs));
        match merged {
            Ok(output) => {
                let state = &mut *self.write();
                let is_input = |one: &Arc<Segment>| inputs.iter().any(|i| Arc::ptr_eq(i, one));
                state.segments.retain(|one| !is_input(one));
                state.segments.extend(output.map(Arc::new));
            }
            Err(Trouble::Stopped) => return false,
            Err(Trouble::Write(error)) => {
                tracing::warn!(error = %chain(&error), "leave index segments unmerged for now");
                return false;
            }
            Err(trouble) => {
                drop(merging);
                self.rebuild_or_log(&trouble, seen);
                return false;
            }
        }
        inputs
            .iter()
            .for_each(|input| self.discard(input.sequence()));
        true
    }

    fn choose(&self, state: &State) -> Option<Vec<Arc<Segment>>> {
        if !state.on_disk || state.torn {
            return None;
        }
        let weight = |segment: &Arc<Segment>| {
            let alive = |number: &u32| state.roster.rows(*number);
            let packs = segment.packs().iter().filter_map(alive);
            let (packs, rows) = packs.fold((0, 0), |(n, sum), rows| (n + 1, sum + rows));
            Weight {
                rows: segment.rows(),
                dead_rows: segment.rows().saturating_sub(rows),
                packs,
            }
        };
        let weights: Vec<_> = state.segments.iter().map(weight).collect();
        let base = self.limits.fresh_records as u64;
        let chosen = plan::choose(&weights, base, self.limits.fan_in, PACKS_MAX)?;
        let segment = |at: usize| state.segments.get(at).cloned();
        chosen.into_iter().map(segment).collect()
    }

    fn merge(&self, inputs: &[Arc<Segment>]) -> Result<Option<Segment>, Trouble> {
        let mut packs = BTreeMap::new();
        for input in inputs {
            for (number, covered) in input.packs().iter().zip(input.covered()?) {
                if self.read().roster.rows(*number).is_some() {
                    packs.insert(*number, covered);
                }
            }
        }
        if packs.is_empty() {
            return Ok(None);
        }
        let rows_max = inputs.iter().map(|input| input.rows()).sum();
        let writer = Writer::begin(&*self.vfs, self.sequence(), rows_max);
        let output = merge::Output::new(writer.map_err(Trouble::Write)?, packs);
        merge::run(inputs, output, || self.is_stopped()).map(Some)
    }

    /// Makes the index anew, unless that happened since `seen`. All other calls wait.
    fn rebuild(&self, trouble: &Trouble, seen: u64) -> Result<(), Error> {
        self.stop.fetch_add(1, Ordering::Relaxed);
        let _merging = locked(&self.merging);
        self.stop.fetch_sub(1, Ordering::Relaxed);
        let _flushing = locked(&self.flushing);
        let state = &mut *self.write();
        if state.rebuilt_count != seen {
            return Ok(());
        }
        tracing::warn!(cause = %chain(trouble), "make the chunk index anew from the trailers of packs");
        let mut packs = std::mem::take(&mut state.unread);
        packs.extend(state.forget_all());
        state.torn = true;
        self.set_aside(state);
        let read = |pack| match table::read(&*self.vfs, pack) {
            Ok(found) => found.map(Ok),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => Some(Err(error)),
        };
        let outcome = self.bulk(state, &mut packs.iter().copied().filter_map(read));
        if outcome.is_err() {
            // The next attempt has to know of all of them.
            state.forget_all();
            state.unread = packs;
            return outcome;
        }
        state.torn = false;
        state.rebuilt_count += 1;
        Ok(())
    }

    /// Takes in many packs: sorts as many rows as memory is allowed for, and writes them to a segment.
    fn bulk(
        &self,
        state: &mut State,
        packs: &mut dyn Iterator<Item = Result<PackTable, Error>>,
    ) -> Result<(), Error> {
        let mut run = Run::default();
        let mut outcome = Ok(());
        for pack in packs {
            outcome = pack.and_then(|pack| run.take(&mut state.roster, pack));
            if outcome.is_err() {
                break;
            }
            if run.rows.len() >= self.limits.bulk_records {
                self.end_run(state, std::mem::take(&mut run));
            }
        }
        let is_small =
            run.rows.len() < self.limits.fresh_records && run.packs.len() < self.limits.fresh_packs;
        if is_small {
            state.fresh.extend(run.packs, run.rows);
        } else {
            self.end_run(state, run);
        }
        outcome
    }

    /// Writes a run to a segment; if that fails, it stays in memory.
    fn end_run(&self, state: &mut State, mut run: Run) {
        if state.on_disk {
            run.rows.sort_unstable_by(Row::order);
            let packs = cover(&state.roster, &run.packs);
            let rows = run.rows.iter().copied();
            match guard(|| self.write_segment(packs, rows, run.rows.len() as u64)) {
                Ok(segment) => return state.segments.extend(segment.map(Arc::new)),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "keep index entries in memory");
                    state.flush_at = state.fresh.len() + run.rows.len() + self.limits.fresh_records;
                }
            }
        }
        state.fresh.extend(run.packs, run.rows);
    }
}

/// The packs that are not gone, as a segment names them.
fn cover(roster: &Roster, packs: &[(u32, PackFacts)]) -> BTreeMap<u32, Covered> {
    let covered = |(number, facts): &(u32, PackFacts)| {
        let (rank, facts) = (roster.rank(*number)?, facts.clone());
        Some((*number, Covered { facts, rank }))
    };
    packs.iter().filter_map(covered).collect()
}

impl State {
    /// Lets go of everything but what was decided; gives the packs, in the order in which they came.
    fn forget_all(&mut self) -> Vec<PackId> {
        self.segments.clear();
        self.fresh = Table::default();
        self.frozen = None;
        self.roster.clear()
    }
}

/// Rows that were gathered from trailers.
#[derive(Default)]
struct Run {
    packs: Vec<(u32, PackFacts)>,
    rows: Vec<Row>,
}

impl Run {
    fn take(&mut self, roster: &mut Roster, (facts, entries): PackTable) -> Result<(), Error> {
        if let Some(number) = roster.enter(&facts)? {
            let rows = entries.iter().filter_map(|entry| Row::of(entry, number));
            self.rows.extend(rows);
            self.packs.push((number, facts));
        }
        Ok(())
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
