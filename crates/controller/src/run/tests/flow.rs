//! What runs do when nothing, or just one thing, goes wrong.

use std::time::Duration;

use stillwater_controller_api::{RunKind, RunState};
use stillwater_types::{Fault, Reason, RequestId};
use stillwater_vsphere::Protectability;

use super::world::*;
use crate::event::Actor;
use crate::point::OpenedPoint;
use crate::run::event::Work;
use crate::run::outside::Repositories;

async fn cluster_with(habits: Habits) -> (tempfile::TempDir, Cluster) {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &Fake::new(habits)).await;
    (dir, cluster)
}

async fn fault_of(habits: Habits, work: Work) -> Fault {
    let (_dir, cluster) = cluster_with(habits).await;
    let run = cluster.run(work).await;
    assert_eq!(run.state, RunState::Failed, "{run:?}");
    run.fault.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_makes_a_point_that_tells_how_it_was_made() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert_eq!(run.disks.len(), 2);
    assert!(run.disks.iter().all(|disk| disk.done_bytes == DISK_BYTES));
    let things = cluster.fake.things();
    assert!(ours(&things).is_empty() && things.accesses.is_empty() && things.sessions.is_empty());
    assert!(
        things.tracking,
        "change tracking is turned on when no snapshot is there"
    );
    let stored = Repositories::get_point(&cluster.fake, repository(), point_of(&run))
        .await
        .unwrap();
    let state = cluster.memory.state();
    let key = state
        .datasets
        .find(dataset())
        .unwrap()
        .open_key(&secrets())
        .unwrap();
    let opened = OpenedPoint::open(&stored, &key).unwrap();
    assert!(opened.manifest.whole);
    assert_eq!(
        opened.manifest.disks[0].change_id.as_deref(),
        Some("52 de/1")
    );
    assert_eq!(opened.section.config_xml, "<config/>");
    let fact = |name: &str| {
        opened
            .section
            .evidence
            .iter()
            .find(|note| note.name == name)
            .unwrap()
            .value
            .clone()
    };
    assert_eq!(fact("quiesced"), "false");
    assert!(
        fact("disk 2000 read").starts_with("allocated areas"),
        "{}",
        fact("disk 2000 read")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tracking_is_left_alone_and_the_whole_disk_read_while_foreign_snapshots_exist() {
    let habits = Habits {
        foreign_snapshots: 2,
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Succeeded);
    let things = cluster.fake.things();
    assert!(!things.tracking);
    assert_eq!(
        things.snapshots[&vm().moref].len(),
        2,
        "foreign snapshots are never touched"
    );
    assert!(!cluster.fake.calls().contains(&"allocated_areas"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_cannot_be_frozen_makes_the_run_incomplete_unless_excluded() {
    let disks = vec![
        (2000, Protectability::Protectable),
        (2002, Protectability::Independent),
    ];
    let habits = Habits {
        disks,
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Incomplete);
    assert_eq!(run.warnings[0].reason, Reason::DiskUnprotectable);
    assert!(
        run.warnings[0].message.contains("2002"),
        "{}",
        run.warnings[0].message
    );
    let known = cluster.world.points.refresh().await;
    assert!(known.is_empty());
    let points = cluster.world.points.clone();
    let point = point_of(&run);
    let known = tokio::task::spawn_blocking(move || points.find(point))
        .await
        .unwrap()
        .unwrap();
    let told = known.told("repo".into());
    assert!(!told.complete);
    assert!(told.missing[0].contains("2002"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vms_that_cannot_be_protected_are_refused_by_name() {
    let only = |protectability| Habits {
        disks: vec![(2000, protectability)],
        ..Habits::default()
    };
    let rdm = fault_of(only(Protectability::PhysicalRdm), backup()).await;
    assert_eq!(rdm.reason, Reason::DiskUnprotectable);
    assert!(rdm.message.contains("raw device"), "{rdm}");
    let all = fault_of(Habits::default(), excluding(&[2000, 2001])).await;
    assert_eq!(all.reason, Reason::VmWithoutDisks);
    let unknown = fault_of(Habits::default(), excluding(&[4711])).await;
    assert_eq!(unknown.reason, Reason::DiskNotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_a_proxy_loses_is_moved_by_another() {
    let habits = Habits {
        transfers_lost: 2,
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    let starts = cluster
        .fake
        .calls()
        .iter()
        .filter(|call| **call == "start_transfer")
        .count();
    assert_eq!(starts, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_that_lose_every_transfer_fail_the_run_typed() {
    let fault = fault_of(
        Habits {
            transfers_lost: 99,
            ..Habits::default()
        },
        backup(),
    )
    .await;
    assert_eq!(fault.reason, Reason::ProxyUnreachable);
    assert!(fault.details.contains_key("disk"), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_has_one_run_at_a_time_and_a_request_one_run() {
    let (_dir, cluster) = cluster_with(Habits {
        transfers_hang: true,
        ..Habits::default()
    })
    .await;
    let request = RequestId::mint();
    let first = cluster
        .runs
        .start(Actor::Console, request, backup())
        .await
        .unwrap();
    let again = cluster
        .runs
        .start(Actor::Console, request, backup())
        .await
        .unwrap();
    assert_eq!(first.run_id, again.run_id);
    let other = cluster
        .runs
        .start(Actor::Console, RequestId::mint(), backup())
        .await;
    assert_eq!(other.unwrap_err().reason, Reason::RunActive);
    cluster
        .runs
        .cancel(Actor::Console, first.run_id)
        .await
        .unwrap();
    let run = cluster.ended(first.run_id).await;
    assert_eq!(run.state, RunState::Cancelled);
    assert_eq!(run.fault.unwrap().reason, Reason::RunCancelled);
    let after = cluster
        .runs
        .start(Actor::Console, request, backup())
        .await
        .unwrap();
    assert_eq!(
        after.run_id, first.run_id,
        "an ended run still answers its request"
    );
    let things = cluster.fake.things();
    assert!(ours(&things).is_empty() && things.transfers.is_empty() && things.sessions.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_outlives_its_lease_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(Habits {
        transfers_hang: true,
        ..Habits::default()
    });
    let timing = crate::run::Timing {
        lease: Duration::from_millis(150),
        lease_margin: Duration::from_millis(50),
        ..quick()
    };
    let cluster = Cluster::open_with(dir.path(), &fake, timing).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.fault.unwrap().reason, Reason::Deadline);
    assert!(ours(&fake.things()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_without_a_proxy_slot_fail_before_anything_is_frozen() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    cluster.nodes.forget(proxy(0));
    cluster.nodes.forget(proxy(1));
    let run = cluster.run(backup()).await;
    assert_eq!(run.fault.unwrap().reason, Reason::NoProxySlot);
    assert!(!cluster.fake.calls().contains(&"create_snapshot"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_makes_a_vm_and_powers_it_on_only_if_asked() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    let point = point_of(&cluster.run(backup()).await);
    for power_on in [false, true] {
        let run = cluster.run(restore(point, power_on)).await;
        assert_eq!(run.state, RunState::Succeeded, "{run:?}");
        let RunKind::RestoreVm(restored) = run.kind else {
            panic!()
        };
        let things = cluster.fake.things();
        assert!(things.vms.contains_key(&restored.vm_id.unwrap().moref));
        assert!(things.accesses.is_empty() && things.sessions.is_empty());
        assert_eq!(cluster.fake.calls().contains(&"power_on"), power_on);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_succeeds_only_when_it_was_read_to_its_end() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    let point = point_of(&cluster.run(backup()).await);
    let unread = cluster.run(export(point)).await;
    assert_eq!(unread.fault.unwrap().reason, Reason::Deadline);
    cluster
        .fake
        .change_habits(|habits| habits.exports_are_read = true);
    let read = cluster.run(export(point)).await;
    assert_eq!(read.state, RunState::Succeeded, "{read:?}");
    assert!(cluster.fake.things().exports.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_runs_are_listed_newest_first_across_pages_and_restarts() {
    let (dir, cluster) = cluster_with(Habits::default()).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(cluster.run(backup()).await.run_id);
    }
    ids.reverse();
    let fake = cluster.fake.clone();
    cluster.kill().await;
    let cluster = Cluster::open(dir.path(), &fake).await;
    let first = cluster.runs.list(None, 2).await.unwrap();
    let second = cluster.runs.list(Some(first[1].run_id), 9).await.unwrap();
    let listed: Vec<_> = first.iter().chain(&second).map(|run| run.run_id).collect();
    assert_eq!(listed, ids);
    assert!(first.iter().all(|run| run.state == RunState::Succeeded));
}
