use std::sync::{Arc, Mutex};

use stillwater_proxy_api::TransferProgress;
use stillwater_repository_api::RecordType;
use stillwater_seal::DatasetKey;
use stillwater_types::{DatasetId, Fault, Reason};

use super::*;
use crate::transfer::fake::{
    FakeDisk, FakeRewriter, FakeStore, Moment, PATH, Rewritten, disk, noise,
};
use crate::transfer::{Backup, ChunkOpeners, Limits, Reading, Source, zstd};

const DATASET: DatasetId = DatasetId::from_bytes([7; 16]);
const BLOCK: usize = 4096;

fn key() -> DatasetKey {
    DatasetKey::from_slice(&[5; 32]).unwrap()
}

/// A repository with disks in it.
#[derive(Default)]
struct Repository(Arc<FakeStore>);

impl Repository {
    async fn keep(&self, bytes: &[u8]) -> DiskRoot {
        let length = bytes.len() as u64;
        let backup = Backup {
            source: Source {
                name: PATH.into(),
                reader: Arc::new(FakeDisk::new(bytes.to_vec())),
            },
            length,
            reading: Reading::Full { areas: None },
            store: self.0.clone(),
            dataset: DATASET,
            key: key(),
            limits: Limits::default(),
            compress: zstd(),
        };
        backup.run(&Progress::new(length)).await.unwrap().root
    }

    fn stored(&self, root: &DiskRoot) -> Arc<Stored> {
        Arc::new(Stored {
            root: root.clone(),
            store: self.0.clone(),
            dataset: DATASET,
            key: key(),
            limits: Limits::default(),
            openers: ChunkOpeners::default(),
        })
    }
}

type Outcome = (Result<TransferFindings, Fault>, TransferProgress);

async fn run(stored: Arc<Stored>, known: Option<Known>, on: &Arc<Mutex<Rewritten>>) -> Outcome {
    let progress = Progress::new(stored.root.length);
    let target = Content {
        name: PATH.into(),
        disk: Box::new(FakeRewriter(on.clone())),
    };
    let outcome = rewrite(stored, known, target, &progress).await;
    (outcome.map_err(|error| error.fault()), progress.snapshot())
}

fn content(bytes: Vec<u8>) -> Arc<Mutex<Rewritten>> {
    Arc::new(Mutex::new(Rewritten {
        bytes,
        ..Rewritten::default()
    }))
}

/// Noise, zeros and bits at many places; where, widened as maps are.
fn damage(bytes: &mut [u8], seed: u64) -> ExtentSet {
    let places = noise(seed, 40);
    let blocks = (bytes.len() / BLOCK) as u64;
    let mut changed = Vec::new();
    for (n, place) in places.as_chunks::<4>().0.iter().enumerate() {
        let at = (u64::from(u32::from_le_bytes(*place)) % blocks) as usize * BLOCK;
        let length = (BLOCK * (1 + n % 3)).min(bytes.len() - at);
        let room = &mut bytes[at..at + length];
        match n % 3 {
            0 => room.copy_from_slice(&noise(seed + n as u64, length)),
            1 => room.fill(0),
            _ => room[length / 2] ^= 1,
        }
        changed.push(Extent::new(at as u64, length as u64));
    }
    let changed = ExtentSet::collect(changed, bytes.len() as u64);
    changed.widen(64 << 10, bytes.len() as u64)
}

/// The blocks in which two disks differ, in bytes.
fn differ(one: &[u8], other: &[u8]) -> u64 {
    let blocks = one.chunks(BLOCK).zip(other.chunks(BLOCK));
    let differ = blocks.filter(|(one, other)| one != other);
    differ.map(|(block, _)| block.len() as u64).sum()
}

#[track_caller]
fn check_whole(on: &Mutex<Rewritten>, wanted: &[u8], damage: u64, outcome: &Outcome) {
    let on = on.lock().unwrap();
    assert!(on.bytes == wanted);
    assert!(on.finished && !on.aborted);
    assert_eq!(on.written_bytes(), damage);
    let (findings, progress) = outcome;
    let findings = findings.as_ref().unwrap();
    assert_eq!(progress.sent_bytes, damage);
    assert_eq!(progress.done_bytes, progress.length_bytes);
    assert_eq!(progress.read_bytes, findings.compared_bytes);
}

#[tokio::test]
async fn only_what_differs_is_written_and_only_where_it_may_differ_is_read() {
    for seed in 0..8 {
        let repository = Repository::default();
        let wanted = disk(seed);
        let point = repository.keep(&wanted).await;
        // The disk went on, was protected again, and went on.
        let mut bytes = wanted.clone();
        damage(&mut bytes, seed + 100);
        let base = repository.keep(&bytes).await;
        let changed = damage(&mut bytes, seed + 200);
        let needed = differ(&bytes, &wanted);
        let on = content(bytes);
        let known = Known { base, changed };
        let outcome = run(repository.stored(&point), Some(known), &on).await;
        check_whole(&on, &wanted, needed, &outcome);
        let findings = outcome.0.unwrap();
        assert!(!findings.compared_all);
        assert!(findings.compared_bytes < point.length, "{findings:?}");
    }
}

#[tokio::test]
async fn a_disk_of_which_nothing_is_known_is_compared_to_its_end() {
    let repository = Repository::default();
    let wanted = disk(1);
    let point = repository.keep(&wanted).await;
    let mut bytes = wanted.clone();
    damage(&mut bytes, 11);
    let needed = differ(&bytes, &wanted);
    let on = content(bytes);
    let outcome = run(repository.stored(&point), None, &on).await;
    check_whole(&on, &wanted, needed, &outcome);
    let findings = outcome.0.unwrap();
    assert!(findings.compared_all);
    assert_eq!(findings.compared_bytes, point.length);
    // A disk of something else altogether, and one that is right already.
    for bytes in [noise(9, wanted.len()), wanted.clone()] {
        let needed = differ(&bytes, &wanted);
        let on = content(bytes);
        let outcome = run(repository.stored(&point), None, &on).await;
        check_whole(&on, &wanted, needed, &outcome);
    }
}

#[tokio::test]
async fn chunks_that_are_there_are_not_fetched() {
    let repository = Repository::default();
    let wanted = disk(2);
    let point = repository.keep(&wanted).await;
    for id in repository.0.ids(RecordType::Chunk) {
        repository.0.tamper(&id, |record| {
            record.record.stored = bytes::Bytes::new();
        });
    }
    let on = content(wanted.clone());
    let outcome = run(repository.stored(&point), None, &on).await;
    check_whole(&on, &wanted, 0, &outcome);
}

#[tokio::test]
async fn one_that_breaks_off_anywhere_is_resumed_by_the_same_order() {
    let repository = Repository::default();
    let wanted = disk(3);
    let point = repository.keep(&wanted).await;
    let mut bytes = wanted.clone();
    damage(&mut bytes, 33);
    let base = repository.keep(&bytes).await;
    let changed = damage(&mut bytes, 34);
    let known = || {
        let (base, changed) = (base.clone(), changed.clone());
        Some(Known { base, changed })
    };
    let needed = differ(&bytes, &wanted);
    let on = content(bytes);
    let mut runs = 0;
    loop {
        let writes = on.lock().unwrap().writes.len();
        on.lock().unwrap().breaks_after = Some(writes + 2);
        runs += 1;
        let outcome = run(repository.stored(&point), known(), &on).await;
        if outcome.0.is_ok() {
            break;
        }
        assert_eq!(outcome.0.unwrap_err().reason, Reason::DatastoreFull);
        let mut on = on.lock().unwrap();
        assert!(on.aborted && !on.finished);
        on.aborted = false;
    }
    assert!(runs > 3);
    let on = on.lock().unwrap();
    assert!(on.bytes == wanted && on.finished);
    assert_eq!(on.written_bytes(), needed);
}

#[tokio::test]
async fn what_does_not_read_as_it_was_written_is_told() {
    let repository = Repository::default();
    let wanted = disk(4);
    let point = repository.keep(&wanted).await;
    let mut bytes = wanted.clone();
    bytes[700_000 - BLOCK] ^= 1;
    let on = content(bytes);
    on.lock().unwrap().rots_at = Some(700_000 - BLOCK as u64 + 7);
    let fault = run(repository.stored(&point), None, &on).await.0;
    assert_eq!(fault.unwrap_err().reason, Reason::DiskWriteFailed);
    let on = on.lock().unwrap();
    assert!(on.aborted && !on.finished);
}

#[tokio::test]
async fn nothing_that_is_not_proved_is_written() {
    let repository = Repository::default();
    let point = repository.keep(&disk(5)).await;
    for id in repository.0.ids(RecordType::Chunk) {
        repository.0.tamper(&id, |record| {
            let mut stored = record.record.stored.to_vec();
            stored[3] ^= 1;
            record.record.stored = stored.into();
        });
    }
    let on = content(noise(1, point.length as usize));
    let fault = run(repository.stored(&point), None, &on).await.0;
    assert_eq!(fault.unwrap_err().reason, Reason::ChunkHashMismatch);
    let on = on.lock().unwrap();
    let zeros = |extent: &Extent| {
        let range = extent.start as usize..extent.end() as usize;
        is_zero(&on.bytes[range])
    };
    // What are holes in the point needs no proof but the tree's.
    assert!(on.aborted && !on.finished && on.writes.iter().all(zeros));
}

#[tokio::test]
async fn a_disk_of_another_length_is_not_touched() {
    let repository = Repository::default();
    let point = repository.keep(&disk(6)).await;
    let on = content(vec![1; point.length as usize - 512]);
    let fault = run(repository.stored(&point), None, &on).await.0;
    assert_eq!(fault.unwrap_err().reason, Reason::BadField);
    let on = on.lock().unwrap();
    assert!(on.aborted && on.writes.is_empty());
}

#[tokio::test]
async fn a_base_of_another_length_is_of_no_use() {
    let repository = Repository::default();
    let wanted = disk(7);
    let point = repository.keep(&wanted).await;
    let base = repository.keep(&wanted[..BLOCK * 20]).await;
    let mut bytes = wanted.clone();
    damage(&mut bytes, 70);
    let needed = differ(&bytes, &wanted);
    let on = content(bytes);
    let changed = ExtentSet::empty();
    let outcome = run(
        repository.stored(&point),
        Some(Known { base, changed }),
        &on,
    )
    .await;
    check_whole(&on, &wanted, needed, &outcome);
}

#[tokio::test]
async fn a_repository_that_is_away_for_a_moment_is_asked_again() {
    let repository = Repository::default();
    let wanted = disk(8);
    let point = repository.keep(&wanted).await;
    let away = Some(Reason::RepositoryUnreachable);
    repository.0.plan(Moment::Read, [None, away, None, away]);
    let bytes = noise(2, wanted.len());
    let needed = differ(&bytes, &wanted);
    let on = content(bytes);
    let outcome = run(repository.stored(&point), None, &on).await;
    check_whole(&on, &wanted, needed, &outcome);
}
