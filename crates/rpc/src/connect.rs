//! How a role reaches another.

use std::time::Duration;

use stillwater_types::{Fault, NodeId, Reason, Role};
use tonic::transport::Channel;

use crate::{Identity, Pin};

/// How long reaching a server may take, TCP and TLS together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Whom to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// The role that the server must prove.
    pub role: Role,
    /// The node that the server must prove; any of the role when `None`.
    pub node: Option<NodeId>,
}

/// The reason that says a server of `role` does not answer; also the fallback for
/// [`fault`](crate::fault) of its calls.
pub const fn unreachable(role: Role) -> Reason {
    match role {
        Role::Controller | Role::Admin => Reason::ControllerUnreachable,
        Role::Proxy => Reason::ProxyUnreachable,
        Role::Repository => Reason::RepositoryUnreachable,
    }
}

/// A channel to `target` that connects at the first call and again whenever it must.
///
/// Must be called inside a tokio runtime.
///
/// # Errors
/// `BAD_FIELD` when the address is not `host:port`.
pub fn connect(identity: &Identity, target: Target) -> Result<Channel, Fault> {
    let _ = identity;
    unimplemented!("{target:?}")
}

/// A channel to the controller for a caller that has only a join token: the server's chain must
/// end in the authority with this pin, and name the controller.
///
/// # Errors
/// `BAD_FIELD` when the address is not `host:port`.
pub fn connect_pinned(address: &str, pin: Pin) -> Result<Channel, Fault> {
    unimplemented!("{address} {pin:?}")
}
