//! A new VM as the schema wants it told. Every function writes one type in the schema's order.

use super::{
    Boot, ControllerKind, MacAddress, NewController, NewDisk, NewNic, NewVm, NicNetwork,
    Provisioning, Share, Switches,
};
use crate::body::Body;

/// Keys of devices that do not exist yet are negative. Each family has a range of its own.
const CONTROLLER_KEYS: i32 = -1000;
const DISK_KEYS: i32 = -2000;
const NIC_KEYS: i32 = -4000;
/// The two IDE buses are made by the server, always with these keys.
const IDE_KEYS: i32 = 200;

/// `VirtualMachineConfigSpec`.
pub(super) fn config_spec(new: &NewVm, datastore: &str, path: &str) -> Body {
    let Switches {
        memory_hot_add,
        cpu_hot_add,
        cpu_hot_remove,
        memory_locked,
        nested,
    } = new.switches;
    Body::new()
        .value("name", &new.name)
        .optional("version", new.version.as_ref())
        .optional("uuid", new.bios_uuid.as_ref())
        .optional("instanceUuid", new.instance_uuid.as_ref())
        .value("guestId", &new.guest_id)
        .optional("alternateGuestName", new.alternate_guest_name.as_ref())
        .optional("annotation", new.annotation.as_ref())
        .inside("files", Body::new().value("vmPathName", path))
        .value("numCPUs", new.cpus)
        .optional("numCoresPerSocket", new.cores_per_socket)
        .value("memoryMB", new.memory_mib)
        .optional("memoryHotAddEnabled", memory_hot_add)
        .optional("cpuHotAddEnabled", cpu_hot_add)
        .optional("cpuHotRemoveEnabled", cpu_hot_remove)
        .then(device_changes(new, datastore))
        .then(share("cpuAllocation", new.cpu_share.as_ref()))
        .then(share("memoryAllocation", new.memory_share.as_ref()))
        .then(latency_sensitivity(new))
        .then(extra_config(new))
        .optional("swapPlacement", new.swap_placement.as_ref())
        .then(boot_options(&new.boot))
        .optional("firmware", new.firmware.as_ref())
        .optional("memoryReservationLockedToMax", memory_locked)
        .optional("nestedHVEnabled", nested)
}

/// `ResourceAllocationInfo`.
fn share(tag: &str, share: Option<&Share>) -> Body {
    let Some(share) = share else {
        return Body::new();
    };
    let mut body = Body::new()
        .optional("reservation", share.reservation)
        .optional("expandableReservation", share.is_expandable)
        .optional("limit", share.limit);
    if let Some(level) = &share.level {
        // The schema wants a number also where the level decides.
        let shares = Body::new()
            .value("shares", share.shares.unwrap_or_default())
            .value("level", level);
        body = body.inside("shares", shares);
    }
    Body::new().inside(tag, body)
}

fn latency_sensitivity(new: &NewVm) -> Body {
    match &new.latency_sensitivity {
        Some(level) => Body::new().inside("latencySensitivity", Body::new().value("level", level)),
        None => Body::new(),
    }
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
    let datastore = disk.datastore.as_deref().unwrap_or(datastore);
    let eager = (disk.provisioning == Provisioning::Eager).then_some(true);
    let backing = Body::new()
        .value("fileName", format!("[{datastore}]"))
        .value("diskMode", "persistent")
        .value("thinProvisioned", disk.provisioning == Provisioning::Thin)
        .optional("eagerlyScrub", eager);
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
        .value("allowGuestControl", nic.guest_controlled)
        .value("connected", false);
    let device = Body::new()
        .value("key", NIC_KEYS - index)
        .then(network_backing(&nic.network))
        .inside("connectable", connectable)
        .then(address(nic.mac.as_ref()));
    Body::new().typed("device", nic.kind.as_str(), device)
}

fn address(mac: Option<&MacAddress>) -> Body {
    match mac {
        Some(mac) => Body::new()
            .value("addressType", &mac.kind)
            .value("macAddress", &mac.address),
        None => Body::new().value("addressType", "generated"),
    }
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
    let mut body = Body::new();
    for (key, value) in &new.extra {
        let option = Body::new()
            .value("key", key)
            .typed("value", "xsd:string", Body::text(value));
        body = body.inside("extraConfig", option);
    }
    body
}

fn boot_options(boot: &Boot) -> Body {
    let options = Body::new()
        .optional("bootDelay", boot.delay_millis)
        .optional("enterBIOSSetup", boot.enters_setup)
        .optional("efiSecureBootEnabled", boot.secure)
        .optional("bootRetryEnabled", boot.retries)
        .optional("bootRetryDelay", boot.retry_millis)
        .optional("networkBootProtocol", boot.network_protocol.as_ref());
    match options.as_str().is_empty() {
        true => Body::new(),
        false => Body::new().inside("bootOptions", options),
    }
}
