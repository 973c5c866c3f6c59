//! How hard a host is worked.

use std::time::Duration;

/// More in one request makes vCenter's side refuse.
pub const REQUEST_BYTES_MAX: u32 = 2 << 20;
/// A session may pin so many bytes of a host's buffers.
pub const IN_FLIGHT_BYTES_MAX: u32 = 16_000_000;

/// How hard a host is worked, and how long it is waited for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Larger reads and writes are split into requests of so many bytes, at most
    /// [`REQUEST_BYTES_MAX`].
    pub request_bytes: u32,
    /// Bytes that are asked for or sent and not yet answered, at most [`IN_FLIGHT_BYTES_MAX`]. It is
    /// this session's share of the host's memory for NFC.
    pub in_flight_bytes: u32,
    /// Asks for compressed fragments. They cost the host and us CPU, so only for slow links.
    pub compression: bool,
    /// How often in a row a lost session is replaced by one with a new ticket.
    pub reconnects: u32,
    /// The wait before the second of these attempts; each is twice the one before.
    pub reconnect_delay: Duration,
    /// How long a host is waited for.
    pub timeouts: Timeouts,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request_bytes: 1 << 20,
            in_flight_bytes: 8 << 20,
            compression: false,
            reconnects: 5,
            reconnect_delay: Duration::from_millis(500),
            timeouts: Timeouts::default(),
        }
    }
}

impl Options {
    /// The same within what hosts bear.
    pub(super) fn bounded(mut self) -> Self {
        self.in_flight_bytes = self.in_flight_bytes.clamp(1 << 16, IN_FLIGHT_BYTES_MAX);
        let most = REQUEST_BYTES_MAX.min(self.in_flight_bytes);
        // Whole sectors, so that requests after the first begin at one.
        self.request_bytes = (self.request_bytes & !0xfff).clamp(1 << 12, most & !0xfff);
        self
    }
}

/// How long a host is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Until it accepts the connection.
    pub connect: Duration,
    /// For each step between connection and open disk.
    pub handshake: Duration,
    /// While a request is not answered and nothing else is.
    pub reply: Duration,
    /// For the end of a session that nobody needs any more.
    pub close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            handshake: Duration::from_secs(30),
            reply: Duration::from_secs(60),
            close: Duration::from_secs(10),
        }
    }
}
