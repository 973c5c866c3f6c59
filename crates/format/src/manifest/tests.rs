use proptest::prelude::*;
use stillwater_types::TreeId;

use super::*;

fn disk(key: i32) -> impl Strategy<Value = Disk> {
    let text = || prop::option::of("[ -~]{1,40}");
    (
        ".{0,40}",
        text(),
        text(),
        any::<[u64; 6]>(),
        any::<[u8; 32]>(),
        0..16u8,
    )
        .prop_map(move |(label, backing, change_id, n, top, level)| Disk {
            key,
            label,
            backing,
            change_id,
            root: DiskRoot {
                length: n[0],
                cutter: "block-v1/4096/16384/32768/131072".into(),
                top: TreeId::from_bytes(top),
                level,
            },
            effort: Effort {
                read_bytes: n[1],
                zero_bytes: n[2],
                new_bytes: n[3],
                stored_bytes: n[4],
                chunk_count: n[5],
            },
        })
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let ids = (
        any::<[u8; 16]>(),
        any::<[u8; 16]>(),
        any::<[u8; 16]>(),
        any::<[u8; 16]>(),
    );
    let disks = prop_oneof![
        Just(Vec::new()),
        (disk(2000), disk(2001), disk(16000)).prop_map(|(a, b, c)| vec![a, b, c]),
    ];
    let texts = ("[a-z0-9_-]{1,20}", ".{0,60}", "[ -~]{0,40}");
    let sealed = prop::collection::vec(any::<u8>(), 0..200);
    (ids, texts, any::<(u64, bool)>(), 1..5u8, disks, sealed).prop_map(
        |((point, dataset, run, vcenter), texts, (taken_at, whole), consistency, disks, sealed)| {
            Manifest {
                point: PointId::from_bytes(point),
                dataset: DatasetId::from_bytes(dataset),
                run: RunId::from_bytes(run),
                vm: VmId {
                    vcenter: VcenterId::from_bytes(vcenter),
                    moref: texts.0,
                },
                vm_name: texts.1,
                vcenter_instance: texts.2,
                taken_at: Time::from_millis(taken_at),
                consistency: Consistency::of(consistency).unwrap(),
                whole,
                disks,
                sealed,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_manifest_is_read_back_and_no_flipped_bit_or_cut_one_is(
        manifest in manifest(),
        bit in any::<prop::sample::Index>(),
    ) {
        let mut bytes = manifest.encode().unwrap();
        prop_assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        let bit = bit.index(bytes.len() * 8);
        prop_assert!(Manifest::decode(&bytes[..bit / 8]).is_err());
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Manifest::decode(&bytes).is_err());
    }

    #[test]
    fn bytes_with_a_right_hash_are_read_without_panic_and_have_one_encoding(
        manifest in manifest(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = manifest.encode().unwrap();
        let body = bytes.len() - HASH_LEN;
        for (at, byte) in edits {
            bytes[at.index(body)] = byte;
        }
        let hash = blake3::hash(&bytes[..body]);
        bytes[body..].copy_from_slice(hash.as_bytes());
        if let Ok(read) = Manifest::decode(&bytes) {
            prop_assert_eq!(read.encode(), Ok(bytes));
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Manifest::decode(&bytes).is_err());
    }
}

fn plain() -> Manifest {
    Manifest {
        point: PointId::mint(),
        dataset: DatasetId::mint(),
        run: RunId::mint(),
        vm: VmId {
            vcenter: VcenterId::mint(),
            moref: "vm-16".into(),
        },
        vm_name: "mail".into(),
        vcenter_instance: String::new(),
        taken_at: Time::default(),
        consistency: Consistency::Crash,
        whole: true,
        disks: Vec::new(),
        sealed: Vec::new(),
    }
}

#[test]
fn fields_beyond_their_bounds_are_refused_by_the_writer() {
    assert!(plain().encode().is_ok());
    let long = |count| "x".repeat(count);
    assert!(
        Manifest {
            vm_name: long(NAME_BYTES_MAX + 1),
            ..plain()
        }
        .encode()
        .is_err()
    );
    assert!(
        Manifest {
            vcenter_instance: long(TEXT_BYTES_MAX + 1),
            ..plain()
        }
        .encode()
        .is_err()
    );
    assert!(
        Manifest {
            sealed: vec![0; SEALED_BYTES_MAX + 1],
            ..plain()
        }
        .encode()
        .is_err()
    );
    let vm = VmId {
        moref: "../x".into(),
        ..plain().vm
    };
    assert!(Manifest { vm, ..plain() }.encode().is_err());
    assert!(
        Manifest {
            sealed: vec![0; SEALED_BYTES_MAX],
            ..plain()
        }
        .encode()
        .is_ok()
    );
}

#[test]
fn disks_must_ascend_by_key() {
    let root = DiskRoot {
        length: 0,
        cutter: "c".into(),
        top: TreeId::from_bytes([0; 32]),
        level: 0,
    };
    let disk = |key| Disk {
        key,
        label: String::new(),
        backing: None,
        change_id: None,
        root: root.clone(),
        effort: Effort::default(),
    };
    assert!(
        Manifest {
            disks: vec![disk(1), disk(2)],
            ..plain()
        }
        .encode()
        .is_ok()
    );
    assert!(
        Manifest {
            disks: vec![disk(2), disk(2)],
            ..plain()
        }
        .encode()
        .is_err()
    );
    assert!(
        Manifest {
            disks: vec![disk(3), disk(2)],
            ..plain()
        }
        .encode()
        .is_err()
    );
}
