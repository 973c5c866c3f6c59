//! Kills roles with `kill -9` at random moments of backups and looks at what is left.
//!
//! `torture --rounds 100 --seed 7 --guest small`: each round starts a backup, kills one role at a random moment,
//! starts it again, and demands: the run ends by itself, no snapshot of ours remains, and either a
//! point exists that restores to exactly the frozen bytes, or none. The last rounds re-read every
//! point that was ever committed. The seed is printed, and replays the same choices.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use stillwater_tests::cluster::{Role, hash, rows, text, wait};
use stillwater_tests::guest::{Disks, Random, Writer};
use stillwater_tests::lab::VmSpec;
use stillwater_tests::{Cluster, Lab};

struct Options {
    rounds: u32,
    seed: u64,
    guest: String,
}

#[derive(Default)]
struct Tally {
    kills: BTreeMap<&'static str, u32>,
    whole: u32,
    absent: u32,
    slowest: Duration,
}

struct Torture {
    lab: Lab,
    cluster: Cluster,
    /// Hash of each disk of each committed point, by device key.
    points: BTreeMap<String, BTreeMap<i32, String>>,
}

fn main() -> Result<()> {
    let options = options()?;
    println!(
        "torture: {} rounds, seed {}, guest {}",
        options.rounds, options.seed, options.guest
    );
    let disks = Disks::new()?;
    let lab = Lab::start(&[VmSpec::new("web", disks.set(&options.guest)?)], 16)?;
    let cluster = Cluster::start()?;
    cluster.add_lab(&lab)?;
    let mut torture = Torture {
        lab,
        cluster,
        points: BTreeMap::new(),
    };
    let mut random = Random::new(options.seed);
    let mut tally = Tally::default();
    let typical = torture.measure()?;
    for round in 1..=options.rounds {
        let before = (tally.whole, tally.absent);
        torture
            .round(&mut random, typical, &mut tally)
            .with_context(|| format!("round {round} of seed {}", options.seed))?;
        let end = if tally.whole > before.0 {
            "whole"
        } else {
            "absent"
        };
        println!("round {round}: point {end}");
    }
    torture.check_all_points()?;
    println!(
        "torture passed: {} kills {:?}, seed {}, points whole {}, absent {}, snapshots left 0, \
         slowest recovery {:.1} s",
        options.rounds,
        tally.kills,
        options.seed,
        tally.whole,
        tally.absent,
        tally.slowest.as_secs_f64()
    );
    Ok(())
}

impl Torture {
    /// How long an undisturbed run takes.
    fn measure(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        let run = self.cluster.backup("web", "succeeded")?;
        let took = begin.elapsed();
        self.remember(&run)?;
        Ok(took)
    }

    fn round(&mut self, random: &mut Random, typical: Duration, tally: &mut Tally) -> Result<()> {
        let writer = Writer::start(&self.lab.live_disk("web", 0)?, random.next())?;
        let role = Role::ALL[(random.next() % 3) as usize];
        let moment = typical.mul_f64((random.next() % 1200) as f64 / 1000.0);
        let run = self.cluster.start_run(&["backup", "web"])?;
        std::thread::sleep(moment);
        self.cluster.kill_role(role)?;
        *tally.kills.entry(role.name()).or_default() += 1;
        let begin = Instant::now();
        self.cluster.start_role(role)?;
        self.cluster.wait_online(2)?;
        let ended = self.cluster.wait_run(&run, Duration::from_secs(150))?;
        writer.stop()?;
        wait("no snapshot is left", Duration::from_secs(60), || {
            Ok(self.lab.snapshots()?.is_empty().then_some(()))
        })?;
        tally.slowest = tally.slowest.max(begin.elapsed());
        self.check(&ended, tally)
    }

    fn check(&mut self, ended: &Value, tally: &mut Tally) -> Result<()> {
        let listed = rows(&self.cluster.json(&["point", "list"])?).len();
        match text(ended, "state")?.as_str() {
            "succeeded" => {
                ensure!(
                    listed == self.points.len() + 1,
                    "{listed} points: {ended:#}"
                );
                self.remember(ended)?;
                tally.whole += 1;
            }
            "failed" => {
                ensure!(ended["fault"]["reason"].is_string(), "no reason: {ended:#}");
                ensure!(
                    listed == self.points.len(),
                    "a failed run left a point: {ended:#}"
                );
                tally.absent += 1;
            }
            _ => bail!("neither succeeded nor failed: {ended:#}"),
        }
        self.lab.control("POST", "/frozen/prune", None).map(drop)
    }

    /// Notes what the point must restore to, and that it does.
    fn remember(&mut self, run: &Value) -> Result<()> {
        let point = text(&run["backup"], "point_id")?;
        let mut disks = BTreeMap::new();
        for frozen in self.lab.last_frozen("web")? {
            disks.insert(frozen.key, hash(&frozen.file)?);
        }
        self.check_point(&point, &disks)?;
        self.points.insert(point, disks);
        Ok(())
    }

    fn check_all_points(&self) -> Result<()> {
        let listed = rows(&self.cluster.json(&["point", "list"])?).len();
        ensure!(
            listed == self.points.len(),
            "{listed} of {} points",
            self.points.len()
        );
        self.points
            .iter()
            .try_for_each(|(point, disks)| self.check_point(point, disks))
    }

    fn check_point(&self, point: &str, disks: &BTreeMap<i32, String>) -> Result<()> {
        for (key, expected) in disks {
            let key = key.to_string();
            let file = self.cluster.dir().join("torture.raw");
            let to = file.to_str().context("utf-8")?;
            self.cluster.ok(&[
                "restore", "disk", point, "--disk", &key, "--to", to, "--force",
            ])?;
            ensure!(
                hash(&file)? == *expected,
                "disk {key} of point {point} differs"
            );
        }
        Ok(())
    }
}

fn options() -> Result<Options> {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let mut options = Options {
        rounds: 100,
        seed: clock.as_nanos() as u64,
        guest: "small".into(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args
            .next()
            .with_context(|| format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--rounds" => options.rounds = value.parse()?,
            "--seed" => options.seed = value.parse()?,
            "--guest" => options.guest = value,
            _ => bail!("usage: torture [--rounds N] [--seed N] [--guest small|debian]"),
        }
    }
    Ok(options)
}
