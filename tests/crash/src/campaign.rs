//! The whole lane: recordings, states, verdicts, and what is printed of them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::capture::{Capture, Plan, Verdict};
use crate::filesystem::FileSystem;
use crate::history::State;
use crate::knock::Without;
use crate::proof::{Place, Proof};
use crate::random::Random;
use crate::script::Length;
use crate::setting::Setting;
use crate::{Arguments, Knockout};

/// Enough syncs for thousands of states.
const LONG: Length = Length {
    lives: 4,
    points: 6,
    collects: false,
};
/// Garbage is collected, and days pass.
const COLLECTING: Length = Length {
    lives: 3,
    points: 4,
    collects: true,
};
/// How many recordings begin with what a power cut left, where so many states are wanted.
const RECOVERIES: usize = 3;
const RECOVERIES_FROM: usize = 100;
/// Of a hundred states, how many are cuts beside collections.
const COLLECTING_SHARE: usize = 25;
/// Of a hundred states, how many are cuts of these.
const RECOVERY_SHARE: usize = 15;
/// Failing states that are told in full.
const TOLD: usize = 5;

/// Runs what was asked for; a failure when a promise was broken, or the proof has a gap.
pub async fn run(arguments: &Arguments, dir: &Path) -> Result<ExitCode> {
    if let Some(kept) = &arguments.replay {
        let state = arguments.state.context("which state is to be replayed")?;
        return replay(kept, state, dir);
    }
    let seed = arguments.seed.unwrap_or_else(chance);
    println!(
        "crash: seed {seed}, {} states for each file system",
        arguments.states
    );
    let (mut kept_all, mut proof) = (true, Proof::default());
    let proves = matches!(arguments.knockout, None | Some(Knockout::All));
    if proves {
        proof.try_names()?;
    }
    for fs in &arguments.fs {
        let lane = Lane {
            fs: *fs,
            arguments,
            dir: &dir.join(fs.name()),
            random: Random::new(seed),
        };
        kept_all &= lane
            .run(&mut proof)
            .await
            .with_context(|| format!("on {}", fs.name()))?;
    }
    if proves {
        kept_all &= proof.tell();
    }
    println!(
        "crash: {}, seed {seed}",
        if kept_all { "passed" } else { "FAILED" }
    );
    Ok(if kept_all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn chance() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Random::new(now.as_nanos() as u64).next() >> 32
}

fn replay(kept: &Path, state: State, dir: &Path) -> Result<ExitCode> {
    let capture = Capture::load(kept)?;
    let plan = Plan {
        states: vec![state],
        equal_count: 0,
    };
    let verdicts = capture.judge((&plan, None), dir, 1)?;
    let broken = verdicts
        .iter()
        .filter(|verdict| verdict.is_broken())
        .count();
    for verdict in &verdicts {
        println!("state {}: {:#?}", verdict.state, verdict.findings);
    }
    Ok(if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Verdict {
    /// Whether anything is not as promised.
    pub fn is_broken(&self) -> bool {
        !self.findings.lost.is_empty() || !self.findings.single.is_empty()
    }
}

struct Lane<'a> {
    fs: FileSystem,
    arguments: &'a Arguments,
    dir: &'a Path,
    random: Random,
}

impl Lane<'_> {
    async fn run(mut self, proof: &mut Proof) -> Result<bool> {
        std::fs::create_dir_all(self.dir)?;
        let setting = Setting::new(&self.dir.join("node"))?;
        match self.arguments.knockout.clone() {
            Some(Knockout::All) => self.prove(&setting, proof).await.map(|()| true),
            Some(Knockout::These(without)) => self.knock(&setting, &without).await,
            Some(Knockout::None) => self.cut(&setting).await,
            None => {
                let kept = self.cut(&setting).await?;
                self.prove(&setting, proof).await.map(|()| kept)
            }
        }
    }

    /// Nothing is left out: nothing may be lost.
    async fn cut(&mut self, setting: &Setting) -> Result<bool> {
        let begun = Instant::now();
        let wanted = self.arguments.states;
        let mut tally = Tally::default();
        let share = wanted - wanted * COLLECTING_SHARE / 100;
        self.cut_script(setting, "backup", LONG, share, &mut tally)
            .await?;
        let backups = tally.states;
        self.cut_script(setting, "collect", COLLECTING, wanted, &mut tally)
            .await?;
        ensure!(
            tally.states >= wanted,
            "only {} of {wanted} states are distinct; the script is too short",
            tally.states
        );
        self.tell(&format!(
            "{} distinct states: {backups} beside backups, {} beside collections, of all these {} \
             cuts after a cut; {} equal ones left out; {} broke a promise; {:.0} s",
            tally.states,
            tally.states - backups,
            tally.again,
            tally.equal,
            tally.broken,
            begun.elapsed().as_secs_f64()
        ));
        Ok(tally.broken == 0)
    }

    /// Records a script and what comes after some power cuts in it, until `goal` states were judged.
    async fn cut_script(
        &mut self,
        setting: &Setting,
        name: &str,
        length: Length,
        goal: usize,
        tally: &mut Tally,
    ) -> Result<()> {
        let missing = goal - tally.states;
        let recoveries = if missing < RECOVERIES_FROM {
            0
        } else {
            RECOVERIES
        };
        let for_recoveries = missing * RECOVERY_SHARE / 100 * recoveries.min(1);
        let what = (&Without::nothing(), length, self.random.next());
        let capture = Capture::record(self.fs, setting, self.dir, what).await?;
        self.tell(&format!("recorded {name}: {}", capture.summary()));
        let as_meant = capture.removed_packs() == length.collects;
        ensure!(
            as_meant,
            "the script does not collect garbage as it is meant to"
        );
        let plan = capture.plan(missing - for_recoveries, self.random.next());
        self.judge(name, &capture, &plan, tally)?;
        let once = tally.states;
        let length = Length {
            lives: 1,
            points: 2,
            ..length
        };
        for number in 0..recoveries {
            let state = plan.states[self.random.below(plan.states.len() as u64) as usize];
            let again = (length, self.random.next());
            let second = capture.go_on(state, setting, self.dir, again).await;
            let second = second.with_context(|| format!("go on after state {state}"))?;
            let share = (goal - tally.states) / (recoveries - number);
            let plan = second.plan(share, self.random.next());
            self.judge(&format!("{name}-again-{number}"), &second, &plan, tally)?;
        }
        tally.again += tally.states - once;
        Ok(())
    }

    /// Judges states, tells what is broken, and keeps the recording if anything is.
    fn judge(&self, name: &str, capture: &Capture, plan: &Plan, tally: &mut Tally) -> Result<()> {
        let verdicts = capture.judge((plan, None), self.dir, self.arguments.threads)?;
        let broken: Vec<_> = verdicts
            .iter()
            .filter(|verdict| verdict.is_broken())
            .collect();
        tally.states += verdicts.len();
        tally.equal += plan.equal_count;
        tally.broken += broken.len();
        let Some(first) = broken.first() else {
            return Ok(());
        };
        let kept = self.kept(name);
        capture.save(&kept)?;
        for verdict in broken.iter().take(TOLD) {
            self.tell(&format!("state {}: {:#?}", verdict.state, verdict.findings));
        }
        let kept = kept.display();
        self.tell(&format!(
            "again: make crash REPLAY={kept} STATE={}",
            first.state
        ));
        Ok(())
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.arguments
            .keep
            .join(format!("{}-{name}", self.fs.name()))
    }

    async fn prove(&mut self, setting: &Setting, proof: &mut Proof) -> Result<()> {
        let place = Place {
            fs: self.fs,
            setting,
            dir: self.dir,
            threads: self.arguments.threads,
        };
        proof.try_out(&place, self.random.next()).await
    }

    /// Leaves barriers out together, and tells what that costs.
    async fn knock(&mut self, setting: &Setting, without: &Without) -> Result<bool> {
        let what = (without, LONG, self.random.next());
        let capture = Capture::record(self.fs, setting, self.dir, what).await?;
        let plan = capture.plan(self.arguments.states, self.random.next());
        let mut tally = Tally::default();
        self.judge("knockout", &capture, &plan, &mut tally)?;
        self.tell(&format!(
            "{} of {} states broke a promise",
            tally.broken, tally.states
        ));
        Ok(tally.broken > 0)
    }

    fn tell(&self, what: &str) {
        println!("{}: {what}", self.fs.name());
    }
}

#[derive(Debug, Default)]
struct Tally {
    states: usize,
    again: usize,
    equal: usize,
    broken: usize,
}
