//! The log lines of calls out: one for a call that failed or was held back, one for a breaker that changed.

use std::{
    sync::{
        PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{Context as OtelContext, trace::TraceContextExt as _};
use tokio::time::Instant;

use super::note::CallNote;

/// How many lines of failed calls a destination may write in a second. Chosen: enough to see that and how it fails; a
/// thousand failures a second say no more, and a line costs a microsecond and a place in the log's queue.
const LINES_PER_SECOND: u64 = 10;

/// Lets so many lines through in each second, and counts the others.
#[derive(Debug)]
pub(in crate::client) struct LineBound {
    began: Instant,
    /// The second, and how many lines it has had in the low 16 bits.
    second: AtomicU64,
    held: AtomicU64,
}

impl Default for LineBound {
    fn default() -> Self {
        Self { began: Instant::now(), second: AtomicU64::new(0), held: AtomicU64::new(0) }
    }
}

impl LineBound {
    /// Whether a line may be written now, and how many were not since the last.
    pub(in crate::client) fn admit(&self, now: Instant) -> Option<u64> {
        let second = now.saturating_duration_since(self.began).as_secs() << 16;
        let count = |state: u64| {
            let had = if state & !0xffff == second { state & 0xffff } else { 0 };
            (had < LINES_PER_SECOND).then_some(second | (had + 1))
        };
        if self.second.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok() {
            return Some(self.held.swap(0, Ordering::Relaxed));
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// What the line of a failed call says.
pub(super) struct FailedCall<'a> {
    pub(super) destination: &'a str,
    pub(super) outcome: &'static str,
    pub(super) attempts: u32,
    pub(super) elapsed: Duration,
    pub(super) error: &'a str,
    /// How many such lines were held back before this one.
    pub(super) held_back: u64,
}

/// One line, in the trace of the call.
pub(super) fn failed(call: &CallNote, line: &FailedCall<'_>) {
    let trace = OtelContext::new().with_remote_span_context(call.parent.span_context(None));
    let _attached = trace.attach();
    let FailedCall { destination, outcome, attempts, elapsed, error, held_back } = *line;
    let peer = call.failed_at.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let peer = peer.as_deref().map(super::EndpointStats::authority);
    let held_back = (held_back > 0).then_some(held_back);
    tracing::warn!(
        destination,
        method = &*call.called.name,
        outcome,
        attempts,
        duration_seconds = elapsed.as_secs_f64(),
        peer,
        error,
        held_back,
        "a call out failed"
    );
}

/// One line for a breaker that changed.
pub(super) fn breaker(destination: &str, peer: &str, state: &'static str, reason: &str) {
    if matches!(state, "open" | "forced_open") {
        tracing::warn!(destination, peer, state, reason, "a circuit breaker changed");
    } else {
        tracing::info!(destination, peer, state, reason, "a circuit breaker changed");
    }
}
