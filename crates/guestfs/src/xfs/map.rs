//! Which blocks a fork has: extents in the inode, or a tree of them.

use crate::content::{Piece, Pieces};
use crate::source::bytes;
use crate::view::View;
use crate::{Limits, Result};

use super::Xfs;
use super::inode::{Fork, Format, Inode};

const MAGIC: &[u8] = b"BMAP";
const MAGIC_MODERN: &[u8] = b"BMA3";
const LEVEL_MAX: u16 = 12;
const EXTENT_BYTES: usize = 16;

pub(super) fn pieces(system: &Xfs, inode: &Inode, fork: &Fork<'_>) -> Result<Pieces> {
    let mut map = Map {
        system,
        limits: &system.limits,
        pieces: Pieces::default(),
    };
    match fork.format {
        Format::Extents => map.extents(&fork.bytes, fork.extents)?,
        Format::Tree => map.root(&fork.bytes)?,
        Format::Local | Format::Device => {
            return Err(inode.damaged("it has content where its map should be"));
        }
    }
    Ok(map.pieces)
}

struct Map<'a> {
    system: &'a Xfs,
    limits: &'a Limits,
    pieces: Pieces,
}

impl Map<'_> {
    fn extents(&mut self, records: &View<'_>, count: u64) -> Result<()> {
        let room = (records.length() / EXTENT_BYTES) as u64;
        records.check(count <= room, "it has more extents than room")?;
        for index in 0..count as usize {
            self.extent(&records.part(index * EXTENT_BYTES, EXTENT_BYTES)?)?;
        }
        Ok(())
    }

    /// A bit for "never written", 54 of place in the file, 52 of block, 21 of length.
    fn extent(&mut self, record: &View<'_>) -> Result<()> {
        let (high, low) = (record.be64(0)?, record.be64(8)?);
        let from = high >> 9 & ((1 << 54) - 1);
        let start = (high & 0x1ff) << 43 | low >> 21;
        let blocks = low & 0x1f_ffff;
        record.check(blocks > 0, "an extent is empty")?;
        let superblock = &self.system.superblock;
        let (first, last) = (
            superblock.offset(start)?,
            superblock.offset(start + blocks - 1)?,
        );
        let length = blocks * superblock.block_bytes;
        record.check(
            last.checked_sub(first) == Some(length - superblock.block_bytes),
            "an extent goes beyond its group",
        )?;
        let at = from.checked_mul(superblock.block_bytes);
        let piece = Piece {
            at: at.ok_or_else(|| record.damaged("an extent is beyond all numbers"))?,
            length,
            place: (high >> 63 == 0).then_some(first),
        };
        self.pieces.push(piece, self.limits)
    }

    /// The tree's root is a node without the header that blocks have.
    fn root(&mut self, root: &View<'_>) -> Result<()> {
        let level = root.be16(0)?;
        root.check((1..=LEVEL_MAX).contains(&level), "its tree is too deep")?;
        self.pointers(&root.rest(4)?, root.be16(2)?, level)
    }

    /// Keys stand first, and as much room for them as for the pointers.
    fn pointers(&mut self, records: &View<'_>, count: u16, level: u16) -> Result<()> {
        let room = records.length() / 16;
        records.check(usize::from(count) <= room, "it has more pointers than room")?;
        for index in 0..usize::from(count) {
            let block = records.be64((room + index) * 8)?;
            self.block(block, level - 1)?;
        }
        Ok(())
    }

    /// A block has to be of the level that its parent says: so no loop can go on.
    fn block(&mut self, number: u64, level: u16) -> Result<()> {
        let superblock = &self.system.superblock;
        let offset = superblock.offset(number)?;
        let raw = bytes(&*self.system.disk, offset, superblock.block_bytes as usize)?;
        let view = View::new(&raw, "XFS map block", number);
        let (magic, header) = if superblock.is_modern() {
            (MAGIC_MODERN, 72)
        } else {
            (MAGIC, 24)
        };
        view.check(view.bytes(0, 4)? == magic, "its magic number is another")?;
        view.check(view.be16(4)? == level, "it is of another level")?;
        let (records, count) = (view.rest(header)?, view.be16(6)?);
        if level == 0 {
            return self.extents(&records, count.into());
        }
        self.pointers(&records, count, level)
    }
}
