//! What all file systems give.

use crate::content::Content;
use crate::{Error, Loss, Result};

/// A file, directory or link of one file system.
///
/// Only the file system that gave it knows what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// The tree that it is in, where a file system has several (btrfs).
    pub tree: u64,
    /// Its number there.
    pub id: u64,
}

impl Node {
    pub(crate) const fn new(id: u64) -> Self {
        Self { tree: 0, id }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A reparse point that is no link.
    Reparse,
}

impl Kind {
    /// What the format bits of a POSIX mode say.
    pub(crate) const fn of_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o010_000 => Self::Pipe,
            0o020_000 => Self::CharacterDevice,
            0o040_000 => Self::Directory,
            0o060_000 => Self::BlockDevice,
            0o100_000 => Self::File,
            0o120_000 => Self::Link,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }

    /// What the type byte of Linux's directory entries says.
    pub(crate) const fn of_entry(kind: u8) -> Option<Self> {
        Some(match kind {
            1 => Self::File,
            2 => Self::Directory,
            3 => Self::CharacterDevice,
            4 => Self::BlockDevice,
            5 => Self::Pipe,
            6 => Self::Socket,
            7 => Self::Link,
            _ => return None,
        })
    }
}

/// A moment, counted from 1970 in UTC, or in the guest's own time where [`Loss::TimesWithoutZone`] says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds.
    pub seconds: i64,
    /// What goes beyond them, below 10^9.
    pub nanoseconds: u32,
}

/// What is known of a node beside its names and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Its length in bytes.
    pub size: u64,
    /// The permission bits of its mode, where the file system has them.
    pub mode: Option<u32>,
    /// Its owner, where the file system has numbers for them.
    pub owner: Option<u32>,
    /// Its group.
    pub group: Option<u32>,
    /// How many names it has.
    pub links: u64,
    /// The number that the guest sees, where it sees one.
    pub inode: u64,
    /// When it was read last.
    pub accessed: Option<Time>,
    /// When its content changed last.
    pub modified: Option<Time>,
    /// When anything of it changed last.
    pub changed: Option<Time>,
    /// When it was made.
    pub created: Option<Time>,
    /// Attributes as DOS and Windows have them.
    pub dos_attributes: Option<u32>,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// What of this one node is not shown.
    pub losses: Vec<Loss>,
}

/// An extended attribute, or a stream's name and length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attribute {
    /// Its name as the guest's programs see it.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// A stream beside a file's content (NTFS).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream {
    /// Its name.
    pub name: Vec<u8>,
    /// Its length in bytes.
    pub size: u64,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name: bytes as the guest has them, UTF-16 as UTF-8 (WTF-8).
    pub name: Vec<u8>,
    /// What it stands for.
    pub node: Node,
    /// Of what kind that is, if the directory says it for certain.
    pub kind: Option<Kind>,
}

/// Where in a directory a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor(pub(crate) u64);

/// Some names of a directory.
#[derive(Debug, Default)]
pub struct Page {
    /// The names, without `.` and `..`. May be empty though more follow.
    pub entries: Vec<Entry>,
    /// Where the next page begins, unless this was the last.
    pub next: Option<Cursor>,
}

/// What a file system says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name among file systems.
    pub kind: &'static str,
    /// The label that somebody gave it.
    pub label: Option<String>,
    /// Its identity.
    pub uuid: Option<String>,
    /// Its length in bytes.
    pub bytes: u64,
    /// What it cannot show of any file.
    pub losses: Vec<Loss>,
}

/// A file system that is open for reading.
///
/// No structure of the guest's may make a call go on for ever or take memory beyond the
/// [`Limits`](crate::Limits); a directory that is its own ancestor is the caller's to notice, by its nodes.
pub trait FileSystem: Send {
    /// What it says of itself.
    fn describe(&self) -> Description;

    /// Its topmost directory.
    fn root(&self) -> Node;

    /// What is known of `node`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn metadata(&self, node: Node) -> Result<Metadata>;

    /// Some names of the directory `node`, from `from` on.
    ///
    /// # Errors
    /// When it is no directory or cannot be read.
    fn read_dir(&self, node: Node, from: Cursor) -> Result<Page>;

    /// The content of `node`.
    ///
    /// # Errors
    /// When it has none, cannot be read, or cannot be shown as the guest sees it.
    fn open(&self, node: Node) -> Result<Box<dyn Content>>;

    /// Where the symbolic link `node` leads.
    ///
    /// # Errors
    /// When it is none or cannot be read.
    fn read_link(&self, node: Node) -> Result<Vec<u8>>;

    /// Extended attributes of `node`, access control lists among them, as `getxattr` gives them on Linux.
    ///
    /// # Errors
    /// When they cannot be read.
    fn attributes(&self, node: Node) -> Result<Vec<Attribute>>;

    /// Streams of `node` beside its content.
    ///
    /// # Errors
    /// When they cannot be read.
    fn streams(&self, _node: Node) -> Result<Vec<Stream>> {
        Ok(Vec::new())
    }

    /// One of these streams.
    ///
    /// # Errors
    /// When there is none of that name or it cannot be read.
    fn open_stream(&self, _node: Node, _name: &[u8]) -> Result<Box<dyn Content>> {
        Err(Error::NotFound)
    }

    /// Whether two names are one to the guest.
    fn same_name(&self, ours: &[u8], theirs: &[u8]) -> bool {
        ours == theirs
    }

    /// What `name` stands for in the directory `node`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such name, others when the directory cannot be read.
    fn child(&self, node: Node, name: &[u8]) -> Result<Node> {
        let mut from = Some(Cursor::default());
        let mut alike = None;
        while let Some(cursor) = from {
            let page = self.read_dir(node, cursor)?;
            for entry in page.entries {
                if entry.name == name {
                    return Ok(entry.node);
                }
                if alike.is_none() && self.same_name(&entry.name, name) {
                    alike = Some(entry.node);
                }
            }
            from = page.next;
        }
        alike.ok_or(Error::NotFound)
    }
}
