//! Two proxies: one is killed or drained while disks move.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stillwater_tests::cluster::{Role, rows, text, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, VmSpec};
use stillwater_tests::{Cluster, Site};

const MIB: u64 = 1 << 20;
/// Nothing in it is stored twice or a hole, so that what was sent can be counted.
const DISK: u64 = 96 * MIB;
const RUN: Duration = Duration::from_secs(150);

/// Two proxies, and `web` with this many disks of random bytes.
fn site(disks: u64) -> Result<Site> {
    let made = Disks::new()?;
    let disk = |n: u64| Ok(DiskSpec::new(made.random(DISK + n * MIB)?));
    let disks: Vec<DiskSpec> = (0..disks).map(disk).collect::<Result<_>>()?;
    let mut cluster = Cluster::start()?;
    cluster.add_proxy()?;
    Site::of(&[VmSpec::new("web", disks)], cluster)
}

fn disks(site: &Site, run: &str) -> Result<Vec<Value>> {
    Ok(rows(&site.cluster.json(&["run", "show", run])?["disks"]))
}

fn number(disk: &Value, field: &str) -> Result<u64> {
    disk[field].as_u64().with_context(|| format!("no {field}"))
}

fn proxy(site: &Site, name: &str) -> Result<Value> {
    let proxies = rows(&site.cluster.json(&["proxy", "list"])?);
    let found = proxies.into_iter().find(|proxy| proxy["name"] == name);
    found.with_context(|| format!("no proxy {name}"))
}

/// Bytes in the files of the repository's packs, whole or not.
fn stored(site: &Site) -> Result<u64> {
    let mut dirs = vec![site.cluster.state(Role::Repository)];
    let mut bytes = 0;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let is_pack = entry.path().components().any(|c| c.as_os_str() == "packs");
            match entry.file_type()?.is_dir() {
                true => dirs.push(entry.path()),
                false if is_pack => bytes += entry.metadata()?.len(),
                false => {}
            }
        }
    }
    Ok(bytes)
}

#[test]
fn a_disk_of_a_killed_proxy_goes_on_elsewhere_and_what_is_stored_is_not_sent_again() -> Result<()> {
    let mut site = site(1)?;
    site.slow_down(12 * MIB)?;
    let freezes = site.lab.calls("CreateSnapshotEx_Task")?;
    let run = site.cluster.start_run(&["backup", "web"])?;
    let (name, before) = wait("half of the disk is stored", RUN, || {
        let shown = disks(&site, &run)?;
        let bytes = stored(&site)?;
        let name = shown.first().map(|disk| text(disk, "proxy_name"));
        Ok((bytes > DISK / 2)
            .then_some(name)
            .flatten()
            .zip(Some(bytes)))
    })?;
    let killed = match name?.as_str() {
        "proxy" => Role::Proxy,
        _ => Role::OtherProxy,
    };
    site.cluster.kill_role(killed)?;
    site.slow_down(0)?;
    let ended = site.cluster.wait_run(&run, RUN)?;
    ensure!(ended["state"] == "succeeded", "{ended:#}");
    let moved = rows(&ended["disks"]);
    let moved = moved.first().context("a disk")?;
    ensure!(moved["proxy_name"] != killed.name(), "{ended:#}");
    ensure!(
        site.lab.calls("CreateSnapshotEx_Task")? == freezes + 1,
        "the same snapshot serves both proxies"
    );
    // What the second proxy sent is what was not in a durable pack: a little more than the rest.
    let (sent, rest) = (number(moved, "sent_bytes")?, DISK - DISK.min(before));
    eprintln!("{before} bytes were stored at the kill, then {sent} were sent");
    ensure!(
        sent <= rest + 16 * MIB,
        "{sent} bytes were sent when {before} of {DISK} were stored"
    );
    ensure!(stored(&site)? < DISK + 16 * MIB, "chunks are stored twice");
    let point = text(&ended["backup"], "point_id")?;
    site.check_equal_to_frozen("web", &point)?;
    wait("no snapshot is left", Duration::from_secs(60), || {
        Ok(site.lab.snapshots()?.is_empty().then_some(()))
    })
}

#[test]
fn a_drained_proxy_ends_its_disks_and_gets_none_until_it_is_undrained() -> Result<()> {
    let mut site = site(2)?;
    site.slow_down(24 * MIB)?;
    let run = site.cluster.start_run(&["backup", "web"])?;
    site.wait_reading(&run)?;
    let names = |disks: &[Value]| -> Result<Vec<String>> {
        let names = disks.iter().map(|disk| text(disk, "proxy_name"));
        let mut names: Vec<String> = names.collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    };
    let both = ["other-proxy", "proxy"];
    wait("both proxies have a disk", Duration::from_secs(20), || {
        Ok((names(&disks(&site, &run)?)? == both).then_some(()))
    })?;
    let drained = site.cluster.json(&["proxy", "drain", "other-proxy"])?;
    ensure!(drained[0]["draining_since"].is_string(), "{drained:#}");
    let ended = site.cluster.wait_run(&run, RUN)?;
    ensure!(ended["state"] == "succeeded", "{ended:#}");
    ensure!(names(&rows(&ended["disks"]))? == both, "{ended:#}");
    site.slow_down(0)?;

    // Also after a restart of both sides.
    for role in [Role::Controller, Role::OtherProxy] {
        site.cluster.stop_role(role)?;
        site.cluster.start_role(role)?;
    }
    site.cluster.wait_online(3)?;
    ensure!(proxy(&site, "other-proxy")?["draining_since"].is_string());
    let second = site.run_to_end()?;
    ensure!(
        names(&rows(&second["disks"]))? == ["proxy", "proxy"],
        "{second:#}"
    );

    site.cluster.ok(&["proxy", "undrain", "other-proxy"])?;
    ensure!(proxy(&site, "other-proxy")?["draining_since"].is_null());
    let third = site.run_to_end()?;
    ensure!(names(&rows(&third["disks"]))? == both, "{third:#}");

    let refused = site
        .cluster
        .fails(&["proxy", "drain", "nobody"], 4, "NODE_NOT_FOUND")?;
    ensure!(refused.contains("stillwater proxy list"), "{refused}");
    Ok(())
}
