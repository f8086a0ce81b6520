//! Counts durations in buckets whose width grows with the value: at most 0.8 % wide, in 30 KiB for any value.

use std::time::Duration;

/// Each power of two is divided into this many buckets.
const DIVISIONS_LOG2: u32 = 7;
const DIVISIONS: u64 = 1 << DIVISIONS_LOG2;
const BUCKETS: usize = (((64 - DIVISIONS_LOG2) as usize) + 1) << DIVISIONS_LOG2;

pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
        }
    }
}

impl Histogram {
    pub fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket_of(nanoseconds)] += 1;
        self.total += 1;
    }

    /// The duration within which the given share of all records lies; zero of no records.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(start_of(bucket));
            }
        }
        Duration::ZERO
    }
}

fn bucket_of(value: u64) -> usize {
    if value < DIVISIONS {
        return value as usize;
    }
    let power = value.ilog2() - DIVISIONS_LOG2;
    let division = (value >> power) - DIVISIONS;
    ((u64::from(power + 1) << DIVISIONS_LOG2) + division) as usize
}

fn start_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let (row, division) = (bucket >> DIVISIONS_LOG2, bucket % DIVISIONS);
    if row == 0 {
        division
    } else {
        (DIVISIONS + division) << (row - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_starts_less_than_one_percent_below_its_values() {
        for value in [
            0,
            1,
            127,
            128,
            255,
            256,
            1_000,
            123_456_789,
            u64::MAX / 3,
            u64::MAX,
        ] {
            let start = start_of(bucket_of(value));
            assert!(
                start <= value && value - start <= value / DIVISIONS,
                "{value} in a bucket from {start}"
            );
        }
    }

    #[test]
    fn quantiles_are_those_of_the_records() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for microseconds in 1..=1000 {
            histogram.record(Duration::from_micros(microseconds));
        }
        for (share, expected) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1000)] {
            let expected = Duration::from_micros(expected);
            let found = histogram.quantile(share);
            assert!(
                found <= expected && expected - found < expected / 100,
                "{share}: {found:?}"
            );
        }
    }
}
