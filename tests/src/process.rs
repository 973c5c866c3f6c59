//! A child process that cannot outlive its test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// What a process has used since it started.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Seconds of all its threads, in user and kernel mode.
    pub cpu_seconds: f64,
    /// The most memory that it ever had resident.
    pub peak_bytes: u64,
}

/// A running role or the lab; its stderr goes to a log file.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command`, appending its output to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
        })
    }

    /// Adopts a child whose output is handled by the caller.
    pub fn adopt(name: &str, child: Child, log: &Path) -> Self {
        Self {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
        }
    }

    /// What the process has used so far, as the kernel counts it.
    pub fn usage(&self) -> Result<Usage> {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))
                .with_context(|| format!("look at {}", self.name))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        // The command's name may have spaces: what follows its parenthesis has none.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .context("no name in stat")?
            .1
            .split_whitespace()
            .collect();
        let ticks: u64 = [11, 12]
            .iter()
            .map(|at| fields.get(*at).and_then(|field| field.parse::<u64>().ok()))
            .sum::<Option<u64>>()
            .context("no times in stat")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak_kib: u64 = peak
            .and_then(|peak| peak.split_whitespace().next()?.parse().ok())
            .context("no peak in status")?;
        let ticks_per_second = rustix::param::clock_ticks_per_second();
        Ok(Usage {
            cpu_seconds: ticks as f64 / ticks_per_second as f64,
            peak_bytes: peak_kib << 10,
        })
    }

    /// What the process has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills the process at once, as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("kill {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("reap {}", self.name))?;
        Ok(())
    }

    /// Asks the process to end and waits for it.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.end_by(Signal::TERM, patience)
    }

    /// The same as who presses Ctrl-C.
    pub fn interrupt(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.end_by(Signal::INT, patience)
    }

    /// Lets the process stand still, as a machine does that has no time for it.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    fn end_by(&mut self, signal: Signal, patience: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "{} did not end within {patience:?}: {}",
            self.name,
            self.log()
        )
    }

    /// Fails if the process has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}: {}", self.name, self.log());
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that the process has ended already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
