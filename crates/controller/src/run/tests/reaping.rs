//! What the reaper removes, and what it never touches.

use stillwater_types::{ClusterId, RunId};

use super::world::*;
use crate::run::lease::Lease;
use crate::run::outside::LeasedSnapshot;

fn lease(cluster: ClusterId) -> Lease {
    Lease {
        cluster,
        run: RunId::mint(),
        expires_at: "2026-11-23T12:00:00Z".parse().unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_of_a_lost_journal_are_found_by_inventory_and_no_other_is_touched() {
    let fake = Fake::new(Habits {
        foreign_snapshots: 1,
        ..Habits::default()
    });
    let other = lease(ClusterId::mint()).to_string();
    let quoted = format!("see {}", lease(cluster()));
    {
        let mut things = fake.things();
        let snapshots = things.snapshots.get_mut(&vm().moref).unwrap();
        snapshots.push(("lost-1".into(), lease(cluster()).to_string()));
        snapshots.push(("other-cluster".into(), other));
        snapshots.push(("quoted".into(), quoted));
        let elsewhere = vec![("lost-2".into(), lease(cluster()).to_string())];
        things.snapshots.insert("vm-7".into(), elsewhere);
        fake.set(things);
    }
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &fake).await;
    let left = || -> Vec<String> {
        let things = fake.things();
        things
            .snapshots
            .values()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    };
    let reaped = async {
        while left().iter().any(|name| name.starts_with("lost")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), reaped)
        .await
        .unwrap();
    assert_eq!(left(), ["foreign-0", "other-cluster", "quoted"]);
    cluster.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_snapshot_of_an_active_run_is_not_reaped() {
    let fake = Fake::new(Habits {
        transfers_hang: true,
        ..Habits::default()
    });
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &fake).await;
    let run = cluster.start(backup()).await;
    // Several rounds of the reaper pass while the run reads its frozen disks.
    let searched = async {
        loop {
            let calls = fake.calls();
            let frozen = calls.iter().position(|call| *call == "start_transfer");
            let after = frozen.map_or(0, |at| {
                calls[at..]
                    .iter()
                    .filter(|call| **call == "leased_snapshots")
                    .count()
            });
            if after >= 3 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), searched)
        .await
        .unwrap();
    assert_eq!(ours(&fake.things()).len(), 1);
    cluster
        .runs
        .cancel(crate::event::Actor::Console, run.run_id)
        .await
        .unwrap();
    cluster.ended(run.run_id).await;
    assert!(ours(&fake.things()).is_empty());
    cluster.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_snapshot_cannot_be_removed_ends_and_leaves_it_to_the_reaper() {
    let fake = Fake::new(Habits::default());
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &fake).await;
    fake.fail_every("remove_snapshot");
    let run = cluster.run(backup()).await;
    assert_eq!(
        run.state,
        stillwater_controller_api::RunState::Succeeded,
        "{run:?}"
    );
    assert!(!run.warnings.is_empty(), "a snapshot that stays is told");
    assert_eq!(ours(&fake.things()).len(), 1);
    fake.forget_failing();
    cluster.settled().await;
    cluster.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_active_run_could_not_remove_is_kept_for_when_it_has_ended() {
    let fake = Fake::new(Habits {
        transfers_hang: true,
        ..Habits::default()
    });
    let dir = tempfile::tempdir().unwrap();
    // Searches are rare: only what the run left behind tells the reaper.
    let timing = crate::run::Timing {
        search_every: std::time::Duration::from_secs(3600),
        ..quick()
    };
    let cluster = Cluster::open_with(dir.path(), &fake, timing).await;
    let run = cluster.start(backup()).await;
    let lease = loop {
        let state = cluster.memory.state();
        let held = state
            .runs
            .find(run.run_id)
            .and_then(|run| run.snapshot.clone());
        match held {
            Some(held) if held.snapshot.is_some() => break held.lease,
            _ => tokio::task::yield_now().await,
        }
    };
    fake.fail_every("remove_snapshot");
    cluster
        .world
        .stuck()
        .push(LeasedSnapshot { vm: vm(), lease });
    // The reaper comes by several times while the run is still active.
    tokio::time::sleep(quick().reap_every * 10).await;
    assert_eq!(cluster.world.stuck().len(), 1, "the reaper forgot it");
    cluster
        .runs
        .cancel(crate::event::Actor::Console, run.run_id)
        .await
        .unwrap();
    cluster.ended(run.run_id).await;
    fake.forget_failing();
    cluster.settled().await;
    cluster.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_takes_long_keeps_no_other_waiting() {
    let fake = Fake::new(Habits {
        removal_hangs_on: Some("vm-0"),
        ..Habits::default()
    });
    {
        let mut things = fake.things();
        for moref in ["vm-0", "vm-7"] {
            let snapshot = ("lost".to_owned(), lease(cluster()).to_string());
            things.snapshots.insert(moref.into(), vec![snapshot]);
        }
        fake.set(things);
    }
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &fake).await;
    let reaped = async {
        while !fake.things().snapshots["vm-7"].is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), reaped)
        .await
        .expect("waits for another vm");
    assert_eq!(fake.things().snapshots["vm-0"].len(), 1);
    cluster.kill().await;
}
