//! The controller's memory: what the journal says, as a state that is cheap to read.
//!
//! One thread writes. It checks each event against the state, journals it, syncs, applies, and only
//! then answers and publishes; events that wait meanwhile share the next sync. Readers take the
//! published state without waiting for the disk. The state holds what is current; runs that ended
//! live in the projection.

mod writer;

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use stillwater_catalog::{Clock, Journal, Projection};
use stillwater_types::{Fault, Reason, RunId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::alarm::Board;
use crate::dataset::Datasets;
use crate::event::{Actor, Event, Part};
use crate::guest::Credentials;
use crate::node::Nodes;
use crate::notice::{self, Notice};
use crate::point::Verifications;
use crate::policy::Policies;
use crate::run::{Run, Runs};
use crate::token::Tokens;
use crate::vcenter::{VcenterEvent, Vcenters};

use writer::{Change, Writer};

/// How many changes may wait for the writer; more make their callers wait.
const QUEUE_LEN: usize = 256;
const JOURNAL_FILE: &str = "journal";
const PROJECTION_DIR: &str = "projection";
/// The projection's tree of runs that ended, by run id.
const RUNS: &str = "runs";
/// The projection's tree of notices, by the number of their entry.
const NOTICES: &str = "notices";
/// Of how many entries of the journal the notices are kept.
pub const NOTICES_KEPT: u64 = 1_000_000;

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
    /// Alarms that stand, and the last ones that are over.
    pub alarms: Board,
    /// Accounts in guests and their sealed passwords.
    pub credentials: Credentials,
    /// What is promised.
    pub policies: Policies,
    /// Runs that have not ended.
    pub runs: Runs,
    /// When which point was proved last.
    pub verifications: Verifications,
    /// How many entries of the journal it is made of.
    pub entries: u64,
}

/// What of an event goes into rows.
#[derive(Debug, Default)]
pub struct Applied {
    /// The run that it ended.
    pub ended: Option<Arc<Run>>,
    /// What it told.
    pub notice: Option<Notice>,
}

impl State {
    /// Refuses an event that does not fit.
    ///
    /// # Errors
    /// What the part says.
    pub fn check(&self, at: Timestamp, event: &Event) -> Result<(), Fault> {
        match event {
            Event::Node(event) => self.nodes.check(at, event),
            Event::Token(event) => self.tokens.check(at, event),
            Event::Vcenter(event) => self.vcenters.check(at, event),
            Event::Dataset(event) => self.datasets.check(at, event),
            Event::Alarm(event) => self.alarms.check(at, event),
            Event::Credential(event) => self.credentials.check(at, event),
            Event::Policy(event) => self.policies.check(at, event),
            Event::Run { run, event } => self.runs.check(*run, event),
        }
    }

    /// Takes an event in that was journalled.
    pub fn apply(&mut self, at: Timestamp, by: &str, event: &Event) -> Applied {
        self.entries += 1;
        let told = notice::tell(self, event);
        let number = self.entries;
        Applied {
            ended: self.take(at, event),
            notice: told.map(|told| Notice {
                number,
                at,
                by: by.to_owned(),
                told,
            }),
        }
    }

    /// Changes what the event is about; a run that it ended is given out.
    fn take(&mut self, at: Timestamp, event: &Event) -> Option<Arc<Run>> {
        match event {
            Event::Node(event) => self.nodes.apply(at, event),
            Event::Token(event) => self.tokens.apply(at, event),
            Event::Vcenter(event) => {
                if let VcenterEvent::Removed { vcenter } = event {
                    self.credentials.forget_vcenter(*vcenter);
                }
                self.vcenters.apply(at, event);
            }
            Event::Dataset(event) => self.datasets.apply(at, event),
            Event::Alarm(event) => self.alarms.apply(at, event),
            Event::Credential(event) => self.credentials.apply(at, event),
            Event::Policy(event) => self.policies.apply(at, event),
            Event::Run { run, event } => {
                let ended = self.runs.apply(at, *run, event);
                if let Some(ended) = &ended {
                    self.verifications.note(at, ended);
                }
                return ended;
            }
        }
        None
    }
}

/// A handle to the memory; clones share it. The writer ends with the last of them.
#[derive(Clone)]
pub struct Memory {
    changes: mpsc::Sender<Change>,
    published: watch::Receiver<Arc<State>>,
    projection: Arc<Projection>,
    clock: Arc<dyn Clock>,
}

impl Memory {
    /// Opens the journal in `dir`, replays it and starts the writer. Blocks.
    ///
    /// # Errors
    /// `JOURNAL_CORRUPT`, `FORMAT_TOO_NEW`, or `STORAGE_FAILED` when another process has it.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, Fault> {
        let path = dir.join(JOURNAL_FILE);
        let mut fold = writer::Fold::default();
        let journal = Journal::open(&path, |entry, position| fold.take(&entry, position))?;
        let projection = Arc::new(writer::open_projection(
            &dir.join(PROJECTION_DIR),
            path,
            &fold,
        ));
        let state = Arc::new(fold.state);
        let (changes, queue) = mpsc::channel(QUEUE_LEN);
        let (publish, published) = watch::channel(Arc::clone(&state));
        let writer = Writer {
            journal,
            projection: Arc::clone(&projection),
            state,
            publish,
            clock: Arc::clone(&clock),
        };
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(|error| {
                Fault::new(
                    Reason::StorageFailed,
                    format!("start the journal's thread: {error}"),
                )
            })?;
        Ok(Self {
            changes,
            published,
            projection,
            clock,
        })
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
    /// # Errors
    /// The fault of the check, and nothing was written; or `STORAGE_FAILED`, after which nothing
    /// more is accepted until the controller is restarted: what of the last batch is durable is not
    /// known.
    pub async fn append(&self, by: Actor, event: impl Into<Event>) -> Result<Arc<State>, Fault> {
        let (change, answer) = change(by, event.into());
        self.changes.send(change).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// [`Memory::append`] for threads that may block, such as `init` before any runtime.
    ///
    /// # Errors
    /// As [`Memory::append`].
    ///
    /// # Panics
    /// When called on an async thread.
    pub fn append_blocking(&self, by: Actor, event: impl Into<Event>) -> Result<Arc<State>, Fault> {
        let (change, answer) = change(by, event.into());
        self.changes.blocking_send(change).map_err(|_| stopped())?;
        answer.blocking_recv().map_err(|_| stopped())?
    }

    /// Rows that can be worked out again. Its calls block on the disk.
    pub fn projection(&self) -> &Arc<Projection> {
        &self.projection
    }

    /// A run that has ended. Blocks on the disk.
    pub fn ended_run(&self, run: RunId) -> Option<Run> {
        decode(&self.projection.load(RUNS, run.as_bytes())?)
    }

    /// Runs that have ended, newest first, older than `before`. Blocks on the disk.
    pub fn ended_runs(&self, before: Option<RunId>, limit: usize) -> Vec<Run> {
        let before = before.as_ref().map(|run| run.as_bytes().as_slice());
        let rows = self.projection.page(RUNS, before, limit);
        rows.iter().filter_map(|(_, row)| decode(row)).collect()
    }

    /// What the entry of that number told, if it told something that is kept. Blocks on the disk.
    pub fn notice(&self, number: u64) -> Option<Notice> {
        decode(&self.projection.load(NOTICES, &number.to_be_bytes())?)
    }

    /// Notices, newest first, older than `before`. Blocks on the disk.
    pub fn notices(&self, before: Option<u64>, limit: usize) -> Vec<Notice> {
        let before = before.map(u64::to_be_bytes);
        let before = before.as_ref().map(<[u8; 8]>::as_slice);
        let rows = self.projection.page(NOTICES, before, limit);
        rows.iter().filter_map(|(_, row)| decode(row)).collect()
    }
}

fn decode<T: DeserializeOwned>(row: &[u8]) -> Option<T> {
    match serde_json::from_slice(row) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::error!(%error, "a row of the projection cannot be read; remove the projection's directory");
            None
        }
    }
}

fn change(by: Actor, event: Event) -> (Change, oneshot::Receiver<Result<Arc<State>, Fault>>) {
    let (answer, answered) = oneshot::channel();
    (Change { by, event, answer }, answered)
}

fn stopped() -> Fault {
    Fault::new(
        Reason::StorageFailed,
        "the journal's thread has stopped; restart the controller",
    )
}

#[cfg(test)]
mod tests;
