//! The VMs that disks are attached to, one change of their devices at a time.
//!
//! A reconfigure takes seconds whatever it changes, so disks that are to be attached at about the same
//! time are attached in one. Where one of them spoils it for all, each is tried by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillwater_types::{Fault, Reason, VmId};
use stillwater_vsphere::{AttachDisk, AttachMode};
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::World;
use crate::run::outside::Placed;

/// One change of a VM's devices at a time: of two, the second would be refused, or both would choose
/// the same place.
#[derive(Default)]
pub struct Bays(Mutex<HashMap<VmId, Arc<Bay>>>);

#[derive(Default)]
struct Bay {
    turn: Arc<tokio::sync::Mutex<()>>,
    waiting: Mutex<Vec<Waiting>>,
}

/// A disk that is to be attached.
struct Waiting {
    disk: AttachDisk,
    mode: AttachMode,
    answer: oneshot::Sender<Result<Placed, Fault>>,
}

impl Bay {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        // Every change is one push or drain, so a panic elsewhere leaves nothing half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that wait to be attached in the mode of the first; who went away is forgotten.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        waiting.retain(|one| !one.answer.is_closed());
        let Some(mode) = waiting.first().map(|first| first.mode) else {
            return Vec::new();
        };
        waiting.extract_if(.., |one| one.mode == mode).collect()
    }
}

impl Bays {
    fn bay(&self, vm: &VmId) -> Arc<Bay> {
        // Every change is one insert, so a panic elsewhere leaves nothing half done.
        let mut bays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(bays.entry(vm.clone()).or_default())
    }

    /// Waits for a VM's turn.
    pub(super) async fn enter(&self, vm: &VmId) -> OwnedMutexGuard<()> {
        Arc::clone(&self.bay(vm).turn).lock_owned().await
    }
}

/// Attaches a disk, together with those that come at the same time.
///
/// When nobody waits any more, it is not begun; once begun it is finished all the same, before whoever
/// waits for the VM's turn to detach the disk.
pub(super) async fn attach(
    world: &Arc<World>,
    vm: &VmId,
    disk: AttachDisk,
    mode: AttachMode,
) -> Result<Placed, Fault> {
    let (answer, answered) = oneshot::channel();
    let bay = world.bays.bay(vm);
    bay.waiting().push(Waiting { disk, mode, answer });
    // A task of its own: others must not lose their disk with this one.
    tokio::spawn(serve(Arc::clone(world), vm.clone(), bay));
    let gone = |_| Fault::new(Reason::Bug, "attaching disks panicked");
    answered.await.map_err(gone)?
}

/// Attaches all that wait; of several at a time, the first does it for all.
async fn serve(world: Arc<World>, vm: VmId, bay: Arc<Bay>) {
    let _turn = Arc::clone(&bay.turn).lock_owned().await;
    if bay.waiting().is_empty() {
        return;
    }
    tokio::time::sleep(world.timing.gather).await;
    let mut together = bay.take();
    while !together.is_empty() {
        match together_or_less(&world, &vm, &mut together).await {
            Ok(placed) => {
                for (one, placed) in together.drain(..).zip(placed) {
                    tell(one, Ok(placed));
                }
            }
            Err(fault) => one_by_one(&world, &vm, std::mem::take(&mut together), fault).await,
        }
        together = bay.take();
    }
}

/// Attaches as many as the VM has places for; the others are told that it has none.
async fn together_or_less(
    world: &World,
    vm: &VmId,
    together: &mut Vec<Waiting>,
) -> Result<Vec<Placed>, Fault> {
    loop {
        let disks: Vec<AttachDisk> = together.iter().map(|one| one.disk.clone()).collect();
        let Some(mode) = together.first().map(|first| first.mode) else {
            return Ok(Vec::new());
        };
        match world.vsphere.attach_disks(vm, &disks, mode).await {
            Err(fault) if fault.reason == Reason::NoProxySlot => {
                if let Some(last) = together.pop() {
                    tell(last, Err(fault));
                }
            }
            attached => return attached,
        }
    }
}

/// Attaches each by itself. What is attached of them is not known, and goes first.
async fn one_by_one(world: &World, vm: &VmId, ones: Vec<Waiting>, fault: Fault) {
    let is_alone = ones.len() == 1;
    let files: Vec<String> = ones.iter().map(|one| one.disk.file_name.clone()).collect();
    let detached = match is_alone {
        true => Err(fault),
        false => world.vsphere.detach_disks(vm, &files).await,
    };
    for one in ones {
        let attached = match &detached {
            Err(fault) => Err(fault.clone()),
            Ok(()) => {
                let disk = std::slice::from_ref(&one.disk);
                let attached = world.vsphere.attach_disks(vm, disk, one.mode).await;
                attached.and_then(only)
            }
        };
        tell(one, attached);
    }
}

fn only(placed: Vec<Placed>) -> Result<Placed, Fault> {
    let words = "vsphere does not say where the disk was attached";
    let first = placed.into_iter().next();
    first.ok_or_else(|| Fault::new(Reason::VcenterTaskFailed, words))
}

/// Whoever does not wait any more has the disk in the journal, and detaches it.
fn tell(one: Waiting, attached: Result<Placed, Fault>) {
    if one.answer.send(attached).is_err() {
        tracing::debug!(
            disk = one.disk.file_name,
            "nobody waits for a disk that was attached"
        );
    }
}
