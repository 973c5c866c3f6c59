//! Reading a pack through a window, past what cannot be read.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::time::Duration;

use stillwater_format::pack::PACK_BYTES_MAX;
use stillwater_types::PackId;

use crate::layout;
use crate::vfs::{Access, File, Vfs};

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;
/// Where that fails it is read in pieces of this.
const BLOCK_BYTES: usize = 4096;
/// Between two tries of a pack that could not be read.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(3600);
/// A medium error on Linux: EIO, EBADMSG, ENODATA, EUCLEAN, EREMOTEIO.
const MEDIUM_ERRORS: [i32; 5] = [5, 74, 61, 117, 121];

/// A pack that could not be read, and how that was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Offsets of the blocks that the medium failed to read; none when the file is missing or
    /// something else went wrong.
    pub(super) holes: Vec<u64>,
    pub(super) is_missing: bool,
    /// Since boot.
    pub(super) first: Duration,
    pub(super) last: Duration,
    /// How many reads of other packs had gone well at the first time.
    pub(super) sound_reads: u64,
}

impl Trouble {
    /// Whether both are the same trouble, as far as that can be told.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let shares = self.holes.iter().any(|hole| other.holes.contains(hole));
        self.is_missing == other.is_missing && (self.holes == other.holes || shares)
    }

    /// Whether the same failed again, long enough after, while others were read well.
    pub(super) fn is_confirmed_by(&self, now: &Self, has_read_some: bool) -> bool {
        let is_same = self.is_like(now) && (self.is_missing || !self.holes.is_empty());
        let is_later = now.last.saturating_sub(self.first) >= RETRY_AFTER;
        is_same && is_later && (has_read_some || now.sound_reads > self.sound_reads)
    }
}

/// The bytes of a pack, read where they are asked for and kept in a window.
///
/// Where the medium fails there are zeros. Of one that is too long, only the beginning is there.
pub(super) struct Bytes {
    file: Option<Box<dyn File>>,
    length: u64,
    /// From `start` on, which is the beginning of a block.
    window: Vec<u8>,
    start: u64,
    holes: BTreeSet<u64>,
}

impl Bytes {
    /// Opens a pack.
    ///
    /// # Errors
    /// When there is no such file, and when something fails that is not the medium's fault.
    pub(super) fn open(vfs: &dyn Vfs, pack: PackId) -> io::Result<Self> {
        let opened = vfs.open(&layout::pack(pack), Access::Read);
        let opened = opened.and_then(|file| file.len().map(|length| (file, length)));
        let (file, length, holes) = match opened {
            Ok((file, length)) => (Some(file), length, BTreeSet::new()),
            Err(error) if is_medium(&error) => (None, 0, BTreeSet::from([0])),
            Err(error) => return Err(error),
        };
        Ok(Self {
            file,
            // One byte more than any pack has is enough to see that it is none.
            length: length.min(PACK_BYTES_MAX + 1),
            window: Vec::new(),
            start: 0,
            holes,
        })
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Offsets of the blocks that the medium failed to read, of what was asked for.
    pub(super) fn holes(&self) -> Vec<u64> {
        self.holes.iter().copied().collect()
    }

    /// Bytes at an offset; none if the pack ends before.
    pub(super) fn get(&mut self, offset: u64, length: usize) -> io::Result<Option<&[u8]>> {
        let end = offset.checked_add(length as u64);
        let Some(end) = end.filter(|end| *end <= self.length) else {
            return Ok(None);
        };
        if offset < self.start || end > self.end() {
            self.fetch(offset, end)?;
        }
        let from = (offset - self.start) as usize;
        Ok(self.window.get(from..from + length))
    }

    /// Where these bytes begin next, from an offset on.
    pub(super) fn find(&mut self, what: &[u8; 4], mut from: u64) -> io::Result<Option<u64>> {
        loop {
            let left = self.length.saturating_sub(from);
            let length = left.min(READ_BYTES as u64);
            let Some(bytes) = self.get(from, length as usize)? else {
                return Ok(None);
            };
            if let Some(at) = bytes.windows(what.len()).position(|window| window == what) {
                return Ok(Some(from + at as u64));
            }
            if length == left {
                return Ok(None);
            }
            from += length - what.len() as u64 + 1;
        }
    }

    /// Reads all that there is, for the holes in it.
    pub(super) fn sweep(&mut self) -> io::Result<()> {
        let mut offset = 0;
        while offset < self.length {
            let length = (self.length - offset).min(READ_BYTES as u64);
            self.get(offset, length as usize)?;
            offset += length;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.window.capacity()
    }

    /// Gives the window's memory back.
    pub(super) fn rest(&mut self) {
        (self.window, self.start) = (Vec::new(), 0);
    }

    fn end(&self) -> u64 {
        self.start + self.window.len() as u64
    }

    /// Moves the window, so that it reaches from an offset to another one at least.
    fn fetch(&mut self, offset: u64, end: u64) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let start = offset - offset % BLOCK_BYTES as u64;
        if start < self.start || start > self.end() {
            self.window.clear();
        } else {
            self.window.drain(..(start - self.start) as usize);
        }
        self.start = start;
        while self.end() < end {
            let at = self.end();
            let count = (self.length - at).min(READ_BYTES as u64) as usize;
            let begun = self.window.len();
            self.window.reserve_exact(count);
            self.window.resize(begun + count, 0);
            let piece = self.window.get_mut(begun..).unwrap_or_default();
            match read(&**file, piece, at) {
                Err(error) if is_medium(&error) => {
                    read_blocks(&**file, piece, at, &mut self.holes)?;
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }
}

fn read_blocks(
    file: &dyn File,
    piece: &mut [u8],
    mut offset: u64,
    holes: &mut BTreeSet<u64>,
) -> io::Result<()> {
    for block in piece.chunks_mut(BLOCK_BYTES) {
        match read(file, block, offset) {
            Err(error) if is_medium(&error) => {
                block.fill(0);
                holes.insert(offset);
            }
            outcome => outcome?,
        }
        offset += block.len() as u64;
    }
    Ok(())
}

/// What lies beyond the end stays zero: the file was cut, which its hashes tell.
fn read(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    match file.read_exact_at(buffer, offset) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
        outcome => outcome,
    }
}

/// Whether the medium itself failed. Whatever else goes wrong is no sign of damage.
pub(super) fn is_medium(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| MEDIUM_ERRORS.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(holes: &[u64], at: u64, sound_reads: u64) -> Trouble {
        let at = Duration::from_secs(at);
        Trouble {
            holes: holes.to_vec(),
            is_missing: false,
            first: at,
            last: at,
            sound_reads,
        }
    }

    #[test]
    fn a_failed_read_is_confirmed_by_the_same_one_much_later_on_a_machine_that_reads() {
        let first = trouble(&[4096], 0, 7);
        let confirms = |now: &Trouble, some| first.is_confirmed_by(now, some);
        assert!(confirms(&trouble(&[0, 4096], 3600, 8), false));
        assert!(confirms(&trouble(&[4096], 3600, 7), true));
        assert!(!confirms(&trouble(&[4096], 3599, 8), true), "too soon");
        assert!(!confirms(&trouble(&[0], 3600, 8), true), "elsewhere");
        assert!(
            !confirms(&trouble(&[4096], 3600, 7), false),
            "nothing can be read"
        );
        assert!(!trouble(&[], 0, 0).is_confirmed_by(&trouble(&[], 9999, 9), true));
    }
}
