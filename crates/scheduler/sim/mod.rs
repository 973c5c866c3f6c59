//! A world of VMs, proxies and repositories in accelerated time, driven by the real decisions.
//!
//! Nothing is random that a seed does not give. Runs take as long as their bytes take on their lanes;
//! some fail, some VMs suffer from snapshots; proxies drain, are lost, come back and are too few
//! for a while at one site.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use stillwater_policy::{Schedule, Span};
use stillwater_scheduler::{
    Action, Blocked, Cause, DatastoreFacts, DatastoreIx, DiskLoad, HostFacts, HostIx, JobIx,
    Outcome, PolicyIx, PolicyTerms, ProxyFacts, ProxyIx, RepositoryFacts, RepositoryIx, Standing,
    Start, State, Transport, VmLoad, decide, judge, next_wake,
};
use stillwater_types::{NodeId, VcenterId, VmId};

/// Decisions are not made more often than this.
const GRAIN_SECS: i64 = 5;
const JUDGE_SECS: i64 = 60;
/// Below a repository's policies all the zones of the world.
const ZONES: [&str; 5] = [
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "UTC",
];

/// How large the world is, and what happens in it.
#[derive(Debug, Clone)]
pub struct World {
    /// VMs in all.
    pub vms: u32,
    /// Each site has its own hosts, datastores, proxies and repositories.
    pub sites: u32,
    /// Proxies at each site.
    pub proxies: u32,
    /// Disks that a proxy moves at once.
    pub slots: u32,
    /// Repositories at each site.
    pub repositories: u32,
    /// For how long.
    pub days: i64,
    /// When the first site has how many proxies only: from which day, for how many hours, how many.
    pub scarce: Option<(i64, i64, u32)>,
    /// Whether proxies drain, are lost and come back, everywhere and all the time.
    pub restless: bool,
    /// Gives everything that looks random.
    pub seed: u64,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Report {
    /// Runs that started.
    pub runs: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Lanes that went on on another proxy.
    pub moved: u64,
    /// Decisions made.
    pub decisions: u64,
    /// How long they took, in microseconds, by powers of a tenth more.
    pub decision_us: Vec<f64>,
    /// Promises that were broken, by class of RPO, site and cause.
    pub breaches: Vec<Broken>,
    /// First points that came late: the whole VM had to be read.
    pub first_late: u64,
    /// Bytes given to each proxy.
    pub given: Vec<(u32, f64)>,
    /// What was missing, how often.
    pub missing: BTreeMap<String, u64>,
    /// Achieved age in seconds by class: worst p50, worst p99.
    pub achieved: BTreeMap<&'static str, (u32, u32)>,
    /// VMs that suffer: how many runs each had at most.
    pub suffering_runs: u64,
    /// When the simulation began.
    pub from: Option<Timestamp>,
}

/// A promise that was broken.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Which class of VM.
    pub class: &'static str,
    /// Where.
    pub site: u32,
    /// Since when.
    pub since: Timestamp,
    /// Why, when it was first seen.
    pub cause: Cause,
}

struct Vm {
    site: u32,
    class: &'static str,
    size: u64,
    bytes_per_hour: u64,
    suffers: bool,
    may_fail: bool,
    runs: u64,
    broken_since: Option<Timestamp>,
}

/// A run that ends.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct End {
    at: Timestamp,
    job: JobIx,
    started: Timestamp,
}

struct Site {
    proxies: Vec<ProxyIx>,
    policies: BTreeMap<&'static str, Vec<PolicyIx>>,
    hosts: Vec<HostIx>,
    datastores: Vec<DatastoreIx>,
    down: Option<u32>,
    loses: bool,
}

struct Life<'w> {
    world: &'w World,
    state: State,
    vms: BTreeMap<JobIx, Vm>,
    sites: Vec<Site>,
    ends: BinaryHeap<Reverse<End>>,
    report: Report,
    random: u64,
    bytes: BTreeMap<ProxyIx, f64>,
}

fn plus(at: Timestamp, secs: i64) -> Timestamp {
    at + SignedDuration::from_secs(secs)
}

/// Lives through it.
pub fn live(world: &World) -> (Report, usize) {
    let from: Timestamp = "2026-01-01T00:00:00Z".parse().expect("is a moment");
    let mut life = Life::new(world, from);
    life.report.from = Some(from);
    let until = plus(from, world.days * 86_400);
    let mut now = from;
    let mut judged = from;
    let mut hour = 0i64;
    while now < until {
        life.end_until(now);
        while plus(from, hour * 3_600) <= now {
            life.happen(hour);
            hour += 1;
        }
        life.decide(now);
        if now >= plus(judged, JUDGE_SECS) {
            life.judge(now);
            judged = now;
        }
        let next_end = life.ends.peek().map(|Reverse(end)| end.at);
        let wake = next_wake(&life.state, now);
        let next_hour = plus(from, hour * 3_600);
        let next = [
            next_end,
            wake,
            Some(next_hour),
            Some(plus(judged, JUDGE_SECS)),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(until);
        now = next.max(plus(now, GRAIN_SECS));
    }
    life.sum_up()
}

impl<'w> Life<'w> {
    fn new(world: &'w World, from: Timestamp) -> Self {
        let mut life = Self {
            world,
            state: State::new(),
            vms: BTreeMap::new(),
            sites: Vec::new(),
            ends: BinaryHeap::new(),
            report: Report::default(),
            random: world.seed,
            bytes: BTreeMap::new(),
        };
        for site in 0..world.sites {
            life.build(site);
        }
        for number in 0..world.vms {
            life.protect(number, from);
        }
        life
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below.max(1)
    }

    fn build(&mut self, site: u32) {
        let vms = self.world.vms / self.world.sites;
        let state = &mut self.state;
        let hosts = (0..vms.div_ceil(50)).map(|host| {
            let name = format!("site{site}-esx{host}");
            state.host(&name, HostFacts { snapshots_max: 8 })
        });
        let hosts: Vec<HostIx> = hosts.collect();
        let datastores = (0..vms.div_ceil(50)).map(|number| {
            let facts = DatastoreFacts {
                snapshots_max: 8,
                has_room: true,
            };
            state.datastore(&format!("site{site}-ds{number}"), facts)
        });
        let datastores: Vec<DatastoreIx> = datastores.collect();
        let repositories: Vec<RepositoryIx> = (0..self.world.repositories)
            .map(|number| {
                let facts = RepositoryFacts {
                    sessions_max: 64,
                    accepts: true,
                };
                state.repository(&format!("site{site}-repo{number}"), facts)
            })
            .collect();
        let mut policies: BTreeMap<&'static str, Vec<PolicyIx>> = BTreeMap::new();
        for repository in repositories {
            for (class, schedule, priority) in classes(site) {
                let terms = PolicyTerms {
                    name: format!("{class}-{}", repository.number()),
                    schedule,
                    priority,
                    runs_max: u32::MAX,
                    disks_per_vm: 4,
                    repository,
                };
                policies.entry(class).or_default().push(state.policy(terms));
            }
        }
        self.sites.push(Site {
            proxies: Vec::new(),
            policies,
            hosts,
            datastores,
            down: None,
            loses: false,
        });
        for number in 0..self.world.proxies {
            let ix = self.set_proxy(site, number, Standing::Online);
            self.sites[site as usize].proxies.push(ix);
        }
    }

    /// The first half of a site's proxies attach disks, the others read through the hosts.
    fn set_proxy(&mut self, site: u32, number: u32, standing: Standing) -> ProxyIx {
        let mut node = [0; 16];
        node[..4].copy_from_slice(&site.to_be_bytes());
        node[4..8].copy_from_slice(&number.to_be_bytes());
        let transport = if number < self.world.proxies / 2 {
            Transport::HotAdd
        } else {
            Transport::Nfc
        };
        // Each attaches disks of one half of the datastores, and reads the rest through the hosts.
        let reach =
            self.sites[site as usize]
                .datastores
                .iter()
                .enumerate()
                .map(|(at, datastore)| {
                    let near = at as u32 % 2 == number % 2;
                    (*datastore, if near { transport } else { Transport::Nfc })
                });
        let reach = reach.collect();
        self.state.proxy(ProxyFacts {
            node: NodeId::from_bytes(node),
            slots: self.world.slots,
            standing,
            reach,
        })
    }

    fn protect(&mut self, number: u32, from: Timestamp) {
        let site = number % self.world.sites;
        let class = class_of(number / self.world.sites, self.world.vms / self.world.sites);
        let (host, datastore) = {
            let place = &self.sites[site as usize];
            let (hosts, datastores) = (place.hosts.len(), place.datastores.len());
            (self.random(hosts as u64), self.random(datastores as u64))
        };
        let count = 1 + self.random(3);
        let size = (10 + self.random(60)) << 30;
        // A tenth of a per cent to one per cent an hour.
        let bytes_per_hour = size / 1_000 * (1 + self.random(10));
        let policies = &self.sites[site as usize].policies[class];
        let policy = policies[(number / self.world.sites) as usize % policies.len()];
        let place = &self.sites[site as usize];
        let disks = (0..count).map(|disk| DiskLoad {
            key: 2_000 + disk as i32,
            datastore: place.datastores[(datastore + disk / 2) as usize % place.datastores.len()],
            bytes: size / count,
        });
        let load = VmLoad {
            vm: VmId {
                vcenter: VcenterId::from_bytes([site as u8; 16]),
                moref: format!("vm-{number}"),
            },
            host: place.hosts[host as usize],
            disks: disks.collect(),
        };
        let job = self.state.job(policy, load, from);
        let tight = matches!(class, "1m" | "15m");
        let vm = Vm {
            site,
            class,
            size,
            bytes_per_hour,
            suffers: class == "1h" && number.is_multiple_of(40),
            may_fail: !tight,
            runs: 0,
            broken_since: None,
        };
        self.vms.insert(job, vm);
    }

    /// What the hour brings.
    fn happen(&mut self, hour: i64) {
        if let Some((day, hours, left)) = self.world.scarce {
            let begins = day * 24;
            if hour == begins || hour == begins + hours {
                let standing = if hour == begins {
                    Standing::Draining
                } else {
                    Standing::Online
                };
                for number in left..self.world.proxies {
                    self.set_proxy(0, number, standing);
                }
            }
            if (begins - 12..begins + hours + 12).contains(&hour) {
                return;
            }
        }
        if !self.world.restless || hour % 6 != 0 {
            return;
        }
        // One proxy of each site in turn: drained for six hours, or lost as soon as it has work.
        let turn = hour / 6;
        for site in 0..self.world.sites {
            if let Some(down) = self.sites[site as usize].down.take() {
                self.set_proxy(site, down, Standing::Online);
            }
            self.sites[site as usize].loses = turn % 3 == 1;
            if turn % 3 == 0 {
                let number = turn.rem_euclid(i64::from(self.world.proxies)) as u32;
                self.set_proxy(site, number, Standing::Draining);
                self.sites[site as usize].down = Some(number);
            }
        }
    }

    /// Proxies are lost when it hurts.
    fn lose(&mut self) {
        for site in 0..self.world.sites {
            let place = &self.sites[site as usize];
            if !place.loses {
                continue;
            }
            let works = |proxy: &ProxyIx| self.state.slots_of(*proxy).0 > 0;
            let Some(number) = place.proxies.iter().position(works) else {
                continue;
            };
            let number = number as u32;
            self.set_proxy(site, number, Standing::Lost);
            let place = &mut self.sites[site as usize];
            (place.loses, place.down) = (false, Some(number));
        }
    }

    fn decide(&mut self, now: Timestamp) {
        let begun = Instant::now();
        let decision = decide(&self.state, now);
        let took = begun.elapsed();
        self.report.decisions += 1;
        self.report.decision_us.push(took.as_secs_f64() * 1e6);
        for action in decision.actions {
            match action {
                Action::Start(start) => self.start(&start, now),
                Action::Move { job, lane, to, .. } => {
                    self.report.moved += 1;
                    self.state.moved(job, lane, to);
                }
                Action::Skip { job, until } => self.state.skipped(job, until),
            }
        }
        self.lose();
    }

    fn start(&mut self, start: &Start, now: Timestamp) {
        let vm = &self.vms[&start.job];
        let job = self.state.job_at(start.job);
        let bytes = match job.history.last_point {
            None => vm.size,
            Some(last) => {
                let secs = now.duration_since(last).as_secs().max(0) as u64;
                (vm.bytes_per_hour * secs / 3_600).min(vm.size)
            }
        };
        let disks = job.load.disks.len() as u64;
        let each = bytes / disks;
        let slowest = start.lanes.iter().map(|lane| {
            let fast = lane.proxy.number() % self.world.proxies < self.world.proxies / 2;
            let speed: u64 = if fast { 200 << 20 } else { 100 << 20 };
            lane.disks.len() as u64 * each / speed
        });
        let reading = slowest.max().unwrap_or(0) as i64;
        for lane in &start.lanes {
            let given = (lane.disks.len() as u64 * each) as f64;
            *self.bytes.entry(lane.proxy).or_default() += given;
        }
        let overhead = 3 + self.random(4) as i64;
        self.state.started(start, now);
        self.report.runs += 1;
        self.ends.push(Reverse(End {
            at: plus(now, overhead + reading),
            job: start.job,
            started: now,
        }));
    }

    fn end_until(&mut self, now: Timestamp) {
        while let Some(Reverse(end)) = self.ends.peek() {
            if end.at > now {
                return;
            }
            let Some(Reverse(end)) = self.ends.pop() else {
                return;
            };
            let luck = self.random(100);
            let vm = self.vms.get_mut(&end.job).expect("runs are of vms");
            vm.runs += 1;
            let fails = vm.may_fail && luck == 0;
            self.report.failed += u64::from(fails);
            let outcome = Outcome {
                point: (!fails).then_some(plus(end.started, 2)),
                create: Duration::from_secs(2),
                remove: Duration::from_secs(2),
                stun: Duration::from_millis(if vm.suffers { 2_500 } else { 200 }),
            };
            // What ended is heard of when somebody listens.
            self.state
                .finished(end.job, &outcome, end.at.max(end.started));
        }
    }

    fn judge(&mut self, now: Timestamp) {
        let mut still = BTreeMap::new();
        for breach in judge(&self.state, now) {
            still.insert(breach.job, ());
            let vm = self.vms.get_mut(&breach.job).expect("breaches are of vms");
            if let Cause::Missing(blocked) = breach.cause {
                let advice = blocked.advice(&self.state);
                *self.report.missing.entry(advice).or_default() += 1;
            }
            if vm.broken_since == Some(breach.since) {
                continue;
            }
            vm.broken_since = Some(breach.since);
            if breach.last_point.is_none() {
                self.report.first_late += 1;
                continue;
            }
            self.report.breaches.push(Broken {
                class: vm.class,
                site: vm.site,
                since: breach.since,
                cause: breach.cause,
            });
        }
    }

    fn sum_up(mut self) -> (Report, usize) {
        let mut report = std::mem::take(&mut self.report);
        report.decision_us.sort_by(f64::total_cmp);
        for (job, vm) in &self.vms {
            let sketch = &self.state.job_at(*job).history.achieved;
            let worst = report.achieved.entry(vm.class).or_default();
            let at = |hundredths| sketch.percentile(hundredths).unwrap_or(0);
            if !vm.suffers {
                *worst = (worst.0.max(at(50)), worst.1.max(at(99)));
            } else {
                report.suffering_runs = report.suffering_runs.max(vm.runs);
            }
        }
        report.given = self
            .bytes
            .iter()
            .map(|(proxy, bytes)| (proxy.number(), *bytes))
            .collect();
        (report, self.vms.len())
    }
}

/// What kinds of promise there are at a site: a name, a schedule, a priority.
fn classes(site: u32) -> Vec<(&'static str, Schedule, u8)> {
    let zone = ZONES[site as usize % ZONES.len()];
    let nightly = format!("cron = '0 22 * * *'\nwithin = '8h'\ntime-zone = '{zone}'");
    let office = format!(
        "rpo = '12h'\ntime-zone = '{zone}'\nblackout = [{{ days = ['mon', 'tue', 'wed', 'thu', 'fri'], from = '08:00', to = '18:00' }}]"
    );
    vec![
        ("1m", Schedule::rpo(Span::from_mins(1)), 9),
        ("15m", Schedule::rpo(Span::from_mins(15)), 7),
        ("1h", Schedule::rpo(Span::from_hours(1)), 5),
        ("4h", Schedule::rpo(Span::from_hours(4)), 5),
        ("24h", Schedule::rpo(Span::from_hours(24)), 3),
        ("office", schedule(&office), 3),
        ("nightly", schedule(&nightly), 3),
    ]
}

fn schedule(text: &str) -> Schedule {
    toml::from_str(text).expect("is a schedule")
}

/// Few VMs have tight promises, most are backed up once a day.
fn class_of(number: u32, of: u32) -> &'static str {
    let permille = number * 1_000 / of.max(1);
    match permille {
        0 => "1m",
        1..=4 => "15m",
        5..=24 => "1h",
        25..=149 => "4h",
        150..=549 => "24h",
        550..=599 => "office",
        _ => "nightly",
    }
}

/// Whether a promise was broken because something was missing or held up behind what was.
pub fn is_capacity(cause: Cause) -> bool {
    match cause {
        Cause::Missing(Blocked::VmBusy) => false,
        Cause::Missing(_) | Cause::Running { .. } | Cause::Starting => true,
        Cause::Failing { .. } | Cause::Suffering | Cause::NothingRan => false,
    }
}
