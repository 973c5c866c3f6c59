//! What the engine is to do next for a run.

use stillwater_types::{NodeId, TransferId};

use super::event::{Hold, RunEvent};

/// One act in the world, decided by [`step()`](super::step()) and performed by the loop.
///
/// Each forward act ends in exactly one event, `Failed` among them; giving a hold back ends in
/// `LetGo` or `Stuck`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Journal an event: an intent that must be durable before what follows it, or the end.
    Record(Box<RunEvent>),
    /// Read the VM afresh, or the point, and choose a repository.
    Plan,
    /// Open the repository session and take proxy slots.
    Reserve,
    /// Prepare the guest and run the hooks that come before the snapshot.
    HoldGuest,
    /// Run the hooks that need the snapshot, while the guest is still held.
    UseHeldGuest,
    /// Work out the lease of the snapshot to be made.
    IntendSnapshot,
    /// Make the snapshot.
    CreateSnapshot,
    /// Ask which areas of the frozen disks to read.
    Map,
    /// See once more that the VM's disks may be written over.
    BeginInPlace,
    /// Create the VM to restore into.
    CreateVm,
    /// Open access to the disks.
    OpenAccess,
    /// Find a proxy for a disk.
    Assign {
        /// The disk.
        disk: i32,
    },
    /// Have a proxy move a disk, and follow it to its end.
    Transfer {
        /// The disk.
        disk: i32,
        /// The proxy.
        proxy: NodeId,
        /// The transfer.
        transfer: TransferId,
    },
    /// Write the manifest and propose it.
    Propose,
    /// Commit the point.
    Commit,
    /// Give the new VM what belongs to it besides its disks.
    Dress,
    /// Power the new VM on.
    PowerOn,
    /// Find a proxy for the export.
    IntendExport,
    /// Open the export and hand out access.
    OpenExport,
    /// Keep the export open until it was read or its time is over.
    ServeExport,
    /// Give something back.
    LetGo(Hold),
    /// Stop whatever forward act is in flight, wait for each to end, then say `Halted`.
    Halt,
}
