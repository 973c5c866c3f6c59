//! The table of a benchmark.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::measured::{Latency, Measured, median};
use crate::peer::Peer;
use crate::step::Step;

/// One step of one round: what it cost us, and what it cost each peer right before.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Which step.
    pub step: Step,
    /// Stillwater's cost.
    pub ours: Measured,
    /// The peers' costs.
    pub peers: BTreeMap<Peer, Measured>,
    /// Runnable threads of the machine in the minute before.
    pub load: f64,
}

const HEAD: &str = "| step | who | wall s | CPU s | peak MiB | stored MiB | peer ÷ ours: CPU | wall | stored, ours ÷ peer |\n\
                    |---|---|---|---|---|---|---|---|---|\n";

const LATENCIES: &str =
    "\n| random reads of 64 KiB | median ms | p99 ms | median, ours ÷ peer |\n|---|---|---|---|\n";

/// Medians over all rounds, and the medians of the ratios of pairs.
pub fn table(pairs: &[Pair]) -> String {
    let mut out = HEAD.to_owned();
    for step in Step::ALL {
        let of_step: Vec<&Pair> = pairs.iter().filter(|pair| pair.step == step).collect();
        if of_step.is_empty() || step == Step::Random {
            continue;
        }
        if let Some(ours) = middle(of_step.iter().map(|pair| pair.ours)) {
            row(&mut out, step.name(), "Stillwater", &ours, "| | | |");
        }
        for peer in Peer::ALL {
            let costs = of_step
                .iter()
                .filter_map(|pair| pair.peers.get(&peer).copied());
            if let Some(cost) = middle(costs) {
                row(&mut out, "", peer.name(), &cost, &ratios(&of_step, peer));
            }
        }
    }
    out.push_str(&latencies(pairs));
    out
}

/// Medians over all rounds of what one read took, where contenders read here and there.
fn latencies(pairs: &[Pair]) -> String {
    let mut out = String::new();
    let ours: Vec<Latency> = pairs.iter().filter_map(|pair| pair.ours.latency).collect();
    let Some(ours) = middle_latency(&ours) else {
        return out;
    };
    out.push_str(LATENCIES);
    let mut line = |who: &str, latency: Latency, ratio: &str| {
        let (median, p99) = (latency.median_seconds * 1e3, latency.p99_seconds * 1e3);
        writeln!(out, "| {who} | {median:.2} | {p99:.2} | {ratio} |").unwrap_or_default();
    };
    line("Stillwater", ours, "");
    for peer in Peer::ALL {
        let of = |pair: &Pair| pair.peers.get(&peer)?.latency;
        let all: Vec<Latency> = pairs.iter().filter_map(of).collect();
        if let Some(latency) = middle_latency(&all) {
            let ratio = median(
                pairs
                    .iter()
                    .filter_map(|pair| {
                        let ours = pair.ours.latency?;
                        Some(ours.median_seconds / of(pair)?.median_seconds)
                    })
                    .collect(),
            );
            line(
                peer.name(),
                latency,
                &ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            );
        }
    }
    out
}

fn middle_latency(all: &[Latency]) -> Option<Latency> {
    let of = |field: fn(&Latency) -> f64| median(all.iter().map(field).collect());
    Some(Latency {
        median_seconds: of(|latency| latency.median_seconds)?,
        p99_seconds: of(|latency| latency.p99_seconds)?,
    })
}

fn row(out: &mut String, step: &str, who: &str, cost: &Measured, ratios: &str) {
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    writeln!(
        out,
        "| {step} | {who} | {:.2} | {:.2} | {:.0} | {:.0} {ratios}",
        cost.wall_seconds,
        cost.cpu_seconds,
        mib(cost.peak_bytes),
        mib(cost.stored_bytes)
    )
    .unwrap_or_default();
}

/// Each ratio is taken within a pair, so that a machine that slows down slows both.
fn ratios(pairs: &[&Pair], peer: Peer) -> String {
    let of = |ratio: fn(&Measured, &Measured) -> f64| {
        let each = pairs
            .iter()
            .filter_map(|pair| Some(ratio(pair.peers.get(&peer)?, &pair.ours)));
        median(each.collect()).map_or_else(String::new, |middle| format!("{middle:.2}"))
    };
    format!(
        "| {} | {} | {} |",
        of(|peer, ours| peer.cpu_seconds / ours.cpu_seconds),
        of(|peer, ours| peer.wall_seconds / ours.wall_seconds),
        of(|peer, ours| ours.stored_bytes as f64 / peer.stored_bytes as f64)
    )
}

fn middle(costs: impl Iterator<Item = Measured>) -> Option<Measured> {
    let costs: Vec<Measured> = costs.collect();
    let of = |field: fn(&Measured) -> f64| median(costs.iter().map(field).collect());
    Some(Measured {
        wall_seconds: of(|cost| cost.wall_seconds)?,
        cpu_seconds: of(|cost| cost.cpu_seconds)?,
        peak_bytes: of(|cost| cost.peak_bytes as f64)? as u64,
        stored_bytes: of(|cost| cost.stored_bytes as f64)? as u64,
        latency: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(cpu_seconds: f64) -> Measured {
        Measured {
            wall_seconds: 1.0,
            cpu_seconds,
            peak_bytes: 1 << 20,
            stored_bytes: 2 << 20,
            latency: None,
        }
    }

    fn pair(step: Step, ours: f64, peer: f64) -> Pair {
        Pair {
            step,
            ours: cost(ours),
            peers: BTreeMap::from([(Peer::Restic, cost(peer))]),
            load: 0.1,
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_pairs_and_not_the_ratio_of_medians() {
        let pairs =
            [(1.0, 4.0), (2.0, 4.0), (10.0, 30.0)].map(|(ours, peer)| pair(Step::Full, ours, peer));
        let table = table(&pairs);
        assert!(
            table.contains("| full | Stillwater | 1.00 | 2.00 | 1 | 2 | | | |"),
            "{table}"
        );
        assert!(
            table.contains("|  | restic | 1.00 | 4.00 | 1 | 2 | 3.00 | 1.00 | 1.00 |"),
            "{table}"
        );
    }

    #[test]
    fn latencies_stand_in_a_table_of_their_own() {
        let reads = |median_seconds| Measured {
            latency: Some(Latency {
                median_seconds,
                p99_seconds: 0.01,
            }),
            ..Measured::default()
        };
        let table = table(&[Pair {
            step: Step::Random,
            ours: reads(0.001),
            peers: BTreeMap::from([(Peer::Restic, reads(0.004))]),
            load: 0.1,
        }]);
        assert!(!table.contains("| random reads | "), "{table}");
        assert!(
            table.contains("| Stillwater | 1.00 | 10.00 |  |"),
            "{table}"
        );
        assert!(
            table.contains("| restic | 4.00 | 10.00 | 0.25 |"),
            "{table}"
        );
    }
}
