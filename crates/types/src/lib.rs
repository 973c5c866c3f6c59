//! The words that two roles already share: ids, extents, byte counts and kinds of fault.
//!
//! No I/O, no async, no clock and no randomness beyond minting a fresh id. A thing belongs here
//! only when two roles need it today; what one crate needs stays in that crate.

mod extent;
mod fault;
mod id;

pub use extent::{Extent, ExtentSet};
pub use fault::{Fault, Kind, Reason};
pub use id::{
    ChunkId, ClusterId, DatasetId, DiskId, ExportId, InvalidId, NodeId, PackId, PointId, RequestId,
    RunId, TaskId, TransferId, TreeId, VcenterId, VmId,
};

/// A role that holds a certificate of the cluster.
///
/// Carried in the certificate's SAN URI `spiffe://<cluster>/role/<role>/<node>`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Orchestrates vSphere, runs and nodes.
    Controller,
    /// Reads and writes disks.
    Proxy,
    /// Keeps chunks.
    Repository,
    /// A person at the command line.
    Admin,
}

impl Role {
    /// Every role, in the order of the role × RPC matrix.
    pub const ALL: [Role; 4] = [Role::Controller, Role::Proxy, Role::Repository, Role::Admin];

    /// The word used in certificates, tokens and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Controller => "controller",
            Role::Proxy => "proxy",
            Role::Repository => "repository",
            Role::Admin => "admin",
        }
    }

    /// Reads the word that [`Role::as_str`] writes.
    pub fn parse(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
