//! XFS, closed and not.

use std::fs;
use std::ops::Range;
use std::path::Path;

use rustix::fs as sys;

use crate::lab::{Image, can_mount, open, run};
use crate::tree::{ALL, Holds, compare, fill, text};

const HOLDS: Holds = Holds {
    any_names: true,
    attributes: Some(20_000),
    earliest: i64::MIN,
};

/// XFS takes no smaller disk.
const MEBIBYTES: u64 = 320;

fn made(options: &[&str]) -> Image {
    let image = Image::new(MEBIBYTES);
    // Without these mkfs makes no log that is small enough to go round in a test.
    let begin = [
        "TEST_DIR=x",
        "TEST_DEV=x",
        "QA_CHECK_FS=x",
        "mkfs.xfs",
        "-q",
        "-f",
        "-L",
        "data",
    ];
    run("env", &[&begin, options, &[image.path()]].concat());
    image
}

#[track_caller]
fn check(options: &[&str]) {
    if !can_mount() {
        return;
    }
    let image = made(options);
    fill(&image.mount("xfs", 0, "rw").path, HOLDS);
    let mount = image.mount("xfs", 0, "ro");
    let system = open(&image);
    assert_eq!(system.describe().label.as_deref(), Some("data"));
    let count = compare(&*system, &mount.path, ALL);
    assert!(count > 3000, "{count} names");
}

#[test]
fn xfs_as_it_is_made_today() {
    check(&[]);
}

#[test]
fn xfs_with_small_blocks_and_old_times() {
    check(&["-b", "size=1024", "-m", "bigtime=0", "-n", "size=4096"]);
}

#[test]
fn xfs_with_large_inodes_and_many_extents() {
    check(&["-i", "size=2048,nrext64=1", "-n", "size=65536"]);
}

/// Changes of all sorts after much was put in place: growing, shrinking, removing, naming anew.
fn change(root: &Path, round: u64) {
    for number in 0..1400 {
        let path = root.join(format!("wide/late-{round}-{number}"));
        fs::write(path, text(number, 100 + number as usize)).unwrap();
    }
    if round > 0 {
        for number in (0..1400).step_by(2) {
            fs::remove_file(root.join(format!("wide/late-{}-{number}", round - 1))).unwrap();
        }
    }
    let moved = root.join(format!("moved-{round}"));
    fs::create_dir(&moved).unwrap();
    // There are as many as fifteen rounds can take.
    for number in (1..80).filter(|_| round < 15) {
        let name = format!(
            "wide/file-{:05}-with-a-name-of-some-length.txt",
            (round * 90 + number) * 2 + 1
        );
        fs::rename(root.join(name), moved.join(format!("{number}"))).unwrap();
    }
    let large = fs::File::options()
        .write(true)
        .open(root.join("large"))
        .unwrap();
    large.set_len((7 << 20) - round * 100_000).unwrap();
    let path = root.join("attributes/one");
    let value = text(round, 200 * (round as usize % 15 + 1));
    sys::lsetxattr(
        path.as_path(),
        "user.late",
        &value,
        sys::XattrFlags::empty(),
    )
    .unwrap();
    let name = format!("late-{round}");
    std::os::unix::fs::symlink("l".repeat(700), root.join("links").join(name)).unwrap();
}

/// What a power cut leaves after each of the rounds in `looked`. With `until_round` it ends as soon as the log was
/// met with its end behind its beginning, which depends on how quickly the kernel puts things in place, and has to
/// come to that.
#[track_caller]
fn check_dirty(options: &[&str], looked: Range<u64>, until_round: bool) {
    let image = made(options);
    let mount = image.mount("xfs", 0, "rw");
    fill(&mount.path, HOLDS);
    let mut went_round = false;
    for round in 0..looked.end {
        change(&mount.path, round);
        run("sync", &["-f", mount.path.to_str().unwrap()]);
        if !looked.contains(&round) {
            continue;
        }
        let cut = image.snapshot();
        let state = run("xfs_logprint", &["-t", cut.path()]);
        assert!(state.contains("<DIRTY>"), "{state}");
        let number = |name: &str| -> u64 {
            let from = state.split(name).nth(1).unwrap();
            from.split_whitespace().next().unwrap().parse().unwrap()
        };
        went_round |= number("log tail:") > number("head:");
        let count = compare(&*open(&cut), &mount.path, ALL);
        assert!(count > 3000, "{count} names");
        if went_round && until_round {
            break;
        }
    }
    assert!(went_round || !until_round, "the log never went round");
}

#[test]
fn a_log_that_was_not_played_back_is_played_back() {
    if can_mount() {
        check_dirty(&[], 0..3, false);
    }
}

#[test]
fn a_log_that_goes_round_is_played_back() {
    if can_mount() {
        check_dirty(&["-l", "size=2560b", "-m", "bigtime=0"], 9..40, true);
    }
}
