//! Scrub: every byte is read again within a period, what is damaged is named, set aside and healed.
//!
//! All of a pack is read and held against its own hashes. Of a damaged one, the records that are sound are
//! copied to a new pack; the log says which records are lost, and that the pack is damaged; then its file
//! is moved to quarantine, where it stays for ever. A crash in between is made good by doing it again:
//! until the log says so, the damaged pack is in use.
//!
//! * What is lost is a miss for every session from then on, so that the next backup sends it again.
//! * A read that failed is no damage: the pack is tried again later, and set aside only when the same
//!   bytes failed twice, while other reads went well.
//! * A *survey* walks all points, names those that reach something lost, and sees to the copies of
//!   manifests, commit log and superblock. It follows each loss, and comes once a day.
//! * When each pack was verified last is a projection in a file of its own: without it all is due.
//!
//! **Memory.** One pack at a time, through a window of 4 MiB at most, and 200 bytes for each of its records;
//! about 40 bytes for each pack; during a survey about 50 bytes for each tree node.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stillwater_format::Time;
use stillwater_types::{PackId, PointId};

use crate::fates::Standing;
use crate::gc::sweep;
use crate::pack::PackLook;
use crate::store::{Inner, Store};
use crate::{Error, Watch};

use self::pass::Pass;
use self::survey::Found;
use self::verified::Verified;

mod aside;
mod exam;
mod load;
mod pass;
mod rescue;
mod survey;
mod truth;
mod verified;
mod verify;

pub use verify::{DamagedExtent, Verification};

/// Most extents that a verification names.
pub const EXTENTS_NAMED_MAX: usize = 1000;
/// A pack is due when this part of the period has passed since it was verified, in percent: the rest is
/// for reading all that is due.
const DUE_AT_PERCENT: u32 = 75;
/// How often points are surveyed though nothing is known to be lost.
const SURVEY_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How old a queue of due packs may be before it is made anew.
const QUEUE_AGE_MAX: Duration = Duration::from_secs(600);

/// What a scrub found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Packs that were read again.
    pub pack_count: u64,
    /// Bytes that were read for it.
    pub read_bytes: u64,
    /// Packs that were found damaged and set aside.
    pub damaged_pack_count: u64,
    /// Records of them that no copy is left of.
    pub lost_record_count: u64,
    /// Records of them that were copied to new packs.
    pub salvaged_record_count: u64,
    /// Packs that could not be read, or not be set aside, and are tried again later.
    pub postponed_pack_count: u64,
    /// Copies of manifests, of the commit log and of the superblock that were written anew.
    pub healed_copy_count: u64,
}

impl Scrubbed {
    fn add(&mut self, other: &Self) {
        self.pack_count += other.pack_count;
        self.read_bytes += other.read_bytes;
        self.damaged_pack_count += other.damaged_pack_count;
        self.lost_record_count += other.lost_record_count;
        self.salvaged_record_count += other.salvaged_record_count;
        self.postponed_pack_count += other.postponed_pack_count;
        self.healed_copy_count += other.healed_copy_count;
    }
}

/// How sound the repository is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// When the pack was verified that waits longest; none while one was never verified.
    pub verified_since: Option<Time>,
    /// The trusted time.
    pub now: Time,
    /// Bytes of packs.
    pub stored_bytes: u64,
    /// Bytes of packs that were never verified.
    pub unverified_bytes: u64,
    /// Bytes of packs that the scrub wants to read now.
    pub due_bytes: u64,
    /// Bytes of packs that were not verified in time.
    pub overdue_bytes: u64,
    /// Packs that were set aside as damaged, and those that still are to be.
    pub damaged_pack_count: u64,
    /// Packs that could not be read and are tried again.
    pub unreadable_pack_count: u64,
    /// Records that points reach and no sound copy is left of.
    pub lost_record_count: u64,
    /// Points that reach one of these, in the order of ids.
    pub degraded_points: Vec<PointId>,
    /// When points were surveyed last.
    pub surveyed_at: Option<Time>,
    /// Whether both copies of the commit log were found damaged while the repository is open. A restart
    /// would fail: keep it running, and save what it holds.
    pub is_log_damaged: bool,
    /// Bytes of packs that are condemned.
    pub condemned_bytes: u64,
}

/// What scrubs did since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Held over one pack, or one survey.
    turn: Mutex<()>,
    memory: Mutex<Memory>,
    read_errors: AtomicU64,
}

#[derive(Debug, Default)]
struct Memory {
    verified: Verified,
    suspects: BTreeSet<PackId>,
    queue: VecDeque<PackId>,
    /// Packs that are to be read though they are not due.
    demanded: HashSet<PackId>,
    queued_at: Duration,
    troubles: HashMap<PackId, load::Trouble>,
    /// Packs whose move to quarantine failed.
    unmoved: BTreeSet<PackId>,
    found: Arc<Found>,
    is_survey_due: bool,
    /// How many packs had been written when it was looked whether something lost had come back.
    healing_seen: u64,
    is_log_damaged: bool,
    sound_reads: u64,
    total: Scrubbed,
}

impl State {
    /// What was kept from before, and the packs that looked damaged at the start.
    pub(crate) fn resume(inner: &Inner, has_losses: bool) {
        let (verified, surveyed) = verified::read(&*inner.vfs);
        let mut memory = inner.scrub.memory();
        memory.verified = verified;
        memory.suspects.extend(inner.packs.damaged());
        memory.found = Arc::new(Found::at(surveyed));
        memory.is_survey_due = has_losses;
    }

    /// Takes note of a pack that is not as it should be: it is read next.
    pub(crate) fn suspect(&self, pack: PackId) {
        self.memory().suspects.insert(pack);
    }

    /// The packs that somebody had trouble with, and that were not read since.
    pub(crate) fn suspects(&self) -> BTreeSet<PackId> {
        self.memory().suspects.clone()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_read_error(&self) {
        self.read_errors.fetch_add(1, Ordering::Relaxed);
    }
}

impl Store {
    /// Reads packs again: those that somebody had trouble with first, then fresh ones, then those that
    /// were verified longest ago; and surveys the points when that is due. It ends when it has read
    /// `budget_bytes`, when nothing is due or when `watch` says so; the caller paces it. Several may run.
    ///
    /// # Errors
    /// When the storage cannot take what is to be put on record. A pack that cannot be read is no error.
    pub fn scrub(&self, budget_bytes: u64, watch: &dyn Watch) -> Result<Scrubbed, Error> {
        let mut pass = Pass::begin(&self.inner);
        let outcome = pass.run(budget_bytes, watch);
        let done = pass.end();
        outcome.map(|()| done)
    }

    /// Makes every pack due at once, and the survey.
    pub fn request_scrub(&self) {
        let packs = self.inner.packs.list();
        let mut memory = self.inner.scrub.memory();
        memory.demanded.extend(packs);
        memory.queue.clear();
        memory.is_survey_due = true;
    }

    /// Walks a point and reads every byte of it again: both copies of its manifest, tree nodes, chunks.
    ///
    /// # Errors
    /// When there is no such point, neither copy of its manifest fits its commit record, or `watch` ended
    /// it (`VerificationStopped`). Damage and reads that fail are in the answer.
    pub fn verify_point(&self, point: PointId, watch: &dyn Watch) -> Result<Verification, Error> {
        verify::verify(&self.inner, point, watch)
    }

    /// How sound the repository is, as far as scrubs and surveys know.
    pub fn health(&self) -> Health {
        let inner = &self.inner;
        let (now, _) = inner.times(&mut inner.ledger());
        let looks = inner.packs.looks();
        let (condemned, damaged) = standings(inner);
        let memory = inner.scrub.memory();
        let mut health = Health {
            now,
            stored_bytes: looks.iter().map(|look| look.length).sum(),
            damaged_pack_count: damaged + inner.packs.damaged().len() as u64,
            unreadable_pack_count: memory.troubles.len() as u64,
            lost_record_count: memory.found.missing_count(),
            degraded_points: memory.found.degraded.iter().copied().collect(),
            surveyed_at: memory.found.at,
            is_log_damaged: memory.is_log_damaged,
            ..Health::default()
        };
        let mut oldest = Some(now);
        for PackLook { pack, length } in looks {
            let age = Age::of(inner, memory.verified.of(pack), pack, now);
            let add = |sum: &mut u64, applies| *sum += if applies { length } else { 0 };
            add(&mut health.unverified_bytes, age.verified.is_none());
            add(&mut health.due_bytes, age.is_due);
            add(&mut health.overdue_bytes, age.is_overdue);
            add(&mut health.condemned_bytes, condemned.contains(&pack));
            oldest = oldest.zip(age.verified).map(|(a, b)| a.min(b));
        }
        health.verified_since = oldest;
        health
    }

    /// When the pack that waits longest was verified, of those that a point reaches; none while one of
    /// them was never verified, or the point cannot be walked. Reads all tree nodes of the point.
    pub fn last_verified(&self, point: PointId) -> Option<Time> {
        let packs = verify::packs_of(&self.inner, point)
            .inspect_err(|error| tracing::warn!(%point, %error, "cannot tell a point's packs"))
            .ok()?;
        let memory = self.inner.scrub.memory();
        let times = packs.into_iter().map(|pack| memory.verified.of(pack));
        times.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// What scrubs found and did since the store was opened.
    pub fn scrub_totals(&self) -> Scrubbed {
        self.inner.scrub.memory().total
    }

    /// How often reading failed in scrubs and verifications since the store was opened.
    pub fn scrub_read_errors(&self) -> u64 {
        self.inner.scrub.read_errors.load(Ordering::Relaxed)
    }

    /// Bytes of packs that garbage collection took out and that are not removed yet.
    ///
    /// # Errors
    /// When the storage does not tell.
    pub fn quarantined_bytes(&self) -> Result<u64, Error> {
        let standings: Vec<_> = self.inner.fates().iter().collect();
        let waiting = standings
            .into_iter()
            .filter(|(_, standing)| matches!(standing, Standing::Quarantined { .. }));
        waiting
            .map(|(pack, _)| sweep::length(&*self.inner.vfs, pack))
            .sum()
    }
}

/// The condemned packs, and how many were set aside as damaged.
fn standings(inner: &Inner) -> (BTreeSet<PackId>, u64) {
    let fates = inner.fates();
    let damaged = fates
        .iter()
        .filter(|(_, standing)| *standing == Standing::Damaged)
        .count() as u64;
    (fates.condemned().into_iter().collect(), damaged)
}

/// How a pack stands with the scrub.
struct Age {
    verified: Option<Time>,
    is_due: bool,
    is_overdue: bool,
}

impl Age {
    fn of(inner: &Inner, verified: Option<Time>, pack: PackId, now: Time) -> Self {
        let period = inner.options.scrub_period;
        // A time that has not come is none.
        let verified = verified.filter(|at| *at <= now);
        match verified {
            Some(at) => Self {
                verified,
                is_due: now >= at.after(period / 100 * DUE_AT_PERCENT),
                is_overdue: now > at.after(period),
            },
            None => Self {
                verified,
                is_due: true,
                is_overdue: now > minted(pack).after(inner.options.scrub_fresh),
            },
        }
    }
}

/// When a pack was begun: its id is a UUID of version 7.
fn minted(pack: PackId) -> Time {
    let [a, b, c, d, e, f, ..] = *pack.as_bytes();
    Time::from_millis(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}
