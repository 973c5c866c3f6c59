//! The controller is killed at each step of its journal.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Bench, Class, Tally, VMS, name};
use crate::cluster::{Role, rows, text, wait};
use crate::guest::Random;

/// A journal that does not grow for so long has come to its end.
const STILL: Duration = Duration::from_secs(6);
/// How often the journal is looked at: less than the time between two of its steps.
const LOOK: Duration = Duration::from_micros(100);
/// How long runs may take to end after a restart.
const RECOVERED: Duration = Duration::from_secs(120);

/// The journal's lengths while it grows.
struct Growth {
    file: PathBuf,
    begun: u64,
}

impl Growth {
    fn of(bench: &Bench) -> Result<Self> {
        let file = bench
            .cluster
            .state(Role::Controller)
            .join("cluster/memory/journal");
        let begun = std::fs::metadata(&file)
            .with_context(|| format!("look at {}", file.display()))?
            .len();
        Ok(Self { file, begun })
    }

    fn bytes(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.file)?
            .len()
            .saturating_sub(self.begun))
    }
}

impl Bench {
    /// The lengths by which one run's journal grows, step by step.
    fn steps(&mut self, tally: &mut Tally) -> Result<Vec<u64>> {
        let growth = Growth::of(self)?;
        let mut lengths = BTreeSet::new();
        let mut tool = self.begin(0)?;
        while tool.try_wait()?.is_none() {
            lengths.insert(growth.bytes()?);
            std::thread::sleep(LOOK);
        }
        lengths.remove(&0);
        self.settle_killed(tally)?;
        Ok(lengths.into_iter().collect())
    }

    /// Starts a backup and stays with it, without waiting.
    fn begin(&self, vm: usize) -> Result<Child> {
        let mut command = self.cluster.command(&["backup", &name(vm), "--follow"])?;
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().context("start the tool")
    }

    /// Kills the controller as often as asked: first at each step of one run, then at random steps of all
    /// VMs' runs.
    pub(super) fn kill(
        &mut self,
        kills: u32,
        seed: u64,
        tally: &mut Tally,
        mut tell: impl FnMut(&str),
    ) -> Result<()> {
        let mut random = Random::new(seed);
        let steps = self.steps(tally)?;
        let shift = random.next() as usize;
        for kill in 0..kills as usize {
            let begun = Instant::now();
            let told = match kill < steps.len() {
                true => {
                    let step = (kill + shift) % steps.len();
                    self.kill_at(&[0], steps[step], random.next(), tally)
                        .map(|()| format!("step {} of {}", step + 1, steps.len()))
                }
                false => {
                    let all: Vec<usize> = (0..VMS).collect();
                    let most = steps.last().copied().unwrap_or(1) * VMS as u64;
                    let at = 1 + random.next() % most;
                    self.kill_at(&all, at, random.next(), tally)
                        .map(|()| format!("{at} bytes into {VMS} runs"))
                }
            };
            let told = told.with_context(|| format!("kill {kill} of seed {seed}"))?;
            tell(&format!(
                "kill {kill} at {told}: {:.1} s",
                begun.elapsed().as_secs_f64()
            ));
        }
        Ok(())
    }

    fn kill_at(&mut self, vms: &[usize], bytes: u64, seed: u64, tally: &mut Tally) -> Result<()> {
        let mut random = Random::new(seed);
        for vm in vms {
            self.lab.touch(&name(*vm), 2000, 0.02, random.next() >> 1)?;
        }
        let growth = Growth::of(self)?;
        let mut tools = vms
            .iter()
            .map(|vm| self.begin(*vm))
            .collect::<Result<Vec<Child>>>()?;
        let (mut last, mut grown_at) = (0, Instant::now());
        while last < bytes && grown_at.elapsed() < STILL {
            std::thread::sleep(LOOK);
            let now = growth.bytes()?;
            if now > last {
                (last, grown_at) = (now, Instant::now());
            }
        }
        self.cluster.kill_role(Role::Controller)?;
        *tally.classes.entry(Class::Killed).or_default() += 1;
        for tool in &mut tools {
            // It may have ended by itself.
            tool.kill().ok();
            tool.wait()?;
        }
        self.cluster.start_role(Role::Controller)?;
        self.cluster.wait_online(2)?;
        self.settle_killed(tally)
    }

    /// Waits until every run has ended, and holds the new ones against what they left.
    fn settle_killed(&mut self, tally: &mut Tally) -> Result<()> {
        let runs = wait("the runs end", RECOVERED, || {
            let listed = rows(&self.cluster.json(&["run", "list", "--limit", "100000"])?);
            let is_over = |run: &Value| run["state"] != "pending" && run["state"] != "running";
            Ok(listed.iter().all(is_over).then_some(listed))
        })?;
        let over = Instant::now();
        self.ledger.settle(&self.lab)?;
        tally.slowest = tally.slowest.max(over.elapsed());
        for run in runs.iter().filter(|run| run["backup"].is_object()) {
            if !self.seen.insert(text(run, "run_id")?) {
                continue;
            }
            if let Some(phase) = run["phase"].as_str().filter(|_| run["state"] == "failed") {
                *tally.phases.entry(phase.to_owned()).or_default() += 1;
            }
            self.ledger
                .settle_run(&self.lab, &self.cluster, run, &mut tally.ends)?;
        }
        self.ledger.check_points(&self.cluster)?;
        self.lab.prune()
    }
}
