//! The journal: one file, appended to and never changed.
//!
//! One process writes, held by a lock on the file. A batch is written and synced before anything is
//! done about its entries. What a crash tore off at the end was never answered and is cut away;
//! damage before the end is refused, because an entry that was acted on is gone.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use stillwater_format::log::{Chain, Corrupt, Frame, Scanner};

use crate::Error;
use crate::entry::{self, Draft, Entry};

/// The kind of frames that hold an entry in JSON; there is no other yet.
const KIND_ENTRY: u16 = 1;
/// How much is read at first; more only when a frame or damage is larger.
const WINDOW_BYTES: u64 = 4 << 20;

/// A place in the journal: after which entry, and the hash of everything up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// How many entries lie before.
    pub sequence: u64,
    /// The hash of the last frame; zeros at the beginning.
    pub hash: [u8; 32],
}

impl From<Chain> for Position {
    fn from(chain: Chain) -> Self {
        Self {
            sequence: chain.sequence(),
            hash: *chain.head().as_bytes(),
        }
    }
}

/// The writer's end.
#[derive(Debug)]
pub struct Journal<E> {
    file: File,
    path: PathBuf,
    chain: Chain,
    poisoned: bool,
    events: PhantomData<fn(E)>,
}

impl<E: Serialize + DeserializeOwned> Journal<E> {
    /// Opens the journal at `path`, or begins one, and gives every entry to `each` in order, with
    /// the position after it.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it, [`Error::Corrupt`] and [`Error::TooNew`] when
    /// it cannot be read to its end, [`Error::Io`] otherwise.
    pub fn open(path: &Path, each: impl FnMut(Entry<E>, Position)) -> Result<Self, Error> {
        let file = open_locked(path)?;
        let found = scan(&file, path, each)?;
        let mut journal = Self {
            file,
            path: path.to_owned(),
            chain: found.chain,
            poisoned: false,
            events: PhantomData,
        };
        journal.cut_tail(&found)?;
        Ok(journal)
    }

    /// After which entry the next one comes.
    pub fn position(&self) -> Position {
        self.chain.into()
    }

    /// Whether an entry can be written at all.
    ///
    /// # Errors
    /// [`Error::Encode`], and [`Error::Frame`] when it is too large.
    pub fn check(draft: &Draft<E>) -> Result<(), Error> {
        let payload = entry::encode(draft)?;
        let mut chain = Chain::empty();
        chain
            .append(KIND_ENTRY, &payload)
            .map(drop)
            .map_err(Error::Frame)
    }

    /// Appends a batch and syncs it: when this returns `Ok`, all of it is durable.
    ///
    /// # Errors
    /// After [`Error::Io`] the journal takes nothing more: whether the batch is durable is not
    /// known, and a second sync would not tell, for the kernel forgets what it failed to write.
    pub fn append(&mut self, drafts: &[Draft<E>]) -> Result<Position, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        let mut chain = self.chain;
        let mut bytes = Vec::new();
        for draft in drafts {
            let payload = entry::encode(draft)?;
            bytes.extend(chain.append(KIND_ENTRY, &payload).map_err(Error::Frame)?);
        }
        self.poisoned = true;
        self.file
            .write_all(&bytes)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| Error::io("append to", &self.path, source))?;
        self.poisoned = false;
        chain.synced();
        self.chain = chain;
        Ok(self.position())
    }

    /// Cuts a torn end off and syncs: whatever is there now counts as synced from here on, so it
    /// must be, even if it was whole by luck.
    fn cut_tail(&mut self, found: &Found) -> Result<(), Error> {
        if found.torn_bytes > 0 {
            tracing::warn!(
                path = %self.path.display(),
                bytes = found.torn_bytes,
                "cut a torn entry off the journal; nothing was done about it"
            );
        }
        self.file
            .set_len(found.end)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| self.file.seek(SeekFrom::Start(found.end)))
            .map_err(|source| Error::io("cut the end of", &self.path, source))?;
        Ok(())
    }
}

/// Gives every entry of the journal at `path` to `each`, without the writer's lock; for readers in
/// the process that has it.
///
/// # Errors
/// As [`Journal::open`], never [`Error::Locked`].
pub fn replay<E: DeserializeOwned>(
    path: &Path,
    each: impl FnMut(Entry<E>, Position),
) -> Result<Position, Error> {
    let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
    scan(&file, path, each).map(|found| found.chain.into())
}

fn open_locked(path: &Path) -> Result<File, Error> {
    let is_new = !path.exists();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|source| Error::io("open", path, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Locked(path.to_owned())),
        Err(errno) => return Err(Error::io("lock", path, errno.into())),
    }
    if is_new {
        // Without this a power cut may lose the file with all that was synced into it.
        let dir = path
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        file.sync_all()
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(|source| Error::io("sync the directory of", path, source))?;
    }
    Ok(file)
}

/// Where a scan came to.
struct Found {
    chain: Chain,
    end: u64,
    torn_bytes: u64,
}

/// Reads window by window. A window that brings nothing begins with a frame that is cut by the
/// window, torn or damaged; which of these is told by looking further, up to the end if need be.
fn scan<E: DeserializeOwned>(
    file: &File,
    path: &Path,
    mut each: impl FnMut(Entry<E>, Position),
) -> Result<Found, Error> {
    let length = file
        .metadata()
        .map_err(|source| Error::io("read", path, source))?
        .len();
    let mut found = Found {
        chain: Chain::empty(),
        end: 0,
        torn_bytes: 0,
    };
    let mut window_bytes = WINDOW_BYTES;
    while found.end < length {
        let left = length - found.end;
        let window = read_window(file, path, found.end, window_bytes.min(left))?;
        let mut scanner = Scanner::resume(&window, found.chain);
        while let Some(frame) = scanner
            .read()
            .map_err(|bad| damage(path, found.end, &bad))?
        {
            let entry = read_entry(&frame)?;
            each(
                entry,
                Position {
                    sequence: frame.sequence,
                    hash: *frame.hash.as_bytes(),
                },
            );
        }
        match scanner.offset() {
            0 if window_bytes >= left => {
                found.torn_bytes = left;
                break;
            }
            0 => window_bytes *= 2,
            read => {
                found.end += read as u64;
                found.chain = scanner.chain();
                window_bytes = WINDOW_BYTES;
            }
        }
    }
    Ok(found)
}

fn read_window(mut file: &File, path: &Path, start: u64, length: u64) -> Result<Vec<u8>, Error> {
    let mut window = Vec::new();
    file.seek(SeekFrom::Start(start))
        .and_then(|_| file.take(length).read_to_end(&mut window))
        .map_err(|source| Error::io("read", path, source))?;
    Ok(window)
}

fn read_entry<E: DeserializeOwned>(frame: &Frame<'_>) -> Result<Entry<E>, Error> {
    match frame.kind {
        KIND_ENTRY => entry::decode(frame.payload, frame.sequence),
        kind => Err(Error::TooNew {
            sequence: frame.sequence,
            what: format!("frame kind {kind}"),
        }),
    }
}

fn damage(path: &Path, start: u64, Corrupt { offset, cause }: &Corrupt) -> Error {
    let offset = start + *offset as u64;
    match cause {
        Some(newer @ stillwater_format::Error::TooNew { .. }) => Error::TooNew {
            sequence: 0,
            what: format!("at byte {offset}: {newer}"),
        },
        Some(cause) => Error::Corrupt {
            path: path.to_owned(),
            offset,
            what: cause.to_string(),
        },
        None => Error::Corrupt {
            path: path.to_owned(),
            offset,
            what: "an entry does not continue the one before".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests;
