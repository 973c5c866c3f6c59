//! Whether a certificate is the host's.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};

use stillwater_vsphere::{Fingerprint, HostIdentity};

use super::Error;
use super::error::Result;

/// TLS to a host. Sessions are not resumed: every handshake shows the certificate. TLS 1.2 is allowed,
/// since older hosts have nothing newer.
///
/// `announced` is the SHA-256 of a certificate that the host, already proven, said it will show.
pub(super) fn client_config(
    identity: &HostIdentity,
    announced: Option<Fingerprint>,
) -> Result<ClientConfig> {
    let provider = Arc::new(provider::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let verifier = Verifier {
        identity: identity.clone(),
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
    identity: HostIdentity,
    announced: Option<Fingerprint>,
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
        let found = Fingerprint::of(shown);
        if self.identity.is(shown) || self.announced == Some(found) {
            return Ok(ServerCertVerified::assertion());
        }
        let expected = match &self.identity {
            HostIdentity::Certificate(der) => format!("sha-256 {}", Fingerprint::of(der)),
            by_sha1 => format!("{by_sha1:?}"),
        };
        let problem = format!("expected {expected}, found sha-256 {found}");
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
