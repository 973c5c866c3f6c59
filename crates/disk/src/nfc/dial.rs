//! From a ticket to the TLS session in which NFC is spoken.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use stillwater_vsphere::Fingerprint;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{Result, Step, Violation};
use super::handover::Handover;
use super::options::Timeouts;
use super::trust::{any_name, client_config, mismatch};
use super::{Error, Ticket, authd};

/// What NFC is spoken in.
pub(super) type Channel = TlsStream<Handover<TcpStream>>;

/// Goes from a ticket to the second TLS session.
pub(super) async fn dial(ticket: &Ticket, timeouts: &Timeouts) -> Result<Channel> {
    Dial::new(ticket, timeouts)?.run().await
}

/// Fails with the name of the step when it takes too long.
pub(super) async fn within<T>(
    address: &str,
    step: Step,
    limit: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let outcome = tokio::time::timeout(limit, work).await;
    outcome.unwrap_or_else(|_| {
        Err(Error::TimedOut {
            address: address.to_owned(),
            step,
        })
    })
}

struct Dial<'a> {
    ticket: &'a Ticket,
    timeouts: &'a Timeouts,
    /// For messages.
    address: String,
    session: SecretString,
    proxy: String,
}

impl<'a> Dial<'a> {
    /// Looks at everything in the ticket before anything is sent.
    fn new(ticket: &'a Ticket, timeouts: &'a Timeouts) -> Result<Self> {
        let bad = |problem: &str| Error::BadTicket {
            problem: problem.to_owned(),
        };
        Ok(Self {
            ticket,
            timeouts,
            address: format!("{}:{}", ticket.host, ticket.port),
            session: authd::session(&ticket.session_id)
                .ok_or_else(|| bad("its session id is no word"))?,
            proxy: authd::proxy(&ticket.service).ok_or_else(|| bad("its service is no word"))?,
        })
    }

    async fn run(&self) -> Result<Channel> {
        let limit = self.timeouts.handshake;
        let connecting = self.connect();
        let tcp = within(
            &self.address,
            Step::Connect,
            self.timeouts.connect,
            connecting,
        )
        .await?;
        let mut tcp = Handover::new(tcp);
        let greeting = self.greeting(&mut tcp);
        within(&self.address, Step::Greeting, limit, greeting).await?;
        tcp.begin_first();
        let handshake = self.handshake(tcp, None);
        let mut first = within(&self.address, Step::FirstTls, limit, handshake).await?;
        let lines = self.authorize(&mut first);
        let announced = within(&self.address, Step::Authorize, limit, lines).await?;
        // Dropped, as the host does: no word of goodbye, which its second session would not expect.
        let (mut tcp, _) = first.into_inner();
        tcp.begin_second();
        let handshake = self.handshake(tcp, announced);
        within(&self.address, Step::SecondTls, limit, handshake).await
    }

    async fn connect(&self) -> Result<TcpStream> {
        let failed = |source| Error::Connect {
            address: self.address.clone(),
            source: Arc::new(source),
        };
        let tcp = TcpStream::connect((self.ticket.host.as_str(), self.ticket.port))
            .await
            .map_err(failed)?;
        // Requests are small, and each is wanted at once.
        tcp.set_nodelay(true).map_err(failed)?;
        Ok(tcp)
    }

    async fn greeting(&self, tcp: &mut Handover<TcpStream>) -> Result<()> {
        let line = read_line(tcp).await?;
        let address = self.address.clone();
        if !authd::is_greeting(&line) {
            return Err(Error::NotReady { address, line });
        }
        match authd::offers_tls(&line) {
            true => Ok(()),
            false => Err(Error::PlainOnly { address, line }),
        }
    }

    async fn handshake(
        &self,
        tcp: Handover<TcpStream>,
        announced: Option<Fingerprint>,
    ) -> Result<Channel> {
        let config = client_config(&self.ticket.identity, announced)?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(any_name(), tcp);
        connecting.await.map_err(|error| match mismatch(&error) {
            Some(problem) => Error::Untrusted {
                address: self.address.clone(),
                problem,
            },
            None => Error::lost(error),
        })
    }

    /// Shows the ticket and asks for NFC; returns the fingerprint that the host announces.
    async fn authorize(&self, tls: &mut Channel) -> Result<Option<Fingerprint>> {
        write(tls, self.session.expose_secret()).await?;
        let line = ask(tls, authd::BANNER).await?;
        if !authd::is_greeting(&line) {
            return Err(self.refused("BANNER", line));
        }
        // One that does not know the question announces nothing: then the certificate must be
        // the one that is known.
        let announced = authd::thumbprint(&ask(tls, authd::THUMBPRINT).await?).flatten();
        let line = ask(tls, &self.proxy).await?;
        match authd::connected(&line) {
            Some(service) if authd::is_over_tls(service) => Ok(announced),
            Some(_) => Err(Error::PlainOnly {
                address: self.address.clone(),
                line,
            }),
            None => Err(self.refused("PROXY", line)),
        }
    }

    fn refused(&self, command: &'static str, line: String) -> Error {
        Error::TicketRefused {
            address: self.address.clone(),
            command,
            line,
        }
    }
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, line: &str) -> Result<String> {
    write(stream, line).await?;
    read_line(stream).await
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, line: &str) -> Result<()> {
    stream
        .write_all(line.as_bytes())
        .await
        .map_err(Error::lost)?;
    stream.flush().await.map_err(Error::lost)
}

/// Reads byte by byte: what follows the line is for somebody else.
async fn read_line<S: AsyncRead + Unpin>(stream: &mut S) -> Result<String> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if line.len() >= authd::LINE_BYTES_MAX {
            return Err(Violation::Line.into());
        }
        line.push(stream.read_u8().await.map_err(Error::lost)?);
    }
    Ok(authd::text(&line)?.to_owned())
}
