//! Second stage of a backup that has a base: what was read becomes a tree that shares the rest.

use stillwater_chunking::{
    Compare, CutError, Replaced, Splice, SpliceError, SpliceStep, Top, TreeError,
};
use stillwater_proxy_api::LIES_MAX;
use stillwater_types::{Extent, TreeId};
use tokio::sync::mpsc;

use super::cut::{Chunk, Found, found_node};
use super::nodes::Asker;
use super::read::Piece;
use crate::error::{Error, Result};

/// How a base is used.
pub(super) enum Machine {
    /// What was read is put between what is shared.
    Splice(Box<Splice>),
    /// Everything is read and what is the base's is kept.
    Compare(Box<Compare>),
}

/// A tree that was made of a base.
pub(super) struct Woven {
    pub top: Top,
    pub replaced: Replaced,
    pub lies: Lies,
}

/// Content that differs from the base where the map says that it does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lies {
    pub bytes: u64,
    /// The first of them.
    pub extents: Vec<Extent>,
}

impl Lies {
    fn add(&mut self, extent: Extent) {
        self.bytes = self.bytes.saturating_add(extent.length);
        if self.extents.len() < LIES_MAX {
            self.extents.push(extent);
        }
    }
}

/// Runs a machine over the pieces; returns when the reader said that it read all.
pub(super) fn weave(
    mut machine: Machine,
    pieces: &mut mpsc::Receiver<Piece>,
    nodes: &Asker,
    out: &mpsc::Sender<Found>,
) -> Result<Woven> {
    let mut lies = Lies::default();
    let send = |found| out.blocking_send(found).map_err(|_| Error::Stopped);
    loop {
        match machine.step()? {
            SpliceStep::Nodes(ids) => {
                for node in nodes.ask(ids)? {
                    machine.supply(&node)?;
                }
            }
            SpliceStep::Data { offset } => match pieces.blocking_recv() {
                Some(Piece::Data { offset, bytes }) => machine.push(offset, bytes)?,
                Some(Piece::End) => return Err(ended_early(offset)),
                None => return Err(Error::Stopped),
            },
            SpliceStep::Chunk { offset, bytes, id } => {
                send(Found::Chunk(Chunk { offset, bytes, id }))?;
            }
            SpliceStep::Hole { length, .. } => send(Found::Hole { length })?,
            SpliceStep::Shared { length, .. } => send(Found::Shared { length })?,
            SpliceStep::Differs { told: true, .. } => {}
            SpliceStep::Differs { extent, .. } => lies.add(extent),
            SpliceStep::Node(node) => send(found_node(node))?,
            SpliceStep::Done(top) => {
                let replaced = machine.replaced();
                let woven = Woven {
                    top,
                    replaced,
                    lies,
                };
                return await_end(pieces).map(|()| woven);
            }
        }
    }
}

/// The tree is complete, so nothing may be left to read.
fn await_end(pieces: &mut mpsc::Receiver<Piece>) -> Result<()> {
    match pieces.blocking_recv() {
        Some(Piece::End) => Ok(()),
        Some(Piece::Data { offset, .. }) => Err(Error::Splice(SpliceError::Extents { offset })),
        None => Err(Error::Stopped),
    }
}

fn ended_early(at: u64) -> Error {
    let length = u64::MAX;
    Error::Splice(SpliceError::Cut(CutError::Incomplete { at, length }))
}

impl Machine {
    fn step(&mut self) -> Result<SpliceStep, SpliceError> {
        match self {
            Machine::Splice(machine) => machine.step(),
            Machine::Compare(machine) => machine.step(),
        }
    }

    fn supply(&mut self, node: &[u8]) -> Result<TreeId, TreeError> {
        match self {
            Machine::Splice(machine) => machine.supply(node),
            Machine::Compare(machine) => machine.supply(node),
        }
    }

    fn push(&mut self, offset: u64, bytes: bytes::Bytes) -> Result<(), SpliceError> {
        match self {
            Machine::Splice(machine) => machine.push(offset, bytes),
            Machine::Compare(machine) => machine.push(offset, bytes),
        }
    }

    const fn replaced(&self) -> Replaced {
        match self {
            Machine::Splice(machine) => machine.replaced(),
            Machine::Compare(machine) => machine.replaced(),
        }
    }
}
