//! The log: a ring of records, and which of them were written and not put in place yet.
//!
//! Every block of the ring begins with the number of the round in which it was written. Where that number falls
//! is the end of what was written last; a few records before it may have holes, which their checksums tell.

use crate::source::{BlockSource, bytes, fill};
use crate::view::View;
use crate::{Error, Result};

use super::superblock::Superblock;

/// The log counts in blocks of this length whatever those of the file system are.
pub(super) const BLOCK: u64 = 512;
const MAGIC: u32 = 0xfeed_babe;
/// Blocks whose first words one header keeps.
const KEPT: usize = 64;
const HEADER_SPAN: u32 = 32 << 10;
const RECORD_BYTES_MAX: u32 = 256 << 10;
/// What is written at a time and may be there out of order: eight buffers of the largest kind.
const IN_FLIGHT: u64 = 8 * (RECORD_BYTES_MAX as u64 / BLOCK + 9);
/// As many records can be in flight.
const IN_FLIGHT_RECORDS: usize = 8;
const UNMOUNT: u8 = 0x20;

pub(super) struct Log<'a> {
    disk: &'a dyn BlockSource,
    offset: u64,
    blocks: u64,
    modern: bool,
}

/// Where a record is, and what its header says.
#[derive(Debug, Clone)]
pub(super) struct Header {
    at: u64,
    cycle: u32,
    length: u32,
    headers: u64,
    tail: u64,
    checksum: u32,
    operations: u32,
}

impl Header {
    /// Blocks from its beginning to its end.
    fn blocks(&self) -> u64 {
        self.headers + u64::from(self.length).div_ceil(BLOCK)
    }
}

/// The payload of a record, with the first words of its blocks put back.
pub(super) struct Record {
    pub operations: u32,
    pub payload: Vec<u8>,
}

impl<'a> Log<'a> {
    pub fn new(disk: &'a dyn BlockSource, superblock: &Superblock) -> Result<Self> {
        if superblock.log_start == 0 {
            return Err(Error::Unsupported(
                "an XFS file system with its log on another device",
            ));
        }
        let offset = superblock.offset(superblock.log_start)?;
        let blocks = superblock.log_blocks * superblock.block_bytes / BLOCK;
        let end = offset.saturating_add(blocks * BLOCK);
        if blocks < 64 || end > disk.length() {
            return Err(damaged(0, "it is not inside the file system"));
        }
        Ok(Self {
            disk,
            offset,
            blocks,
            modern: superblock.is_modern(),
        })
    }

    /// The disk as it is without the log.
    pub const fn disk(&self) -> &dyn BlockSource {
        self.disk
    }

    /// The records that have to be played back, in order; none if the guest had closed its log.
    pub fn records(&self) -> Result<Option<Vec<Header>>> {
        let first = self.cycle(0)?;
        if first == 0 {
            return Ok(None);
        }
        let head = self.head(first)?;
        let Some(last) = self.last_whole(head)? else {
            return Err(damaged(head, "no record before its end is whole"));
        };
        let end = (last.at + last.blocks()) % self.blocks;
        if last.operations == 1 && self.is_unmount(&last)? {
            return Ok(None);
        }
        self.since_tail(&last, end).map(Some)
    }

    fn block(&self, number: u64) -> Result<Vec<u8>> {
        bytes(
            self.disk,
            self.offset + number % self.blocks * BLOCK,
            BLOCK as usize,
        )
    }

    /// The round in which a block was written.
    fn cycle(&self, number: u64) -> Result<u32> {
        let raw = self.block(number)?;
        let view = View::new(&raw, "XFS log", number);
        match view.be32(0)? {
            MAGIC => view.be32(4),
            cycle => Ok(cycle),
        }
    }

    /// One behind what was written last.
    fn head(&self, first: u32) -> Result<u64> {
        let last = self.cycle(self.blocks - 1)?;
        let mut head = if last == first {
            self.blocks
        } else {
            self.first_of_another_round(first)?
        };
        // Blocks of the round before among the last ones are holes that were not written in time.
        for block in head.saturating_sub(IN_FLIGHT)..head {
            if self.cycle(block)? != first {
                head = block;
                break;
            }
        }
        let wrapped = IN_FLIGHT.saturating_sub(head).min(self.blocks - head);
        for block in self.blocks - wrapped..self.blocks {
            if last != first && self.cycle(block)? != last {
                return Ok(block);
            }
        }
        Ok(head)
    }

    fn first_of_another_round(&self, first: u32) -> Result<u64> {
        let (mut same, mut other) = (0, self.blocks - 1);
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            if self.cycle(middle)? == first {
                same = middle;
            } else {
                other = middle;
            }
        }
        Ok(other)
    }

    /// A header at a block, if there is one.
    fn header(&self, at: u64) -> Result<Option<Header>> {
        let raw = self.block(at)?;
        let view = View::new(&raw, "XFS log record", at);
        if view.be32(0)? != MAGIC {
            return Ok(None);
        }
        let (version, length, size) = (view.be32(8)?, view.be32(12)?, view.be32(320)?);
        let size = if version & 2 != 0 { size } else { 0 };
        if length > RECORD_BYTES_MAX || size > RECORD_BYTES_MAX {
            return Err(damaged(at, "a record is longer than any"));
        }
        Ok(Some(Header {
            at: at % self.blocks,
            cycle: view.be32(4)?,
            length,
            headers: size.div_ceil(HEADER_SPAN).max(1).into(),
            tail: view.be64(24)?,
            checksum: view.le32(32)?,
            operations: view.be32(40)?,
        }))
    }

    /// The last record before `head` that was written whole, as were those in flight before it.
    fn last_whole(&self, head: u64) -> Result<Option<Header>> {
        let mut headers = Vec::new();
        let mut back = 0;
        while headers.len() <= IN_FLIGHT_RECORDS && back < self.blocks.min(2 * IN_FLIGHT) {
            back += 1;
            let at = head + self.blocks - back;
            headers.extend(self.header(at)?.map(|header| (back, header)));
        }
        let mut last = None;
        for (back, header) in headers.into_iter().rev() {
            if header.blocks() > back || !self.holds(&header)? {
                break;
            }
            last = Some(header);
        }
        Ok(last)
    }

    /// All blocks of a record as they are.
    fn raw(&self, header: &Header) -> Result<Vec<u8>> {
        let blocks = header.blocks();
        let mut raw = vec![0; (blocks * BLOCK) as usize];
        let at_end = blocks.min(self.blocks - header.at);
        let (first, second) = raw.split_at_mut((at_end * BLOCK) as usize);
        fill(self.disk, self.offset + header.at * BLOCK, first)?;
        // The ring goes on at its beginning.
        fill(self.disk, self.offset, second)?;
        Ok(raw)
    }

    /// Whether the checksum fits. Older file systems have none.
    fn holds(&self, header: &Header) -> Result<bool> {
        if !self.modern || header.checksum == 0 {
            return Ok(true);
        }
        let raw = self.raw(header)?;
        let view = View::new(&raw, "XFS log record", header.at);
        // The length of the kernel's structure is another on 32 bits.
        for structure in [328, 324] {
            if sum(&view, header, structure)? == header.checksum {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_unmount(&self, header: &Header) -> Result<bool> {
        let record = self.record(header)?;
        Ok(record
            .payload
            .get(9)
            .is_some_and(|flags| flags & UNMOUNT != 0))
    }

    /// From the oldest record that is not in place to the last one.
    fn since_tail(&self, last: &Header, end: u64) -> Result<Vec<Header>> {
        let mut all = Vec::new();
        let mut at = last.tail & 0xffff_ffff;
        if at >= self.blocks {
            return Err(damaged(at, "its tail is beyond it"));
        }
        let mut travelled = 0;
        loop {
            let header = self.header(at)?;
            let header =
                header.ok_or_else(|| damaged(at, "there is no record where one should be"))?;
            if !self.holds(&header)? {
                return Err(damaged(at, "a record's checksum is another"));
            }
            travelled += header.blocks();
            at = (at + header.blocks()) % self.blocks;
            let is_last = header.at == last.at && header.cycle == last.cycle;
            all.push(header);
            if is_last && at == end {
                return Ok(all);
            }
            if travelled >= self.blocks {
                return Err(damaged(at, "it has no end"));
            }
        }
    }

    /// What a record that [`records`](Self::records) named holds.
    pub fn record(&self, header: &Header) -> Result<Record> {
        let raw = self.raw(header)?;
        let (headers, payload) = raw.split_at((header.headers * BLOCK) as usize);
        let mut payload = payload.to_vec();
        for (index, block) in payload.chunks_exact_mut(BLOCK as usize).enumerate() {
            let (number, place) = (index / KEPT, index % KEPT);
            // The first header keeps its words behind its fields, the others behind one word.
            let words = if number == 0 {
                44
            } else {
                number * BLOCK as usize + 4
            };
            let at = words + place * 4;
            if let (Some(word), Some(begin)) = (headers.get(at..at + 4), block.get_mut(..4)) {
                begin.copy_from_slice(word);
            }
        }
        payload.truncate(header.length as usize);
        Ok(Record {
            operations: header.operations,
            payload,
        })
    }
}

fn sum(view: &View<'_>, header: &Header, structure: usize) -> Result<u32> {
    let mut sum = crc32c::crc32c(view.bytes(0, 32)?);
    sum = crc32c::crc32c_append(sum, &[0; 4]);
    sum = crc32c::crc32c_append(sum, view.bytes(36, structure - 36)?);
    for more in 1..header.headers as usize {
        sum = crc32c::crc32c_append(sum, view.bytes(more * BLOCK as usize, 260)?);
    }
    let begin = (header.headers * BLOCK) as usize;
    Ok(crc32c::crc32c_append(
        sum,
        view.bytes(begin, header.length as usize)?,
    ))
}

pub(super) const fn damaged(at: u64, what: &'static str) -> Error {
    Error::Damaged {
        structure: "XFS log",
        at,
        what,
    }
}
