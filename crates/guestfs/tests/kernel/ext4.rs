//! ext2, ext3 and ext4.

use std::fs;

use stillwater_guestfs::{Limits, Links, resolve};

use crate::lab::{Image, can_mount, open, run};
use crate::tree::{ALL, Holds, compare, fill, text};

const HOLDS: Holds = Holds {
    any_names: true,
    attributes: Some(800),
    earliest: i64::MIN,
};

/// Makes, fills and unmounts, then holds what we read against a fresh mount.
#[track_caller]
fn check(kind: &str, options: &[&str]) {
    if !can_mount() {
        return;
    }
    let image = Image::new(192);
    run(
        "mke2fs",
        &[
            &["-q", "-F", "-N", "8192", "-t", kind],
            options,
            &[image.path()],
        ]
        .concat(),
    );
    fill(&image.mount(kind, 0, "rw").path, HOLDS);
    let mount = image.mount(kind, 0, "ro");
    let system = open(&image);
    assert_eq!(system.describe().kind, kind);
    let count = compare(&*system, &mount.path, ALL);
    assert!(count > 3000, "{count} names");
}

#[test]
fn ext4_as_it_is_made_today() {
    check("ext4", &["-L", "root"]);
}

#[test]
fn ext4_with_small_blocks_and_inline_data() {
    check(
        "ext4",
        &[
            "-b",
            "1024",
            "-O",
            "inline_data,meta_bg,^resize_inode",
            "-I",
            "256",
        ],
    );
}

#[test]
fn ext3_with_its_indirect_blocks() {
    check("ext3", &["-b", "1024", "-I", "256"]);
}

#[test]
fn ext2_as_it_was() {
    check("ext2", &["-O", "^dir_index", "-I", "256"]);
}

/// What a power cut leaves: all is in the journal, little is in place.
#[track_caller]
fn check_dirty(options: &[&str], mount_options: &str) {
    if !can_mount() {
        return;
    }
    let image = Image::new(192);
    run(
        "mke2fs",
        &[&["-q", "-F", "-t", "ext4"], options, &[image.path()]].concat(),
    );
    let mount = image.mount("ext4", 0, mount_options);
    fill(&mount.path, HOLDS);
    run("sync", &["-f", mount.path.to_str().unwrap()]);
    for number in 0..500 {
        let path = mount.path.join(format!("wide/late-{number}"));
        fs::write(path, text(number, 3000)).unwrap();
    }
    fs::remove_dir_all(mount.path.join("names")).unwrap();
    run("sync", &["-f", mount.path.to_str().unwrap()]);
    let cut = image.snapshot();
    let features = run("dumpe2fs", &["-h", cut.path()]);
    assert!(features.contains("needs_recovery"), "{features}");
    let count = compare(&*open(&cut), &mount.path, ALL);
    assert!(count > 3000, "{count} names");
}

#[test]
fn a_journal_that_was_not_played_back_is_played_back() {
    check_dirty(&[], "rw");
}

#[test]
fn a_journal_with_data_and_old_tags_is_played_back() {
    check_dirty(&["-O", "^metadata_csum,^64bit"], "rw,data=journal");
}

#[test]
fn paths_lead_over_links_and_never_out() {
    if !can_mount() {
        return;
    }
    let image = Image::new(192);
    run("mke2fs", &["-q", "-F", "-t", "ext4", image.path()]);
    fill(&image.mount("ext4", 0, "rw").path, HOLDS);
    let system = open(&image);
    let limits = Limits::default();
    let find = |path: &str, links| resolve(&*system, path.as_bytes(), links, &limits);
    let target = find("wide/0", Links::OnTheWay).unwrap();
    assert_eq!(find("/links/absolute", Links::All).unwrap(), target);
    assert_eq!(
        find("../../links/.././links/relative", Links::All).unwrap(),
        target
    );
    assert_ne!(find("links/absolute", Links::OnTheWay).unwrap(), target);
    assert!(find("links/round", Links::All).is_err());
    assert!(find("links/first/x", Links::All).is_err());
    assert!(find("nowhere", Links::All).is_err());
}

/// Blocks of directories that went into the journal, were given back, and hold a file's content now: that goes
/// past the journal, and playing back the directories would stand over it.
#[test]
fn what_a_journal_revokes_is_not_played_back_over_what_came_after() {
    if !can_mount() {
        return;
    }
    let image = Image::new(48);
    run(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "1024",
            "-J",
            "size=16",
            image.path(),
        ],
    );
    let mount = image.mount("ext4", 0, "rw,commit=300");
    let sync = || run("sync", &["-f", mount.path.to_str().unwrap()]);
    let path = |name: &str| mount.path.join(name);
    for number in 0..2000 {
        fs::create_dir(path(&format!("directory-{number}"))).unwrap();
    }
    sync();
    for number in 0..2000 {
        fs::remove_dir(path(&format!("directory-{number}"))).unwrap();
    }
    sync();
    // All room that there is, so that what was given back is taken.
    let mut file = fs::File::create(path("full")).unwrap();
    let block = text(1, 1 << 16);
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    sync();
    let expected = fs::read(path("full")).unwrap();
    let cut = image.snapshot();
    let features = run("dumpe2fs", &["-h", cut.path()]);
    assert!(features.contains("needs_recovery"), "{features}");
    let logged = run("debugfs", &["-R", "logdump -a", cut.path()]);
    assert!(logged.contains("revoke"), "{logged}");
    let system = open(&cut);
    let limits = Limits::default();
    let node = resolve(&*system, b"full", Links::All, &limits).unwrap();
    let mut ours = vec![0; expected.len()];
    let content = system.open(node).unwrap();
    assert_eq!(content.length(), expected.len() as u64);
    assert_eq!(content.read_at(0, &mut ours).unwrap(), expected.len());
    assert!(ours == expected, "content differs");
}
