//! The tree of a large disk: written, compared, spliced. A rate counts leaves of 32 KiB.

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput};
use stillwater_chunking::{DiffStep, FinishedNode, PlanStep, SplicePlan, TreeBuilder, TreeDiff};
use stillwater_format::node::{DiskRoot, Leaf};
use stillwater_types::{ChunkId, Extent, ExtentSet, TreeId};

use crate::content::cutter;
use crate::cpu::CpuTime;

/// Leaves of a disk of 8 GiB.
const LEAVES: u32 = 262_144;
const LEAF: u32 = 32 << 10;

type Nodes = HashMap<TreeId, Vec<u8>>;

pub fn bench(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("tree");
    group.throughput(Throughput::Elements(u64::from(LEAVES)));
    let leaves = leaves(|_| 0);
    group.bench_function("write", |bench| {
        bench.iter(|| black_box(write(&leaves, &mut |_| {})))
    });

    let mut nodes = Nodes::new();
    let one = keep(&leaves, &mut nodes);
    // One leaf of a hundred is another one.
    let other = keep(&self::leaves(|n| u32::from(n % 100 == 0)), &mut nodes);
    group.bench_function("diff, 1 % changed", |bench| {
        bench.iter(|| black_box(differing(&one, &other, &nodes)));
    });
    let leaf = u64::from(LEAF);
    let hundredths = (0..u64::from(LEAVES)).step_by(100);
    let changed = hundredths.map(|n| Extent::new(n * leaf, leaf));
    let changed = ExtentSet::collect(changed, one.length);
    group.bench_function("plan a splice, 1 % changed", |bench| {
        bench.iter(|| black_box(planned(&one, &changed, &nodes)));
    });
    group.finish();
}

fn leaves(version: impl Fn(u32) -> u32) -> Vec<Leaf> {
    let leaf = |n: u32| {
        let mut id = [0; 32];
        // Spread as ids are: node boundaries follow from them.
        let spread = u64::from(n)
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        id[..8].copy_from_slice(&(spread ^ (spread >> 29)).to_le_bytes());
        id[8..12].copy_from_slice(&version(n).to_le_bytes());
        let id = ChunkId::from_bytes(id);
        Leaf::Chunk { length: LEAF, id }
    };
    (0..LEAVES).map(leaf).collect()
}

fn write(leaves: &[Leaf], done: &mut impl FnMut(FinishedNode)) -> DiskRoot {
    let mut tree = TreeBuilder::new();
    for leaf in leaves {
        tree.push(*leaf, done).expect("leaves in order");
    }
    let top = tree.finish(done).expect("a tree");
    DiskRoot {
        length: top.span,
        cutter: cutter().params().to_string(),
        top: top.id,
        level: top.level,
    }
}

fn keep(leaves: &[Leaf], nodes: &mut Nodes) -> DiskRoot {
    write(leaves, &mut |node| {
        nodes.insert(node.id, node.bytes);
    })
}

fn differing(one: &DiskRoot, other: &DiskRoot, nodes: &Nodes) -> u64 {
    let mut diff = TreeDiff::new(one, other).expect("two disks");
    let mut bytes = 0;
    loop {
        match diff.step().expect("sound nodes") {
            DiffStep::Nodes(ids) => {
                for id in ids {
                    diff.supply(&nodes[&id]).expect("the node asked for");
                }
            }
            DiffStep::Differs(extent) => bytes += extent.length,
            DiffStep::Done => return bytes,
        }
    }
}

fn planned(base: &DiskRoot, changed: &ExtentSet, nodes: &Nodes) -> u64 {
    let mut plan = SplicePlan::new(base, changed, base.length).expect("a base");
    loop {
        match plan.step().expect("sound nodes") {
            PlanStep::Nodes(ids) => {
                for id in ids {
                    plan.supply(&nodes[&id]).expect("the node asked for");
                }
            }
            PlanStep::Done(extents) => return extents.bytes(),
        }
    }
}
