//! Which proxies runs use while proxies are drained.

use std::collections::BTreeSet;
use std::time::Duration;

use stillwater_controller_api::{NodeLoad, Run, RunState};
use stillwater_scheduler::Transport;
use stillwater_types::{NodeId, Reason};
use stillwater_vsphere::Protectability;

use super::world::*;
use crate::event::Actor;
use crate::node::{NodeEvent, NodeInfo};
use crate::run::{BackupWork, Work};

/// Seven disks that take a while each, and two proxies with a slot each.
async fn cluster() -> (tempfile::TempDir, Cluster) {
    let disks = (2000..2007).map(|key| (key, Protectability::Protectable));
    let habits = Habits {
        disks: disks.collect(),
        transfers_last: Duration::from_millis(300),
        ..Habits::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), &Fake::new(habits)).await;
    (dir, cluster)
}

async fn drain(cluster: &Cluster, which: u8) {
    let node = proxy(which);
    let begun = NodeEvent::DrainBegun { node };
    cluster.memory.append(Actor::Console, begun).await.unwrap();
}

/// Starts a backup and waits until both proxies have a disk.
async fn at_work(cluster: &Cluster) -> Run {
    let run = cluster.start(backup()).await;
    let at_work = async {
        while cluster.fake.orders().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, at_work)
        .await
        .expect("disks are moved");
    run
}

fn count_on(run: &Run, name: &str) -> usize {
    let disks = run.disks.iter();
    disks.filter(|disk| disk.proxy_name == name).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_drains_gets_no_run_until_it_drains_no_more() {
    let (_dir, cluster) = cluster().await;
    drain(&cluster, 1).await;
    let run = cluster.run(backup()).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert_eq!(count_on(&run, "proxy-0"), 7, "{run:?}");
    let ended = NodeEvent::DrainEnded { node: proxy(1) };
    cluster.memory.append(Actor::Console, ended).await.unwrap();
    let run = cluster.run(backup()).await;
    assert!(count_on(&run, "proxy-1") > 1, "{run:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_leaves_a_proxy_that_begins_to_drain_when_its_disk_is_moved() {
    let (_dir, cluster) = cluster().await;
    let run = at_work(&cluster).await;
    drain(&cluster, 1).await;
    let run = cluster.ended(run.run_id).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    assert_eq!(count_on(&run, "proxy-1"), 1, "{run:?}");
    assert_eq!(count_on(&run, "proxy-0"), 6, "{run:?}");
    let orders = cluster.fake.orders();
    assert_eq!(orders.len(), 7, "no disk was moved twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_where_it_began_when_every_proxy_drains_and_no_other_freezes_a_vm() {
    let (dir, cluster) = cluster().await;
    let run = at_work(&cluster).await;
    drain(&cluster, 0).await;
    drain(&cluster, 1).await;
    let run = cluster.ended(run.run_id).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    let fake = cluster.fake.clone();
    cluster.kill().await;
    // A restart changes nothing about it.
    let cluster = Cluster::open(dir.path(), &fake).await;
    let snapshots = || {
        let calls = fake.calls();
        calls
            .iter()
            .filter(|call| **call == "create_snapshot")
            .count()
    };
    let before = snapshots();
    assert!(before > 0, "{:?}", fake.calls());
    let refused = cluster.run(backup()).await;
    let fault = refused.fault.expect("no proxy takes it");
    assert_eq!(fault.reason, Reason::NoProxySlot);
    assert_eq!(snapshots(), before, "the vm was frozen for nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_could_not_be_called_comes_last_until_it_is_heard_of() {
    let (_dir, cluster) = cluster().await;
    let slots = &cluster.world.slots;
    let none = BTreeSet::new();
    let load = NodeLoad {
        transfer_slots: 3,
        ..NodeLoad::default()
    };
    let alike = |_: &NodeInfo| Transport::Folder;
    cluster.nodes.note(proxy(1), "1".into(), load, None);
    let order = |count: usize| {
        let permits: Vec<_> = (0..count)
            .filter_map(|_| slots.take(&none, &alike))
            .collect();
        let proxies: Vec<_> = permits.iter().map(|permit| permit.proxy.node).collect();
        proxies
    };
    assert_eq!(order(1), [proxy(1)], "it has most free");
    cluster.nodes.doubt(proxy(1));
    let doubted = [proxy(0), proxy(1), proxy(1), proxy(1)];
    assert_eq!(order(9), doubted, "it is used when the other has none");
    cluster.nodes.note(proxy(1), "1".into(), load, None);
    assert_eq!(order(1), [proxy(1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_with_the_best_way_to_a_disk_comes_first_until_it_has_no_slot() {
    let (_dir, cluster) = cluster().await;
    let slots = &cluster.world.slots;
    let load = NodeLoad {
        transfer_slots: 3,
        ..NodeLoad::default()
    };
    cluster.nodes.note(proxy(1), "1".into(), load, None);
    let way = |info: &NodeInfo| match info.node == proxy(0) {
        true => Transport::File,
        false => Transport::Folder,
    };
    let take = |avoid: &BTreeSet<_>, count: usize| {
        let permits: Vec<_> = (0..count).filter_map(|_| slots.take(avoid, &way)).collect();
        let proxies: Vec<_> = permits.iter().map(|permit| permit.proxy.node).collect();
        proxies
    };
    let order = [proxy(0), proxy(1), proxy(1), proxy(1)];
    assert_eq!(take(&BTreeSet::new(), 9), order);
    assert_eq!(
        take(&[proxy(0)].into(), 1),
        [proxy(1)],
        "it failed the disk"
    );
    cluster.nodes.doubt(proxy(0));
    assert_eq!(take(&BTreeSet::new(), 1), [proxy(1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_that_are_alike_take_turns_also_when_work_comes_one_by_one() {
    let (_dir, cluster) = cluster().await;
    let slots = &cluster.world.slots;
    let alike = |_: &NodeInfo| Transport::Folder;
    let load = cluster.nodes.member(proxy(0)).unwrap().load;
    for n in 0..2 {
        cluster.nodes.note(proxy(n), n.to_string(), load, None);
    }
    let one_by_one = |count: usize| -> Vec<NodeId> {
        let take = |_| Some(slots.take(&BTreeSet::new(), &alike)?.proxy.node);
        (0..count).filter_map(take).collect()
    };
    let first = one_by_one(2);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 2, "{first:?}");
    assert_eq!(one_by_one(2), first, "in the same order again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_disks_of_a_vm_move_at_once_than_its_policy_allows() {
    let (_dir, cluster) = cluster().await;
    let one_by_one = match backup() {
        Work::Backup(work) => Work::Backup(BackupWork {
            disks_at_once: Some(1),
            ..work
        }),
        other => other,
    };
    let run = cluster.run(one_by_one).await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    let counts = ["proxy-0", "proxy-1"].map(|name| count_on(&run, name));
    assert!(
        counts.contains(&7),
        "the other proxy is left alone: {counts:?}"
    );
    let run = cluster.run(backup()).await;
    let counts = ["proxy-0", "proxy-1"].map(|name| count_on(&run, name));
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}
