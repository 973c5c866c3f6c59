//! Several connections to one export.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use stillwater_types::Extent;
use tokio::time::{Instant, sleep, timeout};

pub use super::stream::Tls;

use super::NbdError;
use super::connection::Connection;
use super::handshake::Export;
use super::stream::{Address, Stream, begin};
use super::wire::Command;
use crate::block::Shelf;

/// Between two tries to connect to a server that is starting.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// A disk on an NBD server.
#[derive(Debug, Clone)]
pub struct Endpoint {
    address: Address,
    export: String,
    tls: Option<Tls>,
}

impl Endpoint {
    /// A server behind a socket of this machine.
    pub fn unix(socket: impl Into<PathBuf>) -> Self {
        Self::new(Address::Unix(socket.into()))
    }

    /// A server at `host:port`.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self::new(Address::Tcp(address.into()))
    }

    fn new(address: Address) -> Self {
        Self {
            address,
            export: String::new(),
            tls: None,
        }
    }

    /// The export of that name instead of the server's default.
    #[must_use]
    pub fn export(self, name: impl Into<String>) -> Self {
        Self {
            export: name.into(),
            ..self
        }
    }

    /// Only with TLS.
    #[must_use]
    pub fn tls(self, tls: Tls) -> Self {
        Self {
            tls: Some(tls),
            ..self
        }
    }
}

/// Bounds of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Connections, when the server says that several see the same.
    pub connections: usize,
    /// Requests under way on each.
    pub in_flight: usize,
    /// How long one connection may take to begin.
    pub connect: Duration,
    /// How long a server that refuses connections is taken for one that is starting.
    pub starting: Duration,
    /// How long one request may take.
    pub answer: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 4,
            in_flight: 8,
            connect: Duration::from_secs(30),
            starting: Duration::ZERO,
            answer: Duration::from_secs(120),
        }
    }
}

/// A client of one export.
#[derive(Debug)]
pub struct NbdClient {
    connections: Vec<Connection>,
    next: AtomicUsize,
    export: Export,
    server: String,
    shelf: Arc<Shelf>,
}

impl NbdClient {
    /// Connects, more than once if the server allows it.
    pub async fn connect(endpoint: &Endpoint, settings: Settings) -> Result<Self, NbdError> {
        let (first, export) = dial(endpoint, settings).await?;
        let wanted = match export.abilities.can_multi_conn() {
            true => settings.connections.max(1),
            false => 1,
        };
        let mut connections = vec![first];
        while connections.len() < wanted {
            match dial(endpoint, settings).await {
                Ok((next, same)) if same == export => connections.push(next),
                Ok(_) => {
                    return Err(NbdError::protocol(
                        "it describes the export otherwise the second time",
                    ));
                }
                // Some allow so many and no more.
                Err(error) => {
                    tracing::debug!(%error, connections = connections.len(), "no further connection");
                    break;
                }
            }
        }
        Ok(Self {
            shelf: Shelf::new(connections.len().saturating_mul(settings.in_flight)),
            connections,
            next: AtomicUsize::new(0),
            export,
            server: endpoint.address.to_string(),
        })
    }

    /// What the server agreed to.
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Where it is, for messages.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Reads a range that is within the disk and within the bounds of [`Export`].
    ///
    /// If its connection is lost, another is asked: reading twice does no harm.
    pub async fn read(&self, extent: Extent) -> Result<Bytes, NbdError> {
        let bytes = usize::try_from(extent.length)
            .map_err(|_| NbdError::protocol("a request of ours is too large"))?;
        let mut tries = self.connections.len();
        loop {
            let connection = self.pick();
            match connection.read(extent, self.shelf.take(bytes)).await {
                Ok(buffer) => return Ok(buffer.freeze(0..bytes)),
                Err(error) if error.is_of_connection() && tries > 1 && self.is_alive() => {
                    tries -= 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What ranges hold from the start of `extent` on: lengths and flags of `base:allocation`.
    pub async fn ranges(&self, extent: Extent) -> Result<Vec<(u32, u32)>, NbdError> {
        self.pick().ranges(extent).await
    }

    pub(super) async fn write(&self, offset: u64, bytes: Bytes) -> Result<(), NbdError> {
        let extent = Extent::new(offset, bytes.len() as u64);
        self.pick().act(Command::WRITE, extent, bytes).await
    }

    pub(super) async fn zero(&self, extent: Extent) -> Result<(), NbdError> {
        let connection = self.pick();
        let command = Command::WRITE_ZEROES;
        connection.act(command, extent, Bytes::new()).await
    }

    /// Has on the medium what was written. What other connections wrote counts, since several are
    /// made only where the server says so.
    pub(super) async fn flush(&self) -> Result<(), NbdError> {
        let nothing = Extent::new(0, 0);
        self.pick().act(Command::FLUSH, nothing, Bytes::new()).await
    }

    /// Tells the server that this is the end.
    pub async fn close(self) {
        for connection in self.connections {
            connection.close().await;
        }
    }

    fn is_alive(&self) -> bool {
        self.connections.iter().any(|one| !one.is_broken())
    }

    /// The next connection that is whole; the next one if none is.
    fn pick(&self) -> &Connection {
        let count = self.connections.len();
        let at = self.next.fetch_add(1, Ordering::Relaxed) % count;
        let (before, from) = self.connections.split_at(at);
        let mut all = from.iter().chain(before);
        let whole = all.clone().find(|one| !one.is_broken());
        whole
            .or_else(|| all.next())
            .expect("a client has a connection")
    }
}

async fn dial(endpoint: &Endpoint, settings: Settings) -> Result<(Connection, Export), NbdError> {
    let server = endpoint.address.to_string();
    let work = async {
        let stream = open(endpoint, settings, &server).await?;
        let tls = endpoint.tls.as_ref();
        begin(stream, &server, &endpoint.export, tls).await
    };
    let outcome = timeout(settings.connect, work).await;
    let (stream, export) = outcome.unwrap_or_else(|_| {
        Err(NbdError::Connect {
            server: server.clone(),
            problem: "it does not answer".into(),
        })
    })?;
    let Settings {
        in_flight, answer, ..
    } = settings;
    let connection = Connection::new(stream, server, &export, in_flight, answer);
    Ok((connection, export))
}

async fn open(
    endpoint: &Endpoint,
    settings: Settings,
    server: &str,
) -> Result<Box<dyn Stream>, NbdError> {
    let began = Instant::now();
    loop {
        match endpoint.address.connect().await {
            Ok(stream) => return Ok(stream),
            Err(error) if began.elapsed() >= settings.starting => {
                return Err(NbdError::Connect {
                    server: server.to_owned(),
                    problem: error.to_string(),
                });
            }
            Err(_) => sleep(TRY_AGAIN).await,
        }
    }
}
