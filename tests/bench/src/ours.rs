//! Stillwater: three roles as real processes, mutual TLS between them, fsync and self-checks on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stillwater_tests::cluster::{Role, rows, text, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, VmSpec};
use stillwater_tests::process::Process;
use stillwater_tests::{Cluster, Lab};

use crate::ended::{seconds_of_data, tell_phases};
use crate::images::{Images, become_image, copy};
use crate::measured::{Measured, allocated, timed};
use crate::peer::same;
use crate::random::{Mount, latency};
use crate::step::Step;
use crate::way::Way;

const PATIENCE: Duration = Duration::from_secs(3600);

/// A cluster, a vCenter with the two servers, and what was stored so far.
#[derive(Debug)]
pub struct Ours {
    images: Images,
    cluster: Cluster,
    lab: Lab,
    way: Way,
    first: Option<String>,
    // Dropped after the lab, which has its disks there.
    _disks: Disks,
}

impl Ours {
    /// An empty repository, and both servers in the simulated vCenter.
    pub fn new(images: &Images, way: Way, dir: &Path) -> Result<Self> {
        let mut vms = Vec::new();
        for (name, image) in [("server", &images.server), ("sibling", &images.sibling)] {
            let disk = dir.join(format!("{name}.raw"));
            copy(image, &disk)?;
            vms.push(VmSpec::new(name, vec![DiskSpec::new(disk)]));
        }
        let lab = Lab::start(&vms, 2000)?;
        let mut cluster = Cluster::start()?;
        cluster.add_lab(&lab)?;
        way.open(&lab, &mut cluster)?;
        Ok(Self {
            images: images.clone(),
            cluster,
            lab,
            way,
            first: None,
            _disks: Disks::new()?,
        })
    }

    /// Brings the guest into the state that a step wants; not measured.
    pub fn prepare(&self, step: Step) -> Result<()> {
        if step == Step::Day2 {
            let live = self.lab.live_disk("server", 0)?;
            let changed = become_image(&live, &self.images.day2)?;
            println!("  day 2 touches {} MiB of granules", changed >> 20);
        }
        Ok(())
    }

    /// Does a step.
    pub fn run(&mut self, step: Step) -> Result<Measured> {
        let before = self.used()?;
        let begin = Instant::now();
        let own = match step {
            Step::Full => {
                let (point, cost) = self.back_up("server", &[])?;
                self.first = Some(point);
                cost
            }
            Step::Unchanged | Step::Day2 => self.back_up("server", &[])?.1,
            Step::Reread => self.back_up("server", &["--full"])?.1,
            Step::Sibling => self.back_up("sibling", &[])?.1,
            Step::Restore => self.restore()?,
            Step::Random => self.read_here_and_there()?,
            Step::Scrub => {
                self.cluster
                    .ok(&["repository", "scrub", "repository", "--all"])?;
                Measured::default()
            }
            Step::Verify => {
                let point = self.first.as_deref().context("nothing was backed up yet")?;
                self.cluster.ok(&["point", "verify", point])?;
                Measured::default()
            }
        };
        let wall_seconds = match own.wall_seconds > 0.0 {
            true => own.wall_seconds,
            false => begin.elapsed().as_secs_f64(),
        };
        if step == Step::Restore {
            self.compare()?;
        }
        let after = self.used()?;
        Ok(Measured {
            wall_seconds,
            cpu_seconds: after.cpu_seconds - before.cpu_seconds + own.cpu_seconds,
            peak_bytes: after.peak_bytes.max(own.peak_bytes),
            stored_bytes: allocated(&self.cluster.state(Role::Repository))?,
            latency: own.latency,
        })
    }

    /// Backs a VM up and answers its point, and how long that took without what vCenter needs for its
    /// snapshot: the simulated one copies the disk.
    fn back_up(&self, vm: &str, more: &[&str]) -> Result<(String, Measured)> {
        let mut args = vec!["backup", vm];
        args.extend(more);
        let run = self.cluster.start_run(&args)?;
        self.cluster.ok(&["run", "watch", &run])?;
        let ended = self.cluster.wait_run(&run, PATIENCE)?;
        ensure!(
            ended["state"] == "succeeded",
            "the run is not good: {ended:#}"
        );
        self.way.check(&ended)?;
        tell(
            &self
                .cluster
                .json(&["point", "show", &text(&ended["backup"], "point_id")?])?,
        );
        tell_phases(&ended)?;
        let cost = Measured {
            wall_seconds: seconds_of_data(&ended)?,
            ..Measured::default()
        };
        Ok((text(&ended["backup"], "point_id")?, cost))
    }

    /// Restores the first point's disk to a file; the tool's own cost is part of it.
    fn restore(&self) -> Result<Measured> {
        let (point, key) = self.first_disk()?;
        let to = self.restored();
        let to = to.to_str().context("utf-8")?;
        let args = ["restore", "disk", point, "--disk", &key, "--to", to];
        timed(
            &self.cluster.command(&args)?,
            &self.cluster.dir().join("tool.log"),
        )
    }

    /// Through `point serve`, shown by nbdfuse, so that both contenders pay for FUSE.
    fn read_here_and_there(&self) -> Result<Measured> {
        let (point, key) = self.first_disk()?;
        let socket = self.cluster.dir().join("nbd.sock");
        let path = socket.to_str().context("utf-8")?;
        let log = self.cluster.dir().join("serve.log");
        let serve = ["point", "serve", point, "--disk", &key, "--socket", path];
        let mut serving = Process::start("point serve", &mut self.cluster.command(&serve)?, &log)?;
        wait("the disk is served", Duration::from_secs(60), || {
            serving.check_alive()?;
            Ok(serving.log().contains("nbd+unix://").then_some(()))
        })?;
        let dir = self.cluster.dir().join("mount");
        std::fs::create_dir_all(&dir)?;
        let shown = dir.join("disk.raw");
        let mut fuse = Command::new("nbdfuse");
        fuse.arg(&shown)
            .arg(format!("nbd+unix:///{key}?socket={path}"));
        let mut mount = Mount::start("nbdfuse", &mut fuse, &dir)?;
        mount.wait_file(&shown, std::fs::metadata(&self.images.server)?.len())?;
        let latency = latency(&shown, &self.images.server)?;
        drop(mount);
        serving.interrupt(Duration::from_secs(60))?;
        Ok(Measured {
            latency: Some(latency),
            ..Measured::default()
        })
    }

    /// The first point, and the key of its disk.
    fn first_disk(&self) -> Result<(&str, String)> {
        let point = self.first.as_deref().context("nothing was backed up yet")?;
        let shown = self.cluster.json(&["point", "show", point])?;
        let disks = rows(&shown["disks"]);
        let key = disks.first().and_then(|disk| disk["key"].as_i64());
        Ok((point, key.context("the point has no disk")?.to_string()))
    }

    fn compare(&self) -> Result<()> {
        same(&self.restored(), &self.images.server)?;
        std::fs::remove_file(self.restored()).map_err(Into::into)
    }

    fn restored(&self) -> PathBuf {
        self.cluster.dir().join("restored.raw")
    }

    /// The three roles together; the peak is that of the largest.
    fn used(&self) -> Result<Measured> {
        let mut sum = Measured::default();
        for role in Role::ALL {
            let used = self.cluster.usage(role)?;
            sum.cpu_seconds += used.cpu_seconds;
            sum.peak_bytes = sum.peak_bytes.max(used.peak_bytes);
        }
        Ok(sum)
    }
}

/// What a run read and stored, for whoever watches.
fn tell(point: &Value) {
    let sum = |field: &str| -> u64 {
        let disks = rows(&point["disks"]);
        disks.iter().filter_map(|disk| disk[field].as_u64()).sum()
    };
    println!(
        "  read {} MiB, new {} MiB, stored {} MiB",
        sum("read_bytes") >> 20,
        sum("new_bytes") >> 20,
        sum("stored_bytes") >> 20
    );
}
