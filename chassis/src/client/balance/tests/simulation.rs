//! Calls and answers over minutes of a clock that only the simulation moves.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use fastrand::Rng;

use super::{super::config::BalanceConfig, Fixture, endpoint, endpoints};
use crate::{client::Outcome, discovery::Endpoint};

/// How an endpoint answers at a moment: after so many microseconds, or never.
type Behaviour = Box<dyn Fn(u64, &mut Rng) -> (Option<u64>, Outcome)>;

fn steady(micros: u64) -> Behaviour {
    // Some noise, as every answer has it.
    Box::new(move |_, rng| (Some(micros + rng.u64(..micros / 5)), Outcome::Success))
}

fn failing() -> Behaviour {
    Box::new(|_, _| (Some(200), Outcome::Failed))
}

/// Sends `rate` calls a second for so many seconds; the number of calls that each endpoint got. As the service counts them.
fn run(fixture: &Fixture, behaviours: &[Behaviour], rate: u64, seconds: std::ops::Range<u64>) -> Vec<f64> {
    let mut rng = Rng::with_seed(3);
    let mut calls = vec![0.0; behaviours.len()];
    let mut answers: BinaryHeap<Reverse<(u64, usize, u64, bool)>> = BinaryHeap::new();
    let time = |micros: u64| fixture.epoch + Duration::from_micros(micros);
    let ewma = &fixture.set.ewma;
    let answer = |until: u64, answers: &mut BinaryHeap<_>| {
        while let Some(Reverse((end, at, start, well))) = answers.pop_if_before(until) {
            let gauge = &fixture.set.nodes[at].gauge;
            let elapsed = Duration::from_micros(end - start);
            gauge.head(time(end));
            gauge.record(time(end), if well { elapsed } else { elapsed.max(ewma.failure_penalty) }, ewma);
            gauge.end();
        }
    };
    let (begin, end) = (seconds.start * 1_000_000, seconds.end * 1_000_000);
    let mut now = begin;
    while now < end {
        // Exponential gaps, as independent callers make them.
        now += (-(1.0 - rng.f64()).ln() * 1e6 / rate as f64) as u64;
        answer(now, &mut answers);
        let Ok(picked) = fixture.set.pick(time(now), &mut rng, None) else { continue };
        let at = picked.node.number as usize - 1;
        calls[at] += 1.0;
        picked.node.gauge.start(time(now));
        let (after, outcome) = behaviours[at](now, &mut rng);
        if let Some(after) = after {
            answers.push(Reverse((now + after, at, now, outcome == Outcome::Success)));
        }
    }
    answer(u64::MAX, &mut answers);
    calls
}

trait PopIfBefore {
    fn pop_if_before(&mut self, until: u64) -> Option<Reverse<(u64, usize, u64, bool)>>;
}

impl PopIfBefore for BinaryHeap<Reverse<(u64, usize, u64, bool)>> {
    fn pop_if_before(&mut self, until: u64) -> Option<Reverse<(u64, usize, u64, bool)>> {
        self.peek().filter(|Reverse((end, ..))| *end <= until)?;
        self.pop()
    }
}

fn shares(calls: &[f64]) -> Vec<f64> {
    let total: f64 = calls.iter().sum();
    calls.iter().map(|calls| calls / total).collect()
}

fn ten(other: Behaviour) -> Vec<Behaviour> {
    let mut behaviours: Vec<_> = (0..9).map(|_| steady(10_000)).collect();
    behaviours.push(other);
    behaviours
}

#[test]
fn an_endpoint_that_fails_fast_gets_next_to_nothing() {
    let fixture = Fixture::new(endpoints(10));
    let shares = shares(&run(&fixture, &ten(failing()), 1_000, 0..120));
    assert!(shares[9] < 0.001, "{shares:?}");
    assert!(shares[..9].iter().all(|share| (0.09..0.13).contains(share)), "{shares:?}");
}

#[test]
fn without_the_penalty_it_would_attract_calls() {
    let config = BalanceConfig { failure_penalty: Duration::ZERO.into(), ..BalanceConfig::default() };
    let fixture = Fixture::with(endpoints(10), config, None);
    let shares = shares(&run(&fixture, &ten(failing()), 1_000, 0..60));
    assert!(shares[9] > 0.15, "{shares:?}");
}

#[test]
fn an_endpoint_that_is_ten_times_slower_gets_less_than_a_tenth_of_the_others() {
    for rate in [1_000, 5_000] {
        let fixture = Fixture::new(endpoints(10));
        let shares = shares(&run(&fixture, &ten(steady(100_000)), rate, 0..60));
        assert!(shares[9] > 0.0 && shares[9] < 0.01, "{rate} calls a second: {shares:?}");
    }
}

#[test]
fn a_frozen_endpoint_is_left_alone_although_it_never_answers() {
    let fixture = Fixture::new(endpoints(10));
    // It answers for ten seconds, then never again; nobody cancels.
    let freezes = Box::new(|now: u64, _: &mut Rng| ((now < 10_000_000).then_some(10_000), Outcome::Success));
    let calls = run(&fixture, &ten(freezes), 1_000, 0..10);
    assert!(shares(&calls)[9] > 0.08, "{calls:?}");
    let freezes = Box::new(|_: u64, _: &mut Rng| (None, Outcome::Success));
    let calls = run(&fixture, &ten(freezes), 1_000, 10..70);
    // Of 60,000 calls.
    assert!(calls[9] < 10.0, "{calls:?}");
}

#[test]
fn when_half_of_ten_are_out_the_other_half_shares_their_calls() {
    let fixture = Fixture::new(endpoints(10));
    (0..5).for_each(|at| fixture.gate(at).open());
    let shares = shares(&run(&fixture, &(0..10).map(|_| steady(10_000)).collect::<Vec<_>>(), 1_000, 0..60));
    assert!(shares[..5].iter().all(|share| *share == 0.0), "{shares:?}");
    assert!(shares[5..].iter().all(|share| (0.18..0.22).contains(share)), "{shares:?}");
}

/// One call after the other, each for so many microseconds; others wait for their turn.
fn queue(micros: u64) -> Behaviour {
    let free_at = std::cell::Cell::new(0);
    Box::new(move |now, _| {
        let ends = free_at.get().max(now) + micros;
        free_at.set(ends);
        (Some(ends - now), Outcome::Success)
    })
}

/// Two of three fail and their breakers are open. The share of the calls that goes to them all the same, at so many calls a
/// second; the third was quiet before.
fn lost_beside_one(works: impl Fn() -> Behaviour, rate: u64) -> f64 {
    let fixture = Fixture::new(endpoints(3));
    run(&fixture, &[works(), works(), works()], 10, 0..30);
    [1, 2].iter().for_each(|at| fixture.gate(*at).open());
    let shares = shares(&run(&fixture, &[works(), failing(), failing()], rate, 30..60));
    shares[1] + shares[2]
}

#[test]
fn failing_endpoints_get_nothing_beside_one_with_room() {
    for rate in [10, 100, 1_000] {
        let lost = lost_beside_one(|| steady(10_000), rate);
        println!("{rate} calls a second, an endpoint without limits: {:.1} % lost", lost * 100.0);
        assert_eq!(lost, 0.0, "{rate} calls a second");
    }
    // It can carry 100 a second, and is busy for half of the time.
    let lost = lost_beside_one(|| queue(10_000), 50);
    println!("50 calls a second, an endpoint that carries 100: {:.1} % lost", lost * 100.0);
    assert!(lost < 0.005, "{lost}");
}

#[test]
fn an_endpoint_without_room_sheds_calls() {
    let lost = lost_beside_one(|| queue(10_000), 300);
    println!("300 calls a second, an endpoint that carries 100: {:.1} % shed", lost * 100.0);
    assert!(lost > 0.2, "{lost}");
}

#[test]
fn weights_are_respected_under_any_load() {
    let weights = [1, 1, 2, 4];
    for rate in [20, 200, 1_000, 10_000] {
        let list = weights.iter().enumerate().map(|(number, weight)| Endpoint { weight: *weight, ..endpoint(number) });
        let fixture = Fixture::new(list.collect());
        let behaviours: Vec<_> = weights.iter().map(|_| steady(10_000)).collect();
        let shares = shares(&run(&fixture, &behaviours, rate, 0..50_000 / rate));
        for (share, weight) in shares.iter().zip(weights) {
            let expected = f64::from(weight) / 8.0;
            assert!((share / expected - 1.0).abs() < 0.15, "{rate} calls a second: {shares:?}");
        }
    }
}

#[test]
fn an_endpoint_that_recovers_has_its_share_within_seconds_of_its_breaker() {
    let fixture = Fixture::new(endpoints(10));
    run(&fixture, &ten(failing()), 1_000, 0..10);
    fixture.gate(9).open();
    let out = run(&fixture, &ten(failing()), 1_000, 10..20);
    fixture.gate(9).close();
    let back = shares(&run(&fixture, &ten(steady(10_000)), 1_000, 20..25));
    assert_eq!(out[9], 0.0);
    assert!(back[9] > 0.08, "{back:?}");
}
