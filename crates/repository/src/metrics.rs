//! What the repository counts. Dashboards and alerts use only these names; a test lists them all.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use stillwater_store::{CollectionCounts, Counts, Health, Scrubbed, Store, Usage};

use crate::engine::Engine;
use crate::upkeep::Upkept;

/// Reads the engine's numbers when it is asked: counts as they are, usage as it was last measured.
pub struct Board {
    engine: Engine,
    upkept: Upkept,
}

impl Board {
    /// Shows this engine.
    pub const fn new(engine: Engine, upkept: Upkept) -> Self {
        Self { engine, upkept }
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
        let written = counts(&store.counters().read());
        let scrubbed = scrubs(store, self.upkept.panic_count());
        let collected = collections(&store.collection_counts());
        for (name, help, value) in written.into_iter().chain(scrubbed).chain(collected) {
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
        let health = self.upkept.health();
        let used = usage.iter().flat_map(gauges);
        let sound = health.iter().flat_map(soundness);
        for (name, help, value) in writable.into_iter().chain(used).chain(sound) {
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

fn gauges(usage: &Usage) -> [Number; 13] {
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
        (
            "stillwater_repository_time_frozen",
            "Whether the clock is in doubt, so that nothing is deleted",
            u64::from(usage.time_frozen),
        ),
        (
            "stillwater_repository_statements_waiting",
            "Statements of administrators that have not taken effect",
            usage.waiting_statement_count,
        ),
    ]
}

fn scrubs(store: &Store, panic_count: u64) -> [Number; 7] {
    let Scrubbed {
        pack_count,
        read_bytes,
        damaged_pack_count,
        salvaged_record_count,
        healed_copy_count,
        ..
    } = store.scrub_totals();
    [
        (
            "stillwater_repository_scrub_packs",
            "Packs read again",
            pack_count,
        ),
        (
            "stillwater_repository_scrub_read_bytes",
            "Bytes read again",
            read_bytes,
        ),
        (
            "stillwater_repository_scrub_damaged_packs",
            "Packs found damaged and set aside",
            damaged_pack_count,
        ),
        (
            "stillwater_repository_scrub_salvaged_records",
            "Records copied out of damaged packs",
            salvaged_record_count,
        ),
        (
            "stillwater_repository_scrub_healed_copies",
            "Copies of manifests, log and superblock written anew",
            healed_copy_count,
        ),
        (
            "stillwater_repository_scrub_read_errors",
            "Reads that failed or gave wrong bytes",
            store.scrub_read_errors(),
        ),
        (
            "stillwater_repository_upkeep_panics",
            "How often the upkeep had to be started again",
            panic_count,
        ),
    ]
}

fn collections(counts: &CollectionCounts) -> [Number; 8] {
    [
        (
            "stillwater_repository_collections",
            "Cycles of garbage collection that went through",
            counts.cycles,
        ),
        (
            "stillwater_repository_collections_failed",
            "Cycles that ended early",
            counts.cycles_failed,
        ),
        (
            "stillwater_repository_collections_blocked",
            "Cycles that ended because a point could not be read",
            counts.cycles_blocked,
        ),
        (
            "stillwater_repository_collections_braked",
            "Cycles that condemned nothing because it was unusually much",
            counts.cycles_braked,
        ),
        (
            "stillwater_repository_collections_frozen",
            "Cycles that took nothing out because the clock was in doubt",
            counts.cycles_frozen,
        ),
        (
            "stillwater_repository_condemned_bytes",
            "Bytes of packs that were condemned",
            counts.condemned_bytes,
        ),
        (
            "stillwater_repository_removed_bytes",
            "Bytes of packs that were removed",
            counts.removed_bytes,
        ),
        (
            "stillwater_repository_compacted_bytes",
            "Bytes of packs that were compacted",
            counts.compacted_bytes,
        ),
    ]
}

/// How sound the store is.
fn soundness(health: &Health) -> Vec<Number> {
    let age = health
        .verified_since
        .map(|at| health.now.since(at).as_secs());
    let age = age.map(|seconds| {
        (
            "stillwater_repository_verified_age_seconds",
            "How long ago the pack was verified that waits longest; absent while one never was",
            seconds,
        )
    });
    let others = [
        (
            "stillwater_repository_unverified_bytes",
            "Bytes of packs that were never verified",
            health.unverified_bytes,
        ),
        (
            "stillwater_repository_overdue_bytes",
            "Bytes of packs that were not verified in time",
            health.overdue_bytes,
        ),
        (
            "stillwater_repository_packs_set_aside",
            "Packs set aside as damaged, since ever",
            health.damaged_pack_count,
        ),
        (
            "stillwater_repository_packs_unreadable",
            "Packs that could not be read and are tried again",
            health.unreadable_pack_count,
        ),
        (
            "stillwater_repository_records_lost",
            "Records that points need and no sound copy is left of",
            health.lost_record_count,
        ),
        (
            "stillwater_repository_points_degraded",
            "Restore points that need a lost record",
            health.degraded_points.len() as u64,
        ),
        (
            "stillwater_repository_log_damaged",
            "Whether both copies of the commit log were found damaged: do not restart",
            u64::from(health.is_log_damaged),
        ),
    ];
    age.into_iter().chain(others).collect()
}
