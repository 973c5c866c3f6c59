//! Packs of many small chunks, made quickly: noise that no key opens, in packs that are valid.

use std::ops::Range;
use std::path::{Path, PathBuf};

use stillwater_format::pack::{Builder, Codec, Header, RecordHeader, RecordId, SALT_LEN};
use stillwater_types::{ChunkId, DatasetId, PackId};

/// Stored bytes of each chunk: the tag of its seal and one more.
const STORED_LEN: usize = 17;

/// The chunk of that number.
pub fn chunk(number: u64) -> RecordId {
    let hash = blake3::hash(&number.to_le_bytes());
    RecordId::from(ChunkId::from_bytes(*hash.as_bytes()))
}

/// The id of the pack of that number; ids ascend with numbers.
pub fn pack(number: u64) -> PackId {
    let mut id = [0; 16];
    let hash = blake3::hash(&number.to_be_bytes());
    id[8..].copy_from_slice(&hash.as_bytes()[..8]);
    id[..8].copy_from_slice(&number.to_be_bytes());
    PackId::from_bytes(id)
}

/// Chunks `0..chunks` in packs of `per_pack`: the path of each pack in its repository, and its bytes,
/// of which a chunk has about 150.
pub fn packs(
    dataset: DatasetId,
    chunks: u64,
    per_pack: u64,
) -> impl Iterator<Item = (PathBuf, Vec<u8>)> {
    let starts = (0..chunks).step_by(per_pack as usize);
    (0..).zip(starts).map(move |(number, first)| {
        let bytes = pack_bytes(dataset, number, first..chunks.min(first + per_pack));
        let id = pack(number);
        let fan = format!("{:02x}", id.as_bytes()[15]);
        (
            Path::new("packs").join(fan).join(format!("{id}.pack")),
            bytes,
        )
    })
}

fn pack_bytes(dataset: DatasetId, number: u64, chunks: Range<u64>) -> Vec<u8> {
    let header = Header {
        pack: pack(number),
        dataset,
        fence: 1,
    };
    let (mut builder, start) = Builder::begin(&header);
    let mut bytes = start.to_vec();
    let salt: [u8; SALT_LEN] = *blake3::hash(pack(number).as_bytes()).as_bytes();
    let mut put = |header: RecordHeader, stored: &[u8]| {
        let start = builder
            .append(&header, stored)
            .expect("a pack in its bounds");
        bytes.extend_from_slice(&start);
        bytes.extend_from_slice(stored);
    };
    put(RecordHeader::salt(0, &salt), &salt);
    for (counter, number) in (0..).zip(chunks) {
        let mut stored = [0; STORED_LEN];
        stored[..8].copy_from_slice(&number.to_le_bytes());
        let id = ChunkId::from_bytes(chunk(number).id);
        let header = RecordHeader::chunk(id, Codec::Zstd, 0, counter, 32768, &stored);
        put(header.expect("lengths in their bounds"), &stored);
    }
    let (end, _) = builder.finish();
    bytes.extend_from_slice(&end);
    bytes
}
