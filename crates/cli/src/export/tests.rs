use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use proptest::prelude::*;
use stillwater_proxy_api::{ExportData, ExportFinish, ExportHeader, ExportPart};
use stillwater_types::{Fault, Reason};

use super::*;
use crate::arguments::DiskFormat;

const MIB: u64 = 1 << 20;
const FORMATS: [DiskFormat; 4] = [
    DiskFormat::Raw,
    DiskFormat::Vmdk,
    DiskFormat::VmdkStream,
    DiskFormat::Qcow2,
];

/// A disk's content: its length, and what is not zero.
#[derive(Debug, Clone)]
struct Disk {
    length: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Disk {
    fn parts(&self) -> Vec<Result<ExportPart, Fault>> {
        let mut parts = vec![ExportPart::Header(ExportHeader {
            length_bytes: self.length,
        })];
        let mut data_bytes = 0;
        for (offset, bytes) in &self.pieces {
            data_bytes += bytes.len() as u64;
            let data = ExportData {
                offset_bytes: *offset,
                data: Bytes::from(bytes.clone()),
            };
            parts.push(ExportPart::Data(data));
        }
        parts.push(ExportPart::Finish(ExportFinish { data_bytes }));
        parts.into_iter().map(Ok).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length as usize];
        for (offset, piece) in &self.pieces {
            bytes[*offset as usize..][..piece.len()].copy_from_slice(piece);
        }
        bytes
    }

    fn holey() -> Self {
        Self {
            length: 100 * MIB,
            pieces: vec![
                (0, vec![1; 4096]),
                (4096, vec![2; 200_000]),
                (33 * MIB + 512, vec![3; MIB as usize]),
                (70 * MIB, vec![0; 65536]),
                (100 * MIB - 512, vec![4; 512]),
            ],
        }
    }
}

fn export(
    parts: Vec<Result<ExportPart, Fault>>,
    path: &Path,
    format: DiskFormat,
    force: bool,
) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let target = Place::File(Target::prepare(path, format, force)?);
    runtime.block_on(receive(stream::iter(parts).boxed(), target, |_, _| {}))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("utf-8")
        })
        .collect()
}

#[test]
fn a_raw_file_is_the_disk_with_its_holes() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("disk.raw");
    let disk = Disk::holey();
    export(disk.parts(), &path, DiskFormat::Raw, false).expect("exported");
    assert!(
        std::fs::read(&path).expect("read") == disk.bytes(),
        "the content differs"
    );
    let metadata = std::fs::metadata(&path).expect("metadata");
    assert!(
        metadata.blocks() * 512 < 4 * MIB,
        "holes take {} blocks",
        metadata.blocks()
    );
    assert_eq!(names(dir.path()), ["disk.raw"]);
}

#[test]
fn a_stream_that_breaks_leaves_no_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("disk.raw");
    let fault = Fault::new(Reason::RepositoryUnreachable, "gone");
    for format in FORMATS {
        let mut parts = Disk::holey().parts();
        parts.truncate(3);
        let ended = export(parts.clone(), &path, format, false).map_err(|fault| fault.reason);
        assert_eq!(ended, Err(Reason::ProxyUnreachable), "cut off");
        parts.push(Err(fault.clone()));
        assert_eq!(
            export(parts, &path, format, false),
            Err(fault.clone()),
            "told why"
        );
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }
}

#[test]
fn a_file_that_exists_is_replaced_only_when_asked_and_only_when_the_new_one_is_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("disk.raw");
    std::fs::write(&path, "precious").expect("write");
    let disk = Disk {
        length: 8192,
        pieces: vec![(0, vec![9; 8192])],
    };
    let refused = export(disk.parts(), &path, DiskFormat::Raw, false).expect_err("refused");
    assert_eq!(refused.reason, Reason::BadField);
    let mut cut = disk.parts();
    cut.pop();
    assert!(export(cut, &path, DiskFormat::Raw, true).is_err());
    assert_eq!(std::fs::read(&path).expect("read"), b"precious");
    export(disk.parts(), &path, DiskFormat::Raw, true).expect("exported");
    assert_eq!(std::fs::read(&path).expect("read"), disk.bytes());
}

#[test]
fn a_target_that_cannot_be_written_is_refused_before_anything_moves() {
    let dir = tempfile::tempdir().expect("a directory");
    let reason = |path: &Path, format| {
        Target::prepare(path, format, false)
            .expect_err("refused")
            .reason
    };
    assert_eq!(reason(dir.path(), DiskFormat::Raw), Reason::BadField);
    let absent = dir.path().join("absent/disk.raw");
    assert_eq!(reason(&absent, DiskFormat::Raw), Reason::DiskWriteFailed);
    let quoted = dir.path().join("a\"b.vmdk");
    assert_eq!(reason(&quoted, DiskFormat::Vmdk), Reason::BadField);
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

/// Runs `qemu-img`; the foremost reader of VMDKs outside VMware.
fn qemu_img(args: &[&str]) {
    let output = Command::new("qemu-img")
        .args(args)
        .output()
        .expect("qemu-img is installed");
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "qemu-img {args:?}: {told}");
}

/// Writes a disk in a format, and holds what `qemu-img` makes of it against the disk.
fn check(disk: &Disk, format: DiskFormat) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let file = path("disk");
    export(disk.parts(), file.as_ref(), format, false).expect("exported");
    check_image(disk, format, dir.path());
}

fn check_image(disk: &Disk, format: DiskFormat, dir: &Path) {
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (file, raw, back) = (path("disk"), path("disk.raw"), path("back.raw"));
    let known = match format {
        DiskFormat::Raw => "raw",
        DiskFormat::Vmdk | DiskFormat::VmdkStream => "vmdk",
        DiskFormat::Qcow2 => "qcow2",
    };
    std::fs::write(&raw, disk.bytes()).expect("write");
    if known != "raw" {
        qemu_img(&["check", "-f", known, &file]);
    }
    qemu_img(&["compare", "-f", "raw", "-F", known, &raw, &file]);
    qemu_img(&["convert", "-f", known, "-O", "raw", &file, &back]);
    assert!(
        std::fs::read(&back).expect("read") == disk.bytes(),
        "converted back it differs"
    );
}

#[test]
fn each_format_is_the_disk_as_qemu_reads_it() {
    for format in FORMATS {
        check(&Disk::holey(), format);
    }
}

#[test]
fn each_format_without_content_is_a_disk_of_zeros() {
    for format in FORMATS {
        check(
            &Disk {
                length: MIB,
                pieces: vec![],
            },
            format,
        );
    }
}

/// What a pipe got.
#[derive(Debug, Clone, Default)]
struct Got(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Got {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn pipe(parts: Vec<Result<ExportPart, Fault>>, format: DiskFormat) -> (Result<(), Fault>, Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let got = Got::default();
    let place = Place::Pipe(Pipe::to(got.clone(), format).expect("goes through a pipe"));
    let ended = runtime.block_on(receive(stream::iter(parts).boxed(), place, |_, _| {}));
    let bytes = std::mem::take(&mut *got.0.lock().expect("whole"));
    (ended, bytes)
}

#[test]
fn a_pipe_gets_the_disk_as_a_file_would() {
    let ends_in_zeros = Disk {
        length: 3 * MIB,
        pieces: vec![(MIB, vec![7; 512])],
    };
    let formats = [DiskFormat::Raw, DiskFormat::VmdkStream];
    let disks = [Disk::holey(), ends_in_zeros];
    for (disk, format) in disks
        .iter()
        .flat_map(|disk| formats.map(|format| (disk, format)))
    {
        let dir = tempfile::tempdir().expect("a directory");
        let (ended, bytes) = pipe(disk.parts(), format);
        ended.expect("exported");
        std::fs::write(dir.path().join("disk"), bytes).expect("write");
        check_image(disk, format, dir.path());
    }
}

#[test]
fn a_pipe_that_breaks_off_never_looks_like_a_whole_disk() {
    let disk = Disk::holey();
    let mut early = disk.parts();
    early.truncate(3);
    let (ended, bytes) = pipe(early, DiskFormat::Raw);
    assert!(ended.is_err() && (bytes.len() as u64) < disk.length);
    let mut parts = disk.parts();
    parts.pop();
    let (ended, bytes) = pipe(parts, DiskFormat::VmdkStream);
    assert!(ended.is_err());
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("disk");
    std::fs::write(&path, bytes).expect("write");
    let path = path.to_string_lossy();
    let read = Command::new("qemu-img")
        .args(["info", "-f", "vmdk", &path])
        .output()
        .expect("qemu-img is installed");
    assert!(!read.status.success(), "half a stream is read");
}

#[test]
fn formats_that_must_be_written_twice_do_not_go_through_a_pipe() {
    for format in [DiskFormat::Vmdk, DiskFormat::Qcow2] {
        let refused = Pipe::to(Got::default(), format).expect_err("refused");
        assert!(refused.message.contains("vmdk-stream"), "{refused}");
    }
}

#[test]
fn a_large_disk_takes_the_space_of_what_it_has_in_each_format() {
    let dir = tempfile::tempdir().expect("a directory");
    for (format, name) in [
        (DiskFormat::VmdkStream, "vmdk"),
        (DiskFormat::Qcow2, "qcow2"),
    ] {
        let path = dir.path().join(name);
        let disk = Disk {
            length: 1 << 40,
            pieces: vec![(1 << 39, vec![1; 10])],
        };
        export(disk.parts(), &path, format, false).expect("exported");
        let metadata = std::fs::metadata(&path).expect("metadata");
        assert!(metadata.len() < MIB, "{} bytes", metadata.len());
        qemu_img(&["check", "-f", name, &path.to_string_lossy()]);
    }
}

#[test]
fn a_vmdk_takes_the_space_of_its_grains() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("disk.vmdk");
    let disk = Disk {
        length: 1 << 40,
        pieces: vec![(1 << 39, vec![1; 10])],
    };
    export(disk.parts(), &path, DiskFormat::Vmdk, false).expect("exported");
    let metadata = std::fs::metadata(&path).expect("metadata");
    assert!(
        metadata.blocks() * 512 < MIB,
        "{} blocks",
        metadata.blocks()
    );
}

#[test]
fn a_disk_whose_tables_end_beyond_the_format_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("disk.vmdk");
    let disk = Disk {
        length: u64::MAX / 1024,
        pieces: vec![],
    };
    let refused = export(disk.parts(), &path, DiskFormat::Vmdk, false).expect_err("refused");
    assert!(refused.message.contains("--format raw"), "{refused}");
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

fn disks() -> impl Strategy<Value = Disk> {
    let piece = (
        0..200_000u64,
        prop::collection::vec(any::<u8>(), 1..3000),
        0..40usize,
    );
    prop::collection::vec(piece, 0..12).prop_map(|pieces| {
        let mut at = 0;
        let mut placed = Vec::new();
        for (gap, bytes, repeat) in pieces {
            at += gap;
            let bytes = bytes.repeat(repeat + 1);
            let length = bytes.len() as u64;
            placed.push((at, bytes));
            at += length;
        }
        Disk {
            length: (at + 1).next_multiple_of(512),
            pieces: placed,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_disk_survives_the_way_through_any_format(disk in disks()) {
        for format in FORMATS {
            check(&disk, format);
        }
    }
}
