//! NTFS, as ntfs-3g writes and shows it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use stillwater_guestfs::{FileSystem, Limits, Links, resolve};

use crate::lab::{Image, can_mount, open, run};
use crate::tree::{ALL, Compared, Holds, compare, fill, text};

const HOLDS: Holds = Holds {
    any_names: false,
    attributes: None,
    // ntfs-3g shows what was before 1970 a second too late.
    earliest: 0,
};

const SHOWN: Compared = Compared {
    owners: false,
    attributes: false,
    ..ALL
};

const OPTIONS: &str = "compression,special_files=wsl,streams_interface=xattr";

fn made(options: &[&str]) -> Image {
    let image = Image::new(192);
    run(
        "mkntfs",
        &[&["-F", "-Q", "-q", "-L", "Daten"], options, &[image.path()]].concat(),
    );
    image
}

#[track_caller]
fn check(options: &[&str]) {
    if !can_mount() {
        return;
    }
    let image = made(options);
    {
        let mount = image.mount("ntfs-3g", 0, OPTIONS);
        fill(&mount.path, HOLDS);
        compressed(&mount.path);
        streams(&mount.path);
    }
    let mount = image.mount("ntfs-3g", 0, &format!("ro,{OPTIONS}"));
    let system = open(&image);
    assert_eq!(system.describe().label.as_deref(), Some("Daten"));
    let count = compare(&*system, &mount.path, SHOWN);
    assert!(count > 3000, "{count} names");
    shown_streams(&*system);
}

/// Files in a directory whose files are compressed: that compress well, badly, not at all, with holes.
fn compressed(root: &Path) {
    let directory = root.join("compressed");
    fs::create_dir(&directory).unwrap();
    let path = directory.to_str().unwrap();
    run(
        "setfattr",
        &["-n", "system.ntfs_attrib_be", "-v", "0x00000800", path],
    );
    for (number, length) in (0..).zip([0, 1, 700, 4096, 65_536, 65_537, 300_000, 2_000_000]) {
        fs::write(
            directory.join(format!("text-{length}")),
            text(number, length),
        )
        .unwrap();
        let same = vec![number as u8; length];
        fs::write(directory.join(format!("same-{length}")), same).unwrap();
        let mut noise = Vec::new();
        let mut hash = blake3::Hasher::new().finalize_xof();
        noise.resize(length, 0);
        hash.fill(&mut noise);
        fs::write(directory.join(format!("noise-{length}")), noise).unwrap();
    }
    let sparse = fs::File::create(directory.join("sparse")).unwrap();
    for place in [0, 200_000, 1_000_000] {
        sparse.write_all_at(&text(place, 30_000), place).unwrap();
    }
    sparse.write_all_at(b"again", 210_000).unwrap();
}

fn streams(root: &Path) {
    let path = root.join("links/first");
    for (name, value) in [("user.zone", "[ZoneTransfer]"), ("user.other", "more")] {
        run(
            "setfattr",
            &["-n", name, "-v", value, path.to_str().unwrap()],
        );
    }
}

#[track_caller]
fn shown_streams(system: &dyn FileSystem) {
    let node = resolve(system, b"links/first", Links::All, &Limits::default()).unwrap();
    let mut streams: Vec<_> = system
        .streams(node)
        .unwrap()
        .into_iter()
        .map(|stream| {
            let content = system.open_stream(node, &stream.name).unwrap();
            let mut bytes = vec![0; stream.size as usize];
            content.read_at(0, &mut bytes).unwrap();
            (stream.name, bytes)
        })
        .collect();
    streams.sort();
    let expected = [("other", "more"), ("zone", "[ZoneTransfer]")];
    assert_eq!(
        streams,
        expected.map(|(name, value)| (name.into(), value.into()))
    );
    assert!(system.open_stream(node, b"none").is_err());
    // The guest takes either case for the same name.
    let other = resolve(system, b"LINKS/First", Links::All, &Limits::default()).unwrap();
    assert_eq!(other, node);
}

#[test]
fn ntfs_as_it_is_made_today() {
    check(&[]);
}

#[test]
fn ntfs_with_small_clusters() {
    check(&["-c", "512"]);
}
