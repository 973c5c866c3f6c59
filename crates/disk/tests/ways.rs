//! The ways to one frozen disk, against VMware's simulator: all read the same.

#[path = "../../vsphere/tests/support/simulator.rs"]
mod simulator;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use simulator::{MIB, PATIENCE, Simulator, find, image, noise, snapshot};
use stillwater_disk::file::{FileReader, Mounts};
use stillwater_disk::folder::FolderReader;
use stillwater_disk::hotadd::{Expected, Guest, Place, Roots, Waits};
use stillwater_disk::nbd::{CommandLine, CommandValues, NbdCommand, NbdReader, Settings};
use stillwater_disk::nfc::{NfcReader, Options, TicketBook};
use stillwater_disk::{BlockPool, DiskReader, DiskWriter, Unwritten, read_ahead};
use stillwater_types::ExtentSet;
use stillwater_vsphere::{
    AttachDisk, AttachMode, AttachedDisk, Client, FrozenDisk, NfcAccess, SnapshotRef, VmRef,
};
use tempfile::TempDir;

const LENGTH: u64 = 8 * MIB;

/// Says so and skips without the rights to make loop devices, by which the lab plays attached disks.
fn lab() -> Option<Simulator> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: the lab's proxies take root, for loop devices");
        return None;
    }
    let vms = |dir: &Path| {
        let disk = image(dir, "web.img", LENGTH, 1);
        json!([
            {"name": "web", "disks": [{"file": disk}]},
            {"name": "idle", "power": "off", "disks": [{"mib": 8}]},
            {"name": "proxy", "proxy": true, "disks": [{"mib": 16}]},
        ])
    };
    Some(Simulator::start_with(vms, &[]))
}

fn pool() -> BlockPool {
    BlockPool::new(NonZeroUsize::new(8).expect("some"))
}

fn guest(lab: &Simulator) -> Guest {
    let guests = lab.control("GET", "/guests", Value::Null);
    let machine = first(&guests);
    let root = |name: &str| PathBuf::from(machine[name].as_str().expect("a directory"));
    let roots = Roots {
        sysfs: root("sys"),
        dev: root("dev"),
    };
    Guest::new(roots, Waits::default(), pool())
}

/// The proxy in what the lab tells of its guests.
fn first(guests: &Value) -> &Value {
    let list = match guests {
        Value::Array(list) => list,
        other => ["proxies", "guests", "machines"]
            .iter()
            .find_map(|name| other[*name].as_array())
            .unwrap_or_else(|| panic!("no proxies in {other}")),
    };
    &list[0]
}

async fn read_all(reader: impl DiskReader + 'static) -> Vec<u8> {
    let whole = ExtentSet::whole(reader.length());
    let mut parts = read_ahead(Arc::new(reader), whole, 1 << 20, 8);
    let mut bytes = Vec::new();
    while let Some(part) = parts.next().await {
        bytes.extend_from_slice(&part.expect("reads").1);
    }
    bytes
}

struct Setting {
    client: Client,
    web: VmRef,
    proxy: VmRef,
    snapshot: SnapshotRef,
    disk: FrozenDisk,
}

async fn setting(lab: &Simulator) -> Setting {
    let client = lab.client().await;
    let web = find(&client, "/DC0/vm/web").await.vm;
    let proxy = find(&client, "/DC0/vm/proxy").await.vm;
    let snapshot = snapshot(&client, &web, "frozen").await;
    let config = client.snapshot_config(&snapshot).await;
    Setting {
        disk: config.expect("a configuration").disks.remove(0),
        client,
        web,
        proxy,
        snapshot,
    }
}

impl Setting {
    async fn attach(&self, file_name: &str, mode: AttachMode) -> AttachedDisk {
        let disks = [AttachDisk {
            file_name: file_name.to_owned(),
            capacity_bytes: LENGTH,
        }];
        let attached = self
            .client
            .attach_disks(&self.proxy, &disks, mode, PATIENCE);
        attached.await.expect("attaches").remove(0)
    }

    async fn detach(&self, attached: &AttachedDisk) {
        let all = [attached.detachment()];
        let detached = self.client.detach_disks(&self.proxy, &all, PATIENCE);
        detached.await.expect("detaches");
    }
}

fn place(attached: &AttachedDisk) -> Place {
    Place {
        pci_slot: attached.pci_slot.expect("a slot"),
        unit: attached.unit,
    }
}

fn expected(attached: &AttachedDisk) -> Expected {
    Expected::new(attached.capacity_bytes, attached.backing_uuid.as_deref()).expect("a uuid")
}

#[tokio::test]
async fn every_way_reads_the_same_disk() {
    let Some(lab) = lab() else { return };
    let setting = setting(&lab).await;
    let copy = lab.frozen_disk(&setting.snapshot, setting.disk.key);
    let want = std::fs::read(&copy).expect("the kept copy");
    let path = setting.disk.file_name.clone();

    let access = setting.client.open_data_access(&setting.web).await;
    let folder = FolderReader::open(&access.expect("access"), &path, LENGTH).await;
    assert!(read_all(folder.expect("opens")).await == want, "folder");

    let mounted = lab.control(
        "POST",
        "/mounts",
        json!({"datastore": lab.text("datastore")}),
    );
    let mounted = PathBuf::from(mounted["path"].as_str().expect("a path"));
    let mounts = Mounts::new([(lab.text("datastore").to_owned(), mounted)]);
    let mount = mounts.find("ds:///none/", lab.text("datastore"));
    let file = FileReader::open(mount.expect("mounted"), &path, LENGTH, &pool()).await;
    assert!(
        read_all(file.expect("opens")).await == want,
        "mounted datastore"
    );

    let key = setting.disk.key;
    let ticket = setting
        .client
        .nfc_ticket(&setting.web, NfcAccess::ReadDisk { key }, None)
        .await;
    let tickets = TicketBook::new([ticket.expect("a ticket").into()]);
    let nfc = NfcReader::open(Arc::new(tickets), &path, LENGTH, Options::default()).await;
    assert!(read_all(nfc.expect("opens")).await == want, "nfc");

    let guest = guest(&lab);
    let attached = setting.attach(&path, AttachMode::Read).await;
    let device = guest.find(place(&attached), expected(&attached)).await;
    let device = device.expect("found");
    assert!(device.is_identified());
    let reader = device.reader().await.expect("opens");
    assert!(read_all(reader).await == want, "hotadd");
    device.release().await.expect("let go");
    setting.detach(&attached).await;

    let scratch = TempDir::new().expect("a directory");
    let words = [
        "/usr/bin/qemu-nbd",
        "--socket={socket}",
        "--persistent",
        "--shared=4",
        "--read-only",
        "--format=raw",
    ];
    let mut words: Vec<String> = words.map(str::to_owned).to_vec();
    words.push(copy.display().to_string());
    let line = CommandLine::parse(&words).expect("a command");
    let values = CommandValues::default();
    let command = NbdCommand::start(&line, &values, scratch.path(), PATIENCE).await;
    let nbd = NbdReader::start(command.expect("starts"), LENGTH, Settings::default()).await;
    assert!(read_all(nbd.expect("opens")).await == want, "nbd");

    let guests = lab.control("GET", "/guests", Value::Null);
    let machine = first(&guests);
    assert_eq!(
        (&machine["attached"], &machine["detached"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        machine["surprise"], 0,
        "it was let go before it was detached"
    );
}

#[tokio::test]
async fn a_disk_that_is_restored_by_attaching_it_is_what_was_written() {
    let Some(lab) = lab() else { return };
    let setting = setting(&lab).await;
    let (guest, live) = (guest(&lab), lab.live_disk("idle", 0));
    lab.control(
        "POST",
        "/guests",
        json!({"appear_after_ms": 300, "needs_scan": true}),
    );
    let attached = setting
        .attach("[lab-ds] idle/idle.vmdk", AttachMode::Write)
        .await;
    let device = guest.find(place(&attached), expected(&attached)).await;
    let device = device.expect("found");
    let mut writer = Box::new(device.writer(Unwritten::AreZeros).await.expect("opens"));
    let mut want = vec![0; LENGTH as usize];
    for (at, length) in [(4096, 100_000), (3 * MIB, 2 * MIB), (LENGTH - 512, 512)] {
        let bytes = noise(length as usize, at);
        want[at as usize..][..bytes.len()].copy_from_slice(&bytes);
        writer.write(at, Bytes::from(bytes)).await.expect("writes");
    }
    writer.finish().await.expect("finishes");
    device.release().await.expect("let go");
    setting.detach(&attached).await;
    assert!(std::fs::read(live).expect("reads") == want);
}

#[tokio::test]
async fn what_a_killed_process_left_attached_is_let_go_and_detached() {
    let Some(lab) = lab() else { return };
    let setting = setting(&lab).await;
    let attached = setting
        .attach(&setting.disk.file_name, AttachMode::Read)
        .await;
    let device = guest(&lab)
        .find(place(&attached), expected(&attached))
        .await;
    // Nothing is done on the way out, as when the process is killed.
    drop(device.expect("found"));
    let next = guest(&lab);
    assert!(next.vacate(place(&attached)).await.expect("let go"));
    setting.detach(&attached).await;
    let removed = setting
        .client
        .discard_snapshot(&setting.snapshot, PATIENCE)
        .await;
    removed.expect("removed");
    let guests = lab.control("GET", "/guests", Value::Null);
    assert_eq!(first(&guests)["surprise"], 0);
}

#[tokio::test]
async fn a_proxy_knows_which_vm_it_is_by_its_firmware() {
    let Some(lab) = lab() else { return };
    let client = lab.client().await;
    let own = guest(&lab).identity().await.expect("known");
    assert_eq!(own.len(), 1);
    let found = client
        .vms_by_bios_uuid(&own[0].to_string())
        .await
        .expect("finds");
    assert_eq!(found, [find(&client, "/DC0/vm/proxy").await.vm]);
}
