//! The commit log, from whatever is good of its two copies.

use std::path::Path;

use stillwater_format::commit::Entry;
use stillwater_format::log::{ALIGN, FIRST_SEQUENCE, Frame, FrameHash, decode};
use stillwater_format::superblock::{LogHead, SUPERBLOCK_LEN, Superblock};
use stillwater_types::PointId;

use crate::directory::{COMMIT_LOGS, Directory, SUPERBLOCKS};
pub use crate::history::Point;
use crate::{Error, Notes};

/// Bounds what is read of a log: at 512 bytes an entry, far beyond what a repository lives to see.
const LOG_BYTES_MAX: u64 = 1 << 32;

/// Reads the entries of the commit log with their places.
pub(crate) fn read(directory: &Directory, notes: &mut Notes) -> Result<Vec<(u64, Entry)>, Error> {
    let head = head(directory, notes)?;
    let mut copies = Vec::new();
    for name in COMMIT_LOGS {
        match directory.load(Path::new(name), LOG_BYTES_MAX, notes) {
            Some(bytes) => copies.push(bytes),
            None => notes.add(format!("{name} is missing; its other copy is read")),
        }
    }
    if copies.iter().all(Vec::is_empty) {
        return Err(Error::NoRepository(directory.root().to_owned()));
    }
    let mut merge = Merge::new(&copies);
    merge.follow(notes)?;
    merge.jump(notes)?;
    merge.check(head, notes);
    Ok(merge.entries)
}

/// The frame that the log must have, from the better superblock.
fn head(directory: &Directory, notes: &mut Notes) -> Result<Option<LogHead>, Error> {
    let mut best: Option<Superblock> = None;
    for name in SUPERBLOCKS {
        let Some(bytes) = directory.load(Path::new(name), SUPERBLOCK_LEN as u64 + 1, notes) else {
            notes.add(format!("{name} is missing; nothing is lost by that"));
            continue;
        };
        match Superblock::decode(&bytes) {
            Ok(found) => {
                best = match best {
                    Some(best) if best.generation >= found.generation => Some(best),
                    _ => Some(found),
                }
            }
            Err(error @ stillwater_format::Error::TooNew { .. }) => {
                return Err(Error::TooNew(error));
            }
            // Between two writes of a young repository there is only one.
            Err(error) => notes.add(format!("{name} is not valid: {error}")),
        }
    }
    Ok(best.map(|superblock| superblock.head))
}

/// Two copies of which each may be damaged somewhere.
struct Merge<'a> {
    copies: &'a [Vec<u8>],
    offset: usize,
    sequence: u64,
    previous: FrameHash,
    hashes: Vec<(u64, FrameHash)>,
    entries: Vec<(u64, Entry)>,
}

impl<'a> Merge<'a> {
    fn new(copies: &'a [Vec<u8>]) -> Self {
        Self {
            copies,
            offset: 0,
            sequence: FIRST_SEQUENCE,
            previous: FrameHash::GENESIS,
            hashes: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Takes frames as long as one of the copies continues the chain.
    fn follow(&mut self, notes: &mut Notes) -> Result<(), Error> {
        while let Some(frame) = self.next()? {
            self.offset += frame.length;
            self.sequence = frame.sequence.saturating_add(1);
            self.previous = frame.hash;
            self.take(&frame, notes)?;
        }
        Ok(())
    }

    fn next(&self) -> Result<Option<Frame<'a>>, Error> {
        for copy in self.copies {
            let rest = copy.get(self.offset..).unwrap_or_default();
            match decode(rest) {
                Ok(frame) if frame.sequence == self.sequence && frame.previous == self.previous => {
                    return Ok(Some(frame));
                }
                Err(error @ stillwater_format::Error::TooNew { .. }) => {
                    return Err(Error::TooNew(error));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Takes whole frames from behind a place where both copies are bad, if that place is damage and not
    /// the end. Their order is not proved any more; what they say of points is proved by other hashes.
    fn jump(&mut self, notes: &mut Notes) -> Result<(), Error> {
        let mut later: Vec<Frame<'a>> = self
            .copies
            .iter()
            .flat_map(|copy| {
                let rest = copy.get(self.offset..).unwrap_or_default();
                (0..rest.len())
                    .step_by(ALIGN)
                    .filter_map(|at| decode(rest.get(at..)?).ok())
            })
            .collect();
        let synced = |frame: &Frame<'_>| {
            frame.sequence.saturating_sub(u64::from(frame.unsynced)) > self.sequence
        };
        if !later.iter().any(synced) {
            return Ok(());
        }
        notes.add(format!(
            "the commit log is damaged at byte {} in every copy: points may be missing, and deletions too",
            self.offset
        ));
        later.retain(|frame| frame.sequence >= self.sequence);
        later.sort_by_key(|frame| frame.sequence);
        later.dedup_by_key(|frame| frame.sequence);
        later.iter().try_for_each(|frame| self.take(frame, notes))
    }

    fn take(&mut self, frame: &Frame<'_>, notes: &mut Notes) -> Result<(), Error> {
        self.hashes.push((frame.sequence, frame.hash));
        match Entry::decode(frame.kind, frame.payload) {
            Ok(entry) => self.entries.push((frame.sequence, entry)),
            Err(error @ stillwater_format::Error::TooNew { .. }) => {
                return Err(Error::TooNew(error));
            }
            Err(error) => notes.add(format!(
                "entry {} of the commit log is malformed: {error}",
                frame.sequence
            )),
        }
        Ok(())
    }

    fn check(&self, head: Option<LogHead>, notes: &mut Notes) {
        let Some(head) = head else {
            notes.add("no superblock is valid: nothing tells whether the commit log is complete");
            return;
        };
        if !self.hashes.contains(&(head.sequence, head.hash)) {
            notes.add(format!(
                "the commit log lacks entry {} that the superblock has seen: points may be missing",
                head.sequence
            ));
        }
    }
}

/// The point of that id.
pub(crate) fn find(points: &[Point], id: PointId, deleted: bool) -> Result<&Point, Error> {
    let found = points.iter().find(|point| point.commit.point == id);
    let point = found.ok_or(Error::PointNotFound(id))?;
    if point.deleted_at.is_some() && !deleted {
        return Err(Error::PointDeleted(id));
    }
    Ok(point)
}
