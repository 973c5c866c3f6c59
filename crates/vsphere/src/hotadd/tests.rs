use proptest::prelude::*;

use super::attached::left;
use super::place::{NewBus, Place, Plan};
use super::*;

/// Controllers (type, key, bus, sharing) and disks (key, controller, unit).
fn hardware(buses: &[(&str, i32, i32, &str)], disks: &[(i32, i32, i32)]) -> Vec<Element> {
    let mut xml = String::from(r#"<val xmlns:x="i">"#);
    for (kind, key, bus, sharing) in buses {
        xml.push_str(&format!(
            r#"<d x:type="{kind}"><key>{key}</key><slotInfo x:type="VirtualDevicePciBusSlotInfo"><pciSlotNumber>{}</pciSlotNumber></slotInfo><busNumber>{bus}</busNumber><sharedBus>{sharing}</sharedBus></d>"#,
            key + 100
        ));
    }
    for (key, controller, unit) in disks {
        xml.push_str(&format!(
            r#"<d x:type="VirtualDisk"><key>{key}</key><backing x:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds] proxy/{key}.vmdk</fileName><diskMode>persistent</diskMode></backing><controllerKey>{controller}</controllerKey><unitNumber>{unit}</unitNumber><capacityInKB>4</capacityInKB></d>"#
        ));
    }
    Element::parse(&(xml + "</val>")).expect("reads").children
}

const PV: &str = "ParaVirtualSCSIController";
const LSI: &str = "VirtualLsiLogicController";

#[track_caller]
fn check(devices: &[Element], count: usize, new: &[(i32, i32)], expected: &[(i32, i32)]) {
    let plan = places(devices, count).expect("room");
    let new: Vec<_> = new
        .iter()
        .map(|(key, number)| NewBus {
            key: *key,
            number: *number,
        })
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(controller_key, unit)| Place {
            controller_key: *controller_key,
            unit: *unit,
        })
        .collect();
    assert_eq!(
        plan,
        Plan {
            controllers: new,
            places: expected
        }
    );
}

#[test]
fn disks_go_to_a_controller_that_the_vm_does_not_boot_from() {
    let own = [(2000, 1000, 0)];
    let alone = hardware(&[(PV, 1000, 0, "noSharing")], &own);
    check(&alone, 2, &[(-1000, 1)], &[(-1000, 0), (-1000, 1)]);
    let second = [(LSI, 1000, 0, "noSharing"), (PV, 1001, 1, "noSharing")];
    let with_second = hardware(&second, &[(2000, 1000, 0), (2016, 1001, 1)]);
    check(&with_second, 2, &[], &[(1001, 0), (1001, 2)]);
    let shared = [(PV, 1000, 0, "noSharing"), (PV, 1001, 1, "physicalSharing")];
    check(&hardware(&shared, &own), 1, &[(-1000, 2)], &[(-1000, 0)]);
    check(&hardware(&shared, &own), 0, &[], &[]);
}

#[test]
fn a_vm_whose_buses_are_taken_uses_the_one_that_it_boots_from_and_then_none() {
    let four: Vec<_> = (0..4)
        .map(|bus| {
            (
                if bus == 0 { PV } else { LSI },
                1000 + bus,
                bus,
                "noSharing",
            )
        })
        .collect();
    let devices = hardware(&four, &[(2000, 1000, 0)]);
    check(&devices, 1, &[], &[(1000, 1)]);
    assert_eq!(places(&devices, 14).map(|plan| plan.places.len()), Some(14));
    assert_eq!(places(&devices, 15), None);
}

proptest! {
    #[test]
    fn no_place_is_given_twice_or_taken_or_the_controllers_own(
        taken in prop::collection::btree_set((1000..1004i32, 0..16i32), 0..40),
        kinds in prop::collection::vec(any::<bool>(), 1..4),
        count in 0..70usize,
    ) {
        let buses: Vec<_> = (0..).zip(&kinds)
            .map(|(bus, pv)| (if *pv { PV } else { LSI }, 1000 + bus, bus, "noSharing"))
            .collect();
        let disks: Vec<_> = (2000..).zip(&taken)
            .map(|(key, (controller, unit))| (key, *controller, *unit))
            .collect();
        if let Some(plan) = places(&hardware(&buses, &disks), count) {
            let all: BTreeSet<_> = plan.places.iter().map(|p| (p.controller_key, p.unit)).collect();
            prop_assert_eq!(all.len(), count);
            prop_assert!(all.iter().all(|place| !taken.contains(place) && place.1 != 7 && place.1 < 16));
            let known = |key: i32| key < 0 || buses.iter().any(|bus| bus.1 == key && bus.0 == PV);
            prop_assert!(all.iter().all(|place| known(place.0)));
        } else {
            prop_assert!(count > 0);
        }
    }
}

fn devices() -> Devices {
    let buses = [(PV, 1000, 0, "noSharing")];
    Devices {
        list: hardware(&buses, &[(2000, 1000, 0), (2001, 1000, 3)]),
        home: "[ds] proxy/proxy.vmx".into(),
        vm: VmRef::new("vm-9"),
    }
}

fn asked(file_name: &str, capacity_bytes: u64) -> AttachDisk {
    AttachDisk {
        file_name: file_name.into(),
        capacity_bytes,
    }
}

#[test]
fn an_attached_disk_tells_where_its_guest_finds_it() {
    let there = devices().disks().expect("disks");
    let old = BTreeSet::from([2000]);
    let found = find(&[asked("[ds] proxy/2001.vmdk", 4096)], &there, &old).expect("attached");
    let disk = found.first().expect("a disk");
    assert_eq!((disk.pci_slot, disk.unit, disk.key), (Some(1100), 3, 2001));
    assert!(disk.is_at_home);
    for wrong in [
        asked("[ds] proxy/2000.vmdk", 4096),
        asked("[ds] proxy/2001.vmdk", 512),
    ] {
        assert!(find(&[wrong], &there, &old).is_err());
    }
}

#[test]
fn only_the_disk_that_was_attached_is_detached() {
    let vm = VmRef::new("vm-9");
    let there = devices().disks().expect("disks");
    let ours = there.last().expect("a disk");
    let gone = DetachDisk {
        key: 2005,
        ..ours.detachment()
    };
    let found = left(&vm, &[gone, ours.detachment()], &there).expect("ours");
    assert_eq!(found, [ours]);
    let other = DetachDisk {
        file_name: "[ds] web/web.vmdk".into(),
        ..ours.detachment()
    };
    let error = left(&vm, &[other], &there).expect_err("not ours");
    assert!(
        matches!(error, Error::NotOurDisk { key: 2001, .. }),
        "{error:?}"
    );
}

#[test]
fn changes_are_in_schema_order_and_name_no_file_operation() {
    let disk = asked("[ds] web/web.vmdk", 1 << 20);
    let bus = NewBus {
        key: -1000,
        number: 1,
    };
    let place = Place {
        controller_key: -1000,
        unit: 0,
    };
    let there = devices().disks().expect("disks");
    let changes = [
        Change::Bus(bus),
        Change::Attach(&disk, place, AttachMode::Read),
        Change::Detach(&there[1]),
    ];
    let xml = spec(&changes);
    let expected = concat!(
        "<spec><deviceChange><operation>add</operation><device xsi:type=\"ParaVirtualSCSIController\">",
        "<key>-1000</key><busNumber>1</busNumber><sharedBus>noSharing</sharedBus></device></deviceChange>",
        "<deviceChange><operation>add</operation><device xsi:type=\"VirtualDisk\"><key>-2001</key>",
        "<backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\"><fileName>[ds] web/web.vmdk</fileName>",
        "<diskMode>independent_nonpersistent</diskMode></backing><controllerKey>-1000</controllerKey>",
        "<unitNumber>0</unitNumber><capacityInKB>1024</capacityInKB><capacityInBytes>1048576</capacityInBytes>",
        "</device></deviceChange><deviceChange><operation>remove</operation><device xsi:type=\"VirtualDisk\">",
        "<key>2001</key><controllerKey>1000</controllerKey><unitNumber>3</unitNumber>",
        "<capacityInKB>4</capacityInKB></device></deviceChange></spec>",
    );
    assert_eq!(xml.as_str(), expected);
    assert!(!xml.as_str().contains("fileOperation"));
}
