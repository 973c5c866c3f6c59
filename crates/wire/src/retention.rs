//! What a repository protects from everyone, and the signatures that may change it.
//!
//! Passed on by the controller as it is: one domain type for both protocols.

use jiff::Timestamp;
use stillwater_types::PointId;

/// Most bytes of a statement.
pub const STATEMENT_BYTES_MAX: usize = 512;

/// What is protected, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
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
