//! Virtual devices: which disks there are and whether a snapshot can freeze them.

use std::collections::BTreeMap;

use crate::xml::{Element, Problem};
use crate::{ChangeId, Protectability, VmDisk};

mod traits;

pub(crate) use traits::traits;
pub use traits::{DiskTraits, RawMapping};

/// Backings whose blocks vSphere sees and can freeze.
const FREEZABLE: [&str; 4] = [
    "VirtualDiskFlatVer2BackingInfo",
    "VirtualDiskSparseVer2BackingInfo",
    "VirtualDiskSeSparseBackingInfo",
    RAW_MAPPING,
];
const RAW_MAPPING: &str = "VirtualDiskRawDiskMappingVer1BackingInfo";

/// The disks among devices.
pub(crate) fn disks(devices: &[Element]) -> Result<Vec<VmDisk>, Problem> {
    let controllers = controllers(devices)?;
    devices
        .iter()
        .filter(|device| is_disk(device))
        .map(|device| disk(device, &controllers))
        .collect()
}

pub(crate) fn is_disk(device: &Element) -> bool {
    device.ty() == Some("VirtualDisk")
}

/// The address of a network card; none of any other device.
pub(crate) fn mac_address(device: &Element) -> Option<String> {
    device.optional("macAddress")
}

/// Where change tracking of a disk stood; none when it is not tracked.
pub(crate) fn change_id(device: &Element) -> Option<ChangeId> {
    device
        .optional("backing.changeId")
        .as_deref()
        .and_then(ChangeId::parse)
}

/// The disk's size in bytes; old servers know it in kilobytes only.
fn capacity(device: &Element) -> Result<u64, Problem> {
    if let Some(bytes) = device.optional_value("capacityInBytes")? {
        return Ok(bytes);
    }
    let kilobytes: u64 = device.value("capacityInKB")?;
    kilobytes
        .checked_mul(1024)
        .ok_or_else(|| Problem::new("capacityInKB is too large"))
}

/// What a disk's controller says of it.
struct Controller<'a> {
    kind: &'a str,
    is_shared: bool,
}

fn controllers(devices: &[Element]) -> Result<BTreeMap<i32, Controller<'_>>, Problem> {
    let controllers = devices
        .iter()
        .filter(|device| device.find("busNumber").is_some());
    controllers
        .map(|device| {
            let sharing = device.find("sharedBus").map(|bus| bus.text.as_str());
            let controller = Controller {
                kind: device.ty().unwrap_or_default(),
                is_shared: sharing.is_some_and(|sharing| sharing != "noSharing"),
            };
            Ok((device.value("key")?, controller))
        })
        .collect()
}

fn disk(device: &Element, controllers: &BTreeMap<i32, Controller<'_>>) -> Result<VmDisk, Problem> {
    let key = device.value("key")?;
    let controller_key = device.value("controllerKey")?;
    let controller = controllers.get(&controller_key);
    let backing = device.need("backing")?;
    let mode = backing.optional("diskMode");
    let mut protectability = protectability(backing, mode.as_deref());
    if protectability.is_protectable() && controller.is_some_and(|bus| bus.is_shared) {
        protectability = Protectability::SharedBus;
    }
    let file_name = match backing.optional("fileName") {
        Some(name) => name,
        // Only what we cannot protect may lack a file.
        None if !protectability.is_protectable() => String::new(),
        None => return Err(Problem(format!("disk {key} has no fileName"))),
    };
    Ok(VmDisk {
        key,
        label: device
            .optional("deviceInfo.label")
            .unwrap_or_else(|| format!("disk {key}")),
        capacity_bytes: capacity(device)?,
        file_name,
        backing_uuid: backing.optional("uuid"),
        mode: mode.unwrap_or_default(),
        protectability,
        controller_key,
        unit: device.value("unitNumber")?,
        traits: traits(backing, controller.map(|bus| bus.kind)),
    })
}

fn protectability(backing: &Element, mode: Option<&str>) -> Protectability {
    let kind = backing.ty().unwrap_or("without type");
    let compatibility = backing
        .find("compatibilityMode")
        .map(|mode| mode.text.as_str());
    let sharing = backing.find("sharing").map(|sharing| sharing.text.as_str());
    if !FREEZABLE.contains(&kind) {
        return Protectability::UnknownBacking(kind.to_owned());
    }
    if kind == RAW_MAPPING && compatibility != Some("virtualMode") {
        return Protectability::PhysicalRdm;
    }
    match (mode, sharing) {
        (Some(mode), _) if mode.starts_with("independent") => Protectability::Independent,
        (_, Some("sharingMultiWriter")) => Protectability::MultiWriter,
        _ if backing.find("keyId").is_some() => Protectability::Encrypted,
        (Some("persistent"), _) => Protectability::Protectable,
        // `nonpersistent`, `append` and `undoable` keep what is written elsewhere.
        (mode, _) => Protectability::UnknownBacking(format!("{kind} in mode {mode:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(sharing: &str, backing_type: &str, backing: &str) -> Vec<Element> {
        let xml = format!(
            r#"<val xmlns:x="i"><VirtualDevice x:type="ParaVirtualSCSIController"><key>1000</key><busNumber>0</busNumber><sharedBus>{sharing}</sharedBus></VirtualDevice>
            <VirtualDevice x:type="VirtualVmxnet3"><key>4000</key></VirtualDevice>
            <VirtualDevice x:type="VirtualDisk"><key>2000</key><deviceInfo x:type="Description"><label>Hard disk 1</label><summary>s</summary></deviceInfo>
            <backing x:type="{backing_type}"><fileName>[ds] a/a.vmdk</fileName>{backing}</backing>
            <controllerKey>1000</controllerKey><unitNumber>0</unitNumber><capacityInKB>1024</capacityInKB></VirtualDevice></val>"#
        );
        Element::parse(&xml).expect("reads").children
    }

    #[track_caller]
    fn check(sharing: &str, kind: &str, backing: &str, expected: Protectability) {
        let found = disks(&devices(sharing, kind, backing)).expect("reads");
        assert_eq!(
            found
                .iter()
                .map(|d| d.protectability.clone())
                .collect::<Vec<_>>(),
            [expected]
        );
    }

    const FLAT: &str = "VirtualDiskFlatVer2BackingInfo";
    const PERSISTENT: &str = "<diskMode>persistent</diskMode>";

    #[test]
    fn only_what_a_snapshot_freezes_is_protectable() {
        check("noSharing", FLAT, PERSISTENT, Protectability::Protectable);
        check(
            "physicalSharing",
            FLAT,
            PERSISTENT,
            Protectability::SharedBus,
        );
        check(
            "noSharing",
            FLAT,
            "<diskMode>independent_persistent</diskMode>",
            Protectability::Independent,
        );
        let multi = format!("{PERSISTENT}<sharing>sharingMultiWriter</sharing>");
        check("noSharing", FLAT, &multi, Protectability::MultiWriter);
        let key = "<keyId><keyId>k</keyId></keyId>";
        let encrypted = format!("{PERSISTENT}{key}");
        check("noSharing", FLAT, &encrypted, Protectability::Encrypted);
        let physical = "<compatibilityMode>physicalMode</compatibilityMode>";
        check(
            "noSharing",
            RAW_MAPPING,
            physical,
            Protectability::PhysicalRdm,
        );
        let virtual_mode =
            "<compatibilityMode>virtualMode</compatibilityMode><diskMode>persistent</diskMode>";
        check(
            "noSharing",
            RAW_MAPPING,
            virtual_mode,
            Protectability::Protectable,
        );
        let new = "VirtualDiskNewBackingInfo";
        check(
            "noSharing",
            new,
            PERSISTENT,
            Protectability::UnknownBacking(new.into()),
        );
    }

    #[test]
    fn a_disk_is_read_whole_or_not_at_all() {
        let mut found = disks(&devices("noSharing", FLAT, PERSISTENT)).expect("reads");
        let disk = found.pop().expect("one disk");
        assert_eq!((disk.key, disk.controller_key, disk.unit), (2000, 1000, 0));
        assert_eq!(disk.capacity_bytes, 1024 * 1024);
        assert_eq!(disk.traits.controller, "ParaVirtualSCSIController");
        assert_eq!(disk.traits.backing, FLAT);
        assert_eq!(
            (disk.label.as_str(), disk.file_name.as_str()),
            ("Hard disk 1", "[ds] a/a.vmdk")
        );
        for gone in ["key", "capacityInKB", "controllerKey", "backing"] {
            let mut list = devices("noSharing", FLAT, PERSISTENT);
            let disk = list
                .iter_mut()
                .find(|device| is_disk(device))
                .expect("a disk");
            disk.children.retain(|child| child.name != gone);
            assert!(disks(&list).is_err(), "{gone}");
        }
    }
}
