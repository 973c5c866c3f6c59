//! The mark that a restored VM carries in its notes until it is whole, and after.
//!
//! A restore that fails destroys only what it created, and this is how it knows: a VM whose notes
//! do not hold the whole mark of the run is somebody else's.

use std::fmt;

use stillwater_types::{ClusterId, RunId};

/// Names the run that made a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// The cluster.
    pub cluster: ClusterId,
    /// The run.
    pub run: RunId,
}

impl Marker {
    /// Whether a text, such as a VM's configuration, holds the mark.
    pub fn is_in(&self, text: &str) -> bool {
        text.contains(&self.to_string())
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stillwater restore v1 cluster={} run={};",
            self.cluster, self.run
        )
    }
}
