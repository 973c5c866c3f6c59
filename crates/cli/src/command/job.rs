//! `stillwater job`.

use stillwater_controller_api::{Job as Told, ListJobsRequest, PAGE_SIZE_MAX};
use stillwater_types::Fault;

use super::Desk;
use crate::arguments::Job;
use crate::exit::Outcome;
use crate::{output, view};

pub(super) async fn run(desk: &Desk, job: Job) -> Result<Outcome, Fault> {
    let Job::List { policy, broken } = job;
    let mut jobs = every(desk, policy).await?;
    jobs.retain(|job| !broken || job.broken_since.is_some());
    jobs.sort_by(|a, b| (&a.policy, &a.vm_name, &a.vm_id).cmp(&(&b.policy, &b.vm_name, &b.vm_id)));
    let json = || jobs.iter().map(view::job::json).collect();
    output::print(desk.format, || view::job::list(&jobs), json)?;
    Ok(Outcome::Done)
}

/// The jobs of a policy, or of every one.
pub(super) async fn every(desk: &Desk, policy: Option<String>) -> Result<Vec<Told>, Fault> {
    let mut jobs = Vec::new();
    let mut page_token = None;
    loop {
        let request = ListJobsRequest {
            policy: policy.clone(),
            page_size: PAGE_SIZE_MAX,
            page_token,
        };
        let page = desk.session.controller.list_jobs(request).await?;
        jobs.extend(page.jobs);
        page_token = page.next_page_token;
        if page_token.is_none() {
            return Ok(jobs);
        }
    }
}
