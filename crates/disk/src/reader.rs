//! Reading a frozen disk.

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_types::Extent;

use crate::Result;

/// A disk that does not change while it is read.
#[async_trait]
pub trait DiskReader: Send + Sync {
    /// Size of the disk.
    fn length(&self) -> u64;

    /// Reads a range: all of it, or an error. May be called several times at once.
    async fn read(&self, extent: Extent) -> Result<Bytes>;

    /// Lets go what must be let go before the disk may go, and waits until it is. Nothing is read after.
    async fn close(&self) {}
}
