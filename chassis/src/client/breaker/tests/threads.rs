//! Many threads at once.

use std::{
    collections::HashMap,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use super::{super::window::Window, *};

const THREADS: usize = 8;

/// Threads that are ahead roll the buckets over while others still count in them.
#[test]
fn no_call_of_the_last_window_is_lost_or_counted_twice() {
    for _ in 0..20 {
        let window = Window::new(ms(1000));
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    for tick in 0..500 {
                        for call in 0..10 {
                            window.add(tick, call % 2 == 0, call == 0);
                        }
                    }
                });
            }
        });
        let (threads, sums) = (THREADS as u64, window.sums(499));
        assert_eq!((sums.total, sums.failed, sums.slow), (threads * 100, threads * 50, threads * 10));
        assert_eq!(window.sums(499 + 10), super::super::window::Sums::default());
    }
}

/// A thread that took its tick before the window was made empty puts nothing into the empty one.
#[test]
fn what_was_counted_with_a_tick_of_before_is_not_in_a_window_that_was_made_empty() {
    let window = Window::new(ms(1000));
    let (done, elapsed) = (AtomicBool::new(false), ms(250));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let before = window.tick(elapsed);
                    thread::yield_now();
                    window.add(before, true, true);
                    let after = window.tick(elapsed);
                    assert!(after >= before);
                }
            });
        }
        for _ in 0..2000 {
            let late = window.tick(elapsed);
            window.restart();
            window.add(late, true, true);
        }
        done.store(true, Ordering::Relaxed);
    });
    window.restart();
    assert_eq!(window.sums(window.tick(elapsed)).total, 0);
    window.add(window.tick(elapsed), false, false);
    assert_eq!(window.sums(window.tick(elapsed)).total, 1);
}

/// Under calls of all kinds from many threads, with a clock that runs: never more probes than there are slots, no
/// change is told out of order, and in the end it is no wreck.
#[test]
fn many_threads_get_no_more_probes_than_there_are_and_leave_a_breaker_that_works() {
    let config = BreakerConfig {
        window: ms(1000).into(),
        failure_rate: 0.5,
        minimum_calls: 10,
        consecutive_failures: 5,
        open_wait: ms(2).into(),
        max_open_wait: ms(8).into(),
        probes: 3,
        ..quiet()
    };
    let mut bench = Bench::new(&config);
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = told.clone();
    bench.breaker.on_transition(Arc::new(move |transition| {
        hook.lock().unwrap_or_else(PoisonError::into_inner).push(*transition);
    }));
    let probes = Mutex::new(HashMap::<u64, u32>::new());
    let (micros, start) = (AtomicU64::new(0), Barrier::new(THREADS));
    let (breaker, begin) = (&bench.breaker, bench.now);
    thread::scope(|scope| {
        for seed in 0..THREADS as u64 {
            let (probes, micros, start) = (&probes, &micros, &start);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                start.wait();
                for _ in 0..20_000 {
                    let now = begin + Duration::from_micros(micros.fetch_add(10, Ordering::Relaxed));
                    let Ok(permit) = breaker.admit(now) else { continue };
                    let epoch = permit.ticket.and_then(|ticket| ticket.epoch_of_probe());
                    let count = |by: i32| {
                        if let Some(epoch) = epoch {
                            let mut probes = probes.lock().unwrap();
                            let count = probes.entry(epoch).or_default();
                            *count = count.checked_add_signed(by).unwrap();
                            assert!(*count <= 3, "{count} probes at once");
                        }
                    };
                    count(1);
                    if random.u8(..) < 32 {
                        thread::yield_now();
                    }
                    count(-1);
                    match random.u8(..) {
                        0..130 => permit.record(Outcome::Success, MS, now),
                        130..240 => permit.record(Outcome::Failed, MS, now),
                        240..250 => permit.record(Outcome::Throttled, MS, now),
                        _ => drop(permit),
                    }
                }
            });
        }
    });
    let told = told.lock().unwrap().clone();
    assert!(told.windows(2).all(|two| two[0].to == two[1].from), "{told:?}");
    let opened = told.iter().filter(|transition| transition.to == BreakerState::Open).count() as u64;
    bench.advance(ms(10_000));
    assert_eq!(opened, bench.counts().opened);
    assert!(opened > 10 && told.iter().any(|transition| transition.to == BreakerState::Closed), "{told:?}");
    bench.calls(Outcome::Success, 3);
    assert_eq!(bench.state(), BreakerState::Closed);
}
