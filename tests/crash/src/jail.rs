//! A place of its own: mounts and processes that nobody else sees and that end with the lane.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

/// Tools that must be there, and the Debian packages that bring them.
const TOOLS: [(&str, &str); 7] = [
    ("qemu-storage-daemon", "qemu-utils"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mount", "mount"),
    ("losetup", "mount"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
];
const ROOM_BYTES: u64 = 2 << 30;

/// Fails when this machine cannot run the lane, and says what it lacks.
pub fn check_machine() -> Result<()> {
    let mut lacks = Vec::new();
    if !rustix::process::geteuid().is_root() {
        lacks.push("root, for mounts and loop devices".to_owned());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        if !Path::new(device).exists() {
            lacks.push(format!("{device}, from the kernel or the container"));
        }
    }
    for (tool, package) in TOOLS {
        if !found(tool) {
            lacks.push(format!("{tool}, from the package {package}"));
        }
    }
    ensure!(
        lacks.is_empty(),
        "this machine cannot cut power; it lacks:\n  {}",
        lacks.join("\n  ")
    );
    Ok(())
}

fn found(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs.iter().any(|dir| dir.join(tool).is_file())
}

/// Where disks are kept: in memory if there is room, since they are meant to forget.
pub fn scratch() -> Result<PathBuf> {
    let shared = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(shared).map(|found| found.f_bavail * found.f_frsize);
    if room.is_ok_and(|bytes| bytes >= ROOM_BYTES) {
        return Ok(shared.to_owned());
    }
    let target = PathBuf::from("target/scratch");
    fs::create_dir_all(&target).context("make target/scratch")?;
    Ok(fs::canonicalize(target)?)
}

/// Runs this program again with the same arguments in namespaces of its own and with a directory of
/// its own. However it ends, no mount, process or file of it stays.
pub async fn enclose() -> Result<ExitCode> {
    let dir = tempfile::Builder::new()
        .prefix("stillwater-crash-")
        .tempdir_in(scratch()?)?;
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let mut child = tokio::process::Command::from(inside(dir.path())?)
        .kill_on_drop(true)
        .spawn()
        .context("run unshare")?;
    let status = tokio::select! {
        status = child.wait() => status?,
        _ = interrupt.recv() => stopped(&mut child).await?,
        _ = terminate.recv() => stopped(&mut child).await?,
    };
    match status.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        Some(_) => Ok(ExitCode::FAILURE),
        None => bail!("stopped"),
    }
}

fn inside(dir: &Path) -> Result<Command> {
    let mut command = Command::new("setpriv");
    // The kernel ends everything in the process namespace with its first process, and the mounts
    // and loop devices with the mount namespace.
    command
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--propagation",
            "private",
        ])
        .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg("--inside")
        .arg(dir)
        .stdin(Stdio::null());
    Ok(command)
}

async fn stopped(child: &mut tokio::process::Child) -> Result<std::process::ExitStatus> {
    child.start_kill()?;
    Ok(child.wait().await?)
}
