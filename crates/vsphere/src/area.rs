//! Change tracking: where it stood, and what changed since.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where change tracking of a disk stood at a snapshot: a tracking UUID and a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeId(String);

impl ChangeId {
    /// Wraps what vSphere wrote; none when it is empty or the wildcard.
    pub fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && text != "*").then(|| Self(text.to_owned()))
    }

    /// As vSphere writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both were made by the same tracking; when not, it was reset in between and the
    /// whole disk must be read.
    pub fn same_tracking(&self, other: &Self) -> bool {
        self.tracking() == other.tracking()
    }

    fn tracking(&self) -> &str {
        self.0
            .rsplit_once('/')
            .map_or(self.0.as_str(), |(uuid, _)| uuid)
    }
}

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Since when changes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since<'a> {
    /// From the beginning: the allocated areas. Only a hint, and not every datastore knows it.
    Beginning,
    /// From where an earlier snapshot stood.
    Change(&'a ChangeId),
}
