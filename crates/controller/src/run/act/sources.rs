//! The ways by which a proxy is told to read a frozen disk.

use stillwater_proxy_api as proxy_api;
use stillwater_proxy_api::Disk;
use stillwater_rpc::grant::Verb;
use stillwater_types::Fault;
use stillwater_vsphere::{AttachMode, FrozenDisk, NfcAccess};

use super::transfer::{FOLDER, Ordered, folder_disk};
use super::{Act, missing};
use crate::node::NodeInfo;
use crate::run::budget::Lease;
use crate::run::event::{Attachment, Work};
use crate::run::transport::{Choice, Facts, Transport, choose};

impl Act {
    /// Where a frozen disk is attached for this proxy, if it may be.
    pub(super) async fn backup_attachment(&self, key: i32, proxy: &NodeInfo) -> Option<Attachment> {
        let Work::Backup(work) = &self.run.work else {
            return None;
        };
        let disk = self.frozen_disk(key).ok()?;
        let attachment = self.attachment(proxy, &disk.file_name).await?;
        // The proxy's own disks are not attached to itself a second time.
        (attachment.vm != work.vm && !disk.traits.is_encrypted).then_some(attachment)
    }

    /// What a proxy is told to read, and by which ways.
    pub(super) async fn order_backup(&self, key: i32) -> Result<Ordered, Fault> {
        let frozen = self.frozen_disk(key)?;
        let (mut sources, mut ways) = (Vec::new(), Vec::new());
        let (mut share, mut fallbacks) = (None, Vec::new());
        for choice in self.choices(key, &frozen) {
            let way = choice.transport.as_str();
            match self.source(key, &frozen, choice.transport).await {
                Ok((disk, lease)) => {
                    if ways.is_empty() {
                        self.reads_by(key, way, &choice.reason);
                    }
                    sources.push(disk);
                    ways.push(way);
                    share = share.or(lease);
                }
                Err(fault) if way == FOLDER => return Err(fault),
                Err(fault) => {
                    tracing::warn!(run.id = %self.run.id, disk = key, way, %fault, "this way to a disk is not to be had");
                    let name = format!("disk {key} through {way}");
                    let mut notes = self.scratch.notes();
                    notes.note(name, format!("not to be had ({fault})"));
                    fallbacks.push(fault.with("way", way));
                }
            }
        }
        Ok(Ordered {
            work: self.backup_work(key, &frozen, sources)?,
            verbs: [Verb::Find, Verb::Put, Verb::Read].into(),
            ways,
            lease: share,
            fallbacks,
        })
    }

    fn choices(&self, key: i32, frozen: &FrozenDisk) -> Vec<Choice> {
        let notes = self.scratch.notes();
        let permit = notes.permits.get(&key);
        let reach = permit.map(|permit| permit.proxy.reach.clone());
        drop(notes);
        choose(&Facts {
            file: &frozen.file_name,
            traits: &frozen.traits,
            reach: &reach.unwrap_or_default(),
            is_attachable: self.disk(key).is_ok_and(|disk| disk.attachment.is_some()),
            reads_nfc: self.world.reads_nfc,
        })
    }

    /// The disk as one way names it, and its share of its host.
    async fn source(
        &self,
        key: i32,
        frozen: &FrozenDisk,
        way: Transport,
    ) -> Result<(Disk, Option<Lease>), Fault> {
        let path = &frozen.file_name;
        Ok(match way {
            Transport::HotAdd => (Disk::HotAdd(self.attach_frozen(key, frozen).await?), None),
            Transport::File { datastore, path } => {
                (Disk::File(proxy_api::FileDisk { datastore, path }), None)
            }
            Transport::Nfc => {
                let disk = self.host_disk(NfcAccess::ReadVm, path).await?;
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

    fn reads_by(&self, key: i32, way: &'static str, reason: &str) {
        let mut notes = self.scratch.notes();
        if let Some(progress) = notes.progress.get_mut(&key) {
            progress.transport = way;
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
