//! A controller and a proxy that remember and pretend, and the tool that speaks to them.

mod controller;
mod proxy;
mod repository;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use stillwater_rpc::{
    Access, Ca, ClientCertificates, Identity, PendingKey, RemovedNodes, Server, Token,
};
use stillwater_types::{ClusterId, Fault, NodeId, Role};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tonic::service::Routes;

pub use controller::Fake;
pub use proxy::{DISK_LENGTH, disk_bytes};

pub struct Site {
    dir: TempDir,
    fake: Arc<Fake>,
    proxy: Arc<proxy::Fake>,
    stop: std::sync::Mutex<Option<oneshot::Sender<()>>>,
    runtime: Runtime,
}

impl Site {
    /// Both roles, and the tool logged in.
    pub fn start() -> Self {
        Self::start_with_validity(Duration::from_secs(3600))
    }

    /// The same with certificates of this validity for administrators.
    pub fn start_with_validity(validity: Duration) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (stop, stopped) = oneshot::channel();
        let ca = Ca::create(ClusterId::mint(), SystemTime::now()).expect("an authority");
        let bind = || {
            runtime
                .block_on(TcpListener::bind("127.0.0.1:0"))
                .expect("a port")
        };
        let (controller_port, proxy_port) = (bind(), bind());
        let address = |port: &TcpListener| port.local_addr().expect("an address").to_string();
        let controller_identity = identity(&ca, Role::Controller);
        let proxy_identity = identity(&ca, Role::Proxy);
        let proxy = Arc::new(proxy::Fake::default());
        let fake = Arc::new(Fake::new(
            ca,
            address(&controller_port),
            (proxy_identity.node(), address(&proxy_port)),
            validity,
            proxy.clone(),
        ));
        let routes = Routes::new(stillwater_controller_api::run_service(fake.clone()))
            .add_service(stillwater_controller_api::node_service(fake.clone()))
            .add_service(stillwater_controller_api::token_service(fake.clone()))
            .add_service(stillwater_controller_api::point_service(fake.clone()))
            .add_service(stillwater_controller_api::repository_service(fake.clone()))
            .add_service(stillwater_controller_api::vm_service(fake.clone()))
            .add_service(stillwater_controller_api::alarm_service(fake.clone()))
            .add_service(stillwater_controller_api::event_service(fake.clone()))
            .add_service(stillwater_controller_api::job_service(fake.clone()))
            .add_service(stillwater_controller_api::policy_service(fake.clone()))
            .add_service(stillwater_controller_api::vcenter_service(fake.clone()));
        let serving = server(
            controller_identity,
            ClientCertificates::Optional,
            &[stillwater_controller_api::ACCESS],
        );
        let stopped = async move {
            // A sender that is gone is a test that has ended.
            drop(stopped.await);
        };
        runtime.spawn(serving.serve(controller_port, routes, stopped));
        let routes = Routes::new(stillwater_proxy_api::export_service(proxy.clone()));
        let serving = server(
            proxy_identity,
            ClientCertificates::Required,
            &[stillwater_proxy_api::ACCESS],
        );
        runtime.spawn(serving.serve(proxy_port, routes, std::future::pending()));
        let dir = tempfile::tempdir().expect("a directory");
        let stop = std::sync::Mutex::new(Some(stop));
        let site = Self {
            dir,
            fake,
            proxy,
            stop,
            runtime,
        };
        site.login("default");
        site
    }

    pub fn login(&self, name: &str) {
        let token: Token = self.fake.token(Role::Admin);
        self.ok(&["login", token.to_text().as_str(), "--name", name]);
    }

    pub fn fake(&self) -> &Fake {
        &self.fake
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// The id of a restore point with one disk.
    pub fn point(&self) -> String {
        self.fake.point().point_id.to_string()
    }

    pub fn break_exports(&self, fault: Fault) {
        self.proxy.break_with(fault);
    }

    pub fn stop_controller(&self) {
        let stop = self
            .stop
            .lock()
            .expect("not poisoned")
            .take()
            .expect("it runs");
        stop.send(()).expect("it runs");
        let gone = async {
            while tokio::net::TcpStream::connect(self.fake.address())
                .await
                .is_ok()
            {
                tokio::task::yield_now().await;
            }
        };
        self.runtime.block_on(gone);
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stillwater"));
        command
            .args(args)
            .env("XDG_CONFIG_HOME", self.config())
            .env_remove("STILLWATER_CONTEXT")
            .env_remove("STILLWATER_VCENTER_PASSWORD")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the tool runs")
    }

    /// What the tool prints when it succeeds.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{args:?}: {} {stderr}",
            output.status
        );
        String::from_utf8(output.stdout).expect("utf-8")
    }

    /// The exit code and what the tool says when it fails.
    pub fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?} should fail");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().expect("an exit code"), stderr)
    }
}

fn server(
    identity: Identity,
    client_certificates: ClientCertificates,
    access: &'static [&'static [Access]],
) -> Server {
    let removed = RemovedNodes::default();
    Server {
        identity,
        client_certificates,
        access,
        removed,
        drain: Duration::ZERO,
    }
}

fn identity(ca: &Ca, role: Role) -> Identity {
    let (key, request) = PendingKey::generate().expect("a key");
    let hour = Duration::from_secs(3600);
    let chain = ca.issue(&request, role, NodeId::mint(), hour, SystemTime::now());
    key.certify(&chain.expect("a certificate"))
        .expect("an identity")
}
