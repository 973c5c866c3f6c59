//! What `init` decided once and for all: the cluster's id and keys.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_rpc::Ca;
use stillwater_rpc::grant::GrantSigner;
use stillwater_seal::{Purpose, RecoveryPublicKey};
use stillwater_types::{ClusterId, Fault, NodeId, Reason};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::home::publish;
use crate::secret::{Sealed, Secrets};

const VERSION: u32 = 1;

/// The cluster's charter as its file holds it. Private keys are sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charter {
    version: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// The controller's node id.
    pub node: NodeId,
    /// The controller's name.
    pub name: String,
    /// `host:port` where it is called, unless the configuration says otherwise.
    pub advertise: String,
    /// When it was made.
    pub created_at: Timestamp,
    recovery_key: Hex32,
    authority_certificate: String,
    authority_key: Sealed,
    grant_key: Sealed,
}

/// The keys that a charter is made of.
pub struct Keys {
    /// The certificate authority.
    pub authority: Arc<Ca>,
    /// Signs grants.
    pub grants: Arc<GrantSigner>,
    /// Dataset keys are wrapped for it.
    pub recovery: RecoveryPublicKey,
}

/// What a charter says of the controller itself.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The controller's node id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// `host:port` where it is called.
    pub advertise: String,
    /// Now.
    pub created_at: Timestamp,
}

impl Charter {
    /// Seals `keys` into a charter.
    pub fn seal(terms: Terms, keys: &Keys, secrets: &Secrets) -> Result<Self, Fault> {
        let Terms {
            node,
            name,
            advertise,
            created_at,
        } = terms;
        let cluster = keys.authority.cluster();
        let context = cluster.as_bytes();
        let authority_key = keys.authority.key_pem();
        Ok(Self {
            version: VERSION,
            cluster,
            node,
            name,
            advertise,
            created_at,
            recovery_key: Hex32(*keys.recovery.as_bytes()),
            authority_certificate: keys.authority.certificate_pem().to_owned(),
            authority_key: secrets.seal(
                Purpose::AuthorityKey,
                context,
                authority_key.as_bytes(),
            )?,
            grant_key: secrets.seal(Purpose::GrantKey, context, &keys.grants.to_pkcs8())?,
        })
    }

    /// Opens the keys.
    ///
    /// # Errors
    /// `SECRET_UNREADABLE` when `secrets` has another key than `init` had.
    pub fn open(&self, secrets: &Secrets) -> Result<Keys, Fault> {
        let context = self.cluster.as_bytes();
        let key = secrets.open(Purpose::AuthorityKey, context, &self.authority_key)?;
        let key = std::str::from_utf8(&key)
            .map(|pem| Zeroizing::new(pem.to_owned()))
            .map_err(|_| Fault::new(Reason::SecretUnreadable, "the authority's key is no text"))?;
        let authority = Ca::from_pem(&self.authority_certificate, &key)?;
        if authority.cluster() != self.cluster {
            let message = "the authority's certificate is of another cluster; restore charter.json";
            return Err(Fault::new(Reason::SecretUnreadable, message));
        }
        let grants = secrets.open(Purpose::GrantKey, context, &self.grant_key)?;
        Ok(Keys {
            authority: Arc::new(authority),
            grants: Arc::new(GrantSigner::from_pkcs8(&grants)?),
            recovery: RecoveryPublicKey::from_bytes(self.recovery_key.0),
        })
    }

    /// Writes the charter durably.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let charter = |source| Error::Charter {
            path: path.to_owned(),
            source,
        };
        let mut text = serde_json::to_vec_pretty(self).map_err(charter)?;
        text.push(b'\n');
        publish(path, &text)
    }

    /// Reads what [`Charter::write`] wrote.
    pub fn read(path: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let charter = |source| Error::Charter {
            path: path.to_owned(),
            source,
        };
        let text = fs::read(path).map_err(Error::file("read", path))?;
        let Versioned { version } = serde_json::from_slice(&text).map_err(charter)?;
        if version > VERSION {
            return Err(Error::CharterTooNew(path.to_owned()));
        }
        serde_json::from_slice(&text).map_err(charter)
    }
}

/// 32 bytes in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Hex32([u8; 32]);

impl From<Hex32> for String {
    fn from(Hex32(bytes): Hex32) -> Self {
        blake3::Hash::from_bytes(bytes).to_hex().to_string()
    }
}

impl TryFrom<String> for Hex32 {
    type Error = blake3::HexError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes()))
    }
}
