//! A virtual machine: in a list, and read afresh before work.

use crate::client::Client;
use crate::collect::Properties;
use crate::error::FaultKind;
use crate::inventory::{Places, datastores, display_name, parent};
use crate::reference::Moref;
use crate::snapshot::tree;
use crate::xml::{Element, Problem};
use crate::{DiskTraits, Error, Result, SnapshotInfo, VmRef, device};

mod facts;
mod obstacle;

pub(crate) use facts::family;
pub use facts::{Connection, GuestFamily, ToolsVersion, VmFacts};
pub use obstacle::{Obstacle, Protectability};

const VM: [&str; 15] = [
    "name",
    "parent",
    "parentVApp",
    "config",
    "capability.changeTrackingSupported",
    "runtime",
    "snapshot",
    "capability.snapshotOperationsSupported",
    "capability.quiescedSnapshotsSupported",
    "guest.toolsRunningStatus",
    "guest.toolsVersionStatus2",
    "guest.guestFamily",
    "datastore",
    "disabledMethod",
    "recentTask",
];

/// Whether a VM runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Power {
    /// Running.
    On,
    /// Powered off.
    Off,
    /// Suspended to disk.
    Suspended,
}

/// Whether VMware Tools runs in the guest; without it nothing can be quiesced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tools {
    /// Running.
    Running,
    /// Not running or not installed.
    NotRunning,
    /// Executing scripts: starting, stopping or suspending.
    ExecutingScripts,
    /// The server did not say, as for a VM that never ran.
    Unknown,
}

/// A VM as a list shows it. What the server cannot tell (a VM on a disconnected host) is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSummary {
    /// The VM.
    pub vm: VmRef,
    /// Its display name.
    pub name: String,
    /// Its place in the inventory, such as `/DC0/vm/folder/name`.
    pub path: String,
    /// BIOS UUID; may be duplicated by clones.
    pub uuid: Option<String>,
    /// The UUID that vCenter keeps unique; links a VM that was registered anew.
    pub instance_uuid: Option<String>,
    /// Whether it runs.
    pub power: Power,
    /// Whether VMware Tools runs.
    pub tools: Tools,
    /// Whether change tracking is on.
    pub cbt: bool,
    /// How many disks it has.
    pub disk_count: usize,
    /// Its disks, in the order of the hardware list.
    pub disks: Vec<VmDisk>,
    /// Sum of the disks' sizes.
    pub capacity_bytes: u64,
    /// Whether it is a template.
    pub template: bool,
    /// Name of its host.
    pub host: Option<String>,
    /// Name of its host's cluster, if it is in one.
    pub cluster: Option<String>,
    /// Inventory path of its resource pool; a template has none.
    pub resource_pool: Option<String>,
    /// Names of its datastores.
    pub datastores: Vec<String>,
}

/// A VM read afresh, as a run needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// The VM.
    pub vm: VmRef,
    /// Its display name.
    pub name: String,
    /// Its place in the inventory, such as `/DC0/vm/folder/name`.
    pub path: String,
    /// Inventory path of its datacenter, such as `/DC0`.
    pub datacenter: String,
    /// BIOS UUID; may be duplicated by clones.
    pub uuid: String,
    /// The UUID that vCenter keeps unique.
    pub instance_uuid: Option<String>,
    /// Guest operating system id.
    pub guest_id: String,
    /// Whether it runs.
    pub power: Power,
    /// Whether VMware Tools runs.
    pub tools: Tools,
    /// Whether change tracking is on.
    pub cbt_enabled: bool,
    /// Whether its hardware version can track changes.
    pub cbt_supported: bool,
    /// Whether deltas remain that no snapshot explains.
    pub consolidation_needed: bool,
    /// Whether it is a template.
    pub template: bool,
    /// Name of its host.
    pub host: Option<String>,
    /// Names of its datastores.
    pub datastores: Vec<String>,
    /// Its disks, in the order of the hardware list.
    pub disks: Vec<VmDisk>,
    /// Its snapshots, parents before children.
    pub snapshots: Vec<SnapshotInfo>,
    /// What else is known of it: what can hinder a backup, and where its files are.
    pub facts: VmFacts,
    /// The whole `config` as XML with type names, to be kept in the restore point.
    pub config_xml: String,
}

/// A virtual disk of a VM as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmDisk {
    /// Device key; unique within the VM only.
    pub key: i32,
    /// What people call it, such as `Hard disk 1`.
    pub label: String,
    /// Its size.
    pub capacity_bytes: u64,
    /// Such as `[ds] web/web.vmdk`; the leaf of the chain when there are snapshots. Empty when the
    /// backing has no file, which is never protectable.
    pub file_name: String,
    /// UUID of the backing, when it has one.
    pub backing_uuid: Option<String>,
    /// vSphere's disk mode, such as `persistent`; empty when the backing has none.
    pub mode: String,
    /// Whether a snapshot can freeze it.
    pub protectability: Protectability,
    /// Key of its controller.
    pub controller_key: i32,
    /// Unit on the controller.
    pub unit: i32,
    /// How it is made.
    pub traits: DiskTraits,
}

impl Client {
    /// A VM, read afresh.
    pub async fn vm(&self, vm: &VmRef) -> Result<Vm> {
        let read = self.read_vm(vm, &VM).await?;
        let places = self.surroundings(&read).await?;
        let config = read.need("config")?;
        fresh(vm, &read, config, &places)
    }

    /// Reads properties of a VM; a VM that is gone is told as such.
    pub(crate) async fn read_vm(&self, vm: &VmRef, paths: &[&str]) -> Result<Properties> {
        self.read(&vm.moref(), paths)
            .await
            .map_err(|error| vm_gone(error, vm))
    }

    /// The inventory path of the datacenter that a VM is in.
    pub(crate) async fn datacenter_of(&self, vm: &VmRef) -> Result<String> {
        let read = self.read_vm(vm, &["name", "parent", "parentVApp"]).await?;
        let places = self.surroundings(&read).await?;
        datacenter(&read, &places)
    }

    /// The folders above a VM, its host and its datastores, read one by one.
    async fn surroundings(&self, vm: &Properties) -> Result<Places> {
        let mut places = Places::default();
        places.add(vm)?;
        let mut above = parent(vm)?;
        // More levels than a server allows would be a loop.
        for _ in 0..100 {
            let Some(object) = above.take() else { break };
            let paths: &[&str] = match object.kind.as_str() {
                "VirtualApp" => &["name", "parent", "parentFolder", "parentVApp"],
                _ => &["name", "parent"],
            };
            let Some(read) = self.read_if_allowed(&object, paths).await? else {
                break;
            };
            places.add(&read)?;
            above = parent(&read)?;
        }
        let host = host(vm)?;
        for object in host.iter().chain(&vm.morefs("datastore")?) {
            if let Some(read) = self.read_if_allowed(object, &["name"]).await? {
                places.add(&read)?;
            }
        }
        Ok(places)
    }

    pub(crate) async fn read_if_allowed(
        &self,
        object: &Moref,
        paths: &[&str],
    ) -> Result<Option<Properties>> {
        match self.read(object, paths).await {
            Ok(read) => Ok(Some(read)),
            Err(Error::Fault { fault, .. })
                if matches!(fault.kind, FaultKind::NoPermission { .. }) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn fresh(vm: &VmRef, read: &Properties, config: &Element, places: &Places) -> Result<Vm> {
    let bad = |problem: Problem| read.bad(problem);
    let hardware = config.need("hardware").map_err(bad)?;
    let devices: Vec<Element> = hardware.all("device").cloned().collect();
    let runtime = read.need("runtime")?;
    let flag = |element: &Element, path: &str| {
        // Servers leave out a flag that is not set.
        element
            .optional_value::<bool>(path)
            .map(Option::unwrap_or_default)
    };
    let supported = read
        .get("capability.changeTrackingSupported")
        .map(Element::parsed::<bool>);
    let snapshots = read.seen("snapshot")?.map(tree).transpose().map_err(bad)?;
    let template = flag(config, "template").map_err(bad)?;
    let facts = facts::facts(read, config, runtime)?;
    let mut disks = device::disks(&devices).map_err(bad)?;
    obstacle::of_the_vm(&mut disks, template, &facts);
    Ok(Vm {
        vm: vm.clone(),
        name: display_name(&read.need("name")?.text),
        path: places.path(&vm.moref()),
        datacenter: datacenter(read, places)?,
        uuid: config.string("uuid").map_err(bad)?,
        instance_uuid: config.optional("instanceUuid"),
        guest_id: config.string("guestId").map_err(bad)?,
        power: power(read)?,
        tools: tools(read),
        cbt_enabled: flag(config, "changeTrackingEnabled").map_err(bad)?,
        cbt_supported: supported.transpose().map_err(bad)?.unwrap_or_default(),
        consolidation_needed: flag(runtime, "consolidationNeeded").map_err(bad)?,
        template,
        host: host(read)?.and_then(|host| places.name(&host).map(str::to_owned)),
        datastores: datastores(read, places)?,
        disks,
        snapshots: snapshots.unwrap_or_default(),
        facts,
        config_xml: config.document("config"),
    })
}

fn datacenter(vm: &Properties, places: &Places) -> Result<String> {
    places
        .datacenter(&vm.object)
        .ok_or_else(|| vm.bad(Problem::new("its datacenter cannot be seen")))
}

fn host(vm: &Properties) -> Result<Option<Moref>> {
    match vm.get("runtime").and_then(|runtime| runtime.find("host")) {
        Some(host) => host.moref().map(Some).map_err(|problem| vm.bad(problem)),
        None => vm.moref("runtime.host"),
    }
}

/// Turns "no such object" into "no such VM".
pub(crate) fn vm_gone(error: Error, vm: &VmRef) -> Error {
    match error {
        error if error.is(&FaultKind::ManagedObjectNotFound) => {
            Error::VmNotFound { vm: vm.clone() }
        }
        error => error,
    }
}

/// Whether a VM runs, from `runtime` or `runtime.powerState`.
pub(crate) fn power(vm: &Properties) -> Result<Power> {
    let state = match vm
        .get("runtime")
        .and_then(|runtime| runtime.find("powerState"))
    {
        Some(state) => state,
        None => vm.need("runtime.powerState")?,
    };
    match state.text.as_str() {
        "poweredOn" => Ok(Power::On),
        "poweredOff" => Ok(Power::Off),
        "suspended" => Ok(Power::Suspended),
        other => Err(vm.bad(Problem(format!("powerState is {other:?}")))),
    }
}

/// Whether VMware Tools runs.
pub(crate) fn tools(vm: &Properties) -> Tools {
    match vm.text("guest.toolsRunningStatus").as_deref() {
        Some("guestToolsRunning") => Tools::Running,
        Some("guestToolsNotRunning") => Tools::NotRunning,
        Some("guestToolsExecutingScripts") => Tools::ExecutingScripts,
        _ => Tools::Unknown,
    }
}
