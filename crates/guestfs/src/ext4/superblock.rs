//! The superblock, and where it says that everything else is.

use crate::file_system::Description;
use crate::source::{BlockSource, bytes};
use crate::view::{View, text, uuid};
use crate::{Error, Result};

const OFFSET: u64 = 1024;
const MAGIC: u16 = 0xef53;

const COMPAT_SPARSE_SUPER2: u32 = 0x200;
const RO_SPARSE_SUPER: u32 = 0x1;

const FILETYPE: u32 = 0x2;
const RECOVER: u32 = 0x4;
const JOURNAL_DEVICE: u32 = 0x8;
const META_BG: u32 = 0x10;
const BITS_64: u32 = 0x80;
/// What a reader may meet and understands, or need not.
const KNOWN: u32 = FILETYPE
    | RECOVER
    | META_BG
    | 0x40 // extents
    | BITS_64
    | 0x100 // multiple mount protection
    | 0x200 // flexible groups
    | 0x400 // values of attributes in inodes
    | 0x2000 // checksum seed
    | 0x4000 // large directories
    | 0x8000 // inline data
    | 0x1_0000 // encryption
    | 0x2_0000; // case folding

#[derive(Debug)]
pub(super) struct Superblock {
    inodes: u64,
    pub blocks: u64,
    first_data_block: u64,
    pub block_bytes: u64,
    blocks_per_group: u64,
    inodes_per_group: u64,
    pub inode_bytes: usize,
    pub descriptor_bytes: usize,
    compat: u32,
    incompat: u32,
    ro_compat: u32,
    first_meta_group: u64,
    backup_groups: [u32; 2],
    pub journal_inode: u64,
    journal_device: u32,
    label: Option<String>,
    uuid: Option<String>,
}

/// Whether a superblock of this family is there.
pub(crate) fn is_here(disk: &dyn BlockSource) -> bool {
    bytes(disk, OFFSET + 0x38, 2).is_ok_and(|magic| magic == MAGIC.to_le_bytes())
}

impl Superblock {
    pub fn read(disk: &dyn BlockSource) -> Result<Self> {
        let raw = bytes(disk, OFFSET, 1024)?;
        let view = View::new(&raw, "ext4 superblock", OFFSET);
        view.check(view.le16(0x38)? == MAGIC, "its magic number is another")?;
        let this = Self::parse(&view)?;
        this.check(&view)?;
        Ok(this)
    }

    fn parse(view: &View<'_>) -> Result<Self> {
        let incompat = view.le32(0x60)?;
        let wide = incompat & BITS_64 != 0;
        let high = if wide {
            u64::from(view.le32(0x150)?)
        } else {
            0
        };
        let dynamic = view.le32(0x4c)? > 0;
        let shift = view.le32(0x18)?;
        view.check(shift <= 6, "its block size is none that exists")?;
        Ok(Self {
            inodes: view.le32(0)?.into(),
            blocks: u64::from(view.le32(4)?) | high << 32,
            first_data_block: view.le32(0x14)?.into(),
            block_bytes: 1024 << shift,
            blocks_per_group: view.le32(0x20)?.into(),
            inodes_per_group: view.le32(0x28)?.into(),
            inode_bytes: if dynamic {
                view.le16(0x58)?.into()
            } else {
                128
            },
            descriptor_bytes: if wide { view.le16(0xfe)?.into() } else { 32 },
            compat: view.le32(0x5c)?,
            incompat,
            ro_compat: view.le32(0x64)?,
            first_meta_group: view.le32(0x104)?.into(),
            backup_groups: [view.le32(0x24c)?, view.le32(0x250)?],
            journal_inode: view.le32(0xe0)?.into(),
            journal_device: view.le32(0xe4)?,
            label: text(view.bytes(0x78, 16)?),
            uuid: uuid(view.array(0x68)?),
        })
    }

    fn check(&self, view: &View<'_>) -> Result<()> {
        let inode = self.inode_bytes;
        let sizes = inode.is_power_of_two() && (128..=self.block_bytes as usize).contains(&inode);
        view.check(sizes, "its inode size is none that exists")?;
        let descriptor = self.descriptor_bytes;
        let sizes = descriptor.is_power_of_two() && (32..=1024).contains(&descriptor);
        view.check(sizes, "its descriptor size is none that exists")?;
        view.check(
            self.blocks_per_group > 0 && self.inodes_per_group > 0,
            "its groups are empty",
        )?;
        if self.incompat & JOURNAL_DEVICE != 0 {
            return Err(Error::Unsupported("a device that is an ext4 journal"));
        }
        if self.incompat & !KNOWN != 0 {
            return Err(Error::Unsupported(
                "an ext4 file system with unknown features",
            ));
        }
        if self.needs_recovery() && self.journal_device != 0 && self.journal_inode == 0 {
            return Err(Error::Unsupported(
                "an ext4 file system with a dirty journal elsewhere",
            ));
        }
        Ok(())
    }

    pub const fn needs_recovery(&self) -> bool {
        self.incompat & RECOVER != 0
    }

    pub const fn entries_have_kinds(&self) -> bool {
        self.incompat & FILETYPE != 0
    }

    /// Where a block begins.
    pub fn offset(&self, block: u64) -> Result<u64> {
        if block == 0 || block >= self.blocks {
            return Err(Error::Damaged {
                structure: "ext4 block number",
                at: block,
                what: "it is beyond the file system",
            });
        }
        Ok(block * self.block_bytes)
    }

    /// The group of an inode, and its place in that group's table.
    pub fn place_of_inode(&self, number: u64) -> Result<(u64, u64)> {
        if number == 0 || number > self.inodes {
            return Err(Error::Damaged {
                structure: "ext4 inode number",
                at: number,
                what: "it is beyond the file system",
            });
        }
        let index = number - 1;
        Ok((index / self.inodes_per_group, index % self.inodes_per_group))
    }

    /// Where the descriptor of a group is.
    pub fn descriptor_offset(&self, group: u64) -> u64 {
        let per_block = self.block_bytes / self.descriptor_bytes as u64;
        let (meta, index) = (group / per_block, group % per_block);
        let scattered = self.incompat & META_BG != 0 && meta >= self.first_meta_group;
        let block = if scattered {
            let first = meta * per_block;
            let behind = u64::from(self.has_superblock(first));
            self.first_data_block + first * self.blocks_per_group + behind
        } else {
            self.first_data_block + 1 + meta
        };
        block.saturating_mul(self.block_bytes) + index * self.descriptor_bytes as u64
    }

    fn has_superblock(&self, group: u64) -> bool {
        if self.compat & COMPAT_SPARSE_SUPER2 != 0 {
            return group == 0
                || self
                    .backup_groups
                    .iter()
                    .any(|&own| u64::from(own) == group);
        }
        if group <= 1 || self.ro_compat & RO_SPARSE_SUPER == 0 {
            return true;
        }
        [3, 5, 7].into_iter().any(|base| is_power(group, base))
    }

    pub fn describe(&self) -> Description {
        let extents = self.incompat & 0x40 != 0;
        let journal = self.compat & 0x4 != 0;
        Description {
            kind: match (extents, journal) {
                (true, _) => "ext4",
                (false, true) => "ext3",
                (false, false) => "ext2",
            },
            label: self.label.clone(),
            uuid: self.uuid.clone(),
            bytes: self.blocks.saturating_mul(self.block_bytes),
            losses: Vec::new(),
        }
    }
}

fn is_power(mut number: u64, base: u64) -> bool {
    while number > 1 && number.is_multiple_of(base) {
        number /= base;
    }
    number == 1
}
