//! Small files over HTTPS, with a bound.

use std::io;
use std::time::Duration;

use reqwest::{Response, StatusCode};

use crate::error::{FaultKind, VimFault};
use crate::server::untrusted_certificate;
use crate::{Error, Result};

/// A small file arrives within this time or not at all.
pub(crate) const TRANSFER_TIMEOUT: Duration = Duration::from_secs(120);

/// A file, or its first bytes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SmallFile {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether there is more than what was taken.
    pub is_truncated: bool,
}

impl SmallFile {
    /// The bytes as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl std::fmt::Debug for SmallFile {
    // What guests print is theirs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let more = if self.is_truncated { " and more" } else { "" };
        write!(f, "SmallFile({} bytes{more})", self.bytes.len())
    }
}

/// The first `limit` bytes of an answer's body.
pub(crate) async fn take(
    mut response: Response,
    limit: usize,
) -> Result<SmallFile, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await? {
        let room = limit - bytes.len();
        bytes.extend_from_slice(piece.get(..room).unwrap_or(&piece));
        if piece.len() > room {
            return Ok(SmallFile {
                bytes,
                is_truncated: true,
            });
        }
    }
    Ok(SmallFile {
        bytes,
        is_truncated: false,
    })
}

/// The error of a request about a file. URLs are left out: some carry tokens.
pub(crate) fn broken(address: &str, path: &str, error: reqwest::Error) -> Error {
    if let Some(untrusted) = untrusted_certificate(address, &error) {
        return untrusted;
    }
    Error::FileTransfer {
        path: path.to_owned(),
        source: io::Error::other(error.without_url()),
    }
}

/// The error of an answer that is no success.
pub(crate) fn refused(path: &str, status: StatusCode) -> Error {
    let path = path.to_owned();
    match status {
        StatusCode::NOT_FOUND => Error::FileMissing { path },
        StatusCode::FORBIDDEN => Error::Fault {
            method: "file",
            fault: Box::new(VimFault {
                kind: FaultKind::NoPermission { privilege: None },
                message: format!("our account may not read {path}"),
            }),
        },
        status => Error::FileTransfer {
            path,
            source: io::Error::other(format!("status {status}")),
        },
    }
}
