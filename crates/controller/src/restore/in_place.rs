//! What a restore over the disks of the VM itself does, and what stands in its way.

use stillwater_controller_api as api;
use stillwater_format::manifest;
use stillwater_types::{Fault, PointId, Reason, VmId};
use stillwater_vsphere::{Power, Vm, VmDisk};

use crate::point::OpenedPoint;

/// What would be done, and why it would be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPlace {
    /// The disks that are written, each with its key in the point.
    pub disks: Vec<Matched>,
    /// Labels of the VM's disks that the point does not have; they stay as they are.
    pub left: Vec<String>,
    /// Why nothing would be written.
    pub refusals: Vec<Fault>,
}

/// A disk of the point and where it is in the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// Its device key in the point.
    pub key: i32,
    /// Its label in the VM.
    pub label: String,
    /// Its size.
    pub length_bytes: u64,
    /// Its device key in the VM.
    pub now: i32,
    /// The file that is written.
    pub file_name: String,
}

/// Works out what a restore over a VM's own disks does.
pub fn in_place(vm: &Vm, disks: &[manifest::Disk]) -> InPlace {
    let mut refusals: Vec<Fault> = obstacles(vm).collect();
    let mut matched = Vec::new();
    for stored in disks {
        match find(vm, stored) {
            Ok(disk) => matched.push(Matched {
                key: stored.key,
                label: disk.label.clone(),
                length_bytes: stored.root.length,
                now: disk.key,
                file_name: disk.file_name.clone(),
            }),
            Err(fault) => refusals.push(fault.with("disk", stored.key)),
        }
    }
    let is_left = |disk: &&VmDisk| !matched.iter().any(|its| its.now == disk.key);
    let left = vm.disks.iter().filter(is_left);
    InPlace {
        left: left.map(|disk| disk.label.clone()).collect(),
        disks: matched,
        refusals,
    }
}

impl InPlace {
    /// The plan, unless something stands in its way.
    ///
    /// # Errors
    /// The first thing that does.
    pub fn accepted(self) -> Result<Self, Fault> {
        match self.refusals.first() {
            Some(refusal) => Err(refusal.clone()),
            None => Ok(self),
        }
    }

    /// The plan in the protocol's words. `newest` is the VM's newest point where this one is.
    pub fn told(
        self,
        vm: &VmId,
        vm_name: &str,
        newest: Option<&OpenedPoint>,
        is_tracked: bool,
    ) -> api::PlanRestoreInPlaceResponse {
        let newest = newest.filter(|_| is_tracked);
        let has_base = |key: i32| {
            let disks = newest.iter().flat_map(|point| &point.manifest.disks);
            let mut tracked = disks.filter(|disk| disk.change_id.is_some());
            tracked.any(|disk| disk.key == key)
        };
        let disk = |disk: &Matched| api::RestoreInPlaceDisk {
            key: disk.key,
            label: disk.label.clone(),
            length_bytes: disk.length_bytes,
            compares_all: !has_base(disk.key),
        };
        api::PlanRestoreInPlaceResponse {
            vm_id: vm.clone(),
            vm_name: vm_name.to_owned(),
            disks: self.disks.iter().map(disk).collect(),
            steps: steps(newest.map(|point| point.manifest.point)),
            losses: losses(&self.left),
            refusals: self.refusals,
        }
    }
}

fn steps(newest: Option<PointId>) -> Vec<String> {
    let look = match newest {
        Some(point) => format!(
            "a snapshot is made, vsphere is asked what changed since point {point}, and the snapshot is removed"
        ),
        None => "a snapshot is made and removed again: no change map is of use".to_owned(),
    };
    let steps = [
        look.as_str(),
        "change tracking is reset: the next backup holds every byte against the last point",
        "what may differ from the point is read and compared, and only blocks that differ are written, each proved and read back",
        "the vm stays powered off",
    ];
    steps.map(str::to_owned).to_vec()
}

fn losses(left: &[String]) -> Vec<String> {
    let unsaved = "what changed since the newest point is in no point: the run refuses to lose it unless `--discard-changes` is given; `stillwater backup` first keeps it".to_owned();
    let disks = left
        .iter()
        .map(|label| format!("{label} is not in the point and stays as it is"));
    let settings =
        "hardware, settings and NVRAM stay as they are: only disks are taken back".to_owned();
    [unsaved, settings].into_iter().chain(disks).collect()
}

/// What of the VM itself forbids to write over its disks.
fn obstacles(vm: &Vm) -> impl Iterator<Item = Fault> {
    let is_on = (vm.power != Power::Off).then(|| {
        Fault::new(
            Reason::VmNotOff,
            "the vm is not powered off, and disks that are in use cannot be taken back: shut it down first",
        )
    });
    let has_snapshots = (!vm.snapshots.is_empty()).then(|| {
        let names: Vec<&str> = vm.snapshots.iter().map(|one| one.name.as_str()).collect();
        Fault::new(
            Reason::VmHasSnapshots,
            format!(
                "the vm has snapshots, which what is written below them would spoil: remove them first, or restore to a new vm: {}",
                names.join(", ")
            ),
        )
    });
    let has_deltas = vm.consolidation_needed.then(|| {
        Fault::new(
            Reason::VmHasSnapshots,
            "disks of the vm have deltas that no snapshot explains: consolidate them first",
        )
    });
    let is_template = vm.template.then(|| {
        Fault::new(
            Reason::NotSupported,
            "the vm is a template: make it a vm first, or restore to a new one",
        )
    });
    [is_on, has_snapshots, has_deltas, is_template]
        .into_iter()
        .flatten()
}

/// The VM's disk that is a stored one, by the UUID of its backing, which stays when files and keys change.
fn find<'a>(vm: &'a Vm, stored: &manifest::Disk) -> Result<&'a VmDisk, Fault> {
    let mut same: Vec<&VmDisk> = vm.disks.iter().collect();
    match &stored.backing {
        Some(uuid) => same.retain(|disk| disk.backing_uuid.as_ref() == Some(uuid)),
        None => same.retain(|disk| disk.key == stored.key),
    }
    if same.len() > 1 {
        same.retain(|disk| disk.key == stored.key);
    }
    let elsewhere = "restore it to a new vm, or the disk to a file";
    let Some(disk) = same.first().copied() else {
        let message = format!(
            "the vm has {:?} of the point no more: {elsewhere}",
            stored.label
        );
        return Err(Fault::new(Reason::DiskNotFound, message));
    };
    if disk.capacity_bytes != stored.root.length {
        let message = format!(
            "{:?} has {} bytes, and {} in the point: {elsewhere}",
            disk.label, disk.capacity_bytes, stored.root.length
        );
        return Err(Fault::new(Reason::DiskNotFound, message));
    }
    match disk.protectability.obstacle() {
        None => Ok(disk),
        Some(obstacle) => Err(Fault::new(
            Reason::DiskUnprotectable,
            format!(
                "{:?} cannot be written over: {obstacle}; {elsewhere}",
                disk.label
            ),
        )),
    }
}

#[cfg(test)]
mod tests;
