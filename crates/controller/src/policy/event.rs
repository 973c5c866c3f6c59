//! What the journal says about policies.

use serde::{Deserialize, Serialize};
use stillwater_policy::Policy;
use stillwater_types::{NodeId, PointId, VmId};

/// One change of what is promised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyEvent {
    /// A policy was applied, anew or in place of the one of that name.
    Applied {
        /// What it says.
        policy: Box<Policy>,
    },
    /// A policy was removed. Points that it made stay until they are deleted.
    Removed {
        /// Its name.
        name: String,
    },
    /// A restore point that no policy wanted any more was deleted.
    Expired {
        /// The point.
        point: PointId,
        /// The repository that kept it.
        repository: NodeId,
        /// Its VM.
        vm: VmId,
        /// What each policy said of it.
        why: String,
    },
    /// A repository refused to delete one, and is asked again later.
    ExpiryRefused {
        /// The point.
        point: PointId,
        /// The repository that keeps it.
        repository: NodeId,
        /// Its VM.
        vm: VmId,
        /// Its fault.
        why: String,
    },
}
