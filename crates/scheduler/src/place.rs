//! On what a run could start, all of it free; or what is missing.

use std::collections::HashSet;

use crate::job::DiskLoad;
use crate::resource::{Standing, VmIx};
use crate::state::{Held, datastores, kept};
use crate::{DatastoreIx, HostIx, Job, JobIx, PolicyIx, ProxyIx, RepositoryIx, State, Transport};

/// A run that is to start, with everything that it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Which job.
    pub job: JobIx,
    /// Where its points go.
    pub repository: RepositoryIx,
    /// Who reads its disks; each lane is one slot of its proxy.
    pub lanes: Vec<Lane>,
    /// Its turn in the fair order of policies.
    pub(crate) turn: f64,
    /// What it costs its policy there.
    pub(crate) cost: f64,
    /// How far the fair order had come.
    pub(crate) fair: f64,
}

/// Disks that one slot of a proxy reads, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The proxy.
    pub proxy: ProxyIx,
    /// Device keys, in order.
    pub disks: Vec<i32>,
    /// What is expected to be read.
    pub bytes: u64,
}

/// Why a run that is due does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blocked {
    /// Another run of the VM is on its way, or somebody else works on it.
    VmBusy,
    /// The policy has as many runs as it allows.
    PolicyLimit(PolicyIx),
    /// The repository has as many sessions as it takes.
    RepositorySessions(RepositoryIx),
    /// The repository takes nothing new.
    RepositoryClosed(RepositoryIx),
    /// As many VMs of the host are in runs as may be.
    HostSnapshots(HostIx),
    /// As many VMs of the datastore are in runs as may be.
    DatastoreSnapshots(DatastoreIx),
    /// The datastore has no room for snapshots to grow.
    DatastoreFull(DatastoreIx),
    /// Every proxy that reads the datastore is busy.
    ProxySlots(DatastoreIx),
    /// No proxy that takes work reads the datastore.
    NoProxy(DatastoreIx),
}

impl Blocked {
    /// What to add or to change so that it blocks nothing.
    pub fn advice(&self, state: &State) -> String {
        let datastore = |ix: &DatastoreIx| &state.datastores[ix.at()].name;
        let repository = |ix: &RepositoryIx| &state.repositories[ix.at()].name;
        match self {
            Blocked::VmBusy => "wait: another run of the vm is on its way".into(),
            Blocked::PolicyLimit(ix) => format!(
                "raise limits.runs of policy {}",
                state.policies[ix.at()].terms.name
            ),
            Blocked::RepositorySessions(ix) => {
                format!("add a repository beside {}", repository(ix))
            }
            Blocked::RepositoryClosed(ix) => {
                format!("bring back repository {}, or give it room", repository(ix))
            }
            Blocked::HostSnapshots(ix) => format!(
                "spread the vms of host {}, or raise its snapshots",
                state.hosts[ix.at()].name
            ),
            Blocked::DatastoreSnapshots(ix) => format!(
                "spread the vms of datastore {}, or raise its snapshots",
                datastore(ix)
            ),
            Blocked::DatastoreFull(ix) => format!("make room on datastore {}", datastore(ix)),
            Blocked::ProxySlots(ix) => {
                format!("add a proxy that reads datastore {}", datastore(ix))
            }
            Blocked::NoProxy(ix) => format!(
                "add a proxy that reads datastore {}: none that takes work does",
                datastore(ix)
            ),
        }
    }
}

/// What is taken, with what this decision has taken already.
pub(crate) struct Plan<'a> {
    pub(crate) state: &'a State,
    policies: Vec<u32>,
    hosts: Vec<u32>,
    datastores: Vec<u32>,
    repositories: Vec<u32>,
    proxies: Vec<u32>,
    given: Vec<f64>,
    busy: HashSet<VmIx>,
    had: Vec<f64>,
    fair: f64,
    /// Datastores whose readers are all busy, to jobs as such and to those with tight promises. Within a decision slots are only ever taken.
    dry: [Vec<bool>; 2],
}

impl<'a> Plan<'a> {
    pub(crate) fn new(state: &'a State) -> Self {
        Self {
            state,
            policies: state.policies.iter().map(|policy| policy.used).collect(),
            hosts: state.hosts.iter().map(|host| host.used).collect(),
            datastores: state.datastores.iter().map(|held| held.used).collect(),
            repositories: state.repositories.iter().map(|held| held.used).collect(),
            proxies: state.proxies.iter().map(|proxy| proxy.used).collect(),
            given: state.proxies.iter().map(|proxy| proxy.given).collect(),
            busy: HashSet::new(),
            had: state.policies.iter().map(|policy| policy.had).collect(),
            fair: state.fair,
            dry: [(); 2].map(|()| vec![false; state.datastores.len()]),
        }
    }

    /// Whose turn it is, policy against policy: the least is next.
    pub(crate) fn turn(&self, policy: PolicyIx) -> f64 {
        self.had[policy.at()].max(self.fair)
    }

    /// Everything that a run of the job needs, or the first thing that is missing.
    pub(crate) fn place(&mut self, ix: JobIx) -> Result<Start, Blocked> {
        let job = &self.state.jobs[ix.at()];
        let repository = self.room(job)?;
        let lanes = self.lanes(job)?;
        // Slot seconds: what the run keeps from others.
        let cost = job.history.usual_secs().max(1.0) * lanes.len().max(1) as f64;
        Ok(Start {
            job: ix,
            repository,
            lanes,
            turn: self.turn(job.policy),
            cost,
            fair: self.fair,
        })
    }

    /// Whether there is room for the run beside its proxies.
    fn room(&self, job: &Job) -> Result<RepositoryIx, Blocked> {
        let state = self.state;
        let terms = &state.policies[job.policy.at()].terms;
        let is_busy = state.vm_busy[job.vm.at()] || state.engaged.contains(&job.vm);
        if is_busy || self.busy.contains(&job.vm) {
            return Err(Blocked::VmBusy);
        }
        if self.policies[job.policy.at()] >= terms.runs_max {
            return Err(Blocked::PolicyLimit(job.policy));
        }
        let repository = terms.repository;
        let facts = &state.repositories[repository.at()].facts;
        if !facts.accepts {
            return Err(Blocked::RepositoryClosed(repository));
        }
        let tight = is_tight(state, job);
        let held = &state.repositories[repository.at()];
        if self.repositories[repository.at()] >= open(facts.sessions_max, held, tight) {
            return Err(Blocked::RepositorySessions(repository));
        }
        let host = job.load.host;
        let held = &state.hosts[host.at()];
        if self.hosts[host.at()] >= open(held.facts.snapshots_max, held, tight) {
            return Err(Blocked::HostSnapshots(host));
        }
        for disk in &job.load.disks {
            let datastore = disk.datastore;
            let held = &state.datastores[datastore.at()];
            let facts = &held.facts;
            if !facts.has_room {
                return Err(Blocked::DatastoreFull(datastore));
            }
            if self.datastores[datastore.at()] >= open(facts.snapshots_max, held, tight) {
                return Err(Blocked::DatastoreSnapshots(datastore));
            }
        }
        Ok(repository)
    }

    /// Spreads the disks of a VM over proxies: by the best transport, then by load.
    ///
    /// One free slot for each datastore is enough to start: what has no slot of its own waits its turn in a lane of the same run.
    fn lanes(&mut self, job: &Job) -> Result<Vec<Lane>, Blocked> {
        let tight = is_tight(self.state, job);
        // Thousands may wait for the same few proxies: most of them are answered here.
        let dry = &self.dry[usize::from(tight)];
        if let Some(first) = job.load.disks.first()
            && job.load.disks.iter().all(|disk| dry[disk.datastore.at()])
        {
            return Err(self.missing(first.datastore, true, tight));
        }
        let most = self.state.policies[job.policy.at()].terms.disks_per_vm;
        let mut disks: Vec<&DiskLoad> = job.load.disks.iter().collect();
        // The largest first: the small ones fill up the lanes.
        disks.sort_by_key(|disk| (std::cmp::Reverse(disk.bytes), disk.key));
        let mut lanes: Vec<Lane> = Vec::new();
        for disk in disks {
            let room = lanes.len() < most as usize;
            let fresh = room
                .then(|| self.reader(disk.datastore, &lanes, tight))
                .flatten();
            if let Some(proxy) = fresh {
                lanes.push(Lane::new(proxy, disk));
                continue;
            }
            if let Some(lane) = self.shared(disk.datastore, &mut lanes) {
                lane.disks.push(disk.key);
                lane.bytes += disk.bytes;
                continue;
            }
            match self.reader(disk.datastore, &lanes, tight) {
                Some(proxy) => lanes.push(Lane::new(proxy, disk)),
                None => return Err(self.missing(disk.datastore, lanes.is_empty(), tight)),
            }
        }
        Ok(lanes)
    }

    /// The proxy with a free slot that reads the datastore best.
    pub(crate) fn reader(
        &self,
        datastore: DatastoreIx,
        lanes: &[Lane],
        tight: bool,
    ) -> Option<ProxyIx> {
        if self.dry[usize::from(tight)][datastore.at()] {
            return None;
        }
        let mut best: Option<(Transport, f64, f64, ProxyIx)> = None;
        for (transport, proxy) in &self.state.readers[datastore.at()] {
            if best.is_some_and(|(found, ..)| found < *transport) {
                break;
            }
            let entry = &self.state.proxies[proxy.at()];
            let facts = &entry.facts;
            let slots_open = facts
                .slots
                .saturating_sub(if tight { 0 } else { entry.kept });
            let own = lanes.iter().filter(|lane| lane.proxy == *proxy);
            let (mut used, mut given) = (self.proxies[proxy.at()], self.given[proxy.at()]);
            for lane in own {
                used += 1;
                given += lane.bytes as f64;
            }
            if facts.standing != Standing::Online || used >= slots_open {
                continue;
            }
            let slots = f64::from(facts.slots);
            let load = (f64::from(used) / slots, given / slots);
            if best.is_none_or(|(_, used, given, _)| load < (used, given)) {
                best = Some((*transport, load.0, load.1, *proxy));
            }
        }
        best.map(|(.., proxy)| proxy)
    }

    /// The lane with least to do whose proxy reads the datastore.
    fn shared<'l>(&self, datastore: DatastoreIx, lanes: &'l mut [Lane]) -> Option<&'l mut Lane> {
        let readers = &self.state.readers[datastore.at()];
        lanes
            .iter_mut()
            .filter(|lane| readers.iter().any(|(_, proxy)| *proxy == lane.proxy))
            .min_by_key(|lane| lane.bytes)
    }

    fn missing(&mut self, datastore: DatastoreIx, is_first: bool, tight: bool) -> Blocked {
        if is_first {
            self.dry[usize::from(tight)][datastore.at()] = true;
        }
        let online = self.state.readers[datastore.at()]
            .iter()
            .any(|(_, proxy)| self.state.proxies[proxy.at()].facts.standing == Standing::Online);
        if online {
            Blocked::ProxySlots(datastore)
        } else {
            Blocked::NoProxy(datastore)
        }
    }

    /// What was placed is taken.
    pub(crate) fn take(&mut self, start: &Start) {
        let job = &self.state.jobs[start.job.at()];
        self.busy.insert(job.vm);
        let policy = job.policy.at();
        self.policies[policy] += 1;
        self.repositories[start.repository.at()] += 1;
        self.take_snapshots(job);
        for lane in &start.lanes {
            self.proxies[lane.proxy.at()] += 1;
            self.given[lane.proxy.at()] += lane.bytes as f64;
        }
        let weight = f64::from(self.state.policies[policy].terms.priority.max(1));
        self.fair = self.fair.max(start.fair);
        self.had[policy] = start.turn + start.cost / weight;
    }

    /// Holds back the snapshots that a run needs, so that it gets them all when the last one is free:
    /// others would take one of them again and again.
    pub(crate) fn reserve(&mut self, ix: JobIx) {
        self.take_snapshots(&self.state.jobs[ix.at()]);
    }

    fn take_snapshots(&mut self, job: &Job) {
        self.hosts[job.load.host.at()] += 1;
        for datastore in datastores(&job.load) {
            self.datastores[datastore.at()] += 1;
        }
    }

    /// A slot that a lane moves to is taken.
    pub(crate) fn take_slot(&mut self, proxy: ProxyIx, bytes: u64) {
        self.proxies[proxy.at()] += 1;
        self.given[proxy.at()] += bytes as f64;
    }
}

/// Whether what is kept for tight promises is for this job: not while it has no point, since a run that
/// reads a whole VM is what the others are kept safe from.
fn is_tight(state: &State, job: &Job) -> bool {
    state.policies[job.policy.at()].terms.tightness() > 0.0 && job.history.last_point.is_some()
}

/// How much of so much is open to a job.
fn open<T>(most: u32, held: &Held<T>, tight: bool) -> u32 {
    most - if tight { 0 } else { kept(most, held.wanted) }
}

impl Lane {
    fn new(proxy: ProxyIx, disk: &DiskLoad) -> Self {
        Self {
            proxy,
            disks: vec![disk.key],
            bytes: disk.bytes,
        }
    }
}
