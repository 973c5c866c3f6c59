//! The repository's process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use stillwater_repository::config::Config;
use stillwater_repository::serve::Repository;
use stillwater_service::{Signals, telemetry};
use tokio::net::TcpListener;

use crate::knock::Without;
use crate::setting::{self, Setting};

const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with its owner.
#[derive(Debug)]
pub struct Subject(Child);

impl Subject {
    /// Starts it on the store in `store` and waits until it answers. It is the product's own binary,
    /// or with barriers left out or other clocks this one, which runs the same library.
    pub async fn start(
        setting: &Setting,
        store: &Path,
        without: &Without,
        clock: Option<&Path>,
    ) -> Result<Self> {
        let here = std::env::current_exe()?;
        let config = setting.configure(store)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if without.is_nothing() && clock.is_none() {
            let product = here.with_file_name("stillwater-repository");
            command.arg(product).arg("--config").arg(config).arg("run");
        } else {
            command.arg(here).arg("serve").arg(config);
            for barrier in &without.barriers {
                command.args(["--without", barrier.name()]);
            }
            if without.reserve {
                command.arg("--no-reserve");
            }
            if let Some(file) = clock {
                command.arg("--clock").arg(file);
            }
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(setting.log())?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut subject = Self(command.spawn().context("start the repository")?);
        subject.wait_answering(setting).await?;
        Ok(subject)
    }

    async fn wait_answering(&mut self, setting: &Setting) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let controller = setting.controller()?;
        loop {
            let refused = match controller.get_repository().await {
                Ok(_) => return Ok(()),
                Err(fault) => fault,
            };
            if self.0.try_wait()?.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(setting.log()).unwrap_or_default();
                bail!("the repository does not answer: {refused}\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills it at once.
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill().context("kill the repository")?;
        self.0.wait().context("reap the repository")?;
        Ok(())
    }

    /// Asks it to end and waits until it has.
    pub fn stop(&mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM).context("stop the repository")?;
        let status = self.0.wait().context("reap the repository")?;
        ensure!(status.success(), "the repository ended with {status}");
        Ok(())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // An error means that it has ended already, which is what is wanted.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Serves as the product does, less some barriers and by other clocks.
pub async fn serve(config: &Path, without: Without, clock: Option<PathBuf>) -> Result<()> {
    let config: Config = toml::from_str(&std::fs::read_to_string(config)?)?;
    telemetry::start(&config.log)?;
    let signals = Signals::watch()?;
    let address = config.listen;
    let environment = move |dir: &Path| setting::environment(dir, &without, clock.as_deref());
    let repository = Repository::open_in(config, environment).await?;
    let listener = TcpListener::bind(address).await?;
    repository.serve(listener, signals.drain.clone()).await?;
    Ok(())
}
