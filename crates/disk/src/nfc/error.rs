//! What can go wrong between a ticket and an open disk, as decisions a caller can make.

use std::fmt;
use std::io;
use std::sync::Arc;

use stillwater_types::{Fault, Reason};

use super::fastlz;

/// The outcome of an operation.
pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a host. Every operation that waits on a connection learns why it broke, so
/// these can be cloned.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Whoever gives tickets gave none.
    #[error("no ticket could be had")]
    NoTicket(#[source] Fault),
    /// The ticket lacks something or holds something that cannot be.
    #[error("the ticket cannot be used: {problem}")]
    BadTicket {
        /// What is wrong with it.
        problem: String,
    },
    /// The host does not answer.
    #[error("connect to {address}: see that the proxy reaches this port of the host")]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The host takes too long.
    #[error("{address} took too long: {step}")]
    TimedOut {
        /// Host and port.
        address: String,
        /// What it was to do.
        step: Step,
    },
    /// The host shows another certificate than the ticket or vCenter's record says.
    #[error("{address} shows a certificate that is not the host's: {problem}")]
    Untrusted {
        /// Host and port.
        address: String,
        /// What was expected and what was shown.
        problem: String,
    },
    /// The host does not greet, as when it has too many connections.
    #[error("{address} takes no connection now: {line:?}")]
    NotReady {
        /// Host and port.
        address: String,
        /// What it said.
        line: String,
    },
    /// The host offers no NFC inside TLS; disks are not moved in the clear.
    #[error("{address} offers no nfc over tls: {line:?}")]
    PlainOnly {
        /// Host and port.
        address: String,
        /// What it said.
        line: String,
    },
    /// The host does not take the ticket: it was used, or it is too old.
    #[error("{address} refused the ticket, take a new ticket: {line:?} to {command}")]
    TicketRefused {
        /// Host and port.
        address: String,
        /// The command, without what it named.
        command: &'static str,
        /// What the host said.
        line: String,
    },
    /// The host answered a request by an error.
    #[error("the host refused to {act}: {code}")]
    Refused {
        /// What it was asked for.
        act: Act,
        /// What it said.
        code: Code,
    },
    /// The host did what it may not do; nothing of this connection is believed any more.
    #[error("the host does not keep to the protocol")]
    Protocol(#[source] Violation),
    /// The disk is not what vSphere says.
    #[error("the host says that the disk has {found} bytes instead of {expected}")]
    WrongLength {
        /// What vSphere says.
        expected: u64,
        /// What the host says.
        found: u64,
    },
    /// The session ended, as when its host is lost or put into maintenance.
    #[error("the session ended, take a new ticket")]
    Lost(#[source] Arc<io::Error>),
    /// The disk was closed here.
    #[error("the disk was closed")]
    Closed,
}

impl Error {
    pub(super) fn lost(source: io::Error) -> Self {
        Error::Lost(Arc::new(source))
    }

    /// Whether the same may succeed on a connection that is made with a new ticket.
    pub fn wants_new_ticket(&self) -> bool {
        match self {
            Error::Connect { .. }
            | Error::TimedOut { .. }
            | Error::NotReady { .. }
            | Error::TicketRefused { .. }
            | Error::Lost(_) => true,
            Error::NoTicket(_)
            | Error::BadTicket { .. }
            | Error::Untrusted { .. }
            | Error::PlainOnly { .. }
            | Error::Refused { .. }
            | Error::Protocol(_)
            | Error::WrongLength { .. }
            | Error::Closed => false,
        }
    }

    /// The reason in words that cross roles; `or` when it is only that the disk cannot be moved.
    pub(crate) fn reason(&self, or: Reason) -> Reason {
        match self {
            Error::NoTicket(fault) => fault.reason,
            Error::Untrusted { .. } => Reason::CertificateUntrusted,
            Error::PlainOnly { .. } | Error::Protocol(Violation::Version(_)) => {
                Reason::NotSupported
            }
            Error::Closed => Reason::Bug,
            _ => or,
        }
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Error::Protocol(violation)
    }
}

/// What a host is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The connection.
    Connect,
    /// The first line.
    Greeting,
    /// The first TLS handshake.
    FirstTls,
    /// Answers to the ticket.
    Authorize,
    /// The second TLS handshake.
    SecondTls,
    /// Session and disk.
    Open,
    /// The answer to a request.
    Reply,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Connect => "to accept the connection",
            Step::Greeting => "to say its first line",
            Step::FirstTls => "to agree on tls",
            Step::Authorize => "to answer the ticket",
            Step::SecondTls => "to agree on tls for the disk",
            Step::Open => "to open the disk",
            Step::Reply => "to answer a request",
        })
    }
}

/// What a host is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Begin.
    OpenSession,
    /// Open the disk.
    OpenFile,
    /// Read.
    Read,
    /// Write.
    Write,
    /// Close the disk.
    Close,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Act::OpenSession => "begin a session",
            Act::OpenFile => "open the disk",
            Act::Read => "read",
            Act::Write => "write",
            Act::Close => "close the disk",
        })
    }
}

/// The payload of an error frame: a number, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The number at its beginning, if it is that long.
    pub number: Option<u32>,
    /// Its first bytes in hexadecimal, for whoever knows more.
    pub payload: String,
}

impl Code {
    /// Of a disk that may not be written with this ticket.
    pub const READ_ONLY: u32 = 0x0b;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(Self::READ_ONLY) => f.write_str("error 0x0b, the ticket is for reading only"),
            Some(number) => write!(f, "error {number:#04x} (payload {})", self.payload),
            None => write!(f, "an error without a number (payload {})", self.payload),
        }
    }
}

/// Something that a host may not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A line that is too long or no text.
    #[error("a line is too long or no text")]
    Line,
    /// Another message than the one that is due.
    #[error("message {found} came where {expected} is due")]
    Message {
        /// The type that is due.
        expected: u32,
        /// The type that came.
        found: u32,
    },
    /// It does not agree to the session's parameters.
    #[error("it answered {0} to the session's parameters")]
    Parameters(u32),
    /// It speaks an older version.
    #[error("it speaks version {0}, older than 11")]
    Version(u32),
    /// A frame does not begin as frames do.
    #[error("a frame begins with {0:#010x}")]
    Magic(u32),
    /// A frame of a type that we do not know.
    #[error("a frame has the unknown type {0}")]
    Type(u32),
    /// A frame whose payload is too short or too long.
    #[error("a frame of type {kind} has a payload of {bytes} bytes")]
    PayloadSize {
        /// Its type.
        kind: u32,
        /// How long it is.
        bytes: u32,
    },
    /// A reply to what nobody asked.
    #[error("a reply to operation {0}, which is not awaited")]
    UnknownOperation(u32),
    /// A reply of another type than its request.
    #[error("a reply of type {found} to operation {operation}")]
    WrongReply {
        /// The operation.
        operation: u32,
        /// The type.
        found: u32,
    },
    /// The disk is opened as something else.
    #[error("the file was opened as type {0}, which is no disk")]
    FileType(u32),
    /// The disk was to be opened for writing.
    #[error("the file was opened with flags {0:#x}, which is for reading only")]
    Flags(u32),
    /// Its sectors are not of a size that disks have.
    #[error("the disk has sectors of {0} bytes")]
    SectorSize(u32),
    /// A fragment of another file.
    #[error("a fragment is of file {0:#x}")]
    Handle(u64),
    /// A reply says that it is to another kind of request, or compressed in an unknown way.
    #[error("a reply has the opcode {0:#x}")]
    Opcode(u64),
    /// A fragment of another request.
    #[error("a fragment is of a request at {found} instead of {asked}")]
    Offset {
        /// Where was asked for.
        asked: u64,
        /// What the fragment says.
        found: u64,
    },
    /// A fragment of a request of another length.
    #[error("a fragment is of a request of {found} bytes instead of {asked}")]
    Total {
        /// How many bytes were asked for.
        asked: u32,
        /// What the fragment says.
        found: u32,
    },
    /// A fragment that is empty, too large or beyond its request.
    #[error("a fragment of {plain} bytes ({extra} sent) at {at} does not fit into its request")]
    FragmentSize {
        /// Where in the request.
        at: u32,
        /// How many bytes of the disk.
        plain: u32,
        /// How many bytes follow.
        extra: u32,
    },
    /// Bytes that came before.
    #[error("a fragment of {plain} bytes at {at} covers what came before")]
    Overlap {
        /// Where in the request.
        at: u32,
        /// How many bytes of the disk.
        plain: u32,
    },
    /// More holes between fragments than any order of them makes.
    #[error("a request is answered in too many pieces")]
    Scattered,
    /// A compressed fragment that is none.
    #[error("a compressed fragment cannot be taken apart")]
    FastLz(#[source] fastlz::Error),
}
