//! The answer to a read that comes in parts, without I/O.

use std::ops::Range;

use stillwater_types::{Extent, ExtentSet};

use super::NbdError;

/// Which parts of a request were answered.
///
/// Parts come in any order, never twice, and together they are just what was asked for.
#[derive(Debug)]
pub struct Assembly {
    extent: Extent,
    /// Answered parts in ascending order, none touching another.
    parts: Vec<Range<u64>>,
    /// How many parts may still come. No server has a reason to cut finer than sectors.
    parts_left: u64,
}

impl Assembly {
    /// Nothing of `extent` was answered yet.
    pub fn new(extent: Extent) -> Self {
        Self {
            extent,
            parts: Vec::new(),
            parts_left: extent.length / 512 + 16,
        }
    }

    /// Notes that a part comes, and says where in the answer it belongs.
    pub fn part(&mut self, offset: u64, length: u64) -> Result<Range<usize>, NbdError> {
        let end = offset.checked_add(length).ok_or_else(outside)?;
        if length == 0 || offset < self.extent.start || end > self.extent.end() {
            return Err(outside());
        }
        self.parts_left = self
            .parts_left
            .checked_sub(1)
            .ok_or_else(|| NbdError::protocol("it answers in too many parts"))?;
        self.insert(offset..end)?;
        let place = |at: u64| usize::try_from(at - self.extent.start).map_err(|_| outside());
        Ok(place(offset)?..place(end)?)
    }

    /// Notes that all of it comes at once.
    pub fn rest(&mut self) -> Result<Range<usize>, NbdError> {
        self.part(self.extent.start, self.extent.length)
    }

    fn insert(&mut self, part: Range<u64>) -> Result<(), NbdError> {
        let at = self.parts.partition_point(|other| other.end < part.start);
        // At most these two touch it.
        let last = self.parts.partition_point(|other| other.start <= part.end);
        let touching = self.parts.get(at..last).unwrap_or_default();
        if touching
            .iter()
            .any(|other| other.start < part.end && part.start < other.end)
        {
            return Err(NbdError::protocol("it answers a part twice"));
        }
        let start = touching.first().map_or(part.start, |other| other.start);
        let end = touching.last().map_or(part.end, |other| other.end);
        let merged = start.min(part.start)..end.max(part.end);
        self.parts.splice(at..last, [merged]);
        Ok(())
    }

    /// Whether everything was answered.
    pub fn is_whole(&self) -> bool {
        self.extent.length == 0
            || matches!(self.parts.as_slice(), [only] if *only == (self.extent.start..self.extent.end()))
    }

    /// What was answered.
    pub fn answered(&self) -> ExtentSet {
        let parts = self.parts.iter();
        let extents = parts.map(|part| Extent::new(part.start, part.end - part.start));
        ExtentSet::collect(extents, u64::MAX)
    }
}

fn outside() -> NbdError {
    NbdError::protocol("it answers a part that was not asked for")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_in_any_order_make_the_whole() {
        let mut assembly = Assembly::new(Extent::new(1000, 300));
        assert_eq!(assembly.part(1200, 100).expect("inside"), 200..300);
        assert_eq!(assembly.part(1000, 100).expect("inside"), 0..100);
        assert!(!assembly.is_whole());
        assert_eq!(assembly.part(1100, 100).expect("inside"), 100..200);
        assert!(assembly.is_whole());
    }

    #[test]
    fn a_part_twice_or_outside_or_empty_is_refused() {
        let mut assembly = Assembly::new(Extent::new(1000, 300));
        assembly.part(1100, 100).expect("inside");
        for (offset, length) in [
            (1199, 1),
            (1100, 100),
            (1050, 51),
            (1000, 300),
            (999, 2),
            (1299, 2),
            (1000, 0),
            (u64::MAX, 2),
            (1250, u64::MAX),
        ] {
            assert!(assembly.part(offset, length).is_err(), "{offset}+{length}");
        }
    }

    #[test]
    fn an_answer_in_dust_is_refused() {
        let mut assembly = Assembly::new(Extent::new(0, 1024));
        let parts = (0..1024).map_while(|at| assembly.part(at, 1).ok()).count();
        assert_eq!(parts, 18);
    }

    proptest! {
        #[test]
        fn what_was_answered_is_what_was_noted(
            parts in proptest::collection::vec((0..120u64, 0..40u64), 0..30),
        ) {
            let mut assembly = Assembly::new(Extent::new(10, 100));
            let mut bytes = [false; 200];
            for (offset, length) in parts {
                let range = offset as usize..(offset + length) as usize;
                let fresh = length > 0 && offset >= 10 && range.end <= 110
                    && !bytes[range.clone()].iter().any(|known| *known);
                match assembly.part(offset, length) {
                    Ok(place) => {
                        prop_assert!(fresh);
                        prop_assert_eq!(place, range.start - 10..range.end - 10);
                        bytes[range].fill(true);
                    }
                    // Too many parts is the other reason.
                    Err(_) => prop_assert!(!fresh || assembly.parts_left == 0),
                }
            }
            let known = bytes.iter().filter(|known| **known).count() as u64;
            prop_assert_eq!(assembly.answered().bytes(), known);
            prop_assert_eq!(assembly.is_whole(), known == 100);
        }
    }
}
