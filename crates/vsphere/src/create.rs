//! A VM that is to be: hardware without identity.

use std::time::Duration;

use crate::body::Body;
use crate::client::{Call, Client, Repeat, bad_answer};
use crate::error::FaultKind;
use crate::xml::{Element, Problem};
use crate::{Error, Placement, Result, VmDisk, VmRef, device};

mod differences;
mod hardware;
mod spec;

pub use differences::{Difference, INTENDED, compare};

const CREATE: &str = "CreateVM_Task";

/// A VM that is to be. It has an identity only where one is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVm {
    /// Display name.
    pub name: String,
    /// Hardware version, such as `vmx-19`; the server's default when none.
    pub version: Option<String>,
    /// BIOS UUID; a new one when none.
    pub bios_uuid: Option<String>,
    /// Instance UUID; a new one when none.
    pub instance_uuid: Option<String>,
    /// Guest operating system id, such as `debian11_64Guest`.
    pub guest_id: String,
    /// What people call a guest that has no id.
    pub alternate_guest_name: Option<String>,
    /// Notes.
    pub annotation: Option<String>,
    /// Virtual processors.
    pub cpus: u32,
    /// Cores per socket; the server's default when none.
    pub cores_per_socket: Option<u32>,
    /// Memory.
    pub memory_mib: u64,
    /// Settings that are on, off or the server's default.
    pub switches: Switches,
    /// What it is promised of processors.
    pub cpu_share: Option<Share>,
    /// What it is promised of memory.
    pub memory_share: Option<Share>,
    /// How much its processors may be delayed: `normal` or `high`, say.
    pub latency_sensitivity: Option<String>,
    /// Where it swaps to.
    pub swap_placement: Option<String>,
    /// `bios` or `efi`; the server's default when none.
    pub firmware: Option<String>,
    /// How it starts.
    pub boot: Boot,
    /// Further settings by name, such as `disk.EnableUUID`.
    pub extra: Vec<(String, String)>,
    /// Its disk controllers.
    pub controllers: Vec<NewController>,
    /// Its disks.
    pub disks: Vec<NewDisk>,
    /// Its network cards.
    pub nics: Vec<NewNic>,
}

/// Settings of a VM that are on, off or the server's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Switches {
    /// Whether memory can be added while it runs.
    pub memory_hot_add: Option<bool>,
    /// Whether processors can be added while it runs.
    pub cpu_hot_add: Option<bool>,
    /// Whether processors can be taken away while it runs.
    pub cpu_hot_remove: Option<bool>,
    /// Whether all its memory is reserved, however much that is.
    pub memory_locked: Option<bool>,
    /// Whether it can have VMs of its own.
    pub nested: Option<bool>,
}

/// What a VM is promised of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// What it always has, in MHz or MiB.
    pub reservation: Option<i64>,
    /// Whether that may grow beyond what its pool has; the server's default when none.
    pub is_expandable: Option<bool>,
    /// What it never has more of; -1 for all.
    pub limit: Option<i64>,
    /// `low`, `normal`, `high` or `custom`.
    pub level: Option<String>,
    /// What it has beside others, of `custom`.
    pub shares: Option<i32>,
}

/// How a VM starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// Milliseconds to wait before.
    pub delay_millis: Option<i64>,
    /// Whether it goes to its setup the next time.
    pub enters_setup: Option<bool>,
    /// Whether EFI checks signatures.
    pub secure: Option<bool>,
    /// Whether it tries again when nothing boots.
    pub retries: Option<bool>,
    /// Milliseconds until then.
    pub retry_millis: Option<i64>,
    /// `ipv4` or `ipv6`, for booting from a network.
    pub network_protocol: Option<String>,
}

/// A disk controller of a new VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewController {
    /// What [`NewDisk::controller_key`] refers to.
    pub key: i32,
    /// What kind.
    pub kind: ControllerKind,
    /// Bus number, counted for each family of controllers.
    pub bus: i32,
}

/// A kind of disk controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControllerKind {
    /// VMware's paravirtual SCSI.
    ParaVirtual,
    /// LSI Logic parallel SCSI.
    LsiLogic,
    /// LSI Logic SAS.
    LsiLogicSas,
    /// BusLogic SCSI.
    BusLogic,
    /// SATA.
    Ahci,
    /// NVMe.
    Nvme,
    /// IDE; every VM has both of its buses.
    Ide,
}

/// An empty disk of a new VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDisk {
    /// What its maker calls it: the device key in the saved configuration. Answered with
    /// [`CreatedDisk::source_key`].
    pub source_key: i32,
    /// Its size; a multiple of 512.
    pub capacity_bytes: u64,
    /// What people call it.
    pub label: String,
    /// How its space is taken.
    pub provisioning: Provisioning,
    /// Name of its datastore; that of the VM when none.
    pub datastore: Option<String>,
    /// [`NewController::key`] of its controller.
    pub controller_key: i32,
    /// Unit on the controller.
    pub unit: i32,
}

/// How a disk's space is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provisioning {
    /// When it is written.
    Thin,
    /// At once.
    Thick,
    /// At once, and written with zeros.
    Eager,
}

/// A network card of a new VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNic {
    /// What people call it.
    pub label: String,
    /// vSphere's type, such as `VirtualVmxnet3`.
    pub kind: NicKind,
    /// What it is plugged into.
    pub network: NicNetwork,
    /// Whether it is plugged in when the VM starts.
    pub start_connected: bool,
    /// Whether the guest may plug and unplug it.
    pub guest_controlled: bool,
    /// Its address; a new one when none.
    pub mac: Option<MacAddress>,
}

/// The address of a network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacAddress {
    /// Such as `00:50:56:00:00:01`.
    pub address: String,
    /// Who gave it out: `assigned` by vCenter, `generated` by a host, `manual`.
    pub kind: String,
}

/// A kind of network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NicKind {
    /// VMware's paravirtual card.
    Vmxnet3,
    /// Its predecessor.
    Vmxnet2,
    /// Intel 82574.
    E1000e,
    /// Intel 82545.
    E1000,
    /// AMD 79C970.
    Pcnet32,
}

/// A network as a card names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NicNetwork {
    /// A standard port group, by name.
    Standard(String),
    /// A distributed port group.
    Distributed {
        /// UUID of the switch.
        switch_uuid: String,
        /// Key of the port group.
        portgroup_key: String,
    },
    /// A network that another product manages.
    Opaque {
        /// Its id.
        id: String,
        /// Its type.
        kind: String,
    },
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

impl Client {
    /// Makes a VM, powered off, with empty disks.
    ///
    /// When the answer was lost ([`Error::OutcomeUnknown`]) or the task takes too long, the VM may be
    /// there: look for its name. One whose disks are not what was asked for is removed again.
    pub async fn create_vm(
        &self,
        new: &NewVm,
        placement: &Placement,
        timeout: Duration,
    ) -> Result<CreatedVm> {
        new.check()?;
        self.check_name_free(new, placement).await?;
        let own = format!(
            "[{}] {1}/{1}.vmx",
            placement.datastore_name,
            file_stem(&new.name)
        );
        let vm = match self.create_at(new, placement, &own, timeout).await {
            // The directory remains of another VM: let the server find a free one.
            Err(error) if error.is(&FaultKind::AlreadyExists) => {
                let any = format!("[{}]", placement.datastore_name);
                self.create_at(new, placement, &any, timeout).await?
            }
            vm => vm?,
        };
        match self.created_disks(new, &vm).await {
            Ok(disks) => Ok(CreatedVm { vm, disks }),
            Err(error) => {
                // Nobody else can know of it yet.
                if let Err(left) = self.destroy_vm(&vm, timeout).await {
                    tracing::warn!(%vm, error = %left, "a vm of a failed restore remains");
                }
                Err(error)
            }
        }
    }

    /// Removes a VM and its files. Only for VMs that we made and whose restore failed.
    pub async fn destroy_vm(&self, vm: &VmRef, timeout: Duration) -> Result<()> {
        self.run_task("Destroy_Task", vm, timeout).await
    }

    /// Turns a VM on.
    pub async fn power_on(&self, vm: &VmRef, timeout: Duration) -> Result<()> {
        self.run_task("PowerOnVM_Task", vm, timeout).await
    }

    /// Turns a VM off at once.
    pub async fn power_off(&self, vm: &VmRef, timeout: Duration) -> Result<()> {
        self.run_task("PowerOffVM_Task", vm, timeout).await
    }

    async fn run_task(&self, method: &'static str, vm: &VmRef, timeout: Duration) -> Result<()> {
        let task = self.start_task(method, &vm.moref(), Body::new()).await;
        let task = task.map_err(|error| crate::vm::vm_gone(error, vm))?;
        self.wait_task(&task, timeout).await.map(drop)
    }

    /// A folder holds each name once; a server may tell only after it made the files.
    async fn check_name_free(&self, new: &NewVm, placement: &Placement) -> Result<()> {
        match self.is_taken(&new.name, placement).await? {
            false => Ok(()),
            true => Err(Error::VmExists {
                name: new.name.clone(),
            }),
        }
    }

    /// Whether the folder has something of that name.
    pub(crate) async fn is_taken(&self, name: &str, placement: &Placement) -> Result<bool> {
        let body = Body::new()
            .moref("entity", &placement.folder.moref())
            .value("name", name);
        let this = &self.content().search_index;
        let call = Call {
            method: "FindChild",
            this,
            body,
            repeat: Repeat::Safe,
        };
        Ok(!self.call(call).await?.is_empty())
    }

    async fn create_at(
        &self,
        new: &NewVm,
        placement: &Placement,
        path: &str,
        timeout: Duration,
    ) -> Result<VmRef> {
        let body = Body::new()
            .inside(
                "config",
                spec::config_spec(new, &placement.datastore_name, path),
            )
            .moref("pool", &placement.pool.moref())
            .moref("host", &placement.host.moref());
        let exists = |error: Error| match error {
            error if error.is(&FaultKind::DuplicateName) => Error::VmExists {
                name: new.name.clone(),
            },
            error => error,
        };
        let task = self
            .start_task(CREATE, &placement.folder.moref(), body)
            .await;
        let outcome = self
            .wait_task(&task.map_err(exists)?, timeout)
            .await
            .map_err(exists)?;
        let vm = outcome
            .result
            .ok_or_else(|| Problem::new("the task names no vm"));
        vm.map(VmRef::new)
            .map_err(|problem| bad_answer(CREATE, problem))
    }

    async fn created_disks(&self, new: &NewVm, vm: &VmRef) -> Result<Vec<CreatedDisk>> {
        let read = self.read_vm(vm, &["config.hardware.device"]).await?;
        let devices = &read.need("config.hardware.device")?.children;
        created_disks(new, devices).map_err(|problem| bad_answer(CREATE, problem))
    }
}

/// Finds each disk by its place: the server gives out keys as it likes.
fn created_disks(new: &NewVm, devices: &[Element]) -> Result<Vec<CreatedDisk>, Problem> {
    let there = device::disks(devices)?;
    new.disks
        .iter()
        .map(|disk| created_disk(new, disk, devices, &there))
        .collect()
}

fn created_disk(
    new: &NewVm,
    disk: &NewDisk,
    devices: &[Element],
    there: &[VmDisk],
) -> Result<CreatedDisk, Problem> {
    let lost = || Problem(format!("disk {} was not made", disk.source_key));
    let wanted = new.controller(disk.controller_key).ok_or_else(lost)?;
    let controller = devices
        .iter()
        .filter(|device| device.ty() == Some(wanted.kind.as_str()))
        .find(|device| device.value("busNumber") == Ok(wanted.bus))
        .ok_or_else(lost)?;
    let key: i32 = controller.value("key")?;
    let made = there
        .iter()
        .find(|made| made.controller_key == key && made.unit == disk.unit)
        .ok_or_else(lost)?;
    if made.capacity_bytes != disk.capacity_bytes {
        let (found, wanted) = (made.capacity_bytes, disk.capacity_bytes);
        return Err(Problem(format!(
            "disk {} has {found} bytes instead of {wanted}",
            disk.source_key
        )));
    }
    Ok(CreatedDisk {
        source_key: disk.source_key,
        key: made.key,
        file_name: made.file_name.clone(),
        capacity_bytes: made.capacity_bytes,
    })
}

/// A name as a directory may have it.
fn file_stem(name: &str) -> String {
    let plain = |c: char| match c {
        '/' | '\\' | '[' | ']' | ':' | '*' | '?' | '"' | '<' | '>' | '|' => '_',
        c if c.is_control() => '_',
        c => c,
    };
    let stem: String = name.trim().chars().take(60).map(plain).collect();
    match stem.trim_matches(['.', ' ']) {
        "" => "vm".to_owned(),
        stem => stem.to_owned(),
    }
}

#[cfg(test)]
mod tests;
