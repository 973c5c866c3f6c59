//! Partition tables as sfdisk makes them, volume groups as LVM2 makes them.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stillwater_guestfs::{BlockSource, Contents, Cursor, Disk, FileSystemKind, Limits, volumes};

use crate::lab::{Image, can_mount, run, scan};
use crate::tree::{ALL, Holds, compare, fill, text};

const MEBIBYTE: u64 = 1 << 20;

#[track_caller]
fn partitioned(image: &Image, script: &str) {
    let mut child = Command::new("sfdisk")
        .args(["-q", image.path()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

/// Puts `from` into `to` at `offset`.
fn put(from: &Image, to: &Image, offset: u64, place: u64, length: u64) {
    let (from, to) = (
        File::open(from.path()).unwrap(),
        File::options().write(true).open(to.path()).unwrap(),
    );
    let mut bytes = vec![0; length as usize];
    from.read_exact_at(&mut bytes, place).unwrap();
    to.write_all_at(&bytes, offset).unwrap();
}

fn made(program: &str, options: &[&str], mebibytes: u64) -> Image {
    let image = Image::new(mebibytes);
    run(program, &[options, &[image.path()]].concat());
    image
}

/// The places of a disk, in words.
fn places(images: &[&Image]) -> Vec<(String, u64, Contents)> {
    let volumes = scan(images);
    volumes
        .into_iter()
        .map(|volume| {
            (
                volume.place.to_string(),
                volume.bytes / MEBIBYTE,
                volume.contents,
            )
        })
        .collect()
}

#[test]
fn a_guid_table_names_its_partitions_though_its_first_copy_is_damaged() {
    let image = Image::new(64);
    let script = "label: gpt\nstart=2048, size=8MiB, type=U, name=\"EFI System\"\nsize=20MiB, type=L, name=root\nsize=4MiB, type=S\n";
    partitioned(&image, script);
    put(
        &made("mkfs.vfat", &[], 8),
        &image,
        MEBIBYTE,
        0,
        8 * MEBIBYTE,
    );
    put(
        &made("mke2fs", &["-q"], 20),
        &image,
        9 * MEBIBYTE,
        0,
        20 * MEBIBYTE,
    );
    put(
        &made("mkswap", &["-q"], 4),
        &image,
        29 * MEBIBYTE,
        0,
        4 * MEBIBYTE,
    );
    let expected = [
        (
            "disk0p1".to_owned(),
            8,
            Contents::FileSystem(FileSystemKind::Fat),
        ),
        (
            "disk0p2".to_owned(),
            20,
            Contents::FileSystem(FileSystemKind::Ext4),
        ),
        ("disk0p3".to_owned(), 4, Contents::Swap),
    ];
    assert_eq!(places(&[&image]), expected);
    let volumes = scan(&[&image]);
    assert_eq!(volumes[0].table_name.as_deref(), Some("EFI System"));
    let disk = File::options().write(true).open(image.path()).unwrap();
    disk.write_all_at(&[0xff; 100], 512 + 40).unwrap();
    assert_eq!(places(&[&image]), expected);
}

#[test]
fn a_master_boot_record_with_logical_partitions() {
    let image = Image::new(64);
    let script = "label: dos\nsize=8MiB, type=7\nsize=40MiB, type=5\n5: size=10MiB, type=83\n6: size=12MiB, type=83\n";
    partitioned(&image, script);
    let starts: Vec<u64> = run("sfdisk", &["-d", image.path()])
        .lines()
        .filter_map(|line| {
            line.split("start=")
                .nth(1)?
                .split(',')
                .next()?
                .trim()
                .parse()
                .ok()
        })
        .collect();
    put(
        &made("mkntfs", &["-F", "-Q", "-q"], 8),
        &image,
        starts[0] * 512,
        0,
        8 * MEBIBYTE,
    );
    put(
        &made("mke2fs", &["-q"], 10),
        &image,
        starts[2] * 512,
        0,
        10 * MEBIBYTE,
    );
    let expected = [
        (
            "disk0p1".to_owned(),
            8,
            Contents::FileSystem(FileSystemKind::Ntfs),
        ),
        (
            "disk0p5".to_owned(),
            10,
            Contents::FileSystem(FileSystemKind::Ext4),
        ),
        ("disk0p6".to_owned(), 12, Contents::Unknown),
    ];
    assert_eq!(places(&[&image]), expected);
}

#[test]
fn what_cannot_be_read_is_named() {
    for (offset, mark, what) in [
        (3, &b"-FVE-FS-"[..], "a volume encrypted by BitLocker"),
        (0, b"LUKS\xba\xbe", "a volume encrypted by LUKS"),
        (3, b"ReFS\0\0\0\0", "a ReFS file system"),
        (512, b"PRIVHEAD", "a dynamic disk of Windows (LDM)"),
        (3072, b"PRIVHEAD", "a dynamic disk of Windows (LDM)"),
        (3, b"EXFAT   ", "an exFAT file system"),
        (32, b"NXSB", "an APFS container"),
        (
            4096,
            b"\xfc\x4e\x2b\xa9",
            "a member of a Linux software RAID",
        ),
    ] {
        let image = Image::new(1);
        let disk = File::options().write(true).open(image.path()).unwrap();
        disk.write_all_at(mark, offset).unwrap();
        let volumes = scan(&[&image]);
        assert_eq!(volumes[0].contents, Contents::Unreadable(what));
        let refused = volumes[0].open().err().unwrap().to_string();
        assert!(
            refused.contains(what) && refused.contains("block device"),
            "{refused}"
        );
    }
}

/// A table of partitions alone tells what Windows keeps elsewhere on the disk.
#[test]
fn a_partition_of_a_dynamic_disk_is_named() {
    let image = Image::new(4);
    partitioned(&image, "label: dos\nstart=2048, type=42\n");
    let volumes = scan(&[&image]);
    let what = "a dynamic disk of Windows (LDM)";
    assert_eq!(volumes[0].contents, Contents::Unreadable(what));
    let refused = volumes[0].open().err().unwrap().to_string();
    assert!(refused.contains("serve the point"), "{refused}");
}

/// A disk that says how much of it was read.
struct Counted {
    disk: Disk,
    bytes: AtomicU64,
}

impl BlockSource for Counted {
    fn length(&self) -> u64 {
        self.disk.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.disk.read_at(offset, buffer)
    }
}

#[test]
fn the_first_listing_of_a_disk_of_40_gib_reads_little_of_it() {
    for (program, options) in [
        ("mke2fs", &["-q", "-F", "-t", "ext4"][..]),
        ("mkfs.xfs", &["-q"]),
        ("mkfs.btrfs", &["-q"]),
        ("mkntfs", &["-F", "-Q", "-q"]),
    ] {
        let image = made(program, options, 40 << 10);
        let counted = Arc::new(Counted {
            disk: image.disk(),
            bytes: AtomicU64::new(0),
        });
        let begin = Instant::now();
        let found = volumes(&[Arc::clone(&counted) as Disk], &Limits::default()).unwrap();
        let system = found[0].open().unwrap();
        system.read_dir(system.root(), Cursor::default()).unwrap();
        let (bytes, taken) = (counted.bytes.load(Ordering::Relaxed), begin.elapsed());
        eprintln!("{program}: {bytes} bytes in {taken:?}");
        assert!(bytes < 8 * MEBIBYTE, "{program}: {bytes} bytes");
        assert!(taken < Duration::from_secs(2), "{program}: {taken:?}");
    }
}

#[test]
fn a_directory_of_a_million_names_is_shown_in_pages() {
    let image = made(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-N",
            "1024",
            "-O",
            "^has_journal",
        ],
        96,
    );
    // One directory whose blocks are all full of names of one file: so many are made at once by writing them.
    let path = tempfile::NamedTempFile::new().unwrap();
    let mut blocks = Vec::new();
    let mut number = 0_u64;
    while number < 1_000_000 {
        let mut block = Vec::with_capacity(4096);
        while block.len() + 32 <= 4096 {
            let name = format!("{number:07}");
            let last = block.len() + 32 > 4096 - 16;
            let length = if last { 4096 - block.len() } else { 16 };
            block.extend_from_slice(&11_u32.to_le_bytes());
            block.extend_from_slice(&(length as u16).to_le_bytes());
            block.extend_from_slice(&[7, 2]);
            block.extend_from_slice(name.as_bytes());
            block.resize(block.len().next_multiple_of(16), 0);
            number += 1;
            if last {
                break;
            }
        }
        block.resize(4096, 0);
        blocks.extend_from_slice(&block);
    }
    path.as_file().write_all_at(&blocks, 0).unwrap();
    let image_path = image.path();
    run(
        "debugfs",
        &[
            "-w",
            "-R",
            &format!("write {} many", path.path().display()),
            image_path,
        ],
    );
    run(
        "debugfs",
        &["-w", "-R", "set_inode_field many mode 040755", image_path],
    );
    let found = volumes(&[image.disk()], &Limits::default()).unwrap();
    let system = found[0].open().unwrap();
    let many = system.child(system.root(), b"many").unwrap();
    let (mut names, mut from, mut longest) = (0, Some(Cursor::default()), 0);
    while let Some(cursor) = from {
        let page = system.read_dir(many, cursor).unwrap();
        names += page.entries.len() as u64;
        longest = longest.max(page.entries.len());
        from = page.next;
    }
    assert_eq!(names, number);
    assert!(longest < 2 * Limits::default().page_entries, "{longest}");
}

/// LVM on loop devices, without the device mapper.
struct Loops(Vec<String>);

impl Loops {
    fn of(images: &[&Image]) -> Self {
        let attach = |image: &&Image| {
            run("losetup", &["-f", "--show", image.path()])
                .trim()
                .to_owned()
        };
        Self(images.iter().map(attach).collect())
    }

    fn lvm(&self, command: &str, arguments: &[&str]) -> String {
        let accept: Vec<_> = self
            .0
            .iter()
            .map(|path| format!("\"a|^{path}$|\""))
            .collect();
        let filter = format!("[{},\"r|.*|\"]", accept.join(","));
        let configuration = format!(
            "devices {{ use_devicesfile=0 filter={filter} global_filter={filter} }} backup {{ backup=0 archive=0 }} \
             activation {{ udev_sync=0 udev_rules=0 monitoring=0 }} global {{ use_lvmpolld=0 }}"
        );
        let begin = [command, "--config", &configuration, "--driverloaded", "n"];
        run("lvm", &[&begin, arguments].concat())
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for path in &self.0 {
            run("losetup", &["-d", path]);
        }
    }
}

/// Puts a volume's bytes where LVM says that they are.
fn scatter(loops: &Loops, images: &[&Image], volume: &str, from: &Image) {
    let report = loops.lvm(
        "pvs",
        &[
            "--segments",
            "--noheadings",
            "--units",
            "b",
            "--nosuffix",
            "--separator",
            "|",
            "-o",
            "pv_name,pe_start,pvseg_start,pvseg_size,lv_name,seg_start_pe",
        ],
    );
    for line in report.lines() {
        let fields: Vec<_> = line.trim().split('|').collect();
        if fields[4] != volume {
            continue;
        }
        let number = |index: usize| -> u64 { fields[index].parse().unwrap() };
        let disk = loops.0.iter().position(|path| path == fields[0]).unwrap();
        let place = number(1) + number(2) * MEBIBYTE;
        put(
            from,
            images[disk],
            place,
            number(5) * MEBIBYTE,
            number(3) * MEBIBYTE,
        );
    }
}

#[test]
fn a_volume_group_over_two_disks() {
    if !can_mount() {
        return;
    }
    let images = [&Image::new(130), &Image::new(130)];
    let root = Image::new(160);
    run(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-N",
            "8192",
            root.path(),
        ],
    );
    let holds = Holds {
        any_names: true,
        attributes: Some(800),
        earliest: i64::MIN,
    };
    fill(&root.mount("ext4", 0, "rw").path, holds);
    let striped = made("mke2fs", &["-q", "-t", "ext2"], 20);
    let source = tempfile::NamedTempFile::new().unwrap();
    let content = text(3, 5 << 20);
    source.as_file().write_all_at(&content, 0).unwrap();
    let write = format!("write {} large", source.path().display());
    run("debugfs", &["-w", "-R", &write, striped.path()]);
    {
        let loops = Loops::of(&images);
        let (first, second) = (loops.0[0].as_str(), loops.0[1].as_str());
        loops.lvm("pvcreate", &["-y", first, second]);
        loops.lvm("vgcreate", &["-s", "1m", "guest", first, second]);
        let make = ["-y", "-an", "-Zn", "-Wn", "guest", "-n"];
        loops.lvm(
            "lvcreate",
            &[&make[..], &["wide", "-i", "2", "-I", "64k", "-L", "20m"]].concat(),
        );
        loops.lvm(
            "lvcreate",
            &[&make[..], &["between", "-L", "5m", first]].concat(),
        );
        loops.lvm(
            "lvcreate",
            &[&make[..], &["root", "-L", "60m", first]].concat(),
        );
        loops.lvm("lvextend", &["-L", "160m", "guest/root"]);
        scatter(&loops, &images, "root", &root);
        stripe(&loops, &images, &striped);
    }
    let mount = root.mount("ext4", 0, "ro");
    // The order of the disks is nobody's promise.
    for order in [[images[0], images[1]], [images[1], images[0]]] {
        let volumes = scan(&order);
        let find = |name: &str| {
            volumes
                .iter()
                .find(|volume| volume.place.to_string() == name)
                .unwrap()
        };
        let system = find("guest/root").open().unwrap();
        assert!(compare(&*system, &mount.path, ALL) > 3000);
        let wide = find("guest/wide").open().unwrap();
        let node = wide.child(wide.root(), b"large").unwrap();
        let mut bytes = vec![0; 6 << 20];
        let count = wide.open(node).unwrap().read_at(0, &mut bytes).unwrap();
        assert!(bytes[..count] == content);
        assert_eq!(find("guest/between").contents, Contents::Unknown);
    }
    // With one disk away, what is on it is named and the rest is there.
    let alone = scan(&[images[0]]);
    let root = alone
        .iter()
        .find(|volume| volume.place.to_string() == "guest/root")
        .unwrap();
    assert_eq!(
        root.contents,
        Contents::Unreadable("a logical volume with a part on a disk that is not here")
    );
}

/// Puts a volume of two stripes of 64 KiB where they belong.
fn stripe(loops: &Loops, images: &[&Image], from: &Image) {
    let report = loops.lvm(
        "pvs",
        &[
            "--segments",
            "--noheadings",
            "--units",
            "b",
            "--nosuffix",
            "--separator",
            "|",
            "-o",
            "pv_name,pe_start,pvseg_start,lv_name",
        ],
    );
    let mut places = [0; 2];
    for line in report.lines() {
        let fields: Vec<_> = line.trim().split('|').collect();
        if fields[3] == "wide" {
            let disk = loops.0.iter().position(|path| path == fields[0]).unwrap();
            let number = |index: usize| -> u64 { fields[index].parse().unwrap() };
            places[disk] = number(1) + number(2) * MEBIBYTE;
        }
    }
    for number in 0..20 * 16 {
        let disk = (number % 2) as usize;
        put(
            from,
            images[disk],
            places[disk] + number / 2 * 65536,
            number * 65536,
            65536,
        );
    }
}
