//! What the journal says about nodes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_types::{NodeId, Role};

/// One change of who belongs to the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeEvent {
    /// A node was enrolled; its certificate is handed out only after this is durable.
    Joined {
        /// The id that its certificate carries.
        node: NodeId,
        /// The role that its token was bound to.
        role: Role,
        /// The name that it gave itself.
        name: String,
        /// `host:port` where it can be called; empty for admins.
        address: String,
        /// When its certificate ends.
        certificate_expires_at: Timestamp,
    },
    /// A node got a new certificate for the role and id it has.
    Renewed {
        /// Which node.
        node: NodeId,
        /// When the new certificate ends.
        certificate_expires_at: Timestamp,
    },
    /// A node says that it is called at another address now.
    Moved {
        /// Which node.
        node: NodeId,
        /// `host:port` from now on.
        address: String,
    },
    /// A node was shut out for good.
    Removed {
        /// Which node.
        node: NodeId,
    },
    /// A proxy gets no new work from now on.
    DrainBegun {
        /// Which proxy.
        node: NodeId,
    },
    /// A proxy gets work again.
    DrainEnded {
        /// Which proxy.
        node: NodeId,
    },
}
