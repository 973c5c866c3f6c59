//! vSphere's tasks.

use std::time::Duration;

use tokio::time::Instant;

use crate::body::Body;
use crate::client::{Call, Client, Repeat};
use crate::error::FaultKind;
use crate::soap::localized_fault;
use crate::xml::Problem;
use crate::{Error, Result, TaskRef, VmRef};

/// Between two looks at a task: short at first, since most end at once.
const DELAY_MIN: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_secs(2);

/// A task that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOutcome {
    /// The managed object that it made, if it made one.
    pub result: Option<String>,
}

impl Client {
    /// Waits for a task to end.
    pub async fn wait_task(&self, task: &TaskRef, timeout: Duration) -> Result<TaskOutcome> {
        let deadline = Instant::now() + timeout;
        let mut delay = DELAY_MIN;
        loop {
            if let Some(outcome) = self.ended(task).await? {
                return Ok(outcome);
            }
            if Instant::now() + delay > deadline {
                let seconds = timeout.as_secs();
                return Err(Error::TaskTimeout {
                    task: task.clone(),
                    seconds,
                });
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(DELAY_MAX);
        }
    }

    /// Asks to end a task. One that has ended or is gone is no error; one that cannot be cancelled, as
    /// the removal of a snapshot, is a fault of kind `NotSupported` and goes on. Wait for the task then:
    /// only its end says what came of it.
    pub async fn cancel_task(&self, task: &TaskRef) -> Result<()> {
        let call = Call {
            method: "CancelTask",
            this: &task.moref(),
            body: Body::new(),
            repeat: Repeat::Safe,
        };
        match self.call(call).await {
            Err(error)
                if error.is(&FaultKind::ManagedObjectNotFound)
                    || error.is(&FaultKind::InvalidState) =>
            {
                Ok(())
            }
            outcome => outcome.map(drop),
        }
    }

    /// Tasks of a VM that have not ended and whose description id, in lower case, is wanted; in the
    /// server's order.
    pub(crate) async fn running_tasks(
        &self,
        vm: &VmRef,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<TaskRef>> {
        let recent = self.read_vm(vm, &["recentTask"]).await?;
        let mut running = Vec::new();
        for task in recent.morefs("recentTask")? {
            let task = TaskRef::new(task.value);
            let Some(description) = self.description_of_running(&task).await? else {
                continue;
            };
            if is_wanted(&description.to_lowercase()) {
                running.push(task);
            }
        }
        Ok(running)
    }

    /// What a task does; none when it has ended or is forgotten.
    async fn description_of_running(&self, task: &TaskRef) -> Result<Option<String>> {
        let read = match self
            .read(&task.moref(), &["info.descriptionId", "info.state"])
            .await
        {
            // Recent tasks go away by themselves.
            Err(error) if error.is(&FaultKind::ManagedObjectNotFound) => return Ok(None),
            read => read?,
        };
        let runs = matches!(read.need("info.state")?.text.as_str(), "queued" | "running");
        let description = read.need("info.descriptionId")?.text.clone();
        Ok(runs.then_some(description))
    }

    /// Waits until the VM's tasks that are wanted have ended, however they end.
    pub(crate) async fn settle_tasks(
        &self,
        vm: &VmRef,
        is_wanted: impl Fn(&str) -> bool,
        timeout: Duration,
    ) -> Result<()> {
        for task in self.running_tasks(vm, is_wanted).await? {
            match self.wait_task(&task, timeout).await {
                // How it ended is read from its object.
                Ok(_) | Err(Error::TaskFailed { .. } | Error::TaskLost { .. }) => {}
                // It may still run, and what it makes would be missed.
                Err(unknown) => return Err(unknown),
            }
        }
        Ok(())
    }

    /// How a task ended; none while it runs.
    async fn ended(&self, task: &TaskRef) -> Result<Option<TaskOutcome>> {
        let read = self
            .read(&task.moref(), &["info.state", "info.result", "info.error"])
            .await;
        let read = match read {
            Err(error) if error.is(&FaultKind::ManagedObjectNotFound) => {
                return Err(Error::TaskLost { task: task.clone() });
            }
            read => read?,
        };
        match read.need("info.state")?.text.as_str() {
            "queued" | "running" => Ok(None),
            "success" => {
                let result = read
                    .get("info.result")
                    .and_then(|result| result.moref().ok());
                Ok(Some(TaskOutcome {
                    result: result.map(|moref| moref.value),
                }))
            }
            "error" => {
                let fault = Box::new(localized_fault(read.need("info.error")?));
                Err(Error::TaskFailed {
                    task: task.clone(),
                    fault,
                })
            }
            other => Err(read.bad(Problem(format!("info.state is {other:?}")))),
        }
    }
}
