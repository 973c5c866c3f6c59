use stillwater_types::RunId;
use stillwater_vsphere::{DatastoreKind, DatastoreRef, SnapshotRef};

use super::*;
use crate::preflight::sound;

const GIB: u64 = 1 << 30;

fn cluster() -> ClusterId {
    ClusterId::from_bytes([1; 16])
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().expect("a time")
}

fn datastore(free_bytes: u64, capacity_bytes: u64) -> DatastoreFacts {
    DatastoreFacts {
        datastore: DatastoreRef::new("datastore-1"),
        name: "ds".into(),
        url: None,
        kind: DatastoreKind::Vmfs,
        capacity_bytes,
        free_bytes,
        is_accessible: true,
        hosts: Vec::new(),
    }
}

#[track_caller]
fn headroom(disk_bytes: u64, free: u64, capacity: u64, expected: Verdict) {
    let mut vm = sound();
    vm.disks[0].capacity_bytes = disk_bytes;
    let judged = Guards::default().headroom(&vm, &datastore(free, capacity));
    assert_eq!(judged.verdict, expected, "{}", judged.message);
}

#[test]
fn a_datastore_needs_room_for_itself_and_for_the_delta() {
    use Verdict::{Blocked, Ok, Warning};
    // Of a small disk the datastore decides: ten percent are good, five the least.
    headroom(GIB, 100 * GIB, 1000 * GIB, Ok);
    headroom(GIB, 100 * GIB - 1, 1000 * GIB, Warning);
    headroom(GIB, 50 * GIB, 1000 * GIB, Warning);
    headroom(GIB, 50 * GIB - 1, 1000 * GIB, Blocked);
    // Of a large one its delta, one percent of it, twice.
    headroom(20_000 * GIB, 400 * GIB, 1000 * GIB, Ok);
    headroom(20_000 * GIB, 400 * GIB - 1, 1000 * GIB, Warning);
    headroom(20_000 * GIB, 200 * GIB, 1000 * GIB, Warning);
    headroom(20_000 * GIB, 200 * GIB - 1, 1000 * GIB, Blocked);
    headroom(u64::MAX, 0, u64::MAX, Blocked);
    // A server that tells no capacity is not taken for a full one.
    headroom(0, 0, 0, Ok);
}

#[test]
fn only_disks_on_the_datastore_that_a_snapshot_freezes_count() {
    let mut vm = sound();
    vm.disks[0].capacity_bytes = 20_000 * GIB;
    let judge = |vm: &Vm| {
        let judged = Guards::default().headroom(vm, &datastore(150 * GIB, 1000 * GIB));
        judged.verdict
    };
    assert_eq!(judge(&vm), Verdict::Blocked);
    vm.disks[0].file_name = "[ds2] web/web.vmdk".into();
    assert_eq!(judge(&vm), Verdict::Ok);
    vm.disks[0].file_name = "[ds] web/web.vmdk".into();
    vm.disks[0].protectability = stillwater_vsphere::Protectability::Independent;
    assert_eq!(judge(&vm), Verdict::Ok);
}

fn snapshot(number: usize, description: &str, created_at: &str) -> SnapshotInfo {
    SnapshotInfo {
        snapshot: SnapshotRef::new(format!("snapshot-{number}")),
        name: "before update".into(),
        description: description.into(),
        created_at: created_at.into(),
        quiesced: false,
        parent: None,
        is_current: false,
        backup_manifest: None,
    }
}

#[track_caller]
fn foreign(count: usize, created_at: &str, description: &str, expected: Verdict) {
    let mut vm = sound();
    vm.snapshots = (0..count)
        .map(|n| snapshot(n, description, created_at))
        .collect();
    let judged = Guards::default().foreign(&vm, cluster(), now());
    assert_eq!(judged.verdict, expected, "{}", judged.message);
}

#[test]
fn foreign_snapshots_are_warned_of_by_age_and_count_and_refused_by_count() {
    use Verdict::{Blocked, Ok, Warning};
    foreign(0, "", "", Ok);
    foreign(3, "2026-11-23T11:00:00Z", "", Ok);
    foreign(4, "2026-11-23T11:00:00Z", "", Warning);
    foreign(1, "2026-11-20T12:00:00Z", "", Ok);
    foreign(1, "2026-11-20T11:59:59Z", "", Warning);
    foreign(24, "2026-11-23T11:00:00Z", "", Warning);
    foreign(25, "2026-11-23T11:00:00Z", "", Blocked);
    // A server's clock ahead of ours, or words that are no time, make nothing old.
    foreign(1, "2027-01-01T00:00:00Z", "", Ok);
    foreign(1, "yesterday", "", Ok);
}

#[test]
fn our_own_snapshots_are_not_foreign_and_those_of_another_cluster_are() {
    let lease = |cluster| Lease {
        cluster,
        run: RunId::from_bytes([9; 16]),
        expires_at: now(),
    };
    let ours = lease(cluster()).to_string();
    foreign(25, "2020-01-01T00:00:00Z", &ours, Verdict::Ok);
    let theirs = lease(ClusterId::from_bytes([2; 16])).to_string();
    foreign(25, "2020-01-01T00:00:00Z", &theirs, Verdict::Blocked);
}
