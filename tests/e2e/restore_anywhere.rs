//! A VM comes back at another place as it was, and what it will lack is said before.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use stillwater_tests::cluster::{Cluster, Role, hash, rows, text, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{Lab, VmSpec};

const RUN: Duration = Duration::from_secs(150);
const AREAS: [&str; 2] = ["--max-areas", "16"];

/// Two vCenters. `web` is in the first, with all that a VM can have around it.
struct Sites {
    source: Lab,
    target: Lab,
    cluster: Cluster,
    point: String,
}

impl Sites {
    /// The second vCenter has the tags, attributes and policies of the first, or none of them.
    fn new(has_all: bool) -> Result<Self> {
        let disks = Disks::new()?;
        let web = dressed(VmSpec::new("web", disks.set("small")?))
            .with("firmware", json!("efi"))
            .with("cpus", json!(4))
            .with("memory_mb", json!(3072))
            .with("annotation", json!("web server\nask bob"))
            .with("networks", json!(["VM Network", "DC0_DVPG0"]));
        let other = VmSpec::new("other", vec![disks.small()?]);
        let other = if has_all { dressed(other) } else { other };
        let source = Lab::start_on(&["lab-ds"], &[web], &AREAS)?;
        let target = Lab::start_on(&["lab-ds", "fast"], &[other], &AREAS)?;
        let cluster = Cluster::start()?;
        cluster.add_lab(&source)?;
        cluster.add_lab_as("second", &target)?;
        let run = cluster.backup("web", "succeeded")?;
        let point = text(&run["backup"], "point_id")?;
        Ok(Self {
            source,
            target,
            cluster,
            point,
        })
    }

    fn args<'a>(&'a self, name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let args = ["restore", "vm", &self.point, "--name", name];
        let place = ["--vcenter", "second", "--datastore", "lab-ds"];
        [&args[..], &place[..], more].concat()
    }

    fn restore(&self, name: &str, more: &[&str]) -> Result<Value> {
        let run = self.cluster.start_run(&self.args(name, more))?;
        self.cluster.wait_run(&run, RUN)
    }

    /// What is told before, and how the tool exits.
    fn plan(&self, name: &str, more: &[&str]) -> Result<(Value, i32)> {
        let args = self.args(name, &[more, &["--plan", "-o", "json"][..]].concat());
        let output = self.cluster.run(&args)?;
        let told = serde_json::from_slice(&output.stdout);
        let told = told.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok((told, output.status.code().context("an exit code")?))
    }

    /// The configuration that a point keeps of its VM.
    fn config(&self, point: &str) -> Result<String> {
        let shown = self.cluster.json(&["point", "show", point, "--config"])?;
        text(&shown, "config_xml")
    }

    /// Every file on the second vCenter's datastores that belongs to no VM of the lab's own.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for datastore in ["lab-ds", "fast"] {
            let dir = self.target.dir().join("state/ds").join(datastore);
            walk(&dir, &mut found)?;
        }
        found.retain(|file| !file.components().any(|part| part.as_os_str() == "other"));
        Ok(found)
    }

    fn check_nothing_is_left(&self, name: &str) -> Result<()> {
        ensure!(vm(&self.target, name)?.is_none(), "a half vm was left");
        ensure!(vm(&self.target, "other")?.is_some(), "another vm is gone");
        let files = self.files()?;
        ensure!(files.is_empty(), "files were left: {files:?}");
        Ok(())
    }
}

/// A VM with tags, custom attributes and a storage policy.
fn dressed(vm: VmSpec) -> VmSpec {
    vm.with("tags", json!(["tier:gold", "owner:sales"]))
        .with("custom", json!({"cost centre": "4711"}))
        .with("policy", json!("gold-storage"))
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => walk(&path, found)?,
            false => found.push(path),
        }
    }
    Ok(())
}

fn vm(lab: &Lab, name: &str) -> Result<Option<Value>> {
    let vms = rows(&lab.control("GET", "/vms", None)?);
    Ok(vms.into_iter().find(|vm| vm["name"] == name))
}

/// The bytes of a VM's NVRAM, by its path on a datastore.
fn nvram(lab: &Lab, name: &str) -> Result<Vec<u8>> {
    let found = vm(lab, name)?.context("the vm is there")?;
    let path = text(&found, "nvram")?;
    let (datastore, file) = path
        .strip_prefix('[')
        .and_then(|path| path.split_once("] "))
        .context("a datastore path")?;
    let file = lab.dir().join("state/ds").join(datastore).join(file);
    std::fs::read(&file).with_context(|| file.display().to_string())
}

/// The values of one element of a document, in order.
fn values(xml: &str, tag: &str) -> Vec<String> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let parts = xml.split(&open).skip(1);
    parts
        .filter_map(|part| Some(part.split_once(&close)?.0.to_owned()))
        .collect()
}

#[test]
fn a_vm_in_another_vcenter_is_equal_to_its_source() -> Result<()> {
    let sites = Sites::new(true)?;
    let more = [
        "--disk-datastore",
        "Hard disk 2=fast",
        "--disk-format",
        "thin",
    ];
    let (told, code) = sites.plan("web-2", &more)?;
    ensure!(code == 0 && told["refusals"] == json!([]), "{told:#}");
    let plan = &told["plan"];
    ensure!(plan["losses"] == json!([]), "{told:#}");
    let disks = rows(&plan["disks"]);
    ensure!(disks[0]["datastore"] == "lab-ds" && disks[1]["datastore"] == "fast");
    ensure!(disks.iter().all(|disk| disk["provisioning"] == "thin"));
    for disk in &disks {
        let (write, size) = (&disk["write_bytes"], &disk["capacity_bytes"]);
        ensure!(write.as_u64() < size.as_u64(), "holes count: {disk}");
    }
    ensure!(plan["seconds"] == Value::Null, "nothing was measured yet");
    sites.check_nothing_is_left("web-2")?;

    let run = sites.restore("web-2", &more)?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    // Its configuration was held against the saved one, field by field.
    ensure!(rows(&run["warnings"]).is_empty(), "{run:#}");
    let mut written = 0;
    for (index, frozen) in sites.source.last_frozen("web")?.iter().enumerate() {
        let live = sites.target.live_disk("web-2", index)?;
        ensure!(hash(&live)? == hash(&frozen.file)?, "disk {index} differs");
        let datastore = ["lab-ds", "fast"][index];
        ensure!(
            live.to_string_lossy()
                .contains(&format!("/ds/{datastore}/")),
            "disk {index} is at {}",
            live.display()
        );
        let disk = &rows(&run["disks"])[index];
        written += disk["sent_bytes"].as_u64().context("a size")?;
    }
    ensure!(
        plan["write_bytes"] == json!(written),
        "planned {}, wrote {written}",
        plan["write_bytes"]
    );
    ensure!(nvram(&sites.target, "web-2")? == nvram(&sites.source, "web")?);

    // What vSphere says of it when it is protected in turn.
    let protected = sites.cluster.backup("web-2", "succeeded")?;
    let again = text(&protected["backup"], "point_id")?;
    let (was, is) = (sites.config(&sites.point)?, sites.config(&again)?);
    for tag in [
        "guestId",
        "version",
        "firmware",
        "numCPU",
        "memoryMB",
        "busNumber",
        "capacityInBytes",
        "unitNumber",
        "sharedBus",
        "startConnected",
        "deviceName",
    ] {
        ensure!(values(&was, tag) == values(&is, tag), "{tag} differs");
        ensure!(!values(&was, tag).is_empty(), "{tag} proves nothing");
    }
    ensure!(
        values(&was, "uuid") != values(&is, "uuid"),
        "a new identity"
    );
    ensure!(values(&was, "macAddress") != values(&is, "macAddress"));
    ensure!(values(&is, "annotation")[0].starts_with("web server\nask bob\nstillwater restore"));
    let shown = |point: &str| sites.cluster.json(&["point", "show", point, "--config"]);
    let (was, is) = (shown(&sites.point)?, shown(&again)?);
    for kept in ["tags", "attributes", "home_policy", "disk_policies"] {
        let (was, is) = (&was["surroundings"][kept], &is["surroundings"][kept]);
        ensure!(
            was == is && !was.is_null() && *was != json!([]),
            "{kept}: {was} {is}"
        );
    }

    // The next plan knows how fast this one was.
    let (told, code) = sites.plan("web-2", &[])?;
    ensure!(code == 3, "the name is taken: {told:#}");
    ensure!(told["refusals"][0]["reason"] == "VM_EXISTS", "{told:#}");
    ensure!(told["plan"]["seconds"].as_u64() > Some(0), "{told:#}");
    Ok(())
}

#[test]
fn what_the_target_lacks_is_told_before_and_after_and_what_cannot_be_is_refused() -> Result<()> {
    let sites = Sites::new(false)?;
    let (told, code) = sites.plan("web-2", &["--network", "VM Network=DC0_DVPG0"])?;
    ensure!(code == 0, "{told:#}");
    let losses = told["plan"]["losses"].to_string();
    for loss in ["tier:gold", "owner:sales", "cost centre", "gold-storage"] {
        ensure!(losses.contains(loss), "{losses}");
    }
    let cards = rows(&told["plan"]["cards"]);
    ensure!(
        cards.iter().all(|card| card["to"] == "DC0_DVPG0"),
        "{told:#}"
    );
    let run = sites.restore("web-2", &["--network", "VM Network=DC0_DVPG0"])?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    let warned = rows(&run["warnings"]);
    ensure!(
        warned.len() == rows(&told["plan"]["losses"]).len(),
        "what was foretold is what is told: {run:#}"
    );

    sites.target.free_space("lab-ds", 32 << 20)?;
    for (more, reason) in [
        (
            &["--network", "VM Network=nowhere"][..],
            "PLACEMENT_NOT_FOUND",
        ),
        (&["--host", "nowhere"][..], "PLACEMENT_NOT_FOUND"),
        (&["--cluster", "nowhere"][..], "PLACEMENT_NOT_FOUND"),
        (
            &["--disk-datastore", "2000=slow"][..],
            "PLACEMENT_NOT_FOUND",
        ),
        (&["--disk-format", "thick"][..], "DATASTORE_FULL"),
    ] {
        let (told, code) = sites.plan("web-3", more)?;
        let reasons: Vec<Value> = rows(&told["refusals"])
            .into_iter()
            .map(|refusal| refusal["reason"].clone())
            .collect();
        ensure!(code == 3 && reasons.contains(&json!(reason)), "{told:#}");
        let run = sites.restore("web-3", more)?;
        ensure!(run["state"] == "failed", "{run:#}");
        ensure!(vm(&sites.target, "web-3")?.is_none(), "{more:?} made a vm");
    }
    ensure!(
        sites.target.calls("CreateVM_Task")? == 1,
        "refused after the fact"
    );
    Ok(())
}

#[test]
fn an_identity_comes_back_where_nobody_has_it_and_a_template_is_one() -> Result<()> {
    let sites = Sites::new(true)?;
    let original = ["--identity", "original"];
    // At home the source has it.
    let point = &sites.point;
    let at_home = [
        "restore",
        "vm",
        point,
        "--name",
        "web-2",
        "--datastore",
        "lab-ds",
    ];
    let run = sites
        .cluster
        .start_run(&[&at_home[..], &original[..]].concat())?;
    let run = sites.cluster.wait_run(&run, RUN)?;
    ensure!(run["state"] == "failed", "{run:#}");
    ensure!(run["fault"]["reason"] == "VM_EXISTS", "{run:#}");
    ensure!(vm(&sites.source, "web-2")?.is_none());

    for (name, more) in [("web-2", &original[..]), ("web-3", &["--template"][..])] {
        let run = sites.restore(name, more)?;
        ensure!(run["state"] == "succeeded", "{run:#}");
        ensure!(rows(&run["warnings"]).is_empty(), "{run:#}");
    }
    let protected = sites.cluster.backup("web-2", "succeeded")?;
    let again = text(&protected["backup"], "point_id")?;
    let (was, is) = (sites.config(&sites.point)?, sites.config(&again)?);
    // The VM's own comes first; the disks' are their files'.
    ensure!(
        values(&was, "uuid")[0] == values(&is, "uuid")[0],
        "another uuid"
    );
    for id in ["instanceUuid", "macAddress"] {
        ensure!(!values(&was, id).is_empty(), "{id} proves nothing");
        ensure!(values(&was, id) == values(&is, id), "{id} differs");
    }
    let checked = sites.cluster.run(&["vm", "preflight", "web-3"])?;
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    ensure!(
        checked.contains("TEMPLATE") && checked.contains("blocked"),
        "{checked}"
    );
    Ok(())
}

#[test]
fn whatever_ends_a_restore_early_it_leaves_nothing_on_any_datastore() -> Result<()> {
    let mut sites = Sites::new(true)?;
    let more = ["--disk-datastore", "Hard disk 2=fast", "--power-on"];
    // A write that fails, and then one that hangs until somebody gives up.
    sites.target.fault("folder-put", "http-503", 0, 100)?;
    let run = sites.restore("web-2", &more)?;
    ensure!(run["state"] == "failed", "{run:#}");
    sites.target.control("DELETE", "/faults", None)?;
    sites.check_nothing_is_left("web-2")?;
    for way in ["cancel", "kill"] {
        sites.target.fault("folder-put", "hang:3", 0, 1)?;
        let calls = sites.target.calls("folder-put")?;
        let run = sites.cluster.start_run(&sites.args("web-2", &more))?;
        wait("a disk is written", Duration::from_secs(60), || {
            let shown = sites.cluster.json(&["run", "show", &run])?;
            ensure!(shown["ended_at"].is_null(), "{shown:#}");
            Ok((sites.target.calls("folder-put")? > calls).then_some(()))
        })?;
        match way {
            "cancel" => sites.cluster.ok(&["run", "cancel", &run]).map(drop)?,
            "kill" => {
                sites.cluster.kill_role(Role::Controller)?;
                sites.cluster.start_role(Role::Controller)?;
                sites.cluster.wait_online(2)?;
            }
            other => bail!("no way {other}"),
        }
        let ended = sites.cluster.wait_run(&run, RUN)?;
        ensure!(ended["state"] != "succeeded", "{way}: {ended:#}");
        sites.target.control("DELETE", "/faults", None)?;
        sites.check_nothing_is_left("web-2")?;
    }
    let run = sites.restore("web-2", &more)?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    let made = vm(&sites.target, "web-2")?.context("the vm is there")?;
    ensure!(made["power"] == "on", "{made}");
    Ok(())
}

#[test]
fn an_administrator_who_is_not_listed_backs_up_and_plans_but_restores_nothing() -> Result<()> {
    let disks = Disks::new()?;
    let lab = Lab::start(&[VmSpec::new("web", vec![disks.small()?])], 16)?;
    let cluster = Cluster::with_controller("[restores]\nadministrators = []")?;
    cluster.add_lab(&lab)?;
    let run = cluster.backup("web", "succeeded")?;
    let point = text(&run["backup"], "point_id")?;
    let vm_args = [
        "restore",
        "vm",
        &point,
        "--name",
        "web-2",
        "--datastore",
        "lab-ds",
    ];
    cluster.ok(&[&vm_args[..], &["--plan"]].concat())?;
    cluster.fails(&vm_args, 5, "ROLE_NOT_ALLOWED")?;
    let to = cluster.dir().join("disk.raw");
    let to = to.to_str().context("utf-8")?;
    let disk_args = ["restore", "disk", &point, "--disk", "2000", "--to", to];
    cluster.fails(&disk_args, 5, "ROLE_NOT_ALLOWED")?;
    ensure!(!Path::new(to).exists(), "a file was begun");
    ensure!(lab.calls("CreateVM_Task")? == 0);
    Ok(())
}
