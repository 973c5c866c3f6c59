//! The one thread that changes the memory.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use stillwater_catalog::{
    Clock, Draft, Entry, Journal, KeyValue, Position, Projection, Write, replay,
};
use stillwater_types::Fault;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Applied, NOTICES, NOTICES_KEPT, RUNS, State};
use crate::event::{Actor, Event};

/// How many changes share one sync at most.
const BATCH_LEN: usize = 64;
/// How many rows a rebuild writes at a time.
const REBUILD_LEN: usize = 256;

/// One change and who waits for it.
pub(super) struct Change {
    pub by: Actor,
    pub event: Event,
    pub answer: oneshot::Sender<Result<Arc<State>, Fault>>,
}

/// How many entries the projection may lag after a crash and still be caught up instead of rebuilt:
/// more than half a second of them, which is how often sled writes on its own.
const LAG_MAX: usize = 4096;

/// The journal folded into a state, with the last entries' places and what they changed.
pub(super) struct Fold {
    pub state: State,
    recent: VecDeque<Recent>,
}

/// An entry near the journal's end. Its rows are made when they are missing, which they seldom are.
struct Recent {
    position: Position,
    number: u64,
    applied: Applied,
}

impl Default for Fold {
    fn default() -> Self {
        let state = State::default();
        Self {
            state,
            recent: VecDeque::from([Recent {
                position: Position::default(),
                number: 0,
                applied: Applied::default(),
            }]),
        }
    }
}

impl Fold {
    pub fn take(&mut self, entry: &Entry<Event>, position: Position) {
        let applied = self.state.apply(entry.at, &entry.by, &entry.event);
        if self.recent.len() >= LAG_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent {
            position,
            number: self.state.entries,
            applied,
        });
    }

    /// Where `watermark` is in what is kept; none when it is no place near the journal's end.
    fn place(&self, watermark: &Position) -> Option<usize> {
        let mut recent = self.recent.iter();
        recent.position(|recent| recent.position == *watermark)
    }

    /// The rows of what came after `watermark`.
    fn since(&self, watermark: &Position) -> Option<Vec<Write>> {
        let missing = self.recent.iter().skip(self.place(watermark)? + 1);
        let rows = missing.flat_map(|recent| rows(&recent.applied, recent.number));
        Some(rows.collect())
    }
}

/// Opens the projection and brings it up to the journal's end.
pub(super) fn open_projection(dir: &Path, journal: PathBuf, fold: &Fold) -> Projection {
    let projection = Projection::open(
        dir,
        |watermark| fold.place(watermark).is_some(),
        move |store| rebuild(&journal, store),
    );
    let behind = projection
        .watermark()
        .and_then(|watermark| fold.since(&watermark));
    if let (Some(rows), Some(end)) = (behind, fold.recent.back()) {
        projection.write(&rows, Some(&end.position));
    }
    projection
}

fn rebuild(journal: &Path, store: &dyn KeyValue) -> Result<(), String> {
    let (mut state, mut all, mut failed) = (State::default(), Vec::new(), None);
    let replayed = replay(journal, |entry: Entry<Event>, _| {
        let applied = state.apply(entry.at, &entry.by, &entry.event);
        all.extend(rows(&applied, state.entries));
        if all.len() >= REBUILD_LEN {
            failed = failed.take().or(store.write(&all, None).err());
            all.clear();
        }
    });
    let end = replayed.map_err(|error| format!("replay the journal: {error}"))?;
    match failed {
        Some(broken) => Err(broken),
        None => store.write(&all, Some(&end)),
    }
}

/// The rows that change with the entry of that number.
pub(super) fn rows(applied: &Applied, number: u64) -> Vec<Write> {
    let Applied { ended, notice } = applied;
    let ended = ended.as_deref();
    let ended = ended.and_then(|run| row(RUNS, run.id.as_bytes(), run));
    let notice = notice.as_ref();
    let notice = notice.and_then(|told| row(NOTICES, &told.number.to_be_bytes(), told));
    // Most entries told nothing; removing what is not there costs next to nothing.
    let old = number.checked_sub(NOTICES_KEPT);
    let old = old.map(|old| Write::Remove(NOTICES, old.to_be_bytes().to_vec()));
    ended.into_iter().chain(notice).chain(old).collect()
}

fn row(tree: &'static str, key: &[u8], value: &impl Serialize) -> Option<Write> {
    match serde_json::to_vec(value) {
        Ok(value) => Some(Write::Put(tree, key.to_vec(), value)),
        Err(error) => {
            tracing::error!(tree, %error, "cannot project a row");
            None
        }
    }
}

pub(super) struct Writer {
    pub journal: Journal<Event>,
    pub projection: Arc<Projection>,
    pub state: Arc<State>,
    pub publish: watch::Sender<Arc<State>>,
    pub clock: Arc<dyn Clock>,
}

impl Writer {
    /// Works until the last handle of the memory is gone.
    pub fn run(mut self, mut queue: mpsc::Receiver<Change>) {
        let mut batch = Vec::with_capacity(BATCH_LEN);
        while queue.blocking_recv_many(&mut batch, BATCH_LEN) > 0 {
            self.commit(batch.drain(..));
        }
    }

    /// Makes a batch durable, then visible, then answers. Until the sync the published state stays
    /// as it was: nobody acts on an event that may be lost.
    fn commit(&mut self, batch: impl Iterator<Item = Change>) {
        let mut next = State::clone(&self.state);
        let (mut drafts, mut all, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        let mut refused = Vec::new();
        for Change { by, event, answer } in batch {
            let at = self.clock.now();
            let draft = Draft {
                at,
                by: by.to_string(),
                event,
            };
            // One that does not fit must not take the others of its batch with it.
            let checked = next
                .check(at, &draft.event)
                .and_then(|()| Ok(Journal::check(&draft)?));
            if let Err(fault) = checked {
                refused.push((answer, fault));
                continue;
            }
            let applied = next.apply(at, &draft.by, &draft.event);
            all.extend(rows(&applied, next.entries));
            drafts.push(draft);
            waiting.push(answer);
        }
        if !drafts.is_empty() {
            self.write(next, &drafts, &all, waiting);
        }
        // Only now: one may have been refused for another of the batch, and whoever is told so looks
        // for that one.
        for (answer, fault) in refused {
            reply(answer, Err(fault));
        }
    }

    fn write(
        &mut self,
        next: State,
        drafts: &[Draft<Event>],
        rows: &[Write],
        waiting: Vec<oneshot::Sender<Result<Arc<State>, Fault>>>,
    ) {
        match self.journal.append(drafts) {
            Ok(position) => {
                self.projection.write(rows, Some(&position));
                self.state = Arc::new(next);
                self.publish.send_replace(Arc::clone(&self.state));
                waiting
                    .into_iter()
                    .for_each(|answer| reply(answer, Ok(Arc::clone(&self.state))));
            }
            Err(error) => {
                let fault = Fault::from(error);
                tracing::error!(%fault, "cannot journal");
                waiting
                    .into_iter()
                    .for_each(|answer| reply(answer, Err(fault.clone())));
            }
        }
    }
}

fn reply(answer: oneshot::Sender<Result<Arc<State>, Fault>>, result: Result<Arc<State>, Fault>) {
    if answer.send(result).is_err() {
        tracing::debug!("whoever asked for a change did not wait for it");
    }
}
