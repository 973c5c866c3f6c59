//! Opening files so that no path can leave the directory of its datastore.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::path::DatastorePath;
use crate::{Error, Result};

/// The directory of a mounted datastore.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, path, flags, Mode::empty()) {
            Ok(directory) => Ok(Self(directory)),
            Err(errno) => Err(Error::OpenFailed {
                path: path.display().to_string(),
                source: errno.into(),
            }),
        }
    }

    /// Opens a regular file for reading.
    pub(super) fn file(&self, path: &DatastorePath, more: OFlags) -> Result<File> {
        // Without NONBLOCK a pipe of that name would hold the caller.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK | more;
        // A link on a datastore is nobody's that we know; it could lead anywhere on this machine.
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(&self.0, path.file.as_str(), flags, Mode::empty(), resolve);
        let file = File::from(opened.map_err(|errno| open_error(path, errno))?);
        let kind = file.metadata().map_err(|source| Error::OpenFailed {
            path: path.to_string(),
            source,
        })?;
        match kind.is_file() {
            true => Ok(file),
            false => Err(Error::NotFlat {
                path: path.to_string(),
                problem: "it is no regular file".into(),
            }),
        }
    }
}

fn open_error(path: &DatastorePath, errno: Errno) -> Error {
    let path = path.to_string();
    match errno {
        Errno::NOENT | Errno::NOTDIR => Error::NotFound { path },
        Errno::LOOP | Errno::XDEV => Error::Escapes { path },
        errno => Error::OpenFailed {
            path,
            source: io::Error::from(errno),
        },
    }
}
