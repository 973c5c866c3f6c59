//! `/metrics` and `/healthz` for whoever watches.

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use serde::Deserialize;
use stillwater_types::Fault;
use tokio_util::sync::CancellationToken;

/// The `[metrics]` section of every role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MetricsSettings {
    /// Where plain HTTP is answered, such as `127.0.0.1:9443`; nowhere when absent. Loopback only.
    pub listen: Option<SocketAddr>,
}

/// Whether a role is ready for work; clones share it. Not ready at first.
#[derive(Debug, Clone, Default)]
pub struct Health(#[allow(dead_code)] Arc<()>);

impl Health {
    /// Says so.
    pub fn set_ready(&self, ready: bool) {
        unimplemented!("{ready}")
    }
    /// Whether it is.
    pub fn is_ready(&self) -> bool {
        unimplemented!()
    }
}

/// Answers `GET /metrics` and `GET /healthz` until `cancel`; at once when there is no address.
pub async fn serve(
    settings: &MetricsSettings,
    registry: Arc<Registry>,
    health: Health,
    cancel: CancellationToken,
) -> Result<(), Fault> {
    unimplemented!("{settings:?} {registry:?} {health:?} {cancel:?}")
}
