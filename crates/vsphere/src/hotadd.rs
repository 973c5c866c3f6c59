//! Disks of other VMs attached to a VM of ours, and detached.
//!
//! Detaching never destroys a file: there is no way to say it in this module's types.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::body::Body;
use crate::client::{Call, Client, Repeat};
use crate::error::FaultKind;
use crate::snapshot::{BUSY_DELAY, may_pass};
use crate::vm::vm_gone;
use crate::xml::Element;
use crate::{Error, Result, VmRef};

mod attached;
mod change;
mod place;
mod visitors;

pub use attached::AttachedDisk;
pub use visitors::Visitor;

use attached::{Devices, find};
use change::{Change, spec};
use place::places;

const RECONFIGURE: &str = "ReconfigVM_Task";

/// A disk of another VM that is to be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachDisk {
    /// Its file, such as `[ds] web/web-000001.vmdk`: of a snapshot's configuration, never one that a
    /// running VM writes.
    pub file_name: String,
    /// Its size.
    pub capacity_bytes: u64,
}

/// A disk that is to be detached: what was attached, so that nothing else goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachDisk {
    /// Its device key.
    pub key: i32,
    /// Its file as it was asked for.
    pub file_name: String,
}

/// What an attached disk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttachMode {
    /// Reading: what is written goes to a log beside the file and is thrown away.
    Read,
    /// Writing: what is written stays, and snapshots of the VM that it is attached to leave it alone.
    Write,
}

impl AttachMode {
    /// vSphere's disk mode.
    pub const fn as_str(self) -> &'static str {
        match self {
            AttachMode::Read => "independent_nonpersistent",
            AttachMode::Write => "independent_persistent",
        }
    }
}

impl Client {
    /// VMs of that BIOS UUID. Clones may share it: whoever looks for its own VM must find just one.
    pub async fn vms_by_bios_uuid(&self, uuid: &str) -> Result<Vec<VmRef>> {
        let body = Body::new().value("uuid", uuid).value("vmSearch", true);
        let found = self.search("FindAllByUuid", body.clone()).await;
        let found = match found {
            // Some servers find one only.
            Err(error) if error.is(&FaultKind::NotSupported) => {
                self.search("FindByUuid", body).await
            }
            found => found,
        };
        let vms = found?.into_iter().filter_map(|found| found.moref().ok());
        Ok(vms.map(|moref| VmRef::new(moref.value)).collect())
    }

    async fn search(&self, method: &'static str, body: Body) -> Result<Vec<Element>> {
        let call = Call {
            method,
            this: &self.content().search_index,
            body,
            repeat: Repeat::Safe,
        };
        self.call(call).await
    }

    /// Attaches disks to a VM in one step: all or none. The places are chosen here, on paravirtual
    /// controllers apart from the one that the VM boots from as far as there are any or one can be added.
    ///
    /// One call at a time for each VM, else two may choose one place.
    pub async fn attach_disks(
        &self,
        to: &VmRef,
        disks: &[AttachDisk],
        mode: AttachMode,
        timeout: Duration,
    ) -> Result<Vec<AttachedDisk>> {
        let deadline = Instant::now() + timeout;
        let before = self.devices(to).await?;
        let plan = places(&before.list, disks.len()).ok_or_else(|| Error::NoFreeUnit {
            vm: to.clone(),
            wanted: disks.len(),
        })?;
        let mut changes: Vec<Change<'_>> = plan.controllers.into_iter().map(Change::Bus).collect();
        let placed = disks.iter().zip(&plan.places);
        changes.extend(placed.map(|(disk, place)| Change::Attach(disk, *place, mode)));
        let done = self.reconfigure(to, &changes, deadline).await;
        let lost = match done {
            Ok(()) => None,
            Err(lost @ (Error::OutcomeUnknown { .. } | Error::TaskLost { .. })) => Some(lost),
            Err(error) => return Err(error),
        };
        if lost.is_some() {
            self.settle_reconfigures(to, deadline).await?;
        }
        let after = self.devices(to).await?;
        let old: BTreeSet<i32> = before.disks()?.into_iter().map(|disk| disk.key).collect();
        match (find(disks, &after.disks()?, &old), lost) {
            (Ok(attached), _) => Ok(attached),
            (Err(_), Some(lost)) => Err(lost),
            (Err(problem), None) => Err(after.bad(problem)),
        }
    }

    /// Every disk of a VM, attached or its own.
    pub async fn attached_disks(&self, vm: &VmRef) -> Result<Vec<AttachedDisk>> {
        self.devices(vm).await?.disks()
    }

    /// Detaches disks, leaving their files alone, and waits until they are gone, whoever detached them.
    /// A device that is not the disk that was attached is left alone, and so are all others then.
    pub async fn detach_disks(
        &self,
        from: &VmRef,
        disks: &[DetachDisk],
        timeout: Duration,
    ) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let there = self.devices(from).await?.disks()?;
            let left = attached::left(from, disks, &there)?;
            if left.is_empty() {
                return Ok(());
            }
            let changes: Vec<Change<'_>> = left.into_iter().map(Change::Detach).collect();
            match self.reconfigure(from, &changes, deadline).await {
                Ok(()) => {}
                Err(error) if may_pass(&error) && Instant::now() < deadline => {
                    tracing::debug!(vm.moref = %from, %error, "detaching again");
                    self.settle_reconfigures(from, deadline).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Changes devices, waiting for other tasks of the VM.
    async fn reconfigure(
        &self,
        vm: &VmRef,
        changes: &[Change<'_>],
        deadline: Instant,
    ) -> Result<()> {
        loop {
            let started = self
                .start_task(RECONFIGURE, &vm.moref(), spec(changes))
                .await;
            let left = deadline.saturating_duration_since(Instant::now());
            let outcome = match started {
                Ok(task) => self.wait_task(&task, left).await.map(drop),
                Err(error) => Err(vm_gone(error, vm)),
            };
            match outcome {
                Err(error) if is_busy(&error) && left > BUSY_DELAY => {
                    tracing::debug!(vm.moref = %vm, %error, "the vm is busy");
                }
                outcome => return outcome,
            }
            tokio::time::sleep(BUSY_DELAY).await;
        }
    }

    async fn settle_reconfigures(&self, vm: &VmRef, deadline: Instant) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        let changes = |description: &str| description.contains("reconfig");
        self.settle_tasks(vm, changes, left.max(BUSY_DELAY)).await
    }

    async fn devices(&self, vm: &VmRef) -> Result<Devices> {
        let paths = ["config.hardware.device", "config.files.vmPathName"];
        let read = self.read_vm(vm, &paths).await?;
        let list = read.need("config.hardware.device")?.children.clone();
        Ok(Devices {
            list,
            home: read.text("config.files.vmPathName").unwrap_or_default(),
            vm: vm.clone(),
        })
    }
}

fn is_busy(error: &Error) -> bool {
    let fault = error.vim_fault();
    fault.is_some_and(|fault| matches!(fault.kind, FaultKind::TaskInProgress { .. }))
}

#[cfg(test)]
mod tests;
