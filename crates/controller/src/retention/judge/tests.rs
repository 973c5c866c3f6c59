use super::super::fixture::*;
use super::*;

fn judge_at(now: i64, held: Vec<Held>, promises: &Promises) -> Vec<Judged> {
    let repositories = shelves();
    let present = Present {
        promises,
        repositories: &repositories,
        now: day(now),
    };
    judge(held, &present)
}

/// Which points go, by the day that they are of.
#[track_caller]
fn check(held: Vec<Held>, promises: &Promises, gone: &[u8]) {
    check_at(20, held, promises, gone);
}

#[track_caller]
fn check_at(now: i64, held: Vec<Held>, promises: &Promises, gone: &[u8]) {
    let judged = judge_at(now, held, promises);
    let expired = expired(&judged);
    let found: Vec<u8> = expired
        .iter()
        .map(|judged| judged.held.point.as_bytes()[0])
        .collect();
    assert_eq!(found, gone);
}

#[test]
fn what_a_policy_does_not_keep_goes_whether_anything_is_proved_or_not() {
    check(points(1..=5), &gold("keep-last = 3"), &[1, 2]);
    let proved = points(1..=5).into_iter().map(|held| Held {
        proof: Proof::Sound,
        ..held
    });
    check(proved.collect(), &gold("keep-last = 3"), &[1, 2]);
}

#[test]
fn the_last_proved_point_stays_below_any_number_of_others() {
    let mut held = points(1..=9);
    held[1].proof = Proof::Sound;
    check(held, &gold("keep-last = 2"), &[1, 3, 4, 5, 6, 7]);
}

#[test]
fn a_damaged_point_pushes_nothing_out_and_stays_as_long_as_a_good_one_would() {
    let mut held = points(1..=6);
    held[5].proof = Proof::Damaged;
    check(held.clone(), &gold("keep-last = 2"), &[1, 2, 3]);
    held[0].proof = Proof::Damaged;
    check(held, &gold("keep-last = 2"), &[1, 2, 3]);
    let mut all = points(1..=4);
    all.iter_mut().for_each(|held| held.proof = Proof::Damaged);
    check(all, &gold("keep-last = 3"), &[1]);
}

#[test]
fn points_that_lack_a_disk_take_no_whole_ones_place_and_stay_where_none_is_whole() {
    let mut held = points(1..=6);
    held[4].is_whole = false;
    held[5].is_whole = false;
    held.iter_mut().for_each(|held| held.proof = Proof::Sound);
    check(held.clone(), &gold("keep-last = 2"), &[1, 2]);
    held.iter_mut().for_each(|held| held.is_whole = false);
    check(held, &gold("keep-last = 2"), &[1, 2, 3, 4]);
}

#[test]
fn a_point_inside_its_lock_and_one_that_is_read_stay() {
    let mut held = points(1..=5);
    held[0].retain_until = day(40);
    held[1].is_in_use = true;
    check(held, &gold("keep-last = 2"), &[3]);
}

#[test]
fn what_no_policy_made_or_one_that_is_gone_is_nobodys_to_end() {
    let mut held = points(1..=6);
    held[0].policy = None;
    held[1].policy = Some("silver".into());
    check(held.clone(), &gold("keep-last = 2"), &[3, 4]);
    // Nor do they count for others.
    held[4].policy = None;
    held[5].policy = Some("silver".into());
    check(held, &gold("keep-last = 2"), &[]);
}

#[test]
fn without_a_policy_nothing_goes() {
    check(points(1..=9), &Promises::default(), &[]);
}

#[test]
fn policies_that_are_for_the_same_vm_keep_what_any_of_them_keeps() {
    // Points of gold keep silver's promise, so that silver has none of its own.
    let both = |members: &[u8]| {
        promises(vec![
            promise("gold", "keep-last = 2", "main", &[1]),
            promise("silver", "weekly = 3", "main", members),
        ])
    };
    check(
        points(1..=15),
        &both(&[1]),
        &[1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12],
    );
    let without: Vec<u8> = (1..=13).collect();
    check(points(1..=15), &both(&[]), &without);
    let elsewhere = promises(vec![
        promise("gold", "keep-last = 2", "main", &[1]),
        promise("silver", "weekly = 3", "second", &[1]),
    ]);
    check(points(1..=15), &elsewhere, &without);
}

#[test]
fn a_vm_that_left_keeps_its_points_until_its_policys_calendar_ends_them() {
    let left = promises(vec![promise("gold", "daily = 10", "main", &[])]);
    check_at(15, points(1..=9), &left, &[1, 2, 3, 4, 5]);
    check_at(400, points(1..=9), &left, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let stays = gold("daily = 10");
    check_at(400, points(1..=9), &stays, &[]);
    // A policy that writes elsewhere now makes no more points here.
    let moved = promises(vec![promise("gold", "daily = 10", "second", &[1])]);
    check_at(15, points(1..=9), &moved, &[1, 2, 3, 4, 5]);
}

#[test]
fn nobody_is_taken_for_one_that_left_because_a_vcenter_or_a_repository_is_silent() {
    let mut left = promises(vec![promise("gold", "daily = 1", "main", &[])]);
    check_at(400, points(1..=3), &left, &[1, 2]);
    left.unread.insert(vm(1).vcenter);
    check_at(400, points(1..=3), &left, &[]);
    left.unread.clear();
    left.untagged.insert(vm(1).vcenter);
    check_at(400, points(1..=3), &left, &[1, 2]);
    let tagged = Policy::parse(
        &left.policies[0]
            .policy
            .print()
            .expect("prints")
            .replace("name = \"*\"", "tag = \"Backup/Gold\""),
    );
    left.policies[0].policy = std::sync::Arc::new(tagged.expect("is a policy"));
    assert_eq!(left.policies[0].policy.scope.tags().count(), 1);
    check_at(400, points(1..=3), &left, &[]);
    left.untagged.clear();
    let elsewhere = points(1..=3).into_iter().map(|held| Held {
        repository: NodeId::from_bytes([9; 16]),
        ..held
    });
    check_at(400, elsewhere.collect(), &left, &[]);
}

#[test]
fn a_clock_that_was_set_ahead_ends_nothing_of_a_vm_that_left() {
    let left = promises(vec![promise("gold", "daily = 10", "main", &[])]);
    let mut repositories = shelves();
    repositories.get_mut(&MAIN).expect("is there").lag = SignedDuration::from_hours(24 * 385);
    let present = Present {
        promises: &left,
        repositories: &repositories,
        now: day(400),
    };
    let judged = judge(points(1..=9), &present);
    let gone = expired(&judged).into_iter();
    let gone: Vec<u8> = gone.map(|gone| gone.held.point.as_bytes()[0]).collect();
    assert_eq!(gone, [1, 2, 3, 4, 5], "as on day 15");
}

#[test]
fn each_repository_and_each_vm_is_judged_by_itself() {
    let mut held = points(1..=3);
    held.extend(points(4..=6).into_iter().map(|held| Held {
        repository: SECOND,
        ..held
    }));
    held.extend(
        points(7..=9)
            .into_iter()
            .map(|held| Held { vm: vm(2), ..held }),
    );
    let both = promises(vec![promise("gold", "keep-last = 2", "main", &[1, 2])]);
    check(held, &both, &[1, 4, 7]);
}

#[test]
fn every_fate_has_a_reason() {
    let mut held = points(1..=5);
    held[0].policy = None;
    held[1].policy = Some("removed".into());
    let judged = judge_at(20, held, &gold("keep-last = 1\nweekly = 1"));
    for judged in judged {
        assert!(!super::super::why(&judged.fate).is_empty(), "{judged:?}");
    }
}
