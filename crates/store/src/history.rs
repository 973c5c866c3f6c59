//! What the commit log says, folded into what is so now.

use std::collections::BTreeMap;
use std::time::Duration;

use stillwater_format::Time;
use stillwater_format::commit::{Cycle, Dataset, Entry, Loss};
use stillwater_types::PointId;

use crate::authority::Authority;
use crate::catalogue::Point;
use crate::commit_log::Placed;
use crate::fates::Fates;
use crate::session::{SessionKey, Sessions};

/// The present, as the log has it.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) datasets: Vec<Dataset>,
    /// Points that exist, in the order of the log, each with the lock that counts.
    pub(crate) points: BTreeMap<u64, Point>,
    places: BTreeMap<PointId, u64>,
    /// Points that were deleted, and when.
    pub(crate) deleted: BTreeMap<PointId, Time>,
    pub(crate) fates: Fates,
    pub(crate) losses: Vec<Loss>,
    pub(crate) cycles: Vec<Cycle>,
    pub(crate) sessions: Sessions,
    pub(crate) authority: Authority,
    /// The latest trusted time that the log knows: time does not go back behind it.
    pub(crate) told: Time,
}

impl History {
    /// Folds all entries. Sessions that are open get a whole term from `now` on: their runs may have
    /// waited for this start.
    pub(crate) fn of(entries: &[Placed], term: Duration, now: Duration) -> Self {
        let mut history = Self {
            datasets: Vec::new(),
            points: BTreeMap::new(),
            places: BTreeMap::new(),
            deleted: BTreeMap::new(),
            fates: Fates::default(),
            losses: Vec::new(),
            cycles: Vec::new(),
            sessions: Sessions::new(term),
            authority: Authority::default(),
            told: Time::default(),
        };
        for placed in entries {
            history.take(placed, now);
        }
        history
    }

    fn take(&mut self, placed: &Placed, now: Duration) {
        let sequence = placed.sequence;
        self.authority.take(&placed.entry);
        self.told = self.told.max(told(&placed.entry));
        match &placed.entry {
            Entry::Identity { .. } => {}
            Entry::Dataset(dataset) => self.datasets.push(dataset.clone()),
            Entry::SessionOpened { run, dataset, .. } => {
                let (run, fence) = (*run, sequence);
                self.sessions.open(SessionKey { run, fence }, *dataset, now);
            }
            Entry::SessionClosed { run, fence, .. } => {
                let (run, fence) = (*run, *fence);
                self.sessions.close(SessionKey { run, fence });
            }
            Entry::PointCommitted(commit) => {
                let commit = *commit;
                self.places.insert(commit.point, sequence);
                self.points.insert(sequence, Point { sequence, commit });
            }
            Entry::PointLocked { point, until, .. } => self.lock(*point, *until),
            Entry::PointDeleted { point, at } => self.delete(*point, *at),
            Entry::Packs(decision) => self.fates.take(sequence, decision),
            Entry::RecordsLost(loss) => {
                self.fates.take_loss(sequence);
                self.losses.push(loss.clone());
            }
            Entry::CycleEnded(cycle) => self.cycles.push(*cycle),
            // Taken in above.
            Entry::AdminAdded { .. }
            | Entry::AdminRemoved { .. }
            | Entry::Signed { .. }
            | Entry::FloorSet { .. }
            | Entry::SweepAllowed { .. }
            | Entry::TimeAdvanced { .. } => {}
        }
    }

    fn lock(&mut self, point: PointId, until: Time) {
        let place = self.places.get(&point);
        if let Some(point) = place.and_then(|place| self.points.get_mut(place)) {
            point.commit.retain_until = point.commit.retain_until.max(until);
        }
    }

    fn delete(&mut self, point: PointId, at: Time) {
        if let Some(place) = self.places.remove(&point) {
            self.points.remove(&place);
        }
        // Also of what was only ever proposed: its id must not come to life any more.
        self.deleted.insert(point, at);
    }
}

/// The trusted time that had come when an entry was appended.
fn told(entry: &Entry) -> Time {
    match entry {
        Entry::Identity { .. } | Entry::Dataset(_) => Time::default(),
        Entry::SessionOpened { at, .. }
        | Entry::SessionClosed { at, .. }
        | Entry::PointLocked { at, .. }
        | Entry::PointDeleted { at, .. }
        | Entry::AdminAdded { at, .. }
        | Entry::AdminRemoved { at, .. }
        | Entry::Signed { at, .. }
        | Entry::FloorSet { at, .. }
        | Entry::SweepAllowed { at, .. } => *at,
        Entry::PointCommitted(commit) => commit.committed_at,
        Entry::Packs(decision) => decision.at,
        Entry::RecordsLost(loss) => loss.at,
        Entry::CycleEnded(cycle) => cycle.at,
        Entry::TimeAdvanced { to, at } => (*to).max(*at),
    }
}

/// The points that exist, each with the lock that counts.
pub(crate) fn points_of(entries: &[Placed]) -> Vec<Point> {
    // Sessions do not matter here, so neither do their terms.
    let history = History::of(entries, Duration::ZERO, Duration::ZERO);
    history.points.into_values().collect()
}
