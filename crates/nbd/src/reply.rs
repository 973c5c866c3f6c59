//! Answers to requests.

use bytes::{BufMut, Bytes, BytesMut};

use crate::export::{Piece, Trouble};
use crate::negotiate::ALLOCATION_ID;
use crate::wire::{bounded, chunk, simple};

/// Hole and zero.
const HOLE: u32 = 3;
/// Words of an error that are told.
const MESSAGE_MAX: usize = 4096;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The bytes of an answer, in parts so that content is not copied.
pub(crate) type Reply = Vec<Bytes>;

/// Writes answers as it was agreed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) is_structured: bool,
}

impl Style {
    /// Done.
    pub(crate) fn done(self, handle: u64) -> Reply {
        // Only reads have to be answered in chunks, but block status may not be answered without.
        vec![simple(handle, 0)]
    }

    /// Failed.
    pub(crate) fn failed(self, handle: u64, trouble: &Trouble, is_read: bool) -> Reply {
        let errno = trouble.errno as u32;
        if !(self.is_structured && is_read) {
            return vec![simple(handle, errno)];
        }
        let end = trouble.message.floor_char_boundary(MESSAGE_MAX);
        let message = &trouble.message.as_bytes()[..end];
        let mut words = BytesMut::new();
        words.put_u32(errno);
        words.put_u16(u16::try_from(message.len()).unwrap_or(0));
        words.extend_from_slice(message);
        vec![chunk(handle, true, crate::wire::chunk::ERROR, &words, 0)]
    }

    /// What was read from `offset`; in one piece where that is demanded.
    pub(crate) fn read(self, handle: u64, offset: u64, pieces: &[Piece], in_one: bool) -> Reply {
        match (self.is_structured, in_one) {
            (false, _) => {
                let mut reply = vec![simple(handle, 0)];
                reply.extend(pieces.iter().flat_map(plain));
                reply
            }
            (true, true) => {
                let length: u64 = pieces.iter().map(Piece::length).sum();
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let kind = crate::wire::chunk::DATA;
                let mut reply = vec![chunk(handle, true, kind, &offset.to_be_bytes(), length)];
                reply.extend(pieces.iter().flat_map(plain));
                reply
            }
            (true, false) => chunks(handle, offset, pieces),
        }
    }

    /// What ranges hold.
    pub(crate) fn status(self, handle: u64, ranges: &[(u64, bool)]) -> Reply {
        let mut words = BytesMut::with_capacity(4 + ranges.len() * 8);
        words.put_u32(ALLOCATION_ID);
        for (length, is_hole) in ranges {
            words.put_u32(u32::try_from(*length).unwrap_or(u32::MAX));
            words.put_u32(if *is_hole { HOLE } else { 0 });
        }
        let kind = crate::wire::chunk::BLOCK_STATUS;
        vec![chunk(handle, true, kind, &words, 0)]
    }
}

fn chunks(handle: u64, mut offset: u64, pieces: &[Piece]) -> Reply {
    let mut reply = Vec::with_capacity(pieces.len() * 2 + 1);
    for (index, piece) in pieces.iter().enumerate() {
        let is_last = index + 1 == pieces.len();
        match piece {
            Piece::Data(bytes) => {
                let words = offset.to_be_bytes();
                let kind = crate::wire::chunk::DATA;
                reply.push(chunk(handle, is_last, kind, &words, bytes.len()));
                reply.push(bytes.clone());
            }
            Piece::Zeros(length) => {
                let mut words = BytesMut::with_capacity(12);
                words.put_u64(offset);
                words.put_u32(bounded(usize::try_from(*length).unwrap_or(usize::MAX)));
                reply.push(chunk(handle, is_last, crate::wire::chunk::HOLE, &words, 0));
            }
        }
        offset += piece.length();
    }
    if pieces.is_empty() {
        reply.push(chunk(handle, true, crate::wire::chunk::NONE, &[], 0));
    }
    reply
}

/// A piece as bytes; zeros are the same few over and over.
fn plain(piece: &Piece) -> Vec<Bytes> {
    let zeros = |length: u64| {
        let whole = ZEROS.len() as u64;
        let full = (0..length / whole).map(|_| Bytes::from_static(&ZEROS));
        let rest = usize::try_from(length % whole).unwrap_or(0);
        full.chain([Bytes::from_static(&ZEROS).slice(..rest)])
            .collect()
    };
    match piece {
        Piece::Data(bytes) => vec![bytes.clone()],
        Piece::Zeros(length) => zeros(*length),
    }
}
