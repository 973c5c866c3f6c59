//! A repository is looked after: verified, scrubbed, healed, locked, and recovered from with nothing
//! but its directory and the recovery key.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stillwater_tests::cluster::{Role, hash, text};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::VmSpec;
use stillwater_tests::{Cluster, Site, workspace};

/// The packs of the repository, the longest first.
fn packs(site: &Site) -> Result<Vec<PathBuf>> {
    let root = site.cluster.state(Role::Repository).join("store/packs");
    let mut packs = Vec::new();
    for fan in fs::read_dir(root)? {
        for entry in fs::read_dir(fan?.path())? {
            let path = entry?.path();
            packs.push((fs::metadata(&path)?.len(), path));
        }
    }
    packs.sort();
    Ok(packs.into_iter().rev().map(|(_, path)| path).collect())
}

/// Flips bits in the middle of a file.
fn damage(path: &Path) -> Result<()> {
    let file = fs::File::options().read(true).write(true).open(path)?;
    let middle = file.metadata()?.len() / 2;
    let mut bytes = [0; 64];
    file.read_exact_at(&mut bytes, middle)?;
    file.write_all_at(&bytes.map(|byte| !byte), middle)?;
    Ok(file.sync_all()?)
}

/// Runs a command that ends with this code, and reads what it printed.
fn ends(site: &Site, args: &[&str], code: i32) -> Result<Value> {
    let args: Vec<_> = args.iter().copied().chain(["-o", "json"]).collect();
    let output = site.cluster.run(&args)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(code),
        "{args:?}: {} {said}",
        output.status
    );
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{args:?} printed no JSON: {said}"))
}

#[test]
fn damage_is_named_set_aside_and_healed_by_the_next_backup() -> Result<()> {
    let (mut site, point) = Site::protected()?;
    let whole = ends(&site, &["point", "verify", "--stored", &point], 0)?;
    ensure!(whole["result"]["whole"] == true, "{whole:#}");

    let victim = packs(&site)?.into_iter().next().context("a pack")?;
    site.cluster.stop_role(Role::Repository)?;
    damage(&victim)?;
    site.cluster.start_role(Role::Repository)?;
    site.cluster.wait_online(2)?;

    let degraded = ends(&site, &["point", "verify", "--stored", &point], 1)?;
    let extents = degraded["result"]["extents"]
        .as_array()
        .context("extents")?;
    ensure!(!extents.is_empty(), "{degraded:#}");
    // The repository re-reads what a reader had trouble with unasked: it may have come first.
    let asked = ["repository", "scrub", "repository", "--all"];
    let scrubbed = site.cluster.run(&asked)?;
    ensure!(
        matches!(scrubbed.status.code(), Some(0 | 3)),
        "{scrubbed:?}"
    );
    ensure!(!victim.exists(), "the damaged pack is still in use");
    let shown = ends(&site, &["repository", "show", "repository"], 0)?;
    let health = &shown["usage"]["health"];
    ensure!(health["damaged_pack_count"] == 1, "{shown:#}");
    ensure!(health["lost_record_count"].as_u64() > Some(0), "{shown:#}");
    ensure!(health["degraded_point_count"] == 1, "{shown:#}");
    ensure!(
        health["degraded_point_ids"][0] == point.as_str(),
        "{shown:#}"
    );

    let again = site.back_up()?;
    site.check_equal_to_frozen("web", &again)?;
    for point in [&point, &again] {
        let healed = ends(&site, &["point", "verify", "--stored", point], 0)?;
        ensure!(healed["result"]["whole"] == true, "{healed:#}");
    }
    Ok(())
}

#[test]
fn a_locked_point_is_kept_and_garbage_is_collected_without_it() -> Result<()> {
    let (site, point) = Site::protected()?;
    let until = |value: &Value| text(value, "retain_until");
    let before = until(&site.cluster.json(&["point", "show", &point])?)?;
    let locked = ends(&site, &["point", "lock", &point, "--for", "60d"], 0)?;
    ensure!(until(&locked)? > before, "{locked:#}");
    let kept = ends(&site, &["point", "lock", &point, "--for", "1d"], 0)?;
    ensure!(
        until(&kept)? == until(&locked)?,
        "a lock became shorter: {kept:#}"
    );
    let refused = ends(&site, &["point", "delete", &point, "--yes"], 6)?;
    ensure!(
        refused[0]["fault"]["reason"] == "POINT_LOCKED",
        "{refused:#}"
    );
    let collected = ends(&site, &["repository", "gc", "repository"], 0)?;
    ensure!(collected["result"]["condemned_bytes"] == 0, "{collected:#}");
    ensure!(
        collected["result"]["live_bytes"].as_u64() > Some(0),
        "{collected:#}"
    );
    site.check_equal_to_frozen("web", &point)
}

#[test]
fn an_unlocked_point_goes_and_its_room_comes_back() -> Result<()> {
    let settings = "[store]\nreserve = \"256MiB\"\nretention = \"0s\"\ncondemn-wait = \"0s\"\nquarantine-wait = \"0s\"";
    let disks = Disks::new()?;
    let vms = [VmSpec::new("web", vec![disks.small()?])];
    let site = Site::of(&vms, Cluster::with_repository(settings)?)?;
    let point = site.back_up()?;
    let stored = |site: &Site| -> Result<u64> {
        let shown = ends(site, &["repository", "show", "repository"], 0)?;
        shown["usage"]["stored_bytes"]
            .as_u64()
            .context("stored bytes")
    };
    ensure!(stored(&site)? > 0);
    ends(&site, &["point", "delete", &point, "--yes"], 0)?;
    ensure!(site.cluster.json(&["point", "list"])? == Value::Array(vec![]));
    // Condemned, quarantined, removed: each is a decision of its own.
    for _ in 0..3 {
        ends(&site, &["repository", "gc", "repository"], 0)?;
    }
    ensure!(stored(&site)? == 0, "garbage is left");
    ensure!(packs(&site)?.is_empty());
    let again = site.back_up()?;
    site.check_equal_to_frozen("web", &again)
}

#[test]
fn without_controller_index_and_half_of_the_metadata_everything_is_restored() -> Result<()> {
    let (mut site, point) = Site::protected()?;
    for role in [Role::Proxy, Role::Repository, Role::Controller] {
        site.cluster.stop_role(role)?;
    }
    fs::remove_dir_all(site.cluster.state(Role::Controller))?;
    let store = site.cluster.state(Role::Repository).join("store");
    for gone in ["index", "catalogue", "manifests"] {
        fs::remove_dir_all(store.join(gone))?;
    }
    fs::remove_file(store.join("commit.log"))?;

    let key = site.cluster.dir().join("recovery.key");
    fs::write(&key, &site.cluster.recovery_key)?;
    let out = site.cluster.dir().join("recovered");
    fs::create_dir(&out)?;
    let mut recover = workspace::command("stillwater-repository")?;
    recover
        .arg("recover")
        .arg(&store)
        .arg("--key-file")
        .arg(&key);
    recover
        .args(["-o", "json", "restore", &point])
        .arg("--to")
        .arg(&out);
    let output = recover.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {said}", output.status);
    let restored: Vec<String> = fs::read_dir(&out)?
        .map(|entry| hash(&entry?.path()))
        .collect::<Result<_>>()?;
    for disk in site.lab.last_frozen("web")? {
        ensure!(
            restored.contains(&hash(&disk.file)?),
            "disk {} is not there",
            disk.key
        );
    }
    Ok(())
}
