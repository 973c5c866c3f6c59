//! Small disks, guests that write to them and a place for what is stored of them.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use proptest::prelude::*;
use stillwater_format::node::{DiskRoot, Entries, Leaf, Node, tree_id};
use stillwater_types::{ChunkId, Extent, ExtentSet, TreeId};

use crate::{
    BLOCK_LEN, Cutter, CutterParams, DiskCutter, FinishedNode, Item, Step, Top, TreeBuilder,
    TreeReader,
};

pub(crate) const KEY: [u8; 32] = [9; 32];
pub(crate) const SEED: u64 = 42;

/// Short chunks, so that small disks have many leaves.
pub(crate) const PARAMS: CutterParams = CutterParams::Block {
    min: 4096,
    average: 8192,
    max: 16_384,
};

pub(crate) const BLOCK: u64 = BLOCK_LEN as u64;

/// What a repository holds.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) nodes: HashMap<TreeId, Vec<u8>>,
    pub(crate) chunks: HashMap<ChunkId, Bytes>,
}

impl Store {
    pub(crate) fn keep(&mut self, node: FinishedNode) {
        assert_eq!(tree_id(&node.bytes), node.id);
        self.nodes.insert(node.id, node.bytes);
    }

    /// Reads every leaf of a disk.
    pub(crate) fn leaves(&self, root: &DiskRoot) -> Vec<Leaf> {
        let mut reader = TreeReader::whole(root).unwrap();
        let mut leaves = Vec::new();
        loop {
            match reader.step().unwrap() {
                Step::Nodes(ids) => ids.iter().for_each(|id| {
                    reader.supply(&self.nodes[id]).unwrap();
                }),
                Step::Leaf { leaf, .. } => leaves.push(leaf),
                Step::Done => return leaves,
            }
        }
    }

    /// Reads every byte of a disk.
    pub(crate) fn content(&self, root: &DiskRoot) -> Vec<u8> {
        let mut bytes = Vec::new();
        for leaf in self.leaves(root) {
            match leaf {
                Leaf::Hole { length } => bytes.resize(bytes.len() + length as usize, 0),
                Leaf::Chunk { id, length } => {
                    let chunk = &self.chunks[&id];
                    assert_eq!(chunk.len(), length as usize);
                    bytes.extend_from_slice(chunk);
                }
            }
        }
        bytes
    }

    pub(crate) fn reachable(&self, root: &DiskRoot) -> HashSet<TreeId> {
        let mut found = HashSet::new();
        let mut open = vec![root.top];
        while let Some(id) = open.pop() {
            if found.insert(id)
                && let Entries::Branches(branches) =
                    Node::decode(&self.nodes[&id]).unwrap().entries()
            {
                open.extend(branches.iter().map(|branch| branch.id));
            }
        }
        found
    }
}

pub(crate) fn cutter() -> Cutter {
    Cutter::new(PARAMS, SEED).unwrap()
}

pub(crate) fn root(top: Top) -> DiskRoot {
    DiskRoot {
        length: top.span,
        cutter: PARAMS.to_string(),
        top: top.id,
        level: top.level,
    }
}

/// What a full reading stores.
pub(crate) fn full(store: &mut Store, disk: &[u8]) -> DiskRoot {
    let mut cutter = DiskCutter::new(cutter(), &KEY, disk.len() as u64);
    cutter.push_data(0, Bytes::copy_from_slice(disk)).unwrap();
    cutter.finish().unwrap();
    let mut leaves = Vec::new();
    while let Some(item) = cutter.next_item() {
        leaves.push(match item {
            Item::Hole { length } => Leaf::Hole { length },
            Item::Chunk { bytes, id } => {
                let length = bytes.len() as u32;
                store.chunks.insert(id, bytes);
                Leaf::Chunk { length, id }
            }
        });
    }
    build(store, &leaves)
}

/// The tree of some leaves, as a builder makes it.
pub(crate) fn build(store: &mut Store, leaves: &[Leaf]) -> DiskRoot {
    let mut tree = TreeBuilder::new();
    leaves
        .iter()
        .for_each(|leaf| tree.push(*leaf, &mut |node| store.keep(node)).unwrap());
    root(tree.finish(&mut |node| store.keep(node)).unwrap())
}

/// One thing that a guest does to its disk.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Noise over some bytes.
    Write { at: u64, length: u64 },
    /// Zeros over some bytes.
    Trim { at: u64, length: u64 },
    /// The same bytes again, which a map tells all the same.
    Rewrite { at: u64, length: u64 },
    /// More bytes at the end.
    Grow { length: u64 },
}

/// A disk that a guest writes to, with an honest map of it.
pub(crate) struct Guest {
    pub(crate) disk: Vec<u8>,
    pub(crate) changed: Vec<Extent>,
    seed: u64,
}

impl Guest {
    pub(crate) fn new(seed: u64, length: u64) -> Self {
        let mut guest = Self {
            disk: vec![0; length as usize],
            changed: Vec::new(),
            seed,
        };
        // Data with holes of many sizes between.
        let mut at = 0;
        while at < length {
            let data = guest.draw(80) * BLOCK;
            guest.act(&Act::Write { at, length: data });
            at += data + guest.draw(12) * BLOCK;
        }
        guest.changed.clear();
        guest
    }

    pub(crate) fn draw(&mut self, below: u64) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below.max(1)
    }

    pub(crate) fn act(&mut self, act: &Act) {
        let (at, length) = match *act {
            Act::Write { at, length } | Act::Trim { at, length } | Act::Rewrite { at, length } => {
                (at, length)
            }
            Act::Grow { length } => {
                self.disk.resize(self.disk.len() + length as usize, 0);
                return;
            }
        };
        let all = self.disk.len() as u64;
        let start = at.min(all);
        let end = (start + length).min(all);
        let salt = self.draw(u64::MAX);
        let range = &mut self.disk[start as usize..end as usize];
        match act {
            Act::Write { .. } => {
                let mut noise = blake3::Hasher::new();
                noise.update(&salt.to_le_bytes()).finalize_xof().fill(range);
            }
            Act::Trim { .. } => range.fill(0),
            Act::Rewrite { .. } | Act::Grow { .. } => {}
        }
        self.changed.push(Extent::new(start, end - start));
    }

    /// The honest map, made sloppy: areas that are wider than need be and overlap.
    pub(crate) fn map(&mut self, sloppy: u64) -> ExtentSet {
        let length = self.disk.len() as u64;
        let honest = std::mem::take(&mut self.changed);
        let mut areas = honest.clone();
        for area in honest.into_iter().filter(|_| sloppy > 0) {
            let start = area.start.saturating_sub(self.draw(sloppy));
            areas.push(Extent::new(start, area.length + self.draw(sloppy)));
            areas.push(Extent::new(self.draw(length), self.draw(sloppy)));
        }
        ExtentSet::collect(areas, length)
    }
}

pub(crate) fn acts(length: u64) -> impl Strategy<Value = Vec<Act>> {
    let at = move || {
        prop_oneof![
            0..length,
            (0..length / BLOCK).prop_map(|n| n * BLOCK),
            Just(0),
            (1..40_000u64).prop_map(move |back| length.saturating_sub(back)),
        ]
    };
    let len = || {
        prop_oneof![
            4 => 1..20_000u64,
            4 => (1..12u64).prop_map(|n| n * BLOCK),
            1 => (50..400u64).prop_map(|n| n * BLOCK),
        ]
    };
    let act = prop_oneof![
        4 => (at(), len()).prop_map(|(at, length)| Act::Write { at, length }),
        4 => (at(), len()).prop_map(|(at, length)| Act::Trim { at, length }),
        1 => (at(), len()).prop_map(|(at, length)| Act::Rewrite { at, length }),
        1 => len().prop_map(|length| Act::Grow { length }),
    ];
    prop::collection::vec(act, 0..10)
}

/// Lengths of disks: of nothing, within a block, and of up to some thousand leaves.
pub(crate) fn lengths() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => Just(0),
        1 => 1..5_000u64,
        2 => 0..300_000u64,
        6 => (300..1500u64).prop_map(|n| n * BLOCK),
        1 => 1_000_000..6_000_000u64,
    ]
}

pub(crate) fn any_disk() -> impl Strategy<Value = (u64, u64, Vec<Act>)> {
    (any::<u64>(), lengths())
        .prop_flat_map(|(seed, length)| (Just(seed), Just(length), acts(length.max(BLOCK))))
}

/// A disk of leaves only: a reader makes up the bytes of its chunks.
pub(crate) fn synthetic(count: u64) -> Vec<u8> {
    let mut disk = vec![0; (count * BLOCK) as usize];
    for (n, block) in disk.chunks_mut(BLOCK_LEN).enumerate() {
        // Now and then a run of zeros that is a hole.
        if n % 97 > 5 {
            block[..8].copy_from_slice(&(n as u64 + 1).to_le_bytes());
        }
    }
    disk
}
