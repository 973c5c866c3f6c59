//! A point that the tool serves as NBD exports.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::wait;
use crate::process::Process;
use crate::site::Site;

/// `point serve` in the background.
#[derive(Debug)]
pub struct Serving {
    process: Process,
    socket: PathBuf,
}

impl Serving {
    /// Serves a point with further arguments, and waits until it can be read.
    pub fn start(site: &Site, point: &str, more: &[&str]) -> Result<Self> {
        let socket = site.cluster.dir().join("nbd.sock");
        let log = site.cluster.dir().join("serve.log");
        // An earlier one may have told the same there.
        std::fs::remove_file(&log).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        let path = socket.to_str().context("utf-8")?;
        let mut args = vec!["point", "serve", point, "--socket", path];
        args.extend(more);
        let mut process = Process::start("serve", &mut site.cluster.command(&args)?, &log)?;
        wait("the disks are served", Duration::from_secs(60), || {
            process.check_alive()?;
            Ok(process.log().contains("nbd+unix://").then_some(()))
        })?;
        Ok(Self { process, socket })
    }

    /// Where a disk is read.
    pub fn uri(&self, key: i32) -> String {
        format!("nbd+unix:///{key}?socket={}", self.socket.display())
    }

    /// Ends it as Ctrl-C does.
    pub fn stop(mut self) -> Result<()> {
        let status = self.process.interrupt(Duration::from_secs(60))?;
        ensure!(status.success(), "{status}: {}", self.process.log());
        ensure!(!self.socket.exists(), "the socket goes with it");
        Ok(())
    }
}
