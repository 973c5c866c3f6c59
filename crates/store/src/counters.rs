//! What the store has done since it was opened; metrics are made of these.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;
use crate::pack::{FinishedPack, StoredRecord};

/// Counts that only grow.
#[derive(Debug, Default)]
pub struct Counters {
    packs_written: AtomicU64,
    bytes_written: AtomicU64,
    records_read: AtomicU64,
    bytes_read: AtomicU64,
    records_damaged: AtomicU64,
    points_committed: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packs that were acknowledged.
    pub packs_written: u64,
    /// Their bytes.
    pub bytes_written: u64,
    /// Records that were read and checked.
    pub records_read: u64,
    /// Their stored bytes.
    pub bytes_read: u64,
    /// Records that were found damaged when they were read.
    pub records_damaged: u64,
    /// Points that were committed.
    pub points_committed: u64,
}

impl Counters {
    /// The counts now.
    pub fn read(&self) -> Counts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            packs_written: get(&self.packs_written),
            bytes_written: get(&self.bytes_written),
            records_read: get(&self.records_read),
            bytes_read: get(&self.bytes_read),
            records_damaged: get(&self.records_damaged),
            points_committed: get(&self.points_committed),
        }
    }

    pub(crate) fn note_pack(&self, pack: &FinishedPack<'_>) {
        self.packs_written.fetch_add(1, Ordering::Relaxed);
        self.bytes_written.fetch_add(pack.length, Ordering::Relaxed);
    }

    pub(crate) fn note_read(&self, outcome: &Result<StoredRecord, Error>) {
        match outcome {
            Ok(record) => {
                self.records_read.fetch_add(1, Ordering::Relaxed);
                self.bytes_read
                    .fetch_add(record.stored.len() as u64, Ordering::Relaxed);
            }
            Err(Error::Damaged { .. }) => {
                self.records_damaged.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }

    pub(crate) fn note_commit(&self) {
        self.points_committed.fetch_add(1, Ordering::Relaxed);
    }
}
