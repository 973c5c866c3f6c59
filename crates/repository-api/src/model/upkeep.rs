//! Tasks that keep the repository sound.

use bytes::Bytes;
use stillwater_types::{PointId, TaskId};

pub use stillwater_wire::retention::*;
pub use stillwater_wire::upkeep::*;

/// Asks for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartTaskRequest {
    /// Names it; the same id is the same task.
    pub task_id: TaskId,
    /// What it shall do.
    pub kind: TaskKind,
    /// The point to verify.
    pub point_id: Option<PointId>,
    /// Whether a scrub re-reads what is not due as well.
    pub all: bool,
}

/// Hands in a statement with one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitStatementRequest {
    /// The statement, at most [`STATEMENT_BYTES_MAX`].
    pub statement: Bytes,
    /// Whose signature.
    pub key: [u8; 32],
    /// Ed25519 over the statement.
    pub signature: [u8; 64],
}
