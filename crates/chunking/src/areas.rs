//! Extents that are asked by place.

use stillwater_types::{Extent, ExtentSet};

/// The extents of a set, ascending and apart.
pub(crate) struct Areas(Vec<Extent>);

impl Areas {
    pub(crate) fn new(set: &ExtentSet) -> Self {
        Self(set.iter().collect())
    }

    /// The first that ends behind `at`.
    pub(crate) fn next(&self, at: u64) -> Option<Extent> {
        let index = self.0.partition_point(|area| area.end() <= at);
        self.0.get(index).copied()
    }

    /// The last that ends at or before `at`.
    pub(crate) fn last_before(&self, at: u64) -> Option<Extent> {
        let index = self.0.partition_point(|area| area.end() <= at);
        self.0.get(index.checked_sub(1)?).copied()
    }

    /// The one that `at` lies in.
    pub(crate) fn at(&self, at: u64) -> Option<Extent> {
        self.next(at).filter(|area| area.start <= at)
    }

    /// Whether a byte of `range` is in one.
    pub(crate) fn overlap(&self, range: Extent) -> bool {
        let next = self.next(range.start);
        next.is_some_and(|area| area.start < range.end())
    }

    /// Whether one overlaps `range` or ends or begins right beside it.
    pub(crate) fn touch(&self, range: Extent) -> bool {
        let index = self.0.partition_point(|area| area.end() < range.start);
        let next = self.0.get(index);
        next.is_some_and(|area| area.start <= range.end())
    }

    /// Whether all of `range` lies in one.
    pub(crate) fn cover(&self, range: Extent) -> bool {
        let area = self.at(range.start);
        area.is_some_and(|area| range.end() <= area.end())
    }
}
