//! Where attached disks go.

use std::collections::{BTreeMap, BTreeSet};

use crate::xml::Element;

/// What every paravirtual controller takes; newer ones take more, which old guests do not look at.
const UNITS: std::ops::Range<i32> = 0..16;
/// The unit that a SCSI controller takes for itself.
const OWN_UNIT: i32 = 7;
/// A VM has at most four SCSI controllers.
const BUSES: std::ops::Range<i32> = 0..4;
/// Keys of devices that do not exist yet are negative.
const BUS_KEYS: i32 = -1000;

const PARAVIRTUAL: &str = "ParaVirtualSCSIController";

/// A place of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub controller_key: i32,
    pub unit: i32,
}

/// A controller that is to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NewBus {
    pub key: i32,
    pub number: i32,
}

/// Where disks go, and the controllers that are to be added for them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub controllers: Vec<NewBus>,
    pub places: Vec<Place>,
}

/// Chooses places: on paravirtual controllers that the VM does not boot from, on new ones, and only then
/// on the one that it boots from. None when there is no room.
pub(super) fn places(devices: &[Element], count: usize) -> Option<Plan> {
    let buses = scsi_buses(devices)?;
    // The firmware starts from the first bus.
    let first = buses.keys().next().copied();
    let (boot, others): (Vec<_>, Vec<_>) = buses
        .iter()
        .filter(|(_, key)| is_usable(devices, **key))
        .partition(|(number, _)| Some(**number) == first);
    let mut plan = Plan::default();
    for (_, key) in others {
        take(&mut plan, devices, *key, count);
    }
    let free = BUSES.filter(|number| !buses.contains_key(number));
    for (number, key) in free.zip((0..).map(|index| BUS_KEYS - index)) {
        if plan.places.len() < count {
            plan.controllers.push(NewBus { key, number });
            take(&mut plan, devices, key, count);
        }
    }
    for (_, key) in boot {
        take(&mut plan, devices, *key, count);
    }
    (plan.places.len() == count).then_some(plan)
}

/// Keys of SCSI controllers of any kind by their bus.
fn scsi_buses(devices: &[Element]) -> Option<BTreeMap<i32, i32>> {
    let scsi = devices
        .iter()
        .filter(|device| device.find("sharedBus").is_some());
    scsi.map(|device| {
        let number = device.value("busNumber").ok()?;
        Some((number, device.value("key").ok()?))
    })
    .collect()
}

/// Whether it is a paravirtual controller of this VM alone.
fn is_usable(devices: &[Element], key: i32) -> bool {
    devices.iter().any(|device| {
        let sharing = device.find("sharedBus").map(|bus| bus.text.as_str());
        device.ty() == Some(PARAVIRTUAL)
            && device.value("key") == Ok(key)
            && sharing == Some("noSharing")
    })
}

/// Takes free units of a controller until there are places enough.
fn take(plan: &mut Plan, devices: &[Element], controller_key: i32, count: usize) {
    let on_it = devices
        .iter()
        .filter(|device| device.value("controllerKey") == Ok(controller_key));
    let taken: BTreeSet<i32> = on_it
        .filter_map(|device| device.value("unitNumber").ok())
        .collect();
    let free = UNITS.filter(|unit| *unit != OWN_UNIT && !taken.contains(unit));
    let places = free.map(|unit| Place {
        controller_key,
        unit,
    });
    plan.places.extend(places.take(count - plan.places.len()));
}
