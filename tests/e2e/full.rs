//! A repository without room: nothing is frozen for nothing, nothing is lost, restores go on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stillwater_tests::cluster::{Role, hash, rows, text};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, VmSpec};
use stillwater_tests::volume::Volume;
use stillwater_tests::{Cluster, Lab};

struct Site {
    lab: Lab,
    cluster: Cluster,
    /// Unmounted last.
    volume: Volume,
}

fn site(vms: &[VmSpec]) -> Result<Option<Site>> {
    site_with(vms, "")
}

fn site_with(vms: &[VmSpec], settings: &str) -> Result<Option<Site>> {
    let Some(volume) = Volume::mount(112)? else {
        eprintln!("not tried: mounting a small file system needs root");
        return Ok(None);
    };
    let lab = Lab::start(vms, 16)?;
    let store = volume.path().join("store");
    let cluster = Cluster::with_repository(&format!(
        "[store]\ndir = {store:?}\nreserve = \"8MiB\"\n{settings}"
    ))?;
    cluster.add_lab(&lab)?;
    Ok(Some(Site {
        lab,
        cluster,
        volume,
    }))
}

#[test]
fn a_repository_that_is_full_before_the_run_means_no_snapshot() -> Result<()> {
    let disks = Disks::new()?;
    let vms = [VmSpec::new(
        "web",
        vec![DiskSpec::new(disks.tiny(256 << 20)?)],
    )];
    let Some(site) = site(&vms)? else {
        return Ok(());
    };
    let filler = site.volume.fill(90)?;
    let stderr = site.cluster.run(&["backup", "web", "--follow"])?;
    let said = String::from_utf8_lossy(&stderr.stderr).into_owned();
    ensure!(
        stderr.status.code() == Some(7) && said.contains("REPOSITORY_FULL"),
        "{said}"
    );
    ensure!(
        site.lab.calls("CreateSnapshotEx_Task")? == 0,
        "the VM was frozen for nothing"
    );
    std::fs::remove_file(filler)?;
    site.cluster.backup("web", "succeeded").map(drop)
}

#[test]
fn a_repository_that_fills_up_in_mid_run_fails_it_and_still_restores() -> Result<()> {
    let disks = Disks::new()?;
    let vms = [
        VmSpec::new("early", vec![DiskSpec::new(disks.tiny(16 << 20)?)]),
        VmSpec::new("large", vec![DiskSpec::new(disks.random(160 << 20)?)]),
    ];
    let Some(site) = site(&vms)? else {
        return Ok(());
    };
    let run = site.cluster.backup("early", "succeeded")?;
    let point = text(&run["backup"], "point_id")?;

    let run = site.cluster.start_run(&["backup", "large"])?;
    let ended = site.cluster.wait_run(&run, Duration::from_secs(150))?;
    ensure!(ended["state"] == "failed", "{ended:#}");
    ensure!(ended["fault"]["reason"] == "REPOSITORY_FULL", "{ended:#}");
    ensure!(site.lab.snapshots()?.is_empty(), "a snapshot was left");
    ensure!(
        rows(&site.cluster.json(&["point", "list"])?).len() == 1,
        "a half point was left"
    );

    let frozen = site.lab.last_frozen("early")?.remove(0);
    let file = site.cluster.dir().join("early.raw");
    let to = file.to_str().context("utf-8")?;
    let key = frozen.key.to_string();
    site.cluster
        .ok(&["restore", "disk", &point, "--disk", &key, "--to", to])?;
    ensure!(
        hash(&file)? == hash(&frozen.file)?,
        "the earlier point differs"
    );
    Ok(())
}

#[test]
fn without_any_room_a_start_restores_deletes_and_collects_and_takes_no_backup() -> Result<()> {
    let disks = Disks::new()?;
    let vms = [
        VmSpec::new("kept", vec![DiskSpec::new(disks.tiny(16 << 20)?)]),
        VmSpec::new("gone", vec![DiskSpec::new(disks.random(24 << 20)?)]),
    ];
    let now = "retention = \"0s\"\ncondemn-wait = \"0s\"\nquarantine-wait = \"0s\"";
    let Some(mut site) = site_with(&vms, now)? else {
        return Ok(());
    };
    let back_up = |vm: &str| -> Result<String> {
        let run = site.cluster.backup(vm, "succeeded")?;
        text(&run["backup"], "point_id")
    };
    let (kept, gone) = (back_up("kept")?, back_up("gone")?);
    site.cluster.stop_role(Role::Repository)?;
    let filler = site.volume.fill_up()?;
    site.cluster.start_role(Role::Repository)?;
    site.cluster.wait_online(2)?;

    let frozen = site.lab.last_frozen("kept")?.remove(0);
    let file = site.cluster.dir().join("kept.raw");
    let (to, key) = (file.to_str().context("utf-8")?, frozen.key.to_string());
    site.cluster
        .ok(&["restore", "disk", &kept, "--disk", &key, "--to", to])?;
    ensure!(hash(&file)? == hash(&frozen.file)?, "the point differs");
    site.cluster.ok(&["point", "verify", &kept])?;
    let refused = site.cluster.run(&["backup", "kept", "--follow"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(7) && said.contains("REPOSITORY_FULL"),
        "{said}"
    );
    site.cluster.ok(&["point", "delete", &gone, "--yes"])?;
    for _ in 0..3 {
        site.cluster.ok(&["repository", "gc", "repository"])?;
    }
    let shown = site.cluster.json(&["repository", "show", "repository"])?;
    let stored = shown["usage"]["stored_bytes"].as_u64().context("bytes")?;
    ensure!(stored < 20 << 20, "no room was made: {shown:#}");
    std::fs::remove_file(filler)?;
    site.cluster.backup("gone", "succeeded").map(drop)
}
