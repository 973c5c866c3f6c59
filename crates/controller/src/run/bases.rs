//! What is known of VMs' newest points beyond the projection, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stillwater_types::{NodeId, PointId, VmId};

/// Points that increments are built upon. Worthless after a restart: what the projection knows is
/// older at worst, and a damaged base is found again.
#[derive(Debug, Default)]
pub struct Bases(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    newest: BTreeMap<VmId, (NodeId, PointId)>,
    damaged: BTreeSet<PointId>,
}

impl Bases {
    /// Notes the point that a run just made: the projection hears of it a little later.
    pub fn committed(&self, vm: &VmId, repository: NodeId, point: PointId) {
        self.known().newest.insert(vm.clone(), (repository, point));
    }

    /// The newest point that a run of this process made of the VM on that repository.
    pub fn newest(&self, vm: &VmId, repository: NodeId) -> Option<PointId> {
        let newest = self.known().newest.get(vm).copied();
        newest.and_then(|(on, point)| (on == repository).then_some(point))
    }

    /// Notes that a repository refused what was built upon this point.
    pub fn note_damaged(&self, point: PointId) {
        self.known().damaged.insert(point);
    }

    /// Whether a repository refused what was built upon this point.
    pub fn is_damaged(&self, point: PointId) -> bool {
        self.known().damaged.contains(&point)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is one insertion.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
