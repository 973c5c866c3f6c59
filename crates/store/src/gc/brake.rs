//! The brake: an unusual amount of garbage is more likely a fault or an attack than garbage.

use stillwater_format::commit::Cycle;

/// How much a cycle may condemn unasked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Of all stored bytes.
    pub(super) percent: u8,
    /// Never less than this.
    pub(super) min_bytes: u64,
}

/// Fewer cycles than this that condemned anything make no median.
const CYCLES_MIN: usize = 3;
/// A cycle is unusual beyond this many times the median.
const TIMES_MEDIAN: u64 = 3;

/// The most bytes that a cycle may condemn unasked.
pub(super) fn limit(limits: Limits, stored_bytes: u64, cycles: &[Cycle]) -> u64 {
    let share = u128::from(stored_bytes) * u128::from(limits.percent) / 100;
    let share = u64::try_from(share).unwrap_or(u64::MAX);
    let usual = median(cycles).map_or(u64::MAX, |median| median.saturating_mul(TIMES_MEDIAN));
    share.min(usual).max(limits.min_bytes)
}

/// The median of what earlier cycles condemned, of those that condemned anything.
fn median(cycles: &[Cycle]) -> Option<u64> {
    let mut condemned: Vec<_> = cycles
        .iter()
        .map(|cycle| cycle.condemned_bytes)
        .filter(|bytes| *bytes > 0)
        .collect();
    if condemned.len() < CYCLES_MIN {
        return None;
    }
    condemned.sort_unstable();
    condemned.get(condemned.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        percent: 20,
        min_bytes: 100,
    };

    fn cycles(condemned: &[u64]) -> Vec<Cycle> {
        let cycle = |condemned_bytes: &u64| Cycle {
            condemned_bytes: *condemned_bytes,
            ..Cycle::default()
        };
        condemned.iter().map(cycle).collect()
    }

    #[track_caller]
    fn check(stored_bytes: u64, condemned: &[u64], expected: u64) {
        assert_eq!(limit(LIMITS, stored_bytes, &cycles(condemned)), expected);
    }

    #[test]
    fn a_fifth_of_what_is_stored_is_the_most() {
        check(10_000, &[], 2_000);
        check(u64::MAX, &[], u64::MAX / 5);
    }

    #[test]
    fn a_little_is_never_unusual() {
        check(200, &[], 100);
        check(10_000, &[1, 1, 1], 100);
    }

    #[test]
    fn three_times_the_median_is_the_most_once_there_is_one() {
        check(100_000, &[900, 0, 0], 20_000);
        check(100_000, &[900, 1000], 20_000);
        check(100_000, &[900, 0, 1000, 90_000], 3_000);
    }
}
