//! Disks that VMs have outside of their own directories: what was attached to them, and disks of their own
//! that somebody put elsewhere.

use super::AttachedDisk;
use super::attached::{Devices, directory};
use crate::client::Client;
use crate::collect::{Properties, Wanted};
use crate::inventory::display_name;
use crate::{Result, VmRef};

const VMS: Wanted = Wanted {
    kind: "VirtualMachine",
    paths: &["name", "config.files.vmPathName", "config.hardware.device"],
};

/// A disk that a VM has outside of its own directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// The VM that has it.
    pub on: VmRef,
    /// That VM's display name.
    pub on_name: String,
    /// The disk.
    pub disk: AttachedDisk,
    /// Display name of the VM in whose directory it lies; none when it is in nobody's.
    pub owner: Option<String>,
}

/// One VM of a list.
struct Listed {
    name: String,
    devices: Devices,
}

impl Client {
    /// Every disk that any VM has outside of its own directory.
    pub async fn visitors(&self) -> Result<Vec<Visitor>> {
        let listed = self.list(&[VMS]).await?;
        let vms: Vec<Listed> = listed.iter().filter_map(read).collect();
        let mut visitors = Vec::new();
        for vm in &vms {
            match vm.devices.disks() {
                Ok(disks) => visitors.extend(of(vm, disks, &vms)),
                // One VM that cannot be read must not hide what all others have.
                Err(error) => {
                    tracing::warn!(vm.moref = %vm.devices.vm, %error, "cannot tell which disks a vm has");
                }
            }
        }
        Ok(visitors)
    }
}

/// A VM that is being made or that we may not see has none of these.
fn read(vm: &Properties) -> Option<Listed> {
    let devices = Devices {
        list: vm.get("config.hardware.device")?.children.clone(),
        home: vm.text("config.files.vmPathName")?,
        vm: VmRef::new(&vm.object.value),
    };
    let name = display_name(&vm.text("name")?);
    Some(Listed { name, devices })
}

fn of(vm: &Listed, disks: Vec<AttachedDisk>, all: &[Listed]) -> Vec<Visitor> {
    let owner = |disk: &AttachedDisk| {
        let is_in = |other: &&Listed| {
            let home = directory(&other.devices.home);
            disk.files().iter().any(|file| directory(file) == home)
        };
        all.iter().find(is_in).map(|other| other.name.clone())
    };
    let guests = disks.into_iter().filter(|disk| !disk.is_at_home);
    let visitor = |disk| Visitor {
        on: vm.devices.vm.clone(),
        on_name: vm.name.clone(),
        owner: owner(&disk),
        disk,
    };
    guests.map(visitor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Element;

    fn listed(name: &str, files: &[&str]) -> Listed {
        let disk = |file: &&str| {
            let xml = format!(
                r#"<device xmlns:x="i" x:type="VirtualDisk"><key>2000</key><deviceInfo><label>Hard disk</label></deviceInfo><backing x:type="VirtualDiskFlatVer2BackingInfo"><fileName>{file}</fileName><diskMode>independent_nonpersistent</diskMode></backing><controllerKey>1000</controllerKey><unitNumber>3</unitNumber><capacityInKB>64</capacityInKB></device>"#
            );
            Element::parse(&xml).expect("reads")
        };
        Listed {
            name: name.to_owned(),
            devices: Devices {
                list: files.iter().map(disk).collect(),
                home: format!("[ds] {name}/{name}.vmx"),
                vm: VmRef::new(name),
            },
        }
    }

    #[test]
    fn a_visitor_lies_elsewhere_and_is_known_by_whose_directory_it_is_in() {
        let proxy = [
            "[ds] proxy/proxy.vmdk",
            "[ds] web/web.vmdk",
            "[ds2] web/web.vmdk",
            "[ds] webs/web.vmdk",
        ];
        let all = [
            listed("web", &["[ds] web/web.vmdk"]),
            listed("proxy", &proxy),
        ];
        let found = |vm: &Listed| {
            let disks = vm.devices.disks().expect("disks");
            let found = of(vm, disks, &all).into_iter();
            let told = found.map(|visitor| (visitor.disk.file_name, visitor.owner));
            told.collect::<Vec<_>>()
        };
        assert_eq!(found(&all[0]), []);
        let expected = [
            ("[ds] web/web.vmdk".to_owned(), Some("web".to_owned())),
            ("[ds2] web/web.vmdk".to_owned(), None),
            ("[ds] webs/web.vmdk".to_owned(), None),
        ];
        assert_eq!(found(&all[1]), expected);
        let disks = all[1].devices.disks().expect("disks");
        assert_eq!(disks[1].device_name(), "disk-1000-3");
    }
}
