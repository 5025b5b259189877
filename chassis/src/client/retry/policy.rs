//! Whether a failed attempt is followed by another, and when. Pure: time and chance are arguments.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

use crate::{client::outcome::Outcome, context::Protocol, problem::retry_delay};

/// How a gRPC server says when to try again, or not to (gRFC A6).
pub(crate) const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The longest wait that an endpoint may ask for and get, whatever the deadline: a minute, the longest back-off that the
/// settings allow. Chosen: a call without a deadline must end all the same.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// How many attempts a call has at most while none of them was seen by an endpoint and another one is available: as many
/// as the balancer remembers. Such an attempt cost nobody anything (gRFC A6 sends it again without counting it), and half of a
/// fleet that is gone must not fail the calls under way.
const UNSEEN_ATTEMPTS: u32 = 8;

/// The numbers, as they are now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) attempts: u32,
    pub(crate) backoff: Duration,
    pub(crate) max_backoff: Duration,
}

/// What the endpoint asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    /// Itself not before (RFC 9110, section 10.2.3).
    NotBefore(Duration),
    /// The call after exactly this time, wherever it goes (gRFC A6).
    Exactly(Duration),
    /// Not at all (gRFC A6).
    Never,
}

/// Where a call stands after an attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) idempotent: bool,
    /// Attempts that were made, this one included.
    pub(crate) made: u32,
    /// How often the back-off has doubled.
    pub(crate) step: u32,
    /// What is left of the call's time.
    pub(crate) left: Option<Duration>,
    /// Whether an endpoint is available that the call was not sent to yet.
    pub(crate) elsewhere: bool,
}

/// Why a retry is made: its label in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Failed,
    TimedOut,
    Throttled,
    Unreachable,
}

/// What is done about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its answer or error is handed on: there is nothing to retry.
    HandOn,
    /// A retry might help, but the call has had all its attempts, or must not be sent twice, or the endpoint said no.
    GiveUp,
    /// A retry would come after the deadline.
    TooLate,
    /// Another attempt after this wait, if the budget pays for it.
    Again { wait: Duration, cost: u32, step: u32, reason: Reason },
}

/// The decision. `chance` is uniform in `0.0..1.0`.
pub(crate) fn decide(rules: Rules, standing: Standing, outcome: Outcome, asked: Asked, chance: f64) -> Verdict {
    let (reason, cost) = match outcome {
        // What was held back on this side is told at once; to ask again in a few milliseconds would only hide it.
        Outcome::Success | Outcome::Refused(_) => return Verdict::HandOn,
        Outcome::Unreachable | Outcome::Untouched => (Reason::Unreachable, 1),
        Outcome::Failed => (Reason::Failed, 1),
        // The endpoint was kept busy for nothing, and may still be. As AWS's SDKs have it, twice the price.
        Outcome::TimedOut => (Reason::TimedOut, 2),
        Outcome::Throttled => (Reason::Throttled, 1),
    };
    let unseen = reason == Reason::Unreachable;
    let attempts = if unseen && standing.elsewhere { rules.attempts.max(UNSEEN_ATTEMPTS) } else { rules.attempts };
    if standing.made >= attempts || !(standing.idempotent || unseen) {
        return Verdict::GiveUp;
    }
    let ceiling = backoff_ceiling(rules, standing.step);
    let jitter = ceiling.mul_f64(chance.clamp(0.0, 1.0));
    let (wait, step) = match asked {
        Asked::Never => return Verdict::GiveUp,
        // An endpoint with too much to do gets more only when it has said when.
        Asked::Nothing if reason == Reason::Throttled => return Verdict::GiveUp,
        Asked::Nothing => (jitter, standing.step + 1),
        // One instance speaks for itself; the balancer keeps calls from it as long, and another gets this one.
        Asked::NotBefore(_) if standing.elsewhere => (jitter, standing.step + 1),
        // Spread, so that those who were turned away together do not come back together.
        Asked::NotBefore(wait) if wait <= LONGEST_ASKED => (wait + jitter, standing.step + 1),
        // The back-off starts anew after a push-back.
        Asked::Exactly(wait) if wait <= LONGEST_ASKED => (wait, 0),
        Asked::NotBefore(_) | Asked::Exactly(_) => return Verdict::TooLate,
    };
    if standing.left.is_some_and(|left| wait >= left) {
        return Verdict::TooLate;
    }
    Verdict::Again { wait, cost, step, reason }
}

/// `min(max_backoff, backoff × 2^step)`.
pub(crate) fn backoff_ceiling(rules: Rules, step: u32) -> Duration {
    rules.backoff.saturating_mul(1u32.checked_shl(step).unwrap_or(u32::MAX)).min(rules.max_backoff)
}

impl Asked {
    /// From the head of an answer. `now` is asked only for a date that comes without one of the answer.
    pub(crate) fn of_head(protocol: Protocol, headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Self {
        if protocol != Protocol::Http
            && let Some(value) = headers.get(GRPC_PUSHBACK)
        {
            // "Any value that is not a non-negative integer": do not retry.
            return match value.to_str() {
                Ok(text) if is_number(text) => Self::Exactly(Duration::from_millis(text.parse().unwrap_or(u64::MAX))),
                _ => Self::Never,
            };
        }
        let Some(text) = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
            // As this chassis' own servers say it, and Google's (AIP-193).
            let told = (protocol != Protocol::Http).then(|| retry_delay(headers)).flatten();
            return told.map_or(Self::Nothing, Self::NotBefore);
        };
        let text = text.trim();
        if is_number(text) {
            // More digits than fit are a time beyond every deadline.
            return Self::NotBefore(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
        }
        let date = |text: &str| httpdate::parse_http_date(text).ok();
        let Some(then) = date(text) else { return Self::Nothing };
        // The answer's own date, if it has one: clocks differ between machines.
        let now = headers.get(header::DATE).and_then(|value| value.to_str().ok()).and_then(date).unwrap_or_else(now);
        Self::NotBefore(then.duration_since(now).unwrap_or_default())
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::cause::Cause;

    const MS: Duration = Duration::from_millis(1);
    const RULES: Rules =
        Rules { attempts: 3, backoff: Duration::from_millis(25), max_backoff: Duration::from_millis(250) };
    const FIRST: Standing = Standing { idempotent: true, made: 1, step: 0, left: None, elsewhere: false };
    const ONCE: Standing = Standing { idempotent: false, ..FIRST };

    fn again(wait: Duration, cost: u32, step: u32, reason: Reason) -> Verdict {
        Verdict::Again { wait, cost, step, reason }
    }

    #[test]
    fn every_outcome_has_its_rule() {
        use Verdict::{GiveUp, HandOn};
        let half = Duration::from_micros(12_500);
        let asked = Asked::NotBefore(100 * MS);
        for (outcome, asked, idempotent, otherwise) in [
            (Outcome::Success, Asked::Nothing, HandOn, HandOn),
            (Outcome::Success, asked, HandOn, HandOn),
            (Outcome::Refused(Cause::CircuitOpen), Asked::Nothing, HandOn, HandOn),
            (Outcome::Refused(Cause::NoEndpoints), Asked::Nothing, HandOn, HandOn),
            (Outcome::Refused(Cause::DeadlineExceeded), Asked::Nothing, HandOn, HandOn),
            (Outcome::Failed, Asked::Nothing, again(half, 1, 1, Reason::Failed), GiveUp),
            (Outcome::Failed, asked, again(100 * MS + half, 1, 1, Reason::Failed), GiveUp),
            (Outcome::TimedOut, Asked::Nothing, again(half, 2, 1, Reason::TimedOut), GiveUp),
            (Outcome::Throttled, Asked::Nothing, GiveUp, GiveUp),
            (Outcome::Throttled, asked, again(100 * MS + half, 1, 1, Reason::Throttled), GiveUp),
            (
                Outcome::Unreachable,
                Asked::Nothing,
                again(half, 1, 1, Reason::Unreachable),
                again(half, 1, 1, Reason::Unreachable),
            ),
            (Outcome::Failed, Asked::Never, GiveUp, GiveUp),
            (Outcome::Throttled, Asked::Never, GiveUp, GiveUp),
        ] {
            assert_eq!(decide(RULES, FIRST, outcome, asked, 0.5), idempotent, "{outcome:?}, idempotent");
            assert_eq!(decide(RULES, ONCE, outcome, asked, 0.5), otherwise, "{outcome:?}, not idempotent");
        }
    }

    #[test]
    fn the_wait_of_one_instance_is_not_waited_for_when_there_is_another() {
        let elsewhere = Standing { elsewhere: true, left: Some(100 * MS), ..FIRST };
        let half = Duration::from_micros(12_500);
        let minute = 60 * 1000 * MS;
        for wait in [100 * MS, minute, 2 * minute] {
            let asked = Asked::NotBefore(wait);
            for (outcome, reason) in [(Outcome::Failed, Reason::Failed), (Outcome::Throttled, Reason::Throttled)] {
                assert_eq!(decide(RULES, elsewhere, outcome, asked, 0.5), again(half, 1, 1, reason), "{wait:?}");
                let alone = Standing { elsewhere: false, ..elsewhere };
                assert_eq!(decide(RULES, alone, outcome, asked, 0.5), Verdict::TooLate, "{wait:?}");
            }
        }
        let asked = Asked::Exactly(100 * MS);
        assert_eq!(
            decide(RULES, elsewhere, Outcome::Failed, asked, 0.5),
            Verdict::TooLate,
            "a push-back is the call's"
        );
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        for (attempts, made, more) in [(1, 1, false), (2, 1, true), (3, 2, true), (3, 3, false), (3, 4, false)] {
            let verdict =
                decide(Rules { attempts, ..RULES }, Standing { made, ..FIRST }, Outcome::Failed, Asked::Nothing, 0.5);
            assert_eq!(matches!(verdict, Verdict::Again { .. }), more, "{made} of {attempts}");
        }
    }

    #[test]
    fn an_attempt_that_nobody_has_seen_does_not_count_while_there_is_another_endpoint() {
        let elsewhere = Standing { elsewhere: true, ..ONCE };
        for outcome in [Outcome::Unreachable, Outcome::Untouched] {
            for (made, elsewhere, more) in
                [(3, ONCE, false), (3, elsewhere, true), (7, elsewhere, true), (8, elsewhere, false)]
            {
                let verdict = decide(RULES, Standing { made, ..elsewhere }, outcome, Asked::Nothing, 0.5);
                assert_eq!(matches!(verdict, Verdict::Again { .. }), more, "{made} attempts");
            }
        }
        let seen =
            decide(RULES, Standing { made: 3, idempotent: true, ..elsewhere }, Outcome::Failed, Asked::Nothing, 0.5);
        assert_eq!(seen, Verdict::GiveUp);
    }

    #[test]
    fn a_retry_past_the_deadline_is_not_made() {
        let asked = Asked::Exactly(100 * MS);
        for (left, made) in [(99, false), (100, false), (101, true)] {
            let standing = Standing { left: Some(left * MS), ..FIRST };
            let verdict = decide(RULES, standing, Outcome::Failed, asked, 0.5);
            assert_eq!(verdict != Verdict::TooLate, made, "{left} ms are left");
        }
        let over = Standing { left: Some(Duration::ZERO), ..FIRST };
        assert_eq!(decide(RULES, over, Outcome::TimedOut, Asked::Nothing, 0.0), Verdict::TooLate);
    }

    #[test]
    fn an_endpoint_cannot_make_a_call_without_a_deadline_wait_for_an_hour() {
        for asked in [Asked::NotBefore(Duration::from_secs(3600)), Asked::Exactly(Duration::from_secs(3600))] {
            assert_eq!(decide(RULES, FIRST, Outcome::Failed, asked, 0.0), Verdict::TooLate);
        }
    }

    #[test]
    fn the_back_off_doubles_up_to_its_longest_and_starts_anew_after_a_push_back() {
        let ceilings = [25, 50, 100, 200, 250, 250];
        for (step, millis) in (0..).zip(ceilings) {
            assert_eq!(backoff_ceiling(RULES, step), millis * MS, "step {step}");
        }
        assert_eq!(backoff_ceiling(RULES, u32::MAX), 250 * MS);
        let late = Standing { step: 3, ..FIRST };
        assert_eq!(
            decide(RULES, late, Outcome::Failed, Asked::Exactly(7 * MS), 0.9),
            again(7 * MS, 1, 0, Reason::Failed)
        );
    }

    proptest! {
        #[test]
        fn a_wait_is_between_nothing_and_the_ceiling(step in 0u32..40, chance in 0.0f64..1.0) {
            let standing = Standing { step, ..FIRST };
            match decide(RULES, standing, Outcome::Failed, Asked::Nothing, chance) {
                Verdict::Again { wait, .. } => prop_assert!(wait <= backoff_ceiling(RULES, step)),
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn whatever_headers_say_nothing_panics(value in "[ -~]{0,30}") {
            let Ok(value) = HeaderValue::from_str(&value) else { return Ok(()) };
            for name in [GRPC_PUSHBACK, header::RETRY_AFTER, header::DATE] {
                let headers = HeaderMap::from_iter([(name, value.clone()), (header::RETRY_AFTER, value.clone())]);
                let _ = Asked::of_head(Protocol::Grpc, &headers, SystemTime::now);
            }
        }
    }

    fn asked(protocol: Protocol, headers: &[(HeaderName, &'static str)]) -> Asked {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        // Fri, 31 Dec 1999 23:59:00 GMT
        Asked::of_head(protocol, &headers, || SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_740))
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let seconds = |n| Asked::NotBefore(Duration::from_secs(n));
        for (value, expected) in [
            ("0", seconds(0)),
            (" 5 ", seconds(5)),
            ("99999999999999999999999", seconds(u64::MAX)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", seconds(59)),
            ("Fri, 31 Dec 1999 23:58:59 GMT", seconds(0)),
            ("", Asked::Nothing),
            ("soon", Asked::Nothing),
            ("-1", Asked::Nothing),
            ("1.5", Asked::Nothing),
        ] {
            assert_eq!(asked(Protocol::Http, &[(header::RETRY_AFTER, value)]), expected, "{value:?}");
            assert_eq!(asked(Protocol::Grpc, &[(header::RETRY_AFTER, value)]), expected, "{value:?}, from a proxy");
        }
    }

    #[test]
    fn a_date_is_taken_against_the_clock_of_who_wrote_it() {
        let headers =
            [(header::RETRY_AFTER, "Sat, 01 Jan 2000 08:00:10 GMT"), (header::DATE, "Sat, 01 Jan 2000 08:00:00 GMT")];
        assert_eq!(asked(Protocol::Http, &headers), Asked::NotBefore(Duration::from_secs(10)));
    }

    #[test]
    fn the_wait_in_the_details_of_a_grpc_status_is_read() {
        let wait = Duration::from_millis(1500);
        let refused = crate::problem::Problem::from(Cause::Overloaded).retry_after(wait).into_grpc();
        assert_eq!(Asked::of_head(Protocol::Grpc, refused.headers(), SystemTime::now), Asked::NotBefore(wait));
        let silent = crate::problem::Problem::from(Cause::Overloaded).into_grpc();
        assert_eq!(Asked::of_head(Protocol::Grpc, silent.headers(), SystemTime::now), Asked::Nothing);
    }

    #[test]
    fn a_push_back_is_milliseconds_and_anything_else_forbids_the_retry() {
        for (value, expected) in [
            ("0", Asked::Exactly(Duration::ZERO)),
            ("250", Asked::Exactly(250 * MS)),
            ("-1", Asked::Never),
            ("-0", Asked::Never),
            ("+5", Asked::Never),
            ("", Asked::Never),
            ("soon", Asked::Never),
            ("1.5", Asked::Never),
        ] {
            assert_eq!(asked(Protocol::Grpc, &[(GRPC_PUSHBACK, value)]), expected, "{value:?}");
            assert_eq!(asked(Protocol::Http, &[(GRPC_PUSHBACK, value)]), Asked::Nothing, "{value:?}, not over HTTP");
        }
        assert_eq!(asked(Protocol::Grpc, &[(GRPC_PUSHBACK, "7"), (header::RETRY_AFTER, "1")]), Asked::Exactly(7 * MS));
    }
}
