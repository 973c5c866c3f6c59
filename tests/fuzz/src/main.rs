//! `fuzz --seconds N`: every target for as long, from a seed that is printed.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use stillwater_fuzz::{Budget, Failure, TARGETS, cap_memory, run};

/// Throws bytes that nobody wrote at decoders
#[derive(Debug, Parser)]
struct Arguments {
    /// How long in all
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only targets with this in their name
    #[arg(long, default_value = "")]
    target: String,
    /// The seed; one of the clock if there is none
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    match fuzz(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn fuzz(arguments: &Arguments) -> Result<()> {
    cap_memory().context("cap the memory")?;
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    let seed = arguments.seed.unwrap_or(now.as_nanos() as u64);
    let chosen: Vec<_> = TARGETS
        .iter()
        .filter(|target| target.name.contains(&arguments.target))
        .collect();
    ensure!(
        !chosen.is_empty(),
        "no target is called {:?}",
        arguments.target
    );
    println!("seed {seed}");
    let share = Duration::from_secs(arguments.seconds) / chosen.len() as u32;
    let mut failed = 0;
    for target in chosen {
        match run(target, seed, Budget::Time(share)) {
            Ok(cases) => println!("{}: {cases} inputs", target.name),
            Err(failure) => {
                failed += 1;
                keep(&failure)?;
            }
        }
    }
    ensure!(failed == 0, "{failed} targets failed");
    Ok(())
}

/// Writes the input down, to be added to the seeds of its target.
fn keep(failure: &Failure) -> Result<()> {
    let name = format!("fuzz-{}-{}.input", failure.target, failure.case);
    fs::write(&name, &failure.input).with_context(|| format!("write {name}"))?;
    eprintln!(
        "{}: input {} of seed {} failed: {}; it is in {name}",
        failure.target, failure.case, failure.seed, failure.what
    );
    Ok(())
}
