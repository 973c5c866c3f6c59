//! I13, I14: one flipped bit, or a file cut short, anywhere in a small repository.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use stillwater_store::Store;
use stillwater_testkit::{Dice, FaultFs};

use crate::campaign::{is_full, replay, setting};
use crate::content::{dataset, disk};
use crate::script::checkpoints;
use crate::world::World;

/// What became of the damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The repository refused to start.
    Refused,
    /// Something that was asked for was refused, or the scrub named damage.
    Detected,
    /// The file holds again what it held.
    Healed,
    /// All that was promised is there, in a file that holds no truth or in bytes that mean nothing.
    Void,
}

/// Changes one file, and tells which and how.
fn hurt(fs: &FaultFs, dice: &mut Dice) -> (String, String) {
    let paths = fs.paths();
    let path = paths[dice.place(paths.len())].clone();
    let mut bytes = fs.bytes(&path);
    if bytes.is_empty() {
        return (path, "empty".into());
    }
    let at = dice.place(bytes.len());
    let how = if dice.one_in(3) {
        bytes.truncate(at);
        format!("cut at {at}")
    } else {
        let bit = dice.below(8);
        bytes[at] ^= 1 << bit;
        format!("bit {bit} of byte {at}")
    };
    fs.set_bytes(&path, &bytes);
    (path, how)
}

/// Whether a file holds truth that is there only once, twice or not at all.
fn copies(path: &str) -> u32 {
    let twice = ["super.", "commit.log", "copy/", "manifests/"];
    if path.starts_with("packs/") {
        1
    } else if twice.iter().any(|start| path.starts_with(start)) {
        2
    } else {
        0
    }
}

fn attempt(base: &World, seed: u64) -> Result<(String, Outcome)> {
    let mut dice = Dice::new(seed);
    let mut world = base.on(base.fs.copy(), seed);
    let before = world.fs.copy();
    let (path, how) = hurt(&world.fs, &mut dice);
    let judged = judge(&mut world, &path, &before).with_context(|| format!("{path}, {how}"))?;
    let kind = path.split('/').next().unwrap_or_default().to_owned();
    Ok((kind, judged))
}

fn judge(world: &mut World, path: &str, before: &FaultFs) -> Result<Outcome> {
    if world.open().is_err() {
        ensure!(copies(path) != 2, "what is there twice did not heal");
        return Ok(Outcome::Refused);
    }
    let store = world.store();
    let listed = store.points(0, 1000)?;
    let ids: Vec<_> = listed.iter().map(|point| point.commit.point).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    let wanted: Vec<_> = world.oracle.kept.keys().copied().collect();
    ensure!(
        sorted == wanted,
        "points are listed that there are not, or missing"
    );
    let mut refused = read_all(world, &store)?;
    let looks_damaged = store.usage()?.damaged_pack_count > 0;
    store.request_scrub();
    let scrubbed = store.scrub(u64::MAX, &());
    refused += read_all(world, &store)?;
    let health = store.health();
    let healed = scrubbed
        .as_ref()
        .is_ok_and(|done| done.healed_copy_count > 0);
    let named = health.damaged_pack_count > 0 || looks_damaged || scrubbed.is_err();
    ensure!(
        refused == 0 || copies(path) != 2,
        "what is there twice was refused"
    );
    let is_same = world.fs.paths().iter().any(|found| found == path)
        && world.fs.bytes(path) == before.bytes(path);
    if refused > 0 || named {
        return Ok(Outcome::Detected);
    }
    if is_same || healed {
        return Ok(Outcome::Healed);
    }
    if copies(path) == 2 {
        // The superblock is written anew at each start, and the log and manifests are healed.
        ensure!(
            path.starts_with("super."),
            "a changed copy was left as it is"
        );
    }
    ensure!(copies(path) != 1, "damage in a pack was not found");
    Ok(Outcome::Void)
}

/// Reads every point. Counts what was refused; what is served must be right.
fn read_all(world: &World, store: &Store) -> Result<u64> {
    let mut refused = 0;
    for (point, kept) in &world.oracle.kept {
        match store.manifest(*point) {
            Ok(bytes) => ensure!(bytes == kept.manifest, "a manifest was served wrong"),
            Err(_) => refused += 1,
        }
        for sent in disk(&kept.seeds).1 {
            match store.read(dataset().id, sent.id()) {
                Ok(read) => ensure!(read.stored == sent.stored, "{} was served wrong", sent.id()),
                Err(_) => refused += 1,
            }
        }
    }
    Ok(refused)
}

const TEST: &str = "damage_anywhere_is_found_or_means_nothing";

#[test]
fn damage_anywhere_is_found_or_means_nothing() {
    let bases = checkpoints();
    // With packs in use, condemned and in quarantine, and segments of the index.
    let bases = [&bases[2], &bases[3], &bases[4]];
    let base = |seed: u64| bases[usize::try_from(seed % 3).unwrap_or_default()];
    if let Some(seed) = setting("SEED") {
        attempt(base(seed), seed).expect("no violation");
        return;
    }
    let (trials, next) = (if is_full() { 10_000 } else { 600 }, AtomicU64::new(1));
    let found = Mutex::new((BTreeMap::new(), Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > trials {
                return;
            }
            let attempted = attempt(base(seed), seed);
            let (tally, failures) = &mut *found.lock().expect("no panic elsewhere");
            match attempted {
                Ok(outcome) => *tally.entry(outcome).or_insert(0u64) += 1,
                Err(violation) => failures.push((seed, violation)),
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let (tally, failures) = found.into_inner().expect("no panic elsewhere");
    for ((file, outcome), count) in &tally {
        println!("{file:<16} {outcome:?} {count}");
    }
    for (seed, violation) in failures.iter().take(10) {
        println!("{violation:#}\n{}", replay(TEST, *seed));
    }
    assert!(
        failures.is_empty(),
        "{} of {trials} broke a promise",
        failures.len()
    );
}
