//! Writing parts of a disk to its host.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_types::Extent;

use super::frame::Access;
use super::link::Link;
use super::options::Options;
use super::reader::NfcReader;
use super::{Tickets, checked_path};
use crate::rewriter::check;
use crate::{DiskReader, DiskRewriter, Error, Result};

/// Reads and writes a disk through a host's NFC service, on one session that may do both.
///
/// A session that is lost is replaced, and what was not answered is sent again: the same bytes to the
/// same place.
#[derive(Debug)]
pub struct NfcRewriter {
    disk: NfcReader,
}

impl NfcRewriter {
    /// Opens the disk at `path`, such as `[ds] web/web.vmdk`, and checks that it has `length` bytes. The
    /// tickets must be for writing. No host opens one so that is in use, or that a snapshot froze.
    ///
    /// # Errors
    /// When it cannot be had; see [`super::Error`] for what to do.
    pub async fn open(
        tickets: Arc<dyn Tickets>,
        path: &str,
        length: u64,
        options: Options,
    ) -> Result<Self> {
        let path = checked_path(path)?;
        let link = Link::open(tickets, &path, length, Access::Write, options).await;
        let link = link.map_err(|source| failed(&path, source))?;
        Ok(Self {
            disk: NfcReader::over(link, path, length),
        })
    }
}

fn failed(path: &str, source: super::Error) -> Error {
    Error::NfcWrite {
        path: path.to_owned(),
        source,
    }
}

#[async_trait]
impl DiskRewriter for NfcRewriter {
    fn length(&self) -> u64 {
        self.disk.length()
    }

    async fn read(&self, extent: Extent) -> Result<Bytes> {
        self.disk.read(extent).await
    }

    async fn write(&self, offset: u64, mut bytes: Bytes) -> Result<()> {
        check(offset, &bytes, self.disk.length())?;
        let link = self.disk.link();
        let most = link.options().request_bytes as usize;
        let mut at = offset;
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(most));
            let next = at + part.len() as u64;
            let written = link.retried(|connection| {
                let part = part.clone();
                async move { connection.write(at, part).await }
            });
            let written = written.await;
            written.map_err(|source| failed(self.disk.path(), source))?;
            at = next;
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        let closed = self.disk.link().close().await;
        closed.map_err(|source| failed(self.disk.path(), source))
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.finish().await
    }
}
