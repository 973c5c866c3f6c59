//! What every test of the engine needs: a clock, randomness, small disks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stillwater_format::Time;
use stillwater_format::commit::{AdminKey, Dataset};
use stillwater_format::manifest::{Consistency, Disk, Effort, Manifest};
use stillwater_format::node::{Branch, DiskRoot, Leaf, Node, tree_id};
use stillwater_format::pack::{Codec, RecordHeader, RecordId};
use stillwater_types::{ChunkId, ClusterId, DatasetId, NodeId, PointId, RunId, VcenterId, VmId};

use super::memfs::MemFs;
use crate::*;

/// A clock that moves when it is told to.
#[derive(Debug, Default)]
pub struct TestClock(pub AtomicU64);

impl TestClock {
    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(span.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Time {
        Time::from_millis(1_800_000_000_000 + self.0.load(Ordering::SeqCst))
    }
    fn since_boot(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
    fn boot(&self) -> [u8; 16] {
        [1; 16]
    }
}

/// Randomness that is the same every time.
#[derive(Debug, Default)]
pub struct TestRng(AtomicU64);

impl Rng for TestRng {
    fn fill(&self, buffer: &mut [u8]) -> std::io::Result<()> {
        let turn = self.0.fetch_add(1, Ordering::SeqCst);
        blake3::Hasher::new()
            .update(&turn.to_le_bytes())
            .finalize_xof()
            .fill(buffer);
        Ok(())
    }
}

/// Takes the hash of key and message for a signature.
#[derive(Debug, Clone, Copy)]
pub struct TestVerifier;

pub fn signature(key: &AdminKey, message: &[u8]) -> [u8; 64] {
    let mut signature = [0; 64];
    let mut hash = blake3::Hasher::new_keyed(key);
    hash.update(message).finalize_xof().fill(&mut signature);
    signature
}

impl Verifier for TestVerifier {
    fn verify(&self, key: &AdminKey, message: &[u8], given: &[u8; 64]) -> bool {
        signature(key, message) == *given
    }
}

pub const OPTIONS: Options = Options {
    allow_volatile: true,
    reserve_bytes: 0,
    retention: Duration::from_secs(14 * 24 * 3600),
    session_term: Duration::from_secs(300),
    ..Options::DEFAULT
};

pub const IDENTITY: Identity = Identity {
    cluster: ClusterId::from_bytes([0xc1; 16]),
    node: NodeId::from_bytes([0xd2; 16]),
};

/// Clock and randomness, which outlive every crash.
#[derive(Clone, Default)]
pub struct Rig {
    pub clock: Arc<TestClock>,
    pub rng: Arc<TestRng>,
}

impl Rig {
    pub fn env(&self, fs: &MemFs) -> Environment {
        Environment {
            vfs: Arc::new(fs.clone()),
            clock: self.clock.clone(),
            rng: self.rng.clone(),
            catalogue: Box::new(MemoryCatalogue::default()),
            index: self.index(fs),
            verifier: Arc::new(TestVerifier),
        }
    }

    /// An index whose bounds are so small that a few packs bring segments and merges.
    pub fn index(&self, fs: &MemFs) -> Arc<dyn Index> {
        let limits = IndexLimits {
            fresh_records: 16,
            fresh_packs: 2,
            bulk_records: 32,
            fan_in: 2,
        };
        let (vfs, rng) = (Arc::new(fs.clone()), self.rng.clone());
        Arc::new(SegmentIndex::with(vfs, rng, limits, Upkeep::Caller))
    }

    pub fn init(&self, fs: &MemFs) -> Result<(), Error> {
        Store::init(&self.env(fs), &OPTIONS, IDENTITY)
    }

    pub fn open(&self, fs: &MemFs) -> Result<Store, Error> {
        Store::open(self.env(fs), OPTIONS)
    }

    /// A repository with one dataset.
    pub fn fresh(&self) -> (MemFs, Store) {
        let fs = MemFs::new();
        self.init(&fs).unwrap();
        let store = self.open(&fs).unwrap();
        store.create_dataset(dataset()).unwrap();
        (fs, store)
    }
}

pub fn dataset() -> Dataset {
    let id = DatasetId::from_bytes([0xe3; 16]);
    Dataset {
        id,
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

pub const CHUNK_LEN: u32 = 4096;

pub fn chunk_id(seed: u64) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(&seed.to_le_bytes()).as_bytes())
}

/// A chunk that stands for `seed`; `counter` is its place in the pack.
pub fn chunk(seed: u64, counter: u32) -> Sent {
    let mut stored = vec![0; 200];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut stored);
    let header =
        RecordHeader::chunk(chunk_id(seed), Codec::Zstd, 0, counter, CHUNK_LEN, &stored).unwrap();
    Sent { header, stored }
}

pub fn node(node: &Node) -> Sent {
    let stored = node.encode();
    Sent {
        header: RecordHeader::node(&stored).unwrap(),
        stored,
    }
}

/// The tree of a disk that consists of these chunks: a top node over nodes of three leaves.
pub fn tree(seeds: &[u64]) -> (DiskRoot, Vec<Sent>) {
    let leaf = |seed: &u64| Leaf::Chunk {
        length: CHUNK_LEN,
        id: chunk_id(*seed),
    };
    let mut nodes = Vec::new();
    let mut branches = Vec::new();
    for group in seeds.chunks(3) {
        let level0 = Node::leaves(group.iter().map(leaf).collect()).unwrap();
        branches.push(Branch {
            span: level0.span(),
            id: tree_id(&level0.encode()),
        });
        nodes.push(node(&level0));
    }
    let top = Node::branches(1, branches).unwrap();
    nodes.push(node(&top));
    let root = DiskRoot {
        length: top.span(),
        cutter: "test".into(),
        top: tree_id(&top.encode()),
        level: 1,
    };
    (root, nodes)
}

pub fn manifest(point: PointId, run: RunId, roots: Vec<DiskRoot>) -> Manifest {
    let disk = |(key, root): (i32, DiskRoot)| Disk {
        key,
        label: format!("Hard disk {key}"),
        backing: None,
        change_id: None,
        root,
        effort: Effort::default(),
    };
    Manifest {
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
        disks: (1..).zip(roots).map(disk).collect(),
        sealed: b"sealed".to_vec(),
    }
}

/// Sends one pack.
pub fn put(
    store: &Store,
    key: SessionKey,
    salt: [u8; 32],
    records: &[Sent],
) -> Result<PackReceipt, Error> {
    let mut writer = store.begin_pack(key, &salt)?;
    for record in records {
        writer.append(&record.header, &record.stored)?;
    }
    writer.finish()
}

/// Chunks of one pack, with counters as a sealer would give them.
pub fn chunks(seeds: &[u64]) -> Vec<Sent> {
    seeds
        .iter()
        .zip(0..)
        .map(|(seed, counter)| chunk(*seed, counter))
        .collect()
}

pub fn salt(number: u64) -> [u8; 32] {
    *blake3::hash(format!("salt {number}").as_bytes()).as_bytes()
}

/// Reads everything that a point reaches.
#[track_caller]
pub fn check_point(store: &Store, id: PointId, seeds: &[u64]) {
    let bytes = store.manifest(id).unwrap();
    let manifest = Manifest::decode(&bytes).unwrap();
    assert_eq!(manifest.point, id);
    let (root, nodes) = tree(seeds);
    assert_eq!(manifest.disks[0].root, root);
    for sent in nodes.iter().chain(&chunks(seeds)) {
        check_record(store, sent);
    }
}

#[track_caller]
pub fn check_record(store: &Store, sent: &Sent) {
    let read = store.read(dataset().id, sent.id()).unwrap();
    assert_eq!(read.stored, sent.stored);
}
