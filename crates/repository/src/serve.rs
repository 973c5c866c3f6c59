//! The repository at work: from an identity to an answering port, and back to rest.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use stillwater_controller_api::{Client, NodeLoad, SendHeartbeatRequest};
use stillwater_repository_api as api;
use stillwater_rpc::{ClientCertificates, Identity, RemovedNodes, Server};
use stillwater_service::metrics::Health;
use stillwater_service::{Signals, beat, keep_identity_fresh, metrics, systemd};
use stillwater_store::{Environment, Store};
use stillwater_types::{Fault, Reason};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::config::Config;
use crate::delivery::Delivery;
use crate::engine::{self, Engine, blocking};
use crate::error::fault;
use crate::gate::Gate;
use crate::grpc::Services;
use crate::intake::Intake;
use crate::join;
use crate::metrics::Board;
use crate::task::Tasks;
use crate::upkeep::{self, Upkept};

/// How often sessions are looked through and trusted time is put on record.
const TICK: Duration = Duration::from_secs(60);
/// How often the store is asked whether it still takes anything.
const WATCH: Duration = Duration::from_secs(2);

/// Serves until the process is told to stop.
///
/// # Errors
/// Why the repository cannot start or go on.
pub async fn serve(config: Config) -> Result<(), Fault> {
    let watch = |error| Fault::new(Reason::Bug, format!("watch signals: {error}"));
    let signals = Signals::watch().map_err(watch)?;
    let repository = Repository::open(config).await?;
    let address = repository.config.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let message = format!("listen on {address}: {error}; change `listen`");
        Fault::new(Reason::BadField, message)
    })?;
    tracing::info!(repository.id = %repository.identity.node(), %address, "serving");
    repository.serve(listener, signals.drain.clone()).await
}

/// A repository that serves nobody yet.
pub struct Repository {
    config: Config,
    identity: Identity,
    controller: Client,
    engine: Engine,
    gate: Gate,
    tasks: Tasks,
    upkept: Upkept,
}

impl Repository {
    /// Reads the identity and opens the store.
    ///
    /// # Errors
    /// Why one of them cannot be used.
    pub async fn open(config: Config) -> Result<Self, Fault> {
        Self::open_in(config, engine::environment).await
    }

    /// Does the same with a store that takes from the machine what `environment` says, for tests on
    /// storage that is worse than the machine's.
    ///
    /// # Errors
    /// Why one of them cannot be used.
    pub async fn open_in(
        config: Config,
        environment: impl FnOnce(&Path) -> Result<Environment, Fault> + Send + 'static,
    ) -> Result<Self, Fault> {
        let asked = config.clone();
        let (identity, store, verifier) = blocking(move || {
            let identity = Identity::load(&asked.identity_dir())?;
            let environment = environment(&asked.store_dir())?;
            let store = Store::open(environment, asked.options()).map_err(fault)?;
            check_owner(&store, &identity)?;
            Ok((identity, store, join::verifier(&asked)?))
        })
        .await?;
        let controller = join::controller(&config, &identity)?;
        let gate = Gate::new(verifier, identity.node());
        Ok(Self {
            config,
            identity,
            controller,
            engine: Engine::new(store),
            gate,
            tasks: Tasks::default(),
            upkept: Upkept::default(),
        })
    }

    /// Answers on `listener` until `drain`, then lets open calls end.
    ///
    /// # Errors
    /// Those of the port and of the metrics' port; `STORAGE_FAILED` when the store takes nothing any
    /// more and only a restart helps.
    pub async fn serve(self, listener: TcpListener, drain: CancellationToken) -> Result<(), Fault> {
        let stop = CancellationToken::new();
        let health = Health::default();
        let server = Server {
            identity: self.identity.clone(),
            client_certificates: ClientCertificates::Required,
            access: &[api::ACCESS],
            removed: RemovedNodes::default(),
            drain: self.config.drain.0,
        };
        let begins = drain.clone();
        let (stopping, routes) = (health.clone(), self.routes(&drain));
        let tasks = self.tasks.clone();
        let work = async {
            health.set_ready(true);
            systemd::ready();
            let served = server
                .serve(listener, routes, async move {
                    begins.cancelled().await;
                    tasks.cancel_all();
                    stopping.set_ready(false);
                    systemd::stopping();
                })
                .await;
            drain.cancel();
            stop.cancel();
            served
        };
        let registry = Arc::new(self.registry());
        let measuring =
            metrics::serve(&self.config.metrics, registry, health.clone(), stop.clone());
        let identity_dir = self.config.identity_dir();
        let renewing = keep_identity_fresh(&self.identity, &identity_dir, &stop, |request| {
            self.renew(request)
        });
        let (store, upkept) = (self.engine.store().clone(), self.upkept.clone());
        let keeping = upkeep::keep(store, self.config.upkeep.clone(), upkept, &drain);
        let (served, measured, watched, (), (), (), (), ()) = tokio::join!(
            work,
            measuring,
            self.watch(&stop, &drain),
            self.tick(&stop),
            renewing,
            keeping,
            beat(&stop, || self.heartbeat()),
            systemd::feed_watchdog(&stop),
        );
        watched.and(served).and(measured)
    }

    fn routes(&self, drain: &CancellationToken) -> Routes {
        let (engine, gate, limits) = (&self.engine, &self.gate, &self.config.limits);
        let services = Arc::new(Services {
            node: self.identity.node(),
            engine: engine.clone(),
            gate: gate.clone(),
            intake: Intake::new(engine.clone(), gate.clone(), limits.packs),
            delivery: Delivery::new(engine.clone(), gate.clone(), limits.reads),
            tasks: self.tasks.clone(),
            drain: drain.clone(),
        });
        Routes::new(api::repository_service(services.clone()))
            .add_service(api::dataset_service(services.clone()))
            .add_service(api::session_service(services.clone()))
            .add_service(api::record_service(services.clone()))
            .add_service(api::point_service(services.clone()))
            .add_service(api::retention_service(services.clone()))
            .add_service(api::upkeep_service(services))
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Board::new(
            self.engine.clone(),
            self.upkept.clone(),
        )));
        registry
    }

    /// Stops the role when its store has stopped: whoever started it starts it again.
    async fn watch(
        &self,
        stop: &CancellationToken,
        drain: &CancellationToken,
    ) -> Result<(), Fault> {
        while pause(stop, WATCH).await {
            if !self.engine.store().is_writable() {
                drain.cancel();
                let message = "the store takes nothing any more after an I/O error; check the disk";
                return Err(Fault::new(Reason::StorageFailed, message));
            }
        }
        Ok(())
    }

    async fn tick(&self, stop: &CancellationToken) {
        while pause(stop, TICK).await {
            if let Err(fault) = self.engine.call(Store::tick).await {
                tracing::warn!(error = %fault, "failed to put trusted time on record");
            }
        }
    }

    async fn heartbeat(&self) -> Result<Duration, Fault> {
        let usage = self.engine.measure().await?;
        let load = NodeLoad {
            writable_bytes: usage.writable_bytes,
            capacity_bytes: usage.capacity_bytes,
            stored_bytes: usage.stored_bytes,
            ..NodeLoad::default()
        };
        let request = SendHeartbeatRequest {
            address: self.config.address(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            load,
            reach: None,
        };
        let answer = self.controller.send_heartbeat(request).await?;
        Ok(Duration::from_secs(u64::from(answer.interval_seconds)))
    }

    async fn renew(&self, request: Vec<u8>) -> Result<String, Fault> {
        Ok(self
            .controller
            .renew_certificate(request.into())
            .await?
            .certificate_chain)
    }
}

/// A store of another repository in the place of this one's is most likely a wrong mount.
fn check_owner(store: &Store, identity: &Identity) -> Result<(), Fault> {
    let found = store.identity();
    if found == join::owner(identity) {
        return Ok(());
    }
    let message = "the store belongs to another repository; mount the right disk, or remove the \
                   identity directory and join again to take it over";
    let fault = Fault::new(Reason::StorageUnfit, message);
    Err(fault
        .with("node", found.node)
        .with("cluster", found.cluster))
}

/// False when it is time to stop.
async fn pause(stop: &CancellationToken, time: Duration) -> bool {
    stop.run_until_cancelled(tokio::time::sleep(time))
        .await
        .is_some()
}
