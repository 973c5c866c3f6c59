//! Points as the controller's protocol tells them.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stillwater_controller_api as api;
use stillwater_rpc::Peer;
use stillwater_types::{Fault, NodeId, PointId, Reason, VmId};
use tokio_util::sync::CancellationToken;

use super::OpenedPoint;
use super::cache::{KnownPoint, Points, blocking};
use super::quiescence::Quiescence;
use super::section::{ReadingNote, Section};
use super::surroundings::Surroundings;
use crate::guest::{HookEnd, HookRun, Phase};
use crate::inventory::Inventory;
use crate::memory::Memory;
use crate::node::actor;
use crate::page;
use crate::repository::Upkeep;
use crate::run::{Level, Repositories};
use crate::secret::Secrets;

/// How often the repositories are asked when nobody asks us.
const REFRESH_EVERY: Duration = Duration::from_secs(300);

/// Answers for points; clones share what is remembered.
#[derive(Clone)]
pub struct Service {
    memory: Memory,
    points: Points,
    repositories: std::sync::Arc<dyn Repositories>,
    upkeep: std::sync::Arc<dyn Upkeep>,
    secrets: Secrets,
    inventory: Inventory,
}

impl Service {
    /// Answers from what `points` remembers.
    pub fn new(
        memory: Memory,
        points: Points,
        repositories: std::sync::Arc<dyn Repositories>,
        upkeep: std::sync::Arc<dyn Upkeep>,
        secrets: Secrets,
        inventory: Inventory,
    ) -> Self {
        Self {
            memory,
            points,
            repositories,
            upkeep,
            secrets,
            inventory,
        }
    }

    /// Keeps what is remembered fresh until `cancel`.
    pub async fn keep_fresh(self, cancel: CancellationToken) {
        loop {
            for (repository, fault) in self.points.refresh().await {
                tracing::warn!(repository.id = %repository, %fault, "repository told no points");
            }
            let woken = async {
                tokio::select! {
                    () = self.points.woken() => {}
                    () = tokio::time::sleep(REFRESH_EVERY) => {}
                }
            };
            if cancel.run_until_cancelled(woken).await.is_none() {
                return;
            }
        }
    }

    /// The point of that id; the repositories are asked when none is remembered.
    ///
    /// # Errors
    /// `POINT_NOT_FOUND`, or `REPOSITORY_UNREACHABLE` when one that may have it did not answer.
    pub async fn find(&self, point: PointId) -> Result<KnownPoint, Fault> {
        if let Some(known) = self.remembered(point).await? {
            return Ok(known);
        }
        let silent = self.points.refresh().await;
        if let Some(known) = self.remembered(point).await? {
            return Ok(known);
        }
        let fault = match silent.into_iter().next() {
            Some((repository, fault)) => fault.with("repository", repository),
            None => Fault::new(
                Reason::PointNotFound,
                "no repository has that point; `stillwater point list` names the points",
            ),
        };
        Err(fault.with("point", point))
    }

    async fn remembered(&self, point: PointId) -> Result<Option<KnownPoint>, Fault> {
        let points = self.points.clone();
        blocking(move || points.find(point)).await
    }

    /// The point with what only key holders can read.
    async fn open(&self, point: PointId) -> Result<(KnownPoint, OpenedPoint), Fault> {
        let known = self.find(point).await?;
        let stored = self.repositories.get_point(known.repository, point).await?;
        let state = self.memory.state();
        let key = state
            .datasets
            .find(stored.point.dataset_id)?
            .open_key(&self.secrets)?;
        let opened = OpenedPoint::open(&stored, &key)?;
        Ok((known, opened))
    }

    /// The point with what only key holders can read.
    ///
    /// # Errors
    /// Those of finding, fetching and opening it.
    pub async fn opened(&self, point: PointId) -> Result<OpenedPoint, Fault> {
        Ok(self.open(point).await?.1)
    }

    fn told(&self, point: KnownPoint) -> api::Point {
        let name = self.repository_name(point.repository);
        let state = self.memory.state();
        let verification = state.verifications.of(point.point).cloned();
        point.told(name, verification)
    }

    fn repository_name(&self, repository: NodeId) -> String {
        let state = self.memory.state();
        state
            .nodes
            .find(repository)
            .map(|node| node.name.clone())
            .unwrap_or_default()
    }

    /// Which points a text asks for. A name fits what the VM was called then: the VM may be gone,
    /// and its points are what is left of it.
    async fn filter(&self, vm: Option<String>) -> Result<Filter, Fault> {
        let Some(text) = vm else {
            return Ok(Filter::All);
        };
        if let Ok(id) = text.parse::<VmId>() {
            return Ok(Filter::Vm(id));
        }
        match text.starts_with('/') {
            true => Ok(Filter::Vm(self.inventory.resolve(&text).await?.vm)),
            false => Ok(Filter::Name(text)),
        }
    }
}

enum Filter {
    All,
    Vm(VmId),
    Name(String),
}

impl Filter {
    fn fits(&self, point: &KnownPoint) -> bool {
        match self {
            Filter::All => true,
            Filter::Vm(vm) => point.vm == *vm,
            Filter::Name(name) => point.vm_name == *name,
        }
    }
}

#[async_trait]
impl api::PointService for Service {
    async fn list_points(
        &self,
        _peer: &Peer,
        request: api::ListPointsRequest,
    ) -> Result<api::ListPointsResponse, Fault> {
        let before = request.page_token.as_deref().map(parse_token).transpose()?;
        let filter = self.filter(request.vm).await?;
        if before.is_none() {
            for (repository, fault) in self.points.refresh().await {
                tracing::warn!(repository.id = %repository, %fault, "points are listed as last told");
            }
        }
        let points = self.points.clone();
        let limit = page::limit(request.page_size);
        let (found, next) =
            blocking(move || points.page(before, limit, |point| filter.fits(point))).await?;
        Ok(api::ListPointsResponse {
            points: found.into_iter().map(|point| self.told(point)).collect(),
            next_page_token: next.map(|key| URL_SAFE_NO_PAD.encode(key)),
        })
    }

    async fn get_point(
        &self,
        _peer: &Peer,
        point_id: PointId,
    ) -> Result<api::GetPointResponse, Fault> {
        let (known, opened) = self.open(point_id).await?;
        let disks = opened.section.disks.into_iter();
        let readings = disks.filter_map(|disk| Some(told_reading(disk.key, disk.reading?)));
        let lines = opened.section.evidence.into_iter();
        let lines = lines.map(|note| api::EvidenceLine {
            name: note.name,
            value: note.value,
        });
        Ok(api::GetPointResponse {
            point: self.told(known),
            evidence: api::Evidence {
                lines: lines.collect(),
            },
            readings: readings.collect(),
            quiescence: opened.section.quiescence.map(told_quiescence),
        })
    }

    async fn get_point_configuration(
        &self,
        _peer: &Peer,
        point_id: PointId,
    ) -> Result<api::PointConfiguration, Fault> {
        let (_, opened) = self.open(point_id).await?;
        let Section {
            config_xml,
            surroundings,
            ..
        } = opened.section;
        Ok(api::PointConfiguration {
            config_xml,
            surroundings: surroundings.map(Surroundings::told).transpose()?,
        })
    }

    async fn lock_point(
        &self,
        peer: &Peer,
        request: api::LockPointRequest,
    ) -> Result<api::Point, Fault> {
        let point_id = request.point_id;
        let known = self.find(point_id).await?;
        let locked = self.upkeep.lock_point(known.repository, request).await?;
        tracing::info!(point.id = %point_id, actor = ?actor(peer), until = %locked.retain_until, "locked a restore point");
        self.points.look_again();
        Ok(api::Point {
            retain_until: locked.retain_until,
            ..self.told(known)
        })
    }

    async fn delete_point(&self, peer: &Peer, point_id: PointId) -> Result<(), Fault> {
        let known = self.find(point_id).await?;
        self.upkeep.delete_point(known.repository, point_id).await?;
        tracing::info!(point.id = %point_id, actor = ?actor(peer), "had a restore point deleted");
        self.points.look_again();
        Ok(())
    }
}

fn hook_told(run: HookRun) -> api::HookRun {
    let HookRun {
        name,
        phase,
        end,
        started_at,
        ended_at,
        output,
        truncated,
    } = run;
    api::HookRun {
        name,
        phase: match phase {
            Phase::Before => api::HookPhase::Before,
            Phase::During => api::HookPhase::During,
            Phase::After => api::HookPhase::After,
        },
        started_at,
        ended_at,
        exit_code: match end {
            HookEnd::Code(code) => Some(code),
            HookEnd::TimedOut | HookEnd::Released => None,
        },
        timed_out: end == HookEnd::TimedOut,
        output,
        truncated,
    }
}

fn told_quiescence(kept: Quiescence) -> api::Quiescence {
    let Quiescence {
        asked,
        achieved,
        tries,
        tools,
        quiesced,
        archive,
        writers,
        stun_micros,
        freeze_millis,
        remarks,
        hooks,
        release,
    } = kept;
    let tries = tries.into_iter().map(|tried| api::QuiesceTry {
        level: told_level(tried.level),
        problem: tried.problem,
    });
    let writers = writers.into_iter().map(|writer| api::QuiesceWriter {
        name: writer.name,
        failure: writer.failure,
        component_count: writer.component_count,
    });
    api::Quiescence {
        asked: asked.into_iter().map(told_level).collect(),
        achieved: told_level(achieved),
        tries: tries.collect(),
        tools,
        quiesced,
        writers: writers.collect(),
        stun_micros,
        freeze_millis,
        has_report: archive.is_some(),
        hooks: hooks.into_iter().map(hook_told).collect(),
        hook_release: release.map(|release| api::HookRelease {
            by_watchdog: release.by_watchdog,
            released_at: release.at,
        }),
        remarks,
    }
}

const fn told_level(level: Level) -> api::Consistency {
    match level {
        Level::Crash => api::Consistency::Crash,
        Level::FileSystem => api::Consistency::FileSystem,
        Level::Application => api::Consistency::Application,
    }
}

fn told_reading(disk_key: i32, note: ReadingNote) -> api::DiskReading {
    let ReadingNote {
        how,
        why,
        remarks,
        base,
        changed_bytes,
        compared_bytes,
        lie_bytes,
        checked_at,
        increments,
        lies,
        last_lie_at,
        file: _,
    } = note;
    api::DiskReading {
        disk_key,
        how: how.to_string(),
        reason: why.map(|why| why.to_string()).unwrap_or_default(),
        remarks,
        base_point_id: base,
        changed_bytes,
        compared_bytes,
        lie_bytes,
        checked_at,
        points_since: increments,
        lie_count: lies,
        last_lie_at,
    }
}

fn parse_token(token: &str) -> Result<Vec<u8>, Fault> {
    let key = URL_SAFE_NO_PAD.decode(token);
    key.map_err(|_| page::unknown_token())
}
