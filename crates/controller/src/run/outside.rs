//! What runs need of the world: vSphere, proxies and repositories.
//!
//! Each call is one attempt, bounded in time; the performer repeats what may be repeated. A call
//! that failed may have happened all the same, and every one of them can be made again.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::stream::BoxStream;
use stillwater_proxy_api as proxy_api;
use stillwater_repository_api as repository_api;
use stillwater_types::{ExportId, ExtentSet, Fault, NodeId, PointId, TransferId, VcenterId, VmId};
use stillwater_vsphere::{
    AttachDisk, AttachMode, ChangeId, DataAccess, DatastoreFacts, GuestLogin, MissingPrivilege,
    NewVm, NfcAccess, NfcTicket, PrivilegeGroup, Quiesce, RestoreSite, RungOutcome, Seat,
    SiteQuery, SnapshotConfig, Told, Vm, VmSurroundings,
};

use super::lease::Lease;
use super::marker::Marker;
use crate::guest::{HookRun, Keeper, Release};
use crate::restore::Outfit;

/// What decides, around a VM, whether it can be protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// The datastores that its files are on.
    pub datastores: Told<Vec<DatastoreFacts>>,
    /// What our account lacks.
    pub missing: Told<Vec<MissingPrivilege>>,
}

impl Circumstances {
    /// Nothing is known, and why.
    pub fn unknown(why: &Fault) -> Self {
        Self {
            datastores: Told::Unknown(why.to_string()),
            missing: Told::Unknown(why.to_string()),
        }
    }
}

/// What is around a VM, to be kept with a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Around {
    /// Product, version and build of the vCenter.
    pub vcenter: String,
    /// What the VM lies in and hangs on.
    pub surroundings: VmSurroundings,
}

/// A snapshot that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeSnapshot {
    /// Its managed object reference.
    pub snapshot: String,
    /// Whether the guest was quiesced, as vSphere says.
    pub is_quiesced: bool,
}

/// A snapshot that was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub fault: Fault,
    /// What that means for the rung that was tried.
    pub outcome: RungOutcome,
}

impl From<Fault> for Refusal {
    /// A fault of anything but the making itself: nothing is known of a snapshot.
    fn from(fault: Fault) -> Self {
        let outcome = RungOutcome::Unknown;
        Self { fault, outcome }
    }
}

/// What a freeze left besides the snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FreezeEvidence {
    /// What the guest's agent told of it: a zip by Windows, XML by Linux.
    pub report: Option<Vec<u8>>,
    /// How long the VM stood still, as its log says.
    pub stun_micros: Option<u64>,
}

/// What is left after a snapshot was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removal {
    /// How many snapshots with the lease were there.
    pub removed_count: u32,
    /// Whether deltas remain that no snapshot explains, even after a consolidation.
    pub consolidation_needed: bool,
}

/// What a change map says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// What changed.
    pub areas: ExtentSet,
    /// What was odd about the map and could be put right, such as an area beyond the disk's end.
    pub oddities: Vec<String>,
}

/// A snapshot that carries a lease, of whichever cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeasedSnapshot {
    /// The VM.
    pub vm: VmId,
    /// The lease.
    pub lease: Lease,
}

/// Where a VM has a disk that was attached to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// PCI slot number of the adapter; none before the server has given one.
    pub pci_slot: Option<u32>,
    /// The unit on that adapter.
    pub unit: u32,
    /// UUID of the disk's backing, when it has one.
    pub backing_uuid: Option<String>,
}

/// A disk that a VM has outside of its own directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// The VM that has it.
    pub on: VmId,
    /// That VM's display name.
    pub on_name: String,
    /// The disk's name among that VM's devices.
    pub device: String,
    /// Its files, the one that is written first.
    pub files: Vec<String>,
    /// Whether what is written to it is thrown away, as runs attach what they read.
    pub is_read_only: bool,
    /// Display name of the VM in whose directory it lies; none when it is in nobody's.
    pub owner: Option<String>,
}

/// The files of a VM that was frozen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeasedFiles {
    /// Those that snapshots with the lease froze.
    pub frozen: BTreeSet<String>,
    /// All that the VM's disks consist of now.
    pub all: BTreeSet<String>,
}

/// A VM whose notes call it half made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedVm {
    /// The VM.
    pub vm: VmId,
    /// Its display name.
    pub name: String,
    /// Who began it.
    pub marker: Marker,
}

/// A VM that was made for a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeVm {
    /// The VM.
    pub vm: VmId,
    /// Its disks, by the key that each has in the point.
    pub disks: BTreeMap<i32, MadeDisk>,
}

/// An empty disk that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeDisk {
    /// Its device key in the new VM.
    pub key: i32,
    /// Such as `[ds] web/web.vmdk`.
    pub file_name: String,
}

/// The VM to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmOrder {
    /// The vCenter.
    pub vcenter: VcenterId,
    /// Where it goes.
    pub placement: stillwater_vsphere::Placement,
    /// What makes it recognisable as this run's.
    pub marker: Marker,
    /// What it is, without that mark; its disks have the keys of the point.
    pub new: NewVm,
}

/// What a new VM gets besides its disks.
#[derive(Debug, Clone, PartialEq)]
pub struct DressOrder {
    /// The configuration that it was made from.
    pub config_xml: String,
    /// What it gets; storage policies of disks by the key that each has in the new VM.
    pub outfit: Outfit,
    /// The mark that says of it that it is not whole, which it is then.
    pub marker: Marker,
}

/// The control plane of every registered vCenter.
#[async_trait]
pub trait Vsphere: Send + Sync + 'static {
    /// A VM, read afresh.
    async fn vm(&self, vm: &VmId) -> Result<Vm, Fault>;

    /// What decides, around a VM, whether it can be protected; privileges are asked for `purposes`.
    async fn circumstances(
        &self,
        vm: &VmId,
        purposes: &[PrivilegeGroup],
    ) -> Result<Circumstances, Fault>;

    /// What is around a VM, to be kept with a point.
    async fn around(&self, vm: &VmId) -> Result<Around, Fault>;

    /// The VM's NVRAM; none when it has no such file, as before its first start.
    async fn nvram(&self, vcenter: VcenterId, vm: &Vm) -> Result<Option<Vec<u8>>, Fault>;

    /// The instance UUID of a vCenter; empty for a host that stands alone.
    async fn instance(&self, vcenter: VcenterId) -> Result<String, Fault>;

    /// Turns change tracking on; it takes effect at the next snapshot.
    async fn enable_tracking(&self, vm: &VmId) -> Result<(), Fault>;

    /// Makes a snapshot with the lease in its description, or finds the one that has it.
    async fn create_snapshot(
        &self,
        vm: &VmId,
        lease: &Lease,
        quiesce: Quiesce,
    ) -> Result<MadeSnapshot, Refusal>;

    /// Puts the hooks of a run into a guest and starts the watchdog there. Idempotent, as what follows.
    async fn begin_hooks(
        &self,
        vm: &VmId,
        login: &GuestLogin,
        keeper: &Keeper,
    ) -> Result<(), Fault>;

    /// Runs one hook to its end, once however often it is asked for; none when the guest was released.
    async fn run_hook(
        &self,
        vm: &VmId,
        login: &GuestLogin,
        keeper: &Keeper,
        number: usize,
    ) -> Result<Option<HookRun>, Fault>;

    /// Whether the guest has not been released yet.
    async fn holds_guest(
        &self,
        vm: &VmId,
        login: &GuestLogin,
        keeper: &Keeper,
    ) -> Result<bool, Fault>;

    /// Runs the hooks that release the guest, unless it did so by itself, and leaves nothing there. None
    /// when it was not held, or when nothing of that is left.
    async fn release_guest(
        &self,
        vm: &VmId,
        login: &GuestLogin,
        keeper: &Keeper,
    ) -> Result<Option<(Release, Vec<HookRun>)>, Fault>;

    /// What the freeze left: the guest's report, and how long the VM stood still.
    async fn freeze_evidence(&self, vm: &VmId, snapshot: &str) -> Result<FreezeEvidence, Fault>;

    /// The VM as the snapshot froze it.
    async fn snapshot_config(&self, vm: &VmId, snapshot: &str) -> Result<SnapshotConfig, Fault>;

    /// Turns change tracking off; it takes effect when a snapshot goes.
    async fn disable_tracking(&self, vm: &VmId) -> Result<(), Fault>;

    /// The areas of a frozen disk that changed since, or were ever written.
    async fn changed_areas(
        &self,
        vm: &VmId,
        snapshot: &str,
        key: i32,
        capacity_bytes: u64,
        since: Option<&ChangeId>,
    ) -> Result<Changes, Fault>;

    /// Removes every snapshot of the VM that carries just this lease's cluster and run, and no
    /// other; waits for snapshot tasks that may still be making one.
    async fn remove_snapshot(&self, vm: &VmId, lease: &Lease) -> Result<Removal, Fault>;

    /// Whether deltas of the VM wait to be merged that no snapshot explains.
    async fn has_deltas(&self, vm: &VmId) -> Result<bool, Fault>;

    /// Merges such deltas, once; whether none are left. Snapshots and what they froze stay.
    async fn consolidate(&self, vm: &VmId) -> Result<bool, Fault>;

    /// Every snapshot with a lease on one vCenter.
    async fn leased_snapshots(&self, vcenter: VcenterId) -> Result<Vec<LeasedSnapshot>, Fault>;

    /// Opens a session of its own for a run's data plane on this VM.
    async fn open_access(&self, vm: &VmId) -> Result<DataAccess, Fault>;

    /// Tickets for disks of the VM through its host's NFC, all for one host; each opens one connection
    /// once.
    async fn nfc_tickets(
        &self,
        vm: &VmId,
        access: NfcAccess,
        count: usize,
    ) -> Result<Vec<NfcTicket>, Fault>;

    /// The VM that has one of these BIOS UUIDs, likeliest first; none when it is not known which.
    async fn vm_of_proxy(
        &self,
        vcenter: VcenterId,
        uuids: &[String],
    ) -> Result<Option<VmId>, Fault>;

    /// Where a VM runs; none when it is on no host.
    async fn seat(&self, vm: &VmId) -> Result<Option<Seat>, Fault>;

    /// Attaches disks to a VM in one step: all or none. One call at a time for each VM.
    async fn attach_disks(
        &self,
        to: &VmId,
        disks: &[AttachDisk],
        mode: AttachMode,
    ) -> Result<Vec<Placed>, Fault>;

    /// Detaches the disks with these files as far as they are attached; never deletes a file. One call
    /// at a time for each VM.
    async fn detach_disks(&self, from: &VmId, files: &[String]) -> Result<(), Fault>;

    /// Every disk that any VM has outside of its own directory.
    async fn visitors(&self, vcenter: VcenterId) -> Result<Vec<Visitor>, Fault>;

    /// What a VM's snapshots with this lease froze, and what its disks consist of.
    async fn leased_files(&self, vm: &VmId, lease: &Lease) -> Result<LeasedFiles, Fault>;

    /// Every VM that a restore of whichever cluster began and did not say to be whole.
    async fn unfinished_vms(&self, vcenter: VcenterId) -> Result<Vec<UnfinishedVm>, Fault>;

    /// Uses such a session, so that it does not fall idle; whether it is still there.
    async fn touch_access(&self, vcenter: VcenterId, access: &DataAccess) -> Result<bool, Fault>;

    /// Ends such a session; one that has ended is no error.
    async fn close_access(&self, vcenter: VcenterId, access: &DataAccess) -> Result<(), Fault>;

    /// Where a VM is to be restored, and what is there for it.
    async fn restore_site(
        &self,
        vcenter: VcenterId,
        query: &SiteQuery,
    ) -> Result<RestoreSite, Fault>;

    /// Gives a new VM, which is off, what belongs to it besides its disks, and holds it against the
    /// configuration that it was made from. What it did not get and how it differs, in words.
    async fn dress_vm(&self, vm: &VmId, order: &DressOrder) -> Result<Vec<String>, Fault>;

    /// Makes a VM with empty disks, powered off.
    async fn create_vm(&self, order: &VmOrder) -> Result<MadeVm, Fault>;

    /// Removes the VM that carries the marker, if it is there; never another. One that is `known` is
    /// looked at whatever it is called now, and no other is; else it is looked for by its name.
    async fn destroy_vm(
        &self,
        vcenter: VcenterId,
        name: &str,
        known: Option<&VmId>,
        marker: &Marker,
    ) -> Result<(), Fault>;

    /// Powers a VM on; one that runs is no error.
    async fn power_on(&self, vm: &VmId) -> Result<(), Fault>;
}

/// Every proxy of the cluster.
#[async_trait]
pub trait Proxies: Send + Sync + 'static {
    /// Starts a transfer. Idempotent by its id.
    async fn start_transfer(
        &self,
        proxy: NodeId,
        request: proxy_api::StartTransferRequest,
    ) -> Result<proxy_api::Transfer, Fault>;

    /// Follows a transfer to its final state.
    async fn watch_transfer(
        &self,
        proxy: NodeId,
        transfer: TransferId,
    ) -> Result<BoxStream<'static, Result<proxy_api::Transfer, Fault>>, Fault>;

    /// Stops a transfer; answers when it has stopped.
    async fn cancel_transfer(&self, proxy: NodeId, transfer: TransferId) -> Result<(), Fault>;

    /// Reads a part of a disk and tells how fast that was.
    async fn probe_disk(
        &self,
        proxy: NodeId,
        request: proxy_api::ProbeDiskRequest,
    ) -> Result<proxy_api::ProbeDiskResponse, Fault>;

    /// Makes an export ready, and tells whether it is or was read. Idempotent by its id.
    async fn open_export(
        &self,
        proxy: NodeId,
        request: proxy_api::OpenExportRequest,
    ) -> Result<proxy_api::OpenExportResponse, Fault>;

    /// Ends an export, and tells whether it was read to its end.
    async fn close_export(&self, proxy: NodeId, export: ExportId) -> Result<bool, Fault>;
}

/// Every repository of the cluster.
#[async_trait]
pub trait Repositories: Send + Sync + 'static {
    /// Creates a dataset. Idempotent by its id.
    async fn create_dataset(
        &self,
        repository: NodeId,
        dataset: repository_api::Dataset,
    ) -> Result<(), Fault>;

    /// Opens a session; the same run gets a new, higher fence.
    async fn open_session(
        &self,
        repository: NodeId,
        request: repository_api::OpenSessionRequest,
    ) -> Result<repository_api::Session, Fault>;

    /// Moves the end of a session.
    async fn renew_session(
        &self,
        repository: NodeId,
        request: repository_api::RenewSessionRequest,
    ) -> Result<repository_api::Session, Fault>;

    /// Ends a session and drops its proposal.
    async fn close_session(
        &self,
        repository: NodeId,
        request: repository_api::CloseSessionRequest,
    ) -> Result<(), Fault>;

    /// Has a manifest and its closure checked.
    async fn propose_point(
        &self,
        repository: NodeId,
        request: repository_api::ProposePointRequest,
    ) -> Result<(), Fault>;

    /// Makes a proposal a point. Idempotent by the point's id.
    async fn commit_point(
        &self,
        repository: NodeId,
        request: repository_api::CommitPointRequest,
    ) -> Result<repository_api::Point, Fault>;

    /// Lists points, oldest first.
    async fn list_points(
        &self,
        repository: NodeId,
        page_token: Option<String>,
    ) -> Result<repository_api::ListPointsResponse, Fault>;

    /// A point with its manifest.
    async fn get_point(
        &self,
        repository: NodeId,
        point: PointId,
    ) -> Result<repository_api::GetPointResponse, Fault>;
}
