//! A disk that remembers every write and flush, in order.
//!
//! QEMU's storage daemon shows a raw disk as a file over FUSE and logs what reaches it; a loop device
//! over that file carries the file system. It needs no kernel module.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::filesystem::{FileSystem, Mount};
use crate::history::{self, History};
use crate::image::Image;

/// Sparse, and cut to what was written when it is read.
const LOG_BYTES: u64 = 4 << 30;
const PATIENCE: Duration = Duration::from_secs(20);

/// A mounted disk whose writes are logged.
#[derive(Debug)]
pub struct Recorder {
    mount: Mount,
    daemon: Daemon,
    log: PathBuf,
    root: PathBuf,
}

impl Recorder {
    /// Starts with a disk that holds `start`, mounted beneath `dir`.
    pub fn start(fs: FileSystem, start: &Image, dir: &Path) -> Result<Self> {
        let [disk, log, shown, root] =
            ["disk.raw", "log.raw", "disk", "root"].map(|name| dir.join(name));
        start.save(&disk)?;
        File::create(&log)?.set_len(LOG_BYTES)?;
        File::create(&shown)?;
        std::fs::create_dir_all(&root)?;
        let daemon = Daemon::start(&disk, &log, &shown, start.length())?;
        let mount = fs.mount(&shown, &root)?;
        Ok(Self {
            mount,
            daemon,
            log,
            root,
        })
    }

    /// Where the file system is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Tells how many entries the log has at any moment.
    pub fn position(&self) -> impl Fn() -> Result<u64> + Send + Sync + 'static {
        let log = self.log.clone();
        move || history::position(&log)
    }

    /// Unmounts, and answers everything that was written.
    pub fn end(self) -> Result<History> {
        let Self {
            mount, daemon, log, ..
        } = self;
        mount.end()?;
        daemon.end()?;
        let history = History::read(&log)?;
        std::fs::remove_file(&log)?;
        Ok(history)
    }
}

/// The storage daemon; ends with its owner.
#[derive(Debug)]
struct Daemon(Child);

impl Daemon {
    fn start(disk: &Path, log: &Path, shown: &Path, length: u64) -> Result<Self> {
        let file = |name: &str, path: &Path| {
            format!(
                "driver=file,node-name={name},filename={},discard=ignore",
                path.display()
            )
        };
        let logged = "driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512,\
                      log-super-update-interval=1";
        let export = format!(
            "type=fuse,id=shown,node-name=logged,mountpoint={},writable=on,allow-other=off",
            shown.display()
        );
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-storage-daemon"])
            .args(["--blockdev", &file("disk", disk)])
            .args(["--blockdev", &file("log", log)])
            .args(["--blockdev", logged, "--export", &export])
            .stdin(Stdio::null())
            .spawn()
            .context("start qemu-storage-daemon")?;
        let mut daemon = Self(child);
        daemon.wait_shown(shown, length)?;
        Ok(daemon)
    }

    fn wait_shown(&mut self, shown: &Path, length: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while std::fs::metadata(shown)?.len() != length {
            let ended = self.0.try_wait()?;
            ensure!(ended.is_none(), "qemu-storage-daemon ended: {ended:?}");
            ensure!(
                Instant::now() < deadline,
                "qemu-storage-daemon shows no disk"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM).context("stop qemu-storage-daemon")?;
        let status = self.0.wait()?;
        ensure!(status.success(), "qemu-storage-daemon ended with {status}");
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // An error means that it has ended already, which is what is wanted.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
