//! What the chunk index costs: `cargo bench -p stillwater-store --bench index -- [CHUNKS …]`.
//!
//! For each number of chunks (1 and 16 million unless told) it makes a repository of small chunks in a
//! temporary directory, opens it without an index, measures it, and opens it again in a fresh process.
//! sled takes the same keys in the same run, for one million.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark looks at the clock and at what the kernel tells of it"
)]

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use stillwater_store::vfs::RealFs;
use stillwater_store::{Index, SegmentIndex, Store, SystemRng};

#[path = "synthetic.rs"]
mod synthetic;

/// About as many chunks of 32 KiB as a pack of 64 MiB has after compression.
const PER_PACK: u64 = 4096;
const PROBES: u64 = 1_000_000;
const SLED_CHUNKS: u64 = 1_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    match arguments.as_slice() {
        [word, dir] if word == "open" => open_again(Path::new(dir)),
        numbers => {
            let mut counts: Vec<u64> = numbers.iter().filter_map(|n| n.parse().ok()).collect();
            if counts.is_empty() {
                counts = vec![1_000_000, 16_000_000];
            }
            sled();
            counts.into_iter().for_each(measure);
        }
    }
}

/// CPU seconds of this process, all threads.
fn cpu() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Runs `act`; gives what it gave, CPU seconds and wall seconds.
fn timed<T>(act: impl FnOnce() -> T) -> (T, f64, f64) {
    let (cpu_before, wall) = (cpu(), Instant::now());
    let outcome = act();
    (outcome, cpu() - cpu_before, wall.elapsed().as_secs_f64())
}

fn index(dir: &Path) -> Arc<SegmentIndex> {
    let vfs = RealFs::open(dir).expect("a directory");
    Arc::new(SegmentIndex::new(Arc::new(vfs), Arc::new(SystemRng)))
}

fn open(dir: &Path, index: &Arc<SegmentIndex>) -> Store {
    let index = Arc::clone(index) as Arc<dyn Index>;
    Store::open(synthetic::environment(dir, index), synthetic::OPTIONS).expect("an open repository")
}

fn measure(chunks: u64) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    synthetic::init(dir, index(dir));
    synthetic::fill(dir, chunks, PER_PACK);
    println!("\n{chunks} chunks in packs of {PER_PACK}");

    let index = index(dir);
    let (store, cpu, wall) = timed(|| open(dir, &index));
    println!(
        "  made from trailers   {cpu:.2} CPU s, {wall:.2} s: {:.2} M chunks per CPU s",
        chunks as f64 / cpu / 1e6
    );
    let (_, cpu, wall) = timed(|| index.settle());
    println!("  then merged          {cpu:.2} CPU s, {wall:.2} s");
    let size = index.size();
    println!(
        "  size                 {} segments, {:.2} B of disk and {:.2} B of memory for each chunk",
        size.segment_count,
        size.disk_bytes as f64 / chunks as f64,
        size.memory_bytes as f64 / chunks as f64,
    );
    probe("hits", &*index, chunks, 0);
    probe("misses", &*index, chunks, chunks);
    drop((store, index));
    let again = Command::new(std::env::current_exe().expect("a path of this program"))
        .args(["open".as_ref(), dir.as_os_str()])
        .status();
    assert!(again.expect("a second process").success());
}

/// Looks up records in random order, beginning at the number `first`.
fn probe(word: &str, index: &dyn Index, chunks: u64, first: u64) {
    // An odd step through a range gives every number once.
    let keys: Vec<_> = (0..PROBES)
        .map(|n| synthetic::chunk(first + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % chunks))
        .collect();
    let (found, cpu, _) = timed(|| {
        let find = |key: &&_| {
            index
                .find(synthetic::DATASET, key)
                .expect("an answer")
                .is_some()
        };
        keys.iter().filter(find).count() as u64
    });
    assert_eq!(found, if first == 0 { PROBES } else { 0 });
    println!("  {word:<20} {:.2} M per CPU s", PROBES as f64 / cpu / 1e6);
}

/// Opens the repository in a process that has done nothing else.
fn open_again(dir: &Path) {
    let before = resident_bytes();
    let index = index(dir);
    let (_store, cpu, wall) = timed(|| open(dir, &index));
    let count = index.count().chunk_count;
    let resident = resident_bytes() - before;
    println!(
        "  opened again         {cpu:.3} CPU s, {wall:.3} s, resident memory of the whole store {:.2} B for each chunk",
        resident / count as f64
    );
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("what the kernel tells");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<f64>().ok())
        .expect("a number")
        * 1024.0
}

/// The same with sled: a key of 32 bytes leads to a location of 28.
fn sled() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = sled::Config::new().path(dir.path()).cache_capacity(1 << 30);
    let db = config.open().expect("a database");
    println!("{SLED_CHUNKS} chunks in sled 0.34");
    let keys: Vec<_> = (0..SLED_CHUNKS).map(synthetic::chunk).collect();
    let (_, cpu, _) = timed(|| {
        for key in &keys {
            db.insert(key.id, &[7; 28]).expect("an insert");
        }
        db.flush().expect("a flush");
    });
    println!(
        "  inserted             {:.3} M per CPU s",
        SLED_CHUNKS as f64 / cpu / 1e6
    );
    let (found, cpu, _) = timed(|| {
        let find = |n: &u64| {
            let at = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % SLED_CHUNKS;
            black_box(db.get(synthetic::chunk(at).id))
                .expect("an answer")
                .is_some()
        };
        (0..SLED_CHUNKS).filter(find).count() as u64
    });
    assert_eq!(found, SLED_CHUNKS);
    println!(
        "  hits                 {:.3} M per CPU s",
        SLED_CHUNKS as f64 / cpu / 1e6
    );
    let disk = db.size_on_disk().expect("a size");
    println!(
        "  size                 {:.1} B of disk for each chunk",
        disk as f64 / SLED_CHUNKS as f64
    );
}
