//! What a hostile disk can make the program take: memory, time, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its setting too")]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use stillwater_files::{Error, Event, Item, Job, NamePattern, Session, Wanted};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_stillwater-files");
/// What a session may hold at its worst, far below what its process is allowed.
const MEMORY_MAX: u64 = 512 << 20;

fn job(length: u64, path: &str, wanted: Wanted) -> Job {
    Job {
        disks: vec![length],
        volume: None,
        path: path.into(),
        wanted,
        name: Some(NamePattern {
            pattern: "*".into(),
            any_case: false,
        }),
    }
}

/// The most memory that a process ever had.
fn memory(process: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kibibytes.unwrap().parse::<u64>().unwrap() << 10)
}

/// Does a job, and holds its memory against the bound.
fn ask(
    job: &Job,
    read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    take: &mut dyn FnMut(Event),
) -> Result<u64, Error> {
    let session = Session::start(Path::new(PROGRAM))?;
    let process = session.process();
    let mut most = 0;
    session.run(
        job,
        &mut |_, offset, buffer| {
            most = most.max(memory(process)?);
            read(offset, buffer)
        },
        &mut |event| {
            take(event);
            Ok(())
        },
    )?;
    assert!(most < MEMORY_MAX, "{most} bytes of memory");
    Ok(most)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

const CLUSTER: usize = 4096;
const RESERVED: usize = 32 * 512;
const TABLE_BYTES: usize = 1024 * 512;

/// The written part of a FAT32 disk whose root directory is one cluster of these.
fn fat32(entries: &[[u8; 32]]) -> (Vec<u8>, u64) {
    const ROOT: u32 = 2;
    let data = RESERVED + TABLE_BYTES;
    let sectors = 1_100_000_u32;
    let mut disk = vec![0; data + CLUSTER];
    put(&mut disk, 0, &[0xeb, 0x58, 0x90]);
    put(&mut disk, 0xb, &512_u16.to_le_bytes());
    put(&mut disk, 0xd, &[(CLUSTER / 512) as u8]);
    put(&mut disk, 0xe, &32_u16.to_le_bytes());
    put(&mut disk, 0x10, &[1]);
    put(&mut disk, 0x15, &[0xf8]);
    put(&mut disk, 0x20, &sectors.to_le_bytes());
    put(&mut disk, 0x24, &1024_u32.to_le_bytes());
    put(&mut disk, 0x2c, &ROOT.to_le_bytes());
    put(&mut disk, 0x47, b"NO NAME    FAT32   ");
    put(&mut disk, 510, &[0x55, 0xaa]);
    put(
        &mut disk,
        RESERVED + 4 * ROOT as usize,
        &0x0fff_ffff_u32.to_le_bytes(),
    );
    for (entry, at) in entries.iter().zip((data..).step_by(32)) {
        put(&mut disk, at, entry);
    }
    (disk, u64::from(sectors) * 512)
}

fn entry(name: &str, attributes: u8, cluster: u32) -> [u8; 32] {
    let mut entry = [0; 32];
    put(&mut entry, 0, format!("{name:<11}").as_bytes());
    entry[11] = attributes;
    put(&mut entry, 20, &((cluster >> 16) as u16).to_le_bytes());
    put(&mut entry, 26, &(cluster as u16).to_le_bytes());
    entry
}

/// A disk that is zeros behind what was written.
fn read_sparse(disk: &[u8], offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let from = usize::try_from(offset).unwrap().min(disk.len());
    let have = &disk[from..disk.len().min(from + buffer.len())];
    buffer.fill(0);
    buffer[..have.len()].copy_from_slice(have);
    Ok(())
}

/// A million names of sixteen files in one directory of ext4.
#[test]
fn a_directory_of_a_million_names_is_listed_in_little_memory() {
    const NAMES: u32 = 1_000_000;
    const BYTES: u64 = 160 << 20;
    let script = "import os\nfor i in range(1000000):\n \
                  n=f'f{i}'\n p=f'f{i//62500*62500}'\n \
                  open(n,'x').close() if n==p else os.link(p,n)\n";
    let Some(image) = Image::new(
        "mke2fs",
        &["-q", "-F", "-t", "ext4", "-b", "4096"],
        BYTES,
        "loop",
        |root| python(root, script),
    ) else {
        return;
    };
    let disk = File::open(image.disk()).unwrap();
    let began = Instant::now();
    let mut names = 0;
    let most = ask(
        &job(BYTES, "/", Wanted::Names),
        |offset, buffer| disk.read_exact_at(buffer, offset),
        &mut |event| names += u32::from(matches!(event, Event::Entry(_))),
    )
    .unwrap();
    // And `lost+found`.
    assert_eq!(names, NAMES + 1);
    eprintln!("{most} bytes of memory, {:?}", began.elapsed());
}

/// Two names in each directory, both of itself: a walk without memory would never end.
#[test]
fn directories_that_hold_themselves_are_gone_through_once_and_named() {
    let (disk, length) = fat32(&[entry("UP", 0x10, 2), entry("DOWN", 0x10, 2)]);
    let (mut items, mut lost) = (Vec::new(), Vec::new());
    ask(
        &job(length, "/", Wanted::Tree { copies: false }),
        |offset, buffer| read_sparse(&disk, offset, buffer),
        &mut |event| match event {
            Event::Item(Item { path, .. }) => items.push(String::from_utf8(path).unwrap()),
            Event::Lost(what) => lost.push(what.what),
            _ => {}
        },
    )
    .unwrap();
    assert!(items.len() <= 7 && lost.len() >= 2, "{items:?} {lost:?}");
    let known = |what: &String| what.contains("at another place already");
    assert!(lost.iter().all(known), "{lost:?}");
}

/// An ext4 directory that was linked into one below itself.
#[test]
fn a_loop_of_ext4_ends_and_is_named() {
    let directory = TempDir::new().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/b/file"), "content").unwrap();
    let path = directory.path().join("disk");
    File::create(&path).unwrap().set_len(8 << 20).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let done = Command::new(program).args(arguments).arg(&path).output();
        assert!(done.unwrap().status.success(), "{program}");
    };
    run(
        "mke2fs",
        &["-q", "-t", "ext4", "-d", tree.to_str().unwrap()],
    );
    run("debugfs", &["-w", "-R", "link /a /a/b/round"]);
    let disk = File::open(&path).unwrap();
    let (mut items, mut lost) = (Vec::new(), Vec::new());
    ask(
        &job(8 << 20, "/a", Wanted::Tree { copies: false }),
        |offset, buffer| disk.read_exact_at(buffer, offset),
        &mut |event| match event {
            Event::Item(item) => items.push(String::from_utf8(item.path).unwrap()),
            Event::Lost(what) => lost.push(String::from_utf8(what.path).unwrap()),
            _ => {}
        },
    )
    .unwrap();
    items.sort();
    assert_eq!(items, ["", "b", "b/file", "b/round"]);
    assert_eq!(lost, ["b/round"]);
}

/// An image that the kernel filled.
struct Image {
    directory: TempDir,
}

impl Image {
    /// None where images cannot be mounted, which is said.
    fn new(
        make: &str,
        options: &[&str],
        bytes: u64,
        mount: &str,
        fill: impl FnOnce(&Path),
    ) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            eprintln!("SKIPPED: mounting images takes root and loop devices");
            return None;
        }
        let directory = TempDir::new().unwrap();
        let this = Self { directory };
        File::create(this.disk()).unwrap().set_len(bytes).unwrap();
        let (disk, mounted) = (this.disk(), this.directory.path().join("mounted"));
        fs::create_dir(&mounted).unwrap();
        run(Command::new(make).args(options).arg(&disk));
        run(Command::new("mount")
            .args(["-o", mount])
            .args([&disk, &mounted]));
        let filled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fill(&mounted)));
        run(Command::new("umount").arg(&mounted));
        filled.unwrap();
        Some(this)
    }

    fn disk(&self) -> PathBuf {
        self.directory.path().join("disk")
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

fn python(root: &Path, script: &str) {
    run(Command::new("python3")
        .args(["-c", script])
        .current_dir(root));
}

const BOMB_BYTES: u64 = 4 << 30;

/// 4 GiB of a file that its disk stores in some megabytes: zeros that were packed once and cloned many times.
fn bomb() -> Option<Image> {
    const ONCE: u64 = 128 << 20;
    let script = format!(
        "import fcntl,os,struct\na=open('once','wb')\n\
         for i in range(128): a.write(bytes(1<<20))\n\
         a.flush();os.fsync(a);a=open('once','rb');b=open('bomb','wb')\n\
         for i in range({}): fcntl.ioctl(b,0x4020940d,struct.pack('qQQQ',a.fileno(),0,{ONCE},i*{ONCE}))",
        BOMB_BYTES / ONCE
    );
    let make = ["-q", "-M"];
    let mount = "loop,compress-force=zstd";
    Image::new("mkfs.btrfs", &make, 256 << 20, mount, |root| {
        python(root, &script)
    })
}

#[test]
fn a_decompression_bomb_is_unpacked_piece_by_piece() {
    let Some(bomb) = bomb() else { return };
    let disk = File::open(bomb.disk()).unwrap();
    let began = Instant::now();
    let mut bytes = 0;
    let most = ask(
        &job(256 << 20, "/bomb", Wanted::Content),
        |offset, buffer| disk.read_exact_at(buffer, offset),
        &mut |event| {
            if let Event::Bytes(more) = event {
                bytes += more.len() as u64;
            }
        },
    )
    .unwrap();
    assert_eq!(bytes, BOMB_BYTES);
    eprintln!("{most} bytes of memory, {:?}", began.elapsed());
}

/// Sets a limit of a reader from outside, as its own are hours and gibibytes away, and sees it end.
#[track_caller]
fn check_ends(bomb: &Image, limit: &str) {
    let session = Session::start(Path::new(PROGRAM)).unwrap();
    let process = session.process().to_string();
    let disk = File::open(bomb.disk()).unwrap();
    let mut limited = false;
    let began = Instant::now();
    let outcome = session.run(
        &job(256 << 20, "/bomb", Wanted::Content),
        &mut |_, offset, buffer| {
            if !limited {
                limited = true;
                let set = Command::new("prlimit")
                    .args(["--pid", &process, limit])
                    .status()?;
                assert!(set.success());
            }
            disk.read_exact_at(buffer, offset)
        },
        &mut |_| Ok(()),
    );
    assert!(
        matches!(outcome, Err(Error::Ended(_))),
        "{limit}: {outcome:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(60), "{limit}");
}

#[test]
fn a_reader_beyond_its_memory_or_time_is_that_sessions_error() {
    let Some(bomb) = bomb() else { return };
    check_ends(&bomb, "--cpu=1");
    check_ends(&bomb, "--as=1000000");
}
