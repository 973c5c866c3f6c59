//! Snapshots of vSphere: making, reading and removing them.

use crate::{ChangeId, SnapshotRef};

/// How much the guest takes part in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quiesce {
    /// Not at all: crash consistent.
    None,
    /// VMware Tools flushes and freezes file systems and runs its scripts.
    FileSystem {
        /// How long the guest may take; vSphere accepts 5 to 240.
        timeout_minutes: u8,
    },
    /// Windows: VSS writers take part. Always as a copy, so that no log is truncated before the
    /// restore point is durable.
    Windows {
        /// How long the guest may take; vSphere accepts 5 to 240.
        timeout_minutes: u8,
        /// Who takes part.
        context: VssContext,
    },
}

/// Who takes part in a VSS snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VssContext {
    /// Writers, and file systems alone if they fail.
    Auto,
    /// Writers.
    Backup,
    /// File systems alone.
    FileShareBackup,
}

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

/// A snapshot in a VM's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The snapshot.
    pub snapshot: SnapshotRef,
    /// Display name.
    pub name: String,
    /// Description.
    pub description: String,
    /// When it was made, as the server writes it (RFC 3339).
    pub created_at: String,
    /// Whether the guest was quiesced; a request to quiesce can be ignored silently.
    pub quiesced: bool,
    /// The snapshot below which it lies.
    pub parent: Option<SnapshotRef>,
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
}

/// The VM as a snapshot froze it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// Its disks. Independent disks are in vSphere's own list, too: match against
    /// [`VmDisk::protectability`](crate::VmDisk::protectability).
    pub disks: Vec<FrozenDisk>,
    /// The whole `config` as XML with type names, to be kept in the restore point.
    pub config_xml: String,
}
