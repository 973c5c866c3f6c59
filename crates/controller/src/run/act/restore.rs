//! Making a VM from a point.

use std::collections::BTreeMap;

use stillwater_proxy_api as proxy_api;
use stillwater_rpc::grant::Verb;
use stillwater_types::{Fault, Reason};
use stillwater_vsphere::{AttachMode, NfcAccess};

use super::host::{HostDisk, Need};
use super::hotadd::HOT_ADD;
use super::transfer::{FOLDER, NFC, Ordered, folder_disk};
use super::{Act, Came, missing};
use crate::node::NodeInfo;
use crate::run::cause::Cause;
use crate::run::event::{Attachment, RestoreWork, RunEvent, Work};
use crate::run::marker::Marker;
use crate::run::outside::{DressOrder, MadeDisk, VmOrder};
use crate::run::transport::{Account, NFC_IS_OFF, WHY_FOLDER, WHY_HOT_ADD};

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
                marker: self.marker(),
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
        let mut account = self.write_account(key, &given_up);
        let root = self.stored_root(key)?;
        let attachment = self.disk(key)?.attachment.as_ref();
        if let Some(attachment) = attachment.filter(|_| !given_up.contains_key(HOT_ADD)) {
            let mode = AttachMode::Write;
            match self.attach(attachment, root.length_bytes, mode).await {
                Ok(disk) => {
                    account.take(HOT_ADD, WHY_HOT_ADD);
                    self.writes_by(key, HOT_ADD, account.told(HOT_ADD));
                    let target = proxy_api::Disk::HotAdd(disk);
                    return Ok(ordered(root, target, HOT_ADD, (fallbacks, account)));
                }
                Err(fault) => {
                    account.pass(HOT_ADD, &fault.message);
                    fallbacks.push(fault);
                }
            }
            // Whether it is attached is not known: nobody else could write it then.
            self.detach([attachment]).await?;
        }
        let mut through_host = None;
        let is_over = |way| given_up.contains_key(way);
        if self.world.reads_nfc && !is_over(NFC) && !is_over(FOLDER) {
            match self.write_through_host(&made).await {
                Ok(disk) => through_host = Some(disk),
                Err(fault) => {
                    account.pass(NFC, &fault.message);
                    fallbacks.push(fault);
                }
            }
        }
        account.take(NFC, "the proxy has no nearer way than the disk's host");
        account.take(FOLDER, WHY_FOLDER);
        let (way, target, lease) = match through_host.map(HostDisk::split) {
            Some((disk, lease)) => (NFC, proxy_api::Disk::Nfc(disk), Some(lease)),
            None => {
                let target = folder_disk(&self.scratch.notes(), &made.file_name)?;
                (FOLDER, target, None)
            }
        };
        self.writes_by(key, way, account.told(way));
        Ok(Ordered {
            lease,
            ..ordered(root, target, way, (fallbacks, account))
        })
    }

    /// Why a new disk is not written by the ways that are over, off or not there.
    pub(super) fn write_account(
        &self,
        key: i32,
        given_up: &BTreeMap<&'static str, String>,
    ) -> Account {
        let mut account = Account::default();
        if !self.world.reads_nfc {
            account.pass(NFC, NFC_IS_OFF);
        }
        if let Some(progress) = self.scratch.notes().progress.get(&key) {
            account.pass(HOT_ADD, &progress.unattached);
        }
        for (way, why) in given_up {
            account.pass(way, why);
        }
        account
    }

    /// Where a new disk is attached for a proxy, if that is a way that has not failed.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) async fn restore_attachment(
        &self,
        key: i32,
        proxy: &NodeInfo,
    ) -> Result<Attachment, String> {
        let file = {
            let notes = self.scratch.notes();
            let given_up = notes.given_up.get(&key);
            let why = |way| given_up.and_then(|given_up| given_up.get(way)).cloned();
            if let Some(why) = why(HOT_ADD).or_else(|| why(FOLDER)) {
                return Err(why);
            }
            let made = notes.made.get(&key);
            made.ok_or("the disk was not made")?.file_name.clone()
        };
        self.attachment(proxy, &file).await
    }

    async fn write_through_host(&self, made: &MadeDisk) -> Result<HostDisk, Fault> {
        let access = NfcAccess::WriteDisk { key: made.key };
        self.host_disk(access, &made.file_name, Need::Wanted).await
    }

    /// Notes how a disk is written. The folder is the last way, whatever comes of it.
    pub(super) fn writes_by(&self, key: i32, way: &'static str, reason: String) {
        let mut notes = self.scratch.notes();
        if let Some(progress) = notes.progress.get_mut(&key) {
            progress.transport = way;
            progress.transport_reason = reason;
        }
        if way == FOLDER {
            let given_up = notes.given_up.entry(key).or_default();
            given_up.insert(FOLDER, "the upload has begun".to_owned());
        }
    }

    /// Takes a way by which a new disk could not be written from those that are left, and says so.
    pub(super) fn without_way(&self, key: i32, fault: &Fault) -> Option<RunEvent> {
        let writes = matches!(self.run.work, Work::RestoreVm(_)) || self.is_in_place();
        if !writes || !is_of_the_way(fault.reason) {
            return None;
        }
        let mut notes = self.scratch.notes();
        let way = notes.progress.get(&key)?.transport;
        if self.is_in_place() && way != HOT_ADD {
            return None;
        }
        let given_up = notes.given_up.entry(key).or_default();
        if way == FOLDER || given_up.contains_key(way) {
            return None;
        }
        given_up.insert(way, fault.message.clone());
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
    (fallbacks, account): (Vec<Fault>, Account),
) -> Ordered {
    Ordered {
        work: proxy_api::Work::Restore(proxy_api::Restore { root, target }),
        verbs: [Verb::Read].into(),
        ways: vec![way],
        lease: None,
        fallbacks,
        account,
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
