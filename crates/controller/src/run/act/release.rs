//! Giving back what a run holds in the world.
//!
//! These acts are not stopped by a cancellation: they are what a cancellation asks for. Each is
//! safe to repeat and succeeds when there is nothing left to give back.

use stillwater_repository_api::{CloseSessionRequest, OpenSessionRequest};
use stillwater_rpc::retry::Backoff;
use stillwater_types::{Fault, Kind, Reason, VmId};
use stillwater_vsphere::DataAccess;

use super::Act;
use super::hotadd::detach;
use crate::run::cause::Cause;
use crate::run::event::{Hold, RunEvent};
use crate::run::reaper::Leftover;

impl Act {
    /// Gives one thing back; what a person should know goes to `events`.
    pub(super) async fn release(
        &self,
        hold: Hold,
        events: &mut Vec<RunEvent>,
    ) -> Result<(), Fault> {
        match hold {
            Hold::Guest => self.release_guest(events).await,
            Hold::Transfers => self.release_transfers().await,
            Hold::Export => self.release_export(events).await,
            Hold::Access => self.release_access().await,
            Hold::Snapshot => self.release_snapshot(events).await,
            Hold::Vm => self.release_vm().await,
            Hold::Session => self.release_session().await,
        }
    }

    /// Repeats whatever the fault: giving up leaves something behind, so only the count bounds it.
    pub(super) async fn insist<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        backoff: &Backoff,
        mut call: impl FnMut() -> F,
    ) -> Result<T, Fault> {
        let mut failures = 0;
        loop {
            let fault = match call().await {
                Err(fault) if !is_gone(&fault) => fault,
                done => return done,
            };
            failures += 1;
            if failures >= backoff.attempts {
                return Err(fault);
            }
            tracing::debug!(run.id = %self.run.id, %fault, failures, "giving back failed, will repeat");
            tokio::time::sleep(backoff.delay(failures, getrandom::u32().unwrap_or(u32::MAX))).await;
        }
    }

    async fn release_transfers(&self) -> Result<(), Fault> {
        let under_way = self.run.disks.values().filter_map(|disk| disk.transfer);
        let stops = under_way.map(|assignment| async move {
            let stopped = self
                .insist(&self.world.timing.follow, || async {
                    self.world
                        .proxies
                        .cancel_transfer(assignment.proxy, assignment.transfer)
                        .await
                })
                .await;
            unless_gone(stopped)
        });
        futures::future::join_all(stops).await.into_iter().collect()
    }

    async fn release_export(&self, events: &mut Vec<RunEvent>) -> Result<(), Fault> {
        let Some(held) = self.run.export else {
            return Ok(());
        };
        let closed = self
            .insist(&self.world.timing.follow, || async {
                self.world
                    .proxies
                    .close_export(held.proxy, held.export)
                    .await
            })
            .await;
        if matches!(closed, Ok(true)) && !self.run.export_read {
            events.push(RunEvent::ExportRead);
        }
        unless_gone(closed.map(|_| ()))
    }

    /// A disk that stays attached keeps its VM from being started and removed; data sessions do no harm.
    async fn release_access(&self) -> Result<(), Fault> {
        let detached = self.detach(&self.run.attachments).await;
        self.release_sessions().await?;
        detached
    }

    /// A session that cannot be ended ends by itself half an hour later and holds nothing; it is
    /// logged and no reason to warn.
    async fn release_sessions(&self) -> Result<(), Fault> {
        let accesses: Vec<DataAccess> = std::mem::take(&mut self.scratch.notes().accesses);
        let vm = self.vm()?;
        for access in &accesses {
            let ended = self
                .insist(&self.world.timing.follow, || async {
                    self.world.vsphere.close_access(vm.vcenter, access).await
                })
                .await;
            if let Err(fault) = ended {
                tracing::info!(run.id = %self.run.id, %fault, "data session could not be ended");
            }
        }
        Ok(())
    }

    async fn release_snapshot(&self, events: &mut Vec<RunEvent>) -> Result<(), Fault> {
        let Some(held) = &self.run.snapshot else {
            return Ok(());
        };
        let vm = self.vm()?;
        // A file that is attached keeps vsphere from merging it.
        detach(&self.world, &self.run.left_attached).await?;
        events.extend(self.reset_tracking(vm).await);
        let removal = self
            .insist(&self.world.timing.release, || async {
                let _turn = self.world.snapshot_turn(vm).await;
                self.world.vsphere.remove_snapshot(vm, &held.lease).await
            })
            .await;
        match removal {
            Ok(removal) if removal.consolidation_needed => {
                self.world.stuck().push(Leftover::Deltas(vm.clone()));
                events.push(RunEvent::Warned(Cause(
                    Fault::new(
                        Reason::VcenterTaskFailed,
                        "the snapshot is gone but its deltas could not be merged; that is tried again until it succeeds",
                    )
                    .with("vm", vm),
                )));
                Ok(())
            }
            // One answer that the vm is gone may be a mistake: the reaper asks once more.
            Err(fault) if is_gone(&fault) => {
                self.leave_to_reaper(Hold::Snapshot);
                Ok(())
            }
            removal => removal.map(drop),
        }
    }

    /// Turns off the tracking that lied, which the removal of the snapshot makes take effect; the next
    /// run turns it on anew. One that cannot be turned off is not believed all the same.
    async fn reset_tracking(&self, vm: &VmId) -> Option<RunEvent> {
        let moved = self
            .run
            .disks
            .values()
            .filter_map(|disk| disk.moved.as_ref());
        if moved.map(|moved| moved.findings.lie_bytes).sum::<u64>() == 0 {
            return None;
        }
        let fault = self.world.vsphere.disable_tracking(vm).await.err()?;
        Some(RunEvent::Warned(Cause(Fault {
            message: format!(
                "change tracking lied and could not be reset, reset it in vsphere: {}",
                fault.message
            ),
            ..fault
        })))
    }

    async fn release_vm(&self) -> Result<(), Fault> {
        let work = self.restore()?;
        let marker = self.marker();
        let known = self.run.vm_at_work();
        let destroyed = self
            .insist(&self.world.timing.release, || async {
                self.world
                    .vsphere
                    .destroy_vm(work.placement.vcenter, &work.name, known, &marker)
                    .await
            })
            .await;
        unless_gone(destroyed)
    }

    /// Closes the session. When its fence was never learnt, it is opened anew first: the same run
    /// gets the same session with a higher fence. One that cannot be closed ends by itself with its
    /// lease; it is logged and no reason to warn.
    async fn release_session(&self) -> Result<(), Fault> {
        let target = self.target()?;
        let run_id = self.run.id;
        let repositories = &self.world.repositories;
        let closed = self
            .insist(&self.world.timing.follow, || async {
                let fence = match self.run.fence {
                    Some(fence) => fence,
                    None => {
                        let request = OpenSessionRequest {
                            run_id,
                            dataset_id: target.dataset,
                            expected_bytes: 0,
                        };
                        repositories
                            .open_session(target.repository, request)
                            .await?
                            .fence
                    }
                };
                repositories
                    .close_session(target.repository, CloseSessionRequest { run_id, fence })
                    .await
            })
            .await;
        if let Err(fault) = unless_gone(closed) {
            tracing::info!(run.id = %self.run.id, %fault, "repository session could not be closed");
        }
        Ok(())
    }
}

/// What is not there any more is given back, whoever did it.
pub(super) fn is_gone(fault: &Fault) -> bool {
    fault.kind() == Kind::NotFound || fault.reason == Reason::FenceStale
}

fn unless_gone(result: Result<(), Fault>) -> Result<(), Fault> {
    match result {
        Err(fault) if is_gone(&fault) => Ok(()),
        other => other,
    }
}
