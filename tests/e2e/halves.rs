//! Whatever is killed in the middle of a restore: what is there afterwards is whole, or does not look it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use stillwater_tests::Site;
use stillwater_tests::cluster::{Role, hash, rows, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, Frozen, VmSpec};

/// Of the disk: more than all that is under way of it at any time.
const LENGTH: u64 = 64 << 20;
/// Of it is there when something is killed.
const BEGUN: u64 = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(150);

/// `restore disk` in the background, killed when it is dropped.
struct Export(Child);

impl Export {
    fn start(site: &Site, point: &str, to: &str, format: &str) -> Result<Self> {
        let args = [
            "restore", "disk", point, "--disk", "2000", "--to", to, "--format", format,
        ];
        let log = File::create(site.cluster.dir().join("export.log"))?;
        let mut command = site.cluster.command(&args)?;
        let child = command.stdout(Stdio::piped()).stderr(log).spawn()?;
        Ok(Self(child))
    }

    fn end(&mut self) -> Result<ExitStatus> {
        wait("the tool ends", PATIENCE, || Ok(self.0.try_wait()?))
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        // An error means that it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `web` with one disk that takes a while, and a point of it.
fn protected() -> Result<(Site, String, Frozen)> {
    let disks = Disks::new()?;
    let disk = DiskSpec::new(disks.random(LENGTH)?);
    let site = Site::with(&[VmSpec::new("web", vec![disk])])?;
    let point = site.back_up()?;
    let frozen = site.lab.last_frozen("web")?;
    let disk = frozen.into_iter().next().context("a disk")?;
    ensure!(disk.key == 2000, "the first disk has key {}", disk.key);
    Ok((site, point, disk))
}

fn unfinished(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "part")
        {
            found.push(path);
        }
    }
    Ok(found)
}

/// Waits until some of a file is written, and holds the rest back.
fn hold_in_the_middle(site: &Site, dir: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let parts = unfinished(dir)?;
        let part = parts.first().and_then(|part| part.metadata().ok());
        if part.is_some_and(|part| part.blocks() * 512 >= BEGUN) {
            return site.cluster.pause_role(Role::Repository);
        }
        ensure!(Instant::now() < deadline, "nothing was written");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills a role while the repository stands still, and lets everything go on.
fn kill(site: &mut Site, role: Role) -> Result<()> {
    site.cluster.kill_role(role)?;
    if role != Role::Repository {
        site.cluster.resume_role(Role::Repository)?;
    }
    site.cluster.start_role(role)?;
    site.cluster.wait_online(2)
}

/// What `qemu-img` reads from a file is the disk.
fn is_the_disk(file: &Path, format: &str, disk: &Frozen) -> Result<bool> {
    let mut command = Command::new("qemu-img");
    command.args(["compare", "-f", "raw", "-F", format]);
    let output = command.arg(&disk.file).arg(file).output()?;
    Ok(output.status.success())
}

/// Kills each role in the middle of a disk on its way to a file of this format.
fn check_file(format: &str, qemu_format: &str) -> Result<()> {
    let (mut site, point, disk) = protected()?;
    let dir = site.cluster.dir().join("restored");
    std::fs::create_dir(&dir)?;
    let file = dir.join("disk.img");
    let to = file.to_str().context("utf-8")?;
    for role in Role::ALL {
        let mut export = Export::start(&site, &point, to, format)?;
        hold_in_the_middle(&site, &dir)?;
        ensure!(!file.exists(), "half a disk has the name of a whole one");
        kill(&mut site, role)?;
        let status = export.end()?;
        let name = role.name();
        ensure!(
            file.exists() || !status.success(),
            "{name}: no file, and the tool says that it did it"
        );
        if file.exists() {
            ensure!(
                is_the_disk(&file, qemu_format, &disk)?,
                "{name}: half a disk"
            );
            std::fs::remove_file(&file)?;
        }
        let left = unfinished(&dir)?;
        ensure!(left.is_empty(), "{name}: {left:?} is left");
    }
    // The tool itself: nobody is left to clean up, but nothing has the disk's name.
    let mut export = Export::start(&site, &point, to, format)?;
    hold_in_the_middle(&site, &dir)?;
    export.0.kill()?;
    export.0.wait()?;
    site.cluster.resume_role(Role::Repository)?;
    ensure!(!file.exists(), "half a disk has the name of a whole one");
    // What it left is in nobody's way.
    Export::start(&site, &point, to, format)?.end()?;
    ensure!(is_the_disk(&file, qemu_format, &disk)?, "not the disk");
    Ok(())
}

#[test]
fn half_a_raw_disk_never_has_the_name_of_a_whole_one() -> Result<()> {
    check_file("raw", "raw")
}

#[test]
fn half_a_vmdk_never_has_the_name_of_a_whole_one() -> Result<()> {
    check_file("vmdk", "vmdk")
}

#[test]
fn half_a_vmdk_stream_never_has_the_name_of_a_whole_one() -> Result<()> {
    check_file("vmdk-stream", "vmdk")
}

#[test]
fn half_a_qcow2_never_has_the_name_of_a_whole_one() -> Result<()> {
    check_file("qcow2", "qcow2")
}

/// Reads what the tool writes: some of it, then a role dies, then what else comes.
fn through_a_pipe(
    site: &mut Site,
    point: &str,
    format: &str,
    victim: Option<Role>,
) -> Result<(PathBuf, ExitStatus)> {
    let file = site.cluster.dir().join("piped.img");
    let mut out = File::create(&file)?;
    let mut export = Export::start(site, point, "-", format)?;
    let mut pipe = export.0.stdout.take().context("a pipe")?;
    let begun = std::io::copy(&mut pipe.by_ref().take(BEGUN), &mut out)?;
    ensure!(begun == BEGUN, "only {begun} bytes came");
    site.cluster.pause_role(Role::Repository)?;
    match victim {
        Some(role) => kill(site, role)?,
        None => {
            export.0.kill()?;
            site.cluster.resume_role(Role::Repository)?;
        }
    }
    std::io::copy(&mut pipe, &mut out)?;
    out.flush()?;
    Ok((file, export.end()?))
}

/// Kills each role, and then the tool, in the middle of a disk on its way into a pipe.
fn check_pipe(format: &str, qemu_format: &str) -> Result<()> {
    let (mut site, point, disk) = protected()?;
    for victim in Role::ALL.into_iter().map(Some).chain([None]) {
        let (file, status) = through_a_pipe(&mut site, &point, format, victim)?;
        let is_whole = is_the_disk(&file, qemu_format, &disk)?;
        let name = victim.map_or("tool", Role::name);
        ensure!(
            is_whole || !status.success(),
            "{name}: half a disk came, and the tool says that it did it"
        );
        let length = file.metadata()?.len();
        ensure!(
            is_whole || length < LENGTH || qemu_format != "raw",
            "{name}: what came has the length of the disk and is not the disk"
        );
        ensure!(victim.is_some() || !is_whole, "it was not the middle");
    }
    Ok(())
}

#[test]
fn half_a_raw_disk_in_a_pipe_is_short_and_the_tool_fails() -> Result<()> {
    check_pipe("raw", "raw")
}

#[test]
fn half_a_vmdk_stream_in_a_pipe_is_no_vmdk_and_the_tool_fails() -> Result<()> {
    check_pipe("vmdk-stream", "vmdk")
}

fn vm(site: &Site, name: &str) -> Result<Option<Value>> {
    let vms = rows(&site.lab.control("GET", "/vms", None)?);
    Ok(vms.into_iter().find(|vm| vm["name"] == name))
}

#[test]
fn half_a_vm_is_removed_whichever_role_dies() -> Result<()> {
    let (mut site, point, disk) = protected()?;
    for role in Role::ALL {
        let name = format!("web-{}", role.name());
        site.lab.fault("folder-put", "hang:3", 0, 1)?;
        let calls = site.lab.calls("folder-put")?;
        let args = [
            "restore",
            "vm",
            &point,
            "--name",
            &name,
            "--datastore",
            "lab-ds",
        ];
        let run = site.cluster.start_run(&args)?;
        wait("the disk is written", PATIENCE, || {
            Ok((site.lab.calls("folder-put")? > calls).then_some(()))
        })?;
        site.cluster.kill_role(role)?;
        site.lab.control("DELETE", "/faults", None)?;
        site.cluster.start_role(role)?;
        site.cluster.wait_online(2)?;
        let ended = site.cluster.wait_run(&run, PATIENCE)?;
        match (ended["state"].as_str(), vm(&site, &name)?) {
            (Some("succeeded"), Some(_)) => {
                let live = site.lab.live_disk(&name, 0)?;
                ensure!(hash(&live)? == hash(&disk.file)?, "{name}: half a disk");
            }
            (Some("failed"), None) => {}
            (_, left) => bail!("{name}: {left:?} after {ended:#}"),
        }
    }
    Ok(())
}
