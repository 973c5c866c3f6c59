//! Writing a new disk.

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;

/// A new disk that is written once, in ascending order. What is not written becomes zeros.
#[async_trait]
pub trait DiskWriter: Send {
    /// Size of the disk.
    fn length(&self) -> u64;

    /// Writes bytes at an offset that is not before the end of the last write.
    ///
    /// Waits while the transport is behind. An error is final.
    async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<()>;

    /// Writes zeros to the end and waits until the server has it all. Without it the disk is
    /// not whole.
    async fn finish(self: Box<Self>) -> Result<()>;

    /// Gives up; the disk's content is undefined then. Dropping a writer does the same without
    /// waiting.
    async fn abort(self: Box<Self>) -> Result<()>;
}
