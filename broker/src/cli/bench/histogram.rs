//! A histogram of latencies: logarithmic buckets, each split evenly, at most 1.6 % too high.

use std::time::Duration;

/// Buckets per power of two: 2^6.
const SPLIT_BITS: u32 = 6;
const BUCKETS: usize = (64 - SPLIT_BITS as usize + 1) << SPLIT_BITS;

/// Counts durations by microseconds.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, largest: 0 }
    }

    pub(super) fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
        self.largest = self.largest.max(micros);
    }

    /// Milliseconds below which a part (0 to 1) of the durations lies; 0 without any.
    pub(super) fn quantile_ms(&self, part: f64) -> f64 {
        let wanted = ((self.total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper(index).min(self.largest) as f64 / 1000.0;
            }
        }
        0.0
    }

    /// The longest, in milliseconds.
    pub(super) fn max_ms(&self) -> f64 {
        self.largest as f64 / 1000.0
    }
}

fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(SPLIT_BITS + 1);
    ((shift as usize) << SPLIT_BITS) + (value >> shift) as usize
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let exact = 2 << SPLIT_BITS;
    if index < exact {
        return index as u64;
    }
    let shift = (index >> SPLIT_BITS) - 1;
    let base = (index - (shift << SPLIT_BITS)) as u64;
    (base << shift) + ((1_u64 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_is_close_above_its_values(value in 0..=u64::MAX) {
            let top = upper(bucket(value));
            prop_assert!(top >= value);
            prop_assert!((top - value) as f64 <= value as f64 / 63.0, "{} {}", value, top);
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut histogram = Histogram::new();
        assert!(histogram.quantile_ms(0.99).abs() < f64::EPSILON);
        for micros in 1..=100 {
            histogram.record(Duration::from_micros(micros));
        }
        assert!((histogram.quantile_ms(0.5) - 0.050).abs() < 1e-9);
        assert!((histogram.quantile_ms(0.99) - 0.099).abs() < 1e-9);
        assert!((histogram.max_ms() - 0.1).abs() < 1e-9);
    }
}
