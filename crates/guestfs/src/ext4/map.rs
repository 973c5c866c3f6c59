//! Which blocks a file has: extents, or the indirect blocks of ext2 and ext3.

use crate::content::{Piece, Pieces};
use crate::source::bytes;
use crate::view::View;
use crate::{Limits, Result};

use super::Ext4;
use super::inode::Inode;

const EXTENT_MAGIC: u16 = 0xf30a;
const EXTENT_DEPTH_MAX: u16 = 5;
/// Longer extents are ones that were allocated and never written, less this.
const WRITTEN_MAX: u64 = 32768;

pub(super) fn pieces(system: &Ext4, inode: &Inode) -> Result<Pieces> {
    let mut map = Map {
        system,
        limits: &system.limits,
        inode,
        pieces: Pieces::default(),
    };
    let root = View::new(&inode.map, "ext4 inode", inode.number);
    if inode.has_extents() {
        map.extents(&root, EXTENT_DEPTH_MAX + 1)?;
    } else {
        map.pointers(&root)?;
    }
    Ok(map.pieces)
}

struct Map<'a> {
    system: &'a Ext4,
    limits: &'a Limits,
    inode: &'a Inode,
    pieces: Pieces,
}

impl Map<'_> {
    /// One node of the tree, which has to be less deep than `below`: so no loop can go on.
    fn extents(&mut self, node: &View<'_>, below: u16) -> Result<()> {
        node.check(node.le16(0)? == EXTENT_MAGIC, "it is no extent node")?;
        let depth = node.le16(6)?;
        node.check(depth < below, "its extent tree has no end")?;
        for index in 1..=usize::from(node.le16(2)?) {
            let entry = node.part(index * 12, 12)?;
            if depth == 0 {
                self.extent(&entry)?;
                continue;
            }
            let block = u64::from(entry.le32(4)?) | u64::from(entry.le16(8)?) << 32;
            let raw = self.block(block)?;
            self.extents(&View::new(&raw, "ext4 extent node", block), depth)?;
        }
        Ok(())
    }

    fn extent(&mut self, entry: &View<'_>) -> Result<()> {
        let from = u64::from(entry.le32(0)?);
        let blocks = u64::from(entry.le16(4)?);
        let start = u64::from(entry.le32(8)?) | u64::from(entry.le16(6)?) << 32;
        let written = blocks <= WRITTEN_MAX;
        let blocks = if written {
            blocks
        } else {
            blocks - WRITTEN_MAX
        };
        entry.check(blocks > 0, "an extent is empty")?;
        self.system.superblock.offset(start + blocks - 1)?;
        self.add(from, blocks, written.then_some(start))
    }

    /// Blocks of a file from `from` on; those that stand nowhere are zeros.
    fn add(&mut self, from: u64, blocks: u64, start: Option<u64>) -> Result<()> {
        let superblock = &self.system.superblock;
        let place = start.map(|start| superblock.offset(start)).transpose()?;
        let piece = Piece {
            at: from * superblock.block_bytes,
            length: blocks * superblock.block_bytes,
            place,
        };
        self.pieces.push(piece, self.limits)
    }

    /// Twelve blocks, then one each that is indirect once, twice and three times.
    fn pointers(&mut self, root: &View<'_>) -> Result<()> {
        let per_block = self.system.superblock.block_bytes / 4;
        let mut from = 0;
        for index in 0..15 {
            let level = u32::saturating_sub(index, 11);
            self.pointer(u64::from(root.le32(index as usize * 4)?), from, level)?;
            from += per_block.pow(level);
        }
        Ok(())
    }

    /// A pointer to a block of the file, or `level` steps away from it.
    fn pointer(&mut self, block: u64, from: u64, level: u32) -> Result<()> {
        let block_bytes = self.system.superblock.block_bytes;
        let beyond = from.saturating_mul(block_bytes) >= self.inode.size;
        if block == 0 || beyond {
            return Ok(());
        }
        let Some(below) = level.checked_sub(1) else {
            return self.add(from, 1, Some(block));
        };
        let raw = self.block(block)?;
        let node = View::new(&raw, "ext4 indirect block", block);
        let step = (block_bytes / 4).pow(below);
        for index in 0..block_bytes / 4 {
            let pointer = node.le32(index as usize * 4)?;
            self.pointer(pointer.into(), from + index * step, below)?;
        }
        Ok(())
    }

    fn block(&self, block: u64) -> Result<Vec<u8>> {
        let superblock = &self.system.superblock;
        let offset = superblock.offset(block)?;
        bytes(&*self.system.disk, offset, superblock.block_bytes as usize)
    }
}
