//! A disk that has content becomes the stored one, by writing what differs and nothing else.
//!
//! Nothing is written that was not read, compared and proved first, so it does not matter in which
//! order it is done, or whether some of it was done before: a rewrite that was broken off is begun
//! again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use stillwater_chunking::{Rollback, RollbackStep, differing, identify, is_zero};
use stillwater_disk::{DiskRewriter, REWRITE_ALIGN};
use stillwater_format::node::DiskRoot;
use stillwater_proxy_api::TransferFindings;
use stillwater_seal::IdKey;
use stillwater_types::{Extent, ExtentSet};

use super::fetch::{Placed, Stored};
use super::part::PartReader;
use super::progress::{Progress, add};
use crate::error::{Error, Result};

/// How much of the disk is looked at at a time, and the chunks at both ends besides.
const WINDOW_BYTES: u64 = 1 << 20;

/// A disk that has content.
pub struct Content {
    /// What it is called in faults.
    pub name: String,
    /// Reads and writes it.
    pub disk: Box<dyn DiskRewriter>,
}

/// What is known of a disk's content.
pub struct Known {
    /// The disk as another point has it.
    pub base: DiskRoot,
    /// What may have changed since that point.
    pub changed: ExtentSet,
}

/// Has a disk become a stored one, and lets it go also when that fails.
///
/// Holds at most what a [`PartReader`] does, and three windows for each of its fetches.
///
/// # Errors
/// The first byte that could not be read, proved or written; the disk is neither what it was nor
/// what it was to be then.
pub async fn rewrite(
    stored: Arc<Stored>,
    known: Option<Known>,
    target: Content,
    progress: &Progress,
) -> Result<TransferFindings> {
    let Content { name, disk } = target;
    let written = match disk.length() == stored.root.length {
        true => Rewriting::new(&stored, &name, &*disk, progress),
        false => Err(Error::Order(
            "the disk has not the length of the stored one",
        )),
    };
    let written = match written {
        Ok(rewriting) => rewriting.run(known).await,
        Err(error) => Err(error),
    };
    match written {
        Ok(findings) => {
            let finished = disk.finish().await;
            finished.map_err(|source| Error::Write { disk: name, source })?;
            Ok(findings)
        }
        Err(error) => {
            if let Err(err) = disk.abort().await {
                let error = stillwater_service::telemetry::chain(&err).to_string();
                tracing::warn!(disk = name, error, "disk could not be let go cleanly");
            }
            Err(error)
        }
    }
}

struct Rewriting<'a> {
    stored: &'a Stored,
    parts: PartReader,
    id_key: Arc<IdKey>,
    name: &'a str,
    disk: &'a dyn DiskRewriter,
    progress: &'a Progress,
    compared: AtomicU64,
}

/// A part of the disk, of whole chunks of the stored one.
struct Window {
    span: Extent,
    chunks: Vec<Placed>,
    /// How much of the disk is dealt with by it.
    done: u64,
}

impl<'a> Rewriting<'a> {
    fn new(
        stored: &'a Arc<Stored>,
        name: &'a str,
        disk: &'a dyn DiskRewriter,
        progress: &'a Progress,
    ) -> Result<Self> {
        Ok(Self {
            stored,
            parts: PartReader::new(Arc::clone(stored)),
            id_key: Arc::new(stored.key.id_key()?),
            name,
            disk,
            progress,
            compared: AtomicU64::new(0),
        })
    }

    async fn run(&self, known: Option<Known>) -> Result<TransferFindings> {
        let compared_all = known.is_none();
        let spots = self.plan(known).await?;
        let untouched = self.stored.root.length.saturating_sub(spots.bytes());
        add(&self.progress.done, untouched);
        self.write(&spots).await?;
        Ok(TransferFindings {
            compared_bytes: self.compared.load(Ordering::Relaxed),
            compared_all,
            ..TransferFindings::default()
        })
    }

    /// Where the disk may differ.
    async fn plan(&self, known: Option<Known>) -> Result<ExtentSet> {
        let (base, changed) = match known {
            Some(Known { base, changed }) => (Some(base), changed),
            None => (None, ExtentSet::empty()),
        };
        let mut rollback = Rollback::new(&self.stored.root, base.as_ref(), &changed)?;
        loop {
            match rollback.step()? {
                RollbackStep::Nodes(ids) => {
                    for node in self.stored.nodes(&ids).await? {
                        rollback.supply(&node)?;
                    }
                }
                RollbackStep::Done(spots) => return Ok(spots),
            }
        }
    }

    /// Several windows at a time. After a failure those that were begun are waited for: a write that is
    /// under way must not outlive the hold on the disk.
    async fn write(&self, spots: &ExtentSet) -> Result<()> {
        let extents: Vec<Extent> = spots.iter().collect();
        let mut walk = Walk {
            spots: extents.into_iter(),
            rest: Extent::new(0, 0),
            covered: 0,
        };
        let (mut under_way, mut outcome) = (FuturesUnordered::new(), Ok(()));
        loop {
            while outcome.is_ok() && under_way.len() < self.stored.limits.fetches_in_flight {
                match walk.next(&self.parts).await {
                    Ok(Some(window)) => under_way.push(self.settle(window)),
                    Ok(None) => break,
                    Err(error) => outcome = Err(error),
                }
            }
            match under_way.next().await {
                Some(settled) => outcome = outcome.and(settled),
                None => return outcome,
            }
        }
    }

    /// Reads a part of the disk and writes what of it is not as it should be.
    async fn settle(&self, window: Window) -> Result<()> {
        let Window { span, chunks, done } = window;
        if span.length == 0 {
            add(&self.progress.done, done);
            return Ok(());
        }
        let is_edge = |at: u64| at.is_multiple_of(REWRITE_ALIGN) || at == self.disk.length();
        if !(is_edge(span.start) && is_edge(span.end())) {
            return Err(Error::Order("the stored disk was not cut by blocks"));
        }
        let current = self.read(span).await?;
        add(&self.compared, span.length);
        add(&self.progress.read, span.length);
        let differs = self.differs(span.start, &current, &chunks).await?;
        let plain = self.parts.plain(&differs).await?;
        let wanted = wanted(span.start, &current, &chunks, &plain);
        for run in differing(span.start, &current, &wanted) {
            let bytes = part(&wanted, span.start, run);
            let written = self.disk.write(run.start, bytes.clone()).await;
            written.map_err(|source| Error::Write {
                disk: self.name.to_owned(),
                source,
            })?;
            add(&self.progress.sent, run.length);
            if self.read(run).await? != bytes {
                return Err(Error::NotWritten {
                    disk: self.name.to_owned(),
                    offset: run.start,
                });
            }
        }
        add(&self.progress.chunks, chunks.len() as u64);
        add(&self.progress.done, done);
        Ok(())
    }

    async fn read(&self, extent: Extent) -> Result<Bytes> {
        let failed = |source| Error::Read {
            disk: self.name.to_owned(),
            offset: extent.start,
            source: Box::new(source),
        };
        let bytes = self.disk.read(extent).await.map_err(failed)?;
        match bytes.len() as u64 == extent.length {
            true => Ok(bytes),
            false => Err(failed(stillwater_disk::Error::WrongSize {
                extent,
                found: bytes.len() as u64,
            })),
        }
    }

    /// The chunks that the disk has otherwise. A chunk that is there needs not be fetched.
    async fn differs(&self, start: u64, current: &Bytes, chunks: &[Placed]) -> Result<Vec<Placed>> {
        let (id_key, current) = (Arc::clone(&self.id_key), current.clone());
        let mut chunks = chunks.to_vec();
        let compare = move || {
            chunks.retain(|chunk| {
                let place = Extent::new(chunk.offset, u64::from(chunk.length));
                identify(id_key.expose(), &part(&current, start, place)) != chunk.id
            });
            chunks
        };
        let compared = tokio::task::spawn_blocking(compare).await;
        compared.map_err(|_| Error::Panicked)
    }
}

/// A walk along the parts of a disk that may differ.
struct Walk {
    spots: std::vec::IntoIter<Extent>,
    /// What of the present one is not looked at yet.
    rest: Extent,
    /// Windows reach up to here. No chunk lies across it.
    covered: u64,
}

impl Walk {
    async fn next(&mut self, parts: &PartReader) -> Result<Option<Window>> {
        let mut done = 0;
        loop {
            let passed = self.covered.clamp(self.rest.start, self.rest.end()) - self.rest.start;
            done += passed;
            self.rest.start += passed;
            self.rest.length -= passed;
            if self.rest.length > 0 {
                break;
            }
            match self.spots.next() {
                Some(spot) => self.rest = spot,
                // Only where the last spot was covered by the window of another.
                None if done > 0 => return Ok(Some(Window::of_nothing(self.covered, done))),
                None => return Ok(None),
            }
        }
        let ahead = Extent::new(self.rest.start, self.rest.length.min(WINDOW_BYTES));
        let chunks = parts.leaves(ahead).await?;
        let first = chunks.first().map_or(ahead.start, |chunk| chunk.offset);
        let last = chunks.last().map_or(ahead.end(), Placed::end);
        let start = first.min(ahead.start);
        let end = last.max(ahead.end());
        done += ahead.length;
        self.covered = end;
        self.rest = Extent::new(ahead.end(), self.rest.length - ahead.length);
        Ok(Some(Window {
            span: Extent::new(start, end - start),
            chunks,
            done,
        }))
    }
}

impl Window {
    fn of_nothing(at: u64, done: u64) -> Self {
        Self {
            span: Extent::new(at, 0),
            chunks: Vec::new(),
            done,
        }
    }
}

/// What a part of the disk is to hold: its chunks, those that were fetched over those that are there,
/// and zeros between them.
fn wanted(start: u64, current: &Bytes, chunks: &[Placed], plain: &[(u64, Bytes)]) -> Bytes {
    let mut wanted = BytesMut::from(current.as_ref());
    let mut put = |at: u64, bytes: &[u8]| {
        let from = usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
        let to = from.saturating_add(bytes.len());
        if let Some(room) = wanted.get_mut(from..to) {
            room.copy_from_slice(bytes);
        }
    };
    for (offset, bytes) in plain {
        put(*offset, bytes);
    }
    let mut at = start;
    let end = start + current.len() as u64;
    let edges = chunks.iter().map(|chunk| (chunk.offset, chunk.end()));
    for (next, behind) in edges.chain([(end, end)]) {
        let hole = Extent::new(at, next.saturating_sub(at));
        let is = part(current, start, hole);
        if !is_zero(&is) {
            put(at, &vec![0; is.len()]);
        }
        at = behind;
    }
    wanted.freeze()
}

/// A range of bytes that begin at `start` of the disk; what of it is not there is left out.
fn part(bytes: &Bytes, start: u64, range: Extent) -> Bytes {
    let clamp = |at: u64| {
        let at = usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
        at.min(bytes.len())
    };
    bytes.slice(clamp(range.start)..clamp(range.end()).max(clamp(range.start)))
}

#[cfg(test)]
mod tests;
