//! A frozen disk becomes records and a root.
//!
//! ```text
//! read ─► cut ─► find ─► seal ─► pack ─► durable
//! ```
//!
//! Each arrow is a bounded queue, so that the slowest stage sets the pace and memory does not
//! depend on the disk. [`Limits::bytes_max`] states the bound.

use std::sync::Arc;

use stillwater_chunking::{Cutter, CutterParams, DiskCutter, Top, areas_to_read};
use stillwater_format::node::DiskRoot;
use stillwater_seal::DatasetKey;
use stillwater_types::{DatasetId, ExtentSet};
use tokio::sync::mpsc;

use super::cut::cut;
use super::find::{Finder, OnTheWay};
use super::limits::Limits;
use super::pack::Uploader;
use super::progress::Progress;
use super::read::{Source, read};
use super::seal::{NewCompress, Workers};
use super::store::RecordStore;
use crate::error::{Error, Result};

/// Everything a backup transfer needs.
pub struct Backup {
    /// The frozen disk.
    pub source: Source,
    /// Size of the disk.
    pub length: u64,
    /// The areas to read; what lies between is taken to be zeros. None: the whole disk.
    pub areas: Option<ExtentSet>,
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

impl Backup {
    /// Moves the disk. Whoever drops the future cancels the transfer: the reading stops, nothing
    /// of an unfinished pack is kept, and the thread that cuts ends with its queue.
    ///
    /// # Errors
    /// The first thing that could not be read, proved or stored. Nothing is skipped.
    pub async fn run(&self, progress: &Progress) -> Result<DiskRoot> {
        if self.source.reader.length() != self.length {
            return Err(Error::Order("the disk has not the length that was told"));
        }
        let params = CutterParams::DISK;
        let top = self.move_bytes(params, progress).await?;
        if top.span != self.length {
            return Err(Error::Order("the tree does not cover the disk"));
        }
        let cutter = params.to_string();
        Ok(DiskRoot {
            length: top.span,
            cutter,
            top: top.id,
            level: top.level,
        })
    }

    async fn move_bytes(&self, params: CutterParams, progress: &Progress) -> Result<Top> {
        let limits = &self.limits;
        let areas = self
            .areas
            .clone()
            .unwrap_or_else(|| ExtentSet::whole(self.length));
        let areas = areas_to_read(&areas, self.length);
        let id_key = self.key.id_key()?;
        let cutter = Cutter::new(params, self.key.cut_seed()?)
            .map_err(|_| Error::Order("the cutter's parameters are impossible"))?;
        let cutter = DiskCutter::new(cutter, id_key.expose(), self.length);
        let on_the_way = OnTheWay::default();

        // Pieces are bounded by their budget, jobs by the workers that take them.
        let (piece, pieces) = mpsc::channel(1);
        let (found, finds) = mpsc::channel(limits.queue_items);
        let (job, jobs) = mpsc::channel(1);
        let length = self.length;
        let cutting = tokio::task::spawn_blocking(move || cut(cutter, length, pieces, found));
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
        let (_, top, (), ()) = tokio::try_join!(
            read(&self.source, &areas, limits, progress, piece),
            async { cutting.await.map_err(|_| Error::Panicked)? },
            finder.run(finds, job),
            uploader.run(jobs),
        )?;
        Ok(top)
    }
}

#[cfg(test)]
mod tests;
