use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn key() -> DatasetKey {
    DatasetKey::from_slice(&[0x33; 32]).unwrap()
}

const DATASET: DatasetId = DatasetId::from_bytes([0x44; 16]);
const SALT: [u8; 32] = [0x55; 32];

fn context() -> ChunkContext {
    ChunkContext {
        codec: 1,
        id: ChunkId::from_bytes([0x66; 32]),
        plain_len: 9,
    }
}

fn sealed() -> SealedChunk {
    let mut sealer = Sealer::with_salt(&key(), DATASET, SALT).unwrap();
    sealer.stamp().unwrap();
    sealer
        .stamp()
        .unwrap()
        .seal(&context(), b"some text".to_vec())
        .unwrap()
}

#[test]
fn a_record_has_the_bytes_of_the_format() {
    let sealed = sealed();
    assert_eq!(sealed.counter, 1);
    assert_eq!(
        data_encoding::HEXLOWER.encode(&sealed.stored),
        "9d8f1e519ca4288f421b36f156a29b688dd3cbae311f3d26c5"
    );
}

#[test]
fn the_aad_has_the_bytes_of_the_format() {
    let aad = context().aad(DATASET);
    let want = [
        b"SWC1".as_slice(),
        &[0x44; 16],
        &[2, 1],
        &[0x66; 32],
        &[9, 0, 0, 0],
    ]
    .concat();
    assert_eq!(aad.as_slice(), want);
}

#[track_caller]
fn check_refused(context: ChunkContext, dataset: DatasetId, salt: [u8; 32], counter: u32) {
    let opener = Opener::new(&key(), dataset, salt).unwrap();
    let opened = opener.open(&context, counter, sealed().stored);
    assert_eq!(opened, Err(SealError::Unauthentic { what: "chunk" }));
}

#[test]
fn a_record_opens_under_its_own_context() {
    let opener = Opener::new(&key(), DATASET, SALT).unwrap();
    assert_eq!(
        opener.open(&context(), 1, sealed().stored).unwrap(),
        b"some text"
    );
}

#[test]
fn each_part_of_the_context_is_authenticated() {
    check_refused(
        ChunkContext {
            codec: 0,
            ..context()
        },
        DATASET,
        SALT,
        1,
    );
    check_refused(
        ChunkContext {
            plain_len: 10,
            ..context()
        },
        DATASET,
        SALT,
        1,
    );
    let other = ChunkId::from_bytes([0x67; 32]);
    check_refused(
        ChunkContext {
            id: other,
            ..context()
        },
        DATASET,
        SALT,
        1,
    );
    check_refused(context(), DatasetId::from_bytes([0x45; 16]), SALT, 1);
    check_refused(context(), DATASET, [0x56; 32], 1);
    check_refused(context(), DATASET, SALT, 0);
}

#[test]
fn another_datasets_key_opens_nothing() {
    let opener = Opener::new(&DatasetKey::from_slice(&[0x34; 32]).unwrap(), DATASET, SALT).unwrap();
    assert!(opener.open(&context(), 1, sealed().stored).is_err());
}

#[test]
fn counters_never_come_twice_and_end_before_they_wrap() {
    let mut sealer = Sealer::new(&key(), DATASET).unwrap();
    let counters: HashSet<u32> = (0..10_000)
        .map(|_| sealer.stamp().map(|stamp| stamp.counter).unwrap())
        .collect();
    assert_eq!(counters.len(), 10_000);
    sealer.next = Some(u32::MAX);
    assert_eq!(sealer.stamp().map(|stamp| stamp.counter), Ok(u32::MAX));
    assert_eq!(
        sealer.stamp().map(|stamp| stamp.counter),
        Err(SealError::SaltExhausted)
    );
    assert_eq!(
        sealer.stamp().map(|stamp| stamp.counter),
        Err(SealError::SaltExhausted)
    );
}

#[test]
fn every_sealer_draws_its_own_salt() {
    let salts: HashSet<[u8; 32]> = (0..1_000)
        .map(|_| *Sealer::new(&key(), DATASET).unwrap().salt())
        .collect();
    assert_eq!(salts.len(), 1_000);
}

#[test]
fn debug_shows_neither_key_nor_salt() {
    let mut sealer = Sealer::with_salt(&key(), DATASET, SALT).unwrap();
    let stamp = sealer.stamp().unwrap();
    let text = format!("{sealer:?} {stamp:?} {:?}", stamp.opener());
    assert_eq!(
        text,
        "Sealer { next: Some(1), .. } Stamp { counter: 0, .. } Opener { .. }"
    );
}

proptest! {
    #[test]
    fn stamps_used_in_any_order_give_distinct_nonces_and_open_again(
        order in Just((0..12u8).collect::<Vec<_>>()).prop_shuffle(),
        text in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut sealer = Sealer::new(&key(), DATASET).unwrap();
        let mut stamps: Vec<_> = (0..12).map(|_| sealer.stamp().ok()).collect();
        let mut nonces = HashSet::new();
        for at in order {
            let stamp = stamps[usize::from(at)].take().unwrap();
            let opener = stamp.opener();
            let sealed = stamp.seal(&context(), text.clone()).unwrap();
            prop_assert!(nonces.insert(sealed.counter));
            let opened = opener.open(&context(), sealed.counter, sealed.stored).unwrap();
            prop_assert_eq!(&opened, &text);
        }
    }

    #[test]
    fn any_changed_or_missing_byte_of_a_record_is_noticed(
        at in any::<prop::sample::Index>(), flip in 1..=255u8,
    ) {
        let opener = Opener::new(&key(), DATASET, SALT).unwrap();
        let mut stored = sealed().stored;
        let at = at.index(stored.len());
        prop_assert!(opener.open(&context(), 1, stored[..at].to_vec()).is_err());
        stored[at] ^= flip;
        prop_assert!(opener.open(&context(), 1, stored).is_err());
    }
}
