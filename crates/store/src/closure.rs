//! Whether everything that a disk's tree reaches is stored.
//!
//! The walk goes down from the top node and checks each node's level and span against its parent.
//! Subtrees that a committed point was found to be whole with are not walked again, so a point costs
//! what changed. After a restart the first point of each disk is walked in full: about one node for
//! 8 MiB of disk.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use stillwater_format::node::{Branch, DiskRoot, Entries, Leaf, Node};
use stillwater_format::pack::RecordId;
use stillwater_types::{DatasetId, TreeId};

use crate::Error;

/// Subtrees that are remembered: at about 100 bytes each, 100 MiB of memory for 8 TiB of disks.
const WHOLE_MAX: usize = 1 << 20;

/// What a parent says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    level: u8,
    span: u64,
}

/// Subtrees that are whole.
#[derive(Debug, Default)]
pub(crate) struct WholeTrees {
    known: HashMap<(DatasetId, TreeId), Shape>,
}

impl WholeTrees {
    /// Remembers what a committed point reaches.
    pub(crate) fn learn(&mut self, walked: Walked) {
        if self.known.len().saturating_add(walked.nodes.len()) > WHOLE_MAX {
            self.known.clear();
        }
        let dataset = walked.dataset;
        self.known.extend(
            walked
                .nodes
                .into_iter()
                .map(|(id, shape)| ((dataset, id), shape)),
        );
    }

    fn shape(&self, dataset: DatasetId, id: TreeId) -> Option<Shape> {
        self.known.get(&(dataset, id)).copied()
    }
}

/// What a walk went through.
#[derive(Debug)]
pub(crate) struct Walked {
    dataset: DatasetId,
    nodes: HashMap<TreeId, Shape>,
    /// Nodes and chunks that were looked at.
    pub(crate) count: u64,
}

/// Where a walk finds nodes and chunks.
pub(crate) trait Source {
    /// The bytes of a node, checked against its id.
    fn node(&self, dataset: DatasetId, id: TreeId) -> Result<Vec<u8>, Error>;
    /// The plain length of a chunk, if it is stored.
    fn chunk(&self, dataset: DatasetId, record: &RecordId) -> Result<Option<u32>, Error>;
}

/// Walks the trees of disks.
///
/// What is whole may be forgotten or learned while it goes on, and nobody waits for it: whatever is
/// taught holds for every session that is open.
pub(crate) fn walk<'a>(
    source: &dyn Source,
    whole: &RwLock<WholeTrees>,
    dataset: DatasetId,
    roots: impl IntoIterator<Item = &'a DiskRoot>,
) -> Result<Walked, Error> {
    let mut walked = Walked {
        dataset,
        nodes: HashMap::new(),
        count: 0,
    };
    for root in roots {
        let shape = Shape {
            level: root.level,
            span: root.length,
        };
        let mut open = vec![(root.top, shape)];
        while let Some((id, shape)) = open.pop() {
            let known = walked
                .nodes
                .get(&id)
                .copied()
                .or_else(|| known_shape(whole, dataset, id));
            match known {
                Some(found) if found == shape => continue,
                Some(_) => return Err(misfit(id)),
                None => {}
            }
            let node = read(source, dataset, id, shape)?;
            // Beyond the bound a node may be walked again, which costs time and nothing else.
            if walked.nodes.len() < WHOLE_MAX {
                walked.nodes.insert(id, shape);
            }
            walked.count += 1;
            match node.into_entries() {
                Entries::Leaves(leaves) => {
                    walked.count += check_leaves(source, dataset, &leaves)?;
                }
                Entries::Branches(branches) => open.extend(below(shape.level, branches)),
            }
        }
    }
    Ok(walked)
}

fn known_shape(whole: &RwLock<WholeTrees>, dataset: DatasetId, id: TreeId) -> Option<Shape> {
    let whole = whole.read().unwrap_or_else(PoisonError::into_inner);
    whole.shape(dataset, id)
}

fn read(source: &dyn Source, dataset: DatasetId, id: TreeId, shape: Shape) -> Result<Node, Error> {
    let bytes = source.node(dataset, id)?;
    let node = Node::decode(&bytes).map_err(|error| Error::refused(error.to_string()))?;
    let found = Shape {
        level: node.level(),
        span: node.span(),
    };
    if found == shape {
        Ok(node)
    } else {
        Err(misfit(id))
    }
}

fn misfit(id: TreeId) -> Error {
    Error::refused(format!(
        "tree node {id} has another level or span than its parent says"
    ))
}

/// A node above level 0 has entries, so its level has one below.
fn below(level: u8, branches: Vec<Branch>) -> impl Iterator<Item = (TreeId, Shape)> {
    let level = level.saturating_sub(1);
    branches
        .into_iter()
        .map(move |Branch { span, id }| (id, Shape { level, span }))
}

fn check_leaves(source: &dyn Source, dataset: DatasetId, leaves: &[Leaf]) -> Result<u64, Error> {
    let mut count = 0;
    for leaf in leaves {
        let Leaf::Chunk { length, id } = leaf else {
            continue;
        };
        let record = RecordId::from(*id);
        match source.chunk(dataset, &record)? {
            Some(stored) if stored == *length => count += 1,
            Some(_) => {
                return Err(Error::refused(format!(
                    "{record} has another length than its leaf"
                )));
            }
            None => return Err(Error::RecordNotFound { record }),
        }
    }
    Ok(count)
}
