//! Faults that breakers elsewhere had, each by what it did.

use super::*;

/// failsafe 1.3: half-open, all of a thousand calls were let through.
#[test]
fn half_open_lets_no_more_calls_through_than_its_probes() {
    let mut bench = Bench::new(&BreakerConfig { probes: 3, ..consecutive() });
    bench.calls(Outcome::Failed, 3);
    bench.wait();
    let permits: Vec<_> = (0..1000).filter_map(|_| bench.breaker.admit(bench.now).ok()).collect();
    assert_eq!(permits.len(), 3);
    drop(permits);
    let permits: Vec<_> = (0..1000).filter_map(|_| bench.breaker.admit(bench.now).ok()).collect();
    assert_eq!(permits.len(), 3, "those that were cancelled gave their slots back");
}

/// failsafe 1.3: a call that was started before the breaker opened closed it when it was half-open.
#[test]
fn a_late_success_does_not_close_it() {
    let mut bench = Bench::new(&consecutive());
    let late = [bench.admit(), bench.admit()];
    bench.calls(Outcome::Failed, 3);
    let [first, second] = late;
    bench.end(first, Outcome::Success);
    assert_eq!(bench.state(), BreakerState::Open);
    bench.wait();
    let probe = bench.admit();
    bench.end(second, Outcome::Success);
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    bench.end(probe, Outcome::Success);
    assert_eq!(bench.state(), BreakerState::Closed);
}

/// The same the other way round: the failures of before open it again after its recovery.
#[test]
fn a_late_failure_neither_opens_it_again_nor_counts_after_its_recovery() {
    let mut bench = Bench::new(&BreakerConfig { failure_rate: 0.1, minimum_calls: 1, ..consecutive() });
    let late: Vec<_> = (0..10).map(|_| bench.admit()).collect();
    bench.call(Outcome::Failed);
    bench.wait();
    let probe = bench.admit();
    let mut late = late.into_iter();
    bench.end(late.next().unwrap(), Outcome::Failed);
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    bench.end(probe, Outcome::Success);
    late.for_each(|permit| bench.end(permit, Outcome::Failed));
    assert_eq!((bench.state(), bench.counts().calls), (BreakerState::Closed, 0));
}

/// failsafe 1.3: its back-offs count whole seconds, and less than one became none.
#[test]
fn a_wait_below_a_second_is_not_nothing() {
    let mut bench = Bench::new(&BreakerConfig { open_wait: ms(20).into(), ..consecutive() });
    bench.calls(Outcome::Failed, 3);
    bench.advance(ms(19));
    assert!(bench.is_refused());
    bench.advance(ms(1));
    assert!(!bench.is_refused());
}

/// failsafe 1.3 and Finagle: an event in the same millisecond as the one before it weighed nothing, so nine failures
/// after one success in each millisecond never opened it (Linkerd left the decaying mean for the same reason).
#[test]
fn calls_that_end_in_the_same_instant_all_have_weight() {
    let mut bench = Bench::new(&BreakerConfig { failure_rate: 0.5, minimum_calls: 20, ..quiet() });
    let mut calls = 0;
    while bench.state() == BreakerState::Closed && calls < 1000 {
        bench.call(Outcome::Success);
        for _ in 0..9 {
            if bench.state() == BreakerState::Closed {
                bench.call(Outcome::Failed);
                calls += 1;
            }
        }
        bench.advance(MS);
    }
    assert_eq!((bench.state(), bench.counts().calls), (BreakerState::Open, 20));
}

/// failsafe 1.3: for one window after the start, and after each recovery, the rate opened nothing.
#[test]
fn the_first_window_is_not_blind() {
    let mut bench = Bench::new(&BreakerConfig { failure_rate: 0.5, minimum_calls: 5, probes: 1, ..quiet() });
    for _ in 0..3 {
        bench.calls(Outcome::Failed, 5);
        assert_eq!(bench.state(), BreakerState::Open);
        bench.wait();
        bench.call(Outcome::Success);
        assert_eq!(bench.state(), BreakerState::Closed);
    }
}

/// The failures that opened it would open it again at once.
#[test]
fn the_window_is_empty_after_a_recovery() {
    let mut bench = Bench::new(&BreakerConfig { failure_rate: 0.5, minimum_calls: 5, probes: 1, ..quiet() });
    bench.calls(Outcome::Failed, 5);
    bench.wait();
    bench.call(Outcome::Success);
    assert_eq!((bench.counts().calls, bench.counts().consecutive_failures), (0, 0));
    bench.calls(Outcome::Failed, 4);
    assert_eq!(bench.state(), BreakerState::Closed);
    bench.call(Outcome::Failed);
    assert_eq!(bench.state(), BreakerState::Open);
}

/// failsafe 1.3: its slices began late when there were few calls, and the window became longer.
#[test]
fn few_calls_do_not_make_the_window_longer() {
    let mut bench = Bench::new(&BreakerConfig { failure_rate: 0.5, minimum_calls: 5, ..quiet() });
    for _ in 0..100 {
        bench.advance(ms(2_501));
        bench.call(Outcome::Failed);
        assert!(bench.counts().calls <= 4, "{:?}", bench.counts());
    }
    assert_eq!(bench.state(), BreakerState::Closed);
}

/// Resilience4j (#343, #903, #1432 and more): the permit of a cancelled call was never given back, and half-open lasted
/// for ever.
#[test]
fn probes_that_are_cancelled_do_not_keep_it_half_open() {
    let mut bench = Bench::new(&BreakerConfig { probes: 3, ..consecutive() });
    bench.calls(Outcome::Failed, 3);
    bench.wait();
    for _ in 0..1000 {
        drop(bench.admit());
        bench.end(bench.admit(), Outcome::Refused(Cause::Overloaded));
        let mut answered = bench.admit();
        answered.answered();
        drop(answered);
    }
    bench.calls(Outcome::Success, 3);
    assert_eq!(bench.state(), BreakerState::Closed);
}

/// The same with calls that are not cancelled, but never end.
#[test]
fn probes_that_never_end_do_not_keep_it_half_open() {
    let mut bench = Bench::new(&BreakerConfig { probes: 2, ..consecutive() });
    bench.calls(Outcome::Failed, 3);
    bench.wait();
    let lost = [bench.admit(), bench.admit()];
    bench.advance(super::super::super::DEFAULT_TIMEOUT - MS);
    assert!(bench.is_refused());
    bench.advance(MS);
    let probes = [bench.admit(), bench.admit()];
    assert!(bench.is_refused(), "as many as before, not more");
    drop(lost);
    assert!(bench.is_refused(), "a slot that was given out again is not free a third time");
    probes.into_iter().for_each(|probe| bench.end(probe, Outcome::Success));
    assert_eq!(bench.state(), BreakerState::Closed);
}

/// All probes hang, and nobody else is there to ask: a new one each second finds out when the endpoint is back.
#[test]
fn the_last_endpoint_is_not_held_by_probes_that_hang() {
    let mut bench = Bench::new(&BreakerConfig { probes: 2, ..consecutive() });
    bench.calls(Outcome::Failed, 3);
    bench.wait();
    let mut hanging = vec![bench.admit(), bench.admit()];
    for _ in 0..3 {
        bench.breaker.cap_wait();
        bench.advance(ms(999));
        assert!(bench.breaker.admit(bench.now).is_err());
        bench.advance(MS);
        hanging.push(bench.admit());
        assert!(bench.breaker.admit(bench.now).is_err(), "one, not more");
    }
    bench.breaker.cap_wait();
    bench.advance(ms(1000));
    bench.call(Outcome::Success);
    // What was slow and not lost counts as well.
    bench.end(hanging.remove(0), Outcome::Success);
    assert_eq!(bench.state(), BreakerState::Closed);
}

/// Probes were waited for as long as the endpoint had been held back before: `max_open_wait`.
#[test]
fn probes_after_a_wait_that_was_capped_are_not_waited_for_longer() {
    let mut bench = Bench::new(&BreakerConfig { max_open_wait: ms(600_000).into(), ..consecutive() });
    bench.calls(Outcome::Failed, 3);
    while bench.open_for() < ms(100_000) {
        bench.wait();
        bench.call(Outcome::Failed);
    }
    bench.breaker.cap_wait();
    bench.wait();
    let _lost = bench.admit();
    bench.advance(super::super::super::DEFAULT_TIMEOUT);
    bench.call(Outcome::Success);
    assert_eq!(bench.state(), BreakerState::Closed);
}

/// A probe that was given up as lost was not lost, and says that the endpoint still fails.
#[test]
fn a_probe_that_ends_badly_after_its_slot_was_given_out_again_opens_it() {
    let mut bench = Bench::new(&consecutive());
    bench.calls(Outcome::Failed, 3);
    bench.wait();
    let lost = bench.admit();
    bench.advance(super::super::super::DEFAULT_TIMEOUT);
    let probe = bench.admit();
    bench.end(lost, Outcome::TimedOut);
    assert_eq!(bench.state(), BreakerState::Open);
    bench.end(probe, Outcome::Success);
    assert_eq!(bench.state(), BreakerState::Open);
}

/// Where all calls are streams no probe ever ends.
#[test]
fn streams_that_go_on_close_it() {
    let mut bench = Bench::new(&BreakerConfig { probes: 2, ..consecutive() });
    bench.calls(Outcome::Failed, 3);
    bench.wait();
    let mut streams = [bench.admit(), bench.admit()];
    streams.iter_mut().for_each(Permit::answered);
    assert!(bench.is_refused());
    bench.advance(super::super::super::DEFAULT_TIMEOUT);
    let call = bench.admit();
    assert_eq!(bench.state(), BreakerState::Closed);
    streams.into_iter().for_each(|stream| bench.end(stream, Outcome::Failed));
    bench.end(call, Outcome::Success);
    assert_eq!((bench.state(), bench.counts().calls), (BreakerState::Closed, 1));
}

/// A rolling restart: each instance sends GOAWAY on its connections, and works until it is gone.
#[test]
fn an_endpoint_that_stops_is_not_at_fault() {
    let mut bench = Bench::new(&BreakerConfig { failure_rate: 0.1, minimum_calls: 1, ..consecutive() });
    bench.calls(Outcome::Untouched, 100);
    assert_eq!((bench.state(), bench.counts().calls), (BreakerState::Closed, 0));
    assert!(!bench.breaker.is_unreachable());
    bench.call(Outcome::Failed);
    bench.wait();
    bench.calls(Outcome::Untouched, 100);
    bench.calls(Outcome::Success, 1);
    assert_eq!(bench.state(), BreakerState::Closed, "a probe that nobody has looked at tells nothing");
}

/// A cancelled call is nobody's fault.
#[test]
fn cancelled_calls_are_not_counted_and_do_not_end_a_run() {
    let bench = Bench::new(&BreakerConfig { failure_rate: 0.5, minimum_calls: 3, ..consecutive() });
    bench.calls(Outcome::Failed, 2);
    (0..100).for_each(|_| drop(bench.admit()));
    assert_eq!((bench.counts().calls, bench.counts().consecutive_failures), (2, 2));
    bench.call(Outcome::Failed);
    assert_eq!(bench.state(), BreakerState::Open);
}

/// A failure from before a long pause, or from a time when nobody watched, is no part of a run.
#[test]
fn a_run_does_not_outlive_the_disabled_mode() {
    let bench = Bench::new(&consecutive());
    bench.calls(Outcome::Failed, 2);
    bench.breaker.force(Some(BreakerMode::Disabled));
    bench.breaker.force(None);
    bench.call(Outcome::Failed);
    assert_eq!(bench.state(), BreakerState::Closed);
}

/// A breaker that has opened so often in a row by failed probes.
fn opened(times: u32) -> Bench {
    let mut bench = Bench::new(&consecutive());
    bench.calls(Outcome::Unreachable, 3);
    for _ in 1..times {
        bench.advance(bench.breaker.wait(bench.now).expect("it waits"));
        bench.call(Outcome::Unreachable);
    }
    bench
}

#[test]
fn a_sign_of_life_ends_the_wait_and_keeps_the_back_off() {
    let bench = opened(3);
    assert_eq!(bench.breaker.wait(bench.now), Some(ms(4_000)));
    assert!(bench.breaker.probe_now(bench.now));
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    bench.call(Outcome::Failed);
    assert_eq!(bench.breaker.wait(bench.now), Some(ms(8_000)), "a free probe is no free reset");
    assert!(bench.breaker.probe_now(bench.now));
    bench.call(Outcome::Success);
    assert_eq!((bench.state(), bench.breaker.openings()), (BreakerState::Closed, 0));
    assert!(!bench.breaker.probe_now(bench.now), "there is no wait to end");
}

#[test]
fn a_successor_is_probed_at_once_and_inherits_the_back_off() {
    for (times, wait) in [(1, 2_000), (3, 8_000), (40, 60_000)] {
        let before = opened(times);
        let next = Bench { breaker: Breaker(Arc::new(Core::new(&consecutive(), before.now))), now: before.now };
        next.breaker.take_over(&before.breaker, next.now);
        assert_eq!(next.state(), BreakerState::HalfOpen);
        let probe = next.admit();
        assert!(next.is_refused(), "one probe and no more");
        next.end(probe, Outcome::Failed);
        assert_eq!(next.breaker.wait(next.now), Some(ms(wait)), "after {times} openings");
    }
    let before = opened(2);
    let next = Bench { breaker: Breaker(Arc::new(Core::new(&consecutive(), before.now))), now: before.now };
    next.breaker.take_over(&before.breaker, next.now);
    next.call(Outcome::Success);
    assert_eq!(next.state(), BreakerState::Closed);
    next.calls(Outcome::Failed, 3);
    assert_eq!(next.breaker.wait(next.now), Some(ms(1_000)), "it has shown that it works");
}

#[test]
fn the_successor_of_a_closed_breaker_is_closed() {
    let before = Bench::new(&consecutive());
    before.calls(Outcome::Failed, 2);
    let next = Bench { breaker: Breaker(Arc::new(Core::new(&consecutive(), before.now))), now: before.now };
    next.breaker.take_over(&before.breaker, next.now);
    assert_eq!(next.state(), BreakerState::Closed);
}
