//! What each way to a disk costs: wall time, and CPU seconds of this process for each GiB.
//!
//! `make bench-transports` runs it against the lab and prints a table in Markdown. The servers run on
//! the same machine and in other processes, so the wall times are those of server and client
//! together; the CPU seconds are the client's alone: what a proxy pays. Takes root, for loop devices.

#[path = "../../vsphere/tests/support/simulator.rs"]
mod simulator;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use simulator::{MIB, PATIENCE, Simulator, find, image, snapshot};
use stillwater_disk::file::{FileReader, Mounts};
use stillwater_disk::folder::{FolderReader, FolderWriter};
use stillwater_disk::hotadd::{Device, Expected, Guest, Place, Roots, Waits};
use stillwater_disk::nbd::{CommandLine, CommandValues, NbdCommand, NbdReader, Settings};
use stillwater_disk::nfc::{NfcReader, NfcWriter, Options, TicketBook};
use stillwater_disk::{BlockPool, DiskReader, DiskWriter, Unwritten, read_ahead};
use stillwater_types::ExtentSet;
use stillwater_vsphere::{
    AttachDisk, AttachMode, AttachedDisk, Client, FrozenDisk, NfcAccess, SnapshotRef, VmRef,
};
use tempfile::TempDir;

/// As a proxy reads: requests of one MiB, so many at a time unless `BENCH_REQUESTS` says otherwise.
const REQUEST_BYTES: u32 = 1 << 20;
const REQUESTS: u64 = 8;

/// The ways in the order in which each round goes through them.
const WAYS: [&str; 10] = [
    "mounted datastore, read",
    "hotadd, read",
    "nbd (qemu-nbd, socket), read",
    "folder (https), read",
    "nfc, read, no round trip",
    "nfc, read, 2 ms round trip",
    "hotadd, write",
    "nfc, write, no round trip",
    "nfc, write, 2 ms round trip",
    "folder (https), write",
];

/// One way, once.
#[derive(Debug, Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(spent.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(spent.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

struct Watch(Instant, Duration);

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), cpu())
    }

    fn stop(&self) -> Cost {
        Cost {
            wall: self.0.elapsed(),
            cpu: cpu() - self.1,
        }
    }
}

/// Reads all of a disk as a proxy does, and gives back its bytes' hash outside of the time.
async fn read(reader: impl DiskReader + 'static) -> Cost {
    let length = reader.length();
    let watch = Watch::start();
    let mut parts = read_ahead(
        Arc::new(reader),
        ExtentSet::whole(length),
        REQUEST_BYTES,
        requests(),
    );
    let mut read = 0;
    while let Some(part) = parts.next().await {
        read += part.expect("reads").1.len() as u64;
    }
    assert_eq!(read, length);
    watch.stop()
}

/// Writes all of a disk.
async fn write(mut writer: Box<dyn DiskWriter>, content: &Bytes) -> Cost {
    let watch = Watch::start();
    let mut rest = content.clone();
    let mut offset = 0;
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(REQUEST_BYTES as usize));
        let next = offset + part.len() as u64;
        writer.write(offset, part).await.expect("writes");
        offset = next;
    }
    writer.finish().await.expect("finishes");
    watch.stop()
}

struct Setting {
    lab: Simulator,
    client: Client,
    web: VmRef,
    idle: VmRef,
    proxy: VmRef,
    snapshot: SnapshotRef,
    disk: FrozenDisk,
    guest: Guest,
    pool: BlockPool,
    content: Bytes,
}

const IDLE: &str = "[lab-ds] idle/idle.vmdk";

impl Setting {
    async fn new(length: u64) -> Self {
        let vms = |dir: &Path| {
            let disk = image(dir, "web.img", length, 1);
            json!([
                {"name": "web", "disks": [{"file": disk}]},
                {"name": "idle", "power": "off", "disks": [{"mib": length / MIB}]},
                {"name": "proxy", "proxy": true, "disks": [{"mib": 16}]},
            ])
        };
        let lab = Simulator::start_with(vms, &[]);
        let client = lab.client().await;
        let vm = async |name| find(&client, name).await.vm;
        let (web, idle, proxy) = (
            vm("/DC0/vm/web").await,
            vm("/DC0/vm/idle").await,
            vm("/DC0/vm/proxy").await,
        );
        let snapshot = snapshot(&client, &web, "frozen").await;
        let config = client.snapshot_config(&snapshot).await;
        let disk = config.expect("a configuration").disks.remove(0);
        let content = std::fs::read(lab.frozen_disk(&snapshot, disk.key)).expect("the kept copy");
        let pool = BlockPool::new(NonZeroUsize::new(8).expect("some"));
        Self {
            guest: guest(&lab, pool.clone()),
            lab,
            client,
            web,
            idle,
            proxy,
            snapshot,
            disk,
            pool,
            content: content.into(),
        }
    }

    fn length(&self) -> u64 {
        self.content.len() as u64
    }

    async fn cost(&self, way: &str) -> Cost {
        let round_trip_ms = if way.contains("2 ms") { 2 } else { 0 };
        let nfc = json!({"round_trip_ms": round_trip_ms});
        self.lab.control("POST", "/nfc", nfc);
        match way.split([' ', ',']).next() {
            Some("mounted") => self.mounted().await,
            Some("hotadd") if way.contains("write") => self.write_attached().await,
            Some("hotadd") => self.attached().await,
            Some("nbd") => self.nbd().await,
            Some("folder") if way.contains("write") => self.upload().await,
            Some("folder") => self.folder().await,
            Some("nfc") if way.contains("write") => self.write_nfc().await,
            _ => self.nfc().await,
        }
    }

    async fn mounted(&self) -> Cost {
        let datastore = self.lab.text("datastore").to_owned();
        let mounted = self
            .lab
            .control("POST", "/mounts", json!({"datastore": datastore}));
        let path = PathBuf::from(mounted["path"].as_str().expect("a path"));
        let mounts = Mounts::new([(datastore.clone(), path)]);
        let mount = mounts.find("ds:///none/", &datastore).expect("mounted");
        let name = &self.disk.file_name;
        let reader = FileReader::open(mount, name, self.length(), &self.pool).await;
        read(reader.expect("opens")).await
    }

    async fn folder(&self) -> Cost {
        let access = self.client.open_data_access(&self.web).await;
        let access = access.expect("access");
        let reader = FolderReader::open(&access, &self.disk.file_name, self.length()).await;
        read(reader.expect("opens")).await
    }

    async fn upload(&self) -> Cost {
        let access = self.client.open_data_access(&self.idle).await;
        let access = access.expect("access");
        let writer = FolderWriter::open(&access, IDLE, self.length()).await;
        let cost = write(Box::new(writer.expect("opens")), &self.content).await;
        self.check_written();
        cost
    }

    async fn ticket(&self, vm: &VmRef, access: NfcAccess) -> Arc<TicketBook> {
        let ticket = self.client.nfc_ticket(vm, access, None).await;
        Arc::new(TicketBook::new([ticket.expect("a ticket").into()]))
    }

    async fn nfc(&self) -> Cost {
        let tickets = self.ticket(&self.web, NfcAccess::ReadVm).await;
        let (name, options) = (&self.disk.file_name, Options::default());
        let reader = NfcReader::open(tickets, name, self.length(), options).await;
        read(reader.expect("opens")).await
    }

    async fn write_nfc(&self) -> Cost {
        let idle = self.client.vm(&self.idle).await.expect("the vm");
        let key = idle.disks[0].key;
        let access = NfcAccess::WriteDisk { key };
        let tickets = self.ticket(&self.idle, access).await;
        let options = Options {
            in_flight_bytes: REQUEST_BYTES * requests() as u32,
            ..Options::default()
        };
        let writer = NfcWriter::open(tickets, IDLE, self.length(), options).await;
        let cost = write(Box::new(writer.expect("opens")), &self.content).await;
        self.check_written();
        cost
    }

    async fn nbd(&self) -> Cost {
        let scratch = TempDir::new().expect("a directory");
        let copy = self.lab.frozen_disk(&self.snapshot, self.disk.key);
        let words = format!(
            "/usr/bin/qemu-nbd --socket={{socket}} --persistent --shared=4 --read-only --format=raw --cache=none {}",
            copy.display()
        );
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let line = CommandLine::parse(&words).expect("a command");
        let values = CommandValues::default();
        let command = NbdCommand::start(&line, &values, scratch.path(), PATIENCE).await;
        let settings = Settings::default();
        let reader = NbdReader::start(command.expect("starts"), self.length(), settings).await;
        read(reader.expect("opens")).await
    }

    async fn attach(&self, file_name: &str, mode: AttachMode) -> (AttachedDisk, Device) {
        let disks = [AttachDisk {
            file_name: file_name.to_owned(),
            capacity_bytes: self.length(),
        }];
        let attached = self
            .client
            .attach_disks(&self.proxy, &disks, mode, PATIENCE)
            .await;
        let attached = attached.expect("attaches").remove(0);
        let place = Place {
            pci_slot: attached.pci_slot.expect("a slot"),
            unit: attached.unit,
        };
        let uuid = attached.backing_uuid.as_deref();
        let expected = Expected::new(attached.capacity_bytes, uuid).expect("a uuid");
        let device = self.guest.find(place, expected).await.expect("found");
        (attached, device)
    }

    async fn detach(&self, attached: &AttachedDisk, device: Device) {
        device.release().await.expect("let go");
        let all = [attached.detachment()];
        let detached = self.client.detach_disks(&self.proxy, &all, PATIENCE).await;
        detached.expect("detaches");
    }

    async fn attached(&self) -> Cost {
        let (attached, device) = self.attach(&self.disk.file_name, AttachMode::Read).await;
        let cost = read(device.reader().await.expect("opens")).await;
        self.detach(&attached, device).await;
        cost
    }

    async fn write_attached(&self) -> Cost {
        let (attached, device) = self.attach(IDLE, AttachMode::Write).await;
        let writer = device.writer(Unwritten::AreZeros).await.expect("opens");
        let cost = write(Box::new(writer), &self.content).await;
        self.detach(&attached, device).await;
        self.check_written();
        cost
    }

    /// A way that is quick because it loses bytes has no place in the table. The next begins anew.
    fn check_written(&self) {
        let file = self.lab.live_disk("idle", 0);
        let written = std::fs::read(&file).expect("reads");
        assert!(written == self.content[..], "what was written differs");
        let file = std::fs::OpenOptions::new().write(true).open(&file);
        let file = file.expect("opens");
        file.set_len(0).expect("is emptied");
        file.set_len(self.length()).expect("has its size");
    }
}

fn guest(lab: &Simulator, pool: BlockPool) -> Guest {
    let guests = lab.control("GET", "/guests", Value::Null);
    let list = match &guests {
        Value::Array(list) => Some(list),
        other => ["proxies", "guests", "machines"]
            .iter()
            .find_map(|name| other[*name].as_array()),
    };
    let machine = list.and_then(|list| list.first()).expect("a proxy");
    let root = |name: &str| PathBuf::from(machine[name].as_str().expect("a directory"));
    let roots = Roots {
        sysfs: root("sys"),
        dev: root("dev"),
    };
    Guest::new(roots, Waits::default(), pool)
}

/// The middle of the CPU times, and of the wall times the middle and the best.
fn summary(mut costs: Vec<Cost>) -> (Cost, Duration) {
    costs.sort_by_key(|cost| cost.cpu);
    let cpu = costs[costs.len() / 2].cpu;
    costs.sort_by_key(|cost| cost.wall);
    let wall = costs[costs.len() / 2].wall;
    (Cost { wall, cpu }, costs[0].wall)
}

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).unwrap_or_default();
    text.parse().unwrap_or(default)
}

fn requests() -> usize {
    number("BENCH_REQUESTS", REQUESTS) as usize
}

#[tokio::main]
async fn main() {
    // `cargo bench` passes flags for a harness that this is not.
    let (mib, rounds) = (number("BENCH_MIB", 512), number("BENCH_ROUNDS", 3).max(1));
    let setting = Setting::new(mib * MIB).await;
    let mut all: Vec<Vec<Cost>> = vec![Vec::new(); WAYS.len()];
    for round in 0..rounds {
        for (way, costs) in WAYS.iter().zip(&mut all) {
            let cost = setting.cost(way).await;
            eprintln!("round {}: {way}: {cost:?}", round + 1);
            costs.push(cost);
        }
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{mib} MiB without zeros, {rounds} rounds, all ways in turn in each, {} requests of 1 MiB in flight; load at the end {load}",
        requests()
    );
    println!("| way | MB/s, best | MB/s, median | CPU s/GiB of the proxy's side, median |");
    println!("|---|---:|---:|---:|");
    let bytes = (mib * MIB) as f64;
    let rate = |wall: Duration| bytes / 1e6 / wall.as_secs_f64();
    let rates = WAYS.iter().zip(all).map(|(way, costs)| {
        let (middle, best) = summary(costs);
        let cpu = middle.cpu.as_secs_f64() / (bytes / (1u64 << 30) as f64);
        let (best, middle) = (rate(best), rate(middle.wall));
        println!("| {way} | {best:.0} | {middle:.0} | {cpu:.2} |");
        best
    });
    let rates: Vec<f64> = rates.collect();
    // The best are those that whatever else ran disturbed least.
    let percent = |with: usize, without: usize| 100.0 * rates[with] / rates[without];
    println!(
        "\nNFC with 2 ms round trip reaches {:.0} % (read) and {:.0} % (write) of its rate without, by the best.",
        percent(5, 4),
        percent(8, 7)
    );
}
