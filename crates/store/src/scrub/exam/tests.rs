use std::path::Path;

use proptest::prelude::*;
use stillwater_format::pack::{Builder, Codec};

use super::*;
use crate::layout;
use crate::tests::memfs::MemFs;
use crate::tests::rig::{chunk_id, dataset};
use crate::vfs::Vfs;

mod reference;

const PACK: PackId = PackId::from_bytes([7; 16]);
const OTHER: PackId = PackId::from_bytes([8; 16]);

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hash = blake3::Hasher::new();
    hash.update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// A pack of chunks of these lengths, some of them below a second salt.
fn pack(id: PackId, lengths: &[usize]) -> Vec<u8> {
    let header = Header {
        pack: id,
        dataset: dataset().id,
        fence: 3,
    };
    let (mut builder, first) = Builder::begin(&header);
    let mut out = first.to_vec();
    let mut append = |header: RecordHeader, stored: &[u8]| {
        out.extend_from_slice(&builder.append(&header, stored).unwrap());
        out.extend_from_slice(stored);
    };
    for slot in 0..2 {
        let salt = [slot as u8 + 1; SALT_LEN];
        append(RecordHeader::salt(slot, &salt), &salt);
    }
    for (length, n) in lengths.iter().zip(0..) {
        let (stored, chunk) = (noise(n, *length), chunk_id(n));
        let slot = (n % 2) as u16;
        let plain = *length as u32 - 16;
        let header = RecordHeader::chunk(chunk, Codec::Raw, slot, n as u32, plain, &stored);
        append(header.unwrap(), &stored);
    }
    let (end, _) = builder.finish();
    out.extend_from_slice(&end);
    out
}

/// What befalls a pack; places are in thousandths of its length.
#[derive(Debug, Clone)]
enum Harm {
    Flip(usize, u8),
    Zeros(usize, usize),
    Cut(usize),
    Grow(usize),
    /// Bytes from one place lie at another one too.
    Copy(usize, usize, usize),
    /// It begins like another pack.
    Header,
    Newer,
    /// Only what is at the end is damaged, so that all is found by its records.
    Footer,
}

fn harm() -> impl Strategy<Value = Harm> {
    let place = || 0..1000_usize;
    prop_oneof![
        4 => (place(), 0..8_u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        2 => (place(), 1..9000_usize).prop_map(|(at, length)| Harm::Zeros(at, length)),
        2 => place().prop_map(Harm::Cut),
        1 => (1..9000_usize).prop_map(Harm::Grow),
        2 => (place(), place(), 1..9000_usize).prop_map(|(a, b, length)| Harm::Copy(a, b, length)),
        1 => Just(Harm::Header),
        1 => Just(Harm::Newer),
        3 => Just(Harm::Footer),
    ]
}

fn befall(bytes: &mut Vec<u8>, harm: &Harm) {
    let all = bytes.len();
    let at = |thousandths: usize| (all * thousandths / 1000).min(all - 1);
    match *harm {
        Harm::Flip(place, bit) => {
            let place = at(place);
            bytes[place] ^= 1 << bit;
        }
        Harm::Zeros(place, length) => bytes[at(place)..]
            .iter_mut()
            .take(length)
            .for_each(|b| *b = 0),
        Harm::Cut(place) => bytes.truncate(at(place).max(1)),
        Harm::Grow(length) => bytes.extend(noise(9, length)),
        Harm::Copy(from, to, length) => {
            let (from, to) = (at(from), at(to));
            let length = length.min(bytes.len() - from.max(to));
            bytes.copy_within(from..from + length, to);
        }
        Harm::Header => {
            let other = pack(OTHER, &[]);
            let length = HEADER_LEN.min(bytes.len());
            bytes[..length].copy_from_slice(&other[..length]);
        }
        Harm::Newer => {
            if let Some(byte) = bytes.get_mut(4) {
                *byte = 9;
            }
        }
        Harm::Footer => {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
    }
}

#[track_caller]
fn check(bytes: &[u8], known: &[(u16, [u8; SALT_LEN])]) {
    let fs = MemFs::new();
    for dir in layout::pack_dirs() {
        let parent = layout::parent(&dir);
        if fs.list(parent).is_err() {
            fs.make_dir(parent).unwrap();
        }
        fs.make_dir(&dir).unwrap();
    }
    let path = layout::pack(PACK);
    fs.create_new(&path).unwrap().write_at(bytes, 0).unwrap();
    let expected = reference::Exam::of(PACK, bytes, known);
    let mut found = Exam::of(PACK, Bytes::open(&fs, PACK).unwrap(), known).unwrap();
    assert_eq!(found.flaw, expected.flaw);
    assert_eq!(
        (found.header, found.is_newer),
        (expected.header, expected.is_newer)
    );
    assert_eq!((&found.good, &found.bad), (&expected.good, &expected.bad));
    assert_eq!(found.salts, expected.salts);
    assert_eq!(
        (found.length(), found.holes()),
        (bytes.len() as u64, Vec::new())
    );
    let mut read = Vec::new();
    for number in 0..found.good_count() {
        let (record, stored) = found.good(number).unwrap().unwrap();
        read.push((record, stored.expect("a record that is sound")));
    }
    assert_eq!(read, expected.good().collect::<Vec<_>>());
}

/// Lengths of records that reach over the window's pieces, and shorter ones.
fn lengths() -> impl Strategy<Value = Vec<usize>> {
    let length =
        prop_oneof![3 => 17..300_usize, 1 => 3000..40_000_usize, 1 => 400_000..700_000_usize];
    prop::collection::vec(length, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn piece_by_piece_a_pack_is_judged_as_in_one(
        lengths in lengths(),
        harms in prop::collection::vec(harm(), 0..4),
        knows_salt in any::<bool>(),
    ) {
        let mut bytes = pack(PACK, &lengths);
        harms.iter().for_each(|harm| befall(&mut bytes, harm));
        let known: &[_] = if knows_salt { &[(0, [1; SALT_LEN]), (1, [2; SALT_LEN])] } else { &[] };
        check(&bytes, known);
    }
}

#[test]
fn a_header_across_the_border_of_two_pieces_is_found() {
    for less in (0..140).step_by(7) {
        let mut bytes = pack(
            PACK,
            &[
                (1 << 20) - less - HEADER_LEN - 4 * RECORD_HEADER_LEN,
                50,
                60,
            ],
        );
        befall(&mut bytes, &Harm::Footer);
        check(&bytes, &[]);
    }
}

#[test]
fn no_more_than_a_window_of_a_pack_is_in_memory() {
    let longest = stillwater_format::pack::STORED_BYTES_MAX as usize;
    let bytes = pack(PACK, &[100, longest, 5000, longest, longest]);
    let fs = MemFs::new();
    for dir in [Path::new("packs"), layout::parent(&layout::pack(PACK))] {
        fs.make_dir(dir).unwrap();
    }
    let path = layout::pack(PACK);
    fs.create_new(&path).unwrap().write_at(&bytes, 0).unwrap();
    let mut exam = Exam::of(PACK, Bytes::open(&fs, PACK).unwrap(), &[]).unwrap();
    assert_eq!((exam.flaw, exam.good_count()), (None, 5));
    for number in 0..5 {
        exam.good(number).unwrap().unwrap().1.unwrap();
        assert!(
            exam.bytes.capacity() <= 4 << 20,
            "{}",
            exam.bytes.capacity()
        );
    }
}

#[test]
fn a_record_that_rots_after_the_exam_is_told_apart() {
    let bytes = pack(PACK, &[100, 200]);
    let fs = MemFs::new();
    for dir in [Path::new("packs"), layout::parent(&layout::pack(PACK))] {
        fs.make_dir(dir).unwrap();
    }
    let path = layout::pack(PACK);
    fs.create_new(&path).unwrap().write_at(&bytes, 0).unwrap();
    let mut exam = Exam::of(PACK, Bytes::open(&fs, PACK).unwrap(), &[]).unwrap();
    let at = bytes
        .windows(50)
        .position(|found| found == &noise(1, 200)[..50]);
    let byte = !bytes[at.unwrap() + 30];
    let file = fs.open(&path, crate::vfs::Access::Write).unwrap();
    file.write_at(&[byte], at.unwrap() as u64 + 30).unwrap();
    assert!(exam.good(0).unwrap().unwrap().1.is_some());
    assert_eq!(
        exam.good(1).unwrap().unwrap(),
        (RecordId::from(chunk_id(1)), None)
    );
    assert!(exam.good(2).unwrap().is_none());
}

#[test]
fn a_chunk_whose_salt_nobody_knows_is_not_sound() {
    let mut bytes = pack(PACK, &[100, 200, 300]);
    befall(&mut bytes, &Harm::Footer);
    // Of the first salt, below which the first and the third chunk are sealed.
    bytes[HEADER_LEN + RECORD_HEADER_LEN + 3] ^= 1;
    check(&bytes, &[]);
    assert_eq!(reference::Exam::of(PACK, &bytes, &[]).good.len(), 1);
    check(&bytes, &[(0, [1; SALT_LEN])]);
}
