//! How a role reaches another.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use stillwater_types::{Fault, NodeId, Reason, Role};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::{Identity, Pin, WINDOW_BYTES, name, tls};

/// How long reaching a server may take, TCP and TLS together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often an idle connection is asked whether it lives, and how long the answer may take.
/// Firewalls forget connections after minutes; a peer without power is noticed in half a minute.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(20);
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(10);

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
    let config = tls::client(identity, target.role, target.node)?;
    channel(&target.address, target.role, config)
}

/// A channel to the controller for a caller that has only a join token: the server's chain must
/// end in the authority with this pin, and name the controller.
///
/// # Errors
/// `BAD_FIELD` when the address is not `host:port`.
pub fn connect_pinned(address: &str, pin: Pin) -> Result<Channel, Fault> {
    channel(address, Role::Controller, tls::pinned(pin)?)
}

fn channel(address: &str, role: Role, config: ClientConfig) -> Result<Channel, Fault> {
    let authority = authority(address)?;
    let bug =
        |err: &dyn std::fmt::Display| Fault::new(Reason::Bug, format!("set up a channel: {err}"));
    let server = ServerName::try_from(name::dns(role)).map_err(|err| bug(&err))?;
    // The scheme says how tonic frames requests; TLS is the connector's.
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|err| bug(&err))?
        .user_agent(concat!("stillwater/", env!("CARGO_PKG_VERSION")))
        .map_err(|err| bug(&err))?
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    let connector = TlsConnector::from(Arc::new(config));
    let address: Arc<str> = authority.as_str().into();
    let dial = move |_| dial(address.clone(), connector.clone(), server.clone());
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(dial)))
}

fn authority(address: &str) -> Result<Authority, Fault> {
    let bad = || {
        Fault::new(
            Reason::BadField,
            format!("{address:?} is not an address: write host:port"),
        )
    };
    let authority: Authority = address.parse().map_err(|_| bad())?;
    let named = !authority.host().is_empty() && !address.contains('@');
    if named && authority.port_u16().is_some_and(|port| port > 0) {
        Ok(authority)
    } else {
        Err(bad())
    }
}

fn dial(
    address: Arc<str>,
    connector: TlsConnector,
    server: ServerName<'static>,
) -> impl Future<Output = io::Result<TokioIo<TlsStream<TcpStream>>>> + Send {
    let connecting = async move {
        let tcp = TcpStream::connect(&*address).await?;
        tcp.set_nodelay(true)?;
        connector.connect(server, tcp).await.map(TokioIo::new)
    };
    async move {
        tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the server took too long to answer",
                ))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:7443", "[::1]:7443", "controller.example:7443"] {
            assert!(authority(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "host",
            ":7443",
            "host:",
            "host:0",
            "a@host:1",
            "http://host:1",
            "host:1/x",
            "host:99999",
        ] {
            let reason = authority(bad).map_err(|fault| fault.reason);
            assert_eq!(reason, Err(Reason::BadField), "{bad}");
        }
    }
}
