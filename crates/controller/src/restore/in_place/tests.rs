use stillwater_format::node::DiskRoot;
use stillwater_types::TreeId;
use stillwater_vsphere::{Protectability, SnapshotInfo, SnapshotRef};

use super::*;
use crate::preflight::sound;

const LENGTH: u64 = 1 << 20;

fn stored(key: i32, uuid: &str) -> manifest::Disk {
    manifest::Disk {
        key,
        label: format!("Hard disk {}", key - 1999),
        backing: Some(uuid.into()),
        change_id: Some("52 de/7".into()),
        root: DiskRoot {
            length: LENGTH,
            cutter: "block-v1".into(),
            top: TreeId::from_bytes([7; 32]),
            level: 1,
        },
        effort: manifest::Effort::default(),
    }
}

/// A VM that is off, with disks that have these UUIDs.
fn vm(disks: &[(i32, &str)]) -> Vm {
    let mut vm = sound();
    let one = vm.disks.remove(0);
    vm.power = Power::Off;
    vm.disks = disks
        .iter()
        .map(|(key, uuid)| VmDisk {
            key: *key,
            file_name: format!("[ds] web/{uuid}.vmdk"),
            backing_uuid: Some((*uuid).to_owned()),
            ..one.clone()
        })
        .collect();
    vm
}

#[track_caller]
fn check(vm: &Vm, disks: &[manifest::Disk], refused: &[Reason]) -> InPlace {
    let plan = in_place(vm, disks);
    let reasons: Vec<Reason> = plan.refusals.iter().map(|fault| fault.reason).collect();
    assert_eq!(reasons, refused);
    assert_eq!(plan.clone().accepted().is_ok(), refused.is_empty());
    plan
}

#[test]
fn disks_are_known_by_the_uuid_of_their_backing_wherever_they_hang_now() {
    let vm = vm(&[(2001, "a"), (2000, "b"), (2002, "new")]);
    let plan = check(&vm, &[stored(2000, "a"), stored(2001, "b")], &[]);
    let places: Vec<(i32, i32, &str)> = plan
        .disks
        .iter()
        .map(|disk| (disk.key, disk.now, disk.file_name.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            (2000, 2001, "[ds] web/a.vmdk"),
            (2001, 2000, "[ds] web/b.vmdk")
        ]
    );
    assert_eq!(plan.left.len(), 1);
}

#[test]
fn of_two_disks_with_one_uuid_the_key_decides() {
    let vm = vm(&[(2000, "a"), (2001, "a")]);
    let plan = check(&vm, &[stored(2001, "a")], &[]);
    assert_eq!(plan.disks[0].now, 2001);
}

#[test]
fn what_forbids_to_write_over_a_disk_is_refused() {
    let point = [stored(2000, "a")];
    let good = vm(&[(2000, "a")]);
    check(&good, &point, &[]);
    for power in [Power::On, Power::Suspended] {
        let vm = Vm {
            power,
            ..good.clone()
        };
        check(&vm, &point, &[Reason::VmNotOff]);
    }
    let snapshot = SnapshotInfo {
        snapshot: SnapshotRef::new("snapshot-1"),
        name: "before the upgrade".into(),
        description: String::new(),
        created_at: String::new(),
        quiesced: false,
        parent: None,
        is_current: true,
        backup_manifest: None,
    };
    let vm = Vm {
        snapshots: vec![snapshot],
        ..good.clone()
    };
    let plan = check(&vm, &point, &[Reason::VmHasSnapshots]);
    assert!(plan.refusals[0].message.contains("before the upgrade"));
    let vm = Vm {
        consolidation_needed: true,
        ..good.clone()
    };
    check(&vm, &point, &[Reason::VmHasSnapshots]);
    let vm = Vm {
        template: true,
        ..good.clone()
    };
    check(&vm, &point, &[Reason::NotSupported]);
}

#[test]
fn a_disk_that_is_not_the_one_of_the_point_is_never_written() {
    let point = [stored(2000, "a")];
    check(&vm(&[]), &point, &[Reason::DiskNotFound]);
    check(&vm(&[(2000, "b")]), &point, &[Reason::DiskNotFound]);
    let mut grown = vm(&[(2000, "a")]);
    grown.disks[0].capacity_bytes += 512;
    check(&grown, &point, &[Reason::DiskNotFound]);
    let mut shared = vm(&[(2000, "a")]);
    shared.disks[0].protectability = Protectability::MultiWriter;
    check(&shared, &point, &[Reason::DiskUnprotectable]);
}
