//! The gate that every call passes before any code of a service sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use http::{Request, Response};
use stillwater_types::{Fault, Reason};
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::Instrument;

use super::RemovedNodes;
use crate::peer::{Caller, Peer};
use crate::{Access, allow, status};

/// Refuses every call that the table does not allow to its caller.
#[derive(Clone)]
pub(super) struct Gate {
    table: Arc<[Access]>,
    removed: RemovedNodes,
}

impl Gate {
    pub(super) fn new(table: Vec<Access>, removed: RemovedNodes) -> Self {
        Self {
            table: table.into(),
            removed,
        }
    }

    fn check(&self, path: &str, peer: Option<&Peer>, now: SystemTime) -> Result<(), Fault> {
        if let Some(peer) = peer {
            if self.removed.contains(peer.node) {
                let message = "this node was removed from the cluster: join again with a new token";
                return Err(Fault::new(Reason::NodeRemoved, message).with("node", peer.node));
            }
            // A connection may outlive the certificate that opened it.
            if now >= peer.expires_at {
                let message = "the certificate of this connection has expired: connect again";
                return Err(Fault::new(Reason::NoCertificate, message).with("node", peer.node));
            }
        }
        allow(&self.table, path, peer.map(|peer| peer.role))
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated {
            gate: self.clone(),
            inner,
        }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub(super) struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // A request without the extension did not come through our acceptor: nobody's.
        let caller = request.extensions().get::<Caller>().copied();
        let peer = caller.and_then(|caller| caller.peer);
        let path = request.uri().path();
        if let Err(fault) = self.gate.check(path, peer.as_ref(), SystemTime::now()) {
            let remote = caller.and_then(|caller| caller.remote);
            tracing::warn!(rpc.path = path, ?peer, ?remote, reason = %fault.reason, "call refused");
            let response = status(&fault).into_http();
            return Box::pin(std::future::ready(Ok(response)));
        }
        let span = match &peer {
            Some(peer) => {
                tracing::info_span!("rpc", rpc.path = path, peer.role = %peer.role, peer.node = %peer.node)
            }
            None => tracing::info_span!("rpc", rpc.path = path),
        };
        Box::pin(self.inner.call(request).instrument(span))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stillwater_types::{ClusterId, NodeId, Role};

    use super::*;

    #[test]
    fn a_peer_is_judged_by_removal_then_time_then_role() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let peer = Peer {
            cluster: ClusterId::mint(),
            role: Role::Proxy,
            node: NodeId::mint(),
            expires_at: now + Duration::from_secs(1),
        };
        let table = vec![
            Access::roles("/a.B/C", &[Role::Proxy]),
            Access::anyone("/a.B/Join"),
        ];
        let gate = Gate::new(table, RemovedNodes::default());
        let check = |path, peer: Option<&Peer>, now| {
            gate.check(path, peer, now).map_err(|fault| fault.reason)
        };
        assert_eq!(check("/a.B/C", Some(&peer), now), Ok(()));
        assert_eq!(
            check("/a.B/D", Some(&peer), now),
            Err(Reason::RoleNotAllowed)
        );
        assert_eq!(check("/a.B/Join", None, now), Ok(()));
        assert_eq!(check("/a.B/C", None, now), Err(Reason::NoCertificate));
        let late = peer.expires_at;
        assert_eq!(
            check("/a.B/C", Some(&peer), late),
            Err(Reason::NoCertificate)
        );
        assert_eq!(
            check("/a.B/Join", Some(&peer), late),
            Err(Reason::NoCertificate)
        );
        gate.removed.insert(peer.node);
        assert_eq!(check("/a.B/C", Some(&peer), late), Err(Reason::NodeRemoved));
    }
}
