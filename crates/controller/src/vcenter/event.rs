//! What the journal says about vCenters.

use std::fmt;

use serde::{Deserialize, Serialize};
use stillwater_types::{RequestId, VcenterId};

use crate::secret::Sealed;

/// How a vCenter's certificate is known. There is no third way: never silently insecure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// PEM of the certificate authority.
    Ca(String),
    /// SHA-256 of the server's certificate.
    Pin(Fingerprint),
}

/// SHA-256 of a certificate, written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = blake3::HexError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        // 32 bytes of hexadecimal are read the same way whichever hash they came from.
        blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes()))
    }
}

/// One change of which vCenters are registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VcenterEvent {
    /// A vCenter was registered after a successful login.
    Added {
        /// Its id.
        vcenter: VcenterId,
        /// The request that did it.
        request: RequestId,
        /// The name that people use.
        name: String,
        /// `host` or `host:port`.
        address: String,
        /// The account.
        username: String,
        /// Its password, sealed for this vCenter's id.
        password: Sealed,
        /// How its certificate is known.
        trust: Trust,
    },
    /// A vCenter and its password were forgotten.
    Removed {
        /// Which vCenter.
        vcenter: VcenterId,
    },
}
