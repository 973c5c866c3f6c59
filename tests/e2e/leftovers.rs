//! What runs leave behind is found and goes, and nothing else does.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use stillwater_tests::cluster::{Role, text, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, VmSpec};
use stillwater_tests::{Cluster, Site};

const SOON: Duration = Duration::from_secs(30);
/// Several searches of [`site`] go by.
const A_WHILE: Duration = Duration::from_secs(5);

/// Two small VMs, and a controller that looks for leftovers all the time.
fn site() -> Result<Site> {
    let disks = Disks::new()?;
    let disk = || Ok::<_, anyhow::Error>(DiskSpec::new(disks.tiny(16 << 20)?));
    let vms = [
        VmSpec::new("web", vec![disk()?]),
        VmSpec::new("db", vec![disk()?]),
    ];
    let often = "[snapshots]\nsearch-every = \"1s\"\nretry-every = \"1s\"";
    Site::of(&vms, Cluster::with_controller(often)?)
}

/// The file that a VM's first disk runs on.
fn file(site: &Site, vm: &str) -> Result<String> {
    let vms = site.lab.control("GET", "/vms", None)?;
    let found = vms.as_array().into_iter().flatten();
    let found = found
        .filter(|found| found["name"] == vm)
        .find_map(|vm| vm["disks"][0]["file"].as_str());
    Ok(found.context("no such vm")?.to_owned())
}

#[test]
fn deltas_without_a_snapshot_are_merged_on_vms_that_were_backed_up_and_on_no_others() -> Result<()>
{
    let site = site()?;
    site.back_up()?;
    for vm in ["web", "db"] {
        let orphan = json!({"needed": false, "deltas": true, "stuck_times": 1});
        site.lab.act(vm, "consolidation-needed", &orphan)?;
        ensure!(
            file(&site, vm)?.ends_with("-000001.vmdk"),
            "{vm} has no delta"
        );
    }
    wait("the delta is merged", SOON, || {
        Ok((file(&site, "web")? == "[lab-ds] web/web.vmdk").then_some(()))
    })?;
    std::thread::sleep(A_WHILE);
    ensure!(
        file(&site, "db")?.ends_with("-000001.vmdk"),
        "nobody asked us to touch db"
    );
    site.check_recovers()
}

#[test]
fn a_lease_of_a_run_that_the_journal_does_not_know_counts_until_its_end() -> Result<()> {
    let site = site()?;
    site.slow_down(1 << 20)?;
    let run = site.cluster.start_run(&["backup", "web"])?;
    let lease = wait("the snapshot is there", SOON, || {
        Ok(site
            .lab
            .snapshots()?
            .into_iter()
            .next()
            .map(|made| made.description))
    })?;
    site.slow_down(0)?;
    site.cluster.wait_run(&run, SOON)?;
    // As a controller leaves it whose journal is lost.
    ensure!(lease.contains(&run), "no run in {lease}");
    let make = |name: &str, digit: u8, expires: &str| {
        let unknown = lease.replace(&run, &format!("01900000-0000-7000-8000-00000000000{digit}"));
        let (begin, _) = unknown.split_once("expires=").context("no end")?;
        let body = json!({"name": name, "description": format!("{begin}expires={expires}")});
        site.lab.act("db", "snapshot", &body).map(drop)
    };
    make("at work elsewhere", 1, "2999-01-01T00:00:00Z")?;
    make("over", 2, "2020-01-01T00:00:00Z")?;
    let names = || -> Result<Vec<String>> {
        Ok(site
            .lab
            .snapshots()?
            .into_iter()
            .map(|left| left.name)
            .collect())
    };
    wait("the one that is over is gone", SOON, || {
        Ok((!names()?.contains(&"over".to_owned())).then_some(()))
    })?;
    std::thread::sleep(A_WHILE);
    ensure!(names()? == ["at work elsewhere"], "{:?} are left", names()?);
    Ok(())
}

#[test]
fn a_removal_that_a_killed_controller_began_is_waited_for_and_not_begun_again() -> Result<()> {
    let mut site = site()?;
    site.lab
        .act("web", "tasks", &json!({"remove_seconds": 6}))?;
    let run = site.cluster.start_run(&["backup", "web"])?;
    wait("the removal is under way", SOON, || {
        Ok((site.lab.calls("RemoveSnapshot_Task")? > 0).then_some(()))
    })?;
    site.cluster.kill_role(Role::Controller)?;
    site.cluster.start_role(Role::Controller)?;
    site.cluster.wait_online(2)?;
    let ended = site.cluster.wait_run(&run, Duration::from_secs(60))?;
    ensure!(
        text(&ended, "state")? == "succeeded",
        "it was proposed: {ended:#}"
    );
    let calls = site.lab.calls("RemoveSnapshot_Task")?;
    ensure!(calls == 1, "the removal was asked for {calls} times");
    site.lab.act("web", "tasks", &json!({}))?;
    site.check_recovers()
}

#[test]
fn deltas_that_a_removal_leaves_are_told_and_merged_after_the_run() -> Result<()> {
    let site = site()?;
    site.lab
        .act("web", "tasks", &json!({"leave_deltas": true}))?;
    let stuck = json!({"needed": false, "stuck_times": 3});
    site.lab.act("web", "consolidation-needed", &stuck)?;
    let ended = site.run_to_end()?;
    ensure!(text(&ended, "state")? == "succeeded", "{ended:#}");
    ensure!(
        ended["warnings"].to_string().contains("deltas"),
        "not told: {ended:#}"
    );
    site.lab.act("web", "tasks", &json!({}))?;
    wait("the deltas are merged", SOON, || {
        Ok((file(&site, "web")? == "[lab-ds] web/web.vmdk").then_some(()))
    })?;
    site.check_recovers()
}
