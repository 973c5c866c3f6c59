//! A directory plays the kernel; loop devices play the disks, which takes root.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use stillwater_types::Extent;
use tempfile::{NamedTempFile, TempDir};
use uuid::Uuid;

use super::{Device, Expected, Guest, HotAddError, Place, Roots, Waits};
use crate::task::Running;
use crate::{BlockPool, DiskReader, DiskRewriter, DiskWriter, Error, Result, Unwritten};

const LENGTH: u64 = 3 * 1024 * 1024 + 512;
const SLOT: u32 = 192;
const UUID: Uuid = Uuid::from_u128(0x6000_c298_5e4c_1061_4201_7d92_08a1_b2c3);
const EXPECTED: Expected = Expected {
    length: LENGTH,
    uuid: Some(UUID),
};
const PLACE: Place = Place {
    pci_slot: SLOT,
    unit: 3,
};

/// A machine with two controllers: the boot one is host 0, the one for attached disks host 2.
struct Machine {
    dir: TempDir,
}

impl Machine {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let machine = Self { dir };
        fs::create_dir_all(machine.dir.path().join("dev")).expect("made");
        fs::create_dir_all(machine.sys("class/scsi_device")).expect("made");
        machine.slot(160, "0000:03:00");
        machine.slot(SLOT, "0000:0b:00");
        machine.host(0, "0000:03:00.0");
        machine.host(2, "0000:0b:00.0");
        machine
    }

    fn sys(&self, path: &str) -> PathBuf {
        self.dir.path().join("sys").join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.sys(path);
        fs::create_dir_all(path.parent().expect("below")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn slot(&self, slot: u32, address: &str) {
        self.put(
            &format!("bus/pci/slots/{slot}/address"),
            &format!("{address}\n"),
        );
    }

    fn host(&self, host: u32, function: &str) {
        let real =
            format!("devices/pci0000:00/0000:00:16.0/{function}/host{host}/scsi_host/host{host}");
        self.put(&format!("{real}/scan"), "");
        fs::create_dir_all(self.sys("class/scsi_host")).expect("made");
        let link = self.sys(&format!("class/scsi_host/host{host}"));
        symlink(format!("../../{real}"), link).expect("linked");
    }

    /// A disk at an address whose node is a link to a device.
    fn disk(&self, address: &str, name: &str, node: &str, number: &str, sectors: u64) {
        let device = format!("class/scsi_device/{address}/device");
        self.put(&format!("{device}/delete"), "");
        self.put(
            &format!("{device}/wwid"),
            &format!("naa.{}\n", UUID.simple()),
        );
        let block = format!("{device}/block/{name}");
        self.put(&format!("{block}/size"), &format!("{sectors}\n"));
        self.put(&format!("{block}/dev"), &format!("{number}\n"));
        self.put(&format!("{block}/ro"), "0\n");
        let link = self.dir.path().join("dev").join(name);
        symlink(node, link).expect("linked");
    }

    fn loop_disk(&self, address: &str, device: &Loop) {
        self.disk(address, "sdq", &device.node, &device.number(), LENGTH / 512);
    }

    fn guest(&self) -> Guest {
        let roots = Roots {
            sysfs: self.dir.path().join("sys"),
            dev: self.dir.path().join("dev"),
        };
        let moment = Duration::from_millis(10);
        let waits = Waits {
            appear: Duration::from_millis(600),
            free: moment,
            vanish: Duration::from_millis(300),
            poll: moment,
            scan: moment,
        };
        let threads = NonZeroUsize::new(9).expect("some");
        Guest::new(roots, waits, BlockPool::new(threads))
    }

    async fn find(&self) -> Result<Device> {
        self.guest().find(PLACE, EXPECTED).await
    }

    /// Does what the kernel does when a disk is let go.
    fn obey(&self, address: &str) -> Running<()> {
        let device = self.sys(&format!("class/scsi_device/{address}"));
        Running::spawn(async move {
            let told = device.join("device/delete");
            while fs::read_to_string(&told).expect("there") != "1\n" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            fs::remove_dir_all(device).expect("removed");
        })
    }
}

/// A loop device over a file.
struct Loop {
    node: String,
    file: NamedTempFile,
}

impl Loop {
    /// None without the rights to make one; says so.
    fn new() -> Option<Self> {
        let file = NamedTempFile::new().expect("a file");
        fs::write(file.path(), content()).expect("written");
        let made = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file.path())
            .output();
        match made {
            Ok(made) if made.status.success() => Some(Self {
                node: String::from_utf8_lossy(&made.stdout).trim().to_owned(),
                file,
            }),
            outcome => {
                eprintln!("SKIPPED: loop devices take root and losetup: {outcome:?}");
                None
            }
        }
    }

    fn number(&self) -> String {
        let name = self.node.trim_start_matches("/dev/");
        let path = format!("/sys/class/block/{name}/dev");
        fs::read_to_string(path).expect("there").trim().to_owned()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let gone = Command::new("losetup").args(["-d", &self.node]).status();
        assert!(gone.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn content() -> Vec<u8> {
    (0..LENGTH).map(|at| (at / 7 % 253) as u8).collect()
}

#[track_caller]
fn check_another(outcome: Result<Device>, words: &str) {
    match outcome {
        Err(Error::HotAdd(HotAddError::AnotherDisk { problem, .. })) => {
            assert!(problem.contains(words), "{problem}");
        }
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn the_disk_is_found_by_controller_and_unit_and_read_and_let_go() {
    let Some(device) = Loop::new() else { return };
    let machine = Machine::new();
    // The same unit of the boot controller, and a neighbour: neither is to be touched.
    machine.disk("0:0:3:0", "sda", "/dev/null", "8:0", LENGTH / 512);
    machine.disk("2:0:4:0", "sdb", "/dev/null", "8:16", LENGTH / 512);
    machine.loop_disk("2:0:3:0", &device);
    let disk = machine.find().await.expect("found");
    assert!(disk.is_identified());
    let reader = disk.reader().await.expect("opens");
    let want = content();
    let ranges: Vec<(u64, u64)> = (0..16)
        .map(|at| (at * 200_000, 180_000.min(LENGTH - at * 200_000)))
        .chain([(LENGTH - 512, 512), (0, LENGTH)])
        .collect();
    let reads = ranges
        .iter()
        .map(|(start, length)| reader.read(Extent::new(*start, *length)));
    for ((start, length), got) in ranges.iter().zip(futures::future::join_all(reads).await) {
        assert!(got.expect("reads") == want[*start as usize..(start + length) as usize]);
    }
    let kernel = machine.obey("2:0:3:0");
    disk.release().await.expect("let go");
    assert!(kernel.join().await.is_some());
    for address in ["0:0:3:0", "2:0:4:0"] {
        let told = machine.sys(&format!("class/scsi_device/{address}/device/delete"));
        assert_eq!(fs::read_to_string(told).expect("there"), "");
    }
}

#[tokio::test]
async fn what_is_written_is_on_the_device() {
    let Some(device) = Loop::new() else { return };
    let machine = Machine::new();
    machine.loop_disk("2:0:3:0", &device);
    let disk = machine.find().await.expect("found");
    let mut writer = Box::new(disk.writer(Unwritten::BecomeZeros).await.expect("opens"));
    writer
        .write(1000, Bytes::from(vec![7; 3000]))
        .await
        .expect("writes");
    writer
        .write(LENGTH - 300, Bytes::from(vec![9; 300]))
        .await
        .expect("writes");
    writer.finish().await.expect("finishes");
    let mut want = vec![0; LENGTH as usize];
    want[1000..4000].fill(7);
    want[LENGTH as usize - 300..].fill(9);
    assert!(fs::read(device.file.path()).expect("reads") == want);
    let reader = disk.reader().await.expect("opens");
    assert!(reader.read(Extent::new(0, LENGTH)).await.expect("reads") == want);
}

#[tokio::test]
async fn parts_of_a_disk_are_replaced_and_nothing_else_is_touched() {
    let Some(device) = Loop::new() else { return };
    let machine = Machine::new();
    machine.loop_disk("2:0:3:0", &device);
    let disk = machine.find().await.expect("found");
    let mut want = vec![5; LENGTH as usize];
    fs::write(device.file.path(), &want).expect("written");
    let rewriter = Box::new(disk.rewriter().await.expect("opens"));
    for (offset, bytes) in [
        (2 * 4096, vec![7; 4096]),
        (0, vec![0; 8192]),
        (3 << 20, vec![9; 512]),
    ] {
        want[offset..offset + bytes.len()].copy_from_slice(&bytes);
        let written = rewriter.write(offset as u64, bytes.into()).await;
        written.expect("writes");
    }
    let whole = Extent::new(0, LENGTH);
    assert!(rewriter.read(whole).await.expect("reads") == want);
    for (offset, bytes) in [(512, 4096), (4096, 100), (3 << 20, 513)] {
        let refused = rewriter.write(offset, vec![1; bytes].into()).await;
        assert!(
            matches!(
                refused,
                Err(Error::NotBlocks { .. } | Error::BeyondDisk { .. })
            ),
            "{offset}+{bytes}"
        );
    }
    rewriter.finish().await.expect("finishes");
    assert!(fs::read(device.file.path()).expect("reads") == want);
}

#[tokio::test]
async fn a_disk_that_does_not_appear_is_asked_for_and_appears() {
    let Some(device) = Loop::new() else { return };
    let machine = Machine::new();
    let scan = machine.sys("class/scsi_host/host2/scan");
    let find = machine.find();
    let kernel = async {
        while fs::read_to_string(&scan).expect("there") != "0 3 0\n" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        machine.loop_disk("2:0:3:0", &device);
    };
    let (found, ()) = futures::join!(find, kernel);
    assert_eq!(found.expect("found").length(), LENGTH);
    let boot = machine.sys("class/scsi_host/host0/scan");
    assert_eq!(
        fs::read_to_string(boot).expect("there"),
        "",
        "only its own controller is asked"
    );
}

#[tokio::test]
async fn a_disk_that_never_appears_is_given_up() {
    let machine = Machine::new();
    machine.disk("0:0:3:0", "sda", "/dev/null", "8:0", LENGTH / 512);
    let outcome = machine.find().await;
    assert!(
        matches!(
            outcome,
            Err(Error::HotAdd(HotAddError::Missing {
                slot: SLOT,
                unit: 3,
                ..
            }))
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn another_size_or_another_uuid_is_another_disk() {
    let machine = Machine::new();
    machine.disk("2:0:3:0", "sdq", "/dev/null", "1:3", LENGTH / 512 + 1);
    check_another(machine.find().await, "bytes instead of");
    machine.put(
        "class/scsi_device/2:0:3:0/device/block/sdq/size",
        &format!("{}", LENGTH / 512),
    );
    let wwid = "class/scsi_device/2:0:3:0/device/wwid";
    machine.put(wwid, "naa.6000c298000000000000000000000000\n");
    check_another(
        machine.find().await,
        "instead of 6000c298-5e4c-1061-4201-7d9208a1b2c3",
    );
}

#[tokio::test]
async fn a_node_that_is_not_the_devices_is_refused() {
    let machine = Machine::new();
    machine.disk("2:0:3:0", "sdq", "/dev/null", "1:3", LENGTH / 512);
    check_another(machine.find().await, "is no node of it");
    let Some(device) = Loop::new() else { return };
    let machine = Machine::new();
    machine.disk("2:0:3:0", "sdq", &device.node, "8:99", LENGTH / 512);
    check_another(machine.find().await, "is no node of it");
    let machine = Machine::new();
    fs::write(device.file.path(), content()).expect("written");
    machine.disk(
        "2:0:3:0",
        "sdq",
        &device.node,
        &device.number(),
        LENGTH / 512 - 1,
    );
    let expected = Expected {
        length: LENGTH - 512,
        uuid: None,
    };
    check_another(machine.guest().find(PLACE, expected).await, "its node has");
}

#[tokio::test]
async fn a_device_without_an_identity_is_taken_by_its_place_and_this_is_told() {
    let Some(device) = Loop::new() else { return };
    let machine = Machine::new();
    machine.loop_disk("2:0:3:0", &device);
    fs::remove_file(machine.sys("class/scsi_device/2:0:3:0/device/wwid")).expect("removed");
    assert!(!machine.find().await.expect("found").is_identified());
    let mut page = vec![0, 0x83, 0, 20, 1, 3, 0, 16];
    page.extend(UUID.as_bytes());
    let path = machine.sys("class/scsi_device/2:0:3:0/device/vpd_pg83");
    fs::write(path, page).expect("written");
    assert!(machine.find().await.expect("found").is_identified());
}

#[tokio::test]
async fn without_slots_only_a_disk_that_proves_itself_is_taken() {
    let Some(device) = Loop::new() else { return };
    let machine = Machine::new();
    fs::remove_dir_all(machine.sys("bus/pci/slots")).expect("removed");
    machine.disk("0:0:3:0", "sda", "/dev/null", "8:0", LENGTH / 512);
    machine.put(
        "class/scsi_device/0:0:3:0/device/wwid",
        "naa.6000c298000000000000000000000000\n",
    );
    machine.loop_disk("2:0:3:0", &device);
    assert!(machine.find().await.expect("found").is_identified());
    let nobody = Expected {
        uuid: None,
        ..EXPECTED
    };
    let outcome = machine.guest().find(PLACE, nobody).await;
    assert!(matches!(
        outcome,
        Err(Error::HotAdd(HotAddError::NoController { .. }))
    ));
}

#[tokio::test]
async fn a_disk_that_this_machine_uses_is_neither_taken_nor_let_go() {
    let Some(device) = Loop::new() else { return };
    let machine = Machine::new();
    machine.loop_disk("2:0:3:0", &device);
    // The claim of the first is what a mount or a volume group would have.
    let first = machine.find().await.expect("found");
    let outcome = machine.find().await;
    assert!(
        matches!(outcome, Err(Error::HotAdd(HotAddError::InUse { .. }))),
        "{outcome:?}"
    );
    let outcome = machine.guest().vacate(PLACE).await;
    assert!(
        matches!(outcome, Err(Error::HotAdd(HotAddError::InUse { .. }))),
        "{outcome:?}"
    );
    let told = machine.sys("class/scsi_device/2:0:3:0/device/delete");
    assert_eq!(fs::read_to_string(told).expect("there"), "");
    drop(first);
    let kernel = machine.obey("2:0:3:0");
    assert!(machine.guest().vacate(PLACE).await.expect("let go"));
    assert!(kernel.join().await.is_some());
    assert!(!machine.guest().vacate(PLACE).await.expect("nothing there"));
}

#[tokio::test]
async fn a_disk_that_the_kernel_keeps_is_an_error() {
    let Some(device) = Loop::new() else { return };
    let machine = Machine::new();
    machine.loop_disk("2:0:3:0", &device);
    let outcome = machine.find().await.expect("found").release().await;
    assert!(matches!(
        outcome,
        Err(Error::HotAdd(HotAddError::StillThere { .. }))
    ));
}

#[tokio::test]
async fn a_read_only_disk_has_no_writer() {
    let Some(device) = Loop::new() else { return };
    let machine = Machine::new();
    machine.loop_disk("2:0:3:0", &device);
    machine.put("class/scsi_device/2:0:3:0/device/block/sdq/ro", "1\n");
    let disk = machine.find().await.expect("found");
    let outcome = disk.writer(Unwritten::AreZeros).await;
    assert!(matches!(
        outcome,
        Err(Error::HotAdd(HotAddError::ReadOnly { .. }))
    ));
}

#[test]
fn a_uuid_is_read_as_vsphere_writes_it() {
    let told = Some("6000C298-5e4c-1061-4201-7d9208a1b2c3");
    assert_eq!(Expected::new(LENGTH, told).expect("a uuid"), EXPECTED);
    assert_eq!(Expected::new(LENGTH, None).expect("none").uuid, None);
    let outcome = Expected::new(LENGTH, Some("6000C298"));
    assert!(matches!(
        outcome,
        Err(Error::HotAdd(HotAddError::BadUuid { .. }))
    ));
}

#[tokio::test]
async fn a_machine_knows_which_vm_it_is() {
    let machine = Machine::new();
    let outcome = machine.guest().identity().await;
    assert!(matches!(
        outcome,
        Err(Error::HotAdd(HotAddError::NoIdentity { .. }))
    ));
    machine.put(
        "class/dmi/id/product_uuid",
        "2b1a4d56-4d3c-6f5e-7081-92a3b4c5d6e7\n",
    );
    let names = machine.guest().identity().await.expect("known");
    assert_eq!(names.len(), 2);
    assert_eq!(names[0].to_string(), "564d1a2b-3c4d-5e6f-7081-92a3b4c5d6e7");
    let serial = "VMware-56 4d 1a 2b 3c 4d 5e 6f-70 81 92 a3 b4 c5 d6 e7\n";
    machine.put("class/dmi/id/product_serial", serial);
    assert_eq!(machine.guest().identity().await.expect("known"), names[..1]);
}
