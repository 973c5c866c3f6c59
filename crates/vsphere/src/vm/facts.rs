//! What else is known of a VM: what can hinder a backup, and where its files are.

use crate::collect::Properties;
use crate::xml::Element;
use crate::{Result, TaskRef};

/// What else is known of a VM: what can hinder a backup, and where its files are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmFacts {
    /// How good its VMware Tools are.
    pub tools_version: ToolsVersion,
    /// What runs in it.
    pub guest_family: GuestFamily,
    /// Such as `vmx-19`.
    pub hardware_version: String,
    /// Whether vCenter can reach it.
    pub connection: Connection,
    /// Whether it can have snapshots at all; none when the server does not say.
    pub snapshots_supported: Option<bool>,
    /// Whether quiesced ones; none when the server does not say.
    pub quiescing_supported: Option<bool>,
    /// Whether its configuration is encrypted.
    pub is_encrypted: bool,
    /// Whether it has a virtual TPM.
    pub has_vtpm: bool,
    /// Whether it is protected by fault tolerance.
    pub is_fault_tolerant: bool,
    /// Whether the guest sees its disks' UUIDs (`disk.EnableUUID`), which VSS needs.
    pub disk_uuids_visible: bool,
    /// Whether it waits for an answer.
    pub has_question: bool,
    /// Methods that another product or state has disabled.
    pub disabled_methods: Vec<String>,
    /// Tasks that vCenter remembers of it, in its order.
    pub recent_tasks: Vec<TaskRef>,
    /// Its configuration file, such as `[ds] web/web.vmx`.
    pub configuration_file: Option<String>,
    /// Where its snapshots' files go, such as `[ds] web/`.
    pub snapshot_directory: Option<String>,
    /// Where its logs go, such as `[ds] web/`.
    pub log_directory: Option<String>,
    /// The name of its NVRAM's file, when its configuration says one.
    pub nvram_name: Option<String>,
}

/// How good a guest's VMware Tools are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ToolsVersion {
    /// Not installed.
    NotInstalled,
    /// As new as the host.
    Current,
    /// Older or newer than the host, and supported.
    Supported,
    /// Installed and cared for by the guest's own system, such as open-vm-tools.
    Unmanaged,
    /// Too old for the host.
    TooOld,
    /// Too new for the host.
    TooNew,
    /// Known to be broken.
    Blacklisted,
    /// The server did not say.
    #[default]
    Unknown,
}

/// What runs in a VM.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum GuestFamily {
    /// Windows.
    Windows,
    /// Linux.
    Linux,
    /// Something else.
    Other,
    /// Neither the guest nor its configuration says.
    #[default]
    Unknown,
}

/// Whether vCenter can reach a VM.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Connection {
    /// It can.
    #[default]
    Connected,
    /// Its host is away.
    Disconnected,
    /// Its files are away.
    Inaccessible,
    /// Its configuration cannot be read.
    Invalid,
    /// It is no longer registered on its host.
    Orphaned,
}

impl VmFacts {
    /// Whether a method cannot be called on the VM.
    pub fn disables(&self, method: &str) -> bool {
        self.disabled_methods
            .iter()
            .any(|disabled| disabled == method)
    }

    /// The file of its NVRAM, such as `[ds] web/web.nvram`; a VM that never ran may have none there.
    pub fn nvram_file(&self) -> Option<String> {
        let vmx = self.configuration_file.as_deref()?;
        let name = self.nvram_name.clone().or_else(|| {
            let stem = vmx.rsplit(['/', ' ']).next()?.strip_suffix(".vmx")?;
            Some(format!("{stem}.nvram"))
        })?;
        Some(beside(vmx, &name))
    }

    /// The newest of its logs, such as `[ds] web/vmware.log`.
    pub fn log_file(&self) -> Option<String> {
        match &self.log_directory {
            Some(directory) => Some(within(directory, "vmware.log")),
            None => Some(beside(self.configuration_file.as_deref()?, "vmware.log")),
        }
    }

    /// The file of a snapshot's manifest
    /// ([`SnapshotInfo::backup_manifest`](crate::SnapshotInfo::backup_manifest)).
    pub fn manifest_file(&self, manifest: &str) -> Option<String> {
        if manifest.starts_with('[') {
            return Some(manifest.to_owned());
        }
        match &self.snapshot_directory {
            Some(directory) => Some(within(directory, manifest)),
            None => Some(beside(self.configuration_file.as_deref()?, manifest)),
        }
    }
}

/// A file in a directory such as `[ds] web/`.
fn within(directory: &str, name: &str) -> String {
    let directory = directory.trim_end_matches('/');
    match directory.ends_with(']') {
        true => format!("{directory} {name}"),
        false => format!("{directory}/{name}"),
    }
}

/// A file in the directory of another.
fn beside(file: &str, name: &str) -> String {
    match file.rsplit_once('/') {
        Some((directory, _)) => format!("{directory}/{name}"),
        // The file lies at the top of its datastore.
        None => {
            let datastore = file.split_inclusive(']').next().unwrap_or_default();
            format!("{datastore} {name}")
        }
    }
}

/// The facts among a VM's properties.
pub(super) fn facts(vm: &Properties, config: &Element, runtime: &Element) -> Result<VmFacts> {
    let flag = |path: &str| vm.get(path).map(Element::parsed::<bool>).transpose();
    let tasks = vm.morefs("recentTask")?.into_iter();
    let directory = |name: &str| config.optional(&format!("files.{name}"));
    Ok(VmFacts {
        tools_version: tools_version(vm.text("guest.toolsVersionStatus2").as_deref()),
        guest_family: family(
            vm.text("guest.guestFamily").as_deref(),
            config.optional("guestId").as_deref(),
        ),
        hardware_version: config.optional("version").unwrap_or_default(),
        connection: connection(runtime.optional("connectionState").as_deref()),
        snapshots_supported: flag("capability.snapshotOperationsSupported")
            .map_err(|problem| vm.bad(problem))?,
        quiescing_supported: flag("capability.quiescedSnapshotsSupported")
            .map_err(|problem| vm.bad(problem))?,
        is_encrypted: config.find("keyId").is_some(),
        has_vtpm: has_vtpm(config),
        is_fault_tolerant: is_fault_tolerant(config, runtime),
        disk_uuids_visible: extra(config, "disk.EnableUUID")
            .is_some_and(|value| value.eq_ignore_ascii_case("true")),
        has_question: runtime.find("question").is_some(),
        disabled_methods: texts(vm, "disabledMethod"),
        recent_tasks: tasks.map(|task| TaskRef::new(task.value)).collect(),
        configuration_file: directory("vmPathName"),
        snapshot_directory: directory("snapshotDirectory"),
        log_directory: directory("logDirectory"),
        nvram_name: extra(config, "nvram"),
    })
}

fn texts(vm: &Properties, path: &str) -> Vec<String> {
    let list = vm.get(path).into_iter().flat_map(|list| &list.children);
    list.map(|text| text.text.clone()).collect()
}

/// The value of an advanced setting.
fn extra(config: &Element, key: &str) -> Option<String> {
    let options = config.all("extraConfig");
    let mut found = options.filter(|option| {
        let name = option.find("key").map(|key| key.text.as_str());
        name.is_some_and(|name| name.eq_ignore_ascii_case(key))
    });
    found.next().and_then(|option| option.optional("value"))
}

fn has_vtpm(config: &Element) -> bool {
    let hardware = config.find("hardware").into_iter();
    let mut devices = hardware.flat_map(|hardware| hardware.all("device"));
    devices.any(|device| device.ty() == Some("VirtualTPM"))
}

fn is_fault_tolerant(config: &Element, runtime: &Element) -> bool {
    let state = runtime.optional("faultToleranceState");
    config.find("ftInfo").is_some() || state.is_some_and(|state| state != "notConfigured")
}

fn tools_version(status: Option<&str>) -> ToolsVersion {
    match status {
        Some("guestToolsNotInstalled") => ToolsVersion::NotInstalled,
        Some("guestToolsCurrent") => ToolsVersion::Current,
        Some("guestToolsNeedUpgrade" | "guestToolsSupportedOld" | "guestToolsSupportedNew") => {
            ToolsVersion::Supported
        }
        Some("guestToolsUnmanaged") => ToolsVersion::Unmanaged,
        Some("guestToolsTooOld") => ToolsVersion::TooOld,
        Some("guestToolsTooNew") => ToolsVersion::TooNew,
        Some("guestToolsBlacklisted") => ToolsVersion::Blacklisted,
        _ => ToolsVersion::Unknown,
    }
}

/// The guest's own word counts; what the VM was made for is the next best.
pub(crate) fn family(told: Option<&str>, guest_id: Option<&str>) -> GuestFamily {
    match (told, guest_id) {
        (Some("windowsGuest"), _) => GuestFamily::Windows,
        (Some("linuxGuest"), _) => GuestFamily::Linux,
        (Some(_), _) => GuestFamily::Other,
        (None, Some(id)) if id.starts_with("win") => GuestFamily::Windows,
        (None, Some(id)) if is_linux(id) => GuestFamily::Linux,
        (None, Some(_)) => GuestFamily::Other,
        (None, None) => GuestFamily::Unknown,
    }
}

fn is_linux(id: &str) -> bool {
    const LINUX: [&str; 22] = [
        "almalinux",
        "amazonlinux",
        "asianux",
        "centos",
        "coreos",
        "crxPod",
        "crxSys",
        "debian",
        "fedora",
        "flatcar",
        "kylinlinux",
        "mandr",
        "mandriva",
        "opensuse",
        "oracleLinux",
        "photon",
        "prolinux",
        "redhat",
        "rhel",
        "rocky",
        "sles",
        "ubuntu",
    ];
    LINUX.iter().any(|name| id.starts_with(name)) || id.to_lowercase().contains("linux")
}

fn connection(state: Option<&str>) -> Connection {
    match state {
        Some("disconnected") => Connection::Disconnected,
        Some("inaccessible") => Connection::Inaccessible,
        Some("invalid") => Connection::Invalid,
        Some("orphaned") => Connection::Orphaned,
        _ => Connection::Connected,
    }
}

#[cfg(test)]
mod tests;
