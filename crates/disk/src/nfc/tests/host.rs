//! A host that does as each test wants. It shares no code with the client: numbers are put where the
//! tables say, once more and by hand.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use async_trait::async_trait;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, SupportedProtocolVersion};
use secrecy::SecretString;
use stillwater_types::Fault;
use stillwater_vsphere::{Fingerprint, HostIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::nfc::{Ticket, Tickets};
use crate::task::Running;

pub const GREETING: &str =
    "220 VMware Authentication Daemon Version 1.10: SSL Required, NFCSSL supported/t\r\n";
pub const PATH: &str = "[ds 1] web/web-000002.vmdk";
pub const HANDLE: u64 = 0x5243_0000_0001;

/// A certificate and its key.
pub struct Identity {
    pub der: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["esx".to_owned()]).expect("a key");
        Self {
            der: made.cert.der().clone(),
            key: made.signing_key.serialize_der(),
        }
    }

    pub fn pem(&self) -> String {
        let lines = data_encoding::BASE64_MIME.encode(&self.der);
        format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
    }

    pub fn sha1(&self) -> HostIdentity {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.der);
        HostIdentity::Sha1(digest.as_ref().try_into().expect("twenty bytes"))
    }

    pub fn sha256(&self) -> String {
        Fingerprint::of(&self.der).to_string()
    }

    fn acceptor(&self, versions: &[&'static SupportedProtocolVersion]) -> TlsAcceptor {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], key)
            .expect("a certificate");
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A read, or a fragment of a write.
#[derive(Debug, Clone, Copy)]
pub struct Io {
    /// How many came before, on any connection.
    pub nth: usize,
    pub operation: u32,
    pub is_write: bool,
    pub compression: u32,
    pub offset: u64,
    pub total: u32,
    pub at: u32,
    pub length: u32,
}

/// What the host does with one.
pub enum Deed {
    Serve,
    /// Answers by an error frame.
    Refuse(u32),
    /// Closes the connection.
    Close,
    /// Sends the first fragment and closes the connection.
    CloseWithin,
    /// Sends all fragments but the last, and serves on.
    LeaveOut,
    /// Does nothing, and serves on.
    Ignore,
    /// Sends these bytes, and serves on.
    Say(Vec<u8>),
}

/// How many requests a host wants to see unanswered, of how many in all.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub depth: usize,
    pub total: usize,
}

type Act = dyn Fn(&Io) -> Deed + Send + Sync;

/// How a host behaves.
#[derive(Clone)]
pub struct Script {
    pub greeting: String,
    /// What is answered to `PROXY`.
    pub connect: &'static str,
    /// What is answered to `THUMBPRINT_SHA2`; its second certificate if none.
    pub thumbprint: Option<String>,
    /// Says goodbye in the first TLS session.
    pub says_goodbye: bool,
    pub versions: Vec<&'static SupportedProtocolVersion>,
    pub nfc_version: u32,
    pub capacity: u64,
    /// Refuses to open the disk.
    pub open_error: Option<u32>,
    /// Answers nothing to frames of this type.
    pub mute: Option<u32>,
    /// Sizes of fragments, one after the other.
    pub sizes: &'static [u32],
    /// Shuffles fragments.
    pub shuffle: bool,
    /// Reads that are awaited before they are answered together.
    pub batch: usize,
    /// Answers one request, read or write, only while so many are unanswered, up to the last.
    pub window: Option<Window>,
    pub act: Arc<Act>,
}

impl Script {
    pub fn new(capacity: u64) -> Self {
        Self {
            greeting: GREETING.into(),
            connect: "200 Connect ha-nfcssl\r\n",
            thumbprint: None,
            says_goodbye: false,
            versions: rustls::ALL_VERSIONS.to_vec(),
            nfc_version: 11,
            capacity,
            open_error: None,
            mute: None,
            sizes: &[65536],
            shuffle: false,
            batch: 1,
            window: None,
            act: Arc::new(|_| Deed::Serve),
        }
    }
}

/// A host on loopback.
pub struct Host {
    pub shared: Arc<Shared>,
    _running: Running<()>,
}

/// What all connections of a host share.
pub struct Shared {
    port: u16,
    pub script: Mutex<Script>,
    pub first: Identity,
    /// What the second TLS session shows, if not the same.
    pub second: Option<Identity>,
    pub disk: Mutex<Vec<u8>>,
    tickets: Mutex<HashSet<String>>,
    /// Every request that was served, in order.
    pub requests: Mutex<Vec<Io>>,
    /// All that came inside the second TLS session, of all connections.
    pub heard: Mutex<Vec<u8>>,
    /// What came after the last request of each connection that ended in order.
    pub endings: tokio::sync::watch::Sender<usize>,
}

impl Host {
    pub async fn start(disk: Vec<u8>, change: impl FnOnce(&mut Script)) -> Self {
        Self::with(disk, None, change).await
    }

    pub async fn with(
        disk: Vec<u8>,
        second: Option<Identity>,
        change: impl FnOnce(&mut Script),
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut script = Script::new(disk.len() as u64);
        change(&mut script);
        let shared = Arc::new(Shared {
            port: listener.local_addr().expect("an address").port(),
            script: Mutex::new(script),
            first: Identity::new(),
            second,
            disk: Mutex::new(disk),
            tickets: Mutex::default(),
            requests: Mutex::default(),
            heard: Mutex::default(),
            endings: tokio::sync::watch::Sender::new(0),
        });
        let running = Running::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            shared,
            _running: running,
        }
    }

    /// Whoever gives tickets for this host.
    pub fn desk(&self) -> Arc<Desk> {
        self.desk_with(|_| {})
    }

    pub fn desk_with(&self, change: impl Fn(&mut Ticket) + Send + Sync + 'static) -> Arc<Desk> {
        Arc::new(Desk {
            shared: Arc::clone(&self.shared),
            given: Mutex::new(0),
            change: Box::new(change),
        })
    }

    pub fn requests(&self) -> Vec<Io> {
        self.shared.requests.lock().expect("requests").clone()
    }

    pub fn disk(&self) -> Vec<u8> {
        self.shared.disk.lock().expect("a disk").clone()
    }

    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.script.lock().expect("a script"));
    }

    /// Waits until so many connections ended in order.
    pub async fn ended(&self, count: usize) {
        let mut endings = self.shared.endings.subscribe();
        let ended = endings.wait_for(|ended| *ended >= count);
        let waited = tokio::time::timeout(Duration::from_secs(10), ended).await;
        waited.expect("in time").expect("a host");
    }
}

/// Gives tickets.
pub struct Desk {
    shared: Arc<Shared>,
    given: Mutex<usize>,
    change: Box<dyn Fn(&mut Ticket) + Send + Sync>,
}

impl Desk {
    pub fn given(&self) -> usize {
        *self.given.lock().expect("a number")
    }
}

#[async_trait]
impl Tickets for Desk {
    async fn ticket(&self) -> Result<Ticket, Fault> {
        let number = {
            let mut given = self.given.lock().expect("a number");
            *given += 1;
            *given
        };
        let id = format!("52c0ffee-{number}");
        let mut tickets = self.shared.tickets.lock().expect("tickets");
        tickets.insert(id.clone());
        let mut ticket = Ticket {
            host: "127.0.0.1".into(),
            port: self.shared.port,
            session_id: SecretString::from(id),
            service: "vpxa-nfc".into(),
            identity: self.shared.first.sha1(),
        };
        (self.change)(&mut ticket);
        Ok(ticket)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // What a client breaks off is its own affair.
            drop(serve(tcp, shared).await);
        });
    }
}

async fn serve(mut tcp: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let script = shared.script.lock().expect("a script").clone();
    tcp.set_nodelay(true)?;
    tcp.write_all(script.greeting.as_bytes()).await?;
    let mut tls = shared.first.acceptor(&script.versions).accept(tcp).await?;
    if !authorize(&mut tls, &shared, &script).await? {
        return tls.shutdown().await;
    }
    if script.says_goodbye {
        tls.get_mut().1.send_close_notify();
        tls.flush().await?;
    }
    let (tcp, _) = tls.into_inner();
    let identity = shared.second.as_ref().unwrap_or(&shared.first);
    let tls = identity.acceptor(&script.versions).accept(tcp).await?;
    let mut session = Session {
        tls,
        script,
        shared,
        waiting: Vec::new(),
    };
    session.begin().await?;
    session.frames().await
}

async fn authorize(
    tls: &mut TlsStream<TcpStream>,
    shared: &Shared,
    script: &Script,
) -> io::Result<bool> {
    let mut is_known = false;
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(tls.read_u8().await?);
        }
        let line = String::from_utf8_lossy(&line)
            .trim_end_matches("\r\n")
            .to_owned();
        let answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("SESSION", id) => {
                is_known = shared.tickets.lock().expect("tickets").remove(id);
                continue;
            }
            ("BANNER", "") if line == "BANNER " && is_known => script.greeting.clone(),
            ("THUMBPRINT_SHA2", "PlainText") if is_known => {
                let second = shared.second.as_ref().unwrap_or(&shared.first);
                let thumbprint = script.thumbprint.clone();
                format!("200 {}\r\n", thumbprint.unwrap_or_else(|| second.sha256()))
            }
            ("PROXY", "vpxa-nfcssl") if is_known => {
                tls.write_all(script.connect.as_bytes()).await?;
                tls.flush().await?;
                return Ok(true);
            }
            _ => {
                tls.write_all(b"530 Please login with USER and PASS.\r\n")
                    .await?;
                tls.flush().await?;
                return Ok(false);
            }
        };
        tls.write_all(answer.as_bytes()).await?;
        tls.flush().await?;
    }
}

fn put(bytes: &mut [u8], at: usize, number: u64, width: usize) {
    bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// A frame with a payload.
pub fn frame(kind: u32, operation: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    put(&mut bytes, 0, 0xa100_da7a, 4);
    put(&mut bytes, 4, kind.into(), 4);
    put(&mut bytes, 8, payload.len() as u64, 4);
    put(&mut bytes, 12, operation.into(), 4);
    bytes.extend(payload);
    bytes
}

/// A fragment of the answer to a read.
pub fn fragment(io: &Io, at: u32, plain: u32, compression: u32, extra: &[u8]) -> Vec<u8> {
    let mut payload = [0; 44];
    put(&mut payload, 8, 1 | u64::from(compression) << 32, 8);
    put(&mut payload, 16, io.offset, 8);
    put(&mut payload, 24, io.total.into(), 4);
    put(&mut payload, 28, at.into(), 4);
    put(&mut payload, 32, plain.into(), 4);
    put(&mut payload, 36, extra.len() as u64, 4);
    let mut bytes = frame(7, io.operation, &payload);
    bytes.extend(extra);
    bytes
}

/// FastLZ of level 1: a literal for each run, and the run as matches of what is just before.
fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        block.extend([0, run[0]]);
        let mut left = run.len() - 1;
        while left >= 9 {
            let step = left.min(264);
            block.extend([0xe0, (step - 9) as u8, 0]);
            left -= step;
        }
        block.extend([0, run[0]].repeat(left));
    }
    block
}

struct Session {
    tls: TlsStream<TcpStream>,
    script: Script,
    shared: Arc<Shared>,
    waiting: Vec<Io>,
}

impl Session {
    async fn hear(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut heard = vec![0; bytes];
        self.tls.read_exact(&mut heard).await?;
        self.shared.heard.lock().expect("heard").extend(&heard);
        Ok(heard)
    }

    async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.write_all(bytes).await?;
        self.tls.flush().await
    }

    async fn begin(&mut self) -> io::Result<()> {
        self.hear(264).await?;
        self.hear(264).await?;
        let mut parameters = [0; 264];
        put(&mut parameters, 0, 36, 4);
        put(&mut parameters, 16, 1, 4);
        self.say(&parameters).await?;
        self.hear(264).await?;
        let mut version = [0; 264];
        put(&mut version, 0, 51, 4);
        put(&mut version, 4, self.script.nfc_version.into(), 4);
        self.say(&version).await?;
        let data = self.hear(264).await?;
        self.hear((number(&data, 4) + number(&data, 8)) as usize)
            .await?;
        self.hear(264).await?;
        self.hear(264).await?;
        let mut aio = [0; 264];
        put(&mut aio, 0, 52, 4);
        self.say(&aio).await
    }

    async fn frames(&mut self) -> io::Result<()> {
        loop {
            let header = self.hear(16).await?;
            if number(&header, 0) == 4 {
                self.hear(248).await?;
                self.shared.endings.send_modify(|endings| *endings += 1);
                return Ok(());
            }
            let (kind, operation) = (number(&header, 4), number(&header, 12));
            let payload = self.hear(number(&header, 8) as usize).await?;
            if self.script.mute == Some(kind) {
                continue;
            }
            match kind {
                2 => self.say(&frame(2, operation, &[0; 16])).await?,
                9 => {
                    self.say(&frame(9, operation, &[0, 0, 4, 0].repeat(3)))
                        .await?
                }
                22 => self.say(&frame(22, operation, &[0; 4])).await?,
                4 => self.open(operation, &payload).await?,
                5 | 3 => self.say(&frame(kind, operation, &payload)).await?,
                7 if !self.io(operation, &payload).await? => return Ok(()),
                7 => {}
                _ => return Err(io::Error::other("a frame of another type")),
            }
        }
    }

    async fn open(&mut self, operation: u32, payload: &[u8]) -> io::Result<()> {
        let path = self.hear(number(payload, 0) as usize).await?;
        assert_eq!(path, PATH.as_bytes());
        if let Some(error) = self.script.open_error {
            return self.say(&frame(1, operation, &error.to_le_bytes())).await;
        }
        let mut reply = [0; 60];
        put(&mut reply, 8, HANDLE, 8);
        put(&mut reply, 16, 2, 4);
        put(&mut reply, 20, number(payload, 20).into(), 4);
        put(&mut reply, 28, self.script.capacity, 8);
        put(&mut reply, 36, 512, 4);
        self.say(&frame(4, operation, &reply)).await
    }

    /// Whether the connection goes on.
    async fn io(&mut self, operation: u32, payload: &[u8]) -> io::Result<bool> {
        assert_eq!(long(payload, 0), HANDLE);
        let is_write = number(payload, 8) == 0;
        let io = {
            let mut requests = self.shared.requests.lock().expect("requests");
            let io = Io {
                nth: requests.len(),
                operation,
                is_write,
                compression: number(payload, 12),
                offset: long(payload, 16),
                total: number(payload, 24),
                at: number(payload, 28),
                length: number(payload, 32),
            };
            requests.push(io);
            io
        };
        if is_write {
            let data = self.hear(number(payload, 36) as usize).await?;
            let start = io.offset as usize + io.at as usize;
            self.shared.disk.lock().expect("a disk")[start..start + data.len()]
                .copy_from_slice(&data);
        }
        if let Some(window) = self.script.window {
            return self.slide(window, io).await.map(|()| true);
        }
        match (self.script.act)(&io) {
            Deed::Serve if is_write && io.at + io.length == io.total => {
                self.say(&frame(7, operation, payload)).await?;
            }
            Deed::Serve if is_write => {}
            Deed::Serve => self.wait(io).await?,
            Deed::Refuse(error) => {
                self.say(&frame(1, operation, &error.to_le_bytes())).await?;
            }
            Deed::Close => return Ok(false),
            Deed::CloseWithin => {
                let fragments = self.fragments(&io);
                self.say(&fragments[0]).await?;
                return Ok(false);
            }
            Deed::LeaveOut => {
                let fragments = self.fragments(&io);
                self.say(&fragments[..fragments.len() - 1].concat()).await?;
            }
            Deed::Ignore => {}
            Deed::Say(bytes) => self.say(&bytes).await?,
        }
        Ok(true)
    }

    /// Answers the oldest request once enough are unanswered, and all after the last.
    async fn slide(&mut self, window: Window, io: Io) -> io::Result<()> {
        self.waiting.push(io);
        let ready = match io.nth + 1 == window.total {
            true => self.waiting.len(),
            false => usize::from(self.waiting.len() == window.depth),
        };
        for io in self.waiting.drain(..ready).collect::<Vec<_>>() {
            let answer = match io.is_write {
                true => frame(7, io.operation, &[0; 44]),
                false => self.fragments(&io).concat(),
            };
            self.say(&answer).await?;
        }
        Ok(())
    }

    /// Answers when enough requests wait.
    async fn wait(&mut self, io: Io) -> io::Result<()> {
        self.waiting.push(io);
        if self.waiting.len() < self.script.batch {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        let mut all: Vec<_> = waiting.iter().flat_map(|io| self.fragments(io)).collect();
        if self.script.shuffle {
            let mut state = waiting.len() as u64 + io.offset;
            for at in (1..all.len()).rev() {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                all.swap(at, (state >> 33) as usize % (at + 1));
            }
        }
        self.say(&all.concat()).await
    }

    fn fragments(&self, io: &Io) -> Vec<Vec<u8>> {
        let disk = self.shared.disk.lock().expect("a disk");
        let (mut at, mut fragments) = (0, Vec::new());
        for size in self.script.sizes.iter().cycle() {
            let length = (*size).min(io.total - at);
            let start = io.offset as usize + at as usize;
            let plain = &disk[start..start + length as usize];
            let packed = compress(plain);
            let is_smaller = io.compression == 2 && packed.len() < plain.len();
            fragments.push(match is_smaller {
                true => fragment(io, at, length, 2, &packed),
                false => fragment(io, at, length, 0, plain),
            });
            at += length;
            if at == io.total {
                break;
            }
        }
        fragments
    }
}
