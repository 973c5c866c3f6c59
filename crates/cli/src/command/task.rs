//! Tasks of repositories: started, watched, judged.

use std::time::{Duration, Instant};

use futures::stream::StreamExt;
use stillwater_controller_api::{
    Client, StartTaskRequest, StartTaskResponse, Task, TaskResult, TaskState, WatchTaskRequest,
};
use stillwater_rpc::retry::worth_repeating;
use stillwater_types::{Fault, Reason};

use super::Desk;
use crate::arguments::Format;
use crate::exit::Outcome;
use crate::follow::interrupted;
use crate::progress::TaskProgress;
use crate::{output, view};

/// A controller that is restarted comes back within this time; the task goes on meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

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
    let mut progress = TaskProgress::new();
    let ended = tokio::select! {
        ended = to_the_end(&desk.session.controller, request, &mut progress) => ended,
        fault = interrupted() => Err(fault.with("hint", format!(
            "the task goes on; `stillwater repository cancel {} {}` stops it",
            request.node_id, request.task_id
        ))),
    };
    progress.end();
    let task = ended?;
    let json = || view::task::json(&task);
    output::print(desk.format, || view::task::show(&task), json)?;
    outcome(task)
}

async fn to_the_end(
    controller: &Client,
    request: WatchTaskRequest,
    progress: &mut TaskProgress,
) -> Result<Task, Fault> {
    let mut heard = Instant::now();
    loop {
        let fault = match once(controller, request, &mut heard, progress).await {
            Ok(Some(task)) => return Ok(task),
            Ok(None) => Fault::new(
                Reason::ControllerUnreachable,
                "the controller stopped telling",
            ),
            Err(fault) => fault,
        };
        if !worth_repeating(fault.kind()) || heard.elapsed() > PATIENCE {
            return Err(fault);
        }
        progress.say(&format!("{fault}; trying again"));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Watches until the task ends or the stream breaks off.
async fn once(
    controller: &Client,
    request: WatchTaskRequest,
    heard: &mut Instant,
    progress: &mut TaskProgress,
) -> Result<Option<Task>, Fault> {
    let mut updates = controller.watch_task(request).await?;
    while let Some(task) = updates.next().await {
        let task = task?;
        *heard = Instant::now();
        progress.show(&task);
        if task.state != TaskState::Running {
            return Ok(Some(task));
        }
    }
    Ok(None)
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
