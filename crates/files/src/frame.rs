//! Frames on a pipe: a letter that says what it is, a length, bytes.

use std::io::{self, Read, Write};

/// Nothing longer is taken from either side.
pub(crate) const FRAME_MAX: usize = 4 << 20;
/// What is asked for at a time.
pub(crate) const READ_MAX: usize = 1 << 20;

/// To the reader: what to do.
pub(crate) const JOB: u8 = b'J';
/// To the reader: the bytes that it asked for.
pub(crate) const BYTES: u8 = b'B';
/// To the reader: why they cannot be had.
pub(crate) const FAILURE: u8 = b'F';
/// From the reader: which bytes it wants.
pub(crate) const READ: u8 = b'R';
/// From the reader: an event.
pub(crate) const EVENT: u8 = b'E';
/// From the reader: content.
pub(crate) const CONTENT: u8 = b'C';

pub(crate) fn put(to: &mut dyn Write, letter: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&[letter])?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(bytes)?;
    to.flush()
}

/// The next frame; its length was checked before room was made for it.
pub(crate) fn take(from: &mut dyn Read) -> io::Result<(u8, Vec<u8>)> {
    let mut letter = [0];
    from.read_exact(&mut letter)?;
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a frame is too long",
        ));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    let [letter] = letter;
    Ok((letter, bytes))
}

/// Which bytes of which disk are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    pub disk: u32,
    pub offset: u64,
    pub length: u32,
}

impl Ask {
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (disk, rest) = bytes.split_at_mut(4);
        let (offset, length) = rest.split_at_mut(8);
        disk.copy_from_slice(&self.disk.to_le_bytes());
        offset.copy_from_slice(&self.offset.to_le_bytes());
        length.copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// None if these are not as many bytes as it takes, or more is wanted than anybody may.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (disk, rest) = bytes.split_first_chunk()?;
        let (offset, length) = rest.split_first_chunk()?;
        let this = Self {
            disk: u32::from_le_bytes(*disk),
            offset: u64::from_le_bytes(*offset),
            length: u32::from_le_bytes(length.try_into().ok()?),
        };
        (this.length as usize <= READ_MAX).then_some(this)
    }
}
