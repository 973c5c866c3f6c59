//! Protecting a VM does no harm to what is around it, and what harms is an alarm.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use stillwater_tests::Site;
use stillwater_tests::cluster::{Cluster, Role, rows, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, VmSpec};

const RUN: Duration = Duration::from_secs(120);
const GIB: u64 = 1 << 30;

/// What preflight finds by one check: the verdict that is worst.
fn foretold(site: &Site, check: &str) -> Result<String> {
    let output = site
        .cluster
        .run(&["vm", "preflight", "web", "-o", "json"])?;
    let found: Value = serde_json::from_slice(&output.stdout)?;
    let findings = rows(&found[0]["findings"]);
    let verdicts = findings.iter().filter(|finding| finding["check"] == check);
    let verdicts: Vec<&str> = verdicts.filter_map(|f| f["verdict"].as_str()).collect();
    let worst = ["blocked", "warning", "ok"]
        .into_iter()
        .find(|verdict| verdicts.contains(verdict));
    Ok(worst.context("no such check")?.to_owned())
}

/// A run does what preflight foretold, in its words: it is refused before anything is frozen, or it
/// succeeds and warns, or it succeeds.
fn check(site: &Site, check: &str, reason: &str, verdict: &str) -> Result<()> {
    let told = foretold(site, check)?;
    ensure!(told == verdict, "{check} should be {verdict}, not {told}");
    let before = site.lab.calls("CreateSnapshotEx_Task")?;
    let ended = site.run_to_end()?;
    let frozen = site.lab.calls("CreateSnapshotEx_Task")? - before;
    let warned = rows(&ended["warnings"])
        .iter()
        .any(|warning| warning["reason"] == reason && warning.to_string().contains(check));
    let outcome = match verdict {
        "blocked" => {
            ended["state"] == "failed" && ended["fault"]["reason"] == reason && frozen == 0
        }
        "warning" => ended["state"] == "succeeded" && warned && frozen == 1,
        _ => ended["state"] == "succeeded" && !warned && frozen == 1,
    };
    ensure!(outcome, "{check} is {verdict}, {frozen} freezes: {ended:#}");
    Ok(())
}

#[test]
fn a_datastore_without_room_and_too_many_snapshots_refuse_a_run_as_was_foretold() -> Result<()> {
    let cluster = Cluster::with_controller(
        "[guards]\nheadroom-percent = 20\nheadroom-min-percent = 5\nforeign-snapshots = 5\nforeign-snapshot-age = \"2d\"",
    )?;
    let site = Site::of(&[VmSpec::new("web", vec![DiskSpec::empty(8)])], cluster)?;
    // The lab's datastores have 2 TiB.
    let room = |gib: u64| site.lab.free_space("lab-ds", gib * GIB);
    check(&site, "HEADROOM", "DATASTORE_FULL", "ok")?;
    room(300)?;
    check(&site, "HEADROOM", "DATASTORE_FULL", "warning")?;
    room(100)?;
    check(&site, "HEADROOM", "DATASTORE_FULL", "blocked")?;
    room(1024)?;
    check(&site, "HEADROOM", "DATASTORE_FULL", "ok")?;

    let foreign = |count: usize| -> Result<Vec<String>> {
        (0..count)
            .map(|_| site.lab.foreign_snapshot("web", "before update", 3600))
            .collect()
    };
    let first = foreign(3)?;
    check(&site, "FOREIGN_SNAPSHOTS", "SNAPSHOT_LIMIT", "ok")?;
    site.lab.age_snapshot(&first[0], 3 * 24 * 3600)?;
    check(&site, "FOREIGN_SNAPSHOTS", "SNAPSHOT_LIMIT", "warning")?;
    foreign(2)?;
    check(&site, "FOREIGN_SNAPSHOTS", "SNAPSHOT_LIMIT", "warning")?;
    foreign(1)?;
    check(&site, "FOREIGN_SNAPSHOTS", "SNAPSHOT_LIMIT", "blocked")?;
    let left = site.lab.snapshots()?;
    ensure!(left.len() == 6, "{} of 6 snapshots are there", left.len());
    Ok(())
}

/// When snapshots were asked for or their removals, in order.
fn snapshot_calls(site: &Site) -> Result<Vec<Timestamp>> {
    let calls = site.lab.control("GET", "/calls?last=100000", None)?;
    let methods = ["CreateSnapshotEx_Task", "RemoveSnapshot_Task"];
    let mut at = Vec::new();
    for call in rows(&calls["last"]) {
        if call["method"]
            .as_str()
            .is_some_and(|m| methods.contains(&m))
        {
            at.push(call["at"].as_str().context("a time")?.parse()?);
        }
    }
    at.sort();
    Ok(at)
}

/// The shortest time within which `count` snapshots were asked for.
fn shortest(calls: &[Timestamp], count: usize) -> Option<Duration> {
    let spans = calls.windows(count).filter_map(|window| {
        let (first, last) = (window.first()?, window.last()?);
        Duration::try_from(last.duration_since(*first)).ok()
    });
    spans.min()
}

#[test]
fn snapshots_are_made_and_removed_a_few_at_a_time() -> Result<()> {
    const TASK: Duration = Duration::from_secs(2);
    let cluster = Cluster::with_controller(
        "[guards]\ndatastore-snapshot-tasks = 2\nhost-snapshot-tasks = 16",
    )?;
    let names: Vec<String> = (1..=6).map(|n| format!("vm-{n}")).collect();
    let specs = names
        .iter()
        .map(|name| VmSpec::new(name, vec![DiskSpec::empty(8)]));
    let site = Site::of(&specs.collect::<Vec<_>>(), cluster)?;
    for name in &names {
        let slow = json!({"create_seconds": TASK.as_secs(), "remove_seconds": TASK.as_secs()});
        site.lab.act(name, "tasks", &slow)?;
    }
    let runs: Vec<String> = names
        .iter()
        .map(|name| site.cluster.start_run(&["backup", name]))
        .collect::<Result<_>>()?;
    for run in &runs {
        let ended = site.cluster.wait_run(run, RUN)?;
        ensure!(ended["state"] == "succeeded", "{ended:#}");
    }
    let calls = snapshot_calls(&site)?;
    ensure!(
        calls.len() == 12,
        "6 made and 6 removed, not {}",
        calls.len()
    );
    let (two, three) = (shortest(&calls, 2), shortest(&calls, 3));
    eprintln!("two calls within {two:?}, three within {three:?}, tasks of {TASK:?}");
    ensure!(two < Some(TASK), "two are at work together: {two:?}");
    ensure!(three >= Some(TASK), "never three at once: {three:?}");
    Ok(())
}

/// The alarms that stand, by kind.
fn alarms(site: &Site) -> Result<Vec<String>> {
    let alarms = rows(&site.cluster.json(&["alarm", "list"])?);
    let kinds = alarms.iter().filter_map(|alarm| alarm["kind"].as_str());
    Ok(kinds.map(str::to_owned).collect())
}

#[test]
fn a_run_whose_snapshot_grows_too_old_is_ended_and_is_an_alarm_until_the_next_point() -> Result<()>
{
    let disks = Disks::new()?;
    let cluster = Cluster::with_controller("[guards]\nsnapshot-age = \"4s\"")?;
    let mut site = Site::of(&[VmSpec::new("web", vec![disks.small()?])], cluster)?;
    site.slow_down(200 << 10)?;
    let ended = site.run_to_end()?;
    ensure!(
        ended["state"] == "failed" && ended["fault"]["reason"] == "SNAPSHOT_TOO_OLD",
        "{ended:#}"
    );
    wait("the snapshot goes", Duration::from_secs(20), || {
        Ok(site.lab.snapshots()?.is_empty().then_some(()))
    })?;
    ensure!(alarms(&site)? == ["SNAPSHOT_TOO_OLD"]);
    // The alarm outlives the controller.
    site.cluster.kill_role(Role::Controller)?;
    site.cluster.start_role(Role::Controller)?;
    site.cluster.wait_online(2)?;
    ensure!(alarms(&site)? == ["SNAPSHOT_TOO_OLD"]);
    site.slow_down(0)?;
    site.back_up()?;
    ensure!(alarms(&site)?.is_empty(), "{:?}", alarms(&site)?);
    let all = rows(&site.cluster.json(&["alarm", "list", "--all"])?);
    ensure!(
        all.len() == 1 && all[0]["cleared_at"].is_string(),
        "{all:#?}"
    );
    Ok(())
}

#[test]
fn a_map_that_lied_is_an_alarm_until_all_of_it_was_found_true() -> Result<()> {
    let disks = Disks::new()?;
    let site = Site::with(&[VmSpec::new("web", vec![disks.small()?])])?;
    site.back_up()?;
    let lie = json!({"omit_fraction": 0.5, "seed": 1});
    site.lab.spoil_map("web", &lie)?;
    site.lab.touch("web", 2000, 0.5, 11)?;
    site.back_up()?;
    let raised = rows(&site.cluster.json(&["alarm", "list"])?);
    ensure!(
        raised.len() == 1
            && raised[0]["kind"] == "CHANGE_MAP_LIED"
            && raised[0]["disk_key"] == 2000,
        "{raised:#?}"
    );
    site.lab.mend_map("web")?;
    // Tracking begins anew: everything is read, but there is no map to be found true.
    site.back_up()?;
    ensure!(alarms(&site)? == ["CHANGE_MAP_LIED"]);
    let run = site.cluster.start_run(&["backup", "web", "--full"])?;
    let ended = site.cluster.wait_run(&run, RUN)?;
    ensure!(ended["state"] == "succeeded", "{ended:#}");
    ensure!(alarms(&site)?.is_empty(), "{:?}", alarms(&site)?);
    Ok(())
}
