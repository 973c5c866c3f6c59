//! What can go wrong with the journal.

use std::io;
use std::path::PathBuf;

use stillwater_types::{Fault, Reason};

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process writes it.
    #[error("{0} is locked by another process; stop the other controller first")]
    Locked(PathBuf),
    /// The file system failed.
    #[error("{act} {path}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An entry before the end is damaged.
    #[error("{path} is damaged at byte {offset}: {what}; restore it from a copy")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// An entry was written by a newer release.
    #[error("entry {sequence} was written by a newer release ({what}); upgrade the controller")]
    TooNew {
        /// Which entry.
        sequence: u64,
        /// What is not known.
        what: String,
    },
    /// An entry does not fit a frame; a bug.
    #[error("frame an entry")]
    Frame(#[source] stillwater_format::Error),
    /// A write failed before, so that the end of the file is not known.
    #[error("the journal failed before and takes nothing more; restart the controller")]
    Poisoned,
    /// The entry could not be put into words; a bug.
    #[error("write an entry as json")]
    Encode(#[source] serde_json::Error),
}

impl Error {
    pub(crate) fn io(act: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        Error::Io {
            act,
            path: path.to_owned(),
            source,
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Error::Corrupt { .. } => Reason::JournalCorrupt,
            Error::TooNew { .. } => Reason::FormatTooNew,
            Error::Locked(_) | Error::Io { .. } | Error::Poisoned => Reason::StorageFailed,
            Error::Frame(_) | Error::Encode(_) => Reason::Bug,
        }
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        use std::error::Error as _;
        let message = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Fault::new(error.reason(), message)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::from(&error)
    }
}
