//! Readiness finds what was planted on each VM, and nothing else.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stillwater_tests::Site;
use stillwater_tests::cluster::{rows, text, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, VmSpec};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(90);

/// Each VM's gaps by name, in order.
fn gaps(report: &Value, vm: &str) -> Result<Vec<String>> {
    let vms = report["vms"].as_array().context("a list of vms")?;
    let told = vms.iter().find(|told| told["vm"]["name"] == vm);
    let gaps = told.context("the vm")?["gaps"].as_array().context("gaps")?;
    let name = |gap: &Value| gap["gap"].as_str().unwrap_or("").to_owned();
    Ok(gaps.iter().map(name).collect())
}

/// A policy for VMs by name, to one repository.
fn promise(site: &Site, name: &str, vms: &[&str], repository: &str) -> Result<()> {
    let file = site.cluster.dir().join(format!("{name}.toml"));
    let include = vms.iter().map(|vm| format!("{{ name = \"{vm}\" }}"));
    let policy = format!(
        "name = \"{name}\"\n[scope]\ninclude = [{}]\n\
         [schedule]\nrpo = \"5m\"\n[retention]\nkeep-last = 5\n\
         [store]\nrepository = \"{repository}\"\n",
        include.collect::<Vec<_>>().join(", ")
    );
    std::fs::write(&file, policy)?;
    let file = file.to_str().context("utf-8")?;
    let applied = ["policy", "apply", "-f", file, "--yes"];
    site.cluster.ok(&applied).map(drop)
}

/// The points of a VM, once there are so many.
fn points(site: &Site, vm: &str, count: usize) -> Result<Vec<String>> {
    wait(&format!("{vm} has {count} points"), PATIENCE, || {
        let points = rows(&site.cluster.json(&["point", "list"])?);
        let of = points.iter().filter(|point| point["vm_name"] == vm);
        let ids: Vec<String> = of
            .map(|point| text(point, "point_id"))
            .collect::<Result<_>>()?;
        Ok((ids.len() >= count).then_some(ids))
    })
}

#[test]
fn each_planted_fault_is_found_and_no_other() -> Result<()> {
    let disks = Disks::new()?;
    let db = vec![
        disks.small()?,
        DiskSpec::independent(disks.tiny(4 * MIB)?),
        DiskSpec::physical_rdm(disks.tiny(4 * MIB)?),
    ];
    let mut mute = VmSpec::new("mute", vec![DiskSpec::empty(8)]);
    mute.tools = "absent";
    let mut site = Site::with(&[
        VmSpec::new("sound", vec![DiskSpec::empty(8)]),
        VmSpec::new("unproved", vec![DiskSpec::empty(8)]),
        VmSpec::new("single", vec![DiskSpec::empty(8)]),
        VmSpec::new("alone", vec![DiskSpec::empty(8)]),
        VmSpec::new("web", vec![DiskSpec::empty(8)]),
        VmSpec::new("db", db),
        mute,
    ])?;
    site.cluster.add_repository()?;
    site.cluster.backup("alone", "succeeded")?;
    promise(
        &site,
        "here",
        &["sound", "unproved", "single"],
        "repository",
    )?;
    promise(&site, "there", &["sound", "unproved"], "other-repository")?;
    points(&site, "unproved", 2)?;
    let proved = [
        points(&site, "sound", 2)?,
        points(&site, "single", 1)?,
        points(&site, "alone", 1)?,
    ]
    .concat();
    let verify: Vec<&str> = ["point", "verify"]
        .into_iter()
        .chain(proved.iter().map(String::as_str))
        .collect();
    site.cluster.ok(&verify)?;
    site.lab
        .act("web", "consolidation-needed", &json!({"needed": true}))?;

    let page = site.cluster.dir().join("readiness.html");
    let to = page.to_str().context("a path")?;
    let output = site
        .cluster
        .run(&["readiness", "-o", "json", "--html", to])?;
    ensure!(output.status.code() == Some(3), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout)?;
    for (vm, expected) in [
        ("sound", &[][..]),
        ("unproved", &["NEVER_PROVED"]),
        ("single", &["NO_COPY"]),
        ("alone", &["NO_COPY", "NO_POLICY"]),
        ("web", &["CONSOLIDATION", "NO_POINT", "NO_POLICY"]),
        ("db", &["DISK", "DISK", "NO_POINT", "NO_POLICY"]),
        ("mute", &["TOOLS", "NO_POINT", "NO_POLICY"]),
    ] {
        let found = gaps(&report, vm)?;
        ensure!(found == expected, "{vm}: {found:?} in {report:#}");
    }
    let page = std::fs::read_to_string(&page)?;
    ensure!(page.contains("7 vms: 1 ready, 6 with gaps"), "{page}");
    Ok(())
}
