//! The proxy's messages as the rest of the product sees them.
//!
//! One type per message, with the message's field names. What arrives is checked once, on receipt;
//! whoever holds one of these types holds whole ids, hashes and ordered areas.

use bytes::Bytes;
use secrecy::SecretString;
use stillwater_types::{DatasetId, ExportId, ExtentSet, Fault, NodeId, RunId, TransferId, TreeId};

use crate::{DatasetKey, Ticket};

/// Most bytes that one [`ExportData`] carries.
pub const EXPORT_DATA_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of a grant; one has a few hundred.
pub const GRANT_BYTES_MAX: usize = 4096;

/// Most bytes of a certificate authority's PEM.
pub const CA_PEM_BYTES_MAX: usize = 64 * 1024;

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
    /// The root of what was stored; only of a backup that succeeded.
    pub root: Option<DiskRoot>,
    /// Why it failed; only when failed.
    pub fault: Option<Fault>,
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

/// A virtual disk and how to reach it.
#[derive(Debug, Clone)]
pub enum Disk {
    /// Through a datastore's HTTPS folder.
    Folder(FolderDisk),
}

/// Reads a frozen disk into the repository.
#[derive(Debug, Clone)]
pub struct Backup {
    /// The frozen disk.
    pub source: Disk,
    /// Its size.
    pub length_bytes: u64,
    /// The areas to read; what lies between is taken to be zeros. None: the whole disk is read.
    pub areas: Option<ExtentSet>,
}

/// Writes a stored disk to a new, empty one.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The stored disk.
    pub root: DiskRoot,
    /// The new disk.
    pub target: Disk,
}

/// What a transfer does.
#[derive(Debug, Clone)]
pub enum Work {
    /// Reads a frozen disk into the repository.
    Backup(Backup),
    /// Writes a stored disk to a new one.
    Restore(Restore),
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
