//! Why the controller does not start.

use std::io;
use std::path::PathBuf;

use stillwater_types::{Fault, Reason};

/// A start, an `init` or an `admin-token` that did not go through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `init` was run before.
    #[error(
        "{0} already holds a cluster; run the controller, or name another --state-dir for another \
         cluster"
    )]
    Initialised(PathBuf),
    /// `init` was never finished.
    #[error("{0} holds no cluster; run `stillwater-controller init --advertise HOST:PORT` first")]
    NotInitialised(PathBuf),
    /// Another controller process has the directory.
    #[error("another controller process uses {0}; stop it first")]
    InUse(PathBuf),
    /// No address to tell others.
    #[error(
        "nobody knows where to call; name it with --advertise HOST:PORT or in the configuration"
    )]
    NoAddress,
    /// The address to tell others is no address.
    #[error("{0:?} is not HOST:PORT, such as controller.example:7443")]
    BadAddress(String),
    /// A file of the state directory could not be read or written.
    #[error("{act} {}", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The charter is damaged or of a newer release.
    #[error("read the cluster's charter {}", path.display())]
    Charter {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The charter is of a newer release.
    #[error("{} was written by a newer release; upgrade the controller", .0.display())]
    CharterTooNew(PathBuf),
    /// The key-encryption key is not 64 hexadecimal digits.
    #[error("the key at {0} is not 64 hexadecimal digits; put back the key that init used")]
    BadKey(String),
    /// The port cannot be listened on.
    #[error("listen on {address}")]
    Listen {
        /// Which address.
        address: std::net::SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Output could not be handed over.
    #[error("print the keys; nothing was made, run init again")]
    Print(#[source] io::Error),
    /// A part of the controller failed for a reason of its own.
    #[error("{0}")]
    Fault(Fault),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<stillwater_seal::SealError> for Error {
    fn from(error: stillwater_seal::SealError) -> Self {
        Self::Fault(error.into())
    }
}

impl Error {
    /// Names a failed act on a file.
    pub(crate) fn file(
        act: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { act, path, source }
    }

    /// The reason that has a page, where one fits.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Error::Fault(fault) => Some(fault.reason),
            Error::Charter { .. } | Error::BadKey(_) => Some(Reason::SecretUnreadable),
            Error::CharterTooNew(_) => Some(Reason::FormatTooNew),
            _ => None,
        }
    }
}
