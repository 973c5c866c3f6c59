//! Files that were changed behind the repository's back.

use std::path::{Path, PathBuf};

use stillwater_types::{PointId, RunId};

use super::memfs::MemFs;
use super::rig::*;
use crate::*;

const SEEDS: [u64; 4] = [1, 2, 3, 4];

/// A repository with one point, closed.
fn kept() -> (Rig, MemFs, PointId) {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let run = RunId::mint();
    let key = store.open_session(run, dataset().id, 0).unwrap().key;
    let (root, nodes) = tree(&SEEDS);
    put(&store, key, salt(0), &chunks(&SEEDS)).unwrap();
    put(&store, key, salt(1), &nodes).unwrap();
    let point = PointId::mint();
    store
        .propose_point(key, &manifest(point, run, vec![root]).encode().unwrap())
        .unwrap();
    store.commit_point(key, point).unwrap();
    store.close_session(key).unwrap();
    drop(store);
    (rig, fs, point)
}

fn edit(fs: &MemFs, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs.bytes(path).unwrap();
    change(&mut bytes);
    fs.set_bytes(path, bytes);
}

/// Every file of a small repository that is read.
fn files(fs: &MemFs) -> Vec<PathBuf> {
    [truth(fs), fs.files_in("index")].concat()
}

/// Every file of truth of a small repository.
fn truth(fs: &MemFs) -> Vec<PathBuf> {
    let dirs = [
        "super.a",
        "super.b",
        "commit.log",
        "copy",
        "packs",
        "manifests",
    ];
    dirs.iter().flat_map(|dir| fs.files_in(dir)).collect()
}

/// Whatever was damaged, no wrong byte is served: what is read is right or an error.
fn check_honest(rig: &Rig, fs: &MemFs, point: PointId) -> bool {
    let Ok(store) = rig.open(fs) else {
        return false;
    };
    let mut whole = store.usage().unwrap().damaged_pack_count == 0;
    match store.point(point) {
        Ok(_) => match store.manifest(point) {
            Ok(_) => check_point_or_error(&store, point, &mut whole),
            Err(_) => whole = false,
        },
        Err(_) => whole = false,
    }
    whole
}

fn check_point_or_error(store: &Store, point: PointId, whole: &mut bool) {
    let (root, nodes) = tree(&SEEDS);
    let bytes = store.manifest(point).unwrap();
    let found = stillwater_format::manifest::Manifest::decode(&bytes).unwrap();
    assert_eq!(found.disks[0].root, root);
    for sent in nodes.iter().chain(&chunks(&SEEDS)) {
        match store.read(dataset().id, sent.id()) {
            Ok(read) => assert_eq!(read.stored, sent.stored),
            Err(_) => *whole = false,
        }
    }
}

#[test]
fn one_flipped_bit_anywhere_never_serves_a_wrong_byte() {
    let (rig, fs, point) = kept();
    for path in files(&fs) {
        let length = fs.bytes(&path).unwrap().len();
        for at in (0..length).step_by(length / 40 + 1) {
            let hurt = fs.restart();
            edit(&hurt, &path, |bytes| bytes[at] ^= 1 << (at % 8));
            let whole = check_honest(&rig, &hurt, point);
            let doubled = path.starts_with("index")
                || path.starts_with("copy")
                || path.starts_with("manifests")
                || path.starts_with("commit.log")
                || path.starts_with("super.a")
                || path.starts_with("super.b");
            assert!(
                whole || !doubled,
                "{path:?} at {at} was not healed from its copy"
            );
        }
    }
}

#[test]
fn a_file_cut_anywhere_never_serves_a_wrong_byte() {
    let (rig, fs, point) = kept();
    for path in files(&fs) {
        let length = fs.bytes(&path).unwrap().len();
        for cut in (0..length).step_by(length / 40 + 1) {
            let hurt = fs.restart();
            edit(&hurt, &path, |bytes| bytes.truncate(cut));
            let whole = check_honest(&rig, &hurt, point);
            assert!(
                whole || path.starts_with("packs"),
                "{path:?} cut at {cut} was not healed"
            );
        }
    }
}

#[test]
fn a_pack_with_a_bad_trailer_is_read_record_by_record() {
    let (rig, fs, point) = kept();
    for path in fs.files_in("packs") {
        edit(&fs, &path, |bytes| *bytes.last_mut().unwrap() ^= 1);
    }
    // As long as the index covers a pack, nobody reads its trailer but the scrub.
    let store = rig.open(&fs).unwrap();
    check_point(&store, point, &SEEDS);
    drop(store);
    for path in fs.files_in("index") {
        fs.remove(&path);
    }
    let store = rig.open(&fs).unwrap();
    assert_eq!(store.usage().unwrap().damaged_pack_count, 2);
    check_point(&store, point, &SEEDS);
}

#[test]
fn a_damaged_record_is_named_and_the_others_are_read() {
    let (rig, fs, _) = kept();
    let record = chunks(&SEEDS).remove(1);
    for path in fs.files_in("packs") {
        edit(&fs, &path, |bytes| {
            let found = bytes
                .windows(200)
                .position(|window| window == record.stored);
            if let Some(at) = found {
                bytes[at + 100] ^= 0x10;
            }
        });
    }
    let store = rig.open(&fs).unwrap();
    let outcome = store.read(dataset().id, record.id());
    assert!(matches!(outcome, Err(Error::Damaged { record: named, .. }) if named == record.id()));
    check_record(&store, &chunks(&SEEDS)[0]);
    assert_eq!(store.counters().read().records_damaged, 1);
}

#[test]
fn two_exchanged_packs_are_noticed() {
    let (rig, fs, point) = kept();
    let packs = fs.files_in("packs");
    let (first, second) = (fs.bytes(&packs[0]).unwrap(), fs.bytes(&packs[1]).unwrap());
    fs.set_bytes(&packs[0], second);
    fs.set_bytes(&packs[1], first);
    assert!(!check_honest(&rig, &fs, point));
}

#[test]
fn a_missing_copy_of_log_or_manifest_is_made_good() {
    let (rig, fs, point) = kept();
    for path in ["commit.log", "copy/commit.log"] {
        let hurt = fs.restart();
        hurt.remove(Path::new(path));
        check_point(&rig.open(&hurt).unwrap(), point, &SEEDS);
        assert_eq!(
            hurt.bytes(Path::new("commit.log")),
            hurt.bytes(Path::new("copy/commit.log"))
        );
    }
    for path in fs.files_in("manifests") {
        let hurt = fs.restart();
        hurt.remove(&path);
        check_point(&rig.open(&hurt).unwrap(), point, &SEEDS);
    }
}

#[test]
fn a_proposal_with_a_damaged_copy_is_committed_from_the_other() {
    for damaged in ["manifests", "copy/manifests"] {
        let rig = Rig::default();
        let (fs, store) = rig.fresh();
        let (run, point) = (RunId::mint(), PointId::mint());
        let key = store.open_session(run, dataset().id, 0).unwrap().key;
        let (root, nodes) = tree(&SEEDS);
        put(&store, key, salt(0), &chunks(&SEEDS)).unwrap();
        put(&store, key, salt(1), &nodes).unwrap();
        let bytes = manifest(point, run, vec![root]).encode().unwrap();
        store.propose_point(key, &bytes).unwrap();
        drop(store);
        let [path] = fs.files_in(damaged).try_into().unwrap();
        edit(&fs, &path, |bytes| bytes.truncate(100));
        let store = rig.open(&fs).unwrap();
        store.commit_point(key, point).unwrap();
        check_point(&store, point, &SEEDS);
        for copy in ["manifests", "copy/manifests"] {
            let [path] = fs.files_in(copy).try_into().unwrap();
            assert_eq!(fs.bytes(&path), Some(bytes.clone()));
        }
        assert_eq!(fs.files_in("quarantine").len(), 1);
    }
}

#[test]
fn a_log_that_is_damaged_in_both_copies_is_refused() {
    let (rig, fs, _) = kept();
    for path in ["commit.log", "copy/commit.log"] {
        edit(&fs, Path::new(path), |bytes| bytes[700] ^= 1);
    }
    assert!(matches!(rig.open(&fs), Err(Error::LogCorrupt(_))));
}

#[test]
fn a_log_that_lost_its_end_in_both_copies_is_refused() {
    let (rig, fs, _) = kept();
    // The superblock of this start has seen the commit.
    drop(rig.open(&fs).unwrap());
    for path in ["commit.log", "copy/commit.log"] {
        edit(&fs, Path::new(path), |bytes| {
            bytes.truncate(bytes.len() - 512)
        });
    }
    assert!(matches!(rig.open(&fs), Err(Error::LogForged { .. })));
}

#[test]
fn a_point_without_any_manifest_is_counted_and_stays() {
    let (rig, fs, point) = kept();
    for path in [fs.files_in("manifests"), fs.files_in("copy/manifests")].concat() {
        fs.remove(&path);
    }
    let store = rig.open(&fs).unwrap();
    assert_eq!(store.usage().unwrap().damaged_point_count, 1);
    assert!(store.point(point).is_ok());
    assert!(matches!(
        store.manifest(point),
        Err(Error::ManifestUnreadable(_))
    ));
}

#[test]
fn a_repository_of_a_newer_release_is_refused_untouched() {
    let (rig, fs, _) = kept();
    edit(&fs, Path::new("super.a"), |bytes| {
        bytes[8] = 2;
        let crc = crc32c(&bytes[..508]);
        bytes[508..].copy_from_slice(&crc.to_le_bytes());
    });
    let before: Vec<_> = truth(&fs).iter().map(|path| fs.bytes(path)).collect();
    assert!(matches!(rig.open(&fs), Err(Error::TooNew(_))));
    let after: Vec<_> = truth(&fs).iter().map(|path| fs.bytes(path)).collect();
    assert_eq!(before, after);
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            }
        })
    })
}
