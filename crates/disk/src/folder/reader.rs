//! Reading a flat file by ranges.

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_types::Extent;
use stillwater_vsphere::DataAccess;

use super::server::RemoteFile;
use crate::{DiskReader, Error, Result};

/// Reads a flat disk by HTTP ranges.
///
/// Demands status 206, the very range and all of its bytes: a server that ignores the range would
/// otherwise give the disk's beginning for any part of it. Only connections that fail are tried
/// again.
#[derive(Debug)]
pub struct FolderReader {
    pub(super) file: RemoteFile,
    length: u64,
}

impl FolderReader {
    /// Opens the disk whose descriptor is `path`, such as `[ds] web/web.vmdk`, and checks that it
    /// is one flat extent of `length` bytes.
    pub async fn open(access: &DataAccess, path: &str, length: u64) -> Result<Self> {
        let file = RemoteFile::flat(access, path, length).await?;
        Ok(Self { file, length })
    }
}

#[async_trait]
impl DiskReader for FolderReader {
    fn length(&self) -> u64 {
        self.length
    }

    async fn read(&self, extent: Extent) -> Result<Bytes> {
        let end = extent.start.checked_add(extent.length);
        match end {
            Some(end) if end <= self.length => {}
            _ => {
                return Err(Error::BeyondDisk {
                    extent,
                    length: self.length,
                });
            }
        }
        if extent.length == 0 {
            return Ok(Bytes::new());
        }
        self.file.range(extent, self.length).await
    }
}
