//! What a cycle of garbage collection costs: `cargo bench -p stillwater-store --bench collect -- [CHUNKS …]`.
//!
//! For each number of chunks (1 million unless told) it makes a repository in a temporary directory, one
//! point that reaches all of them and as many that nothing reaches, and collects in a fresh process; then
//! again with what the first cycle remembers.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark looks at the clock and at what the kernel tells of it"
)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use stillwater_format::Time;
use stillwater_format::manifest::{Consistency, Disk, Effort, Manifest};
use stillwater_format::node::{Branch, DiskRoot, Leaf, Node, tree_id};
use stillwater_format::pack::RecordHeader;
use stillwater_store::vfs::RealFs;
use stillwater_store::{Index, Options, SegmentIndex, SessionKey, Store, SystemRng};
use stillwater_types::{ChunkId, PointId, RunId, TreeId, VcenterId, VmId};

#[path = "synthetic.rs"]
mod synthetic;

/// About as many chunks of 32 KiB as a pack of 64 MiB has after compression.
const PER_PACK: u64 = 4096;
/// Entries of a node on average.
const PER_NODE: usize = 256;
const CHUNK_LEN: u32 = 32768;

/// Nothing is unusual here.
const OPTIONS: Options = Options {
    sweep_brake_percent: 100,
    ..synthetic::OPTIONS
};

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    match arguments.as_slice() {
        [word, dir, chunks] if word == "collect" => {
            collect(Path::new(dir), chunks.parse().expect("a number"));
        }
        numbers => {
            let mut counts: Vec<u64> = numbers.iter().filter_map(|n| n.parse().ok()).collect();
            if counts.is_empty() {
                counts = vec![1_000_000];
            }
            counts.into_iter().for_each(measure);
        }
    }
}

fn open(dir: &Path) -> Store {
    let vfs = RealFs::open(dir).expect("a directory");
    let index: Arc<dyn Index> = Arc::new(SegmentIndex::new(Arc::new(vfs), Arc::new(SystemRng)));
    Store::open(synthetic::environment(dir, index), OPTIONS).expect("an open repository")
}

/// Makes the repository, and lets another process collect.
fn measure(chunks: u64) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let vfs = RealFs::open(dir).expect("a directory");
    let index = Arc::new(SegmentIndex::new(Arc::new(vfs), Arc::new(SystemRng)));
    synthetic::init(dir, index);
    synthetic::fill(dir, 2 * chunks, PER_PACK);
    let store = open(dir);
    let run = RunId::mint();
    let session = store.open_session(run, synthetic::DATASET, 0);
    let key = session.expect("a session").key;
    let began = Instant::now();
    commit(&store, key, chunks);
    println!("{chunks} live chunks and as many dead ones");
    println!(
        "  the point            {:.2} s",
        began.elapsed().as_secs_f64()
    );
    store.close_session(key).expect("a closed session");
    drop(store);
    let status = Command::new(std::env::current_exe().expect("a path of this program"))
        .args(["collect".as_ref(), dir.as_os_str()])
        .arg(chunks.to_string())
        .status();
    assert!(status.expect("a second process").success());
}

/// Makes a point of the chunks `0..chunks`.
fn commit(store: &Store, key: SessionKey, chunks: u64) {
    let leaf = |number| Leaf::Chunk {
        length: CHUNK_LEN,
        id: ChunkId::from_bytes(synthetic::chunk(number).id),
    };
    let leaves: Vec<_> = (0..chunks).map(leaf).collect();
    let level = leaves
        .chunks(PER_NODE)
        .map(|leaves| Node::leaves(leaves.to_vec()).expect("a node"));
    let mut nodes: Vec<Vec<Node>> = vec![level.collect()];
    while let Some(below) = nodes.last().filter(|below| below.len() > 1) {
        let branches: Vec<_> = below.iter().map(branch).collect();
        let height = nodes.len() as u8;
        let level = branches
            .chunks(PER_NODE)
            .map(|branches| Node::branches(height, branches.to_vec()).expect("a node"));
        nodes.push(level.collect());
    }
    let mut pack = store.begin_pack(key, &[7; 32]).expect("a pack");
    for node in nodes.iter().flatten() {
        let stored = node.encode();
        let header = RecordHeader::node(&stored).expect("a node in its bounds");
        pack.append(&header, &stored).expect("a stored node");
    }
    pack.finish().expect("a durable pack");
    let top = nodes.last().and_then(|level| level.first()).expect("a top");
    let root = DiskRoot {
        length: top.span(),
        cutter: "synthetic".into(),
        top: id(top),
        level: top.level(),
    };
    let point = PointId::mint();
    let bytes = manifest(point, key.run, root).encode().expect("a manifest");
    store.propose_point(key, &bytes).expect("a proposal");
    store.commit_point(key, point).expect("a point");
}

fn id(node: &Node) -> TreeId {
    tree_id(&node.encode())
}

fn branch(node: &Node) -> Branch {
    let (span, id) = (node.span(), id(node));
    Branch { span, id }
}

fn manifest(point: PointId, run: RunId, root: DiskRoot) -> Manifest {
    let disk = Disk {
        key: 2000,
        label: "Hard disk 1".into(),
        backing: None,
        change_id: None,
        root,
        effort: Effort::default(),
    };
    Manifest {
        point,
        dataset: synthetic::DATASET,
        run,
        vm: VmId {
            vcenter: VcenterId::from_bytes([7; 16]),
            moref: "vm-16".into(),
        },
        vm_name: "synthetic".into(),
        vcenter_instance: "vc".into(),
        taken_at: Time::from_millis(5),
        consistency: Consistency::Crash,
        whole: true,
        disks: vec![disk],
        sealed: b"sealed".to_vec(),
    }
}

fn collect(dir: &Path, chunks: u64) {
    let store = open(dir);
    let (before, began) = (resident_bytes("VmRSS:"), Instant::now());
    let collected = store.collect(&()).expect("a cycle");
    let wall = began.elapsed().as_secs_f64();
    let more = (resident_bytes("VmHWM:") - before) / (1 << 20) as f64;
    println!(
        "  a cycle              {wall:.2} s: {:.2} M live chunks a second; at most {more:.1} MiB more memory",
        chunks as f64 / wall / 1e6
    );
    let again = Instant::now();
    let second = store.collect(&()).expect("a second cycle");
    println!(
        "  the next one         {:.2} s, {} nodes read where the first read {}",
        again.elapsed().as_secs_f64(),
        second.read_node_count,
        collected.read_node_count
    );
    println!(
        "  condemned            {} packs, {} MiB; live {} MiB; compacted {} packs",
        collected.condemned.pack_count,
        collected.condemned.bytes >> 20,
        collected.cycle.live_bytes >> 20,
        collected.compacted.pack_count,
    );
}

fn resident_bytes(word: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("what the kernel tells");
    let line = status.lines().find(|line| line.starts_with(word));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<f64>().ok())
        .expect("a number")
        * 1024.0
}
