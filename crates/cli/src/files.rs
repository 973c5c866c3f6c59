//! Files in restore points: how they are named, who reads them, where they go.

mod acl;
mod dress;
mod look;
mod report;
mod taking;
mod tar;
mod tree;
mod zip;

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stillwater_files::{Cause, Error, Event, Job, Session};
use stillwater_nbd::{Export, Piece};
use stillwater_types::{Extent, Fault, Reason};
use tempfile::NamedTempFile;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::serve::ServedDisk;

#[cfg(test)]
pub(crate) use look::Content;
pub(crate) use look::{Find, Finds, Reading, Version};
pub(crate) use report::Report;
use taking::Sink;
pub(crate) use taking::{Shape, Taking};
use tar::Tar;
use tree::Tree;
use zip::Zip;

/// The reader's program, which is installed beside this one.
const READER: &str = "stillwater-files";
pub(crate) const STDOUT: &str = "-";
/// Zeros that are written at a time, where they have to be.
static ZEROS: [u8; 65536] = [0; 65536];

/// `POINT:[VOLUME:]/PATH`; without a path it is all volumes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub point: String,
    pub volume: Option<String>,
    pub path: String,
}

impl Place {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let bad = || {
            let message = format!(
                "{text:?} is no place: write POINT:/PATH, POINT:VOLUME:/PATH, or POINT: for all volumes"
            );
            Fault::new(Reason::BadField, message).with("field", "place")
        };
        let (point, rest) = text.split_once(':').ok_or_else(bad)?;
        let (volume, path) = match rest.split_once(":/") {
            Some((volume, path)) if !volume.is_empty() && !rest.starts_with('/') => {
                (Some(volume.to_owned()), format!("/{path}"))
            }
            _ => (None, rest.to_owned()),
        };
        if point.is_empty() || !(path.is_empty() || path.starts_with('/')) {
            return Err(bad());
        }
        Ok(Self {
            point: point.to_owned(),
            volume,
            path,
        })
    }

    /// What names in an archive begin with: the last component, or nothing.
    pub fn prefix(&self) -> Vec<u8> {
        let name = self.own_name().unwrap_or_default();
        name.into_os_string().into_encoded_bytes()
    }

    /// The last component of the path: where a file goes when nobody says it.
    pub fn own_name(&self) -> Result<PathBuf, Fault> {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        if matches!(name, "" | "." | "..") {
            let message = format!(
                "{:?} has no name to write to: say where with --to",
                self.path
            );
            return Err(Fault::new(Reason::BadField, message).with("field", "to"));
        }
        Ok(PathBuf::from(name))
    }
}

/// What a guest calls something, for people.
pub(crate) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Where the reader is.
pub(crate) fn reader() -> Result<PathBuf, Fault> {
    let own = std::env::current_exe();
    let path = own.ok().map(|own| own.with_file_name(READER));
    path.filter(|path| path.exists()).ok_or_else(|| {
        let message = format!(
            "{READER} is not beside this program: install it there, it reads guests' files shut in"
        );
        Fault::new(Reason::NotSupported, message)
    })
}

/// Has the reader do `job` with the bytes of `disks`.
pub(crate) fn read(
    program: &Path,
    job: &Job,
    disks: &[Arc<ServedDisk>],
    handle: &Handle,
    stop: &CancellationToken,
    mut take: impl FnMut(Event) -> io::Result<()>,
) -> Result<(), Fault> {
    let mut from_disk = |disk: usize, offset: u64, buffer: &mut [u8]| {
        let disk = disks.get(disk).ok_or(io::ErrorKind::NotFound)?;
        let range = Extent::new(offset, buffer.len() as u64);
        let pieces = handle.block_on(async {
            tokio::select! {
                pieces = disk.read(range) => pieces.map_err(|trouble| io::Error::other(trouble.message)),
                () = stop.cancelled() => Err(io::ErrorKind::Interrupted.into()),
            }
        })?;
        fill(&pieces, buffer)
    };
    let session = Session::start(program).map_err(fault)?;
    session.run(job, &mut from_disk, &mut take).map_err(fault)
}

/// Puts pieces, which are the whole range, into a buffer.
fn fill(pieces: &[Piece], buffer: &mut [u8]) -> io::Result<()> {
    let mut rest = buffer;
    for piece in pieces {
        let length = match piece {
            Piece::Data(bytes) => bytes.len(),
            Piece::Zeros(count) => *count as usize,
        };
        let (now, later) = rest
            .split_at_mut_checked(length)
            .ok_or(io::ErrorKind::InvalidData)?;
        match piece {
            Piece::Data(bytes) => now.copy_from_slice(bytes),
            Piece::Zeros(_) => now.fill(0),
        }
        rest = later;
    }
    match rest.is_empty() {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn fault(error: Error) -> Fault {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    let message = format!("{error}{}", source.unwrap_or_default());
    match error {
        Error::Failed { cause, .. } => match cause {
            Cause::Missing => Fault::new(Reason::FileNotFound, message),
            Cause::Asked => Fault::new(Reason::BadField, message).with("field", "place"),
            Cause::Unreadable => Fault::new(Reason::NotSupported, message),
            Cause::Disk => Fault::new(Reason::DiskReadFailed, message),
        },
        Error::Taken(_) => Fault::new(Reason::StorageFailed, message),
        Error::Start(_) | Error::Ended(_) | Error::Nonsense => {
            Fault::new(Reason::NotSupported, message)
        }
    }
}

/// Where a file's content goes. A file appears under its name only when it is whole.
pub(crate) enum Target {
    File {
        file: NamedTempFile,
        to: PathBuf,
        length: u64,
    },
    Stdout,
}

/// Whether something may be written there: `-` is the standard output, nothing is written over.
pub(crate) fn is_free(to: &Path) -> Result<(), Fault> {
    if to.as_os_str() != STDOUT && to.symlink_metadata().is_ok() {
        let message = format!("{} is there already", to.display());
        return Err(Fault::new(Reason::BadField, message).with("field", "to"));
    }
    Ok(())
}

impl Target {
    /// `-` is the standard output; a file must not exist.
    pub fn new(to: PathBuf) -> Result<Self, Fault> {
        if to.as_os_str() == STDOUT {
            return Ok(Self::Stdout);
        }
        let bad = |message: String| Fault::new(Reason::BadField, message).with("field", "to");
        is_free(&to)?;
        let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = NamedTempFile::new_in(directory.unwrap_or(Path::new(".")));
        let file = file.map_err(|error| bad(format!("write beside {}: {error}", to.display())))?;
        let length = 0;
        Ok(Self::File { file, to, length })
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File { file, length, .. } => {
                *length += bytes.len() as u64;
                file.write_all(bytes)
            }
            Self::Stdout => io::stdout().lock().write_all(bytes),
        }
    }

    /// A hole stays one where there can be holes.
    pub fn zeros(&mut self, count: u64) -> io::Result<()> {
        match self {
            Self::File { file, length, .. } => {
                *length += count;
                file.seek(SeekFrom::Start(*length)).map(drop)
            }
            Self::Stdout => {
                let mut left = count;
                while left > 0 {
                    let step = left.min(ZEROS.len() as u64) as usize;
                    io::stdout()
                        .lock()
                        .write_all(ZEROS.get(..step).unwrap_or_default())?;
                    left -= step as u64;
                }
                Ok(())
            }
        }
    }

    /// Has the file finished by `dress`, and gives it its name.
    pub fn keep(self, dress: impl FnOnce(&File) -> io::Result<()>) -> Result<(), Fault> {
        let failed = |error: io::Error| {
            Fault::new(Reason::StorageFailed, format!("write the file: {error}"))
        };
        match self {
            Self::Stdout => io::stdout().lock().flush().map_err(failed),
            Self::File { file, to, length } => {
                let done = file.as_file().set_len(length);
                let done = done.and_then(|()| dress(file.as_file()));
                let done = done.and_then(|()| file.as_file().sync_all());
                done.map_err(failed)?;
                let kept = file.persist_noclobber(to).map_err(|error| error.error);
                kept.map(drop).map_err(failed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, Option<&str>, &str)>) {
        let place = Place::parse(text).ok();
        let place = place.as_ref().map(|place| {
            (
                place.point.as_str(),
                place.volume.as_deref(),
                place.path.as_str(),
            )
        });
        assert_eq!(place, expected, "{text}");
    }

    #[test]
    fn a_place_is_a_point_a_volume_and_a_path() {
        check("0199:/etc/hosts", Some(("0199", None, "/etc/hosts")));
        check(
            "0199:guest/root:/etc",
            Some(("0199", Some("guest/root"), "/etc")),
        );
        check("0199:/odd:/name", Some(("0199", None, "/odd:/name")));
        check("0199:", Some(("0199", None, "")));
        check("0199", None);
        check(":/etc", None);
        check("0199:etc", None);
    }

    #[test]
    fn a_file_appears_whole_and_over_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("file");
        let mut target = Target::new(to.clone()).unwrap();
        target.bytes(b"begin").unwrap();
        target.zeros(70_000).unwrap();
        assert!(!to.exists());
        target.keep(|_| Ok(())).unwrap();
        let mut expected = b"begin".to_vec();
        expected.resize(70_005, 0);
        assert_eq!(std::fs::read(&to).unwrap(), expected);
        assert!(Target::new(to).is_err());
    }
}
