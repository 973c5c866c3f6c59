//! Writing a disk behind NBD.

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_types::Extent;

use super::reader::connect;
use super::{Endpoint, NbdClient, NbdError, Settings};
use crate::block::{BlockWriter, Target, Unwritten};
use crate::{DiskWriter, Error, Result};

/// What is written at once where the server cannot make zeros itself.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];
/// What is made zeros at once: servers have it done before they answer.
const ZERO_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Pieces are aligned to this.
const ALIGN: u32 = 4096;

/// Writes a disk behind NBD.
#[derive(Debug)]
pub struct NbdWriter {
    blocks: BlockWriter<RemoteBlocks>,
}

impl NbdWriter {
    /// Connects to a disk of `length` bytes that can be written.
    pub async fn open(
        endpoint: &Endpoint,
        length: u64,
        settings: Settings,
        unwritten: Unwritten,
    ) -> Result<Self> {
        let client = connect(endpoint, length, settings).await?;
        let export = client.export();
        if export.abilities.is_read_only() {
            return Err(NbdError::ReadOnly.into());
        }
        // Then every part of an aligned piece is aligned to the server's blocks.
        if export.block_bytes > ALIGN || !export.request_bytes_max.is_multiple_of(ALIGN) {
            return Err(Error::Nbd(NbdError::Refused {
                what: "pieces of 4 KiB",
                problem: format!(
                    "its blocks have {} bytes and its requests up to {}",
                    export.block_bytes, export.request_bytes_max
                ),
            }));
        }
        if !export.abilities.can_flush() {
            tracing::warn!(
                server = client.server(),
                "the server cannot say when content is on its medium"
            );
        }
        let blocks = BlockWriter::new(RemoteBlocks { client }, unwritten);
        Ok(Self { blocks })
    }
}

/// The disk as what pieces are written to.
#[derive(Debug)]
struct RemoteBlocks {
    client: NbdClient,
}

impl RemoteBlocks {
    fn write_error(&self, error: NbdError) -> Error {
        let path = self.client.server().to_owned();
        match error {
            NbdError::Server { is_full: true, .. } => Error::DatastoreFull { path },
            error => Error::WriteFailed {
                path,
                problem: error.to_string(),
            },
        }
    }
}

#[async_trait]
impl Target for RemoteBlocks {
    fn name(&self) -> &str {
        self.client.server()
    }

    fn length(&self) -> u64 {
        self.client.export().length
    }

    async fn write(&self, mut offset: u64, mut bytes: Bytes) -> Result<()> {
        let most = self.client.export().request_bytes_max as usize;
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(most));
            let length = part.len() as u64;
            let outcome = self.client.write(offset, part).await;
            outcome.map_err(|error| self.write_error(error))?;
            offset += length;
        }
        Ok(())
    }

    async fn zero(&self, extent: Extent) -> Result<()> {
        let can_zero = self.client.export().abilities.can_zero();
        let step = if can_zero {
            ZERO_BYTES_MAX
        } else {
            ZEROS.len() as u64
        };
        let mut at = extent.start;
        while at < extent.end() {
            let part = Extent::new(at, step.min(extent.end() - at));
            if can_zero {
                let outcome = self.client.zero(part).await;
                outcome.map_err(|error| self.write_error(error))?;
            } else {
                let bytes = usize::try_from(part.length).unwrap_or(ZEROS.len());
                let zeros = Bytes::from_static(&ZEROS).slice(..bytes.min(ZEROS.len()));
                self.write(at, zeros).await?;
            }
            at = part.end();
        }
        Ok(())
    }

    async fn sync(&self) -> Result<()> {
        if !self.client.export().abilities.can_flush() {
            return Ok(());
        }
        let outcome = self.client.flush().await;
        outcome.map_err(|error| self.write_error(error))
    }
}

#[async_trait]
impl DiskWriter for NbdWriter {
    fn length(&self) -> u64 {
        self.blocks.length()
    }

    async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<()> {
        self.blocks.write(offset, bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Box::new(self.blocks).finish().await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Box::new(self.blocks).abort().await
    }
}
