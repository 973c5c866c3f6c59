//! From pieces of a disk to holes and chunks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use stillwater_types::{ChunkId, Extent, ExtentSet};
use zeroize::Zeroizing;

use crate::{BLOCK_LEN, Cutter, HOLE_LEN_MIN, is_zero};

/// The id of a chunk: the BLAKE3 of its plaintext under the dataset's id key.
pub fn identify(key: &[u8; 32], plain: &[u8]) -> ChunkId {
    ChunkId::from_bytes(*blake3::keyed_hash(key, plain).as_bytes())
}

/// What must be read when only `areas` of a disk of `length` bytes may hold data.
///
/// Areas are widened to the block grid: a hole that is known and one that is found must become the
/// same leaf, and what shares a block with data is data.
pub fn areas_to_read(areas: &ExtentSet, length: u64) -> ExtentSet {
    areas.widen(BLOCK_LEN as u64, length)
}

/// A piece of the disk as it will be stored, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Zeros; never next to another hole.
    Hole {
        /// Count of zeros.
        length: u64,
    },
    /// Bytes.
    Chunk {
        /// The plaintext.
        bytes: Bytes,
        /// Names it.
        id: ChunkId,
    },
}

/// A caller's mistake in feeding a [`DiskCutter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// Pieces must come in order, each once.
    #[error("cut a disk: the piece at {found} came where {expected} was due")]
    OutOfOrder {
        /// Where the next piece must begin.
        expected: u64,
        /// Where it began.
        found: u64,
    },
    /// A piece ends after the disk does.
    #[error("cut a disk: a piece goes on to {end} on a disk of {length} bytes")]
    BeyondEnd {
        /// End of the piece.
        end: u64,
        /// Size of the disk.
        length: u64,
    },
    /// A known hole begins or ends inside a block.
    #[error("cut a disk: the known hole at {offset} does not lie on the block grid")]
    OffGrid {
        /// Where the hole begins.
        offset: u64,
    },
    /// The disk has not been fed to its end.
    #[error("cut a disk: it ended at {at} of {length} bytes")]
    Incomplete {
        /// How far it was fed.
        at: u64,
        /// Size of the disk.
        length: u64,
    },
}

/// Cuts a disk that comes in order, piece by piece.
///
/// The result depends on the content alone: not on where the pieces ended, and not on whether a
/// hole was known or read as zeros. A chunk within one piece shares the piece's memory; one that
/// spans pieces is copied. Beyond the pieces that its chunks share it holds one unfinished chunk.
pub struct DiskCutter {
    id_key: Zeroizing<[u8; 32]>,
    length: u64,
    /// How far the disk has been fed.
    at: u64,
    /// The beginning of a block whose end has not come yet.
    block: BytesMut,
    hole: u64,
    /// Zero blocks that are too few to be a hole so far.
    pending: Vec<Part>,
    pending_len: u64,
    segment: Segment,
    ready: VecDeque<Item>,
}

impl DiskCutter {
    /// For a disk of `length` bytes; `id_key` is the dataset's key of chunk ids.
    pub fn new(cutter: Cutter, id_key: &[u8; 32], length: u64) -> Self {
        Self {
            id_key: Zeroizing::new(*id_key),
            length,
            at: 0,
            block: BytesMut::new(),
            hole: 0,
            pending: Vec::new(),
            pending_len: 0,
            segment: Segment {
                cutter,
                rope: Rope::default(),
            },
            ready: VecDeque::new(),
        }
    }

    /// Takes the bytes that were read at `offset`. Drain [`DiskCutter::next_item`] after each call.
    pub fn push_data(&mut self, offset: u64, bytes: Bytes) -> Result<(), CutError> {
        self.advance(offset, bytes.len() as u64)?;
        let mut rest = bytes;
        if !self.block.is_empty() {
            let missing = rest.split_to((BLOCK_LEN - self.block.len()).min(rest.len()));
            self.block.extend_from_slice(&missing);
            if self.block.len() == BLOCK_LEN {
                let block = self.block.split().freeze();
                self.take_blocks(block);
            }
        }
        let whole = rest.split_to(rest.len() / BLOCK_LEN * BLOCK_LEN);
        self.take_blocks(whole);
        self.block.extend_from_slice(&rest);
        Ok(())
    }

    /// Takes zeros that are known without reading: whole blocks, or up to the end of the disk.
    pub fn push_hole(&mut self, offset: u64, length: u64) -> Result<(), CutError> {
        let on_grid = |at: u64| at.is_multiple_of(BLOCK_LEN as u64);
        let end = offset.saturating_add(length);
        if length > 0 && !(on_grid(offset) && (on_grid(end) || end == self.length)) {
            return Err(CutError::OffGrid { offset });
        }
        self.advance(offset, length)?;
        self.take_zeros(length, None);
        Ok(())
    }

    /// Ends the disk; the last items are then ready.
    pub fn finish(&mut self) -> Result<(), CutError> {
        if self.at != self.length {
            return Err(CutError::Incomplete {
                at: self.at,
                length: self.length,
            });
        }
        let block = self.block.split().freeze();
        self.take_blocks(block);
        self.end_segment();
        Ok(())
    }

    /// Ends the segment at hand and goes on behind `extent`, which is not cut here.
    pub(crate) fn pass(&mut self, extent: Extent) -> Result<(), CutError> {
        let on_grid = |at: u64| at.is_multiple_of(BLOCK_LEN as u64);
        let (start, end) = (extent.start, extent.end());
        if !(on_grid(start) && (on_grid(end) || end == self.length)) {
            return Err(CutError::OffGrid { offset: start });
        }
        self.advance(start, extent.length)?;
        self.end_segment();
        Ok(())
    }

    /// Whether nothing is undecided.
    pub(crate) fn is_idle(&self) -> bool {
        let nothing_begun = self.block.is_empty() && self.segment.rope.len == 0;
        nothing_begun && self.hole == 0 && self.pending.is_empty() && self.ready.is_empty()
    }

    /// The next piece of the disk that is decided.
    pub fn next_item(&mut self) -> Option<Item> {
        self.ready.pop_front()
    }

    fn end_segment(&mut self) {
        self.end_hole();
        self.segment.finish(&self.id_key, &mut self.ready);
    }

    fn advance(&mut self, offset: u64, length: u64) -> Result<(), CutError> {
        if offset != self.at {
            return Err(CutError::OutOfOrder {
                expected: self.at,
                found: offset,
            });
        }
        let end = offset.saturating_add(length);
        if end > self.length {
            return Err(CutError::BeyondEnd {
                end,
                length: self.length,
            });
        }
        self.at = end;
        Ok(())
    }

    /// Takes whole blocks, of which only the disk's last may be short.
    fn take_blocks(&mut self, piece: Bytes) {
        let mut start = 0;
        while let Some(first) = piece
            .get(start..)
            .and_then(|rest| rest.chunks(BLOCK_LEN).next())
        {
            let zero = is_zero(first);
            let alike = piece[start..]
                .chunks(BLOCK_LEN)
                .take_while(|b| is_zero(b) == zero);
            let end = start + alike.map(<[u8]>::len).sum::<usize>();
            let part = Part {
                piece: piece.clone(),
                start,
                end,
            };
            if zero {
                self.take_zeros((end - start) as u64, Some(part));
            } else {
                self.end_hole();
                self.segment.push(part, &self.id_key, &mut self.ready);
            }
            start = end;
        }
    }

    /// Zeros that were read come with their part, known ones without.
    fn take_zeros(&mut self, length: u64, part: Option<Part>) {
        if length == 0 {
            return;
        }
        if self.hole > 0 {
            self.hole += length;
            return;
        }
        self.pending_len += length;
        if self.pending_len >= HOLE_LEN_MIN {
            self.segment.finish(&self.id_key, &mut self.ready);
            self.hole = std::mem::take(&mut self.pending_len);
            self.pending.clear();
        } else {
            self.pending
                .push(part.unwrap_or_else(|| Part::zeros(length)));
        }
    }

    /// Data follows, or the end: a hole is complete, and zeros too few for one are data.
    fn end_hole(&mut self) {
        if self.hole > 0 {
            self.ready.push_back(Item::Hole {
                length: std::mem::take(&mut self.hole),
            });
        }
        self.pending_len = 0;
        for part in std::mem::take(&mut self.pending) {
            self.segment.push(part, &self.id_key, &mut self.ready);
        }
    }
}

/// A range of a piece.
#[derive(Clone)]
struct Part {
    piece: Bytes,
    start: usize,
    end: usize,
}

impl Part {
    /// Zeros too few for a hole.
    fn zeros(length: u64) -> Self {
        static ZEROS: [u8; HOLE_LEN_MIN as usize] = [0; HOLE_LEN_MIN as usize];
        let end = (length as usize).min(ZEROS.len());
        Self {
            piece: Bytes::from_static(&ZEROS),
            start: 0,
            end,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.piece[self.start..self.end]
    }

    fn range(&self, start: usize, end: usize) -> Self {
        Self {
            piece: self.piece.clone(),
            start,
            end,
        }
    }

    /// Whether `next` goes on in the same memory where this part ends.
    fn continues(&self, next: &Self) -> bool {
        self.end == next.start
            && self.piece.as_ptr() == next.piece.as_ptr()
            && self.piece.len() == next.piece.len()
    }
}

/// The parts of one unfinished chunk.
#[derive(Default)]
struct Rope {
    parts: Vec<Part>,
    len: usize,
}

impl Rope {
    fn push(&mut self, part: Part) {
        self.len += part.end - part.start;
        match self.parts.last_mut() {
            Some(last) if last.continues(&part) => last.end = part.end,
            _ => self.parts.push(part),
        }
    }

    /// Everything, copied only if it lies in several pieces.
    fn take(&mut self) -> Bytes {
        let mut joined = BytesMut::new();
        match self.parts.as_slice() {
            [part] => {
                let bytes = part.piece.slice(part.start..part.end);
                *self = Self::default();
                return bytes;
            }
            parts => {
                joined.reserve(self.len);
                parts
                    .iter()
                    .for_each(|part| joined.extend_from_slice(part.bytes()));
            }
        }
        *self = Self::default();
        joined.freeze()
    }
}

/// The data between two holes, cut on its own.
struct Segment {
    cutter: Cutter,
    rope: Rope,
}

impl Segment {
    fn push(&mut self, part: Part, key: &[u8; 32], ready: &mut VecDeque<Item>) {
        if self.cutter.is_block() {
            self.push_blocks(part, key, ready);
        } else {
            self.push_stream(part, key, ready);
        }
    }

    fn push_blocks(&mut self, part: Part, key: &[u8; 32], ready: &mut VecDeque<Item>) {
        let mut start = part.start;
        let mut end = part.start;
        for block in part.bytes().chunks(BLOCK_LEN) {
            end += block.len();
            if self.cutter.ends_at(self.rope.len + end - start, block) {
                self.rope.push(part.range(start, end));
                ready.push_back(chunk(self.rope.take(), key));
                start = end;
            }
        }
        if start < end {
            self.rope.push(part.range(start, end));
        }
    }

    /// FastCDC sees every byte, so it gets a window of at least `max` bytes in one place.
    fn push_stream(&mut self, part: Part, key: &[u8; 32], ready: &mut VecDeque<Item>) {
        self.rope.push(part);
        let max = self.cutter.params().max();
        if self.rope.len < max {
            return;
        }
        let mut window = self.rope.take();
        while window.len() >= max {
            let cut = self.cutter.first(&window).max(1);
            ready.push_back(chunk(window.split_to(cut), key));
        }
        let end = window.len();
        self.rope.push(Part {
            piece: window,
            start: 0,
            end,
        });
    }

    fn finish(&mut self, key: &[u8; 32], ready: &mut VecDeque<Item>) {
        let mut rest = self.rope.take();
        if self.cutter.is_block() {
            if !rest.is_empty() {
                ready.push_back(chunk(rest, key));
            }
            return;
        }
        while !rest.is_empty() {
            let cut = self.cutter.first(&rest).max(1);
            ready.push_back(chunk(rest.split_to(cut), key));
        }
    }
}

fn chunk(bytes: Bytes, key: &[u8; 32]) -> Item {
    let id = identify(key, &bytes);
    Item::Chunk { bytes, id }
}

#[cfg(test)]
mod tests;
