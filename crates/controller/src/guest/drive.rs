//! Drives the keeper of a run in its guest.

use std::time::Duration;

use stillwater_types::{Fault, Reason};
use stillwater_vsphere::{Error, Guest, GuestExit, GuestFamily, SmallFile};
use tokio::time::Instant;

use super::hook::{HookRun, Phase, Release};
use super::keeper::{self, Keeper, quoted};

const SHELL: &str = "/bin/sh";
/// Acts that run no hook.
const SHORT: Duration = Duration::from_secs(60);
/// What comes on top of an act's own time: the way there and back.
const WAY: Duration = Duration::from_secs(30);
/// An act whose answer was lost is asked for again: it knows that it was asked before.
const TRIES: u32 = 3;

/// The script's exit codes.
const RELEASED: i32 = 4;
const NOT_BEGUN: i32 = 5;
const RESTARTED: i32 = 7;

/// A keeper in its guest.
#[derive(Debug)]
pub struct Drive<'a> {
    guest: &'a Guest,
    keeper: &'a Keeper,
}

impl<'a> Drive<'a> {
    /// Drives `keeper` in `guest`.
    ///
    /// # Errors
    /// `GUEST_UNAVAILABLE` for guests that run no such scripts.
    pub fn new(guest: &'a Guest, keeper: &'a Keeper) -> Result<Self, Fault> {
        match guest.family() {
            GuestFamily::Linux => Ok(Self { guest, keeper }),
            _ => Err(Fault::new(
                Reason::GuestUnavailable,
                "hooks run in linux guests only; leave them out for this vm",
            )),
        }
    }

    /// Puts the keeper into the guest and starts its watchdog.
    pub async fn begin(&self) -> Result<(), Fault> {
        let path = self.keeper.script_path();
        let script = self.keeper.script();
        self.guest.put_file(&path, script.as_bytes()).await?;
        match self.act("begin", SHORT).await? {
            GuestExit::Code(0) => Ok(()),
            exit => Err(odd("begin to hold the guest", exit)),
        }
    }

    /// Runs a hook to its end; none when the guest has been released.
    pub async fn hook(&self, number: usize) -> Result<Option<HookRun>, Fault> {
        let patience = self.keeper.patience(number) + WAY;
        match self.act(&format!("once {number}"), patience).await? {
            GuestExit::Code(0) => self.report(number).await.map(Some),
            GuestExit::Code(RELEASED) => Ok(None),
            exit => Err(odd("run a hook", exit)),
        }
    }

    /// Whether the guest is still held.
    pub async fn is_held(&self) -> Result<bool, Fault> {
        match self.act("held", SHORT).await? {
            GuestExit::Code(0) => Ok(true),
            GuestExit::Code(RELEASED) => Ok(false),
            exit => Err(odd("look whether the guest is held", exit)),
        }
    }

    /// Releases the guest, unless it did so by itself, and leaves nothing there. None when it was not
    /// held, or when nothing of that is left.
    pub async fn release(&self) -> Result<Option<(Release, Vec<HookRun>)>, Fault> {
        let patience = self.keeper.release_patience() + WAY;
        match self.act("release controller", patience).await? {
            GuestExit::Code(0) => {}
            GuestExit::Code(NOT_BEGUN | RESTARTED) => return self.clear().await,
            exit if self.is_there().await? => return Err(odd("release the guest", exit)),
            _ => return Ok(None),
        }
        let by = self
            .guest
            .fetch_file(&self.keeper.release_path(), 256)
            .await?;
        let release = keeper::release(&by.bytes)?;
        let mut runs = Vec::new();
        for (number, _) in self.keeper.hooks().of(Phase::After) {
            runs.push(self.report(number).await?);
        }
        match self.act("sweep", SHORT).await? {
            GuestExit::Code(0) => Ok(Some((release, runs))),
            exit => Err(odd("clear up in the guest", exit)),
        }
    }

    async fn clear(&self) -> Result<Option<(Release, Vec<HookRun>)>, Fault> {
        self.guest.delete_file(&self.keeper.script_path()).await?;
        Ok(None)
    }

    async fn is_there(&self) -> Result<bool, Fault> {
        match self.guest.fetch_file(&self.keeper.script_path(), 1).await {
            Ok(_) => Ok(true),
            Err(Error::FileMissing { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn report(&self, number: usize) -> Result<HookRun, Fault> {
        let path = self.keeper.report_path(number);
        let report: SmallFile = self
            .guest
            .fetch_file(&path, Keeper::report_bytes_max())
            .await?;
        self.keeper.report(number, &report.bytes)
    }

    /// Runs the keeper once, to its end.
    async fn act(&self, act: &str, patience: Duration) -> Result<GuestExit, Fault> {
        let arguments = format!("{} {act}", quoted(&self.keeper.script_path()));
        let deadline = Instant::now() + patience;
        let mut tries = 0;
        let pid = loop {
            tries += 1;
            match self.guest.start_program(SHELL, &arguments, None).await {
                Err(Error::OutcomeUnknown { .. }) if tries < TRIES => {}
                started => break started?,
            }
        };
        Ok(self.guest.wait(pid, deadline).await?)
    }
}

fn odd(what: &str, exit: GuestExit) -> Fault {
    let how = match exit {
        GuestExit::Code(6) => "the guest's /tmp cannot be written; make room there".to_owned(),
        GuestExit::Code(code) => format!("the script ended with exit code {code}"),
        GuestExit::Unknown => "the script was ended in the guest".to_owned(),
        GuestExit::TimedOut => "the script did not end in time".to_owned(),
    };
    Fault::new(Reason::GuestUnavailable, format!("{what}: {how}"))
}
