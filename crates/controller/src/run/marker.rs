//! The mark that a restored VM carries in its notes until it is whole, and after.
//!
//! A restore that fails destroys only what it created, and this is how it knows: a VM whose notes
//! do not hold the whole mark of the run is somebody else's.

use std::fmt;

use stillwater_types::{ClusterId, RunId};

const PREFIX: &str = "stillwater restore v1 ";

/// Names the run that made a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// The cluster.
    pub cluster: ClusterId,
    /// The run.
    pub run: RunId,
}

impl Marker {
    /// The notes of a VM that is made with this mark: those that it had, without the marks of
    /// earlier restores, which are not its maker.
    pub fn annotate(&self, notes: Option<&str>) -> String {
        let kept = notes
            .unwrap_or_default()
            .lines()
            .filter(|line| !line.starts_with(PREFIX));
        let mut lines: Vec<String> = kept.map(str::to_owned).collect();
        lines.push(self.to_string());
        lines.join("\n")
    }

    /// Whether a text, such as a VM's configuration, holds the mark.
    pub fn is_in(&self, text: &str) -> bool {
        text.contains(&self.to_string())
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}cluster={} run={};", self.cluster, self.run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_is_marked_by_its_own_restore_only() {
        let mark = || Marker {
            cluster: ClusterId::mint(),
            run: RunId::mint(),
        };
        let (first, second) = (mark(), mark());
        let once = first.annotate(Some("web server\nask bob"));
        assert!(first.is_in(&once) && !second.is_in(&once));
        let twice = second.annotate(Some(&once));
        assert!(second.is_in(&twice) && !first.is_in(&twice));
        assert!(twice.starts_with("web server\nask bob\n"), "{twice}");
        assert!(first.is_in(&first.annotate(None)));
    }
}
