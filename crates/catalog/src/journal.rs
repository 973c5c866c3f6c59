//! The journal: one file, appended to and never changed.
//!
//! One process writes, held by a lock on the file. Each batch is one frame, written and synced
//! before anything is done about its entries. What a crash tore off at the end was never answered
//! and is cut away; damage before the end is refused, because an entry that was acted on is gone.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entry::{self, Draft, Entry};
use crate::frame::{self, FRAME_BYTES_MAX, HASH_BYTES, HEADER_BYTES, PAYLOAD_BYTES_MAX, Position};
use crate::Error;

/// The writer's end.
#[derive(Debug)]
pub struct Journal<E> {
    file: File,
    path: PathBuf,
    position: Position,
    poisoned: bool,
    events: PhantomData<fn(E)>,
}

impl<E: Serialize + DeserializeOwned> Journal<E> {
    /// Opens the journal at `path`, or begins one, and gives every entry to `each` in order, with
    /// the position after its frame.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it, [`Error::Corrupt`] and [`Error::TooNew`] when
    /// it cannot be read to its end, [`Error::Io`] otherwise.
    pub fn open(
        path: &Path,
        each: impl FnMut(Entry<E>, &Position),
    ) -> Result<Self, Error> {
        let file = open_locked(path)?;
        let found = scan(&file, path, each)?;
        let mut journal = Self {
            file,
            path: path.to_owned(),
            position: found.position,
            poisoned: false,
            events: PhantomData,
        };
        journal.cut_tail(&found)?;
        Ok(journal)
    }

    /// After which entry the next one comes.
    pub fn position(&self) -> Position {
        self.position
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
        let payload = entry::encode(drafts)?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Error::TooLarge(payload.len()));
        }
        let (bytes, hash) = frame::encode(&self.position, &payload);
        self.poisoned = true;
        self.file
            .write_all(&bytes)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| Error::io("append to", &self.path, source))?;
        self.poisoned = false;
        self.position = Position { sequence: self.position.sequence + drafts.len() as u64, hash };
        Ok(self.position)
    }

    fn cut_tail(&mut self, found: &Found) -> Result<(), Error> {
        let fail = |act, source| Error::io(act, &self.path, source);
        if found.torn_bytes > 0 {
            tracing::warn!(
                path = %self.path.display(),
                bytes = found.torn_bytes,
                "cut a torn entry off the journal; nothing was done about it"
            );
            self.file.set_len(found.end).map_err(|source| fail("truncate", source))?;
            self.file.sync_all().map_err(|source| fail("sync", source))?;
        }
        self.file.seek(SeekFrom::Start(found.end)).map_err(|source| fail("seek in", source))?;
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
    each: impl FnMut(Entry<E>, &Position),
) -> Result<Position, Error> {
    let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
    scan(&file, path, each).map(|found| found.position)
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
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        file.sync_all()
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(|source| Error::io("sync the directory of", path, source))?;
    }
    Ok(file)
}

/// Where a scan came to.
struct Found {
    position: Position,
    end: u64,
    torn_bytes: u64,
}

fn scan<E: DeserializeOwned>(
    mut file: &File,
    path: &Path,
    mut each: impl FnMut(Entry<E>, &Position),
) -> Result<Found, Error> {
    let fail = |source| Error::io("read", path, source);
    let length = file.metadata().map_err(fail)?.len();
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut found = Found { position: Position::default(), end: 0, torn_bytes: 0 };
    while found.end < length {
        let Some(read) = read_frame(&mut reader, length - found.end).map_err(fail)? else {
            ensure_torn(file, path, &found, length)?;
            found.torn_bytes = length - found.end;
            break;
        };
        if read.header.previous != found.position.hash
            || read.header.sequence != found.position.sequence
        {
            let what = "an entry does not continue the one before";
            return Err(Error::Corrupt { path: path.to_owned(), offset: found.end, what });
        }
        let entries = entry::decode(&read.payload, found.position.sequence + 1)?;
        let sequence = found.position.sequence + entries.len() as u64;
        found.position = Position { sequence, hash: read.hash };
        found.end += (HEADER_BYTES + read.payload.len() + HASH_BYTES) as u64;
        entries.into_iter().for_each(|entry| each(entry, &found.position));
    }
    Ok(found)
}

struct ReadFrame {
    header: frame::Header,
    payload: Vec<u8>,
    hash: [u8; 32],
}

/// The next frame; none when what comes is not whole.
fn read_frame(reader: &mut impl Read, left: u64) -> io::Result<Option<ReadFrame>> {
    if left < (HEADER_BYTES + HASH_BYTES) as u64 {
        return Ok(None);
    }
    let mut head = [0; HEADER_BYTES];
    reader.read_exact(&mut head)?;
    let Some(header) = frame::header(&head) else { return Ok(None) };
    let rest = header.payload_bytes + HASH_BYTES;
    if (HEADER_BYTES + rest) as u64 > left {
        return Ok(None);
    }
    let mut tail = vec![0; rest];
    reader.read_exact(&mut tail)?;
    let Some(hash) = frame::verify(&head, &tail) else { return Ok(None) };
    tail.truncate(header.payload_bytes);
    Ok(Some(ReadFrame { header, payload: tail, hash }))
}

/// Tells a torn end from damage: at the end there is room for one frame at most, and no whole one.
fn ensure_torn(mut file: &File, path: &Path, found: &Found, length: u64) -> Result<(), Error> {
    let corrupt = |what| Error::Corrupt { path: path.to_owned(), offset: found.end, what };
    if length - found.end > FRAME_BYTES_MAX {
        return Err(corrupt("more follows than one entry could leave"));
    }
    let mut rest = Vec::new();
    file.seek(SeekFrom::Start(found.end))
        .and_then(|_| file.take(FRAME_BYTES_MAX).read_to_end(&mut rest))
        .map_err(|source| Error::io("read", path, source))?;
    match frame::any_whole(&rest) {
        true => Err(corrupt("whole entries follow it")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
