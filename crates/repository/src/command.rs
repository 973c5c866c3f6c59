//! The command line of `stillwater-repository`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use stillwater_service::config::Arguments;
use stillwater_service::telemetry;
use stillwater_types::{Fault, Reason, Role};

use crate::config::Config;

/// Keeps the restore points of one Stillwater cluster.
#[derive(Debug, Parser)]
#[command(name = "stillwater-repository", version)]
pub struct Command {
    #[command(flatten)]
    arguments: Arguments,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Serve; what happens without a command too
    Run,
    /// Enrol this repository with a token of `stillwater token create --role repository`
    Join {
        /// The token, or - to read it from standard input
        token: String,
    },
}

impl Command {
    /// Does what the command line asks; the exit code is 0, 1 for a fault, 2 for a bad
    /// configuration.
    pub fn run(self) -> ExitCode {
        if self.arguments.check_config {
            return self.arguments.check::<Config>(Role::Repository);
        }
        let config = match self.arguments.load::<Config>(Role::Repository) {
            Ok(config) => config,
            Err(faults) => {
                eprintln!("{faults}");
                return ExitCode::from(2);
            }
        };
        match act(self.act.unwrap_or(Act::Run), config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                eprintln!("error: {} [{}]", fault.message, fault.reason);
                ExitCode::FAILURE
            }
        }
    }
}

fn act(act: Act, config: Config) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::new(Reason::Bug, format!("start threads: {error}")))?;
    match act {
        Act::Run => {
            telemetry::start(&config.log)?;
            runtime.block_on(crate::serve::serve(config))
        }
        Act::Join { token } => {
            let identity = runtime.block_on(crate::join::join(&config, &read(token)?))?;
            let (cluster, node) = (identity.cluster(), identity.node());
            println!("joined cluster {cluster} as repository {node}");
            Ok(())
        }
    }
}

/// A token on the command line is seen in the list of processes; `-` avoids that.
fn read(token: String) -> Result<String, Fault> {
    if token != "-" {
        return Ok(token);
    }
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(_) => Ok(line),
        Err(error) => Err(Fault::new(
            Reason::TokenInvalid,
            format!("read the token: {error}"),
        )),
    }
}
