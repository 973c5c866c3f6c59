//! Nodes of a disk's Merkle tree.
//!
//! A disk is a sequence of leaves: chunks and holes. Nodes of level 0 hold leaves, nodes above hold
//! the ids of nodes one level below with the bytes of the disk that each covers. A node's id is the
//! plain BLAKE3 of its bytes, so that a repository can check it, and the closure, without any key.
//!
//! ```text
//! offset size  a node; integers are little-endian
//!      0    4  magic "SWN1"
//!      4    1  level: 0 to 15
//!      5    1  zero
//!      6    2  count of entries, 0 to 1024
//!      8    8  span: bytes of the disk that the node covers
//!     16       entries, one after the other
//!
//! level 0: a hole   0x00 · length u64              (9 bytes)
//!          a chunk  0x01 · length u32 · chunk id   (37 bytes)
//! above:            span u64 · tree id             (40 bytes)
//! ```
//!
//! Where nodes end is the builder's rule (`docs/format.md`, "Tree nodes"); a reader takes any node
//! that keeps the bounds above. There is one encoding of a node: whatever decodes, encodes to the
//! same bytes.

use stillwater_types::{ChunkId, TreeId};

/// First bytes of a node.
pub const NODE_MAGIC: [u8; 4] = *b"SWN1";
/// Most entries of a node; a bound of what a reader must hold.
pub const NODE_ENTRIES_MAX: usize = 1024;
/// Highest level. With at least 64 entries in every node but the last of a level, level 9 covers
/// all 64-bit addresses.
pub const NODE_LEVEL_MAX: u8 = 15;
/// Longest chunk that the format can name: small enough for one message between roles.
pub const CHUNK_BYTES_MAX: u32 = 2 * 1024 * 1024;
/// Longest text that names a cutter.
pub const CUTTER_BYTES_MAX: usize = 64;

const HEADER_LEN: usize = 16;
const HOLE: u8 = 0;
const CHUNK: u8 = 1;
/// Most bytes of a node.
pub const NODE_BYTES_MAX: usize = HEADER_LEN + NODE_ENTRIES_MAX * 40;

/// A piece of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// Zeros that are not stored.
    Hole {
        /// Count of zeros.
        length: u64,
    },
    /// Stored bytes.
    Chunk {
        /// Count of plain bytes.
        length: u32,
        /// Names them.
        id: ChunkId,
    },
}

impl Leaf {
    /// Bytes of the disk that the leaf covers.
    pub const fn span(&self) -> u64 {
        match self {
            Leaf::Hole { length } => *length,
            Leaf::Chunk { length, .. } => *length as u64,
        }
    }
}

/// A node one level below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Branch {
    /// Bytes of the disk that it covers.
    pub span: u64,
    /// Names it.
    pub id: TreeId,
}

/// A node's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entries {
    /// Of a node of level 0.
    Leaves(Vec<Leaf>),
    /// Of a node above.
    Branches(Vec<Branch>),
}

/// A node that keeps every bound of the format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    level: u8,
    span: u64,
    entries: Entries,
}

/// Bytes or entries that are no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The bytes end early, go on too long or do not begin with the magic.
    #[error("read a tree node: its bytes do not have the form of one")]
    Form,
    /// The level is higher than any tree needs, or fits another kind of entries.
    #[error("read a tree node: level {level} is impossible")]
    Level {
        /// The level found.
        level: u8,
    },
    /// Too many entries, or none where some must be.
    #[error("read a tree node: {count} entries are impossible")]
    Count {
        /// The count found.
        count: usize,
    },
    /// An entry that covers nothing, or more than it can.
    #[error("read a tree node: entry {index} has an impossible length or kind")]
    Entry {
        /// Which entry.
        index: usize,
    },
    /// Two holes side by side, which would give one content two trees.
    #[error("read a tree node: entry {index} is a second hole in a row")]
    HolesTouch {
        /// Which entry.
        index: usize,
    },
    /// The entries do not cover what the node says it covers.
    #[error("read a tree node: its entries do not add up to its span")]
    Span,
}

impl Node {
    /// A node of level 0. An empty one is the tree of an empty disk.
    pub fn leaves(leaves: Vec<Leaf>) -> Result<Self, NodeError> {
        check_count(leaves.len(), true)?;
        let mut after_hole = false;
        for (index, leaf) in leaves.iter().enumerate() {
            let (valid, hole) = match leaf {
                Leaf::Hole { length } => (*length > 0, true),
                Leaf::Chunk { length, .. } => ((1..=CHUNK_BYTES_MAX).contains(length), false),
            };
            if !valid {
                return Err(NodeError::Entry { index });
            }
            if hole && after_hole {
                return Err(NodeError::HolesTouch { index });
            }
            after_hole = hole;
        }
        let span = total(leaves.iter().map(Leaf::span))?;
        Ok(Self {
            level: 0,
            span,
            entries: Entries::Leaves(leaves),
        })
    }

    /// A node above level 0.
    pub fn branches(level: u8, branches: Vec<Branch>) -> Result<Self, NodeError> {
        if !(1..=NODE_LEVEL_MAX).contains(&level) {
            return Err(NodeError::Level { level });
        }
        check_count(branches.len(), false)?;
        if let Some(index) = branches.iter().position(|branch| branch.span == 0) {
            return Err(NodeError::Entry { index });
        }
        let span = total(branches.iter().map(|branch| branch.span))?;
        Ok(Self {
            level,
            span,
            entries: Entries::Branches(branches),
        })
    }

    /// How many levels lie below.
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// Bytes of the disk that the node covers.
    pub const fn span(&self) -> u64 {
        self.span
    }

    /// The entries, in the order of the disk.
    pub const fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The entries, by value.
    pub fn into_entries(self) -> Entries {
        self.entries
    }

    /// The node's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let count = match &self.entries {
            Entries::Leaves(leaves) => leaves.len(),
            Entries::Branches(branches) => branches.len(),
        };
        let mut bytes = Vec::with_capacity(HEADER_LEN + count * 40);
        bytes.extend_from_slice(&NODE_MAGIC);
        bytes.extend_from_slice(&[self.level, 0]);
        // Every constructor checked that the count fits.
        bytes.extend_from_slice(&(count as u16).to_le_bytes());
        bytes.extend_from_slice(&self.span.to_le_bytes());
        match &self.entries {
            Entries::Leaves(leaves) => leaves.iter().for_each(|leaf| put_leaf(&mut bytes, leaf)),
            Entries::Branches(branches) => {
                branches
                    .iter()
                    .for_each(|branch| put_branch(&mut bytes, branch));
            }
        }
        bytes
    }

    /// Reads a node; gives exactly those that [`Node::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, NodeError> {
        let mut rest = Fields(bytes);
        if rest.take::<4>()? != NODE_MAGIC {
            return Err(NodeError::Form);
        }
        let [level, zero] = rest.take()?;
        let count = usize::from(u16::from_le_bytes(rest.take()?));
        let span = u64::from_le_bytes(rest.take()?);
        if zero != 0 {
            return Err(NodeError::Form);
        }
        check_count(count, level == 0)?;
        let node = match level {
            0 => Self::leaves(
                (0..count)
                    .map(|i| take_leaf(&mut rest, i))
                    .collect::<Result<_, _>>()?,
            ),
            _ => Self::branches(
                level,
                (0..count)
                    .map(|_| take_branch(&mut rest))
                    .collect::<Result<_, _>>()?,
            ),
        }?;
        if !rest.0.is_empty() {
            return Err(NodeError::Form);
        }
        if node.span != span {
            return Err(NodeError::Span);
        }
        Ok(node)
    }
}

/// Appends a leaf as a node of level 0 holds it. The builder also decides from these bytes whether
/// the node ends here.
pub fn put_leaf(bytes: &mut Vec<u8>, leaf: &Leaf) {
    match leaf {
        Leaf::Hole { length } => {
            bytes.push(HOLE);
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        Leaf::Chunk { length, id } => {
            bytes.push(CHUNK);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(id.as_bytes());
        }
    }
}

/// Appends a branch as a node above level 0 holds it.
pub fn put_branch(bytes: &mut Vec<u8>, branch: &Branch) {
    bytes.extend_from_slice(&branch.span.to_le_bytes());
    bytes.extend_from_slice(branch.id.as_bytes());
}

fn take_leaf(fields: &mut Fields<'_>, index: usize) -> Result<Leaf, NodeError> {
    match fields.take()? {
        [HOLE] => Ok(Leaf::Hole {
            length: u64::from_le_bytes(fields.take()?),
        }),
        [CHUNK] => Ok(Leaf::Chunk {
            length: u32::from_le_bytes(fields.take()?),
            id: ChunkId::from_bytes(fields.take()?),
        }),
        [_] => Err(NodeError::Entry { index }),
    }
}

fn take_branch(fields: &mut Fields<'_>) -> Result<Branch, NodeError> {
    let span = u64::from_le_bytes(fields.take()?);
    Ok(Branch {
        span,
        id: TreeId::from_bytes(fields.take()?),
    })
}

fn check_count(count: usize, may_be_empty: bool) -> Result<(), NodeError> {
    if count > NODE_ENTRIES_MAX || (count == 0 && !may_be_empty) {
        return Err(NodeError::Count { count });
    }
    Ok(())
}

fn total(mut spans: impl Iterator<Item = u64>) -> Result<u64, NodeError> {
    spans.try_fold(0, u64::checked_add).ok_or(NodeError::Span)
}

/// The id of a node: the plain BLAKE3 of its bytes.
pub fn tree_id(node: &[u8]) -> TreeId {
    TreeId::from_bytes(*blake3::hash(node).as_bytes())
}

/// The tree that is one disk at one moment.
///
/// ```text
/// offset size  integers are little-endian
///      0    8  length of the disk
///      8   32  id of the top node
///     40    1  level of the top node
///     41    1  bytes of the cutter's text, 1 to 64
///     42       the cutter's text, printable ASCII without spaces
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRoot {
    /// Bytes of the disk; the span of the top node.
    pub length: u64,
    /// Name and parameters of the cutter, such as `block-v1/4096/16384/32768/131072`.
    pub cutter: String,
    /// Names the top node, and with it every byte of the disk.
    pub top: TreeId,
    /// Level of the top node.
    pub level: u8,
}

/// Bytes that are no disk root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("read a disk root: its bytes do not have the form of one")]
pub struct DiskRootError;

impl DiskRoot {
    /// Whether the level and the cutter's text keep the bounds of the format.
    pub fn is_valid(&self) -> bool {
        let text = self.cutter.as_bytes();
        self.level <= NODE_LEVEL_MAX
            && (1..=CUTTER_BYTES_MAX).contains(&text.len())
            && text.iter().all(u8::is_ascii_graphic)
    }

    /// The root's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, DiskRootError> {
        if !self.is_valid() {
            return Err(DiskRootError);
        }
        let mut bytes = Vec::with_capacity(42 + self.cutter.len());
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(self.top.as_bytes());
        bytes.extend_from_slice(&[self.level, self.cutter.len() as u8]);
        bytes.extend_from_slice(self.cutter.as_bytes());
        Ok(bytes)
    }

    /// Reads a root; gives exactly those that [`DiskRoot::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DiskRootError> {
        let mut fields = Fields(bytes);
        let root = fields.disk_root().map_err(|_| DiskRootError)?;
        root.is_valid().then_some(root).ok_or(DiskRootError)
    }
}

/// What is left of some bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], NodeError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(NodeError::Form)?;
        self.0 = rest;
        Ok(*field)
    }

    fn disk_root(&mut self) -> Result<DiskRoot, NodeError> {
        let length = u64::from_le_bytes(self.take()?);
        let top = TreeId::from_bytes(self.take()?);
        let [level, cutter_len] = self.take()?;
        if self.0.len() != usize::from(cutter_len) {
            return Err(NodeError::Form);
        }
        let cutter = std::str::from_utf8(self.0)
            .map_err(|_| NodeError::Form)?
            .to_owned();
        Ok(DiskRoot {
            length,
            cutter,
            top,
            level,
        })
    }
}

#[cfg(test)]
mod tests;
