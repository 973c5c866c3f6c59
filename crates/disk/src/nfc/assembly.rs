//! Which parts of a request have come.

use std::ops::Range;

use super::Violation;
use super::frame::Fragment;

/// So many stretches with holes between them: 32 fragments of the usual size fit into the largest
/// request, and a host that sends odd ones sends few of them at once.
const STRETCHES_MAX: usize = 4096;

/// Of the fragments of the usual size in the largest request every other one: no order leaves more
/// apart. There is room for them from the beginning, so that taking one in does not allocate.
const STRETCHES_USUAL: usize = 16;

/// A read that is being answered, in fragments that come in any order.
#[derive(Debug)]
pub struct Assembly {
    offset: u64,
    length: u32,
    /// What has come: apart from each other, ascending.
    stretches: Vec<Range<u32>>,
}

impl Assembly {
    /// Of a read of `length` bytes at `offset`.
    pub fn new(offset: u64, length: u32) -> Self {
        Self {
            offset,
            length,
            stretches: Vec::with_capacity(STRETCHES_USUAL),
        }
    }

    /// The place of a fragment in the request, which it takes.
    ///
    /// # Errors
    /// When it is of another request, does not fit, or covers what came before.
    pub fn place(&mut self, fragment: &Fragment) -> Result<Range<usize>, Violation> {
        if fragment.offset != self.offset {
            return Err(Violation::Offset {
                asked: self.offset,
                found: fragment.offset,
            });
        }
        if fragment.total != self.length {
            return Err(Violation::Total {
                asked: self.length,
                found: fragment.total,
            });
        }
        let end = fragment.at.checked_add(fragment.plain_bytes);
        match end.filter(|end| *end <= self.length && *end > fragment.at) {
            Some(end) => self.take(fragment.at..end)?,
            None => return Err(fragment.wrong_size()),
        }
        let at = fragment.at as usize;
        Ok(at..at + fragment.plain_bytes as usize)
    }

    /// Whether all has come.
    pub fn is_whole(&self) -> bool {
        match self.stretches.as_slice() {
            [] => self.length == 0,
            [only] => *only == (0..self.length),
            _ => false,
        }
    }

    fn take(&mut self, mut new: Range<u32>) -> Result<(), Violation> {
        // The first that ends behind where this begins.
        let next = self
            .stretches
            .partition_point(|stretch| stretch.end <= new.start);
        let mut touching = next..next;
        if let Some(behind) = self.stretches.get(next) {
            if behind.start < new.end {
                return Err(Violation::Overlap {
                    at: new.start,
                    plain: new.end - new.start,
                });
            }
            if behind.start == new.end {
                new.end = behind.end;
                touching.end += 1;
            }
        }
        let before = next.checked_sub(1).and_then(|at| self.stretches.get(at));
        if let Some(before) = before.filter(|stretch| stretch.end == new.start) {
            new.start = before.start;
            touching.start -= 1;
        }
        if touching.is_empty() && self.stretches.len() >= STRETCHES_MAX {
            return Err(Violation::Scattered);
        }
        drop(self.stretches.splice(touching, [new]));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OFFSET: u64 = 1 << 40;

    fn fragment(at: u32, plain_bytes: u32, total: u32) -> Fragment {
        Fragment {
            offset: OFFSET,
            total,
            at,
            plain_bytes,
            extra_bytes: plain_bytes,
            is_compressed: false,
        }
    }

    proptest! {
        #[test]
        fn a_request_is_whole_when_every_part_came_once_in_any_order(
            cuts in prop::collection::btree_set(1..999u32, 0..30),
            order in prop::collection::vec(any::<u32>(), 31),
        ) {
            let ends = [0].into_iter().chain(cuts).chain([1000]).collect::<Vec<_>>();
            let mut parts: Vec<_> = ends.windows(2).map(|w| (w[0], w[1] - w[0])).zip(order).collect();
            parts.sort_by_key(|(_, order)| *order);
            let mut assembly = Assembly::new(OFFSET, 1000);
            for ((at, bytes), _) in &parts {
                prop_assert!(!assembly.is_whole());
                let place = assembly.place(&fragment(*at, *bytes, 1000));
                prop_assert_eq!(place, Ok(*at as usize..(at + bytes) as usize));
                let again = assembly.place(&fragment(*at, *bytes, 1000));
                prop_assert_eq!(again, Err(Violation::Overlap { at: *at, plain: *bytes }));
            }
            prop_assert!(assembly.is_whole());
        }

        #[test]
        fn what_is_taken_never_covers_a_byte_twice(
            parts in prop::collection::vec((0..120u32, 0..40u32), 0..40),
        ) {
            let mut assembly = Assembly::new(OFFSET, 100);
            let mut came = [false; 100];
            for (at, bytes) in parts {
                let fits = bytes > 0 && at + bytes <= 100;
                let is_new = fits && came[at as usize..(at + bytes) as usize].iter().all(|byte| !byte);
                let place = assembly.place(&fragment(at, bytes, 100));
                prop_assert_eq!(place.is_ok(), is_new);
                if let Ok(place) = place {
                    came[place].fill(true);
                }
                prop_assert_eq!(assembly.is_whole(), came.iter().all(|byte| *byte));
            }
        }
    }

    #[test]
    fn a_fragment_of_another_request_is_refused() {
        let mut assembly = Assembly::new(OFFSET, 100);
        let elsewhere = Fragment {
            offset: OFFSET + 512,
            ..fragment(0, 10, 100)
        };
        let (asked, found) = (OFFSET, OFFSET + 512);
        assert_eq!(
            assembly.place(&elsewhere),
            Err(Violation::Offset { asked, found })
        );
        let (asked, found) = (100, 99);
        assert_eq!(
            assembly.place(&fragment(0, 10, 99)),
            Err(Violation::Total { asked, found })
        );
        for (at, bytes) in [(0, 101), (100, 1), (u32::MAX, 2), (99, u32::MAX), (5, 0)] {
            assert!(
                matches!(
                    assembly.place(&fragment(at, bytes, 100)),
                    Err(Violation::FragmentSize { .. })
                ),
                "{at}+{bytes}"
            );
        }
    }

    #[test]
    fn a_host_cannot_scatter_an_answer_without_end() {
        let mut assembly = Assembly::new(OFFSET, 2 << 20);
        let scattered = (0..).step_by(2).find_map(|at| {
            let outcome = assembly.place(&fragment(at, 1, 2 << 20));
            outcome.err().map(|error| (at, error))
        });
        assert_eq!(scattered, Some((8192, Violation::Scattered)));
    }
}
