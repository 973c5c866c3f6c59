//! Whether a certificate is the host's.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use data_encoding::{HEXLOWER_PERMISSIVE, HEXUPPER};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs as provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};

use super::error::Result;
use super::{Error, Ticket};

const SHA1_BYTES: usize = 20;

/// What is known of a host's certificate.
#[derive(Debug, Clone)]
pub(super) enum Pin {
    /// All of it.
    Certificate(CertificateDer<'static>),
    /// Its SHA-1, which is all that tickets have before version 9.
    Sha1(Vec<u8>),
}

impl Pin {
    /// What a ticket says. A whole certificate is preferred: nobody has found a second one with
    /// the SHA-1 of another, but somebody may.
    pub(super) fn of(ticket: &Ticket) -> Result<Self> {
        let bad = |problem: &str| Error::BadTicket {
            problem: problem.to_owned(),
        };
        if let Some(pem) = &ticket.certificate {
            let der = CertificateDer::from_pem_slice(pem.as_bytes());
            let der = der.map_err(|_| bad("its certificate is no pem"))?;
            return Ok(Pin::Certificate(der));
        }
        let thumbprint = ticket
            .thumbprint
            .as_ref()
            .ok_or_else(|| bad("it has neither a certificate nor a thumbprint"))?;
        let digits: String = thumbprint.chars().filter(|c| *c != ':').collect();
        match HEXLOWER_PERMISSIVE.decode(digits.trim().as_bytes()) {
            Ok(sha1) if sha1.len() == SHA1_BYTES => Ok(Pin::Sha1(sha1)),
            _ => Err(bad("its thumbprint is no sha-1")),
        }
    }

    fn fits(&self, shown: &[u8]) -> bool {
        match self {
            Pin::Certificate(der) => **der == *shown,
            Pin::Sha1(sha1) => digest(&SHA1_FOR_LEGACY_USE_ONLY, shown).as_ref() == sha1,
        }
    }

    fn describe(&self) -> String {
        match self {
            Pin::Certificate(der) => format!("sha-256 {}", hash(&SHA256, der)),
            Pin::Sha1(sha1) => format!("sha-1 {}", HEXUPPER.encode(sha1)),
        }
    }

    fn describe_shown(&self, shown: &[u8]) -> String {
        match self {
            Pin::Certificate(_) => hash(&SHA256, shown),
            Pin::Sha1(_) => hash(&SHA1_FOR_LEGACY_USE_ONLY, shown),
        }
    }
}

fn hash(algorithm: &'static Algorithm, bytes: &[u8]) -> String {
    HEXUPPER.encode(digest(algorithm, bytes).as_ref())
}

/// TLS to a host. Sessions are not resumed: every handshake shows the certificate. TLS 1.2 is allowed,
/// since older hosts have nothing newer.
///
/// `announced` is the SHA-256 of a certificate that the host, already proven, said it will show.
pub(super) fn client_config(pin: &Pin, announced: Option<[u8; 32]>) -> Result<ClientConfig> {
    let provider = Arc::new(provider::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let verifier = Verifier {
        pin: pin.clone(),
        announced,
        algorithms,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::lost(io::Error::other(error)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    // A host has one certificate, and is known by it and not by its name.
    config.enable_sni = false;
    Ok(config)
}

/// Never sent, never looked at.
pub(super) fn any_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
}

/// Why a handshake was given up because of the certificate.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
struct Mismatch(String);

/// What was wrong with the certificate, if that is why a handshake failed.
pub(super) fn mismatch(error: &io::Error) -> Option<String> {
    let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match tls {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            other.downcast_ref::<Mismatch>().map(ToString::to_string)
        }
        _ => None,
    }
}

#[derive(Debug)]
struct Verifier {
    pin: Pin,
    announced: Option<[u8; 32]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let sha256 = digest(&SHA256, shown);
        let is_announced = self
            .announced
            .is_some_and(|announced| sha256.as_ref() == announced);
        if is_announced || self.pin.fits(shown) {
            return Ok(ServerCertVerified::assertion());
        }
        let (expected, found) = (self.pin.describe(), self.pin.describe_shown(shown));
        let problem = format!("expected {expected}, found {found}");
        let mismatch = OtherError(Arc::new(Mismatch(problem)));
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(
            mismatch,
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
