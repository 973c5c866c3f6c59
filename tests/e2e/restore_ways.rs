//! What is written through a host comes back as it went in, and hosts are not asked for more than
//! they have.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stillwater_tests::Site;
use stillwater_tests::cluster::{Cluster, Role, hash, rows, text, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, VmSpec};

const RUN: Duration = Duration::from_secs(150);

/// `web` with the small guest's disks and a point of it; everything goes through hosts.
fn protected() -> Result<(Site, String)> {
    let disks = Disks::new()?;
    let cluster = Cluster::with_controller("[transports]\nnfc = true")?;
    let site = Site::of(&[VmSpec::new("web", disks.set("small")?)], cluster)?;
    let point = site.back_up()?;
    Ok((site, point))
}

/// Restores `web` as `name`, and compares every disk with the freeze that the point was made of.
fn restore(site: &Site, point: &str, name: &str) -> Result<Value> {
    let args = [
        "restore",
        "vm",
        point,
        "--name",
        name,
        "--datastore",
        "lab-ds",
    ];
    let run = site.cluster.start_run(&args)?;
    let run = site.cluster.wait_run(&run, RUN)?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    let frozen = site.lab.last_frozen("web")?;
    ensure!(!frozen.is_empty(), "nothing to compare with");
    for (index, frozen) in frozen.iter().enumerate() {
        let live = site.lab.live_disk(name, index)?;
        ensure!(hash(&live)? == hash(&frozen.file)?, "disk {index} differs");
    }
    Ok(run)
}

fn ways(run: &Value) -> Vec<String> {
    let way = |disk: Value| disk["transport"].as_str().unwrap_or_default().to_owned();
    rows(&run["disks"]).into_iter().map(way).collect()
}

/// What the lab's hosts had open and refused, and what they did not understand.
fn hosts(site: &Site) -> Result<(Vec<Value>, Value)> {
    let nfc = site.lab.control("GET", "/nfc", None)?;
    let hosts = rows(&nfc["hosts"]).into_iter();
    let usages = hosts.map(|host| host["usage"].clone()).collect();
    Ok((usages, nfc["odd"].clone()))
}

#[test]
fn a_vm_that_is_restored_through_nfc_is_what_was_frozen() -> Result<()> {
    let (site, point) = protected()?;
    let run = restore(&site, &point, "web-2")?;
    ensure!(ways(&run).iter().all(|way| way == "nfc"), "{run:#}");
    ensure!(rows(&run["warnings"]).is_empty(), "{run:#}");
    ensure!(
        site.lab.calls("folder-put")? == 1,
        "something else than the nvram was uploaded by folder"
    );
    let (usages, odd) = hosts(&site)?;
    ensure!(odd == json!([]), "{odd}");
    for usage in usages {
        let open = (
            &usage["sessions"],
            &usage["open_disks"],
            &usage["abandoned"],
        );
        ensure!(open == (&json!(0), &json!(0), &json!(0)), "{usage}");
    }
    Ok(())
}

#[test]
fn a_host_that_goes_while_it_is_written_is_asked_again_and_the_disk_is_whole() -> Result<()> {
    let (site, point) = protected()?;
    // Half of one write is stored, and one answer is lost.
    site.lab.fault("nfc-write", "close-mid", 3, 1)?;
    site.lab.fault("nfc-write", "drop-after", 6, 1)?;
    let run = restore(&site, &point, "web-2")?;
    ensure!(ways(&run).iter().all(|way| way == "nfc"), "{run:#}");
    Ok(())
}

#[test]
fn a_host_that_does_not_write_is_passed_over_and_the_disks_are_uploaded() -> Result<()> {
    let (site, point) = protected()?;
    site.lab.fault("nfc-write", "error:1", 2, -1)?;
    let run = restore(&site, &point, "web-2")?;
    ensure!(
        ways(&run).iter().any(|way| way == "folder"),
        "the folder was not needed: {run:#}"
    );
    ensure!(
        run["warnings"].to_string().contains("another way"),
        "a fallback is told: {run:#}"
    );
    Ok(())
}

#[test]
fn many_disks_at_once_are_never_refused_by_hosts_that_bear_few() -> Result<()> {
    const VMS: usize = 8;
    const DISKS: usize = 5;
    let disks = Disks::new()?;
    let mut cluster = Cluster::with_controller(
        "[transports]\nnfc = true\n[limits]\nparallel-runs = 8\nhost-disks = 3\nhost-buffers = \"5MiB\"",
    )?;
    // Every disk has its slot: only hosts make them wait.
    cluster.stop_role(Role::Proxy)?;
    let config = OpenOptions::new()
        .append(true)
        .open(cluster.dir().join("proxy.toml"));
    writeln!(config?, "[limits]\ntransfers = 40\nworkers = 1")?;
    cluster.start_role(Role::Proxy)?;
    cluster.wait_online(2)?;
    let mut vms = Vec::new();
    for vm in 0..VMS {
        let mut images = Vec::new();
        for _ in 0..DISKS {
            images.push(DiskSpec::new(disks.tiny(4 << 20)?));
        }
        vms.push(VmSpec::new(&format!("web-{vm}"), images));
    }
    let site = Site::of(&vms, cluster)?;
    // Just what the controller is told, and answers that take long enough to pile up.
    let tight = json!({"open_disks": 3, "memory_bytes": 5 << 20, "round_trip_ms": 20});
    site.lab.control("POST", "/nfc", Some(&tight))?;
    let start = |vm| {
        site.cluster
            .start_run(&["backup", &format!("web-{vm}"), "--full"])
    };
    let runs = (0..VMS).map(start).collect::<Result<Vec<_>>>()?;
    for run in runs {
        let run = site.cluster.wait_run(&run, RUN)?;
        ensure!(run["state"] == "succeeded", "{run:#}");
        ensure!(rows(&run["warnings"]).is_empty(), "{run:#}");
        ensure!(ways(&run).iter().all(|way| way == "nfc"), "{run:#}");
    }
    let (usages, _) = hosts(&site)?;
    let most = usages
        .iter()
        .filter_map(|usage| usage["most_open_disks"].as_u64());
    ensure!(
        most.max().context("hosts")? == 3,
        "the budget was never used up: {usages:?}"
    );
    for usage in usages {
        ensure!(usage["refused"] == 0, "a host refused: {usage}");
    }
    Ok(())
}

/// Lets vSphere attach disks to the VM that the proxy runs in, whose kernel the lab plays.
fn let_attach(site: &mut Site) -> Result<()> {
    let guests = site.lab.control("GET", "/guests", None)?;
    let guest = rows(&guests["guests"]).into_iter().next();
    let guest = guest.context("the lab plays no proxy")?;
    let (sys, dev) = (text(&guest, "sys")?, text(&guest, "dev")?);
    let config = format!("[transports]\nhot-add = true\nsysfs = {sys:?}\ndev = {dev:?}");
    site.cluster.stop_role(Role::Proxy)?;
    site.cluster.configure(Role::Proxy, &config)?;
    site.cluster.start_role(Role::Proxy)?;
    site.cluster.wait_online(2)?;
    wait("the proxy knows its vm", Duration::from_secs(60), || {
        let nodes = rows(&site.cluster.json(&["node", "list"])?);
        let knows = |node: &Value| !rows(&node["reach"]["vm_uuids"]).is_empty();
        Ok(nodes.iter().any(knows).then_some(()))
    })
}

#[test]
fn a_vm_that_is_restored_through_hotadd_is_what_was_frozen_and_nothing_stays_attached() -> Result<()>
{
    let disks = Disks::new()?;
    let proxy = VmSpec::new("proxy", vec![DiskSpec::empty(16)]).with("proxy", json!(true));
    let vms = [VmSpec::new("web", disks.set("small")?), proxy];
    let cluster = Cluster::with_controller("[transports]\nhot-add = true")?;
    let mut site = Site::of(&vms, cluster)?;
    let point = site.back_up()?;
    let_attach(&mut site)?;
    let run = restore(&site, &point, "web-2")?;
    ensure!(ways(&run).iter().all(|way| way == "hotadd"), "{run:#}");
    ensure!(rows(&run["warnings"]).is_empty(), "{run:#}");
    let guests = site.lab.control("GET", "/guests", None)?;
    ensure!(rows(&guests["destroyed"]).is_empty(), "{guests:#}");
    for guest in rows(&guests["guests"]) {
        let disks = rows(&guest["disks"]).len();
        ensure!(disks == 1, "still attached: {guest:#}");
        ensure!(guest["surprise"] == 0, "taken away while in use: {guest:#}");
    }
    Ok(())
}

#[test]
fn a_proxy_that_is_killed_with_new_disks_attached_leaves_neither_them_nor_the_half_made_vm()
-> Result<()> {
    let disks = Disks::new()?;
    let big = DiskSpec::new(disks.random(192 << 20)?);
    let proxy = VmSpec::new("proxy", vec![DiskSpec::empty(16)]).with("proxy", json!(true));
    let cluster = Cluster::with_controller("[transports]\nhot-add = true")?;
    let mut site = Site::of(&[VmSpec::new("web", vec![big]), proxy], cluster)?;
    let point = site.back_up()?;
    let_attach(&mut site)?;
    let args = [
        "restore",
        "vm",
        &point,
        "--name",
        "web-2",
        "--datastore",
        "lab-ds",
    ];
    let run = site.cluster.start_run(&args)?;
    wait("a disk is attached", Duration::from_secs(60), || {
        Ok((attached(&site)? > 1).then_some(()))
    })?;
    site.cluster.kill_role(Role::Proxy)?;
    site.cluster.ok(&["run", "cancel", &run])?;
    let run = site.cluster.wait_run(&run, RUN)?;
    ensure!(run["state"] == "cancelled", "{run:#}");
    ensure!(attached(&site)? == 1, "a disk is still attached");
    let guests = site.lab.control("GET", "/guests", None)?;
    ensure!(rows(&guests["destroyed"]).is_empty(), "{guests:#}");
    let vms = site.lab.control("GET", "/vms", None)?;
    let names = rows(&vms).into_iter().map(|vm| vm["name"].clone());
    let names: Vec<Value> = names.collect();
    ensure!(
        names.len() == 2 && !names.contains(&json!("web-2")),
        "{names:?}"
    );
    Ok(())
}

/// Disks of the proxy's VM, its own among them.
fn attached(site: &Site) -> Result<usize> {
    let guests = site.lab.control("GET", "/guests", None)?;
    let counts = rows(&guests["guests"]).into_iter();
    Ok(counts.map(|guest| rows(&guest["disks"]).len()).sum())
}
