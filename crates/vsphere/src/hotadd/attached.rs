//! Disks as a VM has them now, with the places where its guest finds them.

use std::collections::BTreeSet;

use super::{AttachDisk, DetachDisk};
use crate::client::bad_answer;
use crate::device;
use crate::xml::{Element, Problem};
use crate::{Error, Result, VmDisk, VmRef};

/// A disk of a VM, with the place where its guest finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedDisk {
    /// Device key.
    pub key: i32,
    /// Its file as it was asked for; the one that the VM names when it was not asked for.
    pub file_name: String,
    /// Its size.
    pub capacity_bytes: u64,
    /// UUID of the backing, when it has one.
    pub backing_uuid: Option<String>,
    /// vSphere's disk mode.
    pub mode: String,
    /// Key of its controller.
    pub controller_key: i32,
    /// The controller's PCI slot as the VM's configuration counts; none before the server has given one.
    pub pci_slot: Option<u32>,
    /// Unit on the controller.
    pub unit: u32,
    /// Whether its file lies in the VM's own directory. A disk elsewhere may be the VM's own, too.
    pub is_at_home: bool,
    /// Its files, the one that the VM writes first.
    pub(super) files: Vec<String>,
}

impl AttachedDisk {
    /// What detaches it.
    pub fn detachment(&self) -> DetachDisk {
        DetachDisk {
            key: self.key,
            file_name: self.file_name.clone(),
        }
    }

    /// Its files, the one that the VM writes first.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Its name among the VM's devices, as tools for vSphere have it.
    pub fn device_name(&self) -> String {
        format!("disk-{}-{}", self.controller_key, self.unit)
    }

    /// Whether the file is among the disk's: attaching may put a file of its own above it.
    pub fn has_file(&self, file_name: &str) -> bool {
        self.files.iter().any(|file| file == file_name)
    }
}

/// A VM's devices.
pub(super) struct Devices {
    pub list: Vec<Element>,
    /// The VM's configuration file.
    pub home: String,
    pub vm: VmRef,
}

impl Devices {
    pub(super) fn disks(&self) -> Result<Vec<AttachedDisk>> {
        let disks = device::disks(&self.list).map_err(|problem| self.bad(problem))?;
        let attached = disks.into_iter().map(|disk| self.attached(disk));
        attached
            .collect::<Result<_, _>>()
            .map_err(|problem| self.bad(problem))
    }

    pub(super) fn bad(&self, Problem(problem): Problem) -> Error {
        bad_answer(
            "ReconfigVM_Task",
            Problem(format!("{}: {problem}", self.vm)),
        )
    }

    fn attached(&self, disk: VmDisk) -> Result<AttachedDisk, Problem> {
        let unit = u32::try_from(disk.unit);
        let mut files = vec![disk.file_name.clone()];
        files.extend(disk.traits.parents);
        Ok(AttachedDisk {
            key: disk.key,
            is_at_home: directory(&disk.file_name) == directory(&self.home),
            file_name: disk.file_name,
            capacity_bytes: disk.capacity_bytes,
            backing_uuid: disk.backing_uuid,
            mode: disk.mode,
            controller_key: disk.controller_key,
            pci_slot: self.pci_slot(disk.controller_key)?,
            unit: unit.map_err(|_| Problem(format!("disk {} has unit {}", disk.key, disk.unit)))?,
            files,
        })
    }

    fn pci_slot(&self, controller: i32) -> Result<Option<u32>, Problem> {
        let found = self.list.iter().find(|device| {
            let key = device.find("key").map(|key| key.text.trim());
            key == Some(controller.to_string().as_str())
        });
        let slot = found.map(|device| device.optional_value::<i32>("slotInfo.pciSlotNumber"));
        // -1 stands for none.
        let slot = slot.transpose()?.flatten();
        Ok(slot.and_then(|slot| u32::try_from(slot).ok()))
    }
}

pub(super) fn directory(file: &str) -> &str {
    file.rsplit_once('/')
        .map_or(file, |(directory, _)| directory)
}

/// The disks that were asked for, among those that were not there before.
pub(super) fn find(
    asked: &[AttachDisk],
    there: &[AttachedDisk],
    old: &BTreeSet<i32>,
) -> Result<Vec<AttachedDisk>, Problem> {
    let find_one = |disk: &AttachDisk| {
        let found = there
            .iter()
            .find(|other| !old.contains(&other.key) && other.has_file(&disk.file_name));
        let found = found.ok_or_else(|| Problem(format!("{} is not attached", disk.file_name)))?;
        if found.capacity_bytes != disk.capacity_bytes {
            return Err(Problem(format!(
                "{} is attached with {} bytes, not {}",
                disk.file_name, found.capacity_bytes, disk.capacity_bytes
            )));
        }
        Ok(AttachedDisk {
            file_name: disk.file_name.clone(),
            ..found.clone()
        })
    };
    asked.iter().map(find_one).collect()
}

/// Those that are still there; an error when a key is another disk's by now.
pub(super) fn left<'a>(
    vm: &VmRef,
    disks: &[DetachDisk],
    there: &'a [AttachedDisk],
) -> Result<Vec<&'a AttachedDisk>> {
    let mut left = Vec::new();
    for disk in disks {
        let Some(found) = there.iter().find(|other| other.key == disk.key) else {
            continue;
        };
        if !found.has_file(&disk.file_name) {
            return Err(Error::NotOurDisk {
                vm: vm.clone(),
                key: disk.key,
                expected: disk.file_name.clone(),
                found: found.file_name.clone(),
            });
        }
        left.push(found);
    }
    Ok(left)
}
