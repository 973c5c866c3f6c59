use std::time::Duration;

use stillwater_policy::{Schedule, Span};

use super::*;
use crate::fixture::{Small, failed, good, proxy, second};
use crate::{Standing, plus};

/// A promise of an hour that was given at `second(0)` is broken for ten minutes.
const LATE: i64 = 4_200;

fn small() -> (Small, JobIx) {
    let mut small = Small::new();
    let policy = small.hourly();
    let job = small.protected(policy, 1);
    (small, job)
}

#[track_caller]
fn check(small: &Small, now: i64, expected: &[Cause]) {
    let causes: Vec<Cause> = judge(&small.state, second(now))
        .iter()
        .map(|breach| breach.cause)
        .collect();
    assert_eq!(causes, expected);
}

#[test]
fn a_promise_is_broken_when_its_time_is_over_and_not_before() {
    let (small, job) = small();
    check(&small, 3_600, &[]);
    let breach = judge(&small.state, second(3_601)).remove(0);
    assert_eq!((breach.job, breach.since), (job, second(3_600)));
    assert_eq!(breach.last_point, Some(second(0)));
}

#[test]
fn that_nothing_ran_though_it_could_is_told_as_such() {
    let (small, _) = small();
    check(&small, LATE, &[Cause::NothingRan]);
}

#[test]
fn what_is_missing_is_named_and_so_is_what_to_add() {
    let (mut small, _) = small();
    let datastore = small.datastores[0];
    let reach = [(datastore, crate::Transport::Nfc)];
    for number in [1, 2] {
        small
            .state
            .proxy(proxy(number, 0, Standing::Online, &reach));
    }
    let blocked = Blocked::ProxySlots(datastore);
    check(&small, LATE, &[Cause::Missing(blocked)]);
    assert_eq!(
        blocked.advice(&small.state),
        "add a proxy that reads datastore ds1"
    );
}

#[test]
fn a_run_on_its_way_and_runs_that_fail_are_told_apart() {
    let (mut small, job) = small();
    small.step(second(3_590));
    check(
        &small,
        LATE,
        &[Cause::Running {
            since: second(3_590),
        }],
    );
    small.state.finished(job, &failed(), second(3_650));
    check(&small, LATE, &[Cause::Failing { runs: 1 }]);
    small.step(second(4_000));
    check(&small, LATE, &[Cause::Failing { runs: 1 }]);
    small
        .state
        .finished(job, &good(second(4_000), Duration::ZERO), second(4_100));
    check(&small, LATE, &[]);
}

#[test]
fn a_vm_that_is_held_back_for_its_own_good_is_told_as_such() {
    let mut small = Small::new();
    let policy = small.policy("minute", Schedule::rpo(Span::from_mins(1)), 5);
    let job = small.protected(policy, 1);
    let now = small.state.due(job);
    small.run(job, now, 8, Duration::from_secs(4));
    let causes: Vec<Cause> = judge(&small.state, plus(now, 100))
        .iter()
        .map(|breach| breach.cause)
        .collect();
    assert_eq!(causes, [Cause::Suffering]);
}

#[test]
fn how_old_points_became_is_kept_for_each_vm() {
    let (mut small, job) = small();
    for turn in 1..=100 {
        let now = second(turn * 3_200);
        small.step(now);
        small
            .state
            .finished(job, &good(now, Duration::ZERO), plus(now, 60));
    }
    let achieved = &small.state.job_at(job).history.achieved;
    let told = [50, 99].map(|hundredths| achieved.percentile(hundredths).unwrap());
    assert!(
        told.iter().all(|secs| (3_100..=3_260).contains(secs)),
        "{told:?}"
    );
}
