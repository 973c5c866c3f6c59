//! A fleet at work: many VMs under policies, several proxies on machines of their own, two repositories, and
//! proxies that are killed, drained, cut off and added while promises have to be kept.
//!
//! Time is accelerated from outside: libfaketime lets the clocks and timers of all roles, and of the program that
//! plays the administrator, run faster, so that two hours pass in a fraction of that. The vCenter's do not: its
//! answers, its disks and the CPU are as slow as ever, and look slower by as much. What holds here holds with
//! less effort on the wall clock.

mod act;
mod promises;
mod spread;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::wait;
use crate::guest::Random;

use act::Act;
use promises::Promises;
use spread::Spread;
use world::World;

/// How often jobs are looked at.
const LOOK: Duration = Duration::from_secs(15);
/// One of so many VMs is written to each second.
const CALM: usize = 60;

/// What is played.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// VMs of the lab.
    pub vms: usize,
    /// How long promises are watched, on the accelerated clock.
    pub minutes: u32,
    /// Which blocks of which VMs change when.
    pub seed: u64,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Tally {
    acts: Vec<String>,
    promises: Promises,
    spread: Spread,
    runs: BTreeMap<String, usize>,
}

impl Tally {
    /// All of it in words.
    pub fn report(&self) -> String {
        let runs: Vec<String> = self
            .runs
            .iter()
            .map(|(end, n)| format!("{n} {end}"))
            .collect();
        format!(
            "{}\nruns: {}\n{}{}",
            self.acts.join("\n"),
            runs.join(", "),
            self.promises.report(),
            self.spread.report()
        )
    }
}

/// Plays a fleet to the end and demands what it promises; `tally` has what was seen also when that fails.
pub fn run(options: &Options, tally: &mut Tally, say: impl Fn(&str)) -> Result<()> {
    let mut world = World::make(options.vms)?;
    say(&format!("{} VMs stand", options.vms));
    world.promise()?;
    let begin = Instant::now();
    let minute = |at: u32| Duration::from_secs(60) * at;
    let mut script = Act::script(options.minutes).into_iter().peekable();
    let mut random = Random::new(options.seed);
    let mut looked = begin;
    while begin.elapsed() < minute(options.minutes) {
        if let Some((at, act)) = script.next_if(|(at, _)| begin.elapsed() >= minute(*at)) {
            let told = format!("minute {at}: {act}");
            say(&told);
            tally.acts.push(told);
            act.play(&mut world).with_context(|| act.to_string())?;
        }
        world.write(&mut random)?;
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            tally.spread.note(&world.proxies()?, looked);
            tally.promises.note(&world.jobs()?)?;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    end(&mut world, tally)
}

/// Nothing is promised any more, everything ends, and is judged.
fn end(world: &mut World, tally: &mut Tally) -> Result<()> {
    world.release()?;
    let runs = wait("all runs have ended", Duration::from_secs(900), || {
        let runs = world.runs()?;
        let ended = runs.iter().all(|run| !run["ended_at"].is_null());
        Ok(ended.then_some(runs))
    })?;
    for run in &runs {
        let reason = run["fault"]["reason"].as_str().unwrap_or("");
        let state = run["state"].as_str().context("a state")?;
        let end = format!("{state} {reason}").trim_end().to_owned();
        *tally.runs.entry(end).or_default() += 1;
    }
    tally.promises.judge(world, &runs)?;
    tally.spread.count(&runs)?;
    wait("no snapshot is left", Duration::from_secs(600), || {
        Ok(world.lab.snapshots()?.is_empty().then_some(()))
    })?;
    tally.promises.check()?;
    tally.spread.check()?;
    check_a_point(world, &runs)
}

/// The newest point of a VM that every fault may have met restores to what was frozen.
fn check_a_point(world: &World, runs: &[Value]) -> Result<()> {
    let succeeded = |run: &&Value| run["state"] == "succeeded";
    let last = runs
        .iter()
        .filter(succeeded)
        .max_by_key(|run| run["ended_at"].as_str().map(str::to_owned));
    let last = last.context("no run succeeded")?;
    let vm = last["backup"]["vm_name"].as_str().context("a name")?;
    let point = last["backup"]["point_id"].as_str().context("a point")?;
    ensure!(
        !world.lab.last_frozen(vm)?.is_empty(),
        "{vm} was never frozen"
    );
    world.check_equal_to_frozen(vm, point)
}
