//! A stored disk is proved byte for byte, and what cannot be is named.
//!
//! Unlike a repository's scrub, which holds stored bytes against their checksums, this opens each
//! chunk with the key and holds what comes out against the chunk's id.

use futures::{StreamExt, TryStreamExt, stream};
use stillwater_proxy_api::{DAMAGED_AREAS_MAX, DamagedArea, TransferFindings};
use stillwater_types::{Extent, Fault, Kind, Reason};
use tokio::sync::mpsc;

use super::fetch::{Batch, Placed, Stored, Walk};
use super::progress::{Progress, add};
use crate::error::{Error, Result};

impl Stored {
    /// Proves the tree and every chunk; what is damaged is told, and the rest is proved all the same.
    ///
    /// # Errors
    /// What keeps from looking, such as a repository that is away; never the damage itself.
    pub async fn verify(&self, progress: &Progress) -> Result<TransferFindings> {
        let (batch, batches) = mpsc::channel(1);
        let (beyond, mut findings) = tokio::try_join!(
            self.survey(batch, progress),
            self.prove_all(batches, progress)
        )?;
        if let Some(damaged) = beyond {
            note(&mut findings, damaged, 0);
        }
        Ok(findings)
    }

    /// Walks the tree. Where a node cannot be trusted nothing is known of what lies behind it.
    async fn survey(
        &self,
        out: mpsc::Sender<Batch>,
        progress: &Progress,
    ) -> Result<Option<DamagedArea>> {
        let mut walk = Walk::default();
        let walked = self.walk(&mut walk, &out, progress).await;
        let Walk { batch, position } = walk;
        out.send(batch).await.map_err(|_| Error::Stopped)?;
        let Err(error) = walked else { return Ok(None) };
        let mut fault = damage(error)?;
        fault.message = format!("the disk's tree is broken from here on: {}", fault.message);
        let left = self.root.length.saturating_sub(position);
        add(&progress.done, left);
        Ok(Some(DamagedArea {
            area: Extent::new(position, left),
            fault,
        }))
    }

    async fn prove_all(
        &self,
        batches: mpsc::Receiver<Batch>,
        progress: &Progress,
    ) -> Result<TransferFindings> {
        let batches = stream::unfold(batches, |mut batches| async {
            batches.recv().await.map(|batch| (batch, batches))
        });
        let proofs = batches.map(|batch| self.prove(batch, progress));
        let mut proofs = std::pin::pin!(proofs.buffered(self.limits.fetches_in_flight));
        let mut findings = TransferFindings::default();
        while let Some(damaged) = proofs.try_next().await? {
            for area in damaged {
                note(&mut findings, area, 1);
            }
        }
        Ok(findings)
    }

    /// Proves the chunks of a batch together, and one by one when something is wrong with any.
    async fn prove(&self, batch: Batch, progress: &Progress) -> Result<Vec<DamagedArea>> {
        let chunks = batch.chunks.clone();
        let damaged = match self.fetch(batch, progress).await {
            Ok(_) => Vec::new(),
            Err(error) => {
                damage(error)?;
                self.prove_each(&chunks, progress).await?
            }
        };
        let bytes = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        add(&progress.done, bytes);
        add(&progress.chunks, chunks.len() as u64);
        Ok(damaged)
    }

    async fn prove_each(&self, chunks: &[Placed], progress: &Progress) -> Result<Vec<DamagedArea>> {
        let mut damaged = Vec::new();
        for chunk in chunks {
            let mut alone = Batch::default();
            alone.push(*chunk);
            if let Err(error) = self.fetch(alone, progress).await {
                damaged.push(DamagedArea {
                    area: Extent::new(chunk.offset, u64::from(chunk.length)),
                    fault: damage(error)?,
                });
            }
        }
        Ok(damaged)
    }
}

/// What is wrong with stored data; an error that says nothing about the data is given back.
fn damage(error: Error) -> Result<Fault> {
    let fault = error.fault();
    let is_damage = fault.kind() == Kind::Corrupt || fault.reason == Reason::ChunkNotFound;
    match is_damage {
        true => Ok(fault),
        false => Err(error),
    }
}

/// Counts all of the damage and names the first of it.
fn note(findings: &mut TransferFindings, damaged: DamagedArea, chunks: u64) {
    findings.damaged_bytes += damaged.area.length;
    findings.damaged_chunk_count += chunks;
    if findings.damage.len() < DAMAGED_AREAS_MAX {
        findings.damage.push(damaged);
    }
}

#[cfg(test)]
mod tests;
