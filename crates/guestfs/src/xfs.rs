//! XFS, versions 4 and 5: "XFS Algorithms & Data Structures" is the source of the layout.
//!
//! A log that was not played back is played back in memory, so that what the guest had committed is seen.

mod attribute;
mod directory;
mod inode;
mod link;
mod log;
mod map;
mod replay;
mod superblock;

use std::sync::Arc;

use crate::content::{Content, Mapped};
use crate::file_system::{Attribute, Cursor, Description, FileSystem, Kind, Metadata, Node, Page};
use crate::source::{Disk, Patched, bytes};
use crate::{Error, Limits, Loss, Result};

use inode::{Fork, Inode};
use log::Log;
use superblock::Superblock;
pub(crate) use superblock::is_here;

/// An XFS file system.
pub(crate) struct Xfs {
    disk: Disk,
    superblock: Superblock,
    limits: Limits,
}

impl Xfs {
    pub fn open(disk: Disk, limits: &Limits) -> Result<Self> {
        let superblock = Superblock::read(&*disk)?;
        let log = Log::new(&*disk, &superblock)?;
        let patches = match log.records()? {
            Some(records) => replay::replay(&log, records, &superblock, limits)?,
            None => Default::default(),
        };
        let disk: Disk = if patches.is_empty() {
            disk
        } else {
            Arc::new(Patched::new(disk, log::BLOCK, patches))
        };
        Ok(Self {
            superblock: Superblock::read(&*disk)?,
            disk,
            limits: limits.clone(),
        })
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        let offset = self.superblock.offset_of_inode(number)?;
        let raw = bytes(&*self.disk, offset, self.superblock.inode_bytes)?;
        Inode::parse(number, raw)
    }

    fn node(&self, node: Node) -> Result<Inode> {
        let inode = self.inode(node.id)?;
        if inode.mode == 0 {
            return Err(Error::NotFound);
        }
        Ok(inode)
    }

    /// The blocks of a fork; what is past the end of a file is there too.
    fn mapped(&self, inode: &Inode, fork: &Fork<'_>, length: u64) -> Result<Mapped> {
        Ok(Mapped {
            disk: Arc::clone(&self.disk),
            pieces: map::pieces(self, inode, fork)?,
            length,
            valid: u64::MAX,
        })
    }
}

impl FileSystem for Xfs {
    fn describe(&self) -> Description {
        self.superblock.describe()
    }

    fn root(&self) -> Node {
        Node::new(self.superblock.root)
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
        if inode.kind()? != Kind::File {
            return Err(Error::NoContent);
        }
        if inode.is_realtime() {
            return Err(Error::Lost(Loss::Elsewhere("a realtime device of XFS")));
        }
        Ok(Box::new(self.mapped(&inode, &inode.data()?, inode.size)?))
    }

    fn read_link(&self, node: Node) -> Result<Vec<u8>> {
        let inode = self.node(node)?;
        if inode.kind()? != Kind::Link {
            return Err(Error::NotALink);
        }
        link::target(self, &inode)
    }

    fn attributes(&self, node: Node) -> Result<Vec<Attribute>> {
        let inode = self.node(node)?;
        attribute::all(self, &inode)
    }
}
