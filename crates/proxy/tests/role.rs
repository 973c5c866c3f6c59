//! The whole role over mutual TLS on loopback, with a controller that only enrols.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its setting too")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_controller_api::{
    JoinClusterRequest, JoinClusterResponse, Node, NodeService, RenewCertificateResponse,
    SendHeartbeatRequest, SendHeartbeatResponse,
};
use stillwater_proxy::config::Config;
use stillwater_proxy::join::join;
use stillwater_proxy::serve::Proxy;
use stillwater_proxy_api::Client;
use stillwater_rpc::{
    Ca, ClientCertificates, Identity, Peer, PendingKey, RemovedNodes, Server, Target, Token,
    connect,
};
use stillwater_types::{ClusterId, Fault, NodeId, Reason, Role, TransferId};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

const VALIDITY: Duration = Duration::from_secs(3600);

/// Enrols whoever has the token, and remembers the last heartbeat.
struct Controller {
    ca: Ca,
    secret: Mutex<Option<[u8; 32]>>,
    beat: watch::Sender<Option<(NodeId, SendHeartbeatRequest)>>,
}

#[async_trait]
impl NodeService for Controller {
    async fn join_cluster(
        &self,
        _: Option<SocketAddr>,
        request: JoinClusterRequest,
    ) -> Result<JoinClusterResponse, Fault> {
        use secrecy::ExposeSecret;
        let token: Token = request.token.expose_secret().parse()?;
        if self.secret.lock().unwrap().take() != Some(token.secret_hash()) {
            return Err(Fault::new(Reason::TokenInvalid, "used or unknown"));
        }
        let node_id = NodeId::mint();
        let certificate_chain = self.issue(&request.certificate_request, Role::Proxy, node_id);
        let cluster_id = self.ca.cluster();
        Ok(JoinClusterResponse {
            node_id,
            cluster_id,
            certificate_chain,
            grant_key: [0; 32],
        })
    }

    async fn renew_certificate(
        &self,
        peer: &Peer,
        certificate_request: Bytes,
    ) -> Result<RenewCertificateResponse, Fault> {
        let certificate_chain = self.issue(&certificate_request, peer.role, peer.node);
        Ok(RenewCertificateResponse { certificate_chain })
    }

    async fn send_heartbeat(
        &self,
        peer: &Peer,
        request: SendHeartbeatRequest,
    ) -> Result<SendHeartbeatResponse, Fault> {
        self.beat.send_replace(Some((peer.node, request)));
        Ok(SendHeartbeatResponse {
            interval_seconds: 1,
        })
    }

    async fn list_nodes(&self, _: &Peer) -> Result<Vec<Node>, Fault> {
        Ok(Vec::new())
    }

    async fn remove_node(&self, _: &Peer, _: NodeId) -> Result<(), Fault> {
        Err(Fault::new(Reason::NodeNotFound, "no nodes here"))
    }

    async fn drain_proxy(&self, _: &Peer, _: NodeId) -> Result<(), Fault> {
        Err(Fault::new(Reason::NodeNotFound, "no nodes here"))
    }

    async fn undrain_proxy(&self, _: &Peer, _: NodeId) -> Result<(), Fault> {
        Err(Fault::new(Reason::NodeNotFound, "no nodes here"))
    }
}

impl Controller {
    fn issue(&self, request: &[u8], role: Role, node: NodeId) -> String {
        self.ca
            .issue(request, role, node, VALIDITY, SystemTime::now())
            .unwrap()
    }

    fn identity(&self, role: Role) -> Identity {
        let (key, request) = PendingKey::generate().unwrap();
        key.certify(&self.issue(&request, role, NodeId::mint()))
            .unwrap()
    }
}

struct Site {
    controller: Arc<Controller>,
    address: String,
    dir: tempfile::TempDir,
    stop: CancellationToken,
}

impl Site {
    async fn start() -> Self {
        let ca = Ca::create(ClusterId::mint(), SystemTime::now()).unwrap();
        let controller = Arc::new(Controller {
            ca,
            secret: Mutex::default(),
            beat: watch::Sender::new(None),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server {
            identity: controller.identity(Role::Controller),
            client_certificates: ClientCertificates::Optional,
            access: &[stillwater_controller_api::ACCESS],
            removed: RemovedNodes::default(),
            drain: Duration::from_secs(1),
        };
        let routes = Routes::new(stillwater_controller_api::node_service(controller.clone()));
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(listener, routes, stop.clone().cancelled_owned()));
        Self {
            controller,
            address,
            dir: tempfile::tempdir().unwrap(),
            stop,
        }
    }

    fn token(&self, role: Role) -> String {
        let token = Token::mint(&self.address, self.controller.ca.spki_pin(), role).unwrap();
        *self.controller.secret.lock().unwrap() = Some(token.secret_hash());
        token.to_text().to_string()
    }

    fn config(&self) -> Config {
        Config {
            state_dir: self.dir.path().join("proxy"),
            name: Some("proxy-1".into()),
            advertise: Some("proxy.example:7444".into()),
            ..Config::default()
        }
    }

    fn client(&self, role: Role, address: &str) -> Client {
        let target = Target {
            address: address.into(),
            role: Role::Proxy,
            node: None,
        };
        Client::new(connect(&self.controller.identity(role), target).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_joins_beats_answers_its_controller_and_drains() {
    let site = Site::start().await;
    let config = site.config();
    let joined = join(&config, &site.token(Role::Proxy)).await.unwrap();
    assert_eq!(joined.role(), Role::Proxy);

    // As after a restart: everything that is needed is in the state directory.
    let identity = Identity::load(&config.identity_dir()).unwrap();
    assert_eq!(identity.node(), joined.node());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let drain = CancellationToken::new();
    let proxy = Proxy::new(config, identity).unwrap();
    let serving = tokio::spawn(proxy.serve(listener, drain.clone()));

    let mut beats = site.controller.beat.subscribe();
    let beat = beats
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert_eq!(
        (beat.0, beat.1.address.as_str()),
        (joined.node(), "proxy.example:7444")
    );
    assert_eq!(
        (beat.1.load.transfer_slots, beat.1.load.transfer_count),
        (4, 0)
    );

    let id = TransferId::mint();
    let asked = site
        .client(Role::Controller, &address)
        .get_transfer(id)
        .await;
    assert_eq!(asked.unwrap_err().reason, Reason::TransferNotFound);
    for role in [Role::Proxy, Role::Repository, Role::Admin] {
        let asked = site.client(role, &address).get_transfer(id).await;
        assert_eq!(asked.unwrap_err().reason, Reason::RoleNotAllowed, "{role}");
    }

    drain.cancel();
    serving.await.unwrap().unwrap();
    let asked = site
        .client(Role::Controller, &address)
        .get_transfer(id)
        .await;
    assert_eq!(asked.unwrap_err().reason, Reason::ProxyUnreachable);
    site.stop.cancel();
}

#[tokio::test]
async fn a_token_that_does_not_fit_leaves_nothing_behind() {
    let site = Site::start().await;
    let config = site.config();
    let refused = async |text: &str| join(&config, text).await.unwrap_err().reason;
    assert_eq!(refused("swt1.garbage").await, Reason::TokenInvalid);
    assert_eq!(
        refused(&site.token(Role::Repository)).await,
        Reason::TokenInvalid
    );
    let stale = site.token(Role::Proxy);
    let fresh = site.token(Role::Proxy);
    assert_eq!(refused(&stale).await, Reason::TokenInvalid);
    assert!(!Identity::exists(&config.identity_dir()));
    // A refused attempt used the secret up in this controller, so a third token is needed.
    assert_eq!(refused(&fresh).await, Reason::TokenInvalid);
    join(&config, &site.token(Role::Proxy)).await.unwrap();
    let again = refused(&site.token(Role::Proxy)).await;
    assert_eq!(again, Reason::BadField);
}

#[tokio::test]
async fn another_clusters_controller_is_not_joined() {
    let (site, other) = (Site::start().await, Site::start().await);
    let token = Token::mint(&site.address, other.controller.ca.spki_pin(), Role::Proxy).unwrap();
    let refused = join(&site.config(), token.to_text().as_str())
        .await
        .unwrap_err();
    assert_eq!(refused.reason, Reason::CertificateUntrusted);
    assert!(!Identity::exists(&site.config().identity_dir()));
}
