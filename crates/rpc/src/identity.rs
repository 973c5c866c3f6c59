//! What a role is: its private key, its certificate and the authority it trusts.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use stillwater_types::{ClusterId, Fault, NodeId, Role};

/// A private key that waits for its certificate.
pub struct PendingKey {}

impl PendingKey {
    /// Makes a key and a PKCS #10 request in DER that proves its possession.
    pub fn generate() -> Result<(Self, Vec<u8>), Fault> {
        unimplemented!()
    }
    /// Joins the key with the chain that the authority answered (PEM: leaf, then authority).
    pub fn certify(self, chain_pem: &str) -> Result<Identity, Fault> {
        unimplemented!("{chain_pem}")
    }
}

/// A role's key, certificate and authority; clones share it, and all see a renewal at once.
#[derive(Clone)]
pub struct Identity(#[allow(dead_code)] Arc<()>);

impl Identity {
    /// Whether `dir` holds an identity.
    pub fn exists(dir: &Path) -> bool {
        unimplemented!("{dir:?}")
    }
    /// Reads the identity that [`Identity::save`] wrote to `dir`.
    pub fn load(dir: &Path) -> Result<Self, Fault> {
        unimplemented!("{dir:?}")
    }
    /// Writes the identity to `dir` (0600, whole or not at all, durable). Blocks on the disk.
    pub fn save(&self, dir: &Path) -> Result<(), Fault> {
        unimplemented!("{dir:?}")
    }
    /// The role in the certificate.
    pub fn role(&self) -> Role {
        unimplemented!()
    }
    /// The node in the certificate.
    pub fn node(&self) -> NodeId {
        unimplemented!()
    }
    /// The cluster in the certificate.
    pub fn cluster(&self) -> ClusterId {
        unimplemented!()
    }
    /// When the certificate starts to be valid.
    pub fn not_before(&self) -> SystemTime {
        unimplemented!()
    }
    /// When the certificate ends to be valid.
    pub fn not_after(&self) -> SystemTime {
        unimplemented!()
    }
    /// When two thirds of the certificate's time are over.
    pub fn renew_at(&self) -> SystemTime {
        unimplemented!()
    }
    /// Whether two thirds of the certificate's time are over.
    pub fn needs_renewal(&self, now: SystemTime) -> bool {
        unimplemented!("{now:?}")
    }
    /// Puts a renewed certificate in place for all clones; connections that come use it.
    pub fn replace(&self, key: PendingKey, chain_pem: &str) -> Result<(), Fault> {
        drop(key);
        unimplemented!("{chain_pem}")
    }
}
