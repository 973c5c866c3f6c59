//! Change tracking: where it stood, and what changed since.

use std::fmt;

use serde::{Deserialize, Serialize};
use stillwater_types::{Extent, ExtentSet};

use crate::body::Body;
use crate::client::{Call, Client, Repeat, bad_answer};
use crate::xml::{Element, Problem};
use crate::{Error, Result, SnapshotRef, VmRef};

const QUERY: &str = "QueryChangedDiskAreas";

/// More areas than a server can mean: every second 64 KiB of a disk of 62 TiB is 500 million, but no
/// map is worth more memory than this. A finer one is refused and the disk is read whole.
const AREAS_MAX: usize = 4_000_000;

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

impl Client {
    /// What changed on a disk up to the snapshot; asked for page by page up to the full capacity,
    /// clipped to it and merged.
    ///
    /// A hint: any error, a fault of kind `FileFault` above all, means that the whole disk must be
    /// read.
    pub async fn changed_areas(
        &self,
        vm: &VmRef,
        snapshot: &SnapshotRef,
        key: i32,
        since: Since<'_>,
        capacity_bytes: u64,
    ) -> Result<ExtentSet> {
        let (this, snapshot) = (vm.moref(), snapshot.moref());
        let mut pages = Pages::new(capacity_bytes);
        while let Some(offset) = pages.next() {
            let body = Body::new()
                .moref("snapshot", &snapshot)
                .value("deviceKey", key)
                .value("startOffset", offset)
                .value("changeId", since.as_str());
            let call = Call {
                method: QUERY,
                this: &this,
                body,
                repeat: Repeat::Safe,
            };
            let page = page(&self.call_one(call).await?).map_err(|p| bad_answer(QUERY, p))?;
            pages
                .add(page)
                .map_err(|Problem(problem)| Error::BadChangeMap { key, problem })?;
        }
        Ok(pages.finish())
    }
}

/// What a server said of one stretch of a disk.
#[derive(Debug, Clone)]
struct Page {
    covers: Extent,
    areas: Vec<Extent>,
}

fn page(answer: &Element) -> Result<Page, Problem> {
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
struct Pages {
    capacity: u64,
    reached: u64,
    areas: Vec<Extent>,
}

impl Pages {
    fn new(capacity: u64) -> Self {
        Self {
            capacity,
            reached: 0,
            areas: Vec::new(),
        }
    }

    /// Where the next page begins; none when the end is reached. Asking there would be a fault.
    fn next(&self) -> Option<u64> {
        (self.reached < self.capacity).then_some(self.reached)
    }

    /// Takes in a page. One without areas is legal and not the end.
    fn add(&mut self, page: Page) -> Result<(), Problem> {
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
        self.reached = covers.end();
        self.areas.extend(areas);
        Ok(())
    }

    fn finish(self) -> ExtentSet {
        ExtentSet::collect(self.areas, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPACITY: u64 = 1000;

    /// Answers as a server does: at most `most` areas, covering up to the first that is left out.
    fn answer(changed: &[Extent], offset: u64, most: usize, stretch: u64) -> Page {
        let limit = (offset + stretch).min(CAPACITY);
        let after = changed
            .iter()
            .filter(|area| area.end() > offset && area.start < limit);
        let mut areas: Vec<Extent> = after
            .map(|area| {
                let start = area.start.max(offset);
                Extent::new(start, area.end().min(limit) - start)
            })
            .collect();
        let end = areas.get(most).map_or(limit, |next| next.start);
        areas.truncate(most);
        Page {
            covers: Extent::new(offset, end - offset),
            areas,
        }
    }

    proptest! {
        #[test]
        fn pages_of_any_size_give_the_whole_map(
            areas in prop::collection::vec((0..CAPACITY, 1..60u64), 0..20),
            most in 1..5usize,
            stretch in 1..400u64,
        ) {
            let areas = areas.into_iter().map(|(start, length)| Extent::new(start, length));
            let map = ExtentSet::collect(areas, CAPACITY);
            let changed: Vec<Extent> = map.iter().collect();
            let mut pages = Pages::new(CAPACITY);
            while let Some(offset) = pages.next() {
                prop_assert!(offset < CAPACITY);
                let page = answer(&changed, offset, most, stretch);
                prop_assert_eq!(pages.add(page), Ok(()));
            }
            prop_assert_eq!(pages.finish(), map);
        }
    }

    #[track_caller]
    fn check(start: u64, length: u64, accepted: bool) {
        let mut pages = Pages::new(CAPACITY);
        pages
            .add(Page {
                covers: Extent::new(0, 100),
                areas: vec![],
            })
            .expect("an empty page");
        let covers = Extent::new(start, length);
        assert_eq!(
            pages
                .add(Page {
                    covers,
                    areas: vec![]
                })
                .is_ok(),
            accepted
        );
    }

    #[test]
    fn a_page_must_begin_where_asked_and_make_progress() {
        check(100, 900, true);
        check(100, 1, true);
        check(100, 0, false);
        check(0, 1000, false);
        check(101, 899, false);
    }

    #[test]
    fn areas_past_the_end_are_clipped() {
        let mut pages = Pages::new(CAPACITY);
        let areas = vec![Extent::new(990, 4096), Extent::new(5000, 1)];
        pages
            .add(Page {
                covers: Extent::new(0, 8192),
                areas,
            })
            .expect("a page");
        assert_eq!(pages.next(), None);
        assert_eq!(
            pages.finish().iter().collect::<Vec<_>>(),
            [Extent::new(990, 10)]
        );
    }

    #[test]
    fn a_page_with_negative_or_missing_numbers_is_refused() {
        let good = "<returnval><startOffset>0</startOffset><length>9</length></returnval>";
        assert!(page(&Element::parse(good).expect("reads")).is_ok());
        for bad in [good.replace(">9<", ">-9<"), good.replace("length", "x")] {
            assert!(
                page(&Element::parse(&bad).expect("reads")).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn change_ids_of_one_tracking_share_their_uuid() {
        let id = |text: &str| ChangeId::parse(text).expect("an id");
        assert!(id("52 de c0/1").same_tracking(&id("52 de c0/9")));
        assert!(!id("52 de c0/1").same_tracking(&id("52 de c1/1")));
        assert_eq!(ChangeId::parse(""), None);
        assert_eq!(ChangeId::parse("*"), None);
    }
}
