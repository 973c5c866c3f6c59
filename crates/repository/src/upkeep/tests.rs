use stillwater_format::commit::{AdminKey, Dataset};
use stillwater_format::pack::{Codec, RecordHeader};
use stillwater_service::config::{Bytes, Period};
use stillwater_store::vfs::Vfs;
use stillwater_store::{Environment, MemoryCatalogue, MemoryIndex, Options, Verifier};
use stillwater_testkit::{FaultClock, FaultFs, SeededRng};
use stillwater_types::{ChunkId, ClusterId, DatasetId, NodeId, RunId};

use super::*;

const TIB: u64 = 1 << 40;

#[test]
fn all_is_read_in_the_last_quarter_of_the_period_unless_the_rate_is_bounded() {
    let day = Duration::from_secs(24 * 3600);
    let settings = UpkeepSettings {
        scrub_period: Period(14 * day),
        scrub_rate: Bytes(TIB),
        ..UpkeepSettings::default()
    };
    let stored = |stored_bytes, unverified_bytes| Health {
        stored_bytes,
        unverified_bytes,
        ..Health::default()
    };
    let quarter = (14 * day / 4).as_secs();
    assert!(rate(&stored(10 * TIB, 0), &settings) * quarter > 10 * TIB);
    assert!(rate(&stored(10 * TIB, TIB), &settings) * day.as_secs() > TIB);
    assert_eq!(rate(&stored(0, 0), &settings), RATE_MIN);
    let bounded = UpkeepSettings {
        scrub_rate: Bytes(5 << 20),
        ..settings
    };
    assert_eq!(rate(&stored(100 * TIB, 0), &bounded), 5 << 20);
}

#[test]
fn reading_takes_as_long_as_the_rate_says_and_idling_a_while() {
    assert_eq!(pace(64 << 20, 16 << 20), Duration::from_secs(4));
    assert_eq!(pace(0, 16 << 20), IDLE);
}

#[test]
fn work_that_panics_is_counted_and_done_again() {
    let (stop, upkept, mut turns) = (Stop::default(), Upkept::default(), 0);
    supervise(&stop, &upkept, Duration::ZERO, || {
        turns += 1;
        assert!(turns == 3, "made to panic");
    });
    assert_eq!((turns, upkept.panic_count()), (3, 2));
}

#[test]
fn work_that_panics_is_left_when_it_is_time_to_stop() {
    let (stop, upkept) = (Stop::default(), Upkept::default());
    stop.stop();
    supervise(&stop, &upkept, Duration::from_secs(3600), || {
        panic!("made to panic")
    });
    assert_eq!(upkept.panic_count(), 1);
}

const HOUR: Duration = Duration::from_secs(3600);
const DATASET: DatasetId = DatasetId::from_bytes([3; 16]);

/// Nobody signs anything here.
struct NoVerifier;

impl Verifier for NoVerifier {
    fn verify(&self, _: &AdminKey, _: &[u8], _: &[u8; 64]) -> bool {
        false
    }
}

/// A store whose clock moves when the upkeep waits, and with it all that time brings.
struct FakePulse {
    clock: Arc<FaultClock>,
    store: Store,
    waits: Mutex<Vec<Wait>>,
    /// Says when the repository begins to stop: after a wait, or within a walk.
    drain: CancellationToken,
    drain_at: Box<DrainAt>,
    drain_in_walk: bool,
    stop: Stop,
}

/// Whether the repository begins to stop after these waits.
type DrainAt = dyn Fn(&[Wait]) -> bool + Send + Sync;

/// A wait, and what the store had done before it.
#[derive(Debug, Clone, Copy)]
struct Wait {
    time: Duration,
    read_bytes: u64,
    cycles: u64,
}

impl Pulse for FakePulse {
    fn now(&self) -> Duration {
        stillwater_store::Clock::since_boot(&*self.clock)
    }

    fn wait(&self, time: Duration) -> bool {
        if self.stop.is_stopped() {
            return false;
        }
        self.clock.pass(time);
        self.store.tick().expect("a tick");
        let mut waits = self.waits.lock().unwrap();
        waits.push(Wait {
            time,
            read_bytes: self.store.scrub_totals().read_bytes,
            cycles: self.store.collection_counts().cycles,
        });
        assert!(waits.len() < 100_000, "it goes on for ever");
        if (self.drain_at)(&waits) && !self.drain_in_walk {
            self.begin_to_stop();
        }
        !self.stop.is_stopped()
    }

    fn stop(&self) {
        self.stop.stop();
    }
}

impl FakePulse {
    /// Until whoever waits for the drain has said stop.
    fn begin_to_stop(&self) {
        self.drain.cancel();
        assert!(!self.stop.wait(HOUR), "nobody said stop");
    }
}

impl Watch for FakePulse {
    fn note(&self, _: Phase, _: u64, _: u64) {
        if self.drain_in_walk && !self.stop.is_stopped() {
            self.begin_to_stop();
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }
}

const PACKS: u64 = 5;
/// So long that each of them is a second's budget and more.
const CHUNKS: u32 = 48;
const CHUNK_BYTES: usize = 64 << 10;

/// A store with packs that nobody verified.
fn laden() -> (Arc<FaultClock>, Store) {
    let clock = Arc::new(FaultClock::default());
    let vfs: Arc<dyn Vfs> = Arc::new(FaultFs::default());
    let env = || Environment {
        vfs: Arc::clone(&vfs),
        clock: clock.clone(),
        rng: Arc::new(SeededRng::new(7)),
        catalogue: Box::new(MemoryCatalogue::default()),
        index: Arc::new(MemoryIndex::default()),
        verifier: Arc::new(NoVerifier),
    };
    let options = Options {
        reserve_bytes: 0,
        // What these packs take is all that there is.
        sweep_brake_percent: 100,
        scrub_period: 24 * HOUR,
        ..Options::DEFAULT
    };
    let identity = stillwater_store::Identity {
        cluster: ClusterId::from_bytes([1; 16]),
        node: NodeId::from_bytes([2; 16]),
    };
    Store::init(&env(), &options, identity).unwrap();
    let store = Store::open(env(), options).unwrap();
    let dataset = Dataset {
        id: DATASET,
        label: "default".into(),
        wrapped_key: vec![1],
    };
    store.create_dataset(dataset).unwrap();
    let key = store.open_session(RunId::mint(), DATASET, 0).unwrap().key;
    for number in 0..PACKS {
        let salt = *blake3::hash(&number.to_le_bytes()).as_bytes();
        let mut pack = store.begin_pack(key, &salt).unwrap();
        for counter in 0..CHUNKS {
            let mut hash = blake3::Hasher::new_keyed(&salt);
            let hash = hash.update(&counter.to_le_bytes());
            let id = ChunkId::from_bytes(*hash.finalize().as_bytes());
            let mut stored = vec![0; CHUNK_BYTES];
            hash.finalize_xof().fill(&mut stored);
            let header = RecordHeader::chunk(id, Codec::Zstd, 0, counter, 1 << 17, &stored);
            pack.append(&header.unwrap(), &stored).unwrap();
        }
        pack.finish().unwrap();
    }
    store.close_session(key).unwrap();
    (clock, store)
}

/// Keeps a store until `drain_at` says so of the waits so far.
fn kept(
    drain_in_walk: bool,
    drain_at: impl Fn(&[Wait]) -> bool + Send + Sync + 'static,
) -> (Store, Upkept, Vec<Wait>) {
    let (clock, store) = laden();
    let (drain, upkept) = (CancellationToken::new(), Upkept::default());
    let pulse = Arc::new(FakePulse {
        clock,
        store: store.clone(),
        waits: Mutex::default(),
        drain: drain.clone(),
        drain_at: Box::new(drain_at),
        drain_in_walk,
        stop: Stop::default(),
    });
    let settings = UpkeepSettings {
        scrub_period: Period(24 * HOUR),
        ..UpkeepSettings::default()
    };
    let work = keep_by(
        pulse.clone(),
        store.clone(),
        settings,
        upkept.clone(),
        &drain,
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(work);
    assert_eq!(upkept.panic_count(), 0, "the upkeep panicked");
    let waits = pulse.waits.lock().unwrap().clone();
    (store, upkept, waits)
}

/// How long was waited from one wait on until another.
fn span(waits: &[Wait]) -> Duration {
    waits.iter().map(|wait| wait.time).sum()
}

#[test]
fn packs_are_read_at_the_pace_of_the_rate_and_then_it_idles() {
    let (store, upkept, waits) = kept(false, |waits| waits.len() > 20);
    let stored = store.usage().unwrap().stored_bytes;
    assert!(stored > PACKS * (3 << 20), "{stored}");
    // One pack at a time, for as long as it may take at the slowest rate.
    let (begun, reading) = waits.split_first().unwrap();
    assert_eq!((begun.time, begun.read_bytes), (Duration::ZERO, 0));
    let (reading, idle) = reading.split_at(PACKS as usize);
    for (wait, packs) in reading.iter().zip(1..) {
        assert_eq!(wait.read_bytes, stored / PACKS * packs);
        assert_eq!(wait.time, pace(stored / PACKS, RATE_MIN));
    }
    assert!(span(reading) >= pace(stored, RATE_MIN) - Duration::from_millis(PACKS));
    for wait in idle {
        assert_eq!((wait.time, wait.read_bytes), (IDLE, stored));
    }
    // Measured while it went on.
    let health = upkept.health().unwrap();
    assert_eq!((health.stored_bytes, health.unverified_bytes), (stored, 0));
}

#[test]
fn garbage_is_collected_after_five_minutes_and_once_a_day() {
    let (store, _, waits) = kept(false, |waits| span(waits) > 50 * HOUR);
    assert_eq!(store.collection_counts().cycles, 3);
    let began = |cycles| {
        let place = waits.iter().position(|wait| wait.cycles >= cycles);
        // It is seen at the wait behind it.
        span(&waits[..place.unwrap()])
    };
    for (cycles, at) in [(1, FIRST_COLLECTION_AFTER), (2, 24 * HOUR), (3, 48 * HOUR)] {
        let late = began(cycles).saturating_sub(at);
        assert!(
            began(cycles) >= at && late < Duration::from_secs(400),
            "{late:?}"
        );
    }
}

#[test]
fn what_was_verified_is_read_again_within_the_period_and_not_before() {
    let (store, _, waits) = kept(false, |waits| span(waits) > 20 * HOUR);
    let stored = store.usage().unwrap().stored_bytes;
    let again = waits.iter().position(|wait| wait.read_bytes > stored);
    let again = span(&waits[..again.expect("nothing was read again")]);
    assert!(again >= 18 * HOUR && again < 19 * HOUR, "{again:?}");
    assert_eq!(store.health().overdue_bytes, 0);
}

#[test]
fn it_ends_when_the_repository_begins_to_stop_also_in_the_middle_of_a_walk() {
    let (store, _, waits) = kept(false, |waits| waits.len() == 3);
    let stored = store.usage().unwrap().stored_bytes;
    assert_eq!(waits.len(), 3);
    assert_eq!(store.scrub_totals().read_bytes, stored / PACKS * 2);
    let (store, _, waits) = kept(true, |_| false);
    assert_eq!(waits.len(), 1, "{waits:?}");
    assert_eq!(store.scrub_totals().pack_count, 1);
}
