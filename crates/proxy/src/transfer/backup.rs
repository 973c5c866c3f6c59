//! A frozen disk becomes records and a root.
//!
//! ```text
//! read ─► cut ─► find ─► seal ─► pack ─► durable
//! ```
//!
//! Each arrow is a bounded queue, so that the slowest stage sets the pace and memory does not
//! depend on the disk. [`Limits::bytes_max`] states the bound. With a base, what is cut is woven into
//! the base's tree, of which the thread that cuts asks for nodes.

use std::sync::Arc;

use stillwater_chunking::{Cutter, CutterParams, DiskCutter, Top, areas_to_read};
use stillwater_format::node::DiskRoot;
use stillwater_proxy_api::TransferFindings;
use stillwater_seal::DatasetKey;
use stillwater_types::{DatasetId, ExtentSet};
use tokio::sync::mpsc;

use super::cut::{Found, cut};
use super::find::{Finder, OnTheWay};
use super::increment::Probe;
use super::limits::Limits;
use super::pack::Uploader;
use super::progress::Progress;
use super::read::{Piece, Source, read};
use super::seal::{NewCompress, Workers};
use super::store::RecordStore;
use crate::error::{Error, Result};

/// Everything a backup transfer needs.
pub struct Backup {
    /// The frozen disk.
    pub source: Source,
    /// Size of the disk.
    pub length: u64,
    /// What of it to read.
    pub reading: Reading,
    /// Where records go.
    pub store: Arc<dyn RecordStore>,
    /// The dataset.
    pub dataset: DatasetId,
    /// Its key.
    pub key: DatasetKey,
    /// The bounds.
    pub limits: Limits,
    /// The compressor; [`super::zstd`] but in tests.
    pub compress: NewCompress,
}

/// What of a disk is read, and what it is held against.
pub enum Reading {
    /// Without an earlier tree.
    Full {
        /// The areas to read; what lies between is taken to be zeros. None: the whole disk.
        areas: Option<ExtentSet>,
    },
    /// What changed since the base; the rest is shared unread.
    Increment {
        /// The disk as an earlier point has it.
        base: DiskRoot,
        /// What changed since.
        changed: ExtentSet,
        /// What is read besides, to test the map.
        probe: Probe,
    },
    /// Everything; what is still the base's is kept.
    Compare {
        /// The disk as an earlier point has it.
        base: DiskRoot,
        /// What the map says that changed since. None: there is no map that could lie.
        changed: Option<ExtentSet>,
    },
}

/// A disk in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its root.
    pub root: DiskRoot,
    /// What was found out about the change map.
    pub findings: TransferFindings,
}

/// A tree, and what was found out on the way.
pub(super) struct Moved {
    pub top: Top,
    pub findings: TransferFindings,
}

impl Backup {
    /// Moves the disk. Whoever drops the future cancels the transfer: the reading stops, nothing
    /// of an unfinished pack is kept, and the thread that cuts ends with its queue.
    ///
    /// # Errors
    /// The first thing that could not be read, proved or stored. Nothing is skipped.
    pub async fn run(&self, progress: &Progress) -> Result<Saved> {
        if self.source.reader.length() != self.length {
            return Err(Error::Order("the disk has not the length that was told"));
        }
        let Moved { top, findings } = match &self.reading {
            Reading::Full { areas } => self.read_all(areas.as_ref(), progress).await?,
            Reading::Increment {
                base,
                changed,
                probe,
            } => self.increment(base, changed, *probe, progress).await?,
            Reading::Compare { base, changed } => {
                self.compare(base, changed.as_ref(), progress).await?
            }
        };
        if top.span != self.length {
            return Err(Error::Order("the tree does not cover the disk"));
        }
        let root = DiskRoot {
            length: top.span,
            cutter: CutterParams::DISK.to_string(),
            top: top.id,
            level: top.level,
        };
        Ok(Saved { root, findings })
    }

    async fn read_all(&self, areas: Option<&ExtentSet>, progress: &Progress) -> Result<Moved> {
        let whole = || ExtentSet::whole(self.length);
        let areas = areas_to_read(&areas.cloned().unwrap_or_else(whole), self.length);
        let id_key = self.key.id_key()?;
        let cutter = DiskCutter::new(self.cutter()?, id_key.expose(), self.length);
        let length = self.length;
        let cut = move |pieces: &mut _, found: &_| cut(cutter, length, pieces, found);
        let top = self
            .move_bytes(&areas, cut, async { Ok(()) }, progress)
            .await?;
        let findings = TransferFindings::default();
        Ok(Moved { top, findings })
    }

    pub(super) fn cutter(&self) -> Result<Cutter> {
        Cutter::new(CutterParams::DISK, self.key.cut_seed()?)
            .map_err(|_| Error::Order("the cutter's parameters are impossible"))
    }

    /// Reads `areas`, cuts them on a thread of its own and stores what is new, while `beside` gives
    /// that thread what else it needs.
    pub(super) async fn move_bytes<T: Send + 'static>(
        &self,
        areas: &ExtentSet,
        cut: impl FnOnce(&mut mpsc::Receiver<Piece>, &mpsc::Sender<Found>) -> Result<T> + Send + 'static,
        beside: impl Future<Output = Result<()>>,
        progress: &Progress,
    ) -> Result<T> {
        let limits = &self.limits;
        let id_key = self.key.id_key()?;
        let on_the_way = OnTheWay::default();

        // Pieces are bounded by their budget, jobs by the workers that take them.
        let (piece, mut pieces) = mpsc::channel(1);
        let (found, finds) = mpsc::channel(limits.queue_items);
        let (job, jobs) = mpsc::channel(1);
        let cutting = tokio::task::spawn_blocking(move || {
            let made = cut(&mut pieces, &found);
            // Its neighbours must not see its queues end before it told why.
            (made, pieces, found)
        });
        let cutting = async {
            let (made, ..) = cutting.await.map_err(|_| Error::Panicked)?;
            made
        };
        let finder = Finder {
            store: &*self.store,
            limits,
            progress,
            on_the_way: &on_the_way,
        };
        let uploader = Uploader {
            source: &self.source,
            store: &*self.store,
            key: &self.key,
            dataset: self.dataset,
            limits,
            progress,
            on_the_way: &on_the_way,
            workers: Arc::new(Workers::new(id_key, Arc::clone(&self.compress))),
        };
        let (_, made, (), (), ()) = tokio::try_join!(
            read(&self.source, areas, limits, progress, piece),
            cutting,
            finder.run(finds, job),
            uploader.run(jobs),
            beside,
        )?;
        Ok(made)
    }
}

#[cfg(test)]
mod tests;
