//! A repository of a million chunks is back within ten seconds of being killed under load.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stillwater_tests::cluster::{Role, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, VmSpec};
use stillwater_tests::{Cluster, Lab};
use stillwater_types::DatasetId;

#[path = "../../crates/store/benches/packs.rs"]
mod packs;

const CHUNKS: u64 = 1_000_000;
const PER_PACK: u64 = 2048;
const OPEN_MAX: Duration = Duration::from_secs(10);

#[test]
fn a_repository_of_a_million_chunks_is_back_soon_after_a_kill() -> Result<()> {
    let disks = Disks::new()?;
    let vms = [
        VmSpec::new("web", vec![disks.small()?]),
        VmSpec::new("mail", vec![DiskSpec::new(disks.random(512 << 20)?)]),
    ];
    let lab = Lab::start(&vms, 16)?;
    let mut cluster = Cluster::start()?;
    cluster.add_lab(&lab)?;
    cluster.backup("web", "succeeded")?;
    cluster.stop_role(Role::Repository)?;
    let store = cluster.state(Role::Repository).join("store");
    fill(&store)?;
    let first = start(&mut cluster)?;
    let run = cluster.start_run(&["backup", "mail"])?;
    wait("a pack is being written", Duration::from_secs(120), || {
        Ok(is_writing(&store)?.then_some(()))
    })?;
    cluster.kill_role(Role::Repository)?;
    ensure!(
        is_writing(&store)?,
        "it was killed when it had nothing to do"
    );
    let again = start(&mut cluster)?;
    println!("listened after {first:?} without an index of these chunks, after {again:?} with it");
    ensure!(again <= OPEN_MAX, "it listened after {again:?}");
    cluster.wait_run(&run, Duration::from_secs(300))?;
    cluster.backup("mail", "succeeded")?;
    cluster.backup("web", "succeeded").map(drop)
}

/// Starts the repository; gives the time until it listened, which it does when its store is open.
fn start(cluster: &mut Cluster) -> Result<Duration> {
    let begun = Instant::now();
    cluster.start_role(Role::Repository)?;
    Ok(begun.elapsed())
}

/// Adds chunks that nobody needs.
fn fill(store: &Path) -> Result<()> {
    let dataset = dataset(store)?;
    for (path, bytes) in packs::packs(dataset, CHUNKS, PER_PACK) {
        fs::write(store.join(path), bytes)?;
    }
    Ok(())
}

/// Whose chunks the first pack holds, by its header.
fn dataset(store: &Path) -> Result<DatasetId> {
    for fan in fs::read_dir(store.join("packs"))? {
        if let Some(pack) = fs::read_dir(fan?.path())?.next() {
            let bytes = fs::read(pack?.path())?;
            let id = bytes.get(24..).and_then(|rest| rest.first_chunk());
            return id
                .map(|id| DatasetId::from_bytes(*id))
                .context("a short pack");
        }
    }
    anyhow::bail!("a backup left no pack")
}

fn is_writing(store: &Path) -> Result<bool> {
    Ok(fs::read_dir(store.join("tmp"))?.next().is_some())
}
