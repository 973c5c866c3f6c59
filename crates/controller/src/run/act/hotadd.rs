//! Disks attached to the VMs of proxies, and detached.
//!
//! Where a disk is about to be attached is in the journal first. Whatever comes of a transfer, its disk
//! is detached at the end of it, and once more when the run gives its access back: a disk that stays
//! attached could be neither started nor removed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use stillwater_proxy_api::HotAddDisk;
use stillwater_types::{Fault, Reason, RunId, VmId};
use stillwater_vsphere::{AttachDisk, AttachMode};
use tokio::sync::OwnedMutexGuard;

use super::{Act, World};
use crate::node::NodeInfo;
use crate::run::event::Attachment;

/// How a disk is reached that is attached to the proxy's VM.
pub(crate) const HOT_ADD: &str = "hotadd";

/// One change of a VM's devices at a time: of two, the second would be refused, or both would choose
/// the same place.
#[derive(Default)]
pub struct Bays(Mutex<HashMap<VmId, Arc<tokio::sync::Mutex<()>>>>);

impl Bays {
    /// Waits for a VM's turn.
    async fn enter(&self, vm: &VmId) -> OwnedMutexGuard<()> {
        let bay = {
            // Every change is one insert, so a panic elsewhere leaves nothing half done.
            let mut bays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(bays.entry(vm.clone()).or_default())
        };
        bay.lock_owned().await
    }
}

impl Act {
    /// Where a disk would be attached for this proxy; none when that is not wanted or not known.
    pub(super) async fn attachment(&self, proxy: &NodeInfo, file: &str) -> Option<Attachment> {
        let uuids = &proxy.reach.vm_uuids;
        if !self.world.hot_adds || uuids.is_empty() {
            return None;
        }
        let vcenter = self.run.vm_at_work()?.vcenter;
        let found = self.world.vsphere.vm_of_proxy(vcenter, uuids).await;
        let found = found.inspect_err(|fault| {
            tracing::warn!(run.id = %self.run.id, proxy.id = %proxy.node, %fault, "cannot look for the vm of a proxy");
        });
        let vm = found.ok().flatten()?;
        let file = file.to_owned();
        Some(Attachment { vm, file })
    }

    /// Attaches a disk that the journal says is about to be.
    pub(super) async fn attach(
        &self,
        to: &Attachment,
        capacity_bytes: u64,
        mode: AttachMode,
    ) -> Result<HotAddDisk, Fault> {
        let disks = [AttachDisk {
            file_name: to.file.clone(),
            capacity_bytes,
        }];
        let _turn = self.world.bays.enter(&to.vm).await;
        let vsphere = &self.world.vsphere;
        let attached = vsphere.attach_disks(&to.vm, &disks, mode).await?;
        let placed = attached.into_iter().next();
        let placed = placed.and_then(|disk| Some((disk.pci_slot?, disk)));
        let (pci_slot, disk) = placed.ok_or_else(|| {
            let words = "vsphere does not say where in the proxy the disk was attached";
            Fault::new(Reason::VcenterTaskFailed, words)
        })?;
        Ok(HotAddDisk {
            pci_slot,
            unit: disk.unit,
            disk_uuid: disk.backing_uuid,
            path: to.file.clone(),
        })
    }

    /// Detaches disks as far as they are attached. Not stopped by a cancellation.
    pub(super) async fn detach<'a>(
        &self,
        attachments: impl IntoIterator<Item = &'a Attachment>,
    ) -> Result<(), Fault> {
        let attachments: Vec<&Attachment> = attachments.into_iter().collect();
        self.insist(&self.world.timing.release, || {
            detach(&self.world, attachments.iter().copied())
        })
        .await
    }
}

/// Detaches what a run that is over could not. What its journal does not name is not ours to take.
pub(in crate::run) async fn sweep(world: &World, run: RunId) -> Result<(), Fault> {
    let memory = world.memory.clone();
    let ended = tokio::task::spawn_blocking(move || memory.ended_run(run)).await;
    let panicked = |_| Fault::new(Reason::Bug, "looking for a run panicked");
    match ended.map_err(panicked)? {
        Some(run) => detach(world, run.attachments.union(&run.left_attached)).await,
        None => Ok(()),
    }
}

/// Detaches disks as far as they are attached, once, in one step for each VM.
pub(super) async fn detach<'a>(
    world: &World,
    attachments: impl IntoIterator<Item = &'a Attachment>,
) -> Result<(), Fault> {
    let mut by_vm: BTreeMap<&VmId, Vec<String>> = BTreeMap::new();
    for Attachment { vm, file } in attachments {
        by_vm.entry(vm).or_default().push(file.clone());
    }
    for (vm, files) in by_vm {
        let _turn = world.bays.enter(vm).await;
        match world.vsphere.detach_disks(vm, &files).await {
            // With the VM its devices are gone.
            Err(fault) if super::release::is_gone(&fault) => {}
            detached => detached?,
        }
    }
    Ok(())
}
