//! Whether the service fails most of what it is asked. Pure; the scheduler brings the counts and the time.
//!
//! A check asks what somebody thought of. That a service answers 503 to everything shows without one: the share of
//! requests that failed by its own doing, over the last minute. It never makes the instance unready, because the others
//! have the same fault more often than not, and an instance out of traffic cannot show that it works again.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::config;

/// What the share is taken over. Chosen: longer than the usual gap between two requests of a quiet service, and a scrape
/// interval or two.
const WINDOW: Duration = Duration::from_secs(60);

/// With fewer requests in the window there is no share. Chosen: two or three failures prove nothing.
const MIN_ANSWERS: u64 = 5;

/// Requests since the start, but for probes and those whose caller went away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) all: u64,
    /// Those that failed by the service's own doing: a 5xx, or a gRPC code of that kind.
    pub(crate) failed: u64,
}

/// The counts of the last window.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    /// One for each look; the first is from the window's beginning or before it.
    seen: VecDeque<(Instant, Answers)>,
    failing_since: Option<Instant>,
}

impl Responses {
    /// Takes in the counts so far; gives the complaint when at least this share has failed. Half of the share ends it, so that
    /// a service at the limit does not go back and forth.
    pub(crate) fn record(&mut self, total: Answers, share: f64, now: Instant) -> Option<String> {
        while self.seen.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.seen.pop_front();
        }
        if self.seen.is_empty() {
            // Everything since the start is within the first window.
            self.seen.push_back((now, Answers::default()));
        }
        let before = self.seen.front().map_or(Answers::default(), |(_, before)| *before);
        self.seen.push_back((now, total));
        let all = total.all.saturating_sub(before.all);
        let failed = total.failed.saturating_sub(before.failed).min(all);
        let limit = if self.failing_since.is_some() { share / 2.0 } else { share };
        if all < MIN_ANSWERS || failed == 0 || (failed as f64) < limit * all as f64 {
            self.failing_since = None;
            return None;
        }
        let since = *self.failing_since.get_or_insert(now);
        // Whole seconds: a time of many digits says no more.
        let lasts = config::Duration::from_secs(now.saturating_duration_since(since).as_secs());
        let percent = failed * 100 / all;
        let window = WINDOW.as_secs();
        Some(format!(
            "{failed} of {all} requests in the last {window} s failed by this service's own doing ({percent} %), for {lasts} so far"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The complaints, when each second this many requests end, and this many of them fail.
    fn complaints(seconds: &[(u64, u64)]) -> Vec<Option<String>> {
        let (mut responses, mut total, start) = (Responses::default(), Answers::default(), Instant::now());
        let each = seconds.iter().enumerate().map(|(second, (all, failed))| {
            total.all += all;
            total.failed += failed;
            responses.record(total, 0.5, start + Duration::from_secs(second as u64))
        });
        each.collect()
    }

    #[test]
    fn a_service_that_fails_everything_is_named_with_share_and_age() {
        let found = complaints(&[(2, 2), (2, 2), (2, 2), (2, 2)]);
        assert!(found[..2].iter().all(Option::is_none), "too few to tell: {found:?}");
        let said = found[3].as_deref();
        let expected = "8 of 8 requests in the last 60 s failed by this service's own doing (100 %), for 1s so far";
        assert_eq!(said, Some(expected));
    }

    #[test]
    fn failures_below_the_share_are_no_complaint() {
        assert!(complaints(&[(10, 4); 90]).iter().all(Option::is_none));
        assert!(complaints(&[(0, 0); 90]).iter().all(Option::is_none));
    }

    #[test]
    fn half_of_the_share_ends_the_complaint() {
        let mut seconds = vec![(10, 10); 60];
        seconds.extend([(10, 0); 60]);
        let found = complaints(&seconds);
        let end = found.iter().rposition(Option::is_some);
        assert!((100..110).contains(&end.unwrap_or_default()), "{end:?}");
    }

    #[test]
    fn a_service_that_nobody_asks_any_more_is_let_off() {
        let mut seconds = vec![(10, 10); 10];
        seconds.extend([(0, 0); 70]);
        let found = complaints(&seconds);
        assert!(found[60].is_some() && found[79].is_none());
    }
}
