//! Every promise, held against the store.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use stillwater_format::log::Scanner;
use stillwater_format::manifest::Manifest;
use stillwater_format::pack::RecordId;
use stillwater_store::{Store, Usage};
use stillwater_testkit::Dice;
use stillwater_testkit::fault_fs::Journal;
use stillwater_types::PointId;

use crate::content::{Sent, chunk, dataset, disk};
use crate::op::SEEDS;
use crate::oracle::Kept;
use crate::world::{IndexKind, OPTIONS, World};

/// Everything that can be asked for, by id.
fn universe(world: &World) -> BTreeMap<RecordId, Sent> {
    let chunks = (0..SEEDS).map(|seed| chunk(seed, 0));
    let kept = world
        .oracle
        .kept
        .values()
        .chain(world.oracle.maybe.values());
    let disks = kept.map(|kept| &kept.seeds);
    let sent = world.actors.iter().flat_map(|actor| &actor.disks);
    let nodes = disks.chain(sent).flat_map(|seeds| disk(seeds).1);
    chunks.chain(nodes).map(|sent| (sent.id(), sent)).collect()
}

/// Takes in what an answer that never came turned out to be, then checks all.
pub fn check(world: &mut World) -> Result<()> {
    let store = world.store();
    settle(world, &store)?;
    let all = universe(world);
    for (point, kept) in &world.oracle.kept {
        check_point(&store, *point, kept).with_context(|| format!("I2: {point}"))?;
    }
    let held = world.actors.iter().flat_map(|actor| &actor.records);
    for record in world.oracle.loose.keys().chain(held) {
        let read = store
            .read(dataset().id, *record)
            .context("I1: acknowledged")?;
        if let Some(sent) = all.get(record) {
            ensure!(read.stored == sent.stored, "I1: {record} reads other bytes");
        }
    }
    for (record, sent) in &all {
        if let Ok(read) = store.read(dataset().id, *record) {
            ensure!(
                read.stored == sent.stored,
                "I13: {record} reads other bytes"
            );
        }
    }
    check_sessions(world, &store, &all)
}

/// I3, I4, I10: the listing is what was committed and not deleted, in order.
fn settle(world: &mut World, store: &Store) -> Result<()> {
    let listed = store.points(0, 10_000)?;
    ensure!(
        listed.is_sorted_by_key(|point| point.sequence),
        "the listing is not in order"
    );
    let oracle = &mut world.oracle;
    for point in &listed {
        let id = point.commit.point;
        if let Some(kept) = oracle.maybe.remove(&id) {
            oracle.commit(id, kept, point);
            continue;
        }
        ensure!(!oracle.deleted.contains(&id), "I4: {id} came back");
        let Some(kept) = oracle.kept.get(&id) else {
            bail!("I3: {id} is listed and nobody committed it");
        };
        let until = point.commit.retain_until;
        ensure!(
            until >= kept.retain_until,
            "I10: the lock of {id} became shorter"
        );
        if until > kept.retain_until {
            let asked = oracle.locking.get(&id).copied();
            ensure!(
                asked == Some(until),
                "I10: the lock of {id} is not what was asked for"
            );
            oracle.lock(id, until);
        }
    }
    oracle.locking.clear();
    // What is not there by now never will be.
    oracle.maybe.clear();
    let missing: Vec<_> = oracle
        .kept
        .keys()
        .filter(|id| !listed.iter().any(|point| point.commit.point == **id))
        .copied()
        .collect();
    for id in missing {
        ensure!(
            oracle.doomed.contains(&id),
            "I4: {id} is gone and nobody deleted it"
        );
        ensure!(
            oracle.lived >= oracle.kept[&id].free_at,
            "I10: {id} was deleted too early"
        );
        oracle.delete(id);
    }
    oracle.doomed.clear();
    Ok(())
}

/// Reads everything that a point reaches.
pub fn check_point(store: &Store, id: PointId, kept: &Kept) -> Result<()> {
    ensure!(
        store.manifest(id)? == kept.manifest,
        "its manifest is another"
    );
    let manifest = Manifest::decode(&kept.manifest)?;
    let (root, records) = disk(&kept.seeds);
    ensure!(manifest.disks[0].root == root, "its disk is another");
    for sent in &records {
        let read = store.read(dataset().id, sent.id())?;
        ensure!(
            read.stored == sent.stored,
            "{} reads other bytes",
            sent.id()
        );
    }
    Ok(())
}

/// I5, I6: what an open session is told is so, and what it was told stays so.
fn check_sessions(world: &World, store: &Store, all: &BTreeMap<RecordId, Sent>) -> Result<()> {
    for actor in &world.actors {
        let Some(key) = actor.key else { continue };
        let ids: Vec<_> = all.keys().copied().collect();
        let found = store.find(key, &ids).context("I1: a session is gone")?;
        for (record, found) in ids.iter().zip(found) {
            ensure!(
                found || !actor.records.contains(record),
                "I5: {record} was promised to fence {} and is not found",
                key.fence
            );
            if found {
                store
                    .read(dataset().id, *record)
                    .context("I6: found, not read")?;
            }
        }
    }
    Ok(())
}

/// What a restart must find: nothing left over, nothing damaged, both copies of the log alike.
pub fn check_started(world: &World) -> Result<()> {
    let fs = &world.fs;
    let paths = fs.paths();
    let left: Vec<_> = paths
        .iter()
        .filter(|path| path.starts_with("tmp/"))
        .collect();
    ensure!(left.is_empty(), "I9: left in tmp: {left:?}");
    let Usage {
        damaged_pack_count,
        damaged_point_count,
        ..
    } = world.store().usage()?;
    ensure!(damaged_pack_count == 0, "a pack under its name is torn");
    ensure!(damaged_point_count == 0, "D1: a point has no manifest");
    let (log, copy) = (fs.bytes("commit.log"), fs.bytes("copy/commit.log"));
    ensure!(log == copy, "I12: the copies of the log differ");
    let mut scanner = Scanner::new(&log);
    let mut sequence = 0;
    while let Some(frame) = scanner
        .read()
        .map_err(|_| anyhow::anyhow!("I12: a bad frame"))?
    {
        sequence += 1;
        ensure!(frame.sequence == sequence, "I12: the log has a gap");
    }
    ensure!(scanner.offset() == log.len(), "I12: the log has a tail");
    Ok(())
}

/// I7, I8: the index made anew, and a second start after a power cut, tell the same.
pub fn check_again(world: &World) -> Result<()> {
    let all = universe(world);
    let look = |store: &Store| -> Result<_> {
        let points = store.points(0, 10_000)?;
        let usage = store.usage()?;
        let counts = (usage.pack_count, usage.chunk_count, usage.node_count);
        let reads = |id: &RecordId| store.read(dataset().id, *id).is_ok();
        let readable: Vec<_> = all.keys().filter(|id| reads(id)).copied().collect();
        Ok((points, counts, usage.session_count, readable))
    };
    let first = look(&world.store())?;
    let lost = world.fs.crash(Journal::Torn, &mut Dice::new(world.turn));
    for kind in [IndexKind::Memory, IndexKind::Segments] {
        let other = world.on(lost.copy(), 11);
        let store = Store::open(other.env_with(kind), OPTIONS).context("I8: a second start")?;
        ensure!(
            look(&store)? == first,
            "I7, I8: with {kind:?} a second start tells other things"
        );
    }
    Ok(())
}
