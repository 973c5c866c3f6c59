//! The command line of `stillwater-controller`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;
use stillwater_service::command::{Failure, block_on};
use stillwater_service::config::Arguments;
use stillwater_service::{systemd, telemetry};
use stillwater_types::Role;

use crate::config::Config;
use crate::error::Error;
use crate::init::{self, Draft, Handover};

/// Orchestrates vSphere, runs, nodes and identity for one Stillwater cluster.
#[derive(Debug, Parser)]
#[command(name = "stillwater-controller", version)]
pub struct Command {
    #[command(flatten)]
    arguments: Arguments,
    /// State directory, instead of the configured one
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Serve; what happens without a command too
    Run,
    /// Make a new cluster: its keys, its authority and the first administrator's token
    Init(Init),
    /// Make a login token when every administrator's certificate is lost; stop the service first
    AdminToken {
        /// Print JSON for scripts
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Init {
    /// Where nodes and administrators will call this controller
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// The controller's name in lists [default: the host name]
    #[arg(long)]
    name: Option<String>,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Told<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key: Option<&'a str>,
    admin_token: &'a str,
    admin_token_expires_at: String,
    login_command: String,
}

impl Command {
    /// Does what the command line asks; the exit code is 0, 1 for a fault, 2 for a bad
    /// configuration.
    pub fn run(self) -> ExitCode {
        let (state_dir, wanted) = (self.state_dir, self.act.unwrap_or(Act::Run));
        self.arguments.run(Role::Controller, |config: Config| {
            let state_dir = state_dir.unwrap_or(config.state_dir);
            act(
                wanted,
                Config {
                    state_dir,
                    ..config
                },
            )
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(&error, error.reason())
    }
}

fn act(act: Act, config: Config) -> Result<(), Error> {
    telemetry::start(&config.log)?;
    match act {
        Act::Run => serve(config),
        Act::Init(Init {
            advertise,
            name,
            json,
        }) => {
            let draft = Draft::make(&config, advertise.as_deref(), name.as_deref())?;
            print_handover(&draft.handover, json).map_err(Error::Print)?;
            draft.finish()?;
            eprintln!("the cluster is in force; start the controller to use it");
            Ok(())
        }
        Act::AdminToken { json } => {
            let (token, expires_at) = init::admin_token(&config)?;
            print_token(&token, expires_at, json).map_err(Error::Print)
        }
    }
}

fn serve(config: Config) -> Result<(), Error> {
    let served = block_on(crate::serve::serve(config))?;
    systemd::stopping();
    served
}

/// Written to the end before the cluster is put in force.
fn print_handover(handover: &Handover, json: bool) -> io::Result<()> {
    let Handover {
        cluster,
        recovery_key,
        admin_token,
        admin_token_expires_at,
    } = handover;
    let mut out = io::stdout().lock();
    if json {
        let told = Told {
            cluster_id: Some(cluster.to_string()),
            recovery_key: Some(recovery_key),
            admin_token,
            admin_token_expires_at: admin_token_expires_at.to_string(),
            login_command: login(admin_token),
        };
        serde_json::to_writer(&mut out, &told)?;
        writeln!(out)?;
    } else {
        writeln!(
            out,
            "Cluster {cluster}\n\n\
             RECOVERY KEY, shown this once and stored nowhere:\n\n    {}\n\n\
             With this key and a repository every backup can be restored, even when this\n\
             controller is lost. Without it a lost controller means lost backups. Write it on\n\
             paper, keep it away from this cluster, show it to nobody.\n\n\
             Start the controller, then log in on an administrator's machine before\n\
             {admin_token_expires_at}:\n\n    {}\n\n\
             If this command does not end with success, nothing above is worth anything: run it\n\
             again.",
            recovery_key.as_str(),
            login(admin_token),
        )?;
    }
    out.flush()
}

fn print_token(token: &str, expires_at: jiff::Timestamp, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        let told = Told {
            cluster_id: None,
            recovery_key: None,
            admin_token: token,
            admin_token_expires_at: expires_at.to_string(),
            login_command: login(token),
        };
        serde_json::to_writer(&mut out, &told)?;
        writeln!(out)?;
    } else {
        writeln!(
            out,
            "Start the controller, then log in on an administrator's machine before\n\
             {expires_at}:\n\n    {}",
            login(token),
        )?;
    }
    out.flush()
}

fn login(token: &str) -> String {
    format!("stillwater login {token}")
}
