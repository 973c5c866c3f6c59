//! Connections: accepted, proven, counted, and cut when the time has come.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::ca::not_after;
use crate::peer::{Caller, Peer};
use crate::tls;

/// How long a handshake may take; whoever is slower is broken or fills our table.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections and handshakes at once: some hundred nodes with a few connections each.
const CONNECTIONS_MAX: usize = 1024;
/// Connections without a certificate at once, and how long one may last. They only join.
const ANONYMOUS_MAX: usize = 32;
const ANONYMOUS_LIFETIME: Duration = Duration::from_secs(60);
/// The wait after the system refused a connection, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

type Accepted = mpsc::Sender<io::Result<Connection>>;

/// Turns TCP connections into proven ones.
#[derive(Clone)]
pub(super) struct Acceptor {
    tls: TlsAcceptor,
    all: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
    cut: CancellationToken,
}

impl Acceptor {
    /// Connections break when `cut` comes.
    pub(super) fn new(config: Arc<ServerConfig>, cut: CancellationToken) -> Self {
        Self {
            tls: config.into(),
            all: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            anonymous: Arc::new(Semaphore::new(ANONYMOUS_MAX)),
            cut,
        }
    }

    /// Accepts until `stop`. A full table leaves newcomers in the kernel's queue.
    pub(super) async fn run(
        self,
        listener: TcpListener,
        accepted: Accepted,
        stop: CancellationToken,
    ) {
        stop.run_until_cancelled(async {
            while let Ok(permit) = self.all.clone().acquire_owned().await {
                match listener.accept().await {
                    Ok((tcp, remote)) => {
                        tokio::spawn(self.clone().prove(tcp, remote, permit, accepted.clone()));
                    }
                    Err(err) => {
                        tracing::warn!(error = %err, "failed to accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        })
        .await;
    }

    async fn prove(
        self,
        tcp: TcpStream,
        remote: SocketAddr,
        permit: OwnedSemaphorePermit,
        accepted: Accepted,
    ) {
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.handshake(tcp, remote));
        let ended = self.cut.run_until_cancelled(handshake).await;
        match ended {
            Some(Ok(Ok(mut connection))) => {
                connection.permits.push(permit);
                // The receiver is gone only while we shut down.
                if accepted.send(Ok(connection)).await.is_err() {
                    tracing::debug!(%remote, "connection came too late");
                }
            }
            Some(Ok(Err(err))) => tracing::debug!(%remote, error = %err, "connection refused"),
            Some(Err(_)) => {
                tracing::debug!(%remote, "connection refused: the handshake took too long")
            }
            None => {}
        }
    }

    async fn handshake(&self, tcp: TcpStream, remote: SocketAddr) -> io::Result<Connection> {
        tcp.set_nodelay(true)?;
        let tls = self.tls.accept(tcp).await?;
        let peer = proven(&tls)?;
        let mut permits = Vec::with_capacity(2);
        let cut = self.cut.clone();
        let end: Pin<Box<dyn Future<Output = ()> + Send>> = if peer.is_some() {
            Box::pin(cut.cancelled_owned())
        } else {
            let anonymous = self.anonymous.clone().try_acquire_owned();
            permits
                .push(anonymous.map_err(|_| io::Error::other("too many without a certificate"))?);
            Box::pin(async move {
                cut.run_until_cancelled(tokio::time::sleep(ANONYMOUS_LIFETIME))
                    .await;
            })
        };
        Ok(Connection {
            tls,
            caller: Caller {
                peer,
                remote: Some(remote),
            },
            end,
            permits,
        })
    }
}

/// Who the handshake proved; an error for a certificate of our authority without a name of ours.
fn proven(tls: &TlsStream<TcpStream>) -> io::Result<Option<Peer>> {
    let (_, session) = tls.get_ref();
    let Some(leaf) = session.peer_certificates().and_then(|chain| chain.first()) else {
        return Ok(None);
    };
    let nameless = || io::Error::new(io::ErrorKind::InvalidData, "the certificate names no node");
    let name = tls::name_of(leaf).ok_or_else(nameless)?;
    let expires_at = not_after(leaf).ok_or_else(nameless)?;
    Ok(Some(Peer {
        cluster: name.cluster,
        role: name.role,
        node: name.node,
        expires_at,
    }))
}

/// A proven connection.
pub(super) struct Connection {
    tls: TlsStream<TcpStream>,
    caller: Caller,
    /// Completes when the connection must not be read any more.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Given back when the connection is dropped.
    permits: Vec<OwnedSemaphorePermit>,
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.tls).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
