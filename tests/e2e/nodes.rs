//! Trees as the repository has them: nodes are plain, so anybody who has the files can walk them.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use stillwater_format::node::{Entries, Leaf, Node};
use stillwater_format::pack::{self, RecordKind};
use stillwater_types::TreeId;

const BLOCK: u64 = 4096;

/// Every node of a repository.
pub struct Nodes(HashMap<TreeId, Node>);

/// A node and what it covers of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    pub start: u64,
    pub span: u64,
    pub id: TreeId,
}

impl Nodes {
    /// Reads every pack below a store's directory.
    pub fn read(store: &Path) -> Result<Self> {
        let mut nodes = HashMap::new();
        for fan in fs::read_dir(store.join("packs"))? {
            for pack in fs::read_dir(fan?.path())? {
                let bytes = fs::read(pack?.path())?;
                for (entry, stored) in pack::scan(&bytes) {
                    if entry.kind == RecordKind::Node {
                        let node = Node::decode(stored).context("a node")?;
                        nodes.insert(TreeId::from_bytes(entry.id), node);
                    }
                }
            }
        }
        Ok(Self(nodes))
    }

    /// Every node of a tree, the top first.
    pub fn of(&self, top: TreeId) -> Result<Vec<Placed>> {
        let node = self.0.get(&top).context("the top is in no pack")?;
        let mut found = vec![Placed {
            start: 0,
            span: node.span(),
            id: top,
        }];
        let mut at = 0;
        while let Some(placed) = found.get(at).copied() {
            let node = self.0.get(&placed.id).context("a node is in no pack")?;
            ensure!(node.span() == placed.span, "a node has another span");
            let mut start = placed.start;
            if let Entries::Branches(branches) = node.clone().into_entries() {
                for branch in branches {
                    let (span, id) = (branch.span, branch.id);
                    found.push(Placed { start, span, id });
                    start += span;
                }
            }
            at += 1;
        }
        Ok(found)
    }

    /// How many entries of a node are chunks.
    pub fn chunk_count(&self, node: &Placed) -> usize {
        match self.0.get(&node.id).map(|node| node.clone().into_entries()) {
            Some(Entries::Leaves(leaves)) => {
                let is_chunk = |leaf: &&Leaf| matches!(leaf, Leaf::Chunk { .. });
                leaves.iter().filter(is_chunk).count()
            }
            Some(Entries::Branches(_)) | None => 0,
        }
    }
}

/// Offsets of the blocks in which two files differ.
pub fn touched(one: &Path, other: &Path) -> Result<BTreeSet<u64>> {
    let (a, b) = (File::open(one)?, File::open(other)?);
    let length = a.metadata()?.len();
    ensure!(length == b.metadata()?.len(), "the disk has grown");
    let mut touched = BTreeSet::new();
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for start in (0..length).step_by(1 << 20) {
        let count = (length - start).min(1 << 20) as usize;
        a.read_exact_at(&mut left[..count], start)?;
        b.read_exact_at(&mut right[..count], start)?;
        let blocks = left[..count].chunks(BLOCK as usize);
        let blocks = blocks.zip(right[..count].chunks(BLOCK as usize));
        let differs = blocks.enumerate().filter(|(_, (a, b))| a != b);
        touched.extend(differs.map(|(at, _)| start + at as u64 * BLOCK));
    }
    Ok(touched)
}

/// The nodes below which nothing was touched.
pub fn untouched<'a>(nodes: &'a [Placed], touched: &BTreeSet<u64>) -> Vec<&'a Placed> {
    let is_untouched = |node: &&Placed| {
        // A block that begins before the node may reach into it.
        let first = node.start.saturating_sub(BLOCK - 1);
        touched
            .range(first..node.start + node.span)
            .next()
            .is_none()
    };
    nodes.iter().filter(is_untouched).collect()
}
