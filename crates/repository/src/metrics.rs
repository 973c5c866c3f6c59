//! What the repository counts. Dashboards and alerts use only these names; a test lists them all.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use stillwater_store::{Counts, Store, Usage};

/// The store, read when it is asked.
pub struct StoreMetrics(pub Store);

impl fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreMetrics")
    }
}

type Row = (&'static str, &'static str, u64);

fn counters(counts: Counts) -> [Row; 6] {
    [
        (
            "stillwater_repository_packs_written",
            "Packs that were acknowledged",
            counts.packs_written,
        ),
        (
            "stillwater_repository_written_bytes",
            "Bytes of acknowledged packs",
            counts.bytes_written,
        ),
        (
            "stillwater_repository_records_read",
            "Records read and checked",
            counts.records_read,
        ),
        (
            "stillwater_repository_read_bytes",
            "Stored bytes of records read",
            counts.bytes_read,
        ),
        (
            "stillwater_repository_records_damaged",
            "Records found damaged when they were read",
            counts.records_damaged,
        ),
        (
            "stillwater_repository_points_committed",
            "Points committed",
            counts.points_committed,
        ),
    ]
}

fn gauges(usage: Usage, writable: bool) -> [Row; 9] {
    [
        (
            "stillwater_repository_capacity_bytes",
            "Size of the file system",
            usage.capacity_bytes,
        ),
        (
            "stillwater_repository_writable_bytes",
            "What packs may still take",
            usage.writable_bytes,
        ),
        (
            "stillwater_repository_stored_bytes",
            "Bytes in packs",
            usage.stored_bytes,
        ),
        (
            "stillwater_repository_chunks",
            "Chunks stored",
            usage.chunk_count,
        ),
        (
            "stillwater_repository_points",
            "Restore points",
            usage.point_count,
        ),
        (
            "stillwater_repository_sessions",
            "Sessions open",
            usage.session_count,
        ),
        (
            "stillwater_repository_packs_damaged",
            "Packs found damaged at the start",
            usage.damaged_pack_count,
        ),
        (
            "stillwater_repository_points_damaged",
            "Points without a manifest at the start",
            usage.damaged_point_count,
        ),
        (
            "stillwater_repository_writable",
            "1 while the store takes data, 0 after its storage failed",
            u64::from(writable),
        ),
    ]
}

impl Collector for StoreMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, value) in counters(self.0.counters().read()) {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        let usage = match self.0.usage() {
            Ok(usage) => usage,
            Err(error) => {
                // What cannot be measured is missing from the answer, which alerts notice.
                tracing::warn!(%error, "failed to measure the store");
                return Ok(());
            }
        };
        for (name, help, value) in gauges(usage, self.0.is_writable()) {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}
