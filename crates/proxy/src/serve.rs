//! The proxy at work: from an identity to an answering port, and back to rest.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use stillwater_controller_api::{Client, NodeLoad, ProxyReach, SendHeartbeatRequest};
use stillwater_disk::hotadd::Guest;
use stillwater_proxy_api as api;
use stillwater_rpc::{ClientCertificates, Identity, RemovedNodes, Server};
use stillwater_service::metrics::Health;
use stillwater_service::{Signals, beat, keep_identity_fresh, metrics, systemd};
use stillwater_types::{Fault, Reason};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::attached;
use crate::config::Config;
use crate::exports::Exports;
use crate::join;
use crate::local::Local;
use crate::metrics::{Gauges, Metrics};
use crate::probes::Probes;
use crate::reach::{Network, Reach};
use crate::slots::Slots;
use crate::transfers::Transfers;

/// How long open calls may take to end once their transfers have.
const CALLS_DRAIN: Duration = Duration::from_secs(10);

/// Serves until the process is told to stop.
///
/// # Errors
/// Why the proxy cannot start or go on.
pub async fn serve(config: Config) -> Result<(), Fault> {
    let watch = |err| Fault::new(Reason::Bug, format!("watch signals: {err}"));
    let signals = Signals::watch().map_err(watch)?;
    let dir = config.identity_dir();
    let identity = tokio::task::spawn_blocking(move || Identity::load(&dir))
        .await
        .map_err(|_| Fault::new(Reason::Bug, "reading the identity panicked"))??;
    let address = config.listen;
    let listener = TcpListener::bind(address).await.map_err(|err| {
        Fault::new(
            Reason::BadField,
            format!("listen on {address}: {err}; change `listen`"),
        )
    })?;
    let proxy = Proxy::new(config, identity)?;
    tracing::info!(proxy.id = %proxy.identity.node(), %address, "serving");
    proxy.serve(listener, signals.drain.clone()).await
}

/// A proxy that serves nobody yet.
pub struct Proxy {
    config: Config,
    identity: Identity,
    controller: Client,
    slots: Slots,
    transfers: Transfers,
    exports: Exports,
    guest: Option<Guest>,
    local: Local,
    probes: Probes,
    metrics: Metrics,
}

impl Proxy {
    /// Puts the parts together. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When it is not known who the controller is.
    pub fn new(config: Config, identity: Identity) -> Result<Self, Fault> {
        let controller = join::controller(&config, &identity)?;
        let slots = Slots::new(config.limits.transfers);
        let guest = attached::guest(&config.transports);
        let local = Local::new(&config.transports);
        let local = local.map_err(|error| Fault::new(Reason::BadField, error.to_string()))?;
        let reach: Arc<dyn Reach> = Arc::new(Network {
            identity: identity.clone(),
            guest: guest.clone(),
            local: local.clone(),
        });
        let metrics = Metrics::default();
        let limits = config.transfer_limits();
        let exports = Exports::new(Arc::clone(&reach), slots.clone(), limits, metrics.clone());
        let probes = Probes::new(Arc::clone(&reach), slots.clone(), limits);
        let transfers = Transfers::new(reach, slots.clone(), limits, metrics.clone());
        Ok(Self {
            config,
            identity,
            controller,
            slots,
            transfers,
            exports,
            guest,
            local,
            probes,
            metrics,
        })
    }

    /// Answers on `listener` until `drain`, then lets transfers end.
    ///
    /// # Errors
    /// Those of the port and of the metrics' port.
    pub async fn serve(self, listener: TcpListener, drain: CancellationToken) -> Result<(), Fault> {
        let (stop, rested) = (CancellationToken::new(), CancellationToken::new());
        let health = Health::default();
        let routes = Routes::new(api::transfer_service(Arc::new(self.transfers.clone())))
            .add_service(api::export_service(Arc::new(self.exports.clone())))
            .add_service(api::probe_service(Arc::new(self.probes.clone())));
        let server = Server {
            identity: self.identity.clone(),
            client_certificates: ClientCertificates::Required,
            access: &[api::ACCESS],
            removed: RemovedNodes::default(),
            drain: CALLS_DRAIN,
        };
        // The port stays open while transfers end, so that the controller hears how they did.
        let serving = async {
            let served = server
                .serve(listener, routes, rested.clone().cancelled_owned())
                .await;
            // Ends early only by a failure: then there is nothing to stay for.
            drain.cancel();
            served
        };
        let resting = async {
            drain.cancelled().await;
            health.set_ready(false);
            systemd::stopping();
            self.rest().await;
            rested.cancel();
        };
        let work = async {
            health.set_ready(true);
            systemd::ready();
            let (served, ()) = tokio::join!(serving, resting);
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
        let (served, measured, (), (), ()) = tokio::join!(
            work,
            measuring,
            renewing,
            beat(&stop, || self.heartbeat()),
            systemd::feed_watchdog(&stop),
        );
        served.and(measured)
    }

    /// Takes no more work, waits for what there is, and cancels what takes too long.
    async fn rest(&self) {
        let drain = self.config.drain.0;
        self.slots.drain();
        let taken = self.slots.taken();
        tracing::info!(slots.taken = taken, ?drain, "draining");
        if tokio::time::timeout(drain, self.slots.idle())
            .await
            .is_err()
        {
            tracing::warn!(
                slots.taken = self.slots.taken(),
                "transfers were still at work and are cancelled"
            );
            self.transfers.cancel_all();
            self.exports.close_all();
            if tokio::time::timeout(CALLS_DRAIN, self.slots.idle())
                .await
                .is_err()
            {
                tracing::warn!("transfers did not stop in time");
            }
        }
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        registry.register_collector(Box::new(Gauges {
            slots: self.slots.clone(),
        }));
        registry
    }

    async fn heartbeat(&self) -> Result<Duration, Fault> {
        // Before the load is told, so that their slots count as free.
        self.exports.forget_abandoned();
        let load = NodeLoad {
            transfer_slots: self.slots.count(),
            transfer_count: self.slots.taken(),
            ..NodeLoad::default()
        };
        let request = SendHeartbeatRequest {
            address: self.config.address(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            load,
            reach: Some(self.reach().await),
        };
        let answer = self.controller.send_heartbeat(request).await?;
        Ok(Duration::from_secs(u64::from(answer.interval_seconds)))
    }

    /// The ways to disks that not every proxy has.
    async fn reach(&self) -> ProxyReach {
        let ids = match &self.guest {
            Some(guest) => guest.identity().await.unwrap_or_else(|error| {
                tracing::debug!(%error, "it is not known which vm this is");
                Vec::new()
            }),
            None => Vec::new(),
        };
        ProxyReach {
            vm_uuids: ids.iter().map(ToString::to_string).collect(),
            datastores: self.local.datastores(),
            nbd: self.local.has_command(),
        }
    }

    async fn renew(&self, request: Vec<u8>) -> Result<String, Fault> {
        Ok(self
            .controller
            .renew_certificate(request.into())
            .await?
            .certificate_chain)
    }
}
