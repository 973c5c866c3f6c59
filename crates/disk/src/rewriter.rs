//! Writing parts of a disk that has content.

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_types::Extent;

use crate::{Error, Result};

/// What writes begin and end at the multiples of, but for the end of the disk.
pub const REWRITE_ALIGN: u64 = 4096;

/// A disk of a VM that is off: read and written here and there. What is not written stays as it is.
#[async_trait]
pub trait DiskRewriter: Send + Sync {
    /// Size of the disk.
    fn length(&self) -> u64;

    /// Reads a range: all of it, or an error. May be called several times at once.
    async fn read(&self, extent: Extent) -> Result<Bytes>;

    /// Writes whole blocks of [`REWRITE_ALIGN`] bytes, of which the disk's last may be shorter. May be
    /// called several times at once for ranges that do not overlap. An error leaves the range
    /// undefined, and nothing else.
    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()>;

    /// Waits until everything that was written is safe, and lets the disk go.
    async fn finish(self: Box<Self>) -> Result<()>;

    /// Lets the disk go; whatever was written stays. Dropping it does the same without waiting.
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// Refuses a write that is not one of whole blocks within a disk of `length` bytes.
pub(crate) fn check(offset: u64, bytes: &Bytes, length: u64) -> Result<()> {
    let extent = Extent::new(offset, bytes.len() as u64);
    let end = offset.checked_add(extent.length);
    let Some(end) = end.filter(|end| *end <= length) else {
        return Err(Error::BeyondDisk { extent, length });
    };
    let is_edge = |at: u64| at.is_multiple_of(REWRITE_ALIGN) || at == length;
    match is_edge(offset) && is_edge(end) {
        true => Ok(()),
        false => Err(Error::NotBlocks { extent }),
    }
}
