//! How fast proxies reach a disk.

use serde_json::{Value, json};
use stillwater_controller_api::Probe;

use crate::output::{Field, size, table};

pub(crate) fn list(probes: &[Probe]) -> String {
    let header = [
        "PROXY", "DISK", "WAY", "READ", "RATE", "MEDIAN", "P99", "OPENED", "NOTE",
    ];
    table(header, probes.iter().map(row))
}

fn row(probe: &Probe) -> [Field; 9] {
    let Probe {
        proxy_name,
        disk_key,
        way,
        read_bytes,
        elapsed_micros: _,
        open_micros,
        latency_median_micros,
        latency_p99_micros,
        fault,
        passed_over,
    } = probe;
    let is_measured = fault.is_none() && passed_over.is_none();
    let figure = |text: String| match is_measured {
        true => Field::Number(text),
        false => Field::Number("-".to_owned()),
    };
    let failed = fault
        .as_ref()
        .map(|fault| format!("{}: {}", fault.reason, fault.message));
    let passed = passed_over.as_ref().map(|why| format!("not there: {why}"));
    let rate = rate(probe).map(|rate| format!("{}/s", size(rate)));
    [
        Field::text(proxy_name),
        Field::text(disk_key),
        Field::text(way),
        figure(size(*read_bytes)),
        figure(rate.unwrap_or_else(|| "-".to_owned())),
        figure(millis(*latency_median_micros)),
        figure(millis(*latency_p99_micros)),
        figure(millis(*open_micros)),
        Field::maybe(failed.or(passed)),
    ]
}

/// Bytes in a second; none when nothing was read.
fn rate(probe: &Probe) -> Option<u64> {
    let bytes = u128::from(probe.read_bytes) * 1_000_000;
    let rate = bytes.checked_div(u128::from(probe.elapsed_micros))?;
    u64::try_from(rate).ok().filter(|rate| *rate > 0)
}

fn millis(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

pub(crate) fn json(probes: &[Probe]) -> Value {
    let one = |probe: &Probe| {
        let fault = probe.fault.as_ref();
        json!({
            "proxy_name": probe.proxy_name,
            "disk_key": probe.disk_key,
            "way": probe.way,
            "read_bytes": probe.read_bytes,
            "elapsed_micros": probe.elapsed_micros,
            "bytes_per_second": rate(probe),
            "open_micros": probe.open_micros,
            "latency_median_micros": probe.latency_median_micros,
            "latency_p99_micros": probe.latency_p99_micros,
            "fault": fault.map(super::run::fault),
            "passed_over": probe.passed_over,
        })
    };
    probes.iter().map(one).collect()
}
