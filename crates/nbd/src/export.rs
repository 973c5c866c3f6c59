//! A disk that is served.

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_types::Extent;

/// A disk that clients read, and write where it lets them.
#[async_trait]
pub trait Export: Send + Sync {
    /// What clients ask for.
    fn name(&self) -> &str;

    /// Bytes of the disk.
    fn length(&self) -> u64;

    /// What it holds, for people.
    fn description(&self) -> String {
        String::new()
    }

    /// Whether it takes writes.
    fn is_writable(&self) -> bool {
        false
    }

    /// Reads a range that lies in the disk: pieces in order that cover it exactly.
    async fn read(&self, range: Extent) -> Result<Vec<Piece>, Trouble>;

    /// Tells what a range holds, in order from its start; may tell less than all of it, but something.
    async fn holes(&self, range: Extent) -> Result<Vec<(u64, bool)>, Trouble>;

    /// Keeps bytes for readers of this server's life.
    async fn write(&self, _offset: u64, _bytes: Bytes) -> Result<(), Trouble> {
        Err(Trouble::new(
            Errno::Permission,
            "the disk cannot be written",
        ))
    }

    /// Makes a range zeros.
    async fn zero(&self, _range: Extent) -> Result<(), Trouble> {
        Err(Trouble::new(
            Errno::Permission,
            "the disk cannot be written",
        ))
    }
}

/// A part of what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// So many zeros.
    Zeros(u64),
}

impl Piece {
    /// How many bytes of the disk it is.
    pub fn length(&self) -> u64 {
        match self {
            Piece::Data(bytes) => bytes.len() as u64,
            Piece::Zeros(length) => *length,
        }
    }
}

/// Why a request failed, in the protocol's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errno {
    /// Not allowed.
    Permission = 1,
    /// What holds the disk failed.
    Io = 5,
    /// The request makes no sense.
    Invalid = 22,
    /// No room for what is written.
    NoSpace = 28,
    /// Longer than a request may be.
    Overflow = 75,
    /// There is no such thing here.
    NotSupported = 95,
    /// The server is ending.
    Shutdown = 108,
}

/// A failed request: a number for programs and words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The number.
    pub errno: Errno,
    /// The words; the first 4096 bytes count.
    pub message: String,
}

impl Trouble {
    /// A failure with its words.
    pub fn new(errno: Errno, message: impl Into<String>) -> Self {
        Self {
            errno,
            message: message.into(),
        }
    }
}
