//! A VM that is to be.

use crate::{Result, VmRef};

/// An empty disk of a new VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDisk {
    /// What its maker calls it: the device key in the saved configuration. Answered with
    /// [`CreatedDisk::source_key`].
    pub source_key: i32,
    /// Its size; a multiple of 512.
    pub capacity_bytes: u64,
    /// Whether space is taken only when it is written.
    pub thin: bool,
}

/// A VM that is to be: hardware without identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVm {
    /// Display name.
    pub name: String,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory.
    pub memory_mib: u64,
    /// Guest operating system id, such as `debian11_64Guest`.
    pub guest_id: String,
    /// `bios` or `efi`; the server's default when none.
    pub firmware: Option<String>,
    /// Notes.
    pub annotation: Option<String>,
    /// Its disks.
    pub disks: Vec<NewDisk>,
}

/// A VM that was made, powered off, with empty disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedVm {
    /// The VM.
    pub vm: VmRef,
    /// Its disks, in the order of [`NewVm::disks`].
    pub disks: Vec<CreatedDisk>,
}

/// An empty disk that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedDisk {
    /// [`NewDisk::source_key`].
    pub source_key: i32,
    /// Device key in the new VM.
    pub key: i32,
    /// Such as `[ds] web/web.vmdk`.
    pub file_name: String,
    /// Its size.
    pub capacity_bytes: u64,
}

impl NewVm {
    /// Hardware as a saved configuration has it: processors, memory, guest, firmware, controllers,
    /// disks and network cards on the same networks. Whatever names the old VM is left out:
    /// UUIDs, MAC addresses, files, snapshots, change tracking.
    pub fn from_config(config_xml: &str, name: &str) -> Result<Self> {
        todo!("{config_xml}{name}")
    }
}
