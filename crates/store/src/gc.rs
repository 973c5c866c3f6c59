//! Garbage collection and compaction.
//!
//! One *cycle* takes a look at the commit log, marks what every point reaches, and then decides about
//! packs. What it decides is on the log before it is done, so a crash leaves nothing in doubt; what a
//! crash left undone is done at the next start.
//!
//! * A pack that nothing reaches is *condemned*: sessions that open later do not see it, reads do.
//! * A condemned pack that something reaches at a later cycle is *spared*.
//! * One that nothing reaches, that was condemned for long enough, and that no session which is still
//!   open could see, is *quarantined*: moved away, not in the index.
//! * One that was quarantined for long enough is *removed*.
//! * A pack of which little is live is *compacted*: its live records are copied to a new pack, and
//!   nothing reaches the old one at the next cycle.
//!
//! It fails closed: whatever cannot be read ends the cycle, and nothing is decided. It never looks at
//! times or names of files, never touches what it does not know, and removes nothing but what the log
//! names. It knows nothing of damage: packs that are not whole are for the scrub.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use stillwater_format::commit::Cycle;
use stillwater_types::RunId;

use crate::store::Store;
use crate::{Error, SessionKey};

mod brake;
pub(crate) mod compact;
mod cycle;
mod judge;
mod mark;
mod memory;
mod orphans;
mod roots;
mod state;
pub(crate) mod sweep;
mod view;

pub use cycle::Collection;
#[cfg(test)]
pub(crate) use mark::tests::check_memory;
pub(crate) use roots::{Root, Roots};
pub(crate) use state::State;

/// Follows a cycle, and may end it.
pub trait Watch {
    /// Is told how far the cycle is.
    fn note(&self, phase: Phase, done: u64, total: u64);
    /// Whether the cycle is to end at its next step.
    fn is_stopped(&self) -> bool;
}

/// Follows nothing.
impl Watch for () {
    fn note(&self, _: Phase, _: u64, _: u64) {}

    fn is_stopped(&self) -> bool {
        false
    }
}

/// A step of a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Does what was decided earlier and not done.
    Settle,
    /// Looks at what every point reaches; counts points.
    Mark,
    /// Decides what becomes of each pack, and does it; counts packs.
    Sweep,
    /// Copies what is live out of packs that are mostly not; counts bytes.
    Compact,
    /// Puts the cycle on the log.
    Finish,
    /// Reads packs again; counts bytes.
    Scrub,
    /// Looks which points reach something lost; counts points.
    Survey,
    /// Reads a point again; counts bytes of its disks.
    Verify,
}

impl Phase {
    /// The phase in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Settle => "settle",
            Phase::Mark => "mark",
            Phase::Sweep => "sweep",
            Phase::Compact => "compact",
            Phase::Finish => "finish",
            Phase::Scrub => "scrub",
            Phase::Survey => "survey",
            Phase::Verify => "verify",
        }
    }
}

/// How far a cycle is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do.
    Working {
        /// What it does.
        phase: Phase,
        /// How much of that is done.
        done: u64,
        /// Of how much; zero where that is not known.
        total: u64,
    },
    /// It is over.
    Done(Box<Collected>),
}

/// Packs, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub pack_count: u64,
    /// How long they are together.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.pack_count += 1;
        self.bytes += bytes;
    }
}

/// Why a cycle did less than it could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It would have condemned an unusual amount; two administrators may allow it.
    Brake {
        /// What it would have condemned.
        bytes: u64,
        /// The most that it may condemn unasked.
        limit_bytes: u64,
    },
    /// The clock is in doubt, so nothing was quarantined or removed.
    Time,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Held::Brake { bytes, limit_bytes } => write!(
                f,
                "it would condemn {bytes} bytes, where {limit_bytes} are usual; \
                 let two administrators allow it"
            ),
            Held::Time => f.write_str("the clock is in doubt, so nothing was taken out"),
        }
    }
}

/// The session that condemned packs wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocking {
    /// Its run.
    pub run: RunId,
    /// Its fence.
    pub fence: u64,
    /// How many packs wait for it.
    pub pack_count: u64,
}

/// What a cycle found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// As it is on the log.
    pub cycle: Cycle,
    /// Packs that are in use after all.
    pub spared: Amount,
    /// Packs that were condemned.
    pub condemned: Amount,
    /// Packs that were moved to quarantine.
    pub quarantined: Amount,
    /// Packs that were removed.
    pub removed: Amount,
    /// Packs whose live records were copied to new ones.
    pub compacted: Amount,
    /// Records that compaction could not copy since their bytes are damaged.
    pub damaged_record_count: u64,
    /// Chunks that points name and no pack has.
    pub missing_chunk_count: u64,
    /// Tree nodes that were read. What earlier cycles found below the others was remembered.
    pub read_node_count: u64,
    /// Packs that are left alone, since they are damaged or of a dataset that nobody knows.
    pub untouched: Amount,
    /// Why it did less than it could have.
    pub held: Option<Held>,
    /// The oldest session that condemned packs wait for.
    pub blocking: Option<Blocking>,
    /// How long it took.
    pub duration: Duration,
}

/// What collections did since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    cycles: AtomicU64,
    cycles_failed: AtomicU64,
    cycles_blocked: AtomicU64,
    cycles_braked: AtomicU64,
    cycles_frozen: AtomicU64,
    condemned_bytes: AtomicU64,
    removed_bytes: AtomicU64,
    compacted_bytes: AtomicU64,
}

/// What collections did since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectionCounts {
    /// Cycles that went through.
    pub cycles: u64,
    /// Cycles that ended early, for whatever reason.
    pub cycles_failed: u64,
    /// Of these, the ones that ended because a point could not be read.
    pub cycles_blocked: u64,
    /// Of the ones that went through, those that would have condemned an unusual amount.
    pub cycles_braked: u64,
    /// Of the ones that went through, those that took nothing out since the clock was in doubt.
    pub cycles_frozen: u64,
    /// Bytes of packs that were condemned.
    pub condemned_bytes: u64,
    /// Bytes of packs that were removed.
    pub removed_bytes: u64,
    /// Bytes of packs that were compacted.
    pub compacted_bytes: u64,
}

impl Tally {
    fn note(&self, collected: &Collected) {
        let add = |count: &AtomicU64, more| {
            count.fetch_add(more, Ordering::Relaxed);
        };
        add(&self.cycles, 1);
        match collected.held {
            Some(Held::Brake { .. }) => add(&self.cycles_braked, 1),
            Some(Held::Time) => add(&self.cycles_frozen, 1),
            None => {}
        }
        add(&self.condemned_bytes, collected.condemned.bytes);
        add(&self.removed_bytes, collected.removed.bytes);
        add(&self.compacted_bytes, collected.compacted.bytes);
    }

    fn note_failure(&self, error: &Error) {
        self.cycles_failed.fetch_add(1, Ordering::Relaxed);
        if matches!(error, Error::CollectionBlocked { .. }) {
            self.cycles_blocked.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self) -> CollectionCounts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CollectionCounts {
            cycles: get(&self.cycles),
            cycles_failed: get(&self.cycles_failed),
            cycles_blocked: get(&self.cycles_blocked),
            cycles_braked: get(&self.cycles_braked),
            cycles_frozen: get(&self.cycles_frozen),
            condemned_bytes: get(&self.condemned_bytes),
            removed_bytes: get(&self.removed_bytes),
            compacted_bytes: get(&self.compacted_bytes),
        }
    }
}

/// Lets one collection run at a time.
#[derive(Debug, Default)]
pub(crate) struct Turn(AtomicBool);

impl Turn {
    fn take(&self) -> Result<(), Error> {
        if self.0.swap(true, Ordering::Acquire) {
            Err(Error::CollectionRunning)
        } else {
            Ok(())
        }
    }

    fn give_back(&self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Store {
    /// Goes through one cycle. Blocks for as long as that takes, and may run beside everything else.
    ///
    /// # Errors
    /// `CollectionRunning` when another one runs, `CollectionStopped` when `watch` said so,
    /// `CollectionBlocked` when a point cannot be read, or when the storage failed.
    pub fn collect(&self, watch: &dyn Watch) -> Result<Collected, Error> {
        let mut collection = self.begin_collection()?;
        loop {
            if watch.is_stopped() {
                return Err(Error::CollectionStopped);
            }
            match collection.step()? {
                Progress::Working { phase, done, total } => watch.note(phase, done, total),
                Progress::Done(collected) => return Ok(*collected),
            }
        }
    }

    /// Begins a cycle whose steps the caller makes. Dropping it ends the cycle early; what was
    /// decided until then stays decided, and is whole.
    ///
    /// # Errors
    /// `CollectionRunning` when another one runs, or when the store takes nothing any more.
    pub fn begin_collection(&self) -> Result<Collection, Error> {
        Collection::begin(self.clone())
    }

    /// What collections did since the store was opened.
    pub fn collection_counts(&self) -> CollectionCounts {
        self.inner.gc.tally.read()
    }

    /// The last cycle that went through, if any did.
    pub fn last_cycle(&self) -> Option<Cycle> {
        self.inner.ledger().roots.last_cycle()
    }
}

/// The oldest of sessions, by their fences.
fn oldest(sessions: &[SessionKey]) -> Option<SessionKey> {
    sessions.iter().copied().min_by_key(|session| session.fence)
}
