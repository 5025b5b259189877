//! The breaker itself: one word that says its state, and what moves it. Pure: time is an argument.

mod signs;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use super::{
    BreakerState, Counts, Hook, Open, Transition, TripReason,
    config::{BreakerConfig, BreakerMode},
    machine::{Machine, Phase},
    round::{Role, Round},
    window::{Sums, Window},
};
use crate::client::{DEFAULT_TIMEOUT, Outcome};

/// The state word: epoch, then two bits of [`BreakerMode`], then two bits of [`Phase`]. All zero bits below the epoch
/// is a closed breaker that enforces: the way of nearly every call is one load and one comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const EPOCH_SHIFT: u32 = 4;

    fn new(epoch: u64, mode: BreakerMode, phase: Phase) -> Self {
        Self((epoch << Self::EPOCH_SHIFT) | ((mode as u64) << 2) | phase as u64)
    }

    /// Counts the changes of phase: what belongs to an earlier one is told by it.
    fn epoch(self) -> u64 {
        self.0 >> Self::EPOCH_SHIFT
    }

    fn mode(self) -> BreakerMode {
        match (self.0 >> 2) & 3 {
            0 => BreakerMode::Enforcing,
            1 => BreakerMode::MetricsOnly,
            2 => BreakerMode::Disabled,
            _ => BreakerMode::ForcedOpen,
        }
    }

    fn phase(self) -> Phase {
        Phase::of_bits((self.0 & 3) as u8)
    }

    fn lets_all_through(self) -> bool {
        self.0 & 0b1111 == 0
    }

    /// With the phase as operators see it.
    fn state(self, phase: Phase) -> BreakerState {
        match (self.mode(), phase) {
            (BreakerMode::Disabled, _) => BreakerState::Disabled,
            (BreakerMode::ForcedOpen, _) => BreakerState::ForcedOpen,
            (BreakerMode::MetricsOnly, _) => BreakerState::MetricsOnly,
            (BreakerMode::Enforcing, Phase::Closed) => BreakerState::Closed,
            (BreakerMode::Enforcing, Phase::Open) => BreakerState::Open,
            (BreakerMode::Enforcing, Phase::HalfOpen) => BreakerState::HalfOpen,
        }
    }
}

/// What a call that was let through belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    epoch: u64,
    role: Role,
}

#[cfg(test)]
impl Ticket {
    pub(super) fn epoch_of_probe(self) -> Option<u64> {
        matches!(self.role, Role::Probe { .. }).then_some(self.epoch)
    }
}

pub(super) struct Core {
    word: AtomicU64,
    /// A call that takes longer is slow; all ones when slow calls are not looked at.
    slow_after_nanos: AtomicU64,
    /// Calls that failed since the last success.
    consecutive: AtomicU32,
    /// Slots for probes that are not taken; nothing unless half-open.
    free: AtomicU32,
    /// Open: when the wait is over. Half-open: when the slots that are taken are given out again, or one more is.
    until_nanos: AtomicU64,
    /// Where [`cap_wait`](Self::cap_wait) ends the wait.
    cap_nanos: AtomicU64,
    unreachable: AtomicBool,
    reason: AtomicU8,
    refused: AtomicU64,
    opened: AtomicU64,
    would_have_opened: AtomicU64,
    window: Window,
    /// Times are counted from here.
    origin: Instant,
    settings: Arc<ArcSwap<BreakerConfig>>,
    held: Mutex<Held>,
}

/// What changes with the phase only.
struct Held {
    machine: Machine,
    round: Round,
    wait: Duration,
    forced: Option<BreakerMode>,
    hooks: Vec<Hook>,
}

impl Core {
    pub(super) fn new(config: &BreakerConfig, now: Instant) -> Self {
        let settings = Arc::new(ArcSwap::from_pointee(config.clone()));
        let held = Held {
            machine: Machine::new(settings.clone()),
            round: Round::default(),
            wait: Duration::ZERO,
            forced: None,
            hooks: Vec::new(),
        };
        Self {
            word: AtomicU64::new(Word::new(0, config.mode, Phase::Closed).0),
            slow_after_nanos: AtomicU64::new(slow_after(config)),
            consecutive: AtomicU32::new(0),
            free: AtomicU32::new(0),
            until_nanos: AtomicU64::new(0),
            cap_nanos: AtomicU64::new(0),
            unreachable: AtomicBool::new(false),
            reason: AtomicU8::new(TripReason::NONE),
            refused: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            would_have_opened: AtomicU64::new(0),
            window: Window::new(config.window.get()),
            origin: now,
            settings,
            held: Mutex::new(held),
        }
    }

    pub(super) fn state(&self, now: Instant) -> BreakerState {
        let word = self.word();
        let phase = match word.phase() {
            Phase::Open if self.left(now).is_none() => Phase::HalfOpen,
            phase => phase,
        };
        word.state(phase)
    }

    pub(super) fn is_available(&self, now: Instant) -> bool {
        let word = self.word();
        word.lets_all_through()
            || match (word.mode(), word.phase()) {
                (BreakerMode::ForcedOpen, _) => false,
                (BreakerMode::Disabled | BreakerMode::MetricsOnly, _) | (_, Phase::Closed) => true,
                (_, Phase::Open | Phase::HalfOpen) => self.free.load(Ordering::Acquire) > 0 || self.left(now).is_none(),
            }
    }

    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let word = self.word();
        if word.mode() != BreakerMode::Enforcing || self.is_available(now) {
            return None;
        }
        let left = self.left(now)?;
        // Half-open, the probes under way will tell, most likely long before their slots are given out again.
        let longest = if word.phase() == Phase::HalfOpen { self.settings.load().open_wait.get() } else { left };
        Some(left.min(longest))
    }

    pub(super) fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed) || self.word().mode() == BreakerMode::ForcedOpen
    }

    #[inline]
    pub(super) fn admit(&self, now: Instant) -> Result<Ticket, Open> {
        let word = self.word();
        if word.lets_all_through() {
            return Ok(Ticket { epoch: word.epoch(), role: Role::Call });
        }
        self.admit_otherwise(word, now).inspect_err(|_| {
            self.refused.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// As [`admit`](Self::admit), but a call that would be refused is let through beside the probes.
    pub(super) fn admit_anyway(&self, now: Instant) -> Result<Ticket, Open> {
        let word = self.word();
        if word.lets_all_through() {
            return Ok(Ticket { epoch: word.epoch(), role: Role::Call });
        }
        match self.admit_otherwise(word, now) {
            Err(refusal) if refusal.state == BreakerState::ForcedOpen => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(refusal)
            }
            Err(_) => Ok(Ticket { epoch: self.word().epoch(), role: Role::Call }),
            admitted => admitted,
        }
    }

    #[cold]
    fn admit_otherwise(&self, word: Word, now: Instant) -> Result<Ticket, Open> {
        match (word.mode(), word.phase()) {
            (BreakerMode::ForcedOpen, _) => Err(self.refusal(BreakerState::ForcedOpen, now)),
            (BreakerMode::Disabled, _) => Ok(Ticket { epoch: word.epoch(), role: Role::Ignored }),
            (_, Phase::Closed) => Ok(Ticket { epoch: word.epoch(), role: Role::Call }),
            (BreakerMode::MetricsOnly, _) => {
                Ok(self.probe(now).unwrap_or_else(|| Ticket { epoch: self.word().epoch(), role: Role::Call }))
            }
            (BreakerMode::Enforcing, phase) => self.probe(now).ok_or_else(|| self.refusal(word.state(phase), now)),
        }
    }

    fn refusal(&self, state: BreakerState, now: Instant) -> Open {
        Open { state, reason: self.reason(), retry_after: self.wait(now) }
    }

    /// A slot for a probe, when one is free.
    fn probe(&self, now: Instant) -> Option<Ticket> {
        if self.free.load(Ordering::Acquire) == 0 && self.left(now).is_some() {
            return None;
        }
        let mut held = self.held();
        let mut lent = false;
        match self.word().phase() {
            Phase::Closed => return Some(Ticket { epoch: self.word().epoch(), role: Role::Call }),
            Phase::Open if self.left(now).is_some() => return None,
            Phase::Open => {
                held.machine.half_open();
                held.round = Round { needed: self.settings.load().probes.max(1), ..Round::default() };
                self.publish(&mut held, None, None);
            }
            Phase::HalfOpen if held.round.free() > 0 => {}
            Phase::HalfOpen if self.left(now).is_some() => return None,
            // The wait was capped. Those under way stay probes: an endpoint that is slow needs their answers to close it.
            Phase::HalfOpen if self.nanos(now) < held.round.lost_at => {
                held.round.lent += 1;
                lent = true;
            }
            Phase::HalfOpen => {
                // What has answered and goes on for so long is a stream that works. What has not is lost, or will end
                // badly and be heard then.
                let round = &mut held.round;
                let (number, good) = (round.number.wrapping_add(1), round.good + round.answered);
                *round = Round { number, needed: round.needed, good, ..Round::default() };
                if good >= round.needed {
                    self.close(&mut held);
                    return Some(Ticket { epoch: self.word().epoch(), role: Role::Call });
                }
            }
        }
        held.round.out += 1;
        let now = self.nanos(now);
        if !lent {
            let patience = held.wait.max(self.slow_after().unwrap_or_default()).max(DEFAULT_TIMEOUT);
            held.round.lost_at = now.saturating_add(nanos(patience));
        }
        self.until_nanos.store(held.round.lost_at, Ordering::Release);
        self.cap_nanos.store(now.saturating_add(nanos(self.settings.load().open_wait.get())), Ordering::Release);
        self.free.store(held.round.free(), Ordering::Release);
        let role = Role::Probe { round: held.round.number, answered: false };
        Some(Ticket { epoch: self.word().epoch(), role })
    }

    /// The answer to this call has begun, and its end will tell.
    pub(super) fn answered(&self, ticket: &mut Ticket) {
        if let Role::Probe { round, answered: answered @ false } = &mut ticket.role {
            let mut held = self.held();
            if self.word().epoch() == ticket.epoch && held.round.number == *round {
                held.round.answered += 1;
                *answered = true;
            }
        }
    }

    /// The call came to nothing that says anything of the endpoint.
    pub(super) fn cancelled(&self, ticket: Ticket) {
        if let Role::Probe { .. } = ticket.role {
            let mut held = self.held();
            if self.word().epoch() == ticket.epoch && held.round.ended(ticket.role) {
                self.free.store(held.round.free(), Ordering::Release);
            }
        }
    }

    #[inline]
    pub(super) fn record(&self, ticket: Ticket, outcome: Outcome, elapsed: Duration, now: Instant) {
        let (failed, throttled) = match outcome {
            Outcome::Success => (false, false),
            Outcome::Throttled => (false, true),
            Outcome::Failed | Outcome::TimedOut | Outcome::Unreachable => (true, false),
            Outcome::Untouched | Outcome::Refused(_) => return self.cancelled(ticket),
        };
        let unreachable = outcome == Outcome::Unreachable;
        if self.unreachable.load(Ordering::Relaxed) != unreachable {
            self.unreachable.store(unreachable, Ordering::Relaxed);
        }
        // The tick before the word: a window that was restarted between the two gets nothing of this call.
        let tick = self.window.tick(now.saturating_duration_since(self.origin));
        let word = self.word();
        if word.epoch() != ticket.epoch || ticket.role == Role::Ignored {
            return;
        }
        if word.mode() == BreakerMode::Disabled {
            return self.cancelled(ticket);
        }
        let slow = nanos(elapsed) > self.slow_after_nanos.load(Ordering::Relaxed);
        self.window.add(tick, failed || throttled, slow);
        if outcome == Outcome::Success && self.consecutive.load(Ordering::Relaxed) != 0 {
            self.consecutive.store(0, Ordering::Relaxed);
        }
        let bad = failed || throttled || slow;
        if bad || ticket.role != Role::Call {
            self.record_otherwise(ticket, word, (bad, failed), now);
        }
    }

    #[cold]
    fn record_otherwise(&self, ticket: Ticket, word: Word, (bad, failed): (bool, bool), now: Instant) {
        if failed {
            // It stops long before it overflows: the breaker opens, or nobody looks at it.
            self.consecutive.fetch_add(1, Ordering::Relaxed);
        }
        match (word.phase(), ticket.role) {
            (Phase::Closed, _) if bad && self.verdict(now).is_some() => {
                let mut held = self.held();
                // Once more: until the lock was had, another thread may have opened it, or somebody changed the
                // settings.
                if self.word().epoch() == ticket.epoch
                    && let Some(reason) = self.verdict(now)
                {
                    self.open(&mut held, reason, now);
                }
            }
            (Phase::HalfOpen, role @ Role::Probe { .. }) => {
                let mut held = self.held();
                if self.word().epoch() != ticket.epoch {
                    return;
                }
                if bad {
                    self.open(&mut held, TripReason::Probe, now);
                } else if held.round.ended(role) {
                    held.round.good += 1;
                    if held.round.good >= held.round.needed {
                        self.close(&mut held);
                    }
                }
            }
            _ => {}
        }
    }

    /// Why it is to open.
    fn verdict(&self, now: Instant) -> Option<TripReason> {
        let settings = self.settings.load();
        let consecutive = self.consecutive.load(Ordering::Relaxed);
        if settings.consecutive_failures > 0 && consecutive >= settings.consecutive_failures {
            return Some(TripReason::ConsecutiveFailures);
        }
        if settings.failure_rate <= 0.0 && settings.slow_rate <= 0.0 {
            return None;
        }
        let sums = self.sums(now);
        if sums.total == 0 || sums.total < u64::from(settings.minimum_calls) {
            return None;
        }
        if settings.failure_rate > 0.0 && share(sums.failed, sums.total) >= settings.failure_rate {
            return Some(TripReason::FailureRate);
        }
        let slow = settings.slow_call.is_some() && settings.slow_rate > 0.0;
        (slow && share(sums.slow, sums.total) >= settings.slow_rate).then_some(TripReason::SlowRate)
    }

    fn open(&self, held: &mut Held, reason: TripReason, now: Instant) {
        held.wait = held.machine.open();
        let now = self.nanos(now);
        self.until_nanos.store(now.saturating_add(nanos(held.wait)), Ordering::Release);
        let cap = nanos(self.settings.load().open_wait.get());
        self.cap_nanos.store(now.saturating_add(cap), Ordering::Release);
        self.free.store(0, Ordering::Release);
        self.reason.store(reason as u8, Ordering::Relaxed);
        let counter = match self.word().mode() {
            BreakerMode::MetricsOnly => &self.would_have_opened,
            _ => &self.opened,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let wait = held.wait;
        self.publish(held, Some(reason), Some(wait));
    }

    fn close(&self, held: &mut Held) {
        held.machine.close();
        self.free.store(0, Ordering::Release);
        self.consecutive.store(0, Ordering::Relaxed);
        self.publish(held, None, None);
        // After the word: who still sees the old word has the old tick too.
        self.window.restart();
    }

    /// Makes failsafe's phase the word's.
    fn publish(&self, held: &mut Held, reason: Option<TripReason>, wait: Option<Duration>) {
        let before = self.word();
        let after = Word::new(before.epoch() + 1, before.mode(), held.machine.phase());
        self.word.store(after.0, Ordering::Release);
        let mode = before.mode();
        let (from, to) = (phase_state(before.phase()), phase_state(after.phase()));
        held.tell(&Transition { from, to, mode, reason, wait });
    }

    pub(super) fn configure(&self, config: &BreakerConfig, now: Instant) {
        let mut held = self.held();
        self.settings.store(Arc::new(config.clone()));
        self.slow_after_nanos.store(slow_after(config), Ordering::Relaxed);
        self.window.set_length(config.window.get(), now.saturating_duration_since(self.origin));
        self.set_mode(&mut held);
    }

    pub(super) fn force(&self, mode: Option<BreakerMode>) {
        let mut held = self.held();
        held.forced = mode;
        self.set_mode(&mut held);
    }

    pub(super) fn forced(&self) -> Option<BreakerMode> {
        self.held().forced
    }

    fn set_mode(&self, held: &mut Held) {
        let before = self.word();
        let mode = held.forced.unwrap_or(self.settings.load().mode);
        if before.mode() == mode {
            return;
        }
        if before.mode() == BreakerMode::Disabled {
            // A run of failures that nobody watched is no run.
            self.consecutive.store(0, Ordering::Relaxed);
        }
        let after = Word::new(before.epoch(), mode, before.phase());
        self.word.store(after.0, Ordering::Release);
        let (from, to) = (before.state(before.phase()), after.state(after.phase()));
        held.tell(&Transition { from, to, mode, reason: None, wait: None });
    }

    pub(super) fn cap_wait(&self) {
        let is_long = || {
            let word = self.word();
            let cap = self.cap_nanos.load(Ordering::Acquire);
            (word.phase() != Phase::Closed && self.until_nanos.load(Ordering::Acquire) > cap).then_some(cap)
        };
        if is_long().is_none() {
            return;
        }
        let mut held = self.held();
        if let Some(cap) = is_long() {
            // What its probes are waited for is no longer than the wait was.
            held.wait = held.wait.min(self.settings.load().open_wait.get());
            self.until_nanos.store(cap, Ordering::Release);
        }
    }

    pub(super) fn on_transition(&self, hook: Hook) {
        self.held().hooks.push(hook);
    }

    pub(super) fn counts(&self, now: Instant) -> Counts {
        let sums = self.sums(now);
        Counts {
            calls: sums.total,
            failed: sums.failed,
            slow: sums.slow,
            failure_rate: share(sums.failed, sums.total),
            slow_rate: share(sums.slow, sums.total),
            consecutive_failures: self.consecutive.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            opened: self.opened.load(Ordering::Relaxed),
            would_have_opened: self.would_have_opened.load(Ordering::Relaxed),
            trip_reason: self.reason(),
        }
    }

    fn sums(&self, now: Instant) -> Sums {
        self.window.sums(self.window.tick(now.saturating_duration_since(self.origin)))
    }

    fn reason(&self) -> Option<TripReason> {
        TripReason::of_bits(self.reason.load(Ordering::Relaxed))
    }

    fn slow_after(&self) -> Option<Duration> {
        let nanos = self.slow_after_nanos.load(Ordering::Relaxed);
        (nanos != u64::MAX).then(|| Duration::from_nanos(nanos))
    }

    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.origin))
    }

    /// What is left of the wait.
    fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.until_nanos.load(Ordering::Acquire).saturating_sub(self.nanos(now));
        (left > 0).then(|| Duration::from_nanos(left))
    }
}

impl Held {
    fn tell(&self, transition: &Transition) {
        for hook in &self.hooks {
            hook(transition);
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word();
        f.debug_struct("Breaker")
            .field("mode", &word.mode())
            .field("state", &word.state(word.phase()))
            .field("epoch", &word.epoch())
            .finish_non_exhaustive()
    }
}

const fn phase_state(phase: Phase) -> BreakerState {
    match phase {
        Phase::Closed => BreakerState::Closed,
        Phase::Open => BreakerState::Open,
        Phase::HalfOpen => BreakerState::HalfOpen,
    }
}

/// The exact shares are the ones that settings can say: 55 of 100 is 0.55.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1.0) }
}

fn slow_after(config: &BreakerConfig) -> u64 {
    match config.slow_call {
        Some(limit) if config.slow_rate > 0.0 => nanos(limit.get()),
        _ => u64::MAX,
    }
}

/// `as_nanos` has 128 bits, and takes its time.
fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}
