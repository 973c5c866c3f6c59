//! The point catalogue: restore points by id and in order.
//!
//! A cache of what the commit log says, behind a trait so narrow that the engine beneath is a detail.
//! Whatever goes wrong in it, it is made anew from the log and nobody notices.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stillwater_format::commit::{Commit, Entry};
use stillwater_types::PointId;

mod redb;
mod sled;

pub use self::redb::RedbCatalogue;
pub use self::sled::SledCatalogue;

/// A committed restore point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Its place in the commit log.
    pub sequence: u64,
    /// Its commit record.
    pub commit: Commit,
}

/// The catalogue cannot be trusted any more.
#[derive(Debug, thiserror::Error)]
#[error("use the point catalogue: {0}")]
pub struct CatalogueError(pub String);

/// Keeps points. Every error means: make me anew.
pub trait Catalogue: Send + 'static {
    /// Opens what there is, or begins empty. Called before anything else.
    fn open(&mut self) -> Result<(), CatalogueError>;
    /// Takes a point in.
    fn insert(&mut self, point: &Point) -> Result<(), CatalogueError>;
    /// Takes many points in.
    fn insert_all(&mut self, points: &[Point]) -> Result<(), CatalogueError> {
        points.iter().try_for_each(|point| self.insert(point))
    }
    /// Forgets a point; one that it does not have is forgotten already.
    fn remove(&mut self, id: PointId) -> Result<(), CatalogueError>;
    /// The point of that id.
    fn get(&self, id: PointId) -> Result<Option<Point>, CatalogueError>;
    /// At most `limit` points that come after `sequence`, in the order of the log.
    fn page(&self, sequence: u64, limit: usize) -> Result<Vec<Point>, CatalogueError>;
    /// How many points there are.
    fn count(&self) -> Result<u64, CatalogueError>;
    /// Sets what there is aside and begins empty.
    fn reset(&mut self) -> Result<(), CatalogueError>;
}

/// A catalogue in memory: for tests, and when the one on disk cannot even be made anew.
#[derive(Debug, Default)]
pub struct MemoryCatalogue {
    by_sequence: BTreeMap<u64, Point>,
    by_id: BTreeMap<PointId, u64>,
}

impl Catalogue for MemoryCatalogue {
    fn open(&mut self) -> Result<(), CatalogueError> {
        Ok(())
    }

    fn insert(&mut self, point: &Point) -> Result<(), CatalogueError> {
        self.by_sequence.insert(point.sequence, *point);
        self.by_id.insert(point.commit.point, point.sequence);
        Ok(())
    }

    fn remove(&mut self, id: PointId) -> Result<(), CatalogueError> {
        if let Some(sequence) = self.by_id.remove(&id) {
            self.by_sequence.remove(&sequence);
        }
        Ok(())
    }

    fn get(&self, id: PointId) -> Result<Option<Point>, CatalogueError> {
        Ok(self
            .by_id
            .get(&id)
            .and_then(|sequence| self.by_sequence.get(sequence))
            .copied())
    }

    fn page(&self, sequence: u64, limit: usize) -> Result<Vec<Point>, CatalogueError> {
        let after = self.by_sequence.range(sequence.saturating_add(1)..);
        Ok(after.take(limit).map(|(_, point)| *point).collect())
    }

    fn count(&self) -> Result<u64, CatalogueError> {
        Ok(self.by_sequence.len() as u64)
    }

    fn reset(&mut self) -> Result<(), CatalogueError> {
        *self = Self::default();
        Ok(())
    }
}

/// A catalogue that makes itself anew.
pub(crate) struct Points {
    inner: Box<dyn Catalogue>,
    rebuilt_count: u64,
}

impl Points {
    /// Brings the catalogue to what the log says.
    ///
    /// A crash may have lost the newest entries of the catalogue, so missing points are filled in.
    /// A point that the log does not have, or has otherwise, condemns the whole catalogue.
    pub(crate) fn open(inner: Box<dyn Catalogue>, truth: &[Point]) -> Self {
        let mut points = Self {
            inner,
            rebuilt_count: 0,
        };
        let inner = points.inner.as_mut();
        if let Err(error) = guard(|| inner.open().and_then(|()| fill_in(inner, truth))) {
            points.rebuild(&error, truth);
        }
        points
    }

    /// Takes a point in; `truth` gives all points, this one included, should that fail.
    pub(crate) fn insert<E>(
        &mut self,
        point: &Point,
        truth: impl FnOnce() -> Result<Vec<Point>, E>,
    ) -> Result<(), E> {
        self.ask(|inner| inner.insert(point), truth)
    }

    /// Forgets a point; `truth` gives all others, should that fail.
    pub(crate) fn remove<E>(
        &mut self,
        id: PointId,
        truth: impl FnOnce() -> Result<Vec<Point>, E>,
    ) -> Result<(), E> {
        self.ask(|inner| inner.remove(id), truth)
    }

    /// Asks the catalogue, and if it fails, makes it anew and asks again.
    pub(crate) fn ask<T, E>(
        &mut self,
        mut question: impl FnMut(&mut dyn Catalogue) -> Result<T, CatalogueError>,
        truth: impl FnOnce() -> Result<Vec<Point>, E>,
    ) -> Result<T, E> {
        let error = match guard(|| question(self.inner.as_mut())) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let truth = truth()?;
        self.rebuild(&error, &truth);
        if let Ok(answer) = guard(|| question(self.inner.as_mut())) {
            return Ok(answer);
        }
        self.retreat(&truth);
        Ok(question(self.inner.as_mut()).expect("a catalogue in memory does not fail"))
    }

    /// How often it had to be made anew.
    pub(crate) const fn rebuilt_count(&self) -> u64 {
        self.rebuilt_count
    }

    fn rebuild(&mut self, cause: &CatalogueError, truth: &[Point]) {
        tracing::warn!(%cause, "made the point catalogue anew from the commit log");
        self.rebuilt_count += 1;
        let inner = self.inner.as_mut();
        let outcome = guard(|| {
            inner.reset()?;
            fill_in(inner, truth)
        });
        if let Err(error) = outcome {
            tracing::error!(%error, "kept the point catalogue in memory until the next start");
            self.retreat(truth);
        }
    }

    fn retreat(&mut self, truth: &[Point]) {
        let mut memory = MemoryCatalogue::default();
        fill_in(&mut memory, truth).expect("a catalogue in memory does not fail");
        self.inner = Box::new(memory);
    }
}

/// Checks what there is and adds what is missing.
fn fill_in(inner: &mut dyn Catalogue, truth: &[Point]) -> Result<(), CatalogueError> {
    let mismatch = |what: &str| {
        Err(CatalogueError(format!(
            "it has {what} the log does not have"
        )))
    };
    let mut missing = Vec::new();
    for point in truth {
        match inner.get(point.commit.point)? {
            Some(found) if found == *point => {}
            Some(_) => return mismatch("a point as"),
            None => missing.push(*point),
        }
    }
    if !missing.is_empty() {
        inner.insert_all(&missing)?;
    }
    if inner.count()? != truth.len() as u64 {
        return mismatch("points that");
    }
    let (mut after, mut truth) = (0, truth.iter());
    loop {
        let page = inner.page(after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.sequence;
        if page.iter().any(|point| truth.next() != Some(point)) {
            return mismatch("an order that");
        }
    }
    if truth.next().is_some() {
        mismatch("fewer points than")
    } else {
        Ok(())
    }
}

const PAGE: usize = 1000;

fn fail(error: impl std::fmt::Display) -> CatalogueError {
    CatalogueError(error.to_string())
}

/// A point as an engine keeps it: its place, and its commit record as in the log.
fn decode(sequence: u64, record: &[u8]) -> Result<Point, CatalogueError> {
    match Entry::decode(Commit::KIND, record).map_err(fail)? {
        Entry::PointCommitted(commit) => Ok(Point { sequence, commit }),
        _ => Err(CatalogueError("a record is not a point".into())),
    }
}

/// Turns a panic of the engine into an error.
fn guard<T>(act: impl FnOnce() -> Result<T, CatalogueError>) -> Result<T, CatalogueError> {
    // What a panic may have left half done is set aside with the rest by the rebuild that follows.
    catch_unwind(AssertUnwindSafe(act))
        .unwrap_or_else(|_| Err(CatalogueError("the engine panicked".into())))
}

#[cfg(test)]
mod tests;
