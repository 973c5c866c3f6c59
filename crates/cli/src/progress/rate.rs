//! How fast something moves, and how long the rest takes.

use std::time::{Duration, Instant};

/// How long the rate looks back.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// A duration for people.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Bytes per second over the last [`RATE_WINDOW`].
#[derive(Debug, Default)]
pub(crate) struct Rate(Vec<(Instant, u64)>);

impl Rate {
    pub(crate) fn observe(&mut self, now: Instant, bytes: u64) {
        // One older observation stays, so that the window is always full.
        let old = self
            .0
            .iter()
            .filter(|(at, _)| now - *at >= RATE_WINDOW)
            .count();
        self.0.drain(..old.saturating_sub(1));
        self.0.push((now, bytes));
    }

    /// `None` while there is too little to tell, and when nothing moves.
    pub(crate) fn per_second(&self) -> Option<u64> {
        let (first, last) = (self.0.first()?, self.0.last()?);
        let millis = u64::try_from((last.0 - first.0).as_millis()).ok()?;
        let bytes = last.1.checked_sub(first.1)?;
        (millis >= 1000)
            .then(|| bytes.saturating_mul(1000) / millis)
            .filter(|rate| *rate > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(observations: &[(u64, u64)]) -> Option<u64> {
        let start = Instant::now();
        let mut rate = Rate::default();
        for (second, bytes) in observations {
            rate.observe(start + Duration::from_secs(*second), *bytes);
        }
        rate.per_second()
    }

    #[test]
    fn a_rate_needs_two_moments_and_forgets_the_old_ones() {
        assert_eq!(rate(&[]), None);
        assert_eq!(rate(&[(0, 5)]), None);
        assert_eq!(rate(&[(0, 0), (2, 100)]), Some(50));
        let slow_then_fast = [(0, 0), (100, 10), (105, 510), (110, 1010)];
        assert_eq!(rate(&slow_then_fast), Some(100));
    }

    #[test]
    fn nothing_that_moves_has_no_rate() {
        assert_eq!(rate(&[(0, 7), (5, 7)]), None);
        // A transfer that was started again on another proxy counts from zero.
        assert_eq!(rate(&[(0, 7), (5, 0)]), None);
    }

    #[test]
    fn what_is_left_is_told_in_two_units_at_most() {
        assert_eq!(
            [0, 59, 60, 3599, 3600, 90_061].map(span),
            [
                "0 s",
                "59 s",
                "1 min 00 s",
                "59 min 59 s",
                "1 h 00 min",
                "25 h 01 min"
            ]
        );
    }
}
