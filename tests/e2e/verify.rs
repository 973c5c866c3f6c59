//! Points are proved with the key, and what a repository cannot see by itself is seen.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stillwater_format::commit;
use stillwater_format::log::Scanner;
use stillwater_format::pack::{
    Builder, Codec, HEADER_LEN, Header, RecordHeader, RecordKind, SALT_LEN, scan,
};
use stillwater_seal::{ChunkContext, DatasetKey, RecoveryKey, Sealer, WrappedDatasetKey};
use stillwater_tests::Site;
use stillwater_tests::cluster::Role;
use stillwater_types::{ChunkId, DatasetId};

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

fn store(site: &Site) -> PathBuf {
    site.cluster.state(Role::Repository).join("store")
}

/// The longest pack of the repository.
fn pack(site: &Site) -> Result<PathBuf> {
    let mut packs = Vec::new();
    for fan in fs::read_dir(store(site).join("packs"))? {
        for entry in fs::read_dir(fan?.path())? {
            let path = entry?.path();
            packs.push((fs::metadata(&path)?.len(), path));
        }
    }
    packs.sort();
    packs.pop().map(|(_, path)| path).context("a pack")
}

/// Changes the repository's files while it is stopped.
fn behind_its_back(site: &mut Site, change: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    site.cluster.stop_role(Role::Repository)?;
    change(site)?;
    site.cluster.start_role(Role::Repository)?;
    site.cluster.wait_online(2)
}

/// What a verification says of a point that is damaged.
fn check_damaged(site: &Site, point: &str) -> Result<Value> {
    let found = ends(site, &["point", "verify", point], 1)?;
    let run = &found[0];
    ensure!(run["state"] == "failed", "{found:#}");
    ensure!(run["fault"]["reason"] == "CHUNK_HASH_MISMATCH", "{found:#}");
    ensure!(
        run["verify_point"]["damaged_chunk_count"].as_u64() > Some(0),
        "{found:#}"
    );
    let part = &run["warnings"][0]["details"];
    ensure!(
        part["disk"].is_string() && part["offset_bytes"].is_string(),
        "{found:#}"
    );
    let shown = site.cluster.json(&["point", "show", point])?;
    ensure!(
        shown["verification"]["damaged_bytes"] == run["verify_point"]["damaged_bytes"],
        "{shown:#}"
    );
    Ok(found)
}

#[test]
fn a_point_is_proved_with_the_key_and_says_since_when() -> Result<()> {
    let (mut site, point) = Site::protected()?;
    let before = site.cluster.json(&["point", "show", &point])?;
    ensure!(before["verification"].is_null(), "{before:#}");
    let proved = ends(&site, &["point", "verify", "--vm", "web"], 0)?;
    let run = &proved[0];
    ensure!(run["state"] == "succeeded", "{proved:#}");
    ensure!(run["verify_point"]["damaged_bytes"] == 0, "{proved:#}");
    for disk in run["disks"].as_array().context("disks")? {
        ensure!(disk["done_bytes"] == disk["length_bytes"], "{disk:#}");
        ensure!(disk["sent_bytes"] == 0, "something was written: {disk:#}");
    }
    let told = |site: &Site| -> Result<Value> {
        let shown = site.cluster.json(&["point", "show", &point])?;
        let listed = site.cluster.json(&["point", "list"])?;
        ensure!(
            shown["verification"] == listed[0]["verification"],
            "{listed:#}"
        );
        Ok(shown["verification"].clone())
    };
    let after = told(&site)?;
    ensure!(after["run_id"] == run["run_id"], "{after:#}");
    site.cluster.stop_role(Role::Controller)?;
    site.cluster.start_role(Role::Controller)?;
    site.cluster.wait_online(2)?;
    ensure!(told(&site)? == after, "forgotten by a restart");
    Ok(())
}

#[test]
fn a_flipped_byte_is_seen_with_the_key_and_without_it() -> Result<()> {
    let (mut site, point) = Site::protected()?;
    behind_its_back(&mut site, |site| {
        let path = pack(site)?;
        let file = fs::File::options().read(true).write(true).open(path)?;
        let middle = file.metadata()?.len() / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, middle)?;
        file.write_all_at(&byte.map(|byte| byte ^ 1), middle)?;
        Ok(file.sync_all()?)
    })?;
    check_damaged(&site, &point)?;
    let stored = ends(&site, &["point", "verify", "--stored", &point], 1)?;
    ensure!(stored["result"]["whole"] == false, "{stored:#}");
    Ok(())
}

/// The dataset's key, which nothing but the recovery key gives out.
fn dataset_key(site: &Site) -> Result<(DatasetId, DatasetKey)> {
    let key: RecoveryKey = site.cluster.recovery_key.parse()?;
    let log = fs::read(store(site).join("commit.log"))?;
    let mut frames = Scanner::new(&log);
    while let Some(frame) = frames
        .read()
        .map_err(|error| anyhow::anyhow!("{error:?}"))?
    {
        if let commit::Entry::Dataset(dataset) = commit::Entry::decode(frame.kind, frame.payload)? {
            let wrapped = WrappedDatasetKey::from_slice(&dataset.wrapped_key)?;
            return Ok((dataset.id, key.unwrap(dataset.id, &wrapped)?));
        }
    }
    anyhow::bail!("the log tells of no dataset")
}

/// Writes a pack again with one chunk whose stored bytes hash right, that is sealed with the right
/// key, and that holds other bytes than its id says.
fn forge(path: &Path, dataset: DatasetId, key: &DatasetKey) -> Result<()> {
    let bytes = fs::read(path)?;
    let header = Header::decode(bytes.first_chunk::<HEADER_LEN>().context("a header")?)?;
    let mut sealer = Sealer::new(key, dataset)?;
    let mut salt = [0; SALT_LEN];
    salt.copy_from_slice(sealer.salt());
    let slot = 999;
    let (mut builder, head) = Builder::begin(&header);
    let mut out = head.to_vec();
    let mut add = |header: RecordHeader, stored: &[u8]| -> Result<()> {
        out.extend_from_slice(&builder.append(&header, stored)?);
        out.extend_from_slice(stored);
        Ok(())
    };
    add(RecordHeader::salt(slot, &salt), &salt)?;
    let mut forged = false;
    for (entry, stored) in scan(&bytes) {
        let id = ChunkId::from_bytes(entry.id);
        let header = match entry.kind {
            RecordKind::Salt => RecordHeader::salt(entry.slot, &entry.id),
            RecordKind::Node => RecordHeader::node(stored)?,
            RecordKind::Chunk if !forged => {
                forged = true;
                let context = ChunkContext {
                    codec: Codec::Raw.number(),
                    id,
                    plain_len: entry.plain_len,
                };
                let wrong = vec![0x5a; entry.plain_len as usize];
                let sealed = sealer.stamp()?.seal(&context, wrong)?;
                let stored = sealed.stored;
                let counter = sealed.counter;
                let header =
                    RecordHeader::chunk(id, Codec::Raw, slot, counter, entry.plain_len, &stored)?;
                add(header, &stored)?;
                continue;
            }
            RecordKind::Chunk => RecordHeader::chunk(
                id,
                entry.codec,
                entry.slot,
                entry.counter,
                entry.plain_len,
                stored,
            )?,
        };
        add(header, stored)?;
    }
    ensure!(forged, "the pack has no chunk");
    let (end, _) = builder.finish();
    out.extend_from_slice(&end);
    Ok(fs::write(path, out)?)
}

#[test]
fn wrong_bytes_that_are_well_sealed_are_seen_with_the_key_only() -> Result<()> {
    let (mut site, point) = Site::protected()?;
    behind_its_back(&mut site, |site| {
        let (dataset, key) = dataset_key(site)?;
        forge(&pack(site)?, dataset, &key)?;
        // It says where records were; it is built again from the packs.
        Ok(fs::remove_dir_all(store(site).join("index"))?)
    })?;
    let stored = ends(&site, &["point", "verify", "--stored", &point], 0)?;
    ensure!(stored["result"]["whole"] == true, "{stored:#}");
    ends(&site, &["repository", "scrub", "repository", "--all"], 0)?;
    let found = check_damaged(&site, &point)?;
    ensure!(
        found[0]["verify_point"]["damaged_chunk_count"] == 1,
        "{found:#}"
    );
    Ok(())
}
