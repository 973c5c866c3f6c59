//! Byte ranges of a disk and their algebra.
//!
//! Change maps and allocation maps from vSphere are hints that overlap, run past the end and come
//! unordered; an [`ExtentSet`] is what is left when they were put in order once.

use serde::{Deserialize, Serialize};

/// A range of bytes: `start..start + length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Extent {
    /// First byte.
    pub start: u64,
    /// Count of bytes.
    pub length: u64,
}

impl Extent {
    /// The range from `start` of `length` bytes.
    pub const fn new(start: u64, length: u64) -> Self {
        Self { start, length }
    }

    /// The first byte after the range; saturates at the largest address.
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }
}

/// Extents in ascending order that neither overlap nor touch, none of them empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtentSet(Vec<Extent>);

impl ExtentSet {
    /// No bytes.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// All bytes of a disk of `length` bytes.
    pub fn whole(length: u64) -> Self {
        Self::collect([Extent::new(0, length)], length)
    }

    /// Puts `extents` in order: clips them to `0..limit`, merges what overlaps or touches.
    pub fn collect(extents: impl IntoIterator<Item = Extent>, limit: u64) -> Self {
        let mut sorted: Vec<Extent> = extents
            .into_iter()
            .filter_map(|extent| {
                let end = extent.end().min(limit);
                (extent.start < end).then(|| Extent::new(extent.start, end - extent.start))
            })
            .collect();
        sorted.sort_unstable();
        let mut merged: Vec<Extent> = Vec::with_capacity(sorted.len());
        for extent in sorted {
            match merged.last_mut() {
                Some(last) if extent.start <= last.end() => {
                    last.length = extent.end().max(last.end()) - last.start;
                }
                _ => merged.push(extent),
            }
        }
        Self(merged)
    }

    /// The extents, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Extent> + '_ {
        self.0.iter().copied()
    }

    /// How many extents there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes the set covers.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|extent| extent.length).sum()
    }

    /// The bytes in either set.
    pub fn union(&self, other: &Self) -> Self {
        Self::collect(self.iter().chain(other.iter()), u64::MAX)
    }

    /// The bytes of `0..limit` that are not in the set.
    pub fn complement(&self, limit: u64) -> Self {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut at = 0;
        for extent in self.iter().take_while(|extent| extent.start < limit) {
            gaps.push(Extent::new(at, extent.start - at));
            at = extent.end();
        }
        gaps.push(Extent::new(at, limit.saturating_sub(at)));
        Self::collect(gaps, limit)
    }

    /// Widens every extent outwards to multiples of `align`, clipped to `0..limit`.
    ///
    /// # Panics
    /// When `align` is zero, which is a bug of the caller: alignments are constants.
    pub fn widen(&self, align: u64, limit: u64) -> Self {
        let widened = self.iter().map(|extent| {
            let start = extent.start / align * align;
            let end = extent
                .end()
                .checked_next_multiple_of(align)
                .unwrap_or(u64::MAX);
            Extent::new(start, end - start)
        });
        Self::collect(widened, limit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 400;

    fn bits(set: &ExtentSet) -> Vec<bool> {
        let mut bits = vec![false; LIMIT as usize];
        set.iter()
            .for_each(|e| bits[e.start as usize..e.end() as usize].fill(true));
        bits
    }

    fn extents() -> impl Strategy<Value = Vec<Extent>> {
        prop::collection::vec(
            (0..LIMIT + 50, 0..90u64).prop_map(|(s, l)| Extent::new(s, l)),
            0..12,
        )
    }

    proptest! {
        #[test]
        fn a_set_is_ordered_apart_and_covers_just_what_was_given(given in extents()) {
            let set = ExtentSet::collect(given.clone(), LIMIT);
            for pair in set.0.windows(2) {
                prop_assert!(pair[0].end() < pair[1].start);
            }
            let mut want = vec![false; LIMIT as usize];
            for e in given {
                want[e.start.min(LIMIT) as usize..e.end().min(LIMIT) as usize].fill(true);
            }
            prop_assert_eq!(set.bytes(), want.iter().filter(|bit| **bit).count() as u64);
            prop_assert_eq!(bits(&set), want);
        }

        #[test]
        fn a_set_and_its_complement_share_nothing_and_cover_all(given in extents()) {
            let set = ExtentSet::collect(given, LIMIT);
            let rest = set.complement(LIMIT);
            prop_assert_eq!(set.bytes() + rest.bytes(), LIMIT);
            prop_assert_eq!(set.union(&rest), ExtentSet::whole(LIMIT));
            prop_assert_eq!(rest.complement(LIMIT), set);
        }

        #[test]
        fn widening_keeps_every_byte_and_aligns_every_edge(given in extents(), align in 1..70u64) {
            let set = ExtentSet::collect(given, LIMIT);
            let wide = set.widen(align, LIMIT);
            prop_assert_eq!(wide.union(&set), wide.clone());
            for e in wide.iter() {
                prop_assert_eq!(e.start % align, 0);
                prop_assert!(e.end() % align == 0 || e.end() == LIMIT);
            }
        }
    }

    #[test]
    fn addresses_at_the_edge_do_not_wrap() {
        let set = ExtentSet::collect([Extent::new(u64::MAX - 1, 10)], u64::MAX);
        assert_eq!(set.bytes(), 1);
        assert_eq!(
            set.widen(4096, u64::MAX).iter().last().map(|e| e.end()),
            Some(u64::MAX)
        );
    }
}
