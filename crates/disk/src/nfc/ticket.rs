//! The right to open one disk on one host, once.

use async_trait::async_trait;
use secrecy::SecretString;
use stillwater_types::Fault;

/// The right to open one disk on one host, once.
///
/// One of `certificate` and `thumbprint` is needed: nothing is trusted because it was seen first.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Name or address of the host; where a ticket leaves it out, the host that gave it.
    pub host: String,
    /// Its port, 902.
    pub port: u16,
    /// The ticket's secret.
    pub session_id: SecretString,
    /// What is asked for, `vpxa-nfc`. Its form inside TLS is used whatever stands here.
    pub service: String,
    /// The host's certificate in PEM, of the ticket or of vCenter's record of the host. Where it
    /// is given it alone decides.
    pub certificate: Option<String>,
    /// SHA-1 of the host's certificate, in hexadecimal with or without colons.
    pub thumbprint: Option<String>,
}

/// Whoever gives tickets for one disk: vCenter, asked by whoever has a session there.
#[async_trait]
pub trait Tickets: Send + Sync {
    /// A ticket that nobody has used.
    async fn ticket(&self) -> Result<Ticket, Fault>;
}
