//! Why nothing could be recovered.

use std::io;
use std::path::{Path, PathBuf};

use stillwater_seal::SealError;
use stillwater_types::{Extent, Fault, PointId, Reason};

/// A failure that leaves nothing behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory holds no commit log.
    #[error("{} holds no commit log; name the directory that the repository's configuration names", .0.display())]
    NoRepository(PathBuf),
    /// The directory, or the place for what is restored, cannot be used.
    #[error("{act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On which file.
        path: PathBuf,
        /// What came of it.
        #[source]
        source: io::Error,
    },
    /// A newer release wrote it.
    #[error("read the repository; take the stillwater-repository of the release that wrote it")]
    TooNew(#[source] stillwater_format::Error),
    /// The key is of another cluster.
    #[error(
        "open the datasets; take the recovery key of the cluster that the repository belonged to"
    )]
    Key(#[source] SealError),
    /// No dataset has been recorded, so no key is there to be opened.
    #[error("find a dataset; its entry of the commit log is lost in both copies")]
    NoDataset,
    /// The dataset of a point cannot be opened.
    #[error("open the dataset of restore point {0}; its key is lost or of another recovery key")]
    Locked(PointId),
    /// There is no such point.
    #[error("no restore point {0}; `recover DIR list` shows them")]
    PointNotFound(PointId),
    /// The point was deleted.
    #[error("restore point {0} was deleted; add --deleted to try it all the same")]
    PointDeleted(PointId),
    /// Neither copy of a manifest fits.
    #[error("read the manifest of restore point {0}: no copy fits its commit record")]
    ManifestUnreadable(PointId),
    /// The point has no such disk.
    #[error("restore point {point} has no disk {key}; it has {known}")]
    DiskNotFound {
        /// The point.
        point: PointId,
        /// The device key.
        key: i32,
        /// The keys that it has.
        known: String,
    },
    /// Parts of a disk are lost.
    #[error("disk {key} lacks {} bytes in {} extents; add --fill-zeros to restore the rest", total(lost), lost.len())]
    Damaged {
        /// The device key.
        key: i32,
        /// Where, ascending.
        lost: Vec<Extent>,
    },
    /// Something stands in the place of what is restored.
    #[error("{} exists; nothing is overwritten", .0.display())]
    Exists(PathBuf),
    /// The format of the image is too small for the disk.
    #[error("write a VMDK of {length} bytes: its tables end at {limit}; take --format raw")]
    ImageTooLong {
        /// Bytes of the disk, or of the image.
        length: u64,
        /// The most that there can be.
        limit: u64,
    },
}

impl Error {
    pub(crate) fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { act, path, source }
    }

    /// The stable name of the cause.
    pub const fn reason(&self) -> Reason {
        match self {
            Error::NoRepository(_) | Error::Exists(_) | Error::ImageTooLong { .. } => {
                Reason::BadField
            }
            Error::Io { .. } => Reason::StorageFailed,
            Error::TooNew(_) => Reason::FormatTooNew,
            Error::Key(_) | Error::Locked(_) => Reason::SecretUnreadable,
            Error::NoDataset => Reason::CommitLogCorrupt,
            Error::PointNotFound(_) | Error::PointDeleted(_) => Reason::PointNotFound,
            Error::ManifestUnreadable(_) => Reason::ManifestUnreadable,
            Error::DiskNotFound { .. } => Reason::DiskNotFound,
            Error::Damaged { .. } => Reason::PointDegraded,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            message = format!("{message}: {source}");
            cause = source.source();
        }
        Fault::new(error.reason(), message)
    }
}

fn total(lost: &[Extent]) -> u64 {
    lost.iter().map(|extent| extent.length).sum()
}
