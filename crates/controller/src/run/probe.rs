//! Probes: how fast proxies reach a frozen disk, without storing anything.
//!
//! A probe is no run: nothing of it must survive. Its snapshot carries a lease as every other does,
//! with an id that no journal knows, so that the reaper lets it be until the lease ends and removes it
//! then, whatever became of the probe.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::SignedDuration;
use stillwater_controller_api as api;
use stillwater_proxy_api::{Disk, ProbeDiskRequest, ProbeDiskResponse};
use stillwater_rpc::Peer;
use stillwater_rpc::retry::repeat;
use stillwater_types::{Extent, ExtentSet, Fault, Reason, Role, RunId, VmId};
use stillwater_vsphere::{FrozenDisk, NfcAccess, Protectability, Quiesce};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::act::{Need, World, folder, host_disk};
use super::lease::Lease;
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
        for proxy in &self.proxies {
            for way in WAYS {
                if self.is_over(tell) {
                    return Ok(());
                }
                let outcome = self.probe(proxy, way, disk, &areas).await;
                drop(tell.send(Ok(told(proxy, way, disk, outcome))).await);
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

    async fn probe(
        &self,
        proxy: &NodeInfo,
        way: Way,
        disk: &FrozenDisk,
        areas: &ExtentSet,
    ) -> Result<ProbeDiskResponse, Fault> {
        let path = &disk.file_name;
        match way {
            Way::Nfc => {
                let host =
                    host_disk(&self.world, &self.vm, NfcAccess::ReadVm, path, Need::Wanted).await?;
                let (disk_there, _share) = host.split();
                self.ask(proxy, Disk::Nfc(disk_there), disk, areas).await
            }
            Way::Folder => {
                let vsphere = &self.world.vsphere;
                let access = vsphere.open_access(&self.vm).await?;
                let target = Disk::Folder(folder(access.clone(), path));
                let answer = self.ask(proxy, target, disk, areas).await;
                // One that cannot be ended ends by itself and holds nothing.
                if let Err(fault) = vsphere.close_access(self.vm.vcenter, &access).await {
                    tracing::info!(%fault, "data session of a probe could not be ended");
                }
                answer
            }
        }
    }

    async fn ask(
        &self,
        proxy: &NodeInfo,
        disk: Disk,
        frozen: &FrozenDisk,
        areas: &ExtentSet,
    ) -> Result<ProbeDiskResponse, Fault> {
        let request = ProbeDiskRequest {
            disk,
            length_bytes: frozen.capacity_bytes,
            areas: areas.clone(),
            limit_millis: READ_MILLIS,
        };
        self.world.proxies.probe_disk(proxy.node, request).await
    }

    /// Removes the snapshot, whatever came of the probe.
    async fn thaw(&self) -> Result<(), Fault> {
        // Not stopped by a stop: that is just when it must go.
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

/// A way that is measured.
#[derive(Debug, Clone, Copy)]
enum Way {
    Nfc,
    Folder,
}

const WAYS: [Way; 2] = [Way::Nfc, Way::Folder];

impl Way {
    const fn as_str(self) -> &'static str {
        match self {
            Way::Nfc => super::act::NFC,
            Way::Folder => super::act::FOLDER,
        }
    }
}

fn told(
    proxy: &NodeInfo,
    way: Way,
    disk: &FrozenDisk,
    outcome: Result<ProbeDiskResponse, Fault>,
) -> api::Probe {
    let (figures, fault) = match outcome {
        Ok(figures) => (figures, None),
        Err(fault) => (ProbeDiskResponse::default(), Some(fault)),
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
        way: way.as_str().to_owned(),
        read_bytes,
        elapsed_micros,
        open_micros,
        latency_median_micros,
        latency_p99_micros,
        fault,
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
