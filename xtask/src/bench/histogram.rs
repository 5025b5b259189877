//! Latencies in log-linear buckets: at most 1.6 % wide, so a percentile is as good as the measurement.

use std::time::Duration;

/// Buckets per doubling.
const LINEAR: u64 = 64;
/// Up to 2^36 ns, about a minute.
const DOUBLINGS: u64 = 30;

/// How many answers took how long.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; usize::try_from(LINEAR * (DOUBLINGS + 1)).unwrap_or_default()], count: 0 }
    }
}

impl Histogram {
    pub(super) fn record(&mut self, latency: Duration) {
        let last = self.buckets.len() - 1;
        let bucket = usize::try_from(bucket(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX))).unwrap_or(last);
        self.buckets[bucket.min(last)] += 1;
        self.count += 1;
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The latency in µs that this share of answers did not exceed.
    #[allow(clippy::cast_precision_loss, reason = "counts and nanoseconds here are far below 2^53")]
    pub(super) fn percentile(&self, share: f64) -> f64 {
        let rank = share * self.count as f64;
        let mut seen = 0;
        for (bucket, count) in (0..).zip(&self.buckets) {
            seen += count;
            if seen as f64 >= rank && seen > 0 {
                return upper_bound(bucket) as f64 / 1000.0;
            }
        }
        0.0
    }
}

/// Below 64 ns each ns has its own bucket; then every doubling has 64.
fn bucket(nanos: u64) -> u64 {
    if nanos < LINEAR {
        return nanos;
    }
    let shift = u64::from(nanos.ilog2() - LINEAR.ilog2());
    LINEAR * shift + (nanos >> shift)
}

fn upper_bound(bucket: u64) -> u64 {
    if bucket < 2 * LINEAR {
        return bucket;
    }
    let shift = bucket / LINEAR - 1;
    ((LINEAR + bucket % LINEAR + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::{Duration, Histogram, bucket, upper_bound};

    #[test]
    fn every_value_lies_at_most_a_sixty_fourth_below_its_bound() {
        for nanos in [0, 1, 63, 64, 127, 128, 1_000, 123_456, 1_000_000, 5_000_000_000] {
            let bound = upper_bound(bucket(nanos));
            assert!(bound >= nanos && bound - nanos <= nanos / 64, "{nanos} {bound}");
            assert_eq!(bucket(bound), bucket(nanos));
            assert_eq!(bucket(bound + 1), bucket(nanos) + 1);
        }
    }

    #[test]
    fn percentile_is_the_value_at_its_rank() {
        let mut histogram = Histogram::default();
        for micros in 1..=100 {
            histogram.record(Duration::from_micros(micros));
        }
        assert!((histogram.percentile(0.5) - 50.0).abs() < 1.0);
        assert!((histogram.percentile(0.99) - 99.0).abs() < 2.0);
        assert_eq!(histogram.count(), 100);
    }
}
