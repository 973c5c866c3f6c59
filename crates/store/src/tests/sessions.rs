//! Sessions, fences and what a proposal must fit.

use std::time::Duration;

use stillwater_format::node::{DiskRoot, Leaf, Node, tree_id};
use stillwater_types::{DatasetId, PointId, RunId};

use super::rig::*;
use crate::*;

#[test]
fn a_newer_session_of_the_run_shuts_the_older_one_out() {
    let rig = Rig::default();
    let (_, store) = rig.fresh();
    let run = RunId::mint();
    let old = store.open_session(run, dataset().id, 0).unwrap().key;
    let mut writer = store.begin_pack(old, &salt(0)).unwrap();
    let sent = chunk(1, 0);
    writer.append(&sent.header, &sent.stored).unwrap();
    let new = store.open_session(run, dataset().id, 0).unwrap().key;
    assert!(new.fence > old.fence);
    // Not even a pack that was begun before may be finished.
    assert!(matches!(writer.finish(), Err(Error::FenceStale { .. })));
    assert!(matches!(
        store.begin_pack(old, &salt(1)),
        Err(Error::FenceStale { .. })
    ));
    assert!(matches!(
        store.find(old, &[]),
        Err(Error::FenceStale { .. })
    ));
    assert!(matches!(
        store.renew_session(old),
        Err(Error::FenceStale { .. })
    ));
    assert!(matches!(
        store.close_session(old),
        Err(Error::FenceStale { .. })
    ));
    assert_eq!(store.find(new, &[sent.id()]).unwrap(), [false]);
    put(&store, new, salt(2), &[sent]).unwrap();
}

#[test]
fn no_fence_is_given_twice_whatever_is_restarted() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    drop(store);
    let mut last = 0;
    for _ in 0..5 {
        let store = rig.open(&fs).unwrap();
        for run in [RunId::mint(), RunId::from_bytes([1; 16])] {
            let fence = store.open_session(run, dataset().id, 0).unwrap().key.fence;
            assert!(fence > last);
            last = fence;
        }
    }
}

#[test]
fn a_session_outlives_a_restart_of_the_repository_and_a_closed_one_does_not() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let kept = store
        .open_session(RunId::mint(), dataset().id, 0)
        .unwrap()
        .key;
    let closed = store
        .open_session(RunId::mint(), dataset().id, 0)
        .unwrap()
        .key;
    store.close_session(closed).unwrap();
    store.close_session(closed).unwrap();
    drop(store);
    let store = rig.open(&fs).unwrap();
    assert_eq!(store.check_session(kept).unwrap(), dataset().id);
    assert!(matches!(
        store.check_session(closed),
        Err(Error::FenceStale { .. })
    ));
}

#[test]
fn a_session_that_is_not_renewed_expires() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let key = store
        .open_session(RunId::mint(), dataset().id, 0)
        .unwrap()
        .key;
    let most = OPTIONS.session_term - Duration::from_millis(1);
    rig.clock.advance(most);
    store.renew_session(key).unwrap();
    rig.clock.advance(most);
    store.check_session(key).unwrap();
    rig.clock.advance(Duration::from_millis(1));
    assert!(matches!(
        store.check_session(key),
        Err(Error::FenceStale { .. })
    ));
    assert!(matches!(
        store.renew_session(key),
        Err(Error::FenceStale { .. })
    ));
    store.tick().unwrap();
    assert_eq!(store.usage().unwrap().session_count, 0);
    drop(store);
    assert_eq!(rig.open(&fs).unwrap().usage().unwrap().session_count, 0);
}

#[test]
fn a_dataset_is_created_once() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    assert_eq!(store.create_dataset(dataset()).unwrap(), dataset());
    let other = stillwater_format::commit::Dataset {
        label: "other".into(),
        ..dataset()
    };
    assert!(matches!(
        store.create_dataset(other),
        Err(Error::Malformed { .. })
    ));
    let unknown = DatasetId::mint();
    let refused = store.open_session(RunId::mint(), unknown, 0);
    assert!(matches!(refused, Err(Error::DatasetNotFound(id)) if id == unknown));
    drop(store);
    assert_eq!(rig.open(&fs).unwrap().datasets(), [dataset()]);
}

#[test]
fn a_second_process_is_kept_out() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    assert!(matches!(rig.open(&fs), Err(Error::InUse)));
    drop(store);
    assert!(rig.open(&fs).is_ok());
}

#[test]
fn a_record_that_is_not_what_it_says_kills_its_pack() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let key = store
        .open_session(RunId::mint(), dataset().id, 0)
        .unwrap()
        .key;
    let good = chunk(1, 0);
    let mut flipped = chunk(2, 1);
    flipped.stored[50] ^= 1;
    let outcome = put(&store, key, salt(0), &[good.clone(), flipped.clone()]);
    assert!(matches!(outcome, Err(Error::HashMismatch { record }) if record == flipped.id()));
    assert_eq!(store.find(key, &[good.id()]).unwrap(), [false]);
    assert!(fs.files_in("tmp").is_empty() && fs.files_in("packs").is_empty());
}

#[test]
fn a_nonce_that_comes_twice_is_refused() {
    let rig = Rig::default();
    let (_, store) = rig.fresh();
    let key = store
        .open_session(RunId::mint(), dataset().id, 0)
        .unwrap()
        .key;
    let outcome = put(&store, key, salt(0), &[chunk(1, 7), chunk(2, 7)]);
    assert!(matches!(outcome, Err(Error::Malformed { .. })));
    put(&store, key, salt(0), &[chunk(1, 7)]).unwrap();
    assert!(matches!(
        put(&store, key, salt(0), &[chunk(2, 8)]),
        Err(Error::Malformed { .. })
    ));
}

#[test]
fn bytes_that_are_no_node_are_refused() {
    let rig = Rig::default();
    let (_, store) = rig.fresh();
    let key = store
        .open_session(RunId::mint(), dataset().id, 0)
        .unwrap()
        .key;
    let stored = b"not a node".to_vec();
    let header = stillwater_format::pack::RecordHeader::node(&stored).unwrap();
    let outcome = put(&store, key, salt(0), &[Sent { header, stored }]);
    assert!(matches!(outcome, Err(Error::Malformed { .. })));
}

#[test]
fn what_is_stored_already_is_left_out() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let key = store
        .open_session(RunId::mint(), dataset().id, 0)
        .unwrap()
        .key;
    let first = put(&store, key, salt(0), &chunks(&[1, 2])).unwrap();
    assert_eq!((first.stored_count, first.known_count), (2, 0));
    let second = put(&store, key, salt(1), &chunks(&[2, 3])).unwrap();
    assert_eq!((second.stored_count, second.known_count), (1, 1));
    let third = put(&store, key, salt(2), &chunks(&[1, 3])).unwrap();
    assert_eq!(
        (third.stored_count, third.known_count, third.stored_bytes),
        (0, 2, 0)
    );
    assert_eq!(fs.files_in("packs").len(), 2);
    let usage = store.usage().unwrap();
    assert_eq!(usage.chunk_count, 3);
    assert_eq!(usage.stored_bytes, first.stored_bytes + second.stored_bytes);
}

/// Proposes a point over `root` and expects it to be refused.
#[track_caller]
fn check_refused(store: &Store, run: RunId, key: SessionKey, root: DiskRoot) -> Error {
    let bytes = manifest(PointId::mint(), run, vec![root]).encode().unwrap();
    store.propose_point(key, &bytes).unwrap_err()
}

#[test]
fn a_proposal_must_reach_only_what_is_stored_and_fits() {
    let rig = Rig::default();
    let (_, store) = rig.fresh();
    let run = RunId::mint();
    let key = store.open_session(run, dataset().id, 0).unwrap().key;
    let (root, nodes) = tree(&[1, 2, 3, 4]);
    put(&store, key, salt(0), &chunks(&[1, 2, 3])).unwrap();
    let missing = check_refused(&store, run, key, root.clone());
    assert!(matches!(missing, Error::RecordNotFound { record } if record == nodes[2].id()));
    put(&store, key, salt(1), &nodes).unwrap();
    let missing = check_refused(&store, run, key, root.clone());
    assert!(matches!(missing, Error::RecordNotFound { record } if record == chunk(4, 0).id()));
    put(&store, key, salt(2), &chunks(&[4])).unwrap();
    let longer = DiskRoot {
        length: root.length + 1,
        ..root.clone()
    };
    assert!(matches!(
        check_refused(&store, run, key, longer),
        Error::ProposalRefused { .. }
    ));
    let higher = DiskRoot {
        level: 2,
        ..root.clone()
    };
    assert!(matches!(
        check_refused(&store, run, key, higher),
        Error::ProposalRefused { .. }
    ));
    let other = RunId::mint();
    let refused = check_refused(&store, other, key, root.clone());
    assert!(matches!(refused, Error::ProposalRefused { .. }));
    let bytes = manifest(PointId::mint(), run, vec![root]).encode().unwrap();
    assert_eq!(
        store.propose_point(key, &bytes).unwrap().walked_count,
        3 + 4
    );
}

#[test]
fn a_leaf_of_another_length_than_its_chunk_is_refused() {
    let rig = Rig::default();
    let (_, store) = rig.fresh();
    let run = RunId::mint();
    let key = store.open_session(run, dataset().id, 0).unwrap().key;
    let leaf = Leaf::Chunk {
        length: CHUNK_LEN - 1,
        id: chunk_id(1),
    };
    let top = Node::leaves(vec![leaf]).unwrap();
    put(&store, key, salt(0), &[chunk(1, 0), node(&top)]).unwrap();
    let (length, id) = (top.span(), tree_id(&top.encode()));
    let root = DiskRoot {
        length,
        cutter: "test".into(),
        top: id,
        level: 0,
    };
    assert!(matches!(
        check_refused(&store, run, key, root),
        Error::ProposalRefused { .. }
    ));
}

#[test]
fn an_increment_walks_only_what_changed() {
    let rig = Rig::default();
    let (_, store) = rig.fresh();
    let seeds: Vec<u64> = (0..30).collect();
    let run = RunId::mint();
    let key = store.open_session(run, dataset().id, 0).unwrap().key;
    let walked = |seeds: &[u64], turn: u64| {
        let (root, nodes) = tree(seeds);
        put(&store, key, salt(turn), &[chunks(seeds), nodes].concat()).unwrap();
        let point = PointId::mint();
        let bytes = manifest(point, run, vec![root]).encode().unwrap();
        let proposed = store.propose_point(key, &bytes).unwrap();
        store.commit_point(key, point).unwrap();
        proposed.walked_count
    };
    assert_eq!(walked(&seeds, 0), 30 + 10 + 1);
    let mut changed = seeds.clone();
    changed[4] = 99;
    assert_eq!(walked(&changed, 1), 3 + 1 + 1);
    assert_eq!(walked(&changed, 2), 0);
}

#[test]
fn a_point_is_committed_once_and_only_when_it_was_proposed() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let run = RunId::mint();
    let key = store.open_session(run, dataset().id, 0).unwrap().key;
    let point = PointId::mint();
    assert!(matches!(
        store.commit_point(key, point),
        Err(Error::PointNotFound(_))
    ));
    let (root, nodes) = tree(&[1]);
    put(&store, key, salt(0), &[chunks(&[1]), nodes].concat()).unwrap();
    let bytes = manifest(point, run, vec![root.clone()]).encode().unwrap();
    let proposed = store.propose_point(key, &bytes).unwrap();
    assert_eq!(
        store.propose_point(key, &bytes).unwrap().manifest_hash,
        proposed.manifest_hash
    );
    assert!(matches!(store.point(point), Err(Error::PointNotFound(_))));
    let other = stillwater_format::manifest::Manifest {
        whole: false,
        ..manifest(point, run, vec![root])
    };
    let refused = store.propose_point(key, &other.encode().unwrap());
    assert!(matches!(refused, Err(Error::ProposalRefused { .. })));
    // The proposal is found again after a restart.
    drop(store);
    let store = rig.open(&fs).unwrap();
    let committed = store.commit_point(key, point).unwrap();
    assert_eq!(committed.commit.manifest_hash, proposed.manifest_hash);
    assert_eq!(
        committed.commit.retain_until,
        committed.commit.committed_at.after(OPTIONS.retention)
    );
    store.close_session(key).unwrap();
    // Whoever lost the answer may ask again, even when the session is over.
    assert_eq!(store.commit_point(key, point).unwrap(), committed);
    drop(store);
    let store = rig.open(&fs).unwrap();
    assert_eq!(store.points(0, 10).unwrap(), [committed]);
    assert_eq!(store.manifest(point).unwrap(), bytes);
}

#[test]
fn another_run_cannot_commit_a_proposal() {
    let rig = Rig::default();
    let (_, store) = rig.fresh();
    let run = RunId::mint();
    let key = store.open_session(run, dataset().id, 0).unwrap().key;
    let thief = store
        .open_session(RunId::mint(), dataset().id, 0)
        .unwrap()
        .key;
    let (root, nodes) = tree(&[1]);
    put(&store, key, salt(0), &[chunks(&[1]), nodes].concat()).unwrap();
    let point = PointId::mint();
    store
        .propose_point(key, &manifest(point, run, vec![root]).encode().unwrap())
        .unwrap();
    assert!(store.commit_point(thief, point).is_err());
    store.commit_point(key, point).unwrap();
}

#[test]
fn a_repository_that_joined_again_has_its_new_identity() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    assert_eq!(store.identity(), IDENTITY);
    let node = stillwater_types::NodeId::mint();
    let new = Identity { node, ..IDENTITY };
    store.adopt(new).unwrap();
    drop(store);
    assert_eq!(rig.open(&fs).unwrap().identity(), new);
    assert!(matches!(rig.init(&fs), Err(Error::AlreadyInitialised)));
    assert!(matches!(
        rig.open(&super::memfs::MemFs::new()),
        Err(Error::NotInitialised)
    ));
}

#[test]
fn storage_that_forgets_is_refused_unless_allowed() {
    let rig = Rig::default();
    let fs = super::memfs::MemFs::new();
    let strict = Options {
        allow_volatile: false,
        ..OPTIONS
    };
    let refused = Store::init(&rig.env(&fs), &strict, IDENTITY);
    assert!(matches!(refused, Err(Error::Unfit { .. })));
}
