//! What the repository counts. Dashboards and alerts use only these names; a test lists them all.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use stillwater_store::{Counts, Usage};

use crate::engine::Engine;

/// Reads the engine's numbers when it is asked: counts as they are, usage as it was last measured.
pub struct Board {
    engine: Engine,
}

impl Board {
    /// Shows this engine.
    pub const fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

impl Collector for Board {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let store = self.engine.store();
        for (name, help, value) in counts(&store.counters().read()) {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        let writable = [(
            "stillwater_repository_writable",
            "Whether the store takes anything; a restart is needed when it does not",
            u64::from(store.is_writable()),
        )];
        let usage = self.engine.measured();
        for (name, help, value) in writable.into_iter().chain(usage.iter().flat_map(gauges)) {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

type Number = (&'static str, &'static str, u64);

fn counts(counts: &Counts) -> [Number; 6] {
    [
        (
            "stillwater_repository_packs_written",
            "Packs acknowledged",
            counts.packs_written,
        ),
        (
            "stillwater_repository_written_bytes",
            "Bytes of packs acknowledged",
            counts.bytes_written,
        ),
        (
            "stillwater_repository_records_read",
            "Records read and checked",
            counts.records_read,
        ),
        (
            "stillwater_repository_read_bytes",
            "Stored bytes read and checked",
            counts.bytes_read,
        ),
        (
            "stillwater_repository_records_damaged",
            "Records found damaged when they were read",
            counts.records_damaged,
        ),
        (
            "stillwater_repository_points_committed",
            "Restore points committed",
            counts.points_committed,
        ),
    ]
}

fn gauges(usage: &Usage) -> [Number; 11] {
    [
        (
            "stillwater_repository_capacity_bytes",
            "Size of the file system",
            usage.capacity_bytes,
        ),
        (
            "stillwater_repository_writable_bytes",
            "Bytes that packs may still take",
            usage.writable_bytes,
        ),
        (
            "stillwater_repository_stored_bytes",
            "Bytes in packs",
            usage.stored_bytes,
        ),
        ("stillwater_repository_packs", "Packs", usage.pack_count),
        (
            "stillwater_repository_packs_damaged",
            "Packs found damaged at the start",
            usage.damaged_pack_count,
        ),
        ("stillwater_repository_chunks", "Chunks", usage.chunk_count),
        (
            "stillwater_repository_nodes",
            "Tree nodes",
            usage.node_count,
        ),
        (
            "stillwater_repository_points",
            "Restore points",
            usage.point_count,
        ),
        (
            "stillwater_repository_points_damaged",
            "Restore points without a manifest at the start",
            usage.damaged_point_count,
        ),
        (
            "stillwater_repository_sessions",
            "Open sessions",
            usage.session_count,
        ),
        (
            "stillwater_repository_time_lag_seconds",
            "How far trusted time is behind the wall clock",
            usage.time_lag.as_secs(),
        ),
    ]
}
