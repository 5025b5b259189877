//! How long the calls of a destination took of late: a histogram that forgets.

use std::{
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::{Duration, Instant},
};

/// Buckets to each doubling: a bucket's bounds are 12.5 % or less apart.
const PER_OCTAVE: usize = 8;
/// The first octave begins at 2^10 ns, about a microsecond; what is shorter counts as that.
const SHORTEST: usize = 10;
/// The last ends at 2^37 ns, 137 s; what is longer counts as that.
const OCTAVES: usize = 27;
const BUCKETS: usize = OCTAVES * PER_OCTAVE;
/// How long a half is filled; what is looked at is 15 to 30 s old at most. Finagle's window for backup requests is 15 s.
const HALF: Duration = Duration::from_secs(15);

/// Two histograms: one is filled, the one before is still looked at. No lock; a count that meets the moment of the change
/// may be lost or count for the half that follows, which moves no percentile.
#[derive(Debug)]
pub(super) struct Digest {
    origin: Instant,
    /// The number of the half that is filled.
    period: AtomicU64,
    halves: [Box<[AtomicU32; BUCKETS]>; 2],
}

impl Digest {
    pub(super) fn new(now: Instant) -> Self {
        let half = || Box::new(std::array::from_fn(|_| AtomicU32::new(0)));
        Self { origin: now, period: AtomicU64::new(0), halves: [half(), half()] }
    }

    /// A call that was answered took this long.
    pub(super) fn record(&self, now: Instant, took: Duration) {
        let period = self.turn(now);
        self.half(period)[bucket(took)].fetch_add(1, Relaxed);
    }

    /// The time within which this share of the calls was answered, not less than it was and 12.5 % more at most; `None`
    /// with fewer calls than `enough`.
    pub(super) fn percentile(&self, now: Instant, share: f64, enough: u64) -> Option<Duration> {
        let period = self.turn(now);
        let (current, former) = (self.half(period), self.half(period + 1));
        let counts: [u64; BUCKETS] = std::array::from_fn(|index| {
            u64::from(current[index].load(Relaxed)) + u64::from(former[index].load(Relaxed))
        });
        let total: u64 = counts.iter().sum();
        if total == 0 || total < enough {
            return None;
        }
        // The nearest rank: of a hundred calls the 99th for 0.99.
        let rank = ((share * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        let index = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        index.map(upper_bound)
    }

    /// Empties what has become too old. The first to come in a new period does it.
    fn turn(&self, now: Instant) -> u64 {
        let current = now.saturating_duration_since(self.origin).as_nanos() / HALF.as_nanos();
        let current = u64::try_from(current).unwrap_or(u64::MAX);
        let former = self.period.load(Acquire);
        if current > former && self.period.compare_exchange(former, current, Release, Relaxed).is_ok() {
            clear(self.half(current));
            if current > former + 1 {
                clear(self.half(current + 1));
            }
        }
        current.max(former)
    }

    fn half(&self, period: u64) -> &[AtomicU32; BUCKETS] {
        &self.halves[(period % 2) as usize]
    }
}

fn clear(half: &[AtomicU32; BUCKETS]) {
    for count in half {
        count.store(0, Relaxed);
    }
}

/// The position of the highest bit is the octave, the three bits below it the part of the octave.
fn bucket(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1 << SHORTEST);
    let highest = nanos.ilog2() as usize;
    let part = (nanos >> (highest - 3)) as usize & (PER_OCTAVE - 1);
    ((highest - SHORTEST) * PER_OCTAVE + part).min(BUCKETS - 1)
}

/// The first time that falls into the next bucket.
fn upper_bound(index: usize) -> Duration {
    let (octave, part) = (index / PER_OCTAVE, index % PER_OCTAVE);
    Duration::from_nanos(((PER_OCTAVE + part + 1) as u64) << (octave + SHORTEST - 3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    proptest! {
        #[test]
        fn a_percentile_is_at_most_an_eighth_above_the_true_one(
            micros in prop::collection::vec(2u64..100_000_000, 1..400), share in 0.5f64..0.9999,
        ) {
            let now = Instant::now();
            let digest = Digest::new(now);
            for micros in &micros {
                digest.record(now, Duration::from_micros(*micros));
            }
            let mut sorted = micros.clone();
            sorted.sort_unstable();
            let rank = ((share * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
            let truth = Duration::from_micros(sorted[rank - 1]);
            let told = digest.percentile(now, share, 1).expect("there are calls");
            prop_assert!(told > truth && told <= truth.mul_f64(1.125) + Duration::from_nanos(1), "{told:?}, {truth:?}");
        }

        #[test]
        fn any_time_has_a_bucket_and_lies_below_its_bound(nanos in 0u64..u64::MAX) {
            let took = Duration::from_nanos(nanos);
            let index = bucket(took);
            prop_assert!(index < BUCKETS);
            prop_assert!(index == BUCKETS - 1 || took < upper_bound(index), "{took:?} {index}");
        }
    }

    #[test]
    fn too_few_calls_tell_nothing() {
        let now = Instant::now();
        let digest = Digest::new(now);
        for _ in 0..99 {
            digest.record(now, MS);
        }
        assert_eq!(digest.percentile(now, 0.99, 100), None);
        digest.record(now, MS);
        assert!(digest.percentile(now, 0.99, 100).is_some());
        assert_eq!(Digest::new(now).percentile(now, 0.99, 0), None, "of nothing there is no percentile");
    }

    #[test]
    fn what_is_older_than_two_halves_is_forgotten() {
        let start = Instant::now();
        let digest = Digest::new(start);
        let slow = || digest.percentile(start, 0.99, 1);
        digest.record(start, 100 * MS);
        assert!(slow().is_some());
        let at = |halves: f64| start + HALF.mul_f64(halves);
        assert!(digest.percentile(at(1.9), 0.99, 1).is_some(), "the half before still counts");
        assert_eq!(digest.percentile(at(2.0), 0.99, 1), None);
        digest.record(at(2.0), MS);
        assert!(digest.percentile(at(2.5), 0.99, 1).is_some_and(|told| told < 2 * MS));
        assert_eq!(digest.percentile(at(9.0), 0.99, 1), None, "after a pause of several halves nothing is left");
    }
}
