//! Guest disks for tests, and a writer that changes them while they are backed up.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::lab::{DiskSpec, scratch};
use crate::workspace;

const BLOCK: u64 = 4096;

/// Copies of the guest disks that `make lab` built, to be consumed by a lab.
#[derive(Debug)]
pub struct Disks {
    dir: TempDir,
}

impl Disks {
    /// A place for disk images.
    pub fn new() -> Result<Self> {
        Ok(Self {
            dir: tempfile::Builder::new()
                .prefix("stillwater-disks-")
                .tempdir_in(scratch()?)?,
        })
    }

    /// Copies of the images of a set, such as `small` or `debian`, in the order of their names.
    pub fn set(&self, set: &str) -> Result<Vec<DiskSpec>> {
        let mut images: Vec<PathBuf> = fs::read_dir(workspace::lab_file("images")?)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        let name = |path: &Path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        images.retain(|path| {
            name(path)
                .strip_prefix(set)
                .is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".raw"))
        });
        // The root disk is the first one.
        images.sort_by_key(|path| !name(path).ends_with("-root.raw"));
        ensure!(!images.is_empty(), "no images of {set}: run `make lab`");
        images
            .iter()
            .map(|image| Ok(DiskSpec::new(self.copy(image)?)))
            .collect()
    }

    /// The first image of the small set.
    pub fn small(&self) -> Result<DiskSpec> {
        self.set("small")?
            .into_iter()
            .next()
            .context("the small set is empty")
    }

    /// A disk of `length` bytes with a few blocks of its own.
    pub fn tiny(&self, length: u64) -> Result<PathBuf> {
        let path = self.fresh("tiny")?;
        let file = File::create(&path)?;
        file.set_len(length)?;
        let mut random = Random::new(length);
        for _ in 0..64 {
            let block: Vec<u8> = (0..BLOCK / 8)
                .flat_map(|_| random.next().to_le_bytes())
                .collect();
            file.write_all_at(&block, random.next() % (length / BLOCK) * BLOCK)?;
        }
        Ok(path)
    }

    /// A disk of `length` bytes that begins with `written` bytes which nothing compresses; another `seed`, others.
    pub fn some(&self, length: u64, written: u64, seed: u64) -> Result<PathBuf> {
        let path = self.fresh("some")?;
        let file = File::create(&path)?;
        let mut out = BufWriter::with_capacity(1 << 20, &file);
        let mut random = Random::new(seed);
        for _ in 0..written / 8 {
            out.write_all(&random.next().to_le_bytes())?;
        }
        out.flush()?;
        file.set_len(length)?;
        Ok(path)
    }

    /// A disk of `length` bytes that cannot be compressed.
    pub fn random(&self, length: u64) -> Result<PathBuf> {
        self.some(length, length, length ^ 1)
    }

    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let count = fs::read_dir(self.dir.path())?.count();
        Ok(self.dir.path().join(format!("{count}-{name}.raw")))
    }

    fn copy(&self, image: &Path) -> Result<PathBuf> {
        let to = self.fresh("disk")?;
        let status = std::process::Command::new("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .arg(image)
            .arg(&to)
            .status()?;
        ensure!(status.success(), "copy {}", image.display());
        Ok(to)
    }
}

/// Changes random blocks of a live disk until it is dropped.
#[derive(Debug)]
pub struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Writer {
    /// Starts writing into the last eighth of `disk`, about 400 blocks a second.
    pub fn start(disk: &Path, seed: u64) -> Result<Self> {
        let file = File::options().write(true).open(disk)?;
        let blocks = file.metadata()?.len() / BLOCK;
        let (stop, written) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, count) = (stop.clone(), written.clone());
        let thread = std::thread::spawn(move || {
            let mut random = Random::new(seed);
            while !stopped.load(Ordering::Relaxed) {
                let at = blocks - 1 - random.next() % (blocks / 8).max(1);
                let block = random.next().to_le_bytes().repeat(BLOCK as usize / 8);
                file.write_all_at(&block, at * BLOCK)?;
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_micros(2500));
            }
            Ok(())
        });
        Ok(Self {
            stop,
            written,
            thread: Some(thread),
        })
    }

    /// Blocks written so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Stops and tells how many blocks were written.
    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        }
        Ok(self.written())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// SplitMix64: a seed replays the same sequence on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A sequence that its seed decides.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
