//! The command line of `stillwater-repository`.

use std::process::ExitCode;

use clap::Parser;
use stillwater_service::command::NodeArguments;
use stillwater_service::telemetry;
use stillwater_types::{Fault, Role};

use crate::config::Config;
use crate::join::join;

/// Keeps the restore points of one Stillwater cluster.
#[derive(Debug, Parser)]
#[command(name = "stillwater-repository", version)]
pub struct Command {
    #[command(flatten)]
    node: NodeArguments,
}

impl Command {
    /// Does what the command line asks; the exit code is 0, 1 for a fault, 2 for a bad
    /// configuration.
    pub fn run(self) -> ExitCode {
        let join = async |config, token: String| join(&config, &token).await;
        self.node.run(Role::Repository, serve, join)
    }
}

async fn serve(config: Config) -> Result<(), Fault> {
    telemetry::start(&config.log)?;
    crate::serve::serve(config).await
}
