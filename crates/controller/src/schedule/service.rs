//! Answers for jobs: convert, call, convert.

use async_trait::async_trait;
use stillwater_controller_api as api;
use stillwater_rpc::Peer;
use stillwater_types::Fault;

use super::keeper::Shared;
use super::told::{Told, told};
use crate::memory::Memory;
use crate::page;

/// Tells how promises stand.
pub struct Service {
    memory: Memory,
    shared: Shared,
}

impl Service {
    /// Tells of what is shared; `memory` knows the time.
    pub fn new(memory: Memory, shared: Shared) -> Self {
        Self { memory, shared }
    }
}

#[async_trait]
impl api::JobService for Service {
    async fn list_jobs(
        &self,
        _peer: &Peer,
        request: api::ListJobsRequest,
    ) -> Result<api::ListJobsResponse, Fault> {
        let after = page::place(request.page_token.as_deref())?;
        let limit = page::limit(request.page_size);
        let mut jobs = told(&self.shared.book(), self.memory.now());
        jobs.retain(|job| {
            after.is_none_or(|after| job.number > after)
                && request
                    .policy
                    .as_ref()
                    .is_none_or(|policy| *policy == job.policy)
        });
        let has_more = jobs.len() > limit;
        jobs.truncate(limit);
        let last = jobs.last().map(|job| job.number.to_string());
        Ok(api::ListJobsResponse {
            jobs: jobs.into_iter().map(tell).collect(),
            next_page_token: last.filter(|_| has_more),
        })
    }
}

fn tell(told: Told) -> api::Job {
    let Told {
        number: _,
        policy,
        vm,
        vm_name,
        promise,
        rpo_seconds,
        last_point_at,
        achieved,
        due_at,
        deadline,
        run,
        waits_for,
        broken,
        failure_count,
        pace,
    } = told;
    let [half, most, longest] = achieved.map_or([None; 3], |all| all.map(Some));
    let (broken_since, broken_by) = broken.map(|broken| (broken.since, broken.why)).unzip();
    api::Job {
        policy,
        vm_id: vm,
        vm_name,
        promise,
        rpo_seconds,
        last_point_at,
        achieved_p50_seconds: half,
        achieved_p99_seconds: most,
        achieved_most_seconds: longest,
        due_at,
        deadline,
        run_id: run,
        waits_for,
        broken_since,
        broken_by,
        failure_count,
        pace,
    }
}
