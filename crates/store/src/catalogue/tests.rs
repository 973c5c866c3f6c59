use std::convert::Infallible;

use stillwater_format::Time;
use stillwater_format::commit::Commit;
use stillwater_types::{DatasetId, RunId};

use super::*;

fn points(count: u64) -> Vec<Point> {
    let point = |sequence| Point {
        sequence,
        commit: Commit {
            point: PointId::from_bytes([sequence as u8; 16]),
            dataset: DatasetId::from_bytes([1; 16]),
            run: RunId::from_bytes([2; 16]),
            fence: sequence,
            manifest_hash: [3; 32],
            committed_at: Time::default(),
            retain_until: Time::default(),
            wall_at: Time::default(),
        },
    };
    (1..=count).map(|n| point(n * 3)).collect()
}

fn memory(points: &[Point]) -> MemoryCatalogue {
    let mut memory = MemoryCatalogue::default();
    points
        .iter()
        .for_each(|point| memory.insert(point).unwrap());
    memory
}

fn check(points: &mut Points, truth: &[Point]) {
    let again = || Ok::<_, Infallible>(truth.to_vec());
    let Ok(page) = points.ask(|inner| inner.page(0, 100), again);
    assert_eq!(page, truth);
    for point in truth {
        let Ok(found) = points.ask(|inner| inner.get(point.commit.point), again);
        assert_eq!(found, Some(*point));
    }
}

#[test]
fn points_that_a_crash_lost_are_filled_in() {
    let truth = points(5);
    let mut opened = Points::open(Box::new(memory(&truth[..3])), &truth);
    check(&mut opened, &truth);
    assert_eq!(opened.rebuilt_count(), 0);
}

#[test]
fn a_point_that_the_log_does_not_have_condemns_the_catalogue() {
    let truth = points(5);
    let mut opened = Points::open(Box::new(memory(&truth)), &truth[..4]);
    check(&mut opened, &truth[..4]);
    assert_eq!(opened.rebuilt_count(), 1);
}

#[test]
fn a_point_that_differs_from_the_log_condemns_the_catalogue() {
    let truth = points(5);
    let mut other = truth.clone();
    other[2].commit.fence += 1;
    let mut opened = Points::open(Box::new(memory(&other)), &truth);
    check(&mut opened, &truth);
    assert_eq!(opened.rebuilt_count(), 1);
}

/// Fails or panics until it was reset so many times.
struct Sick {
    inner: MemoryCatalogue,
    resets_needed: u32,
    panics: bool,
}

impl Sick {
    fn check(&self) -> Result<(), CatalogueError> {
        match (self.resets_needed, self.panics) {
            (0, _) => Ok(()),
            (_, true) => panic!("sick"),
            (_, false) => Err(CatalogueError("sick".into())),
        }
    }
}

impl Catalogue for Sick {
    fn open(&mut self) -> Result<(), CatalogueError> {
        self.check()
    }
    fn insert(&mut self, point: &Point) -> Result<(), CatalogueError> {
        self.check().and_then(|()| self.inner.insert(point))
    }
    fn remove(&mut self, id: PointId) -> Result<(), CatalogueError> {
        self.check()?;
        self.inner.remove(id)
    }

    fn get(&self, id: PointId) -> Result<Option<Point>, CatalogueError> {
        self.check().and_then(|()| self.inner.get(id))
    }
    fn page(&self, sequence: u64, limit: usize) -> Result<Vec<Point>, CatalogueError> {
        self.check().and_then(|()| self.inner.page(sequence, limit))
    }
    fn count(&self) -> Result<u64, CatalogueError> {
        self.check().and_then(|()| self.inner.count())
    }
    fn reset(&mut self) -> Result<(), CatalogueError> {
        self.resets_needed = self.resets_needed.saturating_sub(1);
        self.check().and_then(|()| self.inner.reset())
    }
}

#[test]
fn an_engine_that_fails_or_panics_is_made_anew_or_replaced() {
    let truth = points(4);
    for (resets_needed, panics) in [(1, false), (1, true), (9, false), (9, true)] {
        let sick = Sick {
            inner: MemoryCatalogue::default(),
            resets_needed,
            panics,
        };
        let mut opened = Points::open(Box::new(sick), &truth);
        check(&mut opened, &truth);
        assert_eq!(opened.rebuilt_count(), 1);
    }
}
