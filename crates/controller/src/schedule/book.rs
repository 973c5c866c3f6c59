//! Who is promised what, as the scheduler has it, and what its decisions mean in the cluster.
//!
//! Plain data in, plain data out: it calls nobody and knows no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use stillwater_policy::Policy;
use stillwater_scheduler::{
    Action, Blocked, DatastoreFacts, DatastoreIx, DiskLoad, HostFacts, HostIx, JobIx, Outcome,
    PolicyIx, PolicyTerms, ProxyFacts, ProxyIx, RepositoryFacts, RepositoryIx, State, VmLoad,
    decide, next_wake,
};
use stillwater_types::{NodeId, RunId, VcenterId, VmId};

use super::facts::{Limits, Member, NodesNow, Promise, Promises, ProxyNow, RepositoryNow, Ways};
use super::past::{self, Past};
use crate::run::{BackupWork, Level, Run, Rung, Work};

/// A VM without a host, such as one that is just moved, counts against this one.
const NO_HOST: &str = "no host";

/// A run that is to start now.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Whose it is.
    pub(super) job: JobIx,
    /// The policy that wants it.
    pub policy: Arc<Policy>,
    /// The VM.
    pub member: Member,
    /// Where its point goes.
    pub repository: NodeId,
}

impl Order {
    /// What a run of it is for.
    pub fn work(&self) -> Work {
        let ladder = self.policy.consistency.ladder.iter();
        Work::Backup(BackupWork {
            vm: self.member.vm.clone(),
            vm_name: self.member.name.clone(),
            exclude: self.member.excluded.clone(),
            full: false,
            quiesce: ladder.map(rung).collect(),
            hooks: None,
            repository: Some(self.repository),
            policy: Some(self.policy.name.clone()),
            disks_at_once: self.policy.limits.disks_per_vm,
            ways: self.policy.limits.ways.clone(),
        })
    }
}

fn rung(asked: &stillwater_policy::Rung) -> Rung {
    Rung {
        level: match asked.level {
            stillwater_policy::Level::Application => Level::Application,
            stillwater_policy::Level::FileSystem => Level::FileSystem,
            stillwater_policy::Level::Crash => Level::Crash,
        },
        tries: asked.tries,
        budget_minutes: asked.budget_minutes,
    }
}

/// A policy applied to one VM.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) policy: String,
    pub(super) member: Member,
    pub(super) in_scope: bool,
    load: VmLoad,
}

/// What the scheduler knows, by the names that the rest of the controller has for it.
#[derive(Debug, Clone, Default)]
pub struct Book {
    pub(super) state: State,
    pub(super) jobs: BTreeMap<JobIx, Entry>,
    pub(super) waiting: BTreeMap<JobIx, Blocked>,
    pub(super) running: BTreeMap<RunId, JobIx>,
    limits: Limits,
    ways: Ways,
    policies: BTreeMap<String, (PolicyIx, Arc<Policy>)>,
    hosts: BTreeMap<(VcenterId, String), HostIx>,
    datastores: BTreeMap<(VcenterId, String), DatastoreIx>,
    repositories: BTreeMap<String, (RepositoryIx, Option<NodeId>)>,
    proxies: BTreeMap<NodeId, ProxyIx>,
    nodes: NodesNow,
    by_vm: BTreeMap<VmId, BTreeSet<JobIx>>,
    engaged: BTreeSet<JobIx>,
    past: Past,
    /// When it was decided last.
    pub(super) decided_at: Option<Timestamp>,
    /// When scopes were looked at first.
    began: Option<Timestamp>,
}

impl Book {
    /// Nothing is promised yet.
    pub fn new(limits: Limits, ways: Ways) -> Self {
        Self {
            limits,
            ways,
            ..Self::default()
        }
    }

    /// Tells of a run that ended before the start. They come the newest first, and before any promise.
    pub fn remember(&mut self, run: &Run) {
        self.past.remember(run);
    }

    /// Tells of a point of before the start of which nothing else is known.
    pub fn saw(&mut self, vm: &VmId, repository: NodeId, point: Timestamp) {
        self.past.saw(vm, repository, point);
    }

    /// Tells of the nodes as they are now.
    pub fn tell_nodes(&mut self, nodes: NodesNow) {
        for repository in &nodes.repositories {
            self.tell_repository(repository);
        }
        let is_here = |name: &String| nodes.repositories.iter().any(|here| here.name == *name);
        let gone: Vec<String> = self.repositories.keys().cloned().collect();
        for name in gone.iter().filter(|name| !is_here(name)) {
            self.lacks_repository(name);
        }
        for proxy in &nodes.proxies {
            self.tell_proxy(proxy);
        }
        self.nodes = nodes;
    }

    fn tell_repository(&mut self, now: &RepositoryNow) {
        let facts = RepositoryFacts {
            sessions_max: self.limits.repository_runs,
            accepts: now.accepts,
        };
        let ix = self.state.repository(&now.name, facts);
        self.repositories
            .insert(now.name.clone(), (ix, Some(now.node)));
    }

    /// A policy may name a repository that is gone, or not there yet.
    fn lacks_repository(&mut self, name: &str) -> RepositoryIx {
        let facts = RepositoryFacts {
            sessions_max: self.limits.repository_runs,
            accepts: false,
        };
        let ix = self.state.repository(name, facts);
        self.repositories.insert(name.to_owned(), (ix, None));
        ix
    }

    fn tell_proxy(&mut self, now: &ProxyNow) {
        let known = self.proxies.get(&now.node);
        // What others have taken, and what our runs took beyond their lanes, is not there to be given.
        let ours = known.map_or(0, |ix| self.state.slots_of(*ix).0);
        let reach = self.datastores.iter().map(|((_, name), ix)| {
            let best = self.ways.best(&now.reach, name);
            (*ix, best)
        });
        let facts = ProxyFacts {
            node: now.node,
            slots: now.slots.saturating_sub(now.taken.saturating_sub(ours)),
            standing: now.standing,
            reach: reach.collect(),
        };
        if known.is_some_and(|ix| *self.state.proxy_at(*ix) == facts) {
            return;
        }
        let ix = self.state.proxy(facts);
        self.proxies.insert(now.node, ix);
    }

    /// Tells what is promised to whom, and what was seen of it.
    pub fn tell_promises(&mut self, promises: &Promises, now: Timestamp) {
        let is_first = self.began.is_none();
        self.began.get_or_insert(now);
        let mut in_scope = BTreeSet::new();
        for promise in &promises.policies {
            self.tell_policy(promise);
            for member in &promise.members {
                // Who is in scope from the first look on was so before the start.
                let since = match is_first {
                    true => promise.since.min(now),
                    false => now,
                };
                in_scope.extend(self.tell_member(promise, member, since));
            }
        }
        let is_unread = |entry: &Entry| {
            let mut policies = promises.policies.iter().map(|promise| &promise.policy);
            let policy = policies.find(|policy| policy.name == entry.policy);
            policy.is_some_and(|policy| promises.is_unread(policy, entry.member.vm.vcenter))
        };
        let left: Vec<JobIx> = self
            .jobs
            .iter()
            .filter(|(ix, entry)| entry.in_scope && !in_scope.contains(*ix))
            .filter(|(_, entry)| !is_unread(entry))
            .map(|(ix, _)| *ix)
            .collect();
        left.into_iter().for_each(|ix| self.leave(ix));
        // Datastores that were not known before are in reach of proxies that were.
        self.tell_nodes(self.nodes.clone());
    }

    fn tell_policy(&mut self, promise: &Promise) {
        let policy = &promise.policy;
        let repository = match self.repositories.get(&policy.store.repository) {
            Some((ix, _)) => *ix,
            None => self.lacks_repository(&policy.store.repository),
        };
        let is_known = self.policies.get(&policy.name);
        if is_known.is_some_and(|(_, known)| known == policy) {
            return;
        }
        let ix = self.state.policy(PolicyTerms::of(policy, repository));
        self.policies
            .insert(policy.name.clone(), (ix, Arc::clone(policy)));
    }

    fn tell_member(
        &mut self,
        promise: &Promise,
        member: &Member,
        since: Timestamp,
    ) -> Option<JobIx> {
        let name = &promise.policy.name;
        let policy = self.policies.get(name)?.0;
        let load = self.load(member);
        let known = self.find(name, &member.vm);
        if let Some(entry) = known.and_then(|ix| self.jobs.get_mut(&ix)) {
            entry.member.clone_from(member);
            if entry.in_scope && entry.load == load {
                return known;
            }
        }
        let ix = self.state.job(policy, load.clone(), since);
        let entry = Entry {
            policy: name.clone(),
            member: member.clone(),
            in_scope: true,
            load,
        };
        self.jobs.insert(ix, entry);
        if known.is_none() {
            self.by_vm.entry(member.vm.clone()).or_default().insert(ix);
            self.recall(ix, promise, &member.vm);
        }
        Some(ix)
    }

    fn find(&self, policy: &str, vm: &VmId) -> Option<JobIx> {
        let mut jobs = self.by_vm.get(vm)?.iter().copied();
        jobs.find(|ix| {
            let entry = self.jobs.get(ix);
            entry.is_some_and(|entry| entry.policy == policy)
        })
    }

    /// Tells a new job what came before it.
    fn recall(&mut self, ix: JobIx, promise: &Promise, vm: &VmId) {
        for run in self.past.take(&promise.policy.name, vm) {
            self.state
                .remember(ix, run.started, &run.outcome, run.ended);
        }
        let point = self
            .repository_of(&promise.policy)
            .and_then(|repository| self.past.point(vm, repository));
        if let Some(point) = point {
            self.state.seen(ix, point);
        }
    }

    fn repository_of(&self, policy: &Policy) -> Option<NodeId> {
        self.repositories.get(&policy.store.repository)?.1
    }

    fn load(&mut self, member: &Member) -> VmLoad {
        let vcenter = member.vm.vcenter;
        let name = member.host.as_deref().unwrap_or(NO_HOST);
        let host = self.host(vcenter, name);
        let disks = member.disks.iter().map(|disk| {
            let read = self.past.read_bytes(&member.vm, disk.key);
            DiskLoad {
                key: disk.key,
                datastore: self.datastore(vcenter, &disk.datastore),
                bytes: read.unwrap_or(disk.capacity_bytes),
            }
        });
        VmLoad {
            disks: disks.collect(),
            vm: member.vm.clone(),
            host,
        }
    }

    fn host(&mut self, vcenter: VcenterId, name: &str) -> HostIx {
        let facts = HostFacts {
            snapshots_max: self.limits.host_runs,
        };
        let state = &mut self.state;
        *self
            .hosts
            .entry((vcenter, name.to_owned()))
            // The names of hosts and datastores repeat from one vCenter to the next.
            .or_insert_with(|| state.host(&format!("{name} ({vcenter})"), facts))
    }

    fn datastore(&mut self, vcenter: VcenterId, name: &str) -> DatastoreIx {
        let facts = DatastoreFacts {
            snapshots_max: self.limits.datastore_runs,
            // The run's own look at it, just before its snapshot, has the last word.
            has_room: true,
        };
        let state = &mut self.state;
        *self
            .datastores
            .entry((vcenter, name.to_owned()))
            .or_insert_with(|| state.datastore(&format!("{name} ({vcenter})"), facts))
    }

    fn leave(&mut self, ix: JobIx) {
        self.state.retire(ix);
        self.waiting.remove(&ix);
        if let Some(entry) = self.jobs.get_mut(&ix) {
            entry.in_scope = false;
        }
    }

    /// Tells of every run that is on its way: who of them was started by whom, and which VMs are busy.
    pub fn tell_active<'a>(&mut self, runs: impl IntoIterator<Item = &'a Run>) {
        let mut engaged = BTreeSet::new();
        for run in runs {
            if self.running.contains_key(&run.id) || self.resume(run) {
                continue;
            }
            let jobs = run.vm_in_use().and_then(|vm| self.by_vm.get(vm));
            engaged.extend(jobs.into_iter().flatten().copied());
        }
        let before = std::mem::replace(&mut self.engaged, engaged);
        for ix in before.difference(&self.engaged) {
            self.state.engage(*ix, false);
        }
        for ix in self.engaged.difference(&before) {
            self.state.engage(*ix, true);
        }
    }

    /// A run that an earlier controller started for a job is the job's.
    fn resume(&mut self, run: &Run) -> bool {
        let Work::Backup(work) = &run.work else {
            return false;
        };
        let policy = work.policy.as_deref();
        let Some(ix) = policy.and_then(|policy| self.find(policy, &work.vm)) else {
            return false;
        };
        if self.state.running().any(|(running, _)| running == ix) {
            return false;
        }
        self.state.resume(ix, Vec::new(), run.started_at);
        self.running.insert(run.id, ix);
        true
    }

    /// What starts now. Everything that it needs is held for it from here on.
    pub fn decide(&mut self, now: Timestamp) -> Vec<Order> {
        let decision = decide(&self.state, now);
        self.waiting = decision.waiting.into_iter().collect();
        self.decided_at = Some(now);
        let mut orders = Vec::new();
        for action in decision.actions {
            match action {
                Action::Start(start) => {
                    self.state.started(&start, now);
                    match self.order(start.job) {
                        Some(order) => orders.push(order),
                        None => self.refused(start.job, now),
                    }
                }
                // The run itself takes its disks to another proxy; which one is its own choice, made of
                // the same facts.
                Action::Move { job, lane, to, .. } => self.state.moved(job, lane, to),
                Action::Skip { job, until } => self.state.skipped(job, until),
            }
        }
        orders
    }

    fn order(&self, job: JobIx) -> Option<Order> {
        let entry = self.jobs.get(&job)?;
        let policy = Arc::clone(&self.policies.get(&entry.policy)?.1);
        Some(Order {
            job,
            repository: self.repository_of(&policy)?,
            policy,
            member: entry.member.clone(),
        })
    }

    /// How many runs that are due wait for what; everything is told, with none waiting too.
    pub fn waits(&self) -> BTreeMap<&'static str, usize> {
        let mut counts: BTreeMap<_, _> = RESOURCES.into_iter().map(|name| (name, 0)).collect();
        for blocked in self.waiting.values() {
            *counts.entry(resource(*blocked)).or_default() += 1;
        }
        counts
    }

    /// Tells that an order became this run.
    pub fn begun(&mut self, order: &Order, run: RunId) {
        self.running.insert(run, order.job);
    }

    /// Tells that no run could be made of an order; it is tried again like one that failed.
    pub fn not_begun(&mut self, order: &Order, now: Timestamp) {
        self.refused(order.job, now);
    }

    fn refused(&mut self, job: JobIx, now: Timestamp) {
        let nothing = Outcome {
            point: None,
            create: Default::default(),
            remove: Default::default(),
            stun: Default::default(),
        };
        self.state.finished(job, &nothing, now);
    }

    /// Runs of jobs that are on their way, as far as is known here.
    pub fn running(&self) -> BTreeSet<RunId> {
        self.running.keys().copied().collect()
    }

    /// Tells how a run ended, whoever asked for it: a point is a point.
    pub fn ended(&mut self, run: &Run, now: Timestamp) {
        let made = self.past.note(run);
        let own = self.running.remove(&run.id);
        if let Some(own) = own {
            let ended = run.ended_at.unwrap_or(now);
            self.state.finished(own, &past::outcome(run), ended);
            self.expect(own);
        }
        let (Work::Backup(work), Some((repository, point))) = (&run.work, made) else {
            return;
        };
        let others = self.by_vm.get(&work.vm).into_iter().flatten();
        for ix in others.filter(|ix| Some(**ix) != own) {
            let policy = self.jobs.get(ix).map(|entry| &entry.policy);
            let policy = policy.and_then(|name| self.policies.get(name));
            if policy.and_then(|(_, policy)| self.repository_of(policy)) == Some(repository) {
                self.state.seen(*ix, point);
            }
        }
    }

    /// Tells that a run is over of which nothing can be read any more.
    pub fn vanished(&mut self, run: RunId, now: Timestamp) {
        if let Some(job) = self.running.remove(&run) {
            self.refused(job, now);
        }
    }

    /// What the next run reads is expected to be what this one read.
    fn expect(&mut self, ix: JobIx) {
        let Some((policy, member)) = self
            .jobs
            .get(&ix)
            .filter(|entry| entry.in_scope)
            .and_then(|entry| Some((self.policies.get(&entry.policy)?.0, entry.member.clone())))
        else {
            return;
        };
        let load = self.load(&member);
        // The moment counts only for a job that is new or comes back, which this one does not.
        self.state.job(policy, load.clone(), Timestamp::MIN);
        if let Some(entry) = self.jobs.get_mut(&ix) {
            entry.load = load;
        }
    }

    /// Whether it was ever told what is promised.
    pub(super) fn has_looked(&self) -> bool {
        self.began.is_some()
    }

    /// When to decide again if nothing happens before.
    pub fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        next_wake(&self.state, now)
    }
}

/// What runs wait for.
const RESOURCES: [&str; 6] = ["vm", "policy", "repository", "host", "datastore", "proxy"];

const fn resource(blocked: Blocked) -> &'static str {
    match blocked {
        Blocked::VmBusy => "vm",
        Blocked::PolicyLimit(_) => "policy",
        Blocked::RepositorySessions(_) | Blocked::RepositoryClosed(_) => "repository",
        Blocked::HostSnapshots(_) => "host",
        Blocked::DatastoreSnapshots(_) | Blocked::DatastoreFull(_) => "datastore",
        Blocked::ProxySlots(_) | Blocked::NoProxy(_) => "proxy",
    }
}

#[cfg(test)]
mod tests;
