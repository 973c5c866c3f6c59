//! The commit log: the repository's ordered truth, in two copies.
//!
//! A frame is acknowledged when it is durable in both. Torn tails are cut; a damaged or missing copy
//! is set aside and written anew from the other; if both are damaged nothing is guessed.

use std::io;
use std::path::Path;

use stillwater_format::commit::Entry;
use stillwater_format::log::{Chain, Corrupt, End, Scanner};
use stillwater_format::superblock::LogHead;

use crate::vfs::{Access, File, Vfs};
use crate::{Error, Rng, durable, layout};

/// Bounds what is read of a log: at 512 bytes an entry, far beyond what a repository lives to see.
const LOG_BYTES_MAX: u64 = 1 << 32;

/// Room that is reserved behind the log's end in both copies, so that what is decided can be put on the log
/// while the disk is full: deletions, and what collections take out to make room.
const AHEAD_BYTES: u64 = 256 << 10;

/// The open log, to be continued.
pub(crate) struct CommitLog {
    copies: [Box<dyn File>; 2],
    chain: Chain,
    offset: u64,
    /// Up to where there is room in both copies.
    reserved: u64,
    failed: bool,
}

/// An entry with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) sequence: u64,
    pub(crate) entry: Entry,
}

/// A log that was read whole.
struct Readable {
    bytes: Vec<u8>,
    chain: Chain,
    /// How long the file is, torn tail included.
    file_len: u64,
}

impl CommitLog {
    /// Writes both copies of a log with one entry, in place of what a start that was cut short left.
    pub(crate) fn create(vfs: &dyn Vfs, rng: &dyn Rng, first: &Entry) -> Result<LogHead, Error> {
        let mut chain = Chain::empty();
        let (kind, payload) = first.encode().map_err(Error::malformed)?;
        let frame = chain.append(kind, &payload).map_err(Error::malformed)?;
        for path in layout::COMMIT_LOGS.map(Path::new) {
            match vfs.open(path, Access::Read) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("open", path)(error)),
                Ok(_) => drop(durable::quarantine(vfs, rng, path)?),
            }
            durable::publish(vfs, rng, path, &frame)?;
        }
        Ok(LogHead {
            sequence: chain.sequence(),
            hash: chain.head(),
        })
    }

    /// Opens the log, healed where one copy can heal the other, and reads all its entries.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        rng: &dyn Rng,
        head: LogHead,
    ) -> Result<(Self, Vec<Placed>), Error> {
        let [first, second] = layout::COMMIT_LOGS.map(Path::new);
        let bytes = match (load(vfs, first)?, load(vfs, second)?) {
            (Ok(a), Ok(b)) => {
                let truth = longer(&a, &b)?;
                mend(vfs, first, &a, &truth)?;
                mend(vfs, second, &b, &truth)?;
                truth
            }
            (Ok(a), Err(damage)) => rewrite(vfs, rng, (first, a), (second, &damage))?,
            (Err(damage), Ok(b)) => rewrite(vfs, rng, (second, b), (first, &damage))?,
            (Err(damage), Err(_)) => return Err(damage.into()),
        };
        let (chain, entries) = parse(&bytes, head)?;
        let copies = [open_copy(vfs, first)?, open_copy(vfs, second)?];
        let mut log = Self {
            copies,
            chain,
            offset: bytes.len() as u64,
            reserved: 0,
            failed: false,
        };
        log.reserve();
        Ok((log, entries))
    }

    /// Reads the entries again, for whoever lost a projection of them.
    pub(crate) fn entries(&self) -> Result<Vec<Placed>, Error> {
        let [first, _] = &self.copies;
        let path = Path::new(layout::COMMIT_LOGS[0]);
        let mut bytes = vec![0; usize::try_from(self.offset).unwrap_or(usize::MAX)];
        first
            .read_exact_at(&mut bytes, 0)
            .map_err(Error::io("read", path))?;
        parse(&bytes, self.head()).map(|(_, entries)| entries)
    }

    /// The last frame.
    pub(crate) fn head(&self) -> LogHead {
        LogHead {
            sequence: self.chain.sequence(),
            hash: self.chain.head(),
        }
    }

    /// Appends an entry to both copies; when it returns, the entry is durable. Tells its sequence.
    ///
    /// After a failure nobody knows what is on disk, so nothing more is appended until the log was
    /// opened again; unless there was no room, and both copies could be cut back.
    pub(crate) fn append(&mut self, entry: &Entry) -> Result<u64, Error> {
        if self.failed {
            return Err(Error::ReadOnly);
        }
        let (kind, payload) = entry.encode().map_err(Error::malformed)?;
        let mut chain = self.chain;
        let frame = chain.append(kind, &payload).map_err(Error::malformed)?;
        self.failed = true;
        for (copy, name) in self.copies.iter().zip(layout::COMMIT_LOGS) {
            let path = Path::new(name);
            if let Err(error) = copy.write_at(&frame, self.offset) {
                return self.give_up(Error::io("append to", path)(error));
            }
            copy.sync().map_err(Error::io("sync", path))?;
        }
        self.failed = false;
        self.chain = chain;
        self.chain.synced();
        self.offset += frame.len() as u64;
        self.reserve();
        Ok(self.chain.sequence())
    }

    /// Takes a frame back that found no room: nobody was told that it is there.
    fn give_up(&mut self, error: Error) -> Result<u64, Error> {
        if matches!(error, Error::Full { .. }) {
            self.cut_back()?;
            self.failed = false;
        }
        Err(error)
    }

    fn cut_back(&mut self) -> Result<(), Error> {
        self.reserved = 0;
        for (copy, name) in self.copies.iter().zip(layout::COMMIT_LOGS) {
            let path = Path::new(name);
            copy.set_len(self.offset).map_err(Error::io("cut", path))?;
            copy.sync().map_err(Error::io("sync", path))?;
        }
        Ok(())
    }

    /// Reserves room for what comes, once half of it is used up. Where there is none, each append tries again.
    fn reserve(&mut self) {
        if self.reserved >= self.offset + AHEAD_BYTES / 2 {
            return;
        }
        let end = self.offset + AHEAD_BYTES;
        let reserved = self.copies.iter().try_for_each(|copy| copy.reserve(0, end));
        match reserved {
            Ok(()) => self.reserved = end,
            Err(error) => tracing::warn!(%error, "cannot reserve room for the commit log"),
        }
    }

    /// Where the log ends now.
    pub(crate) fn mark(&self) -> LogMark {
        let head = self.head();
        LogMark {
            length: self.offset,
            head,
        }
    }

    /// Reads both copies again, and writes a bad one anew from the good one. Gives how many it wrote.
    ///
    /// After a failure in the middle nothing more is appended until the log was opened again.
    pub(crate) fn heal(&mut self, vfs: &dyn Vfs, rng: &dyn Rng) -> Result<u64, Error> {
        if self.failed {
            return Err(Error::ReadOnly);
        }
        let mark = self.mark();
        let [first, second] = layout::COMMIT_LOGS.map(Path::new);
        let copies = [mark.reread(vfs, first)?, mark.reread(vfs, second)?];
        let (bad, path, good) = match copies {
            [Some(_), Some(_)] => return Ok(0),
            [None, Some(good)] => (0, first, good),
            [Some(good), None] => (1, second, good),
            [None, None] => {
                return Err(Error::LogForged {
                    why: "both copies changed while it was open",
                });
            }
        };
        self.failed = true;
        let fresh = replace(vfs, rng, path, &good)?;
        if let Some(copy) = self.copies.get_mut(bad) {
            *copy = fresh;
        }
        self.reserved = 0;
        self.reserve();
        self.failed = false;
        Ok(1)
    }

    /// Whether an append failed.
    pub(crate) const fn failed(&self) -> bool {
        self.failed
    }
}

/// How long the log was at one moment, and its last frame then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogMark {
    length: u64,
    head: LogHead,
}

impl LogMark {
    /// Whether both copies have all that was in the log, and may have more.
    pub(crate) fn is_in_both(&self, vfs: &dyn Vfs) -> Result<bool, Error> {
        for path in layout::COMMIT_LOGS.map(Path::new) {
            let bytes = read_copy(vfs, path)?.unwrap_or_default();
            let length = usize::try_from(self.length).unwrap_or(usize::MAX);
            if !bytes.get(..length).is_some_and(|bytes| self.fits(bytes)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A copy, if it is exactly what was in the log.
    fn reread(&self, vfs: &dyn Vfs, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        let bytes = read_copy(vfs, path)?;
        Ok(bytes.filter(|bytes| bytes.len() as u64 == self.length && self.fits(bytes)))
    }

    fn fits(&self, bytes: &[u8]) -> bool {
        let LogHead { sequence, hash } = self.head;
        Scanner::new(bytes).finish().is_ok_and(|(chain, end)| {
            end == End::Clean && chain.sequence() == sequence && chain.head() == hash
        })
    }
}

fn read_copy(vfs: &dyn Vfs, path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match durable::read_all(vfs, path, LOG_BYTES_MAX) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Sets a copy aside and writes it anew.
fn replace(
    vfs: &dyn Vfs,
    rng: &dyn Rng,
    path: &Path,
    bytes: &[u8],
) -> Result<Box<dyn File>, Error> {
    match durable::quarantine(vfs, rng, path) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        aside => drop(aside?),
    }
    durable::publish(vfs, rng, path, bytes)?;
    tracing::error!(path = %path.display(), "wrote a damaged commit log anew from its copy");
    open_copy(vfs, path)
}

/// Why a copy cannot be used.
enum Damage {
    Missing,
    Corrupt(Corrupt),
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        match damage {
            Damage::Missing => Error::LogForged {
                why: "it is missing",
            },
            Damage::Corrupt(corrupt) => log_error(corrupt),
        }
    }
}

fn load(vfs: &dyn Vfs, path: &Path) -> Result<Result<Readable, Damage>, Error> {
    let file = match vfs.open(path, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Err(Damage::Missing));
        }
        opened => opened.map_err(Error::io("open", path))?,
    };
    let file_len = file.len().map_err(Error::io("measure", path))?;
    drop(file);
    let mut bytes = durable::read_all(vfs, path, LOG_BYTES_MAX)?;
    let mut scanner = Scanner::new(&bytes);
    loop {
        match scanner.read() {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(corrupt) => return too_new(corrupt).map(|corrupt| Err(Damage::Corrupt(corrupt))),
        }
    }
    let (whole, chain) = (scanner.offset(), scanner.chain());
    bytes.truncate(whole);
    Ok(Ok(Readable {
        bytes,
        chain,
        file_len,
    }))
}

/// A newer release's log is not damaged, and must not be healed.
fn too_new(corrupt: Corrupt) -> Result<Corrupt, Error> {
    match corrupt.cause {
        Some(cause @ stillwater_format::Error::TooNew { .. }) => Err(Error::TooNew(cause)),
        cause => Ok(Corrupt { cause, ..corrupt }),
    }
}

fn log_error(corrupt: Corrupt) -> Error {
    Error::LogCorrupt(corrupt)
}

/// Of two readable copies, the one that continues the other.
fn longer(a: &Readable, b: &Readable) -> Result<Vec<u8>, Error> {
    let (short, long) = if a.chain.sequence() <= b.chain.sequence() {
        (a, b)
    } else {
        (b, a)
    };
    if long.bytes.starts_with(&short.bytes) {
        Ok(long.bytes.clone())
    } else {
        Err(Error::LogForged {
            why: "its two copies differ",
        })
    }
}

/// Cuts a torn tail off and appends what the other copy has more.
fn mend(vfs: &dyn Vfs, path: &Path, copy: &Readable, truth: &[u8]) -> Result<(), Error> {
    let start = copy.bytes.len();
    let missing = truth.get(start..).unwrap_or_default();
    if copy.file_len == start as u64 && missing.is_empty() {
        return Ok(());
    }
    tracing::info!(path = %path.display(), appended_bytes = missing.len(), "mended the commit log");
    let file = open_copy(vfs, path)?;
    // Cutting gives reserved room back, which may be all that there is.
    if copy.file_len != start as u64 {
        file.set_len(start as u64).map_err(Error::io("cut", path))?;
    }
    // One sync for both: a tail is a part of the first frame that is missing, or nothing is missing, so
    // that whatever a crash leaves of the two is a torn tail again.
    file.write_at(missing, start as u64)
        .map_err(Error::io("append to", path))?;
    file.sync().map_err(Error::io("sync", path))
}

/// Sets a damaged copy aside and writes it anew from the good one.
fn rewrite(
    vfs: &dyn Vfs,
    rng: &dyn Rng,
    (good_path, good): (&Path, Readable),
    (bad_path, damage): (&Path, &Damage),
) -> Result<Vec<u8>, Error> {
    mend(vfs, good_path, &good, &good.bytes)?;
    if matches!(damage, Damage::Corrupt(_)) {
        durable::quarantine(vfs, rng, bad_path)?;
    }
    durable::publish(vfs, rng, bad_path, &good.bytes)?;
    tracing::error!(path = %bad_path.display(), "wrote a damaged commit log anew from its copy");
    Ok(good.bytes)
}

fn open_copy(vfs: &dyn Vfs, path: &Path) -> Result<Box<dyn File>, Error> {
    vfs.open(path, Access::Write)
        .map_err(Error::io("open", path))
}

/// Reads every entry and checks what the frames alone cannot tell.
fn parse(bytes: &[u8], head: LogHead) -> Result<(Chain, Vec<Placed>), Error> {
    let mut scanner = Scanner::new(bytes);
    let (mut entries, mut head_seen) = (Vec::new(), head.sequence == 0);
    while let Some(frame) = scanner.read().map_err(log_error)? {
        let entry = Entry::decode(frame.kind, frame.payload).map_err(|cause| match cause {
            stillwater_format::Error::TooNew { .. } => Error::TooNew(cause),
            _ => Error::LogForged {
                why: "an entry is malformed",
            },
        })?;
        if matches!(entry, Entry::Identity { .. }) != entries.is_empty() {
            return Err(Error::LogForged {
                why: "it does not begin with the one identity",
            });
        }
        if frame.sequence == head.sequence {
            head_seen = frame.hash == head.hash;
        }
        entries.push(Placed {
            sequence: frame.sequence,
            entry,
        });
    }
    if !head_seen || entries.is_empty() {
        return Err(Error::LogForged {
            why: "it lacks a frame that the superblock has seen",
        });
    }
    Ok((scanner.chain(), entries))
}
