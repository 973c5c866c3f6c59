//! How fast a point is read through `point serve`, against a restore of the same disk: `make serve-rate` (MIB=1024 ROUNDS=5).
//!
//! Both in turn, on the same point, from the first byte that is asked for to the last; the restore writes a file and
//! syncs it, nbdcopy throws away what it reads. Half of the disk can be compressed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, VmSpec};
use stillwater_tests::workspace::setting;
use stillwater_tests::{Cluster, Serving, Site};

/// What of a restore's rate is demanded.
const LEAST: f64 = 0.6;
const KEY: i32 = 2000;

fn main() -> Result<()> {
    let (mib, rounds): (u64, usize) = (setting("MIB", 1024)?, setting("ROUNDS", 5)?);
    let disks = Disks::new()?;
    let disk = DiskSpec::new(disks.some(mib << 20, mib << 19, 7)?);
    let site = Site::of(&[VmSpec::new("web", vec![disk])], Cluster::start()?)?;
    let point = site.back_up()?;
    let bytes = (mib << 20) as f64;
    let serving = Serving::start(&site, &point, &[])?;
    let (mut restored, mut served) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        restored.push(bytes / restore(&site, &point)?);
        served.push(bytes / read(&serving.uri(KEY))?);
        let rates = restored.last().zip(served.last());
        let (restored, served) = rates.context("rates")?;
        println!(
            "round {round}: restore {:.0} MB/s, served {:.0} MB/s",
            restored / 1e6,
            served / 1e6
        );
    }
    serving.stop()?;
    let (restored, served) = (median(restored), median(served));
    println!(
        "medians of {rounds}: a disk of {mib} MiB is served at {:.2} of a restore's rate ({:.0} and {:.0} MB/s)",
        served / restored,
        served / 1e6,
        restored / 1e6
    );
    ensure!(served / restored >= LEAST, "less than {LEAST} of it");
    Ok(())
}

/// Seconds that a restore to a file takes.
fn restore(site: &Site, point: &str) -> Result<f64> {
    let file = site.cluster.dir().join("restored.raw");
    let to = file.to_str().context("utf-8")?;
    let key = KEY.to_string();
    let begin = Instant::now();
    site.cluster
        .ok(&["restore", "disk", point, "--disk", &key, "--to", to])?;
    let took = begin.elapsed().as_secs_f64();
    std::fs::remove_file(Path::new(to))?;
    Ok(took)
}

/// Seconds that nbdcopy takes to read it all.
fn read(uri: &str) -> Result<f64> {
    let begin = Instant::now();
    // What is not there is not asked for either way, so that holes cost nobody anything.
    let status = Command::new("nbdcopy")
        .args([uri, "null:"])
        .stdin(Stdio::null())
        .status()
        .context("run nbdcopy: tests/setup.sh installs it")?;
    ensure!(status.success(), "nbdcopy ended with {status}");
    Ok(begin.elapsed().as_secs_f64())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}
