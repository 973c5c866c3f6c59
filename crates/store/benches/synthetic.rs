//! Repositories of many small chunks, made quickly: valid packs of noise, written without a session.

#![allow(
    dead_code,
    reason = "each benchmark and test that includes this uses its part"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stillwater_format::commit::{AdminKey, Dataset};
use stillwater_format::pack::{Builder, Codec, Header, RecordHeader, RecordId, SALT_LEN};
use stillwater_store::vfs::{RealFs, Vfs};
use stillwater_store::{
    Clock, Environment, Identity, Index, MemoryCatalogue, Options, Rng, Store, SystemClock,
    SystemRng, Verifier,
};
use stillwater_types::{ChunkId, ClusterId, DatasetId, NodeId, PackId};

/// Stored bytes of each chunk: the tag of its seal and one more.
const STORED_LEN: usize = 17;

pub const DATASET: DatasetId = DatasetId::from_bytes([0xda; 16]);

pub const OPTIONS: Options = Options {
    allow_volatile: true,
    reserve_bytes: 0,
    ..Options::DEFAULT
};

/// The chunk of that number.
pub fn chunk(number: u64) -> RecordId {
    let hash = blake3::hash(&number.to_le_bytes());
    RecordId::from(ChunkId::from_bytes(*hash.as_bytes()))
}

/// Makes an empty repository with one dataset.
pub fn init(dir: &Path, index: Arc<dyn Index>) {
    Store::init(&environment(dir, Arc::clone(&index)), &OPTIONS, IDENTITY).expect("a repository");
    let store = Store::open(environment(dir, index), OPTIONS).expect("an open repository");
    let dataset = Dataset {
        id: DATASET,
        label: "synthetic".into(),
        wrapped_key: vec![1],
    };
    store.create_dataset(dataset).expect("a dataset");
}

const IDENTITY: Identity = Identity {
    cluster: ClusterId::from_bytes([0xc1; 16]),
    node: NodeId::from_bytes([0xd2; 16]),
};

/// What a store on this machine takes, with the catalogue in memory.
pub fn environment(dir: &Path, index: Arc<dyn Index>) -> Environment {
    Environment {
        vfs: Arc::new(RealFs::open(dir).expect("a directory")),
        clock: Arc::new(SystemClock::open().expect("a boot id")) as Arc<dyn Clock>,
        rng: Arc::new(SystemRng) as Arc<dyn Rng>,
        catalogue: Box::new(MemoryCatalogue::default()),
        index,
        verifier: Arc::new(Nobody),
    }
}

/// Knows no administrator.
struct Nobody;

impl Verifier for Nobody {
    fn verify(&self, _: &AdminKey, _: &[u8], _: &[u8; 64]) -> bool {
        false
    }
}

/// The id of the pack of that number; ids ascend with numbers.
pub fn pack(number: u64) -> PackId {
    let mut id = [0; 16];
    let hash = blake3::hash(&number.to_be_bytes());
    id[8..].copy_from_slice(&hash.as_bytes()[..8]);
    id[..8].copy_from_slice(&number.to_be_bytes());
    PackId::from_bytes(id)
}

/// Writes chunks `0..chunks` into packs of `per_pack`, each about 89 bytes in its pack. Nothing is synced.
pub fn fill(dir: &Path, chunks: u64, per_pack: u64) {
    let vfs = RealFs::open(dir).expect("a directory");
    for (number, first) in (0..).zip((0..chunks).step_by(per_pack as usize)) {
        let bytes = pack_bytes(number, first..chunks.min(first + per_pack));
        let id = pack(number);
        let fan = format!("{:02x}", id.as_bytes()[15]);
        let path: PathBuf = ["packs", &fan, &format!("{id}.pack")].iter().collect();
        let file = vfs.create_new(&path).expect("a new pack");
        file.write_at(&bytes, 0).expect("room for a pack");
    }
}

fn pack_bytes(number: u64, chunks: std::ops::Range<u64>) -> Vec<u8> {
    let header = Header {
        pack: pack(number),
        dataset: DATASET,
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
