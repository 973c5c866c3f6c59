//! The reaper: removes snapshots that a run of ours left behind, and no other.
//!
//! A snapshot is ours when its description holds a whole lease of this cluster, and it is left
//! behind when the lease's run is not active. The search goes by inventory, so that even a
//! controller that lost its journal finds what it made. A run is journalled before its snapshot is
//! asked for; a lease that was found before its run was looked up therefore has no active run that
//! could still want it.

use std::collections::BTreeMap;
use std::sync::Arc;

use stillwater_types::{ClusterId, Fault, VmId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::act::World;
use super::lease::Lease;
use super::outside::LeasedSnapshot;
use crate::memory::State;

/// How long a leftover may resist before each further failure is an alarm.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// Searches at the start and now and then, and keeps at what it found.
pub struct Reaper {
    world: Arc<World>,
    /// What could not be removed yet, and since when.
    left: BTreeMap<(VmId, String), (Lease, Instant)>,
    searched_at: Option<Instant>,
}

/// Whether a snapshot may be removed.
pub fn is_leftover(lease: &Lease, cluster: ClusterId, state: &State) -> bool {
    lease.cluster == cluster && state.runs.find(lease.run).is_none()
}

impl Reaper {
    /// A reaper that has found nothing yet.
    pub fn new(world: Arc<World>) -> Self {
        Self {
            world,
            left: BTreeMap::new(),
            searched_at: None,
        }
    }

    /// Works until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            self.round().await;
            let pause = tokio::time::sleep(self.world.timing.reap_every);
            if cancel.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// Searches when it is time, then removes what was found. A vCenter that could not be searched
    /// is searched again in the next round.
    pub(super) async fn round(&mut self) {
        let every = self.world.timing.search_every;
        if self
            .searched_at
            .is_none_or(|searched_at| searched_at.elapsed() >= every)
        {
            let whole = self.search().await;
            self.searched_at = whole.then(Instant::now);
        }
        self.note_stuck();
        for ((vm, _), (lease, since)) in self.left.clone() {
            self.reap(&vm, &lease, since).await;
        }
    }

    async fn search(&mut self) -> bool {
        let state = self.world.memory.state();
        let mut whole = true;
        for vcenter in state.vcenters.iter() {
            match self.world.vsphere.leased_snapshots(vcenter.vcenter).await {
                Ok(found) => self.note(found),
                Err(fault) => {
                    whole = false;
                    tracing::warn!(vcenter.name = %vcenter.name, %fault, "cannot search for leftover snapshots");
                }
            }
        }
        whole
    }

    fn note(&mut self, found: Vec<LeasedSnapshot>) {
        let state = self.world.memory.state();
        let leftovers = found
            .into_iter()
            .filter(|found| is_leftover(&found.lease, self.world.cluster, &state));
        for LeasedSnapshot { vm, lease } in leftovers {
            tracing::warn!(vm.id = %vm, run.id = %lease.run, "found a leftover snapshot");
            self.left
                .entry((vm, lease.to_string()))
                .or_insert((lease, Instant::now()));
        }
    }

    /// Takes over what runs could not remove themselves, without another search.
    fn note_stuck(&mut self) {
        let stuck = std::mem::take(&mut *self.world.stuck());
        self.note(stuck);
    }

    async fn reap(&mut self, vm: &VmId, lease: &Lease, since: Instant) {
        match self.remove(vm, lease).await {
            Ok(()) => {
                self.left.remove(&(vm.clone(), lease.to_string()));
            }
            Err(fault) if since.elapsed() > PATIENCE => {
                tracing::error!(vm.id = %vm, run.id = %lease.run, %fault, "a leftover snapshot cannot be removed; remove it in vsphere");
            }
            Err(fault) => {
                tracing::warn!(vm.id = %vm, run.id = %lease.run, %fault, "cannot remove a leftover snapshot yet");
            }
        }
    }

    async fn remove(&self, vm: &VmId, lease: &Lease) -> Result<(), Fault> {
        let removal = match self.world.vsphere.remove_snapshot(vm, lease).await {
            Err(fault) if fault.kind() == stillwater_types::Kind::NotFound => return Ok(()),
            removal => removal?,
        };
        tracing::info!(vm.id = %vm, run.id = %lease.run, count = removal.removed_count, "removed a leftover snapshot");
        if removal.consolidation_needed {
            tracing::warn!(vm.id = %vm, "the vm needs consolidation; consolidate its disks in vsphere");
        }
        Ok(())
    }
}
