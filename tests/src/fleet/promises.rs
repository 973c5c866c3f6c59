//! Whether promises were kept: by what the product says, and by what its runs show.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

use super::world::World;

/// Looks are so far apart: what is broken for a shorter time need not have been seen, in seconds.
const SLACK: i64 = 15;

/// One VM under one policy.
type Job = (String, String);

/// What was told, and what was so.
#[derive(Debug, Default)]
pub struct Promises {
    /// Seconds that each was promised, and the oldest that a point is said to have become.
    jobs: BTreeMap<Job, (i64, Option<i64>)>,
    /// Why promises are said to have been broken.
    told: BTreeMap<Job, Vec<String>>,
    /// VMs whose points were older than promised although nobody said so.
    untold: Vec<String>,
    /// The oldest points in seconds, by what was promised.
    oldest: BTreeMap<i64, Vec<i64>>,
}

impl Promises {
    /// Remembers what the product says now.
    pub fn note(&mut self, jobs: &[Value]) -> Result<()> {
        for job in jobs {
            let name = |field: &str| job[field].as_str().map(str::to_owned).context("a name");
            let key = (name("policy")?, name("vm_name")?);
            let rpo = job["rpo_seconds"].as_i64().context("an RPO")?;
            let most = job["achieved_most_seconds"].as_i64();
            self.jobs.insert(key.clone(), (rpo, most));
            if !job["broken_since"].is_null() {
                let cause = job["broken_by"].as_str().unwrap_or("").to_owned();
                let causes = self.told.entry(key).or_default();
                if !causes.contains(&cause) {
                    causes.push(cause);
                }
            }
        }
        Ok(())
    }

    /// Works out from the runs alone how old points became.
    pub fn judge(&mut self, world: &World, runs: &[Value]) -> Result<()> {
        let promised = world.promised.context("nothing was promised")?;
        let released = world.released.context("promises still stand")?;
        let mut points: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
        for run in runs.iter().filter(|run| run["state"] == "succeeded") {
            let vm = run["backup"]["vm_name"].as_str().context("a name")?;
            points.entry(vm.to_owned()).or_default().push(moments(run)?);
        }
        for ((policy, vm), (rpo, _)) in &self.jobs {
            let of = points.entry(vm.clone()).or_default();
            of.sort_unstable();
            let oldest = oldest(promised, of, released);
            self.oldest.entry(*rpo).or_default().push(oldest);
            if oldest > rpo + SLACK && !self.told.contains_key(&(policy.clone(), vm.clone())) {
                self.untold.push(format!("{vm} of {policy}: {oldest} s"));
            }
        }
        Ok(())
    }

    /// Counts and causes.
    pub fn report(&self) -> String {
        let mut lines = String::new();
        for (rpo, oldest) in &self.oldest {
            let mut oldest = oldest.clone();
            oldest.sort_unstable();
            let kept = oldest.iter().filter(|age| **age <= *rpo).count();
            let middle = oldest.get(oldest.len() / 2).unwrap_or(&0);
            let most = oldest.last().unwrap_or(&0);
            lines += &format!(
                "promised {rpo} s: {kept} of {} kept, oldest point of a VM {middle} s in the middle, {most} s at most\n",
                oldest.len()
            );
        }
        let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
        for cause in self.told.values().flatten() {
            *causes.entry(cause).or_default() += 1;
        }
        for (cause, count) in causes {
            lines += &format!("broken for {count}: {cause}\n");
        }
        lines
    }

    /// Every promise was kept, or it was told why not.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.jobs.is_empty(), "nothing was promised");
        ensure!(
            self.untold.is_empty(),
            "broken without a word: {:#?}",
            self.untold
        );
        for (job, causes) in &self.told {
            let said = causes.iter().all(|cause| !cause.is_empty());
            ensure!(said, "{job:?} is broken without a cause");
        }
        Ok(())
    }
}

/// When the VM was frozen for a run, and when its point was there.
fn moments(run: &Value) -> Result<(i64, i64)> {
    let phases = run["phases"].as_array().context("phases")?;
    let at = |word: &str| phases.iter().position(|phase| phase["phase"] == word);
    let freezing = &phases[at("freezing").context("a run that froze nothing")?];
    let after = at("committing").and_then(|at| phases.get(at + 1));
    let there = after.map_or(&run["ended_at"], |phase| &phase["started_at"]);
    Ok((seconds(&freezing["started_at"])?, seconds(there)?))
}

/// The greatest age that the newest point had, where the promise counts as one at the beginning.
fn oldest(promised: i64, points: &[(i64, i64)], released: i64) -> i64 {
    let mut newest = promised;
    let mut most = 0;
    for (frozen, there) in points {
        most = most.max(there.min(&released) - newest);
        newest = newest.max(*frozen);
    }
    most.max(released - newest)
}

fn seconds(time: &Value) -> Result<i64> {
    let text = time.as_str().context("a time")?;
    Ok(text.parse::<Timestamp>()?.as_second())
}
