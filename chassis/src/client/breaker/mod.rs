//! The circuit breaker of one endpoint: an endpoint that fails gets no more calls until it has shown that it works.
//!
//! ```
//! use std::time::{Duration, Instant};
//!
//! use chassis::client::{
//!     Outcome,
//!     breaker::{Breaker, BreakerConfig, BreakerState},
//! };
//!
//! let breaker = Breaker::new(&BreakerConfig::default());
//! let now = Instant::now();
//! while let Ok(permit) = breaker.admit(now) {
//!     permit.record(Outcome::Failed, Duration::from_millis(3), now);
//! }
//! assert_eq!((breaker.state(now), breaker.counts(now).failed), (BreakerState::Open, 5));
//! assert!(breaker.wait(now) >= Some(Duration::from_secs(1)));
//! ```
//!
//! [`BreakerLayer`] puts one around a service. In the stack of calls out each endpoint has its own, inside of the
//! balancer, which passes over endpoints whose breaker lets nothing through: one bad instance of ten is left alone after
//! a few calls, and the other nine carry on.
//!
//! # Why two signals
//!
//! A run of failures is the fastest sign that an endpoint is gone: it needs no traffic before, and nothing else on the
//! line can hide it. It says nothing of an endpoint that fails every second call: there each success ends the run. For
//! that there is the share of failures in a sliding window. The share alone would let a dead endpoint have calls until
//! the window holds more failures than its good past. Linkerd combines the two for the same reasons. A third signal is
//! the share of slow calls: an endpoint that hangs and then answers well does not fail, but it holds its callers up all
//! the same.
//!
//! # When it opens
//!
//! * `consecutive_failures` calls in a row have failed. Calls that the endpoint turned away
//!   ([`Outcome::Throttled`]: 429, RESOURCE_EXHAUSTED) neither count nor end the run: it is there, and busy.
//! * Of at least `minimum_calls` in the window, the share that failed or was turned away has come to `failure_rate`.
//! * Of at least `minimum_calls` in the window, the share that took longer than `slow_call` has come to `slow_rate`,
//!   whatever they brought.
//!
//! With the settings' defaults the run opens it for a busy endpoint that has served well and dies: after seven failures,
//! long before they are half of what the window holds. The share opens it first for one that gets few calls, as soon as
//! there are five and half of them have failed, and is alone in finding one that fails now and then.
//!
//! They are looked at in this order when a call ends badly or slowly, and the first that holds is told as the
//! [`TripReason`]. A good and fast call never opens it, even when it is the one that makes `minimum_calls` full. A zero
//! turns a signal off. Nothing is waited for after the start or after a recovery: the first window is not blind.
//!
//! # What is counted
//!
//! The window is a ring of ten buckets, each a tenth of it; what is older than the window has no weight, and all in it
//! the same. (A mean that decays with time gives calls that end in the same instant next to no weight.) Not counted is
//! what says nothing of the endpoint: calls that a layer of this side held back ([`Outcome::Refused`]), calls that an
//! endpoint that stops has not looked at ([`Outcome::Untouched`]), calls whose time was up and had been less than twice what
//! the endpoint takes to answer (100 ms before its first answer; not those of `attempt_timeout`), calls that were cancelled, that is, whose [`Permit`] was dropped, and calls that began before the last change between closed, open
//! and half-open: a late success must not close a breaker, nor a late failure open it again.
//!
//! # How it recovers
//!
//! It stays open for `open_wait`, made longer by chance ([`BreakerConfig::jitter`]). Then it is half-open: `probes`
//! calls are let through at once, no more. When all of them went well it closes, with an empty window. One that is bad,
//! turned away or slow opens it again, for twice as long as before, `max_open_wait` at most. Nothing runs in the
//! background: the first call after the wait is a probe.
//!
//! Signs of life end a wait early. An endpoint that refused connections is knocked at in the background, and probed as
//! soon as one is accepted ([`probe_now`](Breaker::probe_now)), and so is one that its registry calls critical no more. A new instance at the address of an endpoint whose breaker
//! is not closed begins half-open ([`take_over`](Breaker::take_over)). Either way the probes decide, and the back-off goes on
//! where it was: an endpoint that flaps gains no wait of the first length by it.
//!
//! A probe that is cancelled gives its slot to the next call. One that does not end does not hold the breaker up
//! either: the slots are given out again when the last was taken longer ago than any call may take (the wait that the
//! breaker was open, `slow_call`, or [`DEFAULT_TIMEOUT`](super::DEFAULT_TIMEOUT), the longest of these). A probe whose
//! answer has begun by then is a stream that works, and counts as good. One that was given up, and then ends badly
//! while the breaker is still half-open, opens it.
//!
//! # Modes
//!
//! [`BreakerMode`] is a gate in front of all this.
//!
//! | | lets through | counts | opens |
//! | --- | --- | --- | --- |
//! | `Enforcing` | what the state allows | yes | yes |
//! | `MetricsOnly` | everything | yes | as it would: the same machine runs, waits and probes included, and is counted in `would_have_opened` |
//! | `Disabled` | everything | no | no |
//! | `ForcedOpen` | nothing | what was under way | no |
//!
//! Settings and mode change while it runs, and the counts stay. [`force`](Breaker::force) is stronger than the settings, and
//! stays until it is taken back; what an operator sets by way of a destination ends by itself.
//!
//! # What it costs
//!
//! Closed, a call is one load of the state word, then one compare-and-swap in a bucket that few other threads use: no
//! lock, no allocation. Locks are for changes of state and for probes.

pub mod config;
mod layer;
mod machine;
mod round;
mod state;
#[cfg(test)]
mod tests;
mod window;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use self::state::{Core, Ticket};
use super::{NotSent, Outcome};
use crate::cause::Cause;

pub use self::{
    config::{BreakerConfig, BreakerMode},
    layer::{AnswerBody, BreakerLayer, BreakerService, ResponseFuture},
};

/// A circuit breaker. Clones are the same breaker. See the [module](self).
#[derive(Clone, Debug)]
pub struct Breaker(Arc<Core>);

/// Told of each change of a breaker. See [`Breaker::on_transition`].
pub type Hook = Arc<dyn Fn(&Transition) + Send + Sync>;

impl Breaker {
    /// A closed one, with an empty window.
    #[must_use]
    pub fn new(config: &BreakerConfig) -> Self {
        // The clock that the layers use; a test may have stopped it.
        Self(Arc::new(Core::new(config, tokio::time::Instant::now().into_std())))
    }

    /// Other settings. Counts, state and a wait that runs stay as they are; the number of probes holds from the next
    /// half-open time on.
    pub fn configure(&self, config: &BreakerConfig) {
        self.0.configure(config, tokio::time::Instant::now().into_std());
    }

    /// Sets the mode whatever the settings say, and will say when they change; `None` gives it back to them.
    pub fn force(&self, mode: Option<BreakerMode>) {
        self.0.force(mode);
    }

    /// The mode that [`force`](Self::force) has set.
    #[must_use]
    pub fn forced(&self) -> Option<BreakerMode> {
        self.0.forced()
    }

    /// Its state. Open whose wait is over is half-open: the next call is a probe.
    #[must_use]
    pub fn state(&self, now: Instant) -> BreakerState {
        self.0.state(now)
    }

    /// Whether [`admit`](Self::admit) would let a call through.
    #[must_use]
    pub fn is_available(&self, now: Instant) -> bool {
        self.0.is_available(now)
    }

    /// In how long a call may be let through again. `None` when one may be now, or when only the operator knows.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.0.wait(now)
    }

    /// Whether the endpoint is to get no calls even when too few others are left: its last call found no connection, or
    /// an operator forces it open.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.0.is_unreachable()
    }

    /// Lets a call through, or does not.
    ///
    /// # Errors
    ///
    /// It is open, or half-open with all probes under way.
    pub fn admit(&self, now: Instant) -> Result<Permit, Open> {
        let ticket = self.0.admit(now)?;
        Ok(Permit { core: self.0.clone(), ticket: Some(ticket) })
    }

    /// Lets a call through although it is open, for a balancer that has too few endpoints left. The call counts in the
    /// window; it is a probe when one is due, and changes the state only then.
    ///
    /// # Errors
    ///
    /// An operator forces it open: that is no guess of the breaker's.
    pub fn admit_anyway(&self, now: Instant) -> Result<Permit, Open> {
        let ticket = self.0.admit_anyway(now)?;
        Ok(Permit { core: self.0.clone(), ticket: Some(ticket) })
    }

    /// Makes a wait that runs no longer than `open_wait`, without the time by which failed probes made it longer; while it
    /// is half-open, one more probe is let through `open_wait` after the last. For the last endpoints of a destination:
    /// while they are open nothing works, so their return must be seen soon, also when the probes under way hang.
    pub fn cap_wait(&self) {
        self.0.cap_wait();
    }

    /// Ends a wait that runs, so that the next calls are its probes: for an endpoint that shows a sign of life, such as a
    /// connection after many that failed. The next wait is as long as it would have been. Says whether a wait was ended.
    pub fn probe_now(&self, now: Instant) -> bool {
        self.0.probe_now(now)
    }

    /// Makes this breaker, while it is closed, the successor of another one, that of an instance at the same address: if that
    /// one is not closed, this one is half-open at once. When its probes fail it waits as long as the other would have.
    pub fn take_over(&self, before: &Self, now: Instant) {
        self.0.take_over(before.0.openings(), now);
    }

    /// How often it has opened since it was closed the last time; 0 while it is closed.
    #[must_use]
    pub fn openings(&self) -> u32 {
        self.0.openings()
    }

    /// What it has seen.
    #[must_use]
    pub fn counts(&self, now: Instant) -> Counts {
        self.0.counts(now)
    }

    /// Has this called at each change, after those that were given before.
    ///
    /// It is called while the breaker holds its lock, so that changes are told in their order. It must be short; it may
    /// read the breaker, but admitting or recording a call there would wait for itself.
    pub fn on_transition(&self, hook: Hook) {
        self.0.on_transition(hook);
    }
}

/// A call that was let through.
///
/// Dropped without a word the call was cancelled: it is not counted, and a probe's slot is free again.
#[must_use = "a permit that is dropped is a cancelled call"]
pub struct Permit {
    core: Arc<Core>,
    ticket: Option<Ticket>,
}

impl Permit {
    /// How the call ended: `elapsed` is how long the endpoint took, which is judged by `slow_call`, and `now` when it
    /// is known, which may be later when an answer is streamed.
    #[inline]
    pub fn record(mut self, outcome: Outcome, elapsed: Duration, now: Instant) {
        if let Some(ticket) = self.ticket.take() {
            self.core.record(ticket, outcome, elapsed, now);
        }
    }

    /// The answer has begun, and its end will tell how the call ended. Keeps a stream without end from being taken for
    /// a probe that is lost.
    pub fn answered(&mut self) {
        if let Some(ticket) = &mut self.ticket {
            self.core.answered(ticket);
        }
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.core.cancelled(ticket);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.ticket).finish()
    }
}

/// What a breaker does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// All calls are let through.
    Closed,
    /// None is.
    Open,
    /// A few are, to see whether the endpoint works.
    HalfOpen,
    /// None is: an operator said so.
    ForcedOpen,
    /// All are, and nothing is counted.
    Disabled,
    /// All are, and it is counted when it would have opened.
    MetricsOnly,
}

impl BreakerState {
    /// The word in metrics, logs and at the admin endpoint.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a breaker has opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TripReason {
    /// So many calls in a row have failed.
    ConsecutiveFailures = 1,
    /// Too large a share of the calls has failed.
    FailureRate = 2,
    /// Too large a share of the calls was slow.
    SlowRate = 3,
    /// Half-open, a probe was bad or slow.
    Probe = 4,
}

impl TripReason {
    const NONE: u8 = 0;

    const fn of_bits(bits: u8) -> Option<Self> {
        match bits {
            1 => Some(Self::ConsecutiveFailures),
            2 => Some(Self::FailureRate),
            3 => Some(Self::SlowRate),
            4 => Some(Self::Probe),
            _ => None,
        }
    }

    /// The word in metrics, logs and at the admin endpoint.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRate => "failure_rate",
            Self::SlowRate => "slow_rate",
            Self::Probe => "probe",
        }
    }
}

impl fmt::Display for TripReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A change of a breaker's state or mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The state before.
    pub from: BreakerState,
    /// The state after.
    pub to: BreakerState,
    /// The mode after. With [`MetricsOnly`](BreakerMode::MetricsOnly) and [`ForcedOpen`](BreakerMode::ForcedOpen) the
    /// machine behind the gate has changed, not what callers see.
    pub mode: BreakerMode,
    /// Why, when it has opened.
    pub reason: Option<TripReason>,
    /// For how long, when it has opened.
    pub wait: Option<Duration>,
}

/// What a breaker has seen.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls in the window.
    pub calls: u64,
    /// Of these, the ones that failed or were turned away by the endpoint.
    pub failed: u64,
    /// Of these, the ones that took longer than `slow_call`.
    pub slow: u64,
    /// The share of `failed`, 0 to 1; 0 without calls.
    pub failure_rate: f64,
    /// The share of `slow`, 0 to 1; 0 without calls.
    pub slow_rate: f64,
    /// Calls that failed since the last success.
    pub consecutive_failures: u32,
    /// Calls that it has not let through, since it was made.
    pub refused: u64,
    /// How often it has opened, since it was made.
    pub opened: u64,
    /// How often it would have opened while its mode was [`MetricsOnly`](BreakerMode::MetricsOnly).
    pub would_have_opened: u64,
    /// Why it has, or would have, opened the last time.
    pub trip_reason: Option<TripReason>,
}

/// A breaker let no call through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Open {
    /// Open, half-open or forced open.
    pub state: BreakerState,
    /// Why it has opened.
    pub reason: Option<TripReason>,
    /// In how long a call may be let through.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.state, self.reason) {
            (BreakerState::ForcedOpen, _) => f.write_str("the breaker is forced open"),
            (BreakerState::HalfOpen, _) => f.write_str("the breaker is half-open, and its probes are under way"),
            (_, Some(reason)) => write!(f, "the breaker is open: {reason}"),
            (_, None) => f.write_str("the breaker is open"),
        }
    }
}

impl std::error::Error for Open {}

impl From<Open> for NotSent {
    fn from(open: Open) -> Self {
        let not_sent = Self::new(Cause::CircuitOpen).detail(open.to_string());
        match open.retry_after {
            Some(wait) => not_sent.retry_after(wait),
            None => not_sent,
        }
    }
}
