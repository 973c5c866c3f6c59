//! Files and devices of this machine as what a disk is written to.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_types::Extent;

use super::writer::Target;
use super::{BlockFile, BlockPool};
use crate::{Error, Result};

/// A local file or device and the threads that write it.
#[derive(Debug)]
pub(crate) struct LocalBlocks {
    file: Arc<BlockFile>,
    pool: BlockPool,
}

impl LocalBlocks {
    pub(crate) fn new(file: BlockFile, pool: BlockPool) -> Self {
        Self {
            file: Arc::new(file),
            pool,
        }
    }

    async fn run(
        &self,
        work: impl FnOnce(&BlockFile, &BlockPool) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (file, pool) = (Arc::clone(&self.file), self.pool.clone());
        let outcome = self.pool.run(move || work(&file, &pool)).await;
        outcome.unwrap_or_else(|| {
            Err(Error::Stopped {
                path: self.file.name.clone(),
            })
        })
    }
}

#[async_trait]
impl Target for LocalBlocks {
    fn name(&self) -> &str {
        &self.file.name
    }

    fn length(&self) -> u64 {
        self.file.length
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.run(move |file, _| file.write(&bytes, offset)).await
    }

    async fn zero(&self, extent: Extent) -> Result<()> {
        self.run(move |file, pool| file.zero(extent, pool)).await
    }

    async fn sync(&self) -> Result<()> {
        self.run(|file, _| file.sync()).await
    }
}
