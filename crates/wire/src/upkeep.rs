//! Tasks that keep a repository sound, what they find, and how sound it is.
//!
//! A repository tells them, the controller passes them on as they are, and the administrator's tool
//! shows them: one domain type for both protocols.

use jiff::Timestamp;
use stillwater_types::{Fault, PointId, TaskId};

use crate::Word;
use crate::retention::StatementState;

/// Most damaged extents, or degraded points, that a message names.
pub const NAMED_MAX: usize = 1000;

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
    /// How much of that step is done.
    pub done: u64,
    /// Of how much; zero where that is not known.
    pub total: u64,
    /// What they count: bytes, packs or points.
    pub unit: String,
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
    /// The first damaged or missing extents, at most [`NAMED_MAX`].
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

/// How sound the repository is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Since when every byte was re-read and fitted its hash; none until that is so for all of them.
    pub verified_since: Option<Timestamp>,
    /// Bytes of packs that were not re-read within the configured period.
    pub overdue_bytes: u64,
    /// Packs that were set aside as damaged.
    pub damaged_pack_count: u64,
    /// Records that are needed and of which no sound copy is left.
    pub lost_record_count: u64,
    /// Points that reach a lost record, at most [`NAMED_MAX`].
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

/// Enums whose numbers are the same in both protocols; `passed_on!` holds them against each.
macro_rules! numbered {
    ($($name:ident { $($variant:ident = $number:literal),* })*) => {$(
        impl Word for $name {
            fn number(self) -> i32 {
                match self { $($name::$variant => $number),* }
            }

            fn from_number(number: i32) -> Option<Self> {
                match number {
                    $($number => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    )*};
}

numbered! {
    TaskKind { Scrub = 1, Collect = 2, Verify = 3 }
    TaskState { Running = 1, Succeeded = 2, Failed = 3, Cancelled = 4 }
    StatementState { Waiting = 1, Done = 2, Vetoed = 3 }
}
