//! Reads the rows of the log.

use jiff::Timestamp;
use stillwater_types::{Fault, Reason};

use super::Notice;
use crate::memory::{Memory, NOTICES_KEPT};

/// How many rows are looked at in one go.
const STRIDE: usize = 512;

/// A handle to the log; clones share it.
#[derive(Clone)]
pub struct Log {
    memory: Memory,
}

/// Notices, newest first.
pub struct Page {
    /// The notices.
    pub notices: Vec<Notice>,
    /// Where the next page begins, if there is one.
    pub before: Option<u64>,
}

impl Log {
    /// The log of `memory`.
    pub fn new(memory: Memory) -> Self {
        Self { memory }
    }

    /// What notices are told about.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The newest notices that are wanted, older than `before` and not older than `since`.
    ///
    /// # Errors
    /// `BUG` when the thread that reads is gone.
    pub async fn page(
        &self,
        wanted: impl Fn(&Notice) -> bool + Send + 'static,
        before: Option<u64>,
        since: Option<Timestamp>,
        limit: usize,
    ) -> Result<Page, Fault> {
        let memory = self.memory.clone();
        blocking(move || page(&memory, &wanted, before, since, limit)).await
    }

    /// The notices after a number, oldest first, and the number up to which was looked. Waits until something
    /// happened after it; what is not kept any more is passed over.
    ///
    /// # Errors
    /// `STORAGE_FAILED` when nothing can happen any more; `BUG` as [`Log::page`].
    pub async fn after(&self, number: u64) -> Result<(Vec<Notice>, u64), Fault> {
        let mut watch = self.memory.watch();
        let seen = watch.wait_for(|state| state.entries > number).await;
        let end = seen.map(|state| state.entries).map_err(|_| {
            Fault::new(
                Reason::StorageFailed,
                "the journal's thread has stopped; restart the controller",
            )
        })?;
        let first = number.max(end.saturating_sub(NOTICES_KEPT)) + 1;
        let last = end.min(first.saturating_add(STRIDE as u64));
        let memory = self.memory.clone();
        let found = move || (first..=last).filter_map(|n| memory.notice(n)).collect();
        Ok((blocking(found).await?, last))
    }
}

fn page(
    memory: &Memory,
    wanted: &dyn Fn(&Notice) -> bool,
    mut before: Option<u64>,
    since: Option<Timestamp>,
    limit: usize,
) -> Page {
    let mut notices = Vec::new();
    loop {
        let rows = memory.notices(before, STRIDE);
        let Some(oldest) = rows.last().map(|row| row.number) else {
            return Page {
                notices,
                before: None,
            };
        };
        for row in rows {
            if since.is_some_and(|since| row.at < since) {
                return Page {
                    notices,
                    before: None,
                };
            }
            if wanted(&row) {
                if notices.len() == limit {
                    let before = notices.last().map(|last: &Notice| last.number);
                    return Page { notices, before };
                }
                notices.push(row);
            }
        }
        before = Some(oldest);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::new(Reason::Bug, format!("read the event log: {error}")))
}

#[cfg(test)]
mod tests;
