//! Disks behind a datastore's HTTPS folder.
//!
//! The only transport that needs nothing but vCenter's own port. Slow, and only for disks that are
//! one flat file: chains of deltas, vSAN and vVols have no such file.

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_types::Extent;
use stillwater_vsphere::DataAccess;

use crate::{DiskReader, DiskWriter, Result};

/// Reads a flat disk by HTTP ranges.
#[derive(Debug)]
pub struct FolderReader {}

impl FolderReader {
    /// Opens the disk whose descriptor is `path`, such as `[ds] web/web.vmdk`, and checks that it
    /// is one flat extent of `length` bytes.
    pub async fn open(access: &DataAccess, path: &str, length: u64) -> Result<Self> {
        todo!("{access:?}{path}{length}")
    }
}

#[async_trait]
impl DiskReader for FolderReader {
    fn length(&self) -> u64 {
        todo!()
    }
    async fn read(&self, extent: Extent) -> Result<Bytes> {
        todo!("{extent:?}")
    }
}

/// Writes a flat disk as one upload.
#[derive(Debug)]
pub struct FolderWriter {}

impl FolderWriter {
    /// Opens the new, empty disk whose descriptor is `path`, and checks that it is one flat extent
    /// of `length` bytes.
    pub async fn open(access: &DataAccess, path: &str, length: u64) -> Result<Self> {
        todo!("{access:?}{path}{length}")
    }
}

#[async_trait]
impl DiskWriter for FolderWriter {
    fn length(&self) -> u64 {
        todo!()
    }
    async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<()> {
        todo!("{offset}{bytes:?}")
    }
    async fn finish(self: Box<Self>) -> Result<()> {
        todo!()
    }
    async fn abort(self: Box<Self>) -> Result<()> {
        todo!()
    }
}
