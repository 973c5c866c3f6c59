//! How old points were when the next one came: percentiles in bounded memory.

/// Values from a second to a year, told apart by a tenth.
const BUCKETS: usize = 184;
const GROWTH: f64 = 1.1;

/// Counts values in buckets that grow by a tenth, so that a percentile is right to within 5 %.
///
/// Once a bucket is full all are halved: what was long ago weighs less, and memory stays the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch {
    counts: Box<[u16; BUCKETS]>,
    most: u32,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            most: 0,
        }
    }
}

impl Sketch {
    /// Takes one value in.
    pub fn add(&mut self, secs: u32) {
        let bucket = &mut self.counts[bucket(secs)];
        *bucket += 1;
        if *bucket == u16::MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
        self.most = self.most.max(secs);
    }

    /// The value that so many hundredths of all values do not exceed; nothing is known of none.
    pub fn percentile(&self, hundredths: u8) -> Option<u32> {
        let total: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let rank = (total * u64::from(hundredths.min(100)))
            .div_ceil(100)
            .max(1);
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        })?;
        // The middle of the bucket, but never more than ever was.
        let middle = GROWTH.powi(i32::try_from(index).ok()?) * (1.0 + GROWTH) / 2.0;
        Some((middle as u32).min(self.most))
    }

    /// The greatest value ever.
    pub const fn most(&self) -> u32 {
        self.most
    }
}

fn bucket(secs: u32) -> usize {
    let exact = f64::from(secs.max(1)).ln() / GROWTH.ln();
    (exact as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_percentile_is_right_to_within_a_twentieth(
            mut values in proptest::collection::vec(20u32..30_000_000, 1..200),
            hundredths in 1u8..=100,
        ) {
            let mut sketch = Sketch::default();
            values.iter().for_each(|value| sketch.add(*value));
            values.sort_unstable();
            let rank = (values.len() * usize::from(hundredths)).div_ceil(100).max(1);
            let exact = f64::from(values[rank - 1]);
            let told = f64::from(sketch.percentile(hundredths).expect("has values"));
            prop_assert!((told - exact).abs() <= exact * 0.055 + 1.0, "{told} {exact}");
        }
    }

    #[test]
    fn memory_is_bounded_and_the_old_weighs_less() {
        let mut sketch = Sketch::default();
        (0..100_000).for_each(|_| sketch.add(60));
        (0..60_000).for_each(|_| sketch.add(600));
        let told = sketch.percentile(50).expect("has values");
        assert!((540..=600).contains(&told), "{told}");
        assert_eq!(Sketch::default().percentile(50), None);
        let mut sketch = Sketch::default();
        (0..u16::MAX).for_each(|_| sketch.add(60));
        sketch.add(600);
        let told = sketch.percentile(50).expect("has values");
        assert!((55..=65).contains(&told), "less is not nothing: {told}");
    }
}
