//! The reaper: removes snapshots and deltas that runs of ours left behind, and no others.
//!
//! A snapshot is ours when its description holds a whole lease of this cluster, and it is left
//! behind when the lease's run is over. The search goes by inventory, so that even a controller
//! that lost its journal finds what it made; of a run that the journal does not know it believes the
//! lease alone: somebody with another journal may be at work. A run is journalled before its snapshot
//! is asked for; a lease that was found before its run was looked up therefore has no active run that
//! could still want it.
//!
//! A disk that still stands on such a snapshot is detached first, whether the journal tells of it or the lease alone
//! proves it. Attached disks and half-made VMs of which neither tells are alarms, once they were there in two
//! searches on end, and nothing else.
//!
//! Deltas that no snapshot explains carry no lease. Merging them takes nothing away from anybody, and is
//! done for VMs that runs of ours worked on.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use stillwater_types::{ClusterId, Fault, Kind, Reason, RunId, VcenterId, VmId};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::act::{World, sweep};
use super::event::{Outcome, Work};
use super::lease::Lease;
use super::marker::Marker;
use super::outside::{LeasedSnapshot, UnfinishedVm};
use super::state::Run;
use super::strays::{self, Told};
use crate::alarm::{AlarmKind, Subject};

/// After so many failures the pause until the next try does not double any more.
const DOUBLINGS_MAX: u32 = 5;
/// The VMs of so many runs, the newest, are searched for deltas.
const RUNS_SEARCHED: usize = 2000;
/// How many VMs are searched for deltas at a time.
const SEARCH_PARALLEL: usize = 4;

/// Something of ours that nobody works on any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leftover {
    /// A snapshot with its lease.
    Snapshot(LeasedSnapshot),
    /// Deltas that no snapshot explains.
    Deltas(VmId),
    /// The VM of a restore that failed.
    HalfMade(VmId, RunId),
}

impl Leftover {
    fn vm(&self) -> &VmId {
        match self {
            Leftover::Snapshot(found) => &found.vm,
            Leftover::Deltas(vm) | Leftover::HalfMade(vm, _) => vm,
        }
    }

    fn alarm(&self) -> AlarmKind {
        match self {
            Leftover::Snapshot(_) => AlarmKind::LeftoverSnapshot,
            Leftover::Deltas(_) => AlarmKind::ConsolidationNeeded,
            Leftover::HalfMade(..) => AlarmKind::HalfMadeVm,
        }
    }

    /// What a person is told when it resists for long.
    fn help(&self, fault: &Fault) -> String {
        match self {
            Leftover::Snapshot(found) => format!(
                "the snapshot of run {} cannot be removed ({}); remove it in vsphere",
                found.lease.run, fault.message
            ),
            Leftover::Deltas(_) => format!(
                "deltas that no snapshot explains cannot be merged ({}); see what holds the files and consolidate the vm's disks in vsphere",
                fault.message
            ),
            Leftover::HalfMade(_, run) => format!(
                "the vm that restore {run} left half made cannot be removed ({}); remove it in vsphere",
                fault.message
            ),
        }
    }
}

/// Searches at the start and now and then, and keeps at what it found.
pub struct Reaper {
    world: Arc<World>,
    /// What could not be removed yet.
    left: BTreeMap<Leftover, Resistance>,
    /// Which of these are being removed.
    at_work: BTreeSet<Leftover>,
    removals: JoinSet<(Leftover, Result<Done, Fault>)>,
    searched_at: Option<Instant>,
    /// What the last search found that nothing explains.
    unexplained: BTreeMap<(AlarmKind, VcenterId), Told>,
}

/// How long a leftover has resisted.
#[derive(Debug, Clone, Copy)]
struct Resistance {
    since: Instant,
    failures: u32,
    /// When it is tried next.
    due: Instant,
}

/// What a removal came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// Nothing is left.
    Gone,
    /// The snapshot is gone, its deltas are not.
    DeltasLeft,
}

/// What the journal knows of a lease's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is at work.
    Active,
    /// It has ended.
    Ended,
    /// Nothing: the run is another journal's.
    Unknown,
}

/// Whether a snapshot may be removed.
pub fn is_leftover(lease: &Lease, cluster: ClusterId, standing: Standing, now: Timestamp) -> bool {
    lease.cluster == cluster
        && match standing {
            Standing::Active => false,
            Standing::Ended => true,
            Standing::Unknown => lease.expires_at < now,
        }
}

impl Reaper {
    /// A reaper that has found nothing yet.
    pub fn new(world: Arc<World>) -> Self {
        Self {
            world,
            left: BTreeMap::new(),
            at_work: BTreeSet::new(),
            removals: JoinSet::new(),
            searched_at: None,
            unexplained: BTreeMap::new(),
        }
    }

    /// Works until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            self.round().await;
            let pause = tokio::time::sleep(self.world.timing.reap_every);
            if cancel.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// Searches when it is time, then removes what was found. A vCenter that could not be searched
    /// is searched again in the next round.
    pub(super) async fn round(&mut self) {
        let every = self.world.timing.search_every;
        if self
            .searched_at
            .is_none_or(|searched_at| searched_at.elapsed() >= every)
        {
            let whole = self.search_snapshots().await;
            self.search_deltas().await;
            if whole {
                self.clear_snapshots().await;
            }
            self.searched_at = whole.then(Instant::now);
        }
        self.note_stuck();
        self.reap_all().await;
    }

    async fn search_snapshots(&mut self) -> bool {
        let state = self.world.memory.state();
        let mut whole = true;
        let mut leased = Vec::new();
        // All at once: one that does not answer must not keep the others' leftovers alive.
        let searches = state.vcenters.iter().map(|vcenter| async {
            let found = self.world.vsphere.leased_snapshots(vcenter.vcenter).await;
            (Arc::clone(vcenter), found)
        });
        for (vcenter, found) in futures::future::join_all(searches).await {
            match found {
                Ok(found) => {
                    leased.push((vcenter.vcenter, found.clone()));
                    self.note_snapshots(found).await;
                }
                Err(fault) => {
                    whole = false;
                    tracing::warn!(vcenter.name = %vcenter.name, %fault, "cannot search for leftover snapshots");
                }
            }
        }
        self.search_unexplained(leased).await;
        whole
    }

    /// Looks for attached disks and for half-made VMs. A vCenter that does not tell is asked another time.
    async fn search_unexplained(&mut self, leased: Vec<(VcenterId, Vec<LeasedSnapshot>)>) {
        let searches = leased.iter().map(|(vcenter, leased)| async {
            let strays = strays::search(&self.world, *vcenter, leased).await;
            let unfinished = self.world.vsphere.unfinished_vms(*vcenter).await;
            (*vcenter, strays, unfinished)
        });
        for (vcenter, strays, unfinished) in futures::future::join_all(searches).await {
            match strays {
                Ok(told) => self.tell(AlarmKind::StrayDisk, vcenter, told).await,
                Err(fault) => {
                    tracing::warn!(vcenter.id = %vcenter, %fault, "cannot look for attached disks");
                }
            }
            match unfinished {
                Ok(found) => self.note_unfinished(vcenter, found).await,
                Err(fault) => {
                    tracing::warn!(vcenter.id = %vcenter, %fault, "cannot look for half-made vms");
                }
            }
        }
    }

    /// Notes VMs whose restores have failed, and tells of those whose restores nobody knows.
    async fn note_unfinished(&mut self, vcenter: VcenterId, found: Vec<UnfinishedVm>) {
        let mut told = Told::new();
        for UnfinishedVm { vm, name, marker } in found {
            if marker.cluster != self.world.cluster
                || self.world.memory.state().runs.find(marker.run).is_some()
            {
                continue;
            }
            let run = marker.run;
            match self.ended(run).await {
                Some(ended) if is_whole(&ended) => {}
                Some(ended) if ended.left_vm.as_ref() == Some(&vm) => {
                    self.note(Leftover::HalfMade(vm, run));
                }
                // Another VM with the notes of that one may be a copy that somebody made.
                _ => {
                    let words = format!(
                        "vm {name} was begun by restore {run} and is not whole, and no run is known that works on it; if no other controller does, destroy it: govc vm.destroy {name:?}"
                    );
                    told.insert(vm, words);
                }
            }
        }
        self.tell(AlarmKind::HalfMadeVm, vcenter, told).await;
    }

    /// Raises an alarm for what was found in the last search too, and clears those of what is gone.
    async fn tell(&mut self, kind: AlarmKind, vcenter: VcenterId, told: Told) {
        let before = self.unexplained.insert((kind, vcenter), told.clone());
        let before = before.unwrap_or_default();
        for (vm, words) in &told {
            if before.get(vm) == Some(words) {
                let alarms = self.world.alarms();
                let raised = alarms.raise(kind, vm.clone().into(), words).await;
                if let Err(fault) = raised {
                    tracing::error!(vm.id = %vm, %fault, "an alarm could not be raised");
                }
            }
        }
        let state = self.world.memory.state();
        for alarm in state.alarms.standing() {
            if let (true, Subject::Vm(vm)) = (alarm.kind == kind, &alarm.subject)
                && vm.vcenter == vcenter
                && !told.contains_key(vm)
                && !self.resists(kind, vm)
            {
                self.clear(kind, vm.clone()).await;
            }
        }
    }

    async fn note_snapshots(&mut self, found: Vec<LeasedSnapshot>) {
        for found in found {
            let LeasedSnapshot { vm, lease } = &found;
            let standing = self.standing(lease).await;
            if is_leftover(lease, self.world.cluster, standing, self.world.clock.now()) {
                self.note(Leftover::Snapshot(found));
            } else if lease.cluster == self.world.cluster && standing == Standing::Unknown {
                tracing::info!(vm.id = %vm, run.id = %lease.run, until = %lease.expires_at, "a snapshot of a run that is not in the journal is left until its lease ends");
            }
        }
    }

    /// What the journal knows of the lease's run now. A run that ends meanwhile is still active here.
    async fn standing(&self, lease: &Lease) -> Standing {
        if self.world.memory.state().runs.find(lease.run).is_some() {
            return Standing::Active;
        }
        match self.ended(lease.run).await {
            Some(_) => Standing::Ended,
            None => Standing::Unknown,
        }
    }

    async fn ended(&self, run: RunId) -> Option<Run> {
        let memory = self.world.memory.clone();
        let ended = tokio::task::spawn_blocking(move || memory.ended_run(run)).await;
        ended.unwrap_or_else(|error| {
            tracing::error!(%error, "looking for a run panicked");
            None
        })
    }

    /// Looks at VMs that runs of ours worked on. One that cannot be read is looked at another time.
    async fn search_deltas(&mut self) {
        let vms = self.vms_of_runs().await;
        let searches = vms.into_iter().map(|vm| async {
            let found = self.world.vsphere.has_deltas(&vm).await;
            (vm, found)
        });
        let searched: Vec<_> = stream::iter(searches)
            .buffer_unordered(SEARCH_PARALLEL)
            .collect()
            .await;
        for (vm, found) in searched {
            match found {
                Ok(true) => self.note(Leftover::Deltas(vm)),
                Ok(false) => self.clear(AlarmKind::ConsolidationNeeded, vm).await,
                Err(fault) => tracing::debug!(vm.id = %vm, %fault, "cannot look for deltas"),
            }
        }
    }

    /// VMs that were backed up, without those that are being backed up.
    async fn vms_of_runs(&self) -> BTreeSet<VmId> {
        let memory = self.world.memory.clone();
        let ended = tokio::task::spawn_blocking(move || memory.ended_runs(None, RUNS_SEARCHED));
        let ended = ended.await.unwrap_or_else(|error| {
            tracing::error!(%error, "looking for runs panicked");
            Vec::new()
        });
        let vms = ended.iter().filter_map(backed_up).cloned();
        vms.filter(|vm| !self.is_in_use(vm)).collect()
    }

    fn is_in_use(&self, vm: &VmId) -> bool {
        self.world.memory.state().runs.on_vm(vm).is_some()
    }

    fn note(&mut self, leftover: Leftover) {
        let now = Instant::now();
        let fresh = Resistance {
            since: now,
            failures: 0,
            due: now,
        };
        if self.left.contains_key(&leftover) {
            return;
        }
        match &leftover {
            Leftover::Snapshot(LeasedSnapshot { vm, lease }) => {
                tracing::warn!(vm.id = %vm, run.id = %lease.run, "found a leftover snapshot");
            }
            Leftover::Deltas(vm) => {
                tracing::warn!(vm.id = %vm, "found deltas that no snapshot explains");
            }
            Leftover::HalfMade(vm, run) => {
                tracing::warn!(vm.id = %vm, run.id = %run, "found a half-made vm");
            }
        }
        self.left.insert(leftover, fresh);
    }

    /// Takes over what runs could not remove themselves, without another search. A run that has not
    /// ended yet keeps its own for a later round.
    fn note_stuck(&mut self) {
        let state = self.world.memory.state();
        let is_active = |found: &Leftover| match found {
            Leftover::Snapshot(found) => state.runs.find(found.lease.run).is_some(),
            Leftover::Deltas(vm) => state.runs.on_vm(vm).is_some(),
            Leftover::HalfMade(_, run) => state.runs.find(*run).is_some(),
        };
        let ended: Vec<Leftover> = {
            let mut stuck = self.world.stuck();
            let (active, ended) = std::mem::take(&mut *stuck).into_iter().partition(is_active);
            *stuck = active;
            ended
        };
        ended.into_iter().for_each(|found| self.note(found));
    }

    /// Begins to remove whatever is due and not being removed already. A removal may take hours, and
    /// so does one that waits for a vCenter that is away: neither keeps another waiting.
    async fn reap_all(&mut self) {
        while let Some(ended) = self.removals.try_join_next() {
            match ended {
                Ok((leftover, done)) => self.reaped(leftover, done).await,
                Err(error) => tracing::error!(%error, "a removal was lost"),
            }
        }
        let now = Instant::now();
        for (leftover, resistance) in &self.left {
            // A run that came to the VM meanwhile is not disturbed: it finds the deltas itself.
            let waits = matches!(leftover, Leftover::Deltas(vm) if self.is_in_use(vm));
            if resistance.due <= now && !waits && self.at_work.insert(leftover.clone()) {
                let (world, leftover) = (Arc::clone(&self.world), leftover.clone());
                self.removals.spawn(async move {
                    let removal = AssertUnwindSafe(remove(&world, &leftover)).catch_unwind();
                    let done = removal.await.unwrap_or_else(|_| {
                        Err(Fault::new(
                            Reason::Bug,
                            "removing a leftover panicked; see the log",
                        ))
                    });
                    (leftover, done)
                });
            }
        }
    }

    async fn reaped(&mut self, leftover: Leftover, done: Result<Done, Fault>) {
        self.at_work.remove(&leftover);
        let done = match done {
            Ok(done) => done,
            Err(fault) => return self.resisted(&leftover, &fault).await,
        };
        self.left.remove(&leftover);
        let (kind, vm) = (leftover.alarm(), leftover.vm().clone());
        if !self.resists(kind, &vm) {
            self.clear(kind, vm.clone()).await;
        }
        if done == Done::DeltasLeft {
            self.note(Leftover::Deltas(vm));
        }
    }

    /// Whether something of that kind is left on the VM.
    fn resists(&self, kind: AlarmKind, vm: &VmId) -> bool {
        let mut left = self.left.keys();
        left.any(|leftover| leftover.alarm() == kind && leftover.vm() == vm)
    }

    /// Is tried again, later each time: what blocks a removal, such as another's task, takes its time.
    async fn resisted(&mut self, leftover: &Leftover, fault: &Fault) {
        let Some(resistance) = self.left.get_mut(leftover) else {
            return;
        };
        let pause = self.world.timing.reap_every * (1 << resistance.failures.min(DOUBLINGS_MAX));
        resistance.failures += 1;
        resistance.due = Instant::now() + pause;
        let vm = leftover.vm();
        tracing::warn!(vm.id = %vm, ?leftover, %fault, "cannot remove a leftover yet");
        if resistance.since.elapsed() > self.world.timing.alarm_after {
            let alarms = self.world.alarms();
            let subject = Subject::Vm(vm.clone());
            let raised = alarms.raise(leftover.alarm(), subject, leftover.help(fault));
            if let Err(fault) = raised.await {
                tracing::error!(vm.id = %vm, %fault, "an alarm could not be raised");
            }
        }
    }

    /// Clears the alarms of snapshots that are gone, whoever removed them; also those of an earlier controller.
    async fn clear_snapshots(&self) {
        let state = self.world.memory.state();
        for alarm in state.alarms.standing() {
            if let (AlarmKind::LeftoverSnapshot, Subject::Vm(vm)) = (alarm.kind, &alarm.subject)
                && !self.resists(alarm.kind, vm)
            {
                self.clear(alarm.kind, vm.clone()).await;
            }
        }
    }

    async fn clear(&self, kind: AlarmKind, vm: VmId) {
        if let Err(fault) = self.world.alarms().clear(kind, Subject::Vm(vm)).await {
            tracing::error!(%fault, "an alarm could not be cleared");
        }
    }
}

fn backed_up(run: &Run) -> Option<&VmId> {
    match &run.work {
        Work::Backup(work) => Some(&work.vm),
        // Its snapshot is one of ours too.
        Work::RestoreInPlace(work) => Some(&work.vm),
        Work::RestoreVm(_) | Work::ExportDisk(_) | Work::VerifyPoint(_) => None,
    }
}

/// Whether a restore made its VM, though that could not say so itself.
fn is_whole(run: &Run) -> bool {
    matches!(run.ending, Some(Outcome::Succeeded | Outcome::Incomplete))
}

async fn remove(world: &World, leftover: &Leftover) -> Result<Done, Fault> {
    let removed = match leftover {
        Leftover::Snapshot(found) => remove_snapshot(world, found).await,
        Leftover::Deltas(vm) => merge(world, vm).await,
        Leftover::HalfMade(vm, run) => destroy(world, vm, *run).await,
    };
    match removed {
        // A VM that is gone has no leftovers.
        Err(fault) if fault.kind() == Kind::NotFound => Ok(Done::Gone),
        removed => removed,
    }
}

async fn remove_snapshot(world: &World, found: &LeasedSnapshot) -> Result<Done, Fault> {
    let LeasedSnapshot { vm, lease } = found;
    // A file that is still attached to a proxy's VM keeps vsphere from merging it.
    sweep(world, lease.run).await?;
    strays::sweep(world, found).await?;
    let turn = world.snapshot_turn(vm).await;
    let removal = world.vsphere.remove_snapshot(vm, lease).await?;
    drop(turn);
    tracing::info!(vm.id = %vm, run.id = %lease.run, count = removal.removed_count, "removed a leftover snapshot");
    Ok(match removal.consolidation_needed {
        true => Done::DeltasLeft,
        false => Done::Gone,
    })
}

/// Destroys the VM of a restore that failed. One that does not carry its mark any more is left alone.
async fn destroy(world: &World, vm: &VmId, run: RunId) -> Result<Done, Fault> {
    sweep(world, run).await?;
    let marker = Marker {
        cluster: world.cluster,
        run,
    };
    let vsphere = &world.vsphere;
    vsphere
        .destroy_vm(vm.vcenter, "", Some(vm), &marker)
        .await?;
    tracing::info!(vm.id = %vm, run.id = %run, "removed a half-made vm");
    Ok(Done::Gone)
}

async fn merge(world: &World, vm: &VmId) -> Result<Done, Fault> {
    let _turn = world.snapshot_turn(vm).await;
    match world.vsphere.consolidate(vm).await? {
        true => {
            tracing::info!(vm.id = %vm, "merged leftover deltas");
            Ok(Done::Gone)
        }
        false => Err(Fault::new(
            Reason::VcenterTaskFailed,
            "the vm's disks could not be consolidated",
        )),
    }
}
