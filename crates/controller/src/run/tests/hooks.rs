//! Runs with hooks: what they hold is released, once, whatever becomes of the run.

use stillwater_controller_api::RunState;
use stillwater_types::Reason;

use super::world::*;
use crate::event::Actor;
use crate::guest::{CredentialEvent, HookEnd, OnFailure};

const ALL: [&str; 4] = ["hold", "snapshot", "look", "free"];

struct Case {
    habits: Habits,
    on_failure: OnFailure,
    state: RunState,
    reason: Option<Reason>,
    log: &'static [&'static str],
}

async fn check(case: Case) {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &Fake::new(case.habits.clone())).await;
    let run = cluster.run(hooked(case.on_failure)).await;
    let things = cluster.fake.things();
    let context = format!("{:?} {:?} {run:?} {things:?}", case.habits, case.on_failure);
    assert_eq!(run.state, case.state, "{context}");
    let told = run.fault.iter().chain(&run.warnings);
    let told = told.map(|fault| fault.reason).next();
    assert_eq!(told, case.reason, "{context}");
    assert_eq!(things.guest_log, case.log, "{context}");
    assert_eq!(things.guest_held, None, "{context}");
    assert!(ours(&things).is_empty(), "{context}");
}

fn failing(name: &'static str) -> Habits {
    Habits {
        hooks_fail: vec![name],
        ..Habits::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_run_in_their_order_and_the_point_tells_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &Fake::new(Habits::default())).await;
    let run = cluster.run(hooked(OnFailure::Fail)).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert_eq!(cluster.fake.things().guest_log, ALL);
    let shown = cluster.show(point_of(&run)).await;
    let quiescence = shown.section.quiescence.unwrap();
    let names: Vec<_> = quiescence
        .hooks
        .iter()
        .map(|run| run.name.as_str())
        .collect();
    assert_eq!(names, ["hold", "look", "free"]);
    assert!(
        quiescence
            .hooks
            .iter()
            .all(|run| run.end == HookEnd::Code(0))
    );
    assert!(!quiescence.release.unwrap().by_watchdog);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_that_fails_means_what_it_says() {
    use OnFailure::{Fail, Ignore, Warn};
    let failed = Some(Reason::HookFailed);
    for (name, log) in [
        ("hold", &["hold", "free"][..]),
        ("look", &ALL[..]),
        ("free", &ALL[..]),
    ] {
        for (on_failure, state, reason, log) in [
            (Fail, RunState::Failed, failed, log),
            (Warn, RunState::Succeeded, failed, &ALL[..]),
            (Ignore, RunState::Succeeded, None, &ALL[..]),
        ] {
            check(Case {
                habits: failing(name),
                on_failure,
                state,
                reason,
                log,
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_cannot_be_held_is_left_alone_as_the_hooks_say() {
    let refused = Habits {
        refuses_guest_logins: true,
        ..Habits::default()
    };
    let no_tools = Habits {
        no_tools: true,
        ..Habits::default()
    };
    for (habits, reason) in [
        (refused, Reason::GuestLoginRefused),
        (no_tools, Reason::GuestUnavailable),
    ] {
        for (on_failure, state, reason) in [
            (OnFailure::Fail, RunState::Failed, Some(reason)),
            (OnFailure::Warn, RunState::Succeeded, Some(reason)),
            (OnFailure::Ignore, RunState::Succeeded, None),
        ] {
            check(Case {
                habits: habits.clone(),
                on_failure,
                state,
                reason,
                log: &[],
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_released_itself_before_its_snapshot_is_never_silent() {
    let habits = Habits {
        watchdog_is_quick: true,
        ..Habits::default()
    };
    for (on_failure, state) in [
        (OnFailure::Fail, RunState::Failed),
        (OnFailure::Warn, RunState::Succeeded),
    ] {
        check(Case {
            habits: habits.clone(),
            on_failure,
            state,
            reason: Some(Reason::HookFailed),
            log: &["hold", "snapshot", "free"],
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_account_nothing_is_run_in_the_guest() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &Fake::new(Habits::default())).await;
    let state = cluster.memory.state();
    for account in state.credentials.iter() {
        let subject = account.subject.clone();
        let removed = CredentialEvent::Removed { subject };
        cluster
            .memory
            .append(Actor::Console, removed)
            .await
            .unwrap();
    }
    let run = cluster.run(hooked(OnFailure::Fail)).await;
    assert_eq!(
        run.fault.map(|fault| fault.reason),
        Some(Reason::GuestCredentialMissing)
    );
    assert!(!cluster.fake.calls().contains(&"begin_hooks"));
    assert!(!cluster.fake.calls().contains(&"create_snapshot"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_cancelled_in_the_middle_of_a_hook_releases_the_guest() {
    let habits = Habits {
        hooks_hang: true,
        ..Habits::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &Fake::new(habits)).await;
    let run = cluster.start(hooked(OnFailure::Fail)).await;
    while cluster.fake.things().guest_held.is_none() {
        tokio::task::yield_now().await;
    }
    cluster
        .runs
        .cancel(Actor::Console, run.run_id)
        .await
        .unwrap();
    cluster.settled().await;
    let things = cluster.fake.things();
    assert_eq!(things.guest_log, ["free"]);
    assert_eq!(things.guest_held, None);
    let ended = cluster.runs.tell(run.run_id).await.unwrap();
    assert_eq!(ended.state, RunState::Cancelled);
}
