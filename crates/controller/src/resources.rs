//! What the run engine needs of the rest of the controller.

use std::sync::Arc;

use stillwater_rpc::Identity;
use stillwater_rpc::grant::GrantSigner;
use stillwater_seal::RecoveryPublicKey;
use stillwater_types::ClusterId;

use crate::inventory::Inventory;
use crate::metrics::Metrics;
use crate::node::Directory;
use crate::secret::Secrets;
use crate::vcenter::Sessions;

/// Handles to everything beside the memory; clones share it.
#[derive(Clone)]
pub struct Resources {
    /// The cluster that leases and certificates name.
    pub cluster: ClusterId,
    /// Who can be called.
    pub nodes: Directory,
    /// Live sessions to the registered vCenters.
    pub vcenters: Sessions,
    /// Finds the VM that a text names.
    pub inventory: Inventory,
    /// Signs grants.
    pub grants: Arc<GrantSigner>,
    /// Seals and opens dataset keys.
    pub secrets: Secrets,
    /// Dataset keys are wrapped for this key, so that its holder needs no controller.
    pub recovery: RecoveryPublicKey,
    /// Who the controller is when it calls proxies and repositories.
    pub identity: Identity,
    /// Counts how runs end.
    pub metrics: Metrics,
}
