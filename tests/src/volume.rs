//! A small real file system, for tests that fill it.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::lab::scratch;

/// An ext4 file system in a file, mounted until this is dropped.
#[derive(Debug)]
pub struct Volume {
    dir: TempDir,
}

impl Volume {
    /// Makes and mounts a file system of `mib` MiB; `None` without the right to mount.
    pub fn mount(mib: u64) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let dir = tempfile::Builder::new()
            .prefix("stillwater-volume-")
            .tempdir_in(scratch()?)?;
        let image = dir.path().join("image");
        std::fs::File::create(&image)?.set_len(mib << 20)?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-m", "0"])
            .arg(&image))?;
        let volume = Self { dir };
        std::fs::create_dir(volume.path())?;
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(volume.path()))?;
        Ok(Some(volume))
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    /// Takes room away; removing the file gives it back.
    pub fn fill(&self, mib: u64) -> Result<PathBuf> {
        let path = self.path().join("filler");
        run(Command::new("fallocate")
            .arg("-l")
            .arg(format!("{mib}MiB"))
            .arg(&path))?;
        Ok(path)
    }
}

impl Volume {
    /// Takes all room that is left, to the last block; removing the file gives it back.
    pub fn fill_up(&self) -> Result<PathBuf> {
        let path = self.path().join("last-filler");
        let mut file = std::fs::File::create(&path)?;
        for piece in [1 << 20, 4096, 1] {
            let zeros = vec![1_u8; piece];
            while write_synced(&mut file, &zeros)? {}
        }
        Ok(path)
    }
}

/// False if there is no room for it.
fn write_synced(file: &mut std::fs::File, bytes: &[u8]) -> Result<bool> {
    match file.write_all(bytes).and_then(|()| file.sync_all()) {
        Err(error) if error.kind() == ErrorKind::StorageFull => Ok(false),
        written => Ok(written.map(|()| true)?),
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily, because a role that was just killed may hold a file for a moment longer.
        let umount = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
        if !matches!(umount, Ok(status) if status.success()) {
            eprintln!("{} is still mounted", Path::new(&self.path()).display());
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
