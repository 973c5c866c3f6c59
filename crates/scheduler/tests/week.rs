//! A week of 500 VMs in accelerated time: promises are broken only where something is truly missing.

#[path = "../sim/mod.rs"]
#[allow(
    clippy::disallowed_methods,
    reason = "how long a decision takes is real time"
)]
#[allow(dead_code, reason = "the year prints what the week does not ask")]
mod sim;

use sim::{World, is_capacity, live};

fn world() -> World {
    World {
        vms: 500,
        sites: 2,
        proxies: 4,
        slots: 6,
        repositories: 1,
        days: 7,
        scarce: None,
        restless: true,
        seed: 1,
    }
}

#[test]
fn with_enough_of_everything_every_promise_of_a_week_is_kept() {
    let (report, _) = live(&world());
    assert!(report.runs > 20_000, "{}", report.runs);
    assert!(report.moved > 0, "a lost proxy's lanes went on elsewhere");
    let capacity: Vec<_> = report
        .breaches
        .iter()
        .filter(|broken| is_capacity(broken.cause))
        .collect();
    assert!(capacity.is_empty(), "{capacity:?}");
}

#[test]
fn where_proxies_are_missing_promises_break_there_and_the_report_says_what_to_add() {
    let scarce = World {
        scarce: Some((3, 24, 0)),
        restless: false,
        ..world()
    };
    let (report, _) = live(&scarce);
    let from = report.from.expect("began");
    let day = |number: i64| from + jiff::SignedDuration::from_hours(number * 24);
    assert!(report.breaches.len() > 50, "{}", report.breaches.len());
    for broken in &report.breaches {
        if is_capacity(broken.cause) {
            assert_eq!(broken.site, 0, "{broken:?}");
            assert!(broken.since > day(3) && broken.since < day(5), "{broken:?}");
        }
    }
    let advice = report
        .missing
        .iter()
        .max_by_key(|(_, count)| **count)
        .map(|(advice, _)| advice.as_str());
    let advice = advice.expect("something is missing");
    assert!(
        advice.starts_with("add a proxy that reads datastore site0-"),
        "{advice}"
    );
}

#[test]
fn the_same_world_is_lived_the_same_way_again() {
    let world = World { days: 1, ..world() };
    let ((one, _), (other, _)) = (live(&world), live(&world));
    assert_eq!(
        (one.runs, one.decisions, one.moved),
        (other.runs, other.decisions, other.moved)
    );
    assert_eq!(one.given, other.given);
}
