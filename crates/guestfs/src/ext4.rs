//! ext2, ext3 and ext4: Linux's `fs/ext4` and `Documentation/filesystems/ext4` are the source of the layout.
//!
//! A journal that was not played back is played back in memory, so that what the guest had committed is seen.
//! Metadata checksums are not held against: the bytes come from chunks that were verified, and a guest that
//! reads its own damage reads the same.

mod attribute;
mod directory;
mod inode;
mod journal;
mod map;
mod superblock;

use std::sync::Arc;

use crate::content::{Content, Inline, Mapped, whole};
use crate::file_system::{Attribute, Cursor, Description, FileSystem, Kind, Metadata, Node, Page};
use crate::source::{Disk, bytes};
use crate::view::View;
use crate::{Error, Limits, Loss, Result};

use inode::Inode;
use superblock::Superblock;
pub(crate) use superblock::is_here;

/// Inode of the root directory.
const ROOT: u64 = 2;

/// An ext2, ext3 or ext4 file system.
pub(crate) struct Ext4 {
    disk: Disk,
    superblock: Superblock,
    limits: Limits,
}

impl Ext4 {
    pub fn open(disk: Disk, limits: &Limits) -> Result<Self> {
        let superblock = Superblock::read(&*disk)?;
        let mut system = Self {
            disk,
            superblock,
            limits: limits.clone(),
        };
        if system.superblock.needs_recovery() {
            let patches = journal::replay(&system)?;
            system.disk = Arc::new(patches);
            system.superblock = Superblock::read(&*system.disk)?;
        }
        Ok(system)
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        let (group, index) = self.superblock.place_of_inode(number)?;
        let descriptor = bytes(
            &*self.disk,
            self.superblock.descriptor_offset(group),
            self.superblock.descriptor_bytes,
        )?;
        let descriptor = View::new(&descriptor, "ext4 group descriptor", group);
        let mut table = u64::from(descriptor.le32(0x8)?);
        if self.superblock.descriptor_bytes >= 64 {
            table |= u64::from(descriptor.le32(0x28)?) << 32;
        }
        let size = self.superblock.inode_bytes;
        let offset = self.superblock.offset(table)? + index * size as u64;
        let raw = bytes(&*self.disk, offset, size)?;
        Inode::parse(number, raw)
    }

    fn node(&self, node: Node) -> Result<Inode> {
        let inode = self.inode(node.id)?;
        if inode.links == 0 && inode.mode == 0 {
            return Err(Error::NotFound);
        }
        Ok(inode)
    }

    /// The blocks of a file or directory.
    fn mapped(&self, inode: &Inode) -> Result<Mapped> {
        Ok(Mapped {
            disk: Arc::clone(&self.disk),
            pieces: map::pieces(self, inode)?,
            length: inode.size,
            valid: u64::MAX,
        })
    }

    fn content(&self, inode: &Inode) -> Result<Box<dyn Content>> {
        if inode.is_inline() {
            return Ok(Box::new(Inline(self.inline(inode)?)));
        }
        Ok(Box::new(self.mapped(inode)?))
    }

    /// What stands in the inode and goes on in an attribute.
    fn inline(&self, inode: &Inode) -> Result<Vec<u8>> {
        let mut all = inode.map.to_vec();
        let more = attribute::in_inode(self, inode)?
            .into_iter()
            .find(|attribute| attribute.name == b"system.data");
        all.extend(more.map(|more| more.value).unwrap_or_default());
        let size = usize::try_from(inode.size).unwrap_or(usize::MAX);
        if all.len() < size {
            return Err(inode.damaged("its inline data end too early"));
        }
        all.truncate(size);
        Ok(all)
    }
}

impl FileSystem for Ext4 {
    fn describe(&self) -> Description {
        self.superblock.describe()
    }

    fn root(&self) -> Node {
        Node::new(ROOT)
    }

    fn metadata(&self, node: Node) -> Result<Metadata> {
        self.node(node)?.metadata()
    }

    fn read_dir(&self, node: Node, from: Cursor) -> Result<Page> {
        let inode = self.node(node)?;
        if inode.kind()? != Kind::Directory {
            return Err(Error::NotADirectory);
        }
        directory::page(self, &inode, from)
    }

    fn open(&self, node: Node) -> Result<Box<dyn Content>> {
        let inode = self.node(node)?;
        match inode.kind()? {
            Kind::File if inode.is_encrypted() => Err(Error::Lost(Loss::Encrypted)),
            Kind::File => self.content(&inode),
            _ => Err(Error::NoContent),
        }
    }

    fn read_link(&self, node: Node) -> Result<Vec<u8>> {
        let inode = self.node(node)?;
        if inode.kind()? != Kind::Link {
            return Err(Error::NotALink);
        }
        if inode.is_encrypted() {
            return Err(Error::Lost(Loss::Encrypted));
        }
        if let Some(target) = inode.fast_link() {
            return Ok(target.to_vec());
        }
        let content = self.content(&inode)?;
        whole(&*content, self.limits.value_bytes, "bytes of a link")
    }

    fn attributes(&self, node: Node) -> Result<Vec<Attribute>> {
        let inode = self.node(node)?;
        attribute::all(self, &inode)
    }
}
