//! Frames: what one sync made durable.
//!
//! A frame holds every entry of one batch, because only then a frame that is whole after one that
//! is not proves damage: the later one was written after the earlier was synced. Entries framed
//! alone could be torn in any order by one power cut.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4 | magic `SWJ1` |
//! | 4 | 4 | payload length, little endian |
//! | 8 | 8 | sequence of the first entry |
//! | 16 | 32 | hash of the previous frame; zeros for the first |
//! | 48 | 4 | CRC-32C of bytes 0..48 |
//! | 52 | n | payload |
//! | 52 + n | 32 | BLAKE3 of bytes 0..52 + n: the frame's hash |

/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 52;
/// Bytes after it.
pub(crate) const HASH_BYTES: usize = 32;
/// Most bytes of a payload: bounds what is allocated for a damaged length.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// Most bytes of a frame.
pub(crate) const FRAME_BYTES_MAX: u64 = (HEADER_BYTES + PAYLOAD_BYTES_MAX + HASH_BYTES) as u64;

const MAGIC: [u8; 4] = *b"SWJ1";

/// A place in the journal: after which entry, and the hash of everything up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// How many entries lie before.
    pub sequence: u64,
    /// The hash of the last frame; zeros at the beginning.
    pub hash: [u8; 32],
}

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub payload_bytes: usize,
    pub sequence: u64,
    pub previous: [u8; 32],
}

/// A frame's bytes and its hash.
pub(crate) fn encode(after: &Position, payload: &[u8]) -> (Vec<u8>, [u8; 32]) {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + HASH_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&after.sequence.to_le_bytes());
    bytes.extend_from_slice(&after.hash);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend_from_slice(payload);
    let hash = *blake3::hash(&bytes).as_bytes();
    bytes.extend_from_slice(&hash);
    (bytes, hash)
}

/// Reads a header; none when the bytes are not one.
pub(crate) fn header(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (payload_bytes, rest) = rest.split_first_chunk::<4>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (previous, crc) = rest.split_first_chunk::<32>()?;
    let (summed, _) = bytes.split_at_checked(HEADER_BYTES - 4)?;
    let payload_bytes = usize::try_from(u32::from_le_bytes(*payload_bytes)).ok()?;
    let sound = crc == crc32c::crc32c(summed).to_le_bytes() && payload_bytes <= PAYLOAD_BYTES_MAX;
    sound.then_some(Header {
        payload_bytes,
        sequence: u64::from_le_bytes(*sequence),
        previous: *previous,
    })
}

/// The hash of a frame, if `tail` is the payload and hash that belong to `head`.
pub(crate) fn verify(head: &[u8; HEADER_BYTES], tail: &[u8]) -> Option<[u8; 32]> {
    let (payload, stored) = tail.split_last_chunk::<HASH_BYTES>()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(head).update(payload);
    let hash = hasher.finalize();
    (hash == *stored).then(|| *hash.as_bytes())
}

/// Whether a whole frame begins anywhere in `bytes`.
pub(crate) fn any_whole(bytes: &[u8]) -> bool {
    let starts = bytes.windows(MAGIC.len()).enumerate().filter(|(_, window)| *window == MAGIC);
    starts.into_iter().any(|(start, _)| bytes.get(start..).is_some_and(is_whole))
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some((head, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return false };
    let Some(Header { payload_bytes, .. }) = header(head) else { return false };
    rest.get(..payload_bytes + HASH_BYTES).is_some_and(|tail| verify(head, tail).is_some())
}
