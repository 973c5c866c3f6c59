//! A repository of a million chunks that is killed while it takes packs.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "this plays the operator, who has a clock and kills processes; what fails, fails the test"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stillwater_format::pack::{Codec, RecordHeader, RecordId};
use stillwater_store::vfs::RealFs;
use stillwater_store::{Index, SegmentIndex, SessionKey, Store, SystemRng};
use stillwater_types::{ChunkId, RunId};

#[path = "../benches/synthetic.rs"]
mod synthetic;

const CHUNKS: u64 = 1_000_000;
const PER_PACK: u64 = 2048;
/// Chunks of each pack of the load.
const FRESH_PER_PACK: u64 = 512;
/// Where the numbers of fresh chunks begin.
const FRESH: u64 = 1 << 40;
const OPEN_MAX: Duration = Duration::from_secs(10);
/// Names the repository to the process that is killed.
const DIR: &str = "STILLWATER_TEST_KILL_DIR";

fn open(dir: &Path) -> Store {
    let vfs = RealFs::open(dir).unwrap();
    let index = SegmentIndex::new(Arc::new(vfs), Arc::new(SystemRng));
    let index: Arc<dyn Index> = Arc::new(index);
    Store::open(synthetic::environment(dir, index), synthetic::OPTIONS).unwrap()
}

/// Chunk number `number` as a proxy would send it.
fn fresh(number: u64, counter: u32) -> (RecordHeader, Vec<u8>) {
    let stored = number.to_le_bytes().repeat(3);
    let id = ChunkId::from_bytes(synthetic::chunk(number).id);
    let header = RecordHeader::chunk(id, Codec::Zstd, 0, counter, 32768, &stored).unwrap();
    (header, stored)
}

/// Writes one pack and tells of it only when it is acknowledged.
fn put(store: &Store, key: SessionKey, turn: u64) {
    let salt = *blake3::hash(&(FRESH + turn).to_be_bytes()).as_bytes();
    let mut writer = store.begin_pack(key, &salt).unwrap();
    for (counter, number) in (0..).zip(0..FRESH_PER_PACK) {
        let (header, stored) = fresh(FRESH + turn * FRESH_PER_PACK + number, counter);
        writer.append(&header, &stored).unwrap();
    }
    writer.finish().unwrap();
    println!("pack {turn}");
}

/// What the killed process does; nothing when it is run as a test of its own.
#[test]
fn load() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let store = open(Path::new(&dir));
    let session = store
        .open_session(RunId::mint(), synthetic::DATASET, 0)
        .unwrap();
    let first: u64 = std::env::var("STILLWATER_TEST_KILL_TURN")
        .unwrap()
        .parse()
        .unwrap();
    for turn in first.. {
        put(&store, session.key, turn);
    }
}

fn start(dir: &Path, turn: u64) -> Child {
    // By this name it is found though a build took its file away meanwhile.
    Command::new("/proc/self/exe")
        .args(["load", "--exact", "--nocapture"])
        .env(DIR, dir)
        .env("STILLWATER_TEST_KILL_TURN", turn.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets the load acknowledge so many packs, then kills it; gives the turn after the last that was heard of.
fn kill_after(dir: &Path, first: u64, packs: u64) -> u64 {
    let mut child = start(dir, first);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let told = |line: String| line.strip_prefix("pack ")?.parse::<u64>().ok();
    let mut acknowledged = lines.filter_map(|line| told(line.unwrap()));
    let last = acknowledged.nth(packs as usize - 1).expect("packs");
    child.kill().unwrap();
    // What it acknowledged between the kill being decided and done counts as well.
    let last = acknowledged.last().unwrap_or(last);
    child.wait().unwrap();
    last + 1
}

fn check(store: &Store, acknowledged: u64) {
    let mut records: Vec<RecordId> = (0..CHUNKS).step_by(997).map(synthetic::chunk).collect();
    let fresh = (0..acknowledged * FRESH_PER_PACK).step_by(101);
    records.extend(fresh.map(|number| synthetic::chunk(FRESH + number)));
    let key = store
        .open_session(RunId::mint(), synthetic::DATASET, 0)
        .unwrap()
        .key;
    let found = store.find(key, &records).unwrap();
    let missing = records.iter().zip(found).find(|(_, found)| !found);
    assert_eq!(missing, None);
    for record in records {
        assert!(store.read(synthetic::DATASET, record).is_ok());
    }
}

#[test]
fn a_million_chunks_open_within_ten_seconds_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let vfs = Arc::new(RealFs::open(dir).unwrap());
    synthetic::init(dir, Arc::new(SegmentIndex::new(vfs, Arc::new(SystemRng))));
    synthetic::fill(dir, CHUNKS, PER_PACK);
    let mut turn = 0;
    for packs in [3, 40, 200] {
        turn = kill_after(dir, turn, packs);
        let begun = Instant::now();
        let store = open(dir);
        let took = begun.elapsed();
        println!(
            "opened {} chunks in {took:?}",
            store.usage().unwrap().chunk_count
        );
        assert!(took <= OPEN_MAX, "{took:?}");
        assert!(store.usage().unwrap().chunk_count >= CHUNKS);
        check(&store, turn);
    }
}
