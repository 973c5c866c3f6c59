//! Frames: what is said once a session is set up.
//!
//! A frame is a header of 16 bytes (magic, type, size of the payload, operation), the payload, and
//! behind it, not counted in the size, a path or data. Every number that a host sends is checked
//! before anything is read or kept because of it.

use super::Violation;
use super::bytes::{put, u32_at, u64_at};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 16;
/// Bytes of the payload of reads and writes.
pub const IO_BYTES: usize = 44;
/// Data of at most so many bytes is in one frame.
pub const FRAGMENT_BYTES_MAX: u32 = 64 * 1024;
/// No payload that is known has more than 60 bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1024;
/// What FastLZ makes of a fragment in the worst case: one byte more for 32.
pub const COMPRESSED_BYTES_MAX: u32 = FRAGMENT_BYTES_MAX + FRAGMENT_BYTES_MAX / 32 + 1;

const MAGIC: u32 = 0xa100_da7a;
const OPEN_FILE_BYTES: usize = 60;
/// The reply to an opened file is read up to the size of its sectors.
const OPENED_BYTES_MIN: usize = 40;
const DISK: u32 = 2;
const READ: u32 = 1;
const WRITE: u32 = 0;
const FASTLZ: u32 = 2;
/// The bit that a disk opened for reading has and one for writing has not.
const READ_ONLY_FLAG: u32 = 0x4;
const SECTOR_BYTES: [u32; 2] = [512, 4096];

/// Types of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A reply: the request failed.
    Error,
    /// Begins.
    OpenSession,
    /// Ends.
    CloseSession,
    /// Opens a file.
    OpenFile,
    /// Closes a file.
    CloseFile,
    /// Reads or writes.
    Io,
    /// Tells sizes of buffers.
    SocketOptions,
    /// Chooses a pool of the host's memory.
    ResourcePool,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Error,
        Kind::OpenSession,
        Kind::CloseSession,
        Kind::OpenFile,
        Kind::CloseFile,
        Kind::Io,
        Kind::SocketOptions,
        Kind::ResourcePool,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        match self {
            Kind::Error => 1,
            Kind::OpenSession => 2,
            Kind::CloseSession => 3,
            Kind::OpenFile => 4,
            Kind::CloseFile => 5,
            Kind::Io => 7,
            Kind::SocketOptions => 9,
            Kind::ResourcePool => 22,
        }
    }
}

/// The beginning of every frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its type.
    pub kind: Kind,
    /// Bytes of its payload.
    pub payload_bytes: u32,
    /// The operation; a reply repeats it.
    pub operation: u32,
}

impl Header {
    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        put(&mut bytes, 0, MAGIC.to_le_bytes());
        put(&mut bytes, 4, self.kind.number().to_le_bytes());
        put(&mut bytes, 8, self.payload_bytes.to_le_bytes());
        put(&mut bytes, 12, self.operation.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// When it is none, of an unknown type, or announces a payload that is too large.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Violation> {
        let number = |at| u32_at(bytes, at).unwrap_or_default();
        if number(0) != MAGIC {
            return Err(Violation::Magic(number(0)));
        }
        let known = Kind::ALL
            .into_iter()
            .find(|kind| kind.number() == number(4));
        let kind = known.ok_or(Violation::Type(number(4)))?;
        let header = Self {
            kind,
            payload_bytes: number(8),
            operation: number(12),
        };
        match header.payload_bytes as usize <= PAYLOAD_BYTES_MAX {
            true => Ok(header),
            false => Err(header.wrong_size()),
        }
    }

    fn wrong_size(&self) -> Violation {
        Violation::PayloadSize {
            kind: self.kind.number(),
            bytes: self.payload_bytes,
        }
    }
}

fn frame(kind: Kind, operation: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        kind,
        payload_bytes: payload.len() as u32,
        operation,
    };
    [&header.encode(), payload].concat()
}

/// Begins.
pub fn open_session(operation: u32) -> Vec<u8> {
    frame(Kind::OpenSession, operation, &[0; 16])
}

/// Asks for the sizes of the host's buffers.
pub fn socket_options(operation: u32) -> Vec<u8> {
    frame(Kind::SocketOptions, operation, &[0; 12])
}

/// Chooses the host's pool of memory.
pub fn resource_pool(operation: u32) -> Vec<u8> {
    frame(Kind::ResourcePool, operation, &1u32.to_le_bytes())
}

/// Ends.
pub fn close_session(operation: u32) -> Vec<u8> {
    frame(Kind::CloseSession, operation, &0u32.to_le_bytes())
}

/// Closes a file.
pub fn close_file(operation: u32, handle: u64) -> Vec<u8> {
    frame(Kind::CloseFile, operation, &handle.to_le_bytes())
}

/// What a disk is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

impl Access {
    const fn flags(self) -> u32 {
        match self {
            Access::Read => 0x1e,
            Access::Write => 0x1a,
        }
    }
}

/// Opens the disk at `path`.
pub fn open_file(operation: u32, path: &str, access: Access) -> Vec<u8> {
    let mut payload = [0; OPEN_FILE_BYTES];
    put(&mut payload, 0, (path.len() as u32).to_le_bytes());
    put(&mut payload, 16, DISK.to_le_bytes());
    put(&mut payload, 20, access.flags().to_le_bytes());
    let mut frame = frame(Kind::OpenFile, operation, &payload);
    frame.extend(path.as_bytes());
    frame
}

/// A disk that the host has opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Names it in requests.
    pub handle: u64,
    /// Its size.
    pub capacity: u64,
    /// Bytes of a sector: requests begin and end at sectors.
    pub sector_bytes: u32,
}

impl Opened {
    /// Reads the reply to [`open_file`].
    ///
    /// # Errors
    /// When it is too short, no disk, or not opened as asked.
    pub fn decode(payload: &[u8], access: Access) -> Result<Self, Violation> {
        if payload.len() < OPENED_BYTES_MIN {
            return Err(Violation::PayloadSize {
                kind: Kind::OpenFile.number(),
                bytes: payload.len() as u32,
            });
        }
        let number = |at| u32_at(payload, at).unwrap_or_default();
        let long = |at| u64_at(payload, at).unwrap_or_default();
        let (file_type, flags, sector_bytes) = (number(16), number(20), number(36));
        if file_type != DISK {
            return Err(Violation::FileType(file_type));
        }
        if access == Access::Write && flags & READ_ONLY_FLAG != 0 {
            return Err(Violation::Flags(flags));
        }
        if !SECTOR_BYTES.contains(&sector_bytes) {
            return Err(Violation::SectorSize(sector_bytes));
        }
        Ok(Self {
            handle: long(8),
            capacity: long(28),
            sector_bytes,
        })
    }
}

/// What is sent in front of a read or of a fragment of a write.
pub type IoFrame = [u8; HEADER_BYTES + IO_BYTES];

/// A read or write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoRequest {
    /// Its operation.
    pub operation: u32,
    /// The disk.
    pub handle: u64,
    /// First byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u32,
}

impl IoRequest {
    fn frame(&self) -> IoFrame {
        let header = Header {
            kind: Kind::Io,
            payload_bytes: IO_BYTES as u32,
            operation: self.operation,
        };
        let mut frame = [0; HEADER_BYTES + IO_BYTES];
        put(&mut frame, 0, header.encode());
        put(&mut frame, HEADER_BYTES, self.handle.to_le_bytes());
        put(&mut frame, HEADER_BYTES + 16, self.offset.to_le_bytes());
        frame
    }

    /// Asks for the bytes.
    pub fn read(&self, compressed: bool) -> IoFrame {
        let compression = if compressed { FASTLZ } else { 0 };
        let mut frame = self.frame();
        let mut field = |at: usize, number: u32| {
            put(&mut frame, HEADER_BYTES + at, number.to_le_bytes());
        };
        field(8, READ);
        field(12, compression);
        // A long number, the upper half of which is zero.
        field(24, self.length);
        field(32, self.length);
        field(36, self.length);
        frame
    }

    /// Announces `bytes` bytes at `at` within a write; they follow the frame.
    pub fn write_fragment(&self, at: u32, bytes: u32) -> IoFrame {
        let mut frame = self.frame();
        let mut field = |at: usize, number: u32| {
            put(&mut frame, HEADER_BYTES + at, number.to_le_bytes());
        };
        field(8, WRITE);
        field(24, self.length);
        field(28, at);
        field(32, bytes);
        field(36, bytes);
        frame
    }
}

/// Checks the one reply to a write. There is no data behind it, whatever it says.
///
/// # Errors
/// When it is a reply to something else.
pub fn check_written(payload: &[u8]) -> Result<(), Violation> {
    if payload.len() != IO_BYTES {
        return Err(io_size(payload));
    }
    match u64_at(payload, 8).unwrap_or_default() {
        opcode if opcode as u32 == WRITE => Ok(()),
        opcode => Err(Violation::Opcode(opcode)),
    }
}

fn io_size(payload: &[u8]) -> Violation {
    Violation::PayloadSize {
        kind: Kind::Io.number(),
        bytes: payload.len() as u32,
    }
}

/// A part of what was read; its bytes follow the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// First byte of the request.
    pub offset: u64,
    /// Bytes of the request.
    pub total: u32,
    /// Where in the request this belongs.
    pub at: u32,
    /// How many bytes of the disk it has.
    pub plain_bytes: u32,
    /// How many bytes follow.
    pub extra_bytes: u32,
    /// Whether these are compressed.
    pub is_compressed: bool,
}

impl Fragment {
    /// Reads a fragment; `handle` is the disk's, which hosts leave out.
    ///
    /// # Errors
    /// When it is none, or announces more bytes than a fragment may have.
    pub fn decode(payload: &[u8], handle: u64) -> Result<Self, Violation> {
        if payload.len() != IO_BYTES {
            return Err(io_size(payload));
        }
        let number = |at| u32_at(payload, at).unwrap_or_default();
        let long = |at| u64_at(payload, at).unwrap_or_default();
        if long(0) != 0 && long(0) != handle {
            return Err(Violation::Handle(long(0)));
        }
        let is_compressed = match (number(8), number(12)) {
            (READ, 0) => false,
            (READ, FASTLZ) => true,
            _ => return Err(Violation::Opcode(long(8))),
        };
        let fragment = Self {
            offset: long(16),
            total: number(24),
            at: number(28),
            plain_bytes: number(32),
            extra_bytes: number(36),
            is_compressed,
        };
        match fragment.is_bounded() {
            true => Ok(fragment),
            false => Err(fragment.wrong_size()),
        }
    }

    fn is_bounded(&self) -> bool {
        let sent = match self.is_compressed {
            true => (1..=COMPRESSED_BYTES_MAX).contains(&self.extra_bytes),
            false => self.extra_bytes == self.plain_bytes,
        };
        sent && (1..=FRAGMENT_BYTES_MAX).contains(&self.plain_bytes)
    }

    pub(super) fn wrong_size(&self) -> Violation {
        Violation::FragmentSize {
            at: self.at,
            plain: self.plain_bytes,
            extra: self.extra_bytes,
        }
    }
}

#[cfg(test)]
mod tests;
