//! The controller may die at any step; a restart finishes or undoes what it had begun.

use std::time::Duration;

use anyhow::{Result, ensure};
use stillwater_tests::cluster::{Role, rows, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::VmSpec;
use stillwater_tests::{Cluster, Lab};

#[test]
fn a_controller_killed_at_each_call_to_vcenter_or_repository_leaves_nothing() -> Result<()> {
    let disks = Disks::new()?;
    let lab = Lab::start(&[VmSpec::new("web", vec![disks.small()?])], 16)?;
    let mut cluster = Cluster::start()?;
    cluster.add_lab(&lab)?;
    for method in [
        "CreateSnapshotEx_Task",
        "QueryChangedDiskAreas",
        "folder-get",
        "RemoveSnapshot_Task",
    ] {
        let before = rows(&cluster.json(&["point", "list"])?).len();
        // The call hangs, the controller dies while it waits.
        lab.fault(method, "hang:2", 0, 1)?;
        let calls = lab.calls(method)?;
        let run = cluster.start_run(&["backup", "web"])?;
        wait("the call is under way", Duration::from_secs(60), || {
            Ok((lab.calls(method)? > calls).then_some(()))
        })?;
        cluster.kill_role(Role::Controller)?;
        lab.control("DELETE", "/faults", None)?;
        cluster.start_role(Role::Controller)?;
        cluster.wait_online(2)?;
        let ended = cluster.wait_run(&run, Duration::from_secs(90))?;
        wait("no snapshot is left", Duration::from_secs(60), || {
            Ok(lab.snapshots()?.is_empty().then_some(()))
        })?;
        let points = rows(&cluster.json(&["point", "list"])?).len() - before;
        let whole = ended["state"] == "succeeded" && points == 1;
        let absent = ended["state"] == "failed" && points == 0;
        ensure!(whole || absent, "{method}: {points} points, {ended:#}");
    }
    cluster.backup("web", "succeeded").map(drop)
}

#[test]
fn roles_end_in_good_order_when_they_are_told_to() -> Result<()> {
    let mut cluster = Cluster::start()?;
    for role in [Role::Proxy, Role::Repository, Role::Controller] {
        cluster.stop_role(role)?;
    }
    Ok(())
}
