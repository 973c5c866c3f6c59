use proptest::prelude::*;

use super::*;

/// A small pack: header, one salt, then chunks and nodes with these stored bytes.
fn pack(chunks: &[Vec<u8>], nodes: &[Vec<u8>]) -> (Vec<u8>, Vec<(RecordHeader, Vec<u8>)>) {
    let header = Header {
        pack: PackId::from_bytes([1; 16]),
        dataset: DatasetId::from_bytes([2; 16]),
        fence: 7,
    };
    let mut records = vec![(RecordHeader::salt(0, &[9; 32]), vec![9; 32])];
    for (counter, stored) in chunks.iter().enumerate() {
        let id = ChunkId::from_bytes([counter as u8; 32]);
        let plain_len = stored.len() as u32 + 100;
        let header =
            RecordHeader::chunk(id, Codec::Zstd, 0, counter as u32, plain_len, stored).unwrap();
        records.push((header, stored.clone()));
    }
    for stored in nodes {
        let header = RecordHeader::node(stored).unwrap();
        if !records.iter().any(|(known, _)| known.id == header.id) {
            records.push((header, stored.clone()));
        }
    }
    let (mut builder, bytes) = Builder::begin(&header);
    let mut out = bytes.to_vec();
    for (header, stored) in &records {
        out.extend(builder.append(header, stored).unwrap());
        out.extend(stored);
    }
    let (end, _) = builder.finish();
    out.extend(end);
    (out, records)
}

/// Reads a pack by its footer.
fn backwards(bytes: &[u8]) -> Result<(Header, Trailer), Error> {
    let short = Error::Short { what: "pack" };
    let header = Header::decode(bytes.first_chunk().ok_or(short.clone())?)?;
    let footer = Footer::decode(bytes.last_chunk().ok_or(short)?, bytes.len() as u64)?;
    let start = footer.trailer_offset as usize;
    let trailer = Trailer::decode(&bytes[start..start + footer.trailer_len as usize], &footer)?;
    Ok((header, trailer))
}

/// Whether the pack reads as whole from either end, every byte of it checked.
fn is_whole(bytes: &[u8]) -> bool {
    let Ok((_, trailer)) = backwards(bytes) else {
        return false;
    };
    let mut covered = HEADER_LEN;
    for (_, stored) in scan(bytes) {
        covered += RECORD_HEADER_LEN + stored.len();
    }
    let content = *blake3::hash(&bytes[..covered.min(bytes.len())]).as_bytes();
    scan(bytes).count() == trailer.entries.len() && content == trailer.content_hash
}

fn stored() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 17..300), 0..6)
}

#[test]
fn a_damaged_header_is_mended_where_its_checksum_proves_it() {
    let header = Header {
        pack: PackId::from_bytes([1; 16]),
        dataset: DatasetId::from_bytes([2; 16]),
        fence: 7,
    };
    let whole = header.encode();
    for bit in 0..HEADER_LEN * 8 {
        let mut bytes = whole;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::mend(&bytes, header.pack), Some(header), "bit {bit}");
    }
    let mut known = whole;
    known[..DATASET_AT].fill(0);
    known[FENCE_AT + 8..CHECKSUM_AT].fill(0xff);
    assert_eq!(Header::mend(&known, header.pack), Some(header));
    for at in [DATASET_AT, FENCE_AT] {
        let mut bytes = whole;
        bytes[at] ^= 0b101;
        assert_eq!(Header::mend(&bytes, header.pack), None, "two bits at {at}");
    }
    assert_eq!(Header::mend(&[0; HEADER_LEN], header.pack), None);
    assert_eq!(Header::mend(&whole, PackId::from_bytes([9; 16])), None);
}

proptest! {
    #[test]
    fn a_pack_is_read_back_from_either_end(chunks in stored(), nodes in stored()) {
        let (bytes, records) = pack(&chunks, &nodes);
        let (header, trailer) = backwards(&bytes).unwrap();
        prop_assert_eq!(header.fence, 7);
        let mut forwards: Vec<_> = scan(&bytes).map(|(entry, _)| entry).collect();
        prop_assert_eq!(forwards.len(), records.len());
        forwards.sort_by_key(Entry::key);
        prop_assert_eq!(&forwards, &trailer.entries);
        for ((entry, found), (header, stored)) in scan(&bytes).zip(&records) {
            prop_assert_eq!(entry, Entry::of(header, entry.offset));
            prop_assert_eq!(found, stored.as_slice());
        }
        prop_assert!(is_whole(&bytes));
    }

    #[test]
    fn no_flipped_bit_goes_unseen(chunks in stored(), nodes in stored(), bit in any::<prop::sample::Index>()) {
        let (mut bytes, _) = pack(&chunks, &nodes);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!is_whole(&bytes));
    }

    #[test]
    fn a_record_is_found_whatever_lies_before_it(noise in prop::collection::vec(any::<u8>(), 64..400)) {
        let node = b"bytes of a node".to_vec();
        let header = RecordHeader::node(&node).unwrap();
        let bytes = [noise.as_slice(), RECORD_MAGIC, &header.encode(), &node].concat();
        prop_assert_eq!(scan(&bytes).map(|(entry, _)| entry.id).last(), Some(header.id));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(backwards(&bytes).is_err());
        prop_assert_eq!(scan(&bytes).count(), 0);
    }
}

#[test]
fn a_pack_cut_at_any_byte_keeps_its_whole_records_and_is_not_taken_for_whole() {
    let (bytes, records) = pack(&[vec![5; 40], vec![6; 17]], &[vec![7; 60]]);
    let mut ends = vec![HEADER_LEN];
    for (header, _) in &records {
        ends.push(ends[ends.len() - 1] + header.record_len() as usize);
    }
    for cut in 0..bytes.len() {
        assert!(!is_whole(&bytes[..cut]), "{cut}");
        let whole = ends.iter().skip(1).filter(|end| **end <= cut).count();
        assert_eq!(scan(&bytes[..cut]).count(), whole, "{cut}");
    }
}

#[test]
fn records_that_no_writer_makes_are_refused() {
    let id = ChunkId::from_bytes([1; 32]);
    for (plain_len, stored_len) in [(0, 17), (10, 16), (10, 27), (PLAIN_BYTES_MAX + 1, 17)] {
        let made = RecordHeader::chunk(id, Codec::Raw, 0, 0, plain_len, &vec![0; stored_len]);
        assert!(made.is_err(), "{plain_len} {stored_len}");
    }
    let mut node = RecordHeader::node(b"node").unwrap();
    node.counter = 1;
    assert!(RecordHeader::decode(&node.encode()).is_err());
    assert!(RecordHeader::node(&vec![0; NODE_BYTES_MAX + 1]).is_err());
}

#[test]
fn a_record_of_other_bytes_is_refused() {
    let node = RecordHeader::node(b"node").unwrap();
    assert!(node.check(b"node").is_ok());
    assert!(node.check(b"nodf").is_err());
    assert!(node.check(b"node ").is_err());
    let wrong_id = RecordHeader {
        id: [0; 32],
        ..node
    };
    assert!(wrong_id.check(b"node").is_err());
}

#[test]
fn a_footer_of_a_file_of_another_length_is_refused() {
    let (bytes, _) = pack(&[vec![5; 40]], &[]);
    let footer = bytes.last_chunk().unwrap();
    assert!(Footer::decode(footer, bytes.len() as u64).is_ok());
    assert!(Footer::decode(footer, bytes.len() as u64 + 1).is_err());
}
