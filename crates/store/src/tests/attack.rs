//! The controller, one administrator's key and the wall clock in an attacker's hands.
//!
//! The attacker calls whatever the store has, in any order, sets the wall clock by up to ten years at
//! any moment and at any start, and cuts the power. What must hold is reckoned in how long the machine
//! was really up, which nobody can make longer.

use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use stillwater_format::Time;
use stillwater_format::commit::{Action, Signed};
use stillwater_types::{DatasetId, NodeId, RunId};

use super::guarded::*;
use super::rig::*;
use crate::*;

/// The key in the attacker's hands; `1` and `2` are honest.
const STOLEN: u8 = 3;

#[derive(Debug, Clone)]
enum Op {
    Commit,
    /// Tries to delete every point.
    Delete,
    Lock(usize, Duration),
    /// Signs with the stolen key; the statement's id is one of a few.
    Demand(u8, Action),
    /// Sends again what somebody signed once.
    Replay(usize),
    /// Puts an honest key's name under the attacker's own signature.
    Forge(Action),
    Enrol,
    Session,
    Tick,
    /// A whole cycle of garbage collection.
    Collect,
    /// Everything is read again, whatever is due.
    Scrub,
    /// Makes a dataset, and tries to put another key in the place of the one that is used.
    Dataset,
    /// Joins the repository to another cluster as another node, or back.
    Adopt(bool),
    Pass(Duration),
    Set(i64),
    Restart,
    CutPower,
    Reboot(Duration, i64),
}

fn jump() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(YEARS),
        Just(-YEARS),
        -YEARS..YEARS,
        // Too little to be noticed.
        -299_000..299_000i64,
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let key = prop_oneof![Just(1u8), Just(2), Just(9)].prop_map(key);
    prop_oneof![
        3 => Just(Action::SetFloor { millis: 0 }),
        1 => (0..30u64).prop_map(|days| Action::SetFloor { millis: days * 86_400_000 }),
        1 => Just(Action::AllowSweep { bytes: u64::MAX }),
        3 => Just(Action::AdvanceTime { to: Time::from_millis(u64::MAX) }),
        1 => Just(Action::AddAdmin { key: self::key(9), label: "mine".into() }),
        1 => key.prop_map(|key| Action::RemoveAdmin { key }),
        1 => (0..8u8).prop_map(|id| Action::Veto { statement: [id; 16] }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let span = || prop_oneof![0..7_200u64, 0..2_000_000u64].prop_map(Duration::from_secs);
    prop_oneof![
        2 => Just(Op::Commit),
        4 => Just(Op::Delete),
        1 => (0..4usize, span()).prop_map(|(place, span)| Op::Lock(place, span)),
        3 => (0..8u8, action()).prop_map(|(id, action)| Op::Demand(id, action)),
        2 => (0..9usize).prop_map(Op::Replay),
        1 => action().prop_map(Op::Forge),
        1 => Just(Op::Enrol),
        1 => Just(Op::Session),
        2 => Just(Op::Tick),
        2 => Just(Op::Collect),
        1 => Just(Op::Scrub),
        1 => Just(Op::Dataset),
        1 => any::<bool>().prop_map(Op::Adopt),
        5 => span().prop_map(Op::Pass),
        4 => jump().prop_map(Op::Set),
        2 => Just(Op::Restart),
        1 => Just(Op::CutPower),
        2 => (span(), jump()).prop_map(|(off, jump)| Op::Reboot(off, jump)),
    ]
}

/// Some of what an attacker would try first.
fn trick() -> impl Strategy<Value = Vec<Op>> {
    let behind = |span| [Op::Set(-YEARS), Op::Pass(span), Op::Commit, Op::Set(YEARS)].to_vec();
    let behind = (0..2_000_000u64)
        .prop_map(Duration::from_secs)
        .prop_map(behind);
    prop_oneof![
        16 => op().prop_map(|op| vec![op]),
        1 => behind.clone(),
        1 => behind.prop_map(|ops| [ops, vec![Op::Restart, Op::Delete]].concat()),
    ]
}

/// What must be so, reckoned without any wall clock.
struct Guarantee {
    point: Point,
    /// Tells its content.
    turn: u64,
    /// When the machine had been up for so long, the lock began.
    since: Duration,
    lock: Duration,
}

impl Guarantee {
    /// Trusted time may be ahead of the boot clock by a thousandth, since no clock is better than that,
    /// and its mark on record by a second.
    fn is_over(&self, lived: Duration) -> bool {
        let up = lived - self.since;
        up + up / 1000 + Duration::from_secs(1) >= self.lock
    }
}

struct World {
    guarded: Guarded,
    floor: Duration,
    guarantees: Vec<Guarantee>,
    /// What honest administrators signed once, and all that the attacker did.
    signed: Vec<Signed>,
    turn: u64,
    deleted: usize,
}

/// A repository in which honest administrators changed their minds: what they signed for a lower
/// floor is in the attacker's hands, and so is the like for another repository.
static TEMPLATE: LazyLock<(Guarded, Vec<Signed>)> = LazyLock::new(|| {
    let guarded = Guarded::with_admins(3);
    let lower = statement(100, Action::SetFloor { millis: 0 });
    let mut elsewhere = statement(101, Action::SetFloor { millis: 0 });
    elsewhere.node = ELSEWHERE;
    let ahead = statement(
        102,
        Action::AdvanceTime {
            to: guarded.clock.wall(),
        },
    );
    let raise = statement(
        103,
        Action::SetFloor {
            millis: DAY.as_millis() as u64 * 20,
        },
    );
    let mut signed = Vec::new();
    for statement in [raise, lower, ahead] {
        signed.extend([1, 2].map(|number| sign(&statement, key(number))));
    }
    for given in &signed {
        guarded.store().submit(given).unwrap();
    }
    let veto = Action::Veto {
        statement: [100; 16],
    };
    guarded
        .store()
        .submit(&sign(&statement(104, veto), key(1)))
        .unwrap();
    guarded.pass(VETO_WAIT + HOUR);
    signed.extend([1, 2].map(|number| sign(&elsewhere, key(number))));
    (guarded, signed)
});

impl World {
    fn new() -> Self {
        let (template, signed) = &*TEMPLATE;
        let guarded = template.copy();
        let mut world = Self {
            guarded,
            floor: 20 * DAY,
            guarantees: Vec::new(),
            signed: signed.clone(),
            turn: 0,
            deleted: 0,
        };
        world.apply(Op::Commit);
        world
    }

    fn apply(&mut self, op: Op) {
        let clock = self.guarded.clock.clone();
        let store = self.guarded.store().clone();
        match op {
            Op::Commit => self.commit(),
            Op::Delete => (0..self.guarantees.len())
                .rev()
                .for_each(|place| self.delete(place)),
            Op::Lock(place, span) => self.lock(place, span),
            Op::Demand(id, action) => {
                let signed = sign(&statement(id, action), key(STOLEN));
                self.submit(&signed);
                self.signed.push(signed);
            }
            Op::Replay(place) => {
                let place = place % self.signed.len();
                let signed = self.signed[place].clone();
                self.submit(&signed);
            }
            Op::Forge(action) => {
                let honest = key(1 + (self.turn % 2) as u8);
                let own = sign(&statement(9, action), key(STOLEN));
                let forged = Signed { key: honest, ..own };
                let refused = store.submit(&forged);
                assert!(
                    matches!(refused, Err(Error::StatementRefused { .. })),
                    "{refused:?}"
                );
            }
            Op::Enrol => assert!(store.enrol_admin(key(9), "mine").is_err()),
            Op::Session => {
                let session = store.open_session(RunId::mint(), dataset().id, 0).unwrap();
                store.renew_session(session.key).unwrap();
                store.close_session(session.key).unwrap();
            }
            Op::Tick => store.tick().unwrap(),
            Op::Collect => {
                store.collect(&()).unwrap();
                self.check_content();
            }
            Op::Scrub => {
                store.request_scrub();
                let done = store.scrub(u64::MAX, &()).unwrap();
                assert_eq!((done.damaged_pack_count, done.lost_record_count), (0, 0));
                self.check_content();
            }
            Op::Dataset => {
                let mut other = dataset();
                other.wrapped_key = vec![9];
                assert!(store.create_dataset(other.clone()).is_err());
                other.id = DatasetId::from_bytes([0x77; 16]);
                store.create_dataset(other).unwrap();
            }
            Op::Adopt(away) => {
                let mut identity = IDENTITY;
                if away {
                    identity.node = NodeId::from_bytes([0x78; 16]);
                }
                store.adopt(identity).unwrap();
            }
            Op::Pass(span) => clock.pass(span),
            Op::Set(jump) => clock.set(jump),
            Op::Restart | Op::CutPower | Op::Reboot(..) => {
                drop(store);
                if let Op::Reboot(off, jump) = op {
                    clock.reboot(off);
                    clock.set(jump);
                }
                match op {
                    Op::Restart => self.guarded.restart(),
                    _ => self.guarded.cut_power(),
                }
            }
        }
    }

    fn commit(&mut self) {
        if self.guarantees.len() >= 4 {
            return;
        }
        self.turn += 1;
        let since = self.guarded.clock.lived();
        let point = self.guarded.commit(self.turn);
        let (turn, lock) = (self.turn, self.floor);
        self.guarantees.push(Guarantee {
            point,
            turn,
            since,
            lock,
        });
    }

    /// Succeeds only when the lock is really over; a lock that is over need not be over for the store.
    fn delete(&mut self, place: usize) {
        let guarantee = &self.guarantees[place];
        let outcome = self
            .guarded
            .store()
            .delete_point(guarantee.point.commit.point);
        match outcome {
            Ok(()) => {
                let lived = self.guarded.clock.lived();
                assert!(
                    guarantee.is_over(lived),
                    "deleted after {:?}",
                    lived - guarantee.since
                );
                self.guarantees.remove(place);
                self.deleted += 1;
            }
            Err(Error::PointLocked { .. } | Error::TimeFrozen { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn lock(&mut self, place: usize, span: Duration) {
        let lived = self.guarded.clock.lived();
        let Some(guarantee) = self.guarantees.get_mut(place) else {
            return;
        };
        let (store, before) = (self.guarded.store(), guarantee.point.commit.retain_until);
        let until = store.retention().trusted.after(span);
        let locked = store
            .lock_point(guarantee.point.commit.point, until)
            .unwrap();
        assert!(locked.commit.retain_until >= before.max(until));
        // The older lock stays, unless the new one is certainly longer.
        let left = guarantee.lock.saturating_sub(lived - guarantee.since);
        if locked.commit.retain_until > before && span > left {
            (guarantee.since, guarantee.lock) = (lived, span);
        }
        guarantee.point = locked;
    }

    fn submit(&mut self, signed: &Signed) {
        match self.guarded.store().submit(signed) {
            Ok(_) | Err(Error::StatementRefused { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        // A floor that one raises is raised.
        self.floor = self.floor.max(self.guarded.store().retention().floor);
    }

    /// Reads everything that any point needs: no pack of it may have left.
    fn check_content(&self) {
        for Guarantee { point, turn, .. } in &self.guarantees {
            check_point(self.guarded.store(), point.commit.point, &[*turn]);
        }
    }

    fn check(&self) {
        let retention = self.guarded.store().retention();
        assert_eq!(retention.floor, self.floor);
        let admins: Vec<_> = retention.admins.iter().map(|admin| admin.key).collect();
        assert_eq!(admins, [key(1), key(2), key(STOLEN)]);
        let allowed = self
            .guarded
            .store()
            .inner
            .ledger()
            .authority
            .allowed_sweep();
        assert_eq!(allowed, None);
        let listed = self.guarded.store().points(0, 100).unwrap();
        let wanted: Vec<_> = self.guarantees.iter().map(|g| g.point).collect();
        assert_eq!(listed, wanted);
    }
}

fn run(ops: Vec<Op>) -> usize {
    let mut world = World::new();
    for op in ops {
        world.apply(op);
        world.check();
    }
    world.deleted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_deleted_before_its_time(tricks in prop::collection::vec(trick(), 1..24)) {
        run(tricks.concat());
    }
}

/// So that the property above is not kept by a store that deletes nothing at all.
#[test]
fn what_is_over_is_deleted_whatever_happened_to_the_clock_before() {
    let wait = |days| [Op::Pass(days * DAY), Op::Tick];
    let mut ops = vec![Op::Set(YEARS), Op::Tick, Op::Set(-YEARS), Op::Tick];
    ops.extend([Op::Reboot(90 * DAY, -80 * 86_400_000), Op::Delete]);
    ops.extend(wait(10));
    ops.extend([Op::Delete, Op::CutPower]);
    ops.extend(wait(10));
    ops.push(Op::Delete);
    assert_eq!(run(ops), 1);
}
