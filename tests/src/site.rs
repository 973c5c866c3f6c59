//! A lab and a cluster that knows it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{Cluster, hash, rows, text, wait};
use crate::guest::Disks;
use crate::lab::{Lab, VmSpec};

/// How long a run may take at worst.
const RUN: Duration = Duration::from_secs(150);

/// A lab and a cluster that knows it.
#[derive(Debug)]
pub struct Site {
    /// The vCenter.
    pub lab: Lab,
    /// The three roles.
    pub cluster: Cluster,
}

impl Site {
    /// A lab with these VMs.
    pub fn with(vms: &[VmSpec]) -> Result<Self> {
        Self::of(vms, Cluster::start()?)
    }

    /// A lab with these VMs beside a cluster that was started otherwise.
    pub fn of(vms: &[VmSpec], cluster: Cluster) -> Result<Self> {
        let lab = Lab::start(vms, 16)?;
        cluster.add_lab(&lab)?;
        Ok(Self { lab, cluster })
    }

    /// A lab with one small disk in one VM, `web`.
    pub fn small() -> Result<Self> {
        let disks = Disks::new()?;
        Self::with(&[VmSpec::new("web", vec![disks.small()?])])
    }

    /// A lab with the small guest's two disks in one VM, `web`, and a restore point of it.
    pub fn protected() -> Result<(Self, String)> {
        let disks = Disks::new()?;
        let site = Self::with(&[VmSpec::new("web", disks.set("small")?)])?;
        let point = site.back_up()?;
        Ok((site, point))
    }

    /// Protects `web`; answers the point.
    pub fn back_up(&self) -> Result<String> {
        let run = self.cluster.backup("web", "succeeded")?;
        text(&run["backup"], "point_id")
    }

    /// Starts a backup of `web` and waits for its end, whatever that is.
    pub fn run_to_end(&self) -> Result<Value> {
        let run = self.cluster.start_run(&["backup", "web"])?;
        self.cluster.wait_run(&run, RUN)
    }

    /// Lets the lab read no faster than this.
    pub fn slow_down(&self, bytes_per_second: u64) -> Result<()> {
        let body = json!({"folder_bytes_per_second": bytes_per_second});
        self.lab.control("POST", "/delay", Some(&body)).map(drop)
    }

    /// Waits until a run has read something.
    pub fn wait_reading(&self, run: &str) -> Result<()> {
        wait("bytes move", Duration::from_secs(60), || {
            let shown = self.cluster.json(&["run", "show", run])?;
            let read: u64 = rows(&shown["disks"])
                .iter()
                .filter_map(|disk| disk["read_bytes"].as_u64())
                .sum();
            Ok((read > 0).then_some(()))
        })
    }

    /// Exports every disk of a point and compares it with the kept copy of the VM's last freeze.
    pub fn check_equal_to_frozen(&self, vm: &str, point: &str) -> Result<()> {
        let frozen = self.lab.last_frozen(vm)?;
        ensure!(!frozen.is_empty(), "{vm} was frozen without disks");
        for disk in frozen {
            let key = disk.key.to_string();
            let file = self.cluster.dir().join(format!("{point}-{key}.raw"));
            let to = file.to_str().context("utf-8")?;
            self.cluster
                .ok(&["restore", "disk", point, "--disk", &key, "--to", to])?;
            ensure!(
                hash(&file)? == hash(&disk.file)?,
                "disk {key} of {vm} differs from its freeze"
            );
            std::fs::remove_file(&file)?;
        }
        Ok(())
    }

    /// Whatever happened: no snapshot within a minute, and a good next run.
    pub fn check_recovers(&self) -> Result<()> {
        self.lab.control("DELETE", "/faults", None)?;
        self.slow_down(0)?;
        wait("no snapshot is left", Duration::from_secs(60), || {
            Ok(self.lab.snapshots()?.is_empty().then_some(()))
        })?;
        let point = self.back_up()?;
        self.check_equal_to_frozen("web", &point)
    }
}
