//! Hardware as a saved configuration has it.

use std::collections::BTreeSet;

use super::{ControllerKind, NewController, NewDisk, NewNic, NewVm, NicKind, NicNetwork};
use crate::xml::{Element, Problem};
use crate::{Error, Result, device};

/// The unit that a SCSI controller takes for itself.
const SCSI_OWN_UNIT: i32 = 7;

impl ControllerKind {
    const ALL: [ControllerKind; 7] = [
        ControllerKind::ParaVirtual,
        ControllerKind::LsiLogic,
        ControllerKind::LsiLogicSas,
        ControllerKind::BusLogic,
        ControllerKind::Ahci,
        ControllerKind::Nvme,
        ControllerKind::Ide,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            ControllerKind::ParaVirtual => "ParaVirtualSCSIController",
            ControllerKind::LsiLogic => "VirtualLsiLogicController",
            ControllerKind::LsiLogicSas => "VirtualLsiLogicSASController",
            ControllerKind::BusLogic => "VirtualBusLogicController",
            ControllerKind::Ahci => "VirtualAHCIController",
            ControllerKind::Nvme => "VirtualNVMEController",
            ControllerKind::Ide => "VirtualIDEController",
        }
    }

    pub(super) const fn is_scsi(self) -> bool {
        match self {
            ControllerKind::ParaVirtual
            | ControllerKind::LsiLogic
            | ControllerKind::LsiLogicSas
            | ControllerKind::BusLogic => true,
            ControllerKind::Ahci | ControllerKind::Nvme | ControllerKind::Ide => false,
        }
    }
}

impl NicKind {
    const ALL: [NicKind; 5] = [
        NicKind::Vmxnet3,
        NicKind::Vmxnet2,
        NicKind::E1000e,
        NicKind::E1000,
        NicKind::Pcnet32,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            NicKind::Vmxnet3 => "VirtualVmxnet3",
            NicKind::Vmxnet2 => "VirtualVmxnet2",
            NicKind::E1000e => "VirtualE1000e",
            NicKind::E1000 => "VirtualE1000",
            NicKind::Pcnet32 => "VirtualPCNet32",
        }
    }
}

impl NewVm {
    /// Hardware as a saved configuration has it: processors, memory, guest, firmware, controllers,
    /// disks and network cards on the same networks. Whatever names the old VM is left out:
    /// UUIDs, MAC addresses, files, snapshots, change tracking.
    ///
    /// Every virtual disk is in it, also those that were not protected: keep those of
    /// [`NewVm::disks`] that are to be restored.
    pub fn from_config(config_xml: &str, name: &str) -> Result<Self> {
        let config = Element::parse(config_xml).map_err(bad)?;
        let new = from_config(&config, name).map_err(bad)?;
        new.check()?;
        Ok(new)
    }

    pub(super) fn controller(&self, key: i32) -> Option<&NewController> {
        self.controllers
            .iter()
            .find(|controller| controller.key == key)
    }

    /// Refuses what no server could make, before anything is made.
    pub(super) fn check(&self) -> Result<()> {
        let mut taken = BTreeSet::new();
        for disk in &self.disks {
            let key = disk.source_key;
            let problem = match self.controller(disk.controller_key) {
                None => "has no controller",
                Some(controller) if controller.kind.is_scsi() && disk.unit == SCSI_OWN_UNIT => {
                    "is where its controller is"
                }
                Some(_) if !taken.insert((disk.controller_key, disk.unit)) => {
                    "is where another disk is"
                }
                Some(_) if disk.capacity_bytes == 0 || disk.capacity_bytes % 512 != 0 => {
                    "has a size that is no multiple of 512"
                }
                Some(_) => continue,
            };
            return Err(Error::BadConfig {
                problem: format!("disk {key} {problem}"),
            });
        }
        Ok(())
    }
}

fn bad(Problem(problem): Problem) -> Error {
    Error::BadConfig { problem }
}

fn from_config(config: &Element, name: &str) -> Result<NewVm, Problem> {
    let hardware = config.need("hardware")?;
    let devices: Vec<Element> = hardware.all("device").cloned().collect();
    Ok(NewVm {
        name: name.to_owned(),
        version: config.optional("version"),
        guest_id: config.string("guestId")?,
        annotation: config.optional("annotation"),
        cpus: hardware.value("numCPU")?,
        // Zero means that the server chose.
        cores_per_socket: hardware
            .optional_value("numCoresPerSocket")?
            .filter(|n: &u32| *n > 0),
        memory_mib: hardware.value("memoryMB")?,
        firmware: config.optional("firmware"),
        secure_boot: config.optional_value("bootOptions.efiSecureBootEnabled")?,
        disk_uuids_visible: disk_uuids_visible(config),
        controllers: controllers(&devices)?,
        disks: disks(&devices)?,
        nics: nics(&devices)?,
    })
}

fn disk_uuids_visible(config: &Element) -> bool {
    config.all("extraConfig").any(|option| {
        let text = |path: &str| option.optional(path).unwrap_or_default();
        text("key").eq_ignore_ascii_case("disk.EnableUUID")
            && text("value").eq_ignore_ascii_case("true")
    })
}

fn controllers(devices: &[Element]) -> Result<Vec<NewController>, Problem> {
    let mut controllers = Vec::new();
    for device in devices {
        let kind = ControllerKind::ALL
            .into_iter()
            .find(|kind| device.ty() == Some(kind.as_str()));
        if let Some(kind) = kind {
            let (key, bus) = (device.value("key")?, device.value("busNumber")?);
            controllers.push(NewController { key, kind, bus });
        }
    }
    Ok(controllers)
}

fn disks(devices: &[Element]) -> Result<Vec<NewDisk>, Problem> {
    let thin = devices
        .iter()
        .filter(|device| device::is_disk(device))
        .map(|device| {
            // A delta or a raw mapping says nothing; thin wastes no space.
            let thin = device.optional_value("backing.thinProvisioned")?;
            Ok(thin.unwrap_or(true))
        });
    let thin: Vec<bool> = thin.collect::<Result<_, Problem>>()?;
    let disks = device::disks(devices)?
        .into_iter()
        .zip(thin)
        .map(|(disk, thin)| NewDisk {
            source_key: disk.key,
            capacity_bytes: disk.capacity_bytes,
            thin,
            controller_key: disk.controller_key,
            unit: disk.unit,
        });
    Ok(disks.collect())
}

fn nics(devices: &[Element]) -> Result<Vec<NewNic>, Problem> {
    let mut nics = Vec::new();
    for device in devices {
        let kind = NicKind::ALL
            .into_iter()
            .find(|kind| device.ty() == Some(kind.as_str()));
        // A card whose backing is not known is left out: it could not be plugged in.
        if let (Some(kind), Some(network)) = (kind, network(device)?) {
            let connected = device.optional_value("connectable.startConnected")?;
            nics.push(NewNic {
                kind,
                network,
                start_connected: connected.unwrap_or(true),
            });
        }
    }
    Ok(nics)
}

fn network(device: &Element) -> Result<Option<NicNetwork>, Problem> {
    let Some(backing) = device.find("backing") else {
        return Ok(None);
    };
    Ok(match backing.ty() {
        Some("VirtualEthernetCardNetworkBackingInfo") => {
            Some(NicNetwork::Standard(backing.string("deviceName")?))
        }
        Some("VirtualEthernetCardDistributedVirtualPortBackingInfo") => {
            Some(NicNetwork::Distributed {
                switch_uuid: backing.string("port.switchUuid")?,
                portgroup_key: backing.string("port.portgroupKey")?,
            })
        }
        Some("VirtualEthernetCardOpaqueNetworkBackingInfo") => Some(NicNetwork::Opaque {
            id: backing.string("opaqueNetworkId")?,
            kind: backing.string("opaqueNetworkType")?,
        }),
        _ => None,
    })
}
