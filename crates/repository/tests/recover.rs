//! `stillwater-repository recover` as its user meets it, on the golden repository.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its setting too")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const POINT: &str = "019b0000-0001-7000-8000-000000000001";
const DELETED: &str = "019b0000-0004-7000-8000-000000000004";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/compat/v1")
}

fn expected() -> Value {
    serde_json::from_slice(&fs::read(golden().join("expected.json")).unwrap()).unwrap()
}

fn key() -> String {
    expected()["recovery_key"].as_str().unwrap().to_owned()
}

/// The hash that a disk of a point must have.
fn hash(point: &str, key: i64) -> String {
    let expected = expected();
    let points = expected["points"].as_array().unwrap();
    let point = points
        .iter()
        .find(|known| known["point_id"] == point)
        .unwrap();
    let disks = point["disks"].as_array().unwrap();
    let disk = disks.iter().find(|disk| disk["key"] == key).unwrap();
    disk["blake3"].as_str().unwrap().to_owned()
}

fn hash_of(path: &Path) -> String {
    blake3::hash(&fs::read(path).unwrap()).to_hex().to_string()
}

fn recover(repository: &Path, arguments: &[&str]) -> Output {
    let key = key();
    run(
        repository,
        &[&["--key", key.as_str()], arguments].concat(),
        "",
    )
}

fn run(repository: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_stillwater-repository"))
        .arg("recover")
        .arg(repository)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn check(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    assert!(!err.contains(&key()), "the key is told");
    (out, err)
}

/// A copy of the golden repository without the largest pack.
fn damaged() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("cp")
        .args(["-r", golden().join("repository").to_str().unwrap()])
        .arg(dir.path().join("repository"))
        .status()
        .unwrap();
    assert!(status.success());
    let mut packs = Vec::new();
    for fan in fs::read_dir(dir.path().join("repository/packs")).unwrap() {
        packs.extend(
            fs::read_dir(fan.unwrap().path())
                .unwrap()
                .map(|pack| pack.unwrap().path()),
        );
    }
    packs.sort_by_key(|pack| pack.metadata().unwrap().len());
    fs::remove_file(packs.last().unwrap()).unwrap();
    dir
}

#[test]
fn points_are_listed_and_deleted_ones_only_when_asked_for() {
    let repository = golden().join("repository");
    let (table, notes) = check(&recover(&repository, &["list"]), 0);
    assert_eq!(notes, "");
    assert!(table.starts_with("POINT") && table.contains(POINT) && !table.contains(DELETED));
    let (json, _) = check(
        &recover(&repository, &["list", "--deleted", "--output", "json"]),
        0,
    );
    let json: Value = serde_json::from_str(&json).unwrap();
    let points = json["points"].as_array().unwrap();
    assert_eq!(points.len(), expected()["points"].as_array().unwrap().len());
    assert!(
        points.iter().all(|point| point["state"] == "whole"),
        "{points:?}"
    );
    assert_eq!(
        points
            .iter()
            .filter(|point| !point["deleted_at"].is_null())
            .count(),
        1
    );
    assert_eq!(points[0]["disks"][0]["length_bytes"], 32 << 20);
}

#[test]
fn the_key_may_come_from_a_file_or_standard_input_and_must_come() {
    let repository = golden().join("repository");
    check(
        &run(
            &repository,
            &["--key", "-", "list"],
            &format!("{}\n", key()),
        ),
        0,
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    fs::write(&file, key().to_lowercase()).unwrap();
    check(
        &run(
            &repository,
            &["list", "--key-file", file.to_str().unwrap()],
            "",
        ),
        0,
    );
    check(&run(&repository, &["list"], ""), 2);
    check(&run(&repository, &["--key", "SWRK1-0000", "list"], ""), 2);
}

#[test]
fn a_point_is_restored_with_what_is_known_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("mail");
    let ask = [
        "restore",
        POINT,
        "--to",
        to.to_str().unwrap(),
        "--output",
        "json",
    ];
    let (told, _) = check(&recover(&golden().join("repository"), &ask), 0);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["outcome"], "restored");
    for key in [2000, 2001] {
        assert_eq!(
            hash_of(&to.join(format!("disk-{key}.raw"))),
            hash(POINT, key)
        );
    }
    let config = fs::read_to_string(to.join("config.xml")).unwrap();
    assert_eq!(config, "<config><name>mail</name></config>");
    let point: Value = serde_json::from_slice(&fs::read(to.join("point.json")).unwrap()).unwrap();
    assert_eq!(point, told);
    assert_eq!(fs::read_dir(&to).unwrap().count(), 4);
    let (_, refused) = check(&recover(&golden().join("repository"), &ask), 1);
    assert!(refused.contains("nothing is overwritten"), "{refused}");
}

#[test]
fn one_disk_is_restored_to_a_vmdk_that_qemu_img_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.vmdk");
    let to = path.to_str().unwrap();
    let ask = [
        "restore", POINT, "--disk", "2001", "--to", to, "--format", "vmdk",
    ];
    check(&recover(&golden().join("repository"), &ask), 0);
    let raw = dir.path().join("disk.raw");
    let convert = Command::new("qemu-img")
        .args(["convert", "-O", "raw", to])
        .arg(&raw)
        .status();
    assert!(convert.unwrap().success());
    assert_eq!(hash_of(&raw), hash(POINT, 2001));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_deleted_point_is_refused_unless_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.raw");
    let ask = [
        "restore",
        DELETED,
        "--disk",
        "2000",
        "--to",
        path.to_str().unwrap(),
    ];
    let repository = golden().join("repository");
    let (_, refused) = check(&recover(&repository, &ask), 1);
    assert!(refused.contains("--deleted"), "{refused}");
    check(
        &recover(&repository, &[&ask[..], &["--deleted"]].concat()),
        0,
    );
    assert_eq!(hash_of(&path), hash(DELETED, 2000));
}

#[test]
fn lost_content_fails_by_name_and_leaves_nothing_or_is_zeros_and_no_success() {
    let damaged = damaged();
    let repository = damaged.path().join("repository");
    let (table, _) = check(&recover(&repository, &["list"]), 0);
    assert!(table.contains("damaged: 32.0 MiB lost"), "{table}");
    let to = damaged.path().join("out");
    let ask = ["restore", POINT, "--to", to.to_str().unwrap()];
    let (out, err) = check(&recover(&repository, &ask), 1);
    assert_eq!(out, "");
    assert!(
        err.contains("disk 2000: 33554432 bytes are lost at 0"),
        "{err}"
    );
    assert!(err.contains("[POINT_DEGRADED]"), "{err}");
    assert!(!to.exists());
    let (out, err) = check(
        &recover(&repository, &[&ask[..], &["--fill-zeros"]].concat()),
        3,
    );
    assert!(
        out.contains("disk 2000: 33554432 bytes at 0 are zero-filled"),
        "{out}"
    );
    assert!(err.contains("do not take these disks for whole"), "{err}");
    assert_eq!(hash_of(&to.join("disk-2001.raw")), hash(POINT, 2001));
    let point: Value = serde_json::from_slice(&fs::read(to.join("point.json")).unwrap()).unwrap();
    assert_eq!(point["outcome"], "zero_filled");
}

#[test]
fn a_repository_that_may_not_be_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = golden().join("repository/commit.log");
    let before = fs::metadata(&log).unwrap().modified().unwrap();
    let to = dir.path().join("disk.raw");
    let ask = [
        "restore",
        POINT,
        "--disk",
        "2001",
        "--to",
        to.to_str().unwrap(),
    ];
    check(&recover(&golden().join("repository"), &ask), 0);
    assert_eq!(fs::metadata(&log).unwrap().modified().unwrap(), before);
    assert!(!golden().join("repository/lock").exists());
    assert!(!golden().join("repository/tmp").exists());
}
