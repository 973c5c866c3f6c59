//! The ways by which a proxy is told to read a frozen disk.

use stillwater_policy::Way;
use stillwater_proxy_api as proxy_api;
use stillwater_proxy_api::Disk;
use stillwater_rpc::grant::Verb;
use stillwater_types::{Fault, Reason};
use stillwater_vsphere::{AttachMode, FrozenDisk, NfcAccess};

use super::host::Need;
use super::hotadd::frozen_attachment;
use super::transfer::{FOLDER, Ordered, folder_disk};
use super::{Act, missing};
use crate::node::NodeInfo;
use crate::run::budget::Lease;
use crate::run::event::{Attachment, Work};
use crate::run::transport::{
    Account, Choice, Facts, Transport, choose, datastore_of, may_go, not_allowed, words,
};

impl Act {
    /// Where a frozen disk is attached for this proxy, if it may be.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) async fn backup_attachment(
        &self,
        key: i32,
        proxy: &NodeInfo,
    ) -> Result<Attachment, String> {
        if !may_go(Way::HotAdd, self.ways_allowed()) {
            return Err(not_allowed(self.ways_allowed()));
        }
        let disk = self.frozen_disk(key).map_err(|fault| fault.message)?;
        let vm = self.vm().map_err(|fault| fault.message)?;
        let datastores = self.scratch.notes().datastores.clone();
        frozen_attachment(&self.world, vm, &disk, proxy, &datastores).await
    }

    /// What a proxy is told to read, and by which ways.
    pub(super) async fn order_backup(&self, key: i32) -> Result<Ordered, Fault> {
        let frozen = self.frozen_disk(key)?;
        let (mut sources, mut ways) = (Vec::new(), Vec::new());
        let (mut share, mut fallbacks) = (None, Vec::new());
        let (choices, mut account) = self.choices(key, &frozen);
        for choice in choices {
            let way = choice.transport.as_str();
            let (reason, is_spare) = (choice.reason, choice.is_spare);
            match self.source(key, &frozen, choice).await {
                Ok((disk, lease)) => {
                    account.take(way, reason);
                    sources.push(disk);
                    ways.push(way);
                    share = share.or(lease);
                }
                Err(fault) if way == FOLDER && sources.is_empty() => return Err(fault),
                // Nothing was lost yet.
                Err(fault) if is_spare => account.pass(way, fault.message),
                Err(fault) => {
                    tracing::warn!(run.id = %self.run.id, disk = key, way, %fault, "this way to a disk is not to be had");
                    let name = format!("disk {key} through {way}");
                    let mut notes = self.scratch.notes();
                    notes.note(name, format!("not to be had ({fault})"));
                    account.pass(way, &fault.message);
                    fallbacks.push(fault.with("way", way));
                }
            }
        }
        if sources.is_empty() {
            return Err(self.no_way(key, &account, fallbacks));
        }
        if let Some(way) = ways.first() {
            self.reads_by(key, way, account.told(way));
        }
        Ok(Ordered {
            work: self.backup_work(key, &frozen, sources)?,
            verbs: [Verb::Find, Verb::Put, Verb::Read].into(),
            ways,
            lease: share,
            fallbacks,
            account,
        })
    }

    /// The ways that may be gone, and the account of those that may not.
    fn choices(&self, key: i32, frozen: &FrozenDisk) -> (Vec<Choice>, Account) {
        let is_attachable = self.disk(key).is_ok_and(|disk| disk.attachment.is_some());
        let chosen = {
            let notes = self.scratch.notes();
            let permit = notes.permits.get(&key);
            let reach = permit.map(|permit| permit.proxy.reach.clone());
            let progress = notes.progress.get(&key);
            let unattached = progress.map_or("", |progress| progress.unattached.as_str());
            choose(&Facts {
                file: &frozen.file_name,
                traits: &frozen.traits,
                datastore: datastore_of(&frozen.file_name, &notes.datastores),
                reach: &reach.unwrap_or_default(),
                attaching: is_attachable.then_some(()).ok_or(unattached),
                reads_nfc: self.world.reads_nfc,
                allowed: self.ways_allowed(),
            })
        };
        let mut account = Account::default();
        for (way, why) in chosen.passed {
            account.pass(way, why);
        }
        (chosen.ways, account)
    }

    /// By which ways the run may read; by all when none is written.
    pub(super) fn ways_allowed(&self) -> &[Way] {
        match &self.run.work {
            Work::Backup(work) => &work.ways,
            Work::RestoreVm(_)
            | Work::RestoreInPlace(_)
            | Work::ExportDisk(_)
            | Work::VerifyPoint(_) => &[],
        }
    }

    /// Why the disk cannot be read at all.
    fn no_way(&self, key: i32, account: &Account, mut failed: Vec<Fault>) -> Fault {
        failed.pop().unwrap_or_else(|| {
            let message = format!(
                "disk {key} cannot be read by {}, the only ways that are allowed: {}; allow another way, in limits.ways of the policy or by --way, or give a proxy one of these",
                words(self.ways_allowed()),
                account.told("")
            );
            Fault::new(Reason::DiskReadFailed, message)
        })
    }

    /// The disk as one way names it, and its share of its host.
    async fn source(
        &self,
        key: i32,
        frozen: &FrozenDisk,
        choice: Choice,
    ) -> Result<(Disk, Option<Lease>), Fault> {
        let path = &frozen.file_name;
        let need = match choice.is_spare {
            true => Need::Spare,
            false => Need::Wanted,
        };
        Ok(match choice.transport {
            Transport::HotAdd => (Disk::HotAdd(self.attach_frozen(key, frozen).await?), None),
            Transport::File { datastore, path } => {
                (Disk::File(proxy_api::FileDisk { datastore, path }), None)
            }
            Transport::Nfc => {
                let disk = self.host_disk(NfcAccess::ReadVm, path, need).await?;
                let (disk, lease) = disk.split();
                (Disk::Nfc(disk), Some(lease))
            }
            Transport::Nbd => (Disk::Nbd(self.served(path)?), None),
            Transport::Folder => (folder_disk(&self.scratch.notes(), path)?, None),
        })
    }

    /// Attaches the disk; when that fails, whether it is attached is not known, and it is detached.
    async fn attach_frozen(
        &self,
        key: i32,
        frozen: &FrozenDisk,
    ) -> Result<proxy_api::HotAddDisk, Fault> {
        let to = self.disk(key)?.attachment.as_ref();
        let to = to.ok_or_else(|| missing("attachment"))?;
        if self.disk(key)?.attempts > 1 {
            // What an earlier attempt left attached stays so until the run gives its access back.
            let same = self.run.attachments.iter();
            self.detach(same.filter(|other| other.file == to.file))
                .await?;
        }
        let attached = self.attach(to, frozen.capacity_bytes, AttachMode::Read);
        match attached.await {
            Ok(disk) => Ok(disk),
            Err(fault) => {
                self.detach([to]).await?;
                Err(fault)
            }
        }
    }

    fn served(&self, path: &str) -> Result<proxy_api::NbdDisk, Fault> {
        let held = self.run.snapshot.as_ref();
        let snapshot = held.and_then(|held| held.snapshot.clone());
        let Disk::Folder(server) = folder_disk(&self.scratch.notes(), path)? else {
            return Err(missing("data access"));
        };
        Ok(proxy_api::NbdDisk {
            vm: self.vm()?.moref.clone(),
            snapshot: snapshot.ok_or_else(|| missing("snapshot"))?,
            path: path.to_owned(),
            server,
        })
    }

    fn reads_by(&self, key: i32, way: &'static str, reason: String) {
        let mut notes = self.scratch.notes();
        if let Some(progress) = notes.progress.get_mut(&key) {
            progress.transport = way;
            progress.transport_reason.clone_from(&reason);
        }
        notes.note(format!("disk {key} by {way}"), reason);
    }

    fn frozen_disk(&self, key: i32) -> Result<FrozenDisk, Fault> {
        let notes = self.scratch.notes();
        let mut disks = notes.frozen.iter().flat_map(|frozen| &frozen.disks);
        let disk = disks.find(|disk| disk.key == key).cloned();
        disk.ok_or_else(|| missing("frozen disk"))
    }
}
