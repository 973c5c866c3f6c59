//! The repository's messages as the rest of the product sees them.
//!
//! One type per message, with the message's field names. What arrives is checked once, on receipt;
//! whoever holds one of these types holds whole ids, times and hashes within the stated bounds.

use bytes::Bytes;
use jiff::Timestamp;
use stillwater_types::{DatasetId, NodeId, PackId, PointId, RunId};

mod upkeep;

pub use upkeep::*;

/// Most ids that [`FindRecordsRequest`] carries.
pub const FIND_IDS_MAX: usize = 4096;

/// Most ids that [`ReadRecordsRequest`] carries.
pub const READ_IDS_MAX: usize = 1024;

/// Most bytes of a manifest.
pub const MANIFEST_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Most bytes of a wrapped dataset key.
pub const WRAPPED_KEY_BYTES_MAX: usize = 1024;

/// Most bytes of a grant; one has a few hundred.
pub const GRANT_BYTES_MAX: usize = 4096;

/// Most bytes of one message, a pack's batches included.
pub const MESSAGE_BYTES_MAX: usize = stillwater_rpc::MESSAGE_BYTES_MAX;

/// Most entries that one page of a list can have, and how many it has when the caller does not say.
pub const PAGE_SIZE_MAX: u32 = 1000;

/// Chunks that share a key and deduplicate together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Names the dataset.
    pub dataset_id: DatasetId,
    /// A name for people.
    pub label: String,
    /// The dataset key wrapped for the recovery key, at most [`WRAPPED_KEY_BYTES_MAX`].
    pub wrapped_key: Bytes,
}

/// A committed restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Names the point.
    pub point_id: PointId,
    /// The dataset of its chunks.
    pub dataset_id: DatasetId,
    /// The run that made it.
    pub run_id: RunId,
    /// The commit log's sequence number.
    pub sequence: u64,
    /// The repository's trusted time at commit.
    pub committed_at: Timestamp,
    /// Until when it cannot be removed; only ever moves to later.
    pub retain_until: Timestamp,
    /// BLAKE3 of the manifest.
    pub manifest_hash: [u8; 32],
}

/// Asks to store a manifest and to check what it reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposePointRequest {
    /// The run.
    pub run_id: RunId,
    /// The session's fencing token.
    pub fence: u64,
    /// The manifest, at most [`MANIFEST_BYTES_MAX`].
    pub manifest: Bytes,
}

/// A proposal that can be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProposePointResponse {
    /// BLAKE3 of the manifest.
    pub manifest_hash: [u8; 32],
    /// Chunks and nodes that the closure check had to walk.
    pub walked_count: u64,
}

/// Asks to make a proposal a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitPointRequest {
    /// The run.
    pub run_id: RunId,
    /// The session's fencing token.
    pub fence: u64,
    /// The point that the manifest names.
    pub point_id: PointId,
}

/// Asks for a page of points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPointsRequest {
    /// At most this many; on receipt 1 to [`PAGE_SIZE_MAX`].
    pub page_size: u32,
    /// Where the last page ended.
    pub page_token: Option<String>,
}

/// A page of points, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPointsResponse {
    /// The points.
    pub points: Vec<Point>,
    /// Asks for the next page; none on the last.
    pub next_page_token: Option<String>,
}

/// A point with its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetPointResponse {
    /// The point.
    pub point: Point,
    /// Its manifest.
    pub manifest: Bytes,
}

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// A sealed chunk.
    Chunk,
    /// A node of a disk's tree.
    Node,
}

/// How a chunk was made smaller before it was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    Raw,
    /// By zstd.
    Zstd,
}

/// Who asks: a grant that the controller signed, and the session it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The signed grant.
    pub grant: Bytes,
    /// The run.
    pub run_id: RunId,
    /// The session's fencing token.
    pub fence: u64,
}

/// Asks which ids are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindRecordsRequest {
    /// Who asks.
    pub authority: Authority,
    /// What the ids name.
    pub record_type: RecordType,
    /// The ids, at most [`FIND_IDS_MAX`].
    pub ids: Vec<[u8; 32]>,
}

/// Which ids are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindRecordsResponse {
    /// One answer for each id asked, in that order.
    pub found: Vec<bool>,
}

/// Opens a pack's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackHeader {
    /// Who stores.
    pub authority: Authority,
    /// The dataset.
    pub dataset_id: DatasetId,
    /// The salt under which every chunk of this pack is sealed.
    pub salt: [u8; 32],
}

/// One message of a pack after its header: batches, then a finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackPart {
    /// Records in the order in which they were sealed.
    Batch(RecordBatch),
    /// Ends the stream; nothing follows it.
    Finish(PackFinish),
}

/// Records in the order in which they were sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordBatch {
    /// The records.
    pub records: Vec<Record>,
}

/// A sealed chunk or a tree node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub record_type: RecordType,
    /// How it was made smaller.
    pub codec: Codec,
    /// The record counter that made the nonce; zero for nodes.
    pub counter: u32,
    /// Length of the plain bytes.
    pub plain_bytes: u32,
    /// Chunk id or tree id.
    pub id: [u8; 32],
    /// First 16 bytes of the BLAKE3 of `stored`.
    pub stored_hash: [u8; 16],
    /// The bytes as they are kept.
    pub stored: Bytes,
}

/// Ends a pack's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackFinish {
    /// How many records were sent.
    pub record_count: u32,
}

/// A pack of which every record is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutPackResponse {
    /// Names the pack.
    pub pack_id: PackId,
    /// Bytes that it took.
    pub stored_bytes: u64,
    /// Records that were stored already and therefore left out.
    pub known_count: u32,
}

/// Asks for records by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecordsRequest {
    /// Who asks.
    pub authority: Authority,
    /// What the ids name.
    pub record_type: RecordType,
    /// The ids, at most [`READ_IDS_MAX`].
    pub ids: Vec<[u8; 32]>,
}

/// Some of the records asked for; all answers together are in the order asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecordsResponse {
    /// The records.
    pub records: Vec<SaltedRecord>,
}

/// A record with what it was sealed under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaltedRecord {
    /// The record.
    pub record: Record,
    /// The salt of a chunk; none for nodes.
    pub salt: Option<[u8; 32]>,
}

/// The repository as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its node.
    pub node_id: NodeId,
    /// Bytes that packs may still take.
    pub writable_bytes: u64,
    /// Size of the file system.
    pub capacity_bytes: u64,
    /// Bytes in packs.
    pub stored_bytes: u64,
    /// Chunks in packs.
    pub chunk_count: u64,
    /// Committed points.
    pub point_count: u64,
    /// The version of the on-disk format.
    pub format_version: u32,
    /// How sound it is.
    pub health: Health,
}

/// A run's claim on the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The run.
    pub run_id: RunId,
    /// The dataset that it writes.
    pub dataset_id: DatasetId,
    /// The fencing token: grows with every session that the repository opens.
    pub fence: u64,
    /// When the claim ends unless it is renewed.
    pub expires_at: Timestamp,
}

/// Asks for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSessionRequest {
    /// The run.
    pub run_id: RunId,
    /// The dataset that it writes.
    pub dataset_id: DatasetId,
    /// Bytes that the run may store at most, as far as known.
    pub expected_bytes: u64,
}

/// Asks to move the end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewSessionRequest {
    /// The run.
    pub run_id: RunId,
    /// The session's fencing token.
    pub fence: u64,
}

/// Asks to end a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseSessionRequest {
    /// The run.
    pub run_id: RunId,
    /// The session's fencing token.
    pub fence: u64,
}
