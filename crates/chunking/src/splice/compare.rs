//! A full reading that keeps what the base has.

use bytes::{Bytes, BytesMut};
use stillwater_format::node::{DiskRoot, Leaf};
use stillwater_types::{ChunkId, Extent, ExtentSet, TreeId};
use zeroize::Zeroizing;

use super::weave::Weave;
use super::{Replaced, SpliceError, SpliceStep};
use crate::areas::Areas;
use crate::tree::{Entry, Walk};
use crate::{BLOCK_LEN, CutError, Cutter, TreeError, identify, is_zero};

/// Reads all of a disk along the cut points of a base: a chunk that still has its id is kept, what
/// differs is cut anew between the cut points around it.
///
/// The base may have been cut by other rules, or off the block grid: then it is only kept from being
/// stored once more. Every chunk comes with its bytes, kept or new, so that one which the repository lost is stored
/// again; every node comes too. Holds one chunk of the base, the path to it and a few nodes ahead.
pub struct Compare {
    walk: Walk,
    weave: Weave,
    id_key: Zeroizing<[u8; 32]>,
    /// None: nobody said what changed, so that nothing can be a lie.
    changed: Option<Areas>,
    length: u64,
    /// How far the disk was looked at.
    at: u64,
    /// Bytes behind the place.
    held: Bytes,
    /// The beginning of a chunk of the base whose end has not come yet.
    begun: BytesMut,
    differs: Option<(Extent, bool)>,
    replaced: Replaced,
    done: bool,
}

impl Compare {
    /// For a disk of `length` bytes that differs from `base` in `changed`, if the map told the
    /// truth.
    pub fn new(
        base: &DiskRoot,
        cutter: Cutter,
        id_key: &[u8; 32],
        changed: Option<&ExtentSet>,
        length: u64,
    ) -> Result<Self, SpliceError> {
        let changed = changed.map(|set| Areas::new(&set.widen(BLOCK_LEN as u64, length)));
        Ok(Self {
            walk: Walk::new(base)?,
            weave: Weave::new(base, cutter, id_key, length)?,
            id_key: Zeroizing::new(*id_key),
            changed,
            length,
            at: 0,
            held: Bytes::new(),
            begun: BytesMut::new(),
            differs: None,
            replaced: Replaced::default(),
            done: false,
        })
    }

    /// Takes the bytes of a node that a [`SpliceStep::Nodes`] asked for; tells which it was.
    pub fn supply(&mut self, bytes: &[u8]) -> Result<TreeId, TreeError> {
        self.walk.supply(bytes)
    }

    /// Takes the bytes that were read where a [`SpliceStep::Data`] asked for them.
    pub fn push(&mut self, offset: u64, bytes: Bytes) -> Result<(), SpliceError> {
        let expected = self.due();
        if offset != expected || !self.held.is_empty() {
            return Err(SpliceError::Cut(CutError::OutOfOrder {
                expected,
                found: offset,
            }));
        }
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.length {
            let length = self.length;
            return Err(SpliceError::Cut(CutError::BeyondEnd { end, length }));
        }
        self.held = bytes;
        Ok(())
    }

    /// What of the base was replaced so far: everything, as every chunk and hole is told.
    pub const fn replaced(&self) -> Replaced {
        self.replaced
    }

    /// Goes on; after [`SpliceStep::Done`] it must not be called again.
    pub fn step(&mut self) -> Result<SpliceStep, SpliceError> {
        loop {
            if let Some(step) = self.weave.next() {
                return Ok(step);
            }
            if self.done {
                return Ok(SpliceStep::Data { offset: self.at });
            }
            let placed = self.walk.at_hand();
            let leaf = match placed.map(|placed| (placed, placed.entry)) {
                Some((_, Entry::Node { .. })) => match self.walk.open(|_| true)? {
                    Some(ids) => return Ok(SpliceStep::Nodes(ids)),
                    None => continue,
                },
                Some((placed, Entry::Leaf(leaf))) => Some((placed.extent(), leaf)),
                None => None,
            };
            if leaf.is_none() && self.at == self.length {
                self.finish()?;
                continue;
            }
            if self.held.is_empty() {
                return Ok(SpliceStep::Data { offset: self.due() });
            }
            match leaf {
                Some((extent, Leaf::Chunk { id, .. })) => self.take_chunk(extent, id)?,
                Some((extent, Leaf::Hole { .. })) => self.take_hole(extent)?,
                None => self.take_growth()?,
            }
        }
    }

    fn due(&self) -> u64 {
        self.at.saturating_add(self.begun.len() as u64)
    }

    fn finish(&mut self) -> Result<(), SpliceError> {
        self.done = true;
        self.end_differs();
        self.weave.finish()
    }

    /// Takes what is held of a chunk. A part of one is copied, so that its piece can be freed.
    fn take_chunk(&mut self, extent: Extent, id: ChunkId) -> Result<(), SpliceError> {
        let missing = extent.length.saturating_sub(self.begun.len() as u64);
        let part = self.hold(missing);
        if (part.len() as u64) < missing {
            self.begun.extend_from_slice(&part);
            return Ok(());
        }
        let bytes = if self.begun.is_empty() {
            part
        } else {
            self.begun.extend_from_slice(&part);
            self.begun.split().freeze()
        };
        self.replaced.chunk_count = self.replaced.chunk_count.saturating_add(1);
        self.walk.pass();
        self.at = extent.end();
        let same = identify(&self.id_key, &bytes) == id;
        if !same {
            self.tell_differs(extent);
        }
        if same && self.is_on_grid(extent) {
            self.weave.keep_chunk(extent.start, bytes, id)
        } else {
            self.weave.data(extent.start, bytes)
        }
    }

    /// A chunk that a longer disk goes on behind, in the middle of a block, must be cut anew.
    fn is_on_grid(&self, extent: Extent) -> bool {
        let on_grid = |at: u64| at.is_multiple_of(BLOCK_LEN as u64);
        on_grid(extent.start) && (on_grid(extent.end()) || extent.end() == self.length)
    }

    fn take_hole(&mut self, extent: Extent) -> Result<(), SpliceError> {
        let part = self.hold(extent.end().saturating_sub(self.at));
        if !is_zero(&part) {
            self.look_for_data(extent, &part);
        }
        let offset = self.at;
        self.at = offset.saturating_add(part.len() as u64);
        if self.at >= extent.end() {
            let length = extent.length;
            self.replaced.add(&Leaf::Hole { length });
            self.walk.pass();
        }
        self.weave.data(offset, part)
    }

    /// Tells each block of the disk, as far as it lies in the hole, that is not zero in `part`.
    fn look_for_data(&mut self, hole: Extent, part: &[u8]) {
        let block = BLOCK_LEN as u64;
        let (mut at, mut rest) = (self.at, part);
        while !rest.is_empty() {
            let missing = (block - at % block) as usize;
            let (head, tail) = rest.split_at(missing.min(rest.len()));
            if !is_zero(head) {
                let start = (at / block * block).max(hole.start);
                let end = (at / block * block).saturating_add(block).min(hole.end());
                self.tell_differs(Extent::new(start, end.saturating_sub(start)));
            }
            at = at.saturating_add(head.len() as u64);
            rest = tail;
        }
    }

    /// What the base does not reach differs from it in any case, and is no lie.
    fn take_growth(&mut self) -> Result<(), SpliceError> {
        let offset = self.at;
        let part = self.hold(u64::MAX);
        self.at = offset.saturating_add(part.len() as u64);
        self.weave.data(offset, part)
    }

    fn hold(&mut self, at_most: u64) -> Bytes {
        let length = usize::try_from(at_most).unwrap_or(usize::MAX);
        self.held.split_to(length.min(self.held.len()))
    }

    fn tell_differs(&mut self, extent: Extent) {
        let told = self
            .changed
            .as_ref()
            .is_none_or(|changed| changed.overlap(extent));
        match &mut self.differs {
            Some((run, same)) if *same == told && extent.start <= run.end() => {
                run.length = extent.end().max(run.end()) - run.start;
            }
            _ => {
                self.end_differs();
                self.differs = Some((extent, told));
            }
        }
    }

    fn end_differs(&mut self) {
        if let Some((extent, told)) = self.differs.take() {
            self.weave.tell(SpliceStep::Differs { extent, told });
        }
    }
}
