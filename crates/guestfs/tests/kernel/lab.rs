//! Images, and what mounts them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use stillwater_guestfs::{BlockSource, Contents, Disk, FileSystem, Limits, Volume, volumes};
use tempfile::TempDir;

/// Runs a program, which has to succeed, and gives what it printed.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| {
            panic!("{program} cannot be run (tests/setup.sh installs it): {error}")
        });
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether images can be mounted here; said aloud when not.
pub fn can_mount() -> bool {
    let root = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !root {
        eprintln!("SKIPPED: mounting images takes root and loop devices");
    }
    root
}

/// A file that plays a disk.
pub struct Image {
    directory: TempDir,
    path: PathBuf,
}

impl Image {
    pub fn new(mebibytes: u64) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("disk.img");
        File::create(&path)
            .unwrap()
            .set_len(mebibytes << 20)
            .unwrap();
        Self { directory, path }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// A copy of how it is now, though it is mounted: what a power cut leaves.
    pub fn snapshot(&self) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("disk.img");
        run(
            "cp",
            &["--sparse=always", self.path(), path.to_str().unwrap()],
        );
        Self { directory, path }
    }

    pub fn disk(&self) -> Disk {
        Arc::new(FileDisk(File::open(&self.path).unwrap()))
    }

    /// Mounts it, from `offset` on, with options of `mount`.
    pub fn mount(&self, kind: &str, offset: u64, options: &str) -> Mount {
        let path = self.directory.path().join(format!("mounted-at-{offset}"));
        fs::create_dir_all(&path).unwrap();
        let options = format!("loop,offset={offset},noatime,{options}");
        run(
            "mount",
            &[
                "-t",
                kind,
                "-o",
                &options,
                self.path(),
                path.to_str().unwrap(),
            ],
        );
        Mount { path }
    }
}

/// Where an image is mounted, until this goes.
pub struct Mount {
    pub path: PathBuf,
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.path).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.path.display());
        }
    }
}

struct FileDisk(File);

impl BlockSource for FileDisk {
    fn length(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

/// The volumes of images.
#[track_caller]
pub fn scan(images: &[&Image]) -> Vec<Volume> {
    let disks: Vec<_> = images.iter().map(|image| image.disk()).collect();
    // Small pages, so that their edges are met too.
    let limits = Limits {
        page_entries: 64,
        ..Limits::default()
    };
    volumes(&disks, &limits).unwrap()
}

/// The only file system on an image.
#[track_caller]
pub fn open(image: &Image) -> Box<dyn FileSystem> {
    let found = scan(&[image]);
    let mut systems = found
        .iter()
        .filter(|volume| matches!(volume.contents, Contents::FileSystem(_)));
    let system = systems.next().unwrap_or_else(|| panic!("{found:?}"));
    assert!(systems.next().is_none(), "{found:?}");
    system.open().unwrap()
}
