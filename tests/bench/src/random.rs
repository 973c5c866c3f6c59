//! Reads of 64 KiB here and there, through the kernel, of a file that a contender shows by FUSE.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stillwater_tests::cluster::wait;
use stillwater_tests::process::Process;

use crate::measured::{Latency, median};

const READ: usize = 65_536;
const READS: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(120);

/// What a program shows in a directory while it runs.
#[derive(Debug)]
pub struct Mount {
    dir: PathBuf,
    process: Process,
}

impl Mount {
    /// Starts a program that mounts onto `dir`, which is made.
    pub fn start(name: &str, command: &mut Command, dir: &Path) -> Result<Self> {
        let log = dir.with_extension("log");
        let process = Process::start(name, command, &log)?;
        Ok(Self {
            dir: dir.to_owned(),
            process,
        })
    }

    /// Waits until a file of this length is there.
    pub fn wait_file(&mut self, file: &Path, length: u64) -> Result<()> {
        let process = &mut self.process;
        wait("the disk is shown", PATIENCE, || {
            process.check_alive()?;
            let there = file.metadata().is_ok_and(|meta| meta.len() == length);
            Ok(there.then_some(()))
        })
    }
}

impl Drop for Mount {
    /// Before the program ends: a mount without one hangs whoever looks.
    fn drop(&mut self) {
        let told = Command::new("fusermount3")
            .arg("-uz")
            .arg(&self.dir)
            .output();
        if !told.is_ok_and(|output| output.status.success()) {
            eprintln!("{} stays mounted", self.dir.display());
        }
    }
}

/// Reads of `shown` what is not zero in `truth`, at the same places in the same order for everybody.
pub fn latency(shown: &Path, truth: &Path) -> Result<Latency> {
    let (shown, truth) = (File::open(shown)?, File::open(truth)?);
    // Neither contender shall profit from what the kernel reads ahead.
    rustix::fs::fadvise(&shown, 0, None, rustix::fs::Advice::Random)?;
    let blocks = truth.metadata()?.len() / READ as u64;
    let (mut took, mut place) = (Vec::new(), 0);
    let (mut read, mut wanted) = (vec![0; READ], vec![0; READ]);
    while took.len() < READS {
        let at = scatter(&mut place) % blocks * READ as u64;
        truth.read_exact_at(&mut wanted, at)?;
        if wanted.iter().all(|byte| *byte == 0) {
            continue;
        }
        let begin = Instant::now();
        shown.read_exact_at(&mut read, at)?;
        took.push(begin.elapsed().as_secs_f64());
        ensure!(read == wanted, "the bytes at {at} are wrong");
    }
    of(took)
}

fn of(mut took: Vec<f64>) -> Result<Latency> {
    took.sort_by(f64::total_cmp);
    let p99_seconds = took.get(took.len() * 99 / 100).copied();
    Ok(Latency {
        p99_seconds: p99_seconds.context("nothing was read")?,
        median_seconds: median(took).context("nothing was read")?,
    })
}

/// The next number of SplitMix64 (Steele, Lea, Flood 2014), which needs no seeding.
fn scatter(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_a_hundred_is_beyond_the_99th() {
        let latency = of((1..=200).map(f64::from).collect()).unwrap();
        assert!((latency.median_seconds - 100.5).abs() < 1e-9);
        assert!((latency.p99_seconds - 199.0).abs() < 1e-9);
        of(Vec::new()).unwrap_err();
    }

    #[test]
    fn places_lie_all_over() {
        let mut state = 0;
        let mut halves = [0; 2];
        for _ in 0..1000 {
            let half = scatter(&mut state) >> 63;
            halves[usize::try_from(half).unwrap()] += 1;
        }
        assert!(halves.iter().all(|count| *count > 400), "{halves:?}");
    }
}
