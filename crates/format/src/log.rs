//! Frames of an append-only, hash-chained log: the repository's commit log and the controller's
//! journal use the same framing around their own payloads.
//!
//! A frame is padded to whole sectors, so that appending never rewrites a sector that holds an older
//! frame. Each frame carries the hash of the one before it. What a power cut leaves behind the last
//! synced frame is a *torn tail* and is cut off; a frame that was written after a bad one had been
//! synced proves that the bad one was damaged later, and that is *corruption*, which is never skipped.

use crate::Error;
use crate::bytes::Reader;

/// Frames start at multiples of this and are padded with zeros to it.
pub const ALIGN: usize = 512;
/// Bytes before the payload.
pub const HEADER_LEN: usize = 64;
/// The longest payload. Bounds what a reader must hold.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// The sequence number of a log's first frame.
pub const FIRST_SEQUENCE: u64 = 1;

const WHAT: &str = "log frame";
const MAGIC: &[u8; 4] = b"SWLG";
const VERSION: u16 = 1;

/// The BLAKE3 of a whole frame, padding included; a link of the chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameHash([u8; 32]);

impl FrameHash {
    /// What the first frame names as the one before it.
    pub const GENESIS: FrameHash = FrameHash([0; 32]);

    /// Wraps the 32 bytes that another structure carries.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for FrameHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "FrameHash({})",
            blake3::Hash::from_bytes(self.0).to_hex()
        )
    }
}

/// One frame of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Counts from [`FIRST_SEQUENCE`] without gaps.
    pub sequence: u64,
    /// The hash of the frame before.
    pub previous: FrameHash,
    /// What the payload is; the log's owner decides.
    pub kind: u16,
    /// How many frames directly before this one were not known to be synced when it was written.
    pub unsynced: u32,
    /// The owner's bytes.
    pub payload: &'a [u8],
    /// The hash of this frame.
    pub hash: FrameHash,
    /// The length of this frame with padding.
    pub length: usize,
}

/// Encodes a frame that is written when everything before it was synced.
///
/// # Errors
/// When the payload is longer than [`MAX_PAYLOAD`].
pub fn encode(
    sequence: u64,
    previous: FrameHash,
    kind: u16,
    payload: &[u8],
) -> Result<Vec<u8>, Error> {
    encode_unsynced(sequence, previous, kind, 0, payload)
}

fn encode_unsynced(
    sequence: u64,
    previous: FrameHash,
    kind: u16,
    unsynced: u32,
    payload: &[u8],
) -> Result<Vec<u8>, Error> {
    if payload.len() > MAX_PAYLOAD {
        let (found, limit) = (payload.len() as u64, MAX_PAYLOAD as u64);
        return Err(Error::TooLong {
            what: "log payload",
            found,
            limit,
        });
    }
    let mut padded = payload.to_vec();
    padded.resize(frame_len(payload.len()) - HEADER_LEN, 0);
    let mut frame = Vec::with_capacity(HEADER_LEN + padded.len());
    frame.extend_from_slice(MAGIC);
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    frame.extend_from_slice(&VERSION.to_le_bytes());
    frame.extend_from_slice(&kind.to_le_bytes());
    frame.extend_from_slice(&unsynced.to_le_bytes());
    frame.extend_from_slice(&sequence.to_le_bytes());
    frame.extend_from_slice(previous.as_bytes());
    frame.extend_from_slice(&crc32c::crc32c(&padded).to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c(&frame).to_le_bytes());
    frame.extend_from_slice(&padded);
    Ok(frame)
}

/// The whole length of a frame with a payload of `payload_len` bytes.
const fn frame_len(payload_len: usize) -> usize {
    (HEADER_LEN + payload_len).next_multiple_of(ALIGN)
}

/// Decodes the frame at the start of `bytes`; what follows it is ignored.
///
/// # Errors
/// When there is no whole, undamaged frame.
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, Error> {
    let header = bytes.get(..HEADER_LEN).ok_or(Error::Short { what: WHAT })?;
    let body = crate::bytes::checked(WHAT, header)?;
    let mut fields = Reader::new(WHAT, body);
    fields.magic(MAGIC)?;
    let payload_len = fields.u32()? as usize;
    let version = fields.u16()?;
    if version > VERSION {
        return Err(Error::TooNew {
            what: WHAT,
            found: version,
            known: VERSION,
        });
    }
    let kind = fields.u16()?;
    let unsynced = fields.u32()?;
    let sequence = fields.u64()?;
    let previous = FrameHash(fields.array()?);
    let crc = fields.u32()?;
    fields.finish()?;
    if payload_len > MAX_PAYLOAD {
        let (found, limit) = (payload_len as u64, MAX_PAYLOAD as u64);
        return Err(Error::TooLong {
            what: "log payload",
            found,
            limit,
        });
    }
    let length = frame_len(payload_len);
    let frame = bytes.get(..length).ok_or(Error::Short { what: WHAT })?;
    let (_, padded) = frame.split_at(HEADER_LEN);
    if crc32c::crc32c(padded) != crc {
        return Err(Error::Checksum { what: WHAT });
    }
    let payload = padded
        .get(..payload_len)
        .ok_or(Error::Short { what: WHAT })?;
    let hash = FrameHash(*blake3::hash(frame).as_bytes());
    Ok(Frame {
        sequence,
        previous,
        kind,
        unsynced,
        payload,
        hash,
        length,
    })
}

/// The end of a log, from which it is continued.
///
/// Frames may be appended in a group before one sync. Each then says how many before it were not
/// synced, so that a reader can tell a group that a power cut tore from damage; [`Chain::synced`]
/// must therefore be called after every sync that succeeded, and only then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    sequence: u64,
    head: FrameHash,
    unsynced: u32,
}

impl Chain {
    /// An empty log.
    pub const fn empty() -> Self {
        Self {
            sequence: FIRST_SEQUENCE - 1,
            head: FrameHash::GENESIS,
            unsynced: 0,
        }
    }

    /// The sequence number of the last frame; zero when there is none.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The hash of the last frame.
    pub const fn head(&self) -> FrameHash {
        self.head
    }

    /// Encodes the next frame and moves the end behind it.
    ///
    /// # Errors
    /// When the payload is longer than [`MAX_PAYLOAD`]; the end does not move then.
    pub fn append(&mut self, kind: u16, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let frame = encode_unsynced(self.sequence + 1, self.head, kind, self.unsynced, payload)?;
        self.sequence += 1;
        self.head = FrameHash(*blake3::hash(&frame).as_bytes());
        self.unsynced = self.unsynced.saturating_add(1);
        Ok(frame)
    }

    /// Notes that everything appended so far is durable.
    pub const fn synced(&mut self) {
        self.unsynced = 0;
    }

    fn follow(&mut self, frame: &Frame<'_>) -> bool {
        let fits = frame.sequence == self.sequence + 1 && frame.previous == self.head;
        if fits {
            self.sequence = frame.sequence;
            self.head = frame.hash;
        }
        fits
    }
}

/// Where and why a scan could not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log is damaged at byte {offset}, before its end; restore it from a copy")]
pub struct Corrupt {
    /// The offset of the first frame that is bad.
    pub offset: usize,
    /// What is wrong with it; `None` when it is whole but does not continue the chain.
    #[source]
    pub cause: Option<Error>,
}

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With its last frame.
    Clean,
    /// With bytes that no sync ever covered: cut the log at [`Scanner::offset`].
    Torn,
}

/// Reads a log forwards and checks its chain.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    offset: usize,
    chain: Chain,
}

impl<'a> Scanner<'a> {
    /// Reads a log from its first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self::resume(bytes, Chain::empty())
    }

    /// Reads the part of a log that follows `chain`.
    pub const fn resume(bytes: &'a [u8], chain: Chain) -> Self {
        Self {
            bytes,
            offset: 0,
            chain,
        }
    }

    /// The offset behind the last frame that was read: where the next one belongs.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// The end of what was read, to be continued. Everything read counts as synced, so whoever
    /// continues a log must cut off a torn tail and sync first.
    pub const fn chain(&self) -> Chain {
        self.chain
    }

    /// The next frame; `None` at the end, clean or torn.
    ///
    /// # Errors
    /// When a frame is bad and a later one proves that it had been synced.
    pub fn read(&mut self) -> Result<Option<Frame<'a>>, Corrupt> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        match decode(rest) {
            Ok(frame) if self.chain.follow(&frame) => {
                self.offset += frame.length;
                Ok(Some(frame))
            }
            // A whole frame in the wrong place was put there, not torn there.
            Ok(_) => Err(Corrupt {
                offset: self.offset,
                cause: None,
            }),
            Err(cause @ Error::TooNew { .. }) => Err(Corrupt {
                offset: self.offset,
                cause: Some(cause),
            }),
            Err(cause) if synced_later(rest, self.chain.sequence + 1) => Err(Corrupt {
                offset: self.offset,
                cause: Some(cause),
            }),
            Err(_) => Ok(None),
        }
    }

    /// Reads to the end and tells how it looks.
    ///
    /// # Errors
    /// As [`Scanner::read`].
    pub fn finish(mut self) -> Result<(Chain, End), Corrupt> {
        while self.read()?.is_some() {}
        let end = if self.offset == self.bytes.len() {
            End::Clean
        } else {
            End::Torn
        };
        Ok((self.chain, end))
    }
}

/// Whether `rest`, which starts with a bad frame that should have the sequence number `expected`,
/// holds a later frame that was written when the bad one had been synced.
fn synced_later(rest: &[u8], expected: u64) -> bool {
    let later = |offset| rest.get(offset..).and_then(|bytes| decode(bytes).ok());
    (ALIGN..rest.len())
        .step_by(ALIGN)
        .filter_map(later)
        .any(|frame| frame.sequence.saturating_sub(u64::from(frame.unsynced)) > expected)
}

#[cfg(test)]
mod tests;
