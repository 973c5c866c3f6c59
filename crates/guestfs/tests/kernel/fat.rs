//! FAT, as mtools writes it: the kernel may have no driver for it, and nothing has to be mounted.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::lab::{Image, open, run};
use crate::tree::{ALL, Compared, compare, deep, text};

/// Times are even seconds.
const SHOWN: Compared = Compared {
    owners: false,
    attributes: false,
    times: Some(2_000_000_001),
    ..ALL
};

/// mtools with names in UTF-8 and times in UTC.
#[track_caller]
fn mtools(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .envs([
            ("TZ", "UTC"),
            ("LC_ALL", "C.UTF-8"),
            ("MTOOLS_SKIP_CHECK", "1"),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// In directories of a hundred: mtools takes minutes for one of thousands.
fn many_files(root: &Path) {
    for directory in 0..30 {
        let path = root.join(format!("directory-{directory}"));
        fs::create_dir(&path).unwrap();
        for number in 0..100_u64 {
            let length = (number * number * directory % 9000) as usize;
            fs::write(
                path.join(format!("file number {number}")),
                text(number, length),
            )
            .unwrap();
        }
    }
}

#[track_caller]
fn check(kind: &str, mebibytes: u64, options: &[&str], many: bool) {
    let image = Image::new(mebibytes);
    run(
        "mkfs.vfat",
        &[&["-n", "STICK"], options, &[image.path()]].concat(),
    );
    let tree = tempfile::TempDir::new().unwrap();
    let root = tree.path();
    if many {
        many_files(root);
        deep(root);
        fs::write(root.join("large"), text(5, 9 << 20)).unwrap();
    }
    let names = root.join("names");
    fs::create_dir(&names).unwrap();
    let long = "n".repeat(250);
    for name in [
        long.as_str(),
        "UPPER.TXT",
        "lower.txt",
        "Mixed.Txt",
        "ümlaut-日本語",
        "x.y.z",
    ] {
        fs::write(names.join(name), name).unwrap();
    }
    let path = |name: &str| root.join(name).to_str().unwrap().to_owned();
    // What is removed leaves gaps, which the last file fills.
    for number in 0..200 {
        fs::write(root.join(format!("gap-{number}")), text(number, 3000)).unwrap();
    }
    let mut all: Vec<String> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .collect();
    all.sort();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    mtools(
        "mcopy",
        &[
            &["-s", "-m", "-Q", "-i", image.path()],
            all.as_slice(),
            &["::/"],
        ]
        .concat(),
    );
    for number in (0..200).step_by(2) {
        fs::remove_file(root.join(format!("gap-{number}"))).unwrap();
        mtools("mdel", &["-i", image.path(), &format!("::/gap-{number}")]);
    }
    fs::write(path("last"), text(9, 400_000)).unwrap();
    mtools("mcopy", &["-m", "-i", image.path(), &path("last"), "::/"]);
    let system = open(&image);
    let description = system.describe();
    assert_eq!(description.kind, kind);
    assert_eq!(description.label.as_deref(), Some("STICK"));
    let count = compare(&*system, root, SHOWN);
    assert!(count > if many { 3000 } else { 100 }, "{count} names");
}

#[test]
fn fat32_of_a_boot_partition() {
    check("fat32", 160, &["-F", "32"], true);
}

#[test]
fn fat16_of_a_small_disk() {
    check("fat16", 100, &["-F", "16", "-r", "1024"], true);
}

#[test]
fn fat12_of_a_floppy() {
    check("fat12", 3, &["-F", "12", "-r", "512"], false);
}
