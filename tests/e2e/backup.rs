//! A backup holds what the VM held when it was frozen, and costs what is new.

use std::time::Duration;

use anyhow::{Result, ensure};
use stillwater_tests::Site;
use stillwater_tests::cluster::{rows, text};
use stillwater_tests::guest::{Disks, Writer};
use stillwater_tests::lab::VmSpec;

#[test]
fn a_running_vm_is_protected_as_it_was_when_frozen() -> Result<()> {
    let disks = Disks::new()?;
    let site = Site::with(&[VmSpec::new("web", disks.set("small")?)])?;
    let writer = Writer::start(&site.lab.live_disk("web", 0)?, 1)?;
    let run = site.cluster.backup("web", "succeeded")?;
    ensure!(writer.stop()? > 0, "the writer never wrote");
    ensure!(
        site.lab.snapshots()?.is_empty(),
        "a snapshot was left: {:?}",
        site.lab.snapshots()?
    );
    for disk in rows(&run["disks"]) {
        let told = (text(&disk, "transport")?, text(&disk, "proxy_name")?);
        ensure!(
            told == ("folder".into(), "proxy".into()),
            "how and by whom: {disk}"
        );
    }
    let point = text(&run["backup"], "point_id")?;
    site.check_equal_to_frozen("web", &point)
}

#[test]
fn an_unchanged_vm_stores_next_to_nothing_and_has_the_same_roots() -> Result<()> {
    let disks = Disks::new()?;
    let site = Site::with(&[VmSpec::new("web", disks.set("small")?)])?;
    let mut roots = Vec::new();
    let mut stored = Vec::new();
    for _ in 0..2 {
        let run = site.cluster.backup("web", "succeeded")?;
        let point = site
            .cluster
            .json(&["point", "show", &text(&run["backup"], "point_id")?])?;
        let disks = rows(&point["disks"]);
        ensure!(disks.len() == 2, "two disks: {point}");
        roots.push(disks.iter().map(|d| d["root"].clone()).collect::<Vec<_>>());
        stored.push(
            disks
                .iter()
                .filter_map(|d| d["stored_bytes"].as_u64())
                .sum::<u64>(),
        );
    }
    ensure!(
        roots[0] == roots[1],
        "the same content has the same roots: {roots:?}"
    );
    ensure!(
        stored[1] * 100 < stored[0],
        "an unchanged VM stores less than 1 %: {stored:?}"
    );
    Ok(())
}

#[test]
fn a_clone_shares_what_it_can() -> Result<()> {
    let disks = Disks::new()?;
    let vms = ["one", "two"].map(|name| VmSpec::new(name, disks.set("small").unwrap_or_default()));
    let site = Site::with(&vms)?;
    // The clone went its own way in an eighth of its first disk.
    let writer = Writer::start(&site.lab.live_disk("two", 0)?, 7)?;
    std::thread::sleep(Duration::from_millis(300));
    ensure!(writer.stop()? > 10, "the clone did not change");
    site.cluster.backup("one", "succeeded")?;
    let run = site.cluster.backup("two", "succeeded")?;
    let point = text(&run["backup"], "point_id")?;
    let shown = site.cluster.json(&["point", "show", &point])?;
    let sum = |field: &str| -> u64 {
        rows(&shown["disks"])
            .iter()
            .filter_map(|disk| disk[field].as_u64())
            .sum()
    };
    ensure!(
        sum("new_bytes") > 0,
        "the clone's own blocks are new: {shown}"
    );
    ensure!(
        sum("new_bytes") * 4 < sum("read_bytes"),
        "most of a clone is shared: {shown}"
    );
    site.check_equal_to_frozen("two", &point)
}

#[test]
fn a_disk_that_no_snapshot_freezes_makes_the_run_incomplete_unless_excluded() -> Result<()> {
    let disks = Disks::new()?;
    let mut all = vec![disks.small()?];
    all.push(stillwater_tests::lab::DiskSpec::independent(
        disks.tiny(8 << 20)?,
    ));
    all.push(stillwater_tests::lab::DiskSpec::physical_rdm(
        disks.tiny(8 << 20)?,
    ));
    let site = Site::with(&[VmSpec::new("db", all)])?;
    let run = site.cluster.backup("db", "incomplete")?;
    let warned = run["warnings"].to_string();
    ensure!(
        warned.matches("DISK_UNPROTECTABLE").count() == 2,
        "both are named: {warned}"
    );
    let point = site
        .cluster
        .json(&["point", "show", &text(&run["backup"], "point_id")?])?;
    ensure!(
        point["complete"] == false && rows(&point["missing"]).len() == 2,
        "{point}"
    );
    ensure!(site.lab.snapshots()?.is_empty(), "a snapshot was left");

    let run = site.cluster.start_run(&[
        "backup",
        "db",
        "--exclude-disk",
        "2001",
        "--exclude-disk",
        "2002",
    ])?;
    let ended = site.cluster.wait_run(&run, Duration::from_secs(60))?;
    ensure!(
        ended["state"] == "succeeded",
        "excluded by name is no surprise: {ended:#}"
    );
    Ok(())
}

#[test]
fn a_cancelled_run_leaves_nothing_behind() -> Result<()> {
    let disks = Disks::new()?;
    let site = Site::with(&[VmSpec::new("web", disks.set("small")?)])?;
    let slow = serde_json::json!({"folder_bytes_per_second": 2 << 20});
    site.lab.control("POST", "/delay", Some(&slow))?;
    let run = site.cluster.start_run(&["backup", "web"])?;
    stillwater_tests::cluster::wait("bytes move", Duration::from_secs(30), || {
        let shown = site.cluster.json(&["run", "show", &run])?;
        let read: u64 = rows(&shown["disks"])
            .iter()
            .filter_map(|d| d["read_bytes"].as_u64())
            .sum();
        Ok((read > 0).then_some(()))
    })?;
    ensure!(site.lab.snapshots()?.len() == 1, "it runs on a snapshot");
    site.cluster.fails(&["backup", "web"], 6, "RUN_ACTIVE")?;
    site.cluster.ok(&["run", "cancel", &run])?;
    let ended = site.cluster.wait_run(&run, Duration::from_secs(30))?;
    ensure!(ended["state"] == "cancelled", "{ended:#}");
    ensure!(site.lab.snapshots()?.is_empty(), "a snapshot was left");
    ensure!(
        rows(&site.cluster.json(&["point", "list"])?).is_empty(),
        "no point may exist"
    );
    let fast = serde_json::json!({"folder_bytes_per_second": 0});
    site.lab.control("POST", "/delay", Some(&fast))?;
    site.cluster.backup("web", "succeeded").map(drop)
}
