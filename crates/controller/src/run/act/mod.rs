//! Performing effects: each act calls the world and says in events what came of it.
//!
//! An act decides nothing about the run. It repeats what may be repeated, within bounds, and turns
//! what it met into an event; `step` decides what that means.

mod backup;
mod bays;
mod export;
mod freeze;
mod hooks;
mod host;
mod hotadd;
mod in_place;
mod map;
mod plan;
mod release;
mod restore;
mod sources;
mod surroundings;
mod transfer;
mod verify;

pub use bays::Bays;
pub(super) use host::{Need, host_disk};
pub(super) use hotadd::{HOT_ADD, attach, detach, frozen_attachment, sweep};
pub use map::Mapped;
pub(crate) use transfer::FOLDER;
pub(super) use transfer::{NFC, folder};

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillwater_catalog::Clock;
use stillwater_proxy_api as proxy_api;
use stillwater_rpc::grant::{Claims, GrantSigner, Verbs};
use stillwater_rpc::retry::{Backoff, repeat};
use stillwater_types::{ClusterId, Fault, NodeId, Reason, RunId, VmId};
use tokio_util::sync::CancellationToken;

use super::bases::Bases;
use super::budget::Budgets;
use super::effect::Effect;
use super::event::{Hold, RunEvent, Target};
use super::guard::Guards;
use super::outside::{LeasedSnapshot, Proxies, Repositories, Vsphere};
use super::reading::Trust;
use super::reaper::Leftover;
use super::scratch::Scratch;
use super::slots::Slots;
use super::state::Run;
use super::timing::Timing;
use super::turnstile::{self, Turn, Turnstile};
use crate::alarm::Alarms;
use crate::memory::Memory;
use crate::node::Directory;
use crate::point::Points;
use crate::secret::Secrets;

/// What acts work with; shared by all runs.
pub struct World {
    /// The cluster that leases name.
    pub cluster: ClusterId,
    /// What is known.
    pub memory: Memory,
    /// Who can be called.
    pub nodes: Directory,
    /// The points of all repositories.
    pub points: Points,
    /// The vCenters.
    pub vsphere: Arc<dyn Vsphere>,
    /// The proxies.
    pub proxies: Arc<dyn Proxies>,
    /// The repositories.
    pub repositories: Arc<dyn Repositories>,
    /// Signs grants.
    pub grants: Arc<GrantSigner>,
    /// Opens dataset keys.
    pub secrets: Secrets,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Proxy slots.
    pub slots: Slots,
    /// How many runs may be at work.
    pub turns: Arc<tokio::sync::Semaphore>,
    /// What runs could not remove, for the reaper.
    pub stuck: Mutex<Vec<Leftover>>,
    /// What may be taken of each host.
    pub budgets: Budgets,
    /// One change of a proxy VM's devices at a time.
    pub bays: Bays,
    /// Whether disks may be attached to the VMs of proxies.
    pub hot_adds: bool,
    /// How long to wait and how often to try.
    pub timing: Timing,
    /// How far change maps are believed.
    pub trust: Trust,
    /// What increments are built upon.
    pub bases: Bases,
    /// What must hold before a VM is frozen.
    pub guards: Guards,
    /// How many snapshots are made and removed at once.
    pub turnstile: Turnstile,
    /// Whether disks are read through their host's NFC first.
    pub reads_nfc: bool,
}

impl World {
    /// Where alarms are raised and cleared.
    pub(super) fn alarms(&self) -> Alarms {
        Alarms::new(self.memory.clone())
    }

    /// Waits for a turn to make or remove snapshots of a VM. One that cannot be looked at waits for
    /// nobody: what must be given back does not hang on a good mood of vSphere.
    pub(super) async fn snapshot_turn(&self, vm: &VmId) -> Turn {
        let places = match self.vsphere.vm(vm).await {
            Ok(read) => turnstile::places(vm.vcenter, &read),
            Err(fault) => {
                tracing::debug!(vm.id = %vm, %fault, "cannot tell where the vm is");
                BTreeSet::new()
            }
        };
        self.turnstile.wait(places).await
    }

    /// What runs could not remove.
    pub(super) fn stuck(&self) -> MutexGuard<'_, Vec<Leftover>> {
        // Every change is one push or take, so a panic elsewhere leaves nothing half done.
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One act of one run.
#[derive(Clone)]
pub struct Act {
    /// What it works with.
    pub world: Arc<World>,
    /// The run as it was when the act was decided.
    pub run: Arc<Run>,
    /// The run's notes.
    pub scratch: Arc<Scratch>,
    /// Tells forward acts to come to an end.
    pub halt: CancellationToken,
}

/// What came of an act.
type Came = Result<Vec<RunEvent>, Fault>;

impl Act {
    /// Performs `effect`. `Record` and `Halt` are the loop's own.
    pub async fn perform(self, effect: Effect) -> Vec<RunEvent> {
        let came = match effect {
            Effect::Record(event) => Ok(vec![*event]),
            Effect::Halt => Ok(Vec::new()),
            Effect::Plan => self.plan().await,
            Effect::Reserve => self.reserve().await,
            Effect::HoldGuest => self.hold_guest().await,
            Effect::UseHeldGuest => self.use_held_guest().await,
            Effect::IntendSnapshot => self.intend_snapshot().await,
            Effect::CreateSnapshot => self.create_snapshot().await,
            Effect::Map => self.map().await,
            Effect::BeginInPlace => self.begin_in_place().await,
            Effect::CreateVm => self.create_vm().await,
            Effect::OpenAccess => self.open_access().await,
            Effect::Assign { disk } => self.assign(disk).await,
            Effect::Transfer {
                disk,
                proxy,
                transfer,
            } => self.transfer(disk, proxy, transfer).await,
            Effect::Propose => self.propose().await,
            Effect::Commit => self.commit().await,
            Effect::Dress => self.dress().await,
            Effect::PowerOn => self.power_on().await,
            Effect::IntendExport => self.intend_export().await,
            Effect::OpenExport => self.open_export().await,
            Effect::ServeExport => self.serve_export().await,
            Effect::LetGo(hold) => return self.let_go(hold).await,
        };
        came.unwrap_or_else(|fault| vec![RunEvent::Failed(fault.into())])
    }

    /// Repeats a forward call until it succeeds, its fault lasts, or the run is told to stop.
    async fn repeat<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        backoff: &Backoff,
        call: impl FnMut() -> F,
    ) -> Result<T, Fault> {
        repeat(backoff, &self.halt, call).await
    }

    /// The VM whose disks are moved.
    fn vm(&self) -> Result<&VmId, Fault> {
        self.run.vm_at_work().ok_or_else(|| missing("vm"))
    }

    fn target(&self) -> Result<Target, Fault> {
        self.run.target.ok_or_else(|| missing("repository"))
    }

    fn fence(&self) -> Result<u64, Fault> {
        self.run.fence.ok_or_else(|| missing("session"))
    }

    /// What a proxy needs to reach the repository for this run, and no more.
    fn store(&self, proxy: NodeId, verbs: impl Into<Verbs>) -> Result<proxy_api::Store, Fault> {
        let Target {
            repository,
            dataset,
        } = self.target()?;
        let state = self.world.memory.state();
        let key = state
            .datasets
            .find(dataset)?
            .open_key(&self.world.secrets)?;
        let expires_at =
            self.world.clock.now().as_second().saturating_add(
                i64::try_from(self.world.timing.grant.as_secs()).unwrap_or(i64::MAX),
            );
        let claims = Claims {
            grant: *RunId::mint().as_bytes(),
            run: self.run.id,
            dataset,
            repository,
            proxy,
            verbs: verbs.into(),
            expires_at: u64::try_from(expires_at).unwrap_or_default(),
        };
        Ok(proxy_api::Store {
            repository_node_id: repository,
            address: self.world.nodes.member(repository)?.address,
            dataset_id: dataset,
            dataset_key: proxy_api::DatasetKey::new(*key.expose()),
            grant: self.world.grants.sign(&claims).into(),
            run_id: self.run.id,
            fence: self.fence()?,
        })
    }

    async fn let_go(&self, hold: Hold) -> Vec<RunEvent> {
        let mut events = Vec::new();
        // A turn that was not used must not keep the removal from its own.
        drop(self.scratch.notes().snapshot_turn.take());
        let done = match self.release(hold, &mut events).await {
            Ok(()) => RunEvent::LetGo { hold },
            Err(fault) => {
                tracing::warn!(run.id = %self.run.id, %hold, %fault, "could not give back");
                self.leave_to_reaper(hold);
                RunEvent::Stuck {
                    hold,
                    cause: fault.with("hold", hold).into(),
                }
            }
        };
        events.push(done);
        events
    }

    fn leave_to_reaper(&self, hold: Hold) {
        if let (Hold::Snapshot, Some(held), Ok(vm)) = (hold, &self.run.snapshot, self.vm()) {
            self.world.stuck().push(Leftover::Snapshot(LeasedSnapshot {
                vm: vm.clone(),
                lease: held.lease,
            }));
        }
    }
}

/// The loop asks for an act only when the state has what it needs; else it is a bug of ours.
fn missing(what: &str) -> Fault {
    Fault::new(Reason::Bug, format!("the run has no {what} at this stage"))
}
