//! How late the event loop wakes a timer. Pure; the scheduler brings the measurements.
//!
//! A task sleeps [`TICK`] and notes how much later than asked it woke. The worst lateness of the last [`WINDOW`] to twice that
//! is what counts: two maxima, of this window and the one before, need no list of samples. A block of twice the tick is always
//! seen; a shorter one by luck.
//!
//! Measured from inside, so it tells of a loop that is slow, never of one that stands still: that one cannot answer its
//! liveness probe, and the prober's timeout is the judge.

use std::time::{Duration, Instant};

/// How often the loop is measured. Chosen: as fine as the default threshold, ten wakes a second cost nothing.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Chosen: a hiccup is to be seen by a scrape every 15 s, and gone soon after.
const WINDOW: Duration = Duration::from_secs(15);

/// The worst lateness of late.
#[derive(Debug)]
pub(crate) struct Lag {
    window_began: Instant,
    worst: Duration,
    worst_before: Duration,
}

impl Lag {
    pub(crate) fn new(now: Instant) -> Self {
        Self { window_began: now, worst: Duration::ZERO, worst_before: Duration::ZERO }
    }

    /// Takes in one lateness; gives the worst that counts.
    pub(crate) fn record(&mut self, late: Duration, now: Instant) -> Duration {
        if now.saturating_duration_since(self.window_began) >= WINDOW {
            self.worst_before = std::mem::take(&mut self.worst);
            self.window_began = now;
        }
        self.worst = self.worst.max(late);
        self.worst.max(self.worst_before)
    }
}

/// The complaint about a lateness; `None` when it is within the threshold.
pub(crate) fn complaint(worst: Duration, threshold: Duration) -> Option<String> {
    (worst > threshold).then(|| {
        let (found, limit) = (worst.as_millis(), threshold.as_millis());
        format!("the event loop woke a timer {found} ms late, limit {limit} ms; look for blocking work in async code")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_lateness_counts_for_one_to_two_windows() {
        let start = Instant::now();
        let mut lag = Lag::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let late = Duration::from_millis;
        for (now, sample, worst) in [(1, 3, 3), (2, 250, 250), (14, 1, 250), (16, 1, 250), (30, 1, 250), (31, 2, 2)] {
            assert_eq!(lag.record(late(sample), at(now)), late(worst), "at {now} s");
        }
    }

    #[test]
    fn only_lateness_above_the_threshold_is_a_complaint() {
        let limit = Duration::from_millis(100);
        assert_eq!(complaint(limit, limit), None);
        assert!(
            complaint(Duration::from_millis(101), limit).is_some_and(|text| text.contains("101 ms late, limit 100 ms"))
        );
    }
}
