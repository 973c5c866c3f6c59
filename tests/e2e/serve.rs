//! Tools that others have written read a point, with no copy of it anywhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use stillwater_tests::cluster::{Role, hash, rows};
use stillwater_tests::lab::Frozen;
use stillwater_tests::{Serving, Site};

fn run(program: &str, args: &[&str]) -> Result<Output> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output();
    output.with_context(|| format!("run {program}: tests/setup.sh installs it"))
}

fn works(program: &str, args: &[&str]) -> Result<String> {
    let output = run(program, args)?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{program} {args:?}: {told}");
    Ok(String::from_utf8(output.stdout)?)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("utf-8")
}

fn copied(site: &Site, serving: &Serving, disk: &Frozen) -> Result<()> {
    let copy = site.cluster.dir().join("copy.raw");
    works("nbdcopy", &[&serving.uri(disk.key), path(&copy)?])?;
    ensure!(
        hash(&copy)? == hash(&disk.file)?,
        "disk {} differs by nbdcopy",
        disk.key
    );
    std::fs::remove_file(copy).map_err(Into::into)
}

#[test]
fn nbdcopy_and_qemu_read_a_point_as_it_was_frozen() -> Result<()> {
    let (site, point) = Site::protected()?;
    let serving = Serving::start(&site, &point, &[])?;
    for disk in site.lab.last_frozen("web")? {
        copied(&site, &serving, &disk)?;
        let uri = serving.uri(disk.key);
        works(
            "qemu-img",
            &["compare", "-f", "raw", "-F", "raw", &uri, path(&disk.file)?],
        )?;
        let map = works("nbdinfo", &["--map", &uri])?;
        ensure!(map.contains("hole,zero"), "holes are told: {map}");
        let write = ["-f", "raw", "-c", "write 0 512", &uri];
        ensure!(
            !run("qemu-io", &write)?.status.success(),
            "a point is never written"
        );
    }
    serving.stop()?;
    // Each disk was a run, which ended well.
    let runs = rows(&site.cluster.json(&["run", "list"])?);
    let exports: Vec<_> = runs
        .iter()
        .filter(|run| run["export_disk"].is_object())
        .collect();
    ensure!(!exports.is_empty(), "{runs:?}");
    ensure!(
        exports.iter().all(|run| run["state"] == "succeeded"),
        "{exports:#?}"
    );
    Ok(())
}

#[test]
fn what_is_written_over_a_point_is_thrown_away() -> Result<()> {
    let (site, point) = Site::protected()?;
    let disk = site.lab.last_frozen("web")?.remove(0);
    let serving = Serving::start(
        &site,
        &point,
        &["--overlay", "--disk", &disk.key.to_string()],
    )?;
    let uri = serving.uri(disk.key);
    let script = [
        "-f",
        "raw",
        "-c",
        "write -P 0x77 1000000 70000",
        "-c",
        "read -P 0x77 1000000 70000",
        &uri,
    ];
    let said = works("qemu-io", &script)?;
    ensure!(!said.contains("verification failed"), "{said}");
    let differs = run(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "raw", &uri, path(&disk.file)?],
    )?;
    ensure!(
        !differs.status.success(),
        "the overlay shows what was written"
    );
    serving.stop()?;
    let serving = Serving::start(&site, &point, &[])?;
    copied(&site, &serving, &disk)?;
    serving.stop()
}

#[test]
fn a_proxy_or_repository_that_is_restarted_only_makes_readers_wait() -> Result<()> {
    let (mut site, point) = Site::protected()?;
    let disk = site.lab.last_frozen("web")?.remove(0);
    let serving = Serving::start(&site, &point, &[])?;
    for role in [Role::Repository, Role::Proxy] {
        site.cluster.kill_role(role)?;
        site.cluster.start_role(role)?;
        copied(&site, &serving, &disk)
            .with_context(|| format!("after a kill of the {}", role.name()))?;
    }
    serving.stop()
}

#[test]
fn bytes_that_are_gone_are_an_error_and_never_zeros() -> Result<()> {
    let (mut site, point) = Site::protected()?;
    let disk = site.lab.last_frozen("web")?.remove(0);
    site.cluster.stop_role(Role::Repository)?;
    let store = site.cluster.state(Role::Repository).join("store/packs");
    let mut changed = 0;
    for pack in files(&store)? {
        let mut bytes = std::fs::read(&pack)?;
        let end = bytes.len() / 2;
        bytes
            .iter_mut()
            .take(end)
            .skip(4096)
            .step_by(1000)
            .for_each(|byte| *byte ^= 0x10);
        std::fs::write(&pack, bytes)?;
        changed += 1;
    }
    ensure!(changed > 0, "no pack in {}", store.display());
    site.cluster.start_role(Role::Repository)?;
    let serving = Serving::start(&site, &point, &[])?;
    let copy = site.cluster.dir().join("copy.raw");
    let output = run("nbdcopy", &[&serving.uri(disk.key), path(&copy)?])?;
    ensure!(
        !output.status.success(),
        "a copy with bytes that nobody proved is none"
    );
    let whole = serving.stop();
    ensure!(
        whole.is_ok(),
        "the server outlives bytes that are gone: {whole:?}"
    );
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    Ok(found)
}
