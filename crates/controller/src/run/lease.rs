//! The lease that a snapshot of ours carries in its description.
//!
//! `stillwater lease v1 cluster=<id> run=<id> expires=<rfc 3339>`, on a line of its own. It is
//! enough to find and reap a snapshot by inventory when the journal is lost, and it is the only
//! thing that makes a snapshot ours: what cannot be parsed whole is somebody else's.
//!
//! A lease is not made longer, though `RenameSnapshot` could: a run is stopped before its lease ends,
//! so that a controller that knows nothing of the run may take the lease at its word.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_types::{ClusterId, RunId};

const PREFIX: &str = "stillwater lease v1 ";

/// A run's time-bounded claim on one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lease {
    /// The cluster that made the snapshot.
    pub cluster: ClusterId,
    /// The run that made it.
    pub run: RunId,
    /// When the snapshot must be gone.
    pub expires_at: Timestamp,
}

impl Lease {
    /// Finds the lease in a snapshot's description.
    ///
    /// None unless exactly one line is a lease: a text that somebody edited or that quotes ours is
    /// no permission to remove anything.
    pub fn find(description: &str) -> Option<Self> {
        let mut leases = description.lines().filter(|line| line.starts_with(PREFIX));
        let lease = leases.next()?.parse().ok()?;
        leases.next().is_none().then_some(lease)
    }

    /// Whether the lease names the same cluster and run.
    pub fn is_for(&self, cluster: ClusterId, run: RunId) -> bool {
        self.cluster == cluster && self.run == run
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cluster,
            run,
            expires_at,
        } = self;
        write!(
            f,
            "{PREFIX}cluster={cluster} run={run} expires={expires_at}"
        )
    }
}

/// The text is no lease of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a stillwater lease")]
pub struct NoLease;

impl FromStr for Lease {
    type Err = NoLease;

    fn from_str(line: &str) -> Result<Self, NoLease> {
        let mut words = line.strip_prefix(PREFIX).ok_or(NoLease)?.split(' ');
        let mut value = |key: &str| {
            words
                .next()
                .and_then(|word| word.strip_prefix(key)?.strip_prefix('='))
                .ok_or(NoLease)
        };
        let cluster = value("cluster")?.parse().map_err(|_| NoLease)?;
        let run = value("run")?.parse().map_err(|_| NoLease)?;
        let expires_at = value("expires")?.parse().map_err(|_| NoLease)?;
        match words.next() {
            None => Ok(Self {
                cluster,
                run,
                expires_at,
            }),
            Some(_) => Err(NoLease),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        let expires_at = "2026-11-23T12:00:00Z".parse().unwrap();
        Lease {
            cluster: ClusterId::mint(),
            run: RunId::mint(),
            expires_at,
        }
    }

    #[test]
    fn a_lease_parses_what_it_prints() {
        let lease = lease();
        assert_eq!(lease.to_string().parse(), Ok(lease));
        assert_eq!(
            Lease::find(&format!("made by a backup\n{lease}")),
            Some(lease)
        );
    }

    #[test]
    fn a_text_that_is_not_whole_is_somebody_elses() {
        let text = lease().to_string();
        for cut in 0..text.len() {
            let found = Lease::find(&text[..cut]);
            // Only a cut in the fraction of the time still reads as a lease, and it names the same run.
            assert!(
                found.is_none_or(|found| text.contains(&found.run.to_string())),
                "{cut}"
            );
        }
        for foreign in [
            String::new(),
            "before update".to_owned(),
            format!("see {text}"),
            format!("{text} "),
            format!("{text}\n{text}"),
            text.replace("v1", "v2"),
            text.replace("cluster=", "cluster="[..7].into()),
        ] {
            assert_eq!(Lease::find(&foreign), None, "{foreign:?}");
        }
    }
}
