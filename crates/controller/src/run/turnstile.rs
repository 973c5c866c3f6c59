//! How many snapshots are made and removed at once.
//!
//! Making one stuns a VM, and merging one reads and writes its datastore as fast as it can: a host or a
//! datastore that does many at once lets its VMs stand still for long. A turn is held for the call to
//! vSphere alone, in memory: a restart forgets who had one, and the tasks that went on meanwhile are
//! waited for by whoever cleans up.
//!
//! Turns are taken in one order, so that nobody waits for somebody who waits for it, and in the order in
//! which they were asked for, so that nobody waits for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use stillwater_types::VcenterId;
use stillwater_vsphere::Vm;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::guard::Guards;

/// Where snapshots are made and removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A host, by its name in its vCenter.
    Host(VcenterId, String),
    /// A datastore, by its name in its vCenter.
    Datastore(VcenterId, String),
}

/// A turn at every place of a VM; over when dropped.
#[derive(Debug)]
pub struct Turn {
    _permits: Vec<OwnedSemaphorePermit>,
}

/// Gives turns; clones share them.
#[derive(Clone)]
pub struct Turnstile {
    host_tasks: u32,
    datastore_tasks: u32,
    places: Arc<Mutex<BTreeMap<Place, Arc<Semaphore>>>>,
}

impl Turnstile {
    /// Nobody has a turn.
    pub fn new(guards: &Guards) -> Self {
        Self {
            host_tasks: guards.host_tasks,
            datastore_tasks: guards.datastore_tasks,
            places: Arc::default(),
        }
    }

    /// Waits for a turn at all `places`.
    pub async fn wait(&self, places: BTreeSet<Place>) -> Turn {
        let mut permits = Vec::with_capacity(places.len());
        for place in places {
            // Nobody closes these semaphores.
            if let Ok(permit) = self.semaphore(place).acquire_owned().await {
                permits.push(permit);
            }
        }
        Turn { _permits: permits }
    }

    fn semaphore(&self, place: Place) -> Arc<Semaphore> {
        let tasks = match place {
            Place::Host(..) => self.host_tasks,
            Place::Datastore(..) => self.datastore_tasks,
        };
        // Every change is one insert, so a panic elsewhere leaves nothing half done.
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let semaphore = places
            .entry(place)
            .or_insert_with(|| Arc::new(Semaphore::new(tasks.max(1) as usize)));
        Arc::clone(semaphore)
    }
}

impl Default for Turnstile {
    fn default() -> Self {
        Self::new(&Guards::default())
    }
}

/// Where a VM's snapshots are made and removed.
pub fn places(vcenter: VcenterId, vm: &Vm) -> BTreeSet<Place> {
    let host = vm
        .host
        .iter()
        .map(|host| Place::Host(vcenter, host.clone()));
    let datastores = vm.datastores.iter();
    host.chain(datastores.map(|name| Place::Datastore(vcenter, name.clone())))
        .collect()
}

#[cfg(test)]
mod tests;
