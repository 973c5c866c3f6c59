//! Second stage of a backup: zero test, cut, identify, tree. Pure work on a thread of its own.

use bytes::Bytes;
use stillwater_chunking::{DiskCutter, FinishedNode, Item, Top, TreeBuilder};
use stillwater_format::node::Leaf;
use stillwater_types::{ChunkId, TreeId};
use tokio::sync::mpsc;

use super::read::Piece;
use crate::error::{Error, Result};

/// What the disk consists of, in order; a node comes when its last leaf has come.
pub(super) enum Found {
    /// Zeros.
    Hole {
        /// Count of zeros.
        length: u64,
    },
    /// Bytes.
    Chunk(Chunk),
    /// Bytes and zeros that the base has, unread.
    Shared {
        /// Count of bytes.
        length: u64,
    },
    /// A node of the tree.
    Node(Node),
}

/// Bytes of the disk.
#[derive(Clone)]
pub(super) struct Chunk {
    pub offset: u64,
    pub bytes: Bytes,
    pub id: ChunkId,
}

/// A node of the disk's tree.
#[derive(Clone)]
pub(super) struct Node {
    pub id: TreeId,
    pub bytes: Bytes,
}

/// Cuts a disk of `length` bytes; returns the tree's top when the reader said that it read all.
pub(super) fn cut(
    cutter: DiskCutter,
    length: u64,
    pieces: &mut mpsc::Receiver<Piece>,
    out: &mpsc::Sender<Found>,
) -> Result<Top> {
    let mut stage = Cut {
        cutter,
        tree: TreeBuilder::new(),
        at: 0,
        out: out.clone(),
    };
    let mut read = 0;
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Data { offset, bytes } => {
                let end = offset.saturating_add(bytes.len() as u64);
                stage.cutter.push_hole(read, offset.saturating_sub(read))?;
                stage.cutter.push_data(offset, bytes)?;
                read = end;
                stage.hand_on()?;
            }
            Piece::End => {
                stage.cutter.push_hole(read, length.saturating_sub(read))?;
                stage.cutter.finish()?;
                stage.hand_on()?;
                return stage.finish();
            }
        }
    }
    Err(Error::Stopped)
}

struct Cut {
    cutter: DiskCutter,
    tree: TreeBuilder,
    /// Where the next item begins.
    at: u64,
    out: mpsc::Sender<Found>,
}

impl Cut {
    fn hand_on(&mut self) -> Result<()> {
        while let Some(item) = self.cutter.next_item() {
            let (leaf, found) = self.place(item)?;
            self.at = self.at.saturating_add(leaf.span());
            self.send(found)?;
            let mut nodes = Vec::new();
            self.tree.push(leaf, &mut |node| nodes.push(node))?;
            nodes
                .into_iter()
                .try_for_each(|node| self.send(found_node(node)))?;
        }
        Ok(())
    }

    fn place(&self, item: Item) -> Result<(Leaf, Found)> {
        Ok(match item {
            Item::Hole { length } => (Leaf::Hole { length }, Found::Hole { length }),
            Item::Chunk { bytes, id } => {
                let length = u32::try_from(bytes.len())
                    .map_err(|_| Error::Order("the cutter makes chunks that are too long"))?;
                let chunk = Chunk {
                    offset: self.at,
                    bytes,
                    id,
                };
                (Leaf::Chunk { length, id }, Found::Chunk(chunk))
            }
        })
    }

    fn finish(self) -> Result<Top> {
        let Self { tree, out, .. } = self;
        let mut nodes = Vec::new();
        let top = tree.finish(&mut |node| nodes.push(node))?;
        for node in nodes {
            out.blocking_send(found_node(node))
                .map_err(|_| Error::Stopped)?;
        }
        Ok(top)
    }

    fn send(&self, found: Found) -> Result<()> {
        self.out.blocking_send(found).map_err(|_| Error::Stopped)
    }
}

pub(super) fn found_node(node: FinishedNode) -> Found {
    Found::Node(Node {
        id: node.id,
        bytes: node.bytes.into(),
    })
}
