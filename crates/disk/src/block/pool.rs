//! How many calls of the kernel are under way at once.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinError;

use super::buffer::{Buffer, Shelf};

/// A number of threads that read and write blocks, for all disks together, and their buffers.
///
/// Buffers that are free are kept, two for each thread; those in use are bounded by what callers
/// have asked for and not dropped. Needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct BlockPool {
    threads: Arc<Semaphore>,
    shelf: Arc<Shelf>,
}

impl BlockPool {
    /// A pool of so many threads; a disk alone is read well with eight.
    pub fn new(threads: NonZeroUsize) -> Self {
        Self {
            threads: Arc::new(Semaphore::new(threads.get().min(Semaphore::MAX_PERMITS))),
            shelf: Shelf::new(threads.get().saturating_mul(2)),
        }
    }

    pub(super) fn buffer(&self, length: usize) -> Buffer {
        self.shelf.take(length)
    }

    /// Runs blocking work when a thread is free; none when the runtime ends.
    ///
    /// Work that began is never cut short: who stops waiting for it leaves its thread taken until
    /// it is over.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let thread = Arc::clone(&self.threads).acquire_owned().await.ok()?;
        let work = move || {
            let value = work();
            drop(thread);
            value
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => Some(value),
            Err(error) => stopped(error),
        }
    }

    #[cfg(test)]
    pub(super) fn free_buffers(&self) -> usize {
        self.shelf.free()
    }
}

fn stopped<T>(error: JoinError) -> Option<T> {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => None,
    }
}
