//! All that a decision is made of, and what keeps it up to date.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use stillwater_policy::{Policy, Schedule, When};
use stillwater_types::{NodeId, VmId};

use crate::job::{Dates, History, Job, Outcome, VmLoad};
use crate::place::{Lane, Start};
use crate::resource::VmIx;
use crate::{
    DatastoreFacts, DatastoreIx, HostFacts, HostIx, JobIx, PolicyIx, ProxyFacts, ProxyIx,
    RepositoryFacts, RepositoryIx, Standing, Transport,
};

/// Promises as tight as this have something of everything kept for them: they cannot wait for the end of a
/// run that reads a whole VM.
const TIGHT_SECS: i64 = 3_600;
/// Disks of one VM that are read at once, unless its policy says otherwise.
const DISKS_PER_VM: u32 = 4;

/// What the scheduler asks of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyTerms {
    /// Its name.
    pub name: String,
    /// When it wants points.
    pub schedule: Schedule,
    /// Its share when there is not enough for all: 1 to 9.
    pub priority: u8,
    /// How many of its runs there may be at once.
    pub runs_max: u32,
    /// How many disks of one VM are read at once.
    pub disks_per_vm: u32,
    /// Where its points are kept.
    pub repository: RepositoryIx,
}

impl PolicyTerms {
    /// What the scheduler asks of this policy.
    pub fn of(policy: &Policy, repository: RepositoryIx) -> Self {
        Self {
            name: policy.name.clone(),
            schedule: policy.schedule.clone(),
            priority: policy.priority,
            runs_max: policy.limits.runs.unwrap_or(u32::MAX),
            disks_per_vm: policy.limits.disks_per_vm.unwrap_or(DISKS_PER_VM),
            repository,
        }
    }

    /// How much of a slot is kept for each of its jobs: all of it at one minute, nothing beyond an hour.
    pub(crate) fn tightness(&self) -> f64 {
        match &self.schedule.when {
            When::Rpo(rpo) if rpo.secs() <= TIGHT_SECS => (60.0 / rpo.secs() as f64).min(1.0),
            When::Rpo(_) | When::Cron { .. } => 0.0,
        }
    }
}

/// A thing with room for so many, and how much of it is taken.
#[derive(Debug, Clone)]
pub(crate) struct Held<T> {
    pub(crate) name: String,
    pub(crate) facts: T,
    pub(crate) used: u32,
    /// How much of it jobs with tight promises want.
    pub(crate) wanted: f64,
}

/// A policy, and what its runs had so far.
#[derive(Debug, Clone)]
pub(crate) struct PolicyEntry {
    pub(crate) terms: PolicyTerms,
    pub(crate) used: u32,
    /// Up to where of the fair order its runs had their share.
    pub(crate) had: f64,
    jobs: BTreeSet<JobIx>,
}

/// A proxy, and what it was given so far.
#[derive(Debug, Clone)]
pub(crate) struct ProxyEntry {
    pub(crate) facts: ProxyFacts,
    pub(crate) used: u32,
    /// Bytes that it was given, for spreading what its load leaves open.
    pub(crate) given: f64,
    /// Slots that are kept for jobs with tight promises.
    pub(crate) kept: u32,
}

/// A run on its way, and what it holds.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) start: Start,
    pub(crate) since: Timestamp,
    pub(crate) repository: RepositoryIx,
    pub(crate) host: HostIx,
    pub(crate) datastores: Vec<DatastoreIx>,
}

/// All that a decision is made of.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(crate) policies: Vec<PolicyEntry>,
    pub(crate) hosts: Vec<Held<HostFacts>>,
    pub(crate) datastores: Vec<Held<DatastoreFacts>>,
    pub(crate) repositories: Vec<Held<RepositoryFacts>>,
    pub(crate) proxies: Vec<ProxyEntry>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) running: BTreeMap<JobIx, Running>,
    pub(crate) vm_busy: Vec<bool>,
    /// VMs that somebody else works on.
    pub(crate) engaged: BTreeSet<VmIx>,
    /// Which proxies read a datastore, the best transport first.
    pub(crate) readers: Vec<Vec<(Transport, ProxyIx)>>,
    /// Jobs that do not run, by when they are due.
    pub(crate) by_due: BTreeSet<(Timestamp, JobIx)>,
    /// All jobs, by when their promise is broken.
    pub(crate) by_deadline: BTreeSet<(Timestamp, JobIx)>,
    /// How far the fair order has come.
    pub(crate) fair: f64,
    names: Names,
}

/// Who has which number.
#[derive(Debug, Clone, Default)]
struct Names {
    policies: BTreeMap<String, PolicyIx>,
    hosts: BTreeMap<String, HostIx>,
    datastores: BTreeMap<String, DatastoreIx>,
    repositories: BTreeMap<String, RepositoryIx>,
    proxies: BTreeMap<NodeId, ProxyIx>,
    vms: BTreeMap<VmId, VmIx>,
    jobs: BTreeMap<(PolicyIx, VmIx), JobIx>,
}

impl State {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells of a host, or what changed of it.
    pub fn host(&mut self, name: &str, facts: HostFacts) -> HostIx {
        let next = HostIx::of(self.hosts.len());
        let ix = *self.names.hosts.entry(name.to_owned()).or_insert(next);
        tell(&mut self.hosts, ix.at(), name, facts);
        ix
    }

    /// Tells of a datastore, or what changed of it.
    pub fn datastore(&mut self, name: &str, facts: DatastoreFacts) -> DatastoreIx {
        let next = DatastoreIx::of(self.datastores.len());
        let ix = *self.names.datastores.entry(name.to_owned()).or_insert(next);
        tell(&mut self.datastores, ix.at(), name, facts);
        self.readers.resize(self.datastores.len(), Vec::new());
        ix
    }

    /// Tells of a repository, or what changed of it.
    pub fn repository(&mut self, name: &str, facts: RepositoryFacts) -> RepositoryIx {
        let next = RepositoryIx::of(self.repositories.len());
        let ix = *self
            .names
            .repositories
            .entry(name.to_owned())
            .or_insert(next);
        tell(&mut self.repositories, ix.at(), name, facts);
        ix
    }

    /// Tells of a proxy, or what changed of it: slots, standing, reach.
    pub fn proxy(&mut self, facts: ProxyFacts) -> ProxyIx {
        let next = ProxyIx::of(self.proxies.len());
        let ix = *self.names.proxies.entry(facts.node).or_insert(next);
        for readers in &mut self.readers {
            readers.retain(|(_, proxy)| *proxy != ix);
        }
        for (datastore, transport) in &facts.reach {
            let readers = &mut self.readers[datastore.at()];
            readers.push((*transport, ix));
            readers.sort_unstable();
        }
        if ix == next {
            // A newcomer is one among equals: it need not catch up with what others ever did.
            let least = self.proxies.iter().map(|proxy| proxy.given);
            let given = least.min_by(f64::total_cmp).unwrap_or(0.0);
            self.proxies.push(ProxyEntry {
                facts,
                used: 0,
                given,
                kept: 0,
            });
        } else {
            self.proxies[ix.at()].facts = facts;
        }
        self.keep_slots();
        ix
    }

    /// Tells of a policy, or what changed of it.
    pub fn policy(&mut self, terms: PolicyTerms) -> PolicyIx {
        let next = PolicyIx::of(self.policies.len());
        let ix = *self
            .names
            .policies
            .entry(terms.name.clone())
            .or_insert(next);
        if ix == next {
            self.policies.push(PolicyEntry {
                terms,
                used: 0,
                had: self.fair,
                jobs: BTreeSet::new(),
            });
            return ix;
        }
        let jobs: Vec<JobIx> = self.policies[ix.at()].jobs.iter().copied().collect();
        jobs.iter().for_each(|job| self.want(*job, -1.0));
        self.policies[ix.at()].terms = terms;
        for job in jobs {
            self.want(job, 1.0);
            self.reckon(job);
        }
        ix
    }

    /// Tells that a VM is in a policy's scope from `since` on, or what changed of the VM.
    pub fn job(&mut self, policy: PolicyIx, load: VmLoad, since: Timestamp) -> JobIx {
        let next = VmIx::of(self.names.vms.len());
        let vm = *self.names.vms.entry(load.vm.clone()).or_insert(next);
        if vm == next {
            self.vm_busy.push(false);
        }
        let next = JobIx::of(self.jobs.len());
        let ix = *self.names.jobs.entry((policy, vm)).or_insert(next);
        if ix == next {
            self.jobs
                .push(Job::new(policy, vm, load, History::new(since)));
        } else {
            self.want(ix, -1.0);
            let job = &mut self.jobs[ix.at()];
            if job.retired {
                job.retired = false;
                job.history.since = since;
                job.history.served = job.history.served.max(since);
            }
            job.load = load;
        }
        self.want(ix, 1.0);
        self.policies[policy.at()].jobs.insert(ix);
        self.reckon(ix);
        ix
    }

    /// Tells that a VM left a policy's scope. A run on its way goes on; no other one follows.
    pub fn retire(&mut self, job: JobIx) {
        self.forget_dates(job);
        self.want(job, -1.0);
        self.jobs[job.at()].retired = true;
        let policy = self.jobs[job.at()].policy;
        self.policies[policy.at()].jobs.remove(&job);
    }

    /// Tells of a point that was there before, such as after a restart.
    pub fn seen(&mut self, job: JobIx, point: Timestamp) {
        let history = &mut self.jobs[job.at()].history;
        history.last_point = history.last_point.max(Some(point));
        history.served = history.served.max(point);
        self.reckon(job);
    }

    /// Tells how a run went that nobody told of when it went, such as before a restart. Runs of a job are told
    /// in the order in which they ended.
    pub fn remember(
        &mut self,
        job: JobIx,
        started: Timestamp,
        outcome: &Outcome,
        ended: Timestamp,
    ) {
        let history = &mut self.jobs[job.at()].history;
        history.last_start = Some(started);
        history.ended(outcome, ended);
        self.reckon(job);
    }

    /// Tells that a run of the job is on its way which was not decided here, such as before a restart.
    pub fn resume(&mut self, job: JobIx, lanes: Vec<Lane>, since: Timestamp) {
        let policy = self.jobs[job.at()].policy;
        let entry = &self.policies[policy.at()];
        let start = Start {
            job,
            repository: entry.terms.repository,
            lanes,
            turn: entry.had.max(self.fair),
            // It had its share when it was decided.
            cost: 0.0,
            fair: self.fair,
        };
        self.started(&start, since);
    }

    /// Tells whether somebody else works on the VM of a job, such as an administrator's own run.
    pub fn engage(&mut self, job: JobIx, is_engaged: bool) {
        let vm = self.jobs[job.at()].vm;
        match is_engaged {
            true => self.engaged.insert(vm),
            false => self.engaged.remove(&vm),
        };
    }

    /// Tells that what was decided is being done.
    pub fn started(&mut self, start: &Start, now: Timestamp) {
        let ix = start.job;
        let job = &mut self.jobs[ix.at()];
        job.history.last_start = Some(now);
        let running = Running {
            start: start.clone(),
            since: now,
            repository: self.policies[job.policy.at()].terms.repository,
            host: job.load.host,
            datastores: datastores(&job.load),
        };
        self.vm_busy[job.vm.at()] = true;
        let policy = &mut self.policies[job.policy.at()];
        policy.used += 1;
        self.fair = self.fair.max(start.fair);
        policy.had = start.turn + start.cost / f64::from(policy.terms.priority.max(1));
        self.hosts[running.host.at()].used += 1;
        self.repositories[running.repository.at()].used += 1;
        for datastore in &running.datastores {
            self.datastores[datastore.at()].used += 1;
        }
        for lane in &start.lanes {
            let proxy = &mut self.proxies[lane.proxy.at()];
            proxy.used += 1;
            proxy.given += lane.bytes as f64;
        }
        self.running.insert(ix, running);
        let due = self.jobs[ix.at()].plan.due;
        self.by_due.remove(&(due, ix));
    }

    /// Tells that a lane of a run goes on on another proxy.
    pub fn moved(&mut self, job: JobIx, lane: usize, to: ProxyIx) {
        let Some(lane) = self
            .running
            .get_mut(&job)
            .and_then(|running| running.start.lanes.get_mut(lane))
        else {
            return;
        };
        let from = std::mem::replace(&mut lane.proxy, to);
        give_back(&mut self.proxies[from.at()].used);
        let proxy = &mut self.proxies[to.at()];
        proxy.used += 1;
        proxy.given += lane.bytes as f64;
    }

    /// Tells how a run ended; everything that it held is free.
    pub fn finished(&mut self, job: JobIx, outcome: &Outcome, now: Timestamp) {
        let Some(running) = self.running.remove(&job) else {
            return;
        };
        let entry = &mut self.jobs[job.at()];
        self.vm_busy[entry.vm.at()] = false;
        let policy = &mut self.policies[entry.policy.at()];
        give_back(&mut policy.used);
        give_back(&mut self.hosts[running.host.at()].used);
        give_back(&mut self.repositories[running.repository.at()].used);
        for datastore in &running.datastores {
            give_back(&mut self.datastores[datastore.at()].used);
        }
        for Lane { proxy, .. } in &running.start.lanes {
            give_back(&mut self.proxies[proxy.at()].used);
        }
        entry.history.ended(outcome, now);
        self.reckon(job);
    }

    /// Tells that cron times up to `time` are given up.
    pub fn skipped(&mut self, job: JobIx, time: Timestamp) {
        let history = &mut self.jobs[job.at()].history;
        history.served = history.served.max(time);
        self.reckon(job);
    }

    /// A job by its number.
    pub fn job_at(&self, job: JobIx) -> &Job {
        &self.jobs[job.at()]
    }

    /// A policy's terms by its number.
    pub fn policy_at(&self, policy: PolicyIx) -> &PolicyTerms {
        &self.policies[policy.at()].terms
    }

    /// A proxy by its number.
    pub fn proxy_at(&self, proxy: ProxyIx) -> &ProxyFacts {
        &self.proxies[proxy.at()].facts
    }

    /// How many slots of a proxy are taken, and how many it has.
    pub fn slots_of(&self, proxy: ProxyIx) -> (u32, u32) {
        let proxy = &self.proxies[proxy.at()];
        (proxy.used, proxy.facts.slots)
    }

    /// Jobs that run, and since when.
    pub fn running(&self) -> impl Iterator<Item = (JobIx, Timestamp)> + '_ {
        self.running.iter().map(|(job, run)| (*job, run.since))
    }

    /// When the promise of a job is broken, if no point comes before.
    pub fn deadline(&self, job: JobIx) -> Timestamp {
        self.jobs[job.at()].plan.deadline
    }

    /// When a job that does not run is due.
    pub fn due(&self, job: JobIx) -> Timestamp {
        self.jobs[job.at()].plan.due
    }

    /// Adds what a job with a tight promise wants to have kept, or takes it away again.
    fn want(&mut self, ix: JobIx, sign: f64) {
        let job = &self.jobs[ix.at()];
        let terms = &self.policies[job.policy.at()].terms;
        let share = terms.tightness() * sign;
        if share == 0.0 || job.retired {
            return;
        }
        self.repositories[terms.repository.at()].wanted += share;
        self.hosts[job.load.host.at()].wanted += share;
        for datastore in datastores(&job.load) {
            self.datastores[datastore.at()].wanted += share;
        }
        self.keep_slots();
    }

    /// Spreads what is wanted on each datastore over the proxies that read it.
    fn keep_slots(&mut self) {
        let mut wanted = vec![0.0; self.proxies.len()];
        for (held, readers) in self.datastores.iter().zip(&self.readers) {
            let takes_work = |reader: &&(Transport, ProxyIx)| {
                self.proxies[reader.1.at()].facts.standing == Standing::Online
            };
            let online = readers.iter().filter(takes_work);
            let count = online.clone().count().max(1) as f64;
            online.for_each(|(_, proxy)| wanted[proxy.at()] += held.wanted / count);
        }
        for (proxy, wanted) in self.proxies.iter_mut().zip(wanted) {
            proxy.kept = kept(proxy.facts.slots, wanted);
        }
    }

    fn forget_dates(&mut self, ix: JobIx) {
        let Dates { due, deadline, .. } = self.jobs[ix.at()].plan;
        self.by_due.remove(&(due, ix));
        self.by_deadline.remove(&(deadline, ix));
    }

    /// Reckons anew when a job is due.
    fn reckon(&mut self, ix: JobIx) {
        self.forget_dates(ix);
        let job = &mut self.jobs[ix.at()];
        if job.retired {
            return;
        }
        job.plan = job.dates(&self.policies[job.policy.at()].terms.schedule);
        self.by_deadline.insert((job.plan.deadline, ix));
        if !self.running.contains_key(&ix) {
            self.by_due.insert((job.plan.due, ix));
        }
    }
}

fn tell<T>(known: &mut Vec<Held<T>>, at: usize, name: &str, facts: T) {
    match known.get_mut(at) {
        Some(held) => held.facts = facts,
        None => known.push(Held {
            name: name.to_owned(),
            facts,
            used: 0,
            wanted: 0.0,
        }),
    }
}

/// How much of so much is kept when so much is wanted: never more than a quarter, but one of two.
pub(crate) fn kept(most: u32, wanted: f64) -> u32 {
    // What was added and taken away again leaves crumbs.
    if wanted < 1e-6 || most < 2 {
        return 0;
    }
    (wanted.ceil() as u32).min((most / 4).max(1))
}

fn give_back(used: &mut u32) {
    debug_assert!(*used > 0, "what is given back was taken");
    *used = used.saturating_sub(1);
}

/// Every datastore that a run of the VM has snapshots on, once.
pub(crate) fn datastores(load: &VmLoad) -> Vec<DatastoreIx> {
    let mut all: Vec<DatastoreIx> = load.disks.iter().map(|disk| disk.datastore).collect();
    all.sort_unstable();
    all.dedup();
    all
}
