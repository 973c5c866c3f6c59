//! Third stage of a backup: what of it does the repository not have?

use std::collections::HashSet;
use std::sync::Mutex;

use stillwater_repository_api::RecordType;
use stillwater_rpc::retry;
use stillwater_types::Fault;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::cut::{Chunk, Found, Node};
use super::limits::Limits;
use super::progress::{Progress, add};
use super::store::RecordStore;
use crate::error::{Error, Result};

/// Ids that this transfer has on the way and that are not yet durable. The repository does not know
/// them, and they must not be sent twice. What is durable it does know, so the set stays small.
#[derive(Default)]
pub(super) struct OnTheWay(Mutex<HashSet<[u8; 32]>>);

impl OnTheWay {
    fn contains(&self, id: &[u8; 32]) -> bool {
        self.lock().contains(id)
    }

    fn insert(&self, id: [u8; 32]) {
        self.lock().insert(id);
    }

    /// They are durable now.
    pub(super) fn remove<'a>(&self, ids: impl Iterator<Item = &'a [u8; 32]>) {
        let mut set = self.lock();
        ids.for_each(|id| {
            set.remove(id);
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        // No code can panic while it holds the lock, and a set of ids has no broken states.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Something to be stored.
pub(super) enum New {
    Chunk(Chunk),
    Node(Node),
}

impl New {
    fn id(&self) -> &[u8; 32] {
        match self {
            New::Chunk(chunk) => chunk.id.as_bytes(),
            New::Node(node) => node.id.as_bytes(),
        }
    }

    const fn kind(&self) -> RecordType {
        match self {
            New::Chunk(_) => RecordType::Chunk,
            New::Node(_) => RecordType::Node,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            New::Chunk(chunk) => chunk.bytes.len(),
            New::Node(node) => node.bytes.len(),
        }
    }
}

/// What the stage works with.
pub(super) struct Finder<'a> {
    pub store: &'a dyn RecordStore,
    pub limits: &'a Limits,
    pub progress: &'a Progress,
    pub on_the_way: &'a OnTheWay,
}

impl Finder<'_> {
    /// Asks for everything that waits at once, however much that is: it never waits for more.
    pub(super) async fn run(
        &self,
        mut found: mpsc::Receiver<Found>,
        out: mpsc::Sender<Vec<New>>,
    ) -> Result<()> {
        let mut batch = Vec::with_capacity(self.limits.queue_items);
        while found.recv_many(&mut batch, self.limits.queue_items).await > 0 {
            let new = self
                .unknown(batch.drain(..).filter_map(|item| self.count(item)))
                .await?;
            for job in jobs(new, self.limits.job_bytes) {
                out.send(job).await.map_err(|_| Error::Stopped)?;
            }
        }
        Ok(())
    }

    fn count(&self, found: Found) -> Option<New> {
        match found {
            Found::Hole { length } => {
                self.progress.hole(length);
                None
            }
            Found::Shared { length } => {
                add(&self.progress.done, length);
                None
            }
            Found::Chunk(chunk) => {
                add(&self.progress.chunks, 1);
                Some(New::Chunk(chunk))
            }
            Found::Node(node) => Some(New::Node(node)),
        }
    }

    /// Leaves out what is stored, what is on the way, and repeats.
    async fn unknown(&self, items: impl Iterator<Item = New>) -> Result<Vec<New>> {
        let mut asked = HashSet::new();
        let mut candidates = Vec::new();
        for item in items {
            if !self.on_the_way.contains(item.id()) && asked.insert(*item.id()) {
                candidates.push(item);
            } else {
                self.known(&item);
            }
        }
        let chunks = self.stored(&candidates, RecordType::Chunk).await?;
        let nodes = self.stored(&candidates, RecordType::Node).await?;
        candidates.retain(|item| {
            let new = !chunks.contains(item.id()) && !nodes.contains(item.id());
            if new {
                self.on_the_way.insert(*item.id());
                self.fresh(item);
            } else {
                self.known(item);
            }
            new
        });
        Ok(candidates)
    }

    /// Which of the candidates of one kind the repository has.
    async fn stored(&self, candidates: &[New], kind: RecordType) -> Result<HashSet<[u8; 32]>> {
        let ids: Vec<[u8; 32]> = candidates
            .iter()
            .filter(|item| item.kind() == kind)
            .map(|item| *item.id())
            .collect();
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let never = CancellationToken::new();
        let ask = async || self.store.find(kind, ids.clone()).await;
        let found: Result<Vec<bool>, Fault> =
            retry::repeat(&self.limits.call_backoff, &never, ask).await;
        let found = found.map_err(Error::Repository)?;
        if found.len() != ids.len() {
            return Err(Error::WrongAnswer(
                "the repository left out some of the ids asked for",
            ));
        }
        Ok(ids
            .into_iter()
            .zip(found)
            .filter_map(|(id, found)| found.then_some(id))
            .collect())
    }

    fn known(&self, item: &New) {
        if let New::Chunk(chunk) = item {
            add(&self.progress.done, chunk.bytes.len() as u64);
        }
    }

    fn fresh(&self, item: &New) {
        if let New::Chunk(chunk) = item {
            add(&self.progress.new_chunks, 1);
            add(&self.progress.new, chunk.bytes.len() as u64);
        }
    }
}

/// Groups what is new into work of at most `bytes`, or of one item.
fn jobs(new: Vec<New>, bytes: usize) -> Vec<Vec<New>> {
    let mut jobs: Vec<Vec<New>> = Vec::new();
    let mut size = bytes;
    for item in new {
        size += item.bytes();
        match jobs.last_mut() {
            Some(job) if size <= bytes => job.push(item),
            _ => {
                size = item.bytes();
                jobs.push(vec![item]);
            }
        }
    }
    jobs
}
