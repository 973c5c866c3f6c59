use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use stillwater_chunking::{CutterParams, Step, TreeReader};
use stillwater_format::node::Leaf;
use stillwater_proxy_api::TransferProgress;
use stillwater_repository_api::RecordType;
use stillwater_rpc::retry::Backoff;
use stillwater_seal::DatasetKey;
use stillwater_types::{DatasetId, Extent, Fault, Reason};

use super::*;
use crate::transfer::fake::{FakeDisk, FakeStore, Moment, PATH, disk, noise};
use crate::transfer::{ChunkOpeners, Limits, Reading, Saved, Sink, Source, zstd};

const DATASET: DatasetId = DatasetId::from_bytes([7; 16]);
const KIB: usize = 1024;
const NO_PROBE: Probe = Probe { bytes: 0, seed: 0 };

fn key() -> DatasetKey {
    DatasetKey::from_slice(&[5; 32]).unwrap()
}

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
        pack_backoff: quick,
        call_backoff: quick,
        ..Limits::default()
    }
}

async fn run(
    bytes: &[u8],
    store: &Arc<FakeStore>,
    reading: Reading,
) -> Result<(Saved, TransferProgress), Fault> {
    let disk = Arc::new(FakeDisk::new(bytes.to_vec()));
    let backup = Backup {
        source: Source {
            name: PATH.into(),
            reader: disk.clone(),
        },
        length: bytes.len() as u64,
        reading,
        store: store.clone(),
        dataset: DATASET,
        key: key(),
        limits: limits(),
        compress: zstd(),
    };
    let progress = Progress::new(backup.length);
    let saved = backup.run(&progress).await.map_err(|error| error.fault())?;
    let progress = progress.snapshot();
    assert_eq!(progress.done_bytes, bytes.len() as u64);
    assert_eq!(progress.read_bytes, disk.read_bytes());
    Ok((saved, progress))
}

/// A disk that was saved in full.
async fn base(seed: u64) -> (Vec<u8>, Arc<FakeStore>, DiskRoot, TransferProgress) {
    let (bytes, store) = (disk(seed), Arc::new(FakeStore::default()));
    let full = Reading::Full { areas: None };
    let (saved, progress) = run(&bytes, &store, full).await.unwrap();
    assert_eq!(saved.findings, TransferFindings::default());
    (bytes, store, saved.root, progress)
}

fn areas(areas: impl IntoIterator<Item = (u64, u64)>) -> ExtentSet {
    let extents = areas.into_iter().map(|(at, len)| Extent::new(at, len));
    ExtentSet::collect(extents, u64::MAX)
}

/// Writes to a disk; gives the map of that.
fn change(bytes: &mut [u8]) -> ExtentSet {
    bytes[100_000..170_000].copy_from_slice(&noise(90, 70_000));
    // Into a hole, over an edge of one, and zeros over data.
    bytes[1_500_000..1_510_000].fill(5);
    bytes[2_190_000..2_210_000].copy_from_slice(&noise(91, 20_000));
    bytes[4_000_000..4_100_000].fill(0);
    areas([
        (100_000, 70_000),
        (1_500_000, 10_000),
        (2_190_000, 20_000),
        (4_000_000, 100_000),
    ])
}

fn increment(base: &DiskRoot, changed: ExtentSet, probe: Probe) -> Reading {
    Reading::Increment {
        base: base.clone(),
        changed,
        probe,
    }
}

fn compare(base: &DiskRoot, changed: Option<ExtentSet>) -> Reading {
    Reading::Compare {
        base: base.clone(),
        changed,
    }
}

struct Collect(Vec<u8>);

#[async_trait::async_trait]
impl Sink for Collect {
    async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<()> {
        self.0.resize(offset as usize, 0);
        self.0.extend_from_slice(&bytes);
        Ok(())
    }
}

fn reader(root: &DiskRoot, store: &Arc<FakeStore>) -> Stored {
    Stored {
        root: root.clone(),
        store: store.clone(),
        dataset: DATASET,
        key: key(),
        limits: limits(),
        openers: ChunkOpeners::default(),
    }
}

async fn read_back(root: &DiskRoot, store: &Arc<FakeStore>) -> Vec<u8> {
    let mut sink = Collect(Vec::new());
    let progress = Progress::new(root.length);
    reader(root, store).run(&mut sink, &progress).await.unwrap();
    sink.0.resize(root.length as usize, 0);
    sink.0
}

/// Every leaf of a stored disk with its place.
async fn leaves(root: &DiskRoot, store: &Arc<FakeStore>) -> Vec<(u64, Leaf)> {
    let (stored, mut walk) = (reader(root, store), TreeReader::whole(root).unwrap());
    let mut leaves = Vec::new();
    loop {
        match walk.step().unwrap() {
            Step::Nodes(ids) => stored.nodes(&ids).await.unwrap().iter().for_each(|node| {
                walk.supply(node).unwrap();
            }),
            Step::Leaf { offset, leaf } => leaves.push((offset, leaf)),
            Step::Done => return leaves,
        }
    }
}

/// From the base's counts and those of the transfer follow those of the disk.
async fn check_counts(
    store: &Arc<FakeStore>,
    base: &TransferProgress,
    saved: &Saved,
    progress: &TransferProgress,
) {
    let (mut chunks, mut holes) = (0, 0);
    for (_, leaf) in leaves(&saved.root, store).await {
        match leaf {
            Leaf::Hole { length } => holes += length,
            Leaf::Chunk { .. } => chunks += 1,
        }
    }
    let findings = &saved.findings;
    let kept = base.chunk_count - findings.replaced_chunk_count;
    assert_eq!(kept + progress.chunk_count, chunks);
    let kept = base.hole_bytes - findings.replaced_hole_bytes;
    assert_eq!(kept + progress.hole_bytes, holes);
}

#[tokio::test]
async fn an_increment_reads_what_changed_and_restores_exactly() {
    let (mut bytes, store, root, before) = base(1).await;
    let changed = change(&mut bytes);
    bytes.resize(bytes.len() + 300_000, 3);
    let reading = increment(&root, changed.clone(), NO_PROBE);
    let (saved, progress) = run(&bytes, &store, reading).await.unwrap();
    assert!(read_back(&saved.root, &store).await == bytes);
    let told = changed.bytes() + 300_000;
    assert!(progress.read_bytes < told * 2, "{progress:?}");
    assert!(progress.new_bytes <= progress.read_bytes);
    check_counts(&store, &before, &saved, &progress).await;
    assert!(!saved.findings.compared_all);
}

#[tokio::test]
async fn an_unchanged_disk_is_not_read() {
    let (bytes, store, root, before) = base(2).await;
    let packs = store.kept().packs;
    let reading = increment(&root, ExtentSet::empty(), NO_PROBE);
    let (saved, progress) = run(&bytes, &store, reading).await.unwrap();
    assert_eq!(saved.root, root);
    assert_eq!((progress.read_bytes, progress.sent_bytes), (0, 0));
    assert_eq!(store.kept().packs, packs);
    check_counts(&store, &before, &saved, &progress).await;
}

#[tokio::test]
async fn a_sample_of_an_honest_map_is_read_and_compared() {
    let (mut bytes, store, root, _) = base(3).await;
    let changed = change(&mut bytes);
    let plain = increment(&root, changed.clone(), NO_PROBE);
    let (without, alone) = run(&bytes, &store, plain).await.unwrap();
    let probe = Probe {
        bytes: 1_000_000,
        seed: 7,
    };
    let (saved, progress) = run(&bytes, &store, increment(&root, changed, probe))
        .await
        .unwrap();
    assert_eq!(saved.root, without.root);
    let findings = saved.findings;
    assert!(findings.compared_bytes > 300_000, "{findings:?}");
    assert_eq!(
        progress.read_bytes,
        alone.read_bytes + findings.compared_bytes
    );
    assert_eq!((findings.lie_bytes, findings.compared_all), (0, false));
}

#[tokio::test]
async fn a_lie_that_a_sample_finds_has_the_whole_disk_compared_at_once() {
    let (mut bytes, store, root, before) = base(4).await;
    let changed = change(&mut bytes);
    let hidden = 2_700_000..3_000_000;
    bytes[hidden.clone()].copy_from_slice(&noise(92, 300_000));
    let probe = Probe {
        bytes: 3_000_000,
        seed: 1,
    };
    let reading = increment(&root, changed, probe);
    let (saved, progress) = run(&bytes, &store, reading).await.unwrap();
    assert!(read_back(&saved.root, &store).await == bytes);
    let findings = &saved.findings;
    assert!(
        findings.compared_all && findings.lie_bytes >= 300_000,
        "{findings:?}"
    );
    let [lie] = findings.lies.as_slice() else {
        panic!("{findings:?}");
    };
    assert!(lie.start <= hidden.start as u64 && lie.end() >= hidden.end as u64);
    assert_eq!(lie.length, findings.lie_bytes);
    check_counts(&store, &before, &saved, &progress).await;
}

#[tokio::test]
async fn a_lie_that_no_sample_looked_for_gives_a_wrong_disk() {
    let (mut bytes, store, root, _) = base(5).await;
    bytes[2_700_000..2_800_000].fill(1);
    let reading = increment(&root, ExtentSet::empty(), NO_PROBE);
    let (saved, _) = run(&bytes, &store, reading).await.unwrap();
    assert!(read_back(&saved.root, &store).await != bytes);
}

#[tokio::test]
async fn a_compare_reads_everything_and_stores_what_differs() {
    let (mut bytes, store, root, before) = base(6).await;
    let changed = change(&mut bytes);
    let (saved, progress) = run(&bytes, &store, compare(&root, Some(changed.clone())))
        .await
        .unwrap();
    assert!(read_back(&saved.root, &store).await == bytes);
    assert_eq!(progress.read_bytes, bytes.len() as u64);
    assert!(progress.new_bytes < changed.bytes() * 3, "{progress:?}");
    let findings = &saved.findings;
    assert_eq!((findings.lie_bytes, findings.compared_all), (0, true));
    assert!(findings.compared_bytes < bytes.len() as u64 - changed.bytes());
    check_counts(&store, &before, &saved, &progress).await;
    // Without a map nothing is a lie, with one that is empty everything is.
    let (same, _) = run(&bytes, &store, compare(&root, None)).await.unwrap();
    assert_eq!(same.root, saved.root);
    assert_eq!(same.findings.lie_bytes, 0);
    let none = Some(ExtentSet::empty());
    let (same, _) = run(&bytes, &store, compare(&root, none)).await.unwrap();
    assert_eq!(same.root, saved.root);
    assert!(same.findings.lie_bytes > 0 && same.findings.lies.len() >= 3);
}

#[tokio::test]
async fn a_compare_stores_again_what_the_repository_lost() {
    let (bytes, store, root, _) = base(7).await;
    let all: HashSet<[u8; 32]> = store.ids(RecordType::Chunk).into_iter().collect();
    let lost: Vec<[u8; 32]> = all.iter().copied().take(5).collect();
    for id in &lost {
        store.kept().records.remove(id);
    }
    let none = increment(&root, ExtentSet::empty(), NO_PROBE);
    let (saved, _) = run(&bytes, &store, none).await.unwrap();
    assert_eq!(saved.root, root);
    assert_eq!(store.ids(RecordType::Chunk).len(), all.len() - 5);
    let map = Some(ExtentSet::empty());
    let (saved, progress) = run(&bytes, &store, compare(&root, map)).await.unwrap();
    assert_eq!((saved.root, progress.new_chunk_count), (root.clone(), 5));
    assert_eq!(saved.findings.lie_bytes, 0);
    assert!(read_back(&root, &store).await == bytes);
}

#[tokio::test]
async fn a_base_that_was_cut_by_other_rules_is_compared() {
    let (mut bytes, store, root, before) = base(8).await;
    let changed = change(&mut bytes);
    let other = DiskRoot {
        cutter: CutterParams::STREAM.to_string(),
        ..root
    };
    let (saved, progress) = run(&bytes, &store, increment(&other, changed, NO_PROBE))
        .await
        .unwrap();
    assert!(read_back(&saved.root, &store).await == bytes);
    assert_eq!(saved.root.cutter, CutterParams::DISK.to_string());
    assert!(saved.findings.compared_all);
    check_counts(&store, &before, &saved, &progress).await;
}

/// What an increment and a compare say of a base.
async fn check_refused(bytes: &[u8], store: &Arc<FakeStore>, root: &DiskRoot, reason: Reason) {
    let changed = areas([(100_000, 1)]);
    let probe = Probe {
        bytes: 100_000,
        seed: 1,
    };
    for reading in [
        increment(root, changed.clone(), NO_PROBE),
        increment(root, changed, probe),
        compare(root, None),
    ] {
        let refused = run(bytes, store, reading).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.reason, reason, "{refused}");
    }
}

#[tokio::test]
async fn a_base_that_is_lost_damaged_or_too_long_is_named() {
    let (bytes, store, root, _) = base(9).await;
    check_refused(&bytes[..4096], &store, &root, Reason::BadField).await;
    let longer = DiskRoot {
        length: root.length + 4096,
        ..root.clone()
    };
    let mut grown = bytes.clone();
    grown.resize(bytes.len() + 4096, 1);
    check_refused(&grown, &store, &longer, Reason::ChunkHashMismatch).await;
    store.tamper(root.top.as_bytes(), |record| {
        let mut stored = record.record.stored.to_vec();
        stored[20] ^= 1;
        record.record.stored = stored.into();
    });
    check_refused(&bytes, &store, &root, Reason::ChunkHashMismatch).await;
    store.kept().records.remove(root.top.as_bytes());
    check_refused(&bytes, &store, &root, Reason::ChunkNotFound).await;
}

#[tokio::test]
async fn calls_that_fail_are_repeated_and_a_fault_of_the_base_is_not_masked() {
    let (mut bytes, store, root, _) = base(10).await;
    let changed = change(&mut bytes);
    let lost = Some(Reason::RepositoryUnreachable);
    store.plan(Moment::Read, [lost, lost, None, lost, lost, lost, None]);
    store.plan(Moment::Send, [None, lost]);
    let reading = increment(&root, changed.clone(), NO_PROBE);
    let (saved, _) = run(&bytes, &store, reading).await.unwrap();
    assert!(read_back(&saved.root, &store).await == bytes);
    for _ in 0..20 {
        store.plan(Moment::Read, [Some(Reason::GrantInvalid)]);
        let refused = run(&bytes, &store, compare(&root, None)).await.unwrap_err();
        assert_eq!(refused.reason, Reason::GrantInvalid);
    }
}

#[tokio::test]
async fn ten_increments_in_a_row_are_exact() {
    let (mut bytes, store, mut root, _) = base(11).await;
    for n in 0..10u64 {
        let at = (n * 577_777 % 5_000_000) as usize;
        let fresh = noise(200 + n, 40_000 + 3_000 * n as usize);
        bytes[at..at + fresh.len()].copy_from_slice(&fresh);
        let zeros = (n * 911_111 % 5_000_000) as usize;
        bytes[zeros..zeros + 50_000].fill(0);
        let changed = areas([(at as u64, fresh.len() as u64), (zeros as u64, 50_000)]);
        let probe = Probe {
            bytes: 200_000,
            seed: n,
        };
        let reading = increment(&root, changed, probe);
        let (saved, _) = run(&bytes, &store, reading).await.unwrap();
        assert_eq!(saved.findings.lie_bytes, 0);
        assert!(!saved.findings.compared_all);
        root = saved.root;
        assert!(read_back(&root, &store).await == bytes);
    }
}
