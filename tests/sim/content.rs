//! What is backed up: chunks that a number stands for, and disks made of them.

use stillwater_format::Time;
use stillwater_format::commit::Dataset;
use stillwater_format::manifest::{Consistency, Disk, Effort, Manifest};
use stillwater_format::node::{Branch, DiskRoot, Leaf, Node, tree_id};
use stillwater_format::pack::{Codec, RecordHeader, RecordId};
use stillwater_types::{ChunkId, DatasetId, PointId, RunId, VcenterId, VmId};

const CHUNK_LEN: u32 = 4096;

pub fn dataset() -> Dataset {
    Dataset {
        id: DatasetId::from_bytes([0xe3; 16]),
        label: "default".into(),
        wrapped_key: vec![1, 2, 3],
    }
}

/// A record as a proxy would send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub header: RecordHeader,
    pub stored: Vec<u8>,
}

impl Sent {
    pub fn id(&self) -> RecordId {
        RecordId {
            kind: self.header.kind,
            id: self.header.id,
        }
    }
}

fn chunk_id(seed: u64) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(&seed.to_le_bytes()).as_bytes())
}

/// The chunk that `seed` stands for; `counter` is its place in the pack.
pub fn chunk(seed: u64, counter: u32) -> Sent {
    let length = 150 + (seed % 5) * 180;
    let mut stored = vec![0; usize::try_from(length).expect("a length")];
    let mut bytes = blake3::Hasher::new();
    bytes
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut stored);
    let header = RecordHeader::chunk(chunk_id(seed), Codec::Zstd, 0, counter, CHUNK_LEN, &stored)
        .expect("a header");
    Sent { header, stored }
}

/// A disk of these chunks: two levels, and all that it consists of.
pub fn disk(seeds: &[u64]) -> (DiskRoot, Vec<Sent>) {
    let leaf = |seed: &u64| Leaf::Chunk {
        length: CHUNK_LEN,
        id: chunk_id(*seed),
    };
    let counters = 0u32..;
    let mut records: Vec<_> = seeds
        .iter()
        .zip(counters)
        .map(|(s, n)| chunk(*s, n))
        .collect();
    records.sort_by_key(|sent| sent.header.id);
    records.dedup_by_key(|sent| sent.header.id);
    let mut branches = Vec::new();
    for group in seeds.chunks(3) {
        let bottom = Node::leaves(group.iter().map(leaf).collect()).expect("a node");
        branches.push(Branch {
            span: bottom.span(),
            id: tree_id(&bottom.encode()),
        });
        records.push(node(&bottom));
    }
    let top = Node::branches(1, branches).expect("a node");
    records.push(node(&top));
    let root = DiskRoot {
        length: top.span(),
        cutter: "test".into(),
        top: tree_id(&top.encode()),
        level: 1,
    };
    (root, records)
}

fn node(node: &Node) -> Sent {
    let stored = node.encode();
    let header = RecordHeader::node(&stored).expect("a header");
    Sent { header, stored }
}

/// The manifest of a point that has one disk of these chunks.
pub fn manifest(point: PointId, run: RunId, seeds: &[u64]) -> Vec<u8> {
    let disk = Disk {
        key: 2000,
        label: "Hard disk 1".into(),
        backing: None,
        change_id: None,
        root: disk(seeds).0,
        effort: Effort::default(),
    };
    let manifest = Manifest {
        point,
        dataset: dataset().id,
        run,
        vm: VmId {
            vcenter: VcenterId::from_bytes([7; 16]),
            moref: "vm-16".into(),
        },
        vm_name: "mail".into(),
        vcenter_instance: "vc".into(),
        taken_at: Time::from_millis(5),
        consistency: Consistency::Crash,
        whole: true,
        disks: vec![disk],
        sealed: b"sealed".to_vec(),
    };
    manifest.encode().expect("a manifest")
}
