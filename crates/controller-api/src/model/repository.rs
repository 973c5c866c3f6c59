//! Repositories, and what is asked of them.

use bytes::Bytes;
use stillwater_types::{Fault, NodeId, PointId, TaskId};

pub use stillwater_wire::retention::*;
pub use stillwater_wire::upkeep::*;

/// Asks for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartTaskRequest {
    /// Names it; the same id is the same task.
    pub task_id: TaskId,
    /// What it shall do.
    pub kind: TaskKind,
    /// The repository; for a verification the one that keeps the point if none is named.
    pub node_id: Option<NodeId>,
    /// The point to verify.
    pub point_id: Option<PointId>,
    /// Whether a scrub re-reads what is not due as well.
    pub all: bool,
}

/// A task that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartTaskResponse {
    /// The task.
    pub task: Task,
    /// The repository that runs it.
    pub node_id: NodeId,
}

/// Names a task of a repository, to watch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchTaskRequest {
    /// The repository.
    pub node_id: NodeId,
    /// The task.
    pub task_id: TaskId,
}

/// Names a task of a repository, to stop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancelTaskRequest {
    /// The repository.
    pub node_id: NodeId,
    /// The task.
    pub task_id: TaskId,
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
    /// How sound it is.
    pub health: Health,
}

/// A repository, asked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetRepositoryResponse {
    /// The repository.
    pub repository: Repository,
    /// What it protects.
    pub retention: Retention,
}
