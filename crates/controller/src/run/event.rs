//! What happens to a run, as the journal records it.
//!
//! Only what must survive a restart stands here. Area maps, keys, cookies, tickets and progress are
//! the loop's, in memory.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_policy::Way;
use stillwater_types::{
    DatasetId, ExportId, NodeId, PointId, RequestId, TransferId, TreeId, VcenterId, VmId,
};

use super::cause::Cause;
use super::ladder::Rung;
use super::lease::Lease;
use super::reading::Why;
use crate::guest::{Hooks, Phase};
use crate::point::{How, QuiesceTry};

/// What a run is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Protects a VM.
    Backup(BackupWork),
    /// Makes a new VM from a point.
    RestoreVm(Box<RestoreWork>),
    /// Makes one disk of a point readable for an administrator.
    ExportDisk(ExportWork),
    /// Proves every byte of a point with the key.
    VerifyPoint(VerifyWork),
    /// Writes a point over the disks of the VM that it is of.
    RestoreInPlace(InPlaceWork),
}

/// A VM to protect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupWork {
    /// The VM.
    pub vm: VmId,
    /// Its name when the run was asked for.
    pub vm_name: String,
    /// Disks to leave out, by device key.
    pub exclude: Vec<i32>,
    /// Whether every byte is read, whatever the change map says.
    #[serde(default)]
    pub full: bool,
    /// How consistent the point is to be, strongest first; what the guest can do when empty.
    #[serde(default)]
    pub quiesce: Vec<Rung>,
    /// Programs to run in the guest around the freeze.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// The repository that the point goes to; the one of the VM's newest point, or the one with most room, when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<NodeId>,
    /// The policy that wants the point; none when a person asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// How many of its disks are read at once at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disks_at_once: Option<u32>,
    /// By which ways they may be read; by all that there are when none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<Way>,
}

impl BackupWork {
    /// All of a VM, asked for by a person who said nothing else.
    pub fn new(vm: VmId, vm_name: impl Into<String>) -> Self {
        Self {
            vm,
            vm_name: vm_name.into(),
            exclude: Vec::new(),
            full: false,
            quiesce: Vec::new(),
            hooks: None,
            repository: None,
            policy: None,
            disks_at_once: None,
            ways: Vec::new(),
        }
    }
}

/// A VM to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreWork {
    /// The point to make it from.
    pub point: PointId,
    /// The repository that keeps the point.
    pub repository: NodeId,
    /// Its name.
    pub name: String,
    /// Where it goes.
    pub placement: Placement,
    /// Whether to power it on once it is whole.
    pub power_on: bool,
    /// What is to be otherwise than usual.
    #[serde(default)]
    pub options: RestoreOptions,
}

/// What of a restore is to be otherwise than usual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreOptions {
    /// Disks, by device key or label, with a datastore of their own.
    pub disk_datastores: Vec<(String, String)>,
    /// Networks by their old and their new name.
    pub networks: Vec<(String, String)>,
    /// Who the VM is.
    pub identity: Identity,
    /// How the space of disks is taken; as at the source when none.
    pub provisioning: Option<Provisioning>,
    /// Whether it becomes a template.
    pub template: bool,
}

/// Who a restored VM is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// Another one than the one that was protected.
    #[default]
    New,
    /// The one that was protected.
    Original,
}

/// How the space of a disk is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provisioning {
    /// When it is written.
    Thin,
    /// At once.
    Thick,
    /// At once, and written with zeros.
    Eager,
}

/// Where a new VM goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The vCenter.
    pub vcenter: VcenterId,
    /// Name of the datastore that gets the disks.
    pub datastore: String,
    /// Inventory path or name; the datacenter's VM folder when none.
    pub folder: Option<String>,
    /// Inventory path or name; the host's root pool when none.
    pub resource_pool: Option<String>,
    /// Name of the host; any that sees the datastore when none.
    pub host: Option<String>,
    /// Name or inventory path of the datacenter, where the datastore's name is in several.
    #[serde(default)]
    pub datacenter: Option<String>,
    /// Name or inventory path of the cluster that the host is to be in.
    #[serde(default)]
    pub cluster: Option<String>,
}

/// A disk to make readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportWork {
    /// The point.
    pub point: PointId,
    /// The repository that keeps the point.
    pub repository: NodeId,
    /// The disk's device key.
    pub disk: i32,
}

/// A point to prove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyWork {
    /// The point.
    pub point: PointId,
    /// The repository that keeps the point.
    pub repository: NodeId,
    /// The name of its VM.
    pub vm_name: String,
}

/// A VM to take back to a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlaceWork {
    /// The point.
    pub point: PointId,
    /// The repository that keeps the point.
    pub repository: NodeId,
    /// The VM.
    pub vm: VmId,
    /// Its name when the run was asked for.
    pub vm_name: String,
    /// Whether what no point has may be lost.
    #[serde(default)]
    pub discard_changes: bool,
}

/// How much of a stored disk cannot be restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Bytes of the disk.
    pub bytes: u64,
    /// The chunks that they lie in.
    pub chunk_count: u64,
}

/// A disk that a run is to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDisk {
    /// The device key.
    pub key: i32,
    /// The device label.
    pub label: String,
    /// Size of the disk.
    pub length_bytes: u64,
}

/// Where chunks go to or come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The repository's node.
    pub repository: NodeId,
    /// The dataset that is written or read.
    pub dataset: DatasetId,
}

/// The tree that is one disk at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Size of the disk.
    pub length_bytes: u64,
    /// The cutter's name and parameters as the format writes them.
    pub cutter: String,
    /// Id of the top node.
    #[serde(with = "tree_id")]
    pub top: TreeId,
    /// How many levels of nodes lie below the top node.
    pub level: u32,
}

mod tree_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use stillwater_types::TreeId;

    pub fn serialize<S: Serializer>(id: &TreeId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TreeId, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// How much a transfer moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Bytes of the disk that are dealt with, holes included.
    pub done_bytes: u64,
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// Plain bytes that were not stored yet.
    pub new_bytes: u64,
    /// Bytes that went to the target.
    pub sent_bytes: u64,
    /// Bytes that are zeros.
    pub hole_bytes: u64,
    /// Chunks of the disk.
    pub chunk_count: u64,
    /// Chunks that were not stored yet.
    pub new_chunk_count: u64,
}

/// In which way a disk is read, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReading {
    /// In which way.
    pub how: How,
    /// Why all of it is read; none for an increment.
    pub why: Option<Why>,
}

/// What a transfer found out about the change map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Bytes that the map calls unchanged and that were compared.
    pub compared_bytes: u64,
    /// Bytes of these that had changed.
    pub lie_bytes: u64,
    /// Whether every byte of the disk was read.
    pub compared_all: bool,
    /// Chunks of the base that are not in the new tree.
    pub replaced_chunk_count: u64,
    /// Holes of the base that are not in the new tree, in bytes.
    pub replaced_hole_bytes: u64,
}

fn folder() -> String {
    super::act::FOLDER.to_owned()
}

/// A disk that may be attached to the VM of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    /// The proxy's VM.
    pub vm: VmId,
    /// The disk's file, such as `[ds] web/web.vmdk`.
    pub file: String,
}

/// A point that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedPoint {
    /// The point.
    pub point: PointId,
    /// The commit log's sequence number.
    pub sequence: u64,
    /// The repository's trusted time at commit.
    pub committed_at: Timestamp,
}

/// What a run holds in the world and must give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// The guest, which hooks hold still.
    Guest,
    /// Transfers on proxies.
    Transfers,
    /// An export on a proxy.
    Export,
    /// The data session at the vCenter, or whatever else reaches the disks.
    Access,
    /// The vSphere snapshot.
    Snapshot,
    /// The VM that a restore created.
    Vm,
    /// The repository session.
    Session,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hold::Guest => "guest",
            Hold::Transfers => "transfers",
            Hold::Export => "export",
            Hold::Access => "data access",
            Hold::Snapshot => "snapshot",
            Hold::Vm => "created vm",
            Hold::Session => "repository session",
        })
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done, with everything in it.
    Succeeded,
    /// A point exists, but something of the VM is not in it.
    Incomplete,
    /// Stopped by a fault.
    Failed(Cause),
    /// Stopped because somebody asked.
    Cancelled,
}

/// One thing that happened to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEvent {
    /// The run was asked for.
    Started {
        /// The request that a repeated call is recognised by.
        request: RequestId,
        /// What it is for.
        work: Work,
    },
    /// It is known what to move and where to, and what cannot be. A session is about to be opened.
    Planned {
        /// The repository and the dataset.
        target: Target,
        /// The disks to move.
        disks: Vec<PlannedDisk>,
        /// Disks that should be moved and cannot, each with its reason.
        missing: Vec<Cause>,
        /// What a person should know all the same.
        warnings: Vec<Cause>,
    },
    /// The repository made room and a proxy slot is held: the storage is ready.
    Reserved {
        /// The session's fencing token.
        fence: u64,
    },
    /// Hooks are about to be put into the guest: from here on its release is owed.
    GuestIntended,
    /// The hooks of a phase ran, or could not and need not; never those that release the guest.
    HooksRan {
        /// Which.
        phase: Phase,
        /// What a person should know, such as a hook that failed and may.
        warnings: Vec<Cause>,
    },
    /// A snapshot is about to be asked for.
    SnapshotIntended {
        /// The lease it will carry.
        lease: Lease,
        /// What is tried, strongest first; in journals of releases that did not say, nothing is asked
        /// of the guest.
        #[serde(default)]
        ladder: Vec<Rung>,
    },
    /// A try at a rung failed, and left no snapshot.
    RungFailed {
        /// What was tried, and why it failed.
        failed: QuiesceTry,
        /// Whether the same rung may be tried again.
        may_repeat: bool,
    },
    /// The snapshot exists.
    SnapshotCreated {
        /// Its managed object reference.
        snapshot: String,
        /// What a person should know of it.
        warnings: Vec<Cause>,
        /// For how long the VM stood still for it, as far as its log tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stun_micros: Option<u64>,
    },
    /// The frozen disks and what to read of them are known.
    Mapped {
        /// Disks of the VM that are neither moved nor were excluded: they came after the plan.
        #[serde(default)]
        missing: Vec<Cause>,
        /// How each disk is read.
        #[serde(default)]
        readings: BTreeMap<i32, DiskReading>,
        /// What a person should know, such as a map that could not be had.
        warnings: Vec<Cause>,
    },
    /// Nothing stands in the way of writing over the VM's disks: the first byte is about to be written.
    InPlaceBegun,
    /// A VM is about to be created.
    VmIntended,
    /// The VM exists, empty.
    VmCreated {
        /// The VM.
        vm: VmId,
        /// What a person should know, such as a device that could not be made.
        warnings: Vec<Cause>,
    },
    /// The disks can be reached.
    AccessOpened,
    /// A disk is about to be given to a proxy.
    Assigned {
        /// The disk.
        disk: i32,
        /// The proxy.
        proxy: NodeId,
        /// The transfer.
        transfer: TransferId,
        /// Where the disk is about to be attached for it.
        #[serde(default)]
        attachment: Option<Attachment>,
    },
    /// A disk was moved.
    Transferred {
        /// The disk.
        disk: i32,
        /// The transfer.
        transfer: TransferId,
        /// What was stored, or what was written.
        root: Root,
        /// How much was moved.
        counts: Counts,
        /// What was found out about the change map.
        #[serde(default)]
        findings: Findings,
        /// By which way it was moved to its end; the folder in journals of releases that knew no other.
        #[serde(default = "folder")]
        transport: String,
        /// Why by that way, and not by a better one.
        #[serde(default)]
        transport_reason: Box<str>,
    },
    /// A stored disk that is being proved is damaged; its `Transferred` follows.
    DamageFound {
        /// The disk.
        disk: i32,
        /// The transfer.
        transfer: TransferId,
        /// How much of it.
        damage: Damage,
        /// The first parts of it, each with what is wrong.
        parts: Vec<Cause>,
    },
    /// A transfer ended without its disk.
    TransferFailed {
        /// The disk.
        disk: i32,
        /// The transfer.
        transfer: TransferId,
        /// Why.
        cause: Cause,
        /// Whether another transfer is made although the cause would last: it goes another way.
        #[serde(default)]
        goes_another_way: bool,
    },
    /// The repository lacks something that was shared with the base unread: the disks are read
    /// again, to their end.
    BaseRefused {
        /// How these disks are read now.
        readings: BTreeMap<i32, DiskReading>,
        /// What the repository said.
        cause: Cause,
    },
    /// The repository has the manifest and everything that it reaches.
    Proposed {
        /// The point that it will be.
        point: PointId,
    },
    /// The snapshot is about to be removed.
    ReleaseIntended,
    /// The point is about to be committed.
    CommitIntended,
    /// The point exists.
    Committed(CommittedPoint),
    /// The new VM got what belongs to it besides its disks, and is whole.
    Dressed {
        /// What it did not get, and in what it is not as it was saved.
        warnings: Vec<Cause>,
    },
    /// The new VM was powered on, or could not be.
    PoweredOn {
        /// Why it could not be.
        warning: Option<Cause>,
    },
    /// An export is about to be opened.
    ExportIntended {
        /// The export.
        export: ExportId,
        /// The proxy that will serve it.
        proxy: NodeId,
    },
    /// The export can be read.
    ExportOpened,
    /// A reader got the disk to its end.
    ExportRead,
    /// Something that the run held was given back, or was never there.
    LetGo {
        /// What.
        hold: Hold,
    },
    /// Something could not be given back within the bounds; the reaper or its own expiry will.
    Stuck {
        /// What.
        hold: Hold,
        /// Why.
        cause: Cause,
    },
    /// Something came up that a person should know.
    Warned(Cause),
    /// Somebody asked to stop.
    CancelRequested,
    /// A step failed for good.
    Failed(Cause),
    /// Nothing of the run is in flight any more.
    Halted,
    /// The controller was restarted: whatever was in flight is lost or unknown.
    Restarted,
    /// The run is over and holds nothing.
    Ended(Outcome),
}
