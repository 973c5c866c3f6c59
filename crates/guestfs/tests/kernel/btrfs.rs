//! btrfs, with and without compression.

use crate::lab::{Image, can_mount, open, run};
use crate::tree::{ALL, Holds, compare, fill};

const HOLDS: Holds = Holds {
    any_names: true,
    attributes: Some(3000),
    earliest: i64::MIN,
};

#[track_caller]
fn check(make: &[&str], options: &str) {
    if !can_mount() {
        return;
    }
    let image = Image::new(256);
    run(
        "mkfs.btrfs",
        &[&["-q", "-f", "-L", "pool"], make, &[image.path()]].concat(),
    );
    let mount = image.mount("btrfs", 0, &format!("rw,{options}"));
    fill(&mount.path, HOLDS);
    let subvolume = mount.path.join("subvolume");
    run(
        "btrfs",
        &["-q", "subvolume", "create", subvolume.to_str().unwrap()],
    );
    std::fs::write(subvolume.join("inside"), "of a subvolume").unwrap();
    let wide = mount.path.join("deep");
    let copy = mount.path.join("copied");
    run(
        "cp",
        &[
            "-a",
            "--reflink=always",
            wide.to_str().unwrap(),
            copy.to_str().unwrap(),
        ],
    );
    run("sync", &["-f", mount.path.to_str().unwrap()]);
    let cut = image.snapshot();
    let system = open(&cut);
    assert_eq!(system.describe().label.as_deref(), Some("pool"));
    let count = compare(&*system, &mount.path, ALL);
    assert!(count > 3000, "{count} names");
}

#[test]
fn btrfs_as_it_is_made_today() {
    check(&[], "noatime");
}

#[test]
fn btrfs_compressed_by_zstd() {
    check(&["-n", "4096", "-M"], "compress-force=zstd");
}

#[test]
fn btrfs_compressed_by_zlib() {
    check(&["-O", "^no-holes"], "compress-force=zlib");
}
