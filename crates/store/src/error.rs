//! Why the store refused or failed.

use std::io;
use std::path::{Path, PathBuf};

use stillwater_format::Time;
use stillwater_format::log::Corrupt;
use stillwater_format::pack::RecordId;
use stillwater_types::{DatasetId, Fault, PackId, PointId, Reason, RunId};

use crate::time::Moved;

/// Why the store refused or failed; each variant is something that a caller can decide on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The storage failed. What was being written is not acknowledged.
    #[error("{act} {}", path.display())]
    Io {
        /// What was attempted.
        act: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// An earlier failure left a file in an unknown state; start again from a new one.
    #[error("write to a file whose earlier write or sync failed; send the pack again")]
    Poisoned,
    /// Writing failed more than once: nothing is taken until the repository is started again.
    #[error("write to storage that keeps failing; check the disk and restart the repository")]
    ReadOnly,
    /// There is no room beside the reserve.
    #[error(
        "store {wanted_bytes} bytes with {writable_bytes} writable; add room or remove other files"
    )]
    Full {
        /// What was asked for.
        wanted_bytes: u64,
        /// What may still be written.
        writable_bytes: u64,
    },
    /// The storage cannot keep promises.
    #[error("use this storage: {why}")]
    Unfit {
        /// What it failed.
        why: String,
    },
    /// Another process has the repository open.
    #[error("open a repository that another process has open; stop that one first")]
    InUse,
    /// There is no repository in the directory.
    #[error("open a directory that holds no repository; mount its disk, or join a cluster first")]
    NotInitialised,
    /// There is a repository in the directory.
    #[error("make a repository where there is one already")]
    AlreadyInitialised,
    /// The repository was written by a newer release.
    #[error("read a repository of a newer release; upgrade this one")]
    TooNew(#[source] stillwater_format::Error),
    /// Neither superblock can be read.
    #[error("read a superblock: both are damaged")]
    SuperblockDamaged(#[source] stillwater_format::Error),
    /// Both copies of the commit log are damaged.
    #[error("read the commit log: both copies are damaged; restore one of them from a replica")]
    LogCorrupt(#[source] Corrupt),
    /// The commit log is whole in form, yet cannot be what was written.
    #[error("read the commit log: {why}; restore it from a replica")]
    LogForged {
        /// What does not fit.
        why: &'static str,
    },
    /// The session is over, or a newer one of the run took its place.
    #[error("act in a session of run {run} that is over; open a new one")]
    FenceStale {
        /// The run.
        run: RunId,
    },
    /// No such dataset.
    #[error("find dataset {0}")]
    DatasetNotFound(DatasetId),
    /// No such point, or none that was proposed.
    #[error("find restore point {0}")]
    PointNotFound(PointId),
    /// Neither copy of a point's manifest can be read.
    #[error("read the manifest of restore point {0}: no copy fits its commit record")]
    ManifestUnreadable(PointId),
    /// A proposal does not fit what is stored or who proposes it.
    #[error("take the proposed restore point: {why}")]
    ProposalRefused {
        /// What does not fit.
        why: String,
    },
    /// The lock of a point is not over.
    #[error("delete restore point {point} before {until}, when its lock is over")]
    PointLocked {
        /// The point.
        point: PointId,
        /// Until when it cannot be deleted, in trusted time.
        until: Time,
    },
    /// The wall clock is not where the boot clock says, so nothing is deleted.
    #[error(
        "delete while the clock is in doubt: it was set {moved}; set it right, or find out who did"
    )]
    TimeFrozen {
        /// By how much, and which way.
        moved: Moved,
    },
    /// A statement does not count.
    #[error("take a statement: {why}")]
    StatementRefused {
        /// Why not.
        why: &'static str,
    },
    /// A collection runs already.
    #[error("collect garbage while another collection runs")]
    CollectionRunning,
    /// A collection was asked to stop, or has ended.
    #[error("go on with a collection that was stopped")]
    CollectionStopped,
    /// A verification was asked to stop.
    #[error("go on with a verification that was stopped")]
    VerificationStopped,
    /// A scrub was asked to stop.
    #[error("go on with a scrub that was stopped")]
    ScrubStopped,
    /// Nobody knows what a point reaches, so nothing can be called garbage.
    #[error(
        "collect garbage while restore point {point} cannot be read whole; let a backup heal it, \
         or delete it when its lock is over"
    )]
    CollectionBlocked {
        /// The point.
        point: PointId,
        /// What could not be read.
        source: Box<Error>,
    },
    /// What was sent is malformed.
    #[error("take what was sent: {what}")]
    Malformed {
        /// What is wrong with it.
        what: String,
    },
    /// A record that was sent is not what its header says.
    #[error("take {record}: the bytes that arrived do not fit their hash; send it again")]
    HashMismatch {
        /// The record.
        record: RecordId,
    },
    /// A record is not stored.
    #[error("find {record}")]
    RecordNotFound {
        /// The record.
        record: RecordId,
    },
    /// A record is stored, but its bytes were damaged.
    #[error("read {record}: its bytes in pack {pack} are damaged")]
    Damaged {
        /// The record.
        record: RecordId,
        /// Where it is.
        pack: PackId,
    },
}

impl Error {
    /// Wraps what the file system said.
    pub(crate) fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full {
                wanted_bytes: 0,
                writable_bytes: 0,
            },
            _ => Self::Io { act, path, source },
        }
    }

    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self::ProposalRefused { why: why.into() }
    }

    pub(crate) fn malformed(what: impl std::fmt::Display) -> Self {
        Self::Malformed {
            what: what.to_string(),
        }
    }

    /// The cause as it crosses roles.
    pub const fn reason(&self) -> Reason {
        match self {
            Error::Io { .. } | Error::Poisoned | Error::ReadOnly => Reason::StorageFailed,
            Error::Full { .. } => Reason::RepositoryFull,
            Error::Unfit { .. }
            | Error::InUse
            | Error::NotInitialised
            | Error::AlreadyInitialised => Reason::StorageUnfit,
            Error::TooNew(_) => Reason::FormatTooNew,
            Error::SuperblockDamaged(_) | Error::LogCorrupt(_) | Error::LogForged { .. } => {
                Reason::CommitLogCorrupt
            }
            Error::FenceStale { .. } => Reason::FenceStale,
            Error::DatasetNotFound(_) => Reason::DatasetNotFound,
            Error::PointNotFound(_) => Reason::PointNotFound,
            Error::ManifestUnreadable(_) => Reason::ManifestUnreadable,
            Error::ProposalRefused { .. } => Reason::ProposalRefused,
            Error::PointLocked { .. } => Reason::PointLocked,
            Error::TimeFrozen { .. } => Reason::TimeFrozen,
            Error::StatementRefused { .. } => Reason::StatementRefused,
            Error::CollectionRunning => Reason::CollectionRunning,
            Error::CollectionStopped => Reason::CollectionStopped,
            Error::VerificationStopped | Error::ScrubStopped => Reason::VerificationStopped,
            Error::CollectionBlocked { .. } => Reason::CollectionBlocked,
            Error::Malformed { .. } => Reason::BadField,
            Error::HashMismatch { .. } | Error::Damaged { .. } => Reason::ChunkHashMismatch,
            Error::RecordNotFound { .. } => Reason::ChunkNotFound,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let fault = Fault::new(error.reason(), error.to_string());
        match &error {
            Error::RecordNotFound { record } | Error::HashMismatch { record } => {
                fault.with("record", record)
            }
            Error::Damaged { record, pack } => fault.with("record", record).with("pack", pack),
            Error::FenceStale { run } => fault.with("run", run),
            Error::CollectionBlocked { point, source } => {
                fault.with("point", point).with("cause", source.reason())
            }
            Error::PointLocked { point, until } => fault.with("point", point).with("until", until),
            // What the file system said is for the log: paths of the host do not leave it.
            Error::Io { act, source, .. } => {
                let message = format!("{act} a file of the repository: {source}");
                Fault { message, ..fault }
            }
            _ => fault,
        }
    }
}
