//! Locks, floors, statements and a clock that somebody set.

use std::time::Duration;

use stillwater_format::Time;
use stillwater_format::commit::{Action, Signed, Statement};

use super::guarded::*;
use super::memfs::Trouble;
use super::rig::*;
use crate::*;

const FOREVER: Action = Action::SetFloor {
    millis: LOCK_MAX.as_millis() as u64,
};
const NEVER: Action = Action::SetFloor { millis: 0 };

fn set_floor(span: Duration) -> Action {
    let millis = span.as_millis() as u64;
    Action::SetFloor { millis }
}

fn veto(id: u8) -> Action {
    let statement = [id; 16];
    Action::Veto { statement }
}

#[track_caller]
fn check_refused(guarded: &Guarded, signed: &Signed, part: &str) {
    let before = guarded.store().retention();
    match guarded.store().submit(signed) {
        Err(Error::StatementRefused { why }) => assert!(why.contains(part), "{why}"),
        other => panic!("{other:?}"),
    }
    let after = guarded.store().retention();
    assert_eq!(
        (before.admins, before.waiting),
        (after.admins, after.waiting)
    );
}

#[test]
fn a_point_is_deleted_when_its_lock_is_over_and_stays_deleted() {
    let mut guarded = Guarded::new();
    let (point, other) = (guarded.commit(1), guarded.commit(2));
    let id = point.commit.point;
    assert_eq!(
        point.commit.retain_until.since(point.commit.committed_at),
        OPTIONS.retention
    );
    guarded.pass(OPTIONS.retention - HOUR);
    guarded.check_locked(&point);
    guarded.pass(HOUR);
    guarded.store().delete_point(id).unwrap();
    guarded.store().delete_point(id).unwrap();
    for _ in 0..2 {
        let refused = guarded.store().point(id);
        assert!(
            matches!(refused, Err(Error::PointNotFound(_))),
            "{refused:?}"
        );
        assert_eq!(guarded.store().points(0, 10).unwrap(), [other]);
        assert_eq!(guarded.store().usage().unwrap().point_count, 1);
        guarded.store().delete_point(id).unwrap();
        guarded.cut_power();
    }
    let unknown = guarded
        .store()
        .delete_point(stillwater_types::PointId::mint());
    assert!(
        matches!(unknown, Err(Error::PointNotFound(_))),
        "{unknown:?}"
    );
}

#[test]
fn a_deleted_point_does_not_come_back_under_its_id() {
    let guarded = Guarded::new();
    let store = guarded.store();
    let run = stillwater_types::RunId::mint();
    let session = store.open_session(run, dataset().id, 0).unwrap().key;
    let (root, nodes) = tree(&[1]);
    put(store, session, salt(1), &[chunks(&[1]), nodes].concat()).unwrap();
    let point = stillwater_types::PointId::mint();
    let bytes = manifest(point, run, vec![root]).encode().unwrap();
    store.propose_point(session, &bytes).unwrap();
    store.commit_point(session, point).unwrap();
    guarded.pass(OPTIONS.retention);
    guarded.store().delete_point(point).unwrap();
    // The controller did not hear of the commit, and tries again.
    let session = store.open_session(run, dataset().id, 0).unwrap().key;
    let refused = store.commit_point(session, point);
    assert!(
        matches!(refused, Err(Error::ProposalRefused { .. })),
        "{refused:?}"
    );
    let refused = store.propose_point(session, &bytes);
    assert!(
        matches!(refused, Err(Error::ProposalRefused { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_lock_only_becomes_longer_and_never_more_than_ten_years() {
    let mut guarded = Guarded::new();
    let point = guarded.commit(1);
    let (id, first) = (point.commit.point, point.commit.retain_until);
    for earlier in [Time::default(), first] {
        assert_eq!(guarded.store().lock_point(id, earlier).unwrap(), point);
    }
    let later = first.after(20 * DAY);
    let locked = guarded.store().lock_point(id, later).unwrap();
    assert_eq!(locked.commit.retain_until, later);
    assert_eq!(guarded.store().lock_point(id, first).unwrap(), locked);
    let trusted = guarded.store().retention().trusted;
    let far = guarded
        .store()
        .lock_point(id, trusted.after(LOCK_MAX + HOUR));
    assert!(matches!(far, Err(Error::Malformed { .. })), "{far:?}");
    guarded.cut_power();
    assert_eq!(guarded.store().point(id).unwrap(), locked);
    assert_eq!(guarded.store().points(0, 9).unwrap(), [locked]);
    guarded.pass(OPTIONS.retention);
    guarded.check_locked(&point);
    guarded.pass(20 * DAY);
    guarded.store().delete_point(id).unwrap();
    let gone = guarded.store().lock_point(id, later);
    assert!(matches!(gone, Err(Error::PointNotFound(_))), "{gone:?}");
}

#[test]
fn one_administrator_raises_the_floor_at_once_and_for_points_to_come() {
    let mut guarded = Guarded::new();
    let before = guarded.commit(1);
    let raised = statement(1, set_floor(30 * DAY));
    let state = guarded.store().submit(&sign(&raised, key(2))).unwrap();
    assert_eq!(state, StatementState::Done);
    guarded.cut_power();
    let retention = guarded.store().retention();
    assert_eq!(retention.floor, 30 * DAY);
    assert_eq!(retention.demanded_floor, 30 * DAY);
    assert_eq!(retention.configured_floor, OPTIONS.retention);
    let after = guarded.commit(2);
    assert_eq!(guarded.store().point(before.commit.point).unwrap(), before);
    assert_eq!(
        after.commit.retain_until.since(after.commit.committed_at),
        30 * DAY
    );
}

#[test]
fn the_floor_is_lowered_by_two_and_after_three_days_in_which_the_machine_was_up() {
    let mut guarded = Guarded::new();
    guarded.agree(1, set_floor(30 * DAY));
    let locked = guarded.commit(1);
    let lower = statement(2, NEVER);
    let submit = |guarded: &Guarded, number| guarded.store().submit(&sign(&lower, key(number)));
    // However often one says it, it is one.
    for _ in 0..3 {
        submit(&guarded, 1).unwrap();
    }
    let waiting = guarded.state(2).unwrap();
    assert_eq!((waiting.signers, waiting.needs), (vec![key(1)], 2));
    assert_eq!(waiting.effective_at, None);
    guarded.pass(10 * DAY);
    assert_eq!(guarded.store().retention().floor, 30 * DAY);
    submit(&guarded, 2).unwrap();
    let trusted = guarded.store().retention().trusted;
    let effective_at = guarded.state(2).unwrap().effective_at;
    assert_eq!(effective_at, Some(trusted.after(VETO_WAIT)));
    // Time in which nobody could object does not count.
    guarded.clock.reboot(30 * DAY);
    guarded.restart();
    guarded.pass(VETO_WAIT - HOUR);
    assert_eq!(guarded.store().retention().floor, 30 * DAY);
    guarded.pass(2 * HOUR);
    assert_eq!(guarded.state(2), None);
    assert_eq!(submit(&guarded, 1).unwrap(), StatementState::Done);
    assert_eq!(guarded.store().retention().floor, OPTIONS.retention);
    // No lock that there is became shorter.
    assert_eq!(guarded.store().point(locked.commit.point).unwrap(), locked);
    guarded.pass(10 * DAY);
    guarded.check_locked(&locked);
    guarded.pass(8 * DAY);
    guarded.store().delete_point(locked.commit.point).unwrap();
}

#[test]
fn a_statement_takes_effect_once_and_never_again() {
    let mut guarded = Guarded::new();
    guarded.agree(1, set_floor(30 * DAY));
    guarded.agree(2, NEVER);
    guarded.pass(VETO_WAIT + HOUR);
    assert_eq!(guarded.store().retention().demanded_floor, Duration::ZERO);
    guarded.agree(3, set_floor(30 * DAY));
    let (raise, lower) = (statement(1, set_floor(30 * DAY)), statement(2, NEVER));
    for (old, number) in [(&raise, 1), (&raise, 2), (&lower, 1), (&lower, 2)] {
        let state = guarded.store().submit(&sign(old, key(number))).unwrap();
        assert_eq!(state, StatementState::Done);
    }
    guarded.pass(10 * DAY);
    guarded.cut_power();
    guarded.pass(HOUR);
    assert_eq!(guarded.store().retention().demanded_floor, 30 * DAY);
}

#[test]
fn any_administrator_drops_a_statement_while_it_waits_and_for_good() {
    let mut guarded = Guarded::with_admins(3);
    guarded.agree(1, FOREVER);
    guarded.agree(2, NEVER);
    guarded.pass(VETO_WAIT - HOUR);
    let objection = sign(&statement(3, veto(2)), key(3));
    let state = guarded.store().submit(&objection).unwrap();
    assert_eq!(state, StatementState::Done);
    guarded.cut_power();
    assert_eq!(guarded.store().submit(&objection).unwrap(), state);
    for number in 1..=3 {
        let again = sign(&statement(2, NEVER), key(number));
        let state = guarded.store().submit(&again).unwrap();
        assert_eq!(state, StatementState::Vetoed);
    }
    guarded.pass(2 * VETO_WAIT);
    assert_eq!(guarded.store().retention().floor, LOCK_MAX);
    let late = sign(&statement(4, veto(1)), key(3));
    check_refused(&guarded, &late, "no statement of the id");
}

#[test]
fn what_does_not_count_is_refused_and_not_taken_in() {
    let guarded = Guarded::new();
    let lower = statement(1, NEVER);
    let elsewhere = Statement {
        node: ELSEWHERE,
        ..lower.clone()
    };
    check_refused(&guarded, &sign(&elsewhere, key(1)), "another repository");
    check_refused(
        &guarded,
        &sign(&lower, key(9)),
        "not that of an administrator",
    );
    let forged = Signed {
        key: key(2),
        ..sign(&lower, key(1))
    };
    check_refused(&guarded, &forged, "signature");
    let mut changed = sign(&statement(1, set_floor(DAY)), key(1));
    changed.statement = statement(1, FOREVER).encode().unwrap();
    check_refused(&guarded, &changed, "signature");
    let too_long = statement(2, set_floor(LOCK_MAX + HOUR));
    check_refused(&guarded, &sign(&too_long, key(1)), "ten years");
    let unknown = statement(3, Action::RemoveAdmin { key: key(9) });
    check_refused(&guarded, &sign(&unknown, key(1)), "no such administrator");
    let known = statement(
        4,
        Action::AddAdmin {
            key: key(2),
            label: "again".into(),
        },
    );
    check_refused(&guarded, &sign(&known, key(1)), "is accepted");
    check_refused(
        &guarded,
        &sign(&statement(5, veto(77)), key(1)),
        "no statement",
    );
    guarded.agree(6, FOREVER);
    check_refused(&guarded, &sign(&statement(6, NEVER), key(1)), "had its id");
    guarded.agree(7, NEVER);
    check_refused(
        &guarded,
        &sign(&statement(7, FOREVER), key(1)),
        "has its id",
    );
    let mut none = sign(&lower, key(1));
    none.statement.push(0);
    let refused = guarded.store().submit(&none);
    assert!(
        matches!(refused, Err(Error::Malformed { .. })),
        "{refused:?}"
    );
}

#[test]
fn one_administrator_cannot_fill_the_repository_with_statements() {
    let guarded = Guarded::new();
    guarded.agree(100, FOREVER);
    for id in 0..16 {
        guarded
            .store()
            .submit(&sign(&statement(id, NEVER), key(1)))
            .unwrap();
    }
    check_refused(&guarded, &sign(&statement(16, NEVER), key(1)), "too many");
    // Others are not kept from anything by that.
    guarded
        .store()
        .submit(&sign(&statement(3, NEVER), key(2)))
        .unwrap();
    guarded
        .store()
        .submit(&sign(&statement(18, NEVER), key(2)))
        .unwrap();
    guarded
        .store()
        .submit(&sign(&statement(19, veto(0)), key(1)))
        .unwrap();
    guarded
        .store()
        .submit(&sign(&statement(16, NEVER), key(1)))
        .unwrap();
}

#[test]
fn the_first_two_administrators_are_accepted_on_the_host_and_others_by_two() {
    let mut guarded = Guarded::with_admins(0);
    let add = |number| Action::AddAdmin {
        key: key(number),
        label: "third".into(),
    };
    guarded.store().enrol_admin(key(1), "first").unwrap();
    // One alone cannot even begin: who would be the second?
    check_refused(&guarded, &sign(&statement(1, add(2)), key(1)), "host");
    guarded.store().enrol_admin(key(2), "second").unwrap();
    assert_eq!(
        guarded.store().enrol_admin(key(1), "x").unwrap().label,
        "first"
    );
    let refused = guarded.store().enrol_admin(key(3), "third");
    assert!(
        matches!(refused, Err(Error::StatementRefused { .. })),
        "{refused:?}"
    );
    guarded
        .store()
        .submit(&sign(&statement(2, add(3)), key(1)))
        .unwrap();
    assert_eq!(guarded.store().retention().admins.len(), 2);
    let state = guarded.store().submit(&sign(&statement(2, add(3)), key(2)));
    assert_eq!(state.unwrap(), StatementState::Done);
    guarded.cut_power();
    let admins = guarded.store().retention().admins;
    let shown: Vec<_> = admins.iter().map(|a| (a.key, a.label.as_str())).collect();
    assert_eq!(
        shown,
        [(key(1), "first"), (key(2), "second"), (key(3), "third")]
    );
}

#[test]
fn who_was_removed_counts_no_more_not_even_where_they_signed_before() {
    let mut guarded = Guarded::with_admins(3);
    guarded.agree(1, FOREVER);
    let third = |id, action| {
        guarded
            .store()
            .submit(&sign(&statement(id, action), key(3)))
    };
    third(2, NEVER).unwrap();
    guarded.agree(3, Action::RemoveAdmin { key: key(3) });
    guarded.pass(VETO_WAIT - HOUR);
    assert_eq!(guarded.store().retention().admins.len(), 3);
    // With this signature the floor would be lowered three days later, had the third one counted.
    third(4, NEVER).unwrap();
    guarded
        .store()
        .submit(&sign(&statement(4, NEVER), key(1)))
        .unwrap();
    guarded.pass(2 * HOUR);
    assert_eq!(guarded.store().retention().admins.len(), 2);
    assert_eq!(guarded.state(2), None);
    let left = guarded.state(4).unwrap();
    assert_eq!((left.signers, left.effective_at), (vec![key(1)], None));
    check_refused(
        &guarded,
        &sign(&statement(5, FOREVER), key(3)),
        "administrator",
    );
    guarded.cut_power();
    guarded.pass(2 * VETO_WAIT);
    assert_eq!(guarded.store().retention().floor, LOCK_MAX);
    guarded
        .store()
        .submit(&sign(&statement(4, NEVER), key(2)))
        .unwrap();
    guarded.pass(VETO_WAIT + HOUR);
    assert_eq!(guarded.store().retention().floor, OPTIONS.retention);
}

#[test]
fn nobody_objects_to_their_own_removal_and_others_may() {
    let mut guarded = Guarded::with_admins(4);
    let submit = |guarded: &Guarded, id, action, by| {
        let signed = sign(&statement(id, action), key(by));
        guarded.store().submit(&signed)
    };
    let remove = || Action::RemoveAdmin { key: key(4) };
    // Neither while a signature is missing nor afterwards.
    submit(&guarded, 1, remove(), 1).unwrap();
    let own = sign(&statement(2, veto(1)), key(4));
    check_refused(&guarded, &own, "their own removal");
    submit(&guarded, 1, remove(), 2).unwrap();
    guarded.pass(VETO_WAIT - HOUR);
    check_refused(&guarded, &own, "their own removal");
    guarded.cut_power();
    check_refused(&guarded, &own, "their own removal");
    assert_eq!(
        submit(&guarded, 3, veto(1), 3).unwrap(),
        StatementState::Done
    );
    guarded.pass(2 * VETO_WAIT);
    assert_eq!(guarded.store().retention().admins.len(), 4);
    // What is not about the key itself, it may drop: also the removal of another.
    let other = Action::RemoveAdmin { key: key(3) };
    guarded.agree(4, other);
    assert_eq!(
        submit(&guarded, 5, veto(4), 4).unwrap(),
        StatementState::Done
    );
    guarded.agree(6, remove());
    guarded.pass(VETO_WAIT + HOUR);
    let admins = guarded.store().retention().admins;
    assert!(admins.iter().all(|admin| admin.key != key(4)));
}

#[test]
fn a_statement_that_lacks_signatures_for_thirty_days_expires_for_good() {
    let mut guarded = Guarded::with_admins(3);
    guarded.agree(1, FOREVER);
    let submit = |guarded: &Guarded, id, by| {
        let signed = sign(&statement(id, NEVER), key(by));
        guarded.store().submit(&signed)
    };
    submit(&guarded, 2, 1).unwrap();
    submit(&guarded, 3, 1).unwrap();
    guarded.pass(SIGN_WITHIN - HOUR);
    // In time, and then it waits for as long as it takes.
    submit(&guarded, 3, 2).unwrap();
    guarded.pass(2 * HOUR);
    for by in 1..=3 {
        let late = sign(&statement(2, NEVER), key(by));
        check_refused(&guarded, &late, "thirty days");
    }
    assert_eq!(guarded.state(2), None);
    assert!(guarded.state(3).is_some());
    assert_eq!(guarded.store().usage().unwrap().waiting_statement_count, 1);
    guarded.cut_power();
    check_refused(&guarded, &sign(&statement(2, NEVER), key(2)), "thirty days");
    guarded.pass(VETO_WAIT);
    assert_eq!(guarded.store().retention().floor, OPTIONS.retention);
}

#[test]
fn a_demand_that_needs_fewer_signatures_later_does_not_come_back_after_it_expired() {
    let mut guarded = Guarded::with_admins(3);
    guarded.agree(1, FOREVER);
    let five_years = || set_floor(LOCK_MAX / 2);
    let half = sign(&statement(2, five_years()), key(1));
    guarded.store().submit(&half).unwrap();
    guarded.pass(SIGN_WITHIN);
    // Below this floor one signature would have done.
    guarded.agree(3, set_floor(Duration::ZERO));
    guarded.pass(VETO_WAIT + HOUR);
    let floor = |guarded: &Guarded| guarded.store().retention().floor;
    assert_eq!(floor(&guarded), OPTIONS.retention);
    guarded.cut_power();
    assert_eq!(floor(&guarded), OPTIONS.retention);
    check_refused(&guarded, &half, "thirty days");
}

#[test]
fn statements_that_expired_do_not_keep_their_administrator_from_new_ones() {
    let guarded = Guarded::new();
    guarded.agree(100, FOREVER);
    let submit = |id| guarded.store().submit(&sign(&statement(id, NEVER), key(1)));
    (0..16).for_each(|id| drop(submit(id).unwrap()));
    check_refused(&guarded, &sign(&statement(16, NEVER), key(1)), "too many");
    guarded.pass(SIGN_WITHIN);
    submit(16).unwrap();
    assert_eq!(guarded.store().retention().waiting.len(), 1);
}

#[test]
fn a_removal_that_is_due_counts_before_what_the_removed_one_says() {
    let guarded = Guarded::with_admins(3);
    let (key, label) = (self::key(9), "mine".to_owned());
    let add = statement(1, Action::AddAdmin { key, label });
    guarded.store().submit(&sign(&add, self::key(1))).unwrap();
    let key = self::key(3);
    guarded.agree(2, Action::RemoveAdmin { key });
    guarded.clock.pass(VETO_WAIT + HOUR);
    // One more signature would do, and the other statement is the older one.
    let refused = guarded.store().submit(&sign(&add, key));
    assert!(
        matches!(refused, Err(Error::StatementRefused { .. })),
        "{refused:?}"
    );
    assert_eq!(guarded.store().retention().admins.len(), 2);
}

#[test]
fn a_large_sweep_is_allowed_by_two_at_once() {
    let mut guarded = Guarded::new();
    let allowed = |g: &Guarded| g.store().inner.ledger().authority.allowed_sweep();
    let allow = statement(1, Action::AllowSweep { bytes: 5 });
    guarded.store().submit(&sign(&allow, key(1))).unwrap();
    guarded.pass(2 * VETO_WAIT);
    assert_eq!(allowed(&guarded), None);
    let state = guarded.store().submit(&sign(&allow, key(2))).unwrap();
    assert_eq!(state, StatementState::Done);
    assert_eq!(allowed(&guarded), Some(5));
    guarded.cut_power();
    assert_eq!(allowed(&guarded), Some(5));
}

#[test]
fn time_that_the_machine_was_off_is_made_up_by_two_and_never_beyond_the_wall_clock() {
    let mut guarded = Guarded::new();
    let point = guarded.commit(1);
    guarded.clock.reboot(100 * DAY);
    guarded.restart();
    let lag = guarded.store().retention().lag;
    assert!(lag >= 100 * DAY - HOUR, "{lag:?}");
    guarded.check_locked(&point);
    let wall = guarded.clock.wall();
    guarded.agree(1, Action::AdvanceTime { to: wall });
    guarded.pass(VETO_WAIT - HOUR);
    guarded.check_locked(&point);
    let to = wall.after(1000 * DAY);
    guarded.agree(2, Action::AdvanceTime { to });
    guarded.pass(2 * HOUR);
    let retention = guarded.store().retention();
    assert!(retention.lag <= VETO_WAIT, "{:?}", retention.lag);
    assert_eq!(retention.waiting.len(), 1);
    guarded.cut_power();
    assert!(guarded.store().retention().trusted >= retention.trusted);
    guarded.store().delete_point(point.commit.point).unwrap();
    guarded.pass(VETO_WAIT - HOUR);
    let retention = guarded.store().retention();
    assert_eq!(
        (retention.lag, retention.waiting.len()),
        (Duration::ZERO, 0)
    );
    assert_eq!(retention.trusted, retention.wall);
}

#[test]
fn moved_time_does_not_shorten_the_delay_of_other_statements() {
    let mut guarded = Guarded::new();
    guarded.agree(1, FOREVER);
    guarded.clock.reboot(100 * DAY);
    guarded.restart();
    let to = guarded.clock.wall();
    guarded.agree(2, Action::AdvanceTime { to });
    guarded.pass(VETO_WAIT - HOUR);
    guarded.agree(3, NEVER);
    guarded.pass(2 * HOUR);
    assert_eq!(guarded.state(2), None);
    guarded.cut_power();
    guarded.pass(VETO_WAIT - 3 * HOUR);
    assert_eq!(guarded.store().retention().floor, LOCK_MAX);
    guarded.pass(2 * HOUR);
    assert_eq!(guarded.store().retention().floor, OPTIONS.retention);
}

#[test]
fn a_clock_that_was_set_stops_deletions_until_it_is_right_again() {
    for jump in [-YEARS, -400_000, 400_000, YEARS] {
        let mut guarded = Guarded::new();
        let (point, other) = (guarded.commit(1), guarded.commit(2));
        guarded.agree(1, set_floor(30 * DAY));
        guarded.agree(2, NEVER);
        guarded.pass(OPTIONS.retention);
        guarded.agree(3, set_floor(30 * DAY));
        guarded.agree(4, NEVER);
        guarded.clock.set(jump);
        let refused = guarded.store().delete_point(point.commit.point);
        assert!(
            matches!(refused, Err(Error::TimeFrozen { .. })),
            "{refused:?}"
        );
        let frozen = guarded.store().retention().frozen.unwrap();
        assert_eq!(frozen.moved.forward, jump > 0);
        assert_eq!(frozen.moved.by.as_millis(), u128::from(jump.unsigned_abs()));
        assert!(guarded.store().usage().unwrap().time_frozen);
        guarded.pass(VETO_WAIT + HOUR);
        assert!(guarded.state(4).is_some(), "what had to wait waits on");
        assert_eq!(
            guarded.store().retention().frozen.unwrap().since,
            frozen.since
        );
        guarded.clock.set(-jump);
        guarded.store().delete_point(point.commit.point).unwrap();
        assert_eq!(guarded.store().retention().frozen, None);
        guarded.store().tick().unwrap();
        // A new start has nothing to compare with.
        guarded.clock.set(jump);
        guarded.restart();
        assert_eq!(guarded.store().retention().frozen, None);
        guarded.store().delete_point(other.commit.point).unwrap();
    }
}

#[test]
fn clocks_that_drift_apart_slowly_stop_nothing() {
    let guarded = Guarded::new();
    for _ in 0..2000 {
        guarded.clock.pass(HOUR);
        guarded.clock.set(1500);
        assert_eq!(guarded.store().retention().frozen, None);
    }
}

#[test]
fn what_passes_while_the_wall_clock_is_behind_is_not_made_up_for() {
    for is_restarted in [false, true] {
        let mut guarded = Guarded::new();
        guarded.clock.set(-YEARS);
        guarded.clock.pass(20 * DAY);
        let point = guarded.commit(1);
        guarded.clock.set(YEARS);
        if is_restarted {
            guarded.restart();
        }
        guarded.check_locked(&point);
        guarded.pass(OPTIONS.retention - HOUR);
        guarded.check_locked(&point);
        guarded.pass(HOUR);
        guarded.store().delete_point(point.commit.point).unwrap();
    }
}

#[test]
fn trusted_time_does_not_go_back_behind_what_the_log_knows() {
    let mut guarded = Guarded::new();
    // The mark on record is as old as that when the power is cut.
    guarded.clock.pass(Duration::from_secs(600));
    let point = guarded.commit(1);
    guarded.clock.reboot(Duration::ZERO);
    guarded.clock.set(-YEARS);
    guarded.cut_power();
    let trusted = guarded.store().retention().trusted;
    assert!(trusted >= point.commit.committed_at, "{trusted:?}");
}

/// A floor that is raised, one that is lowered, a third administrator, and time that is made up.
fn script(guarded: &Guarded) -> Result<(), Error> {
    let submit = |id, number, action| {
        let signed = sign(&statement(id, action), key(number));
        guarded.store().submit(&signed).map(drop)
    };
    submit(1, 1, set_floor(30 * DAY))?;
    for number in [1, 2] {
        submit(2, number, NEVER)?;
        let (key, label) = (key(3), "third".to_owned());
        submit(3, number, Action::AddAdmin { key, label })?;
        submit(
            5,
            number,
            Action::AdvanceTime {
                to: Time::from_millis(u64::MAX),
            },
        )?;
    }
    guarded.clock.pass(VETO_WAIT + HOUR);
    guarded.store().tick()?;
    guarded.store().tick()
}

#[test]
fn a_crash_at_any_write_leaves_no_statement_half_done() {
    let template = Guarded::new();
    let whole = template.copy();
    let first = whole.fs.calls();
    script(&whole).unwrap();
    let calls = whole.fs.calls() - first;
    assert!(calls > 20, "{calls}");
    let end = whole.store().retention();
    assert_eq!((end.admins.len(), end.waiting.len()), (3, 0));
    for call in 1..=calls {
        let mut guarded = template.copy();
        guarded.fs.trouble_at(call, Trouble::Death);
        script(&guarded).unwrap_err();
        guarded.cut_power();
        // Whoever did not get an answer asks again.
        let done = script(&guarded);
        done.unwrap_or_else(|error| panic!("at {call}: {error}"));
        let again = guarded.store().retention();
        let facts = |r: &Retention| (r.demanded_floor, r.admins.len(), r.waiting.clone());
        assert_eq!(facts(&again), facts(&end), "at {call}");
        let entries = guarded.store().inner.ledger().log.entries().unwrap();
        let effects = entries.iter().filter(|placed| {
            use stillwater_format::commit::Entry;
            matches!(
                placed.entry,
                Entry::FloorSet { .. } | Entry::TimeAdvanced { .. }
            )
        });
        assert_eq!(effects.count(), 3, "at {call}");
    }
}
