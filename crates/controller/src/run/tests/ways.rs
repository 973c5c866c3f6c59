//! By which ways disks are moved, and what is told of it.

use stillwater_controller_api::{NodeLoad, ProxyReach, Run, RunState};
use stillwater_proxy_api as proxy_api;
use stillwater_types::Reason;

use super::world::*;

/// A cluster with one proxy, which takes both disks of a VM at a time.
async fn cluster_with(habits: Habits) -> (tempfile::TempDir, Cluster) {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &Fake::new(habits)).await;
    for (which, transfer_slots) in [(0, 4), (1, 0)] {
        let load = NodeLoad {
            transfer_slots,
            ..NodeLoad::default()
        };
        let reach = ProxyReach {
            vm_uuids: vec!["proxy-0".into()],
            ..ProxyReach::default()
        };
        cluster
            .nodes
            .note(proxy(which), "1".into(), load, Some(reach));
    }
    (dir, cluster)
}

async fn run_with(habits: Habits) -> (Run, Fake) {
    let (_dir, cluster) = cluster_with(habits).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert!(cluster.fake.things().attached.is_empty());
    (run, cluster.fake.clone())
}

fn called(fake: &Fake, name: &str) -> usize {
    fake.calls()
        .into_iter()
        .filter(|call| *call == name)
        .count()
}

fn ways(run: &Run) -> Vec<&str> {
    let disks = run.disks.iter();
    disks.map(|disk| disk.transport.as_str()).collect()
}

/// Both disks in the order of their files.
fn by_file(fake: &Fake) -> Vec<Vec<proxy_api::Disk>> {
    let works = fake.orders().into_iter().map(|order| order.work);
    let sources = works.filter_map(|work| match work {
        proxy_api::Work::Backup(backup) => Some(backup.sources),
        proxy_api::Work::Restore(_) | proxy_api::Work::Verify(_) | proxy_api::Work::Rewrite(_) => {
            None
        }
    });
    sources.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_disks_of_a_vm_are_attached_in_one_step_and_detached_in_one() {
    let (run, fake) = run_with(Habits {
        hot_adds: true,
        ..Habits::default()
    })
    .await;
    assert_eq!(ways(&run), ["hotadd", "hotadd"]);
    assert_eq!(called(&fake, "attach_disks"), 1);
    assert_eq!(called(&fake, "detach_disks"), 1);
    for disk in &run.disks {
        assert!(
            disk.transport_reason.starts_with("the proxy is a vm"),
            "{disk:?}"
        );
        assert!(!disk.transport_reason.contains("not "), "{disk:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_disks_that_do_not_all_fit_those_that_do_are_attached() {
    let (run, _) = run_with(Habits {
        hot_adds: true,
        attached_max: Some(1),
        ..Habits::default()
    })
    .await;
    let mut both = ways(&run);
    both.sort_unstable();
    assert_eq!(both, ["folder", "hotadd"]);
    let other = run.disks.iter().find(|disk| disk.transport == "folder");
    let reason = &other.unwrap().transport_reason;
    assert!(reason.contains("not hotadd: not there"), "{reason}");
    assert_eq!(run.warnings.len(), 1, "{:?}", run.warnings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_cannot_be_attached_keeps_no_other_from_it() {
    let (_, fake) = run_with(Habits::default()).await;
    let paths: Vec<String> = by_file(&fake)
        .iter()
        .filter_map(|sources| match sources.first() {
            Some(proxy_api::Disk::Folder(disk)) => Some(disk.path.clone()),
            _ => None,
        })
        .collect();
    let spoiler: &'static str = Box::leak(paths[0].clone().into_boxed_str());
    let (run, _) = run_with(Habits {
        hot_adds: true,
        attaching_is_spoiled_by: Some(spoiler),
        ..Habits::default()
    })
    .await;
    let mut both = ways(&run);
    both.sort_unstable();
    assert_eq!(both, ["folder", "hotadd"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_read_again_is_not_attached_twice() {
    let (_dir, cluster) = cluster_with(Habits {
        hot_adds: true,
        ..Habits::default()
    })
    .await;
    cluster.run(backup()).await;
    // What was shared with the first point is gone when the second is proposed.
    cluster
        .fake
        .change_habits(|habits| habits.bases_refused = 1);
    let before = cluster.fake.orders().len();
    // The fake does not bear a file that is attached twice.
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert_eq!(ways(&run), ["hotadd", "hotadd"]);
    assert_eq!(
        cluster.fake.orders().len() - before,
        4,
        "both were read twice"
    );
    assert!(cluster.fake.things().attached.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_whose_transfer_fails_is_detached_before_it_is_attached_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let habits = Habits {
        hot_adds: true,
        transfers_fail: Some(Reason::RepositoryUnreachable),
        ..Habits::default()
    };
    // Two proxies, each in a VM of its own.
    let cluster = Cluster::open(dir.path(), &Fake::new(habits)).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.fault.unwrap().reason, Reason::RepositoryUnreachable);
    let attached = called(&cluster.fake, "attach_disks");
    assert!(attached > 2, "no disk was tried again: {attached}");
    assert!(cluster.fake.things().attached.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_tells_why_the_better_ways_were_not_taken() {
    let (run, _) = run_with(Habits::default()).await;
    for disk in &run.disks {
        let expected = "it needs nothing but vcenter; \
            not hotadd: transports.hot-add is off in the controller's configuration; \
            not file: datastore ds is not mounted on the proxy; \
            not nfc: transports.nfc is off in the controller's configuration; \
            not nbd: the proxy has no transports.nbd-command";
        assert_eq!(disk.transport_reason, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_attached_could_go_on_by_its_host() {
    let (run, fake) = run_with(Habits {
        hot_adds: true,
        gives_nfc_tickets: true,
        ..Habits::default()
    })
    .await;
    assert_eq!(ways(&run), ["hotadd", "hotadd"]);
    for sources in by_file(&fake) {
        use proxy_api::Disk::{Folder, HotAdd, Nfc};
        assert!(
            matches!(sources.as_slice(), [HotAdd(_), Nfc(_), Folder(_)]),
            "{sources:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_that_is_lost_for_a_while_is_in_the_reason_of_a_restore() {
    let (_dir, cluster) = cluster_with(Habits {
        hot_adds: true,
        attaching_fails: Some(Reason::VcenterTaskFailed),
        ..Habits::default()
    })
    .await;
    let point = point_of(&cluster.run(backup()).await);
    let run = cluster.run(restore(point, false)).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    for disk in &run.disks {
        let reason = &disk.transport_reason;
        assert!(
            reason.contains("not hotadd: not there; not nfc: "),
            "{reason}"
        );
    }
}
