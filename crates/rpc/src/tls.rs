//! TLS 1.3 between roles: who is believed to be whom.
//!
//! Built on rustls' own chain checks; what is added is the name: the cluster, role and node of the
//! SAN URI. No early data, no tickets, no resumption: what a handshake proved is proved anew by
//! each connection, so a replayed or stolen session proves nothing.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use stillwater_types::{Fault, NodeId, Reason, Role};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::ca::only_uri;
use crate::name::Name;
use crate::{ClientCertificates, Identity, Pin};

/// The one thing we speak inside TLS.
const ALPN: &[u8] = b"h2";

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Whom a certificate names; `None` when it is not one of ours.
pub(crate) fn name_of(certificate: &CertificateDer<'_>) -> Option<Name> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    only_uri(&parsed)?.parse().ok()
}

fn roots(authority: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(Arc::new(roots))
}

fn client_verifier(
    authority: &CertificateDer<'static>,
    certificates: ClientCertificates,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots(authority)?, provider());
    let builder = match certificates {
        ClientCertificates::Required => builder,
        ClientCertificates::Optional => builder.allow_unauthenticated(),
    };
    builder
        .build()
        .map_err(|err| Error::General(err.to_string()))
}

/// That `authority` signed `leaf` and `leaf` is valid at `at`.
pub(crate) fn check_client(
    authority: &CertificateDer<'static>,
    leaf: &CertificateDer<'_>,
    at: SystemTime,
) -> Result<(), Error> {
    let at = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let verifier = client_verifier(authority, ClientCertificates::Required)?;
    verifier
        .verify_client_cert(leaf, &[], UnixTime::since_unix_epoch(at))
        .map(drop)
}

/// How `identity` answers connections.
pub(crate) fn server(
    identity: &Identity,
    certificates: ClientCertificates,
) -> Result<ServerConfig, Fault> {
    let verifier = client_verifier(&identity.credentials().authority, certificates).map_err(bug)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(bug)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Resolver(identity.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// How `identity` reaches a server that must be `role`, and `node` if one is given.
pub(crate) fn client(
    identity: &Identity,
    role: Role,
    node: Option<NodeId>,
) -> Result<ClientConfig, Fault> {
    let roots = roots(&identity.credentials().authority).map_err(bug)?;
    let chain = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(bug)?;
    let verifier = NamedServer {
        chain,
        role,
        node,
        cluster: identity.name(),
    };
    client_config(Arc::new(verifier), |config| {
        config.with_client_cert_resolver(Arc::new(Resolver(identity.clone())))
    })
}

/// How somebody without an identity reaches the controller whose authority has `pin`.
pub(crate) fn pinned(pin: Pin) -> Result<ClientConfig, Fault> {
    client_config(Arc::new(PinnedController { pin }), |config| {
        config.with_no_client_auth()
    })
}

type Unfinished = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    finish: impl FnOnce(Unfinished) -> ClientConfig,
) -> Result<ClientConfig, Fault> {
    let unfinished = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(bug)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = finish(unfinished);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

fn bug(err: impl fmt::Display) -> Fault {
    Fault::new(Reason::Bug, format!("set up tls: {err}"))
}

/// Shows whatever certificate the identity has at the moment of the handshake.
#[derive(Debug)]
struct Resolver(Identity);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.credentials().certified.clone())
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.credentials().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes servers of the own cluster that prove the role, and the node if one is asked for.
#[derive(Debug)]
struct NamedServer {
    chain: Arc<WebPkiServerVerifier>,
    /// Ourselves; only the cluster counts.
    cluster: Name,
    role: Role,
    node: Option<NodeId>,
}

impl NamedServer {
    fn accepts(&self, name: &Name) -> bool {
        name.cluster == self.cluster.cluster
            && name.role == self.role
            && self.node.is_none_or(|node| node == name.node)
    }
}

impl ServerCertVerifier for NamedServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .chain
            .verify_server_cert(leaf, intermediates, server, ocsp, now)?;
        match name_of(leaf) {
            Some(name) if self.accepts(&name) => Ok(verified),
            _ => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Believes a controller whose chain brings the authority that a join token pinned.
#[derive(Debug)]
struct PinnedController {
    pin: Pin,
}

impl PinnedController {
    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| Pin::of(&parsed) == self.pin)
    }
}

impl ServerCertVerifier for PinnedController {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| self.is_pinned(certificate))
            .ok_or(CertificateError::UnknownIssuer)?;
        let chain = WebPkiServerVerifier::builder_with_provider(
            roots(&authority.clone().into_owned())?,
            provider(),
        )
        .build()
        .map_err(|err| Error::General(err.to_string()))?;
        let verified = chain.verify_server_cert(leaf, intermediates, server, ocsp, now)?;
        match name_of(leaf) {
            Some(name) if name.role == Role::Controller => Ok(verified),
            _ => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
