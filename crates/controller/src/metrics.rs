//! What the controller counts.
//!
//! Dashboards and alerts use only these names; a test lists them all. What the memory knows is read
//! when it is asked for, so that no counter can drift from it.

use std::collections::BTreeSet;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use stillwater_rpc::Identity;
use stillwater_types::{Fault, RunId};
use tokio_util::sync::CancellationToken;

use crate::alarm::AlarmKind;
use crate::memory::Memory;
use crate::node::{Directory, Seen};
use crate::run::{self, Run, Work};
use crate::vcenter::Sessions;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    kind: &'static str,
    state: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waiting {
    resource: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabels {
    role: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Connected {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Alarming {
    kind: &'static str,
}

/// Counters of the controller; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    joins: Family<Outcome, Counter>,
    logins: Family<Outcome, Counter>,
    runs_ended: Family<Ended, Counter>,
    runs_scheduled: Counter,
    points_expired: Family<Outcome, Counter>,
    jobs_waiting: Family<Waiting, Gauge>,
}

impl Metrics {
    /// Puts the counters under their names.
    pub fn register(&self, registry: &mut Registry) {
        // The registry appends `_total` to counters.
        registry.register(
            "stillwater_controller_joins",
            "Attempts to join, by outcome: ok or the reason of the refusal",
            self.joins.clone(),
        );
        registry.register(
            "stillwater_controller_vcenter_logins",
            "Logins to vCenters, by outcome: ok or the reason of the refusal",
            self.logins.clone(),
        );
        registry.register(
            "stillwater_controller_runs_ended",
            "Runs that ended, by kind, final state and the reason of the fault, empty without one",
            self.runs_ended.clone(),
        );
        registry.register(
            "stillwater_controller_runs_scheduled",
            "Runs that were started for a policy and not by a person",
            self.runs_scheduled.clone(),
        );
        registry.register(
            "stillwater_controller_points_expired",
            "Deletions of restore points that no policy wants any more, by outcome: ok or the reason of the refusal",
            self.points_expired.clone(),
        );
        registry.register(
            "stillwater_controller_jobs_waiting",
            "VMs whose run is due and does not start, by what it waits for",
            self.jobs_waiting.clone(),
        );
    }

    /// Counts an attempt to join.
    pub fn join(&self, fault: Option<&Fault>) {
        self.joins.get_or_create(&outcome(fault)).inc();
    }

    /// Counts a login to a vCenter.
    pub fn login(&self, fault: Option<&Fault>) {
        self.logins.get_or_create(&outcome(fault)).inc();
    }

    /// Counts a run that was started for a policy.
    pub fn run_scheduled(&self) {
        self.runs_scheduled.inc();
    }

    /// Counts a point whose deletion a policy asked for.
    pub fn point_expired(&self, fault: Option<&Fault>) {
        self.points_expired.get_or_create(&outcome(fault)).inc();
    }

    /// Tells how many runs that are due wait for what.
    pub fn jobs_wait(&self, waiting: impl IntoIterator<Item = (&'static str, usize)>) {
        for (resource, count) in waiting {
            let gauge = self.jobs_waiting.get_or_create(&Waiting { resource });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts the end of a run: `kind` as `backup`, `state` as `succeeded`.
    pub fn run_ended(&self, kind: &'static str, state: &'static str, fault: Option<&Fault>) {
        let reason = fault.map_or("", |fault| fault.reason.as_str());
        self.runs_ended
            .get_or_create(&Ended {
                kind,
                state,
                reason,
            })
            .inc();
    }
}

/// Counts every run that ends, until `cancel`.
///
/// It compares published states, of which it may miss some in between; a run takes many journal
/// entries, so that none begins and ends unseen.
pub async fn count_runs(metrics: Metrics, memory: Memory, cancel: CancellationToken) {
    let mut states = memory.watch();
    let mut active: BTreeSet<RunId> = BTreeSet::new();
    loop {
        let now: BTreeSet<RunId> = states
            .borrow_and_update()
            .runs
            .iter()
            .map(|run| run.id)
            .collect();
        for ended in active.difference(&now).copied() {
            let memory = memory.clone();
            let read = tokio::task::spawn_blocking(move || memory.ended_run(ended)).await;
            if let Ok(Some(run)) = read {
                count_run(&metrics, &run);
            }
        }
        active = now;
        match cancel.run_until_cancelled(states.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
}

fn count_run(metrics: &Metrics, run: &Run) {
    let kind = match &run.work {
        Work::Backup(_) => "backup",
        Work::RestoreVm(_) => "restore_vm",
        Work::ExportDisk(_) => "export_disk",
        Work::VerifyPoint(_) => "verify_point",
        Work::RestoreInPlace(_) => "restore_in_place",
    };
    match &run.ending {
        Some(run::Outcome::Succeeded) => metrics.run_ended(kind, "succeeded", None),
        Some(run::Outcome::Incomplete) => metrics.run_ended(kind, "incomplete", None),
        Some(run::Outcome::Cancelled) => metrics.run_ended(kind, "cancelled", None),
        Some(run::Outcome::Failed(cause)) => metrics.run_ended(kind, "failed", Some(&cause.0)),
        None => metrics.run_ended(kind, "failed", None),
    }
}

fn outcome(fault: Option<&Fault>) -> Outcome {
    Outcome {
        outcome: fault.map_or("ok", |fault| fault.reason.as_str()),
    }
}

/// Reads gauges from the parts that know them.
pub struct Gauges {
    /// Knows nodes and runs.
    pub memory: Memory,
    /// Knows who is heard of.
    pub nodes: Directory,
    /// Knows who is logged in.
    pub vcenters: Sessions,
    /// Knows its own end.
    pub identity: Identity,
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

impl Gauges {
    fn nodes(&self) -> Family<NodeLabels, Gauge> {
        let family = Family::<_, Gauge>::default();
        for node in self.memory.state().nodes.iter() {
            let online = || {
                self.nodes
                    .last(node.node)
                    .as_ref()
                    .is_some_and(Seen::is_fresh)
            };
            let state = match node.removed_at {
                Some(_) => "removed",
                None if online() => "online",
                None => "offline",
            };
            family
                .get_or_create(&NodeLabels {
                    role: node.role.as_str(),
                    state,
                })
                .inc();
        }
        family
    }

    fn vcenters(&self) -> Family<Connected, Gauge> {
        let family = Family::<_, Gauge>::default();
        for vcenter in self.memory.state().vcenters.iter() {
            let state = match self.vcenters.live(vcenter.vcenter) {
                Some(_) => "connected",
                None => "disconnected",
            };
            family.get_or_create(&Connected { state }).inc();
        }
        family
    }

    /// Every kind is there, with zero too: an alert on what is missing could never fire.
    fn alarms(&self) -> Family<Alarming, Gauge> {
        let family = Family::<_, Gauge>::default();
        for kind in AlarmKind::ALL {
            let kind = kind.as_str();
            family.get_or_create(&Alarming { kind }).set(0);
        }
        for alarm in self.memory.state().alarms.standing() {
            let kind = alarm.kind.as_str();
            family.get_or_create(&Alarming { kind }).inc();
        }
        family
    }

    fn runs(&self) -> Gauge {
        let gauge = Gauge::default();
        gauge.set(i64::try_from(self.memory.state().runs.iter().count()).unwrap_or(i64::MAX));
        gauge
    }

    fn certificate(&self) -> Gauge {
        let gauge = Gauge::default();
        let end = jiff::Timestamp::try_from(self.identity.not_after());
        gauge.set(end.unwrap_or(jiff::Timestamp::MAX).as_second());
        gauge
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, metric: &dyn Encode| {
            let encoder = encoder.encode_descriptor(name, help, None, metric.kind())?;
            metric.write(encoder)
        };
        gauge(
            "stillwater_controller_nodes",
            "Nodes, by role and state",
            &self.nodes(),
        )?;
        gauge(
            "stillwater_controller_vcenters",
            "Registered vCenters, by state",
            &self.vcenters(),
        )?;
        gauge(
            "stillwater_controller_alarms",
            "Alarms that stand, by kind",
            &self.alarms(),
        )?;
        gauge(
            "stillwater_controller_runs_active",
            "Runs that have not ended",
            &self.runs(),
        )?;
        gauge(
            "stillwater_controller_certificate_expiry_timestamp_seconds",
            "When the controller's own certificate ends, in seconds since 1970",
            &self.certificate(),
        )
    }
}

/// [`EncodeMetric`] behind a reference, so that gauges of several shapes go through one closure.
trait Encode {
    fn kind(&self) -> prometheus_client::metrics::MetricType;
    fn write(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result;
}

impl<T: EncodeMetric> Encode for T {
    fn kind(&self) -> prometheus_client::metrics::MetricType {
        self.metric_type()
    }

    fn write(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result {
        self.encode(encoder)
    }
}
