//! Restoring a VM, and what that would do.

use stillwater_types::{Fault, PointId, VmId};

use crate::StartRestoreVm;

/// Who the restored VM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestoreIdentity {
    /// Another VM than the one that was protected.
    New,
    /// The one that was protected.
    Original,
}

/// How the space of a disk is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskProvisioning {
    /// When it is written.
    Thin,
    /// At once.
    Thick,
    /// At once, and written with zeros.
    Eager,
}

/// A disk with a datastore of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskDatastore {
    /// Its device key in the point, or its label.
    pub disk: String,
    /// Name of the datastore.
    pub datastore: String,
}

/// What cards on one network are plugged into instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkChange {
    /// Name of the network that the VM had.
    pub from: String,
    /// Name of a network of the host that it is restored to.
    pub to: String,
}

/// Asks what a restore of a VM would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRestoreVmRequest {
    /// The restore.
    pub restore: StartRestoreVm,
}

/// What a restore of a VM would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRestoreVmResponse {
    /// What would be done; none when it is not known where.
    pub plan: Option<RestorePlan>,
    /// Why a run would refuse, before anything is made.
    pub refusals: Vec<Fault>,
}

/// What a restore would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestorePlan {
    /// What the VM is called.
    pub name: String,
    /// Name of the vCenter.
    pub vcenter: String,
    /// Inventory path of the folder.
    pub folder: String,
    /// Name of the host.
    pub host: String,
    /// Name of the datastore that gets the VM's own files.
    pub datastore: String,
    /// Its disks.
    pub disks: Vec<RestorePlanDisk>,
    /// Its network cards.
    pub cards: Vec<RestorePlanCard>,
    /// What will be written: holes are not.
    pub write_bytes: u64,
    /// How fast earlier restores wrote to a new VM; 0 when none was measured.
    pub bytes_per_second: u64,
    /// What that makes; 0 when it is not known.
    pub seconds: u64,
    /// What is done, in order, each in words.
    pub steps: Vec<String>,
    /// What the new VM will lack, each in words.
    pub losses: Vec<String>,
}

/// A disk that a restore would make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlanDisk {
    /// Its device key in the point.
    pub key: i32,
    /// Its label.
    pub label: String,
    /// Its size.
    pub capacity_bytes: u64,
    /// What will be written of it.
    pub write_bytes: u64,
    /// Name of its datastore.
    pub datastore: String,
    /// How its space is taken.
    pub provisioning: DiskProvisioning,
}

/// A network card that a restore would make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlanCard {
    /// Its label.
    pub label: String,
    /// What it was plugged into; empty when that is not known.
    pub from: String,
    /// What it will be plugged into.
    pub to: String,
    /// Whether it is plugged in when the VM starts.
    pub connected: bool,
    /// The address that it keeps; empty for a new one.
    pub mac_address: String,
}

/// A run that writes a point over the disks of the VM that it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreInPlaceRun {
    /// The point.
    pub point_id: PointId,
    /// The VM.
    pub vm_id: VmId,
    /// Its name when the run began.
    pub vm_name: String,
}

/// Asks to write a point over the disks of the VM that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartRestoreInPlace {
    /// The point.
    pub point_id: PointId,
    /// Whether what no point has may be lost.
    pub discard_changes: bool,
}

/// Asks what a restore over the VM's own disks would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanRestoreInPlaceRequest {
    /// The restore.
    pub restore: StartRestoreInPlace,
}

/// What a restore over the VM's own disks would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRestoreInPlaceResponse {
    /// The VM.
    pub vm_id: VmId,
    /// Its name.
    pub vm_name: String,
    /// The disks that would be taken back.
    pub disks: Vec<RestoreInPlaceDisk>,
    /// What is done, in order, each in words.
    pub steps: Vec<String>,
    /// What is lost or stays as it is, each in words.
    pub losses: Vec<String>,
    /// Why a run would refuse, before anything is touched. Empty when it would not.
    pub refusals: Vec<Fault>,
}

/// A disk that would be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreInPlaceDisk {
    /// Its device key in the point.
    pub key: i32,
    /// Its label.
    pub label: String,
    /// Its size.
    pub length_bytes: u64,
    /// Whether all of it is read and compared, for want of a point and a change map to start from.
    pub compares_all: bool,
}
