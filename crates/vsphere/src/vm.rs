//! A virtual machine: in a list, and read afresh before work.

use crate::{SnapshotInfo, VmRef};

/// Whether a VM runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Power {
    /// Running.
    On,
    /// Powered off.
    Off,
    /// Suspended to disk.
    Suspended,
}

/// Whether VMware Tools runs in the guest; without it nothing can be quiesced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tools {
    /// Running.
    Running,
    /// Not running or not installed.
    NotRunning,
    /// Executing scripts: starting, stopping or suspending.
    ExecutingScripts,
    /// The server did not say, as for a VM that never ran.
    Unknown,
}

/// A VM as a list shows it. What the server cannot tell (a VM on a disconnected host) is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSummary {
    /// The VM.
    pub vm: VmRef,
    /// Its display name.
    pub name: String,
    /// Its place in the inventory, such as `/DC0/vm/folder/name`.
    pub path: String,
    /// BIOS UUID; may be duplicated by clones.
    pub uuid: Option<String>,
    /// The UUID that vCenter keeps unique; links a VM that was registered anew.
    pub instance_uuid: Option<String>,
    /// Whether it runs.
    pub power: Power,
    /// Whether VMware Tools runs.
    pub tools: Tools,
    /// Whether change tracking is on.
    pub cbt: bool,
    /// How many disks it has.
    pub disk_count: usize,
    /// Sum of the disks' sizes.
    pub capacity_bytes: u64,
    /// Whether it is a template.
    pub template: bool,
    /// Name of its host.
    pub host: Option<String>,
    /// Names of its datastores.
    pub datastores: Vec<String>,
}

/// A VM read afresh, as a run needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// The VM.
    pub vm: VmRef,
    /// Its display name.
    pub name: String,
    /// Its place in the inventory, such as `/DC0/vm/folder/name`.
    pub path: String,
    /// Inventory path of its datacenter, such as `/DC0`.
    pub datacenter: String,
    /// BIOS UUID; may be duplicated by clones.
    pub uuid: String,
    /// The UUID that vCenter keeps unique.
    pub instance_uuid: Option<String>,
    /// Guest operating system id.
    pub guest_id: String,
    /// Whether it runs.
    pub power: Power,
    /// Whether VMware Tools runs.
    pub tools: Tools,
    /// Whether change tracking is on.
    pub cbt_enabled: bool,
    /// Whether its hardware version can track changes.
    pub cbt_supported: bool,
    /// Whether deltas remain that no snapshot explains.
    pub consolidation_needed: bool,
    /// Whether it is a template.
    pub template: bool,
    /// Name of its host.
    pub host: Option<String>,
    /// Names of its datastores.
    pub datastores: Vec<String>,
    /// Its disks, in the order of the hardware list.
    pub disks: Vec<VmDisk>,
    /// Its snapshots, parents before children.
    pub snapshots: Vec<SnapshotInfo>,
    /// The whole `config` as XML with type names, to be kept in the restore point.
    pub config_xml: String,
}

/// Whether a snapshot can freeze a disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Protectability {
    /// A snapshot freezes it.
    Protectable,
    /// Independent of snapshots.
    Independent,
    /// A raw device in physical mode: vSphere never sees its blocks.
    PhysicalRdm,
    /// On a controller whose bus is shared with other VMs.
    SharedBus,
    /// Shared by several writers.
    MultiWriter,
    /// A backing that we do not know; its type is named.
    UnknownBacking(String),
}

impl Protectability {
    /// Whether a snapshot freezes the disk.
    pub const fn is_protectable(&self) -> bool {
        matches!(self, Protectability::Protectable)
    }

    /// Why not, in words for a person; none when it is.
    pub fn obstacle(&self) -> Option<String> {
        match self {
            Protectability::Protectable => None,
            Protectability::Independent => Some("the disk is independent of snapshots".into()),
            Protectability::PhysicalRdm => Some("a raw device mapping in physical mode".into()),
            Protectability::SharedBus => Some("its controller's bus is shared".into()),
            Protectability::MultiWriter => Some("several VMs may write it".into()),
            Protectability::UnknownBacking(kind) => Some(format!("backing {kind} is not known")),
        }
    }
}

/// A virtual disk of a VM as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmDisk {
    /// Device key; unique within the VM only.
    pub key: i32,
    /// What people call it, such as `Hard disk 1`.
    pub label: String,
    /// Its size.
    pub capacity_bytes: u64,
    /// Such as `[ds] web/web.vmdk`; the leaf of the chain when there are snapshots.
    pub file_name: String,
    /// UUID of the backing, when it has one.
    pub backing_uuid: Option<String>,
    /// vSphere's disk mode, such as `persistent`.
    pub mode: String,
    /// Whether a snapshot can freeze it.
    pub protectability: Protectability,
    /// Key of its controller.
    pub controller_key: i32,
    /// Unit on the controller.
    pub unit: i32,
}
