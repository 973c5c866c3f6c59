//! A vCenter or host, who we are there, and the certificate that it shows.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_encoding::BASE64;
use reqwest::Url;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use secrecy::SecretString;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::trust::{Untrusted, refuse, with_verifier};
use crate::{Error, Fingerprint, Result, Trust};

/// How long a connection may take, handshake included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A vCenter or host, and who we are there.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `host` or `host:port`; the port is 443 when none is given.
    pub address: String,
    /// The account.
    pub username: String,
    /// Its password; never printed.
    pub password: SecretString,
    /// How the server's certificate is checked.
    pub trust: Trust,
}

/// The certificate that a server shows, to be compared by a person before it is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedCertificate {
    /// SHA-256 of its DER.
    pub sha256: Fingerprint,
    /// The certificate.
    pub pem: String,
    /// For whom it was issued.
    pub subject: String,
    /// By whom it was issued.
    pub issuer: String,
    /// Its last moment, in seconds since 1970.
    pub not_after: i64,
}

/// The address as the start of every URL; refuses one that says more than host and port.
pub(crate) fn base_url(address: &str) -> Result<Url> {
    let bad = |problem: &str| Error::BadEndpoint {
        address: address.to_owned(),
        problem: problem.to_owned(),
    };
    let url = Url::parse(&format!("https://{address}/"))
        .map_err(|_| bad("give a host name or address, and a port if it is not 443"))?;
    let plain = url.path() == "/" && url.username().is_empty() && url.password().is_none();
    if !plain || url.query().is_some() || url.fragment().is_some() || url.host_str().is_none() {
        return Err(bad("give only host and port"));
    }
    Ok(url)
}

/// Asks the server at `host[:port]` for its certificate. The handshake is given up as soon as it
/// is seen: nothing is trusted and nothing is said.
pub async fn probe_certificate(address: &str) -> Result<PresentedCertificate> {
    let url = base_url(address)?;
    let der = tokio::time::timeout(CONNECT_TIMEOUT, presented(&url))
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
        .map_err(|source| Error::Unreachable {
            address: address.to_owned(),
            source,
        })?;
    describe(&der).map_err(|problem| Error::BadEndpoint {
        address: address.to_owned(),
        problem,
    })
}

async fn presented(url: &Url) -> io::Result<Vec<u8>> {
    let host = url
        .host_str()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let seen = Arc::new(Mutex::new(None));
    let config = with_verifier(|provider| {
        let algorithms = provider.signature_verification_algorithms;
        Ok(Probe {
            seen: Arc::clone(&seen),
            algorithms,
        })
    })
    .map_err(io::Error::other)?;
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let tcp = TcpStream::connect((host, url.port_or_known_default().unwrap_or(443))).await?;
    let handshake = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (seen, handshake) {
        (Some(der), _) => Ok(der),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(io::Error::other("the server showed no certificate")),
    }
}

fn describe(der: &[u8]) -> Result<PresentedCertificate, String> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| format!("its certificate: {error}"))?;
    Ok(PresentedCertificate {
        sha256: Fingerprint::of(der),
        pem: pem(der),
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

pub(crate) fn pem(der: &[u8]) -> String {
    let lines: Vec<String> = der.chunks(48).map(|line| BASE64.encode(line)).collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

/// Looks at the certificate and refuses it.
#[derive(Debug)]
struct Probe {
    seen: Arc<Mutex<Option<Vec<u8>>>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Probe {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Some(end_entity.to_vec());
        let presented = Fingerprint::of(end_entity);
        Err(refuse(Untrusted {
            presented,
            problem: "only looked at".into(),
        }))
    }

    // Never asked: the certificate is refused first.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::HandshakeNotComplete)
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::HandshakeNotComplete)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port_and_nothing_more() {
        for good in [
            "vc.example",
            "vc.example:8443",
            "192.0.2.1",
            "[2001:db8::1]:443",
        ] {
            assert!(base_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "vc/sdk",
            "user@vc",
            "u:p@vc",
            "vc?x",
            "vc#x",
            "https://vc",
            "vc:port",
        ] {
            assert!(
                matches!(base_url(bad), Err(Error::BadEndpoint { .. })),
                "{bad}"
            );
        }
    }
}
