//! The command line of `stillwater-repository`.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use stillwater_service::command::NodeArguments;
use stillwater_service::telemetry;
use stillwater_types::{Fault, Role};

use crate::config::Config;
use crate::join::join;
use crate::recover::Recover;

const RECOVER: &str = "recover";

/// Keeps the restore points of one Stillwater cluster.
#[derive(Debug, Parser)]
#[command(name = "stillwater-repository", version)]
pub struct Command {
    #[command(flatten)]
    node: NodeArguments,
}

impl Command {
    /// Does what the command line of the process asks; the exit code is 0, 1 for a fault, 2 for a bad
    /// configuration.
    pub fn run_process() -> ExitCode {
        let matches = Self::grammar().get_matches();
        let outcome = match matches.subcommand() {
            // Needs no configuration: a role's are of no use where only a directory is left.
            Some((RECOVER, recover)) => Recover::from_arg_matches(recover).map(Recover::run),
            _ => Self::from_arg_matches(&matches).map(Self::run),
        };
        outcome.unwrap_or_else(|error| error.exit())
    }

    fn grammar() -> clap::Command {
        let recover = clap::Command::new(RECOVER);
        Self::command().subcommand(<Recover as clap::Args>::augment_args(recover))
    }

    fn run(self) -> ExitCode {
        let join = async |config, token: String| join(&config, &token).await;
        self.node.run(Role::Repository, serve, join)
    }
}

async fn serve(config: Config) -> Result<(), Fault> {
    telemetry::start(&config.log)?;
    crate::serve::serve(config).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Command::grammar().debug_assert();
    }
}
