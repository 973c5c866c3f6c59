//! First stage of a backup: the frozen disk's bytes, in order and within a budget.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use stillwater_disk::{DiskReader, read_ahead};
use stillwater_types::{Extent, ExtentSet};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::limits::Limits;
use super::progress::{Progress, add};
use crate::error::{Error, Result};

/// A frozen disk.
#[derive(Clone)]
pub struct Source {
    /// What it is called in faults.
    pub name: String,
    /// Its bytes.
    pub reader: Arc<dyn DiskReader>,
}

/// What the reader hands on.
pub(super) enum Piece {
    /// Bytes at an offset.
    Data { offset: u64, bytes: Bytes },
    /// All areas were read. A queue that ends without it was cut off.
    End,
}

/// Bytes that give their share of the budget back when the last chunk in them is done.
struct Charged {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads `areas` in order. Checks that the transport left nothing out: what lies between areas
/// becomes a hole, and a piece that never came must not.
pub(super) async fn read(
    source: &Source,
    areas: &ExtentSet,
    limits: &Limits,
    progress: &Progress,
    out: mpsc::Sender<Piece>,
) -> Result<()> {
    let budget = Arc::new(Semaphore::new(limits.plain_bytes));
    let reader = Arc::clone(&source.reader);
    let mut pieces = read_ahead(
        reader,
        areas.clone(),
        limits.request_bytes,
        limits.requests_in_flight,
    );
    let mut cursor = Cursor::new(areas);
    while let Some(piece) = pieces.next().await {
        let (offset, bytes) = piece.map_err(|error| Error::Read {
            disk: source.name.clone(),
            offset: cursor.due().unwrap_or_default(),
            source: Box::new(error),
        })?;
        cursor
            .pass(offset, bytes.len() as u64)
            .map_err(|due| gap(source, due, offset))?;
        add(&progress.read, bytes.len() as u64);
        let bytes = charge(&budget, limits, bytes).await?;
        out.send(Piece::Data { offset, bytes })
            .await
            .map_err(|_| Error::Stopped)?;
    }
    match cursor.due() {
        Some(due) => Err(gap(source, due, source.reader.length())),
        None => out.send(Piece::End).await.map_err(|_| Error::Stopped),
    }
}

fn gap(source: &Source, due: u64, found: u64) -> Error {
    Error::ReadGap {
        disk: source.name.clone(),
        due,
        found,
    }
}

/// Waits until the budget has room. Chunks point into these bytes, so they are freed together.
async fn charge(budget: &Arc<Semaphore>, limits: &Limits, bytes: Bytes) -> Result<Bytes> {
    let share = bytes.len().min(limits.plain_bytes);
    let share = u32::try_from(share).map_err(|_| Error::Order("a read request is too large"))?;
    let permit = Arc::clone(budget).acquire_many_owned(share).await;
    let permit = permit.map_err(|_| Error::Stopped)?;
    Ok(Bytes::from_owner(Charged {
        bytes,
        _share: permit,
    }))
}

/// Which byte of the areas comes next.
struct Cursor {
    areas: std::vec::IntoIter<Extent>,
    rest: Extent,
}

impl Cursor {
    fn new(areas: &ExtentSet) -> Self {
        let mut areas = areas.iter().collect::<Vec<_>>().into_iter();
        let rest = areas.next().unwrap_or(Extent::new(0, 0));
        Self { areas, rest }
    }

    fn due(&self) -> Option<u64> {
        (self.rest.length > 0).then_some(self.rest.start)
    }

    /// Takes a piece, or says what was due instead.
    fn pass(&mut self, offset: u64, length: u64) -> Result<(), u64> {
        if self.due() != Some(offset) || length > self.rest.length {
            return Err(self.rest.start);
        }
        self.rest = Extent::new(offset.saturating_add(length), self.rest.length - length);
        if self.rest.length == 0
            && let Some(next) = self.areas.next()
        {
            self.rest = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_is_not_the_next_is_noticed() {
        let areas = ExtentSet::collect([Extent::new(0, 8192), Extent::new(40_960, 4096)], 1 << 20);
        let mut cursor = Cursor::new(&areas);
        assert_eq!(cursor.pass(4096, 4096), Err(0));
        assert_eq!(cursor.pass(0, 12_288), Err(0));
        assert_eq!(cursor.pass(0, 4096), Ok(()));
        assert_eq!(cursor.pass(40_960, 4096), Err(4096));
        assert_eq!(cursor.due(), Some(4096));
        assert_eq!(cursor.pass(4096, 4096), Ok(()));
        assert_eq!(cursor.pass(8192, 4096), Err(40_960));
        assert_eq!(cursor.pass(40_960, 4096), Ok(()));
        assert_eq!(cursor.due(), None);
        assert!(cursor.pass(45_056, 1).is_err());
        assert_eq!(Cursor::new(&ExtentSet::empty()).due(), None);
    }
}
