//! The whole engine on the machine's file system, with sled in it.

use std::path::Path;
use std::sync::Arc;

use stillwater_types::{PointId, RunId};

use super::rig::*;
use crate::vfs::{RealFs, Vfs};
use crate::*;

fn env(rig: &Rig, dir: &Path) -> Environment {
    let vfs: Arc<dyn Vfs> = Arc::new(RealFs::open(dir).unwrap());
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    Environment {
        catalogue: Box::new(SledCatalogue::new(dir, vfs.clone(), rng.clone())),
        vfs,
        clock: rig.clock.clone(),
        rng,
        index: Arc::new(MemoryIndex::default()),
        verifier: Arc::new(TestVerifier),
    }
}

fn open(rig: &Rig, dir: &Path) -> Store {
    Store::open(env(rig, dir), OPTIONS).unwrap()
}

fn add_point(store: &Store, turn: u64) -> PointId {
    let run = RunId::mint();
    let key = store.open_session(run, dataset().id, 0).unwrap().key;
    let (root, nodes) = tree(&[turn]);
    put(store, key, salt(turn), &[chunks(&[turn]), nodes].concat()).unwrap();
    let point = PointId::mint();
    store
        .propose_point(key, &manifest(point, run, vec![root]).encode().unwrap())
        .unwrap();
    store.commit_point(key, point).unwrap();
    point
}

#[track_caller]
fn check(store: &Store, points: &[PointId]) {
    let listed: Vec<_> = store
        .points(0, 100)
        .unwrap()
        .iter()
        .map(|p| p.commit.point)
        .collect();
    assert_eq!(listed, points);
    for (turn, point) in points.iter().enumerate() {
        check_point(store, *point, &[turn as u64]);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is what others do behind the store's back"
)]
#[test]
fn the_catalogue_in_sled_survives_being_deleted_garbled_and_replaced() {
    let rig = Rig::default();
    let dir = tempfile::tempdir().unwrap();
    Store::init(&env(&rig, dir.path()), &OPTIONS, IDENTITY).unwrap();
    let store = open(&rig, dir.path());
    store.create_dataset(dataset()).unwrap();
    let mut points: Vec<_> = (0..3).map(|turn| add_point(&store, turn)).collect();
    check(&store, &points);
    drop(store);

    let store = open(&rig, dir.path());
    check(&store, &points);
    assert_eq!(store.catalogue_rebuilt_count(), 0);
    drop(store);

    let sled = dir.path().join(CATALOGUE);
    std::fs::remove_dir_all(&sled).unwrap();
    let store = open(&rig, dir.path());
    check(&store, &points);
    drop(store);

    for entry in std::fs::read_dir(&sled).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::write(&path, vec![0xa5; 4096]).unwrap();
        }
    }
    let store = open(&rig, dir.path());
    check(&store, &points);
    points.push(add_point(&store, 3));
    drop(store);

    std::fs::remove_dir_all(&sled).unwrap();
    std::fs::write(&sled, b"not a directory").unwrap();
    let store = open(&rig, dir.path());
    check(&store, &points);
    assert!(store.catalogue_rebuilt_count() >= 1);
}

#[test]
fn two_processes_cannot_open_one_directory() {
    let rig = Rig::default();
    let dir = tempfile::tempdir().unwrap();
    Store::init(&env(&rig, dir.path()), &OPTIONS, IDENTITY).unwrap();
    let store = open(&rig, dir.path());
    assert!(matches!(
        Store::open(env(&rig, dir.path()), OPTIONS),
        Err(Error::InUse)
    ));
    drop(store);
    open(&rig, dir.path());
}

#[test]
fn a_path_that_leads_out_of_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
    let fs = RealFs::open(dir.path()).unwrap();
    assert!(
        fs.open(Path::new("out/hostname"), vfs::Access::Read)
            .is_err()
    );
    assert!(fs.open(Path::new("../x"), vfs::Access::Read).is_err());
    assert!(
        fs.open(Path::new("/etc/hostname"), vfs::Access::Read)
            .is_err()
    );
}
