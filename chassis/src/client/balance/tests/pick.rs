//! Who is drawn from, and how often each is picked.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use fastrand::Rng;
use proptest::prelude::*;

use super::{
    super::{
        Available, Tried,
        config::BalanceConfig,
        pick::Nobody,
        set::{Set, Workshop},
    },
    Fixture, endpoint, endpoints, in_zone,
};
use crate::discovery::{Endpoint, Updates};

impl Fixture {
    /// How often each is picked, and how often past its breaker, when the load does not change.
    fn share(&self, millis: u64, picks: usize) -> Vec<f64> {
        let mut rng = Rng::with_seed(11);
        let mut picked = vec![0.0; self.set.nodes.len()];
        for _ in 0..picks {
            let pick = self.set.pick(self.at(millis), &mut rng, None).unwrap_or_else(|nobody| panic!("{nobody:?}"));
            picked[pick.node.number as usize - 1] += 1.0 / picks as f64;
        }
        picked
    }

    fn pick(&self, millis: u64, seed: u64, tried: Option<&Tried>) -> Result<(usize, bool), Nobody> {
        let picked = self.set.pick(self.at(millis), &mut Rng::with_seed(seed), tried)?;
        Ok((picked.node.number as usize - 1, picked.bypass))
    }

    /// Every endpoint has answered once, in this many milliseconds.
    fn answered(&self, rtt: impl Fn(usize) -> u64) {
        for (at, node) in self.set.nodes.iter().enumerate() {
            node.gauge.record(self.at(0), Duration::from_millis(rtt(at)), &self.set.ewma);
        }
    }
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 0.02
}

#[test]
fn equal_endpoints_get_equal_shares() {
    for count in [1, 2, 3, 10] {
        let fixture = Fixture::new(endpoints(count));
        fixture.answered(|_| 10);
        let shares = fixture.share(0, 20_000);
        assert!(shares.iter().all(|share| near(*share, 1.0 / count as f64)), "{shares:?}");
    }
}

#[test]
fn the_dearest_endpoint_is_never_picked_while_two_others_are_there() {
    let fixture = Fixture::new(endpoints(3));
    fixture.answered(|at| if at == 1 { 50 } else { 10 });
    assert_eq!(fixture.share(0, 1_000)[1], 0.0);
}

#[test]
fn an_endpoint_that_is_not_available_is_not_picked() {
    let fixture = Fixture::new(endpoints(10));
    for at in [0, 3, 4] {
        fixture.gate(at).open();
    }
    let shares = fixture.share(0, 20_000);
    for (at, share) in shares.iter().enumerate() {
        let expected = if [0, 3, 4].contains(&at) { 0.0 } else { 1.0 / 7.0 };
        assert!(near(*share, expected), "{shares:?}");
    }
}

#[test]
fn an_endpoint_that_is_back_is_found_within_a_look() {
    let fixture = Fixture::new(endpoints(10));
    fixture.answered(|_| 10);
    fixture.gate(3).open();
    assert_eq!(fixture.share(0, 1_000)[3], 0.0);
    fixture.gate(3).close();
    // One that is back starts anew, so it is the cheapest there is.
    assert!(fixture.share(1, 1_000)[3] > 0.15);
}

#[test]
fn when_none_is_available_the_wait_is_told_and_cut_short() {
    let fixture = Fixture::new(endpoints(3));
    for at in 0..3 {
        fixture.gate(at).open();
        fixture.gate(at).0.wait.store(60, Relaxed);
        fixture.gate(at).0.unreachable.store(true, Relaxed);
    }
    let held = |seconds| Err(Nobody::Held { endpoints: 3, wait: Some(Duration::from_millis(seconds)) });
    assert_eq!(fixture.pick(0, 1, None), held(1_000));
    assert!((0..3).all(|at| fixture.gate(at).0.capped.load(Relaxed)));
    // One is back: it is seen at the next look, 10 µs for each endpoint later.
    fixture.gate(2).close();
    assert_eq!(fixture.pick(1, 1, None), Ok((2, false)));
}

#[test]
fn the_last_one_that_breaks_is_seen_at_once() {
    let fixture = Fixture::new(endpoints(2));
    fixture.gate(0).open();
    fixture.gate(0).0.unreachable.store(true, Relaxed);
    assert_eq!(fixture.pick(0, 1, None), Ok((1, false)));
    fixture.gate(1).open();
    assert!(matches!(fixture.pick(0, 1, None), Err(Nobody::Held { endpoints: 2, .. })));
}

#[test]
fn an_empty_list_has_nobody() {
    assert_eq!(Fixture::new(Vec::new()).pick(0, 1, None), Err(Nobody::Empty));
}

#[test]
fn when_few_are_available_those_that_fail_are_used_past_their_breakers_unless_they_refuse_connections() {
    let fixture = Fixture::new(endpoints(10));
    for at in 0..6 {
        fixture.gate(at).open();
    }
    for at in 0..3 {
        fixture.gate(at).0.unreachable.store(true, Relaxed);
    }
    fixture.fill(0);
    let shares = fixture.share(0, 20_000);
    for (at, share) in shares.iter().enumerate() {
        assert!(near(*share, if at < 3 { 0.0 } else { 1.0 / 7.0 }), "{shares:?}");
    }
    for seed in 0..100 {
        let (at, bypass) = fixture.pick(0, seed, None).unwrap();
        assert_eq!(bypass, at < 6, "only a breaker that is open is passed by");
    }
}

#[test]
fn panic_begins_below_the_threshold_and_not_at_it() {
    for (open, threshold, panics) in [(5, 0.5, false), (6, 0.5, true), (9, 0.0, false), (1, 1.0, true), (9, 0.1, false)]
    {
        let config = BalanceConfig { panic_threshold: threshold, ..BalanceConfig::default() };
        let fixture = Fixture::with(endpoints(10), config, None);
        (0..open).for_each(|at| fixture.gate(at).open());
        fixture.fill(0);
        let bypassed = (0..200).any(|seed| fixture.pick(0, seed, None).unwrap().1);
        assert_eq!(bypassed, panics, "{open} of 10 open with a threshold of {threshold}");
    }
}

#[test]
fn one_available_endpoint_with_room_prevents_panic() {
    let fixture = Fixture::new(endpoints(10));
    (0..8).for_each(|at| fixture.gate(at).open());
    let picked = |millis| (0..200).filter(|seed| fixture.pick(millis, *seed, None).unwrap().1).count();
    assert_eq!(picked(0), 0, "nothing speaks against either of the two");
    fixture.fill(0);
    fixture.set.nodes[8].gauge.refuse(fixture.at(0));
    assert!(picked(500) > 0, "both have refused within the second");
    fixture.set.nodes[9].gauge.refuse(fixture.at(900));
    assert_eq!(picked(1_001), 0, "the last refusal of one is a second ago");
}

#[test]
fn calls_stay_in_the_zone_and_spill_in_proportion() {
    // Of ten local endpoints so many are out; so much stays: 1.4 times the share that is left.
    for (out, stays) in [(0, 1.0), (2, 1.0), (5, 0.7), (9, 0.14), (10, 0.0)] {
        let list = (0..30).map(|number| in_zone(number, if number < 10 { "a" } else { "b" })).collect();
        let fixture = Fixture::with(list, BalanceConfig::default(), Some("a"));
        (0..out).for_each(|at| fixture.gate(at).open());
        let local: f64 = fixture.share(0, 20_000)[..10].iter().sum();
        assert!(near(local, stays), "{out} of 10 out: {local} stayed, expected {stays}");
    }
}

#[test]
fn a_zone_that_can_carry_its_calls_does_not_panic_when_the_others_are_down() {
    let list = (0..10).map(|number| in_zone(number, if number < 3 { "a" } else { "b" })).collect();
    let fixture = Fixture::with(list, BalanceConfig::default(), Some("a"));
    (3..10).for_each(|at| fixture.gate(at).open());
    assert!(near(fixture.share(0, 1_000)[..3].iter().sum(), 1.0));
}

#[test]
fn zones_make_no_difference_when_nobody_is_in_this_one_or_they_are_not_preferred() {
    let list = || (0..4).map(|number| in_zone(number, if number < 1 { "a" } else { "b" })).collect();
    let spread = |fixture: Fixture| fixture.share(0, 20_000).iter().all(|share| near(*share, 0.25));
    assert!(spread(Fixture::with(list(), BalanceConfig::default(), Some("c"))));
    assert!(spread(Fixture::with(list(), BalanceConfig::default(), None)));
    let off = BalanceConfig { prefer_zone: false, ..BalanceConfig::default() };
    assert!(spread(Fixture::with(list(), off, Some("a"))));
}

#[test]
fn a_new_endpoint_gets_its_share_little_by_little() {
    let config = BalanceConfig { slow_start: Duration::from_secs(100).into(), ..BalanceConfig::default() };
    let mut fixture = Fixture::with(endpoints(9), config, None);
    fixture.update(1_000, endpoints(10));
    fixture.answered(|_| 10);
    for (age, part) in [(0, 0.1), (5, 0.1), (30, 0.3), (60, 0.6), (100, 1.0), (1_000, 1.0)] {
        let new = fixture.share(1_000 + age * 1_000, 40_000)[9];
        // Against nine others: part / (9 + part).
        assert!((new - part / (9.0 + part)).abs() < 0.01, "{new} after {age} s");
    }
}

#[test]
fn new_endpoints_carry_everything_when_there_is_no_other() {
    let config = BalanceConfig { slow_start: Duration::from_secs(100).into(), ..BalanceConfig::default() };
    let mut fixture = Fixture::with(endpoints(1), config, None);
    fixture.update(1_000, vec![endpoint(7), endpoint(8)]);
    assert!((0..100).all(|seed| fixture.pick(1_000, seed, None).is_ok()));
}

#[test]
fn another_attempt_goes_to_another_endpoint_while_there_is_one() {
    let fixture = Fixture::new(endpoints(3));
    fixture.answered(|at| if at == 2 { 5_000 } else { 10 });
    let tried = Tried::new();
    let mut order = Vec::new();
    for seed in 0..3 {
        let (at, _) = fixture.pick(0, seed, Some(&tried)).unwrap();
        tried.add(at as u64 + 1);
        order.push(at);
    }
    assert_eq!(order[2], 2, "the worst one last: {order:?}");
    order.sort_unstable();
    assert_eq!(order, [0, 1, 2]);
    assert!(fixture.pick(0, 5, Some(&tried)).is_ok(), "all were tried");
}

#[test]
fn another_attempt_leaves_the_zone_rather_than_repeat_itself() {
    let list = vec![in_zone(0, "a"), in_zone(1, "b")];
    let fixture = Fixture::with(list, BalanceConfig::default(), Some("a"));
    let tried = Tried::new();
    assert_eq!(fixture.pick(0, 1, Some(&tried)), Ok((0, false)));
    tried.add(1);
    assert_eq!(fixture.pick(0, 1, Some(&tried)), Ok((1, false)));
    fixture.gate(1).open();
    assert_eq!(fixture.pick(0, 1, Some(&tried)), Ok((0, false)));
}

/// Shares when the costs differ by chance.
fn noisy_shares(weights: &[u32], slow: Option<usize>) -> Vec<f64> {
    let weigh = |(number, weight): (usize, &u32)| Endpoint { weight: *weight, ..endpoint(number) };
    let fixture = Fixture::new(weights.iter().enumerate().map(weigh).collect());
    let mut noise = Rng::with_seed(5);
    let mut rng = Rng::with_seed(6);
    let mut picked = vec![0.0; weights.len()];
    for _ in 0..20_000 {
        for (at, node) in fixture.set.nodes.iter().enumerate() {
            node.gauge.seen(false);
            node.gauge.seen(true);
            let rtt = 10_000 + noise.u64(..1_000) + if slow == Some(at) { 500_000 } else { 0 };
            node.gauge.record(fixture.at(0), Duration::from_micros(rtt), &fixture.set.ewma);
        }
        let pick = fixture.set.pick(fixture.at(0), &mut rng, None).ok().unwrap();
        picked[pick.node.number as usize - 1] += 1.0 / 20_000.0;
    }
    picked
}

#[test]
fn weights_are_respected_where_costs_differ_by_chance() {
    for weights in [&[1, 3][..], &[1, 1, 2], &[10, 1, 1, 1, 1], &[100, 300]] {
        let shares = noisy_shares(weights, None);
        let total: u32 = weights.iter().sum();
        for (share, weight) in shares.iter().zip(weights) {
            assert!(near(*share, f64::from(*weight) / f64::from(total)), "{weights:?}: {shares:?}");
        }
    }
}

#[test]
fn a_heavy_endpoint_that_is_bad_is_avoided_all_the_same() {
    let shares = noisy_shares(&[10, 1, 1], Some(0));
    assert_eq!(shares[0], 0.0, "{shares:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_is_picked_is_available_unless_too_few_are(
        states in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), 1_u32..5), 1..40),
        threshold in 0.0..1.0_f64,
        zoned in any::<bool>(),
        full in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let config = BalanceConfig { panic_threshold: threshold, ..BalanceConfig::default() };
        let list = states.iter().enumerate().map(|(number, (_, _, local, weight))| Endpoint {
            weight: *weight,
            ..in_zone(number, if *local { "a" } else { "b" })
        });
        let fixture = Fixture::with(list.collect(), config, zoned.then_some("a"));
        for (at, (open, unreachable, ..)) in states.iter().enumerate() {
            fixture.gate(at).0.open.store(*open, Relaxed);
            fixture.gate(at).0.unreachable.store(*unreachable, Relaxed);
        }
        let available = states.iter().filter(|(open, ..)| !open).count();
        if full {
            fixture.fill(0);
        }
        for more in 0..20 {
            match fixture.pick(0, seed.wrapping_add(more), None) {
                Err(nobody) => {
                    prop_assert_eq!(available, 0);
                    let endpoints = states.len();
                    prop_assert_eq!(nobody, Nobody::Held { endpoints, wait: Some(Duration::from_secs(1)) });
                }
                Ok((at, bypass)) => {
                    prop_assert!(available > 0);
                    prop_assert_eq!(bypass, states[at].0);
                    if bypass {
                        prop_assert!(full, "one that is available has room");
                        prop_assert!(!states[at].1, "an endpoint without a connection");
                        prop_assert!((available as f64) < threshold * states.len() as f64 + 1e-4);
                    }
                }
            }
        }
    }
}

/// A breaker that opens while the balancer looks: it lets calls through for so many looks only.
struct Fleeting(AtomicU32);

impl Available for Fleeting {
    fn is_available(&self, _: Instant) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn is_unreachable(&self) -> bool {
        true
    }
}

#[test]
fn breakers_that_open_during_the_look_leave_nobody_and_no_panic() {
    let (updates, receiver) = Updates::channel();
    updates.set(endpoints(4));
    let (config, now, mut made) = (BalanceConfig::default(), Instant::now(), 0);
    let make = |endpoint: &Endpoint| Fleeting(AtomicU32::new(u32::from(*endpoint.host == *"10.0.0.0")));
    let refresh = &updates.refresh();
    let workshop = Workshop { make: &make, config: &config, zone: None, refresh, epoch: now, made: &mut made };
    let set = Set::unread(receiver, &config).next(now, workshop);
    set.nodes.iter().for_each(|node| node.gauge.refuse(now));
    assert!(set.census(now, true).is_some_and(|census| census.panics()));
    assert!(matches!(set.pick(now, &mut Rng::with_seed(1), None), Err(Nobody::Held { endpoints: 4, .. })));
}
