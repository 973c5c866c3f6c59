//! The bytes of the protocol, as a server sees them. Numbers are big-endian.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Error;

const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_MAGIC: u32 = 0x6744_6698;
const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Of the server in the greeting and of the client after it.
pub(crate) const FIXED_NEWSTYLE: u16 = 1;
/// No padding after an old-fashioned choice of an export.
pub(crate) const NO_ZEROES: u16 = 2;

/// The most of an option's data: a name of 4096 bytes and some queries.
pub(crate) const OPTION_MAX: u32 = 16 * 1024;
/// The most that a client may ask for or write at once, what all servers take.
pub const REQUEST_MAX: u32 = 32 << 20;
/// Length of a request's head.
pub(crate) const REQUEST_LEN: usize = 28;
/// Length of an option's head.
pub(crate) const OPTION_LEN: usize = 16;

pub(crate) mod option {
    pub(crate) const EXPORT_NAME: u32 = 1;
    pub(crate) const ABORT: u32 = 2;
    pub(crate) const LIST: u32 = 3;
    pub(crate) const INFO: u32 = 6;
    pub(crate) const GO: u32 = 7;
    pub(crate) const STRUCTURED_REPLY: u32 = 8;
    pub(crate) const LIST_META_CONTEXT: u32 = 9;
    pub(crate) const SET_META_CONTEXT: u32 = 10;
}

pub(crate) mod answer {
    pub(crate) const ACK: u32 = 1;
    pub(crate) const SERVER: u32 = 2;
    pub(crate) const INFO: u32 = 3;
    pub(crate) const META_CONTEXT: u32 = 4;
    pub(crate) const UNSUPPORTED: u32 = (1 << 31) + 1;
    pub(crate) const INVALID: u32 = (1 << 31) + 3;
    pub(crate) const UNKNOWN: u32 = (1 << 31) + 6;
    pub(crate) const TOO_BIG: u32 = (1 << 31) + 9;
}

pub(crate) mod info {
    pub(crate) const EXPORT: u16 = 0;
    pub(crate) const DESCRIPTION: u16 = 2;
    pub(crate) const BLOCK_SIZE: u16 = 3;
}

pub(crate) mod command {
    pub(crate) const READ: u16 = 0;
    pub(crate) const WRITE: u16 = 1;
    pub(crate) const DISCONNECT: u16 = 2;
    pub(crate) const FLUSH: u16 = 3;
    pub(crate) const TRIM: u16 = 4;
    pub(crate) const CACHE: u16 = 5;
    pub(crate) const WRITE_ZEROES: u16 = 6;
    pub(crate) const BLOCK_STATUS: u16 = 7;
}

/// Flags of a request.
pub(crate) mod flag {
    /// The answer to a read in one piece.
    pub(crate) const DONT_FRAGMENT: u16 = 1 << 2;
    /// One range is enough.
    pub(crate) const ONE: u16 = 1 << 3;
}

pub(crate) mod chunk {
    pub(crate) const NONE: u16 = 0;
    pub(crate) const DATA: u16 = 1;
    pub(crate) const HOLE: u16 = 2;
    pub(crate) const BLOCK_STATUS: u16 = 5;
    pub(crate) const ERROR: u16 = (1 << 15) + 1;
}

/// What an export can do: flags mean something; FLUSH; DF; the same for all connections.
const ALWAYS: u16 = 1 | 1 << 2 | 1 << 7 | 1 << 8;
const READ_ONLY: u16 = 1 << 1;
/// FUA, TRIM, WRITE_ZEROES.
const WRITABLE: u16 = 1 << 3 | 1 << 5 | 1 << 6;

/// The flags of an export.
pub(crate) const fn abilities(is_writable: bool) -> u16 {
    if is_writable {
        ALWAYS | WRITABLE
    } else {
        ALWAYS | READ_ONLY
    }
}

/// The server's first words.
pub(crate) fn greeting() -> [u8; 18] {
    let mut bytes = [0; 18];
    let (mut out, parts) = (bytes.as_mut_slice(), (MAGIC, OPTION_MAGIC));
    out.put_u64(parts.0);
    out.put_u64(parts.1);
    out.put_u16(FIXED_NEWSTYLE | NO_ZEROES);
    bytes
}

/// Reads an option's head: which, and how many bytes follow.
pub(crate) fn option_head(bytes: [u8; OPTION_LEN]) -> Result<(u32, u32), Error> {
    let mut fields = Fields(&bytes);
    match (fields.u64(), fields.u32(), fields.u32()) {
        (Some(OPTION_MAGIC), Some(option), Some(length)) => Ok((option, length)),
        _ => Err(Error::Protocol("an option begins wrongly")),
    }
}

/// An answer to an option.
pub(crate) fn option_reply(option: u32, answer: u32, data: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(20 + data.len());
    bytes.put_u64(OPTION_REPLY_MAGIC);
    bytes.put_u32(option);
    bytes.put_u32(answer);
    bytes.put_u32(bounded(data.len()));
    bytes.extend_from_slice(data);
    bytes
}

/// A request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) flags: u16,
    pub(crate) command: u16,
    pub(crate) handle: u64,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

impl Request {
    pub(crate) fn decode(bytes: [u8; REQUEST_LEN]) -> Result<Self, Error> {
        let mut fields = Fields(&bytes);
        let head = (fields.u32(), fields.u16(), fields.u16());
        let range = (fields.u64(), fields.u64(), fields.u32());
        match (head, range) {
            (
                (Some(REQUEST_MAGIC), Some(flags), Some(command)),
                (Some(handle), Some(offset), Some(length)),
            ) => Ok(Self {
                flags,
                command,
                handle,
                offset,
                length,
            }),
            _ => Err(Error::Protocol("a request begins wrongly")),
        }
    }
}

/// The head of a whole answer; content follows if it is one to a read without error.
pub(crate) fn simple(handle: u64, errno: u32) -> Bytes {
    let mut bytes = BytesMut::with_capacity(16);
    bytes.put_u32(SIMPLE_MAGIC);
    bytes.put_u32(errno);
    bytes.put_u64(handle);
    bytes.freeze()
}

/// The head of a part of an answer and its first words; `more` bytes follow these.
pub(crate) fn chunk(handle: u64, is_last: bool, kind: u16, words: &[u8], more: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(20 + words.len());
    bytes.put_u32(CHUNK_MAGIC);
    bytes.put_u16(u16::from(is_last));
    bytes.put_u16(kind);
    bytes.put_u64(handle);
    bytes.put_u32(bounded(words.len() + more));
    bytes.extend_from_slice(words);
    bytes.freeze()
}

/// Requests are bounded far below.
pub(crate) fn bounded(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Takes numbers and words off the front.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// A text behind its length.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}
