//! Files in restore points: how they are named, who reads them, where they go.

use std::fs::{File, FileTimes, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use stillwater_files::{Cause, Error, Event, Facts, Job, Session};
use stillwater_nbd::{Export, Piece};
use stillwater_types::{Extent, Fault, Reason};
use tempfile::NamedTempFile;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::serve::ServedDisk;

/// The reader's program, which is installed beside this one.
const READER: &str = "stillwater-files";
const STDOUT: &str = "-";
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

impl Target {
    /// `-` is the standard output; a file must not exist.
    pub fn new(to: PathBuf) -> Result<Self, Fault> {
        if to.as_os_str() == STDOUT {
            return Ok(Self::Stdout);
        }
        let bad = |message: String| Fault::new(Reason::BadField, message).with("field", "to");
        if to.symlink_metadata().is_ok() {
            return Err(bad(format!("{} is there already", to.display())));
        }
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

    /// Gives the file its name, and the mode and time that it had in the guest.
    pub fn keep(self, facts: Option<&Facts>) -> Result<(), Fault> {
        let failed = |error: io::Error| {
            Fault::new(Reason::StorageFailed, format!("write the file: {error}"))
        };
        match self {
            Self::Stdout => io::stdout().lock().flush().map_err(failed),
            Self::File { file, to, length } => {
                finish(file.as_file(), length, facts).map_err(failed)?;
                let kept = file.persist_noclobber(to).map_err(|error| error.error);
                kept.map(drop).map_err(failed)
            }
        }
    }
}

fn finish(file: &File, length: u64, facts: Option<&Facts>) -> io::Result<()> {
    file.set_len(length)?;
    // Bits that make a program run as another user stay in the guest.
    let mode = facts.and_then(|facts| facts.mode).unwrap_or(0o600) & 0o777;
    file.set_permissions(Permissions::from_mode(mode))?;
    let modified = facts.and_then(|facts| facts.modified);
    let moment = modified.and_then(|moment| {
        let whole = Duration::new(moment.seconds.unsigned_abs(), 0);
        let begin = match moment.seconds < 0 {
            true => SystemTime::UNIX_EPOCH.checked_sub(whole),
            false => SystemTime::UNIX_EPOCH.checked_add(whole),
        };
        begin?.checked_add(Duration::from_nanos(moment.nanoseconds.into()))
    });
    if let Some(moment) = moment {
        file.set_times(FileTimes::new().set_modified(moment))?;
    }
    file.sync_all()
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
        target.keep(None).unwrap();
        let mut expected = b"begin".to_vec();
        expected.resize(70_005, 0);
        assert_eq!(std::fs::read(&to).unwrap(), expected);
        assert!(Target::new(to).is_err());
    }
}
