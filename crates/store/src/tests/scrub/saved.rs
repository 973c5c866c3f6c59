//! What is saved of a damaged pack, and from where, each way on its own.

use std::sync::Arc;

use stillwater_format::Time;
use stillwater_format::commit::{Decision, Entry, Fate};
use stillwater_types::PackId;

use super::sick::{EACCES, SickFs, Spots};
use super::*;
use crate::gc::sweep;

/// Ends a scrub before it surveys the points, which would bring lost records back from quarantine.
struct NoSurvey(std::sync::atomic::AtomicBool);

impl Watch for NoSurvey {
    fn note(&self, _: Phase, _: u64, _: u64) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    fn is_stopped(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// Two packs of the same chunks; of the first one, chunk 1 is damaged.
fn twins() -> (MemFs, Store, [PackId; 2]) {
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
    let finished = writers
        .into_iter()
        .map(|writer| writer.finish().unwrap().pack);
    let packs: Vec<_> = finished.collect();
    store.close_session(key).unwrap();
    hurt(&fs, packs[0]);
    store.inner.scrub.suspect(packs[0]);
    (fs, store, [packs[0], packs[1]])
}

/// Damages chunk 1.
fn hurt(fs: &MemFs, pack: PackId) {
    let stored = chunk(1, 0).stored;
    edit(fs, &layout::pack(pack), |bytes| {
        let at = bytes
            .windows(stored.len())
            .position(|found| found == stored);
        bytes[at.unwrap() + 20] ^= 1;
    });
}

fn decide(store: &Store, fate: Fate, pack: PackId) {
    let (at, packs) = (Time::default(), vec![pack]);
    let inner = &store.inner;
    let entry = Entry::Packs(Decision { fate, at, packs });
    inner.append(&mut inner.ledger(), &entry).unwrap();
}

/// All three chunks can be read, from a pack that is in use and none of the old ones.
#[track_caller]
fn check_saved(store: &Store, old: &[PackId]) {
    for sent in chunks(&[1, 2, 3]) {
        check_record(store, &sent);
        let at = store.inner.index.find(dataset().id, &sent.id()).unwrap();
        let pack = at.unwrap().pack;
        assert!(!old.contains(&pack) && store.inner.fates().of(pack).is_none());
    }
}

#[test]
fn sound_records_are_copied_out_of_a_damaged_pack_before_it_leaves() {
    let rig = Rig::default();
    let (fs, store) = rig.fresh();
    let kept = back_up(&store, 1, &[1, 2, 3, 4, 5]).unwrap();
    let pack = store.inner.index.find(dataset().id, &chunk(1, 0).id());
    let pack = pack.unwrap().unwrap().pack;
    drop(store);
    let (spots, wrong) = (Spots::default(), Arc::default());
    let sick = SickFs { fs, spots, wrong };
    hurt(&sick.fs, pack);
    // Nothing can be brought back from there.
    sick.fail(&layout::quarantined_pack(pack), 0..1 << 20, EACCES);
    let store = super::sick::open(&rig, &sick);
    let done = store.scrub(ALL, &()).unwrap();
    assert_eq!((done.lost_record_count, done.salvaged_record_count), (1, 4));
    for sent in &chunks(&kept.seeds)[1..] {
        check_record(&store, sent);
    }
}

#[test]
fn what_lies_only_in_a_condemned_pack_besides_is_copied_sound_or_not() {
    let (_, store, [hurt, leaving]) = twins();
    decide(&store, Fate::Condemned, leaving);
    let watch = NoSurvey(false.into());
    let done = store.scrub(ALL, &watch).unwrap();
    assert_eq!((done.lost_record_count, done.salvaged_record_count), (0, 3));
    check_saved(&store, &[hurt, leaving]);
}

#[test]
fn what_lies_only_in_quarantine_besides_is_brought_back_before_it_is_called_lost() {
    let (fs, store, [hurt, out]) = twins();
    decide(&store, Fate::Quarantined, out);
    sweep::set_aside(&fs, &[out]).unwrap();
    let watch = NoSurvey(false.into());
    let done = store.scrub(ALL, &watch).unwrap();
    assert_eq!((done.lost_record_count, done.salvaged_record_count), (0, 3));
    check_saved(&store, &[hurt, out]);
}
