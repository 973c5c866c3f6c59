//! A file that has its name only when it is whole.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::Error;

/// A file in the making. Without [`Draft::publish`] it vanishes.
pub struct Draft {
    file: NamedTempFile,
    path: PathBuf,
}

impl Draft {
    /// Begins a file beside `path`, readable only by its owner: what is restored was secret.
    ///
    /// # Errors
    /// When something is at `path`, or nothing can be created beside it.
    pub fn begin(path: &Path) -> Result<Self, Error> {
        match path.symlink_metadata() {
            Ok(_) => return Err(Error::Exists(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("look at", path)(error)),
        }
        let dir = parent(path);
        let file = tempfile::Builder::new()
            .prefix(".stillwater-")
            .suffix(".part")
            .tempfile_in(dir)
            .map_err(Error::io("create a file in", dir))?;
        let path = path.to_owned();
        Ok(Self { file, path })
    }

    /// The file.
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name when it is durable; refuses to replace.
    ///
    /// # Errors
    /// When somebody else was faster, or it cannot be made durable.
    pub fn publish(self) -> Result<(), Error> {
        let Self { file, path } = self;
        file.as_file()
            .sync_all()
            .map_err(Error::io("sync", &path))?;
        match file.persist_noclobber(&path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists(path));
            }
            Err(error) => return Err(Error::io("rename to", &path)(error.error)),
        }
        let dir = parent(&path);
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(Error::io("sync directory", dir))
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
