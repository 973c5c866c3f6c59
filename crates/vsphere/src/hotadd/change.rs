//! Changes of a VM's devices as the schema wants them told.
//!
//! `VirtualDeviceConfigSpec` has a `fileOperation`, by which a file is made or destroyed. It is written
//! nowhere here.

use super::place::{NewBus, Place};
use super::{AttachDisk, AttachMode, AttachedDisk};
use crate::body::Body;

/// Keys of devices that do not exist yet are negative.
const DISK_KEYS: i32 = -2000;

/// One change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change<'a> {
    /// A paravirtual controller is added.
    Bus(NewBus),
    /// A disk is attached.
    Attach(&'a AttachDisk, Place, AttachMode),
    /// A disk is detached; its file stays.
    Detach(&'a AttachedDisk),
}

/// `VirtualMachineConfigSpec` with nothing but these changes.
pub(super) fn spec(changes: &[Change<'_>]) -> Body {
    let mut spec = Body::new();
    for (index, change) in (0..).zip(changes) {
        spec = spec.inside("deviceChange", change.body(index));
    }
    Body::new().inside("spec", spec)
}

impl Change<'_> {
    fn body(&self, index: i32) -> Body {
        match self {
            Change::Bus(bus) => {
                let device = Body::new()
                    .value("key", bus.key)
                    .value("busNumber", bus.number)
                    .value("sharedBus", "noSharing");
                operation("add").typed("device", "ParaVirtualSCSIController", device)
            }
            Change::Attach(disk, place, mode) => {
                let backing = Body::new()
                    .value("fileName", &disk.file_name)
                    .value("diskMode", mode.as_str());
                let device = Body::new()
                    .value("key", DISK_KEYS - index)
                    .typed("backing", "VirtualDiskFlatVer2BackingInfo", backing)
                    .value("controllerKey", place.controller_key)
                    .value("unitNumber", place.unit)
                    .value("capacityInKB", disk.capacity_bytes / 1024)
                    .value("capacityInBytes", disk.capacity_bytes);
                operation("add").typed("device", "VirtualDisk", device)
            }
            Change::Detach(disk) => {
                let device = Body::new()
                    .value("key", disk.key)
                    .value("controllerKey", disk.controller_key)
                    .value("unitNumber", disk.unit)
                    .value("capacityInKB", disk.capacity_bytes / 1024);
                operation("remove").typed("device", "VirtualDisk", device)
            }
        }
    }
}

fn operation(operation: &str) -> Body {
    Body::new().value("operation", operation)
}
