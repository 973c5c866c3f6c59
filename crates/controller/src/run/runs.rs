//! The runs that have not ended, and the requests that were answered with a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use stillwater_types::{Fault, Reason, RequestId, RunId, VmId};

use super::event::{RunEvent, Work};
use super::state::Run;
use super::step::step;

/// How long a repeated request still finds its run.
const REQUESTS_KEPT: SignedDuration = SignedDuration::from_hours(48);

/// Runs that have not ended; those that have are in the projection.
#[derive(Debug, Clone, Default)]
pub struct Runs {
    active: BTreeMap<RunId, Arc<Run>>,
    requests: BTreeMap<RequestId, (RunId, Timestamp)>,
    /// The last run that wrote a point over the disks of a VM.
    overwritten: BTreeMap<VmId, RunId>,
}

impl Runs {
    /// The active run of that id.
    pub fn find(&self, run: RunId) -> Option<&Arc<Run>> {
        self.active.get(&run)
    }

    /// Every active run, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Run>> + '_ {
        self.active.values()
    }

    /// The run that a request was answered with, ended or not.
    pub fn of_request(&self, request: RequestId) -> Option<RunId> {
        self.requests.get(&request).map(|(run, _)| *run)
    }

    /// The active run that works on `vm`.
    pub fn on_vm(&self, vm: &VmId) -> Option<&Arc<Run>> {
        self.iter().find(|run| run.vm_in_use() == Some(vm))
    }

    /// Whether a point was written over the disks of `vm` since a run began: no change map is to be
    /// believed across that.
    pub fn is_overwritten_since(&self, vm: &VmId, run: RunId) -> bool {
        // Ids of runs grow with time.
        self.overwritten.get(vm).is_some_and(|later| *later > run)
    }

    /// Refuses an event that does not fit.
    pub fn check(&self, run: RunId, event: &RunEvent) -> Result<(), Fault> {
        match event {
            RunEvent::Started { request, work } => self.check_start(run, *request, work),
            _ => match self.find(run) {
                Some(_) => Ok(()),
                None => Err(Fault::new(
                    Reason::RunNotFound,
                    "the run has ended or never began; `stillwater run list` names the runs",
                )
                .with("run", run)),
            },
        }
    }

    fn check_start(&self, run: RunId, request: RequestId, work: &Work) -> Result<(), Fault> {
        if self.active.contains_key(&run) || self.requests.contains_key(&request) {
            return Err(Fault::new(Reason::Bug, "a run was started twice").with("run", run));
        }
        let vm = match work {
            Work::Backup(backup) => &backup.vm,
            Work::RestoreInPlace(restore) => &restore.vm,
            Work::RestoreVm(_) | Work::ExportDisk(_) | Work::VerifyPoint(_) => return Ok(()),
        };
        match self.on_vm(vm) {
            None => Ok(()),
            Some(active) => Err(Fault::new(
                Reason::RunActive,
                "the vm has an active run; wait until it has ended or cancel it",
            )
            .with("vm", vm)
            .with("run", active.id)),
        }
    }

    /// Takes the event in. An ended run is given out, for the projection.
    pub fn apply(&mut self, at: Timestamp, run: RunId, event: &RunEvent) -> Option<Arc<Run>> {
        if let RunEvent::Started { request, work } = event {
            self.requests
                .retain(|_, (_, asked_at)| at.duration_since(*asked_at) < REQUESTS_KEPT);
            self.requests.insert(*request, (run, at));
            self.active
                .insert(run, Arc::new(Run::new(run, at, *request, work.clone())));
            return None;
        }
        let before = self.active.get_mut(&run)?;
        if let (RunEvent::InPlaceBegun, Work::RestoreInPlace(work)) = (event, &before.work) {
            self.overwritten.insert(work.vm.clone(), run);
        }
        let (after, _) = step(before, at, event);
        *before = Arc::new(after);
        match before.is_over() {
            true => self.active.remove(&run),
            false => None,
        }
    }
}
