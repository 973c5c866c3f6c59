//! A policy applied to one VM: what is known of it, and when it is due.

use std::time::Duration;

use jiff::Timestamp;
use stillwater_policy::{Misfire, Schedule, Span, When};
use stillwater_types::VmId;

use crate::resource::VmIx;
use crate::{DatastoreIx, HostIx, PolicyIx, Sketch, plus, secs_between};

/// How long a first run is expected to take, until one was seen.
const UNKNOWN_SECS: f64 = 300.0;
/// A guest that stands still for longer loses its peers, however seldom it is.
const STUN_MAX: Duration = Duration::from_secs(5);
/// A guest stands still for a hundredth of its time at most.
const STUN_SHARE: f64 = 0.01;
/// Making and removing snapshots takes a quarter of a VM's time at most.
const SNAPSHOT_SHARE: f64 = 0.25;
const PACE_MAX: f64 = 8.0;
/// Ten runs fit into an RPO, or runs follow each other.
const TIGHT: f64 = 0.1;
const RETRY_SECS: i64 = 60;
const RETRY_SECS_MAX: i64 = 1_800;
const JITTER_SECS_MAX: i64 = 7_200;
const FIRST_JITTER_SECS_MAX: i64 = 600;

/// What a run of a VM has to do with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmLoad {
    /// Which VM.
    pub vm: VmId,
    /// The host that it runs on.
    pub host: HostIx,
    /// Its disks that are protected.
    pub disks: Vec<DiskLoad>,
}

/// One disk that a run reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskLoad {
    /// The device key.
    pub key: i32,
    /// Where it lies.
    pub datastore: DatastoreIx,
    /// What a run is expected to read of it.
    pub bytes: u64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The moment that the new point is of; none, and there is no point.
    pub point: Option<Timestamp>,
    /// How long making the snapshot took.
    pub create: Duration,
    /// How long removing it took.
    pub remove: Duration,
    /// For how long the guest stood still, the longer one of both.
    pub stun: Duration,
}

/// How closely runs of a job follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// There is plenty of time between them.
    Calm,
    /// They follow each other, from start to start no faster than this.
    BackToBack(Duration),
    /// The VM suffers: they are held back so far, whatever the promise says.
    BackedOff(Duration),
}

/// What was seen of a job's runs.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Since when the promise holds.
    pub since: Timestamp,
    /// The moment of the newest good point.
    pub last_point: Option<Timestamp>,
    /// When a run started last.
    pub last_start: Option<Timestamp>,
    /// When a run ended last.
    pub last_end: Option<Timestamp>,
    /// How many runs failed since the last one that did not.
    pub failures: u32,
    /// Cron times up to then are dealt with.
    pub served: Timestamp,
    /// How old points were when the next one came.
    pub achieved: Sketch,
    took: Option<(f64, f64)>,
    snapshot_secs: f64,
    stun_secs: f64,
    pace: f64,
}

/// A policy applied to one VM.
#[derive(Debug, Clone)]
pub struct Job {
    /// The policy.
    pub policy: PolicyIx,
    /// The VM, and what a run of it needs.
    pub load: VmLoad,
    /// What was seen of its runs.
    pub history: History,
    /// The number of the VM; all policies' jobs of it have the same.
    pub vm: VmIx,
    pub(crate) retired: bool,
    pub(crate) plan: Dates,
    jitter: u64,
}

/// When a job is to start, and until when its point has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dates {
    /// Not before then.
    pub(crate) due: Timestamp,
    /// Later than this and the promise is broken, if the run takes as long as it usually does.
    pub(crate) must_start: Timestamp,
    /// The promise.
    pub(crate) deadline: Timestamp,
    /// After this a cron time that was missed is given up.
    pub(crate) lapses: Option<Timestamp>,
}

impl History {
    pub(crate) fn new(since: Timestamp) -> Self {
        Self {
            since,
            last_point: None,
            last_start: None,
            last_end: None,
            failures: 0,
            served: since,
            achieved: Sketch::default(),
            took: None,
            snapshot_secs: 0.0,
            stun_secs: 0.0,
            pace: 1.0,
        }
    }

    /// How long a run takes, from its start to its point, with what it usually varies.
    pub(crate) fn expected_secs(&self) -> f64 {
        self.took
            .map_or(UNKNOWN_SECS, |(mean, off)| mean + 2.0 * off)
    }

    /// How long a run takes on average: what a policy is charged for it.
    pub(crate) fn usual_secs(&self) -> f64 {
        self.took.map_or(UNKNOWN_SECS, |(mean, _)| mean)
    }

    fn took(&mut self, secs: f64) {
        self.took = Some(match self.took {
            None => (secs, secs / 4.0),
            Some((mean, off)) => (
                mean + (secs - mean) / 8.0,
                off + ((secs - mean).abs() - off) / 4.0,
            ),
        });
    }

    /// Takes in how a run went.
    pub(crate) fn ended(&mut self, outcome: &Outcome, now: Timestamp) {
        self.last_end = Some(now);
        // What is bad counts at once, and what is good again only little by little: a VM that just
        // suffered is not asked for more by one run that went well.
        let snapshot = (outcome.create + outcome.remove).as_secs_f64();
        self.snapshot_secs = snapshot.max(self.snapshot_secs * 0.8);
        self.stun_secs = outcome.stun.as_secs_f64().max(self.stun_secs * 0.8);
        self.pace = if outcome.stun > STUN_MAX {
            (self.pace * 2.0).min(PACE_MAX)
        } else {
            (self.pace * 0.8).max(1.0)
        };
        let Some(point) = outcome.point else {
            self.failures = self.failures.saturating_add(1);
            return;
        };
        self.failures = 0;
        if let Some(started) = self.last_start {
            // The first run reads everything, which says nothing about those that follow.
            if self.last_point.is_some() {
                self.took(secs_between(started, now).max(0) as f64);
            }
            self.served = self.served.max(started);
        }
        if let Some(last) = self.last_point {
            let age = secs_between(last, now).max(0);
            self.achieved.add(u32::try_from(age).unwrap_or(u32::MAX));
        }
        // A point of the past takes nothing back.
        self.last_point = self.last_point.max(Some(point));
    }

    fn retry_at(&self, now_ends: Timestamp, rpo: Option<i64>) -> Timestamp {
        let doubled = RETRY_SECS << self.failures.saturating_sub(1).min(5);
        let quarter = rpo.map_or(RETRY_SECS_MAX, |rpo| (rpo / 4).max(10));
        plus(now_ends, doubled.min(RETRY_SECS_MAX).min(quarter))
    }
}

impl Job {
    pub(crate) fn new(policy: PolicyIx, vm: VmIx, load: VmLoad, history: History) -> Self {
        let jitter = hash(&load.vm);
        let never = Dates {
            due: Timestamp::MAX,
            must_start: Timestamp::MAX,
            deadline: Timestamp::MAX,
            lapses: None,
        };
        Self {
            policy,
            load,
            history,
            vm,
            retired: false,
            plan: never,
            jitter,
        }
    }

    /// How closely its runs follow each other under this schedule.
    pub fn rhythm(&self, schedule: &Schedule) -> Rhythm {
        let When::Rpo(rpo) = &schedule.when else {
            return Rhythm::Calm;
        };
        let (rpo, expected) = (rpo.secs() as f64, self.history.expected_secs());
        let interval = self.interval_secs(rpo);
        let wanted = rpo - lead_secs(&self.history, rpo);
        if self.history.took.is_some() && interval > (rpo - expected).max(wanted) {
            return Rhythm::BackedOff(Duration::from_secs_f64(interval));
        }
        if expected > rpo * TIGHT {
            return Rhythm::BackToBack(Duration::from_secs_f64(interval.max(wanted)));
        }
        Rhythm::Calm
    }

    /// From start to start no faster than this, whatever the promise says: the VM needs its time too.
    fn interval_secs(&self, rpo: f64) -> f64 {
        let history = &self.history;
        let gentle = (history.snapshot_secs / SNAPSHOT_SHARE).max(history.stun_secs / STUN_SHARE);
        if history.pace > 1.0 {
            return gentle.max(history.pace * (rpo - lead_secs(history, rpo)));
        }
        gentle
    }

    /// When it is due and until when its point has to be there, as far as is known by now.
    pub(crate) fn dates(&self, schedule: &Schedule) -> Dates {
        let mut dates = match &schedule.when {
            When::Rpo(rpo) => self.dates_by_age(schedule, *rpo),
            When::Cron {
                within, misfire, ..
            } => self.dates_by_clock(schedule, *within, *misfire),
        };
        if let Some(end) = self.history.last_end.filter(|_| self.history.failures > 0) {
            let rpo = match &schedule.when {
                When::Rpo(rpo) => Some(rpo.secs()),
                When::Cron { .. } => None,
            };
            dates.due = dates.due.max(self.history.retry_at(end, rpo));
        }
        dates.due = schedule.allowed(dates.due);
        dates
    }

    fn dates_by_age(&self, schedule: &Schedule, rpo: Span) -> Dates {
        let history = &self.history;
        let expected = history.expected_secs() as i64;
        let Some(last) = history.last_point else {
            let deadline = schedule.after(history.since, rpo);
            return Dates {
                due: plus(
                    history.since,
                    self.jitter_secs((rpo.secs() / 10).min(FIRST_JITTER_SECS_MAX)),
                ),
                must_start: plus(deadline, -expected),
                deadline,
                lapses: None,
            };
        };
        let secs = rpo.secs();
        let deadline = schedule.after(last, rpo);
        let lead = lead_secs(history, secs as f64) as i64;
        let jitter = self.jitter_secs((secs / 10).min(JITTER_SECS_MAX));
        let start = history.last_start.unwrap_or(last);
        let earliest = plus(start, self.interval_secs(secs as f64) as i64);
        // Reckoned in time outside blackouts, as the promise is: what would be due inside of one is
        // due before it, and not with all the others at its end.
        let early = |before: i64| {
            let span = u32::try_from(secs - before).unwrap_or(0);
            schedule.after(last, Span::from_secs(span))
        };
        Dates {
            due: early(lead + jitter).max(earliest),
            must_start: early(expected),
            deadline,
            lapses: None,
        }
    }

    fn dates_by_clock(&self, schedule: &Schedule, within: Span, misfire: Misfire) -> Dates {
        let history = &self.history;
        let time = schedule.next_time(history.served).unwrap_or(Timestamp::MAX);
        let deadline = schedule.after(time, within);
        let jitter = self.jitter_secs((within.secs() / 10).min(FIRST_JITTER_SECS_MAX));
        Dates {
            due: plus(time, jitter),
            must_start: plus(deadline, -(history.expected_secs() as i64)),
            deadline,
            lapses: (misfire == Misfire::Skip).then_some(deadline),
        }
    }

    /// The same for a VM every time, and different between VMs.
    fn jitter_secs(&self, most: i64) -> i64 {
        let most = u64::try_from(most).unwrap_or(0);
        i64::try_from(self.jitter % (most + 1)).unwrap_or(0)
    }
}

/// How long before the promise is broken a run is started: for its own time, and for waiting.
fn lead_secs(history: &History, rpo: f64) -> f64 {
    (history.expected_secs() * 1.25 + rpo / 12.0 + 3.0).min(rpo * 0.8)
}

/// FNV-1a: which VMs start together is to be the same after every restart.
fn hash(vm: &VmId) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let bytes = vm.vcenter.as_bytes().iter().chain(vm.moref.as_bytes());
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The low bits of neighbours such as vm-16 and vm-17 are too much alike.
    hash ^ (hash >> 32)
}
