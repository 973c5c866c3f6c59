//! The reaper: removes snapshots that a run of ours left behind, and no other.
//!
//! A snapshot is ours when its description holds a whole lease of this cluster, and it is left
//! behind when the lease's run is not active. The search goes by inventory, so that even a
//! controller that lost its journal finds what it made. A run is journalled before its snapshot is
//! asked for; a lease that was found before its run was looked up therefore has no active run that
//! could still want it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use stillwater_types::{ClusterId, Fault, Reason, VmId};
use tokio::task::JoinSet;
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
    left: BTreeMap<Key, (Lease, Instant)>,
    /// Which of these are being removed.
    at_work: BTreeSet<Key>,
    removals: JoinSet<(Key, Result<(), Fault>)>,
    searched_at: Option<Instant>,
}

/// A leftover: its VM and its lease as it is written.
type Key = (VmId, String);

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
            at_work: BTreeSet::new(),
            removals: JoinSet::new(),
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
        self.reap_all();
    }

    async fn search(&mut self) -> bool {
        let state = self.world.memory.state();
        let mut whole = true;
        // All at once: one that does not answer must not keep the others' leftovers alive.
        let searches = state.vcenters.iter().map(|vcenter| async {
            let found = self.world.vsphere.leased_snapshots(vcenter.vcenter).await;
            (Arc::clone(vcenter), found)
        });
        for (vcenter, found) in futures::future::join_all(searches).await {
            match found {
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

    /// Takes over what runs could not remove themselves, without another search. A run that has not
    /// ended yet keeps its own for a later round.
    fn note_stuck(&mut self) {
        let state = self.world.memory.state();
        let is_active = |found: &LeasedSnapshot| state.runs.find(found.lease.run).is_some();
        let ended = {
            let mut stuck = self.world.stuck();
            let (active, ended) = std::mem::take(&mut *stuck).into_iter().partition(is_active);
            *stuck = active;
            ended
        };
        self.note(ended);
    }

    /// Begins to remove whatever is not being removed already. A removal may take hours, and so does
    /// one that waits for a vCenter that is away: neither keeps another waiting.
    fn reap_all(&mut self) {
        while let Some(ended) = self.removals.try_join_next() {
            match ended {
                Ok((key, done)) => self.reaped(key, done),
                Err(error) => tracing::error!(%error, "a removal was lost"),
            }
        }
        for (key, (lease, _)) in &self.left {
            if self.at_work.insert(key.clone()) {
                let (world, key, lease) = (Arc::clone(&self.world), key.clone(), *lease);
                self.removals.spawn(async move {
                    let removal = AssertUnwindSafe(remove(&world, &key.0, &lease)).catch_unwind();
                    let done = removal.await.unwrap_or_else(|_| {
                        Err(Fault::new(
                            Reason::Bug,
                            "removing a leftover snapshot panicked; see the log",
                        ))
                    });
                    (key, done)
                });
            }
        }
    }

    fn reaped(&mut self, key: Key, done: Result<(), Fault>) {
        self.at_work.remove(&key);
        let Some((lease, since)) = self.left.get(&key) else {
            return;
        };
        let vm = &key.0;
        match done {
            Ok(()) => {
                self.left.remove(&key);
            }
            Err(fault) if since.elapsed() > PATIENCE => {
                tracing::error!(vm.id = %vm, run.id = %lease.run, %fault, "a leftover snapshot cannot be removed; remove it in vsphere");
            }
            Err(fault) => {
                tracing::warn!(vm.id = %vm, run.id = %lease.run, %fault, "cannot remove a leftover snapshot yet");
            }
        }
    }
}

async fn remove(world: &World, vm: &VmId, lease: &Lease) -> Result<(), Fault> {
    let removal = match world.vsphere.remove_snapshot(vm, lease).await {
        Err(fault) if fault.kind() == stillwater_types::Kind::NotFound => return Ok(()),
        removal => removal?,
    };
    tracing::info!(vm.id = %vm, run.id = %lease.run, count = removal.removed_count, "removed a leftover snapshot");
    if removal.consolidation_needed {
        tracing::warn!(vm.id = %vm, "the vm needs consolidation; consolidate its disks in vsphere");
    }
    Ok(())
}
