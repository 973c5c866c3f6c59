//! What was written to a disk, in order, and what a power cut can leave of it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::image::{Image, SECTOR};
use crate::random::Random;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const SECTORS_IN_BLOCK: u64 = 8;
/// How our files begin, and in the commit log every frame.
const OURS: [&[u8]; 4] = [b"SWLG", b"SWSUPER1", b"SWPK", b"SWMF"];

/// A log of writes and flushes in the format of the kernel's dm-log-writes.
#[derive(Debug)]
pub struct History {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    first: u64,
    data: Range<usize>,
    /// Everything before it is on the medium.
    flush: bool,
    /// On the medium itself once it was answered.
    fua: bool,
}

/// A power cut: after so many entries of the log, with a choice of what the disk had not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    /// How many entries the disk had answered.
    pub prefix: u64,
    /// Decides which of the unflushed writes are lost or torn: 0 loses all, 1 none.
    pub salt: u64,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.prefix, self.salt)
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (prefix, salt) = text.split_once('.')?;
            Some(Self {
                prefix: prefix.parse().ok()?,
                salt: salt.parse().ok()?,
            })
        };
        parse().ok_or_else(|| format!("{text} is no state; one looks like 417.23"))
    }
}

/// How many entries the log at `path` has at this moment.
pub fn position(path: &Path) -> Result<u64> {
    let file = File::open(path).context("open the log of writes")?;
    let mut head = [0; 24];
    file.read_exact_at(&mut head, 0)
        .context("read the log of writes")?;
    word(&head, 16)
}

impl History {
    /// Reads a log.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut bytes = vec![0; SECTOR];
        file.read_exact_at(&mut bytes, 0)?;
        ensure!(word(&bytes, 0)? == MAGIC, "the log of writes has no magic");
        ensure!(word(&bytes, 24)? as u32 == SECTOR as u32, "unknown sectors");
        let mut entries = Vec::new();
        for _ in 0..word(&bytes, 16)? {
            entries.push(take(&file, &mut bytes)?);
        }
        Ok(Self { bytes, entries })
    }

    /// Keeps the log, to be read again.
    pub fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, &self.bytes).with_context(|| format!("write {}", path.display()))
    }

    /// How many entries there are.
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// How many flushes there are.
    pub fn flush_count(&self) -> usize {
        self.entries.iter().filter(|entry| entry.flush).count()
    }

    /// Where the entries begin that the disk had not flushed after `prefix` entries.
    pub fn flushed(&self, prefix: u64) -> u64 {
        let answered = self.entries.get(..prefix as usize).unwrap_or(&self.entries);
        let last = answered.iter().rposition(|entry| entry.flush);
        last.unwrap_or_default() as u64
    }

    /// Does to `image` what the entries from `from` up to `to` did.
    pub fn replay(&self, image: &mut Image, from: u64, to: u64) {
        for entry in self.slice(from, to) {
            image.write(entry.first, &self.bytes[entry.data.clone()]);
        }
    }

    /// What of the unflushed writes reached the medium: first sector and bytes, in order.
    pub fn remains(&self, state: State) -> Vec<(u64, &[u8])> {
        let mut fate = Fate::of(state);
        let mut kept = Vec::new();
        for entry in self.slice(self.flushed(state.prefix), state.prefix) {
            let data = &self.bytes[entry.data.clone()];
            for (first, sectors) in fate.decide(entry, data) {
                kept.push((
                    entry.first + first as u64,
                    &data[first * SECTOR..sectors * SECTOR],
                ));
            }
        }
        kept
    }

    fn slice(&self, from: u64, to: u64) -> &[Entry] {
        self.entries
            .get(from as usize..to as usize)
            .unwrap_or_default()
    }
}

/// Reads the entry that begins where `bytes` end, and appends it to them.
fn take(file: &File, bytes: &mut Vec<u8>) -> Result<Entry> {
    let mut head = vec![0; SECTOR];
    file.read_exact_at(&mut head, bytes.len() as u64)?;
    let (first, sectors, flags) = (word(&head, 0)?, word(&head, 8)?, word(&head, 16)?);
    bytes.append(&mut head);
    let length = if flags & DISCARD == 0 {
        usize::try_from(sectors)? * SECTOR
    } else {
        0
    };
    let begin = bytes.len();
    bytes.resize(begin + length, 0);
    file.read_exact_at(&mut bytes[begin..], begin as u64)?;
    Ok(Entry {
        first,
        data: begin..bytes.len(),
        flush: flags & FLUSH != 0,
        fua: flags & FUA != 0,
    })
}

/// Decides what becomes of writes that were not flushed.
struct Fate {
    salt: u64,
    random: Random,
    /// How many of a hundred are lost.
    lost: u64,
}

impl Fate {
    fn of(state: State) -> Self {
        let mut random = Random::new(state.salt ^ state.prefix.rotate_left(32));
        let lost = [5, 25, 50, 75, 95][random.below(5) as usize];
        Self {
            salt: state.salt,
            random,
            lost,
        }
    }

    /// The ranges of sectors that reached the medium, each from its first to behind its last.
    fn decide(&mut self, entry: &Entry, data: &[u8]) -> Vec<(usize, usize)> {
        let whole = vec![(0, data.len() / SECTOR)];
        match self.salt {
            _ if data.is_empty() => Vec::new(),
            _ if entry.fua => whole,
            0 => Vec::new(),
            1 => whole,
            _ if self.random.percent(self.lost) => Vec::new(),
            _ if self.random.percent(25) => self.tear(&pieces(entry.first, data)),
            _ => whole,
        }
    }

    /// Half of the torn writes end early, half have holes.
    fn tear(&mut self, pieces: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let count = pieces.len();
        if self.random.percent(50) {
            let kept = 1 + self.random.below(count as u64) as usize;
            return pieces.iter().copied().take(kept).collect();
        }
        let kept = pieces.iter().filter(|_| self.random.percent(50));
        kept.copied().collect()
    }
}

/// What a write can be torn into: sectors where a block is ours, whole blocks elsewhere.
///
/// ext4 and XFS rely on disks that write a block of theirs whole or not at all, as those with sectors
/// of 4 KiB do: now and then they do not mount when one is torn. We rely on nothing beyond 512 bytes.
fn pieces(first: u64, data: &[u8]) -> Vec<(usize, usize)> {
    let block = |sector: usize| (first + sector as u64) / SECTORS_IN_BLOCK;
    let sectors = data.chunks_exact(SECTOR).enumerate();
    let ours: HashSet<u64> = sectors
        .filter(|(_, content)| OURS.iter().any(|magic| content.starts_with(magic)))
        .map(|(sector, _)| block(sector))
        .collect();
    let mut pieces: Vec<(usize, usize)> = Vec::new();
    for sector in 0..data.len() / SECTOR {
        match pieces.last_mut() {
            Some((begin, end))
                if block(*begin) == block(sector) && !ours.contains(&block(sector)) =>
            {
                *end = sector + 1;
            }
            _ => pieces.push((sector, sector + 1)),
        }
    }
    pieces
}

fn word(bytes: &[u8], at: usize) -> Result<u64> {
    match bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
        Some(Ok(word)) => Ok(u64::from_le_bytes(word)),
        _ => bail!("the log of writes ends early"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes sector 10 with 1, flushes, writes sectors 20 and 21 with 2, and 30 with 3 for sure.
    fn log() -> History {
        let mut bytes = vec![0; SECTOR];
        let head = [MAGIC, 1, 4, SECTOR as u64];
        bytes[..32].copy_from_slice(&head.map(u64::to_le_bytes).concat());
        for (first, sectors, flags, content) in [
            (10, 1, 0, 1),
            (0, 0, FLUSH, 0),
            (20, 2, 0, 2),
            (30, 1, FUA, 3),
        ] {
            let mut entry = [first, sectors, flags, 0].map(u64::to_le_bytes).concat();
            entry.resize(SECTOR, 0);
            bytes.extend(entry);
            bytes.extend(vec![content; sectors as usize * SECTOR]);
        }
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        fs::write(&path, &bytes).unwrap();
        assert_eq!(position(&path).unwrap(), 4);
        History::read(&path).unwrap()
    }

    fn remains(prefix: u64, salt: u64) -> Vec<u64> {
        let history = log();
        let kept = history.remains(State { prefix, salt });
        let sectors = kept
            .iter()
            .map(|(first, data)| *first..*first + (data.len() / SECTOR) as u64);
        sectors.flatten().collect()
    }

    #[test]
    fn only_what_was_not_flushed_can_be_lost() {
        assert_eq!(log().flushed(1), 0);
        assert_eq!(remains(1, 0), [0; 0]);
        assert_eq!(remains(1, 1), [10]);
        assert_eq!(log().flushed(4), 1);
        assert_eq!(remains(4, 0), [30]);
        assert_eq!(remains(4, 1), [20, 21, 30]);
    }

    #[track_caller]
    fn check_pieces(first: u64, blocks: &[[&[u8]; 2]], expected: &[(usize, usize)]) {
        let mut data = Vec::new();
        for [begin, sixth] in blocks {
            let mut block = [0; 8 * SECTOR];
            block[..begin.len()].copy_from_slice(begin);
            block[5 * SECTOR..][..sixth.len()].copy_from_slice(sixth);
            data.extend(block);
        }
        assert_eq!(pieces(first, &data), expected);
    }

    #[test]
    fn a_block_of_a_file_system_is_torn_from_the_next_and_ours_anywhere() {
        let each: Vec<_> = (8..16).map(|sector| (sector, sector + 1)).collect();
        let expected = [&[(0, 8)], &each[..], &[(16, 24)]].concat();
        check_pieces(
            80,
            &[[b"", b""], [b"", b"SWLG"], [b"", b" SWLG"]],
            &expected,
        );
        check_pieces(85, &[[b"", b""]], &[(0, 3), (3, 8)]);
    }

    #[test]
    fn a_log_has_states_with_anything_lost() {
        let seen: std::collections::BTreeSet<_> = (0..50).map(|salt| remains(3, salt)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [vec![], vec![20, 21]]);
    }

    #[test]
    fn a_state_is_read_as_it_is_written() {
        let state = State {
            prefix: 417,
            salt: 23,
        };
        assert_eq!(state.to_string().parse(), Ok(state));
        assert!("417".parse::<State>().is_err());
    }
}
