//! The controller at work: from a state directory to an answering port, and back to rest.

use std::path::PathBuf;
use std::sync::Arc;

use prometheus_client::registry::Registry as MetricsRegistry;
use stillwater_catalog::{Clock, SystemClock};
use stillwater_controller_api as api;
use stillwater_rpc::{ClientCertificates, Identity, RemovedNodes, Server};
use stillwater_service::metrics::Health;
use stillwater_service::{Signals, keep_identity_fresh, systemd};
use stillwater_types::{Fault, Reason};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::alarm;
use crate::charter::Charter;
use crate::config::Config;
use crate::error::Error;
use crate::guest;
use crate::home::Home;
use crate::inventory::Inventory;
use crate::kek;
use crate::memory::Memory;
use crate::metrics::{Gauges, Metrics, count_runs};
use crate::node::{Directory, Myself, Registry, RegistryParts};
use crate::notice;
use crate::policy;
use crate::resources::Resources;
use crate::run::Engine;
use crate::schedule;
use crate::secret::Secrets;
use crate::vcenter::{self, Sessions};

/// A controller that has read its state and serves nobody yet.
pub struct Controller {
    /// The state directory is held as long as this lives.
    _home: Home,
    identity_dir: PathBuf,
    config: Config,
    memory: Memory,
    resources: Resources,
    nodes: Arc<Registry>,
    vcenters: Arc<vcenter::Registry>,
    removed: RemovedNodes,
}

impl Controller {
    /// Reads the state directory. Blocks on the disk.
    ///
    /// # Errors
    /// [`Error::NotInitialised`], [`Error::InUse`], and those of damaged or unreadable state.
    pub fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let home = Home::take(&config.state_dir)?;
        let cluster = home.cluster()?;
        let charter = Charter::read(&cluster.charter())?;
        let secrets = Secrets::new(kek::read(&config.kek())?);
        let keys = charter.open(&secrets)?;
        let identity = Identity::load(&cluster.identity())?;
        let memory = Memory::open(&cluster.memory(), clock)?;
        let metrics = Metrics::default();
        let sessions = Sessions::new(memory.clone(), secrets.clone(), metrics.clone());
        let resources = Resources {
            cluster: charter.cluster,
            nodes: Directory::new(memory.clone()),
            inventory: Inventory::new(charter.cluster, memory.clone(), sessions.clone()),
            vcenters: sessions.clone(),
            grants: keys.grants.clone(),
            secrets: secrets.clone(),
            recovery: keys.recovery,
            identity: identity.clone(),
            metrics: metrics.clone(),
        };
        let removed = RemovedNodes::default();
        let nodes = Registry::new(RegistryParts {
            memory: memory.clone(),
            directory: resources.nodes.clone(),
            authority: keys.authority,
            grant_key: keys.grants.public_key(),
            myself: Myself {
                node: charter.node,
                name: charter.name,
                address: config.advertise.clone().unwrap_or(charter.advertise),
                created_at: charter.created_at,
            },
            identity,
            removed: removed.clone(),
            metrics,
        });
        Ok(Self {
            identity_dir: cluster.identity(),
            vcenters: Arc::new(vcenter::Registry::new(memory.clone(), sessions, secrets)),
            nodes: Arc::new(nodes),
            _home: home,
            config,
            memory,
            resources,
            removed,
        })
    }

    fn routes(&self, engine: &Engine) -> Routes {
        let Resources {
            vcenters, metrics, ..
        } = &self.resources;
        let scopes = policy::Scopes::new(self.memory.clone(), vcenters.clone());
        let kept = engine.keep(scopes.clone(), &self.config, metrics.clone());
        let jobs = schedule::Service::new(self.memory.clone(), kept.book);
        let policies = policy::Registry::new(self.memory.clone(), scopes, kept.expirer);
        let alarms = Arc::new(alarm::Service::new(self.memory.clone()));
        let events = Arc::new(notice::Service::new(notice::Log::new(self.memory.clone())));
        Routes::new(api::node_service(self.nodes.clone()))
            .add_service(api::token_service(self.nodes.clone()))
            .add_service(api::vcenter_service(self.vcenters.clone()))
            .add_service(api::alarm_service(alarms))
            .add_service(api::event_service(events))
            .add_service(api::policy_service(Arc::new(policies)))
            .add_service(api::job_service(Arc::new(jobs)))
            .add_service(api::vm_service(engine.vms()))
            .add_service(api::run_service(engine.runs()))
            .add_service(api::probe_service(engine.probes()))
            .add_service(api::point_service(engine.points()))
            .add_service(api::repository_service(engine.repositories()))
            .add_service(api::guest_credential_service(Arc::new(
                guest::Service::new(
                    self.memory.clone(),
                    self.resources.inventory.clone(),
                    self.resources.secrets.clone(),
                ),
            )))
    }

    /// What is lent to the run engine.
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// The counters and gauges of everything in here.
    pub fn metrics(&self) -> MetricsRegistry {
        let mut registry = MetricsRegistry::default();
        self.resources.metrics.register(&mut registry);
        registry.register_collector(Box::new(Gauges {
            memory: self.memory.clone(),
            nodes: self.resources.nodes.clone(),
            vcenters: self.resources.vcenters.clone(),
            identity: self.resources.identity.clone(),
        }));
        registry
    }

    /// Answers on `listener` until `drain`, then comes to rest. A part that fails makes it drain as
    /// well: half a controller would only look like one.
    ///
    /// # Errors
    /// Those of the port and of the metrics' port.
    pub async fn serve(self, listener: TcpListener, drain: CancellationToken) -> Result<(), Error> {
        let stop = CancellationToken::new();
        let health = Health::default();
        let measured = stillwater_service::metrics::serve(
            &self.config.metrics,
            Arc::new(self.metrics()),
            health.clone(),
            stop.clone(),
        );
        let measured = async { measured.await.inspect_err(|_| drain.cancel()) };
        let served = async {
            let served = self.answer(listener, &health, &drain).await;
            stop.cancel();
            served
        };
        let (served, measured, ()) = tokio::join!(served, measured, self.attend(&stop));
        served.and(measured).map_err(Error::from)
    }

    /// Answers calls and lets runs work, until `drain` and for as long as that takes.
    async fn answer(
        &self,
        listener: TcpListener,
        health: &Health,
        drain: &CancellationToken,
    ) -> Result<(), Fault> {
        let engine = Engine::start(self.memory.clone(), self.resources.clone(), &self.config);
        let server = Server {
            identity: self.resources.identity.clone(),
            client_certificates: ClientCertificates::Optional,
            access: &[api::ACCESS],
            removed: self.removed.clone(),
            drain: self.config.drain.0,
        };
        let drained = drain.clone().cancelled_owned();
        let served = server.serve(listener, self.routes(&engine), drained);
        let served = async { served.await.inspect_err(|_| drain.cancel()) };
        let rest = async {
            drain.cancelled().await;
            health.set_ready(false);
            systemd::stopping();
            tracing::info!("draining");
            engine.park(self.config.drain.0).await;
        };
        health.set_ready(true);
        systemd::ready();
        tokio::join!(served, rest).0
    }

    /// What goes on beside the work, until `stop`.
    async fn attend(&self, stop: &CancellationToken) {
        let Resources {
            identity,
            vcenters,
            metrics,
            ..
        } = &self.resources;
        tokio::join!(
            keep_identity_fresh(
                identity,
                &self.identity_dir,
                stop,
                async |request: Vec<u8>| { self.nodes.renew_myself(&request) }
            ),
            count_runs(metrics.clone(), self.memory.clone(), stop.clone()),
            vcenters.keep_alive(stop.clone()),
            systemd::feed_watchdog(stop),
        );
    }
}

/// Opens the state, listens and serves until the process is told to stop.
///
/// # Errors
/// Why the controller cannot start or go on.
pub async fn serve(config: Config) -> Result<(), Error> {
    let signals = Signals::watch().map_err(Error::file("watch signals of", "this process"))?;
    let address = config.listen;
    let controller =
        tokio::task::spawn_blocking(move || Controller::open(config, Arc::new(SystemClock)))
            .await
            .map_err(|_| Fault::new(Reason::Bug, "opening the state directory panicked"))??;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen { address, source })?;
    tracing::info!(cluster.id = %controller.resources.cluster, %address, "serving");
    controller.serve(listener, signals.drain.clone()).await
}
