//! The cluster's certificate authority.

use std::time::{Duration, SystemTime};

use stillwater_types::{ClusterId, Fault, NodeId, Role};
use zeroize::Zeroizing;

/// How long a node's certificate is valid.
pub const NODE_VALIDITY: Duration = Duration::from_secs(30 * 86_400);
/// How long an administrator's certificate is valid.
pub const ADMIN_VALIDITY: Duration = Duration::from_secs(7 * 86_400);

/// SHA-256 of an authority's public key info.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

/// Signs the certificates of one cluster.
pub struct Ca {}

impl Ca {
    /// Makes the authority of a new cluster.
    pub fn create(cluster: ClusterId, now: SystemTime) -> Result<Self, Fault> {
        unimplemented!("{cluster} {now:?}")
    }
    /// Reads what [`Ca::certificate_pem`] and [`Ca::key_pem`] wrote.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Fault> {
        unimplemented!("{certificate} {}", key.len())
    }
    /// The authority's certificate.
    pub fn certificate_pem(&self) -> &str {
        unimplemented!()
    }
    /// The authority's private key, PKCS #8.
    pub fn key_pem(&self) -> Zeroizing<String> {
        unimplemented!()
    }
    /// The cluster it signs for.
    pub fn cluster(&self) -> ClusterId {
        unimplemented!()
    }
    /// What a join token pins.
    pub fn spki_pin(&self) -> Pin {
        unimplemented!()
    }
    /// Signs a certificate for the public key of a PKCS #10 request in DER; the leaf, then the
    /// authority's, in PEM.
    pub fn issue(
        &self,
        request: &[u8],
        role: Role,
        node: NodeId,
        validity: Duration,
        now: SystemTime,
    ) -> Result<String, Fault> {
        unimplemented!("{request:?} {role} {node} {validity:?} {now:?}")
    }
}
