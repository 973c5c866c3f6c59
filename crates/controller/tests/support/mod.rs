//! A controller that really serves, with a clock that tests move.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use stillwater_catalog::Clock;
use stillwater_controller::charter::{Charter, Keys};
use stillwater_controller::config::Config;
use stillwater_controller::error::Error;
use stillwater_controller::init::Draft;
use stillwater_controller::secret::Secrets;
use stillwater_controller::serve::Controller;
use stillwater_controller::{init, kek};
use stillwater_controller_api as api;
use stillwater_rpc::{Identity, PendingKey, Target, Token, connect, connect_pinned};
use stillwater_types::{Fault, Reason, Role};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The system's time, moved.
#[derive(Debug, Default)]
pub struct MovedClock(AtomicI64);

impl MovedClock {
    /// Lets `by` pass.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(
            i64::try_from(by.as_secs()).expect("a short time"),
            Ordering::SeqCst,
        );
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// A controller on loopback.
pub struct Cluster {
    /// Its state directory and configuration.
    pub config: Config,
    /// `host:port` where it answers.
    pub address: String,
    /// Its time.
    pub clock: Arc<MovedClock>,
    /// The first administrator's token.
    pub admin_token: String,
    /// What `init` printed once.
    pub recovery_key: String,
    running: Option<(CancellationToken, JoinHandle<Result<(), Error>>)>,
    _dir: TempDir,
}

impl Cluster {
    /// Makes a cluster and serves it.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let config = Config {
            listen: address.parse().expect("an address"),
            state_dir: dir.path().join("state"),
            ..Config::default()
        };
        let (made, told) = (config.clone(), address.clone());
        let handover = blocking(move || {
            let draft = Draft::make(&made, Some(&told), Some("controller-1"))?;
            let told = (
                draft.handover.admin_token.to_string(),
                draft.handover.recovery_key.to_string(),
            );
            draft.finish()?;
            Ok::<_, Error>(told)
        });
        let (admin_token, recovery_key) = handover.await.expect("init");
        let mut cluster = Self {
            config,
            address,
            clock: Arc::default(),
            admin_token,
            recovery_key,
            running: None,
            _dir: dir,
        };
        cluster.serve(listener).await;
        cluster
    }

    /// Reads the state directory of a controller that is stopped, without serving.
    pub async fn open(&self) -> Controller {
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let open = move || Controller::open(config.clone(), clock.clone());
        when_free(open).await.expect("a good state directory")
    }

    async fn serve(&mut self, listener: TcpListener) {
        let controller = self.open().await;
        let stop = CancellationToken::new();
        let serving = tokio::spawn(controller.serve(listener, stop.clone()));
        self.running = Some((stop, serving));
    }

    /// Stops the controller as SIGTERM does.
    pub async fn stop(&mut self) {
        let (stop, serving) = self.running.take().expect("it runs");
        stop.cancel();
        serving.await.expect("no panic").expect("a clean end");
    }

    /// Starts it again on the same address and state.
    pub async fn start_again(&mut self) {
        let listener = TcpListener::bind(&self.address)
            .await
            .expect("the same port");
        self.serve(listener).await;
    }

    /// The cluster's keys, as only the controller can open them.
    pub fn keys(&self) -> Keys {
        let charter = self.state("cluster/charter.json");
        let secrets = Secrets::new(kek::read(&self.config.kek()).expect("the key"));
        Charter::read(&charter)
            .expect("a charter")
            .open(&secrets)
            .expect("the right key")
    }

    /// A path in the state directory.
    pub fn state(&self, path: &str) -> PathBuf {
        self.config.state_dir.join(path)
    }

    /// What `admin-token` does.
    pub async fn admin_token(&self) -> Result<String, Error> {
        let config = self.config.clone();
        when_free(move || init::admin_token(&config).map(|(token, _)| token.to_string())).await
    }

    /// Joins with a token, as a node that is called at `address`.
    pub async fn join(&self, token: &str, address: Option<&str>) -> Result<Joined, Fault> {
        let parsed: Token = token.parse()?;
        let (key, request) = PendingKey::generate()?;
        let client = api::Client::new(connect_pinned(&parsed.controller, parsed.ca_pin)?);
        let response = client
            .join_cluster(api::JoinClusterRequest {
                token: SecretString::from(token),
                certificate_request: request.into(),
                name: "node-1".to_owned(),
                address: address.map(str::to_owned),
            })
            .await?;
        let identity = key.certify(&response.certificate_chain)?;
        Ok(Joined { identity, response })
    }

    /// Logs an administrator in with the first token.
    pub async fn login(&self) -> Joined {
        self.join(&self.admin_token, None)
            .await
            .expect("the first token is good")
    }

    /// Makes a token as `admin` and joins a node of `role` with it.
    pub async fn enrol(&self, admin: &Joined, role: Role) -> Joined {
        let token = self
            .client(&admin.identity)
            .create_token(role)
            .await
            .expect("a token");
        let token = token.token.expose_secret();
        self.join(token, Some("127.0.0.1:7444"))
            .await
            .expect("a good token")
    }

    /// Calls the controller as `identity`.
    pub fn client(&self, identity: &Identity) -> api::Client {
        let target = Target {
            address: self.address.clone(),
            role: Role::Controller,
            node: None,
        };
        api::Client::new(connect(identity, target).expect("a good address"))
    }
}

/// A node after it joined.
pub struct Joined {
    /// Its key and certificate.
    pub identity: Identity,
    /// What it was told.
    pub response: api::JoinClusterResponse,
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

/// Does `work` once nobody holds the journal.
///
/// A process takes its locks with it when it ends. Here the old controller's connections end a
/// moment after it, and hold the journal until then.
async fn when_free<T: Send + 'static>(
    work: impl Fn() -> Result<T, Error> + Send + Sync + 'static,
) -> Result<T, Error> {
    let work = Arc::new(work);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let attempt = work.clone();
        match blocking(move || attempt()).await {
            Err(Error::Fault(fault))
                if fault.reason == Reason::StorageFailed
                    && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            outcome => return outcome,
        }
    }
}
