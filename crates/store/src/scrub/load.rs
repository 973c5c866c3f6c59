//! Reading a pack whole, past what cannot be read.

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

/// What became of reading a pack.
pub(super) enum Loaded {
    /// All of it, or of one that is too long the beginning.
    Whole(Vec<u8>),
    /// Some of it: where the medium failed there are zeros.
    Holed { bytes: Vec<u8>, holes: Vec<u64> },
    /// Nothing, and it is not the medium's fault that is known of.
    Failed(io::Error),
    /// There is no such file.
    Missing,
}

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

/// Reads a pack.
pub(super) fn load(vfs: &dyn Vfs, pack: PackId) -> Loaded {
    match try_load(vfs, pack) {
        Ok(loaded) => loaded,
        Err(error) if error.kind() == ErrorKind::NotFound => Loaded::Missing,
        Err(error) if is_medium(&error) => Loaded::Holed {
            bytes: Vec::new(),
            holes: vec![0],
        },
        Err(error) => Loaded::Failed(error),
    }
}

fn try_load(vfs: &dyn Vfs, pack: PackId) -> io::Result<Loaded> {
    let file = vfs.open(&layout::pack(pack), Access::Read)?;
    // One byte more than any pack has is enough to see that it is none.
    let length = file.len()?.min(PACK_BYTES_MAX + 1);
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let mut holes = Vec::new();
    let mut offset = 0;
    for piece in bytes.chunks_mut(READ_BYTES) {
        let count = piece.len() as u64;
        match read(&*file, piece, offset) {
            Err(error) if is_medium(&error) => read_blocks(&*file, piece, offset, &mut holes)?,
            outcome => outcome?,
        }
        offset += count;
    }
    Ok(if holes.is_empty() {
        Loaded::Whole(bytes)
    } else {
        Loaded::Holed { bytes, holes }
    })
}

fn read_blocks(
    file: &dyn File,
    piece: &mut [u8],
    mut offset: u64,
    holes: &mut Vec<u64>,
) -> io::Result<()> {
    for block in piece.chunks_mut(BLOCK_BYTES) {
        match read(file, block, offset) {
            Err(error) if is_medium(&error) => {
                block.fill(0);
                holes.push(offset);
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
