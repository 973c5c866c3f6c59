//! Whether a snapshot can freeze each disk.

use stillwater_types::Reason;
use stillwater_vsphere::{Protectability, Vm, VmDisk};

use super::{Check, Finding, Subject, Verdict};

pub(super) fn examine(vm: &Vm, exclude: &[i32]) -> Vec<Finding> {
    if vm.disks.is_empty() {
        let message = "the vm has no disk to protect";
        let none = Finding::new(Check::Disk, Verdict::Blocked, Subject::Vm, message);
        return vec![none.because(Reason::VmWithoutDisks)];
    }
    let disks = vm.disks.iter();
    disks.map(|disk| judge(disk, exclude)).collect()
}

fn judge(disk: &VmDisk, exclude: &[i32]) -> Finding {
    let subject = Subject::Disk {
        key: disk.key,
        label: disk.label.clone(),
    };
    let found = |verdict, message: String| {
        Finding::new(Check::Disk, verdict, subject, message).because(Reason::DiskUnprotectable)
    };
    let obstacle = match is_of_the_vm(&disk.protectability) {
        // The VM's own check says it.
        true => None,
        false => disk.protectability.obstacle(),
    };
    match obstacle {
        _ if exclude.contains(&disk.key) => found(Verdict::Ok, "is left out on purpose".to_owned()),
        None => found(Verdict::Ok, "a snapshot freezes it".to_owned()),
        Some(obstacle) => found(
            Verdict::Blocked,
            format!("{obstacle}; exclude it by its key to accept that"),
        ),
    }
}

/// Whether the obstacle is the whole VM's.
const fn is_of_the_vm(protectability: &Protectability) -> bool {
    matches!(
        protectability,
        Protectability::FaultTolerant | Protectability::Template | Protectability::NoSnapshots
    )
}
