//! One disk by several ways: where one fails for good, the next goes on from that very range.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_types::Extent;

use crate::{DiskReader, Error, Result};

/// A way to a frozen disk that is opened when it is needed.
#[async_trait]
pub trait Way: Send + Sync {
    /// What it is called in faults and logs.
    fn name(&self) -> String;

    /// Opens the disk.
    async fn open(&self) -> Result<Arc<dyn DiskReader>>;
}

/// A way that was given up.
#[derive(Debug)]
pub struct GivenUp {
    /// Its name.
    pub way: String,
    /// Why.
    pub error: Error,
}

/// Reads a disk by the first way that works, and by the next one where that fails.
///
/// Each way repeats by itself what is worth repeating: an error from one is final, and there is no
/// way back. What was read is not read again. All ways lead to the same frozen disk, so bytes of two
/// of them fit together.
pub struct FallbackReader {
    length: u64,
    ways: Vec<Box<dyn Way>>,
    /// Which way is taken, opened or not. Held while one is opened, so that only one is.
    taken: tokio::sync::Mutex<Taken>,
    given_up: Mutex<Vec<GivenUp>>,
}

#[derive(Default)]
struct Taken {
    index: usize,
    reader: Option<Arc<dyn DiskReader>>,
}

impl FallbackReader {
    /// For a disk of `length` bytes; `ways` come best first, and at least one.
    pub fn new(length: u64, ways: Vec<Box<dyn Way>>) -> Self {
        Self {
            length,
            ways,
            taken: tokio::sync::Mutex::default(),
            given_up: Mutex::default(),
        }
    }

    /// Opens the first way that can be opened, so that a disk that cannot be reached at all is known
    /// before anything begins.
    ///
    /// # Errors
    /// The last way's, when none can be opened.
    pub async fn open(&self) -> Result<()> {
        self.current().await.map(drop)
    }

    /// The ways that were given up so far, and which one is taken now.
    pub async fn history(&self) -> (Vec<GivenUp>, usize) {
        let index = self.taken.lock().await.index;
        (std::mem::take(&mut *self.given_up()), index)
    }

    fn given_up(&self) -> std::sync::MutexGuard<'_, Vec<GivenUp>> {
        // Only pushed to.
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way that is taken, opened.
    async fn current(&self) -> Result<(usize, Arc<dyn DiskReader>)> {
        let mut taken = self.taken.lock().await;
        loop {
            if let Some(reader) = &taken.reader {
                return Ok((taken.index, Arc::clone(reader)));
            }
            let way = self.ways.get(taken.index).ok_or_else(no_way)?;
            match self.open_way(&**way).await {
                Ok(reader) => taken.reader = Some(reader),
                Err(error) => self.next(&mut taken, error)?,
            }
        }
    }

    async fn open_way(&self, way: &dyn Way) -> Result<Arc<dyn DiskReader>> {
        let reader = way.open().await?;
        match reader.length() == self.length {
            true => Ok(reader),
            false => Err(Error::WrongLength {
                path: way.name(),
                expected: self.length,
                found: reader.length(),
            }),
        }
    }

    /// Gives the taken way up, unless it is the last: then its error is the disk's.
    fn next(&self, taken: &mut Taken, error: Error) -> Result<()> {
        if taken.index + 1 >= self.ways.len() {
            return Err(error);
        }
        let way = self.ways.get(taken.index).map(|way| way.name());
        let way = way.unwrap_or_default();
        tracing::warn!(%way, error = %error.chain(), "cannot go on by this way to a disk, taking the next");
        self.given_up().push(GivenUp { way, error });
        taken.index += 1;
        taken.reader = None;
        Ok(())
    }

    async fn give_up(&self, index: usize, error: Error) -> Result<()> {
        let mut taken = self.taken.lock().await;
        // Another read may have given it up already.
        match taken.index == index {
            true => self.next(&mut taken, error),
            false => Ok(()),
        }
    }
}

fn no_way() -> Error {
    Error::BadPath {
        path: String::new(),
    }
}

#[async_trait]
impl DiskReader for FallbackReader {
    fn length(&self) -> u64 {
        self.length
    }

    async fn read(&self, extent: Extent) -> Result<Bytes> {
        loop {
            let (index, reader) = self.current().await?;
            match reader.read(extent).await {
                Ok(bytes) => return Ok(bytes),
                // The caller's own mistake, which every way answers alike.
                Err(error @ Error::BeyondDisk { .. }) => return Err(error),
                Err(error) => {
                    self.give_up(index, error).await?;
                    // Reads that are still under way fail, and go on by the next way.
                    reader.close().await;
                }
            }
        }
    }

    async fn close(&self) {
        let reader = self.taken.lock().await.reader.take();
        if let Some(reader) = reader {
            reader.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use super::*;

    const LENGTH: u64 = 1 << 20;

    /// Reads well until `fails_from`, and counts.
    struct Fake {
        name: &'static str,
        length: u64,
        opens: bool,
        fails_from: u64,
        counts: Arc<Counts>,
    }

    #[derive(Default)]
    struct Counts {
        opened: AtomicU32,
        read_bytes: AtomicU64,
    }

    #[async_trait]
    impl Way for Fake {
        fn name(&self) -> String {
            self.name.to_owned()
        }

        async fn open(&self) -> Result<Arc<dyn DiskReader>> {
            self.counts.opened.fetch_add(1, Ordering::SeqCst);
            match self.opens {
                true => Ok(Arc::new(Open {
                    length: self.length,
                    fails_from: self.fails_from,
                    counts: Arc::clone(&self.counts),
                })),
                false => Err(failed(Extent::new(0, 0))),
            }
        }
    }

    struct Open {
        length: u64,
        fails_from: u64,
        counts: Arc<Counts>,
    }

    #[async_trait]
    impl DiskReader for Open {
        fn length(&self) -> u64 {
            self.length
        }

        async fn read(&self, extent: Extent) -> Result<Bytes> {
            if extent.end() > self.length {
                return Err(Error::BeyondDisk {
                    extent,
                    length: self.length,
                });
            }
            if extent.end() > self.fails_from {
                return Err(failed(extent));
            }
            self.counts
                .read_bytes
                .fetch_add(extent.length, Ordering::SeqCst);
            Ok(Bytes::from(vec![7; extent.length as usize]))
        }
    }

    fn failed(extent: Extent) -> Error {
        Error::ReadFailed {
            path: "fake".into(),
            extent,
            source: std::io::Error::other("planned"),
        }
    }

    fn way(name: &'static str, opens: bool, fails_from: u64) -> (Box<dyn Way>, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        let fake = Fake {
            name,
            length: LENGTH,
            opens,
            fails_from,
            counts: Arc::clone(&counts),
        };
        (Box::new(fake), counts)
    }

    #[tokio::test]
    async fn where_one_way_fails_the_next_goes_on_and_nothing_is_read_twice() {
        let (broken, _) = way("hot-add", false, 0);
        let (half, first) = way("nfc", true, LENGTH / 2);
        let (whole, second) = way("folder", true, LENGTH);
        let disk = Arc::new(FallbackReader::new(LENGTH, vec![broken, half, whole]));
        let extents = (0..16).map(|n| Extent::new(n * LENGTH / 16, LENGTH / 16));
        let reads = extents.map(|extent| {
            let disk = Arc::clone(&disk);
            async move { disk.read(extent).await.map(|bytes| bytes.len()) }
        });
        let read: Vec<_> = futures::future::join_all(reads).await;
        assert!(
            read.iter()
                .all(|read| matches!(read, Ok(length) if *length == 1 << 16))
        );
        let load = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        assert_eq!(load(&first.read_bytes) + load(&second.read_bytes), LENGTH);
        assert_eq!(load(&first.read_bytes), LENGTH / 2);
        assert_eq!(second.opened.load(Ordering::SeqCst), 1);
        let (given_up, index) = disk.history().await;
        let names: Vec<&str> = given_up.iter().map(|one| one.way.as_str()).collect();
        assert_eq!((names.as_slice(), index), (&["hot-add", "nfc"][..], 2));
    }

    #[tokio::test]
    async fn the_last_ways_error_is_the_disks() {
        let (first, _) = way("nfc", true, 0);
        let (last, _) = way("folder", true, 4096);
        let disk = FallbackReader::new(LENGTH, vec![first, last]);
        assert!(disk.read(Extent::new(0, 4096)).await.is_ok());
        assert!(disk.read(Extent::new(0, 8192)).await.is_err());
        // It stays the last way: what it can read it reads.
        assert!(disk.read(Extent::new(0, 4096)).await.is_ok());
        assert!(FallbackReader::new(LENGTH, vec![]).open().await.is_err());
    }

    #[tokio::test]
    async fn a_way_to_a_disk_of_another_length_is_not_taken() {
        let (wrong, _) = way("file", true, LENGTH);
        let (right, counts) = way("folder", true, 2 * LENGTH);
        drop(right);
        let other = Fake {
            name: "folder",
            length: LENGTH / 2,
            opens: true,
            fails_from: LENGTH,
            counts,
        };
        let disk = FallbackReader::new(LENGTH, vec![Box::new(other), wrong]);
        disk.open().await.expect("the second way");
        assert_eq!(disk.history().await.1, 1);
    }

    #[tokio::test]
    async fn a_callers_mistake_gives_no_way_up() {
        let (first, _) = way("nfc", true, LENGTH);
        let (second, counts) = way("folder", true, LENGTH);
        let disk = FallbackReader::new(LENGTH, vec![first, second]);
        assert!(disk.read(Extent::new(LENGTH, 1)).await.is_err());
        assert_eq!(counts.opened.load(Ordering::SeqCst), 0);
    }
}
