//! The cluster's certificate authority.
//!
//! Keys are ECDSA P-256: the one signature scheme that every TLS stack takes. A leaf says who its
//! holder is in a SAN URI (see [`Name`]) and carries the role's DNS name, because a server is
//! reached at addresses that nobody wants to certify. Nothing in a request counts but its key.

use std::fmt;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKey, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use stillwater_types::{ClusterId, Fault, NodeId, Reason, Role};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::name::{self, Name};

/// How long a node's certificate is valid.
pub const NODE_VALIDITY: Duration = Duration::from_secs(30 * 86_400);
/// How long an administrator's certificate is valid.
pub const ADMIN_VALIDITY: Duration = Duration::from_secs(7 * 86_400);

/// An authority outlives the machines it certifies; replacing it means joining every node again.
const CA_VALIDITY: Duration = Duration::from_secs(20 * 365 * 86_400);
/// How far a node's clock may be behind the controller's.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);
/// A P-256 request has about 300 bytes.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// An uncompressed point of P-256.
const PUBLIC_KEY_BYTES: usize = 65;

/// SHA-256 of an authority's public key info.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

impl Pin {
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Self {
        Self::of_spki(certificate.public_key().raw)
    }

    fn of_spki(spki: &[u8]) -> Self {
        let mut pin = [0; 32];
        pin.copy_from_slice(digest::digest(&digest::SHA256, spki).as_ref());
        Self(pin)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Signs the certificates of one cluster.
pub struct Ca {
    cluster: ClusterId,
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    not_after: SystemTime,
    pin: Pin,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Ca {
    /// Makes the authority of a new cluster.
    ///
    /// # Errors
    /// `BUG` when the system gives no randomness.
    pub fn create(cluster: ClusterId, now: SystemTime) -> Result<Self, Fault> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(bug)?;
        let mut params = CertificateParams::default();
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + CA_VALIDITY).into();
        params.serial_number = Some(serial()?);
        params.distinguished_name = common_name(format!("stillwater {cluster}"));
        params.subject_alt_names = vec![uri(format!("spiffe://{cluster}"))?];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(bug)?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// Reads what [`Ca::certificate_pem`] and [`Ca::key_pem`] wrote.
    ///
    /// # Errors
    /// `SECRET_UNREADABLE` when either is damaged or they do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Fault> {
        let unreadable = |why: &str| {
            Fault::new(
                Reason::SecretUnreadable,
                format!("read the certificate authority: {why}"),
            )
        };
        let key = KeyPair::from_pem(key).map_err(|_| unreadable("the key is damaged"))?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| unreadable("the certificate is damaged"))?;
        let (_, parsed) = X509Certificate::from_der(&der)
            .map_err(|_| unreadable("the certificate is damaged"))?;
        let pin = Pin::of(&parsed);
        if Pin::of_spki(&key.subject_public_key_info()) != pin {
            return Err(unreadable("the key is not the certificate's"));
        }
        let cluster =
            authority_of(&parsed).ok_or_else(|| unreadable("the certificate names no cluster"))?;
        let not_after = time(parsed.validity().not_after.timestamp());
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|_| unreadable("the certificate is not an authority's"))?;
        Ok(Self {
            cluster,
            issuer,
            certificate_pem: certificate.to_owned(),
            not_after,
            pin,
        })
    }

    /// The authority's certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's private key, PKCS #8, for the caller to keep sealed.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// The cluster it signs for.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// What a join token pins.
    pub fn spki_pin(&self) -> Pin {
        self.pin
    }

    /// Signs a certificate for the public key of a PKCS #10 request in DER. Answers PEM: the leaf,
    /// then the authority's certificate.
    ///
    /// # Errors
    /// `BAD_FIELD` when the request is damaged, not signed by its own key, or not ECDSA P-256.
    pub fn issue(
        &self,
        request: &[u8],
        role: Role,
        node: NodeId,
        validity: Duration,
        now: SystemTime,
    ) -> Result<String, Fault> {
        let key = requested_key(request)?;
        let name = Name {
            cluster: self.cluster,
            role,
            node,
        };
        let mut params = CertificateParams::default();
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + validity).min(self.not_after).into();
        params.serial_number = Some(serial()?);
        params.distinguished_name = common_name(format!("stillwater {role} {node}"));
        params.subject_alt_names = vec![uri(name.to_string())?, dns_name(name::dns(role))?];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let mut chain = params.signed_by(&key, &self.issuer).map_err(bug)?.pem();
        chain.write_str(&self.certificate_pem).map_err(bug)?;
        Ok(chain)
    }
}

/// The key of a request, once the request proves that its sender holds it.
fn requested_key(request: &[u8]) -> Result<PublicKey, Fault> {
    let bad = |why: &str| Fault::new(Reason::BadField, format!("certificate request: {why}"));
    if request.len() > REQUEST_BYTES_MAX {
        return Err(bad("more than 8 KiB"));
    }
    let der = CertificateSigningRequestDer::from(request);
    let parsed = CertificateSigningRequestParams::from_der(&der).map_err(|err| match err {
        rcgen::Error::InvalidCertificationRequestSignature => bad("not signed by its own key"),
        _ => bad("not a PKCS #10 request that we know"),
    })?;
    let key = parsed.public_key;
    // The length tells P-256 from other curves, whose requests may be signed with SHA-256 too.
    let p256 = key.algorithm() == &PKCS_ECDSA_P256_SHA256;
    if !p256 || key.der_bytes().len() != PUBLIC_KEY_BYTES {
        return Err(bad("the key is not ECDSA P-256"));
    }
    Ok(key)
}

/// The cluster that an authority's certificate names.
fn authority_of(certificate: &X509Certificate<'_>) -> Option<ClusterId> {
    let uri = only_uri(certificate)?;
    uri.strip_prefix("spiffe://")?.parse().ok()
}

/// The certificate's one SAN URI; two would leave it open which of them counts.
pub(crate) fn only_uri<'a>(certificate: &X509Certificate<'a>) -> Option<&'a str> {
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    let uri = uris.next()?;
    uris.next().is_none().then_some(uri)
}

/// When a certificate ends.
pub(crate) fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(time(parsed.validity().not_after.timestamp()))
}

/// A time of a certificate; before 1970 it is as good as 1970.
pub(crate) fn time(unix_seconds: i64) -> SystemTime {
    let seconds = u64::try_from(unix_seconds).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn serial() -> Result<SerialNumber, Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(bug)?;
    // A serial number is a positive integer without leading zeros.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn common_name(text: String) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

fn uri(text: String) -> Result<SanType, Fault> {
    Ok(SanType::URI(text.try_into().map_err(bug)?))
}

fn dns_name(text: String) -> Result<SanType, Fault> {
    Ok(SanType::DnsName(text.try_into().map_err(bug)?))
}

fn bug(err: impl fmt::Display) -> Fault {
    Fault::new(Reason::Bug, format!("make a certificate: {err}"))
}

#[cfg(test)]
mod tests;
