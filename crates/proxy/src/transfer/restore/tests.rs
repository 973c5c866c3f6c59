use std::sync::{Arc, Mutex};

use stillwater_repository_api::{Codec, RecordType, SaltedRecord};
use stillwater_seal::DatasetKey;
use stillwater_types::{DatasetId, Fault, Reason};

use super::*;
use crate::transfer::fake::{FakeDisk, FakeStore, FakeWriter, Moment, PATH, Written, disk};
use crate::transfer::{Backup, ChunkOpeners, Limits, Reading, Source, zstd};

const DATASET: DatasetId = DatasetId::from_bytes([7; 16]);

fn key() -> DatasetKey {
    DatasetKey::from_slice(&[5; 32]).unwrap()
}

/// A disk and the repository that has it.
async fn stored(seed: u64) -> (Vec<u8>, Stored, Arc<FakeStore>) {
    let store = Arc::new(FakeStore::default());
    let disk = Arc::new(FakeDisk::new(disk(seed)));
    let length = disk.bytes.len() as u64;
    let backup = Backup {
        source: Source {
            name: PATH.into(),
            reader: disk.clone(),
        },
        length,
        reading: Reading::Full { areas: None },
        store: store.clone(),
        dataset: DATASET,
        key: key(),
        limits: Limits::default(),
        compress: zstd(),
    };
    let root = backup.run(&Progress::new(length)).await.unwrap().root;
    let limits = Limits {
        fetch_bytes: 128 * 1024,
        ..Limits::default()
    };
    let stored = Stored {
        root,
        store: store.clone(),
        dataset: DATASET,
        key: key(),
        limits,
        openers: ChunkOpeners::default(),
    };
    (disk.bytes.clone(), stored, store)
}

async fn run(stored: &Stored, writer: FakeWriter) -> (Result<(), Fault>, Progress) {
    let progress = Progress::new(stored.root.length);
    let target = Target {
        name: PATH.into(),
        writer: Box::new(writer),
    };
    let outcome = restore(stored, target, &progress)
        .await
        .map_err(|error| error.fault());
    (outcome, progress)
}

#[tokio::test]
async fn every_byte_is_written_and_counted() {
    let (bytes, stored, _) = stored(1).await;
    let (writer, written) = FakeWriter::new(stored.root.length);
    let (outcome, progress) = run(&stored, writer).await;
    outcome.unwrap();
    let expected = Written {
        bytes,
        finished: true,
        aborted: false,
    };
    assert!(*written.lock().unwrap() == expected);
    let progress = progress.snapshot();
    assert_eq!(progress.done_bytes, progress.length_bytes);
    assert_eq!(
        progress.sent_bytes + progress.hole_bytes,
        progress.length_bytes
    );
}

#[tokio::test]
async fn a_repository_that_is_away_for_a_moment_is_asked_again() {
    let (bytes, stored, store) = stored(2).await;
    store.plan(
        Moment::Read,
        [None, Some(Reason::RepositoryUnreachable), None],
    );
    let (writer, written) = FakeWriter::new(stored.root.length);
    run(&stored, writer).await.0.unwrap();
    assert!(written.lock().unwrap().bytes == bytes);
}

/// Spoils one record and expects the restore to fail and to give the new disk up.
async fn check_spoilt(kind: RecordType, reason: Reason, spoil: impl FnOnce(&mut SaltedRecord)) {
    let (_, stored, store) = stored(3).await;
    let id = match kind {
        RecordType::Chunk => store.ids(kind)[0],
        RecordType::Node => *stored.root.top.as_bytes(),
    };
    store.tamper(&id, spoil);
    let (writer, written) = FakeWriter::new(stored.root.length);
    let fault = run(&stored, writer).await.0.unwrap_err();
    assert_eq!(fault.reason, reason, "{fault}");
    check_given_up(&written);
}

#[track_caller]
fn check_given_up(written: &Mutex<Written>) {
    let written = written.lock().unwrap();
    assert_eq!((written.finished, written.aborted), (false, true));
}

fn flip(bytes: &bytes::Bytes, at: usize) -> bytes::Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

#[tokio::test]
async fn a_chunk_that_is_not_what_it_should_be_is_never_written() {
    let (chunk, mismatch) = (RecordType::Chunk, Reason::ChunkHashMismatch);
    check_spoilt(chunk, mismatch, |r| {
        r.record.stored = flip(&r.record.stored, 0)
    })
    .await;
    check_spoilt(chunk, mismatch, |r| {
        r.record.stored = r.record.stored.slice(1..)
    })
    .await;
    check_spoilt(chunk, mismatch, |r| r.record.stored = bytes::Bytes::new()).await;
    check_spoilt(chunk, mismatch, |r| r.record.counter += 1).await;
    check_spoilt(chunk, mismatch, |r| r.record.plain_bytes += 1).await;
    check_spoilt(chunk, mismatch, |r| r.record.plain_bytes = u32::MAX).await;
    check_spoilt(chunk, mismatch, |r| {
        r.record.codec = match r.record.codec {
            Codec::Raw => Codec::Zstd,
            Codec::Zstd => Codec::Raw,
        }
    })
    .await;
    check_spoilt(chunk, mismatch, |r| r.salt = Some([1; 32])).await;
    check_spoilt(chunk, mismatch, |r| r.salt = None).await;
    check_spoilt(chunk, mismatch, |r| r.record.id[0] ^= 1).await;
    check_spoilt(chunk, mismatch, |r| r.record.record_type = RecordType::Node).await;
}

#[tokio::test]
async fn a_node_that_is_not_what_it_should_be_is_never_followed() {
    let (node, mismatch) = (RecordType::Node, Reason::ChunkHashMismatch);
    check_spoilt(node, mismatch, |r| {
        r.record.stored = flip(&r.record.stored, 20)
    })
    .await;
    check_spoilt(node, mismatch, |r| r.record.id[0] ^= 1).await;
}

#[tokio::test]
async fn one_sealed_chunk_does_not_pass_for_another() {
    let (_, stored, store) = stored(4).await;
    let ids = store.ids(RecordType::Chunk);
    let other = store.kept().records[&ids[1]].clone();
    store.tamper(&ids[0], |record| {
        let id = record.record.id;
        *record = other;
        record.record.id = id;
    });
    let (writer, written) = FakeWriter::new(stored.root.length);
    assert_eq!(
        run(&stored, writer).await.0.unwrap_err().reason,
        Reason::ChunkHashMismatch
    );
    check_given_up(&written);
}

#[tokio::test]
async fn a_missing_chunk_fails_the_restore() {
    let (_, stored, store) = stored(5).await;
    let id = store.ids(RecordType::Chunk)[0];
    store.kept().records.remove(&id);
    let (writer, written) = FakeWriter::new(stored.root.length);
    assert_eq!(
        run(&stored, writer).await.0.unwrap_err().reason,
        Reason::ChunkNotFound
    );
    check_given_up(&written);
}

#[tokio::test]
async fn a_full_datastore_fails_the_restore_and_names_the_disk() {
    let (_, stored, _) = stored(6).await;
    let (mut writer, written) = FakeWriter::new(stored.root.length);
    writer.broken_at = Some(3_000_000);
    let fault = run(&stored, writer).await.0.unwrap_err();
    assert_eq!(
        (fault.reason, fault.details["disk"].as_str()),
        (Reason::DatastoreFull, PATH)
    );
    check_given_up(&written);
}

#[tokio::test]
async fn a_new_disk_of_another_length_is_refused() {
    let (_, stored, _) = stored(7).await;
    let (writer, _) = FakeWriter::new(stored.root.length - 512);
    assert_eq!(
        run(&stored, writer).await.0.unwrap_err().reason,
        Reason::BadField
    );
}

#[tokio::test]
async fn another_datasets_key_opens_nothing() {
    let (_, stored, _) = stored(8).await;
    let stored = Stored {
        key: DatasetKey::from_slice(&[6; 32]).unwrap(),
        ..stored
    };
    let (writer, written) = FakeWriter::new(stored.root.length);
    assert_eq!(
        run(&stored, writer).await.0.unwrap_err().reason,
        Reason::ChunkHashMismatch
    );
    check_given_up(&written);
}
