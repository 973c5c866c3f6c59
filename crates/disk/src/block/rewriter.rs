//! Writing parts of a local file or device.

use std::sync::Arc;

use bytes::Bytes;
use stillwater_types::Extent;

use super::buffer::ALIGN;
use super::{BlockFile, BlockPool, BlockReader};
use crate::rewriter::check;
use crate::{Error, Result};

/// Reads and writes parts of a file or device on the pool's threads.
#[derive(Debug)]
pub(crate) struct BlockRewriter {
    reader: BlockReader,
    file: Arc<BlockFile>,
    pool: BlockPool,
}

impl BlockRewriter {
    pub(crate) fn new(file: BlockFile, pool: BlockPool) -> Self {
        let file = Arc::new(file);
        Self {
            reader: BlockReader::over(Arc::clone(&file), pool.clone()),
            file,
            pool,
        }
    }

    pub(crate) fn length(&self) -> u64 {
        self.file.length
    }

    pub(crate) async fn read(&self, extent: Extent) -> Result<Bytes> {
        self.reader.read(extent, |_| Ok(())).await
    }

    /// Writes whole blocks; they are copied to where devices can take them from.
    pub(crate) async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        check(offset, &bytes, self.file.length)?;
        let pool = self.pool.clone();
        self.run(move |file| {
            let mut aligned = pool.buffer(bytes.len().next_multiple_of(ALIGN));
            let room = aligned.as_mut().get_mut(..bytes.len()).unwrap_or_default();
            room.copy_from_slice(&bytes);
            file.write(room, offset)
        })
        .await
    }

    /// Waits until all that was written is on the medium.
    pub(crate) async fn sync(&self) -> Result<()> {
        self.run(BlockFile::sync).await
    }

    async fn run(
        &self,
        work: impl FnOnce(&BlockFile) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let file = Arc::clone(&self.file);
        let outcome = self.pool.run(move || work(&file)).await;
        outcome.unwrap_or_else(|| {
            Err(Error::Stopped {
                path: self.file.name.clone(),
            })
        })
    }
}
