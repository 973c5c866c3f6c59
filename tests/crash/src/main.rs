//! Power cuts of a real repository process on real file systems.
//!
//! A script is played against the process while every write and flush of its disk is recorded. Then,
//! for thousands of moments, a disk is made that holds what was flushed and a random part of what was
//! not; it is mounted, the repository is opened, and everything that was acknowledged before that
//! moment must be there. `tests/crash/README.md` tells how to run it.

mod campaign;
mod capture;
mod check;
mod clock;
mod filesystem;
mod harm;
mod history;
mod image;
mod jail;
mod knock;
mod posix;
mod proof;
mod random;
mod recorder;
mod script;
mod setting;
mod subject;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Result;
use clap::{Parser, Subcommand};

use filesystem::FileSystem;
use history::State;
use knock::{Barrier, Without};

/// Cuts the power of a repository and looks at what is left.
#[derive(Debug, Parser)]
#[command(name = "crash")]
struct Arguments {
    #[command(subcommand)]
    inner: Option<Inner>,
    /// The file systems
    #[arg(long, value_delimiter = ',', default_value = "ext4,xfs")]
    fs: Vec<FileSystem>,
    /// Distinct states for each file system
    #[arg(long, default_value_t = 2000)]
    states: usize,
    /// Leave out barriers: `all` tries each one, `none` none; otherwise names, joined by commas, that
    /// are left out together. Without it, the states are tried and then each barrier
    #[arg(long)]
    knockout: Option<Knockout>,
    /// Repeats the choices of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// Disks that are checked at a time
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where a failing run is kept
    #[arg(long, default_value = "target/crash")]
    keep: PathBuf,
    /// Judges one state of a run that was kept
    #[arg(long, requires = "state")]
    replay: Option<PathBuf>,
    /// Which one, such as 417.23
    #[arg(long)]
    state: Option<State>,
    /// Where the lane works; set by the lane itself
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Inner {
    /// Serves as the repository does, less some barriers; started by the lane
    #[command(hide = true)]
    Serve {
        /// The repository's configuration
        config: PathBuf,
        /// What is left out
        #[arg(long)]
        without: Vec<Barrier>,
        /// Reserves no space for packs
        #[arg(long)]
        no_reserve: bool,
        /// A file that says by how many milliseconds the clocks are ahead
        #[arg(long)]
        clock: Option<PathBuf>,
    },
}

/// Which barriers are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Knockout {
    /// None at all.
    None,
    /// Each one, in turn.
    All,
    /// These together.
    These(Without),
}

impl FromStr for Knockout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "all" => Ok(Self::All),
            names => {
                let barriers = names.split(',').map(str::parse);
                let barriers: Vec<_> = barriers.collect::<Result<_, _>>()?;
                Ok(Self::These(Without::barriers(&barriers)))
            }
        }
    }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(Arguments::parse())));
    outcome.unwrap_or_else(|error| {
        eprintln!("crash: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    if let Some(Inner::Serve {
        config,
        without,
        no_reserve,
        clock,
    }) = arguments.inner
    {
        let without = Without {
            reserve: no_reserve,
            ..Without::barriers(&without)
        };
        subject::serve(&config, without, clock).await?;
        return Ok(ExitCode::SUCCESS);
    }
    match arguments.inside.clone() {
        None => {
            jail::check_machine()?;
            jail::enclose().await
        }
        Some(dir) => campaign::run(&arguments, &dir).await,
    }
}
