use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::sync::Semaphore;

use super::*;

const LENGTH: u64 = 500;

/// A disk in memory. A request takes a permit before it is answered, and counts while it waits.
struct Disk {
    bytes: Vec<u8>,
    permits: Semaphore,
    asked: AtomicUsize,
    broken_at: Option<u64>,
}

impl Disk {
    fn new(permits: usize, broken_at: Option<u64>) -> Arc<Self> {
        let bytes = (0..LENGTH).map(|at| (at % 251) as u8).collect();
        let permits = Semaphore::new(permits);
        Arc::new(Self {
            bytes,
            permits,
            asked: AtomicUsize::new(0),
            broken_at,
        })
    }
}

#[async_trait]
impl DiskReader for Disk {
    fn length(&self) -> u64 {
        LENGTH
    }

    async fn read(&self, extent: Extent) -> Result<Bytes> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.expect("open").forget();
        if self
            .broken_at
            .is_some_and(|at| extent.start <= at && at < extent.end())
        {
            return Err(Error::NotFound {
                path: "broken".into(),
            });
        }
        let range = extent.start as usize..extent.end() as usize;
        Ok(Bytes::copy_from_slice(&self.bytes[range]))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
}

proptest! {
    #[test]
    fn every_byte_comes_once_in_order(
        extents in prop::collection::vec((0..LENGTH, 1..80u64), 0..8),
        request_bytes in 0..90u32,
        in_flight in 0..6usize,
    ) {
        let extents = extents.into_iter().map(|(start, length)| Extent::new(start, length));
        let set = ExtentSet::collect(extents, LENGTH);
        let disk = Disk::new(Semaphore::MAX_PERMITS, None);
        let stream = read_ahead(disk.clone(), set.clone(), request_bytes, in_flight);
        let pieces: Vec<_> = runtime().block_on(stream.collect::<Vec<_>>());
        let mut read = Vec::new();
        for piece in pieces {
            let (offset, bytes) = piece.expect("a piece");
            let extent = Extent::new(offset, bytes.len() as u64);
            prop_assert!(bytes.len() as u64 <= u64::from(request_bytes.max(1)));
            prop_assert_eq!(&bytes[..], &disk.bytes[offset as usize..extent.end() as usize]);
            prop_assert!(read.last().is_none_or(|last: &Extent| last.end() <= offset));
            read.push(extent);
        }
        prop_assert_eq!(ExtentSet::collect(read, LENGTH), set);
    }
}

#[test]
fn no_more_requests_are_in_flight_than_allowed() {
    runtime().block_on(async {
        let disk = Disk::new(0, None);
        let mut stream = read_ahead(disk.clone(), ExtentSet::whole(LENGTH), 10, 4);
        // Nothing is asked before somebody wants it.
        assert_eq!(disk.asked.load(Ordering::SeqCst), 0);
        let first = Running::spawn(async move { (stream.next().await, stream) });
        while disk.asked.load(Ordering::SeqCst) < 4 {
            tokio::task::yield_now().await;
        }
        disk.permits.add_permits(4);
        let (piece, stream) = first.join().await.expect("not stopped");
        assert_eq!(piece.expect("not the end").expect("a piece").0, 0);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        // One was consumed, three were answered and wait: none is asked until the next poll.
        assert_eq!(disk.asked.load(Ordering::SeqCst), 4);
        drop(stream);
    });
}

#[test]
fn the_first_error_is_the_end() {
    runtime().block_on(async {
        let disk = Disk::new(Semaphore::MAX_PERMITS, Some(25));
        let stream = read_ahead(disk, ExtentSet::whole(LENGTH), 10, 3);
        let pieces: Vec<_> = stream.collect().await;
        assert_eq!(pieces.len(), 3);
        assert!(pieces.iter().take(2).all(Result::is_ok));
        assert!(matches!(pieces.last(), Some(Err(Error::NotFound { .. }))));
    });
}

#[test]
fn dropping_the_stream_stops_its_requests() {
    runtime().block_on(async {
        let disk = Disk::new(0, None);
        let mut stream = read_ahead(disk.clone(), ExtentSet::whole(LENGTH), 10, 4);
        let asking = Running::spawn(async move { stream.next().await.is_some() });
        while disk.asked.load(Ordering::SeqCst) < 4 {
            tokio::task::yield_now().await;
        }
        asking.stop().await;
        // Each request holds the disk, too.
        while Arc::strong_count(&disk) > 1 {
            tokio::task::yield_now().await;
        }
    });
}
