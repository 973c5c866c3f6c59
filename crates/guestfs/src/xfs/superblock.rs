//! The superblock, and what its numbers mean as places on the disk.

use crate::file_system::Description;
use crate::source::{BlockSource, bytes};
use crate::view::{View, text, uuid};
use crate::{Error, Result};

const MAGIC: &[u8] = b"XFSB";

const FEATURES2_FTYPE: u32 = 0x200;
const VERSION_DIRECTORIES2: u16 = 0x2000;
const INCOMPAT_FTYPE: u32 = 0x1;
const INCOMPAT_META_UUID: u32 = 0x4;
/// What a reader may meet and understands, or need not.
const INCOMPAT_KNOWN: u32 = INCOMPAT_FTYPE
    | 0x2 // sparse inode chunks
    | INCOMPAT_META_UUID
    | 0x8 // times of 64 bits
    | 0x10 // needs repair
    | 0x20 // many extents
    | 0x40 // exchange of ranges
    | 0x80 // parent pointers
    | 0x100; // metadata directory

#[derive(Debug)]
pub(super) struct Superblock {
    pub version: u16,
    pub block_bytes: u64,
    blocks: u64,
    group_blocks: u64,
    groups: u64,
    group_bits: u32,
    inode_bits: u32,
    pub inode_bytes: usize,
    pub root: u64,
    pub directory_bytes: u64,
    pub entries_have_kinds: bool,
    pub log_start: u64,
    pub log_blocks: u64,
    label: Option<String>,
    uuid: Option<String>,
}

/// Whether a superblock of XFS is there.
pub(crate) fn is_here(disk: &dyn BlockSource) -> bool {
    disk.length() >= 512 && bytes(disk, 0, 4).is_ok_and(|magic| magic == MAGIC)
}

impl Superblock {
    pub fn read(disk: &dyn BlockSource) -> Result<Self> {
        let raw = bytes(disk, 0, 512)?;
        let view = View::new(&raw, "XFS superblock", 0);
        view.check(view.bytes(0, 4)? == MAGIC, "its magic number is another")?;
        let version = view.be16(100)?;
        let modern = version & 0xf == 5;
        let incompat = if modern { view.be32(216)? } else { 0 };
        let features2 = view.be32(200)?;
        let block_bytes = u64::from(view.be32(4)?);
        let directory_shift = u32::from(view.u8(192)?);
        let known = block_bytes.is_power_of_two() && (512..=65536).contains(&block_bytes);
        view.check(known, "its block size is none that exists")?;
        view.check(directory_shift <= 7, "its directory blocks are too large")?;
        let this = Self {
            version: version & 0xf,
            block_bytes,
            blocks: view.be64(8)?,
            group_blocks: view.be32(84)?.into(),
            groups: view.be32(88)?.into(),
            group_bits: view.u8(124)?.into(),
            inode_bits: view.u8(123)?.into(),
            inode_bytes: view.be16(104)?.into(),
            root: view.be64(56)?,
            directory_bytes: block_bytes << directory_shift,
            entries_have_kinds: incompat & INCOMPAT_FTYPE != 0
                || !modern && features2 & FEATURES2_FTYPE != 0,
            log_start: view.be64(48)?,
            log_blocks: view.be32(96)?.into(),
            label: text(view.bytes(108, 12)?),
            uuid: uuid(view.array(32)?),
        };
        this.check(&view, version, incompat)?;
        Ok(this)
    }

    fn check(&self, view: &View<'_>, version: u16, incompat: u32) -> Result<()> {
        let readable =
            self.version == 5 || self.version == 4 && version & VERSION_DIRECTORIES2 != 0;
        if !readable {
            return Err(Error::Unsupported(
                "an XFS file system of a version before 4",
            ));
        }
        if incompat & !INCOMPAT_KNOWN != 0 {
            return Err(Error::Unsupported(
                "an XFS file system with unknown features",
            ));
        }
        let inode = self.inode_bytes;
        let sizes = inode.is_power_of_two() && (256..=2048).contains(&inode);
        view.check(sizes, "its inode size is none that exists")?;
        let bits = self.group_bits <= 31 && self.inode_bits <= 8;
        view.check(bits, "its numbers have too many bits")?;
        let fits = self.group_blocks > 0
            && self.group_blocks <= 1 << self.group_bits
            && (inode as u64) << self.inode_bits == self.block_bytes
            && self.directory_bytes <= 65536.max(self.block_bytes);
        view.check(fits, "its sizes contradict each other")?;
        view.check(view.u8(126)? == 0, "it was not made to its end")
    }

    /// Where a block begins, whose number has its group in the upper bits.
    pub fn offset(&self, block: u64) -> Result<u64> {
        let (group, block) = (
            block >> self.group_bits,
            block & ((1 << self.group_bits) - 1),
        );
        let linear = group
            .saturating_mul(self.group_blocks)
            .saturating_add(block);
        let inside = group < self.groups && block < self.group_blocks && linear < self.blocks;
        let offset = linear.checked_mul(self.block_bytes);
        offset.filter(|_| inside).ok_or(Error::Damaged {
            structure: "XFS block number",
            at: block,
            what: "it is beyond the file system",
        })
    }

    pub fn offset_of_inode(&self, number: u64) -> Result<u64> {
        let index = number & ((1 << self.inode_bits) - 1);
        Ok(self.offset(number >> self.inode_bits)? + index * self.inode_bytes as u64)
    }

    pub const fn is_modern(&self) -> bool {
        self.version == 5
    }

    pub fn describe(&self) -> Description {
        Description {
            kind: "xfs",
            label: self.label.clone(),
            uuid: self.uuid.clone(),
            bytes: self.blocks.saturating_mul(self.block_bytes),
            losses: Vec::new(),
        }
    }
}
