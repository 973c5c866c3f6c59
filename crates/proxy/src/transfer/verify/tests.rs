use std::sync::Arc;

use bytes::Bytes;
use stillwater_chunking::identify;
use stillwater_repository_api::{Codec, RecordType};
use stillwater_seal::{ChunkContext, DatasetKey, Sealer};
use stillwater_types::{ChunkId, DatasetId};

use super::*;
use crate::transfer::fake::{FakeDisk, FakeStore, Moment, PATH, disk};
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

async fn verify(stored: &Stored) -> (Result<TransferFindings, Fault>, Progress) {
    let progress = Progress::new(stored.root.length);
    let found = stored.verify(&progress).await;
    (found.map_err(|error| error.fault()), progress)
}

/// Where on the disk a chunk lies, by its bytes.
fn places(bytes: &[u8], found: &TransferFindings, id: ChunkId) {
    let id_key = key().id_key().unwrap();
    for damaged in &found.damage {
        let Extent { start, length } = damaged.area;
        let plain = &bytes[start as usize..][..length as usize];
        assert_eq!(
            identify(id_key.expose(), plain),
            id,
            "another part is named"
        );
    }
}

#[tokio::test]
async fn a_whole_disk_is_proved_and_counted() {
    let (_, stored, _) = stored(1).await;
    let (found, progress) = verify(&stored).await;
    assert_eq!(found.unwrap(), TransferFindings::default());
    let told = progress.snapshot();
    assert_eq!(told.done_bytes, told.length_bytes);
    assert!(told.read_bytes > 0 && told.sent_bytes == 0, "{told:?}");
}

/// Spoils one chunk and expects exactly its places to be named.
async fn check_spoilt(seed: u64, spoil: impl FnOnce(&mut stillwater_repository_api::SaltedRecord)) {
    let (bytes, stored, store) = stored(seed).await;
    let id = store.ids(RecordType::Chunk)[0];
    store.tamper(&id, spoil);
    let (found, progress) = verify(&stored).await;
    let found = found.unwrap();
    assert!(found.damaged_chunk_count > 0, "the damage is not seen");
    assert_eq!(found.damage[0].fault.reason, Reason::ChunkHashMismatch);
    let named: u64 = found.damage.iter().map(|damaged| damaged.area.length).sum();
    assert_eq!(named, found.damaged_bytes);
    places(&bytes, &found, ChunkId::from_bytes(id));
    let told = progress.snapshot();
    assert_eq!(told.done_bytes, told.length_bytes, "the rest is not proved");
}

#[tokio::test]
async fn a_flipped_byte_is_named_with_its_place() {
    check_spoilt(2, |record| {
        let mut bytes = record.record.stored.to_vec();
        bytes[3] ^= 1;
        record.record.stored = bytes.into();
    })
    .await;
}

/// Sealed with the right key and hashing right as stored bytes: no scrub can see that what is in it
/// is not what the id names.
#[tokio::test]
async fn a_well_sealed_chunk_with_wrong_bytes_in_it_is_named() {
    check_spoilt(3, |record| {
        let length = record.record.plain_bytes;
        let mut sealer = Sealer::new(&key(), DATASET).unwrap();
        let stamp = sealer.stamp().unwrap();
        let context = ChunkContext {
            codec: stillwater_chunking::Codec::Raw.number(),
            id: ChunkId::from_bytes(record.record.id),
            plain_len: length,
        };
        let sealed = stamp.seal(&context, vec![0x5a; length as usize]).unwrap();
        record.salt = Some(*sealer.salt());
        record.record.counter = sealed.counter;
        record.record.codec = Codec::Raw;
        record.record.stored = Bytes::from(sealed.stored);
    })
    .await;
}

#[tokio::test]
async fn a_broken_tree_leaves_the_rest_of_the_disk_unproved() {
    let (_, stored, store) = stored(4).await;
    store.tamper(stored.root.top.as_bytes(), |record| {
        record.record.stored = Bytes::from_static(b"no node");
    });
    let found = verify(&stored).await.0.unwrap();
    assert_eq!(found.damaged_bytes, stored.root.length);
    assert_eq!(found.damage[0].area, Extent::new(0, stored.root.length));
}

#[tokio::test]
async fn a_repository_that_is_away_is_no_damage() {
    let (_, mut stored, store) = stored(5).await;
    stored.limits.call_backoff.attempts = 1;
    let away = Some(Reason::RepositoryUnreachable);
    store.plan(Moment::Read, [away; 9]);
    let fault = verify(&stored).await.0.unwrap_err();
    assert_eq!(fault.reason, Reason::RepositoryUnreachable);
}
