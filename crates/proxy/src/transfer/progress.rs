//! How far a transfer is.

use std::sync::atomic::{AtomicU64, Ordering};

use stillwater_proxy_api::TransferProgress;

/// Counters that the stages of a transfer add to.
#[derive(Debug, Default)]
pub struct Progress {
    /// Size of the disk.
    pub length: AtomicU64,
    /// Bytes of the disk that are dealt with, holes included.
    pub done: AtomicU64,
    /// Bytes read from the source.
    pub read: AtomicU64,
    /// Plain bytes of chunks that were not stored.
    pub new: AtomicU64,
    /// Sealed bytes sent, or bytes written.
    pub sent: AtomicU64,
    /// Chunks.
    pub chunks: AtomicU64,
    /// Chunks that were not stored.
    pub new_chunks: AtomicU64,
    /// Zeros.
    pub holes: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, bytes: u64) {
    counter.fetch_add(bytes, Ordering::Relaxed);
}

impl Progress {
    /// Counters for a disk of `length` bytes.
    pub fn new(length: u64) -> Self {
        Self {
            length: AtomicU64::new(length),
            ..Self::default()
        }
    }

    /// A hole was dealt with.
    pub(crate) fn hole(&self, length: u64) {
        add(&self.holes, length);
        add(&self.done, length);
    }

    /// The disk is begun again: what was read and sent stays counted.
    pub(crate) fn restart(&self) {
        for counter in [&self.done, &self.chunks, &self.holes] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// The counters as the controller hears of them.
    pub fn snapshot(&self) -> TransferProgress {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TransferProgress {
            done_bytes: load(&self.done),
            length_bytes: load(&self.length),
            read_bytes: load(&self.read),
            new_bytes: load(&self.new),
            sent_bytes: load(&self.sent),
            chunk_count: load(&self.chunks),
            new_chunk_count: load(&self.new_chunks),
            hole_bytes: load(&self.holes),
        }
    }
}
