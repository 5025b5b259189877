//! How busy and how fast one endpoint is: what it costs to send it one more call.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::config::BalanceConfig;

/// The least that a call is taken to cost, in nanoseconds. An estimate that has decayed to nothing would hide how many
/// calls are pending.
const FLOOR: f32 = 1_000.0;
/// How long an endpoint whose last call failed is left alone before it is tried again: go-zero's forced pick.
const PROBE: Duration = Duration::from_secs(1);
/// After so many failures in a row that wait grows with each: a breaker, if there is one, has seen enough (its
/// `consecutive_failures`).
const PATIENT: u32 = 7;
/// The longest such wait, in units of the first.
const MAX_PROBE: u32 = 30;
/// An endpoint has room while it answers in less than this many times its quiet response time. Chosen: a queue in front of a
/// server that is 2/3 busy makes its answers three times as long (M/M/1), and from there on they lengthen steeply.
const ROOM: f32 = 3.0;
/// For how long one refusal says that an endpoint has no room. Chosen: a server that sheds load does so many times a second.
const REFUSAL_HOLDS: Duration = Duration::from_secs(1);
/// The shortest quiet response time that is believed, in nanoseconds: 1 ms. Below it the scheduler of either end decides.
const LEAST_QUIET: f32 = 1_000_000.0;
/// How many answers make up the response time of now: 64, so that routes of unequal length do not look like load.
const RECENT: u32 = 64;
/// How fast the quiet response time follows the one of now, in milliseconds: down within 10 s, as fast as `decay` forgets by
/// default; up within 10 min, so that minutes of overload do not become what is normal.
const QUIET_DOWN: f32 = 10_000.0;
const QUIET_UP: f32 = 600_000.0;
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

/// The load of one endpoint, in a few atomics: every call reads two of these, so there is no lock.
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
    /// It was seen while it was not available.
    was_out: AtomicBool,
    /// How many calls in a row have failed.
    failures: AtomicU32,
    /// When it is tried again although it costs more, in nanoseconds since the epoch; 0 while its last call went well.
    probe_at: AtomicU64,
    /// Upper half: the mean response time of the last [`RECENT`] answers, in nanoseconds as an `f32`. Lower half: the quiet
    /// response time, the same. Both 0 before the first answer.
    pace: AtomicU64,
    /// How many answers the mean is of, up to [`RECENT`].
    answers: AtomicU32,
    /// When it last turned a call away, in nanoseconds since the epoch; 0 if it never did.
    refused_at: AtomicU64,
}

/// What is known of an endpoint's load, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
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
        Self {
            epoch,
            flight: AtomicU64::new(0),
            silent: AtomicU64::new(0),
            estimate: AtomicU64::new(0),
            was_out: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            probe_at: AtomicU64::new(0),
            pace: AtomicU64::new(0),
            answers: AtomicU32::new(0),
            refused_at: AtomicU64::new(0),
        }
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

    /// The endpoint was seen, available or not. One that is back starts anew: its last failures would keep calls away for
    /// longer than its breaker does.
    pub(super) fn seen(&self, available: bool) {
        let was_out = self.was_out.load(Relaxed);
        if was_out == available && self.was_out.swap(!available, Relaxed) && available {
            self.estimate.store(0, Relaxed);
            self.answers.store(0, Relaxed);
            self.forget_failures();
        }
    }

    /// Whether it is to be tried now although another costs less: its last call failed, some time ago, and nobody else is
    /// finding out. Says so to one caller only.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let at = self.probe_at.load(Relaxed);
        if at == 0 || self.nanos(now) < at || halves(self.flight.load(Relaxed)).0 > 0 {
            return false;
        }
        self.probe_at.compare_exchange(at, self.nanos(now + PROBE), Relaxed, Relaxed).is_ok()
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

    /// A call took this long: it counts at once when that is longer than the estimate, little by little when it is shorter.
    /// The first one takes the place of the default, and the first one after a failure that of the penalty: nobody would
    /// send it a second call to find out.
    pub(super) fn record(&self, now: Instant, rtt: Duration, ewma: &Ewma) {
        self.keep_pace(now, nanos(rtt));
        let failed = self.failures.load(Relaxed) != 0;
        self.forget_failures();
        self.learn(now, rtt, |age| if failed { 0.0 } else { ewma.weight(age) });
    }

    /// A call failed, and counts as if it had taken this long. The endpoint is left alone for a while: as long as it asks for,
    /// if it does.
    pub(super) fn record_failure(&self, now: Instant, penalty: Duration, pushback: Option<Duration>, ewma: &Ewma) {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let wait = PROBE * failures.saturating_sub(PATIENT - 1).clamp(1, MAX_PROBE);
        let at = now.checked_add(wait.max(pushback.unwrap_or_default())).unwrap_or(now);
        self.probe_at.store(self.nanos(at).max(1), Relaxed);
        self.learn(now, penalty, |age| ewma.weight(age));
    }

    fn learn(&self, now: Instant, rtt: Duration, weight: impl Fn(u32) -> f32) {
        let rtt = nanos(rtt).max(FLOOR);
        self.update(now, |before, age| match before {
            0.0 => Some(rtt),
            before => Some(rtt.max(rtt + (before - rtt) * weight(age))),
        });
    }

    fn forget_failures(&self) {
        // Read first: every good call comes here, and a line that nobody writes stays in every processor's cache.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.probe_at.store(0, Relaxed);
        }
    }

    /// Whether it can take calls beside those that it has: it answers in less than three times its quiet response time, and
    /// has turned nothing away for a second. An endpoint without a call under way has room, and so has one that is not known.
    pub(super) fn has_room(&self, now: Instant) -> bool {
        let refused_at = self.refused_at.load(Relaxed);
        if refused_at != 0 && u128::from(self.nanos(now).saturating_sub(refused_at)) < REFUSAL_HOLDS.as_nanos() {
            return false;
        }
        let (quiet, recent) = self.pace();
        halves(self.flight.load(Relaxed)).0 == 0 || recent < ROOM * quiet.max(LEAST_QUIET)
    }

    /// It turned a call away, or a connection.
    pub(super) fn refuse(&self, now: Instant) {
        self.refused_at.store(self.nanos(now).max(1), Relaxed);
    }

    /// A call took this long without an answer. That counts for what [`has_room`](Self::has_room) says when it is long.
    pub(super) fn unanswered(&self, now: Instant, elapsed: Duration) {
        let elapsed = nanos(elapsed);
        if elapsed > self.pace().1 {
            self.keep_pace(now, elapsed);
        }
    }

    /// The quiet response time and that of now.
    fn pace(&self) -> (f32, f32) {
        let (quiet, recent) = halves(self.pace.load(Relaxed));
        (f32::from_bits(quiet), f32::from_bits(recent))
    }

    /// Takes one response time into the means. Called before the estimate learns of it: that has the time of the answer before.
    /// Threads may write over each other: then one answer of many is lost.
    fn keep_pace(&self, now: Instant, rtt: f32) {
        let answers = self.answers.load(Relaxed);
        let (quiet, recent) = self.pace();
        let (quiet, recent) = if answers < RECENT {
            self.answers.store(answers + 1, Relaxed);
            let mean = if answers == 0 { rtt } else { recent + (rtt - recent) / (answers + 1) as f32 };
            // The first few say nothing of what is normal.
            (mean, mean)
        } else {
            let recent = recent + (rtt - recent) / RECENT as f32;
            let age = self.age(now, halves(self.estimate.load(Relaxed)).0) as f32;
            let follows = if recent < quiet { QUIET_DOWN } else { QUIET_UP };
            (quiet + (recent - quiet) * (age / (age + follows)), recent)
        };
        self.pace.store(u64::from(recent.to_bits()) << 32 | u64::from(quiet.to_bits()), Relaxed);
    }

    /// A call was given up after this long: its answer would have taken longer. It never makes the estimate better.
    pub(super) fn record_at_least(&self, now: Instant, elapsed: Duration, ewma: &Ewma) {
        self.unanswered(now, elapsed);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EWMA: Ewma = Ewma { decay: 10_000.0, default_rtt: 30e6, failure_penalty: Duration::from_secs(5) };

    /// A gauge, and the time so many milliseconds after it was made.
    fn gauge() -> (Gauge, impl Fn(u64) -> Instant) {
        let epoch = Instant::now();
        (Gauge::new(epoch), move |millis| epoch + Duration::from_millis(millis))
    }

    fn millis(gauge: &Gauge, now: Instant) -> f32 {
        gauge.load(now, &EWMA).rtt.map_or(-1.0, |rtt| (rtt.as_secs_f32() * 1e4).round() / 10.0)
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_a_fast_one_little_by_little() {
        let (gauge, at) = gauge();
        assert_eq!(millis(&gauge, at(0)), -1.0);
        for (when, rtt, expected) in [
            // The first takes the place of the default.
            (0, 10, 10.0),
            (0, 100, 100.0),
            // No time has passed, so it says nothing of the time since.
            (0, 10, 100.0),
            // 10 + 90/e
            (10_000, 10, 43.1),
            (10_000, 50, 50.0),
            // 10 + 40/e^2
            (30_000, 10, 15.4),
        ] {
            gauge.record(at(when), ms(rtt), &EWMA);
            assert_eq!(millis(&gauge, at(when)), expected, "after {rtt} ms at {when}");
        }
        // 15.4/e
        assert_eq!(millis(&gauge, at(40_000)), 5.7);
    }

    #[test]
    fn one_call_finds_out_how_fast_a_new_endpoint_is() {
        let (gauge, at) = gauge();
        assert_eq!(gauge.cost(at(0), &EWMA, 1.0), 0.0);
        gauge.start(at(0));
        assert_eq!(gauge.cost(at(0), &EWMA, 1.0), 60e6);
    }

    #[test]
    fn cost_grows_with_the_pending_calls_even_when_the_estimate_has_faded() {
        let (gauge, at) = gauge();
        gauge.record(at(0), ms(10), &EWMA);
        let day = at(86_400_000);
        let idle = gauge.cost(day, &EWMA, 1.0);
        gauge.start(day);
        gauge.start(day);
        assert_eq!((idle, gauge.cost(day, &EWMA, 1.0), gauge.cost(day, &EWMA, 2.0)), (FLOOR, 3.0 * FLOOR, 2.0 * FLOOR));
        gauge.head(day);
        gauge.end();
        assert_eq!(gauge.cost(day, &EWMA, 1.0), 2.0 * FLOOR);
        assert_eq!((gauge.load(day, &EWMA).pending, gauge.load(day, &EWMA).waiting), (1, 1));
    }

    #[test]
    fn an_endpoint_that_owes_answers_gets_more_expensive_while_none_comes() {
        let (gauge, at) = gauge();
        gauge.record(at(0), ms(1), &EWMA);
        gauge.start(at(1_000));
        gauge.start(at(1_500));
        assert_eq!(gauge.load(at(3_000), &EWMA).silent, ms(2_000));
        assert_eq!(gauge.cost(at(3_000), &EWMA, 1.0), 3.0 * 2e9);
        // A sign of life; the other call still waits.
        gauge.head(at(3_000));
        assert_eq!(gauge.load(at(3_100), &EWMA).silent, ms(100));
        // Nobody waits any more: there is nothing that it owes.
        gauge.abandon();
        assert_eq!(gauge.load(at(9_000), &EWMA).silent, ms(0));
        // What was owed before does not count for the next call.
        gauge.start(at(10_000));
        assert_eq!(gauge.load(at(10_001), &EWMA).silent, ms(1));
    }

    #[test]
    fn a_call_that_is_given_up_never_makes_an_endpoint_look_better() {
        let (gauge, at) = gauge();
        gauge.record_at_least(at(0), ms(1), &EWMA);
        assert_eq!(millis(&gauge, at(0)), 30.0, "as good as the default at best");
        gauge.record_at_least(at(0), ms(200), &EWMA);
        assert_eq!(millis(&gauge, at(0)), 200.0);
        gauge.record_at_least(at(1_000), ms(5), &EWMA);
        assert_eq!(millis(&gauge, at(1_000)), 181.0, "it fades as if nothing had come");
    }

    #[test]
    fn an_endpoint_that_comes_back_starts_anew() {
        let (gauge, at) = gauge();
        gauge.record(at(0), ms(5_000), &EWMA);
        gauge.seen(true);
        assert_eq!(millis(&gauge, at(0)), 5_000.0);
        gauge.seen(false);
        gauge.seen(false);
        assert_eq!(millis(&gauge, at(0)), 5_000.0);
        gauge.seen(true);
        assert_eq!(millis(&gauge, at(0)), -1.0);
        gauge.record(at(0), ms(7), &EWMA);
        gauge.seen(true);
        assert_eq!(millis(&gauge, at(0)), 7.0);
    }

    /// 100 answers of this many milliseconds, ten milliseconds apart, with a call under way.
    fn answers(gauge: &Gauge, at: &impl Fn(u64) -> Instant, from: u64, rtt: u64) {
        (0..100).for_each(|n| gauge.record(at(from + n * 10), ms(rtt), &EWMA));
    }

    #[test]
    fn three_times_the_quiet_response_time_is_no_room() {
        let (gauge, at) = gauge();
        assert!(gauge.has_room(at(0)), "nothing is known");
        gauge.start(at(0));
        answers(&gauge, &at, 0, 10);
        assert!(gauge.has_room(at(1_000)));
        (0..3).for_each(|n| answers(&gauge, &at, 1_000 + n * 1_000, 25));
        assert!(gauge.has_room(at(4_000)), "two and a half times as long");
        (0..3).for_each(|n| answers(&gauge, &at, 4_000 + n * 1_000, 40));
        assert!(!gauge.has_room(at(7_000)), "four times as long");
        (0..3).for_each(|n| answers(&gauge, &at, 7_000 + n * 1_000, 10));
        assert!(gauge.has_room(at(10_000)), "quiet again");
    }

    #[test]
    fn an_idle_endpoint_has_room() {
        let (gauge, at) = gauge();
        answers(&gauge, &at, 0, 10);
        (0..3).for_each(|n| answers(&gauge, &at, 1_000 + n * 1_000, 100));
        assert!(gauge.has_room(at(4_000)));
        gauge.start(at(4_000));
        assert!(!gauge.has_room(at(4_000)));
    }

    #[test]
    fn a_refusal_is_no_room_for_a_second() {
        let (gauge, at) = gauge();
        gauge.refuse(at(500));
        assert!(!gauge.has_room(at(500)) && !gauge.has_room(at(1_499)));
        assert!(gauge.has_room(at(1_500)));
    }

    #[test]
    fn routes_of_unequal_length_leave_room() {
        let (gauge, at) = gauge();
        gauge.start(at(0));
        for n in 0..10_000 {
            // One in ten takes fifty times as long.
            gauge.record(at(n * 10), ms(if n % 10 == 3 { 500 } else { 10 }), &EWMA);
            assert!(n < 64 || gauge.has_room(at(n * 10)), "answer {n}");
        }
    }

    #[test]
    fn calls_without_an_answer_take_the_room() {
        let (gauge, at) = gauge();
        gauge.start(at(0));
        answers(&gauge, &at, 0, 10);
        (0..20).for_each(|n| gauge.record_at_least(at(1_000 + n), ms(500), &EWMA));
        assert!(!gauge.has_room(at(1_020)));
    }

    #[test]
    fn microseconds_are_no_sign_of_load() {
        let (gauge, at) = gauge();
        gauge.start(at(0));
        (0..100).for_each(|n| gauge.record(at(n), Duration::from_micros(50), &EWMA));
        (0..100).for_each(|n| gauge.record(at(100 + n), Duration::from_micros(900), &EWMA));
        assert!(gauge.has_room(at(200)));
    }

    #[test]
    fn a_clock_reading_of_another_thread_that_is_a_little_earlier_does_no_harm() {
        let (gauge, at) = gauge();
        gauge.record(at(100), ms(10), &EWMA);
        gauge.start(at(100));
        assert_eq!(gauge.cost(at(90), &EWMA, 1.0), 2.0 * 10e6);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_estimate_stays_between_the_shortest_and_the_longest_answer(
            answers in prop::collection::vec((0_u64..5_000, 1_u64..60_000), 1..50),
        ) {
            let (gauge, at) = gauge();
            let (mut now, mut shortest, mut longest) = (0, u64::MAX, 0);
            for (wait, rtt) in answers {
                now += wait;
                (shortest, longest) = (shortest.min(rtt), longest.max(rtt));
                gauge.record(at(now), ms(rtt), &EWMA);
                let estimate = gauge.load(at(now), &EWMA).rtt.unwrap().as_secs_f64() * 1_000.0;
                prop_assert!(estimate >= rtt as f64 * 0.999);
                prop_assert!(estimate >= shortest as f64 * 0.999 && estimate <= longest as f64 * 1.001);
            }
        }

        #[test]
        fn pending_calls_are_those_that_started_and_have_not_ended(ends in prop::collection::vec(0_u8..4, 0..100)) {
            let (gauge, at) = gauge();
            let mut expected = (0, 0);
            for end in ends {
                gauge.start(at(0));
                expected = (expected.0 + 1, expected.1 + 1);
                if end > 0 {
                    if end == 1 { gauge.abandon() } else { gauge.head(at(0)) }
                    expected.1 -= 1;
                }
                if end == 3 {
                    gauge.end();
                    expected.0 -= 1;
                }
            }
            let load = gauge.load(at(0), &EWMA);
            prop_assert_eq!((load.pending, load.waiting), expected);
        }
    }
}
