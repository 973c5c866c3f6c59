//! On real files, with direct access where the file system has it.

use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use proptest::prelude::*;
use rustix::fs::OFlags;
use stillwater_types::Extent;
use tempfile::TempDir;

use super::buffer::{ALIGN, Shelf};
use super::{Access, BlockFile, BlockPool, BlockReader, BlockWriter, LocalBlocks, Unwritten};
use crate::{DiskWriter, Error, Result};

const MIB: u64 = 1 << 20;

fn pool(threads: usize) -> BlockPool {
    BlockPool::new(NonZeroUsize::new(threads).expect("some"))
}

fn content(length: u64, seed: u64) -> Vec<u8> {
    let word = |at: u64| {
        (at ^ seed)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(word).collect();
    bytes.truncate(length as usize);
    bytes
}

fn open(path: &Path, access: Access) -> File {
    let flags = match access {
        Access::Direct => OFlags::DIRECT.bits() as i32,
        Access::Cached => 0,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags);
    options.open(path).expect("opens")
}

/// A file with content and a reader of it.
fn reader(dir: &TempDir, bytes: &[u8], access: Access, pool: &BlockPool) -> BlockReader {
    let path = dir.path().join("disk");
    std::fs::write(&path, bytes).expect("written");
    let file = BlockFile::new(
        open(&path, access),
        "disk".into(),
        bytes.len() as u64,
        access,
    );
    BlockReader::new(file, pool.clone())
}

async fn read(reader: &BlockReader, start: u64, length: u64) -> Result<Bytes> {
    reader.read(Extent::new(start, length), |_| Ok(())).await
}

#[tokio::test]
async fn any_range_is_read_exactly_with_and_without_the_cache() {
    let dir = TempDir::new().expect("a directory");
    let bytes = content(3 * MIB + 512, 1);
    let ranges = [
        (0, 1),
        (0, MIB),
        (511, 2),
        (4095, 4098),
        (MIB - 1, MIB + 2),
        (3 * MIB, 512),
        (3 * MIB + 511, 1),
        (0, 3 * MIB + 512),
        (17, 0),
    ];
    for access in [Access::Direct, Access::Cached] {
        let reader = reader(&dir, &bytes, access, &pool(4));
        let reads = ranges.map(|(start, length)| read(&reader, start, length));
        for ((start, length), got) in ranges.into_iter().zip(join_all(reads).await) {
            let want = &bytes[start as usize..(start + length) as usize];
            assert!(got.expect("reads") == want, "{start}+{length} {access:?}");
        }
    }
}

#[tokio::test]
async fn what_lies_beyond_the_disk_is_refused_and_never_asked_of_the_kernel() {
    let dir = TempDir::new().expect("a directory");
    let reader = reader(&dir, &content(8192, 1), Access::Cached, &pool(1));
    for (start, length) in [(8192, 1), (0, 8193), (u64::MAX, 2), (1, u64::MAX)] {
        let outcome = read(&reader, start, length).await;
        assert!(matches!(outcome, Err(Error::BeyondDisk { .. })));
    }
}

#[tokio::test]
async fn a_file_that_ends_early_is_an_error_and_is_not_padded() {
    let dir = TempDir::new().expect("a directory");
    for (access, cut) in [
        (Access::Direct, 8192),
        (Access::Direct, 9000),
        (Access::Cached, 9000),
    ] {
        let reader = reader(&dir, &content(MIB, 1), access, &pool(1));
        let file = OpenOptions::new()
            .write(true)
            .open(dir.path().join("disk"))
            .expect("opens");
        file.set_len(cut).expect("cut");
        let error = read(&reader, 4096, 8192).await.expect_err("too short");
        assert!(
            matches!(&error, Error::BadRange { problem, .. } if problem.contains(&cut.to_string())),
            "{error:?}"
        );
        assert_eq!(read(&reader, 0, 8192).await.expect("there").len(), 8192);
    }
}

#[test]
fn buffers_are_aligned_and_come_back_when_nobody_holds_them() {
    let shelf = Shelf::new(2);
    let held: Vec<Bytes> = [1, 4096, 100_000]
        .into_iter()
        .map(|length| {
            let buffer = shelf.take(length);
            assert_eq!(buffer.as_ref().len(), length);
            assert_eq!(buffer.as_ref().as_ptr().align_offset(ALIGN), 0);
            buffer.freeze(0..length)
        })
        .collect();
    let part = held[2].slice(5..6);
    assert_eq!(shelf.free(), 0);
    drop(held);
    assert_eq!(shelf.free(), 2, "one is held by its part");
    drop(part);
    assert_eq!(shelf.free(), 2, "no more than two are kept");
    let again = shelf.take(100_000);
    assert_eq!(shelf.free(), 1, "the newest is used again");
    drop(again);
    drop(shelf.take(10));
}

#[tokio::test]
async fn no_more_threads_work_than_the_pool_has_and_those_left_behind_count() {
    let pool = pool(3);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let work = |_| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        pool.run(move || {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            now.fetch_sub(1, Ordering::SeqCst);
        })
    };
    // Dropped when half of it began.
    let left = tokio::time::timeout(Duration::from_millis(2), join_all((0..6).map(work))).await;
    assert!(left.is_err());
    assert_eq!(join_all((0..12).map(work)).await.len(), 12);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn reading_a_disk_reuses_the_same_few_buffers() {
    let dir = TempDir::new().expect("a directory");
    let pool = pool(2);
    let reader = reader(&dir, &content(4 * MIB, 1), Access::Direct, &pool);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..32 {
        let bytes = read(&reader, round % 4 * MIB, MIB).await.expect("reads");
        seen.insert(bytes.as_ptr());
    }
    assert_eq!((seen.len(), pool.free_buffers()), (1, 1));
}

/// Writes, and what the file holds at the end.
fn written(
    length: u64,
    before: u8,
    unwritten: Unwritten,
    access: Access,
    writes: &[(u64, Vec<u8>)],
) -> Vec<u8> {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("disk");
    std::fs::write(&path, vec![before; length as usize]).expect("written");
    let file = BlockFile::new(open(&path, access), "disk".into(), length, access);
    let mut writer: Box<dyn DiskWriter> =
        Box::new(BlockWriter::new(LocalBlocks::new(file, pool(3)), unwritten));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for (offset, bytes) in writes {
            let bytes = Bytes::copy_from_slice(bytes);
            writer.write(*offset, bytes).await.expect("writes");
        }
        writer.finish().await.expect("finishes");
    });
    std::fs::read(&path).expect("reads")
}

fn writes(length: u64) -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let gap = prop_oneof![
        3 => Just(0),
        2 => 1..5000u64,
        2 => 60_000..70_000u64,
        1 => 0..2 * MIB,
    ];
    let bytes = prop_oneof![2 => 1..9000u64, 2 => Just(32_768), 1 => 1..3 * MIB];
    proptest::collection::vec((gap, bytes, any::<u64>()), 0..24).prop_map(move |parts| {
        let mut at = 0;
        let mut writes = Vec::new();
        for (gap, bytes, seed) in parts {
            at += gap;
            let bytes = bytes.min(length.saturating_sub(at));
            if bytes == 0 {
                break;
            }
            writes.push((at, content(bytes, seed)));
            at += bytes;
        }
        writes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_disk_holds_what_was_written_and_zeros_elsewhere(
        sectors in 1..24_000u64,
        direct in any::<bool>(),
        old in any::<bool>(),
        writes in writes(24_000 * 512),
    ) {
        let length = sectors * 512;
        let access = if direct { Access::Direct } else { Access::Cached };
        let (before, unwritten) = match old {
            true => (0xaa, Unwritten::BecomeZeros),
            false => (0, Unwritten::AreZeros),
        };
        let inside = |(at, bytes): &(u64, Vec<u8>)| at + bytes.len() as u64 <= length;
        let writes: Vec<_> = writes.into_iter().filter(inside).collect();
        let mut want = vec![0; length as usize];
        for (at, bytes) in &writes {
            want[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
        }
        prop_assert!(written(length, before, unwritten, access, &writes) == want);
    }
}

#[test]
fn what_is_known_to_be_zero_is_not_written() {
    let writes = [(300 * 1024, vec![1; 100])];
    let found = written(MIB, 0xaa, Unwritten::AreZeros, Access::Direct, &writes);
    let touched: Vec<usize> = (0..found.len()).filter(|at| found[*at] != 0xaa).collect();
    assert_eq!((touched[0], touched.len()), (300 * 1024, 4096));
}

#[tokio::test]
async fn writes_must_ascend_and_stay_within_the_disk_and_an_error_is_final() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("disk");
    std::fs::write(&path, vec![0; 8192]).expect("written");
    // Opened for reading, so that the kernel refuses what is written.
    let file = File::open(&path).expect("opens");
    let file = BlockFile::new(file, "disk".into(), 8192, Access::Cached);
    let mut writer = Box::new(BlockWriter::new(
        LocalBlocks::new(file, pool(1)),
        Unwritten::AreZeros,
    ));
    writer
        .write(512, Bytes::from_static(&[1; 512]))
        .await
        .expect("gathered");
    let outcome = writer.write(1023, Bytes::from_static(&[1])).await;
    assert!(matches!(
        outcome,
        Err(Error::NotAscending { position: 1024, .. })
    ));
    let outcome = writer.write(8000, Bytes::from_static(&[1; 512])).await;
    assert!(matches!(outcome, Err(Error::BeyondDisk { .. })));
    let outcome = writer.finish().await;
    assert!(
        matches!(outcome, Err(Error::WriteFailed { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn an_aborted_write_leaves_nothing_under_way() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("disk");
    let file = File::create(&path).expect("made");
    file.set_len(16 * MIB).expect("sized");
    let watched = file.try_clone().expect("cloned");
    let file = BlockFile::new(file, "disk".into(), 16 * MIB, Access::Cached);
    let mut writer = Box::new(BlockWriter::new(
        LocalBlocks::new(file, pool(1)),
        Unwritten::AreZeros,
    ));
    writer
        .write(0, Bytes::from(vec![1; 8 << 20]))
        .await
        .expect("writes");
    writer.abort().await.expect("aborts");
    let now = watched
        .metadata()
        .expect("there")
        .modified()
        .expect("known");
    let mut byte = [0];
    let read = File::open(&path).expect("opens").read_at(&mut byte, 0);
    assert_eq!((read.expect("reads"), byte), (1, [1]));
    let later = watched
        .metadata()
        .expect("there")
        .modified()
        .expect("known");
    assert_eq!(now, later);
}
