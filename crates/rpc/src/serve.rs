//! How a role answers.

use std::sync::Arc;
use std::time::Duration;

use stillwater_types::{Fault, NodeId};
use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::{Access, Identity};

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
pub struct RemovedNodes(#[allow(dead_code)] Arc<()>);

impl RemovedNodes {
    /// Refuses `nodes` and nobody else from now on, on open connections too.
    pub fn set(&self, nodes: impl IntoIterator<Item = NodeId>) {
        nodes.into_iter().for_each(drop);
        unimplemented!()
    }
    /// Refuses `node` as well.
    pub fn insert(&self, node: NodeId) {
        unimplemented!("{node}")
    }
    /// Whether `node` is refused.
    pub fn contains(&self, node: NodeId) -> bool {
        unimplemented!("{node}")
    }
}

/// One port of one role.
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
    /// Answers calls on `listener` until `shutdown` ends, then lets open calls end for `drain`.
    /// Adds the gRPC health service, open to every role.
    pub async fn serve(
        self,
        listener: TcpListener,
        routes: Routes,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Fault> {
        drop((listener, routes, shutdown));
        unimplemented!()
    }
}
