//! The controller's messages as the rest of the product sees them.
//!
//! One type per message, with the message's field names. What arrives is checked once, on receipt;
//! whoever holds one of these types holds whole ids, times and hashes.

use bytes::Bytes;
use jiff::Timestamp;
use secrecy::SecretString;
use stillwater_types::{
    ClusterId, ExportId, Fault, NodeId, PointId, RequestId, Role, RunId, TreeId, VcenterId, VmId,
};

use crate::Ticket;

mod alarm;
mod configuration;
mod event;
mod hook;
mod job;
mod policy;
mod preflight;
mod probe;
mod repository;
mod restore;

pub use alarm::*;
pub use configuration::*;
pub use event::*;
pub use hook::*;
pub use job::*;
pub use policy::*;
pub use preflight::*;
pub use probe::*;
pub use repository::*;
pub use restore::*;

/// Most entries that one page of a list can have.
pub const PAGE_SIZE_MAX: u32 = 1000;

/// Entries on a page when the caller does not say.
pub const PAGE_SIZE_DEFAULT: u32 = 100;

/// Most bytes of a certificate request; one has a few hundred.
pub const CERTIFICATE_REQUEST_BYTES_MAX: usize = 8 * 1024;

/// Most bytes of a certificate authority's PEM.
pub const CA_PEM_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of one message.
pub const MESSAGE_BYTES_MAX: usize = stillwater_rpc::MESSAGE_BYTES_MAX;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// Accepted, not begun.
    Pending,
    /// At work.
    Running,
    /// Done, with everything in it.
    Succeeded,
    /// A point exists, but something of the VM is not in it.
    Incomplete,
    /// Stopped by a fault.
    Failed,
    /// Stopped because somebody asked.
    Cancelled,
}

impl RunState {
    /// Whether nothing will change any more.
    pub const fn is_final(self) -> bool {
        match self {
            RunState::Pending | RunState::Running => false,
            RunState::Succeeded | RunState::Incomplete | RunState::Failed | RunState::Cancelled => {
                true
            }
        }
    }
}

/// The step that a running run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunPhase {
    /// The VM is read afresh and its disks are judged.
    Planning,
    /// The repository session and the proxy slots are made ready.
    Reserving,
    /// The vSphere snapshot is made.
    Freezing,
    /// Changed and allocated areas are asked for.
    Mapping,
    /// Disk content moves.
    Transferring,
    /// The repository checks the manifest and all that it reaches.
    Proposing,
    /// The vSphere snapshot is removed.
    Releasing,
    /// The commit record is appended.
    Committing,
    /// The VM to restore into is made.
    CreatingVm,
    /// What the run leaves behind is removed.
    CleaningUp,
}

/// One attempt to protect or to restore. Runs are never edited: a retry is a new run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Names the run.
    pub run_id: RunId,
    /// What it is for.
    pub kind: RunKind,
    /// Where it stands.
    pub state: RunState,
    /// The step it is at, or was at when it ended; none before it began.
    pub phase: Option<RunPhase>,
    /// The disks it moves, as far as known.
    pub disks: Vec<RunDisk>,
    /// When it was accepted.
    pub started_at: Timestamp,
    /// When it reached its final state.
    pub ended_at: Option<Timestamp>,
    /// Why it failed or was cancelled.
    pub fault: Option<Fault>,
    /// What a person should know although it succeeded, and what is missing when incomplete.
    pub warnings: Vec<Fault>,
    /// When it came to each phase, in order; the last one lasts until the run's end.
    pub phases: Vec<RunPhaseStart>,
}

/// The moment in which a run came to a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunPhaseStart {
    /// The phase.
    pub phase: RunPhase,
    /// Its first moment.
    pub started_at: Timestamp,
}

/// What a run is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunKind {
    /// Protects a VM.
    Backup(BackupRun),
    /// Makes a new VM from a point.
    RestoreVm(RestoreVmRun),
    /// Streams one disk of a point to an administrator's machine.
    ExportDisk(ExportDiskRun),
    /// Proves every byte of a point with the key.
    VerifyPoint(VerifyPointRun),
    /// Writes a point over the disks of the VM that it is of.
    RestoreInPlace(RestoreInPlaceRun),
}

/// A run that protects a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupRun {
    /// The VM.
    pub vm_id: VmId,
    /// Its name when the run began.
    pub vm_name: String,
    /// Set when the point is committed.
    pub point_id: Option<PointId>,
}

/// A run that makes a new VM from a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreVmRun {
    /// The point.
    pub point_id: PointId,
    /// The name of the new VM.
    pub vm_name: String,
    /// The new VM, when it was created.
    pub vm_id: Option<VmId>,
}

/// A run that streams one disk of a point to an administrator's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportDiskRun {
    /// The point.
    pub point_id: PointId,
    /// The disk's device key.
    pub disk_key: i32,
    /// Where to read; set once the proxy is ready.
    pub access: Option<ExportAccess>,
}

/// A run that proves every byte of a point with the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyPointRun {
    /// The point.
    pub point_id: PointId,
    /// The name of its VM.
    pub vm_name: String,
    /// Bytes of disks that cannot be restored.
    pub damaged_bytes: u64,
    /// The chunks that they lie in.
    pub damaged_chunk_count: u64,
}

/// What the administrator's tool needs to read an export from a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportAccess {
    /// Names the export.
    pub export_id: ExportId,
    /// The proxy that serves it.
    pub proxy_node_id: NodeId,
    /// The proxy's `host:port`.
    pub address: String,
    /// Opens this one export and nothing else.
    pub ticket: Ticket,
}

/// How far one disk of a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunDisk {
    /// The device key.
    pub key: i32,
    /// The device label, such as `Hard disk 1`.
    pub label: String,
    /// Size of the disk.
    pub length_bytes: u64,
    /// Bytes dealt with, holes included, of `length_bytes`.
    pub done_bytes: u64,
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// Plain bytes that were not stored yet.
    pub new_bytes: u64,
    /// Bytes that went to the target.
    pub sent_bytes: u64,
    /// Bytes that are zeros.
    pub hole_bytes: u64,
    /// Chunks of the disk.
    pub chunk_count: u64,
    /// Chunks that were not stored yet.
    pub new_chunk_count: u64,
    /// How the disk is read or written; empty before that is decided.
    pub transport: String,
    /// The proxy that moves it; empty before that is decided.
    pub proxy_name: String,
    /// How it is read: `full`, `increment` or `compare`; of backups and restores in place only, once
    /// that is known.
    pub reading: String,
    /// Why all of it is read; empty for an increment.
    pub reading_reason: String,
    /// Why by that transport, and not by a better one; empty before that is decided.
    pub transport_reason: String,
}

/// Asks for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRunRequest {
    /// Makes the call idempotent.
    pub request_id: RequestId,
    /// What to run.
    pub kind: StartKind,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartKind {
    /// Protect a VM.
    Backup(StartBackup),
    /// Make a new VM from a point.
    RestoreVm(StartRestoreVm),
    /// Make a disk of a point readable.
    ExportDisk(StartExportDisk),
    /// Prove every byte of a point with the key.
    VerifyPoint(StartVerifyPoint),
    /// Write a point over the disks of the VM that it is of.
    RestoreInPlace(StartRestoreInPlace),
}

/// Asks to protect a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartBackup {
    /// Id, name or inventory path.
    pub vm: String,
    /// Disks to leave out, by device key.
    pub exclude_disk_keys: Vec<i32>,
    /// Whether every byte is read and held against the last point, whatever vSphere's change map says.
    pub full_read: bool,
    /// How consistent the point is to be, strongest first; what the guest can do when empty.
    pub quiesce: Vec<QuiesceRung>,
    /// Programs to run in the guest around the freeze, in order.
    pub hooks: Vec<Hook>,
    /// How long hooks may hold the guest before it releases itself; the usual time when zero.
    pub hook_budget_seconds: u32,
    /// By which ways disks may be read; by all that there are with none.
    pub ways: Vec<String>,
}

/// Asks for a new VM made from a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRestoreVm {
    /// The point.
    pub point_id: PointId,
    /// The name of the new VM.
    pub name: String,
    /// Id or name of the vCenter; the point's own when none.
    pub vcenter: Option<String>,
    /// Name of the datastore that gets the disks.
    pub datastore: String,
    /// Inventory path or name; the datacenter's VM folder when none.
    pub folder: Option<String>,
    /// Inventory path or name; the host's root pool when none.
    pub resource_pool: Option<String>,
    /// Name of the host; any that sees the datastore when none.
    pub host: Option<String>,
    /// Whether to power the VM on once it is whole.
    pub power_on: bool,
    /// Name or inventory path of the datacenter, where the datastore's name is in several.
    pub datacenter: Option<String>,
    /// Name or inventory path of the cluster that the host is to be in; any when none.
    pub cluster: Option<String>,
    /// Disks with a datastore of their own.
    pub disk_datastores: Vec<DiskDatastore>,
    /// Networks that are called otherwise there.
    pub networks: Vec<NetworkChange>,
    /// Who the VM is; new when none.
    pub identity: Option<RestoreIdentity>,
    /// How the space of its disks is taken; as at the source when none.
    pub provisioning: Option<DiskProvisioning>,
    /// Whether it is made a template in the end.
    pub template: bool,
}

/// Asks for a disk of a point to be made readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartExportDisk {
    /// The point.
    pub point_id: PointId,
    /// The disk's device key.
    pub disk_key: i32,
}

/// Asks to prove every byte of a point with the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartVerifyPoint {
    /// The point.
    pub point_id: PointId,
}

/// Asks for a page of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRunsRequest {
    /// At most this many; on receipt 1 to [`PAGE_SIZE_MAX`].
    pub page_size: u32,
    /// Where the last page ended.
    pub page_token: Option<String>,
}

/// A page of runs, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRunsResponse {
    /// The runs.
    pub runs: Vec<Run>,
    /// Asks for the next page; none on the last.
    pub next_page_token: Option<String>,
}

/// Whether a node can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeState {
    /// Heartbeats come.
    Online,
    /// No heartbeat for 30 seconds.
    Offline,
    /// Shut out for good.
    Removed,
}

/// A holder of a certificate of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Names the node.
    pub node_id: NodeId,
    /// What it may do.
    pub role: Role,
    /// The name it gave itself when it joined.
    pub name: String,
    /// `host:port` where it can be called; none for admins.
    pub address: Option<String>,
    /// Whether it can be called.
    pub state: NodeState,
    /// When it joined.
    pub joined_at: Timestamp,
    /// When it was heard of last.
    pub seen_at: Option<Timestamp>,
    /// When its newest certificate ends.
    pub certificate_expires_at: Timestamp,
    /// The version it runs, as far as it said.
    pub version: Option<String>,
    /// What it can do and does, as far as it said.
    pub load: Option<NodeLoad>,
    /// By which ways it reaches disks, as far as it said; of proxies only.
    pub reach: Option<ProxyReach>,
    /// Since when a proxy gets no new work; none while it gets some.
    pub draining_since: Option<Timestamp>,
}

/// By which ways a proxy can reach disks, besides those that every proxy has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyReach {
    /// What `config.uuid` of the VM that it runs in may be, likeliest first; empty when it attaches no
    /// disks to itself.
    pub vm_uuids: Vec<String>,
    /// The datastores that it has mounted, as its configuration calls them: by name or by url.
    pub datastores: Vec<String>,
    /// Whether it can start a command that serves a disk over NBD.
    pub nbd: bool,
}

/// What a node can do and does; the fields of the other role are zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeLoad {
    /// Transfers that a proxy takes at a time.
    pub transfer_slots: u32,
    /// Transfers that a proxy has.
    pub transfer_count: u32,
    /// Bytes that a repository may still take.
    pub writable_bytes: u64,
    /// Size of a repository's file system.
    pub capacity_bytes: u64,
    /// Bytes in a repository's packs.
    pub stored_bytes: u64,
}

/// Asks to become a node.
#[derive(Debug, Clone)]
pub struct JoinClusterRequest {
    /// The join token, proof of the right to join, once.
    pub token: SecretString,
    /// PKCS #10 request in DER; only its public key is taken.
    pub certificate_request: Bytes,
    /// The name that the node gives itself.
    pub name: String,
    /// `host:port` where it can be called; none for admins.
    pub address: Option<String>,
}

/// What a node gets when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinClusterResponse {
    /// Names the node.
    pub node_id: NodeId,
    /// Names the cluster.
    pub cluster_id: ClusterId,
    /// PEM: the node's certificate, then the authority's.
    pub certificate_chain: String,
    /// Ed25519 public key that grants are checked with.
    pub grant_key: [u8; 32],
}

/// A renewed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewCertificateResponse {
    /// PEM: the node's certificate, then the authority's.
    pub certificate_chain: String,
}

/// Says that a node lives and what it can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendHeartbeatRequest {
    /// `host:port` where the node can be called.
    pub address: String,
    /// The version it runs.
    pub version: String,
    /// What it can do and does.
    pub load: NodeLoad,
    /// By which ways it reaches disks; of proxies only.
    pub reach: Option<ProxyReach>,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendHeartbeatResponse {
    /// Wait this long before the next one.
    pub interval_seconds: u32,
}

/// A fresh join token.
#[derive(Debug, Clone)]
pub struct CreateTokenResponse {
    /// Shown once.
    pub token: SecretString,
    /// When it stops to be worth anything.
    pub expires_at: Timestamp,
}

/// What a restore point's content is worth to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// As after a power cut.
    Crash,
    /// File systems were flushed and held.
    FileSystem,
    /// Applications were brought to rest.
    Application,
    /// The VM was powered off.
    Offline,
}

/// A restore point as a repository keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Names the point.
    pub point_id: PointId,
    /// The VM it is of.
    pub vm_id: VmId,
    /// The VM's name at that moment.
    pub vm_name: String,
    /// The run that made it.
    pub run_id: RunId,
    /// The repository that keeps it.
    pub repository_name: String,
    /// When it began to exist, by the repository's trusted time.
    pub committed_at: Timestamp,
    /// Until when nobody can remove it.
    pub retain_until: Timestamp,
    /// What its content is worth to the guest.
    pub consistency: Consistency,
    /// Whether every disk of the VM that was not excluded by name is in the point.
    pub complete: bool,
    /// The disks in the point.
    pub disks: Vec<PointDisk>,
    /// Disks that are not in the point, and why.
    pub missing: Vec<String>,
    /// The last time that every byte was proved with the key; none when that was never done.
    pub verification: Option<PointVerification>,
}

/// What came of a run that proved every byte of a point with the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointVerification {
    /// The run.
    pub run_id: RunId,
    /// When it ended.
    pub verified_at: Timestamp,
    /// Bytes that cannot be restored; zero when everything can.
    pub damaged_bytes: u64,
}

/// One disk of a restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointDisk {
    /// The device key.
    pub key: i32,
    /// The device label.
    pub label: String,
    /// Size of the disk.
    pub length_bytes: u64,
    /// Id of the tree's top node: the same content has the same root.
    pub root: TreeId,
    /// Bytes read to make it.
    pub read_bytes: u64,
    /// Plain bytes that no earlier point held.
    pub new_bytes: u64,
    /// What the new bytes took when sealed.
    pub stored_bytes: u64,
    /// Bytes that are zeros.
    pub hole_bytes: u64,
    /// Chunks of the disk.
    pub chunk_count: u64,
    /// Chunks that no earlier point held.
    pub new_chunk_count: u64,
}

/// Why a point is called consistent, and how it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Facts, in the order in which they were found.
    pub lines: Vec<EvidenceLine>,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceLine {
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub value: String,
}

/// Asks for a page of points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPointsRequest {
    /// Id, name or inventory path of a VM; all when none.
    pub vm: Option<String>,
    /// At most this many; on receipt 1 to [`PAGE_SIZE_MAX`].
    pub page_size: u32,
    /// Where the last page ended.
    pub page_token: Option<String>,
}

/// A page of points, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPointsResponse {
    /// The points.
    pub points: Vec<Point>,
    /// Asks for the next page; none on the last.
    pub next_page_token: Option<String>,
}

/// A point with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetPointResponse {
    /// The point.
    pub point: Point,
    /// Why it is called consistent.
    pub evidence: Evidence,
    /// By disk; of points of releases that did not say, none.
    pub readings: Vec<DiskReading>,
    /// How the VM was frozen; none in points of releases that did not say.
    pub quiescence: Option<Quiescence>,
}

/// One rung of the quiesce ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuiesceRung {
    /// What is asked for.
    pub level: Consistency,
    /// How often it is tried; the usual number when zero.
    pub tries: u32,
    /// How many minutes the guest may take each time; 5 when zero.
    pub budget_minutes: u32,
}

/// How a VM was frozen, and what is proved of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiescence {
    /// What was asked for, strongest first.
    pub asked: Vec<Consistency>,
    /// What is proved.
    pub achieved: Consistency,
    /// Tries that failed, in order.
    pub tries: Vec<QuiesceTry>,
    /// What vSphere said of VMware Tools before the freeze.
    pub tools: String,
    /// Whether the snapshot says that the guest was quiesced.
    pub quiesced: bool,
    /// The writers that took part, of Windows.
    pub writers: Vec<QuiesceWriter>,
    /// How long the VM stood still.
    pub stun_micros: Option<u64>,
    /// How long vSphere took to make the snapshot.
    pub freeze_millis: Option<u64>,
    /// Whether the guest's own report is kept with the point.
    pub has_report: bool,
    /// What could not be read.
    pub remarks: Vec<String>,
    /// What came of each hook, in the order in which they ran.
    pub hooks: Vec<HookRun>,
    /// How the guest was released; none when no hook held it, or when nothing is known of that.
    pub hook_release: Option<HookRelease>,
}

/// A try at a rung that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuiesceTry {
    /// What was tried.
    pub level: Consistency,
    /// Why it failed.
    pub problem: String,
}

/// A writer of a shadow copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuiesceWriter {
    /// Its name.
    pub name: String,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// Its components in the backup.
    pub component_count: u32,
}

/// How a disk of a point was read, and how far vSphere's change map of it can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskReading {
    /// The disk.
    pub disk_key: i32,
    /// `full`, `increment` or `compare`.
    pub how: String,
    /// Why all of it was read; empty for an increment.
    pub reason: String,
    /// What was odd about the map, or why there was none.
    pub remarks: Vec<String>,
    /// The point that it was built upon or held against.
    pub base_point_id: Option<PointId>,
    /// Bytes that the map named, if one was asked for.
    pub changed_bytes: Option<u64>,
    /// Bytes that the map calls unchanged and that were compared.
    pub compared_bytes: u64,
    /// Bytes of these that had changed.
    pub lie_bytes: u64,
    /// When every byte of the disk was read last.
    pub checked_at: Timestamp,
    /// Points since then.
    pub points_since: u32,
    /// How often the map was found to be wrong.
    pub lie_count: u32,
    /// When last.
    pub last_lie_at: Option<Timestamp>,
}

/// A VM in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSummary {
    /// Names the VM.
    pub vm_id: VmId,
    /// Its name, which others may have too.
    pub name: String,
    /// Inventory path, such as `/DC0/vm/web/frontend`.
    pub path: String,
    /// The vCenter that knows it.
    pub vcenter_name: String,
    /// `poweredOn`, `poweredOff` or `suspended`.
    pub power: String,
    /// Whether vSphere tracks changed blocks.
    pub change_tracking: bool,
    /// How many disks it has.
    pub disk_count: u32,
}

/// A VM, read afresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// What the list tells.
    pub summary: VmSummary,
    /// The guest operating system, as vSphere names it.
    pub guest_id: String,
    /// The state of VMware Tools.
    pub tools: String,
    /// Its disks.
    pub disks: Vec<VmDisk>,
    /// Its vSphere snapshots.
    pub snapshots: Vec<VmSnapshot>,
}

/// A disk of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmDisk {
    /// The device key.
    pub key: i32,
    /// The device label.
    pub label: String,
    /// Size of the disk.
    pub capacity_bytes: u64,
    /// The backing file on its datastore.
    pub file: String,
    /// Why no snapshot can freeze this disk; none when one can.
    pub unprotectable: Option<String>,
}

/// A vSphere snapshot of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSnapshot {
    /// Its name.
    pub name: String,
    /// When it was made, as vSphere says it.
    pub created_at: String,
    /// Whether it carries a lease of this cluster.
    pub ours: bool,
}

/// A registered vCenter or stand-alone host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vcenter {
    /// Names the vCenter.
    pub vcenter_id: VcenterId,
    /// The name it was registered under.
    pub name: String,
    /// `host` or `host:port`.
    pub address: String,
    /// The account that is used.
    pub username: String,
    /// How its certificate is checked.
    pub trust: VcenterTrust,
    /// What it says of itself; none while it was not reached.
    pub about: Option<VcenterAbout>,
}

/// How a vCenter's certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VcenterTrust {
    /// PEM of the certificate authority.
    CaPem(Bytes),
    /// SHA-256 of the server's certificate.
    CertificateSha256([u8; 32]),
}

/// What a vCenter says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VcenterAbout {
    /// Product, version and build.
    pub full_name: String,
    /// The version of its interface.
    pub api_version: String,
    /// Its own id; empty for a stand-alone host.
    pub instance_uuid: String,
}

/// Asks to register a vCenter.
#[derive(Debug, Clone)]
pub struct AddVcenterRequest {
    /// Makes the call idempotent.
    pub request_id: RequestId,
    /// The name to register it under.
    pub name: String,
    /// `host` or `host:port`.
    pub address: String,
    /// The account to use.
    pub username: String,
    /// The account's password, sealed on receipt and never told again.
    pub password: SecretString,
    /// How to check its certificate.
    pub trust: VcenterTrust,
}

/// A vCenter after a fresh login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestVcenterResponse {
    /// The vCenter.
    pub vcenter: Vcenter,
    /// How many VMs the account sees.
    pub vm_count: u32,
}

/// The certificate that an address presents. Nothing is trusted by showing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeVcenterResponse {
    /// SHA-256 of the certificate.
    pub certificate_sha256: [u8; 32],
    /// The certificate in PEM.
    pub certificate_pem: String,
    /// Whom it names.
    pub subject: String,
    /// Until when it is valid.
    pub not_after: String,
}
