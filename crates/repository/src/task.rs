//! Tasks: long work on the store that somebody asked for, watched and stopped by its id.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use stillwater_repository_api::{StartTaskRequest, Task, TaskKind, TaskResult, TaskState};
use stillwater_types::{Fault, Reason, TaskId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::blocking;

/// Ended tasks that are remembered.
const ENDED_MAX: usize = 100;
/// Verifications at work at a time; each walks its point with memory of its own.
const VERIFICATIONS_MAX: usize = 4;
/// Between two states that a watcher is told.
const TELL_AT_MOST_EVERY: Duration = Duration::from_millis(200);
const TELL_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// The tasks of this process; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    /// By id, which begins with the time.
    known: Arc<Mutex<BTreeMap<TaskId, Known>>>,
}

struct Known {
    state: watch::Sender<Task>,
    stop: CancellationToken,
}

/// What a task at work tells, and is told.
pub(crate) struct Follow {
    state: watch::Sender<Task>,
    stop: CancellationToken,
}

impl Follow {
    /// Tells how far the work is.
    pub(crate) fn tell(&self, phase: &str, done: u64, total: u64, unit: &str) {
        self.state.send_modify(|task| {
            phase.clone_into(&mut task.phase);
            unit.clone_into(&mut task.unit);
            task.done = done;
            task.total = total;
        });
    }

    /// Whether the work is to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }
}

impl Tasks {
    /// Starts a task, unless it was started before. `work` blocks on a thread of its own.
    ///
    /// # Errors
    /// `TASK_RUNNING` when another one of its kind keeps it from starting.
    pub(crate) fn start(
        &self,
        request: &StartTaskRequest,
        work: impl FnOnce(&Follow) -> Result<TaskResult, Fault> + Send + 'static,
    ) -> Result<Task, Fault> {
        let mut known = self.known();
        if let Some(task) = known.get(&request.task_id) {
            return Ok(task.state.borrow().clone());
        }
        check_room(&known, request.kind)?;
        forget_old(&mut known);
        let (state, _) = watch::channel(begun(request));
        let (task, stop) = (state.borrow().clone(), CancellationToken::new());
        let follow = Follow {
            state: state.clone(),
            stop: stop.clone(),
        };
        known.insert(request.task_id, Known { state, stop });
        tokio::spawn(conduct(follow, work));
        Ok(task)
    }

    /// A task as it is now.
    ///
    /// # Errors
    /// `TASK_NOT_FOUND`.
    pub(crate) fn get(&self, id: TaskId) -> Result<Task, Fault> {
        let known = self.known();
        let task = known.get(&id).ok_or_else(|| not_found(id))?;
        Ok(task.state.borrow().clone())
    }

    /// A task now and whenever it changes; ends after its final state.
    ///
    /// # Errors
    /// `TASK_NOT_FOUND`.
    pub(crate) fn watch(
        &self,
        id: TaskId,
    ) -> Result<BoxStream<'static, Result<Task, Fault>>, Fault> {
        let known = self.known();
        let changes = known.get(&id).ok_or_else(|| not_found(id))?;
        Ok(states(changes.state.subscribe()))
    }

    /// Asks a task to stop; it stops at its next step.
    ///
    /// # Errors
    /// `TASK_NOT_FOUND`.
    pub(crate) fn cancel(&self, id: TaskId) -> Result<Task, Fault> {
        let known = self.known();
        let task = known.get(&id).ok_or_else(|| not_found(id))?;
        task.stop.cancel();
        Ok(task.state.borrow().clone())
    }

    /// Asks all tasks to stop, as before the process ends.
    pub(crate) fn cancel_all(&self) {
        self.known().values().for_each(|task| task.stop.cancel());
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<TaskId, Known>> {
        // Every change is one insert or remove, so a panic elsewhere leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn begun(request: &StartTaskRequest) -> Task {
    Task {
        task_id: request.task_id,
        kind: request.kind,
        point_id: request.point_id,
        state: TaskState::Running,
        phase: "begin".to_owned(),
        done: 0,
        total: 0,
        unit: "bytes".to_owned(),
        started_at: Timestamp::now(),
        ended_at: None,
        result: None,
        fault: None,
    }
}

fn check_room(known: &BTreeMap<TaskId, Known>, kind: TaskKind) -> Result<(), Fault> {
    let at_work = known.iter().filter(|(_, task)| {
        let task = task.state.borrow();
        task.kind == kind && task.state == TaskState::Running
    });
    let at_work: Vec<TaskId> = at_work.map(|(id, _)| *id).collect();
    let room = match kind {
        TaskKind::Verify => VERIFICATIONS_MAX,
        TaskKind::Scrub | TaskKind::Collect => 1,
    };
    match at_work.first() {
        Some(first) if at_work.len() >= room => Err(Fault::new(
            Reason::TaskRunning,
            "a task of that kind is at work; watch it, or try again when it has ended",
        )
        .with("task", first)),
        _ => Ok(()),
    }
}

fn forget_old(known: &mut BTreeMap<TaskId, Known>) {
    let ended = |task: &Known| task.state.borrow().state != TaskState::Running;
    let old: Vec<TaskId> = known
        .iter()
        .filter(|(_, task)| ended(task))
        .map(|(id, _)| *id)
        .collect();
    let surplus = (old.len() + 1).saturating_sub(ENDED_MAX);
    for id in old.into_iter().take(surplus) {
        known.remove(&id);
    }
}

/// Does the work and puts its end on record, whatever that is.
async fn conduct(
    follow: Follow,
    work: impl FnOnce(&Follow) -> Result<TaskResult, Fault> + Send + 'static,
) {
    let (state, stop) = (follow.state.clone(), follow.stop.clone());
    let outcome = blocking(move || work(&follow)).await;
    state.send_modify(|task| {
        task.ended_at = Some(Timestamp::now());
        match outcome {
            Ok(result) => {
                task.state = TaskState::Succeeded;
                task.result = Some(result);
            }
            Err(_) if stop.is_cancelled() => task.state = TaskState::Cancelled,
            Err(fault) => {
                tracing::warn!(task.id = %task.task_id, kind = ?task.kind, %fault, "a task failed");
                task.state = TaskState::Failed;
                task.fault = Some(fault);
            }
        }
    });
}

fn states(changes: watch::Receiver<Task>) -> BoxStream<'static, Result<Task, Fault>> {
    stream::unfold(Some((changes, true)), |from| async move {
        let (mut changes, is_first) = from?;
        if !is_first {
            // However fast the work tells, and also when it tells nothing.
            tokio::time::sleep(TELL_AT_MOST_EVERY).await;
            let changed = tokio::time::timeout(TELL_AT_LEAST_EVERY, changes.changed()).await;
            // The sender lives as long as the task is known.
            if changed.is_ok_and(|changed| changed.is_err()) {
                return None;
            }
        }
        let task = changes.borrow_and_update().clone();
        let next = (task.state == TaskState::Running).then_some((changes, false));
        Some((Ok(task), next))
    })
    .boxed()
}

fn not_found(id: TaskId) -> Fault {
    let message = "no task of that id since the repository was started";
    Fault::new(Reason::TaskNotFound, message).with("task", id)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use stillwater_repository_api::ScrubResult;

    use super::*;

    fn asked(kind: TaskKind) -> StartTaskRequest {
        StartTaskRequest {
            task_id: TaskId::mint(),
            kind,
            point_id: None,
            all: false,
        }
    }

    fn found() -> Result<TaskResult, Fault> {
        Ok(TaskResult::Scrub(ScrubResult::default()))
    }

    async fn end(tasks: &Tasks, id: TaskId) -> Task {
        let states = tasks.watch(id).expect("known");
        states
            .map(Result::unwrap)
            .fold(None, |_, task| async { Some(task) })
            .await
            .expect("a state")
    }

    #[tokio::test]
    async fn a_task_is_started_once_and_watched_to_its_end() {
        let (tasks, request) = (Tasks::default(), asked(TaskKind::Scrub));
        let (go, wait) = mpsc::channel::<()>();
        tasks
            .start(&request, move |follow| {
                follow.tell("read", 5, 9, "packs");
                wait.recv().expect("told to go on");
                found()
            })
            .expect("starts");
        let again = tasks.start(&request, |_| panic!("it was started before"));
        assert_eq!(again.expect("the same").state, TaskState::Running);
        let busy = tasks
            .start(&asked(TaskKind::Scrub), |_| found())
            .expect_err("one at a time");
        assert_eq!(busy.reason, Reason::TaskRunning);
        assert_eq!(busy.details["task"], request.task_id.to_string());
        tasks
            .start(&asked(TaskKind::Collect), |_| found())
            .expect("another kind");
        go.send(()).expect("it waits");
        let ended = end(&tasks, request.task_id).await;
        assert_eq!(ended.state, TaskState::Succeeded);
        assert_eq!((ended.done, ended.total), (5, 9));
        assert_eq!(tasks.get(request.task_id).expect("known"), ended);
    }

    #[tokio::test]
    async fn a_stopped_task_is_cancelled_and_a_panic_is_a_failure() {
        let (tasks, request) = (Tasks::default(), asked(TaskKind::Scrub));
        let stopped = Fault::new(Reason::RunCancelled, "stopped");
        tasks
            .start(&request, |follow| {
                while !follow.is_stopped() {
                    std::thread::yield_now();
                }
                Err(stopped)
            })
            .expect("starts");
        tasks.cancel(request.task_id).expect("known");
        assert_eq!(
            end(&tasks, request.task_id).await.state,
            TaskState::Cancelled
        );
        let request = asked(TaskKind::Scrub);
        tasks
            .start(&request, |_| panic!("a defect"))
            .expect("starts");
        let ended = end(&tasks, request.task_id).await;
        assert_eq!(ended.fault.map(|fault| fault.reason), Some(Reason::Bug));
        assert_eq!(
            tasks.get(TaskId::mint()).expect_err("unknown").reason,
            Reason::TaskNotFound
        );
    }

    #[tokio::test]
    async fn ended_tasks_are_forgotten_after_a_hundred() {
        let tasks = Tasks::default();
        let mut first = None;
        for _ in 0..=ENDED_MAX {
            let request = asked(TaskKind::Scrub);
            tasks.start(&request, |_| found()).expect("starts");
            while tasks.get(request.task_id).expect("known").state == TaskState::Running {
                tokio::task::yield_now().await;
            }
            first.get_or_insert(request.task_id);
        }
        let first = first.expect("one");
        assert_eq!(
            tasks.get(first).expect_err("forgotten").reason,
            Reason::TaskNotFound
        );
        assert_eq!(tasks.known().len(), ENDED_MAX);
    }
}
