//! What the protocol is spoken over.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use stillwater_vsphere::{Trust, untrusted_certificate};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::NbdError;
use super::handshake::{Export, Handshake, Step, Wishes};

/// Any connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A socket of this machine.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "{}", path.display()),
            Address::Tcp(address) => f.write_str(address),
        }
    }
}

impl Address {
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Requests are small and waited for.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// How a server's certificate is checked.
#[derive(Debug, Clone)]
pub struct Tls {
    /// By which authorities or fingerprint.
    pub trust: Trust,
    /// The name that the certificate must have, unless it is known by its fingerprint.
    pub server_name: String,
}

/// Does the handshake, with TLS if it is given.
pub(super) async fn begin(
    mut stream: Box<dyn Stream>,
    server: &str,
    export: &str,
    tls: Option<&Tls>,
) -> Result<(Box<dyn Stream>, Export), NbdError> {
    let mut handshake = Handshake::new(Wishes {
        export: export.to_owned(),
        tls: tls.is_some(),
    })?;
    loop {
        // Just so many bytes: what a stranger puts behind the answer to STARTTLS would otherwise
        // be taken for words under TLS.
        let mut words = vec![0; handshake.wanted()];
        let lost = |error: io::Error| NbdError::lost(server, &error);
        stream.read_exact(&mut words).await.map_err(lost)?;
        for step in handshake.take(&words)? {
            match step {
                Step::Read(_) => {}
                Step::Send(words) => {
                    stream.write_all(&words).await.map_err(lost)?;
                    stream.flush().await.map_err(lost)?;
                }
                Step::StartTls => stream = secure(stream, server, tls).await?,
                Step::Done(export) => return Ok((stream, export)),
            }
        }
    }
}

async fn secure(
    stream: Box<dyn Stream>,
    server: &str,
    tls: Option<&Tls>,
) -> Result<Box<dyn Stream>, NbdError> {
    let untrusted = |problem: String| NbdError::Untrusted {
        server: server.to_owned(),
        problem,
    };
    let tls = tls.ok_or_else(|| NbdError::protocol("it begins tls unasked"))?;
    let config = tls.trust.client_config().map_err(untrusted)?;
    let name = ServerName::try_from(tls.server_name.clone())
        .map_err(|_| untrusted(format!("{:?} is no name of a server", tls.server_name)))?;
    let connector = TlsConnector::from(Arc::new(config));
    match connector.connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(match untrusted_certificate(server, &error) {
            Some(reason) => untrusted(reason.to_string()),
            None => NbdError::lost(server, &error),
        }),
    }
}
