//! The right to open one disk on one host, once.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::SecretString;
use stillwater_types::{Fault, Reason};
use stillwater_vsphere::{HostIdentity, NfcTicket};

use super::Error;

/// The right to open one disk on one host, once.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Name or address of the host.
    pub host: String,
    /// Its port, 902.
    pub port: u16,
    /// How its certificate is known: whole where vCenter's record of the host or the ticket has
    /// it, else by SHA-1. Nothing is trusted because it was seen first.
    pub identity: HostIdentity,
    /// What is asked for, `vpxa-nfc`. Its form inside TLS is used whatever stands here.
    pub service: String,
    /// The ticket's secret.
    pub session_id: SecretString,
}

impl From<NfcTicket> for Ticket {
    fn from(ticket: NfcTicket) -> Self {
        let NfcTicket {
            host,
            port,
            identity,
            service,
            service_version: _,
            session_id,
        } = ticket;
        Self {
            host,
            port,
            identity,
            service,
            session_id,
        }
    }
}

/// A host's identity by its certificate in PEM, as vCenter's record of the host has it.
///
/// # Errors
/// When it is no PEM.
pub fn host_certificate(pem: &[u8]) -> Result<HostIdentity, Error> {
    let der = CertificateDer::from_pem_slice(pem);
    let der = der.map_err(|error| Error::BadTicket {
        problem: format!("the host's certificate: {error}"),
    })?;
    Ok(HostIdentity::Certificate(der.to_vec()))
}

/// Whoever gives tickets for one disk: vCenter, asked by whoever has a session there.
#[async_trait]
pub trait Tickets: Send + Sync {
    /// A ticket that nobody has used.
    async fn ticket(&self) -> Result<Ticket, Fault>;
}

/// Tickets that were taken in advance, by somebody who may talk to vCenter, for somebody who may not.
#[derive(Debug)]
pub struct TicketBook(Mutex<VecDeque<Ticket>>);

impl TicketBook {
    /// Gives these, first to last.
    pub fn new(tickets: impl IntoIterator<Item = Ticket>) -> Self {
        Self(Mutex::new(tickets.into_iter().collect()))
    }
}

#[async_trait]
impl Tickets for TicketBook {
    async fn ticket(&self) -> Result<Ticket, Fault> {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.pop_front().ok_or_else(|| {
            let words = "all tickets that were given for this disk are used, start the run again";
            Fault::new(Reason::DiskReadFailed, words)
        })
    }
}
