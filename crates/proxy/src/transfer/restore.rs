//! A root becomes a new disk.

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_disk::DiskWriter;

use super::fetch::{Sink, Stored};
use super::progress::Progress;
use crate::error::{Error, Result};

/// A new disk.
pub struct Target {
    /// What it is called in faults.
    pub name: String,
    /// Takes its bytes.
    pub writer: Box<dyn DiskWriter>,
}

/// Writes a stored disk to a new one, and gives the new one up when that fails.
///
/// # Errors
/// The first byte that could not be read, proved or written.
pub async fn restore(stored: &Stored, target: Target, progress: &Progress) -> Result<()> {
    if target.writer.length() != stored.root.length {
        return Err(Error::Order(
            "the new disk has not the length of the stored one",
        ));
    }
    let mut writing = Writing(target);
    let moved = stored.run(&mut writing, progress).await;
    let Writing(Target { name, writer }) = writing;
    match moved {
        Ok(()) => writer
            .finish()
            .await
            .map_err(|source| Error::Write { disk: name, source }),
        Err(error) => {
            if let Err(err) = writer.abort().await {
                let error = stillwater_service::telemetry::chain(&err).to_string();
                tracing::warn!(
                    disk = name,
                    error,
                    "unfinished disk could not be given up cleanly"
                );
            }
            Err(error)
        }
    }
}

struct Writing(Target);

#[async_trait]
impl Sink for Writing {
    async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<()> {
        let written = self.0.writer.write(offset, bytes).await;
        written.map_err(|source| Error::Write {
            disk: self.0.name.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests;
