//! The thread that merges segments.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::segments::Inner;

/// A thread that works when it is woken, until it is joined.
pub(super) struct Worker {
    wake: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Worker {
    pub(super) fn start(inner: Arc<Inner>) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let work = move || {
            inner.load_filters();
            while woken.recv().is_ok() {
                inner.settle();
            }
        };
        let thread = Builder::new().name("chunk index".into()).spawn(work)?;
        Ok(Self { wake, thread })
    }

    pub(super) fn wake(&self) {
        // One wake-up that waits already is as good as two.
        if let Err(TrySendError::Disconnected(())) = self.wake.try_send(()) {
            tracing::error!("the thread that merges index segments has ended");
        }
    }

    /// Waits for its end.
    pub(super) fn join(self) {
        drop(self.wake);
        if self.thread.join().is_err() {
            tracing::error!("the thread that merges index segments panicked");
        }
    }
}
