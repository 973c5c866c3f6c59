//! Tasks, as they are asked for and as the store tells of them.

use async_trait::async_trait;
use futures::stream::BoxStream;
use stillwater_format::commit::Cycle;
use stillwater_repository_api::*;
use stillwater_rpc::Peer;
use stillwater_store::{self as store, Phase, Store, Watch};
use stillwater_types::{Fault, PointId, Reason, TaskId};

use super::{Services, timestamp};
use crate::error::fault;
use crate::task::Follow;

impl Watch for Follow {
    fn note(&self, phase: Phase, done: u64, total: u64) {
        self.tell(phase.as_str(), done, total, unit(phase));
    }

    fn is_stopped(&self) -> bool {
        Follow::is_stopped(self)
    }
}

#[async_trait]
impl UpkeepService for Services {
    async fn start_task(&self, _: &Peer, request: StartTaskRequest) -> Result<Task, Fault> {
        self.admit_work()?;
        let store = self.engine.store().clone();
        let StartTaskRequest { kind, all, .. } = request;
        match (kind, request.point_id) {
            (TaskKind::Scrub, None) => self
                .tasks
                .start(&request, move |follow| scrub(&store, all, follow)),
            (TaskKind::Collect, None) => self
                .tasks
                .start(&request, move |follow| collect(&store, follow)),
            (TaskKind::Verify, Some(point)) => {
                self.engine.call(move |store| store.point(point)).await?;
                self.tasks
                    .start(&request, move |follow| verify(&store, point, follow))
            }
            (TaskKind::Verify, None) => Err(Fault::new(Reason::BadField, "point_id is missing")),
            (_, Some(_)) => Err(Fault::new(
                Reason::BadField,
                "point_id is given for a task that is not about one point",
            )),
        }
    }

    async fn get_task(&self, _: &Peer, task_id: TaskId) -> Result<Task, Fault> {
        self.tasks.get(task_id)
    }

    async fn watch_task(
        &self,
        _: &Peer,
        task_id: TaskId,
    ) -> Result<BoxStream<'static, Result<Task, Fault>>, Fault> {
        self.tasks.watch(task_id)
    }

    async fn cancel_task(&self, _: &Peer, task_id: TaskId) -> Result<Task, Fault> {
        self.tasks.cancel(task_id)
    }
}

/// What the amounts of a phase count.
const fn unit(phase: Phase) -> &'static str {
    match phase {
        Phase::Mark | Phase::Survey => "points",
        Phase::Settle | Phase::Sweep | Phase::Finish => "packs",
        Phase::Compact | Phase::Scrub | Phase::Verify => "bytes",
    }
}

fn scrub(store: &Store, all: bool, follow: &Follow) -> Result<TaskResult, Fault> {
    if all {
        store.request_scrub();
    }
    let found = store.scrub(u64::MAX, follow).map_err(fault)?;
    Ok(TaskResult::Scrub(ScrubResult {
        pack_count: found.pack_count,
        read_bytes: found.read_bytes,
        damaged_pack_count: found.damaged_pack_count,
        lost_record_count: found.lost_record_count,
        salvaged_record_count: found.salvaged_record_count,
    }))
}

fn verify(store: &Store, point: PointId, follow: &Follow) -> Result<TaskResult, Fault> {
    let found = store.verify_point(point, follow).map_err(fault)?;
    let extent = |extent: &store::DamagedExtent| DamagedExtent {
        disk_key: extent.disk_key,
        offset_bytes: extent.offset,
        length_bytes: extent.length,
    };
    Ok(TaskResult::Verify(VerifyResult {
        whole: found.is_whole(),
        read_bytes: found.read_bytes,
        extents: found.extents.iter().map(extent).collect(),
        damaged_extent_count: found.extent_count,
        damaged_bytes: found.damaged_bytes,
    }))
}

fn collect(store: &Store, follow: &Follow) -> Result<TaskResult, Fault> {
    let store::Collected {
        cycle,
        spared,
        condemned,
        quarantined,
        removed,
        compacted,
        held,
        ..
    } = store.collect(follow).map_err(fault)?;
    Ok(TaskResult::Collect(CollectResult {
        live_bytes: cycle.live_bytes,
        stored_bytes: cycle.stored_bytes,
        condemned_pack_count: condemned.pack_count,
        condemned_bytes: condemned.bytes,
        spared_pack_count: spared.pack_count,
        quarantined_pack_count: quarantined.pack_count,
        removed_pack_count: removed.pack_count,
        removed_bytes: removed.bytes,
        compacted_bytes: compacted.bytes,
        held: held.map(|held| held.to_string()).unwrap_or_default(),
        held_bytes: cycle.held_bytes,
    }))
}

/// How sound the repository is, as the store knows.
pub(super) fn health(store: &Store) -> Result<Result<Health, Fault>, store::Error> {
    let (health, quarantined_bytes) = (store.health(), store.quarantined_bytes()?);
    Ok(told(&health, quarantined_bytes, store.last_cycle()))
}

fn told(
    health: &store::Health,
    quarantined_bytes: u64,
    cycle: Option<Cycle>,
) -> Result<Health, Fault> {
    let degraded = &health.degraded_points;
    let held = cycle.filter(|cycle| cycle.held_bytes > 0).map(|cycle| {
        let bytes = cycle.held_bytes;
        format!("{bytes} bytes are an unusual amount; let two administrators allow it")
    });
    Ok(Health {
        verified_since: health.verified_since.map(timestamp).transpose()?,
        overdue_bytes: health.overdue_bytes,
        damaged_pack_count: health.damaged_pack_count,
        lost_record_count: health.lost_record_count,
        degraded_point_ids: degraded.iter().take(NAMED_MAX).copied().collect(),
        degraded_point_count: degraded.len() as u64,
        condemned_bytes: health.condemned_bytes,
        quarantined_bytes,
        collected_at: cycle.map(|cycle| timestamp(cycle.at)).transpose()?,
        held: held.unwrap_or_default(),
    })
}
