use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use stillwater_chunking::{Codec, CodecError, Compressed, Compressor};
use stillwater_repository_api::RecordType;
use stillwater_rpc::retry::Backoff;
use stillwater_types::{Extent, Fault, Reason};
use tokio::sync::Notify;

use super::*;
use crate::transfer::fake::{FakeDisk, FakeStore, Moment, PATH, disk, noise};
use crate::transfer::{ChunkOpeners, Compress, Sink, Stored, zstd};

const DATASET: DatasetId = DatasetId::from_bytes([7; 16]);
const KIB: usize = 1024;

fn key() -> DatasetKey {
    DatasetKey::from_slice(&[5; 32]).unwrap()
}

/// Small, so that a small disk fills queues and several packs.
fn limits() -> Limits {
    let quick = Backoff {
        first: Duration::from_micros(1),
        longest: Duration::from_micros(2),
        attempts: 4,
    };
    Limits {
        request_bytes: 128 * KIB as u32,
        requests_in_flight: 2,
        plain_bytes: 1024 * KIB,
        queue_items: 16,
        job_bytes: 128 * KIB,
        pack_bytes: 512 * KIB as u64,
        fetch_bytes: 256 * KIB,
        pack_backoff: quick,
        call_backoff: quick,
        ..Limits::default()
    }
}

fn backup(disk: &Arc<FakeDisk>, store: &Arc<FakeStore>) -> Backup {
    Backup {
        source: Source {
            name: PATH.into(),
            reader: disk.clone(),
        },
        length: disk.bytes.len() as u64,
        reading: Reading::Full { areas: None },
        store: store.clone(),
        dataset: DATASET,
        key: key(),
        limits: limits(),
        compress: zstd(),
    }
}

async fn run(
    backup: &Backup,
) -> (
    Result<DiskRoot, Fault>,
    stillwater_proxy_api::TransferProgress,
) {
    let progress = Progress::new(backup.length);
    let outcome = backup.run(&progress).await;
    let outcome = outcome
        .map(|saved| saved.root)
        .map_err(|error| error.fault());
    (outcome, progress.snapshot())
}

struct Collect(Vec<u8>);

#[async_trait::async_trait]
impl Sink for Collect {
    async fn write(&mut self, offset: u64, bytes: Bytes) -> crate::error::Result<()> {
        self.0.resize(offset as usize, 0);
        self.0.extend_from_slice(&bytes);
        Ok(())
    }
}

async fn read_back(root: &DiskRoot, store: &Arc<FakeStore>) -> Vec<u8> {
    let stored = Stored {
        root: root.clone(),
        store: store.clone(),
        dataset: DATASET,
        key: key(),
        limits: limits(),
        openers: ChunkOpeners::default(),
    };
    let mut sink = Collect(Vec::new());
    stored
        .run(&mut sink, &Progress::new(root.length))
        .await
        .unwrap();
    sink.0.resize(root.length as usize, 0);
    sink.0
}

fn new_store() -> Arc<FakeStore> {
    Arc::new(FakeStore::default())
}

fn new_disk(seed: u64) -> Arc<FakeDisk> {
    Arc::new(FakeDisk::new(disk(seed)))
}

#[tokio::test]
async fn a_disk_comes_back_byte_for_byte() {
    let (disk, store) = (new_disk(1), new_store());
    let (root, progress) = run(&backup(&disk, &store)).await;
    let root = root.unwrap();
    assert!(read_back(&root, &store).await == disk.bytes);
    assert_eq!(progress.done_bytes, disk.bytes.len() as u64);
    assert_eq!(progress.read_bytes, disk.bytes.len() as u64);
    assert!(progress.hole_bytes >= 2_300_000 && progress.sent_bytes < progress.new_bytes);
    assert!(store.kept().packs > 3);
}

#[tokio::test]
async fn an_empty_and_a_tiny_disk_come_back() {
    for bytes in [vec![], vec![9; 512], vec![0; 1 << 20]] {
        let (disk, store) = (Arc::new(FakeDisk::new(bytes)), new_store());
        let root = run(&backup(&disk, &store)).await.0.unwrap();
        assert!(read_back(&root, &store).await == disk.bytes);
    }
}

#[tokio::test]
async fn an_unchanged_disk_is_read_and_nothing_is_sent() {
    let (disk, store) = (new_disk(2), new_store());
    let first = run(&backup(&disk, &store)).await.0.unwrap();
    let packs = store.kept().packs;
    let (second, progress) = run(&backup(&disk, &store)).await;
    assert_eq!(second.unwrap(), first);
    assert_eq!(
        (
            progress.sent_bytes,
            progress.new_bytes,
            progress.new_chunk_count
        ),
        (0, 0, 0)
    );
    assert!(progress.chunk_count > 50);
    assert_eq!(progress.done_bytes, disk.bytes.len() as u64);
    assert_eq!(store.kept().packs, packs);
}

#[tokio::test]
async fn what_a_map_leaves_out_is_not_read_and_gives_the_same_root() {
    let (disk, store) = (new_disk(3), new_store());
    let whole = run(&backup(&disk, &store)).await.0.unwrap();
    let zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let areas = disk
        .bytes
        .chunks(512)
        .enumerate()
        .filter(|(_, block)| !zero(block));
    let areas = areas.map(|(at, _)| Extent::new(at as u64 * 512, 512));
    let areas = ExtentSet::collect(areas, disk.bytes.len() as u64);
    let other = new_store();
    let before = disk.read_bytes();
    let (root, progress) = run(&Backup {
        reading: Reading::Full {
            areas: Some(areas.clone()),
        },
        ..backup(&disk, &other)
    })
    .await;
    assert_eq!(root.unwrap(), whole);
    let read = disk.read_bytes() - before;
    assert_eq!(progress.read_bytes, read);
    assert!(read < areas.bytes() + 100_000, "{read}");
    assert_eq!(progress.done_bytes, disk.bytes.len() as u64);
}

#[tokio::test]
async fn a_repeated_chunk_is_sent_once() {
    let repeated = noise(4, 256 * KIB);
    let disk = Arc::new(FakeDisk::new([&repeated[..]; 12].concat()));
    let store = new_store();
    let root = run(&backup(&disk, &store)).await.0.unwrap();
    assert!(read_back(&root, &store).await == disk.bytes);
    let kept = store.kept();
    assert_eq!(kept.put, kept.records.len());
}

#[tokio::test]
async fn a_part_that_cannot_be_read_fails_the_transfer_and_is_named() {
    let mut disk = FakeDisk::new(disk(5));
    disk.broken_at = Some(400_000);
    let fault = run(&backup(&Arc::new(disk), &new_store()))
        .await
        .0
        .unwrap_err();
    assert_eq!(fault.reason, Reason::DiskReadFailed);
    assert_eq!(fault.details["disk"], PATH);
    let offset: u64 = fault.details["offset"].parse().unwrap();
    assert!(
        (400_000 - 128 * KIB as u64..=400_000).contains(&offset),
        "{offset}"
    );
}

#[tokio::test]
async fn a_transport_that_leaves_something_out_fails_the_transfer() {
    let mut disk = FakeDisk::new(disk(6));
    disk.short_by = 512;
    let fault = run(&backup(&Arc::new(disk), &new_store()))
        .await
        .0
        .unwrap_err();
    assert_eq!(
        (
            fault.details["disk"].as_str(),
            fault.details["offset"].as_str()
        ),
        (PATH, "0")
    );
}

#[tokio::test]
async fn a_disk_of_another_length_is_refused() {
    let disk = new_disk(7);
    let wrong = Backup {
        length: disk.bytes.len() as u64 + 512,
        ..backup(&disk, &new_store())
    };
    assert_eq!(run(&wrong).await.0.unwrap_err().reason, Reason::BadField);
}

/// A compressor that gives wrong bytes for the chunk at hand.
struct Broken {
    compressor: Compressor,
    spoil: fn(&mut Compressed),
    left: Arc<Mutex<usize>>,
}

impl Compress for Broken {
    fn compress(&mut self, plain: &[u8]) -> Result<Compressed, CodecError> {
        let mut compressed = self.compressor.compress(plain)?;
        let mut left = self.left.lock().unwrap();
        *left = left.wrapping_sub(1);
        if *left == 0 {
            (self.spoil)(&mut compressed);
        }
        Ok(compressed)
    }
}

async fn check_spoilt(after: usize, spoil: fn(&mut Compressed)) {
    let (disk, store) = (new_disk(8), new_store());
    let left = Arc::new(Mutex::new(after));
    let compress: NewCompress = Arc::new(move || {
        let left = Arc::clone(&left);
        Ok(Box::new(Broken {
            compressor: Compressor::new()?,
            spoil,
            left,
        }))
    });
    let fault = run(&Backup {
        compress,
        ..backup(&disk, &store)
    })
    .await
    .0
    .unwrap_err();
    assert_eq!(fault.reason, Reason::ChunkHashMismatch);
    assert!(fault.details.contains_key("offset"), "{fault}");
}

#[tokio::test]
async fn wrong_bytes_from_the_compressor_are_never_stored() {
    for after in [1, 5, 23] {
        check_spoilt(after, |c| c.bytes[0] ^= 1).await;
        check_spoilt(after, |c| c.bytes.truncate(c.bytes.len() - 1)).await;
        check_spoilt(after, |c| c.bytes.clear()).await;
        check_spoilt(after, |c| {
            c.codec = match c.codec {
                Codec::Raw => Codec::Zstd,
                Codec::Zstd => Codec::Raw,
            }
        })
        .await;
        // A frame that is sound, of other bytes.
        check_spoilt(after, |c| {
            *c = Compressor::new().unwrap().compress(&[7; 40_000]).unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn a_lost_pack_is_read_again_from_the_frozen_disk() {
    for moment in [Moment::Send, Moment::Finish, Moment::Answer] {
        let (disk, store) = (new_disk(9), new_store());
        store.plan(
            moment,
            [None, Some(Reason::RepositoryUnreachable), None, None],
        );
        let (root, progress) = run(&backup(&disk, &store)).await;
        assert!(
            read_back(&root.unwrap(), &store).await == disk.bytes,
            "{moment:?}"
        );
        assert!(progress.read_bytes > disk.bytes.len() as u64, "{moment:?}");
        assert_eq!(progress.done_bytes, disk.bytes.len() as u64);
    }
}

#[tokio::test]
async fn a_pack_that_arrived_damaged_is_made_anew() {
    for moment in [Moment::Send, Moment::Finish] {
        let (disk, store) = (new_disk(15), new_store());
        store.plan(moment, [None, Some(Reason::ChunkHashMismatch)]);
        let (root, progress) = run(&backup(&disk, &store)).await;
        assert!(
            read_back(&root.unwrap(), &store).await == disk.bytes,
            "{moment:?}"
        );
        assert!(progress.read_bytes > disk.bytes.len() as u64, "{moment:?}");
    }
}

#[tokio::test]
async fn a_disk_that_thawed_is_noticed_when_a_pack_is_sent_again() {
    let mut disk = FakeDisk::new(noise(10, 2 << 20));
    // The whole disk is read once in 16 requests; whatever is read again has changed.
    disk.thaws_after = 16;
    let store = new_store();
    store.plan(
        Moment::Finish,
        [None, None, Some(Reason::RepositoryUnreachable)],
    );
    let fault = run(&backup(&Arc::new(disk), &store)).await.0.unwrap_err();
    assert_eq!(fault.reason, Reason::DiskReadFailed);
    assert!(
        fault.message.contains("not those of the first time"),
        "{fault}"
    );
}

#[tokio::test]
async fn tries_are_bounded_and_a_refusal_is_not_repeated() {
    for (moment, reason, strikes) in [
        (Moment::Finish, Reason::RepositoryUnreachable, 4),
        (Moment::Finish, Reason::RepositoryFull, 1),
        (Moment::Finish, Reason::ChunkHashMismatch, 3),
        (Moment::Send, Reason::FenceStale, 1),
        (Moment::Find, Reason::GrantInvalid, 1),
        (Moment::Find, Reason::RepositoryUnreachable, 4),
    ] {
        let store = new_store();
        store.plan(moment, [Some(reason); 100]);
        let fault = run(&backup(&new_disk(11), &store)).await.0.unwrap_err();
        assert_eq!(fault.reason, reason);
        let left = store.kept().plan[&moment].len();
        // Two packs may be on their way when the first is refused.
        assert!(
            (strikes..=2 * strikes).contains(&(100 - left)),
            "{moment:?} {reason} {left}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_leaves_ids_out_fails_the_transfer() {
    let store = Arc::new(FakeStore {
        forget_last_find: true,
        ..FakeStore::default()
    });
    let fault = run(&backup(&new_disk(12), &store)).await.0.unwrap_err();
    assert_eq!(fault.reason, Reason::ChunkHashMismatch);
}

#[tokio::test]
async fn memory_is_bounded_when_the_repository_is_slow() {
    let gate = Arc::new(Notify::new());
    let store = Arc::new(FakeStore {
        gate: Some(gate.clone()),
        ..FakeStore::default()
    });
    let disk = Arc::new(FakeDisk::new(noise(13, 24 << 20)));
    let backup = backup(&disk, &store);
    let feeding = async {
        loop {
            // Each send is let through only after everything else had its turn many times.
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            gate.notify_one();
        }
    };
    let outcome = tokio::select! {
        outcome = run(&backup) => outcome.0,
        () = feeding => unreachable!("it feeds for ever"),
    };
    assert!(outcome.is_ok());
    let limits = limits();
    let bound = limits.plain_bytes + limits.requests_in_flight * limits.request_bytes as usize;
    assert!(disk.peak() <= bound, "{} of {bound}", disk.peak());
    disk.let_go().await;
}

#[tokio::test]
async fn a_cancelled_transfer_lets_go_of_everything() {
    // No send ever goes on: the transfer is stuck with all its queues full.
    let store = Arc::new(FakeStore {
        gate: Some(Arc::new(Notify::new())),
        ..FakeStore::default()
    });
    let disk = Arc::new(FakeDisk::new(noise(14, 8 << 20)));
    let backup = backup(&disk, &store);
    let mut held = disk.held.subscribe();
    let full = async {
        held.wait_for(|held| held.0 >= limits().plain_bytes / 2)
            .await
            .is_ok()
    };
    tokio::select! {
        _ = run(&backup) => panic!("it cannot end"),
        full = full => assert!(full),
    }
    disk.let_go().await;
    assert_eq!(store.kept().packs, 0);
}

fn plan() -> impl Strategy<Value = Vec<Option<Reason>>> {
    let passing = prop_oneof![
        Just(Reason::RepositoryUnreachable),
        Just(Reason::Draining),
        Just(Reason::Deadline),
    ];
    // Three failures in a row are survived, so no more than three in all.
    let faults = prop::collection::vec((0..20usize, passing), 0..=3);
    faults.prop_map(|faults| {
        let mut plan = vec![None; 20];
        faults
            .into_iter()
            .for_each(|(at, reason)| plan[at] = Some(reason));
        plan
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_stream_killed_at_any_moment_loses_nothing(
        seed in any::<u64>(), find in plan(), moment in 0..3usize, faults in plan(), read in plan(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (disk, store) = (new_disk(seed), new_store());
            store.plan(Moment::Find, find);
            store.plan([Moment::Send, Moment::Finish, Moment::Answer][moment], faults);
            let root = run(&backup(&disk, &store)).await.0.unwrap();
            let clean = new_store();
            assert_eq!(run(&backup(&disk, &clean)).await.0.unwrap(), root);
            let ids = |store: &FakeStore| -> HashSet<[u8; 32]> {
                [store.ids(RecordType::Chunk), store.ids(RecordType::Node)].concat().into_iter().collect()
            };
            assert_eq!(ids(&store), ids(&clean));
            store.plan(Moment::Read, read);
            assert!(read_back(&root, &store).await == disk.bytes);
        });
    }
}
