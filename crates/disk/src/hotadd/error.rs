//! What can go wrong with a disk that was attached to this machine.

use std::io;
use std::path::PathBuf;

/// What can go wrong with a disk that was attached to this machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HotAddError {
    /// This machine does not know which VM it is.
    #[error(
        "this machine's identity is unknown: {} is not that of a VM, or cannot be read by this user", path.display()
    )]
    NoIdentity {
        /// Where it should stand.
        path: PathBuf,
    },
    /// The disk's uuid is none.
    #[error("{text:?} is no uuid of a disk")]
    BadUuid {
        /// What vSphere told.
        text: String,
    },
    /// No SCSI controller is in that PCI slot, and nothing else tells the disk.
    #[error(
        "no scsi controller of this machine is in pci slot {slot}, and the disk has no uuid to be found by: \
         set disk.EnableUUID of the proxy's VM"
    )]
    NoController {
        /// The slot, as vSphere numbers it.
        slot: u32,
    },
    /// The disk did not appear.
    #[error(
        "no disk appeared at unit {unit} of the controller in pci slot {slot} within {seconds} s"
    )]
    Missing {
        /// The slot of the controller.
        slot: u32,
        /// The unit.
        unit: u32,
        /// How long it was waited for.
        seconds: u64,
    },
    /// What is there is another disk.
    #[error("the disk at {address} is not the one that was attached: {problem}")]
    AnotherDisk {
        /// Its SCSI address.
        address: String,
        /// What tells it.
        problem: String,
    },
    /// Something on this machine has the disk: a mount, a volume group, an array.
    #[error(
        "{device} is in use on this machine: keep foreign disks from lvm, multipath, mdadm and automounts \
         as docs/operations/hotadd.md says"
    )]
    InUse {
        /// Its node.
        device: PathBuf,
    },
    /// The disk cannot be written.
    #[error("{device} is read-only")]
    ReadOnly {
        /// Its node.
        device: PathBuf,
    },
    /// The kernel did not let the disk go.
    #[error(
        "the kernel still has the disk at {address} {seconds} s after it was told to let it go"
    )]
    StillThere {
        /// Its SCSI address.
        address: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A file of the kernel or a device node cannot be used.
    #[error("use {}", path.display())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
