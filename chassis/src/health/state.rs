//! One check's state: results in, status out. Pure; time is an argument.
//!
//! ```text
//! unknown ──any result──▶ up | degraded | down          the first result decides at once
//! up ◀──────────────────▶ degraded                      each at the first such result: both mean "works"
//! up | degraded ──failures_to_fall failures in a row──▶ down
//! down ──successes_to_rise successes in a row─────────▶ up | degraded (as the last one says)
//! any ──no result for 3 intervals + 1 timeout─────────▶ unknown
//! ```
//! Worked with the defaults (5 s, 1 s, 3, 2): a dependency that dies is down after at most 3 runs, about 15 s; back up after
//! 2 runs, about 10 s; a check that hangs beyond its timeout's reach is unknown after 16 s.

use std::time::{Duration, Instant};

use super::Status;

/// How many intervals without a result make a check unknown. Chosen as the usual failure threshold.
const INTERVALS_UNTIL_OVERDUE: u32 = 3;

/// How a scheduled check is run and judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) failures_to_fall: u32,
    pub(crate) successes_to_rise: u32,
}

impl Plan {
    /// How old a result may become before it says nothing any more.
    pub(crate) fn overdue_after(&self) -> Duration {
        self.interval * INTERVALS_UNTIL_OVERDUE + self.timeout
    }
}

/// The result of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pass,
    Degraded(String),
    Fail(String),
}

/// What is known of one check.
#[derive(Debug, Clone)]
pub(crate) struct CheckState {
    pub(crate) status: Status,
    /// Since when it has this status.
    pub(crate) since: Instant,
    /// What the last result said; also a failure that has not yet changed the status.
    pub(crate) message: Option<String>,
    pub(crate) last_result: Option<Instant>,
    pub(crate) took: Option<Duration>,
    pub(crate) failures: u32,
    pub(crate) successes: u32,
}

impl CheckState {
    pub(crate) fn new(initial: Status, now: Instant) -> Self {
        Self { status: initial, since: now, message: None, last_result: None, took: None, failures: 0, successes: 0 }
    }

    /// Takes in the result of a run.
    pub(crate) fn record(&mut self, outcome: Outcome, took: Duration, now: Instant, plan: &Plan) {
        self.last_result = Some(now);
        self.took = Some(took);
        let (said, message) = match outcome {
            Outcome::Pass => (Status::Up, None),
            Outcome::Degraded(message) => (Status::Degraded, Some(message)),
            Outcome::Fail(message) => (Status::Down, Some(message)),
        };
        self.message = message;
        let decided = if said.is_able() {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            self.status != Status::Down || self.successes >= plan.successes_to_rise
        } else {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
            self.status == Status::Unknown || self.failures >= plan.failures_to_fall
        };
        if decided {
            self.turn(said, now);
        }
    }

    /// Takes in a status that somebody reports: it holds at once.
    pub(crate) fn report(&mut self, status: Status, message: Option<String>, now: Instant) {
        self.last_result = Some(now);
        self.message = message;
        self.turn(status, now);
    }

    /// Turns to unknown when the last result, or the registration, is too old.
    pub(crate) fn expire(&mut self, now: Instant, plan: &Plan) {
        let age = now.saturating_duration_since(self.last_result.unwrap_or(self.since));
        if age > plan.overdue_after() && self.status != Status::Unknown {
            self.message =
                Some(format!("no result for {} s: the check blocks its thread, or nothing runs it", age.as_secs()));
            self.failures = 0;
            self.successes = 0;
            self.turn(Status::Unknown, now);
        }
    }

    fn turn(&mut self, status: Status, now: Instant) {
        if self.status != status {
            self.status = status;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        failures_to_fall: 3,
        successes_to_rise: 2,
    };

    /// Feeds one result per letter (p pass, d degraded, f fail), one interval apart, and writes each status' first letter.
    fn check(initial: Status, results: &str, expected: &str) {
        let mut now = Instant::now();
        let mut state = CheckState::new(initial, now);
        let mut seen = String::new();
        for result in results.chars() {
            now += PLAN.interval;
            let outcome = match result {
                'p' => Outcome::Pass,
                'd' => Outcome::Degraded("slow".into()),
                _ => Outcome::Fail("refused".into()),
            };
            state.record(outcome, Duration::ZERO, now, &PLAN);
            seen.push_str(&state.status.as_str()[..2]);
        }
        assert_eq!(seen, expected, "{initial} then {results}");
    }

    #[test]
    fn the_thresholds_hold() {
        check(Status::Unknown, "p", "up");
        check(Status::Unknown, "f", "do");
        check(Status::Unknown, "d", "de");
        check(Status::Up, "fff", "upupdo");
        check(Status::Up, "ffpff", "upupupupup");
        check(Status::Unknown, "pfffpp", "upupupdodoup");
        check(Status::Down, "pfpp", "dododoup");
        check(Status::Down, "pd", "dode");
        check(Status::Up, "dp", "deup");
        check(Status::Degraded, "fff", "dededo");
    }

    #[test]
    fn a_failure_below_the_threshold_is_already_told() {
        let now = Instant::now();
        let mut state = CheckState::new(Status::Up, now);
        state.record(Outcome::Fail("refused".into()), Duration::from_millis(3), now, &PLAN);
        assert_eq!((state.status, state.message.as_deref(), state.failures), (Status::Up, Some("refused"), 1));
        state.record(Outcome::Pass, Duration::from_millis(3), now, &PLAN);
        assert_eq!((state.message, state.took), (None, Some(Duration::from_millis(3))));
    }

    #[test]
    fn since_moves_only_with_the_status() {
        let start = Instant::now();
        let mut state = CheckState::new(Status::Unknown, start);
        state.record(Outcome::Pass, Duration::ZERO, start + Duration::from_secs(1), &PLAN);
        state.record(Outcome::Pass, Duration::ZERO, start + Duration::from_secs(2), &PLAN);
        assert_eq!(state.since, start + Duration::from_secs(1));
    }

    #[test]
    fn a_result_too_old_says_nothing_any_more() {
        let start = Instant::now();
        let mut state = CheckState::new(Status::Unknown, start);
        state.record(Outcome::Pass, Duration::ZERO, start, &PLAN);
        state.expire(start + Duration::from_secs(16), &PLAN);
        assert_eq!(state.status, Status::Up);
        state.expire(start + Duration::from_secs(17), &PLAN);
        assert_eq!(state.status, Status::Unknown);
        assert!(state.message.as_deref().is_some_and(|m| m.starts_with("no result for 17 s")), "{:?}", state.message);
        state.record(Outcome::Fail("refused".into()), Duration::ZERO, start + Duration::from_secs(18), &PLAN);
        assert_eq!(state.status, Status::Down, "the next result decides at once");
    }
}
