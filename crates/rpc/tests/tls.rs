//! Roles that call each other over real TLS on the loopback interface.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use stillwater_rpc::{
    ADMIN_VALIDITY, Access, Ca, Caller, ClientCertificates, Identity, NODE_VALIDITY, PendingKey,
    RemovedNodes, Server, Target, connect, connect_pinned, fault, unreachable,
};
use stillwater_testkit::tls::{self, Credentials};
use stillwater_types::{ClusterId, Fault, NodeId, Reason, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::Service;

const JOIN: &str = "/test.v1.WhoService/Join";
const ADMIN_ONLY: &str = "/test.v1.WhoService/AdminOnly";
const NODES: &str = "/test.v1.WhoService/Nodes";
const HANG: &str = "/test.v1.WhoService/Hang";
const UNLISTED: &str = "/test.v1.WhoService/Unlisted";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

const TABLE: &[Access] = &[
    Access::anyone(JOIN),
    Access::roles(ADMIN_ONLY, &[Role::Admin]),
    Access::roles(NODES, &[Role::Proxy, Role::Repository]),
    Access::roles(HANG, &[Role::Proxy]),
];

/// Answers every call with who made it, as the message of a status.
#[derive(Clone)]
struct Who;

impl NamedService for Who {
    const NAME: &'static str = "test.v1.WhoService";
}

impl Service<Request<Body>> for Who {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let caller = request.extensions().get::<Caller>().copied();
        let who = match caller.and_then(|caller| caller.peer) {
            Some(peer) => format!("{} {}", peer.role, peer.node),
            None => "anonymous".into(),
        };
        let hangs = request.uri().path() == HANG;
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok(Status::already_exists(who).into_http())
        })
    }
}

struct Cluster {
    ca: Ca,
}

impl Cluster {
    fn new() -> Self {
        Self {
            ca: Ca::create(ClusterId::mint(), SystemTime::now()).expect("an authority"),
        }
    }

    fn identity(&self, role: Role) -> Identity {
        self.identity_at(role, SystemTime::now())
    }

    fn identity_at(&self, role: Role, now: SystemTime) -> Identity {
        let (key, request) = PendingKey::generate().expect("a key");
        let chain = self
            .ca
            .issue(&request, role, NodeId::mint(), NODE_VALIDITY, now);
        key.certify(&chain.expect("a chain")).expect("an identity")
    }
}

struct Running {
    address: SocketAddr,
    removed: RemovedNodes,
    stop: CancellationToken,
    ended: JoinHandle<Result<(), Fault>>,
}

async fn start(identity: Identity, client_certificates: ClientCertificates) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let removed = RemovedNodes::default();
    let server = Server {
        identity,
        client_certificates,
        access: &[TABLE],
        removed: removed.clone(),
        drain: Duration::from_millis(300),
    };
    let stop = CancellationToken::new();
    let serving = server.serve(listener, Routes::new(Who), stop.clone().cancelled_owned());
    Running {
        address,
        removed,
        stop,
        ended: tokio::spawn(serving),
    }
}

fn channel(identity: &Identity, server: &Running, role: Role, node: Option<NodeId>) -> Channel {
    let target = Target {
        address: server.address.to_string(),
        role,
        node,
    };
    connect(identity, target).expect("a channel")
}

/// The status of one call without content.
async fn call(channel: &Channel, path: &'static str) -> Status {
    let mut client = tonic::client::Grpc::new(channel.clone());
    if let Err(err) = client.ready().await {
        return Status::from_error(err.into());
    }
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let request = tonic::Request::new(());
    match client
        .unary(request, http::uri::PathAndQuery::from_static(path), codec)
        .await
    {
        Ok(_) => Status::ok(""),
        Err(status) => status,
    }
}

async fn reason(channel: &Channel, path: &'static str) -> Reason {
    fault(&call(channel, path).await, unreachable(Role::Controller)).reason
}

#[track_caller]
fn answered(status: &Status, who: &str) {
    assert_eq!(
        (status.code(), status.message()),
        (Code::AlreadyExists, who),
        "{status:?}"
    );
}

/// That the connection ended for want of a good certificate. The server's alert may lose the race
/// against the end of the connection; then the caller only knows that nobody answered.
#[track_caller]
fn refused(status: &Status) {
    let fault = fault(status, Reason::ControllerUnreachable);
    let told = [Reason::NoCertificate, Reason::ControllerUnreachable].contains(&fault.reason);
    assert!(told && status.details().is_empty(), "{fault}");
    assert_ne!(status.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn the_right_certificate_passes_and_is_known_by_role_and_node() {
    let cluster = Cluster::new();
    let controller = cluster.identity(Role::Controller);
    let server = start(controller.clone(), ClientCertificates::Required).await;
    for role in [Role::Proxy, Role::Repository] {
        let caller = cluster.identity(role);
        let channel = channel(&caller, &server, Role::Controller, Some(controller.node()));
        answered(
            &call(&channel, NODES).await,
            &format!("{role} {}", caller.node()),
        );
    }
}

#[tokio::test]
async fn a_role_makes_only_the_calls_of_its_table_entries() {
    let cluster = Cluster::new();
    let server = start(
        cluster.identity(Role::Controller),
        ClientCertificates::Required,
    )
    .await;
    for role in Role::ALL {
        let channel = channel(&cluster.identity(role), &server, Role::Controller, None);
        for entry in TABLE.iter().filter(|entry| entry.path != HANG) {
            let code = call(&channel, entry.path).await.code();
            let want = if entry.roles.contains(&role) {
                Code::AlreadyExists
            } else {
                Code::PermissionDenied
            };
            assert_eq!(code, want, "{role} {}", entry.path);
        }
        assert_eq!(
            reason(&channel, UNLISTED).await,
            Reason::RoleNotAllowed,
            "{role}"
        );
        assert_eq!(call(&channel, HEALTH).await.code(), Code::Ok, "{role}");
    }
}

#[tokio::test]
async fn a_caller_without_a_certificate_may_only_join() {
    let cluster = Cluster::new();
    let server = start(
        cluster.identity(Role::Controller),
        ClientCertificates::Optional,
    )
    .await;
    let address = server.address.to_string();
    let channel = connect_pinned(&address, cluster.ca.spki_pin()).expect("a channel");
    answered(&call(&channel, JOIN).await, "anonymous");
    for path in [ADMIN_ONLY, NODES, UNLISTED, HEALTH] {
        let status = call(&channel, path).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{path}");
        assert_eq!(
            fault(&status, Reason::Bug).reason,
            Reason::NoCertificate,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_not_even_connected_where_one_is_required() {
    let cluster = Cluster::new();
    let server = start(
        cluster.identity(Role::Controller),
        ClientCertificates::Required,
    )
    .await;
    let address = server.address.to_string();
    let channel = connect_pinned(&address, cluster.ca.spki_pin()).expect("a channel");
    refused(&call(&channel, JOIN).await);
    assert!(tls::demands_certificate(&address).await);
}

#[tokio::test]
async fn a_stranger_is_refused_in_both_directions() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let server = start(
        ours.identity(Role::Controller),
        ClientCertificates::Optional,
    )
    .await;
    // The stranger does not believe our server.
    let stranger = theirs.identity(Role::Admin);
    let channel = channel(&stranger, &server, Role::Controller, None);
    assert_eq!(reason(&channel, JOIN).await, Reason::CertificateUntrusted);
    // A stranger who does not care whom it talks to is not believed by our server.
    let shown = credentials(&theirs, Role::Admin);
    let refused = raw_call(&server, &[&rustls::version::TLS13], Some(shown)).await;
    assert!(refused.is_err(), "{refused:?}");
    let shown = credentials(&ours, Role::Admin);
    let taken = raw_call(&server, &[&rustls::version::TLS13], Some(shown)).await;
    assert!(taken.is_ok(), "{taken:?}");
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let cluster = Cluster::new();
    let server = start(
        cluster.identity(Role::Controller),
        ClientCertificates::Optional,
    )
    .await;
    assert!(
        raw_call(&server, &[&rustls::version::TLS13], None)
            .await
            .is_ok()
    );
    let refused = raw_call(&server, &[&rustls::version::TLS12], None).await;
    let message = refused.expect_err("an old version").to_string();
    assert!(message.contains("ProtocolVersion"), "{message}");
}

#[tokio::test]
async fn a_server_of_another_role_or_node_is_not_believed() {
    let cluster = Cluster::new();
    let caller = cluster.identity(Role::Controller);
    // A proxy's certificate is good for a server, yet not for the repository's place.
    let server = start(cluster.identity(Role::Proxy), ClientCertificates::Required).await;
    for (role, node) in [
        (Role::Repository, None),
        (Role::Controller, None),
        (Role::Proxy, Some(NodeId::mint())),
    ] {
        let channel = channel(&caller, &server, role, node);
        assert_eq!(
            reason(&channel, HEALTH).await,
            Reason::CertificateUntrusted,
            "{role}"
        );
    }
    let channel = channel(&caller, &server, Role::Proxy, None);
    assert_eq!(call(&channel, HEALTH).await.code(), Code::Ok);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_in_both_directions() {
    let cluster = Cluster::new();
    let long_ago = SystemTime::now() - NODE_VALIDITY - ADMIN_VALIDITY;
    let expired = cluster.identity_at(Role::Controller, long_ago);
    let server = start(expired, ClientCertificates::Required).await;
    let fresh = cluster.identity(Role::Proxy);
    assert_eq!(
        reason(&channel(&fresh, &server, Role::Controller, None), NODES).await,
        Reason::CertificateUntrusted,
    );
    let server = start(
        cluster.identity(Role::Controller),
        ClientCertificates::Required,
    )
    .await;
    let expired = cluster.identity_at(Role::Proxy, long_ago);
    let status = call(&channel(&expired, &server, Role::Controller, None), NODES).await;
    refused(&status);
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_restart() {
    let cluster = Cluster::new();
    let now = SystemTime::now();
    let old = cluster.identity_at(Role::Controller, now - NODE_VALIDITY - ADMIN_VALIDITY);
    let server = start(old.clone(), ClientCertificates::Required).await;
    let caller = cluster.identity(Role::Proxy);
    let channel = channel(&caller, &server, Role::Controller, Some(old.node()));
    assert_eq!(reason(&channel, NODES).await, Reason::CertificateUntrusted);

    let (key, request) = PendingKey::generate().expect("a key");
    let chain = cluster
        .ca
        .issue(&request, Role::Controller, old.node(), NODE_VALIDITY, now);
    old.replace(key, &chain.expect("a chain"))
        .expect("a renewal");
    answered(
        &call(&channel, NODES).await,
        &format!("proxy {}", caller.node()),
    );
}

#[tokio::test]
async fn a_renewal_for_somebody_else_or_by_somebody_else_is_refused() {
    let (cluster, stranger) = (Cluster::new(), Cluster::new());
    let identity = cluster.identity(Role::Proxy);
    let before = identity.not_after();
    let now = SystemTime::now();
    for (ca, role, node) in [
        (&cluster.ca, Role::Controller, identity.node()),
        (&cluster.ca, Role::Proxy, NodeId::mint()),
        (&stranger.ca, Role::Proxy, identity.node()),
    ] {
        let (key, request) = PendingKey::generate().expect("a key");
        let chain = ca
            .issue(&request, role, node, ADMIN_VALIDITY, now)
            .expect("a chain");
        let refused = identity.replace(key, &chain).map_err(|fault| fault.reason);
        assert_eq!(refused, Err(Reason::CertificateUntrusted));
    }
    // A chain whose authority did not sign its leaf, and one for another key.
    let (key, request) = PendingKey::generate().expect("a key");
    let issue = |ca: &Ca| ca.issue(&request, Role::Proxy, identity.node(), NODE_VALIDITY, now);
    let forged = issue(&stranger.ca)
        .expect("a chain")
        .replace(stranger.ca.certificate_pem(), cluster.ca.certificate_pem());
    assert!(key.certify(&forged).is_err());
    let (other, _) = PendingKey::generate().expect("a key");
    assert!(
        other
            .certify(&issue(&cluster.ca).expect("a chain"))
            .is_err()
    );
    assert_eq!(identity.not_after(), before);
}

#[tokio::test]
async fn a_pinned_connection_refuses_whoever_is_not_the_pinned_controller() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let pin = ours.ca.spki_pin();
    // Somebody in between with an authority of their own, and a node of ours in the wrong place.
    for identity in [
        theirs.identity(Role::Controller),
        ours.identity(Role::Proxy),
    ] {
        let server = start(identity, ClientCertificates::Optional).await;
        let channel = connect_pinned(&server.address.to_string(), pin).expect("a channel");
        assert_eq!(reason(&channel, JOIN).await, Reason::CertificateUntrusted);
    }
    let server = start(
        ours.identity(Role::Controller),
        ClientCertificates::Optional,
    )
    .await;
    let channel = connect_pinned(&server.address.to_string(), pin).expect("a channel");
    answered(&call(&channel, JOIN).await, "anonymous");
}

#[tokio::test]
async fn a_removed_node_is_refused_on_its_open_connection() {
    let cluster = Cluster::new();
    let server = start(
        cluster.identity(Role::Controller),
        ClientCertificates::Required,
    )
    .await;
    let (removed, kept) = (cluster.identity(Role::Proxy), cluster.identity(Role::Proxy));
    let removed_channel = channel(&removed, &server, Role::Controller, None);
    let kept_channel = channel(&kept, &server, Role::Controller, None);
    assert_eq!(
        call(&removed_channel, NODES).await.code(),
        Code::AlreadyExists
    );
    server.removed.insert(removed.node());
    assert_eq!(reason(&removed_channel, NODES).await, Reason::NodeRemoved);
    assert_eq!(reason(&removed_channel, HEALTH).await, Reason::NodeRemoved);
    assert_eq!(call(&kept_channel, NODES).await.code(), Code::AlreadyExists);
    server.removed.set([]);
    assert_eq!(
        call(&removed_channel, NODES).await.code(),
        Code::AlreadyExists
    );
}

#[tokio::test]
async fn nobody_there_is_the_roles_own_reason() {
    let cluster = Cluster::new();
    let caller = cluster.identity(Role::Controller);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    for role in [Role::Controller, Role::Proxy, Role::Repository] {
        let target = Target {
            address: address.clone(),
            role,
            node: None,
        };
        let channel = connect(&caller, target).expect("a channel");
        let found = fault(&call(&channel, HEALTH).await, unreachable(role));
        assert_eq!(found.reason, unreachable(role), "{found}");
        assert!(found.message.contains("refused"), "{found}");
    }
}

#[tokio::test]
async fn a_drain_ends_with_its_calls_or_with_its_time() {
    let cluster = Cluster::new();
    let server = start(
        cluster.identity(Role::Controller),
        ClientCertificates::Required,
    )
    .await;
    let channel = channel(
        &cluster.identity(Role::Proxy),
        &server,
        Role::Controller,
        None,
    );
    assert_eq!(call(&channel, NODES).await.code(), Code::AlreadyExists);
    let hanging = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, HANG).await }
    });
    // The next answer on the same connection says that the server has the hanging call.
    assert_eq!(call(&channel, NODES).await.code(), Code::AlreadyExists);
    server.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), server.ended).await;
    assert_eq!(ended.expect("in time").expect("no panic"), Ok(()));
    let cut = hanging.await.expect("no panic");
    assert_eq!(
        fault(&cut, Reason::ControllerUnreachable).reason,
        Reason::ControllerUnreachable
    );
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_saved_identity_still_proves_itself() {
    let cluster = Cluster::new();
    let server = start(
        cluster.identity(Role::Controller),
        ClientCertificates::Required,
    )
    .await;
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().join("identity");
    assert!(!Identity::exists(&home));
    let missing = Identity::load(&home).map_err(|fault| fault.reason);
    assert_eq!(missing.err(), Some(Reason::NoCertificate));

    let identity = cluster.identity(Role::Repository);
    identity.save(&home).expect("saved");
    let loaded = Identity::load(&home).expect("loaded");
    assert_eq!(loaded.name(), identity.name());
    let channel = channel(&loaded, &server, Role::Controller, None);
    answered(
        &call(&channel, NODES).await,
        &format!("repository {}", identity.node()),
    );

    std::fs::write(home.join("identity.pem"), "damaged").expect("write");
    let damaged = Identity::load(&home).map_err(|fault| fault.reason);
    assert_eq!(damaged.err(), Some(Reason::SecretUnreadable));
}

fn credentials(cluster: &Cluster, role: Role) -> Credentials {
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .expect("a request");
    let node = NodeId::mint();
    let chain = cluster
        .ca
        .issue(request.der(), role, node, NODE_VALIDITY, SystemTime::now());
    Credentials {
        key: key.serialize_pem(),
        chain: chain.expect("a chain"),
    }
}

/// Speaks TLS by hand, believing any server, and returns what its first HTTP/2 frame is.
async fn raw_call(
    server: &Running,
    versions: &[&'static rustls::SupportedProtocolVersion],
    credentials: Option<Credentials>,
) -> std::io::Result<Vec<u8>> {
    let mut tls = tls::dial(&server.address.to_string(), versions, credentials).await?;
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await?;
    let mut frame = vec![0; 9];
    tls.read_exact(&mut frame).await?;
    Ok(frame)
}
