//! Packs and the chunk index in a repository on this machine's temporary file system.

use std::sync::Arc;

use criterion::{Criterion, Throughput};
use stillwater_format::pack::{RecordHeader, RecordId, RecordKind, stored_hash};
use stillwater_store::vfs::RealFs;
use stillwater_store::{Index, SegmentIndex, SessionKey, Store, SystemRng};
use stillwater_types::RunId;

use crate::chunk::{Encoded, encoded};
use crate::content::Content;
use crate::cpu::CpuTime;

#[path = "../../../../crates/store/benches/synthetic.rs"]
mod synthetic;

/// Chunks that are stored already, in packs of 4096.
const STORED: u64 = 1_000_000;
const PER_PACK: u64 = 4096;
/// As many as one request asks for.
const ASKED: u64 = 4096;
const TAG_LEN: usize = 16;

pub fn bench(criterion: &mut Criterion<CpuTime>, content: &Content) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let index = || {
        let vfs = RealFs::open(dir.path()).expect("a directory");
        Arc::new(SegmentIndex::new(Arc::new(vfs), Arc::new(SystemRng))) as Arc<dyn Index>
    };
    synthetic::init(dir.path(), index());
    synthetic::fill(dir.path(), STORED, PER_PACK);
    let environment = synthetic::environment(dir.path(), index());
    let store = Store::open(environment, synthetic::OPTIONS).expect("an open repository");
    let session = store.open_session(RunId::mint(), synthetic::DATASET, 0);
    let key = session.expect("a session").key;
    append(criterion, &store, key, content);
    probe(criterion, &store, key);
}

/// Checks, counts and writes; what is never finished is removed and never synced.
fn append(criterion: &mut Criterion<CpuTime>, store: &Store, key: SessionKey, content: &Content) {
    let records: Vec<_> = (0..)
        .zip(encoded(content))
        .map(|(n, chunk)| record(n, chunk))
        .collect();
    let bytes = records.iter().map(|(_, stored)| stored.len() as u64).sum();
    let mut group = criterion.benchmark_group("pack");
    group.throughput(Throughput::Bytes(bytes));
    let mut salts = 0_u64;
    group.bench_function("append", |bench| {
        bench.iter(|| {
            salts += 1;
            let mut salt = [7; 32];
            salt[..8].copy_from_slice(&salts.to_le_bytes());
            let mut writer = store.begin_pack(key, &salt).expect("a pack");
            for (header, stored) in &records {
                writer.append(header, stored).expect("room");
            }
        });
    });
    group.finish();
}

fn record(counter: u32, chunk: Encoded) -> (RecordHeader, Vec<u8>) {
    let mut stored = chunk.text;
    stored.extend_from_slice(&[0; TAG_LEN]);
    let header = RecordHeader {
        kind: RecordKind::Chunk,
        codec: chunk.codec,
        slot: 0,
        counter,
        plain_len: chunk.plain_len,
        stored_len: u32::try_from(stored.len()).expect("a chunk is short"),
        id: *chunk.id.as_bytes(),
        stored_hash: stored_hash(&stored),
    };
    (header, stored)
}

fn probe(criterion: &mut Criterion<CpuTime>, store: &Store, key: SessionKey) {
    let mut group = criterion.benchmark_group("index of a million");
    group.throughput(Throughput::Elements(ASKED));
    for (name, first) in [("hits", 0), ("misses", STORED)] {
        // An odd step through the range scatters them.
        let ids: Vec<RecordId> = (0..ASKED)
            .map(|n| synthetic::chunk(first + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % STORED))
            .collect();
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let found = store.find(key, &ids).expect("an answer");
                assert!(found.iter().all(|found| *found == (first == 0)));
            });
        });
    }
    group.finish();
}
