//! Scrub and verification: damage is found, named, set aside and healed, and nothing else suffers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stillwater_format::pack::{FOOTER_LEN, Footer, RecordId, RecordKind, Trailer};
use stillwater_types::{PointId, RunId};

use super::memfs::{MemFs, Trouble};
use super::rig::*;
use crate::*;

mod chaos;
mod copies;
mod saved;
mod sick;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const ALL: u64 = u64::MAX;

/// A disk of these chunks.
#[derive(Debug, Clone)]
struct Kept {
    point: PointId,
    seeds: Vec<u64>,
}

/// A whole backup: what the repository says it has is not sent. Chunks and nodes go to packs of their own.
fn back_up(store: &Store, turn: u64, seeds: &[u64]) -> Result<Kept, Error> {
    let (run, point) = (RunId::mint(), PointId::mint());
    let key = store.open_session(run, dataset().id, 0)?.key;
    let (root, nodes) = tree(seeds);
    for (records, salt_number) in [(chunks(seeds), 2 * turn), (nodes, 2 * turn + 1)] {
        let ids: Vec<_> = records.iter().map(Sent::id).collect();
        let has = store.find(key, &ids)?;
        let new = records.into_iter().zip(has).filter(|(_, has)| !has);
        let new: Vec<_> = new.map(|(record, _)| record).collect();
        if !new.is_empty() {
            put(store, key, salt(salt_number), &new)?;
        }
    }
    let bytes = manifest(point, run, vec![root]).encode().unwrap();
    store.propose_point(key, &bytes)?;
    store.commit_point(key, point)?;
    store.close_session(key)?;
    let seeds = seeds.to_vec();
    Ok(Kept { point, seeds })
}

/// Three points, of which the first two share chunks and a node.
fn three(store: &Store) -> Vec<Kept> {
    let disks: [&[u64]; 3] = [&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 7, 8, 9, 4], &[20, 21]];
    let backups = disks.iter().zip(1..);
    backups
        .map(|(seeds, turn)| back_up(store, turn, seeds).unwrap())
        .collect()
}

fn packs(fs: &MemFs) -> Vec<PathBuf> {
    fs.files_in("packs")
}

/// The chunks and nodes of a pack with their places: start, end.
fn table(bytes: &[u8]) -> Vec<(RecordId, usize, usize)> {
    let footer = bytes.last_chunk::<FOOTER_LEN>().unwrap();
    let footer = Footer::decode(footer, bytes.len() as u64).unwrap();
    let at = footer.trailer_offset as usize;
    let trailer = &bytes[at..at + footer.trailer_len as usize];
    let entries = Trailer::decode(trailer, &footer).unwrap().entries;
    let place = |offset: u64, len: u32| (offset as usize, offset as usize + 72 + len as usize);
    entries
        .iter()
        .filter(|entry| entry.kind != RecordKind::Salt)
        .map(|entry| {
            let (start, end) = place(entry.offset, entry.stored_len);
            let (kind, id) = (entry.kind, entry.id);
            (RecordId { kind, id }, start, end)
        })
        .collect()
}

fn ids(bytes: &[u8]) -> BTreeSet<RecordId> {
    table(bytes).into_iter().map(|(id, _, _)| id).collect()
}

/// The extents of a disk that need one of the lost records, as (offset, length).
fn oracle(kept: &Kept, lost: &BTreeSet<RecordId>) -> Vec<(u64, u64)> {
    let (root, nodes) = tree(&kept.seeds);
    let (top, below) = nodes.split_last().unwrap();
    if lost.contains(&top.id()) {
        return vec![(0, root.length)];
    }
    let mut extents: Vec<(u64, u64)> = Vec::new();
    for (place, seed) in kept.seeds.iter().enumerate() {
        let chunk = RecordId::from(chunk_id(*seed));
        if lost.contains(&chunk) || lost.contains(&below[place / 3].id()) {
            let (offset, length) = (place as u64 * u64::from(CHUNK_LEN), u64::from(CHUNK_LEN));
            match extents.last_mut() {
                Some(last) if last.0 + last.1 == offset => last.1 += length,
                _ => extents.push((offset, length)),
            }
        }
    }
    extents
}

/// Health and verification name exactly what the oracle does, and nothing reads as wrong bytes.
#[track_caller]
fn check_named(store: &Store, points: &[Kept], lost: &BTreeSet<RecordId>) {
    let mut degraded = BTreeSet::new();
    for kept in points {
        let expected = oracle(kept, lost);
        let found = store.verify_point(kept.point, &()).unwrap();
        let named = found.extents.iter().map(|e| (e.offset, e.length));
        assert_eq!(named.collect::<Vec<_>>(), expected);
        assert_eq!(found.extent_count, expected.len() as u64);
        assert_eq!(
            found.damaged_bytes,
            expected.iter().map(|e| e.1).sum::<u64>()
        );
        assert_eq!(found.is_whole(), expected.is_empty());
        if expected.is_empty() {
            check_point(store, kept.point, &kept.seeds);
        } else {
            degraded.insert(kept.point);
        }
    }
    let health = store.health();
    let told: BTreeSet<_> = health.degraded_points.iter().copied().collect();
    assert_eq!(told, degraded);
    assert_eq!(health.lost_record_count == 0, degraded.is_empty());
}

/// The points that restore byte for byte.
fn restorable(store: &Store, points: &[Kept]) -> BTreeSet<PointId> {
    let whole = points.iter().filter(|kept| {
        let (_, nodes) = tree(&kept.seeds);
        let records = nodes.into_iter().chain(chunks(&kept.seeds));
        let reads = |sent: Sent| match store.read(dataset().id, sent.id()) {
            Ok(read) => {
                assert_eq!(read.stored, sent.stored);
                true
            }
            Err(_) => false,
        };
        store.manifest(kept.point).is_ok() && records.into_iter().all(reads)
    });
    whole.map(|kept| kept.point).collect()
}

fn edit(fs: &MemFs, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs.bytes(path).unwrap();
    change(&mut bytes);
    fs.set_bytes(path, bytes);
}

#[test]
fn sound_packs_are_read_once_and_again_when_they_are_due() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    three(&store);
    let stored: u64 = packs(&fs)
        .iter()
        .map(|p| fs.bytes(p).unwrap().len() as u64)
        .sum();
    assert_eq!(store.health().unverified_bytes, stored);
    assert_eq!(
        (store.health().verified_since, store.health().overdue_bytes),
        (None, 0)
    );
    let done = store.scrub(ALL, &()).unwrap();
    assert_eq!(done.pack_count, packs(&fs).len() as u64);
    assert!(done.read_bytes >= stored && done.damaged_pack_count == 0);
    let health = store.health();
    assert_eq!(
        (health.verified_since, health.due_bytes),
        (Some(health.now), 0)
    );
    assert_eq!(store.scrub(ALL, &()).unwrap(), Scrubbed::default());
    rig.clock.advance(10 * DAY);
    assert_eq!(store.scrub(ALL, &()).unwrap().pack_count, 0);
    rig.clock.advance(DAY);
    assert_eq!(store.health().due_bytes, stored);
    assert_eq!(store.health().overdue_bytes, 0);
    rig.clock.advance(4 * DAY);
    assert_eq!(store.health().overdue_bytes, stored);
    assert_eq!(store.scrub(ALL, &()).unwrap().pack_count, done.pack_count);
}

#[test]
fn what_was_asked_for_is_read_whatever_is_due_and_however_long_it_takes() {
    let rig = Rig::default();
    let (_, store) = rig.fresh();
    three(&store);
    let count = store.scrub(ALL, &()).unwrap().pack_count;
    store.request_scrub();
    for _ in 0..count {
        assert_eq!(store.scrub(1, &()).unwrap().pack_count, 1);
        rig.clock.advance(HOUR);
    }
    assert_eq!(store.scrub(ALL, &()).unwrap().pack_count, 0);
}

#[test]
fn a_scrub_ends_with_its_budget_and_goes_on_with_what_waits_longest() {
    let rig = Rig::default();
    let (_, store) = rig.fresh();
    let first = back_up(&store, 1, &[1, 2]).unwrap();
    store.scrub(ALL, &()).unwrap();
    rig.clock.advance(11 * DAY);
    let second = back_up(&store, 2, &[3, 4]).unwrap();
    assert_eq!(store.last_verified(second.point), None);
    let before = store.last_verified(first.point).unwrap();
    // Fresh ones first: chunks and nodes of the second point.
    for _ in 0..2 {
        assert_eq!(store.scrub(1, &()).unwrap().pack_count, 1);
    }
    let now = store.health().now;
    assert_eq!(store.last_verified(second.point), Some(now));
    assert_eq!(store.last_verified(first.point), Some(before));
    for _ in 0..2 {
        assert_eq!(store.scrub(1, &()).unwrap().pack_count, 1);
    }
    assert_eq!(store.last_verified(first.point), Some(now));
}

#[test]
fn each_pack_destroyed_in_turn_degrades_exactly_the_points_that_need_it_and_a_backup_heals_them() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let points = three(&store);
    drop(store);
    for path in packs(&fs) {
        for is_open in [false, true] {
            let hurt = fs.restart();
            let lost = ids(&hurt.bytes(&path).unwrap());
            let store = is_open.then(|| rig.open(&hurt).unwrap());
            edit(&hurt, &path, |bytes| bytes.fill(0xa5));
            let store = store.unwrap_or_else(|| rig.open(&hurt).unwrap());
            let done = store.scrub(ALL, &()).unwrap();
            assert_eq!(done.damaged_pack_count, 1);
            check_named(&store, &points, &lost);
            assert!(!packs(&hurt).contains(&path));
            let aside = Path::new("quarantine").join(path.file_name().unwrap());
            assert!(hurt.bytes(&aside).is_some(), "it is never removed");
            for (kept, turn) in points.iter().zip(50..) {
                back_up(&store, turn, &kept.seeds).unwrap();
            }
            store.scrub(ALL, &()).unwrap();
            check_named(&store, &points, &BTreeSet::new());
            drop(store);
            check_named(&rig.open(&hurt).unwrap(), &points, &BTreeSet::new());
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_pack_costs_at_most_the_record_that_it_is_in() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let points = three(&store);
    drop(store);
    for path in packs(&fs) {
        let bytes = fs.bytes(&path).unwrap();
        let table = table(&bytes);
        for at in (0..bytes.len()).step_by(29) {
            let hurt = fs.restart();
            edit(&hurt, &path, |bytes| bytes[at] ^= 1 << (at % 8));
            let store = rig.open(&hurt).unwrap();
            let done = store.scrub(ALL, &()).unwrap();
            assert_eq!(done.damaged_pack_count, 1, "{path:?} at {at}");
            let hit = table
                .iter()
                .filter(|(_, start, end)| (*start..*end).contains(&at));
            let lost: BTreeSet<_> = hit.map(|(id, _, _)| *id).collect();
            assert_eq!(
                done.lost_record_count,
                lost.len() as u64,
                "{path:?} at {at}"
            );
            check_named(&store, &points, &lost);
            let again = store.scrub(ALL, &()).unwrap();
            assert_eq!(again.damaged_pack_count, 0, "the salvaged pack is sound");
        }
    }
}

#[test]
fn a_pack_cut_anywhere_keeps_every_record_before_the_cut() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let points = three(&store);
    drop(store);
    for path in packs(&fs) {
        let bytes = fs.bytes(&path).unwrap();
        let table = table(&bytes);
        for cut in (0..bytes.len()).step_by(67) {
            let hurt = fs.restart();
            edit(&hurt, &path, |bytes| bytes.truncate(cut));
            let store = rig.open(&hurt).unwrap();
            assert_eq!(store.scrub(ALL, &()).unwrap().damaged_pack_count, 1);
            let gone = table.iter().filter(|(_, _, end)| *end > cut);
            // Chunks need the salt in front of them, which the index knows unless it was made anew.
            check_named(&store, &points, &gone.map(|(id, _, _)| *id).collect());
        }
    }
}

#[test]
fn two_exchanged_packs_are_sorted_out() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let points = three(&store);
    let paths = packs(&fs);
    let (a, b) = (fs.bytes(&paths[0]).unwrap(), fs.bytes(&paths[1]).unwrap());
    fs.set_bytes(&paths[0], b);
    fs.set_bytes(&paths[1], a);
    let done = store.scrub(ALL, &()).unwrap();
    assert_eq!((done.damaged_pack_count, done.lost_record_count), (2, 0));
    check_named(&store, &points, &BTreeSet::new());
}

#[test]
fn a_record_that_lies_in_another_pack_too_is_not_lost() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let run = RunId::mint();
    let key = store.open_session(run, dataset().id, 0).unwrap().key;
    let mut writers: Vec<_> = (0..2)
        .map(|n| store.begin_pack(key, &salt(n)).unwrap())
        .collect();
    for sent in chunks(&[1, 2, 3]) {
        for writer in &mut writers {
            writer.append(&sent.header, &sent.stored).unwrap();
        }
    }
    for writer in writers {
        writer.finish().unwrap();
    }
    store.close_session(key).unwrap();
    let kept = back_up(&store, 1, &[1, 2, 3]).unwrap();
    for path in packs(&fs) {
        let hurt = fs.restart();
        let is_double = ids(&hurt.bytes(&path).unwrap()).contains(&chunk_id(1).into());
        edit(&hurt, &path, |bytes| bytes[300] ^= 1);
        let store = rig.open(&hurt).unwrap();
        let done = store.scrub(ALL, &()).unwrap();
        assert_eq!(done.damaged_pack_count, 1);
        assert_eq!(done.lost_record_count, u64::from(!is_double));
        assert_eq!(
            done.salvaged_record_count == 0,
            is_double,
            "nothing had to be copied"
        );
        assert_eq!(
            store.verify_point(kept.point, &()).unwrap().is_whole(),
            is_double
        );
    }
}

#[test]
fn damage_that_a_reader_meets_is_looked_at_first() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let points = three(&store);
    store.scrub(ALL, &()).unwrap();
    let path = packs(&fs)
        .into_iter()
        .find(|path| ids(&fs.bytes(path).unwrap()).contains(&chunk_id(20).into()));
    let path = path.unwrap();
    let (id, start, _) = table(&fs.bytes(&path).unwrap())[0];
    edit(&fs, &path, |bytes| bytes[start + 100] ^= 1);
    assert_eq!(
        store.scrub(ALL, &()).unwrap().pack_count,
        0,
        "nothing is due"
    );
    assert!(matches!(
        store.read(dataset().id, id),
        Err(Error::Damaged { .. })
    ));
    let done = store.scrub(1, &()).unwrap();
    assert_eq!(
        (
            done.pack_count,
            done.damaged_pack_count,
            done.lost_record_count
        ),
        (1, 1, 1)
    );
    check_named(&store, &points, &BTreeSet::from([id]));
}

#[test]
fn what_is_lost_is_a_miss_for_open_sessions_and_no_point_is_committed_on_it() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    back_up(&store, 1, &[1, 2, 3]).unwrap();
    let (run, point) = (RunId::mint(), PointId::mint());
    let key = store.open_session(run, dataset().id, 0).unwrap().key;
    let wanted = RecordId::from(chunk_id(2));
    assert_eq!(store.find(key, &[wanted]).unwrap(), [true]);
    let (root, _) = tree(&[1, 2, 3]);
    let bytes = manifest(point, run, vec![root]).encode().unwrap();
    store.propose_point(key, &bytes).unwrap();
    for path in packs(&fs) {
        let place = table(&fs.bytes(&path).unwrap())
            .into_iter()
            .find(|(id, _, _)| *id == wanted);
        if let Some((_, start, _)) = place {
            edit(&fs, &path, |bytes| bytes[start + 90] ^= 4);
        }
    }
    store.scrub(ALL, &()).unwrap();
    assert_eq!(store.find(key, &[wanted]).unwrap(), [false]);
    let refused =
        |outcome: Error| matches!(outcome, Error::RecordNotFound { record } if record == wanted);
    assert!(refused(store.commit_point(key, point).unwrap_err()));
    assert!(refused(store.propose_point(key, &bytes).unwrap_err()));
    put(&store, key, salt(77), &[chunk(2, 0)]).unwrap();
    store.commit_point(key, point).unwrap();
    assert!(store.verify_point(point, &()).unwrap().is_whole());
    store.scrub(ALL, &()).unwrap();
    assert_eq!(store.health().degraded_points, []);
}

#[test]
fn when_packs_were_verified_outlives_a_restart_and_may_be_lost() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    three(&store);
    let count = store.scrub(ALL, &()).unwrap().pack_count;
    let since = store.health().verified_since;
    drop(store);
    let store = rig.open(&fs).unwrap();
    assert_eq!(store.health().verified_since, since);
    assert_eq!(store.scrub(ALL, &()).unwrap(), Scrubbed::default());
    drop(store);
    for path in ["verified.a", "verified.b"].map(Path::new) {
        if fs.bytes(path).is_some() {
            edit(&fs, path, |bytes| bytes[30] ^= 1);
        }
    }
    let store = rig.open(&fs).unwrap();
    assert_eq!(store.health().verified_since, None);
    assert_eq!(store.scrub(ALL, &()).unwrap().pack_count, count);
}

#[test]
fn a_pack_whose_file_is_gone_is_given_up_later_and_welcome_when_it_is_back() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let points = three(&store);
    let path = packs(&fs).remove(0);
    let bytes = fs.bytes(&path).unwrap();
    fs.remove(&path);
    let first = store.scrub(ALL, &()).unwrap();
    assert_eq!(
        (first.postponed_pack_count, first.damaged_pack_count),
        (1, 0)
    );
    rig.clock.advance(HOUR);
    assert_eq!(store.scrub(ALL, &()).unwrap().damaged_pack_count, 1);
    check_named(&store, &points, &ids(&bytes));
    drop(store);
    check_named_after_survey(&rig.open(&fs).unwrap(), &points, &ids(&bytes));
    let file = vfs::Vfs::create_new(&fs, &path).unwrap();
    file.write_at(&bytes, 0).unwrap();
    check_named_after_survey(&rig.open(&fs).unwrap(), &points, &BTreeSet::new());
}

#[track_caller]
fn check_named_after_survey(store: &Store, points: &[Kept], lost: &BTreeSet<RecordId>) {
    store.request_scrub();
    store.scrub(ALL, &()).unwrap();
    check_named(store, points, lost);
}

#[test]
fn a_stopped_verification_says_so_and_a_stopped_scrub_goes_on_later() {
    struct Stopped;
    impl Watch for Stopped {
        fn note(&self, _: Phase, _: u64, _: u64) {}
        fn is_stopped(&self) -> bool {
            true
        }
    }
    let rig = Rig::default();
    let (_, store) = rig.fresh();
    let kept = back_up(&store, 1, &[1, 2, 3]).unwrap();
    let stopped = store.verify_point(kept.point, &Stopped);
    assert!(matches!(stopped, Err(Error::VerificationStopped)));
    assert_eq!(store.scrub(ALL, &Stopped).unwrap(), Scrubbed::default());
    assert_eq!(store.scrub(ALL, &()).unwrap().pack_count, 2);
}

#[test]
fn garbage_collection_leaves_damaged_packs_alone() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let kept = back_up(&store, 1, &[1, 2, 3]).unwrap();
    edit(&fs, &packs(&fs)[0], |bytes| bytes.fill(0));
    store.scrub(ALL, &()).unwrap();
    rig.clock.advance(15 * DAY);
    store.tick().unwrap();
    store.delete_point(kept.point).unwrap();
    for _ in 0..5 {
        rig.clock.advance(9 * DAY);
        store.tick().unwrap();
        store.collect(&()).unwrap();
    }
    assert_eq!(packs(&fs), Vec::<PathBuf>::new());
    assert_eq!(fs.files_in("quarantine").len(), 1, "the damaged one");
}
