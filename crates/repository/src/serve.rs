//! The repository at work: from an identity to an answering port, and back to rest.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use stillwater_controller_api::{Client, NodeLoad, SendHeartbeatRequest};
use stillwater_repository_api as api;
use stillwater_rpc::{ClientCertificates, Identity, RemovedNodes, Server};
use stillwater_service::metrics::Health;
use stillwater_service::{Signals, beat, keep_identity_fresh, metrics, systemd};
use stillwater_store::Store;
use stillwater_types::{Fault, Reason};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::authority::Gate;
use crate::config::Config;
use crate::grpc::Calls;
use crate::ingest::blocking;
use crate::metrics::StoreMetrics;
use crate::{engine, join};

/// How often sessions are looked through and trusted time is put on record.
const TICK: Duration = Duration::from_secs(60);

/// Serves until the process is told to stop.
///
/// # Errors
/// Why the repository cannot start or go on.
pub async fn serve(config: Config) -> Result<(), Fault> {
    let watch = |err| Fault::new(Reason::Bug, format!("watch signals: {err}"));
    let signals = Signals::watch().map_err(watch)?;
    let dir = config.identity_dir();
    let identity = blocking(move || Identity::load(&dir)).await?;
    let address = config.listen;
    let (opened, owner) = (config.clone(), identity.clone());
    let (store, verifier) = blocking(move || {
        Ok((
            engine::open(&opened, &owner)?,
            join::grant_verifier(&opened)?,
        ))
    })
    .await?;
    let listener = TcpListener::bind(address).await.map_err(|err| {
        Fault::new(
            Reason::BadField,
            format!("listen on {address}: {err}; change `listen`"),
        )
    })?;
    let controller = join::controller(&config, &identity)?;
    let gate = Gate::new(verifier, identity.node());
    tracing::info!(repository.id = %identity.node(), %address, "serving");
    let repository = Repository {
        config,
        identity,
        controller,
        store,
        gate,
    };
    repository.serve(listener, signals.drain.clone()).await
}

struct Repository {
    config: Config,
    identity: Identity,
    controller: Client,
    store: Store,
    gate: Gate,
}

impl Repository {
    async fn serve(self, listener: TcpListener, drain: CancellationToken) -> Result<(), Fault> {
        let stop = CancellationToken::new();
        let health = Health::default();
        let server = Server {
            identity: self.identity.clone(),
            client_certificates: ClientCertificates::Required,
            access: &[api::ACCESS],
            removed: RemovedNodes::default(),
            drain: self.config.drain.0,
        };
        let routes = self.routes(drain.clone());
        let work = async {
            health.set_ready(true);
            systemd::ready();
            let served = server
                .serve(listener, routes, drain.clone().cancelled_owned())
                .await;
            health.set_ready(false);
            systemd::stopping();
            stop.cancel();
            served
        };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(StoreMetrics(self.store.clone())));
        let measuring = metrics::serve(
            &self.config.metrics,
            Arc::new(registry),
            health.clone(),
            stop.clone(),
        );
        let identity_dir = self.config.identity_dir();
        let renewing = keep_identity_fresh(&self.identity, &identity_dir, &stop, |request| {
            self.renew(request)
        });
        let (served, measured, (), (), (), ()) = tokio::join!(
            work,
            measuring,
            renewing,
            beat(&stop, || self.heartbeat()),
            self.tick(&stop),
            systemd::feed_watchdog(&stop),
        );
        served.and(measured)
    }

    fn routes(&self, drain: CancellationToken) -> Routes {
        let calls = Arc::new(Calls {
            store: self.store.clone(),
            gate: self.gate.clone(),
            drain,
        });
        Routes::new(api::repository_service(calls.clone()))
            .add_service(api::dataset_service(calls.clone()))
            .add_service(api::session_service(calls.clone()))
            .add_service(api::record_service(calls.clone()))
            .add_service(api::point_service(calls))
    }

    async fn tick(&self, stop: &CancellationToken) {
        let mut timer = tokio::time::interval(TICK);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(timer.tick()).await.is_some() {
            let store = self.store.clone();
            if let Err(fault) = blocking(move || Ok(store.tick()?)).await {
                tracing::error!(reason = %fault.reason, error = %fault.message, "failed to keep time");
            }
        }
    }

    async fn heartbeat(&self) -> Result<Duration, Fault> {
        let store = self.store.clone();
        let usage = blocking(move || Ok(store.usage()?)).await?;
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
