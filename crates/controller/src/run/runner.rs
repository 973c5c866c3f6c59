//! The loop of one run: journal what happened, then do what was decided.
//!
//! One task owns each run, so that its events are journalled in one order. Acts run beside it and
//! end in events. Nothing is done before the event that led to it is durable.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use stillwater_repository_api::RenewSessionRequest;
use stillwater_types::{Fault, NodeId, Reason, RunId, VcenterId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::act::{Act, World};
use super::alarming::{self, Change};
use super::cause::Cause;
use super::effect::Effect;
use super::event::RunEvent;
use super::scratch::Scratch;
use super::state::{Run, Stage};
use super::step::step;
use super::timing::Timing;
use crate::event::{Actor, Event};

/// An event that comes from outside the run's own acts, and who caused it.
pub type Message = (Actor, RunEvent);

/// One run at work.
pub struct Runner {
    world: Arc<World>,
    run: Arc<Run>,
    scratch: Arc<Scratch>,
    inbox: mpsc::Receiver<Message>,
    queue: VecDeque<Message>,
    acts: JoinSet<Vec<RunEvent>>,
    halt: CancellationToken,
    is_halting: bool,
    /// Apart from the acts: a halting run does not wait for it.
    keeper: JoinSet<Cause>,
    /// Keeps data sessions from falling idle; as the keeper, apart from the acts.
    toucher: JoinSet<()>,
    /// When the snapshot's lease is nearly over.
    lease_ends: Option<Instant>,
    /// When the snapshot is older than it may be.
    too_old: Option<Instant>,
}

impl Runner {
    /// A run that is journalled already.
    pub fn new(
        world: Arc<World>,
        run: Arc<Run>,
        scratch: Arc<Scratch>,
        inbox: mpsc::Receiver<Message>,
    ) -> Self {
        Self {
            world,
            run,
            scratch,
            inbox,
            queue: VecDeque::new(),
            acts: JoinSet::new(),
            halt: CancellationToken::new(),
            is_halting: false,
            keeper: JoinSet::new(),
            toucher: JoinSet::new(),
            lease_ends: None,
            too_old: None,
        }
    }

    /// Begins a run that was just asked for, and stays with it to its end.
    pub async fn start(mut self) {
        self.begin(Effect::Plan);
        self.work().await;
    }

    /// Takes a run up again after a restart, and stays with it to its end.
    pub async fn recover(mut self) {
        self.queue
            .push_back((Actor::Controller, RunEvent::Restarted));
        self.work().await;
    }

    async fn work(&mut self) {
        let run_id = self.run.id;
        while !self.run.is_over() {
            let (by, event) = self.next().await;
            match self.take(by, event).await {
                Ok(effects) => effects.into_iter().for_each(|effect| self.begin(effect)),
                Err(fault) => {
                    // Going on without a journal could leave things behind that nobody knows of.
                    tracing::error!(run.id = %run_id, %fault, "run is parked until the next start");
                    return;
                }
            }
            self.keep_session();
            self.keep_access();
            self.watch_snapshot();
        }
        tracing::info!(run.id = %run_id, outcome = ?self.run.ending, "run ended");
    }

    /// The next event: what is queued, what somebody asks, what an act came to.
    async fn next(&mut self) -> Message {
        loop {
            if let Some(message) = self.queue.pop_front() {
                return message;
            }
            if self.is_halting && self.acts.is_empty() {
                self.is_halting = false;
                return (Actor::Controller, RunEvent::Halted);
            }
            let late = tokio::time::sleep_until(self.deadline().unwrap_or_else(far_future));
            tokio::select! {
                Some(message) = self.inbox.recv() => return message,
                Some(ended) = self.acts.join_next() => {
                    let events = ended.unwrap_or_default();
                    self.queue.extend(events.into_iter().map(|event| (Actor::Controller, event)));
                }
                Some(ended) = self.keeper.join_next() => {
                    let lost = ended.unwrap_or_else(|_| Cause::new(Reason::Bug, "the session keeper panicked"));
                    return (Actor::Controller, RunEvent::Failed(lost));
                }
                () = late, if self.deadline().is_some() => {
                    let cause = match self.too_old.is_some_and(|too_old| too_old <= Instant::now()) {
                        true => too_old(self.world.guards.snapshot_age_max),
                        false => lease_over(),
                    };
                    (self.lease_ends, self.too_old) = (None, None);
                    return (Actor::Controller, RunEvent::Failed(cause));
                }
            }
        }
    }

    /// Journals an event and decides.
    async fn take(&mut self, by: Actor, event: RunEvent) -> Result<Vec<Effect>, Fault> {
        tracing::debug!(run.id = %self.run.id, %by, ?event, "run event");
        self.alarm(&event).await;
        let entry = Event::Run {
            run: self.run.id,
            event: Box::new(event.clone()),
        };
        self.world.memory.append(by, entry).await?;
        let (next, effects) = step(&self.run, self.world.clock.now(), &event);
        self.run = Arc::new(next);
        Ok(effects)
    }

    /// Raises and clears alarms. Before the event is journalled, for the alarm is true whatever becomes
    /// of the run; and what cannot be journalled stops the run with the event itself.
    async fn alarm(&self, event: &RunEvent) {
        let alarms = self.world.alarms();
        let done = match alarming::changes(&self.run, event) {
            Some(Change::Raise(kind, subject, message)) => {
                alarms.raise(kind, subject, message).await
            }
            Some(Change::Clear(kind, subject)) => alarms.clear(kind, subject).await.map(drop),
            None => Ok(()),
        };
        if let Err(fault) = done {
            tracing::error!(run.id = %self.run.id, %fault, "an alarm could not be kept");
        }
    }

    /// Begins an act.
    fn begin(&mut self, effect: Effect) {
        match effect {
            Effect::Record(event) => self.queue.push_back((Actor::Controller, *event)),
            Effect::Halt => {
                self.halt.cancel();
                self.is_halting = true;
            }
            effect => {
                let act = Act {
                    world: Arc::clone(&self.world),
                    run: Arc::clone(&self.run),
                    scratch: Arc::clone(&self.scratch),
                    halt: self.halt.clone(),
                };
                let when_broken = broken(&effect);
                self.acts.spawn(async move {
                    let done = AssertUnwindSafe(act.perform(effect)).catch_unwind().await;
                    done.unwrap_or_else(|_| vec![when_broken])
                });
            }
        }
    }

    /// Renews the repository session while the run has one.
    fn keep_session(&mut self) {
        let (Some(target), Some(fence)) = (self.run.target, self.run.fence) else {
            return;
        };
        let is_needed = self.run.session_held && self.run.stage < Stage::Halting;
        if !is_needed {
            self.keeper = JoinSet::new();
        } else if self.keeper.is_empty() {
            let keeper = SessionKeeper {
                world: Arc::clone(&self.world),
                repository: target.repository,
                run: self.run.id,
                fence,
            };
            self.keeper.spawn(keeper.keep());
        }
    }

    /// Uses the data sessions now and then while the run has some.
    fn keep_access(&mut self) {
        let is_needed = self.run.access_held && self.run.stage < Stage::Halting;
        match self.run.vm_at_work().filter(|_| is_needed) {
            None => self.toucher = JoinSet::new(),
            Some(vm) if self.toucher.is_empty() => {
                let keeper = AccessKeeper {
                    world: Arc::clone(&self.world),
                    scratch: Arc::clone(&self.scratch),
                    run: self.run.id,
                    vcenter: vm.vcenter,
                };
                self.toucher.spawn(keeper.keep());
            }
            Some(_) => {}
        }
    }

    /// When the run is stopped for its snapshot's sake.
    fn deadline(&self) -> Option<Instant> {
        self.lease_ends.into_iter().chain(self.too_old).min()
    }

    /// No snapshot of ours outlives its lease or grows too old: a run that takes too long is stopped in
    /// time. Once it is being removed, a run that gave up would only throw its work away.
    fn watch_snapshot(&mut self) {
        let held = self.run.snapshot.as_ref();
        let Some(held) = held.filter(|_| self.run.stage < Stage::Releasing) else {
            (self.lease_ends, self.too_old) = (None, None);
            return;
        };
        let now = Instant::now();
        if self.lease_ends.is_none() {
            let left = held.lease.expires_at.duration_since(self.world.clock.now());
            let left = Duration::try_from(left).unwrap_or_default();
            self.lease_ends = Some(now + left.saturating_sub(self.world.timing.lease_margin));
        }
        if self.too_old.is_none() && held.snapshot.is_some() {
            self.too_old = Some(now + self.world.guards.snapshot_age_max);
        }
    }
}

struct SessionKeeper {
    world: Arc<World>,
    repository: NodeId,
    run: RunId,
    fence: u64,
}

impl SessionKeeper {
    /// Renews until that is no use any more, and tells why. A repository that does not answer is
    /// asked again: the session lasts until its end, and the run's own calls say more.
    async fn keep(self) -> Cause {
        let mut wait = self.world.timing.renew_first;
        loop {
            tokio::time::sleep(wait).await;
            let request = RenewSessionRequest {
                run_id: self.run,
                fence: self.fence,
            };
            match self
                .world
                .repositories
                .renew_session(self.repository, request)
                .await
            {
                Ok(session) => {
                    let left = session.expires_at.duration_since(self.world.clock.now());
                    wait = until_renewal(left, &self.world.timing);
                }
                Err(fault) if fault.reason == Reason::FenceStale => return fault.into(),
                Err(fault) => {
                    tracing::warn!(run.id = %self.run, %fault, "session could not be renewed");
                    wait = self.world.timing.renew_first;
                }
            }
        }
    }
}

struct AccessKeeper {
    world: Arc<World>,
    scratch: Arc<Scratch>,
    run: RunId,
    vcenter: VcenterId,
}

impl AccessKeeper {
    /// Works until it is dropped. A session that is over is forgotten: the next transfer opens
    /// another, and one that reads through the old one fails and is tried again.
    async fn keep(self) {
        loop {
            tokio::time::sleep(self.world.timing.touch_access).await;
            let accesses = self.scratch.notes().accesses.clone();
            for access in &accesses {
                match self.world.vsphere.touch_access(self.vcenter, access).await {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::warn!(run.id = %self.run, "a data session is over; the next transfer opens another");
                        self.scratch.forget_access(access);
                    }
                    Err(fault) => {
                        tracing::warn!(run.id = %self.run, %fault, "data session could not be kept alive");
                    }
                }
            }
        }
    }
}

/// How long to wait until a session with so much left is renewed. What is left was reckoned with two
/// clocks that may differ by hours: it is believed only within bounds.
fn until_renewal(left: jiff::SignedDuration, timing: &Timing) -> Duration {
    let third = Duration::try_from(left).unwrap_or_default() / 3;
    let least = timing.renew_first.min(Duration::from_secs(1));
    third.max(least).min(timing.renew_longest)
}

/// What an act that panicked comes to.
fn broken(effect: &Effect) -> RunEvent {
    let cause = Cause::new(Reason::Bug, "an act of the run panicked; see the log");
    match effect {
        Effect::LetGo(hold) => RunEvent::Stuck { hold: *hold, cause },
        Effect::Transfer { disk, transfer, .. } => RunEvent::TransferFailed {
            goes_another_way: false,
            disk: *disk,
            transfer: *transfer,
            cause,
        },
        _ => RunEvent::Failed(cause),
    }
}

fn lease_over() -> Cause {
    Cause::new(
        Reason::Deadline,
        "the run took longer than its snapshot may live; make the vm smaller or add proxies",
    )
}

fn too_old(age_max: Duration) -> Cause {
    let message = format!(
        "the run took longer than the {} seconds that its snapshot may be old; find out what is slow, add proxies, or change `guards.snapshot-age`",
        age_max.as_secs()
    );
    Cause::new(Reason::SnapshotTooOld, message)
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(365 * 24 * 3600)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[track_caller]
    fn check(left: SignedDuration, expected: Duration) {
        assert_eq!(until_renewal(left, &Timing::default()), expected);
    }

    #[test]
    fn a_session_is_renewed_in_time_whatever_the_clocks_say() {
        check(SignedDuration::from_secs(12), Duration::from_secs(4));
        // The longest wait is a third of the shortest session that can be configured.
        check(SignedDuration::from_secs(300), Duration::from_secs(10));
        check(SignedDuration::from_hours(1000), Duration::from_secs(10));
        check(SignedDuration::from_hours(-1000), Duration::from_secs(1));
        check(SignedDuration::ZERO, Duration::from_secs(1));
        check(SignedDuration::MAX, Duration::from_secs(10));
    }
}
