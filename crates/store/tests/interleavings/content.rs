//! Disks of a few chunks, as proxies would send them.

use stillwater_format::Time;
use stillwater_format::commit::Dataset;
use stillwater_format::manifest::{Consistency, Disk, Effort, Manifest};
use stillwater_format::node::{Branch, DiskRoot, Leaf, Node, tree_id};
use stillwater_format::pack::{Codec, RecordHeader, RecordId};
use stillwater_types::{ChunkId, DatasetId, PointId, RunId, VcenterId, VmId};

const CHUNK_LEN: u32 = 4096;
/// Chunks below one node: disks that begin alike share nodes.
const GROUP: usize = 2;

pub fn dataset() -> Dataset {
    Dataset {
        id: DatasetId::from_bytes([0xe3; 16]),
        label: "default".into(),
        wrapped_key: vec![1, 2, 3],
    }
}

/// A record, ready to be sent.
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

    fn node(node: &Node) -> Self {
        let stored = node.encode();
        let header = RecordHeader::node(&stored).expect("a header");
        Self { header, stored }
    }

    fn chunk(seed: u8, counter: u32) -> Self {
        let stored = blake3::hash(&[seed, 1]).as_bytes().repeat(3);
        let header = RecordHeader::chunk(id(seed), Codec::Zstd, 0, counter, CHUNK_LEN, &stored);
        let header = header.expect("a header");
        Self { header, stored }
    }
}

fn id(seed: u8) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(&[seed]).as_bytes())
}

/// A disk of chunks that numbers stand for, and all that it consists of.
pub fn disk(seeds: &[u8]) -> (DiskRoot, Vec<Sent>) {
    let leaf = |seed: &u8| Leaf::Chunk {
        length: CHUNK_LEN,
        id: id(*seed),
    };
    let counted = seeds.iter().zip(0..);
    let mut records: Vec<_> = counted.map(|(seed, n)| Sent::chunk(*seed, n)).collect();
    records.sort_by_key(|sent| (sent.header.id, sent.header.counter));
    records.dedup_by_key(|sent| sent.header.id);
    let mut branches = Vec::new();
    for group in seeds.chunks(GROUP) {
        let below = Node::leaves(group.iter().map(leaf).collect()).expect("a node");
        let (span, id) = (below.span(), tree_id(&below.encode()));
        branches.push(Branch { span, id });
        records.push(Sent::node(&below));
    }
    let top = Node::branches(1, branches).expect("a node");
    records.push(Sent::node(&top));
    let root = DiskRoot {
        length: top.span(),
        cutter: "test".into(),
        top: tree_id(&top.encode()),
        level: 1,
    };
    (root, records)
}

/// The manifest of a point with one such disk.
pub fn manifest(point: PointId, run: RunId, root: DiskRoot) -> Vec<u8> {
    let disk = Disk {
        key: 2000,
        label: "Hard disk 1".into(),
        backing: None,
        change_id: None,
        root,
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
