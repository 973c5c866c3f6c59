//! The run engine as the rest of the controller sees it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use stillwater_catalog::SystemClock;
use stillwater_controller_api as api;
use stillwater_types::{Fault, Reason, RequestId, RunId};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::act::{Bays, World};
use super::bases::Bases;
use super::budget::Budgets;
use super::event::{RunEvent, Work};
use super::peers::Peers;
use super::probe;
use super::reaper::Reaper;
use super::runner::{Message, Runner};
use super::scratch::Scratch;
use super::service::Service;
use super::slots::Slots;
use super::state::Run;
use super::turnstile::Turnstile;
use super::vcenters::Vcenters;
use super::view::view;
use crate::config::Config;
use crate::dataset::Keeper;
use crate::event::{Actor, Event};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::point::{self, Points};
use crate::policy::Scopes;
use crate::preflight;
use crate::repository;
use crate::resources::Resources;
use crate::retention::{Expirer, Ledger};
use crate::schedule::{self, Shared, Warden};

/// How many requests to a run may wait for its loop.
const MAILBOX_LEN: usize = 16;
/// How long the loop of a run that was just journalled may take to begin.
const LOOP_BEGINS: Duration = Duration::from_secs(2);

/// The run engine; clones share it.
#[derive(Clone)]
pub struct Engine {
    runs: Runs,
    services: Arc<Services>,
    tasks: TaskTracker,
}

struct Services {
    vms: Arc<preflight::Service>,
    probes: Arc<probe::Service>,
    runs: Arc<Service>,
    points: Arc<point::Service>,
    repositories: Arc<repository::Service>,
    upkeep: Arc<dyn repository::Upkeep>,
}

/// Who keeps what policies promise.
pub struct Kept {
    /// What is known of the promises.
    pub book: Shared,
    /// Judges points.
    pub expirer: Expirer,
}

impl Engine {
    /// Takes up what an earlier controller left unfinished, and waits for work. Must be called
    /// inside a tokio runtime.
    pub fn start(memory: Memory, resources: Resources, config: &Config) -> Self {
        let peers = Arc::new(Peers::new(
            resources.identity.clone(),
            resources.nodes.clone(),
        ));
        let points = Points::new(
            memory.clone(),
            resources.nodes.clone(),
            peers.clone(),
            resources.secrets.clone(),
        );
        let world = World {
            cluster: resources.cluster,
            memory: memory.clone(),
            nodes: resources.nodes.clone(),
            points: points.clone(),
            vsphere: Arc::new(Vcenters::new(
                resources.vcenters.clone(),
                config.snapshots.patience(),
            )),
            proxies: peers.clone(),
            repositories: peers.clone(),
            grants: resources.grants.clone(),
            secrets: resources.secrets.clone(),
            clock: Arc::new(SystemClock),
            slots: Slots::new(resources.nodes.clone()),
            turns: Arc::new(tokio::sync::Semaphore::new(
                config.limits.parallel_runs as usize,
            )),
            stuck: Mutex::default(),
            bays: Bays::default(),
            hot_adds: config.transports.hot_add,
            budgets: Budgets::new(config.limits.host_limits()),
            timing: config.snapshots.timing(),
            trust: config.change_maps.trust(),
            bases: Bases::default(),
            guards: config.guards.guards(),
            turnstile: Turnstile::new(&config.guards.guards()),
            reads_nfc: config.transports.nfc,
        };
        let keeper = Keeper {
            memory: memory.clone(),
            nodes: resources.nodes.clone(),
            repositories: peers.clone(),
            secrets: resources.secrets.clone(),
            recovery: resources.recovery,
        };
        let runs = Runs::launch(Arc::new(world));
        let points = point::Service::new(
            memory.clone(),
            points,
            peers.clone(),
            peers.clone(),
            resources.secrets.clone(),
            resources.inventory.clone(),
        );
        let tasks = runs.tasks.clone();
        tasks.spawn(keeper.run(runs.stop.clone()));
        tasks.spawn(points.clone().keep_fresh(runs.stop.clone()));
        let inventory = resources.inventory;
        let vms = preflight::Service::new(inventory.clone(), Arc::clone(&runs.world));
        let probes = probe::Service::new(
            inventory.clone(),
            Arc::clone(&runs.world),
            tasks.clone(),
            runs.stop.clone(),
        );
        let service = Service::new(
            runs.clone(),
            points.clone(),
            inventory,
            config.restores.restorers(),
        );
        let services = Services {
            vms: Arc::new(vms),
            probes: Arc::new(probes),
            runs: Arc::new(service),
            upkeep: peers.clone(),
            repositories: Arc::new(repository::Service::new(
                memory,
                resources.nodes,
                peers,
                points.clone(),
            )),
            points: Arc::new(points),
        };
        Self {
            runs,
            services: Arc::new(services),
            tasks,
        }
    }

    /// Answers for runs.
    pub fn runs(&self) -> Arc<Service> {
        Arc::clone(&self.services.runs)
    }

    /// Answers for VMs.
    pub fn vms(&self) -> Arc<preflight::Service> {
        Arc::clone(&self.services.vms)
    }

    /// Answers for probes.
    pub fn probes(&self) -> Arc<probe::Service> {
        Arc::clone(&self.services.probes)
    }

    /// Answers for points.
    pub fn points(&self) -> Arc<point::Service> {
        Arc::clone(&self.services.points)
    }

    /// Answers for repositories.
    pub fn repositories(&self) -> Arc<repository::Service> {
        Arc::clone(&self.services.repositories)
    }

    /// Keeps what policies promise for as long as the engine takes work; what is known of it is shared.
    pub fn keep(&self, scopes: Scopes, config: &Config, metrics: Metrics) -> Kept {
        let world = &self.runs.world;
        let (runs, slots) = (self.runs.clone(), world.slots.clone());
        let shared = Shared::new(config.book());
        let (told, promises) = watch::channel(Arc::default());
        let look_every = config.scheduler.look_every.0;
        let expirer = Expirer {
            memory: world.memory.clone(),
            points: world.points.clone(),
            upkeep: self.services.upkeep.clone(),
            promises: promises.clone(),
            metrics: metrics.clone(),
            ledger: Ledger::default(),
        };
        let keeper = schedule::Keeper {
            memory: world.memory.clone(),
            nodes: world.nodes.clone(),
            points: world.points.clone(),
            promises,
            start: Box::new(move |order| {
                let runs = runs.clone();
                let start = async move {
                    let (by, request) = (Actor::Controller, RequestId::mint());
                    let run = runs.start(by, request, order.work()).await?;
                    Ok(run.run_id)
                };
                start.boxed()
            }),
            taken: Box::new(move || slots.taken()),
            metrics,
            shared: shared.clone(),
        };
        let warden = Warden {
            memory: world.memory.clone(),
            shared: shared.clone(),
        };
        self.tasks
            .spawn(scopes.run(look_every, told, self.runs.stop.clone()));
        self.tasks.spawn(keeper.run(self.runs.stop.clone()));
        self.tasks.spawn(warden.run(self.runs.stop.clone()));
        let expire_every = config.scheduler.expire_every.0;
        let expires = expirer.clone().run(expire_every, self.runs.stop.clone());
        self.tasks.spawn(expires);
        Kept {
            book: shared,
            expirer,
        }
    }

    /// Takes no more work and waits at most `limit` for the runs to end. What has not ended then is
    /// dropped as a kill would drop it: the journal knows it, and the next start cleans up.
    pub async fn park(&self, limit: Duration) {
        self.runs.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("runs are parked; the next start cleans up after them");
            self.runs.abort.cancel();
        }
    }
}

/// All runs at work; clones share them.
#[derive(Clone)]
pub struct Runs {
    world: Arc<World>,
    active: Arc<Mutex<HashMap<RunId, Handle>>>,
    tasks: TaskTracker,
    /// No more work is taken.
    stop: CancellationToken,
    /// Work is dropped.
    abort: CancellationToken,
}

struct Handle {
    mailbox: mpsc::Sender<Message>,
    scratch: Arc<Scratch>,
}

impl Runs {
    /// Takes up what is unfinished and begins to reap.
    pub fn launch(world: Arc<World>) -> Self {
        let runs = Self {
            world: Arc::clone(&world),
            active: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        };
        let unfinished: Vec<Arc<Run>> = world.memory.state().runs.iter().cloned().collect();
        for run in unfinished {
            tracing::info!(run.id = %run.id, stage = ?run.stage, "take up an unfinished run");
            runs.spawn(run, Runner::recover);
        }
        runs.tasks.spawn(Reaper::new(world).run(runs.stop.clone()));
        runs
    }

    fn spawn<F>(&self, run: Arc<Run>, work: impl FnOnce(Runner) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (mailbox, inbox) = mpsc::channel(MAILBOX_LEN);
        let scratch = Arc::<Scratch>::default();
        let run_id = run.id;
        let runner = Runner::new(Arc::clone(&self.world), run, Arc::clone(&scratch), inbox);
        self.active().insert(run_id, Handle { mailbox, scratch });
        let work = work(runner);
        let (runs, abort) = (self.clone(), self.abort.clone());
        self.tasks.spawn(async move {
            if abort.run_until_cancelled(work).await.is_none() {
                tracing::debug!(run.id = %run_id, "run was dropped");
            }
            runs.active().remove(&run_id);
        });
    }

    /// Starts a run, or answers with the one that the request started before.
    ///
    /// # Errors
    /// `RUN_ACTIVE`, `DRAINING`, and those of the journal.
    pub async fn start(
        &self,
        by: Actor,
        request: RequestId,
        work: Work,
    ) -> Result<api::Run, Fault> {
        if let Some(run) = self.of_request(request) {
            return self.tell(run).await;
        }
        if self.stop.is_cancelled() {
            return Err(Fault::new(
                Reason::Draining,
                "the controller is stopping; try again soon",
            ));
        }
        let run = RunId::mint();
        let event = Box::new(RunEvent::Started { request, work });
        let state = match self
            .world
            .memory
            .append(by, Event::Run { run, event })
            .await
        {
            Ok(state) => state,
            // The same request came twice at once, and the other was first.
            Err(fault) => match self.of_request(request) {
                Some(first) => return self.tell(first).await,
                None => return Err(fault),
            },
        };
        if let Some(started) = state.runs.find(run) {
            tracing::info!(run.id = %run, %by, work = ?started.work, "run started");
            self.spawn(Arc::clone(started), Runner::start);
        }
        self.tell(run).await
    }

    /// What runs work with.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The run that a request was answered with.
    pub fn of_request(&self, request: RequestId) -> Option<RunId> {
        self.world.memory.state().runs.of_request(request)
    }

    /// Asks a run to stop. One that has ended is left as it is.
    ///
    /// # Errors
    /// `RUN_NOT_FOUND`, and `STORAGE_FAILED` when the run's loop has stopped.
    pub async fn cancel(&self, by: Actor, run: RunId) -> Result<api::Run, Fault> {
        if let Some(mailbox) = self.mailbox(run).await?
            && mailbox.send((by, RunEvent::CancelRequested)).await.is_err()
        {
            tracing::debug!(run.id = %run, "the run ended before it could be cancelled");
        }
        self.tell(run).await
    }

    /// How to ask something of a run; none when it has ended. A run is known a moment before its loop
    /// begins, and one whose loop has stopped must not look as if it had been asked.
    async fn mailbox(&self, run: RunId) -> Result<Option<mpsc::Sender<Message>>, Fault> {
        let until = tokio::time::Instant::now() + LOOP_BEGINS;
        loop {
            let mailbox = self.active().get(&run).map(|handle| handle.mailbox.clone());
            if mailbox.is_some() || self.world.memory.state().runs.find(run).is_none() {
                return Ok(mailbox);
            }
            if tokio::time::Instant::now() > until {
                return Err(Fault::new(
                    Reason::StorageFailed,
                    "the run is parked; restart the controller, which ends it",
                )
                .with("run", run));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// One run, at work or ended.
    ///
    /// # Errors
    /// `RUN_NOT_FOUND`.
    pub async fn tell(&self, run: RunId) -> Result<api::Run, Fault> {
        if let Some(told) = self.tell_active(run) {
            return Ok(told);
        }
        let memory = self.world.memory.clone();
        let ended = blocking(move || memory.ended_run(run)).await?;
        let nodes = &self.world.memory.state().nodes;
        ended.map(|run| view(&run, None, nodes)).ok_or_else(|| {
            Fault::new(
                Reason::RunNotFound,
                "no such run; `stillwater run list` names the runs",
            )
            .with("run", run)
        })
    }

    fn tell_active(&self, run: RunId) -> Option<api::Run> {
        let state = self.world.memory.state();
        let found = state.runs.find(run)?;
        let scratch = self
            .active()
            .get(&run)
            .map(|handle| Arc::clone(&handle.scratch));
        Some(match scratch {
            Some(scratch) => view(found, Some(&scratch.notes()), &state.nodes),
            None => view(found, None, &state.nodes),
        })
    }

    /// A page of runs, newest first, older than `before`.
    ///
    /// # Errors
    /// `BUG` when reading panicked.
    pub async fn list(&self, before: Option<RunId>, limit: usize) -> Result<Vec<api::Run>, Fault> {
        // Active ones first: a run that ends in between is then told twice rather than not at all.
        let state = self.world.memory.state();
        let is_older = |run: &RunId| before.is_none_or(|before| *run < before);
        let active = state
            .runs
            .iter()
            .rev()
            .map(|run| run.id)
            .filter(is_older)
            .take(limit);
        let mut told: Vec<api::Run> = active.filter_map(|run| self.tell_active(run)).collect();
        let memory = self.world.memory.clone();
        let ended = blocking(move || memory.ended_runs(before, limit)).await?;
        for run in ended {
            if !told.iter().any(|active| active.run_id == run.id) {
                told.push(view(&run, None, &state.nodes));
            }
        }
        told.sort_by_key(|run| std::cmp::Reverse(run.run_id));
        told.truncate(limit);
        Ok(told)
    }

    /// What is known, and sees what changes.
    pub fn memory(&self) -> &Memory {
        &self.world.memory
    }

    #[cfg(test)]
    pub(super) async fn drop_all(&self) {
        self.stop.cancel();
        self.abort.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn active(&self) -> MutexGuard<'_, HashMap<RunId, Handle>> {
        // Every change is one insert or remove, so a panic elsewhere leaves nothing half done.
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(act)
        .await
        .map_err(|_| Fault::new(Reason::Bug, "reading the projection panicked"))
}
