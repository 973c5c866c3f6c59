//! Writing a new disk to its host.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_types::Extent;

use super::error::Result;
use super::frame::Access;
use super::link::Link;
use super::options::Options;
use super::sectors::Sectors;
use super::{Tickets, checked_path};
use crate::task::Running;
use crate::{DiskWriter, Error};

/// Writes a new disk through a host's NFC service.
///
/// What is skipped is not sent: a new disk reads as zeros there. Several writes are in flight; one that
/// was not answered when the session was lost is sent again on the next one, the same bytes to the same
/// place.
#[derive(Debug)]
pub struct NfcWriter {
    link: Arc<Link>,
    path: String,
    length: u64,
    position: u64,
    sectors: Sectors,
    /// Writes that the host has not confirmed, and how many bytes they hold.
    writes: VecDeque<(usize, Running<Result<()>>)>,
    unconfirmed_bytes: usize,
    is_failed: bool,
}

impl NfcWriter {
    /// Opens the new, empty disk at `path`, such as `[ds] web/web.vmdk`, and checks that it has
    /// `length` bytes. The tickets must be for writing.
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
        let link = Link::open(tickets, &path, length, Access::Write, options).await;
        let link = link.map_err(|source| failed(&path, source))?;
        Ok(Self {
            sectors: Sectors::new(link.sector_bytes()),
            link: Arc::new(link),
            path,
            length,
            position: 0,
            writes: VecDeque::new(),
            unconfirmed_bytes: 0,
            is_failed: false,
        })
    }

    async fn send(&mut self, ready: Vec<(u64, Bytes)>) -> Result<()> {
        let most = self.link.options().request_bytes as usize;
        for (mut at, mut bytes) in ready {
            while !bytes.is_empty() {
                let part = bytes.split_to(bytes.len().min(most));
                let next = at + part.len() as u64;
                self.make_room(part.len()).await?;
                self.start(at, part);
                at = next;
            }
        }
        Ok(())
    }

    fn start(&mut self, offset: u64, bytes: Bytes) {
        let (link, size) = (Arc::clone(&self.link), bytes.len());
        let write = Running::spawn(async move {
            link.retried(|connection| {
                let bytes = bytes.clone();
                async move { connection.write(offset, bytes).await }
            })
            .await
        });
        self.unconfirmed_bytes += size;
        self.writes.push_back((size, write));
    }

    /// Waits until `bytes` more may be in flight.
    async fn make_room(&mut self, bytes: usize) -> Result<()> {
        let most = self.link.options().in_flight_bytes as usize;
        while self.unconfirmed_bytes > 0 && self.unconfirmed_bytes + bytes > most {
            self.confirm_oldest().await?;
        }
        Ok(())
    }

    async fn confirm_oldest(&mut self) -> Result<()> {
        // Left in its place while it is waited for, for whoever stops waiting.
        let Some((bytes, write)) = self.writes.front_mut() else {
            return Ok(());
        };
        let (bytes, outcome) = (*bytes, write.await);
        drop(self.writes.pop_front());
        self.unconfirmed_bytes -= bytes;
        outcome.unwrap_or(Err(super::Error::Closed))
    }

    /// An error is final: what was written after it would stand behind a gap.
    fn settle(&mut self, outcome: Result<()>) -> crate::Result<()> {
        outcome.map_err(|source| {
            self.is_failed = true;
            self.writes.clear();
            failed(&self.path, source)
        })
    }

    fn check(&self, offset: u64, bytes: &Bytes) -> crate::Result<()> {
        if self.is_failed {
            return Err(failed(&self.path, super::Error::Closed));
        }
        if offset < self.position {
            return Err(Error::NotAscending {
                offset,
                position: self.position,
            });
        }
        let extent = Extent::new(offset, bytes.len() as u64);
        let end = offset.checked_add(extent.length);
        match end.is_some_and(|end| end <= self.length) {
            true => Ok(()),
            false => Err(Error::BeyondDisk {
                extent,
                length: self.length,
            }),
        }
    }

    async fn flush(&mut self) -> Result<()> {
        let last = self.sectors.finish();
        self.send(last.into_iter().collect()).await?;
        while !self.writes.is_empty() {
            self.confirm_oldest().await?;
        }
        self.link.close().await
    }
}

fn failed(path: &str, source: super::Error) -> Error {
    Error::NfcWrite {
        path: path.to_owned(),
        source,
    }
}

#[async_trait]
impl DiskWriter for NfcWriter {
    fn length(&self) -> u64 {
        self.length
    }

    async fn write(&mut self, offset: u64, bytes: Bytes) -> crate::Result<()> {
        self.check(offset, &bytes)?;
        self.position = offset + bytes.len() as u64;
        let mut ready = Vec::new();
        self.sectors.push(offset, bytes, &mut ready);
        let outcome = self.send(ready).await;
        self.settle(outcome)
    }

    async fn finish(mut self: Box<Self>) -> crate::Result<()> {
        self.check(self.position, &Bytes::new())?;
        let outcome = self.flush().await;
        self.settle(outcome)
    }

    async fn abort(mut self: Box<Self>) -> crate::Result<()> {
        for (_, write) in std::mem::take(&mut self.writes) {
            write.stop().await;
        }
        Ok(())
    }
}
