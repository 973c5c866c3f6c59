//! Reading a local file or device.

use std::sync::Arc;

use bytes::Bytes;
use stillwater_types::Extent;

use super::{BlockFile, BlockPool};
use crate::{Error, Result};

/// Reads ranges of a file or device on the pool's threads, as many at once as are asked for.
#[derive(Debug, Clone)]
pub(crate) struct BlockReader {
    file: Arc<BlockFile>,
    pool: BlockPool,
}

impl BlockReader {
    pub(crate) fn new(file: BlockFile, pool: BlockPool) -> Self {
        Self::over(Arc::new(file), pool)
    }

    /// A reader of a file that somebody else uses too.
    pub(super) fn over(file: Arc<BlockFile>, pool: BlockPool) -> Self {
        Self { file, pool }
    }

    pub(crate) fn length(&self) -> u64 {
        self.file.length
    }

    /// Reads a range; then `check` has a word, on the same thread.
    pub(crate) async fn read(
        &self,
        extent: Extent,
        check: impl FnOnce(&BlockFile) -> Result<()> + Send + 'static,
    ) -> Result<Bytes> {
        let length = self.file.length;
        let within = |end: u64| end <= length;
        if !extent.start.checked_add(extent.length).is_some_and(within) {
            return Err(Error::BeyondDisk { extent, length });
        }
        if extent.length == 0 {
            return Ok(Bytes::new());
        }
        let (file, pool) = (Arc::clone(&self.file), self.pool.clone());
        let work = move || {
            let bytes = file.read(extent, &pool)?;
            check(&file)?;
            Ok(bytes)
        };
        let stopped = || Error::Stopped {
            path: self.file.name.clone(),
        };
        self.pool.run(work).await.unwrap_or_else(|| Err(stopped()))
    }
}
