//! The loop: tells the scheduler what is so, has its decisions done, and sleeps.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;
use stillwater_controller_api::NodeLoad;
use stillwater_scheduler::Standing;
use stillwater_types::{Fault, NodeId, Role, RunId};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::book::{Book, Order};
use super::facts::{NodesNow, Promises, ProxyNow, RepositoryNow};
use crate::memory::{Memory, State};
use crate::metrics::Metrics;
use crate::node::{Directory, Node, Seen};
use crate::point::Points;
use crate::run::Run;

/// Heartbeats come without a word to anybody: what they changed is seen within this.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Runs go on in bursts of journal entries, and few of them change what can start.
const PAUSE: Duration = Duration::from_millis(200);
/// How many ended runs are read at the start: a month of a thousand VMs a day.
const RUNS_RECALLED: usize = 30_000;
/// How many points are.
const POINTS_RECALLED: usize = 100_000;
/// How many of either are read at a time.
const PAGE_LEN: usize = 256;

/// The book that the loop keeps; clones share it.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Book>>);

impl Shared {
    /// Shares a book.
    pub fn new(book: Book) -> Self {
        Self(Arc::new(Mutex::new(book)))
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        // A decision that panics half way would be found again by the next one, which is told everything anew
        // but what is held; runs that hold more than they have only wait.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the run of an order.
pub type Starter = Box<dyn Fn(Order) -> BoxFuture<'static, Result<RunId, Fault>> + Send + Sync>;
/// How many slots of each proxy are taken now.
pub type Taken = Box<dyn Fn() -> HashMap<NodeId, u32> + Send + Sync>;

/// Keeps the book, and every promise as far as there is enough for it.
pub struct Keeper {
    /// Knows runs and nodes.
    pub memory: Memory,
    /// Knows who is heard of.
    pub nodes: Directory,
    /// Knows the points of before the start.
    pub points: Points,
    /// What is promised to whom.
    pub promises: watch::Receiver<Arc<Promises>>,
    /// Starts runs.
    pub start: Starter,
    /// Knows who has slots.
    pub taken: Taken,
    /// Counts what was started.
    pub metrics: Metrics,
    /// What is known.
    pub shared: Shared,
}

impl Keeper {
    /// Keeps promises until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.memory.watch();
        let mut active = match stop.run_until_cancelled(self.recall()).await {
            Some(active) => active,
            None => return,
        };
        // Nothing is decided before it is known for whom.
        match stop.run_until_cancelled(self.promises.changed()).await {
            Some(Ok(())) => self.promises.mark_changed(),
            Some(Err(_)) | None => return,
        }
        loop {
            changes.mark_unchanged();
            active = self.round(active).await;
            let wake = self.sleeps_until();
            let woken = async {
                tokio::select! {
                    _ = changes.changed() => {}
                    _ = self.promises.changed() => self.promises.mark_changed(),
                    () = tokio::time::sleep_until(wake) => {}
                }
                tokio::time::sleep(PAUSE).await;
            };
            if stop.run_until_cancelled(woken).await.is_none() {
                return;
            }
        }
    }

    /// Takes in what was before the start; tells which runs are on their way.
    async fn recall(&self) -> BTreeSet<RunId> {
        let active: BTreeSet<RunId> = self.memory.state().runs.iter().map(|run| run.id).collect();
        let (memory, points, shared) = (
            self.memory.clone(),
            self.points.clone(),
            self.shared.clone(),
        );
        let on_their_way = active.clone();
        let read = tokio::task::spawn_blocking(move || {
            let told = recall_runs(&memory, &shared, &on_their_way);
            recall_points(&points, &shared, &told);
        });
        if read.await.is_err() {
            tracing::error!("reading what ran before panicked; promises are reckoned from now on");
        }
        active
    }

    /// One look, one decision, and what it starts; tells which runs were on their way before it.
    async fn round(&mut self, before: BTreeSet<RunId>) -> BTreeSet<RunId> {
        let state = self.memory.state();
        let active: BTreeSet<RunId> = state.runs.iter().map(|run| run.id).collect();
        let known = self.shared.book().running();
        let gone: BTreeSet<RunId> = before.union(&known).copied().collect();
        let ended = self
            .ended(gone.difference(&active).copied().collect())
            .await;
        let promises = match self.promises.has_changed() {
            Ok(true) => Some(Arc::clone(&self.promises.borrow_and_update())),
            Ok(false) | Err(_) => None,
        };
        let nodes = self.nodes_now(&state);
        let now = self.memory.now();
        let orders = {
            let mut book = self.shared.book();
            for (run, told) in &ended {
                match told {
                    Some(told) => book.ended(told, now),
                    None => book.vanished(*run, now),
                }
            }
            book.tell_nodes(nodes);
            if let Some(promises) = promises {
                book.tell_promises(&promises, now);
            }
            book.tell_active(state.runs.iter().map(AsRef::as_ref));
            let orders = book.decide(now);
            self.metrics.jobs_wait(book.waits());
            orders
        };
        join_all(orders.into_iter().map(|order| self.begin(order, now))).await;
        active
    }

    async fn begin(&self, order: Order, now: Timestamp) {
        match (self.start)(order.clone()).await {
            Ok(run) => {
                tracing::info!(run.id = %run, policy = order.policy.name, vm.id = %order.member.vm, "a policy's run was started");
                self.metrics.run_scheduled();
                self.shared.book().begun(&order, run);
            }
            Err(fault) => {
                tracing::warn!(policy = order.policy.name, vm.id = %order.member.vm, %fault, "a policy's run could not be started");
                self.shared.book().not_begun(&order, now);
            }
        }
    }

    async fn ended(&self, runs: BTreeSet<RunId>) -> Vec<(RunId, Option<Run>)> {
        if runs.is_empty() {
            return Vec::new();
        }
        let (memory, asked) = (self.memory.clone(), runs.clone());
        let read = tokio::task::spawn_blocking(move || {
            let each = asked.into_iter().map(|run| (run, memory.ended_run(run)));
            each.collect()
        });
        match read.await {
            Ok(read) => read,
            Err(_) => runs.into_iter().map(|run| (run, None)).collect(),
        }
    }

    fn nodes_now(&self, state: &State) -> NodesNow {
        let taken = (self.taken)();
        let members = |role| {
            let nodes = state.nodes.iter();
            nodes.filter(move |node| node.role == role && node.removed_at.is_none())
        };
        let repository = |node: &Node| {
            let dataset = state.datasets.of(node.node);
            let seen = self.fresh(node.node);
            RepositoryNow {
                node: node.node,
                name: node.name.clone(),
                accepts: dataset.is_some_and(|dataset| dataset.is_ready)
                    && seen.is_some_and(|seen| seen.load.writable_bytes > 0),
            }
        };
        let proxy = |node: &Node| {
            let seen = self.fresh(node.node);
            let standing = match &seen {
                None => Standing::Lost,
                Some(_) if node.draining_since.is_some() => Standing::Draining,
                Some(_) => Standing::Online,
            };
            let load = seen.as_ref().map_or(NodeLoad::default(), |seen| seen.load);
            ProxyNow {
                node: node.node,
                slots: load.transfer_slots,
                taken: taken.get(&node.node).copied().unwrap_or_default(),
                standing,
                reach: seen.and_then(|seen| seen.reach).unwrap_or_default(),
            }
        };
        NodesNow {
            repositories: members(Role::Repository).map(repository).collect(),
            proxies: members(Role::Proxy).map(proxy).collect(),
        }
    }

    fn fresh(&self, node: NodeId) -> Option<Seen> {
        self.nodes.last(node).filter(Seen::is_fresh)
    }

    fn sleeps_until(&self) -> Instant {
        let now = self.memory.now();
        let wake = self.shared.book().next_wake(now);
        let until = wake.and_then(|wake| Duration::try_from(wake.duration_since(now)).ok());
        Instant::now() + until.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
    }
}

/// Tells the book of the runs that have ended, the newest first and a page at a time: a month of them would not
/// fit in memory. Tells which. Blocks on the disk.
fn recall_runs(memory: &Memory, shared: &Shared, active: &BTreeSet<RunId>) -> BTreeSet<RunId> {
    let mut told = BTreeSet::new();
    let mut before = None;
    while told.len() < RUNS_RECALLED {
        let page = memory.ended_runs(before, PAGE_LEN);
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        let mut book = shared.book();
        for run in page.iter().filter(|run| !active.contains(&run.id)) {
            book.remember(run);
        }
        told.extend(page.iter().map(|run| run.id));
    }
    told
}

/// Tells the book of points whose runs are not known any more. Blocks on the disk.
fn recall_points(points: &Points, shared: &Shared, told: &BTreeSet<RunId>) {
    let mut before = None;
    for _ in 0..POINTS_RECALLED / PAGE_LEN {
        let (page, next) = points.page(before, PAGE_LEN, |_| true);
        let mut book = shared.book();
        // A run tells better of when its point is than the moment of its commit.
        for point in page.iter().filter(|point| !told.contains(&point.run)) {
            book.saw(&point.vm, point.repository, point.committed_at);
        }
        before = next;
        if before.is_none() {
            return;
        }
    }
}
