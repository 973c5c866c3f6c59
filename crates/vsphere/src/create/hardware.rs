//! Hardware as a saved configuration has it.

use std::collections::BTreeSet;

use super::{
    Boot, ControllerKind, MacAddress, NewController, NewDisk, NewNic, NewVm, NicKind, NicNetwork,
    Provisioning, Share, Switches,
};
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
    /// A VM as a saved configuration has it, on the same networks. What names the old VM is left out:
    /// UUIDs, MAC addresses, files, snapshots, change tracking; [`NewVm::identify`] brings it back.
    ///
    /// Every virtual disk is in it, also those that were not protected: keep those of
    /// [`NewVm::disks`] that are to be restored.
    pub fn from_config(config_xml: &str, name: &str) -> Result<Self> {
        let config = Element::parse(config_xml).map_err(bad)?;
        let new = from_config(&config, name).map_err(bad)?;
        new.check()?;
        Ok(new)
    }

    /// Gives the VM the UUIDs and MAC addresses that a saved configuration has.
    pub fn identify(&mut self, config_xml: &str) -> Result<()> {
        let config = Element::parse(config_xml).map_err(bad)?;
        self.bios_uuid = config.optional("uuid");
        self.instance_uuid = config.optional("instanceUuid");
        let cards = config.need("hardware").map_err(bad)?.all("device");
        let macs = cards.filter(|device| is_card(device)).map(mac);
        for (nic, mac) in self.nics.iter_mut().zip(macs) {
            nic.mac = mac;
        }
        Ok(())
    }

    /// What of a saved configuration no new VM gets, and why, in words.
    pub fn left_out(config_xml: &str) -> Result<Vec<String>> {
        let config = Element::parse(config_xml).map_err(bad)?;
        let hardware = config.need("hardware").map_err(bad)?;
        let devices = hardware.all("device").filter_map(|device| {
            let why = device_left_out(device)?;
            let label = device.optional("deviceInfo.label");
            let label = label.or_else(|| device.ty().map(str::to_owned));
            Some(format!("{}: {why}", label.unwrap_or_default()))
        });
        let mut left: Vec<String> = devices.collect();
        left.extend(settings_left_out(&config));
        Ok(left)
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

pub(super) fn bad(Problem(problem): Problem) -> Error {
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
        bios_uuid: None,
        instance_uuid: None,
        alternate_guest_name: config.optional("alternateGuestName"),
        switches: Switches {
            memory_hot_add: config.optional_value("memoryHotAddEnabled")?,
            cpu_hot_add: config.optional_value("cpuHotAddEnabled")?,
            cpu_hot_remove: config.optional_value("cpuHotRemoveEnabled")?,
            memory_locked: config.optional_value("memoryReservationLockedToMax")?,
            nested: config.optional_value("nestedHVEnabled")?,
        },
        cpu_share: config.find("cpuAllocation").map(share).transpose()?,
        memory_share: config.find("memoryAllocation").map(share).transpose()?,
        latency_sensitivity: config.optional("latencySensitivity.level"),
        swap_placement: config.optional("swapPlacement"),
        firmware: config.optional("firmware"),
        boot: Boot {
            delay_millis: config.optional_value("bootOptions.bootDelay")?,
            enters_setup: config.optional_value("bootOptions.enterBIOSSetup")?,
            secure: config.optional_value("bootOptions.efiSecureBootEnabled")?,
            retries: config.optional_value("bootOptions.bootRetryEnabled")?,
            retry_millis: config.optional_value("bootOptions.bootRetryDelay")?,
            network_protocol: config.optional("bootOptions.networkBootProtocol"),
        },
        extra: extra(config),
        controllers: controllers(&devices)?,
        disks: disks(&devices)?,
        nics: nics(&devices)?,
    })
}

fn share(told: &Element) -> Result<Share, Problem> {
    let level = told.optional("shares.level");
    let is_custom = level.as_deref() == Some("custom");
    let shares = told.optional_value("shares.shares")?;
    Ok(Share {
        reservation: told.optional_value("reservation")?,
        is_expandable: told.optional_value("expandableReservation")?,
        limit: told.optional_value("limit")?,
        level,
        // Where the level decides, the server works out the number.
        shares: shares.filter(|_| is_custom),
    })
}

/// Further settings without those that are the old VM's own.
fn extra(config: &Element) -> Vec<(String, String)> {
    let options = config.all("extraConfig").filter_map(|option| {
        let key = option.optional("key")?;
        let value = option.optional("value").unwrap_or_default();
        (!is_own(&key)).then_some((key, value))
    });
    options.collect()
}

/// Whether a setting says something of one VM at one place: where its files are, what it was moved
/// from, what keys it has, what was told to its guest.
pub(super) fn is_own(key: &str) -> bool {
    const WHOLE: [&str; 9] = [
        "nvram",
        "vc.uuid",
        "encryption.bundle",
        "sched.swap.derivedname",
        "cleanshutdown",
        "softpoweroff",
        "viv.moid",
        "monitor.phys_bits_used",
        "extendedconfigfile",
    ];
    const BEGINNINGS: [&str; 8] = [
        "uuid.",
        "migrate.",
        "snapshot.",
        "checkpoint.",
        "guestinfo.",
        "vmotion.",
        "ctkenabled",
        "digest",
    ];
    let key = key.to_ascii_lowercase();
    WHOLE.contains(&key.as_str())
        || BEGINNINGS
            .iter()
            .any(|beginning| key.starts_with(beginning))
        || key.ends_with("ctkenabled")
        || key.ends_with(".redo")
}

/// Why a device is not made again; none when it is, or when every VM has it.
fn device_left_out(device: &Element) -> Option<&'static str> {
    /// What servers give every VM by themselves.
    const IN_EVERY_VM: [&str; 7] = [
        "VirtualKeyboard",
        "VirtualPointingDevice",
        "VirtualMachineVideoCard",
        "VirtualMachineVMCIDevice",
        "VirtualPS2Controller",
        "VirtualPCIController",
        "VirtualSIOController",
    ];
    let kind = device.ty().unwrap_or_default();
    let is_made =
        IN_EVERY_VM.contains(&kind) || device::is_disk(device) || is_made_controller(device);
    match kind {
        _ if is_made => None,
        _ if is_card(device) => None,
        "VirtualTPM" => Some("a virtual tpm is not restored: what the guest sealed in it is lost"),
        "VirtualPCIPassthrough" | "VirtualSriovEthernetCard" => {
            Some("a device of the old host is not restored")
        }
        "VirtualCdrom" | "VirtualFloppy" => Some("a drive is not restored; add an empty one"),
        kind if kind.contains("Ethernet") || kind.starts_with("VirtualVmxnet") => {
            Some("a card with a network that we do not know is not restored")
        }
        _ => Some("is not restored; add it by hand"),
    }
}

fn settings_left_out(config: &Element) -> Vec<String> {
    let mut left = Vec::new();
    let mut tell = |path: &str, why: &str| {
        if config.find(path).is_some() {
            left.push(why.to_owned());
        }
    };
    tell("keyId", "the vm was encrypted and is restored in clear");
    tell("vAppConfig", "vApp properties are not restored");
    tell("ftInfo", "fault tolerance is not restored");
    tell(
        "bootOptions.bootOrder",
        "the order in which devices are booted is the server's own",
    );
    tell(
        "cpuAffinity.affinitySet",
        "affinity to processors is not restored",
    );
    left
}

/// Whether it is a disk controller that a new VM can have.
pub(super) fn is_made_controller(device: &Element) -> bool {
    ControllerKind::ALL
        .iter()
        .any(|kind| device.ty() == Some(kind.as_str()))
}

/// Whether it is a network card that a new VM can have.
pub(super) fn is_card(device: &Element) -> bool {
    let is_known = NicKind::ALL
        .iter()
        .any(|kind| device.ty() == Some(kind.as_str()));
    is_known && matches!(network(device), Ok(Some(_)))
}

fn mac(device: &Element) -> Option<MacAddress> {
    Some(MacAddress {
        address: device.optional("macAddress")?,
        kind: device.optional("addressType")?,
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
    let provisioned = devices
        .iter()
        .filter(|device| device::is_disk(device))
        .map(provisioning);
    let provisioned: Vec<Provisioning> = provisioned.collect::<Result<_, Problem>>()?;
    let disks = device::disks(devices)?
        .into_iter()
        .zip(provisioned)
        .map(|(disk, provisioning)| NewDisk {
            source_key: disk.key,
            label: disk.label,
            capacity_bytes: disk.capacity_bytes,
            provisioning,
            datastore: None,
            controller_key: disk.controller_key,
            unit: disk.unit,
        });
    Ok(disks.collect())
}

fn provisioning(device: &Element) -> Result<Provisioning, Problem> {
    let eager: Option<bool> = device.optional_value("backing.eagerlyScrub")?;
    // A delta or a raw mapping says nothing; thin wastes no space.
    let thin: Option<bool> = device.optional_value("backing.thinProvisioned")?;
    Ok(match (thin, eager) {
        (Some(true) | None, _) => Provisioning::Thin,
        (Some(false), Some(true)) => Provisioning::Eager,
        (Some(false), _) => Provisioning::Thick,
    })
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
            let controlled = device.optional_value("connectable.allowGuestControl")?;
            let label = device.optional("deviceInfo.label");
            nics.push(NewNic {
                label: label.unwrap_or_else(|| format!("network card {}", nics.len() + 1)),
                kind,
                network,
                start_connected: connected.unwrap_or(true),
                guest_controlled: controlled.unwrap_or(true),
                mac: None,
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
