//! How a server's certificate is checked. There is no third way: never insecure.

use crate::Fingerprint;

/// How a server's certificate is checked.
#[derive(Clone, PartialEq, Eq)]
pub enum Trust {
    /// By certificate authorities in PEM: chain, name and validity are checked. A certificate
    /// that is itself in the file is trusted as it is.
    Ca(Vec<u8>),
    /// By the SHA-256 of the server's own certificate.
    Fingerprint(Fingerprint),
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trust::Ca(pem) => write!(f, "Ca({} bytes)", pem.len()),
            Trust::Fingerprint(fingerprint) => write!(f, "Fingerprint({fingerprint})"),
        }
    }
}
