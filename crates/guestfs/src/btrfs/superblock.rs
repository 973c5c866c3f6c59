//! The superblock.

use crate::file_system::Description;
use crate::source::{BlockSource, bytes};
use crate::view::{View, text, uuid};
use crate::{Error, Loss, Result};

use super::tree::Root;

const OFFSET: u64 = 64 << 10;
const BYTES: usize = 4096;
const MAGIC: &[u8] = b"_BHRfS_M";
const CHUNKS_MAX: usize = 2048;

/// What a reader may meet and understands, or need not.
const KNOWN: u64 = 0x1 // mixed references
    | 0x2 // a default subvolume
    | 0x4 // data and metadata together
    | 0x8 | 0x10 // compression
    | 0x20 // large nodes
    | 0x40 // many names
    | 0x80 // RAID 5 and 6: refused where a chunk is one
    | 0x100 // short references
    | 0x200 // no items for holes
    | 0x400 // another identity in metadata
    | 0x800 // three and four copies
    | 0x1_0000; // simple quotas

pub(super) struct Superblock {
    pub root: Root,
    pub chunk_root: Root,
    pub node_bytes: usize,
    /// Which of the file system's disks this is.
    pub device: u64,
    pub chunks: Vec<u8>,
    bytes: u64,
    has_log: bool,
    label: Option<String>,
    uuid: Option<String>,
}

/// Whether a superblock of btrfs is there.
pub(crate) fn is_here(disk: &dyn BlockSource) -> bool {
    disk.length() >= OFFSET + BYTES as u64
        && bytes(disk, OFFSET + 0x40, 8).is_ok_and(|magic| magic == MAGIC)
}

impl Superblock {
    pub fn read(disk: &dyn BlockSource) -> Result<Self> {
        let raw = bytes(disk, OFFSET, BYTES)?;
        let view = View::new(&raw, "btrfs superblock", OFFSET);
        view.check(view.bytes(0x40, 8)? == MAGIC, "its magic number is another")?;
        if view.le64(0xbc)? & !KNOWN != 0 {
            return Err(Error::Unsupported(
                "a btrfs file system with unknown features",
            ));
        }
        let node = view.le32(0x94)?;
        let known = node.is_power_of_two() && (4096..=65536).contains(&node);
        view.check(known, "its nodes are of no length that exists")?;
        let chunks = view.le32(0xa0)? as usize;
        view.check(chunks <= CHUNKS_MAX, "its first chunks are too many")?;
        Ok(Self {
            root: Root {
                block: view.le64(0x50)?,
                level: view.u8(0xc6)?,
            },
            chunk_root: Root {
                block: view.le64(0x58)?,
                level: view.u8(0xc7)?,
            },
            node_bytes: node as usize,
            device: view.le64(0xc9)?,
            chunks: view.bytes(0x32b, chunks)?.to_vec(),
            bytes: view.le64(0x70)?,
            has_log: view.le64(0x60)? != 0,
            label: text(view.bytes(0x12b, 256)?),
            uuid: uuid(view.array(0x20)?),
        })
    }

    pub fn describe(&self) -> Description {
        let mut losses = vec![Loss::Subvolumes];
        if self.has_log {
            losses.push(Loss::Unfinished("what only the log tree of btrfs held"));
        }
        Description {
            kind: "btrfs",
            label: self.label.clone(),
            uuid: self.uuid.clone(),
            bytes: self.bytes,
            losses,
        }
    }
}
