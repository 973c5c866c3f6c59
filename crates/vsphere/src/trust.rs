//! How a server's certificate is checked. There is no third way: never insecure.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::Fingerprint;

/// How a server's certificate is checked.
#[derive(Clone, PartialEq, Eq)]
pub enum Trust {
    /// By certificate authorities in PEM: chain, name and validity are checked. A certificate
    /// that is itself in the file is trusted as it is, as if its fingerprint had been given.
    Ca(Vec<u8>),
    /// By the SHA-256 of the server's own certificate.
    Fingerprint(Fingerprint),
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trust::Ca(pem) => write!(f, "Ca({} bytes)", pem.len()),
            Trust::Fingerprint(fingerprint) => write!(f, "Fingerprint({fingerprint})"),
        }
    }
}

impl Trust {
    /// TLS to a server that is checked so, for what is no HTTP. Fails when the authorities cannot
    /// be read.
    pub fn client_config(&self) -> Result<ClientConfig, String> {
        client_config(self)
    }
}

/// Why a handshake was given up.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct Untrusted {
    /// What the server presented.
    pub presented: Fingerprint,
    /// What is wrong with it.
    pub problem: String,
}

/// The TLS of every connection to vCenter or a host. TLS 1.2 is allowed: vSphere 7 has nothing
/// newer.
pub(crate) fn client_config(trust: &Trust) -> Result<ClientConfig, String> {
    with_verifier(|provider| Verifier::new(trust, provider))
}

pub(crate) fn with_verifier<V: ServerCertVerifier + 'static>(
    verifier: impl FnOnce(&Arc<CryptoProvider>) -> Result<V, String>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(verifier(&provider)?);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

/// The refusal in an error's chain, if there is one.
pub(crate) fn refusal(error: &(dyn StdError + 'static)) -> Option<Untrusted> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) =
            error.downcast_ref::<rustls::Error>()
        {
            return other.0.downcast_ref::<Untrusted>().cloned();
        }
        // An io error's source skips what it wraps, and they come wrapped in each other.
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

#[derive(Debug)]
enum Check {
    Pin(Fingerprint),
    Ca {
        chain: Arc<WebPkiServerVerifier>,
        known: Vec<Fingerprint>,
    },
}

#[derive(Debug)]
struct Verifier {
    check: Check,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let check = match trust {
            Trust::Fingerprint(fingerprint) => Check::Pin(*fingerprint),
            Trust::Ca(pem) => Check::ca(pem, provider)?,
        };
        Ok(Self {
            check,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl Check {
    fn ca(pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the ca file is not pem: {error}"))?;
        let known = certificates
            .iter()
            .map(|der| Fingerprint::of(der))
            .collect();
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| format!("the ca file: {error}"))?;
        }
        if roots.is_empty() {
            return Err("the ca file has no certificate".into());
        }
        let chain =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .map_err(|error| format!("the ca file: {error}"))?;
        Ok(Check::Ca { chain, known })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = Fingerprint::of(end_entity);
        let problem = match &self.check {
            Check::Pin(pin) if *pin == presented => return Ok(ServerCertVerified::assertion()),
            Check::Pin(pin) => format!("the fingerprint on record is {pin}"),
            Check::Ca { known, .. } if known.contains(&presented) => {
                return Ok(ServerCertVerified::assertion());
            }
            Check::Ca { chain, .. } => {
                match chain.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
                    Ok(verified) => return Ok(verified),
                    Err(error) => error.to_string(),
                }
            }
        };
        Err(refuse(Untrusted { presented, problem }))
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

pub(crate) fn refuse(untrusted: Untrusted) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(untrusted))))
}
