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
/// So long at most every VM's first reading takes, of all of it.
const FIRST_SECS: i64 = 12 * 3_600;
const JUDGE_SECS: i64 = 60;
/// Bytes in a second on one lane, of an attached disk and through a host.
const NEAR: u64 = 60 << 20;
const FAR: u64 = 40 << 20;
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
    /// How long they took: counts by tenths more of a microsecond.
    pub decision_us: Times,
    /// Promises that were broken, by class of RPO, site and cause.
    pub breaches: Vec<Broken>,
    /// Promises that were broken while every VM was read for the first time.
    pub first_late: u64,
    /// Bytes given to each proxy.
    pub given: Vec<(u32, f64)>,
    /// What was missing, how often.
    pub missing: BTreeMap<String, u64>,
    /// Achieved age in seconds by class: worst p50, worst p99.
    pub achieved: BTreeMap<&'static str, (u32, u32)>,
    /// VMs that suffer: how many runs each had at most.
    pub suffering_runs: u64,
    /// What changes at the first site in a second, in bytes.
    pub wanted: u64,
    /// What its proxies could read in a second at best while they are too few.
    pub scarce: u64,
    /// When the simulation began.
    pub from: Option<Timestamp>,
}

/// How long things took, in bounded memory.
#[derive(Debug)]
pub struct Times {
    counts: [u64; 200],
    /// The longest, in microseconds.
    pub most: f64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            counts: [0; 200],
            most: 0.0,
        }
    }
}

impl Times {
    fn add(&mut self, took: Duration) {
        let us = took.as_secs_f64() * 1e6;
        let bucket = (us.max(1.0).ln() / 1.1f64.ln()) as usize;
        self.counts[bucket.min(199)] += 1;
        self.most = self.most.max(us);
    }

    /// What so many of a million did not exceed.
    pub fn at(&self, millionths: u64) -> f64 {
        let total: u64 = self.counts.iter().sum();
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= total * millionths / 1_000_000
        });
        bucket.map_or(0.0, |bucket| 1.1f64.powi(bucket as i32 + 1))
    }
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
            report: Report {
                from: Some(from),
                ..Report::default()
            },
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

    /// Each proxy attaches disks of every other datastore, and reads the rest through the hosts.
    fn set_proxy(&mut self, site: u32, number: u32, standing: Standing) -> ProxyIx {
        let mut node = [0; 16];
        node[..4].copy_from_slice(&site.to_be_bytes());
        node[4..8].copy_from_slice(&number.to_be_bytes());
        let place = &self.sites[site as usize];
        let reach = place.datastores.iter().map(|datastore| {
            let near = datastore.number() % 2 == number % 2;
            let transport = if near {
                Transport::HotAdd
            } else {
                Transport::Nfc
            };
            (*datastore, transport)
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
        let class = match class_of(number / self.world.sites, self.world.vms / self.world.sites) {
            // Five VMs of the whole world.
            "1m" if site >= 5 => "15m",
            class => class,
        };
        let (host, datastore) = {
            let place = &self.sites[site as usize];
            let (hosts, datastores) = (place.hosts.len(), place.datastores.len());
            (self.random(hosts as u64), self.random(datastores as u64))
        };
        let count = 1 + self.random(3);
        let size = (10 + self.random(60)) << 30;
        // Half a per cent to five per cent an hour.
        let bytes_per_hour = size / 200 * (1 + self.random(10));
        if site == 0 {
            self.report.wanted += bytes_per_hour / 3_600;
        }
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
            suffers: class == "1h" && (number / self.world.sites).is_multiple_of(10),
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
                (0..left).for_each(|number| {
                    self.set_proxy(0, number, Standing::Online);
                });
                for number in left..self.world.proxies {
                    self.set_proxy(0, number, standing);
                }
                (self.sites[0].down, self.sites[0].loses) = (None, false);
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
        let mut took = begun.elapsed();
        // Others have this machine too. The same state gives the same decision: what took long is
        // measured again, and the shortest is how long it takes.
        for _ in 0..3 {
            if took > Duration::from_millis(2) {
                let begun = Instant::now();
                let again = decide(&self.state, now);
                took = took.min(begun.elapsed());
                assert_eq!(again, decision, "a decision is a pure function");
            }
        }
        self.report.decisions += 1;
        self.report.decision_us.add(took);
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
        let near = |lane: &stillwater_scheduler::Lane| {
            let read = |disk: &&DiskLoad| disk.key == lane.disks[0];
            let datastore = job.load.disks.iter().find(read).map(|disk| disk.datastore);
            let number = lane.proxy.number() % self.world.proxies;
            datastore.is_some_and(|datastore| datastore.number() % 2 == number % 2)
        };
        let slowest = start.lanes.iter().map(|lane| {
            let speed = if near(lane) { NEAR } else { FAR };
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
                stun: Duration::from_millis(if vm.suffers { 8_000 } else { 200 }),
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
            let begins = self.report.from.unwrap_or(now);
            if breach.last_point.is_none() || now < plus(begins, FIRST_SECS) {
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
        let left = self.world.scarce.map_or(0, |(_, _, left)| left);
        report.scarce = u64::from(left * self.world.slots) * NEAR;
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
