//! Each fault of the world ends in a typed reason, leaves no snapshot, and the next run succeeds.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use stillwater_tests::cluster::{Role, rows, text, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::VmSpec;
use stillwater_tests::{Cluster, Lab};

struct Site {
    lab: Lab,
    cluster: Cluster,
}

fn site() -> Result<Site> {
    let disks = Disks::new()?;
    let lab = Lab::start(&[VmSpec::new("web", vec![disks.small()?])], 16)?;
    let cluster = Cluster::start()?;
    cluster.add_lab(&lab)?;
    Ok(Site { lab, cluster })
}

impl Site {
    fn run_to_end(&self) -> Result<Value> {
        let run = self.cluster.start_run(&["backup", "web"])?;
        self.cluster.wait_run(&run, Duration::from_secs(150))
    }

    fn slow_down(&self, bytes_per_second: u64) -> Result<()> {
        let body = serde_json::json!({"folder_bytes_per_second": bytes_per_second});
        self.lab.control("POST", "/delay", Some(&body)).map(drop)
    }

    fn wait_reading(&self, run: &str) -> Result<()> {
        wait("bytes move", Duration::from_secs(60), || {
            let shown = self.cluster.json(&["run", "show", run])?;
            let read = rows(&shown["disks"])
                .iter()
                .filter_map(|d| d["read_bytes"].as_u64())
                .sum();
            Ok((0u64 < read).then_some(()))
        })
    }

    /// Whatever happened: no snapshot within a minute, whole points only, and a good next run.
    fn check_recovers(&self) -> Result<()> {
        self.lab.control("DELETE", "/faults", None)?;
        self.slow_down(0)?;
        wait("no snapshot is left", Duration::from_secs(60), || {
            Ok(self.lab.snapshots()?.is_empty().then_some(()))
        })?;
        let run = self.cluster.backup("web", "succeeded")?;
        let point = text(&run["backup"], "point_id")?;
        let to = self
            .cluster
            .dir()
            .join("after.raw")
            .to_string_lossy()
            .into_owned();
        let disk = self.lab.last_frozen("web")?.remove(0);
        let key = disk.key.to_string();
        self.cluster.ok(&[
            "restore", "disk", &point, "--disk", &key, "--to", &to, "--force",
        ])?;
        let same = stillwater_tests::cluster::hash(to.as_ref())?
            == stillwater_tests::cluster::hash(&disk.file)?;
        ensure!(same, "the point after the fault differs");
        Ok(())
    }
}

#[test]
fn a_range_read_that_is_not_what_was_asked_fails_typed() -> Result<()> {
    let site = site()?;
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
    let site = site()?;
    site.lab.fault("folder-get", "drop", 3, 1)?;
    let ended = site.run_to_end()?;
    ensure!(ended["state"] == "succeeded", "{ended:#}");
    site.check_recovers()
}

#[test]
fn a_session_that_expires_in_mid_run_is_renewed_or_fails_typed() -> Result<()> {
    let site = site()?;
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
    let site = site()?;
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
    let site = site()?;
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
    let site = site()?;
    site.lab
        .fault("RemoveSnapshot_Task", "task-error:FileFault", 0, 2)?;
    site.run_to_end()?;
    site.check_recovers()
}

#[test]
fn a_change_map_that_is_refused_means_a_full_read() -> Result<()> {
    let site = site()?;
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
    let site = site()?;
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
    let mut site = site()?;
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
    let mut site = site()?;
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
    let mut site = site()?;
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
