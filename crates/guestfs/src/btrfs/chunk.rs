//! Chunks: where on the disk the file system's own addresses are.

use std::collections::BTreeMap;

use crate::view::View;
use crate::{Error, Limits, Result};

use super::superblock::Superblock;
use super::tree::Key;

/// RAID 0, 10, 5 and 6: a chunk's bytes are spread.
const SPREAD: u64 = 0x8 | 0x40 | 0x80 | 0x100;

#[derive(Debug, Clone, Copy)]
struct Chunk {
    length: u64,
    /// Where a copy of it is, if one is on this disk and whole.
    place: Option<u64>,
}

pub(super) struct Chunks(BTreeMap<u64, Chunk>);

impl Chunks {
    /// Those that lead to the tree of all.
    pub fn of_superblock(superblock: &Superblock) -> Result<Self> {
        let view = View::new(&superblock.chunks, "btrfs superblock", 0);
        let mut all = Self(BTreeMap::new());
        let mut at = 0;
        while at < view.length() {
            let key = Key::parse(&view.rest(at)?)?;
            let item = view.rest(at + Key::BYTES)?;
            all.add(key.offset, &item, superblock.device, &Limits::default())?;
            at += Key::BYTES + 48 + usize::from(item.le16(44)?) * 32;
        }
        Ok(all)
    }

    pub fn add(&mut self, from: u64, item: &View<'_>, device: u64, limits: &Limits) -> Result<()> {
        let spread = item.le64(24)? & SPREAD != 0;
        let mut place = None;
        for stripe in 0..usize::from(item.le16(44)?) {
            let stripe = item.part(48 + stripe * 32, 32)?;
            if !spread && stripe.le64(0)? == device {
                place = place.or(Some(stripe.le64(8)?));
            }
        }
        if self.0.len() >= limits.pieces {
            return Err(Error::Limit {
                what: "chunks of a btrfs file system",
                limit: limits.pieces as u64,
            });
        }
        let length = item.le64(0)?;
        self.0.insert(from, Chunk { length, place });
        Ok(())
    }

    /// Where `address` is on the disk, and how many bytes are in a row there.
    pub fn place(&self, address: u64) -> Result<(u64, u64)> {
        let damaged = Error::Damaged {
            structure: "btrfs address",
            at: address,
            what: "it is in no chunk",
        };
        let Some((from, chunk)) = self.0.range(..=address).next_back() else {
            return Err(damaged);
        };
        let skip = address - from;
        if skip >= chunk.length {
            return Err(damaged);
        }
        let Some(place) = chunk.place else {
            return Err(Error::Unsupported(
                "a btrfs file system whose data are spread over disks",
            ));
        };
        let place = place.checked_add(skip).ok_or(damaged)?;
        Ok((place, chunk.length - skip))
    }
}
