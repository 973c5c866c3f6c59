//! Leaves that are new, kept or shared become one tree.

use std::collections::VecDeque;

use bytes::Bytes;
use stillwater_format::node::{Branch, DiskRoot, Leaf};
use stillwater_types::{ChunkId, Extent};

use super::{SpliceError, SpliceStep};
use crate::{CutError, Cutter, DiskCutter, FinishedNode, Item, TreeBuilder, TreeError};

/// Takes the disk in order, from its start to its end, and holds what can be told of it.
pub(super) struct Weave {
    cutter: DiskCutter,
    tree: TreeBuilder,
    /// How far leaves were told or shared.
    at: u64,
    /// A run of shared bytes, not told yet.
    shared: u64,
    out: VecDeque<SpliceStep>,
}

impl Weave {
    pub(super) fn new(
        base: &DiskRoot,
        cutter: Cutter,
        id_key: &[u8; 32],
        length: u64,
    ) -> Result<Self, SpliceError> {
        if length < base.length {
            return Err(SpliceError::Shrunk {
                base: base.length,
                length,
            });
        }
        Ok(Self {
            cutter: DiskCutter::new(cutter, id_key, length),
            tree: TreeBuilder::new(),
            at: 0,
            shared: 0,
            out: VecDeque::new(),
        })
    }

    pub(super) fn next(&mut self) -> Option<SpliceStep> {
        self.out.pop_front()
    }

    pub(super) fn tell(&mut self, step: SpliceStep) {
        self.out.push_back(step);
    }

    /// Bytes that were read, to be cut.
    pub(super) fn data(&mut self, offset: u64, bytes: Bytes) -> Result<(), SpliceError> {
        self.cutter.push_data(offset, bytes)?;
        self.hand_on()
    }

    /// Zeros that the base has.
    pub(super) fn hole(&mut self, extent: Extent) -> Result<(), SpliceError> {
        let pushed = self.cutter.push_hole(extent.start, extent.length);
        pushed.map_err(off_grid)?;
        self.hand_on()
    }

    /// A chunk of the base that was not read.
    pub(super) fn share_chunk(&mut self, extent: Extent, leaf: Leaf) -> Result<(), SpliceError> {
        self.end_cutting(extent)?;
        self.shared = self.shared.saturating_add(extent.length);
        self.place(leaf)
    }

    /// A chunk of the base that was read and still has its id.
    pub(super) fn keep_chunk(
        &mut self,
        offset: u64,
        bytes: Bytes,
        id: ChunkId,
    ) -> Result<(), SpliceError> {
        self.end_cutting(Extent::new(offset, bytes.len() as u64))?;
        self.tell_item(Item::Chunk { bytes, id })
    }

    /// Whether [`Weave::share_node`] gives the tree that the leaves below would give.
    pub(super) fn takes_node(&self, level: u8) -> bool {
        self.cutter.is_idle() && self.tree.takes_node(level)
    }

    /// A whole node of the base, of which nothing was read.
    pub(super) fn share_node(
        &mut self,
        extent: Extent,
        level: u8,
        branch: Branch,
    ) -> Result<(), SpliceError> {
        self.end_cutting(extent)?;
        self.shared = self.shared.saturating_add(extent.length);
        self.grow(|tree, nodes| tree.push_node(level, branch, &mut |node| nodes.push(node)))
    }

    /// Ends the disk.
    pub(super) fn finish(&mut self) -> Result<(), SpliceError> {
        self.cutter.finish()?;
        self.hand_on()?;
        self.end_shared();
        let out = &mut self.out;
        let tree = std::mem::take(&mut self.tree);
        let top = tree.finish(&mut |node| out.push_back(SpliceStep::Node(node)))?;
        self.out.push_back(SpliceStep::Done(top));
        Ok(())
    }

    /// An old cut point: what was read before it is cut, and the cutter goes on behind `extent`.
    fn end_cutting(&mut self, extent: Extent) -> Result<(), SpliceError> {
        self.cutter.pass(extent).map_err(off_grid)?;
        self.hand_on()
    }

    fn hand_on(&mut self) -> Result<(), SpliceError> {
        while let Some(item) = self.cutter.next_item() {
            self.tell_item(item)?;
        }
        Ok(())
    }

    fn tell_item(&mut self, item: Item) -> Result<(), SpliceError> {
        self.end_shared();
        let offset = self.at;
        let (leaf, step) = match item {
            Item::Hole { length } => (Leaf::Hole { length }, SpliceStep::Hole { offset, length }),
            Item::Chunk { bytes, id } => {
                // A chunk is at most as long as the format allows, or the node is refused.
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let leaf = Leaf::Chunk { length, id };
                (leaf, SpliceStep::Chunk { offset, bytes, id })
            }
        };
        self.at = self.at.saturating_add(leaf.span());
        self.out.push_back(step);
        self.place(leaf)
    }

    fn place(&mut self, leaf: Leaf) -> Result<(), SpliceError> {
        self.grow(|tree, nodes| tree.push(leaf, &mut |node| nodes.push(node)))
    }

    /// Adds to the tree; nodes that it completes come behind what lies below them.
    fn grow(
        &mut self,
        add: impl FnOnce(&mut TreeBuilder, &mut Vec<FinishedNode>) -> Result<(), TreeError>,
    ) -> Result<(), SpliceError> {
        let mut nodes = Vec::new();
        add(&mut self.tree, &mut nodes)?;
        if !nodes.is_empty() {
            self.end_shared();
        }
        self.out.extend(nodes.into_iter().map(SpliceStep::Node));
        Ok(())
    }

    fn end_shared(&mut self) {
        let length = std::mem::take(&mut self.shared);
        if length > 0 {
            let offset = self.at;
            self.out.push_back(SpliceStep::Shared { offset, length });
            self.at = self.at.saturating_add(length);
        }
    }
}

fn off_grid(error: CutError) -> SpliceError {
    match error {
        CutError::OffGrid { offset } => SpliceError::OffGrid { offset },
        other => SpliceError::Cut(other),
    }
}
