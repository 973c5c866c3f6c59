//! What the reaper removes, and what it never touches.

use jiff::{SignedDuration, Timestamp};
use stillwater_types::{ClusterId, Reason, RunId, VmId};

use super::world::*;
use crate::alarm::{AlarmKind, Subject};
use crate::run::lease::Lease;
use crate::run::marker::Marker;
use crate::run::outside::LeasedSnapshot;
use crate::run::reaper::{Leftover, Reaper, Standing, is_leftover};

/// A lease that is over, of a run that no journal knows.
fn lease(cluster: ClusterId) -> Lease {
    Lease {
        cluster,
        run: RunId::mint(),
        expires_at: "2025-11-23T12:00:00Z".parse().unwrap(),
    }
}

#[track_caller]
fn check(is_ours: bool, standing: Standing, left_seconds: i64, expected: bool) {
    let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    let lease = Lease {
        cluster: if is_ours {
            cluster()
        } else {
            ClusterId::mint()
        },
        run: RunId::mint(),
        expires_at: now + SignedDuration::from_secs(left_seconds),
    };
    assert_eq!(is_leftover(&lease, cluster(), standing, now), expected);
}

#[test]
fn a_snapshot_of_a_run_that_is_over_is_a_leftover_and_a_lease_counts_where_nothing_is_known() {
    check(true, Standing::Ended, 3600, true);
    check(true, Standing::Active, -3600, false);
    // The journal was lost, or is an old copy beside a controller that is at work.
    check(true, Standing::Unknown, 3600, false);
    check(true, Standing::Unknown, -1, true);
    for standing in [Standing::Ended, Standing::Unknown] {
        check(false, standing, -3600, false);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_of_a_lost_journal_are_found_by_inventory_when_their_lease_is_over_and_no_other_is_touched()
 {
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
        let at_work = Lease {
            expires_at: "2096-11-23T12:00:00Z".parse().unwrap(),
            ..lease(cluster())
        };
        snapshots.push(("still-leased".into(), at_work.to_string()));
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
            breathe().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), reaped)
        .await
        .unwrap();
    assert_eq!(
        left(),
        ["foreign-0", "still-leased", "other-cluster", "quoted"]
    );
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
            breathe().await;
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
            _ => breathe().await,
        }
    };
    fake.fail_every("remove_snapshot");
    cluster
        .world
        .stuck()
        .push(Leftover::Snapshot(LeasedSnapshot { vm: vm(), lease }));
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
async fn a_removal_that_takes_long_keeps_none_elsewhere_waiting() {
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
            breathe().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), reaped)
        .await
        .expect("waits for another vm");
    assert_eq!(fake.things().snapshots["vm-0"].len(), 1);
    cluster.kill().await;
}

async fn merged(fake: &Fake) {
    let merged = async {
        while !fake.things().deltas.is_empty() {
            breathe().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), merged)
        .await
        .expect("deltas are left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_that_a_removal_left_are_told_and_merged_later() {
    let fake = Fake::new(Habits {
        removals_leave_deltas: true,
        ..Habits::default()
    });
    let dir = tempfile::tempdir().unwrap();
    // Searches are rare: only what the run left behind tells the reaper.
    let timing = crate::run::Timing {
        search_every: std::time::Duration::from_secs(3600),
        ..quick()
    };
    let cluster = Cluster::open_with(dir.path(), &fake, timing).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, stillwater_controller_api::RunState::Succeeded);
    assert!(
        run.warnings
            .iter()
            .any(|warning| warning.message.contains("deltas")),
        "{run:?}"
    );
    merged(&fake).await;
    cluster.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_are_found_after_a_restart_on_vms_that_were_backed_up_and_on_no_others() {
    let fake = Fake::new(Habits::default());
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &fake).await;
    cluster.run(backup()).await;
    cluster.kill().await;
    let things = Things {
        deltas: [(vm().moref, 1), ("vm-7".to_owned(), 0)].into(),
        ..fake.things()
    };
    fake.set(things);
    let cluster = Cluster::open(dir.path(), &fake).await;
    let reaped = async {
        while fake.things().deltas.contains_key(&vm().moref) {
            breathe().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), reaped)
        .await
        .expect("deltas are left");
    assert!(
        fake.things().deltas.contains_key("vm-7"),
        "not ours to merge"
    );
    cluster.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_resists_for_long_is_an_alarm_until_it_is_gone() {
    let fake = Fake::new(Habits::default());
    let dir = tempfile::tempdir().unwrap();
    let timing = crate::run::Timing {
        alarm_after: std::time::Duration::from_millis(20),
        ..quick()
    };
    let cluster = Cluster::open_with(dir.path(), &fake, timing).await;
    fake.fail_every("remove_snapshot");
    cluster.run(backup()).await;
    let standing = || -> Vec<(AlarmKind, Subject)> {
        let state = cluster.memory.state();
        let standing = state.alarms.standing();
        standing
            .map(|alarm| (alarm.kind, alarm.subject.clone()))
            .collect()
    };
    let until = |is_raised: bool| {
        let waited = async move {
            while standing().is_empty() == is_raised {
                breathe().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), waited)
    };
    until(true).await.expect("no alarm");
    assert_eq!(
        standing(),
        [(AlarmKind::LeftoverSnapshot, Subject::Vm(vm()))]
    );
    fake.forget_failing();
    until(false).await.expect("the alarm stands for ever");
    assert!(ours(&fake.things()).is_empty());
    cluster.kill().await;
}

fn attach(fake: &Fake, vm: &str, files: &[&str]) {
    let mut things = fake.things();
    let there = things.attached.entry(vm.into()).or_default();
    there.extend(files.iter().map(|&file| file.to_owned()));
    fake.set(things);
}

fn attached(fake: &Fake) -> Vec<String> {
    let attached = fake.things().attached;
    attached.into_values().flatten().collect()
}

fn standing(cluster: &Cluster) -> Vec<(AlarmKind, Subject)> {
    let state = cluster.memory.state();
    let standing = state.alarms.standing();
    standing
        .map(|alarm| (alarm.kind, alarm.subject.clone()))
        .collect()
}

fn on(moref: &str) -> VmId {
    VmId {
        moref: moref.into(),
        ..vm()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_on_a_lost_snapshot_is_detached_before_it_goes_and_nothing_else() {
    let fake = Fake::new(Habits::default());
    let mut things = fake.things();
    let snapshots = things.snapshots.entry(vm().moref).or_default();
    snapshots.push(("lost".into(), lease(cluster()).to_string()));
    fake.set(things);
    attach(
        &fake,
        "vm-proxy-0",
        &[
            "[ds] web/web-2000.vmdk",
            "[ds] web/web-9.vmdk",
            "[ds] own/data.vmdk",
        ],
    );
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &fake).await;
    cluster.settled().await;
    let left = ["[ds] own/data.vmdk", "[ds] web/web-9.vmdk"];
    assert_eq!(attached(&fake), left);
    let calls = fake.calls();
    let first = |name| calls.iter().position(|call| *call == name);
    assert!(
        first("detach_disks") < first("remove_snapshot"),
        "{calls:?}"
    );
    // The disk of another VM that nothing explains is told, the one that is nobody's is not.
    let told = async {
        while standing(&cluster).is_empty() {
            breathe().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), told)
        .await
        .expect("nobody is told");
    let expected = [(AlarmKind::StrayDisk, on("vm-proxy-0").into())];
    assert_eq!(standing(&cluster), expected);
    let state = cluster.memory.state();
    let message = &state.alarms.standing().next().unwrap().message;
    assert!(
        message.contains("[ds] web/web-9.vmdk of vm web"),
        "{message}"
    );
    assert!(!message.contains("own/data"), "{message}");
    assert_eq!(attached(&fake), left);
    let mut things = fake.things();
    things.attached.clear();
    fake.set(things);
    let cleared = async {
        while !standing(&cluster).is_empty() {
            breathe().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), cleared)
        .await
        .expect("the alarm stands for ever");
    cluster.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_stays_while_a_vm_that_is_no_proxy_stands_on_it() {
    let fake = Fake::new(Habits::default());
    let mut things = fake.things();
    let snapshots = things.snapshots.entry(vm().moref).or_default();
    snapshots.push(("lost".into(), lease(cluster()).to_string()));
    fake.set(things);
    attach(&fake, "vm-strange", &["[ds] web/web-2000.vmdk"]);
    let dir = tempfile::tempdir().unwrap();
    let timing = crate::run::Timing {
        alarm_after: std::time::Duration::from_millis(20),
        ..quick()
    };
    let cluster = Cluster::open_with(dir.path(), &fake, timing).await;
    let told = async {
        while standing(&cluster).is_empty() {
            breathe().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), told)
        .await
        .expect("nobody is told");
    let state = cluster.memory.state();
    let alarm = state.alarms.standing().next().unwrap();
    assert_eq!(alarm.kind, AlarmKind::LeftoverSnapshot);
    let command = "govc device.remove -vm \"vm-strange\" -keep disk-1000-1";
    assert!(alarm.message.contains(command), "{}", alarm.message);
    assert_eq!(attached(&fake), ["[ds] web/web-2000.vmdk"]);
    assert!(!fake.calls().contains(&"remove_snapshot"));
    assert_eq!(ours(&fake.things()).len(), 1);
    cluster.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_live_lease_or_a_run_explains_is_neither_detached_nor_told() {
    let fake = Fake::new(Habits {
        transfers_hang: true,
        hot_adds: true,
        ..Habits::default()
    });
    let at_work = Lease {
        expires_at: "2096-11-23T12:00:00Z".parse().unwrap(),
        ..lease(cluster())
    };
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &fake).await;
    let run = cluster.start(backup()).await;
    let running = async {
        while attached(&fake).is_empty() {
            breathe().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), running)
        .await
        .unwrap();
    rounds(&fake).await;
    assert_eq!(standing(&cluster), []);
    assert!(!attached(&fake).is_empty());
    cluster
        .runs
        .cancel(crate::event::Actor::Console, run.run_id)
        .await
        .unwrap();
    cluster.ended(run.run_id).await;
    let mut things = fake.things();
    let snapshots = things.snapshots.entry(vm().moref).or_default();
    snapshots.push(("a probe's".into(), at_work.to_string()));
    fake.set(things);
    attach(&fake, "vm-proxy-0", &["[ds] web/web-2000.vmdk"]);
    rounds(&fake).await;
    assert_eq!(standing(&cluster), []);
    assert_eq!(attached(&fake), ["[ds] web/web-2000.vmdk"]);
    cluster.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_seen_once_is_not_told_yet() {
    let fake = Fake::new(Habits::default());
    let dir = tempfile::tempdir().unwrap();
    // The cluster's own reaper sleeps after its first round; every round of ours is a search.
    let timing = crate::run::Timing {
        reap_every: std::time::Duration::from_secs(3600),
        search_every: std::time::Duration::ZERO,
        ..quick()
    };
    let cluster = Cluster::open_with(dir.path(), &fake, timing).await;
    while !fake.calls().contains(&"unfinished_vms") {
        breathe().await;
    }
    let mut reaper = Reaper::new(std::sync::Arc::clone(&cluster.world));
    let stray = [(AlarmKind::StrayDisk, on("vm-proxy-0").into())];
    attach(&fake, "vm-proxy-0", &["[ds] web/web-9.vmdk"]);
    reaper.round().await;
    assert_eq!(standing(&cluster), []);
    reaper.round().await;
    assert_eq!(standing(&cluster), stray);
    let mut things = fake.things();
    things.attached.clear();
    fake.set(things);
    reaper.round().await;
    assert_eq!(standing(&cluster), []);
    cluster.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_a_restore_writes_is_explained_by_its_run() {
    let fake = Fake::new(Habits {
        hot_adds: true,
        ..Habits::default()
    });
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &fake).await;
    let point = point_of(&cluster.run(backup()).await);
    fake.change_habits(|habits| habits.transfers_hang = true);
    let run = cluster.start(restore(point, false)).await;
    let running = async {
        while attached(&fake).is_empty() {
            breathe().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), running)
        .await
        .unwrap();
    rounds(&fake).await;
    assert_eq!(standing(&cluster), []);
    assert_eq!(
        fake.things().vms.len(),
        1,
        "the vm of a run at work is gone"
    );
    cluster
        .runs
        .cancel(crate::event::Actor::Console, run.run_id)
        .await
        .unwrap();
    cluster.ended(run.run_id).await;
    assert!(fake.things().vms.is_empty());
    cluster.kill().await;
}

/// Waits until the reaper has searched a few times more.
async fn rounds(fake: &Fake) {
    let count = || {
        let calls = fake.calls();
        calls
            .iter()
            .filter(|call| **call == "unfinished_vms")
            .count()
    };
    let before = count();
    let searched = async {
        while count() < before + 4 {
            breathe().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), searched)
        .await
        .expect("no search");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_made_vm_of_a_failed_restore_is_removed_and_one_of_a_lost_journal_is_told() {
    let fake = Fake::new(Habits::default());
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &fake).await;
    let point = point_of(&cluster.run(backup()).await);
    fake.fail_every("destroy_vm");
    fake.change_habits(|habits| habits.transfers_fail = Some(Reason::DiskWriteFailed));
    let failed = cluster.run(restore(point, false)).await;
    assert_eq!(failed.state, stillwater_controller_api::RunState::Failed);
    assert_eq!(fake.things().vms.len(), 1, "it could not be removed");
    // A restore that another journal knows, one that is whole, and one of another cluster.
    let mark = |cluster| Marker {
        cluster,
        run: RunId::mint(),
    };
    let whole = mark(crate::run::tests::world::cluster());
    let mut things = fake.things();
    for (moref, notes) in [
        ("vm-lost", mark(whole.cluster).annotate(None)),
        ("vm-whole", whole.to_string()),
        ("vm-other", mark(ClusterId::mint()).annotate(None)),
    ] {
        things.vms.insert(moref.into(), notes);
    }
    fake.set(things);
    fake.forget_failing();
    let told = async {
        while fake.things().vms.len() > 3 || standing(&cluster).is_empty() {
            breathe().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), told)
        .await
        .expect("the half-made vm stays, or nobody is told");
    rounds(&fake).await;
    let left: Vec<String> = fake.things().vms.into_keys().collect();
    assert_eq!(left, ["vm-lost", "vm-other", "vm-whole"]);
    let expected = [(AlarmKind::HalfMadeVm, on("vm-lost").into())];
    assert_eq!(standing(&cluster), expected);
    cluster.kill().await;
}

/// Between two looks at the world, so that others get its lock.
async fn breathe() {
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
}
