//! Garbage collection: what is dead goes in the end, what is live never does.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stillwater_format::commit::{Action, Decision, Entry, Fate, Loss};
use stillwater_format::pack::RecordId;
use stillwater_types::{PackId, PointId, RunId};

use super::guarded::{DAY, HOUR, LooseClock, key, sign, statement};
use super::memfs::{MemFs, Trouble};
use super::rig::*;
use crate::*;

mod model;

/// An hour of retention, and no brake below 1 GiB.
const SHORT: Options = Options {
    retention: HOUR,
    session_term: Duration::from_secs(365 * 24 * 3600),
    ..OPTIONS
};

/// A repository with a clock that anybody may set.
struct Yard {
    clock: Arc<LooseClock>,
    rng: Arc<TestRng>,
    fs: MemFs,
    options: Options,
    store: Option<Store>,
    turn: u64,
}

impl Yard {
    fn new(options: Options) -> Self {
        let (clock, rng, fs) = (Arc::default(), Arc::default(), MemFs::new());
        let mut yard = Self {
            clock,
            rng,
            fs,
            options,
            store: None,
            turn: 0,
        };
        Store::init(&yard.env(), &options, IDENTITY).unwrap();
        yard.open();
        yard.store().create_dataset(dataset()).unwrap();
        yard
    }

    fn env(&self) -> Environment {
        self.env_with(Arc::new(MemoryIndex::default()))
    }

    fn env_with(&self, index: Arc<dyn Index>) -> Environment {
        Environment {
            vfs: Arc::new(self.fs.clone()),
            clock: self.clock.clone(),
            rng: self.rng.clone(),
            catalogue: Box::new(MemoryCatalogue::default()),
            index,
            verifier: Arc::new(TestVerifier),
        }
    }

    fn open(&mut self) {
        self.store = Some(Store::open(self.env(), self.options).unwrap());
    }

    fn reopen(&mut self) {
        self.store = None;
        self.fs = self.fs.restart();
        self.open();
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn session(&self) -> SessionKey {
        let session = self.store().open_session(RunId::mint(), dataset().id, 0);
        session.unwrap().key
    }

    /// Sends chunks and their tree in one pack.
    fn send(&mut self, key: SessionKey, seeds: &[u64]) -> PackId {
        self.turn += 1;
        let records = [chunks(seeds), tree(seeds).1].concat();
        put(self.store(), key, salt(self.turn), &records)
            .unwrap()
            .pack
    }

    fn propose(&self, key: SessionKey, seeds: &[u64]) -> Result<PointId, Error> {
        let point = PointId::mint();
        let bytes = manifest(point, key.run, vec![tree(seeds).0]).encode();
        self.store().propose_point(key, &bytes.unwrap())?;
        Ok(point)
    }

    /// A whole backup in a pack of its own.
    fn back_up(&mut self, seeds: &[u64]) -> (PointId, PackId) {
        let key = self.session();
        let pack = self.send(key, seeds);
        let point = self.propose(key, seeds).unwrap();
        self.store().commit_point(key, point).unwrap();
        self.store().close_session(key).unwrap();
        (point, pack)
    }

    fn pass(&self, span: Duration) {
        self.clock.pass(span);
        self.store().tick().unwrap();
    }

    fn delete(&self, point: PointId) {
        self.pass(2 * HOUR);
        self.store().delete_point(point).unwrap();
    }

    fn collect(&self) -> Collected {
        self.store().collect(&()).unwrap()
    }

    /// Puts a decision on the log as the scrub would.
    fn put_on_log(&self, entry: &Entry) {
        let inner = &self.store().inner;
        inner.append(&mut inner.ledger(), entry).unwrap();
    }

    fn pack_path(pack: PackId) -> PathBuf {
        layout::pack(pack)
    }

    fn has(&self, pack: PackId) -> bool {
        self.fs.bytes(&Self::pack_path(pack)).is_some()
    }

    /// The pack that a record is read from.
    fn pack_of(&self, record: &RecordId) -> PackId {
        let found = self.store().inner.index.find(dataset().id, record).unwrap();
        found.unwrap().pack
    }
}

#[test]
fn a_deleted_point_leaves_in_steps_and_others_stay() {
    let mut yard = Yard::new(SHORT);
    let (gone, dead) = yard.back_up(&[1, 2, 3]);
    let (kept, live) = yard.back_up(&[4, 5, 6]);
    yard.delete(gone);
    let first = yard.collect();
    assert_eq!(first.condemned.pack_count, 1);
    assert_eq!(yard.collect().quarantined.pack_count, 0);
    yard.pass(DAY);
    let second = yard.collect();
    assert_eq!(second.quarantined, first.condemned);
    assert!(!yard.has(dead) && yard.has(live));
    assert_eq!(yard.fs.files_in("quarantine").len(), 3);
    yard.pass(7 * DAY);
    assert_eq!(yard.collect().removed, first.condemned);
    assert_eq!(yard.fs.files_in("quarantine").len(), 0);
    for _ in 0..2 {
        check_point(yard.store(), kept, &[4, 5, 6]);
        yard.reopen();
    }
}

#[test]
fn a_promise_to_a_session_holds_as_long_as_the_session() {
    let mut yard = Yard::new(SHORT);
    let (gone, pack) = yard.back_up(&[1, 2, 3]);
    let early = yard.session();
    yard.delete(gone);
    assert_eq!(yard.collect().condemned.pack_count, 1);
    let late = yard.session();
    let record = chunk(1, 0).id();
    assert_eq!(yard.store().find(early, &[record]).unwrap(), [true]);
    assert_eq!(yard.store().find(late, &[record]).unwrap(), [false]);
    yard.store().close_session(late).unwrap();
    for _ in 0..3 {
        yard.pass(30 * DAY);
        let collected = yard.collect();
        let blocking = collected.blocking.unwrap();
        assert_eq!((blocking.fence, blocking.pack_count), (early.fence, 1));
    }
    let point = yard.propose(early, &[1, 2, 3]).unwrap();
    yard.store().commit_point(early, point).unwrap();
    yard.store().close_session(early).unwrap();
    let collected = yard.collect();
    assert_eq!((collected.spared.pack_count, collected.blocking), (1, None));
    check_point(yard.store(), point, &[1, 2, 3]);
    assert!(yard.has(pack));
}

#[test]
fn what_an_earlier_session_of_the_run_walked_is_no_promise_to_a_later_one() {
    let mut yard = Yard::new(SHORT);
    let (gone, pack) = yard.back_up(&[1, 2, 3]);
    let early = yard.session();
    let point = yard.propose(early, &[1, 2, 3]).unwrap();
    yard.delete(gone);
    yard.collect();
    let late = yard.store().open_session(early.run, dataset().id, 0);
    let late = late.unwrap().key;
    yard.pass(DAY);
    assert_eq!(yard.collect().quarantined.pack_count, 1);
    assert!(!yard.has(pack));
    let refused = yard.store().commit_point(late, point);
    assert!(
        matches!(refused, Err(Error::RecordNotFound { .. })),
        "{refused:?}"
    );
    // Sent again, it is whole.
    yard.send(late, &[1, 2, 3]);
    yard.store().commit_point(late, point).unwrap();
    check_point(yard.store(), point, &[1, 2, 3]);
}

#[test]
fn subtrees_that_were_whole_are_walked_again_once_anything_was_condemned() {
    let mut yard = Yard::new(SHORT);
    let (gone, _) = yard.back_up(&[1, 2, 3]);
    yard.delete(gone);
    yard.collect();
    let late = yard.session();
    let refused = yard.propose(late, &[1, 2, 3]);
    assert!(
        matches!(refused, Err(Error::RecordNotFound { .. })),
        "{refused:?}"
    );
}

#[test]
fn an_old_session_does_not_teach_new_ones_what_is_condemned() {
    let mut yard = Yard::new(SHORT);
    let (gone, _) = yard.back_up(&[1, 2, 3]);
    let early = yard.session();
    // A start forgets what was whole, so the tree is walked.
    yard.reopen();
    let point = yard.propose(early, &[1, 2, 3]).unwrap();
    yard.delete(gone);
    yard.collect();
    yard.store().commit_point(early, point).unwrap();
    let late = yard.session();
    let refused = yard.propose(late, &[1, 2, 3]);
    assert!(
        matches!(refused, Err(Error::RecordNotFound { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_point_that_comes_while_a_cycle_runs_keeps_what_it_reaches() {
    let mut yard = Yard::new(SHORT);
    let (gone, pack) = yard.back_up(&[1, 2, 3]);
    let early = yard.session();
    let proposed = yard.propose(early, &[1, 2, 3]).unwrap();
    yard.delete(gone);
    let mut collection = yard.store().begin_collection().unwrap();
    loop {
        let progress = collection.step().unwrap();
        if let Progress::Working { phase, .. } = progress
            && phase == Phase::Sweep
        {
            break;
        }
    }
    yard.store().commit_point(early, proposed).unwrap();
    let collected = loop {
        if let Progress::Done(collected) = collection.step().unwrap() {
            break collected;
        }
    };
    assert_eq!(collected.condemned.pack_count, 0);
    assert!(yard.store().inner.fates().of(pack).is_none());
}

#[test]
fn nothing_is_quarantined_in_a_cycle_in_which_records_were_lost() {
    let mut yard = Yard::new(SHORT);
    let (gone, old) = yard.back_up(&[1, 2, 3]);
    yard.delete(gone);
    yard.collect();
    // The same content again, as a session sends it that does not see the condemned pack.
    let (kept, new) = yard.back_up(&[1, 2, 3]);
    yard.pass(DAY);
    let mut collection = yard.store().begin_collection().unwrap();
    while !matches!(
        collection.step().unwrap(),
        Progress::Working {
            phase: Phase::Sweep,
            ..
        }
    ) {}
    // The copy that was marked is lost; the only other one is about to go.
    let at = stillwater_format::Time::default();
    let records = vec![chunk(1, 0).id()];
    yard.put_on_log(&Entry::RecordsLost(Loss {
        pack: new,
        at,
        records,
    }));
    yard.put_on_log(&Entry::Packs(Decision {
        fate: Fate::Damaged,
        at,
        packs: vec![new],
    }));
    while !matches!(collection.step().unwrap(), Progress::Done(_)) {}
    assert!(yard.has(old));
    drop(collection);
    assert_eq!(yard.collect().spared.pack_count, 1);
    check_point(yard.store(), kept, &[1, 2, 3]);
}

#[test]
fn what_was_walked_before_a_loss_is_walked_again() {
    let mut yard = Yard::new(SHORT);
    let key = yard.session();
    let pack = yard.send(key, &[1, 2, 3]);
    let point = yard.propose(key, &[1, 2, 3]).unwrap();
    let at = stillwater_format::Time::default();
    yard.put_on_log(&Entry::Packs(Decision {
        fate: Fate::Damaged,
        at,
        packs: vec![pack],
    }));
    let refused = yard.store().commit_point(key, point);
    assert!(
        matches!(refused, Err(Error::RecordNotFound { .. })),
        "{refused:?}"
    );
    yard.send(key, &[1, 2, 3]);
    yard.store().commit_point(key, point).unwrap();
    check_point(yard.store(), point, &[1, 2, 3]);
}

#[test]
fn an_unusual_amount_waits_for_two_administrators() {
    let braked = Options {
        sweep_brake_min_bytes: 1000,
        ..SHORT
    };
    let mut yard = Yard::new(braked);
    for number in [1, 2] {
        yard.store().enrol_admin(key(number), "host").unwrap();
    }
    let (kept, _) = yard.back_up(&[1, 2, 3]);
    let (gone, dead) = yard.back_up(&[4, 5, 6]);
    yard.delete(gone);
    let held = |collected: &Collected| match collected.held {
        Some(Held::Brake { bytes, .. }) => bytes,
        other => panic!("{other:?}"),
    };
    let bytes = held(&yard.collect());
    assert_eq!(
        bytes,
        yard.fs.bytes(&Yard::pack_path(dead)).unwrap().len() as u64
    );
    assert_eq!(yard.store().last_cycle().unwrap().held_bytes, bytes);
    let too_little = statement(1, Action::AllowSweep { bytes: bytes - 1 });
    let enough = statement(2, Action::AllowSweep { bytes });
    for number in [1, 2] {
        yard.store()
            .submit(&sign(&too_little, key(number)))
            .unwrap();
    }
    assert_eq!(held(&yard.collect()), bytes);
    yard.store().submit(&sign(&enough, key(1))).unwrap();
    assert_eq!(held(&yard.collect()), bytes);
    yard.store().submit(&sign(&enough, key(2))).unwrap();
    let let_go = yard.collect();
    assert_eq!((let_go.held, let_go.condemned.bytes), (None, bytes));
    // It was for one cycle.
    yard.delete(kept);
    held(&yard.collect());
    assert_eq!(yard.store().collection_counts().cycles_braked, 4);
}

#[test]
fn what_compaction_copied_does_not_count_for_the_brake() {
    let braked = Options {
        sweep_brake_min_bytes: 5000,
        sweep_brake_percent: 1,
        compact_below_percent: 100,
        ..SHORT
    };
    let mut yard = Yard::new(braked);
    let key = yard.session();
    let pack = yard.send(key, &(0..30).collect::<Vec<_>>());
    let kept: Vec<_> = (0..27).collect();
    yard.send(key, &kept);
    let point = yard.propose(key, &kept).unwrap();
    yard.store().commit_point(key, point).unwrap();
    yard.store().close_session(key).unwrap();
    assert_eq!(yard.collect().compacted.pack_count, 1);
    let collected = yard.collect();
    assert_eq!((collected.held, collected.condemned.pack_count), (None, 1));
    let length = yard.fs.bytes(&Yard::pack_path(pack)).unwrap().len() as u64;
    assert!(length > braked.sweep_brake_min_bytes);
    check_point(yard.store(), point, &kept);
}

#[test]
fn nothing_is_taken_out_while_the_clock_is_in_doubt() {
    let mut yard = Yard::new(SHORT);
    let (gone, pack) = yard.back_up(&[1, 2, 3]);
    yard.delete(gone);
    yard.collect();
    yard.pass(2 * DAY);
    yard.clock.set(400 * 24 * 3_600_000);
    let held = yard.collect();
    assert_eq!(
        (held.held, held.quarantined.pack_count),
        (Some(Held::Time), 0)
    );
    assert!(yard.has(pack));
    yard.clock.set(-400 * 24 * 3_600_000);
    assert_eq!(yard.collect().quarantined.pack_count, 1);
    yard.pass(8 * DAY);
    yard.clock.set(3_600_000);
    assert_eq!(yard.collect().removed.pack_count, 0);
    yard.clock.set(-3_600_000);
    assert_eq!(yard.collect().removed.pack_count, 1);
}

/// Tree nodes that one cycle reads, by what it says and by what the store counts.
fn nodes_read_by_a_cycle(yard: &Yard) -> u64 {
    let before = yard.store().counters().read().records_read;
    let collected = yard.collect();
    assert_eq!(collected.compacted.pack_count, 0);
    let read = yard.store().counters().read().records_read - before;
    assert_eq!(collected.read_node_count, read);
    read
}

#[test]
fn a_cycle_reads_only_the_nodes_that_are_new() {
    let mut yard = Yard::new(SHORT);
    let mut seeds: Vec<u64> = (0..300).collect();
    let (first, _) = yard.back_up(&seeds);
    assert_eq!(nodes_read_by_a_cycle(&yard), 101);
    assert_eq!(nodes_read_by_a_cycle(&yard), 0);
    // One chunk, the node above it and the top.
    seeds[150] = 1000;
    let key = yard.session();
    let missing: Vec<_> = [chunks(&seeds), tree(&seeds).1].concat();
    let ids: Vec<_> = missing.iter().map(Sent::id).collect();
    let found = yard.store().find(key, &ids).unwrap();
    let missing = missing.into_iter().zip(found).filter(|(_, found)| !found);
    let missing: Vec<_> = missing.map(|(sent, _)| sent).collect();
    assert_eq!(missing.len(), 3);
    put(yard.store(), key, salt(1000), &missing).unwrap();
    let second = yard.propose(key, &seeds).unwrap();
    yard.store().commit_point(key, second).unwrap();
    yard.store().close_session(key).unwrap();
    assert_eq!(nodes_read_by_a_cycle(&yard), 2);
    // What only the deleted point reached is not marked any more, and nothing is read for that.
    let live_bytes = yard.store().last_cycle().unwrap().live_bytes;
    yard.delete(first);
    assert_eq!(nodes_read_by_a_cycle(&yard), 0);
    let less = live_bytes - yard.store().last_cycle().unwrap().live_bytes;
    let (old, new) = (tree(&(0..300).collect::<Vec<_>>()).1, tree(&seeds).1);
    let gone = old.iter().filter(|node| !new.contains(node));
    let node_bytes: usize = gone.map(|node| node.stored.len() + 72).sum();
    assert_eq!(less, (node_bytes + 272) as u64);
    // Lost, it costs reading.
    yard.reopen();
    assert_eq!(nodes_read_by_a_cycle(&yard), 101);
    assert_eq!(nodes_read_by_a_cycle(&yard), 0);
    check_point(yard.store(), second, &seeds);
}

#[test]
fn a_cycle_in_which_nothing_is_new_reads_no_tables_of_packs() {
    let mut yard = Yard::new(SHORT);
    for n in 0..20 {
        yard.back_up(&[3 * n, 3 * n + 1, 3 * n + 2]);
    }
    let looks = || {
        let before = yard.fs.looks();
        yard.collect();
        yard.fs.looks() - before
    };
    let (first, second) = (looks(), looks());
    // For each pack its length, header, footer and trailer, and its two nodes.
    assert!(first >= second + 20 * 6, "{first} {second}");
    // The manifests, and the names of packs and of what is in quarantine.
    assert!(second < 20 * 3 + 4 * 256 + 10, "{second}");
    assert_eq!(looks(), second);
}

#[test]
fn a_cycle_that_ends_early_keeps_what_is_remembered() {
    let mut yard = Yard::new(SHORT);
    yard.back_up(&[1, 2, 3, 4]);
    assert_eq!(nodes_read_by_a_cycle(&yard), 3);
    let mut collection = yard.store().begin_collection().unwrap();
    for _ in 0..3 {
        collection.step().unwrap();
    }
    drop(collection);
    assert_eq!(nodes_read_by_a_cycle(&yard), 0);
}

/// A pack that holds chunks which are stored meanwhile by another one: whoever finishes it makes copies.
fn twin(yard: &Yard, seeds: &[u64]) -> (SessionKey, PackWriter) {
    let key = yard.session();
    let mut writer = yard.store().begin_pack(key, &salt(2000)).unwrap();
    for sent in chunks(seeds) {
        writer.append(&sent.header, &sent.stored).unwrap();
    }
    (key, writer)
}

fn live_bytes(yard: &Yard) -> u64 {
    yard.store().last_cycle().unwrap().live_bytes
}

/// Nothing is compacted.
const LOOSE: Options = Options {
    compact_below_percent: 0,
    ..SHORT
};

#[test]
fn of_a_record_that_is_stored_twice_one_copy_is_live_in_the_end() {
    let mut yard = Yard::new(LOOSE);
    let (key, writer) = twin(&yard, &[1, 2, 3]);
    yard.back_up(&[1, 2, 3]);
    assert_eq!(nodes_read_by_a_cycle(&yard), 2);
    let once = live_bytes(&yard);
    writer.finish().unwrap();
    yard.store().close_session(key).unwrap();
    // Another node comes to the same chunks, and finds the newer copies.
    yard.back_up(&[1, 2, 4]);
    let nodes: usize = tree(&[1, 2, 4]).1.iter().map(|n| n.stored.len() + 72).sum();
    let more = (272 + nodes) as u64;
    assert_eq!(nodes_read_by_a_cycle(&yard), 2);
    assert_eq!(live_bytes(&yard), once + more + 2 * 272);
    assert_eq!(nodes_read_by_a_cycle(&yard), 1);
    assert_eq!(live_bytes(&yard), once + more);
    assert_eq!(nodes_read_by_a_cycle(&yard), 0);
}

#[test]
fn what_is_remembered_of_a_condemned_pack_does_not_spare_it() {
    let mut yard = Yard::new(LOOSE);
    let (_, old) = yard.back_up(&[1, 2, 3]);
    assert_eq!(nodes_read_by_a_cycle(&yard), 2);
    yard.put_on_log(&Entry::Packs(Decision {
        fate: Fate::Condemned,
        at: stillwater_format::Time::default(),
        packs: vec![old],
    }));
    // A session that opened later does not see it, and sends all again.
    let (point, _) = yard.back_up(&[1, 2, 3]);
    yard.pass(2 * DAY);
    let collected = yard.collect();
    assert_eq!(
        (
            collected.spared.pack_count,
            collected.quarantined.pack_count
        ),
        (0, 1)
    );
    check_point(yard.store(), point, &[1, 2, 3]);
}

#[test]
fn what_is_remembered_of_a_pack_in_trouble_is_read_again() {
    let mut yard = Yard::new(SHORT);
    let (_, pack) = yard.back_up(&[1, 2, 3]);
    let (gone, dead) = yard.back_up(&[7, 8, 9]);
    assert_eq!(nodes_read_by_a_cycle(&yard), 4);
    yard.store().inner.scrub.suspect(pack);
    assert_eq!(nodes_read_by_a_cycle(&yard), 2);
    // Nor of one that is not there: that ends the cycle.
    yard.reopen();
    assert_eq!(nodes_read_by_a_cycle(&yard), 4);
    yard.delete(gone);
    yard.fs.remove(&Yard::pack_path(pack));
    yard.store().inner.packs.forget_open();
    assert!(yard.store().collect(&()).is_err());
    assert!(yard.store().inner.fates().of(dead).is_none());
}

#[test]
fn what_no_point_reaches_is_forgotten() {
    let mut yard = Yard::new(LOOSE);
    let key = yard.session();
    yard.turn += 1;
    let records = [chunks(&[1, 2, 3, 4]), tree(&[1, 2]).1, tree(&[3, 4]).1];
    put(yard.store(), key, salt(yard.turn), &records.concat()).unwrap();
    let commit = |seeds: &[u64]| {
        let point = yard.propose(key, seeds).unwrap();
        yard.store().commit_point(key, point).unwrap();
        point
    };
    let (first, _) = (commit(&[1, 2]), commit(&[3, 4]));
    assert_eq!(nodes_read_by_a_cycle(&yard), 4);
    yard.delete(first);
    assert_eq!(nodes_read_by_a_cycle(&yard), 0);
    let again = yard.propose(key, &[1, 2]).unwrap();
    yard.store().commit_point(key, again).unwrap();
    assert_eq!(nodes_read_by_a_cycle(&yard), 2);
}

#[test]
fn what_a_late_point_reaches_is_weighed() {
    let mut yard = Yard::new(LOOSE);
    let key = yard.session();
    put(yard.store(), key, salt(2000), &chunks(&[1, 2, 3, 4])).unwrap();
    yard.send(key, &[1, 2]);
    let point = yard.propose(key, &[1, 2]).unwrap();
    yard.store().commit_point(key, point).unwrap();
    yard.store().close_session(key).unwrap();
    let (gone, _) = yard.back_up(&[9]);
    yard.delete(gone);
    let mut collection = yard.store().begin_collection().unwrap();
    while !matches!(
        collection.step().unwrap(),
        Progress::Working {
            phase: Phase::Sweep,
            ..
        }
    ) {}
    yard.back_up(&[3, 4]);
    while !matches!(collection.step().unwrap(), Progress::Done(_)) {}
    drop(collection);
    let bytes = |seeds| -> u64 {
        let nodes = tree(seeds).1.into_iter();
        nodes.map(|node| node.stored.len() as u64 + 72).sum()
    };
    // All but what lies in the pack that came meanwhile.
    assert_eq!(live_bytes(&yard), 4 * 272 + bytes(&[1, 2]));
    yard.collect();
    assert_eq!(live_bytes(&yard), 4 * 272 + bytes(&[1, 2]) + bytes(&[3, 4]));
}

#[test]
fn a_node_whose_chunk_a_cycle_could_not_mark_is_not_remembered() {
    let mut yard = Yard::new(LOOSE);
    let (key, writer) = twin(&yard, &[1, 2, 3]);
    let (point, _) = yard.back_up(&[1, 2, 3]);
    let mut collection = yard.store().begin_collection().unwrap();
    for _ in 0..2 {
        collection.step().unwrap();
    }
    // It looked; what comes now is not for it to mark.
    let newer = writer.finish().unwrap().pack;
    yard.store().close_session(key).unwrap();
    while !matches!(collection.step().unwrap(), Progress::Done(_)) {}
    drop(collection);
    assert_eq!(nodes_read_by_a_cycle(&yard), 1);
    assert_eq!(nodes_read_by_a_cycle(&yard), 0);
    assert!(yard.store().inner.fates().of(newer).is_none());
    check_point(yard.store(), point, &[1, 2, 3]);
}

#[test]
fn what_compaction_moved_is_read_again_once() {
    let (mut yard, point, _) = half_dead(SHORT);
    yard.back_up(&[7, 8, 9]);
    let collected = yard.collect();
    assert_eq!(
        (collected.compacted.pack_count, collected.read_node_count),
        (2, 4)
    );
    // The node above the chunks that were copied; its top lies elsewhere.
    assert_eq!(nodes_read_by_a_cycle(&yard), 1);
    assert_eq!(nodes_read_by_a_cycle(&yard), 0);
    check_point(yard.store(), point, &[1, 4]);
}

#[test]
fn a_node_that_cannot_be_read_stops_everything_until_it_is_healed() {
    let mut yard = Yard::new(SHORT);
    let (gone, dead) = yard.back_up(&[4, 5, 6]);
    let (point, pack) = yard.back_up(&[1, 2, 3]);
    yard.delete(gone);
    let path = Yard::pack_path(pack);
    let good = yard.fs.bytes(&path).unwrap();
    let (_, nodes) = tree(&[1, 2, 3]);
    let mut bad = good.clone();
    let stored = &nodes[0].stored;
    let at = bad.windows(stored.len()).position(|found| found == stored);
    bad[at.unwrap() + 20] ^= 1;
    yard.fs.set_bytes(&path, bad);
    let blocked = yard.store().collect(&());
    match &blocked {
        Err(Error::CollectionBlocked { point: named, .. }) => assert_eq!(*named, point),
        other => panic!("{other:?}"),
    }
    assert_eq!(blocked.unwrap_err().reason().as_str(), "COLLECTION_BLOCKED");
    assert!(yard.store().inner.fates().of(dead).is_none());
    assert_eq!(yard.store().collection_counts().cycles_blocked, 1);
    // Another copy of the node heals it.
    yard.put_on_log(&Entry::Packs(Decision {
        fate: Fate::Damaged,
        at: stillwater_format::Time::default(),
        packs: vec![pack],
    }));
    yard.back_up(&[1, 2, 3]);
    assert_eq!(yard.collect().condemned.pack_count, 1);
}

#[test]
fn a_point_without_manifests_stops_everything_until_it_is_deleted() {
    let mut yard = Yard::new(SHORT);
    let (lost, _) = yard.back_up(&[1, 2, 3]);
    let [first, second] = layout::manifest(lost);
    yard.fs.remove(&first);
    assert_eq!(yard.collect().condemned.pack_count, 0);
    yard.fs.remove(&second);
    let blocked = yard.store().collect(&());
    assert!(
        matches!(blocked, Err(Error::CollectionBlocked { point, .. }) if point == lost),
        "{blocked:?}"
    );
    yard.delete(lost);
    assert_eq!(yard.collect().condemned.pack_count, 1);
}

/// An index that does not know some records, though their packs have them.
struct Forgetful {
    inner: MemoryIndex,
    forgotten: Mutex<HashSet<RecordId>>,
}

impl Index for Forgetful {
    fn open(&self, present: &HashSet<PackId>) -> Vec<PackFacts> {
        self.inner.open(present)
    }
    fn copies(
        &self,
        dataset: stillwater_types::DatasetId,
        record: &RecordId,
    ) -> Result<Vec<Location>, Error> {
        if self.forgotten.lock().unwrap().contains(record) {
            return Ok(Vec::new());
        }
        self.inner.copies(dataset, record)
    }
    fn add(
        &self,
        facts: &PackFacts,
        entries: &[stillwater_format::pack::Entry],
    ) -> Result<(), Error> {
        self.inner.add(facts, entries)
    }
    fn condemn(&self, packs: &[PackId]) {
        self.inner.condemn(packs);
    }
    fn spare(&self, packs: &[PackId]) {
        self.inner.spare(packs);
    }
    fn forget(&self, packs: &[PackId]) {
        self.inner.forget(packs);
    }
    fn count(&self) -> IndexCount {
        self.inner.count()
    }
}

#[test]
fn a_chunk_that_only_the_index_lost_keeps_its_pack() {
    let mut yard = Yard::new(SHORT);
    let index = Arc::new(Forgetful {
        inner: MemoryIndex::default(),
        forgotten: Mutex::default(),
    });
    yard.store = None;
    yard.store = Some(Store::open(yard.env_with(index.clone()), SHORT).unwrap());
    let key = yard.session();
    yard.turn += 1;
    put(yard.store(), key, salt(100), &chunks(&[1, 2, 3])).unwrap();
    yard.send(key, &[1, 2, 3]);
    let point = yard.propose(key, &[1, 2, 3]).unwrap();
    yard.store().commit_point(key, point).unwrap();
    yard.store().close_session(key).unwrap();
    let all = chunks(&[1, 2, 3]);
    index
        .forgotten
        .lock()
        .unwrap()
        .extend(all.iter().map(Sent::id));
    let collected = yard.collect();
    assert_eq!(collected.missing_chunk_count, 3);
    assert_eq!(collected.condemned.pack_count, 0);
    // Condemned before the index lost them, they are spared.
    index.forgotten.lock().unwrap().clear();
    let pack = yard.pack_of(&all[0].id());
    yard.put_on_log(&Entry::Packs(Decision {
        fate: Fate::Condemned,
        at: stillwater_format::Time::default(),
        packs: vec![pack],
    }));
    index
        .forgotten
        .lock()
        .unwrap()
        .extend(all.iter().map(Sent::id));
    yard.pass(2 * DAY);
    assert_eq!(yard.collect().spared.pack_count, 1);
}

#[test]
fn a_lost_chunk_stops_nothing() {
    let mut yard = Yard::new(SHORT);
    let key = yard.session();
    put(yard.store(), key, salt(100), &chunks(&[1, 2, 3])).unwrap();
    yard.send(key, &[1, 2, 3]);
    let point = yard.propose(key, &[1, 2, 3]).unwrap();
    yard.store().commit_point(key, point).unwrap();
    yard.store().close_session(key).unwrap();
    let (gone, _) = yard.back_up(&[4]);
    yard.delete(gone);
    let pack = yard.pack_of(&chunk(1, 0).id());
    yard.put_on_log(&Entry::Packs(Decision {
        fate: Fate::Damaged,
        at: stillwater_format::Time::default(),
        packs: vec![pack],
    }));
    let collected = yard.collect();
    assert_eq!(
        (
            collected.missing_chunk_count,
            collected.condemned.pack_count
        ),
        (3, 1)
    );
}

/// A pack of four chunks of which two are live, sealed under two salts, and its point.
fn half_dead(options: Options) -> (Yard, PointId, [PackId; 2]) {
    let mut yard = Yard::new(options);
    let key = yard.session();
    let packs = [[1, 2, 3], [4, 5, 6]].map(|seeds| {
        yard.turn += 1;
        put(yard.store(), key, salt(yard.turn), &chunks(&seeds))
            .unwrap()
            .pack
    });
    yard.send(key, &[1, 4]);
    let point = yard.propose(key, &[1, 4]).unwrap();
    yard.store().commit_point(key, point).unwrap();
    yard.store().close_session(key).unwrap();
    (yard, point, packs)
}

#[test]
fn what_is_live_is_copied_with_its_salts_and_the_rest_goes() {
    let (mut yard, point, old) = half_dead(SHORT);
    let before: Vec<_> = [1, 4]
        .map(|seed| {
            yard.store()
                .read(dataset().id, chunk(seed, 0).id())
                .unwrap()
        })
        .into();
    assert_eq!(yard.collect().compacted.pack_count, 2);
    let new = yard.pack_of(&chunk(1, 0).id());
    assert!(!old.contains(&new));
    assert_eq!(yard.pack_of(&chunk(4, 0).id()), new);
    // Both copies are good until the old one goes.
    assert!(old.iter().all(|pack| yard.has(*pack)));
    assert_eq!(yard.collect().condemned.pack_count, 2);
    yard.pass(DAY);
    assert_eq!(yard.collect().quarantined.pack_count, 2);
    for _ in 0..2 {
        check_point(yard.store(), point, &[1, 4]);
        for (seed, before) in [1, 4].into_iter().zip(&before) {
            let after = yard
                .store()
                .read(dataset().id, chunk(seed, 0).id())
                .unwrap();
            assert_eq!(after.salt, before.salt);
            assert_eq!(after.header.counter, before.header.counter);
        }
        yard.reopen();
    }
    assert_eq!(yard.collect().compacted.pack_count, 0);
}

#[test]
fn a_pack_with_a_damaged_record_is_not_given_up_for_its_copy() {
    let (yard, _, [old, _]) = half_dead(SHORT);
    let path = Yard::pack_path(old);
    let mut bytes = yard.fs.bytes(&path).unwrap();
    let stored = chunk(1, 0).stored;
    let at = bytes
        .windows(stored.len())
        .position(|found| found == stored);
    bytes[at.unwrap() + 20] ^= 1;
    yard.fs.set_bytes(&path, bytes);
    let collected = yard.collect();
    assert_eq!(collected.damaged_record_count, 1);
    assert_eq!(collected.compacted.pack_count, 1);
    let collected = yard.collect();
    assert_eq!(
        (
            collected.condemned.pack_count,
            collected.damaged_record_count
        ),
        (1, 0)
    );
    assert!(yard.store().inner.fates().of(old).is_none());
}

#[test]
fn a_full_disk_is_collected_without_compaction() {
    let (mut yard, point, old) = half_dead(SHORT);
    let (gone, _) = yard.back_up(&[9]);
    yard.delete(gone);
    // Within the reserve of 2 %.
    yard.fs.set_free(super::memfs::CAPACITY / 60);
    let collected = yard.collect();
    assert_eq!(
        (
            collected.condemned.pack_count,
            collected.compacted.pack_count
        ),
        (1, 0)
    );
    assert!(old.iter().all(|pack| yard.has(*pack)));
    check_point(yard.store(), point, &[1, 4]);
    yard.fs.set_free(super::memfs::CAPACITY);
    assert_eq!(yard.collect().compacted.pack_count, 2);
}

#[test]
fn a_damaged_pack_is_left_alone() {
    let mut yard = Yard::new(SHORT);
    let (gone, pack) = yard.back_up(&[1, 2, 3]);
    yard.store = None;
    let path = Yard::pack_path(pack);
    let mut bytes = yard.fs.bytes(&path).unwrap();
    bytes.pop();
    yard.fs.set_bytes(&path, bytes);
    yard.open();
    yard.delete(gone);
    let collected = yard.collect();
    assert_eq!(
        (
            collected.untouched.pack_count,
            collected.condemned.pack_count
        ),
        (1, 0)
    );
}

#[test]
fn one_collection_runs_at_a_time_and_can_be_stopped() {
    struct Stop;
    impl Watch for Stop {
        fn note(&self, _: Phase, _: u64, _: u64) {
            panic!("it goes on");
        }
        fn is_stopped(&self) -> bool {
            true
        }
    }
    let mut yard = Yard::new(SHORT);
    yard.back_up(&[1]);
    let collection = yard.store().begin_collection().unwrap();
    let second = yard.store().collect(&());
    assert!(
        matches!(second, Err(Error::CollectionRunning)),
        "{second:?}"
    );
    drop(collection);
    let stopped = yard.store().collect(&Stop);
    assert!(
        matches!(stopped, Err(Error::CollectionStopped)),
        "{stopped:?}"
    );
    yard.collect();
}

#[test]
fn a_proposal_that_nobody_commits_goes_and_never_comes_back() {
    let mut yard = Yard::new(SHORT);
    let key = yard.session();
    yard.send(key, &[1, 2, 3]);
    let point = yard.propose(key, &[1, 2, 3]).unwrap();
    yard.collect();
    yard.pass(2 * DAY);
    // Its run has a session, and may yet commit.
    yard.collect();
    assert!(yard.fs.bytes(&layout::manifest(point)[0]).is_some());
    yard.store().close_session(key).unwrap();
    yard.collect();
    yard.collect();
    assert_eq!(yard.fs.files_in("manifests").len(), 0);
    assert_eq!(yard.fs.files_in("copy/manifests").len(), 0);
    let late = yard
        .store()
        .open_session(key.run, dataset().id, 0)
        .unwrap()
        .key;
    yard.send(late, &[1, 2, 3]);
    for _ in 0..2 {
        assert!(yard.store().commit_point(late, point).is_err());
        yard.reopen();
    }
}

#[test]
fn what_the_log_decided_and_a_crash_left_undone_is_done_at_the_start() {
    let mut yard = Yard::new(SHORT);
    let packs: Vec<_> = (0..5).map(|n| yard.back_up(&[n]).1).collect();
    let decide = |fate, pack: PackId| {
        Entry::Packs(Decision {
            fate,
            at: stillwater_format::Time::from_millis(1),
            packs: vec![pack],
        })
    };
    for pack in &packs[..3] {
        yard.put_on_log(&decide(Fate::Condemned, *pack));
        yard.put_on_log(&decide(Fate::Quarantined, *pack));
    }
    yard.put_on_log(&decide(Fate::Removed, packs[0]));
    yard.put_on_log(&decide(Fate::Removed, packs[1]));
    yard.put_on_log(&decide(Fate::Damaged, packs[3]));
    // One was moved before it was decided that it goes, one lies there though it is in use.
    for pack in [packs[1], packs[4]] {
        let (from, to) = (Yard::pack_path(pack), layout::quarantined_pack(pack));
        vfs::Vfs::rename_noreplace(&yard.fs, &from, &to).unwrap();
    }
    for _ in 0..2 {
        yard.reopen();
        let has: Vec<_> = packs.iter().map(|pack| yard.has(*pack)).collect();
        assert_eq!(has, [false, false, false, false, true]);
        let aside = yard.fs.files_in("quarantine");
        let expected = [packs[2], packs[3]].map(layout::quarantined_pack);
        assert_eq!(
            aside.into_iter().collect::<HashSet<_>>(),
            HashSet::from(expected)
        );
    }
}

/// Backups, a deletion, compaction, and cycles until everything dead is gone.
fn life(yard: &mut Yard) -> Result<(), Error> {
    for _ in 0..5 {
        yard.clock.pass(5 * DAY);
        yard.store().tick()?;
        yard.store().collect(&())?;
    }
    Ok(())
}

/// A repository with something to do for every step of a cycle, closed.
fn laden() -> (Yard, Vec<(PointId, Vec<u64>)>) {
    let (mut yard, point, _) = half_dead(SHORT);
    let (kept, _) = yard.back_up(&[7, 8, 9]);
    let (gone, _) = yard.back_up(&[10, 11, 12]);
    let key = yard.session();
    yard.send(key, &[20]);
    yard.propose(key, &[20]).unwrap();
    yard.store().close_session(key).unwrap();
    yard.delete(gone);
    yard.store = None;
    (yard, vec![(point, vec![1, 4]), (kept, vec![7, 8, 9])])
}

fn sweep(trouble: Trouble, after: impl Fn(u64, &MemFs) -> Vec<MemFs>) {
    let (mut yard, points) = laden();
    let (start, clock) = (yard.fs.clone(), yard.clock.clone());
    yard.fs = start.restart();
    yard.clock = Arc::new(clock.copy());
    yard.open();
    let opened = yard.fs.calls();
    life(&mut yard).unwrap();
    let calls = yard.fs.calls() - opened;
    let files = yard.fs.files_in("packs").len();
    assert!(calls > 60, "only {calls} calls");
    for call in 1..=calls {
        yard.store = None;
        yard.fs = start.restart();
        yard.clock = Arc::new(clock.copy());
        yard.open();
        yard.fs.trouble_at(call, trouble);
        let outcome = life(&mut yard);
        assert!(outcome.is_err() || trouble != Trouble::Death, "call {call}");
        let broken = yard.fs.clone();
        for disk in after(call, &broken) {
            yard.store = None;
            yard.fs = disk;
            yard.open();
            for (point, seeds) in &points {
                check_point(yard.store(), *point, seeds);
            }
            assert_eq!(yard.store().usage().unwrap().damaged_pack_count, 0);
            life(&mut yard).unwrap();
            life(&mut yard).unwrap();
            for (point, seeds) in &points {
                check_point(yard.store(), *point, seeds);
            }
            assert_eq!(yard.fs.files_in("packs").len(), files, "call {call}");
            assert_eq!(yard.fs.files_in("quarantine").len(), 0, "call {call}");
            assert_eq!(yard.fs.files_in("manifests").len(), points.len());
        }
    }
}

#[test]
fn a_kill_at_any_call_of_a_cycle_loses_nothing_and_leaves_nothing() {
    sweep(Trouble::Death, |_, fs| vec![fs.restart()]);
}

#[test]
fn a_power_cut_at_any_call_of_a_cycle_loses_nothing_and_leaves_nothing() {
    sweep(Trouble::Death, |call, fs| {
        let mut bits = blake3::Hasher::new()
            .update(&call.to_le_bytes())
            .finalize_xof();
        let mut random = || {
            let mut byte = [0];
            bits.fill(&mut byte);
            byte[0] & 1 == 1
        };
        vec![fs.crash(&mut || false), fs.crash(&mut random)]
    });
}

#[test]
fn an_error_at_any_call_of_a_cycle_loses_nothing_and_leaves_nothing() {
    sweep(Trouble::Error(std::io::ErrorKind::Other), |_, fs| {
        fs.heal();
        vec![fs.restart()]
    });
}

#[test]
fn a_move_that_failed_is_made_up_for_by_the_next_cycle() {
    let mut made_up = 0;
    for call in 1..40 {
        let mut yard = Yard::new(SHORT);
        let (gone, pack) = yard.back_up(&[1, 2, 3]);
        yard.delete(gone);
        yard.collect();
        yard.pass(DAY);
        yard.fs
            .trouble_at(call, Trouble::Error(std::io::ErrorKind::Other));
        let failed = yard.store().collect(&()).is_err();
        yard.fs.heal();
        if !yard.store().is_writable() {
            continue;
        }
        let undone = failed && yard.has(pack) && !yard.store().inner.fates().is_readable(pack);
        yard.collect();
        yard.pass(9 * DAY);
        yard.collect();
        assert!(!yard.has(pack), "call {call}");
        assert_eq!(yard.fs.files_in("quarantine").len(), 0, "call {call}");
        made_up += u32::from(undone);
    }
    assert!(made_up > 0);
}

#[test]
fn a_power_cut_in_the_middle_of_a_move_loses_neither_name() {
    let mut moved = 0;
    for call in 1..40 {
        let mut yard = Yard::new(SHORT);
        let (gone, pack) = yard.back_up(&[1, 2, 3]);
        yard.delete(gone);
        yard.collect();
        yard.pass(DAY);
        yard.fs.trouble_at(call, Trouble::Death);
        let outcome = yard.store().collect(&());
        yard.store = None;
        yard.fs = yard.fs.crash(&mut || false);
        yard.open();
        let is_aside = yard.fs.bytes(&layout::quarantined_pack(pack)).is_some();
        let is_out = !yard.store().inner.fates().is_readable(pack);
        assert_eq!((is_aside, yard.has(pack)), (is_out, !is_out), "call {call}");
        let manifests = layout::manifest(gone).into_iter();
        for (there, aside) in manifests.zip(layout::quarantined_manifest(gone)) {
            let found = [there, aside].map(|path| yard.fs.bytes(&path).is_some());
            assert!(found != [false, false], "call {call}");
        }
        moved += u32::from(is_out && outcome.is_err());
    }
    assert!(moved > 2);
}
