//! Reading a frozen disk from its host.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use stillwater_types::Extent;

use super::error::Result;
use super::frame::Access;
use super::link::Link;
use super::options::Options;
use super::{Tickets, checked_path};
use crate::{DiskReader, Error};

/// Reads a disk through a host's NFC service.
///
/// Many reads may be called at once: they share one session. A session that is lost is replaced by
/// itself, with a new ticket, and what was not answered is asked for again.
#[derive(Debug)]
pub struct NfcReader {
    link: Link,
    path: String,
    length: u64,
}

impl NfcReader {
    /// Opens the disk at `path`, such as `[ds] web/web.vmdk`, and checks that it has `length` bytes.
    /// Of a running VM only a disk with a snapshot above it can be opened.
    ///
    /// # Errors
    /// When it cannot be had; see [`super::Error`] for what to do.
    pub async fn open(
        tickets: Arc<dyn Tickets>,
        path: &str,
        length: u64,
        options: Options,
    ) -> crate::Result<Self> {
        let path = checked_path(path)?;
        let link = Link::open(tickets, &path, length, Access::Read, options).await;
        let link = link.map_err(|source| failed(&path, source))?;
        Ok(Self { link, path, length })
    }

    /// A reader of a disk that is open already.
    pub(super) fn over(link: Link, path: String, length: u64) -> Self {
        Self { link, path, length }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Closes the disk and waits until the host says so. Dropping a reader closes it without waiting.
    ///
    /// # Errors
    /// When the host does not say so.
    pub async fn close(self) -> crate::Result<()> {
        let closed = self.link.close().await;
        closed.map_err(|source| failed(&self.path, source))
    }

    /// Reads whole sectors into one buffer: each request fills its own part of it.
    async fn sectors(&self, start: u64, length: usize) -> Result<BytesMut> {
        let most = self.link.options().request_bytes as usize;
        let mut rest = BytesMut::zeroed(length);
        let mut offset = start;
        let mut requests = Vec::with_capacity(length.div_ceil(most));
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(most));
            let bytes = part.len() as u64;
            requests.push(self.request(offset, part));
            offset += bytes;
        }
        // Parts of one buffer, in order: joined again without copying.
        let mut parts = try_join_all(requests).await?.into_iter();
        let mut whole = parts.next().unwrap_or_default();
        parts.for_each(|part| whole.unsplit(part));
        Ok(whole)
    }

    async fn request(&self, offset: u64, buffer: BytesMut) -> Result<BytesMut> {
        let length = buffer.len();
        let buffer = std::sync::Mutex::new(Some(buffer));
        self.link
            .retried(async |connection: Arc<super::connection::Connection>| {
                // A lost session took the buffer with it.
                let kept = buffer.lock().ok().and_then(|mut buffer| buffer.take());
                let buffer = kept.unwrap_or_else(|| BytesMut::zeroed(length));
                connection.read(offset, buffer).await
            })
            .await
    }
}

fn failed(path: &str, source: super::Error) -> Error {
    Error::NfcRead {
        path: path.to_owned(),
        source,
    }
}

#[async_trait]
impl DiskReader for NfcReader {
    fn length(&self) -> u64 {
        self.length
    }

    async fn read(&self, extent: Extent) -> crate::Result<Bytes> {
        let beyond = || Error::BeyondDisk {
            extent,
            length: self.length,
        };
        let end = extent.start.checked_add(extent.length);
        let end = end.filter(|end| *end <= self.length).ok_or_else(beyond)?;
        if extent.length == 0 {
            return Ok(Bytes::new());
        }
        let sector = u64::from(self.link.sector_bytes());
        let start = extent.start - extent.start % sector;
        // Not beyond the disk, which ends with a sector.
        let length = end.next_multiple_of(sector) - start;
        let length = usize::try_from(length).map_err(|_| beyond())?;
        let read = self.sectors(start, length).await;
        let mut read = read.map_err(|source| failed(&self.path, source))?.freeze();
        // Both are at most the length of a sector, and of what was read.
        let before = (extent.start - start) as usize;
        Ok(read
            .split_off(before)
            .split_to((end - extent.start) as usize))
    }
}
