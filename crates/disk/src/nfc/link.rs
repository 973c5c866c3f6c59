//! One disk over the sessions that it takes to move it.
//!
//! A session ends with its host: by maintenance, a crash, or a server that was restarted. Then whoever
//! finds out first gets a new ticket and opens the disk again, and all that was not answered is asked
//! for again: a read has no effect, and a write has the same one twice.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::connection::Connection;
use super::dial::{dial, within};
use super::error::{Result, Step};
use super::frame::{Access, Opened};
use super::options::Options;
use super::{Error, Tickets, setup};

/// A disk that is opened again when its session is lost.
pub(super) struct Link {
    tickets: Arc<dyn Tickets>,
    path: String,
    length: u64,
    access: Access,
    options: Options,
    sector_bytes: u32,
    current: Mutex<Current>,
}

/// The session of now. Sessions are counted, so that of many who lose one only the first replaces it.
struct Current {
    count: u64,
    state: State,
}

enum State {
    Open(Arc<Connection>),
    /// Given up. Nobody tries again.
    Ended(Error),
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("path", &self.path)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Opens the disk at `path`, which has `length` bytes.
    pub(super) async fn open(
        tickets: Arc<dyn Tickets>,
        path: &str,
        length: u64,
        access: Access,
        options: Options,
    ) -> Result<Self> {
        let mut link = Self {
            tickets,
            path: path.to_owned(),
            length,
            access,
            options: options.bounded(),
            sector_bytes: 0,
            current: Mutex::new(Current {
                count: 0,
                state: State::Ended(Error::Closed),
            }),
        };
        // A ticket may have been used or be too old; a host that cannot be reached is no matter
        // of tickets, and there are other ways to a disk.
        let is_passing =
            |error: &Error| matches!(error, Error::TicketRefused { .. } | Error::Lost(_));
        let connection = link.connect_patiently(is_passing).await?;
        link.sector_bytes = connection.opened().sector_bytes;
        link.current.get_mut().state = State::Open(Arc::new(connection));
        Ok(link)
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Requests begin and end at multiples of this, which the length is one of.
    pub(super) fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    /// Attempts something, on new sessions when the one of now is lost.
    pub(super) async fn retried<T, F>(&self, attempt: impl Fn(Arc<Connection>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let (mut count, mut connection) = self.current().await?;
        for _ in 0..self.options.reconnects {
            match attempt(connection).await {
                Err(error) if error.wants_new_ticket() => {
                    (count, connection) = self.replace(count, &error).await?;
                }
                outcome => return outcome,
            }
        }
        attempt(connection).await
    }

    /// Closes the disk and waits until the host says so; nothing can be done with it any more.
    pub(super) async fn close(&self) -> Result<()> {
        let close = async |connection: Arc<Connection>| connection.close().await;
        self.retried(close).await?;
        self.current.lock().await.state = State::Ended(Error::Closed);
        Ok(())
    }

    async fn current(&self) -> Result<(u64, Arc<Connection>)> {
        self.current.lock().await.get()
    }

    /// A session after the one that was number `lost`.
    async fn replace(&self, lost: u64, why: &Error) -> Result<(u64, Arc<Connection>)> {
        let mut current = self.current.lock().await;
        if current.count == lost && matches!(current.state, State::Open(_)) {
            tracing::warn!(path = %self.path, error = %why, "an nfc session was lost, taking a new ticket");
            // A host that died may hold the disk for a while, and refuse it meanwhile.
            let is_passing =
                |error: &Error| error.wants_new_ticket() || matches!(error, Error::Refused { .. });
            current.state = match self.connect_patiently(is_passing).await {
                Ok(connection) => State::Open(Arc::new(connection)),
                Err(error) => State::Ended(error),
            };
            current.count += 1;
        }
        current.get()
    }

    async fn connect_patiently(&self, is_passing: impl Fn(&Error) -> bool) -> Result<Connection> {
        let mut delay = self.options.reconnect_delay;
        for _ in 1..self.options.reconnects {
            match self.connect().await {
                Err(error) if is_passing(&error) => {
                    tracing::debug!(path = %self.path, %error, "trying again with a new ticket");
                }
                outcome => return outcome,
            }
            tokio::time::sleep(delay).await;
            delay = delay.saturating_mul(2);
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<Connection> {
        let ticket = self.tickets.ticket().await.map_err(Error::NoTicket)?;
        let address = format!("{}:{}", ticket.host, ticket.port);
        let timeouts = &self.options.timeouts;
        let mut channel = dial(&ticket, timeouts).await?;
        let opening = setup::open(&mut channel, &self.path, self.access);
        let opened = within(&address, Step::Open, timeouts.handshake, opening).await?;
        self.check(&opened)?;
        tracing::debug!(path = %self.path, address, "opened a disk through nfc");
        Ok(Connection::start(channel, opened, address, &self.options))
    }

    fn check(&self, opened: &Opened) -> Result<()> {
        let is_whole = opened.capacity.is_multiple_of(opened.sector_bytes.into());
        match opened.capacity == self.length && is_whole {
            true => Ok(()),
            false => Err(Error::WrongLength {
                expected: self.length,
                found: opened.capacity,
            }),
        }
    }
}

impl Current {
    fn get(&self) -> Result<(u64, Arc<Connection>)> {
        match &self.state {
            State::Open(connection) => Ok((self.count, Arc::clone(connection))),
            State::Ended(error) => Err(error.clone()),
        }
    }
}
