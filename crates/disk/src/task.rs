//! Work in a task of its own that ends with its handle.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

/// A running task. Dropping this stops it.
#[derive(Debug)]
pub(crate) struct Running<T>(JoinHandle<T>);

impl<T: Send + 'static> Running<T> {
    pub(crate) fn spawn(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    /// What the task came to; none when the runtime stopped it. Resumes its panic.
    pub(crate) async fn join(self) -> Option<T> {
        self.await
    }

    /// Stops the task and waits until it is gone.
    pub(crate) async fn stop(mut self) {
        self.0.abort();
        // Whether it ended by itself just before makes no difference.
        drop((&mut self.0).await);
    }
}

impl<T> Future for Running<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|outcome| match outcome {
                Ok(value) => Some(value),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => None,
                },
            })
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
