//! What gives the bytes of disks, and what stands between it and the parsers.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::{Error, Limits, Result};

/// Something that gives bytes: a disk of a point, a partition, a logical volume.
pub trait BlockSource: Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> u64;

    /// Fills `buffer` from `offset` on, whole or not at all.
    ///
    /// # Errors
    /// When the bytes cannot be had, and when there are not as many.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// A disk that several readers share.
pub type Disk = Arc<dyn BlockSource>;

impl BlockSource for Vec<u8> {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = from
            .checked_add(buffer.len())
            .and_then(|end| self.get(from..end))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// Fills `buffer`, with the error of this crate.
pub(crate) fn fill(disk: &dyn BlockSource, offset: u64, buffer: &mut [u8]) -> Result<()> {
    let length = buffer.len();
    disk.read_at(offset, buffer).map_err(|source| Error::Read {
        offset,
        length,
        source,
    })
}

/// `length` bytes, of which the caller knows that they are few.
pub(crate) fn bytes(disk: &dyn BlockSource, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; length];
    fill(disk, offset, &mut buffer)?;
    Ok(buffer)
}

/// A stretch of another source.
pub(crate) struct Part {
    disk: Disk,
    offset: u64,
    length: u64,
}

impl Part {
    /// `length` bytes from `offset` on, or as many as there are.
    pub fn new(disk: Disk, offset: u64, length: u64) -> Self {
        let length = length.min(disk.length().saturating_sub(offset));
        Self {
            disk,
            offset,
            length,
        }
    }
}

impl BlockSource for Part {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        within(offset, buffer.len(), self.length)?;
        self.disk.read_at(self.offset + offset, buffer)
    }
}

/// That a read stays inside `length` bytes.
pub(crate) fn within(offset: u64, count: usize, length: u64) -> io::Result<()> {
    let end = offset.checked_add(count as u64);
    match end.is_some_and(|end| end <= length) {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads pages and remembers them: parsers read a few bytes here and there, a disk of a point is far away.
pub(crate) struct Paged {
    disk: Disk,
    pages: Cache<u64, Arc<[u8]>>,
}

/// One page. A point's chunks are about half of it.
const PAGE_BYTES: u64 = 64 << 10;
/// Reads from here on go past the cache: they are content, and would push the metadata out.
const STREAM_BYTES: usize = 256 << 10;

impl Paged {
    pub fn new(disk: Disk, limits: &Limits) -> Self {
        let pages = (limits.cache_bytes / PAGE_BYTES).max(4) as usize;
        Self {
            disk,
            pages: Cache::new(pages),
        }
    }

    fn page(&self, number: u64) -> io::Result<Arc<[u8]>> {
        if let Some(page) = self.pages.get(&number) {
            return Ok(page);
        }
        let from = number * PAGE_BYTES;
        let length = PAGE_BYTES.min(self.disk.length().saturating_sub(from));
        let mut bytes = vec![0; length as usize];
        self.disk.read_at(from, &mut bytes)?;
        let page: Arc<[u8]> = bytes.into();
        self.pages.insert(number, Arc::clone(&page));
        Ok(page)
    }
}

impl BlockSource for Paged {
    fn length(&self) -> u64 {
        self.disk.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        within(offset, buffer.len(), self.length())?;
        if buffer.len() >= STREAM_BYTES {
            return self.disk.read_at(offset, buffer);
        }
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let page = self.page(at / PAGE_BYTES)?;
            let from = (at % PAGE_BYTES) as usize;
            let have = page.get(from..).unwrap_or_default();
            let count = have.len().min(rest.len());
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(have.get(..count).unwrap_or_default());
            rest = later;
            at += count as u64;
        }
        Ok(())
    }
}

/// What stands in place of a block.
#[derive(Debug, Clone)]
pub(crate) enum Patch {
    /// These bytes.
    Bytes(Box<[u8]>),
    /// What stands at this offset of the same disk, with its first four bytes replaced if there are any.
    Moved {
        offset: u64,
        begins: Option<[u8; 4]>,
    },
}

/// A disk on which some blocks read otherwise: what a journal holds and the guest had not yet put in place.
pub(crate) struct Patched {
    disk: Disk,
    block_bytes: u64,
    patches: BTreeMap<u64, Patch>,
}

impl Patched {
    /// `patches` are by block number; `block_bytes` is not zero.
    pub const fn new(disk: Disk, block_bytes: u64, patches: BTreeMap<u64, Patch>) -> Self {
        Self {
            disk,
            block_bytes,
            patches,
        }
    }

    /// The bytes of one block as they are to be read.
    fn patched(&self, patch: &Patch) -> io::Result<Box<[u8]>> {
        match patch {
            Patch::Bytes(bytes) => Ok(bytes.clone()),
            Patch::Moved { offset, begins } => {
                let mut bytes = vec![0; self.block_bytes as usize];
                self.disk.read_at(*offset, &mut bytes)?;
                if let (Some(begins), Some(first)) = (begins, bytes.first_chunk_mut()) {
                    *first = *begins;
                }
                Ok(bytes.into())
            }
        }
    }
}

impl BlockSource for Patched {
    fn length(&self) -> u64 {
        self.disk.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(offset, buffer)?;
        let end = offset.saturating_add(buffer.len() as u64);
        let blocks = offset / self.block_bytes..end.div_ceil(self.block_bytes);
        for (block, patch) in self.patches.range(blocks) {
            let bytes = self.patched(patch)?;
            overlay(
                buffer,
                offset,
                &bytes,
                block.saturating_mul(self.block_bytes),
            );
        }
        Ok(())
    }
}

/// Lays `bytes`, which belong at `at`, over the part of `buffer` (which begins at `offset`) that they touch.
pub(crate) fn overlay(buffer: &mut [u8], offset: u64, bytes: &[u8], at: u64) {
    let skip = offset.saturating_sub(at) as usize;
    let to = at.saturating_sub(offset) as usize;
    let from = bytes.get(skip..).unwrap_or_default();
    let target = buffer.get_mut(to..).unwrap_or_default();
    let count = from.len().min(target.len());
    if let (Some(target), Some(from)) = (target.get_mut(..count), from.get(..count)) {
        target.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(length: usize) -> Disk {
        Arc::new((0..length).map(|at| (at / 7) as u8).collect::<Vec<_>>())
    }

    #[test]
    fn pages_give_what_the_disk_gives_wherever_a_read_begins_and_ends() {
        let disk = numbered(3 * PAGE_BYTES as usize + 77);
        let paged = Paged::new(Arc::clone(&disk), &Limits::default());
        for (offset, length) in [
            (0, 1),
            (PAGE_BYTES - 1, 2),
            (5, 2 * PAGE_BYTES as usize),
            (3 * PAGE_BYTES, 77),
        ] {
            let (mut ours, mut theirs) = (vec![0; length], vec![0; length]);
            paged.read_at(offset, &mut ours).unwrap();
            disk.read_at(offset, &mut theirs).unwrap();
            assert_eq!(ours, theirs, "{length} at {offset}");
        }
        let mut beyond = [0; 2];
        assert!(paged.read_at(3 * PAGE_BYTES + 76, &mut beyond).is_err());
        assert!(paged.read_at(u64::MAX, &mut beyond).is_err());
    }

    #[test]
    fn a_patched_disk_reads_its_patches_and_nothing_else_otherwise() {
        let disk: Disk = Arc::new(vec![1; 64]);
        let moved = Patch::Moved {
            offset: 0,
            begins: Some([9; 4]),
        };
        let patches = BTreeMap::from([(1, Patch::Bytes([2; 8].into())), (3, moved)]);
        let patched = Patched::new(disk, 8, patches);
        let mut all = [0; 30];
        patched.read_at(5, &mut all).unwrap();
        let mut expected = [1; 30];
        expected[3..11].fill(2);
        expected[19..23].fill(9);
        assert_eq!(all, expected);
    }
}
