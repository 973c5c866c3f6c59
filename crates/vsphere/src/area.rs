//! Change tracking: where it stood, and what changed since.

use std::fmt;

use serde::{Deserialize, Serialize};
use stillwater_types::{Extent, ExtentSet};

use crate::body::Body;
use crate::client::{Call, Client, Repeat, bad_answer};
use crate::error::FaultKind;
use crate::xml::{Element, Problem};
use crate::{Error, Result, SnapshotRef, VmRef};

const QUERY: &str = "QueryChangedDiskAreas";

/// More areas than a server can mean: every second 64 KiB of a disk of 62 TiB is 500 million, but no
/// map is worth more memory than this. A finer one is refused and the disk is read whole.
const AREAS_MAX: usize = 4_000_000;
/// A page covers some GiB; a server that creeps on by bytes would be asked for ever.
const PAGES_MAX: u64 = 1_000_000;
/// Disks are read and written in sectors.
const SECTOR: u64 = 512;

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

impl Since<'_> {
    fn as_str(&self) -> &str {
        match self {
            Since::Beginning => "*",
            Since::Change(id) => id.as_str(),
        }
    }
}

/// What changed on a disk, and how the server told it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedAreas {
    /// The areas: within the disk, in order, merged, in whole sectors.
    pub areas: ExtentSet,
    /// What was wrong with the answers and was put right.
    pub oddities: MapOddities,
    /// How many pages the map came in.
    pub page_count: u64,
    /// How many of them named no area, which is legal.
    pub empty_page_count: u64,
}

/// What was wrong with a change map and was put right: every area named is in the result, as far as it
/// lies on the disk. Worth recording, since a server that is careless here may have left out areas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapOddities {
    /// Areas that share bytes with one named before.
    pub overlapping: u64,
    /// Areas that begin before one named before.
    pub unsorted: u64,
    /// Areas that reach past the end of the disk.
    pub beyond_end: u64,
    /// Areas that reach out of the stretch that their page is about.
    pub outside_page: u64,
    /// Areas without bytes.
    pub empty: u64,
    /// Areas that are not whole sectors.
    pub unaligned: u64,
}

impl MapOddities {
    /// Whether nothing was wrong.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn note(&mut self, area: Extent, page: Extent, capacity: u64, reached: u64) {
        let end = area.start.checked_add(area.length);
        let ends_behind = |limit: u64| end.is_none_or(|end| end > limit);
        self.empty += u64::from(area.length == 0);
        self.beyond_end += u64::from(ends_behind(capacity));
        // The last page may run past the disk's end; only what is on the disk counts.
        self.outside_page += u64::from(
            area.start < page.start || (ends_behind(page.end()) && page.end() < capacity),
        );
        self.unaligned += u64::from(
            !area.start.is_multiple_of(SECTOR)
                || (!area.length.is_multiple_of(SECTOR) && end != Some(capacity)),
        );
        self.overlapping += u64::from(area.length > 0 && area.start < reached);
    }
}

impl fmt::Display for MapOddities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (self.overlapping, "overlapping"),
            (self.unsorted, "unsorted"),
            (self.beyond_end, "past the end of the disk"),
            (self.outside_page, "outside their page"),
            (self.empty, "empty"),
            (self.unaligned, "not whole sectors"),
        ];
        let told: Vec<String> = kinds
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, words)| format!("{count} {words}"))
            .collect();
        match told.is_empty() {
            true => f.write_str("nothing odd"),
            false => write!(f, "areas that are {}", told.join(", ")),
        }
    }
}

/// What a failed question for changed areas means for the disk's reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MapFailure {
    /// Tracking does not reach back to the change id: it was reset, or was off in between. Read the
    /// disk whole; the next run has a map again.
    TrackingLost,
    /// The server's map cannot be used, or it has none. Read the disk whole.
    NoMap,
    /// It is not about the map: session, connection, privilege, or the snapshot or VM is gone.
    Elsewhere,
}

impl Error {
    /// What this error, of [`Client::changed_areas`], means for the disk's reading.
    pub fn map_failure(&self) -> MapFailure {
        match self {
            Error::TrackingLost { .. } => MapFailure::TrackingLost,
            Error::BadChangeMap { .. } => MapFailure::NoMap,
            Error::BadAnswer { method, .. } if *method == QUERY => MapFailure::NoMap,
            Error::Fault { method, fault } if *method == QUERY => match fault.kind {
                FaultKind::NotAuthenticated
                | FaultKind::NoPermission { .. }
                | FaultKind::ManagedObjectNotFound => MapFailure::Elsewhere,
                _ => MapFailure::NoMap,
            },
            _ => MapFailure::Elsewhere,
        }
    }
}

impl Client {
    /// What changed on a disk up to the snapshot; asked for page by page up to the full capacity,
    /// clipped to it and merged.
    ///
    /// A hint: [`Error::TrackingLost`] and whatever [`Error::map_failure`] calls a missing map mean
    /// that the whole disk must be read.
    pub async fn changed_areas(
        &self,
        vm: &VmRef,
        snapshot: &SnapshotRef,
        key: i32,
        since: Since<'_>,
        capacity_bytes: u64,
    ) -> Result<ChangedAreas> {
        let mut pages = Pages::new(capacity_bytes);
        while let Some(offset) = pages.next() {
            let page = self.areas_from(vm, snapshot, key, since, offset).await;
            pages
                .add(page.map_err(|error| tracking_lost(error, key))?)
                .map_err(|Problem(problem)| Error::BadChangeMap { key, problem })?;
        }
        Ok(pages.finish())
    }

    async fn areas_from(
        &self,
        vm: &VmRef,
        snapshot: &SnapshotRef,
        key: i32,
        since: Since<'_>,
        offset: u64,
    ) -> Result<Page> {
        let call = Call {
            method: QUERY,
            this: &vm.moref(),
            body: query(snapshot, key, since, offset),
            repeat: Repeat::Safe,
        };
        page(&self.call_one(call).await?).map_err(|problem| bad_answer(QUERY, problem))
    }
}

fn query(snapshot: &SnapshotRef, key: i32, since: Since<'_>, offset: u64) -> Body {
    Body::new()
        .moref("snapshot", &snapshot.moref())
        .value("deviceKey", key)
        .value("startOffset", offset)
        .value("changeId", since.as_str())
}

/// The faults by which vSphere says that it does not know the changes since then: the tracking file is
/// invalid, the change id unknown or malformed, the disk not tracked.
fn tracking_lost(error: Error, key: i32) -> Error {
    match error {
        Error::Fault { fault, .. }
            if matches!(
                fault.kind,
                FaultKind::FileFault
                    | FaultKind::FileNotFound
                    | FaultKind::NotFound
                    | FaultKind::InvalidArgument
            ) =>
        {
            Error::TrackingLost { key, fault }
        }
        error => error,
    }
}

/// What a server said of one stretch of a disk.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    covers: Extent,
    areas: Vec<Extent>,
}

pub(crate) fn page(answer: &Element) -> Result<Page, Problem> {
    let areas = answer.all("changedArea");
    Ok(Page {
        covers: Extent::new(answer.value("startOffset")?, answer.value("length")?),
        areas: areas
            .map(|area| Ok(Extent::new(area.value("start")?, area.value("length")?)))
            .collect::<Result<_, Problem>>()?,
    })
}

/// Pages put together, from the disk's beginning to its end.
#[derive(Debug)]
pub(crate) struct Pages {
    capacity: u64,
    reached: u64,
    areas: Vec<Extent>,
    /// Where the last area began, and the furthest end of any.
    last_start: u64,
    areas_reached: u64,
    oddities: MapOddities,
    count: u64,
    empty_count: u64,
}

impl Pages {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            reached: 0,
            areas: Vec::new(),
            last_start: 0,
            areas_reached: 0,
            oddities: MapOddities::default(),
            count: 0,
            empty_count: 0,
        }
    }

    /// Where the next page begins; none when the end is reached. Asking there would be a fault.
    pub(crate) fn next(&self) -> Option<u64> {
        (self.reached < self.capacity).then_some(self.reached)
    }

    /// Takes in a page. One without areas is legal and not the end.
    pub(crate) fn add(&mut self, page: Page) -> Result<(), Problem> {
        let Page { covers, areas } = page;
        if covers.start != self.reached {
            return Err(Problem(format!(
                "asked from {}, answered from {}",
                self.reached, covers.start
            )));
        }
        if covers.length == 0 {
            return Err(Problem(format!("no progress at {}", self.reached)));
        }
        if self.areas.len() + areas.len() > AREAS_MAX {
            return Err(Problem(format!("more than {AREAS_MAX} areas")));
        }
        self.count += 1;
        if self.count > PAGES_MAX {
            return Err(Problem(format!("more than {PAGES_MAX} pages")));
        }
        self.reached = covers.end();
        self.empty_count += u64::from(areas.is_empty());
        areas.into_iter().for_each(|area| self.take(area, covers));
        Ok(())
    }

    fn take(&mut self, area: Extent, page: Extent) {
        self.oddities
            .note(area, page, self.capacity, self.areas_reached);
        self.oddities.unsorted += u64::from(area.start < self.last_start);
        self.last_start = area.start;
        self.areas_reached = self.areas_reached.max(area.end());
        self.areas.push(area);
    }

    pub(crate) fn finish(self) -> ChangedAreas {
        let areas = ExtentSet::collect(self.areas, self.capacity);
        ChangedAreas {
            areas: areas.widen(SECTOR, self.capacity),
            oddities: self.oddities,
            page_count: self.count,
            empty_page_count: self.empty_count,
        }
    }
}

#[cfg(test)]
mod tests;
