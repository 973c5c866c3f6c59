//! A session with a vCenter or host.

use std::time::Duration;

use stillwater_types::ExtentSet;

use crate::{
    CreatedVm, DataAccess, Endpoint, NewVm, Placement, PlacementSpec, Result, Since,
    SnapshotConfig, SnapshotInfo, SnapshotRef, SnapshotSpec, TaskOutcome, TaskRef, Vm, VmRef,
    VmSummary,
};

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Such as `VMware vCenter Server 8.0.2 build-22385739`.
    pub full_name: String,
    /// Such as `8.0.2`.
    pub version: String,
    /// Build number.
    pub build: String,
    /// Newest API version that it speaks.
    pub api_version: String,
    /// Whether it is a vCenter; a host that stands alone otherwise.
    pub is_vcenter: bool,
    /// Names a vCenter for its life; a host has none.
    pub instance_uuid: Option<String>,
}

/// A session with a vCenter or host. Clones share it.
///
/// A session that expired is renewed once per call. Reads are repeated after transport errors;
/// calls that change something are not.
#[derive(Debug, Clone)]
pub struct Client {}

impl Client {
    /// Negotiates the API version and logs in.
    pub async fn connect(endpoint: Endpoint) -> Result<Self> {
        todo!("{endpoint:?}")
    }

    /// What the server said of itself at login.
    pub fn about(&self) -> &About {
        todo!()
    }

    /// Keeps the session alive: call it at least every ten minutes. Renews it when it expired.
    pub async fn keep_alive(&self) -> Result<()> {
        todo!()
    }

    /// Ends the session. A later call would log in again.
    pub async fn logout(&self) -> Result<()> {
        todo!()
    }

    /// Every VM, in the order of their inventory paths.
    pub async fn inventory(&self) -> Result<Vec<VmSummary>> {
        todo!()
    }

    /// A VM, read afresh.
    pub async fn vm(&self, vm: &VmRef) -> Result<Vm> {
        todo!("{vm}")
    }

    /// Asks for a snapshot. When the answer was lost ([`crate::Error::OutcomeUnknown`]), look for
    /// the description in [`Client::snapshots`] and in running tasks before asking again.
    pub async fn create_snapshot(&self, vm: &VmRef, spec: &SnapshotSpec) -> Result<TaskRef> {
        todo!("{vm}{spec:?}")
    }

    /// Asks for a snapshot and waits for it.
    pub async fn take_snapshot(
        &self,
        vm: &VmRef,
        spec: &SnapshotSpec,
        timeout: Duration,
    ) -> Result<SnapshotRef> {
        todo!("{vm}{spec:?}{timeout:?}")
    }

    /// Tasks of the VM that make a snapshot and have not ended, oldest first.
    pub async fn snapshot_tasks(&self, vm: &VmRef) -> Result<Vec<TaskRef>> {
        todo!("{vm}")
    }

    /// The VM's snapshots, parents before children.
    pub async fn snapshots(&self, vm: &VmRef) -> Result<Vec<SnapshotInfo>> {
        todo!("{vm}")
    }

    /// The VM as a snapshot froze it.
    pub async fn snapshot_config(&self, snapshot: &SnapshotRef) -> Result<SnapshotConfig> {
        todo!("{snapshot}")
    }

    /// Asks to remove one snapshot; its children stay. Cannot be cancelled. A snapshot that is gone
    /// is answered with none.
    pub async fn remove_snapshot(
        &self,
        snapshot: &SnapshotRef,
        consolidate: bool,
    ) -> Result<Option<TaskRef>> {
        todo!("{snapshot}{consolidate}")
    }

    /// Asks to merge deltas that no snapshot explains.
    pub async fn consolidate(&self, vm: &VmRef) -> Result<TaskRef> {
        todo!("{vm}")
    }

    /// Turns change tracking on or off. It takes effect at the next snapshot.
    pub async fn set_change_tracking(&self, vm: &VmRef, on: bool, timeout: Duration) -> Result<()> {
        todo!("{vm}{on}{timeout:?}")
    }

    /// What changed on a disk up to the snapshot; paged to the full capacity, clipped, merged.
    pub async fn changed_areas(
        &self,
        vm: &VmRef,
        snapshot: &SnapshotRef,
        key: i32,
        since: Since<'_>,
        capacity_bytes: u64,
    ) -> Result<ExtentSet> {
        todo!("{vm}{snapshot}{key}{since:?}{capacity_bytes}")
    }

    /// Waits for a task to end.
    pub async fn wait_task(&self, task: &TaskRef, timeout: Duration) -> Result<TaskOutcome> {
        todo!("{task}{timeout:?}")
    }

    /// Finds where a new VM can go.
    pub async fn find_placement(&self, spec: &PlacementSpec) -> Result<Placement> {
        todo!("{spec:?}")
    }

    /// Makes a VM, powered off, with empty disks.
    pub async fn create_vm(
        &self,
        new: &NewVm,
        placement: &Placement,
        timeout: Duration,
    ) -> Result<CreatedVm> {
        todo!("{new:?}{placement:?}{timeout:?}")
    }

    /// Removes a VM and its files. Only for VMs that we made and that failed.
    pub async fn destroy_vm(&self, vm: &VmRef, timeout: Duration) -> Result<()> {
        todo!("{vm}{timeout:?}")
    }

    /// Turns a VM on.
    pub async fn power_on(&self, vm: &VmRef, timeout: Duration) -> Result<()> {
        todo!("{vm}{timeout:?}")
    }

    /// Logs in once more, for the data plane of one run on this VM.
    pub async fn open_data_access(&self, vm: &VmRef) -> Result<DataAccess> {
        todo!("{vm}")
    }

    /// Ends the session of a data plane. One that expired is no error.
    pub async fn close_data_access(&self, access: &DataAccess) -> Result<()> {
        todo!("{access:?}")
    }
}
