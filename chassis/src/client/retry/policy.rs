//! Whether a failed attempt is followed by another, and when. Pure: time and chance are arguments.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

use crate::{client::outcome::Outcome, context::Protocol};

/// How a gRPC server says when to try again, or not to (gRFC A6).
pub(crate) const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The longest wait that an endpoint may ask for and get, whatever the deadline: a minute, the longest back-off that the
/// settings allow. Chosen: a call without a deadline must end all the same.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

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
    /// Not before (RFC 9110, section 10.2.3).
    NotBefore(Duration),
    /// After exactly this time (gRFC A6).
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
        Outcome::Unreachable => (Reason::Unreachable, 1),
        Outcome::Failed => (Reason::Failed, 1),
        // The endpoint was kept busy for nothing, and may still be. As AWS's SDKs have it, twice the price.
        Outcome::TimedOut => (Reason::TimedOut, 2),
        Outcome::Throttled => (Reason::Throttled, 1),
    };
    if standing.made >= rules.attempts || !(standing.idempotent || reason == Reason::Unreachable) {
        return Verdict::GiveUp;
    }
    let ceiling = backoff_ceiling(rules, standing.step);
    let jitter = ceiling.mul_f64(chance.clamp(0.0, 1.0));
    let (wait, step) = match asked {
        Asked::Never => return Verdict::GiveUp,
        // An endpoint with too much to do gets more only when it has said when.
        Asked::Nothing if reason == Reason::Throttled => return Verdict::GiveUp,
        Asked::Nothing => (jitter, standing.step + 1),
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
            return match value.to_str().ok().and_then(|text| text.parse::<u64>().ok()) {
                Some(millis) => Self::Exactly(Duration::from_millis(millis)),
                None => Self::Never,
            };
        }
        let Some(text) = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
            return Self::Nothing;
        };
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
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
