//! Playing the log back: transactions that were committed are laid over the disk.
//!
//! Changes carry the newest bytes that they touch, so that playing all of them in order gives what the guest saw,
//! whatever of it was in place already. Buffers that were cancelled later are left alone: their blocks may hold
//! a file's content now. Intents are for the allocator; only unfinished ones that would change what a file
//! consists of make the file system be refused.

mod inode;
mod transaction;

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{BlockSource, Patch, bytes};
use crate::view::View;
use crate::{Error, Limits, Result};

use super::log::{BLOCK, Header, Log, damaged};
use super::superblock::Superblock;
use transaction::{Item, Transactions};

const BUFFER: u16 = 0x123c;
const INODE: u16 = 0x123b;
/// Changes to a file's map that are done in several transactions: intent and its end.
const MAPPING: [(u16, u16); 2] = [(0x1244, 0x1245), (0x1248, 0x1249)];
/// What changes nothing that is read here: intents of the allocator, quota, unlinked lists, new inodes (whose
/// fields follow as items of their own).
const PASSED_OVER: [u16; 13] = [
    0x1236, 0x1237, 0x1238, 0x123d, 0x123e, 0x123f, 0x1240, 0x1241, 0x1242, 0x1243, 0x1246, 0x1247,
    0x124a,
];

const BUFFER_OF_INODES: u16 = 0x1;
const BUFFER_CANCELLED: u16 = 0x2;
/// Bytes that one bit of a buffer's map stands for.
const PIECE: usize = 128;

/// Blocks of the disk that read otherwise.
pub(super) fn replay(
    log: &Log<'_>,
    records: Vec<Header>,
    superblock: &Superblock,
    limits: &Limits,
) -> Result<BTreeMap<u64, Patch>> {
    let mut transactions = Transactions::new(limits.metadata_bytes);
    for header in &records {
        transactions.add(&log.record(header)?)?;
    }
    let committed = transactions.committed;
    let mut replay = Replay {
        disk: log.disk(),
        cancelled: cancelled(&committed)?,
        inode_bytes: superblock.inode_bytes,
        blocks: BTreeMap::new(),
        room: limits.metadata_bytes,
    };
    refuse_unfinished(&committed)?;
    for transaction in &committed {
        replay.transaction(transaction)?;
    }
    Ok(replay.patches())
}

/// How often each buffer is cancelled.
fn cancelled(committed: &[Vec<Item>]) -> Result<BTreeMap<(u64, u64), u32>> {
    let mut all = BTreeMap::new();
    for item in committed.iter().flatten() {
        if item.kind()? == BUFFER {
            let buffer = Buffer::parse(item)?;
            if buffer.flags & BUFFER_CANCELLED != 0 {
                *all.entry((buffer.block, buffer.length)).or_insert(0) += 1;
            }
        }
    }
    Ok(all)
}

fn refuse_unfinished(committed: &[Vec<Item>]) -> Result<()> {
    let mut open = BTreeSet::new();
    for item in committed.iter().flatten() {
        let kind = item.kind()?;
        for (begin, end) in MAPPING {
            if kind == begin {
                open.insert((begin, item.first()?.le64(8)?));
            } else if kind == end {
                open.remove(&(begin, item.first()?.le64(8)?));
            }
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    Err(Error::Unsupported(
        "an XFS log with a half-done change of a file's map",
    ))
}

/// The header of a buffer's change.
struct Buffer<'a> {
    flags: u16,
    /// Both in blocks of 512 bytes.
    block: u64,
    length: u64,
    map: View<'a>,
}

impl<'a> Buffer<'a> {
    fn parse(item: &'a Item) -> Result<Self> {
        let view = item.first()?;
        Ok(Self {
            flags: view.le16(4)?,
            length: view.le16(6)?.into(),
            block: view.le64(8)?,
            map: view.part(20, view.le32(16)? as usize * 4)?,
        })
    }

    fn has(&self, piece: usize) -> Result<bool> {
        Ok(self.map.le32(piece / 32 * 4)? >> (piece % 32) & 1 == 1)
    }

    /// Stretches of pieces that changed: where the first is, and how many they are.
    fn stretches(&self) -> Result<Vec<(usize, usize)>> {
        let mut all: Vec<(usize, usize)> = Vec::new();
        for piece in 0..self.map.length() * 8 {
            if !self.has(piece)? {
                continue;
            }
            match all.last_mut() {
                Some((from, count)) if *from + *count == piece => *count += 1,
                _ => all.push((piece, 1)),
            }
        }
        Ok(all)
    }
}

struct Replay<'a> {
    disk: &'a dyn BlockSource,
    cancelled: BTreeMap<(u64, u64), u32>,
    inode_bytes: usize,
    blocks: BTreeMap<u64, Vec<u8>>,
    /// Bytes that may still be taken.
    room: u64,
}

impl Replay<'_> {
    /// Buffers first, then inodes, cancellations last, as the kernel does.
    fn transaction(&mut self, items: &[Item]) -> Result<()> {
        for item in items {
            match item.kind()? {
                BUFFER => self.buffer(item)?,
                INODE => {}
                kind if PASSED_OVER.contains(&kind) => {}
                kind if MAPPING.iter().any(|pair| pair.0 == kind || pair.1 == kind) => {}
                _ => {
                    return Err(Error::Unsupported(
                        "an XFS log with changes of an unknown kind",
                    ));
                }
            }
        }
        for item in items {
            if item.kind()? == INODE {
                self.inode(item)?;
            }
        }
        for item in items {
            if item.kind()? == BUFFER {
                self.cancel(&Buffer::parse(item)?);
            }
        }
        Ok(())
    }

    fn is_cancelled(&self, block: u64, length: u64) -> bool {
        self.cancelled.contains_key(&(block, length))
    }

    /// From here on the buffer means what it says again.
    fn cancel(&mut self, buffer: &Buffer<'_>) {
        if buffer.flags & BUFFER_CANCELLED == 0 {
            return;
        }
        let key = (buffer.block, buffer.length);
        if let Some(count) = self.cancelled.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.cancelled.remove(&key);
            }
        }
    }

    fn buffer(&mut self, item: &Item) -> Result<()> {
        let buffer = Buffer::parse(item)?;
        let skipped = BUFFER_CANCELLED | BUFFER_OF_INODES;
        if buffer.flags & skipped != 0 || self.is_cancelled(buffer.block, buffer.length) {
            return Ok(());
        }
        let begin = offset(buffer.block)?;
        for (region, (piece, count)) in (1..).zip(buffer.stretches()?) {
            let bytes = item.region(region)?.all();
            let fits = bytes.len().min(count * PIECE);
            let at = (piece * PIECE) as u64;
            if at + fits as u64 > buffer.length * BLOCK {
                return Err(damaged(buffer.block, "a change goes beyond its buffer"));
            }
            self.write(begin + at, bytes.get(..fits).unwrap_or_default())?;
        }
        Ok(())
    }

    fn inode(&mut self, item: &Item) -> Result<()> {
        let change = inode::Change::parse(item)?;
        if self.is_cancelled(change.block, change.length) {
            return Ok(());
        }
        let at = offset(change.block)?.saturating_add(change.offset);
        let mut raw = self.read(at, self.inode_bytes)?;
        change.apply(item, &mut raw)?;
        self.write(at, &raw)
    }

    /// A block as it is by now.
    fn block(&mut self, number: u64) -> Result<&mut Vec<u8>> {
        use std::collections::btree_map::Entry;
        match self.blocks.entry(number) {
            Entry::Occupied(taken) => Ok(taken.into_mut()),
            Entry::Vacant(free) => {
                self.room = self.room.checked_sub(BLOCK).ok_or(Error::Limit {
                    what: "bytes that a log changes",
                    limit: self.room,
                })?;
                let raw = bytes(self.disk, number * BLOCK, BLOCK as usize)?;
                Ok(free.insert(raw))
            }
        }
    }

    fn read(&mut self, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut raw = vec![0; length];
        for number in at / BLOCK..(at + length as u64).div_ceil(BLOCK) {
            let block = self.block(number)?;
            crate::source::overlay(&mut raw, at, block, number * BLOCK);
        }
        Ok(raw)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let end = at.saturating_add(bytes.len() as u64);
        for number in at / BLOCK..end.div_ceil(BLOCK) {
            let block = self.block(number)?;
            crate::source::overlay(block, number * BLOCK, bytes, at);
        }
        Ok(())
    }

    fn patches(self) -> BTreeMap<u64, Patch> {
        let patch = |(number, block): (u64, Vec<u8>)| (number, Patch::Bytes(block.into()));
        self.blocks.into_iter().map(patch).collect()
    }
}

fn offset(block: u64) -> Result<u64> {
    let offset = block.checked_mul(BLOCK).filter(|&offset| offset < 1 << 62);
    offset.ok_or_else(|| damaged(block, "a change is beyond all numbers"))
}
