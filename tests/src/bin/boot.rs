//! A guest that was protected starts again from its restored disks.
//!
//! A Debian is backed up, both its disks are restored to files, and qemu boots them with their serial console
//! watched: the guest must reach its login, and say that the database on its second disk is in order.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use stillwater_tests::cluster::{hash, rows, text};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::VmSpec;
use stillwater_tests::{Cluster, Lab, workspace};

/// What the guest says when its data is whole; `tests/lab/images/guest-check.sh` asks for it.
const WHOLE: &str = "guest-check: database 200000 200000000";

fn main() -> Result<()> {
    let begin = Instant::now();
    let step = |what: &str| println!("{:>5.1} s  {what}", begin.elapsed().as_secs_f64());
    step("start a vCenter with a Debian, and the roles");
    let disks = Disks::new()?;
    let vm = VmSpec {
        // Nothing writes to it: its database must come back as it was made.
        power: "off",
        ..VmSpec::new("debian", disks.set("debian")?)
    };
    let lab = Lab::start(&[vm], 2000)?;
    let cluster = Cluster::start()?;
    cluster.add_lab(&lab)?;

    step("back it up");
    let run = cluster.backup("debian", "succeeded")?;
    let point = text(&run["backup"], "point_id")?;

    step("restore its disks to files");
    let mut files = Vec::new();
    for frozen in lab.last_frozen("debian")? {
        let key = frozen.key.to_string();
        let file = cluster.dir().join(format!("debian-{key}.raw"));
        let to = file.to_str().context("utf-8")?;
        cluster.ok(&["restore", "disk", &point, "--disk", &key, "--to", to])?;
        ensure!(hash(&file)? == hash(&frozen.file)?, "disk {key} differs");
        files.push(file);
    }
    ensure!(
        files.len() == rows(&run["disks"]).len() && files.len() == 2,
        "{files:?}"
    );

    step("boot them");
    let said = boot(&files)?;
    print!("{said}");
    ensure!(
        said.contains("login after"),
        "the guest did not reach its login"
    );
    ensure!(
        said.contains(WHOLE),
        "the guest's data is not what it was: {said}"
    );
    step("the guest reached its login with its data whole");
    Ok(())
}

/// Boots disks; what `tests/lab/boot.sh` tells of it.
fn boot(files: &[PathBuf]) -> Result<String> {
    let script = workspace::root().join("tests/lab/boot.sh");
    let booted = Command::new(&script).args(files).output();
    let booted = booted.with_context(|| format!("run {}", script.display()))?;
    ensure!(
        booted.status.success(),
        "the restored disks do not boot: {}",
        String::from_utf8_lossy(&booted.stderr)
    );
    Ok(String::from_utf8_lossy(&booted.stdout).into_owned())
}
