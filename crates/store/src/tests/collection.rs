//! Garbage collection: what is dead goes in the end, what is live never does.

use std::time::Duration;

use stillwater_types::{PointId, RunId};

use super::memfs::MemFs;
use super::rig::*;
use crate::*;

mod model;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Lets time pass that counts: the boot clock and the wall clock agree.
fn pass(rig: &Rig, store: &Store, span: Duration) {
    rig.clock.advance(span);
    store.tick().unwrap();
}

/// A whole backup of these chunks, in a pack of its own.
fn back_up(store: &Store, turn: u64, seeds: &[u64]) -> PointId {
    let run = RunId::mint();
    let key = store.open_session(run, dataset().id, 0).unwrap().key;
    let (root, nodes) = tree(seeds);
    put(store, key, salt(turn), &[chunks(seeds), nodes].concat()).unwrap();
    let point = PointId::mint();
    let bytes = manifest(point, run, vec![root]).encode().unwrap();
    store.propose_point(key, &bytes).unwrap();
    store.commit_point(key, point).unwrap();
    store.close_session(key).unwrap();
    point
}

fn pack_files(fs: &MemFs) -> usize {
    fs.files_in("packs").len()
}

#[test]
fn a_deleted_point_leaves_in_steps_and_others_stay() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let gone = back_up(&store, 1, &[1, 2, 3]);
    let kept = back_up(&store, 2, &[4, 5, 6]);
    pass(&rig, &store, 15 * DAY);
    store.delete_point(gone).unwrap();
    let first = store.collect(&()).unwrap();
    assert_eq!(first.condemned.pack_count, 1);
    assert_eq!(store.collect(&()).unwrap().quarantined.pack_count, 0);
    pass(&rig, &store, DAY + HOUR);
    let second = store.collect(&()).unwrap();
    assert_eq!(
        (second.quarantined, second.removed.pack_count),
        (first.condemned, 0)
    );
    assert_eq!((pack_files(&fs), fs.files_in("quarantine").len()), (1, 3));
    pass(&rig, &store, 8 * DAY);
    assert_eq!(store.collect(&()).unwrap().removed, first.condemned);
    assert_eq!(fs.files_in("quarantine").len(), 0);
    check_point(&store, kept, &[4, 5, 6]);
    drop(store);
    check_point(&rig.open(&fs).unwrap(), kept, &[4, 5, 6]);
}
