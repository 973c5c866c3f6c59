//! Planning and reserving: nothing is frozen before the storage is ready.

use std::collections::BTreeSet;

use stillwater_format::manifest;
use stillwater_policy::Way;
use stillwater_repository_api::OpenSessionRequest;
use stillwater_scheduler::Transport;
use stillwater_types::{Fault, NodeId, Reason, Role, RunId, VmId};
use stillwater_vsphere::{Told, Vm};

use super::{Act, Came, missing};
use crate::node::NodeInfo;
use crate::point::OpenedPoint;
use crate::preflight::{self, Facts, Ruling};
use crate::restore;
use crate::run::cause::Cause;
use crate::run::event::{BackupWork, PlannedDisk, RestoreWork, RunEvent, Target, Work};
use crate::run::guard::foreign_snapshots;
use crate::run::lease::Lease;
use crate::run::outside::Circumstances;
use crate::run::transport::may_go;
use crate::schedule::{Ways, datastore_of};

/// A run is asked to find room for this part of the data that is known of its disks, or of their whole length
/// before a first point, within the two bounds below. More than is sure to be needed would refuse thin
/// and empty disks; none would freeze a VM for a full repository.
const EXPECTED_PART: u64 = 16;
/// Its own records and trees take some, even of an empty disk.
const EXPECTED_LEAST: u64 = 1 << 20;
/// A repository that has this much runs full cleanly: it checks its room with every 8 MiB.
const EXPECTED_MOST: u64 = 4 << 30;

impl Act {
    pub(super) async fn plan(&self) -> Came {
        self.take_turn().await?;
        let planned = match &self.run.work {
            Work::Backup(work) => self.plan_backup(work).await,
            Work::RestoreVm(work) => self.plan_restore(work).await,
            Work::RestoreInPlace(work) => self.plan_in_place(work).await,
            Work::ExportDisk(work) => {
                self.plan_from_point(work.point, work.repository, Some(work.disk))
                    .await
            }
            Work::VerifyPoint(work) => {
                self.plan_from_point(work.point, work.repository, None)
                    .await
            }
        }?;
        Ok(vec![planned])
    }

    /// Waits until few enough runs are at work.
    async fn take_turn(&self) -> Result<(), Fault> {
        let turns = std::sync::Arc::clone(&self.world.turns);
        let turn = self.halt.run_until_cancelled(turns.acquire_owned()).await;
        match turn {
            Some(Ok(turn)) => self.scratch.notes().turn = Some(turn),
            Some(Err(_)) => return Err(Fault::new(Reason::Draining, "the controller is stopping")),
            None => return Err(Fault::new(Reason::RunCancelled, "the run was told to stop")),
        }
        Ok(())
    }

    async fn plan_backup(&self, work: &BackupWork) -> Result<RunEvent, Fault> {
        let call = &self.world.timing.call;
        let vm = self
            .repeat(call, || async { self.world.vsphere.vm(&work.vm).await })
            .await?;
        let Ruling {
            missing,
            mut warnings,
        } = self.preflight(&vm, work).await?;
        warnings.extend(self.half_restored(&work.vm));
        let disks = choose_disks(&vm, work, &missing)?;
        let target = self.choose_repository(work).await?;
        let surroundings = self.gather_surroundings(&vm).await;
        let base = self.find_base(&work.vm, target.repository).await;
        let mut notes = self.scratch.notes();
        notes.base = base;
        let foreign = foreign_snapshots(&vm, self.world.cluster);
        notes.foreign_snapshots = foreign
            .into_iter()
            .map(|snapshot| snapshot.snapshot.to_string())
            .collect();
        notes.note("vm path", &vm.path);
        notes.note("vmware tools", format!("{:?}", vm.tools));
        notes.note("power", format!("{:?}", vm.power));
        notes.vm = Some(vm);
        notes.surroundings = Some(surroundings);
        Ok(RunEvent::Planned {
            target,
            disks,
            missing,
            warnings,
        })
    }

    /// What `stillwater vm preflight` would find, as a run takes it.
    async fn preflight(&self, vm: &Vm, work: &BackupWork) -> Result<Ruling, Fault> {
        let purposes = match work.hooks {
            Some(_) => preflight::BACKUP_WITH_HOOKS,
            None => preflight::BACKUP,
        };
        let around = self
            .repeat(&self.world.timing.call, || async {
                let vsphere = &self.world.vsphere;
                vsphere.circumstances(&work.vm, purposes).await
            })
            .await;
        let around = around.unwrap_or_else(|fault| {
            tracing::warn!(run.id = %self.run.id, vm.id = %work.vm, %fault, "cannot look around the vm");
            self.scratch
                .notes()
                .note("preflight", format!("not complete ({fault})"));
            Circumstances::unknown(&fault)
        });
        if let Told::Known(datastores) = &around.datastores {
            self.scratch.notes().datastores.clone_from(datastores);
        }
        let findings = preflight::examine(&Facts {
            vm,
            around: &around,
            exclude: &work.exclude,
            cluster: self.world.cluster,
            purposes,
            guards: &self.world.guards,
            reads_nfc: self.world.reads_nfc,
            now: self.world.clock.now(),
        });
        Ruling::of(&findings).map_err(|fault| fault.with("vm", &work.vm))
    }

    /// The repository that was asked for; else the one that has the VM's newest point, because the two share
    /// chunks; else the one with most room.
    async fn choose_repository(&self, work: &BackupWork) -> Result<Target, Fault> {
        let state = self.world.memory.state();
        let ready = |repository: NodeId| {
            let dataset = state
                .datasets
                .of(repository)
                .filter(|dataset| dataset.is_ready)?;
            self.world.nodes.member(repository).ok()?;
            Some(Target {
                repository,
                dataset: dataset.dataset,
            })
        };
        if let Some(asked) = work.repository {
            return ready(asked).ok_or_else(|| {
                let message = "the repository that the policy names is gone or was never called; `stillwater node list` shows it";
                Fault::new(Reason::NoRepository, message).with("repository", asked)
            });
        }
        if let Some(target) = self.newest_repository(&work.vm).await?.and_then(ready) {
            return Ok(target);
        }
        let mut online = self.world.nodes.online(Role::Repository);
        online.sort_by_key(|repository| std::cmp::Reverse(repository.load.writable_bytes));
        let joined = state
            .nodes
            .iter()
            .filter(|node| node.role == Role::Repository && node.removed_at.is_none());
        let mut candidates = online
            .iter()
            .map(|node| node.node)
            .chain(joined.map(|node| node.node));
        candidates.find_map(ready).ok_or_else(|| {
            Fault::new(
                Reason::NoRepository,
                "no repository with a dataset has joined; join one, or wait until it was called once",
            )
        })
    }

    pub(super) async fn newest_repository(&self, vm: &VmId) -> Result<Option<NodeId>, Fault> {
        let (points, vm) = (self.world.points.clone(), vm.clone());
        tokio::task::spawn_blocking(move || points.newest_repository(&vm))
            .await
            .map_err(|_| Fault::new(Reason::Bug, "looking for the newest point panicked"))
    }

    /// What is refused is refused before anything is made, and what is made is what was planned.
    async fn plan_restore(&self, work: &RestoreWork) -> Result<RunEvent, Fault> {
        let planned = self
            .plan_from_point(work.point, work.repository, None)
            .await?;
        let opened = self.scratch.notes().point.clone();
        let opened = opened.ok_or_else(|| missing("point"))?;
        let outline = self
            .repeat(&self.world.timing.call, || async {
                restore::outline(&self.world, work, &opened).await
            })
            .await?;
        let plan = outline.accepted()?;
        let told = plan.warnings();
        self.scratch.notes().plan = Some(plan);
        Ok(match planned {
            RunEvent::Planned {
                target,
                disks,
                missing,
                mut warnings,
            } => {
                warnings.extend(told);
                RunEvent::Planned {
                    target,
                    disks,
                    missing,
                    warnings,
                }
            }
            other => other,
        })
    }

    pub(super) async fn plan_from_point(
        &self,
        point: stillwater_types::PointId,
        repository: NodeId,
        only: Option<i32>,
    ) -> Result<RunEvent, Fault> {
        let call = &self.world.timing.call;
        let stored = self
            .repeat(call, || async {
                self.world.repositories.get_point(repository, point).await
            })
            .await?;
        let state = self.world.memory.state();
        let key = state
            .datasets
            .find(stored.point.dataset_id)?
            .open_key(&self.world.secrets)?;
        let opened = OpenedPoint::open(&stored, &key)?;
        let disks = opened.manifest.disks.iter();
        let disks: Vec<PlannedDisk> = disks
            .filter(|disk| only.is_none_or(|key| disk.key == key))
            .map(|disk| PlannedDisk {
                key: disk.key,
                label: disk.label.clone(),
                length_bytes: disk.root.length,
            })
            .collect();
        if let (Some(key), true) = (only, disks.is_empty()) {
            return Err(Fault::new(
                Reason::DiskNotFound,
                "the point has no such disk; `stillwater point show` names its disks",
            )
            .with("point", point)
            .with("disk", key));
        }
        let dataset = stored.point.dataset_id;
        self.scratch.notes().point = Some(opened);
        let target = Target {
            repository,
            dataset,
        };
        Ok(RunEvent::Planned {
            target,
            disks,
            missing: Vec::new(),
            warnings: Vec::new(),
        })
    }

    pub(super) async fn reserve(&self) -> Came {
        let target = self.target()?;
        let request = OpenSessionRequest {
            run_id: self.run.id,
            dataset_id: target.dataset,
            expected_bytes: match self.run.work {
                Work::Backup(_) => self.expected_bytes(),
                Work::RestoreVm(_)
                | Work::RestoreInPlace(_)
                | Work::ExportDisk(_)
                | Work::VerifyPoint(_) => 0,
            },
        };
        // Waiting for a slot may take longer than a session lasts, and only what has a fence is renewed.
        self.reserve_slots().await?;
        let session = self
            .repeat(&self.world.timing.call, || async {
                self.world
                    .repositories
                    .open_session(target.repository, request)
                    .await
            })
            .await?;
        Ok(vec![RunEvent::Reserved {
            fence: session.fence,
        }])
    }

    /// How much room a backup asks for before it freezes anything.
    fn expected_bytes(&self) -> u64 {
        let notes = self.scratch.notes();
        let base = notes
            .base
            .as_ref()
            .map(|base| base.manifest.disks.as_slice());
        let known = |planned: &PlannedDisk| {
            let of_base = base.unwrap_or_default().iter();
            let mut of_base = of_base.filter(|disk| disk.key == planned.key);
            let data = |disk: &manifest::Disk| {
                let grown = planned.length_bytes.saturating_sub(disk.root.length);
                let zeros = disk.effort.zero_bytes.min(disk.root.length);
                disk.root.length - zeros + grown
            };
            of_base.next().map_or(planned.length_bytes, data)
        };
        let data: u64 = self
            .run
            .disks
            .values()
            .map(|disk| known(&disk.planned))
            .sum();
        (data / EXPECTED_PART).clamp(EXPECTED_LEAST, EXPECTED_MOST)
    }

    /// Takes one slot, waiting for it, and as many more as are free and of use.
    async fn reserve_slots(&self) -> Result<(), Fault> {
        let (avoid, way) = (BTreeSet::new(), self.way(None));
        let limit = self.world.timing.slot_wait;
        let first = self.world.slots.wait(&avoid, &way, limit);
        let first = self.halt.run_until_cancelled(first).await;
        let mut permits = vec![
            first.ok_or_else(|| Fault::new(Reason::RunCancelled, "the run was told to stop"))??,
        ];
        while permits.len() < self.disks_at_once() {
            match self.world.slots.take(&avoid, &way) {
                Some(permit) => permits.push(permit),
                None => break,
            }
        }
        self.scratch.notes().free_permits = permits;
        Ok(())
    }

    /// How many disks of the run may move at once.
    pub(super) fn disks_at_once(&self) -> usize {
        let asked = match &self.run.work {
            Work::Backup(work) => work.disks_at_once,
            Work::RestoreVm(_)
            | Work::RestoreInPlace(_)
            | Work::ExportDisk(_)
            | Work::VerifyPoint(_) => None,
        };
        let most = asked.and_then(|most| usize::try_from(most).ok());
        self.run.disks.len().min(most.unwrap_or(usize::MAX).max(1))
    }

    /// How a proxy reads a disk of the VM at best, or the one of its disks that it reads best. Whoever writes,
    /// or reads what is stored, finds all proxies alike.
    pub(super) fn way(&self, disk: Option<i32>) -> impl Fn(&NodeInfo) -> Transport + Sync + use<> {
        let may = |way| may_go(way, self.ways_allowed());
        let ways = Ways {
            hot_adds: self.world.hot_adds && may(Way::HotAdd),
            reads_nfc: self.world.reads_nfc && may(Way::Nfc),
            reads_files: may(Way::File),
            reads_nbd: may(Way::Nbd),
        };
        let notes = self.scratch.notes();
        let vm = notes.vm.as_ref();
        let vm = vm.filter(|_| matches!(self.run.work, Work::Backup(_)));
        let disks = vm.into_iter().flat_map(|vm| &vm.disks);
        let asked = disks.filter(|its| disk.is_none_or(|key| its.key == key));
        let datastores: BTreeSet<String> = asked
            .filter_map(|disk| datastore_of(&disk.file_name))
            .map(str::to_owned)
            .collect();
        move |proxy| {
            let best = datastores.iter().map(|name| ways.best(&proxy.reach, name));
            best.min().unwrap_or(Transport::Folder)
        }
    }

    pub(super) fn lease(&self, expires_at: jiff::Timestamp) -> Lease {
        let run: RunId = self.run.id;
        Lease {
            cluster: self.world.cluster,
            run,
            expires_at,
        }
    }
}

/// Which disks to move; those that are `missing` cannot be.
fn choose_disks(vm: &Vm, work: &BackupWork, missing: &[Cause]) -> Result<Vec<PlannedDisk>, Fault> {
    let refuse = |reason, message: &str| Err(Fault::new(reason, message).with("vm", &work.vm));
    if let Some(unknown) = work
        .exclude
        .iter()
        .find(|key| !vm.disks.iter().any(|d| d.key == **key))
    {
        return Err(Fault::new(
            Reason::DiskNotFound,
            "a disk to exclude is not there; `stillwater vm show` names the disks",
        )
        .with("vm", &work.vm)
        .with("disk", unknown));
    }
    let wanted = vm.disks.iter().filter(|d| !work.exclude.contains(&d.key));
    let disks: Vec<PlannedDisk> = wanted
        .filter(|disk| disk.protectability.is_protectable())
        .map(|disk| PlannedDisk {
            key: disk.key,
            label: disk.label.clone(),
            length_bytes: disk.capacity_bytes,
        })
        .collect();
    match (disks.is_empty(), missing.is_empty()) {
        (false, _) => Ok(disks),
        (true, true) => refuse(Reason::VmWithoutDisks, "every disk of the vm is excluded"),
        (true, false) => {
            let names: Vec<&str> = missing
                .iter()
                .map(|cause| cause.0.message.as_str())
                .collect();
            refuse(
                Reason::DiskUnprotectable,
                &format!("no disk can be protected: {}", names.join("; ")),
            )
        }
    }
}
