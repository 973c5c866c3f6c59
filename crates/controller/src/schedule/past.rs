//! What runs that have ended say about those to come.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use stillwater_scheduler::Outcome;
use stillwater_types::{NodeId, VmId};

use crate::run::{Run, Stage, Work};

/// How many runs of one policy and VM are remembered for it: what was before weighs little.
const RUNS_MAX: usize = 64;

/// A run of a policy that has ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ended {
    pub(super) started: Timestamp,
    pub(super) outcome: Outcome,
    pub(super) ended: Timestamp,
}

/// What is known of runs that ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    /// Runs of before the start, by policy and VM, the newest first.
    runs: BTreeMap<(String, VmId), Vec<Ended>>,
    /// The moment of each VM's newest point on a repository.
    points: BTreeMap<(VmId, NodeId), Timestamp>,
    /// What was read of a disk the last time.
    read: BTreeMap<(VmId, i32), u64>,
}

impl Past {
    /// Takes in a run of before the start. They come the newest first: what is known already is newer.
    pub(super) fn remember(&mut self, run: &Run) {
        let Work::Backup(work) = &run.work else {
            return;
        };
        for (key, bytes) in read_of(run) {
            let known = self.read.entry((work.vm.clone(), key));
            known.or_insert(bytes);
        }
        let told = outcome(run);
        if let (Some(target), Some(point)) = (run.target, told.point) {
            self.saw(&work.vm, target.repository, point);
        }
        let (Some(policy), Some(ended)) = (&work.policy, run.ended_at) else {
            return;
        };
        let key = (policy.clone(), work.vm.clone());
        let runs = self.runs.entry(key).or_default();
        if runs.len() < RUNS_MAX {
            runs.push(Ended {
                started: run.started_at,
                outcome: told,
                ended,
            });
        }
    }

    /// Takes in what a run that just ended says about points and disks; tells the point that it made, and
    /// where.
    pub(super) fn note(&mut self, run: &Run) -> Option<(NodeId, Timestamp)> {
        let Work::Backup(work) = &run.work else {
            return None;
        };
        let read = read_of(run).map(|(key, bytes)| ((work.vm.clone(), key), bytes));
        self.read.extend(read);
        let repository = run.target?.repository;
        let point = outcome(run).point?;
        self.saw(&work.vm, repository, point);
        Some((repository, point))
    }

    /// Takes in a point of which nothing else is known.
    pub(super) fn saw(&mut self, vm: &VmId, repository: NodeId, point: Timestamp) {
        let newest = self.points.entry((vm.clone(), repository)).or_insert(point);
        *newest = point.max(*newest);
    }

    /// The runs of a policy and a VM of before the start, in the order in which they ended; they are told once.
    pub(super) fn take(&mut self, policy: &str, vm: &VmId) -> impl Iterator<Item = Ended> + use<> {
        let key = (policy.to_owned(), vm.clone());
        let runs = self.runs.remove(&key).unwrap_or_default();
        runs.into_iter().rev()
    }

    /// The moment of a VM's newest point on a repository.
    pub(super) fn point(&self, vm: &VmId, repository: NodeId) -> Option<Timestamp> {
        self.points.get(&(vm.clone(), repository)).copied()
    }

    /// What was read of a disk the last time.
    pub(super) fn read_bytes(&self, vm: &VmId, key: i32) -> Option<u64> {
        self.read.get(&(vm.clone(), key)).copied()
    }
}

/// What a run read of each disk.
fn read_of(run: &Run) -> impl Iterator<Item = (i32, u64)> + '_ {
    let moved = run.disks.iter();
    moved.filter_map(|(key, disk)| Some((*key, disk.moved.as_ref()?.counts.read_bytes)))
}

/// How a run went, as the scheduler sees it.
pub(super) fn outcome(run: &Run) -> Outcome {
    Outcome {
        point: run.committed.and(came_to(run, Stage::Freezing)),
        create: spent_in(run, Stage::Freezing),
        remove: spent_in(run, Stage::Releasing),
        stun: Duration::from_micros(run.stun_micros.unwrap_or_default()),
    }
}

/// When the point is of: the snapshot was made after this, so that a point is never told younger than it is.
fn came_to(run: &Run, stage: Stage) -> Option<Timestamp> {
    let found = run.path.iter().find(|(_, came)| *came == stage);
    found.map(|(at, _)| *at)
}

fn spent_in(run: &Run, stage: Stage) -> Duration {
    let mut path = run.path.iter().skip_while(|(_, came)| *came != stage);
    let (Some((from, _)), Some((to, _))) = (path.next(), path.next()) else {
        return Duration::ZERO;
    };
    to.duration_since(*from).try_into().unwrap_or_default()
}
