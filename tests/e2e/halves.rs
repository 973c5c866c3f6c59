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

/// A command in the background, killed when it is dropped.
struct Background(Child);

impl Background {
    fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stderr(File::create(log)?);
        Ok(Self(child.spawn().context("tests/setup.sh installs it")?))
    }

    fn export(site: &Site, point: &str, to: &str, format: &str) -> Result<Self> {
        let args = [
            "restore", "disk", point, "--disk", "2000", "--to", to, "--format", format,
        ];
        let mut command = site.cluster.command(&args)?;
        let log = site.cluster.dir().join("export.log");
        Self::spawn(command.stdout(Stdio::piped()), &log)
    }

    fn end(&mut self) -> Result<ExitStatus> {
        wait("the tool ends", PATIENCE, || Ok(self.0.try_wait()?))
    }
}

impl Drop for Background {
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

/// What a directory and all below it have of the file system.
fn written(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(found) if found.is_dir() => written(&entry.path())?,
            Ok(found) => found.blocks() * 512,
            // It has got another name meanwhile.
            Err(_) => 0,
        };
    }
    Ok(bytes)
}

/// Waits until some is written to a directory, and holds the rest back.
fn hold_in_the_middle(site: &Site, dir: &Path, begun: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while written(dir).unwrap_or_default() < begun {
        ensure!(Instant::now() < deadline, "nothing was written");
        std::thread::sleep(Duration::from_millis(1));
    }
    site.cluster.pause_role(Role::Repository)
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
        let mut export = Background::export(&site, &point, to, format)?;
        hold_in_the_middle(&site, &dir, BEGUN)?;
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
    let mut export = Background::export(&site, &point, to, format)?;
    hold_in_the_middle(&site, &dir, BEGUN)?;
    export.0.kill()?;
    export.0.wait()?;
    site.cluster.resume_role(Role::Repository)?;
    ensure!(!file.exists(), "half a disk has the name of a whole one");
    // What it left is in nobody's way.
    Background::export(&site, &point, to, format)?.end()?;
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
    let mut export = Background::export(site, point, "-", format)?;
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

/// The command, and the directory that it is to make.
fn take(site: &Site, place: &str, to: &Path) -> Result<Background> {
    let args = ["files", "get", place, "--to", to.to_str().context("utf-8")?];
    let mut command = site.cluster.command(&args)?;
    let log = site.cluster.dir().join("files.log");
    Background::spawn(command.stdout(Stdio::null()), &log)
}

fn same_files(one: &Path, other: &Path) -> Result<bool> {
    let mut command = Command::new("diff");
    command.args(["--recursive", "--no-dereference", "--brief"]);
    Ok(command.arg(one).arg(other).output()?.status.success())
}

#[test]
fn half_a_directory_never_has_the_name_of_a_whole_one() -> Result<()> {
    let (mut site, point) = Site::protected()?;
    let place = format!("{point}:disk0p1:/");
    let whole = site.cluster.dir().join("whole");
    take(&site, &place, &whole)?.end().context("all of it")?;
    ensure!(whole.exists(), "the files are not taken");
    let dir = site.cluster.dir().join("restored");
    std::fs::create_dir(&dir)?;
    let to = dir.join("files");
    for victim in Role::ALL.into_iter().map(Some).chain([None]) {
        let name = victim.map_or("tool", Role::name);
        let mut taking = take(&site, &place, &to)?;
        hold_in_the_middle(&site, &dir, 64 << 10)?;
        ensure!(!to.exists(), "{name}: half a directory has its name");
        match victim {
            Some(role) => kill(&mut site, role)?,
            None => {
                taking.0.kill()?;
                site.cluster.resume_role(Role::Repository)?;
            }
        }
        let status = taking.end().context(name)?;
        ensure!(
            to.exists() || !status.success(),
            "{name}: no files, and the tool says that it took them"
        );
        if to.exists() {
            ensure!(victim.is_some(), "it was not the middle");
            ensure!(same_files(&whole, &to)?, "{name}: half a directory");
            std::fs::remove_dir_all(&to)?;
        }
        let left = std::fs::read_dir(&dir)?.count();
        ensure!(victim.is_none() || left == 0, "{name}: something is left");
    }
    Ok(())
}

#[test]
fn half_a_copy_of_a_served_disk_is_none_for_who_copies_it() -> Result<()> {
    let (mut site, point, disk) = protected()?;
    let dir = site.cluster.dir().join("restored");
    for victim in Role::ALL.into_iter().map(Some).chain([None]) {
        let name = victim.map_or("tool", Role::name);
        std::fs::create_dir(&dir)?;
        let socket = site.cluster.dir().join(format!("{name}.sock"));
        let path = socket.to_str().context("utf-8")?;
        let mut serve = site
            .cluster
            .command(&["point", "serve", &point, "--socket", path])?;
        let log = site.cluster.dir().join(format!("{name}.serve.log"));
        let mut serving = Background::spawn(serve.stdout(File::create(&log)?), &log)?;
        wait("the disk is served", PATIENCE, || {
            Ok(socket.exists().then_some(()))
        })?;
        let copy = dir.join("copy.raw");
        let uri = format!("nbd+unix:///{}?socket={path}", disk.key);
        let log = site.cluster.dir().join("nbdcopy.log");
        let mut copying = Background::spawn(Command::new("nbdcopy").arg(uri).arg(&copy), &log)?;
        hold_in_the_middle(&site, &dir, BEGUN)?;
        ensure!(
            copying.0.try_wait()?.is_none(),
            "{name}: it was not the middle"
        );
        match victim {
            Some(role) => kill(&mut site, role)?,
            None => {
                serving.0.kill()?;
                site.cluster.resume_role(Role::Repository)?;
            }
        }
        let is_copied = copying.end()?.success();
        ensure!(
            !is_copied || hash(&copy)? == hash(&disk.file)?,
            "{name}: half a disk was copied, and nobody was told"
        );
        ensure!(
            victim.is_some() || !is_copied,
            "nobody was there to serve it"
        );
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}
