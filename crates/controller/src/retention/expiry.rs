//! The timer: judges every point, and asks for the end of those that nobody wants any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use stillwater_types::{Fault, Kind, NodeId, PointId, Reason, Role, RunId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::judge::{Held, Judged, Present, Proof, Shelf, expired, judge};
use super::words::why;
use crate::event::Actor;
use crate::memory::{Memory, State};
use crate::metrics::Metrics;
use crate::point::{KnownPoint, Points};
use crate::policy::PolicyEvent;
use crate::repository::Upkeep;
use crate::run::{Run, Work};
use crate::schedule::Promises;

/// How soon a deletion that was refused is asked for again at first; twice as late each time.
const RETRY_FIRST: SignedDuration = SignedDuration::from_mins(10);
const RETRY_MAX: SignedDuration = SignedDuration::from_hours(24);
/// A vCenter that was just asked answers within this, or is told as silent.
const LOOK_PATIENCE: Duration = Duration::from_secs(60);

/// Judges points and asks for their end; clones share what is known.
#[derive(Clone)]
pub struct Expirer {
    /// Knows policies and runs, and keeps what was done.
    pub memory: Memory,
    /// Knows the points.
    pub points: Points,
    /// Asks repositories.
    pub upkeep: Arc<dyn Upkeep>,
    /// What is promised to whom.
    pub promises: watch::Receiver<Arc<Promises>>,
    /// Counts what was asked for.
    pub metrics: Metrics,
    /// What is remembered between rounds.
    pub ledger: Ledger,
}

/// What is remembered between rounds; clones share it.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Remembered>>);

#[derive(Default)]
struct Remembered {
    /// Which policy wanted a point that does not say so itself.
    makers: HashMap<PointId, Option<String>>,
    refusals: BTreeMap<PointId, Refusal>,
}

/// A deletion that a repository refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub fault: Fault,
    /// When it was asked for first.
    pub since: Timestamp,
    /// When it is asked for again.
    pub again_at: Timestamp,
    wait: SignedDuration,
}

/// What becomes of every point, as of now.
#[derive(Debug, Clone, Default)]
pub struct Outlook {
    /// Every point.
    pub judged: Vec<Judged>,
    /// Deletions that were refused and are asked for again.
    pub refusals: BTreeMap<PointId, Refusal>,
    /// The promises that it was judged by.
    pub promises: Arc<Promises>,
    /// The repositories that told their points.
    pub repositories: BTreeMap<NodeId, Shelf>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        // Each change is whole by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in that a deletion was refused; whether that is news.
    fn refused(&self, point: PointId, fault: Fault, now: Timestamp) -> bool {
        let mut known = self.lock();
        let before = known.refusals.get(&point);
        let is_news = before.is_none_or(|before| before.fault.reason != fault.reason);
        let wait = before.map_or(RETRY_FIRST, |before| {
            before.wait.saturating_mul(2).min(RETRY_MAX)
        });
        let since = before.map_or(now, |before| before.since);
        let again_at = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let refusal = Refusal {
            fault,
            since,
            again_at,
            wait,
        };
        known.refusals.insert(point, refusal);
        is_news
    }

    fn is_due(&self, point: PointId, now: Timestamp) -> bool {
        let known = self.lock();
        let refusal = known.refusals.get(&point);
        // A clock that was set back would let nothing be asked for until it has caught up.
        refusal.is_none_or(|refusal| refusal.again_at <= now || refusal.since > now)
    }

    fn forget_all_but(&self, points: &BTreeSet<PointId>) {
        let mut known = self.lock();
        known.makers.retain(|point, _| points.contains(point));
        known.refusals.retain(|point, _| points.contains(point));
    }
}

impl Expirer {
    /// Asks every so often until `stop`; the first time after `every`, so that whoever starts a controller
    /// can still stop it.
    pub async fn run(self, every: Duration, stop: CancellationToken) {
        let pause = || stop.run_until_cancelled(tokio::time::sleep(every));
        while pause().await.is_some() {
            match stop.run_until_cancelled(self.round(&stop)).await {
                Some(Ok(())) => {}
                Some(Err(fault)) => tracing::error!(%fault, "cannot judge restore points"),
                None => return,
            }
        }
    }

    /// Judges once, asks for the locks that are promised, and for the end of what nobody wants.
    async fn round(&self, stop: &CancellationToken) -> Result<(), Fault> {
        let state = self.memory.state();
        if state.policies.iter().next().is_none() || !is_current(&state, &self.promises.borrow()) {
            return Ok(());
        }
        let outlook = self.look().await?;
        let mut is_changed = self.lock(&outlook.judged).await;
        let mut unreachable = BTreeSet::new();
        for judged in expired(&outlook.judged) {
            let Held {
                point, repository, ..
            } = &judged.held;
            let is_due = self.ledger.is_due(*point, self.memory.now());
            if !is_due || unreachable.contains(repository) {
                continue;
            }
            // Whoever changes a policy meanwhile has all points judged anew.
            let state = self.memory.state();
            if stop.is_cancelled() || !is_current(&state, &outlook.promises) {
                break;
            }
            if state.runs.iter().any(|run| reads(run) == Some(*point)) {
                continue;
            }
            match self.expire(judged).await? {
                Asked::Deleted => is_changed = true,
                Asked::Refused => {}
                Asked::Unreachable => {
                    unreachable.insert(*repository);
                }
            }
        }
        if is_changed {
            self.points.look_again();
        }
        Ok(())
    }

    /// Judges every point as of now.
    ///
    /// # Errors
    /// `DEADLINE` when it is not known yet whom policies are for.
    pub async fn look(&self) -> Result<Outlook, Fault> {
        let promises = self.known_promises().await?;
        let silent = self.points.refresh().await;
        for (repository, fault) in &silent {
            tracing::warn!(repository.id = %repository, %fault, "points are not judged there");
        }
        let silent: BTreeSet<NodeId> = silent.into_iter().map(|(node, _)| node).collect();
        let state = self.memory.state();
        let repositories = self.shelves(&state, &silent).await;
        let held = self.held(&state).await?;
        let all: BTreeSet<PointId> = held.iter().map(|held| held.point).collect();
        self.ledger.forget_all_but(&all);
        let present = Present {
            promises: &promises,
            repositories: &repositories,
            now: self.memory.now(),
        };
        Ok(Outlook {
            judged: judge(held, &present),
            refusals: self.ledger.lock().refusals.clone(),
            promises,
            repositories,
        })
    }

    /// The repositories that told their points and tell their time.
    async fn shelves(&self, state: &State, silent: &BTreeSet<NodeId>) -> BTreeMap<NodeId, Shelf> {
        let there = state.nodes.iter().filter(|node| {
            node.role == Role::Repository
                && node.removed_at.is_none()
                && !silent.contains(&node.node)
        });
        let asked = there.map(|node| async move {
            let told = self.upkeep.get_retention(node.node).await;
            (node, told)
        });
        let mut shelves = BTreeMap::new();
        for (node, told) in futures::future::join_all(asked).await {
            match told {
                Ok(told) => {
                    let lag = self.memory.now().duration_since(told.trusted_time);
                    let shelf = Shelf {
                        name: node.name.clone(),
                        lag: lag.max(SignedDuration::ZERO),
                    };
                    shelves.insert(node.node, shelf);
                }
                Err(fault) => {
                    tracing::warn!(repository.id = %node.node, %fault, "points are not judged there");
                }
            }
        }
        shelves
    }

    /// The promises of the policies as they are now: who judged by others would end what was just promised.
    async fn known_promises(&self) -> Result<Arc<Promises>, Fault> {
        let mut promises = self.promises.clone();
        let current = promises.wait_for(|promises| is_current(&self.memory.state(), promises));
        match tokio::time::timeout(LOOK_PATIENCE, current).await {
            Ok(Ok(promises)) => Ok(Arc::clone(&promises)),
            Ok(Err(_)) => Err(Fault::new(Reason::Draining, "the controller is stopping")),
            Err(_) => {
                let message = "the vcenters have not told yet whom policies are for; try again";
                Err(Fault::new(Reason::Deadline, message))
            }
        }
    }

    /// Every point with what it is judged by.
    async fn held(&self, state: &Arc<State>) -> Result<Vec<Held>, Fault> {
        let (points, memory, ledger) = (
            self.points.clone(),
            self.memory.clone(),
            self.ledger.clone(),
        );
        let state = Arc::clone(state);
        let read = move || {
            let in_use: BTreeSet<PointId> =
                state.runs.iter().filter_map(|run| reads(run)).collect();
            let mut held = Vec::new();
            points.each(|known| held.push(hold(known, &state, &in_use)));
            for point in held.iter_mut().filter(|(held, _)| held.policy.is_none()) {
                let (held, run) = point;
                held.policy = maker(&ledger, &memory, held.point, *run);
            }
            held.into_iter().map(|(held, _)| held).collect()
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| Fault::new(Reason::Bug, "reading the points panicked"))
    }

    /// Asks for the end of one point.
    async fn expire(&self, judged: &Judged) -> Result<Asked, Fault> {
        let Held {
            point,
            vm,
            vm_name,
            repository,
            ..
        } = judged.held.clone();
        let why = why(&judged.fate).join("; ");
        let asked = self.upkeep.delete_point(repository, point).await;
        self.metrics.point_expired(asked.as_ref().err());
        match asked {
            Ok(()) => {
                tracing::info!(point.id = %point, vm.name = vm_name, why, "expired a restore point");
                self.ledger.lock().refusals.remove(&point);
                let event = PolicyEvent::Expired {
                    point,
                    repository,
                    vm,
                    why,
                };
                self.memory.append(Actor::Controller, event).await?;
                Ok(Asked::Deleted)
            }
            Err(fault) if is_of_all(&fault) => {
                tracing::warn!(repository.id = %repository, %fault, "points are not expired there");
                Ok(Asked::Unreachable)
            }
            Err(fault) => {
                if self.ledger.refused(point, fault.clone(), self.memory.now()) {
                    tracing::warn!(point.id = %point, vm.name = vm_name, %fault, "a restore point was to expire and stays");
                    let why = fault.to_string();
                    let event = PolicyEvent::ExpiryRefused {
                        point,
                        repository,
                        vm,
                        why,
                    };
                    self.memory.append(Actor::Controller, event).await?;
                }
                Ok(Asked::Refused)
            }
        }
    }
}

/// Whether a repository would say the same of every point.
pub(super) fn is_of_all(fault: &Fault) -> bool {
    matches!(fault.kind(), Kind::Unavailable | Kind::Timeout) || fault.reason == Reason::TimeFrozen
}

/// What came of asking for a deletion.
enum Asked {
    Deleted,
    Refused,
    Unreachable,
}

/// Whether promises are those of the policies that there are.
fn is_current(state: &State, promises: &Promises) -> bool {
    let applied = state.policies.iter().map(|applied| &applied.policy);
    applied.eq(promises.policies.iter().map(|promise| &promise.policy))
}

/// The point that a run reads.
fn reads(run: &Run) -> Option<PointId> {
    match &run.work {
        Work::Backup(_) => None,
        Work::RestoreVm(work) => Some(work.point),
        Work::ExportDisk(work) => Some(work.point),
        Work::VerifyPoint(work) => Some(work.point),
        Work::RestoreInPlace(work) => Some(work.point),
    }
}

fn hold(known: KnownPoint, state: &State, in_use: &BTreeSet<PointId>) -> (Held, RunId) {
    let proof = match state.verifications.of(known.point) {
        None => Proof::None,
        Some(proof) if proof.damaged_bytes == 0 => Proof::Sound,
        Some(_) => Proof::Damaged,
    };
    let held = Held {
        point: known.point,
        vm: known.vm,
        vm_name: known.vm_name,
        repository: known.repository,
        policy: known.policy,
        at: known.taken_at.unwrap_or(known.committed_at),
        committed_at: known.committed_at,
        retain_until: known.retain_until,
        is_whole: known.is_whole,
        proof,
        is_in_use: in_use.contains(&known.point),
    };
    (held, known.run)
}

/// The policy that the journal's run of a point names. Blocks.
fn maker(ledger: &Ledger, memory: &Memory, point: PointId, run: RunId) -> Option<String> {
    if let Some(known) = ledger.lock().makers.get(&point) {
        return known.clone();
    }
    let Work::Backup(work) = memory.ended_run(run)?.work else {
        return None;
    };
    ledger.lock().makers.insert(point, work.policy.clone());
    work.policy
}

#[cfg(test)]
mod tests;
