//! What the entries of the commit log come to, as far as it matters for reading.

use std::collections::HashMap;

use stillwater_format::Time;
use stillwater_format::commit::{Commit, Dataset, Entry};
use stillwater_types::PointId;

/// A restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Its commit record, with the lock that counts.
    pub commit: Commit,
    /// When it was deleted; its content may be gone since.
    pub deleted_at: Option<Time>,
}

/// Datasets and points.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) datasets: Vec<Dataset>,
    pub(crate) points: Vec<Point>,
    places: HashMap<PointId, usize>,
}

impl History {
    pub(crate) fn of(entries: impl IntoIterator<Item = (u64, Entry)>) -> Self {
        let mut history = Self::default();
        entries
            .into_iter()
            .for_each(|(_, entry)| history.take(entry));
        history
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Dataset(dataset) => self.datasets.push(dataset),
            Entry::PointCommitted(commit) => {
                self.places.insert(commit.point, self.points.len());
                let deleted_at = None;
                self.points.push(Point { commit, deleted_at });
            }
            Entry::PointLocked { point, until, .. } => {
                if let Some(point) = self.point(point) {
                    point.commit.retain_until = point.commit.retain_until.max(until);
                }
            }
            Entry::PointDeleted { point, at } => {
                if let Some(point) = self.point(point) {
                    point.deleted_at = Some(at);
                }
            }
            // What was decided about packs does not matter: whatever lies there is looked at.
            Entry::Identity { .. }
            | Entry::SessionOpened { .. }
            | Entry::SessionClosed { .. }
            | Entry::Packs(_)
            | Entry::RecordsLost(_)
            | Entry::CycleEnded(_)
            | Entry::AdminAdded { .. }
            | Entry::AdminRemoved { .. }
            | Entry::Signed { .. }
            | Entry::FloorSet { .. }
            | Entry::SweepAllowed { .. }
            | Entry::TimeAdvanced { .. } => {}
        }
    }

    fn point(&mut self, id: PointId) -> Option<&mut Point> {
        let place = *self.places.get(&id)?;
        self.points.get_mut(place)
    }
}
