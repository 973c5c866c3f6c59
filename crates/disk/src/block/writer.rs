//! Writing a disk in pieces that are large and aligned.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_types::Extent;

use super::buffer::{ALIGN, Buffer, Shelf};
use crate::task::Running;
use crate::{DiskWriter, Error, Result};

/// What is written at once.
const PIECE: usize = 1024 * 1024;
/// Pieces that are written at a time.
const IN_FLIGHT: usize = 8;
/// A gap within a piece that is smaller is written as zeros: two requests would take longer.
const GAP_MAX: u64 = 64 * 1024;

/// What the parts of a disk hold that are never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritten {
    /// The disk is new and reads as zeros: they are left as they are.
    AreZeros,
    /// The disk had content: zeros are put there.
    BecomeZeros,
}

/// What takes the pieces. Several are under way at once and never overlap.
#[async_trait]
pub(crate) trait Target: Send + Sync + 'static {
    /// For messages.
    fn name(&self) -> &str;

    /// Size of the disk.
    fn length(&self) -> u64;

    /// Writes all of it.
    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()>;

    /// Makes a range read as zeros.
    async fn zero(&self, extent: Extent) -> Result<()>;

    /// Waits until all that was written is on the medium. Nothing else is under way then.
    async fn sync(&self) -> Result<()>;
}

/// Writes a disk in ascending order, several pieces at once.
///
/// What is written is gathered into aligned pieces. Memory is bounded by nine of them.
#[derive(Debug)]
pub(crate) struct BlockWriter<T> {
    target: Arc<T>,
    shelf: Arc<Shelf>,
    unwritten: Unwritten,
    /// Behind the last byte that was given.
    position: u64,
    /// Up to here everything is given to the pool, as content or as zeros.
    settled: u64,
    piece: Option<Piece>,
    under_way: VecDeque<Running<Result<()>>>,
    failed: bool,
}

/// Bytes that are not under way yet: from `start`, which is aligned.
#[derive(Debug)]
struct Piece {
    start: u64,
    buffer: Buffer,
    filled: usize,
}

impl<T: Target> BlockWriter<T> {
    /// Writes to a disk whose length is a multiple of what the device is aligned to.
    pub(crate) fn new(target: T, unwritten: Unwritten) -> Self {
        Self {
            target: Arc::new(target),
            shelf: Shelf::new(IN_FLIGHT),
            unwritten,
            position: 0,
            settled: 0,
            piece: None,
            under_way: VecDeque::with_capacity(IN_FLIGHT),
            failed: false,
        }
    }

    async fn put(&mut self, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
        if self.gap_before(offset).is_some_and(|gap| gap > GAP_MAX) {
            self.flush().await?;
        }
        while !bytes.is_empty() {
            let piece = match self.piece.take() {
                Some(piece) => piece,
                None => self.begin(offset).await?,
            };
            let (piece, taken) = piece.add(offset, bytes);
            let full = piece.filled == PIECE;
            self.piece = Some(piece);
            if full {
                self.flush().await?;
            }
            offset += taken as u64;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        self.position = offset;
        Ok(())
    }

    fn gap_before(&self, offset: u64) -> Option<u64> {
        let piece = self.piece.as_ref()?;
        Some(offset.saturating_sub(piece.start + piece.filled as u64))
    }

    /// A piece for what comes at `offset`, and zeros before it.
    async fn begin(&mut self, offset: u64) -> Result<Piece> {
        // A block is settled only when no more of it can come: a piece ends where it is full, or
        // where the next write is more than a block away. So this is never before what is settled.
        let start = offset / ALIGN as u64 * ALIGN as u64;
        self.blank(start).await?;
        Ok(Piece {
            start,
            buffer: self.shelf.take(PIECE),
            filled: 0,
        })
    }

    /// Sends what was gathered on its way.
    async fn flush(&mut self) -> Result<()> {
        let Some(mut piece) = self.piece.take() else {
            return Ok(());
        };
        let left = self.target.length() - piece.start;
        let bytes = piece.pad(usize::try_from(left).unwrap_or(usize::MAX));
        let Piece { start, buffer, .. } = piece;
        self.settled = start + bytes as u64;
        let (target, bytes) = (Arc::clone(&self.target), buffer.freeze(0..bytes));
        self.start(async move { target.write(start, bytes).await })
            .await
    }

    /// Makes everything from what is settled to `until` zeros.
    async fn blank(&mut self, until: u64) -> Result<()> {
        let hole = Extent::new(self.settled, until - self.settled);
        self.settled = until;
        match self.unwritten {
            Unwritten::BecomeZeros if hole.length > 0 => {
                let target = Arc::clone(&self.target);
                self.start(async move { target.zero(hole).await }).await
            }
            _ => Ok(()),
        }
    }

    async fn start(
        &mut self,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Result<()> {
        if self.under_way.len() >= IN_FLIGHT {
            self.await_oldest().await?;
        }
        self.under_way.push_back(Running::spawn(work));
        Ok(())
    }

    async fn await_oldest(&mut self) -> Result<()> {
        match self.under_way.pop_front() {
            Some(running) => running.join().await.unwrap_or_else(|| Err(self.stopped())),
            None => Ok(()),
        }
    }

    async fn complete(&mut self) -> Result<()> {
        self.flush().await?;
        self.blank(self.target.length()).await?;
        while !self.under_way.is_empty() {
            self.await_oldest().await?;
        }
        self.target.sync().await
    }

    fn stopped(&self) -> Error {
        Error::Stopped {
            path: self.target.name().to_owned(),
        }
    }

    fn check(&self, offset: u64, length: u64) -> Result<()> {
        if self.failed {
            return Err(Error::WriteFailed {
                path: self.target.name().to_owned(),
                problem: "it failed before".into(),
            });
        }
        if offset < self.position {
            return Err(Error::NotAscending {
                offset,
                position: self.position,
            });
        }
        let within = |end: u64| end <= self.target.length();
        match offset.checked_add(length).is_some_and(within) {
            true => Ok(()),
            false => Err(Error::BeyondDisk {
                extent: Extent::new(offset, length),
                length: self.target.length(),
            }),
        }
    }
}

impl Piece {
    /// Takes what fits of `bytes`, with zeros before them; says how much it took.
    fn add(mut self, offset: u64, bytes: &[u8]) -> (Self, usize) {
        let at = usize::try_from(offset - self.start).map_or(PIECE, |at| at.min(PIECE));
        let taken = bytes.len().min(PIECE - at);
        let room = self.buffer.as_mut();
        room.get_mut(self.filled..at).unwrap_or_default().fill(0);
        if let (Some(to), Some(from)) = (room.get_mut(at..at + taken), bytes.get(..taken)) {
            to.copy_from_slice(from);
        }
        self.filled = at + taken;
        (self, taken)
    }

    /// Fills the last block with zeros, as far as the disk goes. Says how many bytes there are.
    fn pad(&mut self, left: usize) -> usize {
        let end = self.filled.next_multiple_of(ALIGN).min(left).min(PIECE);
        let rest = self.buffer.as_mut().get_mut(self.filled..end);
        rest.unwrap_or_default().fill(0);
        end
    }
}

#[async_trait]
impl<T: Target> DiskWriter for BlockWriter<T> {
    fn length(&self) -> u64 {
        self.target.length()
    }

    async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<()> {
        self.check(offset, bytes.len() as u64)?;
        let outcome = self.put(offset, &bytes).await;
        self.failed = outcome.is_err();
        outcome
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        self.check(self.position, 0)?;
        self.complete().await
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        // What the kernel has begun cannot be stopped, and the disk may be detached next.
        while let Some(running) = self.under_way.pop_front() {
            drop(running.join().await);
        }
        Ok(())
    }
}
