//! A program run in a guest from its start to its end, with its output.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::script::{Paths, Shell};
use super::{Guest, GuestProcess};
use crate::error::FaultKind;
use crate::{Error, Result, SmallFile};

/// Between two looks at a process: short at first, since most scripts end at once.
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(2);
/// What our files in guests are called.
const PREFIX: &str = "stillwater-";

/// A program to run in a guest.
#[derive(Debug, Clone)]
pub struct GuestCommand {
    /// Its path.
    pub program: String,
    /// Its arguments, each as one word. Visible in the guest while it runs: no secret belongs here.
    pub arguments: Vec<String>,
    /// Variables that are added to the user's own. They pass through a file for this user alone.
    pub environment: Vec<(String, SecretString)>,
    /// Where it runs; the user's own choice when none.
    pub working_directory: Option<String>,
    /// What it reads; nothing when none. Passes through a file for this user alone.
    pub input: Option<SecretString>,
    /// How long it may run before it is ended.
    pub timeout: Duration,
    /// How many bytes of each output are kept.
    pub output_limit: usize,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GuestExit {
    /// By itself, with this code.
    Code(i32),
    /// By itself, or killed in the guest; the guest tells no code.
    Unknown,
    /// It ran too long and was ended.
    TimedOut,
}

/// What came of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestOutcome {
    /// How it ended.
    pub exit: GuestExit,
    /// What it printed.
    pub stdout: SmallFile,
    /// What it printed as errors.
    pub stderr: SmallFile,
    /// How long it ran, as seen from here.
    pub took: Duration,
    /// Files of ours in the guest that could not be deleted.
    pub left_behind: Vec<String>,
}

/// Files of ours in a guest.
#[derive(Debug, Default)]
struct Scratch(Vec<String>);

impl Scratch {
    async fn create(&mut self, guest: &Guest, suffix: &str) -> Result<String> {
        let path = guest.create_temporary_file(PREFIX, suffix).await?;
        self.0.push(path.clone());
        Ok(path)
    }

    /// Deletes them all; what could not be deleted.
    async fn sweep(self, guest: &Guest) -> Vec<String> {
        let mut left = Vec::new();
        for path in self.0 {
            if let Err(error) = guest.delete_file(&path).await {
                tracing::warn!(%path, fault = %error.fault(), "a file of ours remains in a guest");
                left.push(path);
            }
        }
        left
    }
}

impl Guest {
    /// Runs a program to its end, with its output, and leaves nothing behind.
    ///
    /// When this is given up in the middle (the future is dropped) the program and its files stay: call
    /// it from a task of its own.
    pub async fn run(&self, command: &GuestCommand) -> Result<GuestOutcome> {
        let shell = Shell::of(self.family())?;
        let mut scratch = Scratch::default();
        let ran = self.run_within(shell, command, &mut scratch).await;
        let left_behind = scratch.sweep(self).await;
        ran.map(|outcome| GuestOutcome {
            left_behind,
            ..outcome
        })
    }

    async fn run_within(
        &self,
        shell: Shell,
        command: &GuestCommand,
        scratch: &mut Scratch,
    ) -> Result<GuestOutcome> {
        let paths = self.lay_out(shell, command, scratch).await?;
        let started = Instant::now();
        let pid = self.start(shell, &paths).await?;
        let exit = self.wait(pid, started + command.timeout).await?;
        let took = started.elapsed();
        Ok(GuestOutcome {
            exit,
            stdout: self.fetch_file(&paths.stdout, command.output_limit).await?,
            stderr: self.fetch_file(&paths.stderr, command.output_limit).await?,
            took,
            left_behind: Vec::new(),
        })
    }

    /// Writes the script and what it needs.
    async fn lay_out(
        &self,
        shell: Shell,
        command: &GuestCommand,
        scratch: &mut Scratch,
    ) -> Result<Paths> {
        // What cannot be written down is refused before anything is made in the guest.
        shell.script(command, &Paths::default())?;
        let input = match &command.input {
            Some(input) => {
                let path = scratch.create(self, ".in").await?;
                self.put_file(&path, input.expose_secret().as_bytes())
                    .await?;
                Some(path)
            }
            None => None,
        };
        let paths = Paths {
            input,
            stdout: scratch.create(self, ".out").await?,
            stderr: scratch.create(self, ".err").await?,
            script: scratch.create(self, shell.suffix()).await?,
        };
        let script = shell.script(command, &paths)?;
        self.put_file(&paths.script, script.expose_secret().as_bytes())
            .await?;
        Ok(paths)
    }

    /// Starts the script. When the answer was lost the process is looked for by its script's name, which
    /// no other has.
    async fn start(&self, shell: Shell, paths: &Paths) -> Result<i64> {
        let (program, arguments) = shell.start(&paths.script);
        let lost = match self.start_program(program, &arguments, None).await {
            Err(lost @ Error::OutcomeUnknown { .. }) => lost,
            started => return started,
        };
        let found = self.processes(&[]).await?.into_iter();
        let ours = |process: &GuestProcess| process.command_line.contains(&paths.script);
        found
            .filter(ours)
            .map(|process| process.pid)
            .next_back()
            .ok_or(lost)
    }

    /// Waits for a process that was started; ends it when its time is over.
    pub async fn wait(&self, pid: i64, deadline: Instant) -> Result<GuestExit> {
        let mut delay = DELAY_MIN;
        loop {
            match self.looked_at(pid).await {
                Ok(Some(exit)) => return Ok(exit),
                Ok(None) => {}
                // A guest that is frozen just now answers nothing.
                Err(error) if passes(&error) && Instant::now() < deadline => {
                    tracing::debug!(pid, %error, "asking a guest again");
                }
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                self.terminate(pid).await?;
                return Ok(GuestExit::TimedOut);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            tokio::time::sleep(delay.min(left)).await;
            delay = (delay * 2).min(DELAY_MAX);
        }
    }

    /// How a process ended; none while it runs.
    async fn looked_at(&self, pid: i64) -> Result<Option<GuestExit>> {
        let found = self.processes(&[pid]).await?;
        let process = found.into_iter().find(|process| process.pid == pid);
        let process = process.ok_or(Error::GuestProcessLost { pid })?;
        let exit = process
            .exit_code
            .map_or(GuestExit::Unknown, GuestExit::Code);
        Ok(process.has_ended.then_some(exit))
    }
}

fn passes(error: &Error) -> bool {
    let Some(fault) = error.vim_fault() else {
        return matches!(error, Error::Unreachable { .. });
    };
    matches!(
        fault.kind,
        FaultKind::GuestUnavailable(_) | FaultKind::InvalidState | FaultKind::TaskInProgress { .. }
    )
}
