//! Probes: how fast proxies reach a frozen disk, without storing anything.
//!
//! A probe is no run: nothing of it must survive. Its snapshot carries a lease as every other does,
//! with an id that no journal knows, so that the reaper lets it be until the lease ends and removes it
//! then, whatever became of the probe. A disk that is attached for it is detached before that: by the
//! probe, and else by the reaper, which knows it by that lease.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::SignedDuration;
use stillwater_controller_api as api;
use stillwater_proxy_api::{
    Disk, FileDisk, FolderDisk, NbdDisk, ProbeDiskRequest, ProbeDiskResponse,
};
use stillwater_rpc::Peer;
use stillwater_rpc::retry::repeat;
use stillwater_types::{Extent, ExtentSet, Fault, Reason, Role, RunId, VmId};
use stillwater_vsphere::{
    AttachMode, DatastoreFacts, FrozenDisk, NfcAccess, Protectability, Quiesce, Told,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::act::{Need, World, attach, detach, folder, frozen_attachment, host_disk};
use super::event::Attachment;
use super::lease::Lease;
use super::transport::{Chosen, Facts, RANKS, Transport, choose, datastore_of};
use crate::inventory::Inventory;
use crate::node::NodeInfo;

/// How long the snapshot of a probe may live.
const LEASE: Duration = Duration::from_secs(15 * 60);
/// How long before the lease's end no further way is begun.
const REMOVAL: Duration = Duration::from_secs(5 * 60);
/// How much is read by each way when nothing else is asked for.
const READ_BYTES: u64 = 64 << 20;
/// How long one way is read.
const READ_MILLIS: u32 = 20_000;
/// Measurements that nobody has taken yet.
const TOLD_LEN: usize = 4;

/// Answers for probes.
pub struct Service {
    inventory: Inventory,
    world: Arc<World>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Service {
    /// Finds VMs in `inventory` and looks at them as runs in `world` do. Probes are counted among
    /// `tasks` and end soon after `stop`.
    pub fn new(
        inventory: Inventory,
        world: Arc<World>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            inventory,
            world,
            tasks,
            stop,
        }
    }

    async fn prepare(&self, request: api::ProbeVmRequest) -> Result<Probing, Fault> {
        if self.stop.is_cancelled() {
            let words = "the controller is stopping; try again soon";
            return Err(Fault::new(Reason::Draining, words));
        }
        let vm = self.inventory.resolve(&request.vm).await?.vm;
        let proxies = self.world.nodes.online(Role::Proxy);
        if proxies.is_empty() {
            let words = "no proxy is online; start one, or make a token with `stillwater token create --role proxy`";
            return Err(Fault::new(Reason::NoProxy, words));
        }
        let busy = |run: &super::Run| run.vm_in_use() == Some(&vm);
        if let Some(run) = self.world.memory.state().runs.iter().find(|run| busy(run)) {
            let words = "a run works on the vm, and two snapshots would tell of each other; wait for its end";
            return Err(Fault::new(Reason::RunActive, words).with("run", run.id));
        }
        let read_bytes = match request.read_bytes {
            0 => READ_BYTES,
            wanted => wanted,
        };
        let expires_at =
            self.world.clock.now() + SignedDuration::try_from(LEASE).unwrap_or_default();
        Ok(Probing {
            lease: Lease {
                cluster: self.world.cluster,
                run: RunId::mint(),
                expires_at,
            },
            world: Arc::clone(&self.world),
            vm,
            disk_key: request.disk_key,
            read_bytes,
            proxies,
            attached: Mutex::default(),
            stop: self.stop.clone(),
        })
    }
}

#[async_trait]
impl api::ProbeService for Service {
    async fn probe_vm(
        &self,
        _peer: &Peer,
        request: api::ProbeVmRequest,
    ) -> Result<BoxStream<'static, Result<api::Probe, Fault>>, Fault> {
        let probing = self.prepare(request).await?;
        let (tell, told) = mpsc::channel(TOLD_LEN);
        // A task of its own: whoever asked may leave, and the snapshot goes all the same.
        self.tasks.spawn(probing.run(tell));
        let next = async |mut told: mpsc::Receiver<_>| Some((told.recv().await?, told));
        Ok(stream::unfold(told, next).boxed())
    }
}

/// One probe.
struct Probing {
    world: Arc<World>,
    vm: VmId,
    disk_key: Option<i32>,
    read_bytes: u64,
    lease: Lease,
    proxies: Vec<NodeInfo>,
    /// Where the disk may be attached.
    attached: Mutex<BTreeSet<Attachment>>,
    stop: CancellationToken,
}

type Tell = mpsc::Sender<Result<api::Probe, Fault>>;

impl Probing {
    async fn run(self, tell: Tell) {
        let id = self.lease.run;
        tracing::info!(probe.id = %id, vm.id = %self.vm, "probing");
        let measured = self.measure(&tell).await;
        let thawed = self.thaw().await;
        for fault in [measured.err(), thawed.err()].into_iter().flatten() {
            tracing::warn!(probe.id = %id, vm.id = %self.vm, %fault, "probe failed");
            // Whoever asked may have left.
            drop(tell.send(Err(fault)).await);
        }
    }

    /// Freezes the VM and measures every way, until all are told or nobody listens.
    async fn measure(&self, tell: &Tell) -> Result<(), Fault> {
        let vsphere = &self.world.vsphere;
        let made = vsphere
            .create_snapshot(&self.vm, &self.lease, Quiesce::None)
            .await
            .map_err(|refusal| refusal.fault)?;
        let frozen = vsphere.snapshot_config(&self.vm, &made.snapshot).await?;
        let disk = self.pick(&frozen.disks)?;
        let map = vsphere
            .changed_areas(
                &self.vm,
                &made.snapshot,
                disk.key,
                disk.capacity_bytes,
                None,
            )
            .await;
        // Without a map the beginning of the disk is read, allocated or not.
        let areas = map.map_or_else(
            |_| ExtentSet::whole(disk.capacity_bytes),
            |changes| changes.areas,
        );
        let areas = beginning(&areas, self.read_bytes);
        let datastores = self.datastores().await;
        let target = Target {
            disk,
            areas: &areas,
            snapshot: &made.snapshot,
        };
        for proxy in &self.proxies {
            let choice = self.choose(proxy, disk, &datastores).await;
            for way in RANKS {
                if self.is_over(tell) {
                    return Ok(());
                }
                let Some(came) = self.try_way(proxy, way, &choice, target).await else {
                    continue;
                };
                drop(tell.send(Ok(told(proxy, way, disk, came))).await);
            }
        }
        Ok(())
    }

    fn pick<'a>(&self, disks: &'a [FrozenDisk]) -> Result<&'a FrozenDisk, Fault> {
        let is_wanted = |disk: &&FrozenDisk| match self.disk_key {
            Some(key) => disk.key == key,
            None => disk.protectability == Protectability::Protectable,
        };
        disks.iter().find(is_wanted).ok_or_else(|| {
            let words = "the vm has no such disk; `stillwater vm show` names its disks";
            Fault::new(Reason::DiskNotFound, words).with("vm", &self.vm)
        })
    }

    /// What is known of the VM's datastores; nothing where it is not told.
    async fn datastores(&self) -> Vec<DatastoreFacts> {
        match self.world.vsphere.circumstances(&self.vm, &[]).await {
            Ok(around) => match around.datastores {
                Told::Known(datastores) => datastores,
                Told::Unknown(_) => Vec::new(),
            },
            Err(fault) => {
                tracing::info!(vm.id = %self.vm, %fault, "nothing is known of the vm's datastores");
                Vec::new()
            }
        }
    }

    /// The ways that a run would take with this proxy. NFC is measured where it is off, too: that is how one
    /// sees what turning it on gives.
    async fn choose(
        &self,
        proxy: &NodeInfo,
        disk: &FrozenDisk,
        datastores: &[DatastoreFacts],
    ) -> Choices {
        let attachment = frozen_attachment(&self.world, &self.vm, disk, proxy, datastores).await;
        let chosen = choose(&Facts {
            file: &disk.file_name,
            traits: &disk.traits,
            datastore: datastore_of(&disk.file_name, datastores),
            reach: &proxy.reach,
            attaching: attachment.as_ref().map(drop).map_err(String::as_str),
            reads_nfc: true,
            allowed: &[],
        });
        Choices {
            chosen,
            attachment: attachment.ok(),
        }
    }

    /// What came of one way; none when the choice says nothing of it.
    async fn try_way(
        &self,
        proxy: &NodeInfo,
        way: &str,
        choices: &Choices,
        target: Target<'_>,
    ) -> Option<Came> {
        let Choices { chosen, attachment } = choices;
        let mut ways = chosen.ways.iter();
        if let Some(choice) = ways.find(|choice| choice.transport.as_str() == way) {
            let transport = &choice.transport;
            let measured = match (transport, attachment) {
                (Transport::HotAdd, Some(to)) => self.probe_attached(proxy, to, target).await,
                _ => self.probe(proxy, transport, target).await,
            };
            return Some(measured.map_or_else(Came::Failed, Came::Measured));
        }
        let passed = chosen.passed.iter().find(|(passed, _)| *passed == way);
        passed.map(|(_, why)| Came::PassedOver(why.clone()))
    }

    async fn probe(
        &self,
        proxy: &NodeInfo,
        transport: &Transport,
        target: Target<'_>,
    ) -> Result<ProbeDiskResponse, Fault> {
        let path = &target.disk.file_name;
        match transport {
            Transport::HotAdd => Err(Fault::new(Reason::Bug, "it is not known where to attach")),
            Transport::File { datastore, path } => {
                let (datastore, path) = (datastore.clone(), path.clone());
                let disk = Disk::File(FileDisk { datastore, path });
                self.ask(proxy, disk, target).await
            }
            Transport::Nfc => {
                let host =
                    host_disk(&self.world, &self.vm, NfcAccess::ReadVm, path, Need::Wanted).await?;
                let (disk, _share) = host.split();
                self.ask(proxy, Disk::Nfc(disk), target).await
            }
            Transport::Nbd => {
                let served = |server| {
                    Disk::Nbd(NbdDisk {
                        vm: self.vm.moref.clone(),
                        snapshot: target.snapshot.to_owned(),
                        path: path.clone(),
                        server,
                    })
                };
                self.ask_with_access(proxy, served, target).await
            }
            Transport::Folder => self.ask_with_access(proxy, Disk::Folder, target).await,
        }
    }

    /// Measures a way that needs a data session, which ends with it.
    async fn ask_with_access(
        &self,
        proxy: &NodeInfo,
        disk: impl FnOnce(FolderDisk) -> Disk,
        target: Target<'_>,
    ) -> Result<ProbeDiskResponse, Fault> {
        let vsphere = &self.world.vsphere;
        let access = vsphere.open_access(&self.vm).await?;
        let disk = disk(folder(access.clone(), &target.disk.file_name));
        let answer = self.ask(proxy, disk, target).await;
        // One that cannot be ended ends by itself and holds nothing.
        if let Err(fault) = vsphere.close_access(self.vm.vcenter, &access).await {
            tracing::info!(%fault, "data session of a probe could not be ended");
        }
        answer
    }

    /// Measures a disk that is attached for it, and detaches it whatever came of that.
    async fn probe_attached(
        &self,
        proxy: &NodeInfo,
        to: &Attachment,
        target: Target<'_>,
    ) -> Result<ProbeDiskResponse, Fault> {
        self.attached().insert(to.clone());
        let bytes = target.disk.capacity_bytes;
        let measured = match attach(&self.world, to, bytes, AttachMode::Read).await {
            Ok(disk) => self.ask(proxy, Disk::HotAdd(disk), target).await,
            Err(fault) => Err(fault),
        };
        let detached = self.detach().await;
        measured.and_then(|figures| detached.map(|()| figures))
    }

    /// Detaches whatever may be attached. One that resists is tried again before the snapshot goes.
    async fn detach(&self) -> Result<(), Fault> {
        let attached = self.attached().clone();
        // Not stopped by a stop: that is just when it must go.
        let never = CancellationToken::new();
        repeat(&self.world.timing.release, &never, || {
            detach(&self.world, &attached)
        })
        .await?;
        self.attached().retain(|left| !attached.contains(left));
        Ok(())
    }

    fn attached(&self) -> MutexGuard<'_, BTreeSet<Attachment>> {
        // Every change is one insert or retain, so a panic elsewhere leaves nothing half done.
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(
        &self,
        proxy: &NodeInfo,
        disk: Disk,
        target: Target<'_>,
    ) -> Result<ProbeDiskResponse, Fault> {
        let request = ProbeDiskRequest {
            disk,
            length_bytes: target.disk.capacity_bytes,
            areas: target.areas.clone(),
            limit_millis: READ_MILLIS,
        };
        self.world.proxies.probe_disk(proxy.node, request).await
    }

    /// Removes the snapshot, whatever came of the probe. One whose disk is still attached is left to the
    /// reaper: vSphere could not merge it.
    async fn thaw(&self) -> Result<(), Fault> {
        self.detach().await?;
        let never = CancellationToken::new();
        let removed = repeat(&self.world.timing.release, &never, || async {
            let vsphere = &self.world.vsphere;
            vsphere.remove_snapshot(&self.vm, &self.lease).await
        });
        removed.await.map(drop)
    }

    /// Whether no further way is measured: nobody listens, the controller stops, or the snapshot has
    /// to go.
    fn is_over(&self, tell: &Tell) -> bool {
        let now = self.world.clock.now();
        let is_late =
            now + SignedDuration::try_from(REMOVAL).unwrap_or_default() > self.lease.expires_at;
        tell.is_closed() || self.stop.is_cancelled() || is_late
    }
}

/// What is read.
#[derive(Debug, Clone, Copy)]
struct Target<'a> {
    disk: &'a FrozenDisk,
    areas: &'a ExtentSet,
    snapshot: &'a str,
}

/// The ways of one proxy.
struct Choices {
    chosen: Chosen,
    /// Where the disk is attached, if that is among them.
    attachment: Option<Attachment>,
}

/// What came of one way.
enum Came {
    Measured(ProbeDiskResponse),
    /// It cannot be gone, and why.
    PassedOver(String),
    Failed(Fault),
}

fn told(proxy: &NodeInfo, way: &str, disk: &FrozenDisk, came: Came) -> api::Probe {
    let (figures, passed_over, fault) = match came {
        Came::Measured(figures) => (figures, None, None),
        Came::PassedOver(why) => (ProbeDiskResponse::default(), Some(why), None),
        Came::Failed(fault) => (ProbeDiskResponse::default(), None, Some(fault)),
    };
    let ProbeDiskResponse {
        read_bytes,
        elapsed_micros,
        open_micros,
        latency_median_micros,
        latency_p99_micros,
    } = figures;
    api::Probe {
        proxy_name: proxy.name.clone(),
        disk_key: disk.key,
        way: way.to_owned(),
        read_bytes,
        elapsed_micros,
        open_micros,
        latency_median_micros,
        latency_p99_micros,
        fault,
        passed_over,
    }
}

/// The first so many bytes of some areas.
fn beginning(areas: &ExtentSet, bytes: u64) -> ExtentSet {
    let mut left = bytes;
    let first = areas.iter().map_while(|area| {
        let length = area.length.min(left);
        left -= length;
        (length > 0).then(|| Extent::new(area.start, length))
    });
    let first: Vec<Extent> = first.collect();
    let end = first.last().map_or(0, Extent::end);
    ExtentSet::collect(first, end)
}

#[cfg(test)]
mod tests;
