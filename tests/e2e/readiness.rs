//! Readiness finds what was planted on each VM, and nothing else.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stillwater_tests::Site;
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::{DiskSpec, VmSpec};

const MIB: u64 = 1 << 20;

/// Each VM's gaps by name, in order.
fn gaps(report: &Value, vm: &str) -> Result<Vec<String>> {
    let vms = report["vms"].as_array().context("a list of vms")?;
    let told = vms.iter().find(|told| told["vm"]["name"] == vm);
    let gaps = told.context("the vm")?["gaps"].as_array().context("gaps")?;
    let name = |gap: &Value| gap["gap"].as_str().unwrap_or("").to_owned();
    Ok(gaps.iter().map(name).collect())
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
    let site = Site::with(&[
        VmSpec::new("sound", vec![DiskSpec::empty(8)]),
        VmSpec::new("unproved", vec![DiskSpec::empty(8)]),
        VmSpec::new("web", vec![DiskSpec::empty(8)]),
        VmSpec::new("db", db),
        mute,
    ])?;
    let proved = site.cluster.backup("sound", "succeeded")?;
    let proved = proved["backup"]["point_id"].as_str().context("a point")?;
    let output = site.cluster.run(&["point", "verify", proved])?;
    ensure!(output.status.success(), "{output:?}");
    site.cluster.backup("unproved", "succeeded")?;
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
        ("web", &["CONSOLIDATION", "NO_POINT"]),
        ("db", &["DISK", "DISK", "NO_POINT"]),
        ("mute", &["TOOLS", "NO_POINT"]),
    ] {
        let found = gaps(&report, vm)?;
        ensure!(found == expected, "{vm}: {found:?} in {report:#}");
    }
    let page = std::fs::read_to_string(&page)?;
    ensure!(page.contains("5 vms: 1 ready, 4 with gaps"), "{page}");
    Ok(())
}
