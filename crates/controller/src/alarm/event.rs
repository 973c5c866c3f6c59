//! What the journal says about alarms.

use std::fmt;

use serde::{Deserialize, Serialize};
use stillwater_types::{DiskId, NodeId, VmId};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What is wrong. Its name is stable: scripts and runbooks match it, and the journal keeps it.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        pub enum AlarmKind {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl AlarmKind {
            /// Every kind; each has a page `docs/operations/alarms/<KIND>.md`.
            pub const ALL: &[AlarmKind] = &[$(AlarmKind::$name,)*];

            /// The name as it crosses the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(AlarmKind::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// A snapshot of ours resists its removal.
    LeftoverSnapshot = "LEFTOVER_SNAPSHOT";
    /// Deltas remain that no snapshot explains.
    ConsolidationNeeded = "CONSOLIDATION_NEEDED";
    /// vSphere's change map of a disk left something out.
    ChangeMapLied = "CHANGE_MAP_LIED";
    /// A run was ended because its snapshot grew too old.
    SnapshotTooOld = "SNAPSHOT_TOO_OLD";
    /// A disk of another VM is attached to a proxy's, and nobody is known who did it.
    StrayDisk = "STRAY_DISK";
    /// A VM that a restore began is not whole, and nobody is at work with it.
    HalfMadeVm = "HALF_MADE_VM";
    /// Parts of a point were written over a VM's disks, and the rest was not.
    HalfRestored = "HALF_RESTORED";
    /// A VM's newest point is older than its policy promises.
    PromiseBroken = "PROMISE_BROKEN";
    /// A run that could start has not been started for minutes: nobody decides any more.
    NothingRuns = "NOTHING_RUNS";
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What something is wrong with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A VM.
    Vm(VmId),
    /// One disk of a VM.
    Disk(DiskId),
    /// A node of the cluster, such as a repository.
    Node(NodeId),
}

impl From<VmId> for Subject {
    fn from(vm: VmId) -> Self {
        Self::Vm(vm)
    }
}

impl From<DiskId> for Subject {
    fn from(disk: DiskId) -> Self {
        Self::Disk(disk)
    }
}

impl From<NodeId> for Subject {
    fn from(node: NodeId) -> Self {
        Self::Node(node)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Vm(vm) => write!(f, "vm {vm}"),
            Subject::Disk(disk) => write!(f, "vm {} disk {}", disk.vm, disk.key),
            Subject::Node(node) => write!(f, "node {node}"),
        }
    }
}

/// One change of what stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmEvent {
    /// An alarm was raised, or the one that stood got another message.
    Raised {
        /// What is wrong.
        kind: AlarmKind,
        /// What it is wrong with.
        subject: Subject,
        /// What was found, and what to do.
        message: String,
    },
    /// It is over.
    Cleared {
        /// What was wrong.
        kind: AlarmKind,
        /// What it was wrong with.
        subject: Subject,
    },
}
