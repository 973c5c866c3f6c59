//! Who called: taken from the certificate when the connection was accepted, never from a message.

use std::net::SocketAddr;
use std::time::SystemTime;

use stillwater_types::{ClusterId, Fault, NodeId, Reason, Role};
use tonic::Request;

/// The proven identity at the other end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The cluster; always the server's own.
    pub cluster: ClusterId,
    /// What the caller may act as.
    pub role: Role,
    /// Which caller.
    pub node: NodeId,
    /// When the certificate that opened the connection ends.
    pub expires_at: SystemTime,
}

/// Everything a connection says about its other end; an extension of every request.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The certificate's holder; `None` when the caller showed no certificate.
    pub peer: Option<Peer>,
    /// Where the caller's packets come from. For logs and rate limits, never for trust.
    pub remote: Option<SocketAddr>,
}

/// Who made this call.
///
/// # Errors
/// `NO_CERTIFICATE` when the caller is anonymous.
pub fn peer<T>(request: &Request<T>) -> Result<Peer, Fault> {
    request
        .extensions()
        .get::<Caller>()
        .and_then(|caller| caller.peer)
        .ok_or_else(|| Fault::new(Reason::NoCertificate, "join the cluster to make this call"))
}

/// Where this call came from, if it came over a network.
pub fn remote<T>(request: &Request<T>) -> Option<SocketAddr> {
    request
        .extensions()
        .get::<Caller>()
        .and_then(|caller| caller.remote)
}
