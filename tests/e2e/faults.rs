//! Each fault of the world ends in a typed reason, leaves no snapshot, and the next run succeeds.

use std::time::Duration;

use anyhow::{Result, ensure};
use stillwater_tests::Site;
use stillwater_tests::cluster::{Role, rows, text};

#[test]
fn a_range_read_that_is_not_what_was_asked_fails_typed() -> Result<()> {
    let site = Site::small()?;
    for kind in ["status-200", "short", "wrong-range", "http-503"] {
        site.lab.fault("folder-get", kind, 2, 1000)?;
        let ended = site.run_to_end()?;
        ensure!(ended["state"] == "failed", "{kind}: {ended:#}");
        ensure!(
            ended["fault"]["reason"] == "DISK_READ_FAILED",
            "{kind}: {ended:#}"
        );
        ensure!(
            rows(&site.cluster.json(&["point", "list"])?).is_empty(),
            "{kind} made a point"
        );
        site.lab.control("DELETE", "/faults", None)?;
    }
    site.check_recovers()
}

#[test]
fn a_hiccup_of_the_data_path_is_survived() -> Result<()> {
    let site = Site::small()?;
    site.lab.fault("folder-get", "drop", 3, 1)?;
    let ended = site.run_to_end()?;
    ensure!(ended["state"] == "succeeded", "{ended:#}");
    site.check_recovers()
}

#[test]
fn a_session_that_expires_in_mid_run_is_renewed_or_fails_typed() -> Result<()> {
    let site = Site::small()?;
    site.slow_down(16 << 20)?;
    let run = site.cluster.start_run(&["backup", "web"])?;
    site.wait_reading(&run)?;
    site.lab.control("POST", "/sessions/expire", None)?;
    let ended = site.cluster.wait_run(&run, Duration::from_secs(150))?;
    let state = text(&ended, "state")?;
    ensure!(state == "succeeded" || state == "failed", "{ended:#}");
    ensure!(
        state == "succeeded" || ended["fault"]["reason"].is_string(),
        "{ended:#}"
    );
    site.check_recovers()
}

#[test]
fn a_snapshot_that_cannot_be_made_fails_typed() -> Result<()> {
    let site = Site::small()?;
    site.lab.fault(
        "CreateSnapshotEx_Task",
        "task-error:TooManySnapshotLevels",
        0,
        1,
    )?;
    let ended = site.run_to_end()?;
    ensure!(ended["fault"]["reason"] == "SNAPSHOT_FAILED", "{ended:#}");
    site.check_recovers()
}

#[test]
fn a_snapshot_whose_answer_was_lost_is_found_and_removed() -> Result<()> {
    let site = Site::small()?;
    site.lab
        .fault("CreateSnapshotEx_Task", "drop-after", 0, 1)?;
    let ended = site.run_to_end()?;
    ensure!(
        ended["state"] == "succeeded" || ended["state"] == "failed",
        "{ended:#}"
    );
    site.check_recovers()
}

#[test]
fn a_snapshot_that_resists_removal_once_is_removed_later() -> Result<()> {
    let site = Site::small()?;
    site.lab
        .fault("RemoveSnapshot_Task", "task-error:FileFault", 0, 2)?;
    site.run_to_end()?;
    site.check_recovers()
}

#[test]
fn a_change_map_that_is_refused_means_a_full_read() -> Result<()> {
    let site = Site::small()?;
    site.lab
        .fault("QueryChangedDiskAreas", "fault:FileFault", 0, 100)?;
    let ended = site.run_to_end()?;
    ensure!(
        ended["state"] == "succeeded",
        "a hint that fails is no reason to fail: {ended:#}"
    );
    site.check_recovers()
}

#[test]
fn a_foreign_snapshot_is_never_touched() -> Result<()> {
    let site = Site::small()?;
    let body = serde_json::json!({"name": "before-upgrade"});
    site.lab.control("POST", "/vm/web/snapshot", Some(&body))?;
    site.run_to_end()?;
    let left = site.lab.snapshots()?;
    ensure!(
        left.len() == 1 && left[0].name == "before-upgrade",
        "{left:?}"
    );
    Ok(())
}

#[test]
fn a_repository_that_is_down_means_no_snapshot() -> Result<()> {
    let mut site = Site::small()?;
    site.cluster.kill_role(Role::Repository)?;
    let before = site.lab.calls("CreateSnapshotEx_Task")?;
    let output = site.cluster.run(&["backup", "web", "--follow"])?;
    ensure!(
        !output.status.success(),
        "it cannot succeed without a repository"
    );
    ensure!(
        site.lab.calls("CreateSnapshotEx_Task")? == before,
        "the VM was frozen for nothing"
    );
    site.cluster.start_role(Role::Repository)?;
    site.cluster.wait_online(2)?;
    site.check_recovers()
}

#[test]
fn a_repository_that_dies_in_mid_run_costs_the_run_at_most() -> Result<()> {
    let mut site = Site::small()?;
    site.slow_down(8 << 20)?;
    let run = site.cluster.start_run(&["backup", "web"])?;
    site.wait_reading(&run)?;
    site.cluster.kill_role(Role::Repository)?;
    site.cluster.start_role(Role::Repository)?;
    site.slow_down(0)?;
    let ended = site.cluster.wait_run(&run, Duration::from_secs(150))?;
    ensure!(ended["state"] != "incomplete", "{ended:#}");
    site.cluster.wait_online(2)?;
    site.check_recovers()
}

#[test]
fn a_proxy_that_dies_in_mid_disk_costs_the_run_at_most() -> Result<()> {
    let mut site = Site::small()?;
    site.slow_down(8 << 20)?;
    let run = site.cluster.start_run(&["backup", "web"])?;
    site.wait_reading(&run)?;
    site.cluster.kill_role(Role::Proxy)?;
    site.cluster.start_role(Role::Proxy)?;
    site.slow_down(0)?;
    let ended = site.cluster.wait_run(&run, Duration::from_secs(150))?;
    ensure!(ended["state"] != "incomplete", "{ended:#}");
    site.cluster.wait_online(2)?;
    site.check_recovers()
}
