//! What is known of one endpoint from the attempts that went to it.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use opentelemetry::trace::TraceId;

use crate::{client::Outcome, discovery::Endpoint};

/// How much the last attempt counts in the latency: 1/8, as in TCP's smoothed round-trip time (RFC 6298).
const LATENCY_SHIFT: u32 = 3;

/// The longest text of an error that is kept, in bytes. Chosen: two lines of a terminal.
const MAX_MESSAGE: usize = 240;

/// What attempts at one endpoint came to. Counts only grow.
#[derive(Debug)]
pub struct EndpointStats {
    endpoint: Endpoint,
    authority: Box<str>,
    started: AtomicU64,
    ended: AtomicU64,
    success: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    throttled: AtomicU64,
    unreachable: AtomicU64,
    untouched: AtomicU64,
    refused: AtomicU64,
    cancelled: AtomicU64,
    /// Nanoseconds; 0 while nothing was answered.
    latency: AtomicU64,
    last_error: Mutex<Option<LastError>>,
}

/// The last attempt at an endpoint that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastError {
    /// What happened: a status, a code, an error with its sources. At most 240 bytes.
    pub message: String,
    /// When.
    pub at: SystemTime,
    /// The trace of the call that saw it.
    pub trace_id: TraceId,
}

/// The counts of an endpoint at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointCounts {
    /// Attempts under way.
    pub active: u64,
    /// Attempts that were begun.
    pub attempts: u64,
    /// The endpoint did its work.
    pub success: u64,
    /// The endpoint is at fault, or the connection broke.
    pub failed: u64,
    /// No answer within the attempt's time.
    pub timed_out: u64,
    /// The endpoint had too much to do.
    pub throttled: u64,
    /// There was no connection.
    pub unreachable: u64,
    /// There was a connection, and the endpoint has not looked at the request.
    pub untouched: u64,
    /// Held back on this side after the endpoint was chosen.
    pub refused: u64,
    /// Given up by the caller, or by another attempt that was faster.
    pub cancelled: u64,
}

impl EndpointStats {
    /// The counts of an endpoint, from zero.
    #[must_use]
    pub fn new(endpoint: &Endpoint) -> Self {
        Self {
            authority: endpoint.authority().into(),
            endpoint: endpoint.clone(),
            started: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            success: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            unreachable: AtomicU64::new(0),
            untouched: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }

    /// Whose counts these are.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// `host:port`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> EndpointCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // The ended before the begun, so that none seems to be under way less than none.
        let ended = read(&self.ended);
        let attempts = read(&self.started);
        EndpointCounts {
            active: attempts.saturating_sub(ended),
            attempts,
            success: read(&self.success),
            failed: read(&self.failed),
            timed_out: read(&self.timed_out),
            throttled: read(&self.throttled),
            unreachable: read(&self.unreachable),
            untouched: read(&self.untouched),
            refused: read(&self.refused),
            cancelled: read(&self.cancelled),
        }
    }

    /// How long the endpoint takes to answer, smoothed over about the last eight answers; `None` before the first.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        Some(self.latency.load(Ordering::Relaxed)).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }

    /// The last attempt that failed.
    #[must_use]
    pub fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn begin(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt has ended; `None` when it was given up.
    pub(super) fn end(&self, outcome: Option<Outcome>, elapsed: Duration) {
        let count = match outcome {
            Some(Outcome::Success) => &self.success,
            Some(Outcome::Failed) => &self.failed,
            Some(Outcome::TimedOut) => &self.timed_out,
            Some(Outcome::Throttled) => &self.throttled,
            Some(Outcome::Unreachable) => &self.unreachable,
            Some(Outcome::Untouched) => &self.untouched,
            Some(Outcome::Refused(_)) => &self.refused,
            None => &self.cancelled,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.ended.fetch_add(1, Ordering::Relaxed);
        if outcome == Some(Outcome::Success) {
            self.answered(elapsed);
        }
    }

    fn answered(&self, elapsed: Duration) {
        let now = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).max(1);
        let before = self.latency.load(Ordering::Relaxed);
        let next = if before == 0 { now } else { before - (before >> LATENCY_SHIFT) + (now >> LATENCY_SHIFT) };
        // Of two at once one is lost, which a smoothed value does not mind.
        self.latency.store(next.max(1), Ordering::Relaxed);
    }

    pub(super) fn failed(&self, mut message: String, trace_id: TraceId) {
        if message.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
            message.truncate(end);
            message.push('…');
        }
        let error = LastError { message, at: SystemTime::now(), trace_id };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}
