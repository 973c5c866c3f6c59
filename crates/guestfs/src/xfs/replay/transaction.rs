//! Transactions out of the operations that records consist of.

use std::collections::BTreeMap;

use crate::view::View;
use crate::{Error, Result};

use super::super::log::{Record, damaged};

const HEADER: usize = 12;
const START: u8 = 0x01;
const COMMIT: u8 = 0x02;
const CONTINUES: u8 = 0x04;
const CONTINUED: u8 = 0x08;
const END: u8 = 0x10;
const UNMOUNT: u8 = 0x20;

/// What a transaction begins with; its magic number is in the guest's own order.
const TRANSACTION: usize = 16;
const MAGIC: u32 = 0x5452_414e;

/// One change: a header that says what it is, and the bytes.
#[derive(Default)]
pub(super) struct Item {
    expected: usize,
    regions: Vec<Vec<u8>>,
}

impl Item {
    pub fn region(&self, index: usize) -> Result<View<'_>> {
        let bytes = self.regions.get(index);
        let bytes = bytes.ok_or_else(|| damaged(0, "a change lacks a region"))?;
        Ok(View::new(bytes, "change in an XFS log", index as u64))
    }

    pub fn first(&self) -> Result<View<'_>> {
        self.region(0)
    }

    /// Items are in the order of the guest's processor, which is little-endian wherever vSphere runs.
    pub fn kind(&self) -> Result<u16> {
        self.first()?.le16(0)
    }

    const fn is_whole(&self) -> bool {
        self.expected != 0 && self.regions.len() >= self.expected
    }
}

#[derive(Default)]
struct Open {
    header: Vec<u8>,
    items: Vec<Item>,
}

/// Collects what was committed, in the order of the commits.
pub(super) struct Transactions {
    open: BTreeMap<u32, Open>,
    pub committed: Vec<Vec<Item>>,
    room: u64,
    limit: u64,
}

impl Transactions {
    pub const fn new(limit: u64) -> Self {
        Self {
            open: BTreeMap::new(),
            committed: Vec::new(),
            room: limit,
            limit,
        }
    }

    pub fn add(&mut self, record: &Record) -> Result<()> {
        let view = View::new(&record.payload, "XFS log record", 0);
        let mut at = 0;
        for _ in 0..record.operations {
            let length = view.be32(at + 4)? as usize;
            let (id, flags) = (view.be32(at)?, view.u8(at + 9)?);
            let bytes = view.bytes(at + HEADER, length)?;
            self.operation(id, flags, bytes)?;
            at += HEADER + length;
        }
        Ok(())
    }

    fn operation(&mut self, id: u32, flags: u8, bytes: &[u8]) -> Result<()> {
        // Each costs something even when it carries nothing.
        self.room = self
            .room
            .checked_sub(bytes.len() as u64 + HEADER as u64)
            .ok_or(Error::Limit {
                what: "bytes of a log",
                limit: self.limit,
            })?;
        if flags & START != 0 {
            self.open.insert(id, Open::default());
            return Ok(());
        }
        // One that began before the tail is in place already.
        let Some(open) = self.open.get_mut(&id) else {
            return Ok(());
        };
        match flags & !(END | CONTINUES) {
            0 => open.add(bytes),
            CONTINUED => open.go_on(bytes),
            COMMIT => {
                if let Some(done) = self.open.remove(&id) {
                    self.committed.push(done.items);
                }
                Ok(())
            }
            UNMOUNT => {
                self.open.remove(&id);
                Ok(())
            }
            _ => Err(damaged(id.into(), "an operation is of no kind")),
        }
    }
}

impl Open {
    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.header.is_empty() {
            self.header.extend_from_slice(bytes);
            return self.check_header();
        }
        if self.items.last().is_none_or(Item::is_whole) {
            self.items.push(Item::default());
        }
        let Some(item) = self.items.last_mut() else {
            return Ok(());
        };
        if item.regions.is_empty() {
            item.expected = View::new(bytes, "change in an XFS log", 0).le16(2)?.into();
            if item.expected == 0 {
                return Err(damaged(0, "a change is empty"));
            }
        }
        item.regions.push(bytes.to_vec());
        Ok(())
    }

    /// More of what the last operation began.
    fn go_on(&mut self, bytes: &[u8]) -> Result<()> {
        match self
            .items
            .last_mut()
            .and_then(|item| item.regions.last_mut())
        {
            Some(region) => region.extend_from_slice(bytes),
            None => self.header.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn check_header(&self) -> Result<()> {
        let view = View::new(&self.header, "transaction in an XFS log", 0);
        view.check(view.length() <= TRANSACTION, "its header is too long")?;
        view.check(view.le32(0)? == MAGIC, "its magic number is another")
    }
}
