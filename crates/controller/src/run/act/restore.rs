//! Making a VM from a point.

use stillwater_proxy_api as proxy_api;
use stillwater_rpc::grant::Verb;
use stillwater_types::{Fault, Reason};
use stillwater_vsphere::{AttachMode, NfcAccess};

use super::host::HostDisk;
use super::hotadd::HOT_ADD;
use super::transfer::{FOLDER, NFC, Ordered, folder_disk};
use super::{Act, Came, missing};
use crate::node::NodeInfo;
use crate::run::cause::Cause;
use crate::run::event::{Attachment, RestoreWork, RunEvent, Work};
use crate::run::marker::Marker;
use crate::run::outside::{DressOrder, MadeDisk, VmOrder};

impl Act {
    pub(super) async fn create_vm(&self) -> Came {
        let work = self.restore()?;
        let order = {
            let notes = self.scratch.notes();
            let plan = notes.plan.as_ref().ok_or_else(|| missing("plan"))?;
            VmOrder {
                vcenter: work.placement.vcenter,
                placement: plan.placement.clone(),
                marker: self.marker(),
                new: plan.vm.clone(),
            }
        };
        let made = self.world.vsphere.create_vm(&order).await?;
        let mut keys = self.run.disks.keys();
        if let Some(key) = keys.find(|key| !made.disks.contains_key(key)) {
            // The event is not lost for it: what was made is found by its marker.
            return Err(Fault::new(
                Reason::VcenterTaskFailed,
                "vsphere made the vm without one of its disks",
            )
            .with("disk", key));
        }
        self.scratch.notes().made = made.disks;
        Ok(vec![RunEvent::VmCreated {
            vm: made.vm,
            warnings: Vec::new(),
        }])
    }

    /// What the VM did not get is told: its disks are whole, and nothing of this is worth them.
    pub(super) async fn dress(&self) -> Came {
        let vm = self.vm()?;
        let order = {
            let notes = self.scratch.notes();
            let plan = notes.plan.as_ref().ok_or_else(|| missing("plan"))?;
            let point = notes.point.as_ref().ok_or_else(|| missing("point"))?;
            let mut outfit = plan.outfit.clone();
            for (key, _) in &mut outfit.policies.disks {
                let made = notes.made.get(key).ok_or_else(|| missing("created disk"))?;
                *key = made.key;
            }
            DressOrder {
                config_xml: point.section.config_xml.clone(),
                outfit,
            }
        };
        let dressed = self
            .repeat(&self.world.timing.call, || async {
                self.world.vsphere.dress_vm(vm, &order).await
            })
            .await;
        let failed = match dressed {
            Ok(failed) => failed,
            Err(fault) if self.halt.is_cancelled() => return Err(fault),
            Err(fault) => vec![fault.message],
        };
        let warn = |why: String| {
            let message = format!("the vm is restored, but {why}");
            Cause(Fault::new(Reason::RestoreDiffers, message))
        };
        let warnings = failed.into_iter().map(warn).collect();
        Ok(vec![RunEvent::Dressed { warnings }])
    }

    /// The VM is whole whether it starts or not, so a failure is a warning.
    pub(super) async fn power_on(&self) -> Came {
        let vm = self.vm()?;
        let powered = self
            .repeat(&self.world.timing.call, || async {
                self.world.vsphere.power_on(vm).await
            })
            .await;
        let warning = powered.err().map(|fault| {
            let message = format!(
                "the vm is restored but could not be powered on: {}",
                fault.message
            );
            Cause(Fault { message, ..fault })
        });
        Ok(vec![RunEvent::PoweredOn { warning }])
    }

    /// Has a proxy write a disk, by the best way that has not failed yet.
    ///
    /// One way only: what a way has begun to write, no other may be left to finish, for each counts
    /// on a disk that is new or its own. An upload by the folder replaces the whole file, so it can
    /// follow every way, and none follows it.
    pub(super) async fn order_restore(&self, key: i32) -> Result<Ordered, Fault> {
        let (made, given_up) = {
            let notes = self.scratch.notes();
            let made = notes.made.get(&key).cloned();
            let given_up = notes.given_up.get(&key).cloned().unwrap_or_default();
            (made.ok_or_else(|| missing("created disk"))?, given_up)
        };
        let mut fallbacks = Vec::new();
        let root = self.stored_root(key)?;
        let attachment = self.disk(key)?.attachment.as_ref();
        if let Some(attachment) = attachment.filter(|_| !given_up.contains(HOT_ADD)) {
            let mode = AttachMode::Write;
            match self.attach(attachment, root.length_bytes, mode).await {
                Ok(disk) => {
                    self.writes_by(key, HOT_ADD);
                    let target = proxy_api::Disk::HotAdd(disk);
                    return Ok(ordered(root, target, HOT_ADD, fallbacks));
                }
                Err(fault) => fallbacks.push(fault),
            }
            // Whether it is attached is not known: nobody else could write it then.
            self.detach([attachment]).await?;
        }
        let mut through_host = None;
        if self.world.reads_nfc && !given_up.contains(NFC) && !given_up.contains(FOLDER) {
            match self.write_through_host(&made).await {
                Ok(disk) => through_host = Some(disk),
                Err(fault) => fallbacks.push(fault),
            }
        }
        let (way, target, lease) = match through_host.map(HostDisk::split) {
            Some((disk, lease)) => (NFC, proxy_api::Disk::Nfc(disk), Some(lease)),
            None => {
                let target = folder_disk(&self.scratch.notes(), &made.file_name)?;
                (FOLDER, target, None)
            }
        };
        self.writes_by(key, way);
        Ok(Ordered {
            lease,
            ..ordered(root, target, way, fallbacks)
        })
    }

    /// Where a new disk is attached for a proxy, if that is a way that has not failed.
    pub(super) async fn restore_attachment(
        &self,
        key: i32,
        proxy: &NodeInfo,
    ) -> Option<Attachment> {
        let file = {
            let notes = self.scratch.notes();
            let given_up = notes.given_up.get(&key);
            let is_over = |way| given_up.is_some_and(|given_up| given_up.contains(way));
            if is_over(HOT_ADD) || is_over(FOLDER) {
                return None;
            }
            notes.made.get(&key)?.file_name.clone()
        };
        self.attachment(proxy, &file).await
    }

    async fn write_through_host(&self, made: &MadeDisk) -> Result<HostDisk, Fault> {
        let access = NfcAccess::WriteDisk { key: made.key };
        self.host_disk(access, &made.file_name).await
    }

    /// Notes how a disk is written. The folder is the last way, whatever comes of it.
    fn writes_by(&self, key: i32, way: &'static str) {
        let mut notes = self.scratch.notes();
        if let Some(progress) = notes.progress.get_mut(&key) {
            progress.transport = way;
        }
        if way == FOLDER {
            notes.given_up.entry(key).or_default().insert(FOLDER);
        }
    }

    /// Takes a way by which a new disk could not be written from those that are left, and says so.
    pub(super) fn without_way(&self, key: i32, fault: &Fault) -> Option<RunEvent> {
        if !matches!(self.run.work, Work::RestoreVm(_)) || !is_of_the_way(fault.reason) {
            return None;
        }
        let mut notes = self.scratch.notes();
        let way = notes.progress.get(&key)?.transport;
        if way == FOLDER || !notes.given_up.entry(key).or_default().insert(way) {
            return None;
        }
        let message = format!(
            "disk {key} could not be written by {way} and is written by another way, from its beginning: {}",
            fault.message
        );
        let told = Fault {
            message,
            ..fault.clone()
        };
        Some(RunEvent::Warned(Cause(told.with("disk", key))))
    }

    pub(super) fn restore(&self) -> Result<&RestoreWork, Fault> {
        match &self.run.work {
            Work::RestoreVm(work) => Ok(work),
            _ => Err(missing("restore")),
        }
    }

    pub(super) fn marker(&self) -> Marker {
        Marker {
            cluster: self.world.cluster,
            run: self.run.id,
        }
    }
}

fn ordered(
    root: proxy_api::DiskRoot,
    target: proxy_api::Disk,
    way: &'static str,
    fallbacks: Vec<Fault>,
) -> Ordered {
    Ordered {
        work: proxy_api::Work::Restore(proxy_api::Restore { root, target }),
        verbs: [Verb::Read].into(),
        ways: vec![way],
        lease: None,
        fallbacks,
    }
}

/// Whether a fault is the way's own: another may lead to the same disk.
fn is_of_the_way(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::DiskWriteFailed
            | Reason::CertificateUntrusted
            | Reason::NotSupported
            | Reason::VcenterPrivilegeMissing
    )
}
