//! What comes back is what went in.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stillwater_tests::cluster::{hash, text};
use stillwater_tests::{Lab, Site};

fn vm(lab: &Lab, name: &str) -> Result<Option<Value>> {
    let vms = lab.control("GET", "/vms", None)?;
    Ok(vms
        .as_array()
        .into_iter()
        .flatten()
        .find(|vm| vm["name"] == name)
        .cloned())
}

#[test]
fn a_point_becomes_a_new_vm_with_the_same_disks_and_shape() -> Result<()> {
    let (site, point) = Site::protected()?;
    let args = [
        "restore",
        "vm",
        &point,
        "--name",
        "web-2",
        "--datastore",
        "lab-ds",
    ];
    let run = site.cluster.start_run(&args)?;
    let ended = site.cluster.wait_run(&run, Duration::from_secs(120))?;
    ensure!(ended["state"] == "succeeded", "{ended:#}");
    for (index, frozen) in site.lab.last_frozen("web")?.iter().enumerate() {
        let live = site.lab.live_disk("web-2", index)?;
        ensure!(hash(&live)? == hash(&frozen.file)?, "disk {index} differs");
    }
    let restored = vm(&site.lab, "web-2")?.context("the VM is there")?;
    ensure!(
        restored["power"] == "off",
        "it is not started unasked: {restored}"
    );

    // A second one under the same name is refused, and the first is not touched.
    let run = site.cluster.run(&args)?;
    let refused = if run.status.success() {
        let id = text(
            &serde_json::from_slice(&run.stdout).unwrap_or_default(),
            "run_id",
        )
        .or_else(|_| site.cluster.start_run(&args))?;
        site.cluster
            .wait_run(&id, Duration::from_secs(60))?
            .to_string()
    } else {
        String::from_utf8_lossy(&run.stderr).into_owned()
    };
    ensure!(refused.contains("VM_EXISTS"), "{refused}");
    ensure!(vm(&site.lab, "web-2")?.is_some(), "the first one is gone");
    Ok(())
}

#[test]
fn a_restore_that_fails_removes_what_it_made_and_nothing_else() -> Result<()> {
    let (site, point) = Site::protected()?;
    site.lab.fault("folder-put", "http-503", 0, 100)?;
    let args = [
        "restore",
        "vm",
        &point,
        "--name",
        "web-3",
        "--datastore",
        "lab-ds",
    ];
    let run = site.cluster.start_run(&args)?;
    let ended = site.cluster.wait_run(&run, Duration::from_secs(180))?;
    ensure!(ended["state"] == "failed", "{ended:#}");
    ensure!(ended.to_string().contains("DISK_WRITE_FAILED"), "{ended:#}");
    ensure!(vm(&site.lab, "web-3")?.is_none(), "a half VM was left");
    ensure!(vm(&site.lab, "web")?.is_some(), "the source is gone");
    Ok(())
}

#[test]
fn a_disk_becomes_a_raw_file_and_a_vmdk_that_qemu_reads() -> Result<()> {
    let (site, point) = Site::protected()?;
    let frozen = site.lab.last_frozen("web")?;
    let disk = frozen.first().context("a disk")?;
    let key = disk.key.to_string();
    let path = |name: &str| site.cluster.dir().join(name).to_string_lossy().into_owned();
    let (raw, vmdk) = (path("disk.raw"), path("disk.vmdk"));
    site.cluster
        .ok(&["restore", "disk", &point, "--disk", &key, "--to", &raw])?;
    ensure!(
        hash(Path::new(&raw))? == hash(&disk.file)?,
        "the raw file differs"
    );
    let to_vmdk = [
        "restore", "disk", &point, "--disk", &key, "--to", &vmdk, "--format", "vmdk",
    ];
    site.cluster.ok(&to_vmdk)?;
    let compared = Command::new("qemu-img")
        .args(["compare", "-f", "raw", "-F", "vmdk", &raw, &vmdk])
        .output()?;
    ensure!(
        compared.status.success(),
        "{}",
        String::from_utf8_lossy(&compared.stdout)
    );
    // What is there is not overwritten unasked.
    let again = site
        .cluster
        .run(&["restore", "disk", &point, "--disk", &key, "--to", &raw])?;
    ensure!(!again.status.success(), "an existing file was overwritten");
    Ok(())
}

#[test]
fn an_export_that_breaks_leaves_no_file_under_the_final_name() -> Result<()> {
    let (mut site, point) = Site::protected()?;
    let key = site
        .lab
        .last_frozen("web")?
        .first()
        .context("a disk")?
        .key
        .to_string();
    let to = site.cluster.dir().join("broken.raw");
    let to_text = to.to_string_lossy().into_owned();
    site.cluster
        .kill_role(stillwater_tests::cluster::Role::Repository)?;
    let output = site
        .cluster
        .run(&["restore", "disk", &point, "--disk", &key, "--to", &to_text])?;
    ensure!(
        !output.status.success(),
        "an export without a repository cannot succeed"
    );
    ensure!(!to.exists(), "half a disk looks whole");
    site.cluster
        .start_role(stillwater_tests::cluster::Role::Repository)?;
    site.cluster.wait_online(2)?;
    site.cluster
        .ok(&["restore", "disk", &point, "--disk", &key, "--to", &to_text])
        .map(drop)
}
