//! Where in a segment an id can be.

/// The first eight bytes of the first id of each block, ascending.
#[derive(Debug, Default)]
pub(super) struct Fences(Vec<u64>);

/// Few enough that a bisection stays within neighbouring cache lines.
const NEAR: usize = 32;

impl Fences {
    /// They must ascend.
    pub(super) fn new(fences: Vec<u64>) -> Self {
        Self(fences)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many fences lie before a prefix: as `partition_point(|fence| fence < prefix)`.
    ///
    /// Ids are hashes, so a fence lies about where its value says. Each turn looks at two places around that one,
    /// a root of the range apart, which leaves a range of about that length: three turns for a million fences. A bisection
    /// looks at twenty places, most of them in no cache, and each only after the one before. Fences that are spread
    /// otherwise leave the last, and only, turn to bisection.
    pub(super) fn before(&self, prefix: u64) -> usize {
        let fences = self.0.as_slice();
        // All before `low` are smaller than the prefix, all from `high` on are not.
        let (mut low, mut high) = (0, fences.len());
        let (mut least, mut most) = (0, u64::MAX);
        while high - low > NEAR {
            let width = high - low;
            let guess = low + share(prefix.saturating_sub(least), most - least, width);
            let step = width.isqrt();
            let left = guess.saturating_sub(step).max(low);
            let right = (guess + step).min(high - 1);
            for place in [left, right] {
                match fences.get(place) {
                    Some(fence) if *fence < prefix && place >= low => {
                        (low, least) = (place + 1, *fence);
                    }
                    Some(fence) if *fence >= prefix && place < high => {
                        (high, most) = (place, *fence);
                    }
                    _ => {}
                }
            }
            if high - low > width / 2 {
                break;
            }
        }
        let near = fences.get(low..high).unwrap_or_default();
        low + near.partition_point(|fence| *fence < prefix)
    }

    /// How many fences are a prefix or lie before it; `before` of them lie before it.
    pub(super) fn through(&self, prefix: u64, before: usize) -> usize {
        let rest = self.0.get(before..).unwrap_or_default();
        match rest.first() {
            Some(first) if *first == prefix => {
                before + rest.partition_point(|fence| *fence == prefix)
            }
            _ => before,
        }
    }
}

/// That share of a width, less than all of it.
fn share(part: u64, whole: u64, width: usize) -> usize {
    let scaled = u128::from(part) * width as u128 / (u128::from(whole) + 1);
    usize::try_from(scaled).unwrap_or(0).min(width - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(fences: &[u64], prefix: u64) {
        let sorted = Fences::new(fences.to_vec());
        let before = fences.partition_point(|fence| *fence < prefix);
        assert_eq!(sorted.before(prefix), before, "{prefix} in {fences:?}");
        let through = fences.partition_point(|fence| *fence <= prefix);
        assert_eq!(
            sorted.through(prefix, before),
            through,
            "{prefix} in {fences:?}"
        );
    }

    #[test]
    fn fences_of_any_spread_are_found_as_by_bisection() {
        let spread: Vec<u64> = (0..5000).map(|n| n * (u64::MAX / 5000)).collect();
        let dense: Vec<u64> = (u64::MAX - 4999..=u64::MAX).collect();
        let doubling: Vec<u64> = (0..64).map(|n| 1 << n).collect();
        let same = vec![7; 5000];
        let halves = [vec![0; 2500], vec![u64::MAX; 2500]].concat();
        for fences in [vec![], vec![9], spread, dense, doubling, same, halves] {
            for prefix in [0, 1, 6, 7, 8, 9, 10, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
                check(&fences, prefix);
            }
            for fence in fences.iter().step_by(97) {
                check(&fences, *fence);
                check(&fences, fence.saturating_sub(1));
                check(&fences, fence.saturating_add(1));
            }
        }
    }

    proptest! {
        #[test]
        fn random_fences_are_found_as_by_bisection(
            mut fences in prop::collection::vec(any::<u64>(), 0..3000),
            shift in 0_u32..64,
            prefix: u64,
        ) {
            fences.iter_mut().for_each(|fence| *fence >>= shift);
            fences.sort_unstable();
            check(&fences, prefix >> shift);
            check(&fences, prefix);
        }
    }
}
