//! The change of an inode: its fields, which the log has in the guest's order, and its forks.

use crate::Result;
use crate::view::View;

use super::super::inode::{FLAG2_BIG_TIMES, FLAG2_MANY_EXTENTS, core_bytes};
use super::super::log::damaged;
use super::transaction::Item;

const DATA: u32 = 0x2;
const EXTENTS: u32 = 0x4;
const TREE: u32 = 0x8;
const DEVICE: u32 = 0x10;
const ATTRIBUTE_DATA: u32 = 0x40;
const ATTRIBUTE_EXTENTS: u32 = 0x80;
const ATTRIBUTE_TREE: u32 = 0x100;
const CONTENT: u32 = DATA | EXTENTS | TREE;
const ATTRIBUTES: u32 = ATTRIBUTE_DATA | ATTRIBUTE_EXTENTS | ATTRIBUTE_TREE;

/// Numbers that all inodes have: where, and of how many bytes.
const NUMBERS: [(usize, usize); 15] = [
    (0, 2),  // magic
    (2, 2),  // mode
    (6, 2),  // links of old inodes
    (8, 4),  // owner
    (12, 4), // group
    (16, 4), // links
    (20, 2), // project
    (22, 2),
    (56, 8), // size
    (64, 8), // blocks
    (72, 4), // extent size
    (84, 4), // data migration
    (88, 2),
    (90, 2), // flags
    (92, 4), // generation
];
/// And those that only modern ones have.
const NUMBERS_MODERN: [(usize, usize); 5] = [
    (104, 8), // changes
    (112, 8), // sequence
    (120, 8), // more flags
    (128, 4), // size of copied extents
    (152, 8), // number
];
const COUNTS: [(usize, usize); 2] = [(76, 4), (80, 2)];
const COUNTS_MANY: [(usize, usize); 2] = [(24, 8), (76, 4)];
const TIMES: [usize; 3] = [32, 40, 48];
const CREATED: usize = 144;
const FLAGS2: usize = 120;
const FORK_DISTANCE: usize = 82;
/// What stands between is not told by items of inodes: the list of unlinked ones, the checksum.
const OLD_END: usize = 96;
const MODERN_BEGIN: usize = 104;

/// Header of a tree's root in the guest's memory.
const ROOT_MODERN: usize = 72;
const ROOT: usize = 24;

pub(super) struct Change {
    fields: u32,
    /// The device's number, where the inode is one.
    device: u32,
    /// Both in blocks of 512 bytes.
    pub block: u64,
    pub length: u64,
    pub offset: u64,
}

impl Change {
    pub fn parse(item: &Item) -> Result<Self> {
        let view = item.first()?;
        view.check(view.length() >= 56, "it is of a 32-bit guest from long ago")?;
        Ok(Self {
            fields: view.le32(4)?,
            device: view.le32(24)?,
            block: view.le64(40)?,
            length: view.le32(48)?.into(),
            offset: view.le32(52)?.into(),
        })
    }

    pub fn apply(&self, item: &Item, raw: &mut [u8]) -> Result<()> {
        let core = item.region(1)?;
        fields(&core, raw)?;
        let begin = core_bytes(core.u8(4)?);
        let distance = usize::from(core.u8(FORK_DISTANCE)?) * 8;
        let middle = if distance == 0 {
            raw.len()
        } else {
            begin + distance
        };
        let (content, attributes) = raw
            .split_at_mut_checked(middle)
            .ok_or_else(|| damaged(self.block, "an inode's forks go beyond it"))?;
        let content = content.get_mut(begin..).unwrap_or_default();
        let modern = begin == 176;
        let mut region = 2;
        if self.fields & CONTENT != 0 {
            fork(
                &item.region(region)?,
                self.fields & TREE != 0,
                modern,
                content,
            )?;
            region += 1;
        }
        if self.fields & DEVICE != 0 {
            put(content, &self.device.to_be_bytes());
        }
        if self.fields & ATTRIBUTES != 0 {
            let tree = self.fields & ATTRIBUTE_TREE != 0;
            fork(&item.region(region)?, tree, modern, attributes)?;
        }
        Ok(())
    }
}

fn put(to: &mut [u8], bytes: &[u8]) {
    crate::source::overlay(to, 0, bytes, 0);
}

/// From the guest's order to the one of the disk.
fn fields(core: &View<'_>, raw: &mut [u8]) -> Result<()> {
    let modern = core.u8(4)? >= 3;
    let end = core_bytes(core.u8(4)?);
    let flags2 = if modern { core.le64(FLAGS2)? } else { 0 };
    let mut numbers = NUMBERS.to_vec();
    let counts = if flags2 & FLAG2_MANY_EXTENTS != 0 {
        COUNTS_MANY
    } else {
        COUNTS
    };
    numbers.extend(counts);
    let mut times = TIMES.to_vec();
    if modern {
        numbers.extend(NUMBERS_MODERN);
        times.push(CREATED);
    }
    for at in times {
        if flags2 & FLAG2_BIG_TIMES != 0 {
            numbers.push((at, 8));
        } else {
            numbers.extend([(at, 4), (at + 4, 4)]);
        }
    }
    let mut fields = core.bytes(0, end.min(core.length()))?.to_vec();
    for (at, length) in numbers {
        let number = fields.get_mut(at..at + length);
        number
            .ok_or_else(|| core.damaged("it ends too early"))?
            .reverse();
    }
    put(raw, fields.get(..OLD_END).unwrap_or_default());
    let modern = fields.get(MODERN_BEGIN..).unwrap_or_default();
    crate::source::overlay(raw, 0, modern, MODERN_BEGIN as u64);
    Ok(())
}

/// A fork: bytes as they are, or the root of a tree, which has a larger header in the guest's memory.
fn fork(region: &View<'_>, is_tree: bool, modern: bool, to: &mut [u8]) -> Result<()> {
    if !is_tree {
        region.check(
            region.length() <= to.len(),
            "a fork is longer than its room",
        )?;
        put(to, region.all());
        return Ok(());
    }
    let header = if modern { ROOT_MODERN } else { ROOT };
    let (level, count) = (region.bytes(4, 2)?, region.be16(6)?);
    let length = usize::from(count) * 8;
    let room = to.len().saturating_sub(4) / 16;
    region.check(
        usize::from(count) <= room,
        "a tree's root is longer than its room",
    )?;
    let their_room = region.length().saturating_sub(header) / 16;
    let keys = region.bytes(header, length)?;
    let pointers = region.bytes(header + their_room * 8, length)?;
    put(to, level);
    crate::source::overlay(to, 0, &count.to_be_bytes(), 2);
    crate::source::overlay(to, 0, keys, 4);
    crate::source::overlay(to, 0, pointers, 4 + room as u64 * 8);
    Ok(())
}
