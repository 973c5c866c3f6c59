//! What the command lines of the roles have in common.

use std::error::Error;
use std::fmt;
use std::io::{self, BufRead};
use std::process::ExitCode;

use stillwater_rpc::Identity;
use stillwater_types::{Fault, Reason, Role};

use crate::config::{Arguments, Settings};
use crate::telemetry;

/// More than any token has.
const TOKEN_BYTES_MAX: u64 = 4096;

/// What the shell is told about a configuration that cannot be used; systemd does not start such a
/// role again.
const BAD_CONFIGURATION: u8 = 2;

/// Why a command did not go through, as its user reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    text: String,
    reason: Option<Reason>,
}

impl Failure {
    /// Tells `error` with its causes, and the reason that has a page.
    pub fn new(error: &(dyn Error + 'static), reason: Option<Reason>) -> Self {
        Self {
            text: telemetry::chain(error).to_string(),
            reason,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self {
            text: fault.message,
            reason: Some(fault.reason),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.text)?;
        match self.reason {
            Some(reason) => write!(f, " [{reason}]"),
            None => Ok(()),
        }
    }
}

/// Tells a failure to whoever typed the command; the exit code is 0, or 1 for a failure.
pub fn finish<E: Into<Failure>>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.into());
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    /// Does `act` with the settings of `role`, or only checks them when that is asked. The exit code
    /// is 0, 1 for a failure, 2 for a bad configuration.
    pub fn run<S: Settings, E: Into<Failure>>(
        &self,
        role: Role,
        act: impl FnOnce(S) -> Result<(), E>,
    ) -> ExitCode {
        let settings = match self.load::<S>(role) {
            Ok(settings) => settings,
            Err(faults) => {
                eprintln!("{faults}");
                return ExitCode::from(BAD_CONFIGURATION);
            }
        };
        if self.check_config {
            println!("ok");
            return ExitCode::SUCCESS;
        }
        finish(act(settings))
    }
}

/// The command line of a role that joins a cluster; flatten it into the role's own.
#[derive(Debug, Clone, clap::Args)]
pub struct NodeArguments {
    #[command(flatten)]
    arguments: Arguments,
    #[command(subcommand)]
    act: Option<NodeAct>,
}

/// What every role that joins a cluster can do; flatten it into the acts of one that can do more.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum NodeAct {
    /// Serve; what happens without a command too
    Run,
    /// Enrol this node with a token of `stillwater token create`
    Join {
        /// The token, or - to read it from standard input
        token: String,
    },
}

impl NodeArguments {
    /// What a role that can do more has parsed itself.
    pub const fn new(arguments: Arguments, act: NodeAct) -> Self {
        let act = Some(act);
        Self { arguments, act }
    }

    /// Does what the command line asks: `serve`, or `join` with a token. The exit code is that of
    /// [`Arguments::run`].
    pub fn run<S: Settings>(
        self,
        role: Role,
        serve: impl AsyncFnOnce(S) -> Result<(), Fault>,
        join: impl AsyncFnOnce(S, String) -> Result<Identity, Fault>,
    ) -> ExitCode {
        let act = self.act.unwrap_or(NodeAct::Run);
        self.arguments.run(role, |settings| match act {
            NodeAct::Run => block_on(serve(settings))?,
            NodeAct::Join { token } => {
                let token = read_token(token, io::stdin().lock())?;
                let identity = block_on(join(settings, token))??;
                let (cluster, node) = (identity.cluster(), identity.node());
                println!("joined cluster {cluster} as {role} {node}");
                Ok(())
            }
        })
    }
}

/// Runs `work` on threads of its own, to its end.
///
/// # Errors
/// `BUG` when the system gives no threads.
pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|err| Fault::new(Reason::Bug, format!("start threads: {err}")))?;
    Ok(runtime.block_on(work))
}

/// A token on the command line is seen in the list of processes; `-` avoids that.
fn read_token(token: String, input: impl BufRead) -> Result<String, Fault> {
    if token != "-" {
        return Ok(token);
    }
    let mut line = String::new();
    match input.take(TOKEN_BYTES_MAX).read_line(&mut line) {
        Ok(_) => Ok(line),
        Err(err) => Err(Fault::new(
            Reason::TokenInvalid,
            format!("read the token: {err}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::config::Faults;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        node: NodeArguments,
    }

    #[derive(serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    #[derive(Default)]
    struct Nothing {
        size: u32,
    }

    impl Settings for Nothing {
        fn check(&self, faults: &mut Faults) {
            faults.check_number("size", self.size, 0..=9);
        }
    }

    /// What was done, and the exit code.
    fn run(arguments: &[&str]) -> (Vec<String>, ExitCode) {
        let command = Command::parse_from([&["node"], arguments].concat());
        let done = std::sync::Mutex::new(Vec::new());
        let note = |act: String| done.lock().expect("one thread").push(act);
        let refused = || Fault::new(Reason::TokenInvalid, "try another");
        let code = command.node.run(
            Role::Proxy,
            async |settings: Nothing| {
                note(format!("serve {}", settings.size));
                Ok(())
            },
            async |_, token| {
                note(format!("join {token}"));
                Err(refused())
            },
        );
        (done.into_inner().expect("one thread"), code)
    }

    #[track_caller]
    fn check(arguments: &[&str], done: &[&str], code: ExitCode) {
        let (found, exit) = run(arguments);
        assert_eq!(found, done, "{arguments:?}");
        assert_eq!(format!("{exit:?}"), format!("{code:?}"), "{arguments:?}");
    }

    #[test]
    fn a_command_line_is_well_formed() {
        Command::command().debug_assert();
    }

    #[test]
    fn a_node_serves_unless_it_is_told_to_join() {
        check(&["--set", "size=3"], &["serve 3"], ExitCode::SUCCESS);
        check(&["run", "--set", "size=3"], &["serve 3"], ExitCode::SUCCESS);
        check(&["join", "swt1.x"], &["join swt1.x"], ExitCode::FAILURE);
    }

    #[test]
    fn a_bad_configuration_starts_nothing_and_a_check_neither() {
        let bad = || ExitCode::from(BAD_CONFIGURATION);
        check(&["run", "--set", "size=10"], &[], bad());
        check(&["--set", "size=10", "--check-config"], &[], bad());
        check(&["--check-config", "run"], &[], ExitCode::SUCCESS);
    }

    #[test]
    fn a_failure_tells_its_causes_and_its_reason() {
        let fault = Fault::new(Reason::TokenInvalid, "try another");
        let told = Failure::from(fault).to_string();
        assert_eq!(told, "error: try another [TOKEN_INVALID]");
        let error = io::Error::other("no disk");
        assert_eq!(Failure::new(&error, None).to_string(), "error: no disk");
    }

    #[test]
    fn a_token_is_read_from_standard_input_when_asked_and_no_more_than_one_line() {
        let read = |token: &str, input: &[u8]| read_token(token.to_owned(), input);
        assert_eq!(read("swt1.x", b"swt1.y\n"), Ok("swt1.x".to_owned()));
        assert_eq!(read("-", b"swt1.y\nmore\n"), Ok("swt1.y\n".to_owned()));
        let endless = vec![b'x'; 1 << 20];
        assert_eq!(
            read("-", &endless).map(|line| line.len() as u64),
            Ok(TOKEN_BYTES_MAX)
        );
        let no_text = read("-", b"\xff\n").map_err(|fault| fault.reason);
        assert_eq!(no_text, Err(Reason::TokenInvalid));
    }
}
