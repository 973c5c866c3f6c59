//! Answers of a server, all the way through what is read of them: for tests that throw bytes at it.

use crate::area::{self, Pages};
use crate::collect::Properties;
use crate::snapshot::{frozen_disks, tree};
use crate::soap::{Answer, answer, localized_fault};
use crate::xml::Element;
use crate::{Error, MapFailure, NewVm, vm};

/// The disk that a map of changed areas is taken for.
const CAPACITY: u64 = 1 << 40;

/// Takes a text as the answer to every kind of call. Tells how many of its values were understood as something.
///
/// # Panics
/// When a map of changed areas leaves its disk, or a value cannot be kept and read again.
pub fn take_answer(text: &str) -> usize {
    match answer(text) {
        Ok(Answer::Returned(returned)) => {
            let known = returned.iter().map(take_value).sum::<usize>();
            known + take_map(&returned)
        }
        Ok(Answer::Fault(fault)) => {
            let error = Error::Fault {
                method: "QueryChangedDiskAreas",
                fault: Box::new(fault),
            };
            assert!(!error.fault().message.is_empty());
            usize::from(error.map_failure() != MapFailure::Elsewhere)
        }
        Err(_) => 0,
    }
}

/// The values as pages of the map of one disk.
fn take_map(returned: &[Element]) -> usize {
    let mut pages = Pages::new(CAPACITY);
    for value in returned {
        let Ok(page) = area::page(value) else {
            return 0;
        };
        if pages.next().is_none() || pages.add(page).is_err() {
            return 0;
        }
    }
    let map = pages.finish();
    let end = map.areas.iter().map(|area| area.end()).max();
    assert!(
        end.unwrap_or_default() <= CAPACITY,
        "the map leaves the disk"
    );
    returned.len()
}

/// A value as a configuration, a tree of snapshots, a fault, and as objects with properties.
fn take_value(value: &Element) -> usize {
    let kept = value.document("kept");
    assert!(
        Element::parse(&kept).is_ok(),
        "cannot be read again: {kept}"
    );
    drop(localized_fault(value));
    let objects = value.all("objects").chain([value]);
    let read = objects.filter_map(|object| Properties::parse(object).ok());
    let known = [
        tree(value).is_ok_and(|found| !found.is_empty()),
        frozen_disks(value).is_ok(),
        NewVm::from_config(&kept, "web").is_ok(),
    ];
    known.into_iter().filter(|known| *known).count()
        + read.map(|read| take_object(&read)).sum::<usize>()
}

fn take_object(object: &Properties) -> usize {
    let tools = vm::tools(object);
    let known = [
        vm::power(object).is_ok(),
        tools == vm::tools(object),
        object
            .get("snapshot")
            .is_some_and(|told| tree(told).is_ok()),
        object
            .get("config")
            .is_some_and(|told| frozen_disks(told).is_ok()),
    ];
    known.into_iter().filter(|known| *known).count()
}
