//! Whether a value is fresh, stale or gone. Pure: time and chance are arguments.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How long an old value is served without a new try after a failed one. Chosen: a dependency that is down costs one waiting
/// call a second, not every call.
const HOLD: Duration = Duration::from_secs(1);

/// How long a value may be served, from when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Without asking again.
    pub(super) fresh: Duration,
    /// After that, when asking again fails.
    pub(super) stale: Duration,
}

impl Span {
    /// `ttl`, longer or shorter by up to `jitter`; `random` is from 0 to 1.
    pub(super) fn around(ttl: Duration, jitter: f64, stale: Duration, random: f64) -> Self {
        let factor = 1.0 + jitter.clamp(0.0, 1.0) * (2.0 * random.clamp(0.0, 1.0) - 1.0);
        Self { fresh: ttl.mul_f64(factor), stale }
    }

    /// At most `ttl`, which somebody else has promised.
    pub(super) fn within(ttl: Duration, jitter: f64, stale: Duration, random: f64) -> Self {
        let factor = 1.0 - jitter.clamp(0.0, 1.0) * random.clamp(0.0, 1.0);
        Self { fresh: ttl.mul_f64(factor), stale }
    }
}

/// What may be done with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Serve it.
    Fresh,
    /// Serve it as stale: a new one could not be had a moment ago.
    Held,
    /// Ask, and serve it as stale if that fails.
    Stale,
    /// Ask.
    Gone,
}

/// The times of one value.
#[derive(Debug)]
pub(super) struct Times {
    came: Instant,
    span: Span,
    /// Until when no new try is made, in milliseconds after `came`.
    held: AtomicU64,
}

impl Times {
    pub(super) fn new(came: Instant, span: Span) -> Self {
        Self { came, span, held: AtomicU64::new(0) }
    }

    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        let age = self.age(now);
        if age < self.span.fresh {
            Verdict::Fresh
        } else if age >= self.life() {
            Verdict::Gone
        } else if age < Duration::from_millis(self.held.load(Ordering::Relaxed)) {
            Verdict::Held
        } else {
            Verdict::Stale
        }
    }

    /// A new value could not be had.
    pub(super) fn hold(&self, now: Instant) {
        let until = u64::try_from((self.age(now) + HOLD).as_millis()).unwrap_or(u64::MAX);
        self.held.fetch_max(until, Ordering::Relaxed);
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.came)
    }

    /// From when it came until it is gone.
    pub(super) fn life(&self) -> Duration {
        self.span.fresh.saturating_add(self.span.stale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_value_is_fresh_then_stale_then_gone() {
        let came = Instant::now();
        let times = Times::new(came, Span { fresh: 60 * SECOND, stale: 30 * SECOND });
        for (seconds, verdict) in
            [(0, Verdict::Fresh), (59, Verdict::Fresh), (60, Verdict::Stale), (89, Verdict::Stale), (90, Verdict::Gone)]
        {
            assert_eq!(times.verdict(came + seconds * SECOND), verdict, "after {seconds} s");
        }
    }

    #[test]
    fn after_a_failure_an_old_value_is_served_for_a_second_and_never_longer_than_it_lives() {
        let came = Instant::now();
        let times = Times::new(came, Span { fresh: 60 * SECOND, stale: 30 * SECOND });
        times.hold(came + 70 * SECOND);
        assert_eq!(times.verdict(came + 70 * SECOND), Verdict::Held);
        assert_eq!(times.verdict(came + 71 * SECOND), Verdict::Stale);
        times.hold(came + 89 * SECOND + SECOND / 2);
        assert_eq!(times.verdict(came + 90 * SECOND), Verdict::Gone);
    }

    #[test]
    fn times_to_live_are_spread_around_the_setting_and_below_a_promise() {
        let fresh = |random| Span::around(100 * SECOND, 0.05, SECOND, random).fresh;
        assert_eq!([fresh(0.0), fresh(0.5), fresh(1.0)], [95 * SECOND, 100 * SECOND, 105 * SECOND]);
        let fresh = |random| Span::within(100 * SECOND, 0.05, SECOND, random).fresh;
        assert_eq!([fresh(0.0), fresh(1.0)], [100 * SECOND, 95 * SECOND]);
    }
}
