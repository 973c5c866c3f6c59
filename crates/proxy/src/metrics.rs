//! What the proxy counts. Dashboards and alerts use only these names; a test lists them all.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use stillwater_proxy_api::{TransferProgress, TransferState};

use crate::slots::Slots;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    kind: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// Counters of the proxy; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    ended: Family<Ended, Counter>,
    read: Family<Kind, Counter>,
    sent: Family<Kind, Counter>,
    new: Counter,
    holes: Counter,
}

impl Metrics {
    /// Puts the counters under their names; the registry appends `_total`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "stillwater_proxy_transfers_ended",
            "Transfers that ended, by kind (backup, restore, export) and state (succeeded, failed, cancelled)",
            self.ended.clone(),
        );
        registry.register(
            "stillwater_proxy_read_bytes",
            "Bytes read from disks (backup) or repositories (restore, export)",
            self.read.clone(),
        );
        registry.register(
            "stillwater_proxy_sent_bytes",
            "Bytes sent to repositories (backup), written to disks (restore) or to readers (export)",
            self.sent.clone(),
        );
        registry.register(
            "stillwater_proxy_new_bytes",
            "Plain bytes of chunks that repositories did not have",
            self.new.clone(),
        );
        registry.register(
            "stillwater_proxy_hole_bytes",
            "Bytes of disks that were backed up as holes",
            self.holes.clone(),
        );
    }

    /// A transfer ended.
    pub fn ended(&self, kind: &'static str, state: TransferState, progress: &TransferProgress) {
        let state = match state {
            TransferState::Running => "running",
            TransferState::Succeeded => "succeeded",
            TransferState::Failed => "failed",
            TransferState::Cancelled => "cancelled",
        };
        self.ended.get_or_create(&Ended { kind, state }).inc();
        self.read
            .get_or_create(&Kind { kind })
            .inc_by(progress.read_bytes);
        self.sent
            .get_or_create(&Kind { kind })
            .inc_by(progress.sent_bytes);
        if kind == "backup" {
            self.new.inc_by(progress.new_bytes);
            self.holes.inc_by(progress.hole_bytes);
        }
    }

    /// An export was read to its end.
    pub fn exported(&self, progress: &TransferProgress) {
        self.ended("export", TransferState::Succeeded, progress);
    }
}

/// Gauges that are read when they are asked for.
#[derive(Debug)]
pub struct Gauges {
    /// The slots.
    pub slots: Slots,
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, value) in [
            (
                "stillwater_proxy_slots",
                "Transfers and exports taken at a time",
                self.slots.count(),
            ),
            (
                "stillwater_proxy_slots_taken",
                "Transfers and exports at work",
                self.slots.taken(),
            ),
        ] {
            let gauge = ConstGauge::new(i64::from(value));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn these_are_all_the_names() {
        let metrics = Metrics::default();
        metrics.ended(
            "backup",
            TransferState::Succeeded,
            &TransferProgress::default(),
        );
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        registry.register_collector(Box::new(Gauges {
            slots: Slots::new(2),
        }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let mut names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        names.sort_unstable();
        let expected = [
            "stillwater_proxy_hole_bytes counter",
            "stillwater_proxy_new_bytes counter",
            "stillwater_proxy_read_bytes counter",
            "stillwater_proxy_sent_bytes counter",
            "stillwater_proxy_slots gauge",
            "stillwater_proxy_slots_taken gauge",
            "stillwater_proxy_transfers_ended counter",
        ];
        assert_eq!(names, expected);
        stillwater_testkit::metrics::check_documented("proxy", &text);
    }
}
