//! Damaged images of every file system: whatever stands there, nothing panics, nothing goes on for ever.
//!
//! Everything follows from the number of the case. `GUESTFS_DAMAGE_SECONDS` makes each target go on for so long.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs as sys;
use stillwater_guestfs::{BlockSource, Cursor, Disk, FileSystem, Kind, Limits, Node, volumes};

use crate::lab::{Image, can_mount, run};
use crate::tree::text;

/// Cases of a target when nobody asks for more.
const CASES: u64 = 150;
/// What one case may take on the slowest machine that there is.
const CASE_MAX: Duration = Duration::from_secs(20);
/// Nodes that one case looks at.
const NODES_MAX: usize = 600;

/// An image with some bytes replaced.
struct Damaged {
    bytes: Arc<Vec<u8>>,
    patches: Vec<(u64, Vec<u8>)>,
}

impl BlockSource for Damaged {
    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.bytes.read_at(offset, buffer)?;
        let end = offset + buffer.len() as u64;
        for (at, patch) in &self.patches {
            for (place, byte) in (*at..).zip(patch) {
                if (offset..end).contains(&place) {
                    buffer[(place - offset) as usize] = *byte;
                }
            }
        }
        Ok(())
    }
}

/// A generator that everybody can repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

/// One to six places in blocks that hold something: a bit, a number at an edge, a piece of another block.
fn damage(bytes: &[u8], written: &[u64], random: &mut Random) -> Vec<(u64, Vec<u8>)> {
    const EDGES: [u64; 9] = [
        0,
        1,
        0x7f,
        0xff,
        0x7fff,
        0xffff,
        0x7fff_ffff,
        0xffff_ffff,
        u64::MAX,
    ];
    let mut patches = Vec::new();
    for _ in 0..=random.below(6) {
        let block = written[random.below(written.len() as u64) as usize];
        let at = block + random.below(512);
        let old = bytes[at as usize];
        let edge = EDGES[random.below(EDGES.len() as u64) as usize];
        let width = 1 << random.below(4);
        let little = edge.to_le_bytes()[..width].to_vec();
        let patch = match random.below(5) {
            0 => vec![old ^ 1 << random.below(8)],
            1 => vec![random.below(256) as u8],
            2 => little,
            3 => little.into_iter().rev().collect(),
            _ => {
                let other = written[random.below(written.len() as u64) as usize] as usize;
                let length = 1 << random.below(10);
                bytes[other..(other + length).min(bytes.len())].to_vec()
            }
        };
        let room = bytes.len() as u64 - at;
        let patch = patch[..patch.len().min(room as usize)].to_vec();
        patches.push((at, patch));
    }
    patches
}

/// Looks at everything that can be looked at, and takes every error.
fn look(disk: Disk) -> usize {
    let limits = Limits {
        cache_bytes: 4 << 20,
        metadata_bytes: 64 << 20,
        ..Limits::default()
    };
    let mut nodes = 0;
    for volume in volumes(&[disk], &limits).unwrap_or_default() {
        let Ok(system) = volume.open() else { continue };
        let described = system.describe();
        assert!(!described.kind.is_empty());
        nodes += walk(&*system);
    }
    nodes
}

fn walk(system: &dyn FileSystem) -> usize {
    let mut ahead = vec![system.root()];
    let mut nodes = 0;
    while let Some(node) = ahead.pop().filter(|_| nodes < NODES_MAX) {
        nodes += 1;
        look_at(system, node);
        let mut from = Some(Cursor::default());
        let mut pages = 0;
        while let Some(cursor) = from.take().filter(|_| pages < 50) {
            pages += 1;
            let Ok(page) = system.read_dir(node, cursor) else {
                break;
            };
            ahead.extend(page.entries.iter().map(|entry| entry.node).take(NODES_MAX));
            from = page.next;
        }
    }
    nodes
}

fn look_at(system: &dyn FileSystem, node: Node) {
    let Ok(metadata) = system.metadata(node) else {
        return;
    };
    if metadata.kind == Kind::Link {
        drop(system.read_link(node));
    }
    drop(system.attributes(node));
    let mut contents = vec![system.open(node)];
    for stream in system.streams(node).unwrap_or_default() {
        contents.push(system.open_stream(node, &stream.name));
    }
    let mut buffer = vec![0; 70_000];
    for content in contents.into_iter().flatten() {
        let length = content.length();
        for at in [
            0,
            length / 2,
            length.saturating_sub(9),
            length,
            u64::MAX - 1,
        ] {
            let count = content.read_at(at, &mut buffer).unwrap_or(0);
            assert!(
                count as u64 <= length.saturating_sub(at),
                "{count} at {at} of {length}"
            );
            let run = content.run_at(at);
            assert!(
                run.length <= length.saturating_sub(at),
                "{run:?} at {at} of {length}"
            );
        }
    }
}

#[track_caller]
fn check(image: &Image, whole: usize) {
    let bytes = Arc::new(fs::read(image.path()).unwrap());
    let written: Vec<u64> = bytes
        .chunks(512)
        .zip((0..).step_by(512))
        .filter(|(block, _)| block.iter().any(|&byte| byte != 0) && block.len() == 512)
        .map(|(_, at)| at)
        .collect();
    let undamaged = look(Arc::new(Damaged {
        bytes: Arc::clone(&bytes),
        patches: Vec::new(),
    }));
    assert!(undamaged >= whole, "{undamaged} nodes");
    let seconds = std::env::var("GUESTFS_DAMAGE_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let began = Instant::now();
    let goes_on = |case: u64| match seconds {
        Some(seconds) => began.elapsed() < Duration::from_secs(seconds),
        None => case < CASES,
    };
    let mut case = 0;
    let mut panics = Vec::new();
    while goes_on(case) {
        let mut random = Random(case.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let patches = damage(&bytes, &written, &mut random);
        let disk = Arc::new(Damaged {
            bytes: Arc::clone(&bytes),
            patches: patches.clone(),
        });
        let start = Instant::now();
        let outcome = std::panic::catch_unwind(|| look(disk));
        let taken = start.elapsed();
        if outcome.is_err() {
            panics.push((case, patches.clone()));
        }
        assert!(taken < CASE_MAX, "case {case} takes {taken:?}: {patches:?}");
        case += 1;
    }
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    eprintln!("{name}: {case} cases, {} panics", panics.len());
    assert!(panics.is_empty(), "{panics:?}");
}

/// A few files of all kinds.
fn few(root: &Path, attributes: bool) {
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    for number in 0..150 {
        let directory = root.join(["", "a", "a/b", "a/b/c"][number % 4]);
        let path = directory.join(format!("a file of a certain name {number}"));
        fs::write(&path, text(number as u64, number * 61)).unwrap();
        if attributes && number % 5 == 0 {
            let value = text(1, number * 3);
            sys::lsetxattr(
                path.as_path(),
                "user.some",
                &value,
                sys::XattrFlags::empty(),
            )
            .unwrap();
        }
    }
    symlink("l".repeat(200), root.join("long")).unwrap();
    symlink("a", root.join("short")).unwrap();
    let files = [0, 1].map(|number| File::create(root.join(format!("split-{number}"))).unwrap());
    for block in 0..40 {
        for file in &files {
            file.write_all_at(&text(block, 4096), block * 12_288)
                .unwrap();
            sys::fdatasync(file).unwrap();
        }
    }
}

/// Fills a fresh image; what is mounted when it is taken has an open journal.
fn filled(
    mebibytes: u64,
    program: &str,
    options: &[&str],
    kind: &str,
    mount_options: &str,
) -> Image {
    let image = Image::new(mebibytes);
    run(
        "env",
        &[
            &["TEST_DIR=x", "TEST_DEV=x", "QA_CHECK_FS=x", program],
            options,
            &[image.path()],
        ]
        .concat(),
    );
    let mount = image.mount(kind, 0, mount_options);
    few(&mount.path, kind != "ntfs-3g");
    if kind == "ntfs-3g" {
        let path = mount.path.join("compressed");
        fs::create_dir(&path).unwrap();
        run(
            "setfattr",
            &[
                "-n",
                "system.ntfs_attrib_be",
                "-v",
                "0x00000800",
                path.to_str().unwrap(),
            ],
        );
        for number in 0..20 {
            fs::write(
                path.join(format!("{number}")),
                text(number, 30_000 * number as usize),
            )
            .unwrap();
        }
        drop(mount);
        return image;
    }
    run("sync", &["-f", mount.path.to_str().unwrap()]);
    image.snapshot()
}

#[test]
fn damaged_ext4_never_panics() {
    if can_mount() {
        check(
            &filled(
                16,
                "mke2fs",
                &[
                    "-q",
                    "-F",
                    "-t",
                    "ext4",
                    "-O",
                    "inline_data",
                    "-J",
                    "size=2",
                ],
                "ext4",
                "rw",
            ),
            150,
        );
    }
}

#[test]
fn damaged_ext3_never_panics() {
    if can_mount() {
        check(
            &filled(
                16,
                "mke2fs",
                &["-q", "-F", "-t", "ext3", "-b", "1024"],
                "ext3",
                "rw",
            ),
            150,
        );
    }
}

#[test]
fn damaged_xfs_never_panics() {
    if can_mount() {
        check(
            &filled(
                20,
                "mkfs.xfs",
                &["-q", "-f", "-b", "size=1024"],
                "xfs",
                "rw",
            ),
            150,
        );
    }
}

#[test]
fn damaged_btrfs_never_panics() {
    if can_mount() {
        let image = filled(
            120,
            "mkfs.btrfs",
            &["-q", "-f", "-M"],
            "btrfs",
            "rw,compress-force=zstd",
        );
        check(&image, 150);
    }
}

#[test]
fn damaged_ntfs_never_panics() {
    if can_mount() {
        check(
            &filled(
                16,
                "mkntfs",
                &["-F", "-Q", "-q"],
                "ntfs-3g",
                "compression,special_files=wsl",
            ),
            150,
        );
    }
}

#[test]
fn damaged_fat_never_panics() {
    let image = Image::new(3);
    run("mkfs.vfat", &["-F", "12", image.path()]);
    let tree = tempfile::TempDir::new().unwrap();
    few(tree.path(), false);
    for name in ["long", "short"] {
        fs::remove_file(tree.path().join(name)).unwrap();
    }
    let path = |name: &str| tree.path().join(name).to_str().unwrap().to_owned();
    run(
        "mcopy",
        &[
            "-s",
            "-Q",
            "-i",
            image.path(),
            &path("a"),
            &path("split-0"),
            "::/",
        ],
    );
    check(&image, 100);
}
