//! The file systems that are tried, and how they are made and mounted.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A file system of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FileSystem {
    /// Most servers' default.
    Ext4,
    /// The default of others.
    Xfs,
}

impl FileSystem {
    /// Its name, as `mount` knows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// The file system of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Ext4, Self::Xfs]
            .into_iter()
            .find(|fs| fs.name() == name)
    }

    /// The smallest disk that it takes with room for the script.
    pub const fn disk_bytes(self) -> u64 {
        match self {
            Self::Ext4 => 64 << 20,
            Self::Xfs => 300 << 20,
        }
    }

    /// Makes it on an empty disk. Nothing is discarded, because the log of writes does not tell what
    /// a discarded sector reads as.
    pub fn make(self, disk: &Path) -> Result<()> {
        let mut command = Command::new(format!("mkfs.{}", self.name()));
        match self {
            Self::Ext4 => command.args([
                "-q",
                "-F",
                "-b",
                "4096",
                "-E",
                "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
            ]),
            Self::Xfs => command.args(["-q", "-f", "-K"]),
        };
        run(command.arg(disk))
    }

    /// Mounts a disk through a loop device that vanishes with the mount.
    pub fn mount(self, disk: &Path, dir: &Path) -> Result<Mount> {
        // ext4 would write its journal every 5 s and so make durable what nobody synced: a barrier
        // that is missing would be missed less. Two XFS with one name are mounted at a time.
        let options = match self {
            Self::Ext4 => "loop,noatime,commit=300",
            Self::Xfs => "loop,noatime,nouuid",
        };
        run(Command::new("mount")
            .args(["-t", self.name(), "-o", options])
            .args([disk, dir]))?;
        Ok(Mount(Some(dir.to_owned())))
    }
}

/// A mounted file system.
#[derive(Debug)]
pub struct Mount(Option<std::path::PathBuf>);

impl Mount {
    /// Ends the mount; waits for whoever is still closing files.
    pub fn end(mut self) -> Result<()> {
        self.0.take().map_or(Ok(()), |dir| unmount(&dir))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(dir) = self.0.take()
            && let Err(error) = unmount(&dir)
        {
            eprintln!("crash: {error:#}");
        }
    }
}

fn unmount(dir: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match run(Command::new("umount").arg(dir)) {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
            Ok(()) => return Ok(()),
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    bail!("{command:?}: {}", told.trim())
}
