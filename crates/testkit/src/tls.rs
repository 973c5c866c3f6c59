//! TLS without the rules of `rpc`: what somebody would speak who does not keep them.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A private key and its certificate chain, in PEM.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The key.
    pub key: String,
    /// Leaf, then authority.
    pub chain: String,
}

/// Shakes hands with the server at `address`, whoever it is, and shows `credentials` if there are
/// any. In TLS 1.3 the server's opinion of them comes after this: read to learn it.
///
/// # Errors
/// When there is no connection or the server ends the handshake.
///
/// # Panics
/// When the credentials are damaged.
pub async fn dial(
    address: &str,
    versions: &[&'static SupportedProtocolVersion],
    credentials: Option<Credentials>,
) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer(provider)));
    let mut config = match credentials {
        None => builder.with_no_client_auth(),
        Some(Credentials { key, chain }) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
            let chain = chain.collect::<Result<_, _>>().expect("certificates");
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("anybody.example").expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
}

/// Whether the server at `address` ends the handshake of a client without a certificate, and says
/// that this is why. Only the client reads, so that no reset can overtake the server's word.
///
/// # Panics
/// When the server ends the connection for another reason.
pub async fn demands_certificate(address: &str) -> bool {
    let shaken = dial(address, &[&rustls::version::TLS13], None).await;
    let read = match shaken {
        Ok(mut stream) => stream.read_u8().await,
        Err(error) => Err(error),
    };
    let Err(error) = read else {
        return false;
    };
    let alert = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<Error>());
    match alert {
        Some(Error::AlertReceived(AlertDescription::CertificateRequired)) => true,
        _ => panic!("a client without a certificate was refused, but not for that: {error:?}"),
    }
}

/// Believes whatever a server shows.
#[derive(Debug)]
struct Believer(Arc<CryptoProvider>);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
