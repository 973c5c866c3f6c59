//! Snapshots of vSphere: making, reading and removing them.

use std::time::Duration;

use tokio::time::Instant;

use crate::body::Body;
use crate::client::{Call, Client, Repeat, bad_answer};
use crate::device::{change_id, disks, is_disk};
use crate::error::FaultKind;
use crate::reference::Moref;
use crate::vm::vm_gone;
use crate::xml::{Element, Problem};
use crate::{ChangeId, DiskTraits, Error, Protectability, Result, SnapshotRef, TaskRef, VmRef};

mod ensure;
mod leftover;
mod quiesce;
mod tree;

pub use ensure::EnsuredSnapshot;
pub use leftover::Unmerged;
pub use quiesce::{Quiesce, RungOutcome, VssBackup, VssContext, WindowsQuiesce};
pub use tree::SnapshotInfo;
pub(crate) use tree::tree;

const CREATE: &str = "CreateSnapshotEx_Task";
const REMOVE: &str = "RemoveSnapshot_Task";

/// How long is waited before a busy VM is asked again.
pub(crate) const BUSY_DELAY: Duration = Duration::from_secs(2);

/// What a snapshot is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSpec {
    /// Display name.
    pub name: String,
    /// Carries the owner's lease; a snapshot whose answer was lost is found by it.
    pub description: String,
    /// How much the guest takes part. Memory is never included.
    pub quiesce: Quiesce,
}

/// A disk as a snapshot froze it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenDisk {
    /// Device key.
    pub key: i32,
    /// What people call it.
    pub label: String,
    /// Its size.
    pub capacity_bytes: u64,
    /// The file to read, such as `[ds] web/web.vmdk`.
    pub file_name: String,
    /// Where change tracking stood; none when it is not tracked.
    pub change_id: Option<ChangeId>,
    /// UUID of the backing, when it has one.
    pub backing_uuid: Option<String>,
    /// Whether the snapshot froze it at all.
    pub protectability: Protectability,
    /// How the disk is made: what a way of reading it must know.
    pub traits: DiskTraits,
}

/// The VM as a snapshot froze it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// Its disks. Independent disks are in vSphere's own list, too: see
    /// [`FrozenDisk::protectability`].
    pub disks: Vec<FrozenDisk>,
    /// The whole `config` as XML with type names, to be kept in the restore point.
    pub config_xml: String,
}

impl Client {
    /// Asks for a snapshot. When the answer was lost ([`Error::OutcomeUnknown`]), look for the
    /// description in [`Client::snapshots`] and for [`Client::snapshot_tasks`] before asking again.
    pub async fn create_snapshot(&self, vm: &VmRef, spec: &SnapshotSpec) -> Result<TaskRef> {
        let body = Body::new()
            .value("name", &spec.name)
            .value("description", &spec.description)
            .value("memory", false)
            .then(spec.quiesce.spec());
        let task = self.start_task(CREATE, &vm.moref(), body).await;
        task.map_err(|error| snapshot_failed(vm_gone(error, vm), vm))
    }

    /// Asks for a snapshot and waits for it.
    pub async fn take_snapshot(
        &self,
        vm: &VmRef,
        spec: &SnapshotSpec,
        timeout: Duration,
    ) -> Result<SnapshotRef> {
        let task = self.create_snapshot(vm, spec).await?;
        // A task that cannot be looked at has not failed: only its own end is the snapshot's.
        let outcome = self.wait_task(&task, timeout).await;
        let outcome = outcome.map_err(|error| match error {
            Error::TaskFailed { .. } => snapshot_failed(error, vm),
            error => error,
        })?;
        let made = outcome
            .result
            .ok_or_else(|| Problem::new("the task names no snapshot"));
        made.map(SnapshotRef::new)
            .map_err(|problem| bad_answer(CREATE, problem))
    }

    /// Tasks of the VM that make a snapshot and have not ended, oldest first.
    pub async fn snapshot_tasks(&self, vm: &VmRef) -> Result<Vec<TaskRef>> {
        let makes = |description: &str| description.contains("createsnapshot");
        self.running_tasks(vm, makes).await
    }

    /// The VM's snapshots, parents before children.
    pub async fn snapshots(&self, vm: &VmRef) -> Result<Vec<SnapshotInfo>> {
        let read = self.read_vm(vm, &["snapshot"]).await?;
        // A tree that cannot be seen is not an empty one.
        let snapshots = read.seen("snapshot")?.map(tree).transpose();
        Ok(snapshots
            .map_err(|problem| read.bad(problem))?
            .unwrap_or_default())
    }

    /// The VM as a snapshot froze it.
    pub async fn snapshot_config(&self, snapshot: &SnapshotRef) -> Result<SnapshotConfig> {
        let read = self.read(&snapshot.moref(), &["config"]).await?;
        let config = read.need("config")?;
        let disks = frozen_disks(config).map_err(|problem| read.bad(problem))?;
        Ok(SnapshotConfig {
            disks,
            config_xml: config.document("config"),
        })
    }

    /// Asks to remove one snapshot; its children stay. Cannot be cancelled, and may take hours.
    /// A snapshot that is gone is answered with none.
    pub async fn remove_snapshot(
        &self,
        snapshot: &SnapshotRef,
        consolidate: bool,
    ) -> Result<Option<TaskRef>> {
        let body = Body::new()
            .value("removeChildren", false)
            .value("consolidate", consolidate);
        match self.start_task(REMOVE, &snapshot.moref(), body).await {
            Err(error) if error.is(&FaultKind::ManagedObjectNotFound) => Ok(None),
            task => task.map(Some),
        }
    }

    /// Removes one snapshot and waits until it is gone, whoever removed it. Waits for another task
    /// of the VM and asks again.
    pub async fn discard_snapshot(&self, snapshot: &SnapshotRef, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let outcome = match self.remove_snapshot(snapshot, true).await {
                Ok(None) => return Ok(()),
                Ok(Some(task)) => self.wait_task(&task, left).await.map(drop),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) if !may_pass(&error) || left <= BUSY_DELAY => return Err(error),
                Err(error) => tracing::debug!(%snapshot, %error, "asking again"),
            }
            tokio::time::sleep(BUSY_DELAY).await;
        }
    }

    /// Asks to merge deltas that no snapshot explains.
    pub async fn consolidate(&self, vm: &VmRef) -> Result<TaskRef> {
        let task = self
            .start_task("ConsolidateVMDisks_Task", &vm.moref(), Body::new())
            .await;
        task.map_err(|error| vm_gone(error, vm))
    }

    /// Turns change tracking on or off. It takes effect at the next snapshot.
    pub async fn set_change_tracking(&self, vm: &VmRef, on: bool, timeout: Duration) -> Result<()> {
        let spec = Body::new().value("changeTrackingEnabled", on);
        let body = Body::new().inside("spec", spec);
        let task = self.start_task("ReconfigVM_Task", &vm.moref(), body).await;
        let task = task.map_err(|error| vm_gone(error, vm))?;
        self.wait_task(&task, timeout).await.map(drop)
    }

    /// Makes a call that answers with a task.
    pub(crate) async fn start_task(
        &self,
        method: &'static str,
        this: &Moref,
        body: Body,
    ) -> Result<TaskRef> {
        let answer = self
            .call_one(Call {
                method,
                this,
                body,
                repeat: Repeat::Never,
            })
            .await?;
        let task = answer
            .moref()
            .map_err(|problem| bad_answer(method, problem))?;
        Ok(TaskRef::new(task.value))
    }
}

/// Whether a removal that failed so may succeed later, or has: then the snapshot is asked for again.
pub(crate) fn may_pass(error: &Error) -> bool {
    match error {
        Error::TaskLost { .. } | Error::OutcomeUnknown { .. } => true,
        error => error.vim_fault().is_some_and(|fault| {
            matches!(
                fault.kind,
                FaultKind::TaskInProgress { .. } | FaultKind::ManagedObjectNotFound
            )
        }),
    }
}

/// A fault of the snapshot itself; what is about the session or the connection stays what it is.
fn snapshot_failed(error: Error, vm: &VmRef) -> Error {
    match error {
        Error::Fault { fault, .. } | Error::TaskFailed { fault, .. } => Error::SnapshotFailed {
            vm: vm.clone(),
            fault,
        },
        error => error,
    }
}

pub(crate) fn frozen_disks(config: &Element) -> Result<Vec<FrozenDisk>, Problem> {
    let hardware = config.need("hardware")?;
    let devices: Vec<Element> = hardware.all("device").cloned().collect();
    let change_ids = devices
        .iter()
        .filter(|device| is_disk(device))
        .map(change_id);
    let frozen = disks(&devices)?
        .into_iter()
        .zip(change_ids)
        .map(|(disk, change_id)| FrozenDisk {
            key: disk.key,
            label: disk.label,
            capacity_bytes: disk.capacity_bytes,
            file_name: disk.file_name,
            change_id,
            backing_uuid: disk.backing_uuid,
            protectability: disk.protectability,
            traits: disk.traits,
        });
    Ok(frozen.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_ids_stay_with_their_disks() {
        let disk = |key: i32, change: &str| {
            format!(
                r#"<device x:type="VirtualDisk"><key>{key}</key><backing x:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds] a/{key}.vmdk</fileName><diskMode>persistent</diskMode>{change}</backing><controllerKey>1000</controllerKey><unitNumber>0</unitNumber><capacityInKB>4</capacityInKB></device>"#
            )
        };
        let xml = format!(
            r#"<val xmlns:x="i"><hardware><device x:type="VirtualIDEController"><key>200</key><busNumber>0</busNumber></device>{}{}</hardware></val>"#,
            disk(2000, ""),
            disk(2001, "<changeId>52 de/7</changeId>")
        );
        let frozen = frozen_disks(&Element::parse(&xml).expect("reads")).expect("disks");
        let ids: Vec<_> = frozen
            .iter()
            .map(|d| (d.key, d.change_id.clone()))
            .collect();
        assert_eq!(ids, [(2000, None), (2001, ChangeId::parse("52 de/7"))]);
    }
}
