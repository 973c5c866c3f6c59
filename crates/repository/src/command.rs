//! The command line of `stillwater-repository`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use stillwater_service::command::{NodeAct, NodeArguments, finish};
use stillwater_service::config::Arguments;
use stillwater_service::telemetry;
use stillwater_types::{Fault, Role};

use crate::admin::{self, Enrolment, Keygen};
use crate::config::Config;
use crate::join::join;
use crate::recover::Recover;
use crate::statement;

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
    #[command(flatten)]
    Node(NodeAct),
    // Boxed, since it carries more than all others.
    #[command(name = "recover")]
    Recover(Box<Recover>),
    /// Administrators of this repository: their keys, and who is accepted as one
    #[command(subcommand)]
    Admin(Admin),
    /// What administrators of a repository demand: make, read and sign it anywhere
    #[command(subcommand)]
    Statement(statement::Act),
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// Make a key pair, anywhere; prints the public half
    Keygen(Keygen),
    #[command(flatten)]
    Enrolment(Enrolment),
}

impl Command {
    /// Does what the command line asks; the exit code is 0, 1 for a fault, 2 for a bad configuration.
    /// Only what serves, joins or enrols reads the configuration: the rest runs on any machine.
    pub fn run(self) -> ExitCode {
        let arguments = self.arguments;
        match self.act.unwrap_or(Act::Node(NodeAct::Run)) {
            Act::Node(act) => {
                let join = async |config, token: String| join(&config, &token).await;
                NodeArguments::new(arguments, act).run(Role::Repository, serve, join)
            }
            Act::Recover(recover) => recover.run(),
            Act::Admin(Admin::Keygen(keygen)) => finish(keygen.run()),
            Act::Admin(Admin::Enrolment(act)) => {
                arguments.run(Role::Repository, |config| admin::enrol(&config, &act))
            }
            Act::Statement(act) => finish(act.run()),
        }
    }
}

async fn serve(config: Config) -> Result<(), Fault> {
    telemetry::start(&config.log)?;
    crate::serve::serve(config).await
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Command::command().debug_assert();
    }

    #[test]
    fn a_repository_serves_unless_it_is_told_otherwise() {
        let act = |words: &[&str]| {
            let words = [&["stillwater-repository"], words].concat();
            Command::try_parse_from(words).map(|command| command.act)
        };
        assert!(matches!(act(&[]), Ok(None)));
        assert!(matches!(act(&["run"]), Ok(Some(Act::Node(NodeAct::Run)))));
        let list = act(&["admin", "list"]);
        assert!(matches!(
            list,
            Ok(Some(Act::Admin(Admin::Enrolment(Enrolment::List))))
        ));
        assert!(act(&["admin", "add", "Alice", "0a"]).is_err());
        assert!(matches!(
            act(&["statement", "show", "x"]),
            Ok(Some(Act::Statement(_)))
        ));
    }
}
