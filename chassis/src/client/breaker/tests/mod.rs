//! The rules of the breaker, with time as an argument. The faults that other breakers had are in `regressions`.

mod layer;
mod model;
mod regressions;
mod threads;

use std::sync::{Mutex, PoisonError};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Opens after three failures in a row and by nothing else; one probe; waits without chance.
fn consecutive() -> BreakerConfig {
    BreakerConfig { consecutive_failures: 3, probes: 1, ..quiet() }
}

/// All signals are off; waits without chance: 1 s, 60 s at most.
fn quiet() -> BreakerConfig {
    BreakerConfig {
        consecutive_failures: 0,
        failure_rate: 0.0,
        slow_rate: 0.0,
        jitter: 0.0,
        ..BreakerConfig::default()
    }
}

/// A breaker with the time beside it.
struct Bench {
    breaker: Breaker,
    now: Instant,
}

impl Bench {
    fn new(config: &BreakerConfig) -> Self {
        let now = Instant::now();
        Self { breaker: Breaker(Arc::new(Core::new(config, now))), now }
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
    }

    fn admit(&self) -> Permit {
        self.breaker.admit(self.now).expect("a permit")
    }

    fn is_refused(&self) -> bool {
        assert_eq!(self.breaker.is_available(self.now), self.breaker.admit(self.now).is_ok(), "{:?}", self.breaker);
        self.breaker.admit(self.now).is_err()
    }

    fn end(&self, permit: Permit, outcome: Outcome) {
        permit.record(outcome, MS, self.now);
    }

    fn call(&self, outcome: Outcome) {
        self.end(self.admit(), outcome);
    }

    fn calls(&self, outcome: Outcome, times: usize) {
        (0..times).for_each(|_| self.call(outcome));
    }

    fn slow_call(&self, elapsed: Duration) {
        self.admit().record(Outcome::Success, elapsed, self.now);
    }

    fn state(&self) -> BreakerState {
        self.breaker.state(self.now)
    }

    fn counts(&self) -> Counts {
        self.breaker.counts(self.now)
    }

    fn reason(&self) -> Option<TripReason> {
        self.counts().trip_reason
    }

    /// How long it stays open.
    fn open_for(&self) -> Duration {
        self.breaker.wait(self.now).expect("it is open")
    }

    /// To the end of the wait.
    fn wait(&mut self) {
        self.advance(self.open_for());
    }
}

#[test]
fn so_many_failures_in_a_row_open_it_whatever_their_kind() {
    let bench = Bench::new(&consecutive());
    bench.call(Outcome::Failed);
    bench.call(Outcome::TimedOut);
    assert_eq!((bench.state(), bench.counts().consecutive_failures), (BreakerState::Closed, 2));
    bench.call(Outcome::Unreachable);
    assert_eq!((bench.state(), bench.reason()), (BreakerState::Open, Some(TripReason::ConsecutiveFailures)));
    assert_eq!(bench.open_for(), ms(1000));
    assert!(bench.is_refused());
}

#[test]
fn a_success_ends_the_run() {
    let bench = Bench::new(&consecutive());
    for _ in 0..10 {
        bench.calls(Outcome::Failed, 2);
        bench.call(Outcome::Success);
    }
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn calls_that_were_turned_away_neither_count_in_the_run_nor_end_it() {
    let bench = Bench::new(&consecutive());
    bench.calls(Outcome::Throttled, 100);
    assert_eq!((bench.state(), bench.counts().consecutive_failures), (BreakerState::Closed, 0));
    bench.calls(Outcome::Failed, 2);
    bench.call(Outcome::Throttled);
    bench.call(Outcome::Failed);
    assert_eq!(bench.state(), BreakerState::Open);
}

#[test]
fn calls_that_were_turned_away_count_in_the_rate() {
    let bench = Bench::new(&BreakerConfig { failure_rate: 0.5, minimum_calls: 4, ..quiet() });
    bench.calls(Outcome::Success, 2);
    bench.call(Outcome::Throttled);
    assert_eq!(bench.state(), BreakerState::Closed);
    bench.call(Outcome::Throttled);
    assert_eq!((bench.state(), bench.reason()), (BreakerState::Open, Some(TripReason::FailureRate)));
    assert_eq!((bench.counts().calls, bench.counts().failed, bench.counts().failure_rate), (4, 2, 0.5));
}

#[test]
fn a_rate_counts_from_the_minimum_of_calls_on_and_at_the_share_itself() {
    for (successes, failures, opens) in [(0, 9, false), (0, 10, true), (46, 54, false), (45, 55, true), (1, 9, true)] {
        let bench = Bench::new(&BreakerConfig { failure_rate: 0.55, minimum_calls: 10, ..quiet() });
        bench.calls(Outcome::Success, successes);
        bench.calls(Outcome::Failed, failures - 1);
        assert_eq!(bench.state(), BreakerState::Closed, "{successes}, {failures}");
        bench.call(Outcome::Failed);
        assert_eq!(bench.state() == BreakerState::Open, opens, "{successes}, {failures}");
    }
}

#[test]
fn slow_calls_open_it_even_when_they_are_successes() {
    let config = BreakerConfig { slow_call: Some(ms(100).into()), slow_rate: 0.5, minimum_calls: 4, ..quiet() };
    let bench = Bench::new(&config);
    // Longer than the limit is slow; the limit itself is not.
    for _ in 0..8 {
        bench.slow_call(ms(100));
    }
    for _ in 0..7 {
        bench.slow_call(ms(101));
    }
    assert_eq!((bench.state(), bench.counts().slow), (BreakerState::Closed, 7));
    bench.slow_call(ms(101));
    assert_eq!((bench.state(), bench.reason()), (BreakerState::Open, Some(TripReason::SlowRate)));
}

#[test]
fn a_zero_turns_a_signal_off() {
    let bench = Bench::new(&BreakerConfig { slow_call: Some(MS.into()), minimum_calls: 1, ..quiet() });
    for _ in 0..1000 {
        bench.admit().record(Outcome::Failed, ms(5000), bench.now);
    }
    assert_eq!((bench.state(), bench.counts().failed, bench.counts().opened), (BreakerState::Closed, 1000, 0));
}

#[test]
fn calls_that_this_side_held_back_are_not_counted() {
    let bench = Bench::new(&BreakerConfig { failure_rate: 0.1, minimum_calls: 1, ..consecutive() });
    bench.calls(Outcome::Refused(Cause::Overloaded), 100);
    assert_eq!((bench.state(), bench.counts().calls), (BreakerState::Closed, 0));
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let mut bench = Bench::new(&BreakerConfig { failure_rate: 0.5, minimum_calls: 5, ..quiet() });
    bench.calls(Outcome::Failed, 4);
    bench.advance(ms(9_000));
    assert_eq!(bench.counts().calls, 4);
    bench.advance(ms(1_000));
    assert_eq!(bench.counts().calls, 0);
    bench.call(Outcome::Failed);
    assert_eq!((bench.state(), bench.counts().calls), (BreakerState::Closed, 1));
}

#[test]
fn so_many_probes_are_let_through_and_all_must_be_good() {
    let mut bench = Bench::new(&BreakerConfig { probes: 3, ..consecutive() });
    bench.calls(Outcome::Failed, 3);
    bench.wait();
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    let probes = [bench.admit(), bench.admit(), bench.admit()];
    assert!(bench.is_refused());
    let [first, second, third] = probes;
    bench.end(first, Outcome::Success);
    bench.end(second, Outcome::Success);
    assert!(bench.is_refused(), "two good probes free no slot");
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    bench.end(third, Outcome::Success);
    assert_eq!(bench.state(), BreakerState::Closed);
    bench.calls(Outcome::Success, 100);
}

#[test]
fn a_probe_that_is_bad_or_slow_or_turned_away_opens_it_again_for_twice_as_long() {
    let slow = BreakerConfig { slow_call: Some(ms(100).into()), slow_rate: 1.0, minimum_calls: 1000, ..consecutive() };
    let mut bench = Bench::new(&slow);
    bench.calls(Outcome::Failed, 3);
    let mut waits = vec![bench.open_for().as_secs()];
    for (outcome, elapsed) in [
        (Outcome::Failed, 1),
        (Outcome::Throttled, 1),
        (Outcome::Success, 101),
        (Outcome::TimedOut, 1),
        (Outcome::Unreachable, 1),
        (Outcome::Failed, 1),
        (Outcome::Failed, 1),
    ] {
        bench.wait();
        bench.admit().record(outcome, ms(elapsed), bench.now);
        assert_eq!((bench.state(), bench.reason()), (BreakerState::Open, Some(TripReason::Probe)), "{outcome:?}");
        waits.push(bench.open_for().as_secs());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    bench.wait();
    bench.call(Outcome::Success);
    bench.calls(Outcome::Failed, 3);
    assert_eq!(bench.open_for(), ms(1000), "the back-off starts over");
}

#[test]
fn chance_makes_waits_longer_but_not_longer_than_the_longest() {
    let config = BreakerConfig { jitter: 0.5, max_open_wait: ms(4_500).into(), ..consecutive() };
    let mut bench = Bench::new(&config);
    bench.calls(Outcome::Failed, 3);
    for (least, most) in [(1000, 1500), (2000, 3000), (4000, 4500), (4500, 4500)] {
        let wait = bench.open_for();
        assert!((ms(least)..=ms(most)).contains(&wait), "{wait:?}, expected {least} to {most}");
        bench.wait();
        bench.call(Outcome::Failed);
    }
}

#[test]
fn to_ask_changes_nothing() {
    let mut bench = Bench::new(&consecutive());
    bench.calls(Outcome::Failed, 3);
    assert!(!bench.breaker.is_available(bench.now));
    bench.wait();
    for _ in 0..10 {
        assert!(bench.breaker.is_available(bench.now));
        assert_eq!((bench.state(), bench.breaker.wait(bench.now)), (BreakerState::HalfOpen, None));
    }
    let probe = bench.admit();
    assert!(!bench.breaker.is_available(bench.now));
    assert_eq!(bench.breaker.wait(bench.now), Some(ms(1000)));
    drop(probe);
    assert!(bench.breaker.is_available(bench.now));
}

#[test]
fn the_last_endpoint_is_not_open_for_longer_than_the_first_wait() {
    let mut bench = Bench::new(&consecutive());
    bench.breaker.cap_wait();
    bench.calls(Outcome::Failed, 3);
    for _ in 0..4 {
        bench.wait();
        bench.call(Outcome::Failed);
    }
    assert_eq!(bench.open_for(), ms(16_000));
    bench.advance(ms(300));
    bench.breaker.cap_wait();
    bench.breaker.cap_wait();
    assert_eq!(bench.open_for(), ms(700));
    bench.wait();
    bench.call(Outcome::Success);
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn metrics_only_lets_all_through_and_counts_when_it_would_have_opened_as_the_enforcing_mode_opens() {
    let script = |mode| {
        let mut bench = Bench::new(&BreakerConfig { mode, ..consecutive() });
        for _ in 0..200 {
            bench.advance(ms(250));
            if let Ok(permit) = bench.breaker.admit(bench.now) {
                bench.end(permit, Outcome::Failed);
            }
        }
        bench.counts()
    };
    let (dry, real) = (script(BreakerMode::MetricsOnly), script(BreakerMode::Enforcing));
    assert_eq!((dry.would_have_opened, dry.opened, dry.refused), (real.opened, 0, 0));
    assert!(real.opened == 6 && real.refused > 0, "{real:?}");
    assert_eq!(dry.calls, 37, "all calls of the last ten buckets");
}

#[test]
fn metrics_only_is_told_as_its_state() {
    let bench = Bench::new(&BreakerConfig { mode: BreakerMode::MetricsOnly, ..consecutive() });
    bench.calls(Outcome::Failed, 5);
    assert_eq!((bench.state(), bench.breaker.wait(bench.now)), (BreakerState::MetricsOnly, None));
    assert!(bench.breaker.is_available(bench.now));
}

#[test]
fn disabled_it_lets_all_through_and_counts_nothing() {
    let bench = Bench::new(&BreakerConfig { mode: BreakerMode::Disabled, ..consecutive() });
    bench.calls(Outcome::Failed, 100);
    assert_eq!((bench.state(), bench.counts().calls, bench.is_refused()), (BreakerState::Disabled, 0, false));
}

#[test]
fn forced_open_it_lets_nothing_through_not_even_a_call_that_may_pass_an_open_breaker() {
    let bench = Bench::new(&consecutive());
    let before = bench.admit();
    bench.breaker.force(Some(BreakerMode::ForcedOpen));
    assert!(bench.is_refused() && bench.breaker.admit_anyway(bench.now).is_err() && bench.breaker.is_unreachable());
    assert_eq!((bench.state(), bench.breaker.wait(bench.now)), (BreakerState::ForcedOpen, None));
    bench.end(before, Outcome::Success);
    bench.breaker.force(None);
    assert_eq!((bench.state(), bench.counts().calls), (BreakerState::Closed, 1));
}

#[test]
fn what_an_operator_forces_survives_a_reload() {
    let bench = Bench::new(&consecutive());
    bench.breaker.force(Some(BreakerMode::ForcedOpen));
    bench.breaker.configure(&BreakerConfig { mode: BreakerMode::MetricsOnly, ..consecutive() });
    assert_eq!((bench.state(), bench.breaker.forced()), (BreakerState::ForcedOpen, Some(BreakerMode::ForcedOpen)));
    bench.breaker.force(None);
    assert_eq!(bench.state(), BreakerState::MetricsOnly);
}

#[test]
fn other_settings_hold_at_once_and_keep_the_counts() {
    let mut bench = Bench::new(&BreakerConfig { failure_rate: 0.9, minimum_calls: 1, ..consecutive() });
    bench.call(Outcome::Success);
    bench.calls(Outcome::Failed, 2);
    bench.advance(ms(2_000));
    let window = BreakerConfig { failure_rate: 0.5, window: ms(40_000).into(), ..consecutive() };
    bench.breaker.0.configure(&window, bench.now);
    assert_eq!((bench.counts().calls, bench.counts().consecutive_failures), (3, 2));
    bench.advance(ms(20_000));
    assert_eq!(bench.counts().calls, 3, "a longer window keeps them longer");
    bench.breaker.0.configure(&BreakerConfig { window: ms(5_000).into(), ..window }, bench.now);
    assert_eq!(bench.counts().calls, 3);
    bench.call(Outcome::Failed);
    assert_eq!((bench.state(), bench.counts().calls), (BreakerState::Open, 4));
}

#[test]
fn an_open_breaker_stays_open_over_a_reload() {
    let bench = Bench::new(&consecutive());
    bench.calls(Outcome::Failed, 3);
    bench.breaker.configure(&BreakerConfig { open_wait: ms(5).into(), ..consecutive() });
    assert_eq!((bench.state(), bench.open_for(), bench.counts().opened), (BreakerState::Open, ms(1000), 1));
}

#[test]
fn a_call_may_pass_an_open_breaker_and_changes_nothing_of_it() {
    let mut bench = Bench::new(&consecutive());
    bench.calls(Outcome::Failed, 3);
    for outcome in [Outcome::Success, Outcome::Failed] {
        let permit = bench.breaker.admit_anyway(bench.now).expect("a permit");
        bench.end(permit, outcome);
        assert_eq!((bench.state(), bench.open_for()), (BreakerState::Open, ms(1000)));
    }
    assert_eq!(bench.counts().calls, 5, "it is counted");
    bench.wait();
    let probe = bench.breaker.admit_anyway(bench.now).expect("a permit");
    assert!(bench.is_refused(), "the first one after the wait is a probe");
    let beside = bench.breaker.admit_anyway(bench.now).expect("a permit");
    bench.end(beside, Outcome::Failed);
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    bench.end(probe, Outcome::Success);
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn an_endpoint_is_unreachable_when_its_last_call_found_no_connection() {
    let bench = Bench::new(&quiet());
    assert!(!bench.breaker.is_unreachable());
    for outcome in [Outcome::Unreachable, Outcome::Failed, Outcome::Unreachable, Outcome::Success] {
        bench.call(outcome);
        bench.call(Outcome::Refused(Cause::Overloaded));
        drop(bench.admit());
        assert_eq!(bench.breaker.is_unreachable(), outcome == Outcome::Unreachable, "{outcome:?}");
    }
}

#[test]
fn each_change_is_told_in_order_with_its_reason() {
    let mut bench = Bench::new(&consecutive());
    let told = Arc::new(Mutex::new(Vec::new()));
    let (hook, breaker) = (told.clone(), bench.breaker.clone());
    let now = bench.now;
    bench.breaker.on_transition(Arc::new(move |transition| {
        // Reading is allowed here.
        let _ = (breaker.counts(now), breaker.is_available(now));
        hook.lock().unwrap_or_else(PoisonError::into_inner).push(*transition);
    }));
    bench.calls(Outcome::Failed, 3);
    bench.wait();
    bench.call(Outcome::Failed);
    bench.wait();
    bench.call(Outcome::Success);
    bench.breaker.force(Some(BreakerMode::Disabled));
    use BreakerState::{Closed, Disabled, HalfOpen, Open};
    let told: Vec<_> = told.lock().unwrap().iter().map(|t| (t.from, t.to, t.reason, t.wait)).collect();
    let expected = [
        (Closed, Open, Some(TripReason::ConsecutiveFailures), Some(ms(1000))),
        (Open, HalfOpen, None, None),
        (HalfOpen, Open, Some(TripReason::Probe), Some(ms(2000))),
        (Open, HalfOpen, None, None),
        (HalfOpen, Closed, None, None),
        (Closed, Disabled, None, None),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_refusal_says_why_and_for_how_long() {
    let mut bench = Bench::new(&consecutive());
    bench.calls(Outcome::Failed, 3);
    bench.advance(ms(400));
    let open = bench.breaker.admit(bench.now).expect_err("a refusal");
    assert_eq!((open.state, open.retry_after), (BreakerState::Open, Some(ms(600))));
    let not_sent = NotSent::from(open);
    assert_eq!((not_sent.cause(), not_sent.wait()), (Cause::CircuitOpen, Some(ms(600))));
    assert!(not_sent.to_string().ends_with("the breaker is open: consecutive_failures"), "{not_sent}");
}
