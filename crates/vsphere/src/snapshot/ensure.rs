//! A snapshot that is made once, even when the answer is lost.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::{Client, bad_answer};
use crate::xml::Problem;
use crate::{Error, Result, SnapshotInfo, SnapshotRef, SnapshotSpec, VmRef};

/// How often a snapshot is looked for whose answer was lost: the request may still be on its way.
const LOOKS: u32 = 3;
const LOOK_DELAY: Duration = Duration::from_secs(2);

/// A snapshot that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnsuredSnapshot {
    /// What it is.
    pub info: SnapshotInfo,
    /// Whether it was there already, or the answer to its making was lost.
    pub was_found: bool,
}

impl Client {
    /// Makes a snapshot unless the VM has one of just this description, and waits for it.
    ///
    /// The description names the attempt: whoever asks again after a crash or a lost answer gets the
    /// snapshot that was made, not a second one. A snapshot that another is just making is waited for
    /// first.
    pub async fn ensure_snapshot(
        &self,
        vm: &VmRef,
        spec: &SnapshotSpec,
        timeout: Duration,
    ) -> Result<EnsuredSnapshot> {
        let deadline = Instant::now() + timeout;
        if let Some(info) = self.settled_snapshot(vm, spec, deadline).await? {
            return Ok(found(info));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match self.take_snapshot(vm, spec, left).await {
            Ok(made) => self.made_snapshot(vm, &made).await,
            Err(lost @ (Error::OutcomeUnknown { .. } | Error::TaskLost { .. })) => {
                self.lost_snapshot(vm, spec, deadline, lost).await
            }
            Err(error) => Err(error),
        }
    }

    async fn made_snapshot(&self, vm: &VmRef, made: &SnapshotRef) -> Result<EnsuredSnapshot> {
        let tree = self.snapshots(vm).await?;
        let info = tree.into_iter().find(|info| info.snapshot == *made);
        let info = info.ok_or_else(|| {
            let problem = format!("{made} was made and is not in the tree of {vm}");
            bad_answer(super::CREATE, Problem(problem))
        })?;
        Ok(EnsuredSnapshot {
            info,
            was_found: false,
        })
    }

    async fn lost_snapshot(
        &self,
        vm: &VmRef,
        spec: &SnapshotSpec,
        deadline: Instant,
        lost: Error,
    ) -> Result<EnsuredSnapshot> {
        for _ in 0..LOOKS {
            if let Some(info) = self.settled_snapshot(vm, spec, deadline).await? {
                return Ok(found(info));
            }
            tokio::time::sleep(LOOK_DELAY).await;
        }
        Err(lost)
    }

    /// The snapshot of that description, once nobody is making one.
    async fn settled_snapshot(
        &self,
        vm: &VmRef,
        spec: &SnapshotSpec,
        deadline: Instant,
    ) -> Result<Option<SnapshotInfo>> {
        let left = deadline.saturating_duration_since(Instant::now());
        let makes = |description: &str| description.contains("createsnapshot");
        self.settle_tasks(vm, makes, left).await?;
        let tree = self.snapshots(vm).await?;
        let ours = |info: &SnapshotInfo| info.description == spec.description;
        Ok(tree.into_iter().find(ours))
    }
}

fn found(info: SnapshotInfo) -> EnsuredSnapshot {
    EnsuredSnapshot {
        info,
        was_found: true,
    }
}
