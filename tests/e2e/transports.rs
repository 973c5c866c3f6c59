//! The same frozen disk by every way that runs use, and on by the next way where one fails.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stillwater_tests::Site;
use stillwater_tests::cluster::{Cluster, Role, rows, text, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, VmSpec};

const NEAR: &str = "[transports]\nnfc = true\nhot-add = true";

fn site() -> Result<Site> {
    let disks = Disks::new()?;
    let cluster = Cluster::with_controller("[transports]\nnfc = true")?;
    Site::of(&[VmSpec::new("web", disks.set("small")?)], cluster)
}

/// Protects `web`, demands this way for every disk, and answers the run and the roots.
fn back_up(site: &Site, arguments: &[&str], transport: &str) -> Result<(Value, Vec<Value>)> {
    let run = site
        .cluster
        .start_run(&[&["backup", "web"], arguments].concat())?;
    let run = site.cluster.wait_run(&run, Duration::from_secs(150))?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    ensure!(site.lab.snapshots()?.is_empty(), "a snapshot was left");
    for disk in rows(&run["disks"]) {
        ensure!(
            disk["transport"] == transport,
            "not by {transport}: {disk:#}"
        );
        let reason = text(&disk, "transport_reason")?;
        ensure!(!reason.is_empty(), "it is not told why: {disk:#}");
    }
    let point = text(&run["backup"], "point_id")?;
    site.check_equal_to_frozen("web", &point)?;
    let shown = site.cluster.json(&["point", "show", &point])?;
    let roots = rows(&shown["disks"]);
    Ok((
        run,
        roots.into_iter().map(|disk| disk["root"].clone()).collect(),
    ))
}

#[test]
fn nfc_and_the_folder_give_the_same_roots() -> Result<()> {
    let site = site()?;
    let (run, through_nfc) = back_up(&site, &[], "nfc")?;
    ensure!(rows(&run["warnings"]).is_empty(), "{run:#}");
    ensure!(
        site.lab.calls("folder-get")? < 20,
        "the disks came by folder"
    );
    site.lab.fault("nfc-open", "error:1", 0, -1)?;
    let (run, through_folder) = back_up(&site, &["--full"], "folder")?;
    ensure!(
        run["warnings"].to_string().contains("another way"),
        "a fallback is told: {run:#}"
    );
    ensure!(through_nfc == through_folder, "the roots differ");
    Ok(())
}

#[test]
fn where_a_host_goes_in_mid_read_the_folder_goes_on() -> Result<()> {
    let site = site()?;
    // A few reads are answered, then every connection is closed, with whatever ticket.
    site.lab.fault("nfc-read", "close-mid", 5, -1)?;
    let (run, _) = back_up(&site, &[], "folder")?;
    ensure!(
        run["warnings"].to_string().contains("another way"),
        "a fallback is told: {run:#}"
    );
    Ok(())
}

#[test]
fn where_a_host_is_a_stranger_or_knows_no_ticket_nothing_is_read_from_it() -> Result<()> {
    let site = site()?;
    for (step, kind) in [
        ("nfc-connect", "wrong-certificate"),
        ("nfc-connect", "wrong-inner-certificate"),
        ("NfcGetVmFiles", "lost-ticket"),
    ] {
        site.lab.fault(step, kind, 0, -1)?;
        goes_on(&site, "nfc", "folder").with_context(|| kind.to_owned())?;
        site.lab.control("DELETE", "/faults", None)?;
        ensure!(site.lab.calls("nfc-open")? == 0, "{kind}: it was asked");
    }
    Ok(())
}

#[test]
fn where_a_host_answers_wrongly_its_answers_are_never_content() -> Result<()> {
    let site = site()?;
    for kind in ["wrong-dest", "twice", "short", "error:5"] {
        site.lab.fault("nfc-read", kind, 3, -1)?;
        goes_on(&site, "nfc", "folder").with_context(|| kind.to_owned())?;
        site.lab.control("DELETE", "/faults", None)?;
    }
    // One that is slow is waited for.
    site.lab.fault("nfc-read", "slow:0.002", 0, -1)?;
    back_up(&site, &["--full"], "nfc")?;
    Ok(())
}

/// `web` and the VM that the proxy runs in, whose kernel the lab plays.
fn site_with_proxy_vm() -> Result<Site> {
    let disks = Disks::new()?;
    let proxy = VmSpec::new("proxy", vec![DiskSpec::empty(16)]).with("proxy", json!(true));
    let vms = [VmSpec::new("web", disks.set("small")?), proxy];
    Site::of(&vms, Cluster::with_controller(NEAR)?)
}

fn reconfigure(site: &mut Site, role: Role, config: &str) -> Result<()> {
    site.cluster.stop_role(role)?;
    site.cluster.configure(role, config)?;
    site.cluster.start_role(role)?;
    site.cluster.wait_online(2)
}

/// What the lab's kernels of proxies show.
fn guests(site: &Site) -> Result<Value> {
    site.lab.control("GET", "/guests", None)
}

fn kernel(site: &Site) -> Result<String> {
    let guests = guests(site)?;
    let guest = rows(&guests["guests"]).into_iter().next();
    let guest = guest.context("the lab plays no proxy")?;
    let (sys, dev) = (text(&guest, "sys")?, text(&guest, "dev")?);
    Ok(format!(
        "[transports]\nhot-add = true\nsysfs = {sys:?}\ndev = {dev:?}"
    ))
}

fn reaches(site: &Site, way: &str) -> Result<()> {
    wait(
        "the proxy tells what it reaches",
        Duration::from_secs(60),
        || {
            let nodes = site.cluster.json(&["node", "list"])?;
            let told = rows(&nodes).iter().any(|node| {
                let reach = &node["reach"];
                match way {
                    "hotadd" => !rows(&reach["vm_uuids"]).is_empty(),
                    "file" => !rows(&reach["datastores"]).is_empty(),
                    _ => reach["nbd"] == true,
                }
            });
            Ok(told.then_some(()))
        },
    )
}

/// Nothing is attached, frozen or deleted.
fn check_nothing_is_left(site: &Site) -> Result<()> {
    let guests = guests(site)?;
    ensure!(rows(&guests["destroyed"]).is_empty(), "{guests:#}");
    for guest in rows(&guests["guests"]) {
        let disks = rows(&guest["disks"]).len();
        ensure!(disks == 1, "still attached: {guest:#}");
    }
    ensure!(site.lab.snapshots()?.is_empty(), "a snapshot was left");
    Ok(())
}

#[test]
fn every_way_gives_the_same_roots() -> Result<()> {
    let mut site = site_with_proxy_vm()?;
    let (_, through_nfc) = back_up(&site, &["--full"], "nfc")?;

    let near = kernel(&site)?;
    reconfigure(&mut site, Role::Proxy, &near)?;
    reaches(&site, "hotadd")?;
    let (run, attached) = back_up(&site, &["--full"], "hotadd")?;
    ensure!(rows(&run["warnings"]).is_empty(), "{run:#}");
    check_nothing_is_left(&site)?;
    ensure!(attached == through_nfc, "hotadd differs");

    let mount = json!({"datastore": "lab-ds"});
    let mount = text(&site.lab.control("POST", "/mounts", Some(&mount))?, "path")?;
    let files = format!("[transports]\ndatastores = {{ lab-ds = {mount:?} }}");
    reconfigure(&mut site, Role::Proxy, &files)?;
    reaches(&site, "file")?;
    let (run, files) = back_up(&site, &["--full"], "file")?;
    ensure!(rows(&run["warnings"]).is_empty(), "{run:#}");
    ensure!(files == through_nfc, "file differs");

    let nbd = format!("[transports]\n{}", serving(&mount));
    reconfigure(&mut site, Role::Proxy, &nbd)?;
    reaches(&site, "nbd")?;
    // The host comes before the command, and gives nothing.
    site.lab.fault("nfc-open", "error:1", 0, -1)?;
    let (_, served) = back_up(&site, &["--full"], "nbd")?;
    ensure!(served == through_nfc, "nbd differs");

    reconfigure(&mut site, Role::Proxy, "")?;
    wait("the proxy has no command", Duration::from_secs(60), || {
        let nodes = site.cluster.json(&["node", "list"])?;
        Ok(rows(&nodes)
            .iter()
            .all(|node| node["reach"]["nbd"] != true)
            .then_some(()))
    })?;
    let (_, folder) = back_up(&site, &["--full"], "folder")?;
    ensure!(folder == through_nfc, "the folder differs");
    Ok(())
}

/// Protects `web`, whose disks cannot all be read by `given_up`, and demands that all come by `transport`,
/// that the point is right, and that the run says why.
fn goes_on(site: &Site, given_up: &str, transport: &str) -> Result<()> {
    let (run, _) = back_up(site, &["--full"], transport)?;
    ensure!(
        run["warnings"].to_string().contains("another way"),
        "a fallback is told: {run:#}"
    );
    for disk in rows(&run["disks"]) {
        let reason = text(&disk, "transport_reason")?;
        ensure!(
            reason.contains(&format!("not {given_up}: ")),
            "not why: {disk:#}"
        );
    }
    Ok(())
}

#[test]
fn where_an_attached_disk_is_not_seen_its_host_goes_on() -> Result<()> {
    let mut site = site_with_proxy_vm()?;
    let near = kernel(&site)?;
    // The proxy knows which vm it is in, and has no devices.
    let empty = site.cluster.dir().join("empty");
    std::fs::create_dir(&empty)?;
    let near = near.split("\ndev = ").next().context("no devices")?;
    let blind = format!("{near}\ndev = {empty:?}");
    reconfigure(&mut site, Role::Proxy, &blind)?;
    reaches(&site, "hotadd")?;
    goes_on(&site, "hotadd", "nfc")?;
    check_nothing_is_left(&site)
}

#[test]
fn where_a_mount_is_empty_the_host_goes_on_and_after_it_the_command() -> Result<()> {
    let mut site = site()?;
    let empty = site.cluster.dir().join("empty");
    std::fs::create_dir(&empty)?;
    let mount = json!({"datastore": "lab-ds"});
    let mount = text(&site.lab.control("POST", "/mounts", Some(&mount))?, "path")?;
    let config = format!(
        "[transports]\ndatastores = {{ lab-ds = {empty:?} }}\n{}",
        serving(&mount)
    );
    reconfigure(&mut site, Role::Proxy, &config)?;
    reaches(&site, "nbd")?;
    goes_on(&site, "file", "nfc")?;
    // A few reads are answered, then every connection is closed, with whatever ticket.
    site.lab.fault("nfc-read", "close-mid", 5, -1)?;
    goes_on(&site, "nfc", "nbd")
}

/// A proxy with every way: the lab's kernel, the datastore's mount, and a command that serves files of the mount.
fn every_way(site: &mut Site) -> Result<()> {
    let near = kernel(site)?;
    let mount = json!({"datastore": "lab-ds"});
    let mount = text(&site.lab.control("POST", "/mounts", Some(&mount))?, "path")?;
    let command = serving(&mount);
    let config = format!("{near}\ndatastores = {{ lab-ds = {mount:?} }}\n{command}");
    reconfigure(site, Role::Proxy, &config)?;
    for way in ["hotadd", "file", "nbd"] {
        reaches(site, way)?;
    }
    Ok(())
}

#[test]
fn only_the_ways_that_are_allowed_are_gone_and_without_one_the_run_says_so() -> Result<()> {
    let mut site = site_with_proxy_vm()?;
    every_way(&mut site)?;
    let file = site.cluster.dir().join("near.toml");
    // First runs are spread over a tenth of what is promised.
    let policy = "name = \"near\"\nscope.include = [{ name = \"web\" }]\nschedule.rpo = \"5m\"\n\
                  retention.keep-last = 9\nstore.repository = \"repository\"\nlimits.ways = [\"nbd\", \"folder\"]\n";
    std::fs::write(&file, policy)?;
    let file = file.to_str().context("utf-8")?;
    site.cluster.ok(&["policy", "apply", "-f", file, "--yes"])?;
    let run = wait("the policy's run", Duration::from_secs(150), || {
        // It may have ended before anybody looked.
        Ok(rows(&site.cluster.json(&["run", "list"])?).pop())
    })?;
    let run = site
        .cluster
        .wait_run(&text(&run, "run_id")?, Duration::from_secs(150))?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    for disk in rows(&run["disks"]) {
        ensure!(disk["transport"] == "nbd", "{disk:#}");
        let why = text(&disk, "transport_reason")?;
        ensure!(
            why.contains("not file: only nbd, folder is allowed"),
            "{why}"
        );
    }
    site.cluster.ok(&["policy", "remove", "near", "--yes"])?;

    let mut roots = Vec::new();
    for way in ["folder", "nbd", "nfc", "file", "hotadd"] {
        let attaches = site.lab.calls("ReconfigVM_Task")?;
        let (run, found) = back_up(&site, &["--full", "--way", way], way)?;
        ensure!(rows(&run["warnings"]).is_empty(), "{run:#}");
        ensure!(
            (site.lab.calls("ReconfigVM_Task")? > attaches) == (way == "hotadd"),
            "by {way}, and a disk was attached or was not"
        );
        roots.push(found);
    }
    ensure!(roots.windows(2).all(|pair| pair[0] == pair[1]), "{roots:?}");

    reconfigure(&mut site, Role::Proxy, "")?;
    let run = site
        .cluster
        .start_run(&["backup", "web", "--way", "nbd,file"])?;
    let run = site.cluster.wait_run(&run, Duration::from_secs(150))?;
    ensure!(run["state"] == "failed", "{run:#}");
    let message = text(&run["fault"], "message")?;
    ensure!(
        message.contains("cannot be read by nbd, file, the only ways that are allowed")
            && message.contains("not nbd: the proxy has no transports.nbd-command"),
        "{message}"
    );
    check_nothing_is_left(&site)
}

/// `nbd-command` of a proxy that serves the files of a mounted datastore.
fn serving(mount: &str) -> String {
    let serve = format!(
        "f=${{2#*] }}; exec qemu-nbd --read-only --persistent --format raw --socket \"$1\" \"{mount}/${{f%.vmdk}}-flat.vmdk\""
    );
    format!(
        "nbd-command = [\"/bin/sh\", \"-c\", {:?}, \"sh\", \"{{socket}}\", \"{{file}}\"]",
        serve.replace('{', "{{").replace('}', "}}")
    )
}

const PROBE: [&str; 7] = ["proxy", "probe", "web", "--read", "8", "--output", "json"];

/// What a probe told, and its exit code.
fn probe(site: &Site) -> Result<(Vec<Value>, Option<i32>)> {
    let output = site.cluster.run(&PROBE)?;
    let told: Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    let told = rows(&told);
    let ways: Vec<&str> = told.iter().filter_map(|way| way["way"].as_str()).collect();
    ensure!(
        ways == ["hotadd", "file", "nfc", "nbd", "folder"],
        "{ways:?}"
    );
    check_nothing_is_left(site)?;
    Ok((told, output.status.code()))
}

fn is_measured(way: &Value) -> bool {
    let figure = |name: &str| way[name].as_u64().unwrap_or_default();
    let figures = ["read_bytes", "bytes_per_second", "latency_median_micros"].map(figure);
    figures.iter().all(|figure| *figure > 0)
        && figure("latency_median_micros") <= figure("latency_p99_micros")
        && way["fault"].is_null()
        && way["passed_over"].is_null()
}

#[test]
fn a_probe_measures_every_way_and_leaves_nothing() -> Result<()> {
    let mut site = site_with_proxy_vm()?;
    let (told, code) = probe(&site)?;
    ensure!(code == Some(0), "what is not there is no fault: {told:#?}");
    for way in &told {
        let name = text(way, "way")?;
        if ["nfc", "folder"].contains(&name.as_str()) {
            ensure!(is_measured(way), "{way:#}");
        } else {
            ensure!(!text(way, "passed_over")?.is_empty(), "not why: {way:#}");
            ensure!(way["fault"].is_null(), "{way:#}");
        }
    }
    every_way(&mut site)?;
    let (told, code) = probe(&site)?;
    ensure!(code == Some(0), "{told:#?}");
    ensure!(told.iter().all(is_measured), "{told:#?}");

    site.lab.fault("nfc-open", "error:1", 0, 1)?;
    let attach = "task-error:FileLocked";
    site.lab.fault("ReconfigVM_Task", attach, 0, 1)?;
    let (told, code) = probe(&site)?;
    ensure!(code == Some(3), "two ways failed: {told:#?}");
    for way in &told {
        let name = text(way, "way")?;
        let fails = ["hotadd", "nfc"].contains(&name.as_str());
        ensure!(is_measured(way) != fails, "{way:#}");
        ensure!(way["fault"].is_null() != fails, "{way:#}");
    }
    let points = rows(&site.cluster.json(&["point", "list"])?);
    ensure!(points.is_empty(), "a probe stored something");
    Ok(())
}

/// Whether a disk is attached to the proxy's VM besides its own.
fn is_attached(site: &Site) -> Result<bool> {
    let guests = rows(&guests(site)?["guests"]);
    Ok(guests.iter().any(|guest| rows(&guest["disks"]).len() > 1))
}

#[test]
fn a_probe_that_nobody_listens_to_any_more_detaches_and_thaws() -> Result<()> {
    let mut site = site_with_proxy_vm()?;
    let near = kernel(&site)?;
    reconfigure(&mut site, Role::Proxy, &near)?;
    reaches(&site, "hotadd")?;
    // The disk is attached, and its node comes later: long enough to be seen and left.
    see_disks_after(&site, 3000)?;
    let mut left = site.cluster.command(&PROBE)?.spawn()?;
    wait("a disk is attached", Duration::from_secs(60), || {
        Ok(is_attached(&site)?.then_some(()))
    })?;
    left.kill()?;
    left.wait()?;
    wait("all is given back", Duration::from_secs(60), || {
        Ok(check_nothing_is_left(&site).is_ok().then_some(()))
    })?;
    ensure!(site.lab.calls("nfc-open")? == 0, "it went on for nobody");
    Ok(())
}

/// How often a role is killed while disks are attached.
fn kills() -> usize {
    let asked = std::env::var("KILLS").ok();
    asked.and_then(|kills| kills.parse().ok()).unwrap_or(4)
}

#[test]
fn nothing_stays_attached_when_a_role_is_killed() -> Result<()> {
    let mut site = site_with_proxy_vm()?;
    let near = kernel(&site)?;
    reconfigure(&mut site, Role::Proxy, &near)?;
    reaches(&site, "hotadd")?;
    for kill in 0..kills() {
        let run = site.cluster.start_run(&["backup", "web", "--full"])?;
        wait("disks are attached", Duration::from_secs(60), || {
            let attached = is_attached(&site)?;
            let shown = site.cluster.json(&["run", "show", &run])?;
            ensure!(
                attached || shown["ended_at"].is_null(),
                "ended before the kill: {shown:#}"
            );
            Ok(attached.then_some(()))
        })?;
        let role = if kill % 2 == 0 {
            Role::Proxy
        } else {
            Role::Controller
        };
        site.cluster.kill_role(role)?;
        site.cluster.start_role(role)?;
        site.cluster.wait_run(&run, Duration::from_secs(150))?;
        wait("all is given back", Duration::from_secs(90), || {
            Ok(check_nothing_is_left(&site).is_ok().then_some(()))
        })?;
        if role == Role::Controller {
            reaches(&site, "hotadd")?;
        }
    }
    let (run, _) = back_up(&site, &[], "hotadd")?;
    ensure!(rows(&run["warnings"]).is_empty(), "{run:#}");
    check_nothing_is_left(&site)
}

/// What a controller has in its state directory before it does something that it is to forget.
fn keep_journal(site: &mut Site) -> Result<std::path::PathBuf> {
    site.cluster.stop_role(Role::Controller)?;
    let kept = site.cluster.dir().join("kept");
    copy(&site.cluster.state(Role::Controller), &kept)?;
    site.cluster.start_role(Role::Controller)?;
    site.cluster.wait_online(2)?;
    reaches(site, "hotadd")?;
    Ok(kept)
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    let mut copied = std::process::Command::new("cp");
    let copied = copied.arg("-a").args([from, to]).status()?;
    ensure!(copied.success(), "cannot copy {from:?}");
    Ok(())
}

/// Kills what is at work, and lets a controller go on that knows nothing of it.
fn lose_journal(site: &mut Site, kept: &std::path::Path) -> Result<()> {
    site.cluster.kill_role(Role::Controller)?;
    site.cluster.kill_role(Role::Proxy)?;
    let state = site.cluster.state(Role::Controller);
    std::fs::remove_dir_all(&state)?;
    copy(kept, &state)?;
    site.cluster.start_role(Role::Controller)?;
    site.cluster.start_role(Role::Proxy)?;
    site.cluster.wait_online(2)?;
    reaches(site, "hotadd")
}

/// Several searches of a controller that is told to search every second.
const A_WHILE: Duration = Duration::from_secs(5);

/// A proxy's VM, and a controller that looks for leftovers all the time; disks are seen so late that there is
/// time to kill somebody.
fn forgetful() -> Result<(Site, std::path::PathBuf)> {
    let often = "[snapshots]\nsearch-every = \"1s\"\nretry-every = \"1s\"";
    let disks = Disks::new()?;
    let proxy = VmSpec::new("proxy", vec![DiskSpec::empty(16)]).with("proxy", json!(true));
    let vms = [VmSpec::new("web", disks.set("small")?), proxy];
    let mut site = Site::of(&vms, Cluster::with_controller(&format!("{NEAR}\n{often}"))?)?;
    let near = kernel(&site)?;
    reconfigure(&mut site, Role::Proxy, &near)?;
    reaches(&site, "hotadd")?;
    let kept = keep_journal(&mut site)?;
    Ok((site, kept))
}

fn see_disks_after(site: &Site, millis: u32) -> Result<()> {
    let slow = json!({"appear_after_ms": millis});
    site.lab.control("POST", "/guests", Some(&slow)).map(drop)
}

fn alarms(site: &Site) -> Result<Vec<(String, String)>> {
    let listed = rows(&site.cluster.json(&["alarm", "list"])?);
    let told = listed.iter();
    told.map(|alarm| Ok((text(alarm, "kind")?, text(alarm, "message")?)))
        .collect()
}

#[test]
fn what_a_lost_journal_left_attached_is_detached_when_the_lease_is_over_and_not_before()
-> Result<()> {
    let (mut site, kept) = forgetful()?;
    see_disks_after(&site, 5000)?;
    site.cluster.start_run(&["backup", "web", "--full"])?;
    wait("disks are attached", Duration::from_secs(60), || {
        Ok(is_attached(&site)?.then_some(()))
    })?;
    lose_journal(&mut site, &kept)?;
    std::thread::sleep(A_WHILE);
    let left = site.lab.snapshots()?;
    let [snapshot] = left.as_slice() else {
        anyhow::bail!("another controller may be at work: {left:?}");
    };
    ensure!(is_attached(&site)?, "the lease is not over");
    ensure!(alarms(&site)?.is_empty(), "{:?}", alarms(&site)?);
    let lease = &snapshot.description;
    let (begin, _) = lease.split_once("expires=").context("no lease")?;
    let over = format!("{begin}expires=2020-01-01T00:00:00Z");
    site.lab.describe_snapshot(&snapshot.moref, &over)?;
    wait("all is given back", Duration::from_secs(60), || {
        Ok(check_nothing_is_left(&site).is_ok().then_some(()))
    })?;
    let locked = site.lab.calls("ConsolidateVMDisks_Task")?;
    ensure!(
        locked == 0,
        "the snapshot went while its disks were attached"
    );
    see_disks_after(&site, 0)?;
    let (run, _) = back_up(&site, &[], "hotadd")?;
    ensure!(rows(&run["warnings"]).is_empty(), "{run:#}");
    check_nothing_is_left(&site)
}

#[test]
fn what_a_lost_restore_left_is_told_with_the_commands_and_left_alone() -> Result<()> {
    let (mut site, kept) = forgetful()?;
    let point = site.back_up()?;
    ensure!(alarms(&site)?.is_empty(), "{:?}", alarms(&site)?);
    see_disks_after(&site, 5000)?;
    let restore = [
        "restore",
        "vm",
        &point,
        "--name",
        "web-2",
        "--datastore",
        "lab-ds",
    ];
    site.cluster.start_run(&restore)?;
    wait("disks are attached", Duration::from_secs(60), || {
        Ok(is_attached(&site)?.then_some(()))
    })?;
    lose_journal(&mut site, &kept)?;
    let told = wait("both are told", Duration::from_secs(60), || {
        let told = alarms(&site)?;
        Ok((told.len() > 1).then_some(told))
    })?;
    let commands = [
        ("HALF_MADE_VM", "govc vm.destroy \"web-2\""),
        ("STRAY_DISK", "govc device.remove -vm \"proxy\" -keep disk-"),
    ];
    for (kind, command) in commands {
        let is_it = |(told, message): &(String, String)| told == kind && message.contains(command);
        ensure!(
            told.iter().any(is_it),
            "no {kind} with its command: {told:?}"
        );
    }
    std::thread::sleep(A_WHILE);
    ensure!(is_attached(&site)?, "nothing proved that it is ours");
    let vms = rows(&site.lab.control("GET", "/vms", None)?);
    ensure!(vms.iter().any(|vm| vm["name"] == "web-2"), "{vms:?}");
    let guests = guests(&site)?;
    ensure!(rows(&guests["destroyed"]).is_empty(), "{guests:#}");
    Ok(())
}

#[test]
fn a_vm_that_is_restored_whole_is_not_called_half_made_when_its_journal_is_lost() -> Result<()> {
    let (mut site, kept) = forgetful()?;
    let point = site.back_up()?;
    let restore = [
        "restore",
        "vm",
        &point,
        "--name",
        "web-2",
        "--datastore",
        "lab-ds",
    ];
    let run = site.cluster.start_run(&restore)?;
    let run = site.cluster.wait_run(&run, Duration::from_secs(150))?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    ensure!(rows(&run["warnings"]).is_empty(), "{run:#}");
    lose_journal(&mut site, &kept)?;
    std::thread::sleep(A_WHILE);
    ensure!(alarms(&site)?.is_empty(), "{:?}", alarms(&site)?);
    Ok(())
}

const BIG: u64 = 256 << 20;
/// How much proxies ask a host for at a time.
const REQUEST: u64 = 256 << 10;

/// A VM with one disk of random bytes, large enough for its way to die while it is read, and a proxy's VM.
fn site_with_big_disk() -> Result<Site> {
    let disks = Disks::new()?;
    let big = DiskSpec::new(disks.random(BIG)?);
    let proxy = VmSpec::new("proxy", vec![DiskSpec::empty(16)]).with("proxy", json!(true));
    let vms = [VmSpec::new("web", vec![big]), proxy];
    Site::of(&vms, Cluster::with_controller(NEAR)?)
}

/// Protects `web`, kills the way that its disk is read by in the midst of it, and demands that the host goes on from
/// there: under the same snapshot, and without what is stored being read or sent again.
fn dies_in_mid_read(site: &Site, way: &str, kill: impl FnOnce() -> Result<()>) -> Result<()> {
    let run = site.cluster.start_run(&["backup", "web", "--full"])?;
    wait("the vm is frozen", Duration::from_secs(60), || {
        Ok((!site.lab.snapshots()?.is_empty()).then_some(()))
    })?;
    // What is read has nowhere to go, so that reading comes to rest somewhere in the midst.
    site.cluster.pause_role(Role::Repository)?;
    site.wait_reading(&run)?;
    kill()?;
    site.cluster.resume_role(Role::Repository)?;
    let ended = site.cluster.wait_run(&run, Duration::from_secs(150))?;
    ensure!(ended["state"] == "succeeded", "{ended:#}");
    let disks = rows(&ended["disks"]);
    let [disk] = disks.as_slice() else {
        anyhow::bail!("one disk: {ended:#}");
    };
    ensure!(disk["transport"] == "nfc", "not in mid-read: {disk:#}");
    let reason = text(disk, "transport_reason")?;
    ensure!(
        reason.contains(&format!("not {way}: ")),
        "not why: {disk:#}"
    );
    ensure!(
        ended["warnings"].to_string().contains("another way"),
        "a fallback is told: {ended:#}"
    );
    ensure!(
        site.lab.calls("CreateSnapshotEx_Task")? == 1,
        "frozen twice"
    );
    let figure = |name: &str| disk[name].as_u64().unwrap_or_default();
    let read = figure("read_bytes");
    ensure!(
        (BIG..BIG + BIG / 4).contains(&read),
        "read {read}: {disk:#}"
    );
    let sent = figure("sent_bytes");
    ensure!(sent < BIG + BIG / 16, "sent {sent}: {disk:#}");
    let asked = site.lab.calls("nfc-read")?;
    ensure!(asked > 0, "nobody asked the host");
    ensure!(asked < BIG / REQUEST, "the host read all of it: {asked}");
    let shown = site.cluster.ok(&["run", "show", &run])?;
    ensure!(shown.contains(&format!("not {way}: ")), "not told: {shown}");
    let point = text(&ended["backup"], "point_id")?;
    site.check_equal_to_frozen("web", &point)?;
    check_nothing_is_left(site)
}

#[test]
fn where_an_attached_disk_dies_in_mid_read_its_host_goes_on() -> Result<()> {
    let mut site = site_with_big_disk()?;
    let near = kernel(&site)?;
    reconfigure(
        &mut site,
        Role::Proxy,
        &format!("{near}\n[limits]\nworkers = 1"),
    )?;
    reaches(&site, "hotadd")?;
    dies_in_mid_read(&site, "hotadd", || {
        let cut = json!({"bytes": 1 << 20});
        let cut = site.lab.control("POST", "/guests/cut", Some(&cut))?;
        ensure!(cut["cut"] == 1, "not attached any more: {cut}");
        Ok(())
    })
}

#[test]
fn where_a_mounted_file_is_cut_in_mid_read_its_host_goes_on() -> Result<()> {
    let mut site = site_with_big_disk()?;
    let mount = json!({"datastore": "lab-ds"});
    let mount = text(&site.lab.control("POST", "/mounts", Some(&mount))?, "path")?;
    // A mount of its own, so that the host still has what is cut here.
    let own = site.cluster.dir().join("own");
    std::fs::create_dir(&own)?;
    copy(&std::path::Path::new(&mount).join("web"), &own.join("web"))?;
    let config =
        format!("[transports]\ndatastores = {{ lab-ds = {own:?} }}\n[limits]\nworkers = 1");
    reconfigure(&mut site, Role::Proxy, &config)?;
    reaches(&site, "file")?;
    dies_in_mid_read(&site, "file", || {
        let flat = own.join("web/web-flat.vmdk");
        let flat = std::fs::OpenOptions::new().write(true).open(flat)?;
        Ok(flat.set_len(1 << 20)?)
    })
}
