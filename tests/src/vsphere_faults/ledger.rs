//! What must be so whatever was done to vCenter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cluster::{hash, rows, text, wait};
use crate::lab::Snapshot;
use crate::{Cluster, Lab};

/// How long leftovers may stay after a run has ended.
const REAPED: Duration = Duration::from_secs(120);

/// How runs ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// A point was made.
    pub succeeded: u32,
    /// None was.
    pub failed: u32,
    /// vCenter could not even be asked which VM is meant.
    pub refused: u32,
    /// Points that were read back and are equal to the frozen disk.
    pub proved: u32,
}

/// What was there at the beginning, and what came since.
#[derive(Debug)]
pub struct Ledger {
    foreign: Vec<Snapshot>,
    /// The file that each VM's first disk runs on.
    files: BTreeMap<String, String>,
    points: BTreeSet<String>,
}

impl Ledger {
    /// Notes what is there. No run of ours may be at work.
    pub fn open(lab: &Lab) -> Result<Self> {
        Ok(Self {
            foreign: lab.snapshots()?,
            files: files(lab)?,
            points: BTreeSet::new(),
        })
    }

    /// Snapshots of ours that are there now.
    pub fn ours(&self, lab: &Lab) -> Result<Vec<Snapshot>> {
        let mut there = lab.snapshots()?;
        for foreign in &self.foreign {
            let at = there.iter().position(|snapshot| snapshot == foreign);
            there.remove(at.with_context(|| format!("{foreign:?} was touched"))?);
        }
        Ok(there)
    }

    /// Never two snapshots of one run; and foreign ones are there whatever happens.
    pub fn check_midway(&self, lab: &Lab) -> Result<()> {
        let mut seen = BTreeSet::new();
        for snapshot in self.ours(lab)? {
            ensure!(
                seen.insert(snapshot.description.clone()),
                "two snapshots of one run: {snapshot:?}"
            );
        }
        Ok(())
    }

    /// Waits until nothing of ours is left: no snapshot and no delta.
    pub fn settle(&self, lab: &Lab) -> Result<()> {
        let mut left = String::new();
        let settled = wait("nothing of ours is left", REAPED, || {
            let (ours, files) = (self.ours(lab)?, files(lab)?);
            left = format!("{ours:?}, disks on {files:?}");
            Ok((ours.is_empty() && files == self.files).then_some(()))
        });
        settled.with_context(|| left)
    }

    /// Holds the end of a run against what it left: a point that restores to just what was frozen, or none.
    pub fn settle_run(
        &mut self,
        lab: &Lab,
        cluster: &Cluster,
        run: &Value,
        ends: &mut Ends,
    ) -> Result<()> {
        match text(run, "state")?.as_str() {
            "succeeded" => {
                let point = text(&run["backup"], "point_id")?;
                prove(lab, cluster, &point)
                    .with_context(|| format!("point {point} is not what was frozen"))?;
                ensure!(
                    self.points.insert(point),
                    "two runs made one point: {run:#}"
                );
                ends.succeeded += 1;
                ends.proved += 1;
            }
            "failed" => {
                ensure!(run["fault"]["reason"].is_string(), "no reason: {run:#}");
                ensure!(run["fault"]["reason"] != "BUG", "a bug of ours: {run:#}");
                ends.failed += 1;
            }
            _ => bail!("neither succeeded nor failed: {run:#}"),
        }
        Ok(())
    }

    /// The points that are listed are those of the runs that succeeded.
    pub fn check_points(&self, cluster: &Cluster) -> Result<()> {
        let listed: BTreeSet<String> =
            rows(&cluster.json(&["point", "list", "--limit", "100000"])?)
                .iter()
                .map(|point| text(point, "point_id"))
                .collect::<Result<_>>()?;
        let odd: Vec<&String> = listed.symmetric_difference(&self.points).collect();
        ensure!(
            odd.is_empty(),
            "points without a good run, or the other way round: {odd:?}"
        );
        Ok(())
    }
}

/// Reads a point back and compares it with the kept copy of what its snapshot froze.
fn prove(lab: &Lab, cluster: &Cluster, point: &str) -> Result<()> {
    let shown = cluster.json(&["point", "show", point])?;
    let evidence = rows(&shown["evidence"]);
    let noted = evidence.iter().find(|noted| noted["name"] == "snapshot");
    let snapshot = text(noted.context("the point names no snapshot")?, "value")?;
    let frozen: Vec<_> = lab
        .frozen()?
        .into_iter()
        .filter(|frozen| frozen.snapshot == snapshot)
        .collect();
    ensure!(!frozen.is_empty(), "{snapshot} was never frozen: {shown:#}");
    for disk in frozen {
        let key = disk.key.to_string();
        let file = cluster.dir().join(format!("{point}-{key}.raw"));
        let to = file.to_str().context("utf-8")?;
        cluster.ok(&["restore", "disk", point, "--disk", &key, "--to", to])?;
        let is_equal = hash(&file)? == hash(&disk.file)?;
        std::fs::remove_file(&file)?;
        ensure!(is_equal, "disk {key} of {} differs", disk.vm);
    }
    Ok(())
}

fn files(lab: &Lab) -> Result<BTreeMap<String, String>> {
    let vms = lab.control("GET", "/vms", None)?;
    rows(&vms)
        .iter()
        .map(|vm| Ok((text(vm, "name")?, text(&vm["disks"][0], "file")?)))
        .collect()
}
