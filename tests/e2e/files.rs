//! Files come out of a point as they are in the guest's file systems, which e2fsprogs reads from the frozen disks.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stillwater_tests::Site;
use stillwater_tests::cluster::{rows, wait};

/// The first partition of a disk, as e2fsprogs names it.
fn partition(disk: &Path) -> Result<String> {
    let table = Command::new("sfdisk").arg("-d").arg(disk).output()?;
    let table = String::from_utf8(table.stdout)?;
    let start = table.split("start=").nth(1).context("a partition")?;
    let start: u64 = start
        .split(',')
        .next()
        .context("its start")?
        .trim()
        .parse()?;
    Ok(format!("{}?offset={}", disk.display(), start * 512))
}

fn debugfs(request: &str, partition: &str) -> Result<Vec<u8>> {
    let output = Command::new("debugfs")
        .args(["-R", request, partition])
        .output()?;
    Ok(output.stdout)
}

/// Names of a directory, without those of itself and its parent.
fn names(directory: &str, partition: &str) -> Result<BTreeSet<String>> {
    let listed = String::from_utf8(debugfs(&format!("ls -p {directory}"), partition)?)?;
    let name = |line: &str| line.split('/').nth(5).map(str::to_owned);
    let mut names: BTreeSet<_> = listed.lines().filter_map(name).collect();
    names.retain(|name| !matches!(name.as_str(), "" | "." | ".."));
    Ok(names)
}

#[test]
fn files_of_a_point_are_those_of_the_guest() -> Result<()> {
    let (site, point) = Site::protected()?;
    let cluster = &site.cluster;
    let volumes = rows(&cluster.json(&["files", "ls", &format!("{point}:")])?);
    ensure!(volumes.len() == 2, "{volumes:#?}");
    ensure!(
        volumes.iter().all(|volume| volume["contents"] == "ext4"),
        "{volumes:#?}"
    );

    let frozen = site.lab.last_frozen("web")?;
    let mut found = None;
    for (index, disk) in frozen.iter().enumerate() {
        let partition = partition(&disk.file)?;
        if !names("/home/user", &partition)?.is_empty() {
            found = Some((format!("disk{index}p1"), partition));
        }
    }
    let (volume, partition) = found.context("the root file system")?;

    let place = |path: &str| format!("{point}:{volume}:{path}");
    let listed = rows(&cluster.json(&["files", "ls", &place("/home/user")])?);
    let ours: BTreeSet<_> = listed
        .iter()
        .filter_map(|row| row["name"].as_str().map(str::to_owned))
        .collect();
    let theirs = names("/home/user", &partition)?;
    ensure!(
        theirs.len() > 200 && ours == theirs,
        "{ours:?} instead of {theirs:?}"
    );

    for path in [
        "/srv/photos/IMG_7.jpg",
        "/srv/preallocated",
        "/home/user/empty",
        "/var/log/web/access.1.log",
    ] {
        let to = cluster.dir().join("taken");
        let args = [
            "files",
            "get",
            &place(path),
            "--to",
            to.to_str().context("utf-8")?,
        ];
        let output = cluster.command(&args)?.output()?;
        ensure!(
            output.status.success(),
            "{path}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let theirs = debugfs(&format!("cat {path}"), &partition)?;
        ensure!(std::fs::read(&to)? == theirs, "{path} differs");
        let row = rows(&cluster.json(&["files", "ls", &place(path)])?).remove(0);
        let taken = std::fs::metadata(&to)?;
        ensure!(
            row["mode"] == taken.mode() & 0o777 && row["size_bytes"] == taken.len(),
            "{row:#}"
        );
        // Nothing is written over.
        ensure!(!cluster.command(&args)?.output()?.status.success());
        std::fs::remove_file(to)?;
    }

    let output = cluster
        .command(&["files", "ls", &format!("{point}:/home")])?
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && said.contains("say which one"),
        "{said}"
    );

    // The tool is gone before the controller has heard of the last export's end.
    wait("no export is left open", Duration::from_secs(60), || {
        let runs = rows(&cluster.json(&["run", "list"])?);
        let in_state = |state| runs.iter().any(|run| run["state"] == state);
        ensure!(in_state("succeeded"), "{runs:#?}");
        Ok((!in_state("running")).then_some(()))
    })
}
