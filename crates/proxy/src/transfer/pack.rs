//! Last stage of a backup: packs, sent and sent again until they are durable.
//!
//! What a pack holds is only noted: where on the frozen disk each chunk lies. When a pack is lost,
//! its chunks are read from there again, sealed under a fresh salt and sent as another pack.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use stillwater_chunking::identify;
use stillwater_repository_api::{PutPackResponse, Record};
use stillwater_rpc::retry::{self, Backoff};
use stillwater_seal::{DatasetKey, Sealer};
use stillwater_types::{ChunkId, DatasetId, Extent, Fault, Reason};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use super::cut::{Chunk, Node};
use super::find::{New, OnTheWay};
use super::limits::Limits;
use super::progress::{Progress, add};
use super::read::Source;
use super::seal::{Job, Workers};
use super::store::{PackStream, RecordStore};
use crate::error::{Error, Result};

/// How often one pack may arrive damaged. The disk still has what was read, so a bit that flipped in
/// memory on the way costs a second try; a host that damages every pack must not work on.
const DAMAGED_MAX: u32 = 3;

/// What the stage works with.
pub(super) struct Uploader<'a> {
    pub source: &'a Source,
    pub store: &'a dyn RecordStore,
    pub key: &'a DatasetKey,
    pub dataset: DatasetId,
    pub limits: &'a Limits,
    pub progress: &'a Progress,
    pub on_the_way: &'a OnTheWay,
    pub workers: Arc<Workers>,
}

/// What a pack holds, kept until it is durable.
#[derive(Default)]
struct Content {
    chunks: Vec<Noted>,
    nodes: Vec<Node>,
    node_bytes: usize,
    stored_bytes: u64,
}

/// Where a chunk was read.
#[derive(Clone, Copy)]
struct Noted {
    at: Extent,
    id: ChunkId,
}

/// A pack that is being sent; when its stream broke, the fault that broke it.
struct OpenPack {
    number: u64,
    stream: Result<Box<dyn PackStream>, Fault>,
    content: Content,
}

/// A pack that was sent whole and waits to be durable.
struct ClosedPack {
    answer: AbortOnDropHandle<Result<PutPackResponse, Fault>>,
    content: Content,
}

/// Where the next records will go.
struct Minter {
    number: u64,
    sealer: Sealer,
}

/// Records that a worker made, for the pack whose salt they were sealed under.
struct Sealed {
    number: u64,
    records: Vec<Record>,
    noted: Vec<Noted>,
    nodes: Vec<Node>,
}

type Sealing = JoinHandle<Result<Sealed>>;

/// The packs of one transfer.
#[derive(Default)]
struct Packs {
    minter: Option<Minter>,
    begun: u64,
    /// In the order in which they were begun; records come in that order too.
    open: VecDeque<OpenPack>,
    closed: Option<ClosedPack>,
}

impl Uploader<'_> {
    /// Takes jobs until there are no more; returns when all of them is durable.
    pub(super) async fn run(&self, mut jobs: mpsc::Receiver<Vec<New>>) -> Result<()> {
        let mut packs = Packs::default();
        let mut sealing: FuturesOrdered<Sealing> = FuturesOrdered::new();
        let mut more = true;
        while more || !sealing.is_empty() {
            tokio::select! {
                job = jobs.recv(), if more && sealing.len() < self.limits.workers => match job {
                    Some(job) => sealing.push_back(self.start(&mut packs, job)?),
                    None => more = false,
                },
                Some(sealed) = sealing.next(), if !sealing.is_empty() => {
                    let sealed = sealed.map_err(|_| Error::Panicked)??;
                    self.send(&mut packs, sealed).await?;
                }
            }
        }
        while let Some(pack) = packs.open.pop_front() {
            self.close(&mut packs, pack).await?;
        }
        self.settle(&mut packs).await
    }

    /// Gives a job to a worker, with stamps of the pack that is open now.
    fn start(&self, packs: &mut Packs, job: Vec<New>) -> Result<Sealing> {
        let minter = match &mut packs.minter {
            Some(minter) => minter,
            none => none.insert(self.begin(&mut packs.begun, &mut packs.open)?),
        };
        let number = minter.number;
        let (mut work, mut noted, mut nodes) = (Vec::with_capacity(job.len()), vec![], vec![]);
        for item in job {
            match item {
                New::Chunk(chunk) => {
                    noted.push(note(&chunk));
                    work.push(Job::Chunk(chunk, minter.sealer.stamp()?));
                }
                New::Node(node) => {
                    nodes.push(node.clone());
                    work.push(Job::Node(node));
                }
            }
        }
        let workers = Arc::clone(&self.workers);
        Ok(tokio::task::spawn_blocking(move || {
            Ok(Sealed {
                number,
                records: workers.run(work)?,
                noted,
                nodes,
            })
        }))
    }

    fn begin(&self, begun: &mut u64, open: &mut VecDeque<OpenPack>) -> Result<Minter> {
        let sealer = Sealer::new(self.key, self.dataset)?;
        let stream = self.store.begin_pack(*sealer.salt());
        *begun += 1;
        open.push_back(OpenPack {
            number: *begun,
            stream: Ok(stream),
            content: Content::default(),
        });
        Ok(Minter {
            number: *begun,
            sealer,
        })
    }

    /// Sends records with the pack that they were sealed for; the packs before it are complete.
    async fn send(&self, packs: &mut Packs, sealed: Sealed) -> Result<()> {
        while packs
            .open
            .front()
            .is_some_and(|pack| pack.number != sealed.number)
        {
            if let Some(pack) = packs.open.pop_front() {
                self.close(packs, pack).await?;
            }
        }
        let Some(pack) = packs.open.front_mut() else {
            return Err(Error::Stopped);
        };
        let done: u64 = sealed.noted.iter().map(|chunk| chunk.at.length).sum();
        let stored: u64 = sealed
            .records
            .iter()
            .map(|record| record.stored.len() as u64)
            .sum();
        pack.content.add(sealed.noted, sealed.nodes, stored);
        if let Ok(stream) = &mut pack.stream {
            match stream.send(sealed.records).await {
                Ok(()) => add(&self.progress.sent, stored),
                Err(fault) => pack.stream = Err(lost(fault)?),
            }
        }
        let full = pack.stream.is_err() || pack.content.is_full(self.limits);
        // What is sealed already still goes to this pack; what comes next, to another.
        if full
            && packs
                .minter
                .as_ref()
                .is_some_and(|minter| minter.number == sealed.number)
        {
            packs.minter = None;
        }
        add(&self.progress.done, done);
        Ok(())
    }

    /// Ends a pack. It becomes durable while the next one is sent.
    async fn close(&self, packs: &mut Packs, pack: OpenPack) -> Result<()> {
        let OpenPack {
            stream, content, ..
        } = pack;
        self.settle(packs).await?;
        match stream {
            Ok(stream) => {
                let answer = AbortOnDropHandle::new(tokio::spawn(stream.finish()));
                packs.closed = Some(ClosedPack { answer, content });
                Ok(())
            }
            Err(fault) => self.send_again(&content, fault).await,
        }
    }

    /// Waits until the closed pack is durable.
    async fn settle(&self, packs: &mut Packs) -> Result<()> {
        let Some(ClosedPack { answer, content }) = packs.closed.take() else {
            return Ok(());
        };
        match answer.await.map_err(|_| Error::Panicked)? {
            Ok(_) => {
                self.durable(&content);
                Ok(())
            }
            Err(fault) => self.send_again(&content, lost(fault)?).await,
        }
    }

    fn durable(&self, content: &Content) {
        self.on_the_way
            .remove(content.chunks.iter().map(|chunk| chunk.id.as_bytes()));
        self.on_the_way
            .remove(content.nodes.iter().map(|node| node.id.as_bytes()));
    }

    /// Sends what a lost pack held, until it is durable or the tries are used up.
    async fn send_again(&self, content: &Content, mut fault: Fault) -> Result<()> {
        let backoff: Backoff = self.limits.pack_backoff;
        let mut damaged = 0;
        for failures in 1..backoff.attempts {
            damaged += u32::from(fault.reason == Reason::ChunkHashMismatch);
            if damaged >= DAMAGED_MAX {
                break;
            }
            tracing::warn!(reason = %fault.reason, failures, "pack was lost, sending it again");
            // Half of the spread is enough: packs of one transfer come one after the other.
            tokio::time::sleep(backoff.delay(failures, u32::MAX / 2)).await;
            match self.try_again(content).await {
                Ok(_) => {
                    self.durable(content);
                    return Ok(());
                }
                Err(Error::Repository(next)) => fault = lost(next)?,
                Err(other) => return Err(other),
            }
        }
        Err(Error::Repository(fault))
    }

    async fn try_again(&self, content: &Content) -> Result<PutPackResponse> {
        let mut sealer = Sealer::new(self.key, self.dataset)?;
        let mut stream = self.store.begin_pack(*sealer.salt());
        for group in groups(&content.chunks, self.limits.job_bytes as u64) {
            let mut work = Vec::with_capacity(group.len());
            for chunk in self.read_again(group).await? {
                work.push(Job::Chunk(chunk, sealer.stamp()?));
            }
            self.pass(&mut *stream, work).await?;
        }
        for nodes in content.nodes.chunks(self.limits.queue_items.min(16)) {
            self.pass(&mut *stream, nodes.iter().cloned().map(Job::Node).collect())
                .await?;
        }
        stream.finish().await.map_err(Error::Repository)
    }

    async fn pass(&self, stream: &mut dyn PackStream, work: Vec<Job>) -> Result<()> {
        let workers = Arc::clone(&self.workers);
        let sealing = tokio::task::spawn_blocking(move || workers.run(work));
        let records = sealing.await.map_err(|_| Error::Panicked)??;
        let stored = records
            .iter()
            .map(|record| record.stored.len() as u64)
            .sum();
        stream.send(records).await.map_err(Error::Repository)?;
        add(&self.progress.sent, stored);
        Ok(())
    }

    /// Reads chunks that lie one after the other. The disk is frozen, so they are what they were.
    async fn read_again(&self, group: &[Noted]) -> Result<Vec<Chunk>> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return Ok(Vec::new());
        };
        let start = first.at.start;
        let all = Extent::new(start, last.at.end() - start);
        let read = self
            .source
            .reader
            .read(all)
            .await
            .map_err(|source| Error::Read {
                disk: self.source.name.clone(),
                offset: start,
                source: Box::new(source),
            })?;
        add(&self.progress.read, read.len() as u64);
        let id_key = self.key.id_key()?;
        let changed = |offset| Error::Changed {
            disk: self.source.name.clone(),
            offset,
        };
        let mut rest = read;
        let mut chunks = Vec::with_capacity(group.len());
        for noted in group {
            let (offset, length) = (noted.at.start, noted.at.length as usize);
            if rest.len() < length {
                return Err(changed(offset));
            }
            let bytes = rest.split_to(length);
            if identify(id_key.expose(), &bytes) != noted.id {
                return Err(changed(offset));
            }
            chunks.push(Chunk {
                offset,
                bytes,
                id: noted.id,
            });
        }
        Ok(chunks)
    }
}

impl Content {
    fn add(&mut self, chunks: Vec<Noted>, nodes: Vec<Node>, stored_bytes: u64) {
        self.chunks.extend(chunks);
        self.node_bytes += nodes.iter().map(|node| node.bytes.len()).sum::<usize>();
        self.nodes.extend(nodes);
        self.stored_bytes += stored_bytes;
    }

    fn is_full(&self, limits: &Limits) -> bool {
        self.stored_bytes >= limits.pack_bytes
            || self.chunks.len() + self.nodes.len() >= limits.pack_records
            || self.node_bytes >= limits.pack_node_bytes
    }
}

fn note(chunk: &Chunk) -> Noted {
    Noted {
        at: Extent::new(chunk.offset, chunk.bytes.len() as u64),
        id: chunk.id,
    }
}

/// Chunks that lie side by side on the disk, up to `bytes` together.
fn groups(chunks: &[Noted], bytes: u64) -> Vec<&[Noted]> {
    let mut groups = Vec::new();
    let mut rest = chunks;
    while let Some(first) = rest.first() {
        let end = rest
            .windows(2)
            .take_while(|pair| {
                let [a, b] = pair else { return false };
                a.at.end() == b.at.start && b.at.end() - first.at.start <= bytes
            })
            .count()
            + 1;
        let (group, after) = rest.split_at(end);
        groups.push(group);
        rest = after;
    }
    groups
}

/// A fault that another try can cure; any other ends the transfer.
fn lost(fault: Fault) -> Result<Fault> {
    if is_passing(&fault) {
        Ok(fault)
    } else {
        Err(Error::Repository(fault))
    }
}

/// Whether sending the same content once more can help. A full repository is no better in a minute:
/// a person must make room. A record that arrived damaged is made anew from the frozen disk.
fn is_passing(fault: &Fault) -> bool {
    match fault.reason {
        Reason::RepositoryFull => false,
        Reason::ChunkHashMismatch => true,
        _ => retry::worth_repeating(fault.kind()),
    }
}
