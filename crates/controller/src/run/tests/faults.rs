//! A fault at each call: whatever fails, nothing is left and nothing is falsely good.

use std::path::Path;

use stillwater_controller_api::{Run, RunState};
use stillwater_types::{PointId, Reason};

use super::world::*;
use crate::guest::OnFailure;
use crate::run::event::Work;

/// Where a run begins: a journal and a world.
struct Base {
    journal: Vec<u8>,
    things: Things,
}

impl Base {
    fn empty() -> Self {
        Self {
            journal: Vec::new(),
            things: Fake::new(Habits::default()).things(),
        }
    }

    /// One backup was made.
    async fn with_point() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::new(Habits::default());
        let cluster = Cluster::open(dir.path(), &fake).await;
        assert_eq!(cluster.run(backup()).await.state, RunState::Succeeded);
        cluster.kill().await;
        let journal = std::fs::read(journal(dir.path())).unwrap();
        Self {
            journal,
            things: fake.things(),
        }
    }

    fn point(&self) -> PointId {
        *self.things.points.keys().next().unwrap()
    }

    async fn open(&self, dir: &Path, habits: Habits) -> Cluster {
        std::fs::write(journal(dir), &self.journal).unwrap();
        let fake = Fake::new(habits);
        fake.set(self.things.clone());
        Cluster::open(dir, &fake).await
    }
}

fn journal(dir: &Path) -> std::path::PathBuf {
    dir.join("journal")
}

/// Runs `work` with one call failing as `habits` say, then demands a clean world.
async fn check(base: &Base, work: Work, habits: Habits) {
    let dir = tempfile::tempdir().unwrap();
    let cluster = base.open(dir.path(), habits.clone()).await;
    let run = cluster.run(work.clone()).await;
    // What the run could not remove while calls failed, the reaper removes now.
    cluster.fake.forget_failing();
    cluster.settled().await;
    let things = cluster.fake.things();
    let context = format!("{habits:?} {run:?} {:?} {things:?}", cluster.fake.calls());
    check_outcome(base, &work, &run, &things, &context);
    check_guest(&things, &context);
    if !habits.stays {
        assert!(things.guest_held.is_none(), "a guest is held: {context}");
        assert!(things.sessions.is_empty(), "a session is left: {context}");
        assert!(things.transfers.is_empty(), "a transfer is left: {context}");
        assert!(things.attached.is_empty(), "a disk is attached: {context}");
        assert!(things.exports.is_empty(), "an export is left: {context}");
    }
    cluster.kill().await;
}

fn check_outcome(base: &Base, work: &Work, run: &Run, things: &Things, context: &str) {
    let is_good = matches!(run.state, RunState::Succeeded | RunState::Incomplete);
    let made_vms = things.vms.len() - base.things.vms.len();
    match work {
        Work::Backup(_) if is_good => {
            assert_eq!(
                things.points.len(),
                base.things.points.len() + 1,
                "falsely good: {context}"
            );
        }
        Work::RestoreVm(_) if is_good => assert_eq!(made_vms, 1, "falsely good: {context}"),
        Work::RestoreVm(_) => {
            let told = run.warnings.iter().any(|warning| {
                warning
                    .details
                    .get("hold")
                    .is_some_and(|hold| hold == "created vm")
            });
            assert!(
                made_vms == 0 || told,
                "a vm is left and nobody says so: {context}"
            );
        }
        _ => {}
    }
    if !is_good {
        let fault = run
            .fault
            .as_ref()
            .unwrap_or_else(|| panic!("no reason: {context}"));
        assert_ne!(fault.reason, Reason::Bug, "{context}");
    }
}

/// Every call of a run that goes well, failing in every way, one at a time.
async fn sweep(base: Base, work: Work, stays: bool) {
    sweep_with(base, work, stays, false).await;
}

async fn sweep_with(base: Base, work: Work, stays: bool, hot_adds: bool) {
    let dir = tempfile::tempdir().unwrap();
    let exports_are_read = true;
    let cluster = base
        .open(
            dir.path(),
            Habits {
                exports_are_read,
                hot_adds,
                ..Habits::default()
            },
        )
        .await;
    let run = cluster.run(work.clone()).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    let calls = cluster.fake.call_count();
    cluster.kill().await;
    for at in 0..calls {
        for happens in [false, true] {
            for reason in [Reason::VcenterUnreachable, Reason::StorageUnfit] {
                let habits = Habits {
                    fails_at: Some(at),
                    happens,
                    reason: Some(reason),
                    stays,
                    exports_are_read,
                    hot_adds,
                    ..Habits::default()
                };
                check(&base, work.clone(), habits).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_bears_a_fault_of_any_call_once() {
    sweep(Base::empty(), backup(), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_bears_a_fault_of_any_call_for_good() {
    sweep(Base::empty(), backup(), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_with_hooks_bears_a_fault_of_any_call_once() {
    sweep(Base::empty(), hooked(OnFailure::Fail), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_with_hooks_bears_a_fault_of_any_call_for_good() {
    sweep(Base::empty(), hooked(OnFailure::Warn), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_bears_a_fault_of_any_call_once() {
    let base = Base::with_point().await;
    let work = restore(base.point(), true);
    sweep(base, work, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_through_hotadd_bears_a_fault_of_any_call_once() {
    let base = Base::with_point().await;
    let work = restore(base.point(), true);
    sweep_with(base, work, false, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_bears_a_fault_of_any_call_for_good() {
    let base = Base::with_point().await;
    let work = restore(base.point(), false);
    sweep(base, work, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_bears_a_fault_of_any_call_once() {
    let base = Base::with_point().await;
    let work = export(base.point());
    sweep(base, work, false).await;
}
