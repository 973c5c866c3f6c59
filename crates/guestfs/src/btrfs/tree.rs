//! Trees: every structure of btrfs is items under keys, in order.

use crate::source::{Disk, fill};
use crate::view::View;
use crate::{Error, Result};

use super::chunk::Chunks;

const HEADER: usize = 0x65;
const LEAF_ITEM: usize = 25;
const POINTER: usize = 33;
const LEVEL_MAX: u8 = 8;

/// Names an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub object: u64,
    pub kind: u8,
    pub offset: u64,
}

impl Key {
    pub const BYTES: usize = 17;

    pub const fn new(object: u64, kind: u8, offset: u64) -> Self {
        Self {
            object,
            kind,
            offset,
        }
    }

    pub fn parse(view: &View<'_>) -> Result<Self> {
        Ok(Self::new(view.le64(0)?, view.u8(8)?, view.le64(9)?))
    }
}

/// Where a tree begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root {
    pub block: u64,
    pub level: u8,
}

/// Takes an item, and says whether more are wanted.
pub(super) type Visit<'a> = dyn FnMut(Key, &View<'_>) -> Result<bool> + 'a;

/// The blocks that all trees are made of.
pub(super) struct Tree {
    pub disk: Disk,
    pub chunks: Chunks,
    pub node_bytes: usize,
}

impl Tree {
    /// Shows `visit` all items from `first` to `last`, in order, until it has enough.
    pub fn visit(&self, root: Root, first: Key, last: Key, visit: &mut Visit<'_>) -> Result<()> {
        if root.level >= LEVEL_MAX {
            return Err(damaged(root.block, "it is too deep"));
        }
        self.node(root, None, first, last, visit).map(drop)
    }

    /// Fills `buffer` from the file system's own address on.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<()> {
        let (mut at, mut rest) = (address, buffer);
        while !rest.is_empty() {
            let (place, length) = self.chunks.place(at)?;
            let step = length.min(rest.len() as u64) as usize;
            let (now, later) = rest.split_at_mut(step);
            fill(&*self.disk, place, now)?;
            rest = later;
            at = at.saturating_add(step as u64);
        }
        Ok(())
    }

    /// One node. It has to be of the level, begin with the key and have the address that its parent says: so no
    /// loop can go on, and no node is met twice.
    fn node(
        &self,
        root: Root,
        begin: Option<Key>,
        first: Key,
        last: Key,
        visit: &mut Visit<'_>,
    ) -> Result<bool> {
        let mut raw = vec![0; self.node_bytes];
        self.read(root.block, &mut raw)?;
        let view = View::new(&raw, "btrfs node", root.block);
        let fits = view.le64(0x30)? == root.block && view.u8(0x64)? == root.level;
        view.check(fits, "it is not the one that its parent means")?;
        let width = if root.level == 0 { LEAF_ITEM } else { POINTER };
        let count = view.le32(0x60)? as usize;
        let room = (self.node_bytes - HEADER) / width;
        view.check(count <= room, "it has more items than room")?;
        let mut before = None;
        for index in 0..count {
            let entry = view.part(HEADER + index * width, width)?;
            let key = Key::parse(&entry)?;
            let first_fits = index > 0 || begin.is_none_or(|begin| begin == key);
            view.check(
                first_fits && before < Some(key),
                "its keys are not in order",
            )?;
            before = Some(key);
            if key > last {
                return Ok(false);
            }
            let goes_on = if root.level == 0 {
                key < first || visit(key, &item(&view, &entry)?)?
            } else {
                let next = next_key(&view, index, count)?;
                let below = Root {
                    block: entry.le64(17)?,
                    level: root.level - 1,
                };
                // What ends before the first key has nothing that is asked for.
                next.is_some_and(|next| next <= first)
                    || self.node(below, Some(key), first, last, visit)?
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn next_key(view: &View<'_>, index: usize, count: usize) -> Result<Option<Key>> {
    if index + 1 >= count {
        return Ok(None);
    }
    Key::parse(&view.rest(HEADER + (index + 1) * POINTER)?).map(Some)
}

fn item<'a>(leaf: &View<'a>, entry: &View<'_>) -> Result<View<'a>> {
    let (offset, length) = (entry.le32(17)? as usize, entry.le32(21)? as usize);
    leaf.rest(HEADER)?.part(offset, length)
}

pub(super) const fn damaged(at: u64, what: &'static str) -> Error {
    Error::Damaged {
        structure: "btrfs node",
        at,
        what,
    }
}
