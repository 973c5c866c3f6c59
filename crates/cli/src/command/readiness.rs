//! `stillwater readiness`.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use stillwater_controller_api::{Job, Point, PreflightVmRequest};
use stillwater_types::{Fault, Reason, VmId};

use super::Desk;
use crate::arguments::Readiness;
use crate::exit::Outcome;
use crate::view::readiness::{Facts, Judgement, judge};
use crate::{output, resolve, view};

/// How many VMs are looked at together.
const PARALLEL: usize = 4;

pub(super) async fn run(desk: &Desk, asked: Readiness) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    let vms = controller.list_vms(asked.vcenter).await?;
    let mut points: HashMap<VmId, Vec<Point>> = HashMap::new();
    for point in resolve::points(controller, None, usize::MAX).await? {
        points.entry(point.vm_id.clone()).or_default().push(point);
    }
    let mut jobs: HashMap<VmId, Vec<Job>> = HashMap::new();
    for job in super::job::every(desk, None).await? {
        jobs.entry(job.vm_id.clone()).or_default().push(job);
    }
    let looks = vms.into_iter().map(|summary| async move {
        let request = PreflightVmRequest {
            vm: summary.vm_id.to_string(),
            restore: false,
        };
        (summary, controller.preflight_vm(request).await)
    });
    let found: Vec<_> = stream::iter(looks).buffered(PARALLEL).collect().await;
    let judged: Vec<Judgement> = found
        .into_iter()
        .map(|(summary, preflight)| {
            let points = points.remove(&summary.vm_id).unwrap_or_default();
            let jobs = jobs.remove(&summary.vm_id).unwrap_or_default();
            judge(Facts {
                summary,
                preflight,
                points,
                jobs,
            })
        })
        .collect();
    if let Some(file) = &asked.html {
        keep(file, &view::readiness::html(&judged, Timestamp::now()))?;
    }
    let text = || view::readiness::show(&judged);
    output::print(desk.format, text, || view::readiness::json(&judged))?;
    match judged.iter().all(Judgement::is_ready) {
        true => Ok(Outcome::Done),
        false => Ok(Outcome::Warned),
    }
}

/// Writes a new file; one that exists may be somebody's.
fn keep(file: &Path, page: &str) -> Result<(), Fault> {
    let opened = OpenOptions::new().write(true).create_new(true).open(file);
    let written = opened.and_then(|mut opened| opened.write_all(page.as_bytes()));
    written.map_err(|err| {
        let text = format!("write the new file {}: {err}", file.display());
        Fault::new(Reason::StorageFailed, text)
    })
}
