//! Stillwater and its peers on the same bytes, in turn, as real processes.
//!
//! Every round starts with empty repositories. In each step the peers run first and Stillwater after them (A B A B
//! over the steps), so that a machine which slows down slows both; ratios are taken within such a pair. What counts is
//! CPU seconds of all processes of a contender: for Stillwater controller, proxy, repository and the tool, over mutual
//! TLS on loopback, with fsync and self-checks on. The simulated vCenter plays the host and is counted for nobody.

mod ended;
mod growth;
mod images;
mod measured;
mod ours;
mod peer;
mod random;
mod report;
mod step;
mod way;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use stillwater_tests::workspace;

use crate::growth::Growth;
use crate::images::Images;
use crate::ours::Ours;
use crate::peer::{Peer, Rig};
use crate::report::{Pair, table};
use crate::step::Step;
use crate::way::Way;

/// Stillwater and its peers on the same bytes, in turn.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    instead: Option<Instead>,
    /// The small images of the demo instead of a server with 4 GiB of content.
    #[arg(long)]
    quick: bool,
    /// How many rounds; ratios are medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Which peers.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "restic,borg,borg-fixed"
    )]
    peers: Vec<Peer>,
    /// By which way the proxy reads the disk.
    #[arg(long, value_enum, default_value = "file")]
    way: Way,
    /// Only these steps, and the first backup, which all others need.
    #[arg(long, value_enum, value_delimiter = ',')]
    steps: Vec<Step>,
    /// Do not wait until the machine is idle. Such figures are not to be quoted.
    #[arg(long)]
    loaded: bool,
    /// Write the table here as well.
    #[arg(long)]
    to: Option<PathBuf>,
}

/// What is measured instead, without peers.
#[derive(Debug, clap::Subcommand)]
enum Instead {
    /// What grows with what: virtual size, disks at a time, points of a VM.
    Growth(Growth),
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Instead::Growth(growth)) = options.instead {
        return growth.run();
    }
    let images = Images::find(options.quick)?;
    let mut text = heading(&options)?;
    print!("{text}");
    let mut pairs = Vec::new();
    for round in 1..=options.rounds {
        println!("round {round} of {}", options.rounds);
        pairs.extend(self::round(&options, &images)?);
    }
    let loads: Vec<String> = pairs
        .iter()
        .map(|pair| format!("{:.1}", pair.load))
        .collect();
    let end = format!(
        "\n{}\nLoad before each pair: {}\n",
        table(&pairs),
        loads.join(" ")
    );
    print!("{end}");
    text.push_str(&end);
    if let Some(to) = options.to {
        std::fs::write(&to, text).with_context(|| format!("write {}", to.display()))?;
    }
    Ok(())
}

/// What is measured, where and with what.
fn heading(options: &Options) -> Result<String> {
    let mut lines = vec![
        format!("date: {}", jiff::Zoned::now().date()),
        format!("machine: {}", machine()?),
        format!(
            "rounds: {}{}",
            options.rounds,
            if options.quick { ", small images" } else { "" }
        ),
    ];
    lines.push(format!("the proxy reads {}", options.way.name()));
    for peer in &options.peers {
        lines.push(format!("{}: {}", peer.name(), peer.version()?));
    }
    Ok(lines.join("\n") + "\n")
}

fn machine() -> Result<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
    let models: Vec<&str> = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, model)| model)
        .collect();
    let memory = rustix::system::sysinfo();
    Ok(format!(
        "{} × {}, {} GiB, Linux {}",
        models.len(),
        models.first().context("no processor has a name")?,
        (memory.totalram as u64 * u64::from(memory.mem_unit)) >> 30,
        rustix::system::uname().release().to_string_lossy()
    ))
}

/// All steps with empty repositories.
fn round(options: &Options, images: &Images) -> Result<Vec<Pair>> {
    let scratch = tempfile::Builder::new()
        .prefix("stillwater-bench-")
        .tempdir_in(stillwater_tests::lab::scratch()?)?;
    let mut rigs = Vec::new();
    for peer in &options.peers {
        let dir = scratch.path().join(format!("{peer:?}"));
        rigs.push((*peer, Rig::new(*peer, images, &dir)?));
    }
    let mut ours = Ours::new(images, options.way, scratch.path())?;
    let asked = &options.steps;
    let wanted = Step::ALL
        .into_iter()
        .filter(|step| asked.is_empty() || *step == Step::Full || asked.contains(step));
    wanted
        .map(|step| pair(options, step, &rigs, &mut ours))
        .collect()
}

/// One step: each peer, then Stillwater.
fn pair(options: &Options, step: Step, rigs: &[(Peer, Rig)], ours: &mut Ours) -> Result<Pair> {
    println!(" {}", step.name());
    let mut peers = BTreeMap::new();
    for (peer, rig) in rigs {
        rig.prepare(step)?;
        rest(options)?;
        if let Some(cost) = rig
            .run(step)
            .with_context(|| format!("{} {}", peer.name(), step.name()))?
        {
            println!(
                "  {}: {:.1} s, {:.1} CPU s",
                peer.name(),
                cost.wall_seconds,
                cost.cpu_seconds
            );
            peers.insert(*peer, cost);
        }
    }
    ours.prepare(step)?;
    let load = rest(options)?;
    let cost = ours
        .run(step)
        .with_context(|| format!("Stillwater {}", step.name()))?;
    println!(
        "  Stillwater: {:.1} s, {:.1} CPU s",
        cost.wall_seconds, cost.cpu_seconds
    );
    Ok(Pair {
        step,
        ours: cost,
        peers,
        load,
    })
}

/// Writes back what is dirty and waits until nothing else runs, ten minutes at most; answers the load.
fn rest(options: &Options) -> Result<f64> {
    rustix::fs::sync();
    let begin = Instant::now();
    loop {
        let running = runnable()?;
        if running < 1.0 || options.loaded {
            return Ok(running);
        }
        if begin.elapsed() > Duration::from_secs(600) {
            anyhow::bail!(
                "the machine is busy (load {running:.1}): stop what else runs in {}, or say --loaded",
                workspace::root().display()
            );
        }
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// CPU seconds a second that others use, over a second: the load average remembers the step before for minutes.
fn runnable() -> Result<f64> {
    let busy = || -> Result<f64> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            .filter_map(|field| field.parse().ok())
            .collect();
        // user, nice, system; then idle and waiting for a disk, which take no processor.
        let used: u64 = ticks.iter().take(3).sum();
        Ok(used as f64 / rustix::param::clock_ticks_per_second() as f64)
    };
    let before = busy()?;
    std::thread::sleep(Duration::from_secs(1));
    Ok(busy()? - before)
}
