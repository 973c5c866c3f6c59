//! A year of 10 000 VMs, 100 proxies and 20 repositories, in accelerated time, by the real decisions.
//!
//! `cargo run --release -p stillwater-scheduler --example year [days] [vms]` prints what
//! `docs/operations/capacity.md` says.

#[path = "../sim/mod.rs"]
#[allow(
    clippy::disallowed_methods,
    reason = "how long a decision takes is real time"
)]
#[allow(dead_code, reason = "the week asks what the year does not print")]
mod sim;

use std::collections::BTreeMap;

use sim::{Report, World, is_capacity, live};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |usual: u32| {
        let given = arguments.next().and_then(|text| text.parse().ok());
        given.unwrap_or(usual)
    };
    let (days, vms) = (number(365), number(10_000));
    let world = World {
        vms,
        sites: 10,
        proxies: 10,
        slots: 4,
        repositories: 2,
        days: i64::from(days),
        // In autumn the first site has one proxy of ten for two days.
        scarce: Some((i64::from(days) * 3 / 4, 48, 1)),
        restless: true,
        seed: 7,
    };
    let (report, vms) = live(&world);
    print(&world, &report, vms);
}

fn print(world: &World, report: &Report, vms: usize) {
    println!(
        "vms {vms}, days {}, runs {}, failed {}, lanes moved {}",
        world.days, report.runs, report.failed, report.moved
    );
    let times = &report.decision_us;
    println!(
        "decisions {}: p50 {:.0} us, p99 {:.0} us, p99.99 {:.0} us, max {:.0} us",
        report.decisions,
        times.at(500_000),
        times.at(990_000),
        times.at(999_900),
        times.most
    );
    println!("memory at most {} MiB", memory_mib());
    for (class, (p50, p99)) in &report.achieved {
        println!("achieved, worst vm of {class}: p50 {p50} s, p99 {p99} s");
    }
    println!(
        "runs of the busiest vm that suffers: {}",
        report.suffering_runs
    );
    println!(
        "broken in the first 12 h, while every vm is read whole: {}",
        report.first_late
    );
    let equal: Vec<f64> = report.given.iter().map(|(_, bytes)| *bytes).collect();
    let mean = equal.iter().sum::<f64>() / equal.len() as f64;
    let most = equal.iter().copied().fold(0.0, f64::max);
    println!(
        "bytes of {} proxies: max/mean {:.2}",
        equal.len(),
        most / mean
    );
    println!(
        "site 0 while it has {:?} (day, hours, proxies): {} MiB/s change, {} MiB/s can be read",
        world.scarce,
        report.wanted >> 20,
        report.scarce >> 20
    );
    let mut tally: BTreeMap<(u32, &str, bool), u64> = BTreeMap::new();
    for broken in &report.breaches {
        *tally
            .entry((broken.site, broken.class, is_capacity(broken.cause)))
            .or_default() += 1;
    }
    for ((site, class, capacity), count) in tally {
        let why = if capacity {
            "capacity"
        } else {
            "the vm itself"
        };
        println!("broken at site {site}, {class}: {count} by {why}");
    }
    for broken in &report.breaches {
        let from = report.from.zip(world.scarce);
        let there_and_then = from.is_some_and(|(from, (day, hours, _))| {
            // What queued up is caught up with within two more days.
            let after = broken.since.duration_since(from).as_hours() - day * 24;
            broken.site == 0 && (0..hours + 48).contains(&after)
        });
        if !there_and_then && is_capacity(broken.cause) {
            println!("broken where enough was: {broken:?}");
        }
    }
    let mut missing: Vec<_> = report.missing.iter().collect();
    missing.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (advice, count) in missing.into_iter().take(8) {
        println!("{count} vm minutes too late: {advice}");
    }
}

/// What the process ever had in memory, as Linux tells.
fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1))
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(0, |kib| kib / 1_024)
}
