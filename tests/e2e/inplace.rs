//! Taking a VM back to a point: only what differs is written, what no point has is not lost unasked, and
//! half of it is never taken for the whole.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stillwater_tests::Site;
use stillwater_tests::cluster::{Cluster, Role, hash, rows, text, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, VmSpec};

const MIB: u64 = 1 << 20;
const LENGTH: u64 = 64 * MIB;
const PATIENCE: Duration = Duration::from_secs(180);

/// `web` with a disk that is half full and one that is full of noise.
fn site() -> Result<Site> {
    let disks = Disks::new()?;
    let half = DiskSpec::new(disks.some(LENGTH, LENGTH / 2, 1)?);
    let full = DiskSpec::new(disks.random(LENGTH)?);
    let cluster = Cluster::with_controller("[transports]\nnfc = true")?;
    Site::of(&[VmSpec::new("web", vec![half, full])], cluster)
}

/// A point and what each disk was then.
struct Kept {
    point: String,
    hashes: Vec<String>,
}

fn back_up(site: &Site) -> Result<Kept> {
    let point = site.back_up()?;
    let frozen = site.lab.last_frozen("web")?;
    let hashes: Result<Vec<String>> = frozen.iter().map(|disk| hash(&disk.file)).collect();
    let hashes = hashes?;
    ensure!(hashes.len() == 2, "two disks are frozen");
    Ok(Kept { point, hashes })
}

/// Damages two hundredths of the blocks of both disks at random; tells how many bytes that are.
fn damage(site: &Site, seed: u64) -> Result<u64> {
    let mut bytes = 0;
    for key in [2000, 2001] {
        let body =
            json!({"granule_bytes": 4096, "write_bytes": 4096, "fraction": 0.02, "seed": seed});
        let touched = site.lab.act("web", &format!("disks/{key}/touch"), &body)?;
        bytes += touched["bytes"].as_u64().context("bytes")?;
    }
    Ok(bytes)
}

fn power(site: &Site, action: &str) -> Result<()> {
    site.lab.act("web", action, &json!({})).map(drop)
}

fn live(site: &Site) -> Result<Vec<String>> {
    let disks: Result<Vec<PathBuf>> = (0..2).map(|n| site.lab.live_disk("web", n)).collect();
    disks?.iter().map(|disk| hash(disk)).collect()
}

fn start(site: &Site, point: &str, more: &[&str]) -> Result<String> {
    let args = [&["restore", "vm", point, "--in-place"], more].concat();
    site.cluster.start_run(&args)
}

fn take_back(site: &Site, point: &str, more: &[&str]) -> Result<Value> {
    let run = start(site, point, more)?;
    site.cluster.wait_run(&run, PATIENCE)
}

fn sum(run: &Value, field: &str) -> u64 {
    let disks = rows(&run["disks"]);
    disks.iter().filter_map(|disk| disk[field].as_u64()).sum()
}

/// Demands that a run was refused, and touched nothing.
fn check_refused(site: &Site, point: &str, reason: &str) -> Result<()> {
    let before = live(site)?;
    let run = take_back(site, point, &[])?;
    ensure!(
        run["state"] == "failed" && run["fault"]["reason"] == reason,
        "should be refused with {reason}: {run:#}"
    );
    ensure!(live(site)? == before, "{reason}: a disk was written");
    ensure!(alarms(site)?.is_empty(), "nothing is half restored");
    Ok(())
}

fn check_whole(site: &Site, kept: &Kept, run: &Value) -> Result<()> {
    ensure!(run["state"] == "succeeded", "{run:#}");
    ensure!(live(site)? == kept.hashes, "not as the point has it");
    ensure!(site.lab.snapshots()?.is_empty(), "a snapshot was left");
    ensure!(alarms(site)?.is_empty(), "{:?}", alarms(site)?);
    Ok(())
}

fn alarms(site: &Site) -> Result<Vec<String>> {
    let alarms = rows(&site.cluster.json(&["alarm", "list"])?);
    let kinds = alarms.iter().filter_map(|alarm| alarm["kind"].as_str());
    Ok(kinds.map(str::to_owned).collect())
}

#[test]
fn a_damaged_vm_is_taken_back_by_writing_little_more_than_the_damage() -> Result<()> {
    let site = site()?;
    let kept = back_up(&site)?;
    let damage = damage(&site, 7)?;
    ensure!(damage > 2 * MIB, "only {damage} bytes are damaged");
    // A VM that runs has its disks.
    check_refused(&site, &kept.point, "VM_NOT_OFF")?;
    power(&site, "power-off")?;
    // What no point has is not lost unasked.
    check_refused(&site, &kept.point, "CHANGES_NOT_SAVED")?;
    let plan = ["restore", "vm", &kept.point, "--in-place", "--plan"];
    let plan = site.cluster.json(&plan)?;
    ensure!(
        rows(&plan["refusals"]).is_empty() && rows(&plan["disks"]).len() == 2,
        "{plan:#}"
    );
    ensure!(live(&site)? != kept.hashes, "a plan wrote something");

    let run = take_back(&site, &kept.point, &["--discard-changes"])?;
    check_whole(&site, &kept, &run)?;
    let (written, read) = (sum(&run, "sent_bytes"), sum(&run, "read_bytes"));
    eprintln!(
        "damage {damage}, written {written}, read {read} of {}",
        2 * LENGTH
    );
    ensure!(
        written >= damage && written <= 2 * damage,
        "{written} bytes were written for {damage}"
    );
    // What was written here is in no change map: the next backup believes none.
    power(&site, "power-on")?;
    let next = back_up(&site)?;
    ensure!(next.hashes == kept.hashes, "the vm changed by itself");
    site.check_equal_to_frozen("web", &next.point)?;
    let shown = site.cluster.json(&["point", "show", &next.point])?;
    for reading in rows(&shown["readings"]) {
        ensure!(
            reading["how"] == "compare" && reading["reason"] != "",
            "{reading:#}"
        );
    }
    Ok(())
}

#[test]
fn an_older_point_is_reached_by_the_difference_of_two_trees() -> Result<()> {
    let site = site()?;
    let old = back_up(&site)?;
    // One part of the disks only.
    for key in [2000, 2001] {
        let body = json!({"granule_bytes": 65_536, "write_bytes": 4096, "fraction": 0.1, "seed": key,
            "start": 8 * MIB, "length": 8 * MIB});
        site.lab.act("web", &format!("disks/{key}/touch"), &body)?;
    }
    let trim = json!({"granule_bytes": 65_536, "fraction": 1.0, "start": 20 * MIB, "length": MIB, "trim": true});
    site.lab.act("web", "disks/2001/touch", &trim)?;
    power(&site, "power-off")?;
    let new = back_up(&site)?;
    ensure!(new.hashes != old.hashes, "nothing changed");
    // All of it is in a point: nobody need be asked.
    let run = take_back(&site, &old.point, &[])?;
    check_whole(&site, &old, &run)?;
    let read = sum(&run, "read_bytes");
    eprintln!(
        "read {read} of {}, written {}",
        2 * LENGTH,
        sum(&run, "sent_bytes")
    );
    ensure!(read <= 32 * MIB, "{read} bytes were read");
    for disk in rows(&run["disks"]) {
        ensure!(disk["reading"] == "increment", "{disk:#}");
    }
    // There and back again: now there is no map, and all of it is compared.
    let run = take_back(&site, &new.point, &["--discard-changes"])?;
    check_whole(&site, &new, &run)?;
    ensure!(sum(&run, "read_bytes") == 2 * LENGTH, "{run:#}");
    Ok(())
}

#[test]
fn a_snapshot_of_somebody_else_is_not_written_below() -> Result<()> {
    let site = site()?;
    let kept = back_up(&site)?;
    power(&site, "power-off")?;
    site.lab.foreign_snapshot("web", "before the upgrade", 60)?;
    check_refused(&site, &kept.point, "VM_HAS_SNAPSHOTS")?;
    let plan = ["restore", "vm", &kept.point, "--in-place", "--plan"];
    let planned = site.cluster.run(&plan)?;
    let told = String::from_utf8_lossy(&planned.stdout);
    ensure!(
        planned.status.code() == Some(3) && told.contains("before the upgrade"),
        "{told}"
    );
    Ok(())
}

/// Waits until the proxy tells in which VM it runs.
fn wait_near(site: &Site) -> Result<()> {
    wait("the proxy tells what it reaches", PATIENCE, || {
        let nodes = rows(&site.cluster.json(&["node", "list"])?);
        let is_near = |node: &Value| !rows(&node["reach"]["vm_uuids"]).is_empty();
        Ok(nodes.iter().any(is_near).then_some(()))
    })
}

#[test]
fn disks_that_are_attached_to_a_proxy_are_written_in_place_too() -> Result<()> {
    let disks = Disks::new()?;
    let half = DiskSpec::new(disks.some(LENGTH, LENGTH / 2, 1)?);
    let full = DiskSpec::new(disks.random(LENGTH)?);
    let proxy = VmSpec::new("proxy", vec![DiskSpec::empty(16)]).with("proxy", json!(true));
    let vms = [VmSpec::new("web", vec![half, full]), proxy];
    // No other way than that.
    let cluster = Cluster::with_controller("[transports]\nhot-add = true")?;
    let mut site = Site::of(&vms, cluster)?;
    let guests = site.lab.control("GET", "/guests", None)?;
    let guest = rows(&guests["guests"]).into_iter().next();
    let guest = guest.context("the lab plays no proxy")?;
    let (sys, dev) = (text(&guest, "sys")?, text(&guest, "dev")?);
    site.cluster.stop_role(Role::Proxy)?;
    let near = format!("[transports]\nhot-add = true\nsysfs = {sys:?}\ndev = {dev:?}");
    site.cluster.configure(Role::Proxy, &near)?;
    site.cluster.start_role(Role::Proxy)?;
    wait_near(&site)?;

    let kept = back_up(&site)?;
    let damage = damage(&site, 10)?;
    power(&site, "power-off")?;
    let run = take_back(&site, &kept.point, &["--discard-changes"])?;
    check_whole(&site, &kept, &run)?;
    for disk in rows(&run["disks"]) {
        ensure!(disk["transport"] == "hotadd", "{disk:#}");
    }
    let written = sum(&run, "sent_bytes");
    ensure!(
        (damage..=2 * damage).contains(&written),
        "{written} for {damage}"
    );
    let guests = site.lab.control("GET", "/guests", None)?;
    for guest in rows(&guests["guests"]) {
        ensure!(
            rows(&guest["disks"]).len() == 1,
            "still attached: {guest:#}"
        );
    }
    Ok(())
}

/// Starts to take `web` back, and waits until some of it is written.
fn begin(site: &Site, point: &str) -> Result<String> {
    let slow = json!({"bytes_per_second": 4 * MIB});
    site.lab.control("POST", "/nfc", Some(&slow))?;
    let run = start(site, point, &["--discard-changes"])?;
    wait("something is written", PATIENCE, || {
        let shown = site.cluster.json(&["run", "show", &run])?;
        ensure!(
            shown["state"] == "running" || shown["state"] == "pending",
            "{shown:#}"
        );
        Ok((sum(&shown, "sent_bytes") > 0).then_some(()))
    })?;
    Ok(run)
}

#[test]
fn a_run_whose_proxy_or_repository_is_killed_comes_to_its_end_all_the_same() -> Result<()> {
    for role in [Role::Proxy, Role::Repository] {
        let mut site = site()?;
        let kept = back_up(&site)?;
        damage(&site, 8)?;
        power(&site, "power-off")?;
        let run = begin(&site, &kept.point)?;
        site.cluster.kill_role(role)?;
        ensure!(live(&site)? != kept.hashes, "it was done before");
        site.cluster.start_role(role)?;
        site.lab
            .control("POST", "/nfc", Some(&json!({"bytes_per_second": 0})))?;
        let ended = site.cluster.wait_run(&run, PATIENCE)?;
        check_whole(&site, &kept, &ended).with_context(|| role.name())?;
    }
    Ok(())
}

#[test]
fn a_vm_that_is_half_restored_is_an_alarm_until_another_run_has_done_the_rest() -> Result<()> {
    let mut site = site()?;
    let kept = back_up(&site)?;
    damage(&site, 9)?;
    power(&site, "power-off")?;
    let run = begin(&site, &kept.point)?;
    site.cluster.kill_role(Role::Controller)?;
    site.cluster.start_role(Role::Controller)?;
    site.cluster.wait_online(2)?;
    site.lab
        .control("POST", "/nfc", Some(&json!({"bytes_per_second": 0})))?;
    let ended = site.cluster.wait_run(&run, PATIENCE)?;
    ensure!(
        ended["state"] == "failed" && ended["fault"]["reason"] == "CONTROLLER_RESTARTED",
        "{ended:#}"
    );
    ensure!(live(&site)? != kept.hashes, "it was done before");
    ensure!(alarms(&site)? == ["HALF_RESTORED"], "{:?}", alarms(&site)?);
    // It goes on without being told again what may be lost.
    let again = take_back(&site, &kept.point, &[])?;
    check_whole(&site, &kept, &again)?;
    ensure!(text(&again, "run_id")? != run, "the same run");
    let next = back_up(&site)?;
    ensure!(next.hashes == kept.hashes, "not what was restored");
    site.check_equal_to_frozen("web", &next.point)
}

#[test]
fn a_point_of_a_vm_that_is_half_restored_says_so() -> Result<()> {
    let site = site()?;
    let kept = back_up(&site)?;
    damage(&site, 11)?;
    power(&site, "power-off")?;
    let run = begin(&site, &kept.point)?;
    site.cluster.ok(&["run", "cancel", &run])?;
    let ended = site.cluster.wait_run(&run, PATIENCE)?;
    ensure!(ended["state"] == "cancelled", "{ended:#}");
    ensure!(alarms(&site)? == ["HALF_RESTORED"], "{:?}", alarms(&site)?);
    site.lab
        .control("POST", "/nfc", Some(&json!({"bytes_per_second": 0})))?;
    let half = site.cluster.backup("web", "succeeded")?;
    ensure!(
        half["warnings"].to_string().contains("half written over"),
        "{half:#}"
    );
    Ok(())
}
