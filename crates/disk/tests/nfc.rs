//! Disks through the lab's NFC servers, which somebody else wrote.

#[path = "../../vsphere/tests/support/simulator.rs"]
mod simulator;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use secrecy::SecretString;
use serde_json::{Value, json};
use simulator::{MIB, PATIENCE, Simulator, binary, find, image, noise, snapshot};
use stillwater_disk::nfc::{
    Error, NfcReader, NfcRewriter, NfcWriter, Options, Step, Ticket, TicketBook, Tickets, Timeouts,
    host_certificate,
};
use stillwater_disk::{DiskReader, DiskRewriter, DiskWriter, read_ahead};
use stillwater_types::{Extent, ExtentSet, Fault, Reason};
use stillwater_vsphere::{
    Client, FrozenDisk, HostIdentity, NewVm, NfcAccess, PlacementSpec, SnapshotRef, VmRef,
};

const LENGTH: u64 = 8 * MIB;
const WHOLE: Extent = Extent::new(0, LENGTH);

/// Asks the lab's vCenter for each ticket.
struct Desk {
    client: Client,
    vm: VmRef,
    access: NfcAccess,
    /// Changes what vCenter gave.
    change: fn(&mut Ticket),
    given: AtomicUsize,
}

#[async_trait]
impl Tickets for Desk {
    async fn ticket(&self) -> Result<Ticket, Fault> {
        self.given.fetch_add(1, Ordering::SeqCst);
        let ticket = self.client.nfc_ticket(&self.vm, self.access, None).await;
        let mut ticket = ticket.map(Ticket::from).map_err(|error| error.fault())?;
        (self.change)(&mut ticket);
        Ok(ticket)
    }
}

/// A lab with a VM that has a snapshot.
struct Frozen {
    lab: Simulator,
    client: Client,
    vm: VmRef,
    snapshot: SnapshotRef,
    disk: FrozenDisk,
}

impl Frozen {
    async fn new() -> Self {
        let vms = |dir: &Path| json!([{"name": "web", "cbt": true, "disks": [{"file": image(dir, "web.img", LENGTH, 1)}]}]);
        let lab = Simulator::start_with(vms, &["--nfc-seed", "7"]);
        let client = lab.client().await;
        let vm = find(&client, "/DC0/vm/web").await.vm;
        let snapshot = snapshot(&client, &vm, "frozen").await;
        let config = client.snapshot_config(&snapshot).await;
        let disk = config.expect("a configuration").disks.remove(0);
        Self {
            lab,
            client,
            vm,
            snapshot,
            disk,
        }
    }

    fn desk(&self, change: fn(&mut Ticket)) -> Arc<Desk> {
        Arc::new(Desk {
            client: self.client.clone(),
            vm: self.vm.clone(),
            access: NfcAccess::ReadDisk { key: self.disk.key },
            change,
            given: AtomicUsize::new(0),
        })
    }

    async fn open(&self, options: Options) -> stillwater_disk::Result<NfcReader> {
        NfcReader::open(self.desk(|_| {}), &self.disk.file_name, LENGTH, options).await
    }

    fn content(&self) -> Vec<u8> {
        let file = self.lab.frozen_disk(&self.snapshot, self.disk.key);
        std::fs::read(file).expect("the kept copy")
    }

    fn set(&self, settings: Value) {
        self.lab.control("POST", "/nfc", settings);
    }

    fn hosts(&self) -> Vec<Value> {
        let nfc = self.lab.control("GET", "/nfc", Value::Null);
        nfc["hosts"].as_array().expect("a list").clone()
    }

    /// Waits until no session is open: a host still reads what was sent on one that its client has
    /// left, and would do there what it is to do on the next.
    async fn no_sessions(&self) {
        let is_open = |host: &Value| host["usage"]["sessions"] != 0;
        while self.hosts().iter().any(is_open) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What clients said that the protocol does not have.
    fn odd(&self) -> Value {
        self.lab.control("GET", "/nfc", Value::Null)["odd"].clone()
    }
}

fn options() -> Options {
    Options {
        request_bytes: 256 * 1024,
        reconnect_delay: Duration::from_millis(10),
        ..Options::default()
    }
}

/// For what never comes.
fn impatient() -> Options {
    let timeouts = Timeouts {
        reply: Duration::from_secs(1),
        ..Timeouts::default()
    };
    Options {
        timeouts,
        reconnects: 0,
        ..options()
    }
}

#[track_caller]
fn cause(error: stillwater_disk::Error) -> Error {
    match error {
        stillwater_disk::Error::NfcRead { source, .. }
        | stillwater_disk::Error::NfcWrite { source, .. } => source,
        error => panic!("{error:?}"),
    }
}

async fn read_all(reader: impl DiskReader + 'static) -> Vec<u8> {
    let mut content = Vec::new();
    let mut pieces = read_ahead(Arc::new(reader), ExtentSet::whole(LENGTH), 300_000, 4);
    while let Some(piece) = pieces.next().await {
        let (offset, bytes) = piece.expect("a piece");
        assert_eq!(offset, content.len() as u64);
        content.extend(bytes);
    }
    content
}

#[tokio::test]
async fn a_frozen_disk_reads_as_it_is_whatever_way_the_host_sends_it() {
    let frozen = Frozen::new().await;
    let expected = frozen.content();
    for (compression, level, shuffle) in [
        (false, 1, false),
        (false, 1, true),
        (true, 1, true),
        (true, 2, true),
    ] {
        frozen.set(json!({"shuffle": shuffle, "fastlz_level": level}));
        let options = Options {
            compression,
            ..options()
        };
        let reader = frozen.open(options).await.expect("opens");
        assert!(
            read_all(reader).await == expected,
            "{compression} {level} {shuffle}"
        );
    }
    assert_eq!(frozen.odd(), json!([]));
}

#[tokio::test]
async fn a_host_is_known_by_the_certificate_of_its_ticket_whichever_way_that_says_it() {
    let frozen = Frozen::new().await;
    for pem_tickets in [false, true] {
        frozen.set(json!({"pem_tickets": pem_tickets}));
        frozen.open(options()).await.expect("opens");
        for kind in ["wrong-certificate", "wrong-inner-certificate"] {
            frozen.lab.fault("nfc-connect", kind, 0, 1);
            let error = frozen.open(options()).await.expect_err(kind);
            assert_eq!(error.fault().reason, Reason::CertificateUntrusted, "{kind}");
        }
    }
    let other = |ticket: &mut Ticket| {
        let key = rcgen::generate_simple_self_signed(["esx".to_owned()]).expect("a key");
        ticket.identity = host_certificate(key.cert.pem().as_bytes()).expect("pem");
    };
    let opened = NfcReader::open(
        frozen.desk(other),
        &frozen.disk.file_name,
        LENGTH,
        options(),
    );
    assert!(matches!(
        cause(opened.await.expect_err("another")),
        Error::Untrusted { .. }
    ));
}

#[tokio::test]
async fn a_ticket_that_the_host_does_not_take_is_replaced() {
    let frozen = Frozen::new().await;
    frozen
        .lab
        .fault("NfcRandomAccessOpenReadonly", "lost-ticket", 0, 2);
    let desk = frozen.desk(|_| {});
    let reader = NfcReader::open(desk.clone(), &frozen.disk.file_name, LENGTH, options()).await;
    assert!(read_all(reader.expect("opens")).await == frozen.content());
    assert_eq!(desk.given.load(Ordering::SeqCst), 3);
    frozen
        .lab
        .fault("NfcRandomAccessOpenReadonly", "lost-ticket", 0, -1);
    let error = cause(frozen.open(options()).await.expect_err("always"));
    assert!(matches!(error, Error::TicketRefused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_ticket_opens_a_disk_once() {
    let frozen = Frozen::new().await;
    let (desk, path) = (frozen.desk(|_| {}), &frozen.disk.file_name);
    let used = desk.ticket().await.expect("a ticket");
    let open = |tickets: Vec<Ticket>, options| {
        NfcReader::open(Arc::new(TicketBook::new(tickets)), path, LENGTH, options)
    };
    let first = open(vec![used.clone()], impatient()).await.expect("opens");
    // While the first session lasts, and when it is over.
    let again = open(vec![used.clone()], impatient()).await;
    let error = cause(again.expect_err("a used ticket"));
    assert!(matches!(error, Error::TicketRefused { .. }), "{error:?}");
    first.close().await.expect("closes");
    let again = open(vec![used.clone()], impatient()).await;
    let error = cause(again.expect_err("a used ticket"));
    assert!(matches!(error, Error::TicketRefused { .. }), "{error:?}");
    let fresh = desk.ticket().await.expect("a ticket");
    let reader = open(vec![used, fresh], options()).await.expect("opens");
    assert!(read_all(reader).await == frozen.content());
}

#[tokio::test]
async fn a_host_that_is_slow_is_waited_for_until_it_is_silent() {
    let frozen = Frozen::new().await;
    frozen.set(json!({"shuffle": false}));
    // Four fragments of a request, 0.4 s apart: longer altogether than a host may be silent.
    frozen.lab.fault("nfc-read", "slow:0.4", 0, 1);
    let reader = frozen.open(impatient()).await.expect("opens");
    let read = reader.read(Extent::new(0, 256 * 1024)).await;
    assert!(read.expect("reads")[..] == frozen.content()[..256 * 1024]);
    frozen.lab.fault("nfc-read", "slow:20", 0, 1);
    let silent = reader.read(Extent::new(0, 256 * 1024)).await;
    let error = cause(silent.expect_err("silence"));
    let step = Step::Reply;
    assert!(
        matches!(&error, Error::TimedOut { step: found, .. } if *found == step),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_disk_is_read_to_its_end_though_sessions_are_lost() {
    let frozen = Frozen::new().await;
    for kind in ["close-mid", "drop"] {
        frozen.lab.fault("nfc-read", kind, 3, 2);
        let reader = frozen.open(options()).await.expect("opens");
        assert!(read_all(reader).await == frozen.content(), "{kind}");
    }
    // A host goes into maintenance: its sessions end, and the VM's disks are had from the other.
    let reader = Arc::new(frozen.open(options()).await.expect("opens"));
    reader.read(Extent::new(0, 4096)).await.expect("reads");
    let mut ended = 0;
    for host in frozen.hosts() {
        let path = format!(
            "/hosts/{}/maintenance",
            host["moref"].as_str().expect("a name")
        );
        let answer = frozen.lab.control("POST", &path, json!({"on": true}));
        if answer["ended"] == 1 {
            ended += 1;
            let read = reader.read(WHOLE).await.expect("reads");
            assert!(read[..] == frozen.content());
        }
        frozen.lab.control("POST", &path, json!({"on": false}));
    }
    assert_eq!(ended, 1);
}

#[tokio::test]
async fn an_answer_that_is_wrong_is_an_error_and_never_content() {
    let frozen = Frozen::new().await;
    let kinds = [
        "wrong-total",
        "wrong-dest",
        "wrong-offset",
        "short",
        "twice",
        "lost-fragment",
    ];
    for kind in kinds {
        frozen.no_sessions().await;
        frozen.lab.fault("nfc-read", kind, 1, 1);
        let reader = frozen.open(impatient()).await.expect("opens");
        let read = reader.read(WHOLE).await.map(drop);
        let error = cause(read.expect_err(kind));
        assert!(
            matches!(
                error,
                Error::Protocol(_)
                    | Error::TimedOut {
                        step: Step::Reply,
                        ..
                    }
            ),
            "{kind}: {error:?}"
        );
    }
    for level in [1, 2] {
        frozen.no_sessions().await;
        frozen.set(json!({"fastlz_level": level}));
        frozen.lab.fault("nfc-read", "corrupt", 0, -1);
        let options = Options {
            compression: true,
            ..impatient()
        };
        let reader = frozen.open(options).await.expect("opens");
        let error = reader.read(WHOLE).await.map(drop).expect_err("damaged");
        assert!(matches!(cause(error), Error::Protocol(_)));
        frozen.lab.control("DELETE", "/faults", Value::Null);
    }
}

#[tokio::test]
async fn what_a_host_refuses_is_told_with_its_number() {
    let frozen = Frozen::new().await;
    frozen.lab.fault("nfc-read", "error:77", 0, 1);
    let reader = frozen.open(options()).await.expect("opens");
    let error = cause(
        reader
            .read(Extent::new(0, 4096))
            .await
            .expect_err("refused"),
    );
    assert!(error.to_string().contains("error 0x4d"), "{error}");
    assert!(read_all(reader).await == frozen.content());
    frozen.lab.fault("nfc-open", "error:9", 0, 1);
    let error = cause(frozen.open(options()).await.expect_err("refused"));
    assert!(
        error.to_string().contains("open the disk: error 0x09"),
        "{error}"
    );
    // A ticket for reading does not write.
    let path = &frozen.disk.file_name;
    let writer = NfcWriter::open(frozen.desk(|_| {}), path, LENGTH, options()).await;
    let error = cause(writer.expect_err("refused"));
    assert!(error.to_string().contains("for reading only"), "{error}");
}

#[tokio::test]
async fn a_disk_that_was_closed_is_no_more_counted_by_its_host() {
    let frozen = Frozen::new().await;
    frozen.set(json!({"open_disks": 1}));
    for _ in 0..3 {
        let reader = frozen.open(options()).await.expect("opens");
        let error = cause(frozen.open(impatient()).await.expect_err("one at a time"));
        assert!(error.to_string().contains("error 0x05"), "{error}");
        reader.close().await.expect("closes");
    }
    assert_eq!(frozen.odd(), json!([]));
}

/// A new VM with one empty disk.
async fn restored(lab: &Simulator) -> (Client, VmRef, String, i32) {
    let client = lab.client().await;
    let old = find(&client, "/DC0/vm/web").await.vm;
    let saved = client.vm(&old).await.expect("a vm").config_xml;
    let new = NewVm::from_config(&saved, "restored").expect("usable");
    let spec = PlacementSpec {
        datastore: "lab-ds".into(),
        ..PlacementSpec::default()
    };
    let placement = client.find_placement(&spec).await.expect("a place");
    let created = client.create_vm(&new, &placement, PATIENCE).await;
    let created = created.expect("a vm");
    let disk = created.disks.first().expect("a disk");
    let (path, key) = (disk.file_name.clone(), disk.key);
    (client, created.vm, path, key)
}

#[tokio::test]
async fn a_restored_disk_is_byte_for_byte_what_was_written_though_sessions_are_lost() {
    let frozen = Frozen::new().await;
    let (client, vm, path, key) = restored(&frozen.lab).await;
    let desk = Arc::new(Desk {
        client,
        vm,
        access: NfcAccess::WriteDisk { key },
        change: |_| {},
        given: AtomicUsize::new(0),
    });
    let mut expected = vec![0; LENGTH as usize];
    for (round, fault) in [None, Some("close-mid"), Some("drop-after"), Some("drop")]
        .into_iter()
        .enumerate()
    {
        if let Some(kind) = fault {
            frozen.lab.fault("nfc-write", kind, 1, 2);
        }
        let writer = NfcWriter::open(desk.clone(), &path, LENGTH, options()).await;
        let mut writer = Box::new(writer.expect("opens"));
        for (seed, (offset, bytes)) in
            (1..).zip([(512, 100_000), (3 * MIB, 1_700_001), (LENGTH - 9, 9)])
        {
            let data = noise(bytes, seed + round as u64 * 10);
            expected[offset as usize..][..bytes].copy_from_slice(&data);
            writer
                .write(offset, Bytes::from(data))
                .await
                .expect("writes");
        }
        writer.finish().await.expect("finishes");
        let written = std::fs::read(frozen.lab.live_disk("restored", 0)).expect("the flat file");
        assert!(written == expected, "{fault:?}");
    }
    // What the host says of it is the same.
    let reader = NfcReader::open(desk, &path, LENGTH, options())
        .await
        .expect("opens");
    assert!(read_all(reader).await == expected);
    assert_eq!(frozen.odd(), json!([]));
}

#[tokio::test]
async fn parts_of_a_disk_are_replaced_though_sessions_are_lost_and_nothing_else_is_touched() {
    let frozen = Frozen::new().await;
    let (client, vm, path, key) = restored(&frozen.lab).await;
    let desk = Arc::new(Desk {
        client,
        vm,
        access: NfcAccess::WriteDisk { key },
        change: |_| {},
        given: AtomicUsize::new(0),
    });
    let flat = frozen.lab.live_disk("restored", 0);
    let mut expected = noise(LENGTH as usize, 99);
    std::fs::write(&flat, &expected).expect("content");
    for (round, fault) in [None, Some("close-mid"), Some("drop-after"), Some("drop")]
        .into_iter()
        .enumerate()
    {
        if let Some(kind) = fault {
            frozen.lab.fault("nfc-write", kind, 1, 2);
        }
        let rewriter = NfcRewriter::open(desk.clone(), &path, LENGTH, options()).await;
        let rewriter = Box::new(rewriter.expect("opens"));
        let places = [
            (3 * MIB, 1_700_000_u64.next_multiple_of(4096) as usize),
            (8192, 4096),
        ];
        for (seed, (offset, bytes)) in (1..).zip(places) {
            let data = noise(bytes, seed + round as u64 * 10);
            expected[offset as usize..][..bytes].copy_from_slice(&data);
            let written = rewriter.write(offset, data.into()).await;
            written.expect("writes");
        }
        let read = rewriter.read(WHOLE).await.expect("reads");
        assert!(read == expected, "{fault:?}");
        rewriter.finish().await.expect("finishes");
        let written = std::fs::read(&flat).expect("the flat file");
        assert!(written == expected, "{fault:?}");
    }
    assert_eq!(frozen.odd(), json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn operations_are_numbered_in_the_order_in_which_the_host_sees_them() {
    let frozen = Frozen::new().await;
    let reader = Arc::new(frozen.open(options()).await.expect("opens"));
    let readers = (0..8u64).map(|n| {
        let reader = Arc::clone(&reader);
        tokio::spawn(async move {
            for round in 0..400 {
                let sector = (n * 400 + round) % (LENGTH / 512);
                let extent = Extent::new(sector * 512, 512);
                reader.read(extent).await.expect("reads");
            }
        })
    });
    for reading in readers.collect::<Vec<_>>() {
        reading.await.expect("no panic");
    }
    assert_eq!(frozen.odd(), json!([]));
}

#[tokio::test]
async fn a_round_trip_costs_little_since_many_requests_are_in_flight() {
    let frozen = Frozen::new().await;
    let small = || Options {
        request_bytes: 64 * 1024,
        ..options()
    };
    let mut times = Vec::new();
    for round_trip_ms in [0, 20] {
        // A link that a request of 64 KiB has for 3 ms: one after the other, 128 of them would
        // wait for 2.5 s more.
        frozen.set(json!({"round_trip_ms": round_trip_ms, "bytes_per_second": 20_000_000}));
        let reader = frozen.open(small()).await.expect("opens");
        let begin = Instant::now();
        assert!(reader.read(WHOLE).await.expect("reads")[..] == frozen.content());
        times.push(begin.elapsed());
    }
    assert!(
        times[1] < times[0] + Duration::from_millis(1500),
        "{times:?}"
    );
}

/// The lab's server for clients that somebody else wrote: what it prints is all that is known of it.
struct Alone {
    child: Child,
    asking: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    told: HashMap<String, String>,
}

impl Alone {
    fn start() -> Self {
        let mut child = Command::new(binary())
            .args(["nfc", "--mib", "8", "--die-with-parent"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let asking = child.stdin.take();
        let mut alone = Self {
            child,
            asking,
            lines,
            told: HashMap::new(),
        };
        while alone.listen() != "write" {}
        alone
    }

    /// Takes in a line and says what it was about.
    fn listen(&mut self) -> String {
        let line = self.lines.next().expect("a line").expect("utf-8");
        let (word, value) = line.split_once(' ').expect("a word and a value");
        self.told.insert(word.into(), value.into());
        word.into()
    }

    fn one_more(&mut self, kind: &str) -> Ticket {
        let asking = self.asking.as_mut().expect("a pipe");
        writeln!(asking, "{kind}").expect("asks");
        assert_eq!(self.listen(), kind);
        self.ticket(kind)
    }

    fn ticket(&self, kind: &str) -> Ticket {
        let pem = std::fs::read(&self.told["certificate"]).expect("a certificate");
        Ticket {
            host: self.told["host"].clone(),
            port: self.told["port"].parse().expect("a port"),
            identity: host_certificate(&pem).expect("pem"),
            service: self.told["service"].clone(),
            session_id: SecretString::from(self.told[kind].clone()),
        }
    }

    /// Ends it as ctrl-c does and answers whether that went well.
    fn stop(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
        self.child.wait().expect("ends").success()
    }
}

#[tokio::test]
async fn what_the_lab_prints_for_other_clients_is_all_that_one_needs() {
    let mut alone = Alone::start();
    let (path, file) = (alone.told["path"].clone(), alone.told["file"].clone());
    assert_eq!(alone.told["bytes"], LENGTH.to_string());
    let book = |ticket| Arc::new(TicketBook::new([ticket]));
    let writer = NfcWriter::open(book(alone.ticket("write")), &path, LENGTH, impatient()).await;
    let mut writer = Box::new(writer.expect("opens"));
    let content = noise(LENGTH as usize, 3);
    writer
        .write(0, content.clone().into())
        .await
        .expect("writes");
    writer.finish().await.expect("finishes");
    assert!(std::fs::read(&file).expect("the flat file") == content);
    let digits = alone.told["thumbprint"].replace(':', "");
    let sha1 = data_encoding::HEXUPPER.decode(digits.as_bytes());
    let sha1 = sha1.expect("digits").try_into().expect("twenty bytes");
    let by_thumbprint = Ticket {
        identity: HostIdentity::Sha1(sha1),
        ..alone.ticket("read")
    };
    for ticket in [by_thumbprint, alone.one_more("read")] {
        let reader = NfcReader::open(book(ticket), &path, LENGTH, impatient()).await;
        assert!(read_all(reader.expect("opens")).await == content);
    }
    assert!(alone.stop());
    assert!(!Path::new(&file).exists(), "it leaves nothing behind");
}
