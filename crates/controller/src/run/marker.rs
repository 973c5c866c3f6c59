//! The mark that a restored VM carries in its notes until it is whole, and after.
//!
//! A restore that fails destroys only what it created, and this is how it knows: a VM whose notes
//! do not hold the whole mark of the run is somebody else's. Until it is whole, the mark says so in one more
//! word, by which half-made VMs are found when nothing else is known of their runs.

use std::fmt;

use stillwater_types::{ClusterId, RunId};

const PREFIX: &str = "stillwater restore v1 ";
const UNFINISHED: &str = " unfinished";

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
        lines.push(format!("{self}{UNFINISHED}"));
        lines.join("\n")
    }

    /// The notes of a VM with this mark that is whole by now; none when they say so already or are another's.
    pub fn finish(&self, notes: &str) -> Option<String> {
        let unfinished = format!("{self}{UNFINISHED}");
        let is_marked = notes.lines().any(|line| line == unfinished);
        is_marked.then(|| {
            let finished = self.to_string();
            let lines = notes.lines().map(|line| match line == unfinished {
                true => finished.as_str(),
                false => line,
            });
            lines.collect::<Vec<_>>().join("\n")
        })
    }

    /// The mark in the notes of a VM that is not whole. None unless just one line is a mark, whole and of a VM that is
    /// unfinished: notes that somebody edited say nothing.
    pub fn find_unfinished(notes: &str) -> Option<Self> {
        let mut marks = notes.lines().filter(|line| line.starts_with(PREFIX));
        let mark = marks.next()?.strip_prefix(PREFIX)?;
        if marks.next().is_some() {
            return None;
        }
        let words = mark.strip_suffix(UNFINISHED)?.strip_suffix(';')?;
        let (cluster, run) = words.split_once(' ')?;
        Some(Self {
            cluster: cluster.strip_prefix("cluster=")?.parse().ok()?,
            run: run.strip_prefix("run=")?.parse().ok()?,
        })
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

    #[test]
    fn a_vm_is_unfinished_until_its_own_restore_says_otherwise_and_edited_notes_say_nothing() {
        let mark = || Marker {
            cluster: ClusterId::mint(),
            run: RunId::mint(),
        };
        let (ours, other) = (mark(), mark());
        let begun = ours.annotate(Some("web server\nask bob"));
        assert_eq!(Marker::find_unfinished(&begun), Some(ours));
        assert_eq!(other.finish(&begun), None);
        let whole = ours.finish(&begun).expect("unfinished");
        assert_eq!(whole, format!("web server\nask bob\n{ours}"));
        assert_eq!(ours.finish(&whole), None);
        for notes in [
            whole,
            String::new(),
            format!("see {ours}{UNFINISHED}"),
            format!("{ours}{UNFINISHED}."),
            format!("{ours}{UNFINISHED}\n{other}"),
            begun.replace("v1", "v2"),
            begun.replace("; unf", " unf"),
        ] {
            assert_eq!(Marker::find_unfinished(&notes), None, "{notes:?}");
        }
    }
}
