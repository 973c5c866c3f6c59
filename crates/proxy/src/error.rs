//! What can end a transfer.

use stillwater_chunking::{CodecError, CutError, SpliceError, TreeError};
use stillwater_seal::SealError;
use stillwater_types::{ChunkId, Fault, Reason};

/// The outcome of a step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a transfer ended before its disk did. Nothing is ever skipped: each of these fails it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source disk cannot be opened.
    #[error("open disk {disk}")]
    Open {
        /// The disk's path.
        disk: String,
        /// Why.
        #[source]
        source: stillwater_disk::Error,
    },
    /// A part of the source disk cannot be read.
    #[error("read disk {disk} at {offset}")]
    Read {
        /// The disk's path.
        disk: String,
        /// Where the reading stopped.
        offset: u64,
        /// Why.
        #[source]
        source: Box<stillwater_disk::Error>,
    },
    /// The transport left out a part of what it was to read.
    #[error("read disk {disk}: the transport went on at {found} where {due} was due")]
    ReadGap {
        /// The disk's path.
        disk: String,
        /// What was to come next.
        due: u64,
        /// What came.
        found: u64,
    },
    /// A part that was read again has other bytes: the disk is not frozen, or was read wrongly.
    #[error("read disk {disk} again at {offset}: the bytes are not those of the first time")]
    Changed {
        /// The disk's path.
        disk: String,
        /// Which part.
        offset: u64,
    },
    /// The target disk cannot be written.
    #[error("write disk {disk}")]
    Write {
        /// The disk's path.
        disk: String,
        /// Why.
        #[source]
        source: stillwater_disk::Error,
    },
    /// A part of a disk does not read as it was written.
    #[error("read disk {disk} back at {offset}: the bytes are not those that were written")]
    NotWritten {
        /// The disk's path.
        disk: String,
        /// Which part.
        offset: u64,
    },
    /// What a disk is said to be contradicts itself.
    #[error("take the order for a transfer: {0}")]
    Order(&'static str),
    /// The disk cannot be cut.
    #[error("cut the disk")]
    Cut(#[from] CutError),
    /// The disk's tree cannot be built or must not be trusted.
    #[error("walk the disk's tree")]
    Tree(#[from] TreeError),
    /// The disk cannot be spliced into its base, or compared with it.
    #[error("splice the disk into its base")]
    Splice(#[from] SpliceError),
    /// A chunk that is ready to be sent does not come back as what was read.
    #[error(
        "check the sealed chunk at {offset}: it does not open to what was read; test this host's memory"
    )]
    SelfCheck {
        /// Where on the disk the chunk begins.
        offset: u64,
    },
    /// A stored chunk is not what its id says.
    #[error("check stored chunk {id}: {problem}")]
    WrongChunk {
        /// The chunk.
        id: ChunkId,
        /// What is wrong with it.
        problem: String,
    },
    /// The repository answered other records than were asked for.
    #[error("read records: {0}")]
    WrongAnswer(&'static str),
    /// A chunk cannot be compressed.
    #[error("encode a chunk")]
    Codec(#[from] CodecError),
    /// A chunk cannot be sealed.
    #[error("seal a chunk")]
    Seal(#[from] SealError),
    /// The repository refused or is not there.
    #[error("use the repository")]
    Repository(#[source] Fault),
    /// Whoever read the export has gone.
    #[error("send an export: the reader has gone")]
    ReaderGone,
    /// Another stage ended first, and told why.
    #[error("go on: another stage of the transfer ended")]
    Stopped,
    /// A thread of the transfer panicked.
    #[error("wait for a thread of the transfer: it panicked")]
    Panicked,
}

impl Error {
    /// The same in words that cross roles.
    pub fn fault(&self) -> Fault {
        let fault = |reason| Fault::new(reason, self.chain());
        match self {
            Error::Open { disk, source } => {
                outer(source.fault(), self.to_string()).with("disk", disk)
            }
            Error::Read {
                disk,
                offset,
                source,
            } => outer(source.fault(), self.to_string())
                .with("disk", disk)
                .with("offset", offset),
            Error::Write { disk, source } => {
                outer(source.fault(), self.to_string()).with("disk", disk)
            }
            Error::ReadGap { disk, due, .. } => fault(Reason::DiskReadFailed)
                .with("disk", disk)
                .with("offset", due),
            Error::Changed { disk, offset } => fault(Reason::DiskReadFailed)
                .with("disk", disk)
                .with("offset", offset),
            Error::NotWritten { disk, offset } => fault(Reason::DiskWriteFailed)
                .with("disk", disk)
                .with("offset", offset),
            Error::Repository(inner) => inner.clone(),
            Error::SelfCheck { offset } => fault(Reason::ChunkHashMismatch).with("offset", offset),
            Error::WrongChunk { id, .. } => fault(Reason::ChunkHashMismatch).with("chunk", id),
            Error::Tree(_) | Error::WrongAnswer(_) => fault(Reason::ChunkHashMismatch),
            Error::Splice(SpliceError::Tree(_)) => fault(Reason::ChunkHashMismatch),
            Error::Splice(SpliceError::Shrunk { .. }) => fault(Reason::BadField),
            Error::Order(_) => fault(Reason::BadField),
            Error::ReaderGone => fault(Reason::RunCancelled),
            Error::Splice(_)
            | Error::Cut(_)
            | Error::Codec(_)
            | Error::Seal(_)
            | Error::Stopped
            | Error::Panicked => fault(Reason::Bug),
        }
    }

    fn chain(&self) -> String {
        stillwater_service::telemetry::chain(self).to_string()
    }
}

/// Says in front of a fault what we were doing.
fn outer(inner: Fault, doing: String) -> Fault {
    Fault {
        message: format!("{doing}: {}", inner.message),
        ..inner
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        error.fault()
    }
}
