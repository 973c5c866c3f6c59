//! The controller's memory: what the journal says, as a state that is cheap to read.
//!
//! One thread writes. It checks each event against the state, journals it, syncs, applies, and only
//! then answers and publishes; events that wait meanwhile share the next sync. Readers take the
//! published state without waiting for the disk. The state holds what is current; runs that ended
//! live in the projection.

use std::path::Path;
use std::sync::{Arc, mpsc};

use jiff::Timestamp;
use stillwater_catalog::{Clock, Entry, Journal, Projection};
use stillwater_types::{Fault, Reason};
use tokio::sync::{oneshot, watch};

use crate::dataset::Datasets;
use crate::event::{Actor, Event, Part};
use crate::node::Nodes;
use crate::run::Runs;
use crate::token::Tokens;
use crate::vcenter::Vcenters;

/// How many changes may wait for the writer; more make their callers wait.
const QUEUE_LEN: usize = 256;

/// What is current. Cloned once per batch of changes, so parts should be small or share.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Every node that ever joined, removed ones included.
    pub nodes: Nodes,
    /// Join tokens that may still be used.
    pub tokens: Tokens,
    /// Registered vCenters.
    pub vcenters: Vcenters,
    /// Datasets and their sealed keys.
    pub datasets: Datasets,
    /// Runs that have not ended.
    pub runs: Runs,
}

impl State {
    /// Refuses an event that does not fit.
    pub fn check(&self, at: Timestamp, event: &Event) -> Result<(), Fault> {
        match event {
            Event::Node(event) => self.nodes.check(at, event),
            Event::Token(event) => self.tokens.check(at, event),
            Event::Vcenter(event) => self.vcenters.check(at, event),
            Event::Dataset(event) => self.datasets.check(at, event),
            Event::Run { run, event } => self.runs.check(*run, event),
        }
    }

    /// Takes an event in that was journalled.
    pub fn apply(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Node(event) => self.nodes.apply(at, event),
            Event::Token(event) => self.tokens.apply(at, event),
            Event::Vcenter(event) => self.vcenters.apply(at, event),
            Event::Dataset(event) => self.datasets.apply(at, event),
            Event::Run { run, event } => self.runs.apply(at, *run, event),
        }
    }
}

struct Change {
    by: Actor,
    event: Event,
    answer: oneshot::Sender<Result<Arc<State>, Fault>>,
}

/// A handle to the memory; clones share it.
#[derive(Clone)]
pub struct Memory {
    changes: mpsc::SyncSender<Change>,
    published: watch::Receiver<Arc<State>>,
    projection: Arc<Projection>,
    clock: Arc<dyn Clock>,
}

impl Memory {
    /// Opens the journal in `dir`, replays it and starts the writer. Blocks.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, Fault> {
        todo!()
    }

    /// The state as of the last durable event.
    pub fn state(&self) -> Arc<State> {
        self.published.borrow().clone()
    }

    /// Sees every state that is published from now on, though not each one in between.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.published.clone()
    }

    /// The time that events are stamped with.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Checks, journals, syncs and applies `event`; the answer is a state that holds it.
    ///
    /// When this returns `Err` with the fault of a check, nothing was written. After an I/O error
    /// of the journal nothing more is accepted until the controller is restarted: what of the
    /// last batch is durable is not known.
    pub async fn append(&self, by: Actor, event: impl Into<Event>) -> Result<Arc<State>, Fault> {
        todo!()
    }

    /// [`Memory::append`] for threads that may block, such as `init` before any runtime.
    pub fn append_blocking(
        &self,
        by: Actor,
        event: impl Into<Event>,
    ) -> Result<Arc<State>, Fault> {
        todo!()
    }
}
