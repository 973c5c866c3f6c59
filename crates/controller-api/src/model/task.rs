//! Tasks that keep a repository sound, and what they find.

use jiff::Timestamp;
use stillwater_types::{Fault, NodeId, PointId, TaskId};

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskKind {
    /// Re-reads packs.
    Scrub,
    /// Goes through one cycle of garbage collection.
    Collect,
    /// Re-reads every byte of one point.
    Verify,
}

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// It works.
    Running,
    /// It went through; what it found may still be bad.
    Succeeded,
    /// It could not go through.
    Failed,
    /// It was asked to stop.
    Cancelled,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Names it.
    pub task_id: TaskId,
    /// What it does.
    pub kind: TaskKind,
    /// The point, of a verification.
    pub point_id: Option<PointId>,
    /// How it stands.
    pub state: TaskState,
    /// The step that it is at, in words.
    pub phase: String,
    /// Of `total_bytes`; both are zero where the amount is not known.
    pub done_bytes: u64,
    /// The whole amount.
    pub total_bytes: u64,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What was found; set when it ended, as far as it went.
    pub result: Option<TaskResult>,
    /// Why it failed.
    pub fault: Option<Fault>,
}

/// What a task found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskResult {
    /// Of a scrub.
    Scrub(ScrubResult),
    /// Of a cycle of garbage collection.
    Collect(CollectResult),
    /// Of a verification.
    Verify(VerifyResult),
}

/// What a scrub found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScrubResult {
    /// Packs that were re-read.
    pub pack_count: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Packs that were found damaged and set aside.
    pub damaged_pack_count: u64,
    /// Records of them that no other copy is left of.
    pub lost_record_count: u64,
    /// Records of them that were copied to a new pack.
    pub salvaged_record_count: u64,
}

/// What a cycle of garbage collection found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectResult {
    /// Bytes of records that something reaches.
    pub live_bytes: u64,
    /// Bytes in all packs.
    pub stored_bytes: u64,
    /// Packs that were condemned.
    pub condemned_pack_count: u64,
    /// Their bytes.
    pub condemned_bytes: u64,
    /// Condemned packs that are in use after all.
    pub spared_pack_count: u64,
    /// Packs that were taken out.
    pub quarantined_pack_count: u64,
    /// Packs whose files were removed.
    pub removed_pack_count: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Bytes of packs whose live records were copied to new ones.
    pub compacted_bytes: u64,
    /// Why nothing was condemned, in words; empty when nothing was held back.
    pub held: String,
    /// Bytes that were held back.
    pub held_bytes: u64,
}

/// What the verification of a point found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyResult {
    /// Whether every byte was read and fits its hash.
    pub whole: bool,
    /// Stored bytes that were read.
    pub read_bytes: u64,
    /// The first damaged or missing extents, at most 1000.
    pub extents: Vec<DamagedExtent>,
    /// How many there are.
    pub damaged_extent_count: u64,
    /// Their bytes.
    pub damaged_bytes: u64,
}

/// A part of a disk that cannot be restored from the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedExtent {
    /// The disk's device key.
    pub disk_key: i32,
    /// Where it begins on the disk.
    pub offset_bytes: u64,
    /// Its length.
    pub length_bytes: u64,
}

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
