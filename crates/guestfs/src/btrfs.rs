//! btrfs on one disk: the on-disk format as `btrfs.readthedocs.io` and Linux's `btrfs_tree.h` have it.
//!
//! The topmost subvolume is shown, so that every other one is a directory in it, wherever the guest mounts them.
//! The log tree (what was synced after the last commit) is not played back; the file system says so as a loss.

mod chunk;
mod content;
mod item;
mod superblock;
mod tree;

use std::sync::Arc;

use crate::content::Content;
use crate::file_system::{
    Attribute, Cursor, Description, Entry, FileSystem, Kind, Metadata, Node, Page,
};
use crate::source::Disk;
use crate::{Error, Limits, Result};

use chunk::Chunks;
use content::Extents;
use item::{DirectoryItem, Inode};
use superblock::Superblock;
pub(crate) use superblock::is_here;
use tree::{Key, Root, Tree};

const INODE: u8 = 1;
const ATTRIBUTE: u8 = 24;
const DIRECTORY_INDEX: u8 = 96;
const EXTENT: u8 = 108;
const ROOT: u8 = 132;
const CHUNK: u8 = 228;

/// The topmost subvolume, and the root directory of each.
const TOP: u64 = 5;
const ROOT_DIRECTORY: u64 = 256;

/// A btrfs file system.
pub(crate) struct Btrfs {
    superblock: Superblock,
    tree: Arc<Tree>,
    limits: Limits,
}

impl Btrfs {
    pub fn open(disk: Disk, limits: &Limits) -> Result<Self> {
        let superblock = Superblock::read(&*disk)?;
        let mut tree = Tree {
            chunks: Chunks::of_superblock(&superblock)?,
            disk,
            node_bytes: superblock.node_bytes,
        };
        let mut all = Chunks::of_superblock(&superblock)?;
        let (first, last) = (Key::new(0, 0, 0), Key::new(u64::MAX, u8::MAX, u64::MAX));
        tree.visit(superblock.chunk_root, first, last, &mut |key, item| {
            if key.kind == CHUNK {
                all.add(key.offset, item, superblock.device, limits)?;
            }
            Ok(true)
        })?;
        tree.chunks = all;
        Ok(Self {
            superblock,
            tree: Arc::new(tree),
            limits: limits.clone(),
        })
    }

    /// Where the tree of a subvolume begins.
    fn subvolume(&self, id: u64) -> Result<Root> {
        let (first, last) = (Key::new(id, ROOT, 0), Key::new(id, ROOT, u64::MAX));
        let mut found = None;
        self.tree
            .visit(self.superblock.root, first, last, &mut |_, item| {
                found = Some(Root {
                    block: item.le64(176)?,
                    level: item.u8(238)?,
                });
                Ok(false)
            })?;
        found.ok_or(Error::NotFound)
    }

    /// Items of one kind of a node, from `from` on, until `visit` has enough.
    fn items(&self, node: Node, kind: u8, from: u64, visit: &mut tree::Visit<'_>) -> Result<()> {
        let (first, last) = (
            Key::new(node.id, kind, from),
            Key::new(node.id, kind, u64::MAX),
        );
        self.tree
            .visit(self.subvolume(node.tree)?, first, last, visit)
    }

    fn inode(&self, node: Node) -> Result<Inode> {
        let mut found = None;
        self.items(node, INODE, 0, &mut |_, item| {
            found = Some(Inode::parse(node.id, item)?);
            Ok(false)
        })?;
        found.ok_or(Error::NotFound)
    }

    fn extents(&self, node: Node, length: u64) -> Result<Extents> {
        let mut extents = Extents::new(Arc::clone(&self.tree), length);
        self.items(node, EXTENT, 0, &mut |key, item| {
            extents.push(key.offset, item, &self.limits)?;
            Ok(true)
        })?;
        Ok(extents)
    }
}

impl FileSystem for Btrfs {
    fn describe(&self) -> Description {
        self.superblock.describe()
    }

    fn root(&self) -> Node {
        Node {
            tree: TOP,
            id: ROOT_DIRECTORY,
        }
    }

    fn metadata(&self, node: Node) -> Result<Metadata> {
        self.inode(node)?.metadata()
    }

    fn read_dir(&self, node: Node, from: Cursor) -> Result<Page> {
        if self.inode(node)?.kind()? != Kind::Directory {
            return Err(Error::NotADirectory);
        }
        let mut page = Page::default();
        let wanted = self.limits.page_entries;
        self.items(node, DIRECTORY_INDEX, from.0, &mut |key, item| {
            if page.entries.len() >= wanted {
                page.next = Some(Cursor(key.offset));
                return Ok(false);
            }
            let (entry, _) = DirectoryItem::parse(item)?;
            page.entries.extend(entry_of(&entry, item, node)?);
            Ok(true)
        })?;
        Ok(page)
    }

    fn open(&self, node: Node) -> Result<Box<dyn Content>> {
        let inode = self.inode(node)?;
        if inode.kind()? != Kind::File {
            return Err(Error::NoContent);
        }
        Ok(Box::new(self.extents(node, inode.size)?))
    }

    fn read_link(&self, node: Node) -> Result<Vec<u8>> {
        let inode = self.inode(node)?;
        if inode.kind()? != Kind::Link {
            return Err(Error::NotALink);
        }
        let extents = self.extents(node, inode.size)?;
        crate::content::whole(&extents, self.limits.value_bytes, "bytes of a link")
    }

    fn attributes(&self, node: Node) -> Result<Vec<Attribute>> {
        let mut all = Vec::new();
        let mut room = self.limits.value_bytes;
        self.items(node, ATTRIBUTE, 0, &mut |_, item| {
            let mut rest = *item;
            // Names whose hashes are the same stand in one item.
            while rest.length() > 0 {
                let (attribute, behind) = DirectoryItem::parse(&rest)?;
                let bytes = attribute.name.len() as u64 + attribute.value.len() as u64;
                room = room.checked_sub(bytes).ok_or(Error::Limit {
                    what: "bytes of extended attributes",
                    limit: self.limits.value_bytes,
                })?;
                all.push(Attribute {
                    name: attribute.name.to_vec(),
                    value: attribute.value.to_vec(),
                });
                rest = behind;
            }
            Ok(true)
        })?;
        Ok(all)
    }
}

fn entry_of(
    entry: &DirectoryItem<'_>,
    item: &crate::view::View<'_>,
    node: Node,
) -> Result<Option<Entry>> {
    let name = entry.name;
    item.check(
        !name.is_empty() && !name.contains(&b'/') && !name.contains(&0) && name != b"..",
        "a name is none",
    )?;
    let target = match entry.location.kind {
        INODE => Node {
            tree: node.tree,
            id: entry.location.object,
        },
        ROOT => Node {
            tree: entry.location.object,
            id: ROOT_DIRECTORY,
        },
        _ => return Err(item.damaged("a name stands for nothing")),
    };
    Ok(Some(Entry {
        name: name.to_vec(),
        node: target,
        kind: Kind::of_entry(entry.kind),
    }))
}
