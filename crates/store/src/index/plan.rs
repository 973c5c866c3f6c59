//! Which segments to merge.

/// Most segments that are merged at once: each needs a read buffer of 64 KiB, and rows of as many.
const INPUTS_MAX: usize = 64;
/// A size class holds segments up to four times as large as the one below.
const GROWTH: u64 = 4;

/// What is known of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight {
    pub(super) rows: u64,
    /// Rows of packs that are gone.
    pub(super) dead_rows: u64,
    pub(super) packs: usize,
}

/// Chooses segments by their place: one of which most is gone, or as many of a size as `fan_in` says.
///
/// So a row is written again only when it comes into a class four times as large, and there are at
/// most `fan_in - 1` segments of each class when nothing is left to do.
pub(super) fn choose(
    segments: &[Weight],
    base_rows: u64,
    fan_in: usize,
    packs_max: usize,
) -> Option<Vec<usize>> {
    let wasteful = |weight: &Weight| weight.dead_rows * 2 > weight.rows || weight.packs == 0;
    if let Some(at) = segments.iter().position(wasteful) {
        return Some(vec![at]);
    }
    let mut classes = std::collections::BTreeMap::<u32, Vec<usize>>::new();
    for (at, weight) in segments.iter().enumerate() {
        classes
            .entry(class(weight.rows, base_rows))
            .or_default()
            .push(at);
    }
    classes.into_values().find_map(|members| {
        let mut packs = 0;
        let fits = |at: &usize| {
            packs += segments.get(*at).map_or(0, |weight| weight.packs);
            packs <= packs_max
        };
        let chosen: Vec<_> = members
            .into_iter()
            .take(INPUTS_MAX)
            .take_while(fits)
            .collect();
        (chosen.len() >= fan_in.max(2)).then_some(chosen)
    })
}

fn class(rows: u64, base_rows: u64) -> u32 {
    (rows / base_rows.max(1))
        .checked_ilog(GROWTH)
        .map_or(0, |class| class + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: &[(u64, u64)], expected: Option<&[usize]>) {
        let weight = |(rows, dead_rows): &(u64, u64)| Weight {
            rows: *rows,
            dead_rows: *dead_rows,
            packs: 1,
        };
        let weights: Vec<_> = rows.iter().map(weight).collect();
        assert_eq!(choose(&weights, 100, 4, 5).as_deref(), expected);
    }

    #[test]
    fn four_of_a_size_are_merged_and_three_are_not() {
        check(&[(90, 0), (10, 0), (20, 0)], None);
        check(&[(90, 0), (10, 0), (20, 0), (30, 0)], Some(&[0, 1, 2, 3]));
        check(&[(90, 0), (150, 0), (20, 0), (500, 0)], None);
        check(
            &[(99, 0), (150, 0), (200, 0), (300, 0), (399, 0)],
            Some(&[1, 2, 3, 4]),
        );
    }

    #[test]
    fn a_segment_of_which_most_is_gone_is_written_again() {
        check(&[(90, 0), (100, 50)], None);
        check(&[(90, 0), (100, 51)], Some(&[1]));
    }

    #[test]
    fn no_more_packs_are_merged_than_a_segment_can_number() {
        check(&[(1, 0); 9], Some(&[0, 1, 2, 3, 4]));
    }
}
