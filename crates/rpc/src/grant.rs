//! Grants: signed, narrow, short-lived permissions of one proxy on one repository for one run.
//!
//! The controller signs, the repository verifies. A grant is no secret: it works only for the
//! proxy it names, whose certificate the TLS connection proves.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use stillwater_types::{DatasetId, Fault, NodeId, Reason, RunId};
use zeroize::Zeroizing;

use crate::signing::{self, SigningKey};

/// What starts every grant, and separates its signatures from any other use of the key.
const MAGIC: &[u8; 24] = b"stillwater grant v1\0\0\0\0\0";
const BODY_BYTES: usize = MAGIC.len() + 5 * 16 + 1 + 8;
const SIGNATURE_BYTES: usize = 64;

/// How many bytes a grant has.
pub const GRANT_BYTES: usize = BODY_BYTES + SIGNATURE_BYTES;

/// One act that a grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Ask which chunks are there.
    Find,
    /// Store packs.
    Put,
    /// Read records.
    Read,
}

/// A set of verbs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Verbs(u8);

impl Verbs {
    const KNOWN: u8 = 0b111;

    const fn bit(verb: Verb) -> u8 {
        match verb {
            Verb::Find => 1,
            Verb::Put => 2,
            Verb::Read => 4,
        }
    }

    /// Whether the set has `verb`.
    pub const fn contains(self, verb: Verb) -> bool {
        self.0 & Self::bit(verb) != 0
    }
}

impl FromIterator<Verb> for Verbs {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        Self(
            verbs
                .into_iter()
                .fold(0, |bits, verb| bits | Self::bit(verb)),
        )
    }
}

impl<const N: usize> From<[Verb; N]> for Verbs {
    fn from(verbs: [Verb; N]) -> Self {
        verbs.into_iter().collect()
    }
}

/// What a grant says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Names the grant in logs.
    pub grant: [u8; 16],
    /// The run it was made for.
    pub run: RunId,
    /// The only dataset it opens.
    pub dataset: DatasetId,
    /// The only repository that may honour it.
    pub repository: NodeId,
    /// The only proxy that may use it.
    pub proxy: NodeId,
    /// What the proxy may do.
    pub verbs: Verbs,
    /// Seconds since 1970 after which it is void.
    pub expires_at: u64,
}

impl Claims {
    fn encode(&self) -> Vec<u8> {
        // Destructured so that a new claim cannot be left unsigned.
        let Self {
            grant,
            run,
            dataset,
            repository,
            proxy,
            verbs,
            expires_at,
        } = self;
        let mut bytes = Vec::with_capacity(GRANT_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(grant);
        bytes.extend_from_slice(run.as_bytes());
        bytes.extend_from_slice(dataset.as_bytes());
        bytes.extend_from_slice(repository.as_bytes());
        bytes.extend_from_slice(proxy.as_bytes());
        bytes.push(verbs.0);
        bytes.extend_from_slice(&expires_at.to_be_bytes());
        bytes
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let rest = body.strip_prefix(MAGIC)?;
        let (grant, rest) = rest.split_first_chunk::<16>()?;
        let (run, rest) = rest.split_first_chunk::<16>()?;
        let (dataset, rest) = rest.split_first_chunk::<16>()?;
        let (repository, rest) = rest.split_first_chunk::<16>()?;
        let (proxy, rest) = rest.split_first_chunk::<16>()?;
        let (&verbs, rest) = rest.split_first()?;
        let expires_at = u64::from_be_bytes(rest.try_into().ok()?);
        Some(Self {
            grant: *grant,
            run: RunId::from_bytes(*run),
            dataset: DatasetId::from_bytes(*dataset),
            repository: NodeId::from_bytes(*repository),
            proxy: NodeId::from_bytes(*proxy),
            verbs: Verbs(verbs & Verbs::KNOWN),
            expires_at,
        })
    }
}

/// The controller's half.
pub struct GrantSigner(SigningKey);

impl GrantSigner {
    /// Makes a key.
    ///
    /// # Errors
    /// `BUG` when the system gives no randomness.
    pub fn generate() -> Result<Self, Fault> {
        SigningKey::generate().map(Self)
    }

    /// Reads the key that [`GrantSigner::to_pkcs8`] gave.
    ///
    /// # Errors
    /// `SECRET_UNREADABLE` when it is none.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, Fault> {
        SigningKey::from_pkcs8(pkcs8).map(Self)
    }

    /// The key, for the caller to keep sealed.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.0.to_pkcs8()
    }

    /// What repositories get when they join.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.public_key()
    }

    /// Signs `claims`.
    pub fn sign(&self, claims: &Claims) -> Vec<u8> {
        let mut bytes = claims.encode();
        let signature = self.0.sign(&bytes);
        bytes.extend_from_slice(&signature);
        bytes
    }
}

/// What a call needs its grant to say.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The time of the call.
    pub now: SystemTime,
    /// The proxy that the connection proved.
    pub proxy: NodeId,
    /// The repository that was called.
    pub repository: NodeId,
    /// What the call does.
    pub verb: Verb,
}

/// Grants whose signatures are known to be good: those of the runs of an hour on a busy repository.
const PROVED: usize = 64;

/// The repository's half; clones share what they know.
///
/// A proxy shows its grant with every call, and a signature costs as much as reading a chunk. So a grant that is
/// byte for byte one whose signature was good is not verified again; everything else about it is looked at each time.
#[derive(Debug, Clone)]
pub struct GrantVerifier {
    public_key: [u8; 32],
    proved: Arc<Mutex<VecDeque<[u8; GRANT_BYTES]>>>,
}

impl GrantVerifier {
    /// Verifies with the controller's public key.
    pub fn new(public_key: [u8; 32]) -> Self {
        Self {
            public_key,
            proved: Arc::default(),
        }
    }

    /// Whether the controller signed this.
    fn is_signed(&self, grant: &[u8; GRANT_BYTES]) -> bool {
        let mut proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        if proved.contains(grant) {
            return true;
        }
        let (body, signature) = grant.split_at(BODY_BYTES);
        let good = signing::verify(&self.public_key, body, signature);
        if good {
            if proved.len() == PROVED {
                proved.pop_front();
            }
            proved.push_back(*grant);
        }
        good
    }

    /// Opens a grant and holds it against the call. The caller still compares `run` and `dataset`
    /// with the session that the call names.
    ///
    /// # Errors
    /// `GRANT_INVALID` when it is forged, expired or for something else.
    pub fn verify(&self, grant: &[u8], expected: &Expected) -> Result<Claims, Fault> {
        let invalid = |message: &str| Fault::new(Reason::GrantInvalid, message);
        let grant: &[u8; GRANT_BYTES] = grant
            .try_into()
            .map_err(|_| invalid("the grant has the wrong length"))?;
        if !self.is_signed(grant) {
            return Err(invalid(
                "the grant was not signed by this cluster's controller",
            ));
        }
        let (body, _) = grant.split_at(BODY_BYTES);
        let claims = Claims::decode(body).ok_or_else(|| invalid("the grant is malformed"))?;
        let now = expected
            .now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        if now.as_secs() >= claims.expires_at {
            return Err(invalid("the grant has expired: start a new run")
                .with("expired_at", claims.expires_at));
        }
        if claims.proxy != expected.proxy {
            return Err(invalid("the grant is for another proxy").with("proxy", claims.proxy));
        }
        if claims.repository != expected.repository {
            return Err(invalid("the grant is for another repository")
                .with("repository", claims.repository));
        }
        if !claims.verbs.contains(expected.verb) {
            return Err(invalid("the grant does not allow this act")
                .with("verb", format!("{:?}", expected.verb).to_lowercase()));
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests;
