//! A repository with a clock that anybody may set, and administrators.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use stillwater_format::Time;
use stillwater_format::commit::{Action, AdminKey, Signed, Statement};
use stillwater_types::{NodeId, PointId, RunId};

use super::memfs::MemFs;
use super::rig::*;
use crate::*;

pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);
pub const YEARS: i64 = 10 * 365 * 24 * 3_600_000;

/// What a machine's clocks show, and what really passed.
#[derive(Debug)]
struct Hands {
    wall: u64,
    since_boot: u64,
    boot: u8,
    /// How long the machine was up in all.
    lived: u64,
}

/// Clocks of which only the wall clock can be set.
#[derive(Debug)]
pub struct LooseClock(Mutex<Hands>);

impl Default for LooseClock {
    fn default() -> Self {
        Self(Mutex::new(Hands {
            wall: 1_800_000_000_000,
            since_boot: 100_000,
            boot: 1,
            lived: 0,
        }))
    }
}

impl LooseClock {
    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap()
    }

    /// A clock that goes on from the same time by itself.
    pub fn copy(&self) -> Self {
        let hands = self.hands();
        Self(Mutex::new(Hands { ..*hands }))
    }

    pub fn pass(&self, span: Duration) {
        let (mut hands, millis) = (self.hands(), span.as_millis() as u64);
        hands.wall += millis;
        hands.since_boot += millis;
        hands.lived += millis;
    }

    pub fn set(&self, by_millis: i64) {
        let mut hands = self.hands();
        hands.wall = hands.wall.saturating_add_signed(by_millis);
    }

    /// The machine was off for a while. What its wall clock shows then is anybody's choice.
    pub fn reboot(&self, off: Duration) {
        let mut hands = self.hands();
        hands.wall += off.as_millis() as u64;
        hands.since_boot = 0;
        hands.boot = hands.boot.wrapping_add(1);
    }

    /// How long the machine was up in all.
    pub fn lived(&self) -> Duration {
        Duration::from_millis(self.hands().lived)
    }
}

impl Clock for LooseClock {
    fn wall(&self) -> Time {
        Time::from_millis(self.hands().wall)
    }
    fn since_boot(&self) -> Duration {
        Duration::from_millis(self.hands().since_boot)
    }
    fn boot(&self) -> [u8; 16] {
        [self.hands().boot; 16]
    }
}

/// An administrator's key.
pub const fn key(number: u8) -> AdminKey {
    [number; 32]
}

/// A statement for the repository, not signed.
pub fn statement(id: u8, action: Action) -> Statement {
    Statement {
        id: [id; 16],
        node: IDENTITY.node,
        action,
    }
}

pub fn sign(statement: &Statement, key: AdminKey) -> Signed {
    let statement = statement.encode().unwrap();
    let signature = signature(&key, &statement);
    Signed {
        statement,
        key,
        signature,
    }
}

/// A repository, its clock and its disk.
pub struct Guarded {
    pub clock: Arc<LooseClock>,
    rng: Arc<TestRng>,
    pub fs: MemFs,
    store: Option<Store>,
}

impl Guarded {
    /// With administrators `1` and `2`.
    pub fn new() -> Self {
        Self::with_admins(2)
    }

    pub fn with_admins(count: u8) -> Self {
        let (clock, rng, fs) = (Arc::default(), Arc::default(), MemFs::new());
        let store = None;
        let mut guarded = Self {
            clock,
            rng,
            fs,
            store,
        };
        Store::init(&guarded.env(), &OPTIONS, IDENTITY).unwrap();
        guarded.open();
        guarded.store().create_dataset(dataset()).unwrap();
        for number in 1..=count.min(2) {
            guarded.store().enrol_admin(key(number), "host").unwrap();
        }
        for number in 3..=count {
            let (key, label) = (self::key(number), "later".to_owned());
            let added = guarded.agree(200 + number, Action::AddAdmin { key, label });
            assert_eq!(added, StatementState::Done);
        }
        guarded
    }

    /// The same repository on a disk of its own: what happens to the copy does not happen to it.
    pub fn copy(&self) -> Self {
        let clock = Arc::new(self.clock.copy());
        let mut copy = Self {
            clock,
            rng: Arc::default(),
            fs: self.fs.restart(),
            store: None,
        };
        copy.open();
        copy
    }

    fn env(&self) -> Environment {
        Environment {
            vfs: Arc::new(self.fs.clone()),
            clock: self.clock.clone(),
            rng: self.rng.clone(),
            catalogue: Box::new(MemoryCatalogue::default()),
            index: Arc::new(MemoryIndex::default()),
            verifier: Arc::new(TestVerifier),
        }
    }

    fn open(&mut self) {
        self.store = Some(Store::open(self.env(), OPTIONS).unwrap());
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub fn restart(&mut self) {
        self.store = None;
        self.fs = self.fs.restart();
        self.open();
    }

    /// Loses everything that is not durable.
    pub fn cut_power(&mut self) {
        self.store = None;
        self.fs = self.fs.crash(&mut || false);
        self.open();
    }

    /// Lets time pass, looked at once an hour at least.
    pub fn pass(&self, span: Duration) {
        let (mut left, step) = (span, (span / 8).max(HOUR));
        while !left.is_zero() {
            self.clock.pass(left.min(step));
            left = left.saturating_sub(step);
            self.store().tick().unwrap();
        }
    }

    /// A statement that both administrators of the host sign.
    pub fn agree(&self, id: u8, action: Action) -> StatementState {
        let statement = statement(id, action);
        self.store().submit(&sign(&statement, key(1))).unwrap();
        self.store().submit(&sign(&statement, key(2))).unwrap()
    }

    pub fn state(&self, id: u8) -> Option<Waiting> {
        let waiting = self.store().retention().waiting;
        waiting.into_iter().find(|w| w.id == [id; 16])
    }

    /// Commits a point of one chunk.
    pub fn commit(&self, turn: u64) -> Point {
        let (store, run) = (self.store(), RunId::mint());
        let session = store.open_session(run, dataset().id, 0).unwrap().key;
        let (root, nodes) = tree(&[turn]);
        put(
            store,
            session,
            salt(turn),
            &[chunks(&[turn]), nodes].concat(),
        )
        .unwrap();
        let point = PointId::mint();
        let bytes = manifest(point, run, vec![root]).encode().unwrap();
        store.propose_point(session, &bytes).unwrap();
        let point = store.commit_point(session, point).unwrap();
        store.close_session(session).unwrap();
        point
    }

    #[track_caller]
    pub fn check_locked(&self, point: &Point) {
        let refused = self.store().delete_point(point.commit.point);
        assert!(
            matches!(refused, Err(Error::PointLocked { .. })),
            "{refused:?}"
        );
        assert!(self.store().point(point.commit.point).is_ok());
    }
}

/// Another repository than the one under test.
pub const ELSEWHERE: NodeId = NodeId::from_bytes([0x0e; 16]);
