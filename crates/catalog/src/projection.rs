//! What can be worked out again: rows that are quicker to find than to fold.
//!
//! Any error, panic or mismatch of the store below throws the rows away and has them rebuilt from
//! the journal; nobody is asked. A watermark beside the rows says how far in the journal they are,
//! written in the same atomic batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Position;
use crate::sled_store;

/// One change of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The row is so now.
    Put(&'static str, Vec<u8>, Vec<u8>),
    /// The row is gone.
    Remove(&'static str, Vec<u8>),
}

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// The store below failed; the text is for the log.
pub type Broken = String;

/// What the projection needs of a store: ordered keys in named trees, and atomic batches.
pub trait KeyValue: Send {
    /// One value.
    fn load(&self, tree: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Broken>;

    /// Rows in descending order of key, below `before` when it is given.
    fn page(&self, tree: &str, before: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, Broken>;

    /// Applies every write and the watermark, or none of them.
    fn write(&self, writes: &[Write], watermark: Option<&Position>) -> Result<(), Broken>;

    /// How far in the journal the rows are; none when they are of no use.
    fn watermark(&self) -> Result<Option<Position>, Broken>;
}

type Opener = Box<dyn Fn(&Path) -> Result<Box<dyn KeyValue>, Broken> + Send + Sync>;
type Rebuild = Box<dyn Fn(&dyn KeyValue) -> Result<(), Broken> + Send + Sync>;

/// Rows that can be worked out again. Calls block on the disk.
pub struct Projection {
    dir: PathBuf,
    open: Opener,
    rebuild: Rebuild,
    store: Mutex<Option<Box<dyn KeyValue>>>,
}

impl std::fmt::Debug for Projection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Projection")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Projection {
    /// Opens the rows in `dir`. `rebuild` fills an empty store from the journal, watermark included;
    /// `is_current` says whether a watermark is a place in the journal.
    pub fn open(
        dir: &Path,
        is_current: impl FnOnce(&Position) -> bool,
        rebuild: impl Fn(&dyn KeyValue) -> Result<(), Broken> + Send + Sync + 'static,
    ) -> Self {
        Self::open_with(
            Box::new(sled_store::open),
            dir,
            is_current,
            Box::new(rebuild),
        )
    }

    fn open_with(
        open: Opener,
        dir: &Path,
        is_current: impl FnOnce(&Position) -> bool,
        rebuild: Rebuild,
    ) -> Self {
        let projection = Self {
            dir: dir.to_owned(),
            open,
            rebuild,
            store: Mutex::new(None),
        };
        let opened = guard(|| {
            let store = (projection.open)(dir)?;
            match store.watermark()? {
                Some(watermark) if is_current(&watermark) => Ok(store),
                _ => Err("the rows are of another journal or of none".to_owned()),
            }
        });
        match opened {
            Ok(store) => *projection.locked() = Some(store),
            Err(broken) => projection.start_anew(&mut projection.locked(), &broken),
        }
        projection
    }

    /// How far in the journal the rows are.
    pub fn watermark(&self) -> Option<Position> {
        self.with(|store| store.watermark()).flatten()
    }

    /// One value; none too when the store cannot be had at all, which is logged.
    pub fn load(&self, tree: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.with(|store| store.load(tree, key)).flatten()
    }

    /// Rows in descending order of key, below `before` when it is given.
    pub fn page(&self, tree: &str, before: Option<&[u8]>, limit: usize) -> Vec<Row> {
        self.with(|store| store.page(tree, before, limit))
            .unwrap_or_default()
    }

    /// Applies `writes`, and moves the watermark if one is given. A store that fails is rebuilt,
    /// which brings what the journal says but not what was only cached.
    pub fn write(&self, writes: &[Write], watermark: Option<&Position>) {
        self.with(|store| store.write(writes, watermark));
    }

    /// Runs `act`; on any failure rebuilds and runs it once more.
    fn with<T>(&self, act: impl Fn(&dyn KeyValue) -> Result<T, Broken>) -> Option<T> {
        let mut store = self.locked();
        for _ in 0..2 {
            let result = match store.as_deref() {
                Some(open) => guard(|| act(open)),
                None => Err("the store is not open".to_owned()),
            };
            match result {
                Ok(value) => return Some(value),
                Err(broken) => self.start_anew(&mut store, &broken),
            }
        }
        None
    }

    fn start_anew(&self, slot: &mut Option<Box<dyn KeyValue>>, why: &str) {
        tracing::warn!(dir = %self.dir.display(), why, "rebuild the projection from the journal");
        // Closed before its directory goes: sled holds a lock and flushes when it is dropped.
        let closed = guard(|| {
            drop(slot.take());
            Ok(())
        });
        let rebuilt = closed.and_then(|()| {
            guard(|| {
                remove_dir(&self.dir).map_err(|error| format!("remove the old rows: {error}"))?;
                let store = (self.open)(&self.dir)?;
                (self.rebuild)(store.as_ref())?;
                Ok(store)
            })
        });
        match rebuilt {
            Ok(store) => *slot = Some(store),
            Err(why) => tracing::error!(why, "cannot rebuild the projection; lists are incomplete"),
        }
    }

    fn locked(&self) -> MutexGuard<'_, Option<Box<dyn KeyValue>>> {
        // A panic inside was caught and led to a rebuild, so the content is sound.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `act` with panics of the store turned into failures.
fn guard<T>(act: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| Err("the store panicked".to_owned()))
}

fn remove_dir(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
