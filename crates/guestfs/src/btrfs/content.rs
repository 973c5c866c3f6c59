//! Content: extents as they are, packed, or in their items.

use std::io::Read;
use std::sync::{Arc, Mutex};

use crate::content::{Content, Run, inside};
use crate::view::View;
use crate::{Error, Limits, Loss, Result};

use super::tree::Tree;

const INLINE: u8 = 0;
const REGULAR: u8 = 1;
const ALLOCATED: u8 = 2;
/// Nothing is packed in larger pieces than 128 KiB.
const PACKED_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    None,
    Zlib,
    Lzo,
    Zstd,
}

/// What a stretch of a file consists of.
enum Body {
    /// Zeros.
    Hole,
    /// At an address of the file system.
    Plain(u64),
    /// Packed, and from so many bytes on of what it is unpacked.
    Packed {
        bytes: Stored,
        unpacked: u64,
        skip: u64,
        codec: Codec,
    },
}

enum Stored {
    Here(Vec<u8>),
    At { address: u64, length: u64 },
}

struct Extent {
    at: u64,
    length: u64,
    body: Body,
}

/// A file or link that is open.
pub(super) struct Extents {
    tree: Arc<Tree>,
    length: u64,
    extents: Vec<Extent>,
    /// What was unpacked last, by the place of its extent in the file.
    last: Mutex<Option<(u64, Vec<u8>)>>,
}

impl Extents {
    pub const fn new(tree: Arc<Tree>, length: u64) -> Self {
        Self {
            tree,
            length,
            extents: Vec::new(),
            last: Mutex::new(None),
        }
    }

    /// Adds an extent that comes after all others.
    pub fn push(&mut self, at: u64, item: &View<'_>, limits: &Limits) -> Result<()> {
        let codec = match item.u8(16)? {
            0 => Codec::None,
            1 => Codec::Zlib,
            2 => Codec::Lzo,
            3 => Codec::Zstd,
            _ => return Err(Error::Lost(Loss::Compression("an unknown codec of btrfs"))),
        };
        if item.u8(17)? != 0 {
            return Err(Error::Lost(Loss::Encrypted));
        }
        let unpacked = item.le64(8)?;
        let (length, body) = match item.u8(20)? {
            INLINE => (unpacked, inline(item, unpacked, codec)?),
            ALLOCATED => (item.le64(45)?, Body::Hole),
            REGULAR => (item.le64(45)?, regular(item, unpacked, codec)?),
            _ => return Err(item.damaged("an extent is of no kind")),
        };
        let end = self.extents.last().map_or(0, |last| last.at + last.length);
        let ordered = at >= end && at.checked_add(length).is_some();
        item.check(
            ordered,
            "two extents overlap, or one goes beyond all numbers",
        )?;
        if self.extents.len() >= limits.pieces {
            return Err(Error::Limit {
                what: "pieces of one file",
                limit: limits.pieces as u64,
            });
        }
        if length > 0 {
            self.extents.push(Extent { at, length, body });
        }
        Ok(())
    }

    /// The extent at `offset`, or how far it is to the next one.
    fn at(&self, offset: u64) -> Result<&Extent, u64> {
        let next = self.extents.partition_point(|extent| extent.at <= offset);
        let here = next
            .checked_sub(1)
            .and_then(|index| self.extents.get(index));
        match here.filter(|extent| offset - extent.at < extent.length) {
            Some(extent) => Ok(extent),
            None => Err(self.extents.get(next).map_or(u64::MAX, |next| next.at) - offset),
        }
    }

    /// Fills `to` from `from` on of an extent.
    fn read(&self, extent: &Extent, from: u64, to: &mut [u8]) -> Result<()> {
        match &extent.body {
            Body::Hole => to.fill(0),
            Body::Plain(address) => self.tree.read(address.saturating_add(from), to)?,
            Body::Packed {
                bytes,
                unpacked,
                skip,
                codec,
            } => {
                let mut last = self
                    .last
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner());
                let whole = match &mut *last {
                    Some((at, whole)) if *at == extent.at => whole,
                    other => {
                        let whole = self.unpack(bytes, *unpacked, *codec)?;
                        &mut other.insert((extent.at, whole)).1
                    }
                };
                to.fill(0);
                let from = skip.saturating_add(from);
                crate::source::overlay(to, from, whole, 0);
            }
        }
        Ok(())
    }

    fn unpack(&self, stored: &Stored, unpacked: u64, codec: Codec) -> Result<Vec<u8>> {
        let raw = match stored {
            Stored::Here(bytes) => bytes.clone(),
            Stored::At { address, length } => {
                let mut raw = vec![0; *length as usize];
                self.tree.read(*address, &mut raw)?;
                raw
            }
        };
        let mut whole = Vec::with_capacity(unpacked as usize);
        // Behind the packed bytes a block is filled up with zeros, which the decoders do not look at.
        let read = match codec {
            Codec::None => {
                whole = raw;
                Ok(whole.len())
            }
            Codec::Zlib => flate2::read::ZlibDecoder::new(raw.as_slice())
                .take(unpacked)
                .read_to_end(&mut whole),
            Codec::Zstd => zstd::stream::read::Decoder::new(raw.as_slice()).and_then(|decoder| {
                decoder
                    .single_frame()
                    .take(unpacked)
                    .read_to_end(&mut whole)
            }),
            Codec::Lzo => return Err(Error::Lost(Loss::Compression("LZO of btrfs"))),
        };
        read.map_err(|_| Error::Damaged {
            structure: "packed extent of btrfs",
            at: 0,
            what: "it cannot be unpacked",
        })?;
        Ok(whole)
    }
}

fn inline(item: &View<'_>, unpacked: u64, codec: Codec) -> Result<Body> {
    item.check(unpacked <= PACKED_MAX, "an extent is too long for its item")?;
    Ok(Body::Packed {
        bytes: Stored::Here(item.rest(21)?.all().to_vec()),
        unpacked,
        skip: 0,
        codec,
    })
}

fn regular(item: &View<'_>, unpacked: u64, codec: Codec) -> Result<Body> {
    let (address, stored) = (item.le64(21)?, item.le64(29)?);
    let skip = item.le64(37)?;
    if address == 0 {
        return Ok(Body::Hole);
    }
    if codec == Codec::None {
        let from = address.checked_add(skip);
        let from = from.ok_or_else(|| item.damaged("an extent goes beyond all numbers"))?;
        return Ok(Body::Plain(from));
    }
    let known = unpacked <= PACKED_MAX && stored <= PACKED_MAX;
    item.check(known, "a packed extent is longer than any")?;
    Ok(Body::Packed {
        bytes: Stored::At {
            address,
            length: stored,
        },
        unpacked,
        skip,
        codec,
    })
}

impl Content for Extents {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let count = inside(offset, buffer.len(), self.length);
        let mut rest = buffer.get_mut(..count).unwrap_or_default();
        let mut at = offset;
        while !rest.is_empty() {
            let here = self.at(at);
            let length = match &here {
                Ok(extent) => extent.length - (at - extent.at),
                Err(gap) => *gap,
            };
            let step = length.min(rest.len() as u64) as usize;
            let (now, later) = rest.split_at_mut(step);
            match here {
                Ok(extent) => self.read(extent, at - extent.at, now)?,
                Err(_) => now.fill(0),
            }
            rest = later;
            at += step as u64;
        }
        Ok(count)
    }

    fn run_at(&self, offset: u64) -> Run {
        let left = self.length.saturating_sub(offset);
        let (length, data) = match self.at(offset) {
            Ok(extent) => (
                extent.length - (offset - extent.at),
                !matches!(extent.body, Body::Hole),
            ),
            Err(gap) => (gap, false),
        };
        Run {
            length: length.min(left),
            data: left > 0 && data,
        }
    }
}
