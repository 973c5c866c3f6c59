//! From a root back to bytes: walk the tree, fetch chunks ahead, prove each one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use stillwater_chunking::{Step, TreeReader};
use stillwater_format::node::{DiskRoot, Leaf};
use stillwater_repository_api::{RecordType, SaltedRecord};
use stillwater_rpc::retry;
use stillwater_seal::DatasetKey;
use stillwater_types::{ChunkId, DatasetId, Fault, Reason, TreeId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::limits::Limits;
use super::open::{ChunkOpener, ChunkOpeners};
use super::progress::{Progress, add};
use super::store::RecordStore;
use crate::error::{Error, Result};

/// Takes a disk's bytes in ascending order; what is left out is zeros.
#[async_trait]
pub trait Sink: Send {
    /// Takes bytes at an offset.
    async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<()>;
}

/// A stored disk and how to read it.
pub struct Stored {
    /// The disk.
    pub root: DiskRoot,
    /// Where its records are.
    pub store: Arc<dyn RecordStore>,
    /// The dataset.
    pub dataset: DatasetId,
    /// Its key.
    pub key: DatasetKey,
    /// The bounds.
    pub limits: Limits,
    /// What opens chunks, kept from one batch to the next.
    pub openers: ChunkOpeners,
}

/// A walk along a disk's tree.
#[derive(Default)]
pub(super) struct Walk {
    /// What is to be fetched and was not handed on yet.
    pub(super) batch: Batch,
    /// Where the last leaf ended.
    pub(super) position: u64,
}

/// Chunks that are fetched together.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) chunks: Vec<Placed>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) id: ChunkId,
}

impl Placed {
    /// Where it ends.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.length))
    }
}

impl Stored {
    /// Gives every byte of the disk to `sink`, each proved against its chunk's id.
    ///
    /// # Errors
    /// The first thing that is missing or not what it should be. Nothing is skipped.
    pub async fn run(&self, sink: &mut dyn Sink, progress: &Progress) -> Result<()> {
        let (batch, batches) = mpsc::channel(1);
        tokio::try_join!(
            self.plan(batch, progress),
            self.move_bytes(batches, sink, progress)
        )?;
        Ok(())
    }

    /// Walks the tree and says what to fetch, ahead of the fetching.
    async fn plan(&self, out: mpsc::Sender<Batch>, progress: &Progress) -> Result<()> {
        let mut walk = Walk::default();
        self.walk(&mut walk, &out, progress).await?;
        out.send(walk.batch).await.map_err(|_| Error::Stopped)
    }

    /// Hands on full batches; where it stops, also by a fault, `walk` has the rest.
    pub(super) async fn walk(
        &self,
        walk: &mut Walk,
        out: &mpsc::Sender<Batch>,
        progress: &Progress,
    ) -> Result<()> {
        let mut reader = TreeReader::whole(&self.root)?;
        loop {
            match reader.step()? {
                Step::Nodes(ids) => {
                    for node in self.nodes(&ids).await? {
                        reader.supply(&node)?;
                    }
                }
                Step::Leaf {
                    offset,
                    leaf: Leaf::Hole { length },
                } => {
                    progress.hole(length);
                    walk.position = offset + length;
                }
                Step::Leaf {
                    offset,
                    leaf: Leaf::Chunk { length, id },
                } => {
                    walk.position = offset + u64::from(length);
                    walk.batch.push(Placed { offset, length, id });
                    if walk.batch.is_full(&self.limits) {
                        let full = std::mem::take(&mut walk.batch);
                        out.send(full).await.map_err(|_| Error::Stopped)?;
                    }
                }
                Step::Done => return Ok(()),
            }
        }
    }

    /// Fetches several batches at a time and hands them on in order.
    async fn move_bytes(
        &self,
        batches: mpsc::Receiver<Batch>,
        sink: &mut dyn Sink,
        progress: &Progress,
    ) -> Result<()> {
        let batches = stream::unfold(batches, |mut batches| async {
            batches.recv().await.map(|batch| (batch, batches))
        });
        let fetches = batches.map(|batch| self.fetch(batch, progress));
        let mut plain = std::pin::pin!(fetches.buffered(self.limits.fetches_in_flight));
        while let Some(chunks) = plain.try_next().await? {
            for (offset, bytes) in chunks {
                let length = bytes.len() as u64;
                sink.write(offset, bytes).await?;
                add(&progress.sent, length);
                add(&progress.done, length);
                add(&progress.chunks, 1);
            }
        }
        Ok(())
    }

    /// Reads, opens and proves chunks; gives them with their offsets, in order.
    pub(super) async fn fetch(
        &self,
        batch: Batch,
        progress: &Progress,
    ) -> Result<Vec<(u64, Bytes)>> {
        let mut seen = HashSet::new();
        let ids: Vec<[u8; 32]> = batch
            .chunks
            .iter()
            .map(|c| *c.id.as_bytes())
            .filter(|id| seen.insert(*id))
            .collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let records = self.read(RecordType::Chunk, ids).await?;
        let stored = records
            .iter()
            .map(|record| record.record.stored.len() as u64)
            .sum();
        add(&progress.read, stored);
        let (key, dataset, openers) = (self.key.clone(), self.dataset, self.openers.clone());
        let opening = tokio::task::spawn_blocking(move || {
            openers.with(&key, dataset, |opener| open_batch(opener, &batch, records))
        });
        opening.await.map_err(|_| Error::Panicked)?
    }

    /// Reads nodes, in the order asked. Whoever walks the tree proves them.
    pub(super) async fn nodes(&self, ids: &[TreeId]) -> Result<Vec<Bytes>> {
        let ids = ids.iter().map(|id| *id.as_bytes()).collect();
        let records = self.read(RecordType::Node, ids).await?;
        let stored = records.into_iter().map(|record| record.record.stored);
        Ok(stored.collect())
    }

    /// Reads records, again when that can help; checks that they are those asked for.
    async fn read(&self, kind: RecordType, ids: Vec<[u8; 32]>) -> Result<Vec<SaltedRecord>> {
        let never = CancellationToken::new();
        let read = async || self.read_once(kind, &ids).await;
        let records = retry::repeat(&self.limits.call_backoff, &never, read).await;
        let records = records.map_err(Error::Repository)?;
        let same = records.iter().map(|record| record.record.id).eq(ids);
        let kinds = records
            .iter()
            .all(|record| record.record.record_type == kind);
        if !(same && kinds) {
            return Err(Error::WrongAnswer(
                "the repository answered others than asked for",
            ));
        }
        Ok(records)
    }

    async fn read_once(
        &self,
        kind: RecordType,
        ids: &[[u8; 32]],
    ) -> Result<Vec<SaltedRecord>, Fault> {
        let mut answers = self.store.read(kind, ids.to_vec()).await?;
        let mut records = Vec::with_capacity(ids.len());
        while let Some(answer) = answers.try_next().await? {
            records.extend(answer);
            if records.len() > ids.len() {
                let text = "the repository answered more records than asked for";
                return Err(Fault::new(Reason::NotSupported, text));
            }
        }
        Ok(records)
    }
}

impl Batch {
    pub(super) fn push(&mut self, chunk: Placed) {
        self.bytes += chunk.length as usize;
        self.chunks.push(chunk);
    }

    fn is_full(&self, limits: &Limits) -> bool {
        self.bytes >= limits.fetch_bytes || self.chunks.len() >= limits.queue_items
    }
}

/// Opens a batch's chunks; gives them with their offsets, in order.
fn open_batch(
    opener: &mut ChunkOpener,
    batch: &Batch,
    records: Vec<SaltedRecord>,
) -> Result<Vec<(u64, Bytes)>> {
    let mut plain: HashMap<ChunkId, Bytes> = HashMap::with_capacity(records.len());
    for record in records {
        let (id, bytes) = opener.open(&record)?;
        plain.insert(id, bytes);
    }
    let place = |chunk: &Placed| {
        let bytes = plain
            .get(&chunk.id)
            .filter(|bytes| bytes.len() == chunk.length as usize);
        let problem = "its length is not the one in the tree".to_owned();
        let bytes = bytes.ok_or(Error::WrongChunk {
            id: chunk.id,
            problem,
        })?;
        Ok((chunk.offset, bytes.clone()))
    };
    batch.chunks.iter().map(place).collect()
}
