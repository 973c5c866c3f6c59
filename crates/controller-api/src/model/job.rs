//! What policies promise to each VM.

use jiff::Timestamp;
use stillwater_types::{RunId, VmId};

/// A policy applied to one VM in its scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The policy's name.
    pub policy: String,
    /// The VM.
    pub vm_id: VmId,
    /// Its name.
    pub vm_name: String,
    /// What was promised, in words.
    pub promise: String,
    /// How old the newest point may become, if that was promised.
    pub rpo_seconds: Option<u32>,
    /// The moment of the newest point.
    pub last_point_at: Option<Timestamp>,
    /// Half of the points were not older than this when the next one came; none until two came.
    pub achieved_p50_seconds: Option<u32>,
    /// 99 of 100 were not.
    pub achieved_p99_seconds: Option<u32>,
    /// None was older.
    pub achieved_most_seconds: Option<u32>,
    /// When the next run is to start; none while one is on its way.
    pub due_at: Option<Timestamp>,
    /// Until when the next point has to be there.
    pub deadline: Option<Timestamp>,
    /// The run that is on its way.
    pub run_id: Option<RunId>,
    /// What a run that is due waits for, and what to do.
    pub waits_for: Option<String>,
    /// Since when the promise is broken; none while it is kept.
    pub broken_since: Option<Timestamp>,
    /// Why it is, and what to do.
    pub broken_by: Option<String>,
    /// Runs that failed since the last one that did not.
    pub failure_count: u32,
    /// How closely runs follow each other, in words.
    pub pace: String,
}

/// Asks for jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListJobsRequest {
    /// Of this policy; of every one when none.
    pub policy: Option<String>,
    /// At most this many; on receipt 1 to [`PAGE_SIZE_MAX`](super::PAGE_SIZE_MAX).
    pub page_size: u32,
    /// Where the last page ended.
    pub page_token: Option<String>,
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListJobsResponse {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Asks for the next page; none on the last.
    pub next_page_token: Option<String>,
}
