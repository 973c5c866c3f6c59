//! Tasks of repositories: started, watched, judged.

use std::cell::RefCell;

use stillwater_controller_api::{
    StartTaskRequest, StartTaskResponse, Task, TaskResult, TaskState, WatchTaskRequest,
};
use stillwater_types::{Fault, Reason};

use super::Desk;
use crate::arguments::Format;
use crate::exit::Outcome;
use crate::follow::{interrupted, to_the_end};
use crate::progress::TaskProgress;
use crate::{output, view};

/// Starts a task and, unless it is detached, follows it to its end.
pub(super) async fn conduct(
    desk: &Desk,
    request: StartTaskRequest,
    detach: bool,
) -> Result<Outcome, Fault> {
    let StartTaskResponse { task, node_id } = desk.session.controller.start_task(request).await?;
    if detach {
        let text = || task.task_id.to_string();
        output::print(desk.format, text, || view::task::json(&task))?;
        if desk.format == Format::Table {
            let task = task.task_id;
            output::say(&format!(
                "started; `stillwater repository watch {node_id} {task}` shows the progress"
            ));
        }
        return Ok(Outcome::Done);
    }
    let task_id = task.task_id;
    watch(desk, WatchTaskRequest { node_id, task_id }).await
}

/// Shows the progress of a task until it ends, and what it found.
pub(super) async fn watch(desk: &Desk, request: WatchTaskRequest) -> Result<Outcome, Fault> {
    let progress = RefCell::new(TaskProgress::new());
    let show = |task: &Task| {
        progress.borrow_mut().show(task);
        task.state != TaskState::Running
    };
    let say = |text: &str| progress.borrow().say(text);
    let ask = async || desk.session.controller.watch_task(request).await;
    let ended = tokio::select! {
        ended = to_the_end(ask, show, say) => ended,
        fault = interrupted() => Err(fault.with("hint", format!(
            "the task goes on; `stillwater repository cancel {} {}` stops it",
            request.node_id, request.task_id
        ))),
    };
    progress.into_inner().end();
    let task = ended?;
    let json = || view::task::json(&task);
    output::print(desk.format, || view::task::show(&task), json)?;
    outcome(task)
}

/// How the tool ends for a task that ended so. Damage is a failure whatever was done about it; what
/// was held back is a warning.
fn outcome(task: Task) -> Result<Outcome, Fault> {
    match (task.state, task.result) {
        (TaskState::Succeeded, Some(TaskResult::Verify(found))) if !found.whole => {
            let extents = found.damaged_extent_count;
            Err(Fault::new(
                Reason::PointDegraded,
                format!("{extents} extents of the restore point cannot be restored"),
            ))
        }
        (TaskState::Succeeded, Some(TaskResult::Scrub(found))) if found.damaged_pack_count > 0 => {
            Ok(Outcome::Warned)
        }
        (TaskState::Succeeded, Some(TaskResult::Collect(found))) if !found.held.is_empty() => {
            Ok(Outcome::Warned)
        }
        (TaskState::Succeeded, Some(_)) => Ok(Outcome::Done),
        (TaskState::Cancelled, _) => {
            Err(Fault::new(Reason::RunCancelled, "the task was cancelled"))
        }
        (state, _) => Err(task.fault.unwrap_or_else(|| {
            let state = view::task::state(state);
            Fault::new(
                Reason::Bug,
                format!("the task is {state} and tells no more"),
            )
        })),
    }
}
