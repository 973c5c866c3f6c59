//! A kill at each journal entry, with the world as it was at any moment around it.

use std::path::Path;

use stillwater_controller_api::RunState;
use stillwater_types::Reason;

use super::world::*;
use crate::guest::OnFailure;
use crate::run::event::Work;

const JOURNAL: &str = "journal";

/// Runs `work` once and remembers the world at every call, then replays each moment: the journal
/// cut to any length that it had, and the world as it was then.
async fn check(
    habits: Habits,
    work: impl Fn(&Things) -> Work,
    base: Option<Vec<u8>>,
    things: Things,
) {
    let dir = tempfile::tempdir().unwrap();
    if let Some(journal) = base {
        std::fs::write(dir.path().join(JOURNAL), journal).unwrap();
    }
    let fake = Fake::new(habits.clone());
    fake.set(things.clone());
    let cluster = Cluster::open(dir.path(), &fake).await;
    let begun = std::fs::metadata(dir.path().join(JOURNAL)).unwrap().len();
    fake.record(dir.path().join(JOURNAL));
    let run = cluster.run(work(&things)).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    cluster.kill().await;
    let journal = std::fs::read(dir.path().join(JOURNAL)).unwrap();
    let history = fake.history();
    // Frames begin at multiples of 512 bytes; a cut inside one is a torn end, which the journal's
    // own tests try.
    for length in (begun..=journal.len() as u64).step_by(512) {
        // What was in flight at that length may have come to any of these, or to nothing yet.
        let before = history.iter().rfind(|(at, _)| *at < length);
        let during = history.iter().filter(|(at, _)| *at == length);
        for (_, moment) in before.into_iter().chain(during) {
            recover(&journal, length, moment.clone(), &habits).await;
        }
    }
}

async fn recover(journal: &[u8], length: u64, moment: Things, habits: &Habits) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &journal[..length as usize]);
    let fake = Fake::new(habits.clone());
    // Cookies and transfers died with the process that knew them, or die with their sessions.
    let moment = Things {
        accesses: Default::default(),
        ..moment
    };
    fake.set(moment.clone());
    let cluster = Cluster::open(dir.path(), &fake).await;
    cluster.settled().await;
    let things = fake.things();
    let context = format!("killed at {length} in {moment:?}: {:?}", fake.calls());
    assert!(things.sessions.is_empty(), "a session is left: {context}");
    assert!(things.transfers.is_empty(), "a transfer is left: {context}");
    assert!(things.exports.is_empty(), "an export is left: {context}");
    assert!(things.attached.is_empty(), "a disk is attached: {context}");
    assert!(things.guest_held.is_none(), "a guest is held: {context}");
    check_guest(&things, &context);
    for run in cluster.runs.list(None, 10).await.unwrap() {
        assert!(run.state.is_final(), "{context}");
        if let Some(fault) = run.fault {
            assert_eq!(fault.reason, Reason::ControllerRestarted, "{context}");
        }
    }
    // The next run succeeds.
    let next = cluster.run(backup()).await;
    assert_eq!(next.state, RunState::Succeeded, "{context}");
    cluster.kill().await;
}

fn write(dir: &Path, journal: &[u8]) {
    std::fs::write(dir.join(JOURNAL), journal).unwrap();
}

async fn with_point() -> (Vec<u8>, Things) {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(Habits::default());
    let cluster = Cluster::open(dir.path(), &fake).await;
    cluster.run(backup()).await;
    cluster.kill().await;
    (
        std::fs::read(dir.path().join(JOURNAL)).unwrap(),
        fake.things(),
    )
}

fn only_point(things: &Things) -> stillwater_types::PointId {
    *things.points.keys().next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_killed_at_any_journal_entry_is_cleaned_up_or_finished() {
    let things = Fake::new(Habits::default()).things();
    check(Habits::default(), |_| backup(), None, things).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_is_released_once_wherever_its_backup_is_killed() {
    let things = Fake::new(Habits::default()).things();
    check(Habits::default(), |_| hooked(OnFailure::Fail), None, things).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_killed_at_any_journal_entry_leaves_a_whole_vm_or_none() {
    let (journal, things) = with_point().await;
    check(
        Habits::default(),
        |things| restore(only_point(things), true),
        Some(journal),
        things,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_through_hotadd_that_is_killed_at_any_journal_entry_leaves_no_disk_attached() {
    let (journal, things) = with_point().await;
    let habits = Habits {
        hot_adds: true,
        ..Habits::default()
    };
    let work = |things: &Things| restore(only_point(things), true);
    check(habits, work, Some(journal), things).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_is_killed_at_any_journal_entry_is_closed() {
    let (journal, things) = with_point().await;
    let habits = Habits {
        exports_are_read: true,
        ..Habits::default()
    };
    check(
        habits,
        |things| export(only_point(things)),
        Some(journal),
        things,
    )
    .await;
}
