//! What can go wrong with a disk, as decisions a caller can make.

use stillwater_types::{Extent, Fault, Reason};

use crate::hotadd::HotAddError;
use crate::nbd::NbdError;

/// The outcome of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The range is not within the disk.
    #[error("range {}+{} lies beyond the disk of {length} bytes", extent.start, extent.length)]
    BeyondDisk {
        /// The range.
        extent: Extent,
        /// Size of the disk.
        length: u64,
    },
    /// The writes are not in ascending order.
    #[error("write at {offset} after {position} was reached")]
    NotAscending {
        /// Where it was to be written.
        offset: u64,
        /// What was reached.
        position: u64,
    },
    /// A disk that has content is written by whole blocks.
    #[error("write at {} of {} bytes is not of whole blocks", extent.start, extent.length)]
    NotBlocks {
        /// What was to be written.
        extent: Extent,
    },
    /// The datastore path is not `[datastore] directory/file.vmdk`.
    #[error("{path:?} is not the path of a disk on a datastore")]
    BadPath {
        /// The path.
        path: String,
    },
    /// The disk is not one flat extent: it has a parent, is sparse, or raw.
    #[error("{path} cannot be read as one flat file: {problem}")]
    NotFlat {
        /// Its descriptor.
        path: String,
        /// What it is instead.
        problem: String,
    },
    /// The disk's size is not what vSphere says.
    #[error("{path} has {found} bytes instead of {expected}")]
    WrongLength {
        /// The file.
        path: String,
        /// What vSphere says.
        expected: u64,
        /// What the server says.
        found: u64,
    },
    /// The server has no such file.
    #[error("{path} is not on the datastore")]
    NotFound {
        /// The file.
        path: String,
    },
    /// The session ended or may not use files.
    #[error("the session may not use {path}")]
    Refused {
        /// The file.
        path: String,
        /// HTTP status.
        status: u16,
    },
    /// The server's certificate is not trusted, or its address cannot be used.
    #[error("connect to the server of the datastore")]
    Endpoint(#[source] stillwater_vsphere::Error),
    /// The server did not answer a range as asked: no 206, another range, too few bytes.
    #[error("the range {}+{} of {path} was answered wrongly: {problem}", extent.start, extent.length)]
    BadRange {
        /// The file.
        path: String,
        /// What was asked for.
        extent: Extent,
        /// What came instead.
        problem: String,
    },
    /// A reader returned another number of bytes than it was asked for.
    #[error("the range {}+{} was answered with {found} bytes", extent.start, extent.length)]
    WrongSize {
        /// The range.
        extent: Extent,
        /// How many bytes came.
        found: u64,
    },
    /// The server answered with another status.
    #[error("{path} was answered with status {status}")]
    Status {
        /// The file.
        path: String,
        /// HTTP status.
        status: u16,
    },
    /// The connection failed, more often than it is tried.
    #[error("transfer {path}")]
    Transport {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or device of this machine cannot be opened.
    #[error("open {path}")]
    OpenFailed {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A path leads out of the directory of its datastore, or over a link.
    #[error("{path} leads out of the directory of its datastore")]
    Escapes {
        /// The path.
        path: String,
    },
    /// A file or device of this machine cannot be read.
    #[error("read {}+{} of {path}", extent.start, extent.length)]
    ReadFailed {
        /// The file.
        path: String,
        /// What was asked for.
        extent: Extent,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file was written while it was read: it is not the frozen disk.
    #[error("{path} was written while it was read: it is not frozen")]
    Changed {
        /// The file.
        path: String,
    },
    /// A disk that was attached to this machine cannot be used.
    #[error(transparent)]
    HotAdd(#[from] HotAddError),
    /// A disk behind NBD cannot be used.
    #[error(transparent)]
    Nbd(#[from] NbdError),
    /// This process ends.
    #[error("{path} was left since this process ends")]
    Stopped {
        /// The file.
        path: String,
    },
    /// The datastore is full.
    #[error("the datastore has no room for {path}")]
    DatastoreFull {
        /// The file.
        path: String,
    },
    /// The disk cannot be read through its host.
    #[error("read {path} through nfc")]
    NfcRead {
        /// The disk.
        path: String,
        /// Why.
        #[source]
        source: crate::nfc::Error,
    },
    /// The disk cannot be written through its host.
    #[error("write {path} through nfc")]
    NfcWrite {
        /// The disk.
        path: String,
        /// Why.
        #[source]
        source: crate::nfc::Error,
    },
    /// The upload ended before it was whole.
    #[error("write {path}: {problem}")]
    WriteFailed {
        /// The file.
        path: String,
        /// What happened.
        problem: String,
    },
}

impl Error {
    /// The same in words that cross roles.
    pub fn fault(&self) -> Fault {
        let reason = match self {
            Error::Endpoint(source) => return source.fault(),
            Error::NfcRead { source, .. } => source.reason(Reason::DiskReadFailed),
            Error::NfcWrite { source, .. } => source.reason(Reason::DiskWriteFailed),
            Error::Nbd(NbdError::Untrusted { .. } | NbdError::NoTls { .. }) => {
                Reason::CertificateUntrusted
            }
            Error::Nbd(NbdError::ReadOnly) => Reason::DiskWriteFailed,
            Error::BeyondDisk { .. } => Reason::RangeBeyondDisk,
            Error::NotAscending { .. } | Error::NotBlocks { .. } | Error::WrongSize { .. } => {
                Reason::Bug
            }
            Error::BadPath { .. } => Reason::BadField,
            Error::NotFlat { .. } => Reason::NotSupported,
            Error::Refused { status: 403, .. } => Reason::VcenterPrivilegeMissing,
            Error::WrongLength { .. }
            | Error::NotFound { .. }
            | Error::Refused { .. }
            | Error::BadRange { .. }
            | Error::Status { .. }
            | Error::OpenFailed { .. }
            | Error::Escapes { .. }
            | Error::ReadFailed { .. }
            | Error::Changed { .. }
            | Error::HotAdd(_)
            | Error::Nbd(_)
            | Error::Stopped { .. }
            | Error::Transport { .. } => Reason::DiskReadFailed,
            Error::DatastoreFull { .. } => Reason::DatastoreFull,
            Error::WriteFailed { .. } => Reason::DiskWriteFailed,
        };
        Fault::new(reason, self.chain())
    }

    /// The error and its sources in one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(source) = next {
            text.push_str(": ");
            text.push_str(&source.to_string());
            next = source.source();
        }
        text
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        error.fault()
    }
}
