//! Runs as the controller's protocol tells them: convert, call, convert.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use stillwater_controller_api as api;
use stillwater_policy::{NoWay, Way};
use stillwater_rpc::Peer;
use stillwater_types::{Fault, NodeId, Reason, Role, RunId, VcenterId, VmId};
use tokio::time::Instant;

use super::engine::Runs;
use super::event::{
    BackupWork, ExportWork, Identity, InPlaceWork, Placement, Provisioning, RestoreOptions,
    RestoreWork, VerifyWork, Work,
};
use super::ladder::{Level, Rung};
use crate::guest::{Hook, Hooks, OnFailure, Phase};
use crate::inventory::Inventory;
use crate::node::actor;
use crate::page;
use crate::point::{self, OpenedPoint};
use crate::restore::{self, Restorers};

/// Tries of one rung at most: each is a stun of the VM.
const TRIES_MAX: u32 = 10;
/// How often a watched run is told although nothing was journalled.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Answers for runs.
pub struct Service {
    runs: Runs,
    points: point::Service,
    inventory: Inventory,
    restorers: Restorers,
}

impl Service {
    /// Answers for `runs`; names are looked up in `points` and `inventory`, and only `restorers` may restore.
    pub fn new(
        runs: Runs,
        points: point::Service,
        inventory: Inventory,
        restorers: Restorers,
    ) -> Self {
        Self {
            runs,
            points,
            inventory,
            restorers,
        }
    }

    async fn work(&self, kind: api::StartKind) -> Result<Work, Fault> {
        self.ensure_roles()?;
        match kind {
            api::StartKind::Backup(start) => self.backup(start).await,
            api::StartKind::RestoreVm(start) => {
                let work = self.restore(start).await?;
                Ok(Work::RestoreVm(Box::new(work)))
            }
            api::StartKind::RestoreInPlace(start) => {
                let work = self.in_place(start).await?;
                Ok(Work::RestoreInPlace(work))
            }
            api::StartKind::ExportDisk(start) => self.export(start).await,
            api::StartKind::VerifyPoint(start) => {
                let point = self.points.find(start.point_id).await?;
                Ok(Work::VerifyPoint(VerifyWork {
                    point: start.point_id,
                    repository: point.repository,
                    vm_name: point.vm_name,
                }))
            }
        }
    }

    /// A run without a repository or a proxy would only wait to fail.
    fn ensure_roles(&self) -> Result<(), Fault> {
        let state = self.runs.memory().state();
        let has = |role| {
            state
                .nodes
                .iter()
                .any(|n| n.role == role && n.removed_at.is_none())
        };
        for (role, reason) in [
            (Role::Repository, Reason::NoRepository),
            (Role::Proxy, Reason::NoProxy),
        ] {
            if !has(role) {
                let message = format!(
                    "no {role} has joined; make a token with `stillwater token create --role {role}`"
                );
                return Err(Fault::new(reason, message));
            }
        }
        Ok(())
    }

    async fn backup(&self, start: api::StartBackup) -> Result<Work, Fault> {
        let located = self.inventory.resolve(&start.vm).await?;
        Ok(Work::Backup(BackupWork {
            vm: located.vm,
            vm_name: located.name,
            exclude: start.exclude_disk_keys,
            full: start.full_read,
            quiesce: start.quiesce.into_iter().map(rung).collect(),
            hooks: hooks(start.hooks, start.hook_budget_seconds)?,
            repository: None,
            policy: None,
            disks_at_once: None,
            ways: ways(&start.ways)?,
        }))
    }

    async fn restore(&self, start: api::StartRestoreVm) -> Result<RestoreWork, Fault> {
        let point = self.points.find(start.point_id).await?;
        let vcenter = self.vcenter(start.vcenter.as_deref(), point.vm.vcenter)?;
        Ok(RestoreWork {
            point: start.point_id,
            repository: point.repository,
            name: start.name,
            placement: Placement {
                vcenter,
                datastore: start.datastore,
                folder: start.folder,
                resource_pool: start.resource_pool,
                host: start.host,
                datacenter: start.datacenter,
                cluster: start.cluster,
            },
            power_on: start.power_on,
            options: RestoreOptions {
                disk_datastores: start
                    .disk_datastores
                    .into_iter()
                    .map(|one| (one.disk, one.datastore))
                    .collect(),
                networks: start
                    .networks
                    .into_iter()
                    .map(|change| (change.from, change.to))
                    .collect(),
                identity: match start.identity {
                    Some(api::RestoreIdentity::Original) => Identity::Original,
                    Some(api::RestoreIdentity::New) | None => Identity::New,
                },
                provisioning: start.provisioning.map(provisioning),
                template: start.template,
            },
        })
    }

    async fn in_place(&self, start: api::StartRestoreInPlace) -> Result<InPlaceWork, Fault> {
        let point = self.points.find(start.point_id).await?;
        self.vcenter(None, point.vm.vcenter)?;
        Ok(InPlaceWork {
            point: start.point_id,
            repository: point.repository,
            vm: point.vm,
            vm_name: point.vm_name,
            discard_changes: start.discard_changes,
        })
    }

    /// The VM's newest point on a repository, if it can be read; a plan does without.
    async fn newest(&self, vm: &VmId, repository: NodeId) -> Option<OpenedPoint> {
        let (points, of) = (self.runs.world().points.clone(), vm.clone());
        let known = tokio::task::spawn_blocking(move || points.newest(&of, repository)).await;
        let known = known.ok().flatten();
        let newest = known.max(self.runs.world().bases.newest(vm, repository))?;
        self.points.opened(newest).await.ok()
    }

    fn vcenter(&self, named: Option<&str>, own: VcenterId) -> Result<VcenterId, Fault> {
        let state = self.runs.memory().state();
        match named {
            Some(text) => state.vcenters.resolve(text).map(|vcenter| vcenter.vcenter),
            None => state.vcenters.find(own).map(|vcenter| vcenter.vcenter),
        }
    }

    async fn export(&self, start: api::StartExportDisk) -> Result<Work, Fault> {
        let point = self.points.find(start.point_id).await?;
        if !point.has_disk(start.disk_key) {
            return Err(Fault::new(
                Reason::DiskNotFound,
                "the point has no such disk; `stillwater point show` names its disks",
            )
            .with("point", start.point_id)
            .with("disk", start.disk_key));
        }
        Ok(Work::ExportDisk(ExportWork {
            point: start.point_id,
            repository: point.repository,
            disk: start.disk_key,
        }))
    }
}

#[async_trait]
impl api::RunService for Service {
    async fn start_run(
        &self,
        peer: &Peer,
        request: api::StartRunRequest,
    ) -> Result<api::Run, Fault> {
        // Before names are looked up: a repeated request is answered even if its VM is gone now.
        if let Some(run) = self.runs.of_request(request.request_id) {
            return self.runs.tell(run).await;
        }
        self.restorers.check(peer.node, &request.kind)?;
        let work = self.work(request.kind).await?;
        self.runs.start(actor(peer), request.request_id, work).await
    }

    async fn plan_restore_vm(
        &self,
        _peer: &Peer,
        request: api::PlanRestoreVmRequest,
    ) -> Result<api::PlanRestoreVmResponse, Fault> {
        let work = self.restore(request.restore).await?;
        let opened = self.points.opened(work.point).await?;
        let outline = restore::outline(self.runs.world(), &work, &opened).await?;
        let state = self.runs.memory().state();
        let vcenter = state.vcenters.find(work.placement.vcenter)?;
        Ok(outline.told(&vcenter.name))
    }

    async fn plan_restore_in_place(
        &self,
        _peer: &Peer,
        request: api::PlanRestoreInPlaceRequest,
    ) -> Result<api::PlanRestoreInPlaceResponse, Fault> {
        let work = self.in_place(request.restore).await?;
        let opened = self.points.opened(work.point).await?;
        let vm = self.runs.world().vsphere.vm(&work.vm).await?;
        let newest = self.newest(&work.vm, work.repository).await;
        let plan = restore::in_place(&vm, &opened.manifest.disks);
        Ok(plan.told(&work.vm, &vm.name, newest.as_ref(), vm.cbt_enabled))
    }

    async fn get_run(&self, _peer: &Peer, run_id: RunId) -> Result<api::Run, Fault> {
        self.runs.tell(run_id).await
    }

    async fn list_runs(
        &self,
        _peer: &Peer,
        request: api::ListRunsRequest,
    ) -> Result<api::ListRunsResponse, Fault> {
        let before = page::place(request.page_token.as_deref())?;
        let limit = page::limit(request.page_size);
        // One more than asked, to know whether there is another page.
        let mut runs = self.runs.list(before, limit.saturating_add(1)).await?;
        let has_more = runs.len() > limit;
        runs.truncate(limit);
        let last = runs.last().map(|run| run.run_id.to_string());
        Ok(api::ListRunsResponse {
            runs,
            next_page_token: last.filter(|_| has_more),
        })
    }

    async fn watch_run(
        &self,
        _peer: &Peer,
        run_id: RunId,
    ) -> Result<BoxStream<'static, Result<api::Run, Fault>>, Fault> {
        let first = self.runs.tell(run_id).await?;
        let watch = Watch {
            runs: self.runs.clone(),
            last: None,
            next: Some(first),
        };
        Ok(stream::unfold(watch, Watch::tell).boxed())
    }

    async fn cancel_run(&self, peer: &Peer, run_id: RunId) -> Result<api::Run, Fault> {
        self.runs.cancel(actor(peer), run_id).await
    }
}

/// A stream of one run's states.
struct Watch {
    runs: Runs,
    last: Option<api::Run>,
    next: Option<api::Run>,
}

impl Watch {
    async fn tell(mut self) -> Option<(Result<api::Run, Fault>, Self)> {
        let run = match self.next.take() {
            Some(run) => run,
            None => {
                let last = self.last.take().filter(|last| !last.state.is_final())?;
                match self.changed(&last).await {
                    Ok(run) => run,
                    Err(fault) => return Some((Err(fault), self)),
                }
            }
        };
        self.last = Some(run.clone());
        Some((Ok(run), self))
    }

    /// Waits until the run is another than `last`, or it is time to tell it again.
    async fn changed(&self, last: &api::Run) -> Result<api::Run, Fault> {
        let mut changes = self.runs.memory().watch();
        changes.mark_changed();
        let until = Instant::now() + TELL_EVERY;
        loop {
            let has_changed = tokio::select! {
                changed = changes.changed() => changed.is_ok(),
                () = tokio::time::sleep_until(until) => false,
            };
            let run = self.runs.tell(last.run_id).await?;
            if run != *last || !has_changed {
                return Ok(run);
            }
        }
    }
}

/// The hooks of a run; none when there are none.
fn hooks(asked: Vec<api::Hook>, budget_seconds: u32) -> Result<Option<Hooks>, Fault> {
    if asked.is_empty() {
        return Ok(None);
    }
    let hooks = asked.into_iter().map(hook).collect();
    let hooks = Hooks {
        hooks,
        budget_seconds,
    };
    hooks.checked().map(Some)
}

fn hook(asked: api::Hook) -> Hook {
    let api::Hook {
        name,
        phase,
        program,
        arguments,
        timeout_seconds,
        on_failure,
    } = asked;
    Hook {
        name,
        phase: match phase {
            api::HookPhase::Before => Phase::Before,
            api::HookPhase::During => Phase::During,
            api::HookPhase::After => Phase::After,
        },
        program,
        arguments,
        timeout_seconds,
        on_failure: match on_failure {
            api::HookFailure::Fail => OnFailure::Fail,
            api::HookFailure::Warn => OnFailure::Warn,
            api::HookFailure::Ignore => OnFailure::Ignore,
        },
    }
}

const fn provisioning(asked: api::DiskProvisioning) -> Provisioning {
    match asked {
        api::DiskProvisioning::Thin => Provisioning::Thin,
        api::DiskProvisioning::Thick => Provisioning::Thick,
        api::DiskProvisioning::Eager => Provisioning::Eager,
    }
}

/// The ways of a request.
fn ways(words: &[String]) -> Result<Vec<Way>, Fault> {
    let ways = words.iter().map(|word| word.parse());
    let ways: Result<Vec<Way>, _> = ways.collect();
    ways.map_err(|no_way: NoWay| {
        Fault::new(Reason::BadField, no_way.to_string()).with("field", "ways")
    })
}

fn rung(asked: api::QuiesceRung) -> Rung {
    let level = match asked.level {
        api::Consistency::Application => Level::Application,
        api::Consistency::FileSystem => Level::FileSystem,
        api::Consistency::Crash | api::Consistency::Offline => Level::Crash,
    };
    let usual = Rung::new(level);
    Rung {
        level,
        tries: if asked.tries == 0 {
            usual.tries
        } else {
            asked.tries.min(TRIES_MAX)
        },
        budget_minutes: match u8::try_from(asked.budget_minutes) {
            Ok(0) => usual.budget_minutes,
            Ok(minutes) => minutes,
            Err(_) => u8::MAX,
        },
    }
}
