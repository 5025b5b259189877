//! How busy and how fast one endpoint is: what it costs to send it one more call.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::config::BalanceConfig;

/// The least that a call is taken to cost, in nanoseconds. An estimate that has decayed to nothing would hide how many
/// calls are pending.
const FLOOR: f32 = 1_000.0;
const ONE_PENDING: u64 = 1;
const ONE_WAITING: u64 = 1 << 32;

/// The numbers of the estimate, taken from the settings once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ewma {
    /// In milliseconds.
    decay: f32,
    /// In nanoseconds.
    default_rtt: f32,
    pub(super) failure_penalty: Duration,
}

impl Ewma {
    pub(super) fn new(config: &BalanceConfig) -> Self {
        Self {
            decay: (config.decay.get().as_secs_f32() * 1_000.0).max(1.0),
            default_rtt: nanos(config.default_rtt.get()).max(FLOOR),
            failure_penalty: config.failure_penalty.get(),
        }
    }

    /// What is left after so many milliseconds.
    fn weight(&self, age: u32) -> f32 {
        if age == 0 { 1.0 } else { (age as f32 / -self.decay).exp() }
    }
}

fn nanos(duration: Duration) -> f32 {
    duration.as_secs_f32() * 1e9
}

/// The load of one endpoint, in three atomics: every call reads two of these, so there is no lock.
#[derive(Debug)]
pub(super) struct Gauge {
    epoch: Instant,
    /// Lower half: calls whose answer has not ended. Upper half: those of them whose answer has not begun.
    flight: AtomicU64,
    /// Since when the endpoint owes an answer and has given none, in nanoseconds since the epoch.
    silent: AtomicU64,
    /// Upper half: the estimate in nanoseconds, as an `f32`; 0 before the first answer. Lower half: as of when, in
    /// milliseconds since the epoch. They wrap after 49 days, at which an estimate that nobody has touched looks new once more.
    estimate: AtomicU64,
}

/// What is known of an endpoint's load, at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Load {
    /// Calls under way, until the end of their answers.
    pub pending: u32,
    /// Those of them whose answer has not begun.
    pub waiting: u32,
    /// The estimate of the response time, failures counted as their penalty; `None` before the first answer.
    pub rtt: Option<Duration>,
    /// For how long the endpoint has owed an answer without giving one.
    pub silent: Duration,
}

impl Gauge {
    pub(super) fn new(epoch: Instant) -> Self {
        Self { epoch, flight: AtomicU64::new(0), silent: AtomicU64::new(0), estimate: AtomicU64::new(0) }
    }

    /// What one more call costs: max(estimate, silence) × (pending + 1), in nanoseconds. `share` is the endpoint's weight
    /// in proportion to the mean: it makes the same number of pending calls weigh less.
    pub(super) fn cost(&self, now: Instant, ewma: &Ewma, share: f32) -> f32 {
        let (pending, waiting) = halves(self.flight.load(Relaxed));
        let rtt = match self.read(now, ewma) {
            Some(rtt) => rtt,
            // One call finds out; what comes while it is under way takes the default for true.
            None if pending == 0 => return 0.0,
            None => ewma.default_rtt,
        };
        let rtt = if waiting == 0 { rtt } else { rtt.max(self.silence(now) as f32) };
        rtt * (pending as f32 / share + 1.0)
    }

    pub(super) fn load(&self, now: Instant, ewma: &Ewma) -> Load {
        let (pending, waiting) = halves(self.flight.load(Relaxed));
        let rtt = self.read(now, ewma).map(|nanos| Duration::from_nanos(nanos as u64));
        let silent = Duration::from_nanos(if waiting == 0 { 0 } else { self.silence(now) });
        Load { pending, waiting, rtt, silent }
    }

    /// A call is sent.
    pub(super) fn start(&self, now: Instant) {
        if halves(self.flight.load(Relaxed)).1 == 0 {
            self.silent.store(self.nanos(now), Relaxed);
        }
        self.flight.fetch_add(ONE_PENDING + ONE_WAITING, Relaxed);
    }

    /// Its answer has begun.
    pub(super) fn head(&self, now: Instant) {
        self.silent.store(self.nanos(now), Relaxed);
        self.flight.fetch_sub(ONE_WAITING, Relaxed);
    }

    /// Nobody waits for its answer any more. That says nothing of the other calls that are waited for.
    pub(super) fn abandon(&self) {
        self.flight.fetch_sub(ONE_WAITING, Relaxed);
    }

    /// Its answer has ended, or nobody reads on.
    pub(super) fn end(&self) {
        self.flight.fetch_sub(ONE_PENDING, Relaxed);
    }

    /// A call took this long, or failed and counts as if it had: at once when it is longer than the estimate, little by
    /// little when it is shorter. The first one takes the place of the default.
    pub(super) fn record(&self, now: Instant, rtt: Duration, ewma: &Ewma) {
        let rtt = nanos(rtt).max(FLOOR);
        self.update(now, |before, age| match before {
            0.0 => Some(rtt),
            before => Some(rtt.max(rtt + (before - rtt) * ewma.weight(age))),
        });
    }

    /// A call was given up after this long: its answer would have taken longer. It never makes the estimate better.
    pub(super) fn record_at_least(&self, now: Instant, elapsed: Duration, ewma: &Ewma) {
        let elapsed = nanos(elapsed).max(FLOOR);
        self.update(now, |before, age| match before {
            0.0 => Some(elapsed.max(ewma.default_rtt)),
            before => (elapsed > before * ewma.weight(age)).then_some(elapsed),
        });
    }

    /// The estimate as of now: it fades while nothing is heard, so that a bad endpoint gets another chance.
    fn read(&self, now: Instant, ewma: &Ewma) -> Option<f32> {
        let (stamp, bits) = halves(self.estimate.load(Relaxed));
        let rtt = f32::from_bits(bits);
        (rtt > 0.0).then(|| (rtt * ewma.weight(self.age(now, stamp))).max(FLOOR))
    }

    fn update(&self, now: Instant, next: impl Fn(f32, u32) -> Option<f32>) {
        let stamp = self.millis(now);
        // Fails only when `next` leaves things as they are.
        let _ = self.estimate.fetch_update(Relaxed, Relaxed, |packed| {
            let (before, bits) = halves(packed);
            let next = next(f32::from_bits(bits), self.age(now, before))?;
            Some(u64::from(next.to_bits()) << 32 | u64::from(stamp))
        });
    }

    /// Milliseconds since then; 0 when another thread's clock reading was a little later.
    fn age(&self, now: Instant, stamp: u32) -> u32 {
        let age = self.millis(now).wrapping_sub(stamp);
        if age > u32::MAX - 60_000 { 0 } else { age }
    }

    fn silence(&self, now: Instant) -> u64 {
        self.nanos(now).saturating_sub(self.silent.load(Relaxed))
    }

    fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        since.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(since.subsec_nanos()))
    }

    fn millis(&self, now: Instant) -> u32 {
        (self.nanos(now) / 1_000_000) as u32
    }
}

/// Lower and upper.
fn halves(packed: u64) -> (u32, u32) {
    (packed as u32, (packed >> 32) as u32)
}
