//! The transfers of this proxy: started, watched, cancelled, forgotten.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use stillwater_disk::{DiskReader, FallbackReader, GivenUp};
use stillwater_format::node::{DiskRoot, NODE_LEVEL_MAX};
use stillwater_proxy_api::{
    self as api, StartTransferRequest, Store, Transfer, TransferFindings, TransferState, Work,
};
use stillwater_seal::DatasetKey;
use stillwater_types::{Fault, Reason, TransferId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::reach::Reach;
use crate::slots::{Slot, Slots};
use crate::transfer::{
    Backup, ChunkOpeners, Known as KnownContent, Limits, Probe, Progress, Reading, Saved, Source,
    Stored, restore, rewrite, zstd,
};

/// How often a watched transfer tells its progress.
const TICK: Duration = Duration::from_secs(1);
/// Ended transfers that can still be asked about; the controller asks within seconds.
const ENDED_MAX: usize = 256;

/// Runs transfers; clones share them.
#[derive(Clone)]
pub struct Transfers {
    reach: Arc<dyn Reach>,
    slots: Slots,
    limits: Limits,
    metrics: Metrics,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    transfers: HashMap<TransferId, Entry>,
    /// In the order in which they were started.
    order: VecDeque<TransferId>,
}

#[derive(Clone)]
struct Entry {
    state: watch::Receiver<Transfer>,
    cancel: CancellationToken,
}

impl Transfers {
    /// No transfers yet.
    pub fn new(reach: Arc<dyn Reach>, slots: Slots, limits: Limits, metrics: Metrics) -> Self {
        Self {
            reach,
            slots,
            limits,
            metrics,
            known: Arc::default(),
        }
    }

    /// Starts a transfer, or tells the state of the one that has this id.
    ///
    /// # Errors
    /// `NO_PROXY_SLOT`, `DRAINING`.
    pub fn start(&self, request: StartTransferRequest) -> Result<Transfer, Fault> {
        let transfer_id = request.transfer_id;
        let mut known = self.known();
        if let Some(entry) = known.transfers.get(&transfer_id) {
            return Ok(entry.state.borrow().clone());
        }
        let slot = self.slots.take()?;
        let progress = Arc::new(Progress::new(length(&request.work)));
        let begun = Transfer {
            transfer_id,
            state: TransferState::Running,
            progress: progress.snapshot(),
            root: None,
            fault: None,
            findings: None,
        };
        let (told, state) = watch::channel(begun.clone());
        let cancel = CancellationToken::new();
        known.add(
            transfer_id,
            Entry {
                state,
                cancel: cancel.clone(),
            },
        );
        drop(known);
        let transfers = self.clone();
        tokio::spawn(transfers.supervise(request, progress, told, cancel, slot));
        Ok(begun)
    }

    /// Tells a transfer's state.
    ///
    /// # Errors
    /// `TRANSFER_NOT_FOUND`.
    pub fn get(&self, transfer_id: TransferId) -> Result<Transfer, Fault> {
        Ok(self.entry(transfer_id)?.state.borrow().clone())
    }

    /// Streams a transfer's states up to its last.
    ///
    /// # Errors
    /// `TRANSFER_NOT_FOUND`.
    pub fn watch(
        &self,
        transfer_id: TransferId,
    ) -> Result<BoxStream<'static, Result<Transfer, Fault>>, Fault> {
        let mut state = self.entry(transfer_id)?.state;
        state.mark_changed();
        let states = stream::unfold(Some(state), |state| async move {
            let mut state = state?;
            state.changed().await.ok()?;
            let transfer = state.borrow_and_update().clone();
            let more = (!transfer.state.is_final()).then_some(state);
            Some((Ok(transfer), more))
        });
        Ok(states.boxed())
    }

    /// Stops a transfer; returns when it has stopped.
    ///
    /// # Errors
    /// `TRANSFER_NOT_FOUND`.
    pub async fn cancel(&self, transfer_id: TransferId) -> Result<Transfer, Fault> {
        let Entry { mut state, cancel } = self.entry(transfer_id)?;
        cancel.cancel();
        let last = state.wait_for(|transfer| transfer.state.is_final()).await;
        last.map(|transfer| transfer.clone())
            .map_err(|_| Fault::new(Reason::Bug, "the transfer ended without saying how"))
    }

    /// Stops all of them.
    pub fn cancel_all(&self) {
        self.known()
            .transfers
            .values()
            .for_each(|entry| entry.cancel.cancel());
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it holds the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, transfer_id: TransferId) -> Result<Entry, Fault> {
        let entry = self.known().transfers.get(&transfer_id).cloned();
        entry.ok_or_else(|| {
            let text = "this proxy does not know the transfer, start it again";
            Fault::new(Reason::TransferNotFound, text).with("transfer", transfer_id)
        })
    }

    /// Tells the progress while the work lasts, and then how it ended.
    async fn supervise(
        self,
        request: StartTransferRequest,
        progress: Arc<Progress>,
        told: watch::Sender<Transfer>,
        cancel: CancellationToken,
        slot: Slot,
    ) {
        let (transfer_id, run_id) = (request.transfer_id, request.store.run_id);
        let kind = kind(&request.work);
        tracing::info!(transfer.id = %transfer_id, run.id = %run_id, kind, "transfer started");
        let work = {
            let (this, progress, cancel) = (self.clone(), Arc::clone(&progress), cancel.clone());
            // A task of its own: a panic must end the transfer, and be told.
            tokio::spawn(async move {
                cancel
                    .run_until_cancelled(this.work(request, &progress))
                    .await
            })
        };
        let ticking = async {
            loop {
                tokio::time::sleep(TICK).await;
                told.send_modify(|transfer| transfer.progress = progress.snapshot());
            }
        };
        let outcome = tokio::select! {
            ended = work => ended.unwrap_or(Some(Err(Error::Panicked.fault()))),
            () = ticking => None,
        };
        let (state, saved, fault) = match outcome {
            None => (TransferState::Cancelled, None, None),
            Some(Ok(saved)) => (TransferState::Succeeded, saved, None),
            Some(Err(fault)) => (TransferState::Failed, None, Some(fault)),
        };
        let saved = saved.map(|Saved { root, findings }| (told_root(root), findings));
        let (root, findings) = saved.unzip();
        let progress = progress.snapshot();
        let error = fault.as_ref().map(tracing::field::display);
        tracing::info!(transfer.id = %transfer_id, run.id = %run_id, kind, ?state, error, "transfer ended");
        self.metrics.ended(kind, state, &progress);
        // The slot is free before anybody hears of the end and asks for it.
        drop(slot);
        told.send_modify(|transfer| {
            *transfer = Transfer {
                transfer_id,
                state,
                progress,
                root,
                fault,
                findings,
            };
        });
    }

    /// Every way that the controller named and that this proxy can go, best first.
    fn ways(&self, sources: &[api::Disk], length: u64) -> Result<FallbackReader, Error> {
        let (mut ways, mut refused) = (Vec::new(), None);
        for disk in sources {
            match self.reach.way(disk, length) {
                Ok(way) => ways.push(way),
                Err(error) => refused = Some(error),
            }
        }
        match (ways.is_empty(), refused) {
            (true, Some(error)) => Err(error),
            (true, None) => Err(Error::Order("the disk has no source")),
            (false, _) => Ok(FallbackReader::new(length, ways)),
        }
    }

    async fn work(
        &self,
        request: StartTransferRequest,
        progress: &Progress,
    ) -> Result<Option<Saved>, Fault> {
        let StartTransferRequest { store, work, .. } = request;
        match work {
            Work::Backup(backup) => {
                let key =
                    DatasetKey::from_slice(store.dataset_key.expose()).map_err(Error::Seal)?;
                let length = backup.length_bytes;
                let disk = Arc::new(self.ways(&backup.sources, length)?);
                let name = disk_name(&backup.sources);
                disk.open().await.map_err(|source| Error::Open {
                    disk: name.clone(),
                    source,
                })?;
                let backup = Backup {
                    source: Source {
                        name,
                        reader: disk.clone(),
                    },
                    length,
                    reading: reading(backup.reading)?,
                    store: self.reach.store(&store)?,
                    dataset: store.dataset_id,
                    key,
                    limits: self.limits,
                    compress: zstd(),
                };
                let saved = backup.run(progress).await;
                // Whoever hears of the end may take the disk away.
                disk.close().await;
                let Saved { root, findings } = saved?;
                let (given_up, index) = disk.history().await;
                let findings = TransferFindings {
                    fallbacks: given_up.into_iter().map(told_fallback).collect(),
                    source_index: u32::try_from(index).unwrap_or(u32::MAX),
                    ..findings
                };
                Ok(Some(Saved { root, findings }))
            }
            Work::Restore(work) => {
                let stored = stored(&*self.reach, &store, &work.root, self.limits)?;
                let target = self
                    .reach
                    .target(&work.target, work.root.length_bytes)
                    .await?;
                restore(&stored, target, progress).await?;
                Ok(None)
            }
            Work::Rewrite(work) => {
                let stored = stored(&*self.reach, &store, &work.root, self.limits)?;
                let known = work.known.map(known).transpose()?;
                let target = self
                    .reach
                    .content(&work.target, work.root.length_bytes)
                    .await?;
                let root = stored.root.clone();
                let findings = rewrite(Arc::new(stored), known, target, progress).await?;
                Ok(Some(Saved { root, findings }))
            }
            Work::Verify(work) => {
                let stored = stored(&*self.reach, &store, &work.root, self.limits)?;
                let findings = stored.verify(progress).await?;
                let root = stored.root;
                Ok(Some(Saved { root, findings }))
            }
        }
    }
}

/// A way to the disk that was given up, and why.
fn told_fallback(given_up: GivenUp) -> Fault {
    let GivenUp { way, error } = given_up;
    error.fault().with("way", way)
}

/// What the disk is called in faults.
fn disk_name(sources: &[api::Disk]) -> String {
    let name = |disk: &api::Disk| match disk {
        api::Disk::Folder(disk) => disk.path.clone(),
        api::Disk::Nfc(disk) => disk.path.clone(),
        api::Disk::HotAdd(disk) => disk.path.clone(),
        api::Disk::File(disk) => format!("[{}] {}", disk.datastore, disk.path),
        api::Disk::Nbd(disk) => disk.path.clone(),
    };
    sources.first().map(name).unwrap_or_default()
}

impl Known {
    /// Remembers a transfer, and forgets the oldest ended ones.
    fn add(&mut self, transfer_id: TransferId, entry: Entry) {
        self.transfers.insert(transfer_id, entry);
        self.order.push_back(transfer_id);
        if self.order.len() <= ENDED_MAX {
            return;
        }
        let ended = |id: &TransferId| {
            self.transfers
                .get(id)
                .is_none_or(|entry| entry.state.borrow().state.is_final())
        };
        if let Some(oldest) = self.order.iter().position(ended)
            && let Some(id) = self.order.remove(oldest)
        {
            self.transfers.remove(&id);
        }
    }
}

/// A stored disk as the controller described it.
pub(crate) fn stored(
    reach: &dyn Reach,
    store: &Store,
    root: &api::DiskRoot,
    limits: Limits,
) -> Result<Stored, Fault> {
    let root = checked_root(root)?;
    Ok(Stored {
        root,
        store: reach.store(store)?,
        dataset: store.dataset_id,
        key: DatasetKey::from_slice(store.dataset_key.expose()).map_err(Error::Seal)?,
        limits,
        openers: ChunkOpeners::default(),
    })
}

/// What is to be read, with a base that keeps the bounds of the format.
fn reading(reading: api::Reading) -> Result<Reading, Fault> {
    Ok(match reading {
        api::Reading::Full { areas } => Reading::Full { areas },
        api::Reading::Increment {
            base,
            changed,
            sample_bytes,
            sample_seed,
        } => Reading::Increment {
            base: checked_root(&base)?,
            changed,
            probe: Probe {
                bytes: sample_bytes,
                seed: sample_seed,
            },
        },
        api::Reading::Compare { base, changed } => Reading::Compare {
            base: checked_root(&base)?,
            changed,
        },
    })
}

/// What is known of a disk, with a base that keeps the bounds of the format.
fn known(known: api::Known) -> Result<KnownContent, Fault> {
    let api::Known { base, changed } = known;
    Ok(KnownContent {
        base: checked_root(&base)?,
        changed,
    })
}

fn checked_root(root: &api::DiskRoot) -> Result<DiskRoot, Fault> {
    let root = DiskRoot {
        length: root.length_bytes,
        cutter: root.cutter.clone(),
        top: root.top,
        level: u8::try_from(root.level).unwrap_or(NODE_LEVEL_MAX + 1),
    };
    if !root.is_valid() {
        return Err(Fault::new(Reason::BadField, "the disk's root is not valid"));
    }
    Ok(root)
}

fn told_root(root: DiskRoot) -> api::DiskRoot {
    api::DiskRoot {
        length_bytes: root.length,
        cutter: root.cutter,
        top: root.top,
        level: u32::from(root.level),
    }
}

const fn length(work: &Work) -> u64 {
    match work {
        Work::Backup(backup) => backup.length_bytes,
        Work::Restore(restore) => restore.root.length_bytes,
        Work::Verify(verify) => verify.root.length_bytes,
        Work::Rewrite(rewrite) => rewrite.root.length_bytes,
    }
}

const fn kind(work: &Work) -> &'static str {
    match work {
        Work::Backup(_) => "backup",
        Work::Restore(_) => "restore",
        Work::Verify(_) => "verify",
        Work::Rewrite(_) => "rewrite",
    }
}

#[cfg(test)]
mod tests;
