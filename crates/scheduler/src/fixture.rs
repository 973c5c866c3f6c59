//! A small world for tests: two hosts, two datastores, two proxies, one repository.

use std::time::Duration;

use jiff::Timestamp;
use stillwater_policy::{Schedule, Span};
use stillwater_types::{NodeId, VcenterId, VmId};

use crate::{
    Action, DatastoreFacts, DatastoreIx, Decision, DiskLoad, HostFacts, HostIx, JobIx, Outcome,
    PolicyIx, PolicyTerms, ProxyFacts, ProxyIx, RepositoryFacts, RepositoryIx, Standing, Start,
    State, Transport, VmLoad, decide,
};

pub(crate) const GIB: u64 = 1 << 30;

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().expect("is a moment")
}

/// So many seconds after the beginning of the tests' time.
pub(crate) fn second(secs: i64) -> Timestamp {
    crate::plus(at("2026-03-02T00:00:00Z"), secs)
}

pub(crate) fn schedule(text: &str) -> Schedule {
    toml::from_str(text).expect("is a schedule")
}

pub(crate) struct Small {
    pub(crate) state: State,
    pub(crate) hosts: [HostIx; 2],
    pub(crate) datastores: [DatastoreIx; 2],
    pub(crate) proxies: [ProxyIx; 2],
    pub(crate) repository: RepositoryIx,
}

impl Small {
    /// Plenty of everything; the first proxy attaches disks of the first datastore.
    pub(crate) fn new() -> Self {
        let mut state = State::new();
        let hosts = ["esx1", "esx2"].map(|name| state.host(name, HostFacts { snapshots_max: 9 }));
        let room = DatastoreFacts {
            snapshots_max: 9,
            has_room: true,
        };
        let datastores = ["ds1", "ds2"].map(|name| state.datastore(name, room));
        let facts = RepositoryFacts {
            sessions_max: 9,
            accepts: true,
        };
        let repository = state.repository("main", facts);
        let [one, two] = datastores;
        let first = [(one, Transport::HotAdd), (two, Transport::Nfc)];
        let second = [(one, Transport::Nfc), (two, Transport::Nfc)];
        let proxies = [
            state.proxy(proxy(1, 4, Standing::Online, &first)),
            state.proxy(proxy(2, 4, Standing::Online, &second)),
        ];
        Self {
            state,
            hosts,
            datastores,
            proxies,
            repository,
        }
    }

    pub(crate) fn policy(&mut self, name: &str, schedule: Schedule, priority: u8) -> PolicyIx {
        self.state.policy(PolicyTerms {
            name: name.into(),
            schedule,
            priority,
            runs_max: u32::MAX,
            disks_per_vm: 4,
            repository: self.repository,
        })
    }

    pub(crate) fn hourly(&mut self) -> PolicyIx {
        self.policy("hourly", Schedule::rpo(Span::from_hours(1)), 5)
    }

    /// A VM with a disk of so many GiB on each of these datastores.
    pub(crate) fn load(&self, number: u8, disks: &[(usize, u64)]) -> VmLoad {
        let disks = (2_000..)
            .zip(disks)
            .map(|(key, (datastore, gib))| DiskLoad {
                key,
                datastore: self.datastores[*datastore],
                bytes: gib * GIB,
            });
        VmLoad {
            vm: VmId {
                vcenter: VcenterId::from_bytes([1; 16]),
                moref: format!("vm-{number}"),
            },
            host: self.hosts[usize::from(number) % 2],
            disks: disks.collect(),
        }
    }

    /// A VM with one disk on the first datastore whose last point is of `second(0)`.
    pub(crate) fn protected(&mut self, policy: PolicyIx, number: u8) -> JobIx {
        let load = self.load(number, &[(0, 10)]);
        let job = self.state.job(policy, load, second(-86_400));
        self.state.seen(job, second(0));
        job
    }

    /// Decides and does it.
    pub(crate) fn step(&mut self, now: Timestamp) -> Decision {
        let decision = decide(&self.state, now);
        for action in &decision.actions {
            match action {
                Action::Start(start) => self.state.started(start, now),
                Action::Move { job, lane, to, .. } => self.state.moved(*job, *lane, *to),
                Action::Skip { job, until } => self.state.skipped(*job, *until),
            }
        }
        decision
    }

    /// A run from its start to its point.
    pub(crate) fn run(&mut self, job: JobIx, from: Timestamp, secs: i64, stun: Duration) {
        let started = starts(&self.step(from));
        assert!(started.iter().any(|start| start.job == job), "{started:?}");
        let outcome = good(from, stun);
        self.state.finished(job, &outcome, crate::plus(from, secs));
    }
}

pub(crate) fn proxy(
    number: u8,
    slots: u32,
    standing: Standing,
    reach: &[(DatastoreIx, Transport)],
) -> ProxyFacts {
    ProxyFacts {
        node: NodeId::from_bytes([number; 16]),
        slots,
        standing,
        reach: reach.to_vec(),
    }
}

pub(crate) fn good(point: Timestamp, stun: Duration) -> Outcome {
    Outcome {
        point: Some(point),
        create: Duration::from_secs(1),
        remove: Duration::from_secs(1),
        stun,
    }
}

pub(crate) fn failed() -> Outcome {
    Outcome {
        point: None,
        ..good(Timestamp::UNIX_EPOCH, Duration::ZERO)
    }
}

pub(crate) fn starts(decision: &Decision) -> Vec<Start> {
    let start = |action: &Action| match action {
        Action::Start(start) => Some(start.clone()),
        Action::Move { .. } | Action::Skip { .. } => None,
    };
    decision.actions.iter().filter_map(start).collect()
}
