use jiff::ToSpan;
use stillwater_format::node::DiskRoot;
use stillwater_types::{DatasetId, NodeId, RunId, TreeId, VcenterId, VmId};

use super::*;
use crate::point::{How, ReadingNote, Section};

const LENGTH: u64 = 1 << 30;

fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn frozen() -> FrozenDisk {
    FrozenDisk {
        key: 2000,
        label: "Hard disk 1".into(),
        capacity_bytes: LENGTH,
        file_name: "[ds] web/web.vmdk".into(),
        change_id: ChangeId::parse("52 de/8"),
        backing_uuid: Some("uuid".into()),
        protectability: stillwater_vsphere::Protectability::Protectable,
        traits: stillwater_vsphere::DiskTraits::default(),
    }
}

fn stored() -> manifest::Disk {
    manifest::Disk {
        key: 2000,
        label: "Hard disk 1".into(),
        backing: Some("uuid".into()),
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

fn note() -> DiskNote {
    DiskNote {
        key: 2000,
        new_chunk_count: 1,
        attempts: 1,
        proxy: NodeId::from_bytes([4; 16]),
        reading: Some(ReadingNote {
            how: How::Increment,
            why: None,
            remarks: vec![],
            base: None,
            changed_bytes: None,
            compared_bytes: 0,
            lie_bytes: 0,
            checked_at: now() - 24.hours(),
            increments: 3,
            lies: 0,
            last_lie_at: None,
            file: "[ds] web/web.vmdk".into(),
        }),
    }
}

fn opened(disks: Vec<manifest::Disk>) -> OpenedPoint {
    OpenedPoint {
        manifest: manifest::Manifest {
            point: PointId::from_bytes([9; 16]),
            dataset: DatasetId::from_bytes([6; 16]),
            run: RunId::from_bytes([8; 16]),
            vm: VmId {
                vcenter: VcenterId::from_bytes([1; 16]),
                moref: "vm-1".into(),
            },
            vm_name: "web".into(),
            vcenter_instance: String::new(),
            taken_at: stillwater_format::Time::from_millis(0),
            consistency: manifest::Consistency::Crash,
            whole: true,
            disks,
            sealed: vec![],
        },
        section: Section {
            disks: vec![note()],
            ..Section::default()
        },
    }
}

/// A situation in which nothing speaks against the map.
struct Scene {
    stored: manifest::Disk,
    note: DiskNote,
    foreign_then: Vec<String>,
    frozen: FrozenDisk,
    foreign_now: Vec<String>,
    is_base_damaged: bool,
    is_overwritten: bool,
    is_compare_asked: bool,
    has_base: bool,
}

impl Scene {
    fn new() -> Self {
        Self {
            stored: stored(),
            note: note(),
            foreign_then: vec![],
            frozen: frozen(),
            foreign_now: vec![],
            is_base_damaged: false,
            is_overwritten: false,
            is_compare_asked: false,
            has_base: true,
        }
    }

    fn reading(&mut self) -> &mut ReadingNote {
        self.note.reading.as_mut().unwrap()
    }

    fn plan(&self) -> Plan {
        let base = Base {
            point: PointId::from_bytes([9; 16]),
            disk: &self.stored,
            note: Some(&self.note),
            foreign_snapshots: &self.foreign_then,
        };
        let present = Present {
            disk: &self.frozen,
            foreign_snapshots: &self.foreign_now,
            is_base_damaged: self.is_base_damaged,
            is_overwritten: self.is_overwritten,
            is_compare_asked: self.is_compare_asked,
            now: now(),
        };
        plan(self.has_base.then_some(&base), &present, &Trust::default())
    }
}

#[track_caller]
fn check(change: impl FnOnce(&mut Scene), expected: Plan) {
    let mut scene = Scene::new();
    change(&mut scene);
    assert_eq!(scene.plan(), expected);
}

#[test]
fn a_map_is_believed_when_nothing_speaks_against_it() {
    let since = ChangeId::parse("52 de/7").unwrap();
    check(|_| {}, Plan::Increment(since.clone()));
    // Storage vMotion: the same disk in another place.
    check(
        |scene| scene.frozen.file_name = "[fast] other/web.vmdk".into(),
        Plan::Increment(since),
    );
}

#[test]
fn without_a_base_or_with_a_longer_one_nothing_is_compared() {
    check(|scene| scene.has_base = false, Plan::Full(Why::First));
    check(
        |scene| scene.frozen.capacity_bytes -= 4096,
        Plan::Full(Why::Resized),
    );
}

#[test]
fn each_doubt_has_the_disk_read_to_its_end() {
    check(
        |scene| scene.frozen.capacity_bytes += 4096,
        Plan::Compare(Why::Resized),
    );
    check(
        |scene| scene.frozen.change_id = None,
        Plan::Compare(Why::NotTracked),
    );
    check(
        |scene| scene.stored.change_id = None,
        Plan::Compare(Why::NotTracked),
    );
    check(
        |scene| scene.frozen.change_id = ChangeId::parse("52 df/1"),
        Plan::Compare(Why::TrackingReset),
    );
    check(
        |scene| scene.is_base_damaged = true,
        Plan::Compare(Why::BaseDamaged),
    );
    check(
        |scene| scene.is_overwritten = true,
        Plan::Compare(Why::Overwritten),
    );
    check(
        |scene| scene.is_compare_asked = true,
        Plan::Compare(Why::Asked),
    );
    check(
        |scene| scene.reading().lie_bytes = 1,
        Plan::Compare(Why::MapLied),
    );
}

#[test]
fn snapshots_of_others_make_a_map_worthless() {
    let changed = || Plan::Compare(Why::SnapshotsChanged);
    check(
        |scene| scene.foreign_now = vec!["snapshot-1".into()],
        changed(),
    );
    check(
        |scene| scene.foreign_then = vec!["snapshot-1".into()],
        changed(),
    );
    // Somebody may have reverted to it meanwhile.
    check(
        |scene| {
            scene.foreign_then = vec!["snapshot-1".into()];
            scene.foreign_now = vec!["snapshot-1".into()];
        },
        Plan::Compare(Why::ForeignSnapshots),
    );
}

#[test]
fn a_map_is_not_believed_for_ever() {
    let trust = Trust::default();
    let due = || Plan::Compare(Why::Due);
    check(|scene| scene.reading().increments = trust.points_max, due());
    check(
        |scene| scene.reading().checked_at = now() - (24 * 7).hours(),
        due(),
    );
    // A clock that went back is no reason to trust for longer.
    check(
        |scene| scene.reading().checked_at = now() + 1.hours(),
        due(),
    );
    // A point of a release that did not say.
    check(|scene| scene.note.reading = None, due());
}

#[test]
fn a_disk_is_known_by_its_uuid_and_of_two_with_the_same_by_its_key() {
    let moved = manifest::Disk {
        key: 2005,
        ..stored()
    };
    let other = manifest::Disk {
        backing: Some("other".into()),
        ..stored()
    };
    let found = |disks: Vec<manifest::Disk>| {
        let point = opened(disks);
        Base::find(&point, &frozen()).map(|base| base.disk.key)
    };
    assert_eq!(found(vec![other.clone(), moved.clone()]), Some(2005));
    assert_eq!(found(vec![moved, stored()]), Some(2000));
    assert_eq!(found(vec![other]), None);
    let unknown = FrozenDisk {
        backing_uuid: None,
        ..frozen()
    };
    assert!(Base::find(&opened(vec![stored()]), &unknown).is_none());
}

#[test]
fn a_sample_grows_with_the_change_and_with_distrust() {
    assert_eq!(sample_bytes(0, 0), SAMPLE_MIN);
    assert_eq!(sample_bytes(16 << 30, 0), SAMPLE_MAX);
    assert_eq!(sample_bytes(1 << 30, 0), 64 << 20);
    assert!(sample_bytes(0, 1) > sample_bytes(0, 0));
}
