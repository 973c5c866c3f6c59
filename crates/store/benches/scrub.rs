//! What a scrub costs: `cargo bench -p stillwater-store --bench scrub -- [PACKS]`.
//!
//! It makes a repository of so many packs of 64 MiB in a temporary directory (8 unless told), and reads all of
//! them again in a fresh process.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark looks at the clock and at what the kernel tells of it"
)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use stillwater_format::pack::{Codec, RecordHeader};
use stillwater_store::vfs::RealFs;
use stillwater_store::{SegmentIndex, SessionKey, Store, SystemRng};
use stillwater_types::{ChunkId, RunId};

#[path = "synthetic.rs"]
mod synthetic;

const PACK_BYTES: usize = 64 << 20;
const CHUNK_BYTES: usize = 16 << 10;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    match arguments.as_slice() {
        [word, dir] if word == "scrub" => scrub(Path::new(dir)),
        [count] => measure(count.parse().expect("a number")),
        _ => measure(8),
    }
}

fn open(dir: &Path) -> Store {
    let vfs = RealFs::open(dir).expect("a directory");
    let index = Arc::new(SegmentIndex::new(Arc::new(vfs), Arc::new(SystemRng)));
    Store::open(synthetic::environment(dir, index), synthetic::OPTIONS).expect("an open repository")
}

fn measure(packs: u64) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let vfs = RealFs::open(dir).expect("a directory");
    let index = Arc::new(SegmentIndex::new(Arc::new(vfs), Arc::new(SystemRng)));
    synthetic::init(dir, index);
    let store = open(dir);
    let session = store.open_session(RunId::mint(), synthetic::DATASET, 0);
    let key = session.expect("a session").key;
    (0..packs).for_each(|number| fill(&store, key, number));
    drop(store);
    let status = Command::new(std::env::current_exe().expect("a path of this program"))
        .args(["scrub".as_ref(), dir.as_os_str()])
        .status();
    assert!(status.expect("a second process").success());
}

fn fill(store: &Store, key: SessionKey, number: u64) {
    let salt = *blake3::hash(&number.to_le_bytes()).as_bytes();
    let mut pack = store.begin_pack(key, &salt).expect("a pack");
    for counter in 0..(PACK_BYTES / CHUNK_BYTES) as u32 {
        let mut hash = blake3::Hasher::new_keyed(&salt);
        let hash = hash.update(&counter.to_le_bytes());
        let id = ChunkId::from_bytes(*hash.finalize().as_bytes());
        let mut stored = vec![0; CHUNK_BYTES];
        hash.finalize_xof().fill(&mut stored);
        let plain = CHUNK_BYTES as u32 * 2;
        let header = RecordHeader::chunk(id, Codec::Zstd, 0, counter, plain, &stored);
        let appended = pack.append(&header.expect("a chunk in its bounds"), &stored);
        appended.expect("a stored chunk");
    }
    pack.finish().expect("a durable pack");
}

fn scrub(dir: &Path) {
    let store = open(dir);
    let (before, began) = (peak_mib(), Instant::now());
    let done = store.scrub(u64::MAX, &()).expect("a scrub");
    let wall = began.elapsed().as_secs_f64();
    let mib = (done.read_bytes >> 20) as f64;
    println!(
        "{} packs, {mib} MiB: {:.0} MiB a second; peak {:.1} MiB, before it {before:.1}",
        done.pack_count,
        mib / wall,
        peak_mib()
    );
    assert_eq!(done.damaged_pack_count, 0);
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("what the kernel tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    let kib: f64 = kib.and_then(|kib| kib.parse().ok()).expect("a number");
    kib / 1024.0
}
