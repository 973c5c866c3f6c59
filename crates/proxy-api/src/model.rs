//! The proxy's messages as the rest of the product sees them.
//!
//! One type per message, with the message's field names. What arrives is checked once, on receipt;
//! whoever holds one of these types holds whole ids, hashes and ordered areas.

use bytes::Bytes;
use secrecy::SecretString;
use stillwater_types::{
    DatasetId, ExportId, Extent, ExtentSet, Fault, NodeId, RunId, TransferId, TreeId,
};

use crate::{DatasetKey, Ticket};

/// Most bytes that one [`ReadExportRangeRequest`] asks for.
pub const EXPORT_RANGE_BYTES_MAX: u32 = 32 << 20;

/// Most bytes that one [`ExportData`] carries.
pub const EXPORT_DATA_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of a grant; one has a few hundred.
pub const GRANT_BYTES_MAX: usize = 4096;

/// Most bytes of a certificate authority's PEM.
pub const CA_PEM_BYTES_MAX: usize = 64 * 1024;

/// Most ranges that [`TransferFindings`] names.
pub const LIES_MAX: usize = 64;

/// Most ranges of damage that [`TransferFindings`] names.
pub const DAMAGED_AREAS_MAX: usize = 64;

/// Most ways to one disk.
pub const SOURCES_MAX: usize = 8;

/// Most tickets for one disk.
pub const TICKETS_MAX: usize = 8;

/// Longest time that a probe may read.
pub const PROBE_MILLIS_MAX: u32 = 60_000;

/// Most bytes of one message.
pub const MESSAGE_BYTES_MAX: usize = stillwater_rpc::MESSAGE_BYTES_MAX;

/// Where a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransferState {
    /// At work.
    Running,
    /// Done.
    Succeeded,
    /// Stopped by a fault.
    Failed,
    /// Stopped because the controller asked.
    Cancelled,
}

impl TransferState {
    /// Whether nothing will change any more.
    pub const fn is_final(self) -> bool {
        match self {
            TransferState::Running => false,
            TransferState::Succeeded | TransferState::Failed | TransferState::Cancelled => true,
        }
    }
}

/// One disk moved once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Names the transfer.
    pub transfer_id: TransferId,
    /// Where it stands.
    pub state: TransferState,
    /// How far it is.
    pub progress: TransferProgress,
    /// The root of what was stored, verified or written in place; not of a restore, and only of what
    /// succeeded.
    pub root: Option<DiskRoot>,
    /// Why it failed; only when failed.
    pub fault: Option<Fault>,
    /// What was found out; not by a restore, and only of what succeeded.
    pub findings: Option<TransferFindings>,
}

/// What a transfer found out: a backup by reading more than the change map asked for, a verification
/// by proving every byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferFindings {
    /// Bytes that the map calls unchanged, read and compared with the base. Of a rewrite: bytes of the
    /// disk that were read and compared with the stored one.
    pub compared_bytes: u64,
    /// Bytes of these whose content is not the base's: the map lied. All of them are in the new tree.
    pub lie_bytes: u64,
    /// The first [`LIES_MAX`] ranges of them.
    pub lies: Vec<Extent>,
    /// Whether the whole disk was compared, because it was asked for or because a sample found a lie.
    pub compared_all: bool,
    /// Why a source was given up, in order: the disk was read on by the next.
    pub fallbacks: Vec<Fault>,
    /// Which of the sources finished the disk.
    pub source_index: u32,
    /// Chunks of the base that are not in the new tree. What was shared is not counted in the
    /// progress's `chunk_count` and `hole_bytes`; with these, the counts of the whole disk follow.
    pub replaced_chunk_count: u64,
    /// Holes of the base that are not in the new tree, in bytes.
    pub replaced_hole_bytes: u64,
    /// Bytes of the disk that a verification could not prove.
    pub damaged_bytes: u64,
    /// The chunks that they lie in.
    pub damaged_chunk_count: u64,
    /// The first [`DAMAGED_AREAS_MAX`] ranges of them.
    pub damage: Vec<DamagedArea>,
}

/// A part of a stored disk that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedArea {
    /// Where it lies on the disk.
    pub area: Extent,
    /// What is wrong with it.
    pub fault: Fault,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransferProgress {
    /// Bytes of the disk that are dealt with, holes included, of `length_bytes`.
    pub done_bytes: u64,
    /// Size of the disk.
    pub length_bytes: u64,
    /// Bytes read from the source disk or from the repository.
    pub read_bytes: u64,
    /// Plain bytes of chunks that were not stored yet.
    pub new_bytes: u64,
    /// Sealed bytes that went to the repository, or bytes written to the target disk.
    pub sent_bytes: u64,
    /// Chunks of the disk.
    pub chunk_count: u64,
    /// Chunks that were not stored yet.
    pub new_chunk_count: u64,
    /// Bytes that are zeros.
    pub hole_bytes: u64,
}

/// The tree that is one disk at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRoot {
    /// Size of the disk.
    pub length_bytes: u64,
    /// The cutter's name and parameters as the format writes them.
    pub cutter: String,
    /// Id of the top node.
    pub top: TreeId,
    /// How many levels of nodes lie below the top node.
    pub level: u32,
}

/// Where chunks go to or come from, and with what right.
#[derive(Debug, Clone)]
pub struct Store {
    /// The repository's node.
    pub repository_node_id: NodeId,
    /// Its `host:port`.
    pub address: String,
    /// The dataset.
    pub dataset_id: DatasetId,
    /// The dataset's key, kept in memory for this transfer only.
    pub dataset_key: DatasetKey,
    /// The signed grant.
    pub grant: Bytes,
    /// The run that it is for.
    pub run_id: RunId,
    /// The session's fencing token.
    pub fence: u64,
}

/// A disk behind a datastore's HTTPS folder.
#[derive(Debug, Clone)]
pub struct FolderDisk {
    /// `host:port` of the vCenter or host.
    pub address: String,
    /// The session cookie of this run's own data session.
    pub cookie: SecretString,
    /// How the server's certificate is checked.
    pub trust: FolderTrust,
    /// Inventory path of the datacenter.
    pub datacenter: String,
    /// Such as `[datastore1] web/web.vmdk`.
    pub path: String,
}

/// How the certificate of a [`FolderDisk`]'s server is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderTrust {
    /// PEM of the certificate authority.
    CaPem(Bytes),
    /// SHA-256 of the server's certificate.
    CertificateSha256([u8; 32]),
}

/// A disk behind the NFC service of an ESXi host.
#[derive(Debug, Clone)]
pub struct NfcDisk {
    /// The host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// One ticket's session id per connection, best first: each opens one connection once.
    pub session_ids: Vec<SecretString>,
    /// How the host's certificate is checked.
    pub check: NfcCheck,
    /// Such as `vpxa-nfc`.
    pub service: String,
    /// Such as `[datastore1] web/web.vmdk`.
    pub path: String,
    /// What this disk may have in flight of its host's memory; 0 leaves it to the proxy.
    pub in_flight_bytes: u64,
}

/// How the certificate of an [`NfcDisk`]'s host is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NfcCheck {
    /// SHA-1 of the certificate, as the ticket tells it.
    CertificateSha1([u8; 20]),
    /// The certificate.
    CertificateDer(Bytes),
}

/// A disk that was attached to the proxy's own VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotAddDisk {
    /// PCI slot number of the adapter, as vSphere tells it.
    pub pci_slot: u32,
    /// The unit on that adapter.
    pub unit: u32,
    /// UUID of the disk's backing, if vSphere told one.
    pub disk_uuid: Option<String>,
    /// What it is called in faults, such as `[datastore1] web/web.vmdk`.
    pub path: String,
}

/// A disk in a datastore that the proxy has mounted; where is the proxy's own configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDisk {
    /// The datastore's name.
    pub datastore: String,
    /// Relative to the datastore, such as `web/web.vmdk`.
    pub path: String,
}

/// A disk behind a network block device server that the proxy starts: a command of its own
/// configuration.
#[derive(Debug, Clone)]
pub struct NbdDisk {
    /// Managed object reference of the VM.
    pub vm: String,
    /// Managed object reference of the snapshot.
    pub snapshot: String,
    /// Such as `[datastore1] web/web.vmdk`.
    pub path: String,
    /// The vCenter and a session of its own.
    pub server: FolderDisk,
}

/// A virtual disk and how to reach it.
#[derive(Debug, Clone)]
pub enum Disk {
    /// Through a datastore's HTTPS folder.
    Folder(FolderDisk),
    /// Through an ESXi host's NFC service.
    Nfc(NfcDisk),
    /// Attached to the proxy's own VM.
    HotAdd(HotAddDisk),
    /// A file of a mounted datastore.
    File(FileDisk),
    /// Through a network block device server.
    Nbd(NbdDisk),
}

/// Reads a frozen disk into the repository.
#[derive(Debug, Clone)]
pub struct Backup {
    /// Ways to the same frozen disk, best first, one at least; the next is taken where one fails,
    /// and goes on there.
    pub sources: Vec<Disk>,
    /// Its size.
    pub length_bytes: u64,
    /// What of it to read.
    pub reading: Reading,
}

/// What of a disk is read, and what it is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Without an earlier tree.
    Full {
        /// The areas to read; what lies between is taken to be zeros. None: the whole disk is read.
        areas: Option<ExtentSet>,
    },
    /// What changed since the base; the rest is shared unread.
    Increment {
        /// The disk as the last committed point has it; not longer than the disk is now.
        base: DiskRoot,
        /// What changed, as the map says.
        changed: ExtentSet,
        /// How much of what the map calls unchanged is read all the same and compared.
        sample_bytes: u64,
        /// Chooses the sample.
        sample_seed: u64,
    },
    /// Everything; the chunks of the base that are still right are kept.
    Compare {
        /// The disk as the last committed point has it.
        base: DiskRoot,
        /// What the map calls changed; a difference elsewhere is a lie of the map. None: no map was
        /// asked, and no difference is a lie.
        changed: Option<ExtentSet>,
    },
}

/// Writes a stored disk to a new, empty one.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The stored disk.
    pub root: DiskRoot,
    /// The new disk.
    pub target: Disk,
}

/// Has a disk that has content become the stored one: only the blocks in which the two differ are
/// written. The VM is off, and no snapshot froze the disk.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// The stored disk.
    pub root: DiskRoot,
    /// The disk; not one behind a folder, for that replaces whole files.
    pub target: Disk,
    /// What is known of the disk; nothing: all of it is read and compared.
    pub known: Option<Known>,
}

/// What is known of a disk that is to be written in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The disk as another point has it, of the same dataset.
    pub base: DiskRoot,
    /// What may have changed since that point.
    pub changed: ExtentSet,
}

/// Reads every chunk of a stored disk, opens it and holds it against its id, and proves the disk's
/// tree. Damage does not fail the transfer: everything else is proved all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// The stored disk.
    pub root: DiskRoot,
}

/// What a transfer does.
#[derive(Debug, Clone)]
pub enum Work {
    /// Reads a frozen disk into the repository.
    Backup(Backup),
    /// Writes a stored disk to a new one.
    Restore(Restore),
    /// Proves a stored disk.
    Verify(Verify),
    /// Writes a stored disk over one that has content.
    Rewrite(Rewrite),
}

/// Asks for a transfer.
#[derive(Debug, Clone)]
pub struct StartTransferRequest {
    /// Names the transfer, and makes the call idempotent.
    pub transfer_id: TransferId,
    /// The repository's end.
    pub store: Store,
    /// What to do.
    pub work: Work,
}

/// Asks how fast a way to a frozen disk is.
#[derive(Debug, Clone)]
pub struct ProbeDiskRequest {
    /// The disk and the way to it.
    pub disk: Disk,
    /// Its size.
    pub length_bytes: u64,
    /// What to read, in order.
    pub areas: ExtentSet,
    /// No request is begun after this, at most [`PROBE_MILLIS_MAX`].
    pub limit_millis: u32,
}

/// How fast a way to a frozen disk is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProbeDiskResponse {
    /// Bytes that were read; zero when there was nothing to read.
    pub read_bytes: u64,
    /// From the first request to the last answer.
    pub elapsed_micros: u64,
    /// Until the disk was open.
    pub open_micros: u64,
    /// How long one request took that was sent while no other was under way.
    pub latency_median_micros: u64,
    /// The same of the slowest in a hundred.
    pub latency_p99_micros: u64,
}

/// Asks to make a stored disk readable for an administrator.
#[derive(Debug, Clone)]
pub struct OpenExportRequest {
    /// Names the export, and makes the call idempotent.
    pub export_id: ExportId,
    /// The repository's end.
    pub store: Store,
    /// The stored disk.
    pub root: DiskRoot,
    /// What the reader must show.
    pub ticket: Ticket,
}

/// Asks for an export's bytes.
#[derive(Debug, Clone)]
pub struct ReadExportRequest {
    /// The export.
    pub export_id: ExportId,
    /// The right to read it.
    pub ticket: Ticket,
}

/// Asks for a part of an export's bytes.
#[derive(Debug, Clone)]
pub struct ReadExportRangeRequest {
    /// The export.
    pub export_id: ExportId,
    /// The right to read it.
    pub ticket: Ticket,
    /// Where the part begins.
    pub offset_bytes: u64,
    /// How long it is, at most [`EXPORT_RANGE_BYTES_MAX`] unless only areas are asked for; zero tells that the
    /// reader is still there.
    pub length_bytes: u32,
    /// To be told where data is instead of the data.
    pub areas_only: bool,
}

/// A message of a part: data in ascending order, then a finish. What is skipped is zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportRangePart {
    /// Bytes that are not zeros.
    Data(ExportData),
    /// Where such bytes are, of an answer that has none.
    Area(ExportArea),
    /// Ends the part.
    Finish(ExportFinish),
}

/// Bytes of the disk that are not known to be zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportArea {
    /// Where they begin.
    pub offset_bytes: u64,
    /// How many they are.
    pub length_bytes: u64,
}

/// Tells that the reader of parts has all that it wanted.
#[derive(Debug, Clone)]
pub struct FinishExportRequest {
    /// The export.
    pub export_id: ExportId,
    /// The right to read it.
    pub ticket: Ticket,
}

/// One message of an export: a header, then data in ascending order, then a finish.
///
/// A stream without a finish is not the whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportPart {
    /// Opens the stream.
    Header(ExportHeader),
    /// Bytes that are not zeros.
    Data(ExportData),
    /// Ends the stream.
    Finish(ExportFinish),
}

/// Opens an export's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportHeader {
    /// Size of the disk.
    pub length_bytes: u64,
}

/// Bytes of the disk; what is skipped between two of these is zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportData {
    /// Where the bytes begin.
    pub offset_bytes: u64,
    /// The bytes, at most [`EXPORT_DATA_BYTES_MAX`].
    pub data: Bytes,
}

/// Ends an export's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportFinish {
    /// Bytes that were sent as data.
    pub data_bytes: u64,
}

/// An export that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenExportResponse {
    /// Whether a reader got the finish: the disk was read to its end.
    pub completed: bool,
    /// Whether a reader has its stream open now.
    pub reading: bool,
}

/// An export that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseExportResponse {
    /// Whether a reader got the finish; false when the export is not known.
    pub completed: bool,
}
