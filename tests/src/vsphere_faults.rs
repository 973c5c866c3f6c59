//! vCenter fails in every way at every call that a backup makes, and what is left is looked at.
//!
//! Backups of several small VMs run at once while faults are thrown at them. Then every run must have
//! ended, no snapshot and no delta of ours may be left, foreign snapshots must be as they were, and
//! every point must restore to exactly what its snapshot froze. A batch is drawn from its own seed,
//! which is told when it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::{rows, text, wait};
use crate::guest::{Disks, Random};
use crate::lab::{DiskSpec, VmSpec};
use crate::{Cluster, Lab};

mod kills;
mod ledger;
mod strike;

pub use ledger::{Ends, Ledger};
pub use strike::{Class, Method, Strike};

/// VMs that are backed up at once; on each second one somebody else keeps a snapshot.
const VMS: usize = 6;
const DISK_MIB: u64 = 32;
/// Faults that one cluster lives through, at most: its lists grow with each.
const FAULTS_PER_CLUSTER: u32 = 400;
/// How long a run may take at worst, through everything that it repeats.
const RUN: Duration = Duration::from_secs(240);
/// The controller waits for tasks less long than usual, and looks for leftovers more often.
pub const CONTROLLER: &str = "[snapshots]\ncreate-timeout = \"3s\"\nremove-timeout = \"3s\"\nsearch-every = \"2s\"\nretry-every = \"1s\"";

/// What is tried.
#[derive(Debug, Clone)]
pub struct Options {
    /// Faults that are thrown at least.
    pub faults: u32,
    /// Kills of the controller at steps of its journal.
    pub kills: u32,
    /// Decides everything.
    pub seed: u64,
    /// Only this method or this class.
    pub only: Option<String>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Tally {
    /// Faults that hit, by class.
    pub classes: BTreeMap<Class, u32>,
    /// Faults that hit, by method.
    pub methods: BTreeMap<String, u32>,
    /// In which phase runs were that a kill ended.
    pub phases: BTreeMap<String, u32>,
    /// How runs ended.
    pub ends: Ends,
    /// The longest time from the end of a run until nothing of it was left.
    pub slowest: Duration,
}

impl Tally {
    /// Faults that hit.
    pub fn faults(&self) -> u32 {
        self.classes.values().sum()
    }

    /// What was seen, in words.
    pub fn report(&self) -> String {
        let Ends {
            succeeded,
            failed,
            refused,
            proved,
        } = self.ends;
        let mut lines = vec![format!(
            "{} faults; runs: {succeeded} succeeded, {failed} failed, {refused} refused; {proved} points equal to what was frozen; slowest clean-up {:.1} s",
            self.faults(),
            self.slowest.as_secs_f64()
        )];
        lines.extend(
            self.classes
                .iter()
                .map(|(class, count)| format!("  {class:<20} {count}")),
        );
        lines.extend(
            self.methods
                .iter()
                .map(|(method, count)| format!("  {method:<34} {count}")),
        );
        let phases = self.phases.iter();
        lines.extend(phases.map(|(phase, count)| format!("  killed while {phase:<20} {count}")));
        lines.join("\n")
    }
}

/// Tries what `options` ask for and counts it in `tally`; `tell` gets a line now and then.
pub fn run(options: &Options, tally: &mut Tally, mut tell: impl FnMut(&str)) -> Result<()> {
    if options.kills > 0 {
        Bench::set_up()?.kill(options.kills, options.seed, tally, &mut tell)?;
    }
    let mut seeds = Random::new(options.seed);
    let mut first = Some(options.seed);
    let options = &Options {
        faults: tally.faults() + options.faults,
        ..options.clone()
    };
    while tally.faults() < options.faults {
        let enough = (tally.faults() + FAULTS_PER_CLUSTER).min(options.faults);
        let mut bench = Bench::set_up()?;
        while tally.faults() < enough {
            // The first batch is drawn from the seed itself, so that a seed that was told replays alone.
            let seed = first.take().unwrap_or_else(|| seeds.next());
            let begun = Instant::now();
            let before = tally.faults();
            bench.batch(seed, options.only.as_deref(), tally)?;
            tell(&format!(
                "seed {seed}: {} faults in {:.1} s, {} in all",
                tally.faults() - before,
                begun.elapsed().as_secs_f64(),
                tally.faults()
            ));
        }
    }
    Ok(())
}

/// A lab and a cluster, and what must stay so.
struct Bench {
    lab: Lab,
    cluster: Cluster,
    ledger: Ledger,
    methods: Vec<Method>,
    /// Runs that were looked at.
    seen: BTreeSet<String>,
}

fn name(vm: usize) -> String {
    format!("vm-{vm}")
}

impl Bench {
    fn set_up() -> Result<Self> {
        let disks = Disks::new()?;
        let vms: Vec<VmSpec> = (0..VMS)
            .map(|vm| {
                let disk = DiskSpec::new(disks.tiny((DISK_MIB + vm as u64) << 20)?);
                Ok(VmSpec::new(&name(vm), vec![disk]))
            })
            .collect::<Result<_>>()?;
        let lab = Lab::start(&vms, 16)?;
        let cluster = Cluster::with_controller(CONTROLLER)?;
        cluster.add_lab(&lab)?;
        for vm in (1..VMS).step_by(2) {
            lab.foreign_snapshot(&name(vm), "before-upgrade", 60)?;
        }
        let mut bench = Self {
            ledger: Ledger::open(&lab)?,
            lab,
            cluster,
            methods: Vec::new(),
            seen: BTreeSet::new(),
        };
        bench.record()?;
        Ok(bench)
    }

    /// Notes which calls a backup makes: a first one and an increment.
    fn record(&mut self) -> Result<()> {
        let mut ends = Ends::default();
        self.lab.control("DELETE", "/calls", None)?;
        for _ in 0..2 {
            self.lab.touch(&name(0), 2000, 0.02, 7)?;
            let run = self.cluster.backup(&name(0), "succeeded")?;
            self.seen.insert(text(&run, "run_id")?);
            self.ledger
                .settle_run(&self.lab, &self.cluster, &run, &mut ends)?;
        }
        let calls = self.lab.control("GET", "/calls?last=2000", None)?;
        let mut methods: BTreeMap<String, Method> = BTreeMap::new();
        for call in rows(&calls["last"]) {
            let name = text(&call, "method")?;
            let method = methods.entry(name.clone()).or_insert(Method {
                name,
                count: 0,
                is_of_vm: true,
            });
            method.count += 1;
            method.is_of_vm &= call["vm"].as_str().is_some_and(|vm| !vm.is_empty());
        }
        // Only a session that is over makes these.
        methods.entry("Login".into()).or_insert(Method {
            name: "Login".into(),
            count: 1,
            is_of_vm: false,
        });
        self.methods = methods
            .into_values()
            .map(|method| Method {
                count: method.count.div_ceil(2),
                ..method
            })
            .collect();
        ensure!(
            self.methods.len() > 5,
            "a backup makes more calls than {:?}",
            self.methods
        );
        Ok(())
    }

    /// Throws faults at one backup of each VM.
    fn batch(&mut self, seed: u64, only: Option<&str>, tally: &mut Tally) -> Result<()> {
        let mut random = Random::new(seed);
        let strikes = self.draw(&mut random, only);
        let told = || {
            let strikes: Vec<String> = strikes.iter().map(Strike::to_string).collect();
            format!("SEED={seed} FAULTS=1 repeats it: {}", strikes.join("; "))
        };
        self.strike(&mut random, &strikes, tally).with_context(told)
    }

    fn draw(&self, random: &mut Random, only: Option<&str>) -> Vec<Strike> {
        let mut strikes: Vec<Strike> = Vec::new();
        for vm in 0..VMS {
            let wanted = 1 + random.next() % 2;
            let mut drawn = 0;
            for _ in 0..400 {
                if drawn == wanted {
                    break;
                }
                if let Some(strike) = Strike::draw(random, &name(vm), &self.methods, only) {
                    strikes.push(strike);
                    drawn += 1;
                }
            }
        }
        strikes
    }

    fn strike(&mut self, random: &mut Random, strikes: &[Strike], tally: &mut Tally) -> Result<()> {
        for vm in 0..VMS {
            self.lab.touch(&name(vm), 2000, 0.02, random.next() >> 1)?;
        }
        let mut waiting: Vec<&Strike> = Vec::new();
        let mut faults: BTreeMap<u64, &Strike> = BTreeMap::new();
        for strike in strikes {
            match strike.delay.is_zero() {
                false => waiting.push(strike),
                true => drop(strike.begin(&self.lab)?.map(|id| faults.insert(id, strike))),
            }
        }
        let runs = self.start_runs(tally)?;
        let begun = Instant::now();
        let ended = wait("the runs end", RUN, || {
            for strike in waiting.extract_if(.., |strike| strike.delay <= begun.elapsed()) {
                strike.begin(&self.lab)?;
            }
            self.ledger.check_midway(&self.lab)?;
            self.ended(&runs)
        })?;
        self.count(strikes, &faults, tally)?;
        self.lab.control("DELETE", "/faults", None)?;
        for strike in strikes {
            strike.end(&self.lab)?;
        }
        let over = Instant::now();
        self.ledger.settle(&self.lab)?;
        tally.slowest = tally.slowest.max(over.elapsed());
        for run in &ended {
            self.seen.insert(text(run, "run_id")?);
            self.ledger
                .settle_run(&self.lab, &self.cluster, run, &mut tally.ends)?;
        }
        self.ledger.check_points(&self.cluster)?;
        self.lab.prune()
    }

    fn start_runs(&self, tally: &mut Tally) -> Result<Vec<String>> {
        let mut runs = Vec::new();
        for vm in 0..VMS {
            let output = self.cluster.run(&["backup", &name(vm), "-o", "json"])?;
            match output.status.success() {
                true => {
                    let started: Value = serde_json::from_slice(&output.stdout)?;
                    let first = rows(&started).first().cloned().unwrap_or(started);
                    runs.push(text(&first, "run_id")?);
                }
                false => tally.ends.refused += 1,
            }
        }
        Ok(runs)
    }

    /// The runs when all have ended.
    fn ended(&self, runs: &[String]) -> Result<Option<Vec<Value>>> {
        let limit = (runs.len() + VMS).to_string();
        let listed = rows(&self.cluster.json(&["run", "list", "--limit", &limit])?);
        let ended: Vec<Value> = listed
            .into_iter()
            .filter(|run| runs.iter().any(|id| run["run_id"] == id.as_str()))
            .filter(|run| run["state"] != "pending" && run["state"] != "running")
            .collect();
        Ok((ended.len() == runs.len()).then_some(ended))
    }

    fn count(
        &self,
        strikes: &[Strike],
        faults: &BTreeMap<u64, &Strike>,
        tally: &mut Tally,
    ) -> Result<()> {
        let listed = self.lab.control("GET", "/faults", None)?;
        for fault in rows(&listed) {
            let id = fault["id"].as_u64().context("a fault without id")?;
            let Some(strike) = faults.get(&id) else {
                continue;
            };
            let hits = u32::try_from(fault["hits"].as_u64().unwrap_or(0))?;
            if hits > 0 {
                *tally.classes.entry(strike.class).or_default() += hits;
                *tally.methods.entry(strike.method().to_owned()).or_default() += hits;
            }
        }
        for strike in strikes.iter().filter(|strike| strike.method() == "-") {
            *tally.classes.entry(strike.class).or_default() += 1;
        }
        Ok(())
    }
}

impl Options {
    /// So many, by a seed that nobody has chosen.
    pub fn from_clock(faults: u32, kills: u32) -> Result<Self> {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        Ok(Self {
            faults,
            kills,
            seed: clock.as_nanos() as u64,
            only: None,
        })
    }

    /// The same, as far as a person does not ask for something else by `FAULTS`, `KILLS`, `SEED` and
    /// `ONLY`.
    pub fn from_environment(faults: u32, kills: u32) -> Result<Self> {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str, otherwise: u64| match var(name) {
            Some(value) => value
                .parse()
                .with_context(|| format!("{name} is no number")),
            None => Ok(otherwise),
        };
        Ok(Self {
            faults: number("FAULTS", faults.into())?.try_into()?,
            kills: number("KILLS", kills.into())?.try_into()?,
            seed: number("SEED", Self::from_clock(0, 0)?.seed)?,
            only: var("ONLY"),
        })
    }
}
