//! One open file or device.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;
use stillwater_types::Extent;

use super::BlockPool;
use super::buffer::{ALIGN, Buffer, Shelf};
use crate::{Error, Result};

/// What is written at once where a hole cannot be punched.
const ZEROS: usize = 1024 * 1024;

/// Whether the kernel's cache is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Opened with `O_DIRECT`.
    Direct,
    /// Through the cache, which is told to forget what was read.
    Cached,
}

/// An open file or device of a known size.
#[derive(Debug)]
pub(crate) struct BlockFile {
    pub(super) file: File,
    /// For messages.
    pub(super) name: String,
    pub(super) length: u64,
    access: Access,
}

/// Whether a file that was opened with `O_DIRECT` can be read so. An empty one can.
pub(crate) fn probe_direct(file: &File) -> bool {
    let mut buffer = Shelf::new(0).take(ALIGN);
    file.read_at(buffer.as_mut(), 0).is_ok()
}

impl BlockFile {
    pub(crate) fn new(file: File, name: String, length: u64, access: Access) -> Self {
        Self {
            file,
            name,
            length,
            access,
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Reads a range that is within the disk. Blocks.
    pub(super) fn read(&self, extent: Extent, pool: &BlockPool) -> Result<Bytes> {
        let align = ALIGN as u64;
        let from = extent.start / align * align;
        let skip = self.memory(extent, extent.start - from)?;
        let wanted = skip + self.memory(extent, extent.length)?;
        let mut buffer = pool.buffer(wanted.next_multiple_of(ALIGN));
        self.fill(&mut buffer, from, wanted)
            .map_err(|problem| self.read_error(extent, problem))?;
        if self.access == Access::Cached {
            self.forget(from, wanted as u64);
        }
        Ok(buffer.freeze(skip..wanted))
    }

    /// Reads until `wanted` bytes are there; at the end of the disk the last block has no more.
    fn fill(&self, buffer: &mut Buffer, from: u64, wanted: usize) -> io::Result<()> {
        let mut done = 0;
        while done < wanted {
            let rest = buffer.as_mut().get_mut(done..).unwrap_or_default();
            let read = match self.file.read_at(rest, from + done as u64) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome?,
            };
            done += read;
            // Behind half a block a direct read cannot go on.
            let stuck = read == 0 || (self.access == Access::Direct && done % ALIGN != 0);
            if stuck && done < wanted {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    format!("it ends at {}", from + done as u64),
                ));
            }
        }
        Ok(())
    }

    /// Writes all of it. Blocks.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| self.write_error(&error))
    }

    /// Makes a range read as zeros. Blocks.
    pub(super) fn zero(&self, extent: Extent, pool: &BlockPool) -> Result<()> {
        if extent.length == 0 {
            return Ok(());
        }
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, how, extent.start, extent.length) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => {
                self.write_zeros(extent, pool)
            }
            Err(errno) => Err(self.write_error(&errno.into())),
        }
    }

    fn write_zeros(&self, extent: Extent, pool: &BlockPool) -> Result<()> {
        let mut zeros = pool.buffer(ZEROS);
        zeros.as_mut().fill(0);
        let mut at = extent.start;
        while at < extent.end() {
            let bytes = usize::try_from(extent.end() - at).map_or(ZEROS, |left| left.min(ZEROS));
            self.write(zeros.as_ref().get(..bytes).unwrap_or_default(), at)?;
            at += bytes as u64;
        }
        Ok(())
    }

    /// Waits until all that was written is on the medium. Blocks.
    pub(super) fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|error| self.write_error(&error))
    }

    /// Lets the kernel drop what it has cached of a range. Only advice: whether it is followed
    /// changes no content.
    pub(crate) fn forget(&self, from: u64, bytes: u64) {
        if let Err(error) = fadvise(&self.file, from, NonZeroU64::new(bytes), Advice::DontNeed) {
            tracing::debug!(file = %self.name, %error, "the cache cannot be told to forget");
        }
    }

    fn memory(&self, extent: Extent, bytes: u64) -> Result<usize> {
        usize::try_from(bytes).map_err(|_| Error::BeyondDisk {
            extent,
            length: self.length,
        })
    }

    fn read_error(&self, extent: Extent, error: io::Error) -> Error {
        match error.kind() {
            ErrorKind::UnexpectedEof => Error::BadRange {
                path: self.name.clone(),
                extent,
                problem: error.to_string(),
            },
            _ => Error::ReadFailed {
                path: self.name.clone(),
                extent,
                source: error,
            },
        }
    }

    fn write_error(&self, error: &io::Error) -> Error {
        let path = self.name.clone();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::DatastoreFull { path },
            _ => Error::WriteFailed {
                path,
                problem: error.to_string(),
            },
        }
    }
}
