//! A new VM as the schema wants it told. Every function writes one type in the schema's order.

use super::{ControllerKind, NewController, NewDisk, NewNic, NewVm, NicNetwork};
use crate::body::Body;

/// Keys of devices that do not exist yet are negative. Each family has a range of its own.
const CONTROLLER_KEYS: i32 = -1000;
const DISK_KEYS: i32 = -2000;
const NIC_KEYS: i32 = -4000;
/// The two IDE buses are made by the server, always with these keys.
const IDE_KEYS: i32 = 200;

/// `VirtualMachineConfigSpec`.
pub(super) fn config_spec(new: &NewVm, datastore: &str, path: &str) -> Body {
    Body::new()
        .value("name", &new.name)
        .optional("version", new.version.as_ref())
        .value("guestId", &new.guest_id)
        .optional("annotation", new.annotation.as_ref())
        .inside("files", Body::new().value("vmPathName", path))
        .value("numCPUs", new.cpus)
        .optional("numCoresPerSocket", new.cores_per_socket)
        .value("memoryMB", new.memory_mib)
        .then(device_changes(new, datastore))
        .then(extra_config(new))
        .then(boot_options(new))
        .optional("firmware", new.firmware.as_ref())
}

fn device_changes(new: &NewVm, datastore: &str) -> Body {
    let mut body = Body::new();
    for (index, controller) in (0..).zip(&new.controllers) {
        if controller.kind != ControllerKind::Ide {
            body = body.inside(
                "deviceChange",
                added(None, controller_spec(index, controller)),
            );
        }
    }
    for (index, disk) in (0..).zip(&new.disks) {
        let device = disk_spec(index, disk, new, datastore);
        body = body.inside("deviceChange", added(Some("create"), device));
    }
    for (index, nic) in (0..).zip(&new.nics) {
        body = body.inside("deviceChange", added(None, nic_spec(index, nic)));
    }
    body
}

/// `VirtualDeviceConfigSpec`.
fn added(file_operation: Option<&str>, device: Body) -> Body {
    Body::new()
        .value("operation", "add")
        .optional("fileOperation", file_operation)
        .then(device)
}

fn controller_spec(index: i32, controller: &NewController) -> Body {
    let device = Body::new()
        .value("key", CONTROLLER_KEYS - index)
        .value("busNumber", controller.bus)
        .optional(
            "sharedBus",
            controller.kind.is_scsi().then_some("noSharing"),
        );
    Body::new().typed("device", controller.kind.as_str(), device)
}

/// What a disk says its controller's key is.
fn controller_key(new: &NewVm, key: i32) -> i32 {
    let place = (0..)
        .zip(&new.controllers)
        .find(|(_, controller)| controller.key == key);
    match place {
        Some((_, controller)) if controller.kind == ControllerKind::Ide => {
            IDE_KEYS + controller.bus
        }
        Some((index, _)) => CONTROLLER_KEYS - index,
        // `NewVm::check` lets no such disk pass; the server would refuse it.
        None => key,
    }
}

/// `VirtualDisk` with `VirtualDiskFlatVer2BackingInfo`. The server names the file.
fn disk_spec(index: i32, disk: &NewDisk, new: &NewVm, datastore: &str) -> Body {
    let backing = Body::new()
        .value("fileName", format!("[{datastore}]"))
        .value("diskMode", "persistent")
        .value("thinProvisioned", disk.thin);
    let device = Body::new()
        .value("key", DISK_KEYS - index)
        .typed("backing", "VirtualDiskFlatVer2BackingInfo", backing)
        .value("controllerKey", controller_key(new, disk.controller_key))
        .value("unitNumber", disk.unit)
        .value("capacityInKB", disk.capacity_bytes / 1024)
        .value("capacityInBytes", disk.capacity_bytes);
    Body::new().typed("device", "VirtualDisk", device)
}

/// `VirtualEthernetCard`.
fn nic_spec(index: i32, nic: &NewNic) -> Body {
    let connectable = Body::new()
        .value("startConnected", nic.start_connected)
        .value("allowGuestControl", true)
        .value("connected", false);
    let device = Body::new()
        .value("key", NIC_KEYS - index)
        .then(network_backing(&nic.network))
        .inside("connectable", connectable)
        .value("addressType", "generated");
    Body::new().typed("device", nic.kind.as_str(), device)
}

fn network_backing(network: &NicNetwork) -> Body {
    let (ty, backing) = match network {
        NicNetwork::Standard(name) => (
            "VirtualEthernetCardNetworkBackingInfo",
            Body::new().value("deviceName", name),
        ),
        NicNetwork::Distributed {
            switch_uuid,
            portgroup_key,
        } => {
            let port = Body::new()
                .value("switchUuid", switch_uuid)
                .value("portgroupKey", portgroup_key);
            (
                "VirtualEthernetCardDistributedVirtualPortBackingInfo",
                Body::new().inside("port", port),
            )
        }
        NicNetwork::Opaque { id, kind } => (
            "VirtualEthernetCardOpaqueNetworkBackingInfo",
            Body::new()
                .value("opaqueNetworkId", id)
                .value("opaqueNetworkType", kind),
        ),
    };
    Body::new().typed("backing", ty, backing)
}

/// `OptionValue`: its value may be of any type, so the type is named.
fn extra_config(new: &NewVm) -> Body {
    if !new.disk_uuids_visible {
        return Body::new();
    }
    let option = Body::new().value("key", "disk.EnableUUID").typed(
        "value",
        "xsd:string",
        Body::text("TRUE"),
    );
    Body::new().inside("extraConfig", option)
}

fn boot_options(new: &NewVm) -> Body {
    match new.secure_boot {
        Some(secure) => Body::new().inside(
            "bootOptions",
            Body::new().value("efiSecureBootEnabled", secure),
        ),
        None => Body::new(),
    }
}
