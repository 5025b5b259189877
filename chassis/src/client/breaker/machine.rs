//! What failsafe holds: which of the three states the breaker is in, and how far the back-off has come.
//!
//! failsafe is asked for transitions only. It reads the standard library's clock, which tests cannot pause, and it
//! cannot shorten a wait; so it is told to wait for nothing, and [`state`](super::state) keeps the time. See
//! `docs/decisions/0012-failsafe-holds-the-breakers-states.md`.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use failsafe::{FailurePolicy, Instrument, StateMachine};

use super::config::BreakerConfig;

/// The states of failsafe's machine, in the two bits that they have in the state word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Closed = 0,
    Open = 1,
    HalfOpen = 2,
}

impl Phase {
    pub(super) const fn of_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Closed,
            1 => Self::Open,
            _ => Self::HalfOpen,
        }
    }
}

/// For one thread at a time: its owner has it under a lock.
pub(super) struct Machine {
    failsafe: StateMachine<Trip, Mirror>,
    told: Arc<Told>,
    /// How often it has opened since it was closed the last time.
    opened: u32,
}

/// How many openings of another machine are taken over at most. Chosen: by then the longest wait has come with any sensible
/// settings, 60 s after six doublings of 1 s.
const TAKEN_OVER: u32 = 10;

/// What failsafe has told.
#[derive(Default)]
struct Told {
    phase: AtomicU8,
    wait_nanos: AtomicU64,
}

impl Machine {
    pub(super) fn new(settings: Arc<ArcSwap<BreakerConfig>>) -> Self {
        let told = Arc::<Told>::default();
        let trip = Trip { backoff: Backoff { settings, taken: 0 }, told: told.clone() };
        Self { failsafe: StateMachine::new(trip, Mirror(told.clone())), told, opened: 0 }
    }

    pub(super) fn phase(&self) -> Phase {
        Phase::of_bits(self.told.phase.load(Ordering::Relaxed))
    }

    /// Closed or half-open, it opens, and says for how long.
    pub(super) fn open(&mut self) -> Duration {
        self.failsafe.on_error();
        self.opened = self.opened.saturating_add(1);
        Duration::from_nanos(self.told.wait_nanos.load(Ordering::Relaxed))
    }

    /// Open, it becomes half-open. That the wait is over is the caller's to know.
    pub(super) fn half_open(&mut self) {
        // Its own wait, of nothing, ends when its clock has moved: that is a matter of nanoseconds.
        while !self.failsafe.is_call_permitted() {
            std::hint::spin_loop();
        }
    }

    /// Half-open, it closes, and the back-off starts over.
    pub(super) fn close(&mut self) {
        self.failsafe.on_success();
        self.opened = 0;
    }

    /// How often it has opened since it was closed the last time.
    pub(super) fn opened(&self) -> u32 {
        self.opened
    }

    /// Closed, it becomes half-open as one that has opened so often, so that its next wait is as long as the other's.
    pub(super) fn take_over(&mut self, opened: u32) {
        for _ in 0..opened.clamp(1, TAKEN_OVER) {
            self.open();
            self.half_open();
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failsafe.fmt(f)
    }
}

/// failsafe's policy: each error opens it, since it hears of one only when the breaker is to open.
struct Trip {
    backoff: Backoff,
    told: Arc<Told>,
}

impl FailurePolicy for Trip {
    fn record_success(&mut self) {}

    fn mark_dead_on_failure(&mut self) -> Option<Duration> {
        let wait = self.backoff.next().unwrap_or_default();
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.told.wait_nanos.store(nanos, Ordering::Relaxed);
        Some(Duration::ZERO)
    }

    fn revived(&mut self) {
        self.backoff.taken = 0;
    }
}

/// Tells the state that failsafe has come to.
struct Mirror(Arc<Told>);

impl Instrument for Mirror {
    fn on_call_rejected(&self) {}

    fn on_open(&self) {
        self.0.phase.store(Phase::Open as u8, Ordering::Relaxed);
    }

    fn on_half_open(&self) {
        self.0.phase.store(Phase::HalfOpen as u8, Ordering::Relaxed);
    }

    fn on_closed(&self) {
        self.0.phase.store(Phase::Closed as u8, Ordering::Relaxed);
    }
}

/// The waits: each twice the one before, and longer by chance, so that the callers of an endpoint do not all come back
/// at once. Linkerd's rule. failsafe's own back-offs know whole seconds only.
struct Backoff {
    settings: Arc<ArcSwap<BreakerConfig>>,
    taken: u32,
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let settings = self.settings.load();
        let wait = nth_wait(&settings, self.taken, fastrand::f64());
        self.taken = self.taken.saturating_add(1);
        Some(wait)
    }
}

/// `chance` is between 0 and 1.
fn nth_wait(settings: &BreakerConfig, taken: u32, chance: f64) -> Duration {
    let (first, max) = (settings.open_wait.get(), settings.max_open_wait.get());
    let wait = first.saturating_mul(1_u32.checked_shl(taken).unwrap_or(u32::MAX)).min(max);
    let longer = wait.as_secs_f64() * settings.jitter.clamp(0.0, 1.0) * chance;
    wait.saturating_add(Duration::try_from_secs_f64(longer).unwrap_or_default()).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(settings: BreakerConfig) -> Machine {
        Machine::new(Arc::new(ArcSwap::from_pointee(settings)))
    }

    fn settings(first: u64, max: u64, jitter: f64) -> BreakerConfig {
        let (open_wait, max_open_wait) = (Duration::from_millis(first).into(), Duration::from_millis(max).into());
        BreakerConfig { open_wait, max_open_wait, jitter, ..BreakerConfig::default() }
    }

    #[test]
    fn waits_below_a_second_are_kept_and_doubled() {
        let mut machine = machine(settings(150, 1_000, 0.0));
        let waits: Vec<_> = (0..5)
            .map(|_| {
                let wait = machine.open();
                assert_eq!(machine.phase(), Phase::Open);
                machine.half_open();
                assert_eq!(machine.phase(), Phase::HalfOpen);
                wait.as_millis()
            })
            .collect();
        assert_eq!(waits, [150, 300, 600, 1_000, 1_000]);
        machine.close();
        assert_eq!((machine.phase(), machine.open().as_millis()), (Phase::Closed, 150));
    }

    #[test]
    fn chance_makes_a_wait_longer_by_its_share_and_never_longer_than_the_longest() {
        let settings = settings(100, 1_000, 0.5);
        let wait = |taken, chance| nth_wait(&settings, taken, chance).as_millis();
        assert_eq!((wait(0, 0.0), wait(0, 1.0), wait(2, 0.5)), (100, 150, 500));
        assert_eq!((wait(3, 1.0), wait(4, 0.7), wait(31, 0.7), wait(u32::MAX, 1.0)), (1_000, 1_000, 1_000, 1_000));
    }
}
