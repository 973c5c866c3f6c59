//! How a role answers.
//!
//! Every call passes the gate: the caller's role from its certificate against the compiled-in
//! table, whether the node was removed, whether its certificate is still valid. What the tables do
//! not name is refused.

mod accept;
mod gate;

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use stillwater_types::{Fault, NodeId, Reason, Role};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;

use crate::connect::{PING_INTERVAL, PING_TIMEOUT};
use crate::{Access, Identity, WINDOW_BYTES, tls};

/// Calls in flight on one connection; a proxy's transfers need a few each.
const STREAMS_MAX: u32 = 256;
/// Headers of one call; ours have a few hundred bytes.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// A connection is closed gently after this long, so that its peer proves itself anew with the
/// certificate it has renewed meanwhile.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(12 * 3600);

/// The calls of the health service, which every role may make.
const HEALTH: &[Access] = &[
    Access::roles("/grpc.health.v1.Health/Check", &Role::ALL),
    Access::roles("/grpc.health.v1.Health/Watch", &Role::ALL),
    Access::roles("/grpc.health.v1.Health/List", &Role::ALL),
];

/// Whether a caller must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// No connection without a certificate of the cluster.
    Required,
    /// Connections without one are taken, and may make only calls whose entry says so.
    Optional,
}

/// The nodes whose certificates are refused although they have not expired. Clones share the set.
#[derive(Debug, Clone, Default)]
pub struct RemovedNodes(Arc<ArcSwap<HashSet<NodeId>>>);

impl RemovedNodes {
    /// Refuses `nodes` and nobody else from now on, on open connections too.
    pub fn set(&self, nodes: impl IntoIterator<Item = NodeId>) {
        self.0.store(Arc::new(nodes.into_iter().collect()));
    }

    /// Refuses `node` as well.
    pub fn insert(&self, node: NodeId) {
        self.0.rcu(|nodes| {
            let mut nodes = HashSet::clone(nodes);
            nodes.insert(node);
            nodes
        });
    }

    /// Whether `node` is refused.
    pub fn contains(&self, node: NodeId) -> bool {
        self.0.load().contains(&node)
    }
}

/// One port of one role.
#[derive(Debug)]
pub struct Server {
    /// Who answers.
    pub identity: Identity,
    /// Whether callers must show a certificate.
    pub client_certificates: ClientCertificates,
    /// Who may call what; the tables of all services behind the port.
    pub access: &'static [&'static [Access]],
    /// Whose certificates are refused.
    pub removed: RemovedNodes,
    /// How long calls may take to end after the shutdown began.
    pub drain: Duration,
}

impl Server {
    /// Answers calls on `listener` until `shutdown` ends, then lets open calls end for `drain`
    /// and cuts what is left. Adds the gRPC health service, open to every role.
    ///
    /// # Errors
    /// `BUG` when TLS or HTTP/2 cannot be set up.
    pub async fn serve(
        self,
        listener: TcpListener,
        routes: Routes,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Fault> {
        let config = Arc::new(tls::server(&self.identity, self.client_certificates)?);
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        let (sender, connections) = mpsc::channel(16);
        let acceptor = accept::Acceptor::new(config, cut.clone());
        let accepting = tokio::spawn(acceptor.run(listener, sender, stop.clone()));

        let (health, health_service) = tonic_health::server::health_reporter();
        let gate = gate::Gate::new([self.access, &[HEALTH]].concat().concat(), self.removed);
        let serving = builder()
            .layer(gate)
            .add_routes(routes.add_service(health_service))
            .serve_with_incoming_shutdown(
                ReceiverStream::new(connections),
                stop.clone().cancelled_owned(),
            );
        let mut serving = pin!(serving);
        tokio::select! {
            ended = &mut serving => {
                stop.cancel();
                ended.map_err(failed)?;
                return Err(failed("the port stopped accepting connections"));
            }
            () = shutdown => {}
        }
        health
            .set_service_status("", ServingStatus::NotServing)
            .await;
        stop.cancel();
        let drained = tokio::time::timeout(self.drain, serving).await;
        cut.cancel();
        accepting.await.map_err(failed)?;
        match drained {
            Ok(ended) => ended.map_err(failed),
            Err(_) => {
                tracing::warn!(drain = ?self.drain, "calls were still open and have been cut");
                Ok(())
            }
        }
    }
}

fn builder() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_connection_age(CONNECTION_AGE_MAX)
}

fn failed(err: impl std::fmt::Display) -> Fault {
    Fault::new(Reason::Bug, format!("serve calls: {err}"))
}
