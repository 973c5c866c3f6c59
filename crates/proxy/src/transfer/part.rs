//! Parts of a stored disk in any order, for readers that jump about in it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use stillwater_chunking::{Step, TreeReader};
use stillwater_format::node::{Leaf, tree_id};
use stillwater_types::{ChunkId, Extent, TreeId};
use tokio::sync::Semaphore;

use super::fetch::{Batch, Placed, Stored};
use super::progress::Progress;
use crate::error::{Error, Result};

/// Nodes that are kept: those above 16 GiB of a disk, about.
const NODES_BYTES: u64 = 16 << 20;
/// Plain chunks that are kept.
const CHUNKS_BYTES: u64 = 32 << 20;
/// What an entry of a cache costs beside its bytes.
const ENTRY_BYTES: u64 = 128;
/// How far a read that goes on where an earlier one ended is stretched.
const AHEAD_BYTES: u64 = 1 << 20;
/// Ends of earlier reads that are remembered: one for each place that a client reads on from.
const ENDS: usize = 16;

/// Reads parts of one stored disk; every byte is proved against its chunk's id.
///
/// Holds at most the two caches, and `fetches_in_flight` parts of `fetch_bytes` on their way, three times
/// each: stored, opened, and as they are handed out.
pub struct PartReader {
    stored: Arc<Stored>,
    nodes: Cache<TreeId, Bytes, Weight>,
    chunks: Cache<ChunkId, Bytes, Weight>,
    room: Semaphore,
    ends: Mutex<VecDeque<u64>>,
}

/// An entry weighs what it takes.
#[derive(Clone)]
struct Weight;

impl<Id> Weighter<Id, Bytes> for Weight {
    fn weight(&self, _: &Id, bytes: &Bytes) -> u64 {
        bytes.len() as u64 + ENTRY_BYTES
    }
}

impl PartReader {
    /// Nothing is read yet.
    pub fn new(stored: Arc<Stored>) -> Self {
        let cache =
            |bytes: u64, typical: u64| (usize::try_from(bytes / typical).unwrap_or(1), bytes);
        let (nodes, node_bytes) = cache(NODES_BYTES, 8 << 10);
        let (chunks, chunk_bytes) = cache(CHUNKS_BYTES, 32 << 10);
        Self {
            nodes: Cache::with_weighter(nodes, node_bytes, Weight),
            chunks: Cache::with_weighter(chunks, chunk_bytes, Weight),
            room: Semaphore::new(stored.limits.fetches_in_flight),
            ends: Mutex::default(),
            stored,
        }
    }

    /// The most to ask [`PartReader::read`] for.
    pub fn part_bytes(&self) -> u64 {
        self.stored.limits.fetch_bytes as u64
    }

    /// The bytes of a range that are not holes, with their offsets, in order and within the range.
    ///
    /// # Errors
    /// A range beyond the disk, and the first thing that is missing or not what it should be.
    pub async fn read(&self, range: Extent) -> Result<Vec<(u64, Bytes)>> {
        let _permit = self.room.acquire().await.map_err(|_| Error::Stopped)?;
        let wanted = self.stretched(range);
        let leaves = self.leaves(wanted).await?;
        let plain = self.plain(&leaves).await?;
        Ok(plain
            .into_iter()
            .filter_map(|(offset, bytes)| clip(offset, &bytes, range))
            .collect())
    }

    /// Where a range has bytes that are not holes: in order, within the range, neighbours as one.
    ///
    /// # Errors
    /// As [`PartReader::read`].
    pub async fn areas(&self, range: Extent) -> Result<Vec<Extent>> {
        let _permit = self.room.acquire().await.map_err(|_| Error::Stopped)?;
        let mut areas: Vec<Extent> = Vec::new();
        for leaf in self.leaves(range).await? {
            let start = leaf.offset.max(range.start);
            let end = (leaf.offset + u64::from(leaf.length)).min(range.end());
            match areas.last_mut() {
                Some(last) if last.end() == start => last.length += end - start,
                _ => areas.push(Extent::new(start, end.saturating_sub(start))),
            }
        }
        Ok(areas)
    }

    /// Brings the tree's nodes into their cache, from the front of the disk, until it is nearly full: a read here or
    /// there then asks the repository for its chunks alone.
    ///
    /// # Errors
    /// As [`PartReader::read`]; a read that needs the node will meet it again.
    pub async fn warm(&self) -> Result<()> {
        let mut reader = TreeReader::whole(&self.stored.root)?;
        while self.nodes.weight() < NODES_BYTES / 4 * 3 {
            match reader.step()? {
                Step::Nodes(ids) => {
                    for node in self.cached_nodes(&ids).await? {
                        reader.supply(&node)?;
                    }
                }
                Step::Leaf { .. } => {}
                Step::Done => return Ok(()),
            }
        }
        Ok(())
    }

    /// A lonely reader that goes on where it was gets more into the cache: what it asks for next is there then. Where
    /// several ask at a time, they do that for each other.
    fn stretched(&self, range: Extent) -> Extent {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = ends.contains(&range.start);
        if ends.len() == ENDS {
            ends.pop_front();
        }
        ends.push_back(range.end());
        let alone = self.room.available_permits() + 1 == self.stored.limits.fetches_in_flight;
        let length = match goes_on && alone {
            true => range.length.max(AHEAD_BYTES),
            false => range.length,
        };
        let left = self.stored.root.length.saturating_sub(range.start);
        Extent::new(range.start, length.min(left).max(range.length))
    }

    /// The chunks that a range touches.
    pub(super) async fn leaves(&self, range: Extent) -> Result<Vec<Placed>> {
        let mut reader = TreeReader::new(&self.stored.root, range)?;
        let mut leaves = Vec::new();
        loop {
            match reader.step()? {
                Step::Nodes(ids) => {
                    for node in self.cached_nodes(&ids).await? {
                        reader.supply(&node)?;
                    }
                }
                Step::Leaf {
                    offset,
                    leaf: Leaf::Chunk { length, id },
                } => leaves.push(Placed { offset, length, id }),
                Step::Leaf { .. } => {}
                Step::Done => return Ok(leaves),
            }
        }
    }

    async fn cached_nodes(&self, ids: &[TreeId]) -> Result<Vec<Bytes>> {
        let known: Vec<Option<Bytes>> = ids.iter().map(|id| self.nodes.get(id)).collect();
        let lacking: Vec<TreeId> = ids
            .iter()
            .zip(&known)
            .filter_map(|(id, known)| known.is_none().then_some(*id))
            .collect();
        let mut read = match lacking.is_empty() {
            true => Vec::new(),
            false => self.stored.nodes(&lacking).await?,
        }
        .into_iter();
        let mut nodes = Vec::with_capacity(ids.len());
        for (id, known) in ids.iter().zip(known) {
            let node = match known {
                Some(node) => node,
                None => {
                    let node = read.next().ok_or(Error::WrongAnswer("a node is missing"))?;
                    // The walk proves it; a wrong one ends this read, and must not be kept.
                    if tree_id(&node) == *id {
                        self.nodes.insert(*id, node.clone());
                    }
                    node
                }
            };
            nodes.push(node);
        }
        Ok(nodes)
    }

    /// The chunks' bytes with their offsets, in order.
    pub(super) async fn plain(&self, leaves: &[Placed]) -> Result<Vec<(u64, Bytes)>> {
        let known: Vec<Option<Bytes>> = leaves
            .iter()
            .map(|leaf| self.chunks.get(&leaf.id))
            .collect();
        let mut lacking = Batch::default();
        for (leaf, known) in leaves.iter().zip(&known) {
            if known.is_none() {
                lacking.push(*leaf);
            }
        }
        let progress = Progress::new(self.stored.root.length);
        let mut read = self.stored.fetch(lacking, &progress).await?.into_iter();
        let mut plain = Vec::with_capacity(leaves.len());
        for (leaf, known) in leaves.iter().zip(known) {
            let bytes = match known {
                Some(bytes) => bytes,
                None => {
                    let (_, bytes) = read
                        .next()
                        .ok_or(Error::WrongAnswer("a chunk is missing"))?;
                    self.chunks.insert(leaf.id, bytes.clone());
                    bytes
                }
            };
            plain.push((leaf.offset, bytes));
        }
        Ok(plain)
    }
}

/// The part of a chunk at `offset` that lies in the range.
fn clip(offset: u64, bytes: &Bytes, range: Extent) -> Option<(u64, Bytes)> {
    let start = offset.max(range.start);
    let end = (offset + bytes.len() as u64).min(range.end());
    if start >= end {
        return None;
    }
    let from = usize::try_from(start - offset).ok()?;
    let to = usize::try_from(end - offset).ok()?;
    Some((start, bytes.slice(from..to)))
}
