//! Files come out of a point as they are in the guest's file systems, which e2fsprogs reads from the frozen disks.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stillwater_tests::Site;
use stillwater_tests::cluster::{Cluster, rows, wait};

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

/// Takes a directory; nothing of it may be lost.
fn taken_whole(cluster: &Cluster, place: &str, to: &Path) -> Result<()> {
    let to = to.to_str().context("utf-8")?;
    let report = cluster.json(&["files", "get", place, "--to", to])?;
    let files = report["files"].as_u64().unwrap_or_default();
    ensure!(files > 100, "{report:#}");
    ensure!(
        report["lost"].as_array().is_some_and(Vec::is_empty),
        "{report:#}"
    );
    Ok(())
}

/// A name is found in its volume, in one point and in all of the VM; its one version is the first.
fn find_and_history(cluster: &Cluster, point: &str, volume: &str) -> Result<()> {
    for mut args in [vec!["--vm", "web"], vec![&format!("{point}:")]] {
        args.splice(0..0, ["files", "find", "IMG_7.*"]);
        let found = rows(&cluster.json(&args)?);
        let is_it = |row: &Value| row["path"] == "srv/photos/IMG_7.jpg" && row["volume"] == volume;
        ensure!(found.len() == 1 && found.iter().all(is_it), "{found:#?}");
    }
    let args = [
        "files",
        "history",
        "web",
        "/srv/photos/IMG_7.jpg",
        "--volume",
        volume,
    ];
    let versions = rows(&cluster.json(&args)?);
    let [version] = versions.as_slice() else {
        anyhow::bail!("{versions:#?}");
    };
    let hash = version["content_blake3"].as_str().unwrap_or_default();
    ensure!(
        version["change"] == "first" && hash.len() == 64,
        "{version:#}"
    );
    Ok(())
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

    let home = cluster.dir().join("home");
    taken_whole(cluster, &place("/home"), &home)?;
    let theirs = cluster.dir().join("dumped");
    std::fs::create_dir(&theirs)?;
    debugfs(&format!("rdump /home {}", theirs.display()), &partition)?;
    let unpacked = cluster.dir().join("unpacked");
    std::fs::create_dir(&unpacked)?;
    let mut tar = Command::new("tar")
        .args(["-xpf", "-", "-C"])
        .arg(&unpacked)
        .stdin(Stdio::piped())
        .spawn()?;
    let archive = [
        "files",
        "get",
        &place("/home"),
        "--archive",
        "tar",
        "--to",
        "-",
    ];
    let written = cluster.command(&archive)?.output()?;
    tar.stdin
        .take()
        .context("a pipe")?
        .write_all(&written.stdout)?;
    ensure!(tar.wait()?.success());
    let zip = cluster.dir().join("home.zip");
    let to = zip.to_str().context("utf-8")?;
    let archive = [
        "files",
        "get",
        &place("/home"),
        "--archive",
        "zip",
        "--to",
        to,
    ];
    let written = cluster.command(&archive)?.output()?;
    let said = String::from_utf8_lossy(&written.stderr);
    ensure!(said.contains("holds no owners"), "{said}");
    let unzipped = cluster.dir().join("unzipped");
    let done = Command::new("unzip")
        .args([Path::new("-q"), &zip, Path::new("-d"), &unzipped])
        .status()?;
    ensure!(done.success());
    for ours in [&home, &unpacked.join("home"), &unzipped.join("home")] {
        let difference = Command::new("diff")
            .args(["-r", "--no-dereference"])
            .args([ours, &theirs.join("home")])
            .output()?;
        let said = String::from_utf8_lossy(&difference.stdout);
        ensure!(difference.status.success(), "{said}");
        // Modes are as the listing says.
        let listed = rows(&cluster.json(&["files", "ls", &place("/home/user")])?);
        for row in listed.iter().filter(|row| row["kind"] != "link") {
            let name = row["name"].as_str().context("a name")?;
            let mode = std::fs::metadata(ours.join("user").join(name))?.mode() & 0o1777;
            ensure!(
                row["mode"].as_u64().map(|mode| mode & 0o1777) == Some(mode.into()),
                "{row:#}"
            );
        }
    }
    find_and_history(cluster, &point, &volume)?;

    let missing = cluster
        .command(&["files", "get", &place("/home/nobody")])?
        .output()?;
    let said = String::from_utf8_lossy(&missing.stderr);
    ensure!(
        missing.status.code() == Some(4) && said.contains("FILE_NOT_FOUND"),
        "{said}"
    );

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
