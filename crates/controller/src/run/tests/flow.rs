//! What runs do when nothing, or just one thing, goes wrong.

use std::sync::Arc;
use std::time::Duration;

use stillwater_controller_api::{RunKind, RunState};
use stillwater_format::manifest::Consistency;
use stillwater_proxy_api::{self as proxy_api, Reading};
use stillwater_types::{Fault, Reason, RequestId};
use stillwater_vsphere::{Protectability, Quiesce};

use super::world::*;
use crate::event::Actor;
use crate::point::How;
use crate::run::event::{BackupWork, Work};
use crate::run::ladder::{Level, Rung};
use crate::run::outside::Repositories;
use crate::run::reading::Why;

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
    let opened = cluster.show(point_of(&run)).await;
    assert!(opened.manifest.whole);
    assert_eq!(
        opened.manifest.disks[0].change_id.as_deref(),
        Some("52 de/1")
    );
    assert_eq!(
        opened.section.config_xml,
        config_xml([2000, 2001].into_iter())
    );
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
    assert_eq!(fact("quiesced"), "true");
    assert_eq!(opened.manifest.consistency, Consistency::FileSystem);
    let reading = opened.section.disks[0].reading.as_ref().unwrap();
    assert_eq!((reading.how, reading.why), (How::Full, Some(Why::First)));
    assert_eq!(reading.changed_bytes, Some(DISK_BYTES / 2));
}

/// The last orders that proxies got, one for each of the two disks.
fn last_readings(cluster: &Cluster) -> Vec<Reading> {
    let orders = cluster.fake.orders();
    let last = orders.into_iter().rev().take(2);
    last.map(|order| match order.work {
        proxy_api::Work::Backup(backup) => backup.reading,
        other => panic!("{other:?}"),
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_backup_reads_what_changed_since_the_first() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    let first = cluster.run(backup()).await;
    assert_eq!(first.disks[0].reading, "full");
    let second = cluster.run(backup()).await;
    assert_eq!(second.state, RunState::Succeeded, "{second:?}");
    assert_eq!(second.disks[0].reading, "increment");
    for reading in last_readings(&cluster) {
        let Reading::Increment {
            base,
            changed,
            sample_bytes,
            ..
        } = reading
        else {
            panic!("{reading:?}");
        };
        assert_eq!(base.length_bytes, DISK_BYTES);
        assert_eq!(changed.bytes(), DISK_BYTES / 16);
        assert!(sample_bytes > 0);
    }
    let shown = cluster.show(point_of(&second)).await;
    let note = shown.section.disks[0].reading.as_ref().unwrap();
    assert_eq!((note.how, note.why), (How::Increment, None));
    assert_eq!(note.base, Some(point_of(&first)));
    assert_eq!(note.increments, 1);
    let asked = cluster.run(reading_everything()).await;
    assert_eq!(asked.disks[0].reading, "compare");
    let shown = cluster.show(point_of(&asked)).await;
    let note = shown.section.disks[0].reading.as_ref().unwrap();
    assert_eq!((note.why, note.increments), (Some(Why::Asked), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_that_lied_is_told_reset_and_not_believed_again() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    cluster.run(backup()).await;
    cluster.fake.change_habits(|habits| habits.lie_bytes = 4096);
    let lied = cluster.run(backup()).await;
    assert_eq!(lied.state, RunState::Succeeded, "{lied:?}");
    let reasons: Vec<Reason> = lied.warnings.iter().map(|fault| fault.reason).collect();
    assert_eq!(reasons, [Reason::ChangeMapLied; 2]);
    let calls = cluster.fake.calls();
    let at = |name| calls.iter().rposition(|call| *call == name).unwrap();
    assert!(
        at("disable_tracking") < at("remove_snapshot"),
        "the removal is what makes the reset take effect"
    );
    cluster.fake.change_habits(|habits| habits.lie_bytes = 0);
    let next = cluster.run(backup()).await;
    assert_eq!(next.disks[0].reading, "compare", "{next:?}");
    let shown = cluster.show(point_of(&next)).await;
    let note = shown.section.disks[0].reading.as_ref().unwrap();
    assert_eq!((note.why, note.lies), (Some(Why::MapLied), 1));
    assert!(note.last_lie_at.is_some());
    let after = cluster.run(backup()).await;
    let Some(Reading::Increment { sample_bytes, .. }) = last_readings(&cluster).pop() else {
        panic!("{after:?}");
    };
    assert!(sample_bytes > crate::run::reading::sample_bytes(0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_that_cannot_be_had_costs_reading_and_is_told() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    cluster.run(backup()).await;
    cluster
        .fake
        .change_habits(|habits| habits.maps_are_lost = true);
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert_eq!(run.disks[0].reading, "compare");
    let shown = cluster.show(point_of(&run)).await;
    let note = shown.section.disks[0].reading.as_ref().unwrap();
    assert_eq!(note.why, Some(Why::NoMap));
    assert_eq!(note.remarks.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_base_is_healed_by_the_run_that_meets_it() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    cluster.run(backup()).await;
    cluster
        .fake
        .change_habits(|habits| habits.bases_refused = 1);
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert_eq!(run.disks[0].reading, "compare");
    assert_eq!(run.warnings[0].reason, Reason::ChunkNotFound);
    assert!(
        last_readings(&cluster)
            .iter()
            .all(|reading| matches!(reading, Reading::Compare { .. }))
    );
    let things = cluster.fake.things();
    assert!(ours(&things).is_empty() && things.accesses.is_empty() && things.sessions.is_empty());
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
    let told = known.told("repo".into(), None);
    assert!(!told.complete);
    assert!(told.missing[0].contains("2002"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_point_that_is_newer_than_a_late_listing_stays_known() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    let late = Arc::new(LateListing::default());
    let late_listing = Some(Arc::clone(&late));
    cluster
        .fake
        .change_habits(|habits| habits.late_listing = late_listing);
    let points = cluster.world.points.clone();
    let refreshing = tokio::spawn(async move { points.refresh().await });
    late.made.notified().await;
    let point = point_of(&cluster.run(backup()).await);
    assert!(cluster.world.points.refresh().await.is_empty());
    late.arrive.notify_one();
    assert!(refreshing.await.unwrap().is_empty());
    let points = cluster.world.points.clone();
    let known = tokio::task::spawn_blocking(move || points.find(point));
    assert!(known.await.unwrap().is_some());
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
    let run = cluster.start(backup()).await;
    tokio::time::sleep(quick().slot_wait / 2).await;
    // Nothing renews a session before its fence is journalled, and that waits for the slot.
    let calls = cluster.fake.calls();
    assert!(
        calls.contains(&"vm") && !calls.contains(&"open_session"),
        "{calls:?}"
    );
    let run = cluster.ended(run.run_id).await;
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
async fn a_restored_vm_is_dressed_when_its_disks_are_whole_and_what_it_lacks_is_told() {
    let (_dir, cluster) = cluster_with(Habits {
        nvram: Some(vec![1, 2, 3]),
        undressed: vec!["tag tier:gold could not be attached"],
        ..Habits::default()
    })
    .await;
    let point = point_of(&cluster.run(backup()).await);
    let run = cluster.run(restore(point, true)).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    let calls = cluster.fake.calls();
    let at = |name: &str| calls.iter().rposition(|call| *call == name);
    assert!(at("close_access") < at("dress_vm"), "{calls:?}");
    assert!(at("dress_vm") < at("power_on"), "{calls:?}");
    let things = cluster.fake.things();
    let outfit = things.dressed.last().expect("dressed");
    assert_eq!(outfit.tags.len(), 1);
    let told: Vec<&str> = run.warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(
        told,
        ["the vm is restored, but tag tier:gold could not be attached"]
    );
    assert_eq!(run.warnings[0].reason, Reason::RestoreDiffers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_refused_makes_nothing() {
    let (_dir, cluster) = cluster_with(Habits {
        name_is_taken: true,
        ..Habits::default()
    })
    .await;
    let point = point_of(&cluster.run(backup()).await);
    let run = cluster.run(restore(point, true)).await;
    assert_eq!(run.fault.unwrap().reason, Reason::VmExists);
    let calls = cluster.fake.calls();
    assert!(!calls.contains(&"create_vm"), "{calls:?}");
    assert!(cluster.fake.things().vms.is_empty());
}

/// The targets that proxies were told to write, in order.
fn targets(cluster: &Cluster) -> Vec<proxy_api::Disk> {
    let orders = cluster.fake.orders().into_iter();
    let target = |order: proxy_api::StartTransferRequest| match order.work {
        proxy_api::Work::Restore(restore) => Some(restore.target),
        proxy_api::Work::Backup(_) | proxy_api::Work::Verify(_) | proxy_api::Work::Rewrite(_) => {
            None
        }
    };
    orders.filter_map(target).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_through_nfc_writes_the_disks_of_the_new_vm_within_a_share_of_the_host() {
    use secrecy::ExposeSecret;
    let (_dir, cluster) = cluster_with(Habits {
        gives_nfc_tickets: true,
        ..Habits::default()
    })
    .await;
    let point = point_of(&cluster.run(backup()).await);
    let run = cluster.run(restore(point, false)).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert!(run.disks.iter().all(|disk| disk.transport == "nfc"));
    assert!(run.warnings.is_empty(), "{:?}", run.warnings);
    let mut opened: Vec<(String, String)> = Vec::new();
    for target in targets(&cluster) {
        let proxy_api::Disk::Nfc(disk) = target else {
            panic!("{target:?}")
        };
        assert!(disk.in_flight_bytes >= 1 << 20, "{disk:?}");
        let ticket = disk.session_ids[0].expose_secret().to_owned();
        opened.push((disk.path, ticket));
    }
    opened.sort();
    // The keys are those of the new VM's disks, which are not those in the point.
    let expected = [2000, 2001].map(|key| {
        let ticket = format!("WriteDisk {{ key: {} }} 0", key + 1000);
        (format!("[ds] new/{key}.vmdk"), ticket)
    });
    assert_eq!(opened, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_nfc_does_not_write_is_uploaded_and_nothing_is_written_after_an_upload() {
    let (_dir, cluster) = cluster_with(Habits {
        gives_nfc_tickets: true,
        nfc_writes_fail: Some(Reason::DiskWriteFailed),
        ..Habits::default()
    })
    .await;
    let point = point_of(&cluster.run(backup()).await);
    let run = cluster.run(restore(point, false)).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert!(run.disks.iter().all(|disk| disk.transport == "folder"));
    assert_eq!(run.warnings.len(), 2, "{:?}", run.warnings);
    assert!(run.warnings[0].message.contains("another way"));
    let ways = |file: &str| {
        let targets = targets(&cluster).into_iter();
        let way = |target| match target {
            proxy_api::Disk::Nfc(disk) => (disk.path == file).then_some("nfc"),
            proxy_api::Disk::Folder(disk) => (disk.path == file).then_some("folder"),
            other => panic!("{other:?}"),
        };
        targets.filter_map(way).collect::<Vec<_>>()
    };
    assert_eq!(ways("[ds] new/2000.vmdk"), ["nfc", "folder"]);
    assert_eq!(ways("[ds] new/2001.vmdk"), ["nfc", "folder"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_lost_while_it_writes_through_nfc_is_followed_by_another_on_the_same_way() {
    let (_dir, cluster) = cluster_with(Habits {
        gives_nfc_tickets: true,
        ..Habits::default()
    })
    .await;
    let point = point_of(&cluster.run(backup()).await);
    cluster
        .fake
        .change_habits(|habits| habits.transfers_lost = 1);
    let run = cluster.run(restore(point, false)).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert!(run.disks.iter().all(|disk| disk.transport == "nfc"));
    assert_eq!(targets(&cluster).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_attaches_each_new_disk_to_the_proxy_that_writes_it_and_detaches_it() {
    let habits = Habits {
        hot_adds: true,
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    let point = point_of(&cluster.run(backup()).await);
    let run = cluster.run(restore(point, true)).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert!(run.disks.iter().all(|disk| disk.transport == "hotadd"));
    assert!(run.warnings.is_empty(), "{:?}", run.warnings);
    let targets = targets(&cluster).into_iter();
    let mut files: Vec<String> = targets
        .map(|target| match target {
            proxy_api::Disk::HotAdd(disk) => disk.path,
            other => panic!("{other:?}"),
        })
        .collect();
    files.sort();
    assert_eq!(files, ["[ds] new/2000.vmdk", "[ds] new/2001.vmdk"]);
    assert!(cluster.fake.things().attached.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_lost_with_a_disk_attached_does_not_keep_it() {
    let habits = Habits {
        hot_adds: true,
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    let point = point_of(&cluster.run(backup()).await);
    cluster
        .fake
        .change_habits(|habits| habits.transfers_lost = 1);
    // The fake does not bear a disk that is attached twice.
    let run = cluster.run(restore(point, true)).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert_eq!(targets(&cluster).len(), 3);
    assert!(cluster.fake.things().attached.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_cannot_be_attached_is_written_otherwise_and_that_is_told() {
    let habits = Habits {
        hot_adds: true,
        attaching_fails: Some(Reason::VcenterTaskFailed),
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    let point = point_of(&cluster.run(backup()).await);
    let run = cluster.run(restore(point, false)).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert!(run.disks.iter().all(|disk| disk.transport == "folder"));
    assert_eq!(run.warnings.len(), 2, "{:?}", run.warnings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_without_tickets_is_uploaded_and_says_so() {
    let (_dir, cluster) = cluster_with(Habits {
        gives_nfc_tickets: true,
        ..Habits::default()
    })
    .await;
    let point = point_of(&cluster.run(backup()).await);
    cluster
        .fake
        .change_habits(|habits| habits.gives_nfc_tickets = false);
    let run = cluster.run(restore(point, false)).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert!(run.disks.iter().all(|disk| disk.transport == "folder"));
    assert_eq!(run.warnings.len(), 2, "{:?}", run.warnings);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_with_more_disks_than_slots_is_moved_one_disk_after_the_other() {
    let disks = (2000..2007).map(|key| (key, Protectability::Protectable));
    let habits = Habits {
        disks: disks.collect(),
        transfers_last: Duration::from_millis(300),
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    // Two proxies with a slot each; a slot is waited for less long than two disks take.
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert_eq!(run.disks.len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_came_after_the_plan_is_named_and_the_run_is_not_whole() {
    let habits = Habits {
        disks_added: vec![2005],
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Incomplete, "{run:?}");
    let named = |fault: &Fault| fault.message.contains("2005");
    assert!(run.warnings.iter().any(named), "{run:?}");
    let stored = Repositories::get_point(&cluster.fake, repository(), point_of(&run));
    let manifest = stillwater_format::manifest::Manifest::decode(&stored.await.unwrap().manifest);
    assert!(!manifest.unwrap().whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_read_less_than_the_disk_makes_no_point() {
    let habits = Habits {
        roots_short_by: 4096,
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.fault.unwrap().reason, Reason::ProposalRefused);
    assert!(cluster.fake.things().points.is_empty());
    assert!(ours(&cluster.fake.things()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_session_is_used_while_disks_move_and_replaced_when_it_is_over() {
    let habits = Habits {
        transfers_hang: true,
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    let run = cluster.start(backup()).await;
    let used = async {
        // A disk whose transfer begins after the session was lost is another matter.
        while cluster.fake.things().transfers.len() < 2
            || cluster.fake.touched().values().all(|count| *count < 3)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), used)
        .await
        .expect("nobody uses the data session");
    let mut things = cluster.fake.things();
    things.accesses.clear();
    cluster.fake.set(things);
    let forgotten = async {
        let mut before = cluster.fake.touched();
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let after = cluster.fake.touched();
            if after == before {
                return;
            }
            before = after;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), forgotten)
        .await
        .expect("a session that is over is used for ever");
    cluster
        .runs
        .cancel(Actor::Console, run.run_id)
        .await
        .unwrap();
    assert_eq!(cluster.ended(run.run_id).await.state, RunState::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_lasts_as_long_as_somebody_reads_it() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    let point = point_of(&cluster.run(backup()).await);
    cluster
        .fake
        .change_habits(|habits| habits.exports_are_being_read = true);
    let run = cluster.start(export(point)).await;
    // Three times as long as an export waits for a reader.
    tokio::time::sleep(quick().export * 3).await;
    assert!(
        !cluster
            .runs
            .tell(run.run_id)
            .await
            .unwrap()
            .state
            .is_final()
    );
    cluster
        .fake
        .change_habits(|habits| habits.exports_are_read = true);
    assert_eq!(cluster.ended(run.run_id).await.state, RunState::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_fills_up_in_mid_run_ends_the_run_with_that_reason() {
    let habits = Habits {
        transfers_fail: Some(Reason::RepositoryFull),
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.fault.unwrap().reason, Reason::RepositoryFull);
    let things = cluster.fake.things();
    assert!(ours(&things).is_empty() && things.sessions.is_empty() && things.points.is_empty());
    let starts = cluster
        .fake
        .calls()
        .into_iter()
        .filter(|call| *call == "start_transfer");
    assert!(
        starts.count() <= 2,
        "what is full stays full until a person acts"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_the_journal_or_the_projection() {
    let (dir, cluster) = cluster_with(Habits::default()).await;
    let point = point_of(&cluster.run(backup()).await);
    cluster.run(restore(point, true)).await;
    cluster
        .fake
        .change_habits(|habits| habits.exports_are_being_read = true);
    let run = cluster.start(export(point)).await;
    let ticket = loop {
        let told = cluster.runs.tell(run.run_id).await.unwrap();
        if let RunKind::ExportDisk(export) = told.kind
            && let Some(access) = export.access
        {
            break *access.ticket.expose();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    cluster
        .fake
        .change_habits(|habits| habits.exports_are_read = true);
    cluster.ended(run.run_id).await;
    let state = cluster.memory.state();
    let key = state
        .datasets
        .find(dataset())
        .unwrap()
        .open_key(&secrets())
        .unwrap();
    cluster.kill().await;
    let secrets = [
        written(&ticket),
        written(key.expose()),
        vec!["cookie-".to_owned().into_bytes()],
    ];
    let mut files = vec![dir.path().to_owned()];
    let mut bytes_read = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        bytes_read += bytes.len();
        for secret in secrets.iter().flatten() {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(
                !found,
                "{} holds {}",
                path.display(),
                String::from_utf8_lossy(secret)
            );
        }
    }
    assert!(bytes_read > 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_ends_while_its_snapshot_is_removed_costs_nothing() {
    let habits = Habits {
        removals_last: Duration::from_secs(3),
        ..Habits::default()
    };
    let timing = crate::run::Timing {
        lease: quick().lease_margin + Duration::from_secs(2),
        ..quick()
    };
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open_with(dir.path(), &Fake::new(habits), timing).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_known_but_has_no_loop_cannot_be_cancelled_in_silence() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    let run = stillwater_types::RunId::mint();
    let started = crate::event::Event::Run {
        run,
        event: Box::new(crate::run::RunEvent::Started {
            request: RequestId::mint(),
            work: backup(),
        }),
    };
    cluster
        .memory
        .append(Actor::Console, started)
        .await
        .unwrap();
    let refused = cluster.runs.cancel(Actor::Console, run).await.unwrap_err();
    assert_eq!(refused.reason, Reason::StorageFailed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_many_times_at_once_is_one_run() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    for _ in 0..20 {
        let request = RequestId::mint();
        let start = || cluster.runs.start(Actor::Console, request, backup());
        let (a, b, c) = tokio::join!(start(), start(), start());
        let ids = [a, b, c].map(|run| run.expect("a run").run_id);
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        cluster.ended(ids[0]).await;
    }
}

/// A secret in every way in which somebody might write it.
fn written(secret: &[u8]) -> Vec<Vec<u8>> {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        secret.to_vec(),
        hex.into_bytes(),
        STANDARD_NO_PAD.encode(secret).into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
        serde_json::to_vec(secret).unwrap(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_that_cannot_be_read_is_done_without() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    cluster.run(backup()).await;
    cluster
        .fake
        .change_habits(|habits| habits.bases_fail = Some(Reason::ChunkHashMismatch));
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert_eq!(run.disks[0].reading, "full");
    assert_eq!(run.warnings[0].reason, Reason::ChunkHashMismatch);
    let whole = |reading: &Reading| matches!(reading, Reading::Full { areas: None });
    assert!(last_readings(&cluster).iter().all(whole));
}

fn quiescing(levels: &[Level]) -> Work {
    match backup() {
        Work::Backup(work) => Work::Backup(BackupWork {
            quiesce: levels.iter().copied().map(Rung::new).collect(),
            ..work
        }),
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rung_that_fails_is_tried_again_and_then_the_next_with_a_warning() {
    let habits = Habits {
        quiesce_fails: 2,
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert_eq!(run.warnings[0].reason, Reason::ConsistencyDowngraded);
    let file_system = Quiesce::FileSystem { timeout_minutes: 5 };
    assert_eq!(
        cluster.fake.asked(),
        [file_system, file_system, Quiesce::None]
    );
    let shown = cluster.show(point_of(&run)).await;
    assert_eq!(shown.manifest.consistency, Consistency::Crash);
    let quiescence = shown.section.quiescence.unwrap();
    assert_eq!(quiescence.achieved, Level::Crash);
    assert_eq!(quiescence.tries.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ladder_that_allows_no_less_fails_and_leaves_nothing() {
    for habits in [
        Habits {
            quiesce_fails: 9,
            ..Habits::default()
        },
        Habits {
            quiesce_is_ignored: true,
            ..Habits::default()
        },
        Habits {
            no_tools: true,
            ..Habits::default()
        },
    ] {
        let (_dir, cluster) = cluster_with(habits.clone()).await;
        let run = cluster.run(quiescing(&[Level::FileSystem])).await;
        assert_eq!(run.state, RunState::Failed, "{habits:?} {run:?}");
        assert_eq!(run.fault.unwrap().reason, Reason::QuiesceFailed);
        let things = cluster.fake.things();
        assert!(
            ours(&things).is_empty() && things.points.is_empty(),
            "{habits:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_vsphere_ignored_is_no_quiescing() {
    let habits = Habits {
        quiesce_is_ignored: true,
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert_eq!(run.warnings[0].reason, Reason::ConsistencyDowngraded);
    let shown = cluster.show(point_of(&run)).await;
    assert_eq!(shown.manifest.consistency, Consistency::Crash);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_without_tools_is_crash_consistent_and_nobody_is_warned() {
    let habits = Habits {
        no_tools: true,
        ..Habits::default()
    };
    let (_dir, cluster) = cluster_with(habits).await;
    let run = cluster.run(backup()).await;
    assert_eq!((run.state, run.warnings.len()), (RunState::Succeeded, 0));
    assert_eq!(cluster.fake.asked(), [Quiesce::None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waits_for_its_turn_holds_no_lease_and_can_be_cancelled() {
    let (_dir, cluster) = cluster_with(Habits::default()).await;
    let turn = cluster.world.snapshot_turn(&vm()).await;
    let run = cluster.start(backup()).await.run_id;
    let mut states = cluster.memory.watch();
    let freezes = |state: &std::sync::Arc<crate::memory::State>| {
        let found = state.runs.find(run);
        found.is_some_and(|run| run.stage == crate::run::Stage::Freezing)
    };
    let state = states.wait_for(freezes).await.unwrap().clone();
    assert_eq!(state.runs.find(run).unwrap().snapshot, None);
    cluster.runs.cancel(Actor::Console, run).await.unwrap();
    let ended = cluster.ended(run).await;
    assert_eq!(ended.state, RunState::Cancelled);
    assert!(!cluster.fake.calls().contains(&"create_snapshot"));
    drop(turn);
    let ended = cluster.run(backup()).await;
    assert_eq!(ended.state, RunState::Succeeded);
}
