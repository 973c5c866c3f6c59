//! What is in a file: as programs see it, as it is durable, and what lies between.

use std::sync::Arc;

use crate::Dice;

const BLOCK: usize = 4096;
/// What a disk writes whole or not at all.
const SECTOR: u64 = 512;

/// Bytes in blocks that copies share.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    blocks: Vec<Arc<[u8; BLOCK]>>,
    length: u64,
}

impl Content {
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Reads what is there; fewer bytes only at the end.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let rest = self.length.saturating_sub(offset);
        let wanted = buffer
            .len()
            .min(usize::try_from(rest).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < wanted {
            let (block, within) = place(offset + done as u64);
            let count = (BLOCK - within).min(wanted - done);
            buffer[done..done + count].copy_from_slice(&self.blocks[block][within..within + count]);
            done += count;
        }
        wanted
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.length).unwrap_or(usize::MAX)];
        self.read(&mut bytes, 0);
        bytes
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        self.set_length(self.length.max(offset + bytes.len() as u64));
        let mut done = 0;
        while done < bytes.len() {
            let (block, within) = place(offset + done as u64);
            let count = (BLOCK - within).min(bytes.len() - done);
            Arc::make_mut(&mut self.blocks[block])[within..within + count]
                .copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
    }

    /// What is cut off does not come back when the file grows again.
    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            let (block, within) = place(length);
            if let Some(last) = self.blocks.get_mut(block).filter(|_| within > 0) {
                Arc::make_mut(last)[within..].fill(0);
            }
        }
        let count = usize::try_from(length.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX);
        self.blocks.resize_with(count, || Arc::new([0; BLOCK]));
        self.length = length;
    }
}

fn place(offset: u64) -> (usize, usize) {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    (offset / BLOCK, offset % BLOCK)
}

/// A change that is not durable yet.
#[derive(Debug, Clone)]
enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    Length(u64),
}

/// What is left of a file's dirty pages when its sync failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailedSync {
    /// They are read as they were written, and never written to the disk.
    Kept,
    /// They are read as they are on the disk.
    Dropped,
}

/// One file.
#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    live: Content,
    durable: Content,
    changes: Vec<Change>,
    /// Whether a failed sync left bytes that are read and will never be durable.
    is_stale: bool,
    /// Up to where space is taken, beyond the length too.
    pub(super) reserved: u64,
    pub(super) is_locked: bool,
}

impl FileNode {
    /// A file that holds these bytes, durably.
    pub(super) fn durable(bytes: &[u8]) -> Self {
        let mut content = Content::default();
        content.write(bytes, 0);
        Self {
            live: content.clone(),
            durable: content,
            ..Self::default()
        }
    }

    pub(super) const fn live(&self) -> &Content {
        &self.live
    }

    /// What it takes of the disk.
    pub(super) fn taken(&self) -> u64 {
        self.live.length().max(self.reserved)
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.live.write(bytes, offset);
        let bytes = Arc::from(bytes);
        self.changes.push(Change::Write { offset, bytes });
    }

    pub(super) fn set_length(&mut self, length: u64) {
        self.live.set_length(length);
        self.reserved = length;
        self.changes.push(Change::Length(length));
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            change.apply(&mut self.durable);
        }
    }

    /// The kernel takes the pages for clean though the disk refused them.
    pub(super) fn fail_sync(&mut self, after: AfterFailedSync) {
        self.changes.clear();
        match after {
            AfterFailedSync::Kept => self.is_stale = true,
            AfterFailedSync::Dropped => self.live = self.durable.clone(),
        }
    }

    /// Whether a crash would leave it as it is.
    pub(super) fn is_durable(&self) -> bool {
        self.changes.is_empty() && !self.is_stale
    }

    /// What a power cut leaves: what is durable, and of the rest what the dice say.
    pub(super) fn crash(&self, dice: &mut Dice) -> Self {
        let mut left = self.durable.clone();
        match dice.below(4) {
            0 => {}
            1 => self
                .changes
                .iter()
                .for_each(|change| change.apply(&mut left)),
            _ => scatter(&self.changes, &mut left, dice),
        }
        Self {
            live: left.clone(),
            durable: left,
            ..Self::default()
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Content) {
        match self {
            Change::Write { offset, bytes } => content.write(bytes, *offset),
            Change::Length(length) => content.set_length(*length),
        }
    }
}

/// Lengths are journalled, so they arrive in order up to some moment; sectors arrive each for itself.
/// Where the length came and the bytes did not, there are zeros.
fn scatter(changes: &[Change], left: &mut Content, dice: &mut Dice) {
    let journalled = dice.place(changes.len() + 1);
    let mut length = left.length();
    for (at, change) in changes.iter().enumerate() {
        match change {
            Change::Length(cut) if at < journalled => {
                left.set_length(*cut);
                length = *cut;
            }
            Change::Length(_) => {}
            Change::Write { offset, bytes } => {
                write_torn(left, *offset, bytes, dice);
                let end = offset + bytes.len() as u64;
                if at < journalled {
                    length = length.max(end);
                } else if at == journalled {
                    length = length.max(torn_end(*offset, end, dice));
                }
            }
        }
    }
    left.set_length(length);
}

/// Some of the sectors of one write.
fn write_torn(left: &mut Content, offset: u64, bytes: &[u8], dice: &mut Dice) {
    let whole = dice.below(4);
    let mut start = 0;
    while start < bytes.len() {
        let to_boundary = SECTOR - (offset + start as u64) % SECTOR;
        let end = bytes
            .len()
            .min(start + usize::try_from(to_boundary).unwrap_or(BLOCK));
        let arrives = match whole {
            0 => true,
            1 => false,
            _ => dice.one_in(2),
        };
        if arrives {
            left.write(&bytes[start..end], offset + start as u64);
        }
        start = end;
    }
}

/// The end of a write of which only the first sectors counted for the length.
fn torn_end(offset: u64, end: u64, dice: &mut Dice) -> u64 {
    let sectors = (end - offset) / SECTOR;
    offset + dice.below(sectors + 1) * SECTOR
}
