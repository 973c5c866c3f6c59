//! Cost must follow what changed, not what there is: one figure for each thing that may grow.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use stillwater_tests::cluster::{Role, rows};
use stillwater_tests::guest::{Disks, Random};
use stillwater_tests::lab::{DiskSpec, VmSpec};
use stillwater_tests::{Cluster, Lab};

use crate::ended::seconds_of_data;
use crate::measured::median;
use crate::way::Way;

const PATIENCE: Duration = Duration::from_secs(3600);
const GRANULE: usize = 65_536;
/// How much of a sparse disk is data, wherever that lies.
const DATA: u64 = 64 << 20;
/// Longer than any disk.
const WHOLE_DISK: &str = "70368744177664";
/// How long each of several disks is.
const EACH: u64 = 512 << 20;

/// What grows with what.
#[derive(Debug, clap::Args)]
pub struct Growth {
    /// How many points the VM has whose points are listed.
    #[arg(long, default_value_t = 1000)]
    points: usize,
}

impl Growth {
    /// Measures and prints a table for each thing that grows.
    pub fn run(&self) -> Result<()> {
        println!(
            "| virtual size, 64 MiB of it data | run | wall s | CPU s | peak MiB: controller, repository, proxy |"
        );
        println!("|---|---|---:|---:|---|");
        for (name, length) in [("1 GiB", 1 << 30), ("1 TiB", 1 << 40), ("10 TiB", 10 << 40)] {
            virtual_size(name, length)?;
        }
        println!(
            "\n| disks of 512 MiB at a time | wall s | MiB a second | CPU s |\n|---:|---:|---:|---:|"
        );
        for count in [1, 2, 4] {
            disks_at_a_time(count)?;
        }
        println!("\n| points of a vm | `point list`, median of 9 calls, ms |\n|---:|---:|");
        points_of_a_vm(self.points)
    }
}

/// A cluster whose proxy reads files, and one VM with these disks.
struct Rig {
    cluster: Cluster,
    lab: Lab,
    _disks: Disks,
}

impl Rig {
    fn new(disks: Disks, of_vm: Vec<DiskSpec>) -> Result<Self> {
        // A vCenter answers up to 2000 areas at once, wherever they lie.
        let pages = ["--max-areas", "2000", "--page-bytes", WHOLE_DISK];
        let lab = Lab::start_with(&[VmSpec::new("server", of_vm)], &pages)?;
        // Room for the delta of the largest disk, or no snapshot of it is made.
        lab.free_space("lab-ds", 16 << 40)?;
        let mut cluster = Cluster::start()?;
        cluster.add_lab(&lab)?;
        Way::File.open(&lab, &mut cluster)?;
        Ok(Self {
            cluster,
            lab,
            _disks: disks,
        })
    }

    /// Backs up; seconds of the data path, and CPU seconds of all roles.
    fn back_up(&self) -> Result<(f64, f64)> {
        let before = self.cpu_seconds()?;
        let run = self.cluster.start_run(&["backup", "server"])?;
        let ended = self.cluster.wait_run(&run, PATIENCE)?;
        ensure!(
            ended["state"] == "succeeded",
            "the run is not good: {ended:#}"
        );
        Ok((seconds_of_data(&ended)?, self.cpu_seconds()? - before))
    }

    fn cpu_seconds(&self) -> Result<f64> {
        let each = Role::ALL.map(|role| self.cluster.usage(role).map(|used| used.cpu_seconds));
        each.into_iter().sum()
    }

    fn peaks(&self) -> Result<String> {
        let mut peaks = Vec::new();
        for role in Role::ALL {
            let bytes = self.cluster.usage(role)?.peak_bytes;
            peaks.push((bytes >> 20).to_string());
        }
        Ok(peaks.join(", "))
    }
}

fn virtual_size(name: &str, length: u64) -> Result<()> {
    let disks = Disks::new()?;
    let sparse = sparse(&disks, length)?;
    let rig = Rig::new(disks, vec![DiskSpec::new(sparse)])?;
    for run in ["full", "unchanged", "64 granules changed"] {
        if run.contains("changed") && run != "unchanged" {
            change(&rig.lab.live_disk("server", 0)?, length)?;
        }
        let (wall, cpu) = rig.back_up()?;
        println!(
            "| {name} | {run} | {wall:.2} | {cpu:.2} | {} |",
            rig.peaks()?
        );
    }
    Ok(())
}

/// Data that cannot be compressed, in granules all over a disk of holes.
fn sparse(disks: &Disks, length: u64) -> Result<PathBuf> {
    let path = disks.tiny(1 << 20)?;
    let file = File::options().write(true).open(&path)?;
    file.set_len(0)?;
    file.set_len(length)?;
    let count = DATA / GRANULE as u64;
    for index in 0..count {
        file.write_all_at(
            &noise(index),
            index * (length / count) / GRANULE as u64 * GRANULE as u64,
        )?;
    }
    Ok(path)
}

/// Other data in every sixteenth granule.
fn change(live: &Path, length: u64) -> Result<()> {
    let file = File::options().write(true).open(live)?;
    let count = DATA / GRANULE as u64;
    for index in (0..count).step_by(16) {
        let at = index * (length / count) / GRANULE as u64 * GRANULE as u64;
        file.write_all_at(&noise(index + count), at)?;
    }
    Ok(())
}

fn noise(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed + 1);
    let words = (0..GRANULE / 8).flat_map(|_| random.next().to_le_bytes());
    words.collect()
}

fn disks_at_a_time(count: u64) -> Result<()> {
    let disks = Disks::new()?;
    let mut of_vm = Vec::new();
    for index in 0..count {
        // By its length each has bytes of its own.
        of_vm.push(DiskSpec::new(disks.random(EACH + (index << 20))?));
    }
    let rig = Rig::new(disks, of_vm)?;
    let (wall, cpu) = rig.back_up()?;
    let mib = (count * EACH) >> 20;
    println!(
        "| {count} | {wall:.2} | {:.0} | {cpu:.2} |",
        mib as f64 / wall
    );
    Ok(())
}

fn points_of_a_vm(count: usize) -> Result<()> {
    let rig = Rig::new(Disks::new()?, vec![DiskSpec::empty(8)])?;
    for _ in 0..count {
        rig.back_up()?;
    }
    let (limit, mut took) = (count.to_string(), Vec::new());
    for _ in 0..9 {
        let begin = Instant::now();
        let points = rig
            .cluster
            .json(&["point", "list", "--vm", "server", "--limit", &limit])?;
        took.push(begin.elapsed().as_secs_f64());
        ensure!(
            rows(&points).len() == count,
            "{} of {count} points",
            rows(&points).len()
        );
    }
    let middle = median(took).unwrap_or_default();
    println!("| {count} | {:.0} |", middle * 1e3);
    Ok(())
}
