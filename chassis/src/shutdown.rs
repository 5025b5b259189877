//! The phases of a service's end, as one value that everybody watches.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::config;

/// How a stop goes: how long the instance still serves, and how long its last work may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownConfig {
    /// How long the instance still serves after it said that it is not ready.
    ///
    /// Longer than load balancers and endpoint watchers take to notice. Kubernetes and Consul propagate within a few seconds.
    /// The dev profile sets 0, so that Ctrl-C stops at once.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "10m", "x-reloadable" = true))]
    pub drain_delay: config::Duration,
    /// How long requests that are being served may take to end once no new ones are accepted.
    ///
    /// Kubernetes kills after 30 s: `drain_delay`, this and `flush` together should stay below its grace period.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "1h", "x-reloadable" = true))]
    pub grace: config::Duration,
    /// How long the flush of the last spans, metrics and log lines may take at the very end.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "1m", "x-reloadable" = true))]
    pub flush: config::Duration,
    /// How long the orchestrator waits between SIGTERM and the kill: what Kubernetes calls
    /// `terminationGracePeriodSeconds`, less what a `preStop` hook takes. Give it here, and a stop that could take longer is
    /// refused at start.
    ///
    /// Not checked when unset: the service cannot see it.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "24h", "x-reloadable" = true))]
    pub orchestrator_grace: Option<config::Duration>,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self {
            drain_delay: config::Duration::from_secs(5),
            // Kubernetes' terminationGracePeriodSeconds is 30 s, less the drain delay. Work that uses all of it up leaves the
            // flush no time; raise Kubernetes' value where requests take that long.
            grace: config::Duration::from_secs(25),
            // Chosen: the OTLP exporter's own retries end within 3 s when the collector is down.
            flush: config::Duration::from_secs(3),
            orchestrator_grace: None,
        }
    }
}

/// Where in its life the instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Starting or serving.
    Running = 0,
    /// Not ready any more, still serving: callers move away.
    Draining = 1,
    /// No new connections or requests; what is being served may end within the grace period.
    Stopping = 2,
    /// The grace period is over: what is left is cut off.
    Cutting = 3,
}

/// The phase, to be watched by everything that has to end. Cheap to clone; reading it is one atomic load.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Phases>);

#[derive(Debug)]
struct Phases {
    now: AtomicU8,
    /// One for each phase after the first, so that who waits for one is woken by that one alone: a waiter that is woken for
    /// an earlier phase would have to be polled again to hear of its own.
    reached: [CancellationToken; 3],
}

impl Shutdown {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.0.now.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            2 => Phase::Stopping,
            _ => Phase::Cutting,
        }
    }

    /// Waits until the phase is at least `phase`.
    ///
    /// Cancel safe. Polled once, it wakes its task when the phase is there and not before. Also returns when the owner of the
    /// phase is gone, which only happens when the process ends.
    pub async fn reached(&self, phase: Phase) {
        if let Some(index) = (phase as usize).checked_sub(1) {
            self.0.reached[index].cancelled().await;
        }
    }
}

/// The one hand that moves the phase on.
#[derive(Debug)]
pub(crate) struct PhaseOwner(Arc<Phases>);

impl PhaseOwner {
    pub(crate) fn new() -> (Self, Shutdown) {
        let phases = Arc::new(Phases { now: AtomicU8::new(0), reached: Default::default() });
        (Self(phases.clone()), Shutdown(phases))
    }

    /// Moves on to `phase`; never back.
    pub(crate) fn advance(&self, phase: Phase) {
        self.0.now.fetch_max(phase as u8, Ordering::AcqRel);
        self.wake(phase);
    }

    fn wake(&self, phase: Phase) {
        self.0.reached[..phase as usize].iter().for_each(CancellationToken::cancel);
    }
}

impl Drop for PhaseOwner {
    fn drop(&mut self) {
        self.advance(Phase::Cutting);
    }
}

/// The signals a stop begins with, and what the next ones do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    /// The first SIGTERM: the whole drain.
    Orderly,
    /// The second signal, or SIGINT in the dev profile: no drain delay.
    SkipDelay,
    /// The third signal: out, at once.
    Now,
}

/// What the nth signal asks for. Pure, so that it can be tested without a process.
pub(crate) fn haste(nth_signal: u32, interactive: bool) -> Haste {
    match nth_signal + u32::from(interactive) {
        0 | 1 => Haste::Orderly,
        2 => Haste::SkipDelay,
        _ if nth_signal < 3 => Haste::SkipDelay,
        _ => Haste::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_skips_the_delay_and_the_third_ends_at_once() {
        assert_eq!(haste(1, false), Haste::Orderly);
        assert_eq!(haste(2, false), Haste::SkipDelay);
        assert_eq!(haste(3, false), Haste::Now);
    }

    #[test]
    fn an_interactive_interrupt_skips_the_delay_but_still_needs_three_to_kill() {
        assert_eq!(haste(1, true), Haste::SkipDelay);
        assert_eq!(haste(2, true), Haste::SkipDelay);
        assert_eq!(haste(3, true), Haste::Now);
    }

    #[test]
    fn an_owner_that_is_gone_leaves_nothing_running() {
        let (owner, shutdown) = PhaseOwner::new();
        drop(owner);
        assert_eq!(shutdown.phase(), Phase::Cutting);
    }

    #[tokio::test]
    async fn the_phase_never_goes_back() {
        let (owner, shutdown) = PhaseOwner::new();
        owner.advance(Phase::Stopping);
        owner.advance(Phase::Draining);
        assert_eq!(shutdown.phase(), Phase::Stopping);
        shutdown.reached(Phase::Draining).await;
        shutdown.reached(Phase::Stopping).await;
    }
}
