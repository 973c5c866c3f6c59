//! What a role is: its private key, its certificate and the authority it trusts.

use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use stillwater_types::{ClusterId, Fault, NodeId, Reason, Role};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::ca::{Pin, time};
use crate::name::Name;
use crate::{file, tls};

/// Key and certificates are one file, so that no crash can leave a key beside another's
/// certificate.
const FILE_NAME: &str = "identity.pem";

/// A private key that waits for its certificate.
pub struct PendingKey(KeyPair);

impl fmt::Debug for PendingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingKey(..)")
    }
}

impl PendingKey {
    /// Makes a key and a PKCS #10 request in DER that proves its possession.
    ///
    /// # Errors
    /// `BUG` when the system gives no randomness.
    pub fn generate() -> Result<(Self, Vec<u8>), Fault> {
        let bug = |err| Fault::new(Reason::Bug, format!("make a key: {err}"));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(bug)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(bug)?;
        Ok((Self(key), request.der().to_vec()))
    }

    /// Joins the key with the chain that the authority answered (PEM: leaf, then authority).
    ///
    /// # Errors
    /// `CERTIFICATE_UNTRUSTED` when the chain is damaged, not signed by its authority, or for
    /// another key.
    pub fn certify(self, chain_pem: &str) -> Result<Identity, Fault> {
        let credentials = self.credentials(chain_pem)?;
        Ok(Identity(Arc::new(ArcSwap::from_pointee(credentials))))
    }

    fn credentials(self, chain_pem: &str) -> Result<Credentials, Fault> {
        let key = Zeroizing::new(self.0.serialize_pem());
        let credentials = Credentials::parse(&Zeroizing::new(format!("{}{chain_pem}", *key)))
            .map_err(untrusted)?;
        credentials.check_signature()?;
        Ok(credentials)
    }
}

fn untrusted(why: &str) -> Fault {
    Fault::new(
        Reason::CertificateUntrusted,
        format!("take a certificate: {why}"),
    )
}

/// A role's key, certificate and authority; clones share it, and all see a renewal at once.
#[derive(Clone)]
pub struct Identity(Arc<ArcSwap<Credentials>>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity")
            .field(&self.name().to_string())
            .finish()
    }
}

impl Identity {
    /// Whether `dir` holds an identity.
    pub fn exists(dir: &Path) -> bool {
        dir.join(FILE_NAME).exists()
    }

    /// Reads the identity that [`Identity::save`] wrote to `dir`. Blocks on the disk.
    ///
    /// # Errors
    /// `NO_CERTIFICATE` when there is none, `SECRET_UNREADABLE` when it is damaged.
    pub fn load(dir: &Path) -> Result<Self, Fault> {
        let path = dir.join(FILE_NAME);
        let bytes = file::read(&path).map_err(|err| match err.kind() {
            std::io::ErrorKind::NotFound => Fault::new(
                Reason::NoCertificate,
                format!("no identity in {}: join the cluster first", dir.display()),
            ),
            _ => unreadable(&path, &err.to_string()),
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|_| unreadable(&path, "not text"))?;
        let credentials = Credentials::parse(text).map_err(|why| unreadable(&path, why))?;
        Ok(Self(Arc::new(ArcSwap::from_pointee(credentials))))
    }

    /// Writes the identity to `dir` (0600, whole or not at all, durable), which it makes (0700) when
    /// it is not there. Blocks on the disk.
    ///
    /// # Errors
    /// `STORAGE_FAILED` when the disk refuses.
    pub fn save(&self, dir: &Path) -> Result<(), Fault> {
        let path = dir.join(FILE_NAME);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.and_then(|()| file::publish(&path, self.0.load().pem.as_bytes()))
            .map_err(|err| {
                let text = format!("write {}: {err}", path.display());
                Fault::new(Reason::StorageFailed, text)
            })
    }

    /// Who the certificate says this is.
    pub fn name(&self) -> Name {
        self.0.load().name
    }

    /// The role in the certificate.
    pub fn role(&self) -> Role {
        self.name().role
    }

    /// The node in the certificate.
    pub fn node(&self) -> NodeId {
        self.name().node
    }

    /// The cluster in the certificate.
    pub fn cluster(&self) -> ClusterId {
        self.name().cluster
    }

    /// The authority that signed, as a join token would pin it.
    pub fn ca_pin(&self) -> Pin {
        self.0.load().pin
    }

    /// When the certificate starts to be valid.
    pub fn not_before(&self) -> SystemTime {
        self.0.load().not_before
    }

    /// When the certificate ends to be valid.
    pub fn not_after(&self) -> SystemTime {
        self.0.load().not_after
    }

    /// When two thirds of the certificate's time are over.
    pub fn renew_at(&self) -> SystemTime {
        let credentials = self.0.load();
        let whole = credentials.not_after.duration_since(credentials.not_before);
        credentials.not_before + whole.unwrap_or_default() * 2 / 3
    }

    /// Whether two thirds of the certificate's time are over.
    pub fn needs_renewal(&self, now: SystemTime) -> bool {
        now >= self.renew_at()
    }

    /// Puts a renewed certificate in place for all clones; connections made from now on use it.
    ///
    /// # Errors
    /// `CERTIFICATE_UNTRUSTED` when the chain is not for this key, name and authority.
    pub fn replace(&self, key: PendingKey, chain_pem: &str) -> Result<(), Fault> {
        let renewed = key.credentials(chain_pem)?;
        let current = self.0.load();
        if renewed.name != current.name {
            return Err(untrusted("it names somebody else").with("name", renewed.name));
        }
        if renewed.pin != current.pin {
            return Err(untrusted("it is signed by another authority").with("pin", renewed.pin));
        }
        self.0.store(Arc::new(renewed));
        Ok(())
    }

    /// What TLS shows and trusts at this moment.
    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        self.0.load_full()
    }
}

fn unreadable(path: &Path, why: &str) -> Fault {
    let message = format!("read {}: {why}; join the cluster again", path.display());
    Fault::new(Reason::SecretUnreadable, message)
}

/// One certificate with its key, as TLS needs them.
pub(crate) struct Credentials {
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) authority: CertificateDer<'static>,
    name: Name,
    pin: Pin,
    not_before: SystemTime,
    not_after: SystemTime,
    pem: Zeroizing<String>,
}

impl Credentials {
    /// Reads a private key, a leaf and an authority.
    fn parse(pem: &str) -> Result<Self, &'static str> {
        let key =
            PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "the key is damaged")?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| "a certificate is damaged")?;
        let [leaf, authority] = chain.as_slice() else {
            return Err("the chain is not a leaf and its authority");
        };
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|_| "the certificate is damaged")?;
        let (_, root) =
            X509Certificate::from_der(authority).map_err(|_| "the authority is damaged")?;
        let name = tls::name_of(leaf).ok_or("the certificate names no node")?;
        let validity = parsed.validity();
        let (not_before, not_after) = (
            time(validity.not_before.timestamp()),
            time(validity.not_after.timestamp()),
        );
        let pin = Pin::of(&root);
        let authority = authority.clone();
        let certified = CertifiedKey::from_der(chain, key, &tls::provider())
            .map_err(|_| "the certificate is for another key")?;
        Ok(Self {
            certified: Arc::new(certified),
            authority,
            name,
            pin,
            not_before,
            not_after,
            pem: Zeroizing::new(pem.to_owned()),
        })
    }

    /// That the authority signed the leaf, at a moment when the leaf is valid: whether that moment
    /// is now is for the peers to say, whose clocks count.
    fn check_signature(&self) -> Result<(), Fault> {
        let leaf = self
            .certified
            .end_entity_cert()
            .map_err(|_| untrusted("it is empty"))?;
        tls::check_client(&self.authority, leaf, self.not_before)
            .map_err(|err| untrusted(&err.to_string()))
    }
}
