//! Which cutter finds what, on the disks that `make bench` protects: a server, the same a day later, and a sibling.
//!
//! For each cutter the server's chunks are counted, deduplicated and compressed; then what of the two other disks
//! is new to them. `make cutters`, or with the disks of `make bench`: `make cutters IMAGES=server,day2,clone`.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use stillwater_chunking::{Compressor, Cutter, CutterParams, DiskCutter, Item};
use stillwater_tests::workspace;
use stillwater_types::ChunkId;

const SEED: u64 = 42;
const KEY: [u8; 32] = [9; 32];
const PIECE: usize = 1 << 20;
/// The disks of the demo.
const SMALL: &str = "debian,debianday2,sibling";
/// What a record has besides its bytes, and its entry in the index (docs/format.md).
const ENTRY: u64 = 100 + 47;

/// What one disk added to the ones before it.
#[derive(Debug, Default)]
struct Added {
    chunks: u64,
    unique: u64,
    plain: u64,
    stored: u64,
    cut_seconds: f64,
    compress_seconds: f64,
}

fn main() {
    let names = std::env::var("IMAGES").unwrap_or_else(|_| SMALL.to_owned());
    println!("disks: {names}\n");
    println!(
        "| cutter | chunks | cut and identify, CPU s | compress, CPU s | stored MiB | day 2: new MiB, stored | sibling: new MiB, stored |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for params in cutters() {
        let mut known = HashSet::new();
        let added: Vec<Added> = names
            .split(',')
            .map(|name| add(&params, name, &mut known))
            .collect();
        let [first, others @ ..] = added.as_slice() else {
            return;
        };
        print!(
            "| {params} | {} | {:.1} | {:.1} | {} |",
            first.chunks,
            first.cut_seconds,
            first.compress_seconds,
            stored(first)
        );
        for other in others {
            print!(" {}, {} |", other.plain >> 20, stored(other));
        }
        println!();
    }
}

/// Both cutters, from 16 to 128 KiB on average.
fn cutters() -> Vec<CutterParams> {
    let sizes = [16 << 10, 32 << 10, 64 << 10, 128 << 10];
    let block = |average: usize| CutterParams::Block {
        min: average / 2,
        average,
        max: average * 4,
    };
    let fastcdc = |average: usize| CutterParams::FastCdc {
        min: average / 2,
        average,
        max: average * 4,
    };
    sizes
        .map(block)
        .into_iter()
        .chain(sizes.map(fastcdc))
        .collect()
}

/// Mebibytes with what each record costs besides.
fn stored(added: &Added) -> u64 {
    (added.stored + added.unique * ENTRY) >> 20
}

fn add(params: &CutterParams, name: &str, known: &mut HashSet<ChunkId>) -> Added {
    let path = workspace::lab_file(&format!("images/{name}-root.raw"));
    let path = path.unwrap_or_else(|error| panic!("{error:#}"));
    let cutter = Cutter::new(*params, SEED).expect("sound parameters");
    let length = path.metadata().expect("a file").len();
    let mut disk = DiskCutter::new(cutter, &KEY, length);
    let mut compressor = Compressor::new().expect("memory for zstd");
    let mut added = Added::default();
    for (offset, piece) in pieces(&path) {
        let begin = cpu_seconds();
        disk.push_data(offset, piece).expect("in order");
        added.cut_seconds += cpu_seconds() - begin;
        drain(&mut disk, known, &mut compressor, &mut added);
    }
    disk.finish().expect("all of it came");
    drain(&mut disk, known, &mut compressor, &mut added);
    added
}

fn drain(
    disk: &mut DiskCutter,
    known: &mut HashSet<ChunkId>,
    compressor: &mut Compressor,
    added: &mut Added,
) {
    loop {
        let begin = cpu_seconds();
        let item = disk.next_item();
        added.cut_seconds += cpu_seconds() - begin;
        let Some(item) = item else { return };
        let Item::Chunk { bytes, id } = item else {
            continue;
        };
        added.chunks += 1;
        if known.insert(id) {
            let begin = cpu_seconds();
            let compressed = compressor.compress(&bytes).expect("room");
            added.compress_seconds += cpu_seconds() - begin;
            added.unique += 1;
            added.plain += bytes.len() as u64;
            added.stored += compressed.bytes.len() as u64;
        }
    }
}

fn pieces(path: &Path) -> impl Iterator<Item = (u64, Bytes)> {
    let mut file = File::open(path).expect("a readable file");
    let mut offset = 0;
    std::iter::from_fn(move || {
        let mut piece = Vec::with_capacity(PIECE);
        let limit = PIECE as u64;
        let read = Read::by_ref(&mut file).take(limit).read_to_end(&mut piece);
        let read = read.expect("a readable file") as u64;
        let at = offset;
        offset += read;
        (read > 0).then(|| (at, Bytes::from(piece)))
    })
}

fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a benchmark runs for hours at most"
    )]
    let seconds = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9;
    seconds
}
