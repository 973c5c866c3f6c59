//! Disks attached to the VMs of proxies, and detached.
//!
//! Where a disk is about to be attached is in the journal first. Whatever comes of a transfer, its disk
//! is detached at the end of it, and once more when the run gives its access back: a disk that stays
//! attached could be neither started nor removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use stillwater_proxy_api::HotAddDisk;
use stillwater_types::{Fault, Reason, RunId, VcenterId, VmId};
use stillwater_vsphere::{AttachDisk, AttachMode, DatastoreFacts, FrozenDisk, Seat};

use super::{Act, World, bays};
use crate::node::NodeInfo;
use crate::run::event::Attachment;
use crate::run::transport::{Attaching, attachable, datastore_of};

/// How a disk is reached that is attached to the proxy's VM.
pub(crate) const HOT_ADD: &str = "hotadd";

impl Act {
    /// Where a disk would be attached for this proxy.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) async fn attachment(
        &self,
        proxy: &NodeInfo,
        file: &str,
    ) -> Result<Attachment, String> {
        let vm = self.vm().map_err(|fault| fault.message)?;
        attachment(&self.world, vm.vcenter, proxy, file).await
    }

    /// Attaches a disk that the journal says is about to be.
    pub(super) async fn attach(
        &self,
        to: &Attachment,
        capacity_bytes: u64,
        mode: AttachMode,
    ) -> Result<HotAddDisk, Fault> {
        attach(&self.world, to, capacity_bytes, mode).await
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

/// Where a disk would be attached for this proxy.
///
/// # Errors
/// Why it is not.
async fn attachment(
    world: &World,
    vcenter: VcenterId,
    proxy: &NodeInfo,
    file: &str,
) -> Result<Attachment, String> {
    let uuids = &proxy.reach.vm_uuids;
    if !world.hot_adds {
        return Err("transports.hot-add is off in the controller's configuration".to_owned());
    }
    if uuids.is_empty() {
        return Err("the proxy attaches no disks to itself".to_owned());
    }
    match world.vsphere.vm_of_proxy(vcenter, uuids).await {
        Ok(Some(vm)) => Ok(Attachment {
            vm,
            file: file.to_owned(),
        }),
        Ok(None) => Err("the proxy is no vm of this vcenter that can be told apart".to_owned()),
        Err(fault) => {
            tracing::warn!(proxy.id = %proxy.node, %fault, "cannot look for the vm of a proxy");
            Err(format!(
                "the proxy's vm could not be looked for: {}",
                fault.message
            ))
        }
    }
}

/// Where a frozen disk of a VM is attached for this proxy, if it may be.
///
/// # Errors
/// Why it may not.
pub(in crate::run) async fn frozen_attachment(
    world: &World,
    of: &VmId,
    disk: &FrozenDisk,
    proxy: &NodeInfo,
    datastores: &[DatastoreFacts],
) -> Result<Attachment, String> {
    let attachment = attachment(world, of.vcenter, proxy, &disk.file_name).await?;
    // The proxy's own disks are not attached to itself a second time.
    if *of == attachment.vm {
        return Err("the proxy runs in the vm itself".to_owned());
    }
    let (source, seat) = tokio::join!(seat(world, of), seat(world, &attachment.vm));
    attachable(&Attaching {
        traits: &disk.traits,
        datastore: datastore_of(&disk.file_name, datastores),
        source: source.as_ref(),
        proxy: seat.as_ref(),
    })?;
    Ok(attachment)
}

async fn seat(world: &World, vm: &VmId) -> Option<Seat> {
    world.vsphere.seat(vm).await.unwrap_or_else(|fault| {
        tracing::info!(vm.id = %vm, %fault, "cannot tell where the vm runs");
        None
    })
}

/// Attaches a disk; whoever asks sees to it that it is detached, whatever comes of it.
pub(in crate::run) async fn attach(
    world: &Arc<World>,
    to: &Attachment,
    capacity_bytes: u64,
    mode: AttachMode,
) -> Result<HotAddDisk, Fault> {
    let disk = AttachDisk {
        file_name: to.file.clone(),
        capacity_bytes,
    };
    let disk = bays::attach(world, &to.vm, disk, mode).await?;
    let pci_slot = disk.pci_slot.ok_or_else(|| {
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
pub(in crate::run) async fn detach<'a>(
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
