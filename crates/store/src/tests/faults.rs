//! An error, a kill and a power cut at every call that changes anything.

use std::io::ErrorKind;

use stillwater_types::{PointId, RunId};

use super::memfs::{MemFs, Trouble};
use super::rig::*;
use crate::*;

/// What the script was told to be durable, and what it tried.
#[derive(Debug, Default)]
struct Witness {
    records: Vec<Sent>,
    points: Vec<(PointId, Vec<u64>)>,
    tried: Vec<(PointId, Vec<u64>)>,
    fence: u64,
}

/// One backup: a session, two packs, a proposal, a commit.
fn back_up(store: &Store, witness: &mut Witness, turn: u64) -> Result<(), Error> {
    let run = RunId::from_bytes([turn as u8; 16]);
    let session = store.open_session(run, dataset().id, 1000)?;
    assert!(session.key.fence > witness.fence, "a fence was given twice");
    witness.fence = session.key.fence;
    let seeds: Vec<u64> = (0..5).map(|n| turn + n).collect();
    let (root, nodes) = tree(&seeds);
    put(store, session.key, salt(turn * 2), &chunks(&seeds))?;
    witness.records.extend(chunks(&seeds));
    put(store, session.key, salt(turn * 2 + 1), &nodes)?;
    witness.records.extend(nodes);
    let point = PointId::from_bytes([turn as u8; 16]);
    let bytes = manifest(point, run, vec![root]).encode().unwrap();
    store.propose_point(session.key, &bytes)?;
    witness.tried.push((point, seeds.clone()));
    store.commit_point(session.key, point)?;
    witness.points.push((point, seeds));
    store.close_session(session.key)
}

fn script(rig: &Rig, fs: &MemFs, witness: &mut Witness, first: u64) -> Result<(), Error> {
    let store = rig.open(fs)?;
    store.create_dataset(dataset())?;
    back_up(&store, witness, first)?;
    store.tick()?;
    back_up(&store, witness, first + 1)
}

/// Nothing acknowledged is lost, nothing uncommitted is visible, and the repository goes on working.
#[track_caller]
fn check(rig: &Rig, fs: &MemFs, witness: &mut Witness) {
    let store = rig.open(fs).unwrap();
    let found = store.points(0, 100).unwrap();
    for record in &witness.records {
        check_record(&store, record);
    }
    for (point, _) in &witness.points {
        assert!(
            found.iter().any(|found| found.commit.point == *point),
            "lost {point}"
        );
    }
    for found in found {
        let (point, seeds) = witness
            .tried
            .iter()
            .find(|(point, _)| *point == found.commit.point)
            .expect("a point that nobody tried to commit");
        check_point(&store, *point, seeds);
    }
    assert_eq!(store.usage().unwrap().damaged_pack_count, 0);
    assert_eq!(fs.files_in("tmp"), Vec::<std::path::PathBuf>::new());
    drop(store);
    script(rig, fs, witness, 200).unwrap();
}

/// A repository with one point, and how many changing calls the script makes on it.
fn prepared() -> (Rig, MemFs, u64) {
    let rig = Rig::default();
    let fs = MemFs::new();
    rig.init(&fs).unwrap();
    let trial = fs.restart();
    script(&rig, &trial, &mut Witness::default(), 10).unwrap();
    (rig, fs, trial.calls())
}

fn sweep(trouble: Trouble, mut after: impl FnMut(u64, &MemFs) -> Vec<MemFs>) {
    let (rig, fs, calls) = prepared();
    assert!(calls > 80, "the script makes only {calls} calls");
    for call in 1..=calls {
        let fs = fs.restart();
        fs.trouble_at(call, trouble);
        let mut witness = Witness::default();
        let outcome = script(&rig, &fs, &mut witness, 10);
        let lasts = trouble == Trouble::Death;
        assert!(outcome.is_err() || !lasts, "call {call} was not made");
        for disk in after(call, &fs) {
            let mut seen = Witness {
                records: witness.records.clone(),
                points: witness.points.clone(),
                tried: witness.tried.clone(),
                fence: witness.fence,
            };
            // What was in flight when it broke may be whole, too.
            let point = |turn: u8| {
                (
                    PointId::from_bytes([turn; 16]),
                    (0..5).map(|n| u64::from(turn) + n).collect(),
                )
            };
            seen.tried = vec![point(10), point(11), point(200), point(201)];
            check(&rig, &disk, &mut seen);
        }
    }
}

#[test]
fn a_kill_at_any_call_loses_nothing_acknowledged() {
    sweep(Trouble::Death, |_, fs| vec![fs.restart()]);
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_acknowledged() {
    sweep(Trouble::Death, |call, fs| {
        let mut bits = blake3::Hasher::new()
            .update(&call.to_le_bytes())
            .finalize_xof();
        let mut random = || {
            let mut byte = [0];
            bits.fill(&mut byte);
            byte[0] & 1 == 1
        };
        vec![
            fs.crash(&mut || false),
            fs.crash(&mut random),
            fs.crash(&mut random),
        ]
    });
}

#[test]
fn an_error_at_any_call_is_typed_and_loses_nothing_acknowledged() {
    sweep(Trouble::Error(ErrorKind::Other), |_, fs| {
        fs.heal();
        vec![fs.restart(), fs.crash(&mut || false)]
    });
}

#[test]
fn a_full_disk_at_any_call_loses_nothing_acknowledged() {
    sweep(Trouble::Error(ErrorKind::StorageFull), |_, fs| {
        fs.heal();
        vec![fs.restart()]
    });
}

#[test]
fn without_barriers_a_power_cut_is_noticed_by_these_tests() {
    let (rig, fs, _) = prepared();
    let fs = fs.restart();
    fs.knock_out_barriers();
    let mut witness = Witness::default();
    script(&rig, &fs, &mut witness, 10).unwrap();
    let fs = fs.crash(&mut || false);
    let points = rig
        .open(&fs)
        .map(|store| store.points(0, 100).unwrap())
        .unwrap_or_default();
    assert!(points.len() < witness.points.len());
}

#[test]
fn a_kill_while_a_repository_is_made_leaves_one_or_none() {
    let rig = Rig::default();
    let trial = MemFs::new();
    rig.init(&trial).unwrap();
    let calls = trial.calls();
    // The directories are all alike: every call of the first few, and of all that follow.
    for call in (1..20).chain(calls - 60..=calls) {
        let fs = MemFs::new();
        fs.trouble_at(call, Trouble::Death);
        assert!(rig.init(&fs).is_err());
        for disk in [fs.restart(), fs.crash(&mut || false)] {
            match rig.init(&disk) {
                Ok(()) | Err(Error::AlreadyInitialised) => {}
                Err(error) => panic!("call {call}: {error}"),
            }
            script(&rig, &disk, &mut Witness::default(), 10).unwrap();
        }
    }
}

#[test]
fn recovery_itself_may_be_killed_anywhere() {
    let (rig, fs, calls) = prepared();
    let mut witness = Witness::default();
    // Killed in the second commit, with one copy of the log ahead of the other.
    for broken in calls - 12..calls {
        let fs = fs.restart();
        fs.trouble_at(broken, Trouble::Death);
        witness = Witness::default();
        assert!(script(&rig, &fs, &mut witness, 10).is_err());
        let crashed = fs.crash(&mut || false);
        let trial = crashed.restart();
        rig.open(&trial).unwrap();
        for call in 1..=trial.calls() {
            let again = crashed.restart();
            again.trouble_at(call, Trouble::Death);
            assert!(rig.open(&again).is_err());
            let store = rig.open(&again.crash(&mut || false)).unwrap();
            for (point, seeds) in &witness.points {
                check_point(&store, *point, seeds);
            }
        }
    }
    assert!(!witness.points.is_empty());
}

#[test]
fn a_pack_that_failed_is_dead_and_the_next_one_works() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let session = store.open_session(RunId::mint(), dataset().id, 0).unwrap();
    let records = chunks(&[1, 2, 3]);
    fs.trouble_at(3, Trouble::Error(ErrorKind::Other));
    assert!(matches!(
        put(&store, session.key, salt(1), &records),
        Err(Error::Io { .. })
    ));
    assert!(store.is_writable());
    assert_eq!(
        store.find(session.key, &[records[0].id()]).unwrap(),
        [false]
    );
    put(&store, session.key, salt(2), &records).unwrap();
    check_record(&store, &records[0]);
}

#[test]
fn storage_that_keeps_failing_is_not_written_any_more() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let session = store.open_session(RunId::mint(), dataset().id, 0).unwrap();
    put(&store, session.key, salt(0), &chunks(&[9])).unwrap();
    for turn in 1..3 {
        fs.trouble_at(4, Trouble::Error(ErrorKind::Other));
        assert!(put(&store, session.key, salt(turn), &chunks(&[1])).is_err());
    }
    assert!(!store.is_writable());
    assert!(matches!(
        put(&store, session.key, salt(5), &chunks(&[1])),
        Err(Error::ReadOnly)
    ));
    check_record(&store, &chunks(&[9])[0]);
}

#[test]
fn a_full_repository_refuses_packs_and_still_commits_and_reads() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let run = RunId::mint();
    let session = store.open_session(run, dataset().id, 0).unwrap();
    let (root, nodes) = tree(&[1, 2]);
    put(&store, session.key, salt(0), &chunks(&[1, 2])).unwrap();
    put(&store, session.key, salt(1), &nodes).unwrap();
    // Within the reserve of 2 %.
    fs.set_free(super::memfs::CAPACITY / 60);
    let refused = put(&store, session.key, salt(2), &chunks(&[3]));
    assert!(matches!(refused, Err(Error::Full { .. })));
    let refused = store.open_session(RunId::mint(), dataset().id, 1);
    assert!(matches!(refused, Err(Error::Full { .. })));
    let point = PointId::mint();
    let bytes = manifest(point, run, vec![root]).encode().unwrap();
    store.propose_point(session.key, &bytes).unwrap();
    store.commit_point(session.key, point).unwrap();
    check_point(&store, point, &[1, 2]);
    fs.set_free(super::memfs::CAPACITY);
    put(&store, session.key, salt(3), &chunks(&[3])).unwrap();
}
