//! What the journal says about policies.

use serde::{Deserialize, Serialize};
use stillwater_policy::Policy;

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
}
