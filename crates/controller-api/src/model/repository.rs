//! Repositories, what they protect, and the signatures that may change it.

use bytes::Bytes;
use jiff::Timestamp;
use stillwater_types::{Fault, NodeId, PointId};

/// Most bytes of a statement.
pub const STATEMENT_BYTES_MAX: usize = 512;

/// What is protected, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryRetention {
    /// For how long every new point is locked: the longer one of the next two.
    pub floor_seconds: u64,
    /// As the configuration has it.
    pub configured_floor_seconds: u64,
    /// As administrators of the repository demanded; zero if they did not.
    pub demanded_floor_seconds: u64,
    /// The time that locks are reckoned in.
    pub trusted_time: Timestamp,
    /// The wall clock.
    pub wall_time: Timestamp,
    /// Why nothing is deleted now, in words; empty when deletions go through.
    pub frozen: String,
    /// Who may sign.
    pub admins: Vec<RepositoryAdmin>,
    /// Statements that have not taken effect.
    pub waiting: Vec<WaitingStatement>,
}

/// An administrator of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryAdmin {
    /// Ed25519.
    pub key: [u8; 32],
    /// A name for people.
    pub label: String,
    /// When it was accepted.
    pub since: Timestamp,
}

/// What became of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementState {
    /// It lacks a signature or its delay is not over.
    Waiting,
    /// It took effect.
    Done,
    /// It was dropped.
    Vetoed,
}

/// A statement that has not taken effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingStatement {
    /// Names it.
    pub statement_id: [u8; 16],
    /// What it demands, in words.
    pub demand: String,
    /// The keys that signed it.
    pub signers: Vec<[u8; 32]>,
    /// How many it needs.
    pub needed_signer_count: u32,
    /// When it takes effect unless it is vetoed; none while a signature is missing.
    pub effective_at: Option<Timestamp>,
}

/// Hands in a statement with one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitStatementRequest {
    /// The repository that it is for.
    pub node_id: NodeId,
    /// The statement, at most [`STATEMENT_BYTES_MAX`].
    pub statement: Bytes,
    /// Whose signature.
    pub key: [u8; 32],
    /// Ed25519 over the statement.
    pub signature: [u8; 64],
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitStatementResponse {
    /// How it stands.
    pub state: StatementState,
    /// Only while it waits.
    pub waiting: Option<WaitingStatement>,
}

/// Locks a point for longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockPointRequest {
    /// The point.
    pub point_id: PointId,
    /// Until when.
    pub until: Timestamp,
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Names its node.
    pub node_id: NodeId,
    /// What the node is called.
    pub name: String,
    /// host:port
    pub address: String,
    /// Whether it was heard of lately.
    pub online: bool,
    /// What it told of itself; none when it could not be asked.
    pub usage: Option<RepositoryUsage>,
    /// Why it could not be asked.
    pub fault: Option<Fault>,
}

/// What a repository holds, has left, and how sound it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepositoryUsage {
    /// Bytes that packs may still take.
    pub writable_bytes: u64,
    /// Size of the file system.
    pub capacity_bytes: u64,
    /// Bytes in packs.
    pub stored_bytes: u64,
    /// Chunks.
    pub chunk_count: u64,
    /// Restore points.
    pub point_count: u64,
    /// The version of the on-disk format.
    pub format_version: u32,
    /// Since when every byte was re-read and fitted its hash; none until that is so for all of them.
    pub verified_since: Option<Timestamp>,
    /// Bytes of packs that were not re-read within the configured period.
    pub overdue_bytes: u64,
    /// Packs that were set aside as damaged.
    pub damaged_pack_count: u64,
    /// Records that are needed and of which no sound copy is left.
    pub lost_record_count: u64,
    /// Points that reach a lost record, at most 1000.
    pub degraded_point_ids: Vec<PointId>,
    /// How many there are.
    pub degraded_point_count: u64,
    /// Bytes of packs that are condemned.
    pub condemned_bytes: u64,
    /// Bytes of packs in quarantine.
    pub quarantined_bytes: u64,
    /// When the last cycle of garbage collection ended.
    pub collected_at: Option<Timestamp>,
    /// Why that cycle condemned nothing, in words; empty when nothing was held back.
    pub held: String,
}

/// A repository, asked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetRepositoryResponse {
    /// The repository.
    pub repository: Repository,
    /// What it protects.
    pub retention: RepositoryRetention,
}
