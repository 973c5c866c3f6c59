//! A vCenter or host, and who we are there.

use secrecy::SecretString;

use crate::{Fingerprint, Result, Trust};

/// A vCenter or host, and who we are there.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `host` or `host:port`; the port is 443 when none is given.
    pub address: String,
    /// The account.
    pub username: String,
    /// Its password; never printed.
    pub password: SecretString,
    /// How the server's certificate is checked.
    pub trust: Trust,
}

/// The certificate that a server shows, to be compared by a person before it is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedCertificate {
    /// SHA-256 of its DER.
    pub sha256: Fingerprint,
    /// The certificate.
    pub pem: String,
    /// For whom it was issued.
    pub subject: String,
    /// By whom it was issued.
    pub issuer: String,
    /// Its last moment, in seconds since 1970.
    pub not_after: i64,
}

/// Asks the server at `host[:port]` for its certificate, without trusting it and without saying
/// anything to it.
pub async fn probe_certificate(address: &str) -> Result<PresentedCertificate> {
    todo!("{address}")
}
