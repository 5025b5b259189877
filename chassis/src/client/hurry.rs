//! Attempts whose call left them too little time, and answers whose rest did not come in time: whether the endpoint is at
//! fault.
//!
//! An attempt is hurried when its call leaves it less time than twice what the endpoint takes to begin an answer, smoothed
//! over about the last eight; [`UNKNOWN`] before the first. So is one that had no connection yet and less than a second. When the call's deadline ends such an attempt, or the endpoint
//! answers that the time it was told is up (504, DEADLINE_EXCEEDED), that says nothing of the endpoint: its breaker takes
//! the attempt as cancelled, and so do the counts of the endpoint; its load takes it to have lasted at least as long. Everything else counts: a time-out of
//! `attempt_timeout`, which is this side's own word of what is too long, and one of a call that had time enough, so that an
//! endpoint that is frozen is seen. What nobody can tell from the outside is a frozen endpoint whose callers never leave it
//! twice its time; `attempt_timeout` helps there too.
//!
//! An answer that is dropped at the call's deadline or later has not come in time: its endpoint sent the head and then hung.
//! It counts like an attempt without an answer, by the same rule. Not so what is declared a stream, and a gRPC answer of
//! which a message has come, which may be one.

use std::{
    error::Error,
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::{HeaderMap, Response, StatusCode};
use tonic::Code;

use super::{facts::Facts, outcome::code_in};
use crate::{context::Protocol, error::BoxError};

/// How much time an endpoint is to have that has not answered yet. Chosen: a service that is near answers most calls in less,
/// the first connection included.
const UNKNOWN: Duration = Duration::from_millis(100);
/// How much the last answer counts: 1/8, as in TCP's smoothed round-trip time (RFC 6298).
const SHIFT: u32 = 3;

/// How long an endpoint takes to begin an answer.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU64);

impl Pace {
    /// An answer that is no failure began after this long.
    pub(super) fn answered(&self, after: Duration) {
        let now = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX).max(1);
        let before = self.0.load(Relaxed);
        let next = if before == 0 { now } else { before - (before >> SHIFT) + (now >> SHIFT) };
        // Of two at once one is lost, which a smoothed value does not mind.
        self.0.store(next.max(1), Relaxed);
    }

    /// Whether an attempt with this much time is hurried.
    pub(super) fn hurries(&self, left: Duration) -> bool {
        match self.0.load(Relaxed) {
            0 => left < UNKNOWN,
            nanos => left < Duration::from_nanos(nanos).saturating_mul(2),
        }
    }
}

/// In the extensions of the answer to a hurried attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hurry;

/// The call's deadline ended a hurried attempt. Its source is what that came to.
#[derive(Debug)]
pub(super) struct Hurried(pub(super) BoxError);

impl fmt::Display for Hurried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call left the endpoint less time than it needs")
    }
}

impl Error for Hurried {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// Whether the endpoint is not to blame for this error.
pub(super) fn excuses_error(error: &BoxError) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = Some(&**error);
    while let Some(inner) = source {
        if inner.is::<Hurried>() {
            return true;
        }
        source = inner.source();
    }
    false
}

/// The rest of an answer, from its head on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    /// `None` when it may take its time.
    deadline: Option<Instant>,
    grpc: bool,
    hurried: bool,
}

/// What an answer came to whose reader has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    /// The reader had lost interest.
    InTime,
    /// The rest did not come in time.
    Late,
    /// Nor could it have.
    Hurried,
}

impl Rest {
    /// Of the answer to this call.
    pub(super) fn of(call: &Facts) -> Self {
        let deadline = call.deadline.filter(|_| !call.streamed).map(tokio::time::Instant::into_std);
        Self { deadline, grpc: call.protocol != Protocol::Http, hurried: false }
    }

    /// The head is there. Whether the endpoint is not to blame when it tells a failure.
    pub(super) fn head<B>(&mut self, response: &Response<B>) -> bool {
        self.hurried = response.extensions().get::<Hurry>().is_some();
        let code = || self.grpc && code_in(response.headers()) == Some(Code::DeadlineExceeded);
        self.hurried && (response.status() == StatusCode::GATEWAY_TIMEOUT || code())
    }

    /// A message of it is there.
    pub(super) fn data(&mut self) {
        if self.grpc {
            self.deadline = None;
        }
    }

    /// Whether the endpoint is not to blame when these tell a failure.
    pub(super) fn excuses(&self, trailers: &HeaderMap) -> bool {
        self.hurried && code_in(trailers) == Some(Code::DeadlineExceeded)
    }

    pub(super) fn dropped(&self, now: Instant) -> Dropped {
        match self.deadline {
            Some(deadline) if deadline <= now && self.hurried => Dropped::Hurried,
            Some(deadline) if deadline <= now => Dropped::Late,
            _ => Dropped::InTime,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_endpoint_is_to_have_twice_the_time_that_it_takes() {
        let pace = Pace::default();
        assert!(pace.hurries(99 * MS) && !pace.hurries(100 * MS), "before the first answer");
        pace.answered(40 * MS);
        assert!(pace.hurries(79 * MS) && !pace.hurries(80 * MS));
        // One that is eight times as slow makes it little less than twice as slow.
        pace.answered(320 * MS);
        assert!(pace.hurries(149 * MS) && !pace.hurries(150 * MS));
    }

    #[test]
    fn a_hurried_attempt_came_to_what_it_came_to() {
        let error: BoxError = Box::new(Hurried(super::super::TimedOut.into()));
        assert_eq!(super::super::Outcome::of_error(&error), super::super::Outcome::TimedOut);
        assert!(excuses_error(&error) && !excuses_error(&super::super::TimedOut.into()));
    }
}
