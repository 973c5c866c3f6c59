//! A backup that has a base: sample, plan, splice; and compare where the map cannot be trusted.

use std::sync::Arc;

use stillwater_chunking::{
    BLOCK_LEN, Compare, PlanStep, Sample, SampleCheck, SampleStep, Splice, SpliceError, SplicePlan,
    Spot,
};
use stillwater_format::node::DiskRoot;
use stillwater_proxy_api::TransferFindings;
use stillwater_types::ExtentSet;
use tokio::sync::mpsc;

use super::backup::{Backup, Moved};
use super::fetch::Stored;
use super::nodes;
use super::open::ChunkOpeners;
use super::progress::Progress;
use super::read::{Piece, read};
use super::weave::{Machine, Woven, weave};
use crate::error::{Error, Result};

/// What is read to find out whether a map tells the truth.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// How much.
    pub bytes: u64,
    /// Chooses what.
    pub seed: u64,
}

impl Backup {
    /// Reads what changed and shares the rest, if a sample says that the map told the truth.
    pub(super) async fn increment(
        &self,
        base: &DiskRoot,
        changed: &ExtentSet,
        probe: Probe,
        progress: &Progress,
    ) -> Result<Moved> {
        self.check_length(base)?;
        let stored = self.stored(base);
        let spots = sample(&stored, changed, probe).await?;
        let compared_bytes = spots.iter().map(|spot| spot.extent.length).sum();
        if self.finds_lie(spots, progress).await? {
            let disk = &self.source.name;
            tracing::warn!(disk, "the change map lied, the whole disk is compared");
            return self.compare(base, Some(changed), progress).await;
        }
        match self.splice(&stored, changed, progress).await {
            Ok(woven) => Ok(moved(woven, compared_bytes, false)),
            Err(Error::Splice(error)) if error.asks_compare() => {
                let disk = &self.source.name;
                tracing::warn!(disk, %error, "the whole disk is compared");
                progress.restart();
                self.compare(base, Some(changed), progress).await
            }
            Err(error) => Err(error),
        }
    }

    /// Reads everything and keeps what is the base's.
    pub(super) async fn compare(
        &self,
        base: &DiskRoot,
        changed: Option<&ExtentSet>,
        progress: &Progress,
    ) -> Result<Moved> {
        let cutter = self.cutter()?;
        let id_key = self.key.id_key()?;
        let compare = Compare::new(base, cutter, id_key.expose(), changed, self.length)?;
        let machine = Machine::Compare(Box::new(compare));
        let whole = ExtentSet::whole(self.length);
        let woven = self
            .weave(machine, &self.stored(base), &whole, progress)
            .await?;
        let told = changed.map(|set| set.widen(BLOCK_LEN as u64, base.length).bytes());
        let compared_bytes = base.length.saturating_sub(told.unwrap_or(0));
        Ok(moved(woven, compared_bytes, true))
    }

    async fn splice(
        &self,
        base: &Stored,
        changed: &ExtentSet,
        progress: &Progress,
    ) -> Result<Woven> {
        let extents = plan(base, changed, self.length).await?;
        let (cutter, id_key) = (self.cutter()?, self.key.id_key()?);
        let splice = Splice::new(&base.root, cutter, id_key.expose(), &extents, self.length)?;
        let machine = Machine::Splice(Box::new(splice));
        self.weave(machine, base, &extents, progress).await
    }

    async fn weave(
        &self,
        machine: Machine,
        base: &Stored,
        extents: &ExtentSet,
        progress: &Progress,
    ) -> Result<Woven> {
        let (asker, server) = nodes::channel();
        let cut = move |pieces: &mut _, out: &_| weave(machine, pieces, &asker, out);
        self.move_bytes(extents, cut, server.run(base), progress)
            .await
    }

    /// Reads spots of the disk; says whether one is not what the base has there.
    async fn finds_lie(&self, spots: Vec<Spot>, progress: &Progress) -> Result<bool> {
        if spots.is_empty() {
            return Ok(false);
        }
        let check = SampleCheck::new(spots, self.key.id_key()?.expose());
        let extents = check.extents().clone();
        let (piece, pieces) = mpsc::channel(1);
        let checking = tokio::task::spawn_blocking(move || check_spots(check, pieces));
        let ((), lies) = tokio::try_join!(
            read(&self.source, &extents, &self.limits, progress, piece),
            async { checking.await.map_err(|_| Error::Panicked)? },
        )?;
        Ok(!lies.is_empty())
    }

    /// Nothing of a base may lie behind the end of the disk, or it would be sampled there.
    fn check_length(&self, base: &DiskRoot) -> Result<()> {
        let (base, length) = (base.length, self.length);
        if base > length {
            return Err(Error::Splice(SpliceError::Shrunk { base, length }));
        }
        Ok(())
    }

    fn stored(&self, base: &DiskRoot) -> Stored {
        Stored {
            root: base.clone(),
            store: Arc::clone(&self.store),
            dataset: self.dataset,
            key: self.key.clone(),
            limits: self.limits,
            openers: ChunkOpeners::default(),
        }
    }
}

async fn sample(base: &Stored, changed: &ExtentSet, probe: Probe) -> Result<Vec<Spot>> {
    let mut sample = Sample::new(&base.root, changed, probe.bytes, probe.seed)?;
    loop {
        match sample.step()? {
            SampleStep::Nodes(ids) => {
                for node in base.nodes(&ids).await? {
                    sample.supply(&node)?;
                }
            }
            SampleStep::Done(spots) => return Ok(spots),
        }
    }
}

/// Holds what is read against the base.
fn check_spots(mut check: SampleCheck, mut pieces: mpsc::Receiver<Piece>) -> Result<ExtentSet> {
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Data { offset, bytes } => check.push(offset, &bytes)?,
            Piece::End => return Ok(check.finish()?),
        }
    }
    Err(Error::Stopped)
}

async fn plan(base: &Stored, changed: &ExtentSet, length: u64) -> Result<ExtentSet> {
    let mut plan = SplicePlan::new(&base.root, changed, length)?;
    loop {
        match plan.step()? {
            PlanStep::Nodes(ids) => {
                for node in base.nodes(&ids).await? {
                    plan.supply(&node)?;
                }
            }
            PlanStep::Done(extents) => return Ok(extents),
        }
    }
}

fn moved(woven: Woven, compared_bytes: u64, compared_all: bool) -> Moved {
    let Woven {
        top,
        replaced,
        lies,
    } = woven;
    let findings = TransferFindings {
        compared_bytes,
        lie_bytes: lies.bytes,
        lies: lies.extents,
        compared_all,
        replaced_chunk_count: replaced.chunk_count,
        replaced_hole_bytes: replaced.hole_bytes,
        ..TransferFindings::default()
    };
    Moved { top, findings }
}

#[cfg(test)]
mod tests;
