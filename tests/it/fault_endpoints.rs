//! One endpoint of several fails, in every way that sockets know: no call may be lost, and few may be slow.
//!
//! The calls are idempotent, as GET is. Each test states the figure it holds.

use std::time::{Duration, Instant};

use chassis::testing::TestServiceBuilder;

use crate::support::{
    pace::{PATIENCE, Pace, setting},
    replica::{Caller, Mode, Replica, target},
};

const CALLS: usize = 2_000;
const CALLERS: usize = 8;
/// Attempts that an endpoint can spoil before its breaker keeps calls from it: seven failures in a row open it, and each caller
/// may have an attempt there by then.
const UNTIL_OPEN: u64 = 7 + CALLERS as u64;
/// Longer than any test: a breaker that has opened stays open, however slow the machine is.
const FOR_EVER: &str = "1h";
const OPEN_WAIT: &str = "clients.shop.breaker.open_wait";
const MAX_OPEN_WAIT: &str = "clients.shop.breaker.max_open_wait";

/// A caller whose breakers stay open.
async fn unforgiving(replicas: &[Replica]) -> Caller {
    Caller::with(&target(replicas), |builder| builder.set(OPEN_WAIT, FOR_EVER).set(MAX_OPEN_WAIT, FOR_EVER)).await
}

/// The share of the requests that this one of them got.
fn share(replicas: &[Replica], of: usize, before: &[u64]) -> f64 {
    let got: Vec<u64> = replicas.iter().zip(before).map(|(replica, before)| replica.requests() - before).collect();
    #[allow(clippy::cast_precision_loss, reason = "counts")]
    let share = got[of] as f64 / got.iter().sum::<u64>() as f64;
    share
}

fn counts(replicas: &[Replica]) -> Vec<u64> {
    replicas.iter().map(Replica::requests).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_endpoint_costs_no_call_and_comes_back_by_itself() {
    let mut replicas = Replica::healthy(3).await;
    let caller =
        Caller::with(&target(&replicas), |builder| builder.set(OPEN_WAIT, "200ms").set(MAX_OPEN_WAIT, "1s")).await;
    caller.calls(300, CALLERS).await.none_failed();
    let mut victim = replicas.remove(0);
    caller.calls_while(CALLS, CALLERS, victim.kill()).await.none_failed();
    // It is tried again each second, although the balancer would rather not; so its state is known.
    tokio::time::timeout(PATIENCE, async {
        while caller.dependency().await["status"] != "degraded" {
            caller.calls(50, CALLERS).await.none_failed();
        }
    })
    .await
    .expect("operators see that it is gone");

    victim.revive().await;
    let before = victim.requests();
    tokio::time::timeout(PATIENCE, async {
        while victim.requests() < before + 20 {
            caller.calls(50, CALLERS).await.none_failed();
        }
    })
    .await
    .expect("the endpoint gets calls again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_fast_attracts_no_traffic_and_costs_no_call() {
    let replicas = Replica::healthy(4).await;
    replicas[0].set(Mode::Failing);
    let caller = unforgiving(&replicas).await;
    let before = counts(&replicas);
    caller.calls(CALLS, CALLERS).await.none_failed();
    let share = share(&replicas, 0, &before);
    assert!(share < 0.02, "the failing endpoint got {:.1} % of the requests", share * 100.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_resets_connections_costs_no_call() {
    let replicas = Replica::healthy(4).await;
    let caller = unforgiving(&replicas).await;
    caller.calls(200, CALLERS).await.none_failed();
    replicas[0].set(Mode::Resetting);
    let before = counts(&replicas);
    caller.calls(CALLS, CALLERS).await.none_failed();
    let share = share(&replicas, 0, &before);
    assert!(share < 0.02, "the resetting endpoint got {:.1} % of the requests", share * 100.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_accepts_and_never_answers_costs_no_call_and_a_handful_wait() {
    let replicas = Replica::healthy(4).await;
    let attempt = Pace::measure().at_least(Duration::from_millis(200));
    let caller = Caller::with(&target(&replicas), |builder| {
        let builder = builder.set("clients.shop.attempt_timeout", setting(attempt));
        // Three attempts of a call may wait one after the other.
        let builder = builder.set("clients.shop.timeout", setting(5 * attempt));
        builder.set(OPEN_WAIT, FOR_EVER).set(MAX_OPEN_WAIT, FOR_EVER)
    })
    .await;
    caller.calls(200, CALLERS).await.none_failed();
    replicas[0].set(Mode::Silent);
    let before = replicas[0].requests();
    caller.calls(CALLS, CALLERS).await.none_failed();
    let waited = replicas[0].requests() - before;
    assert!((1..=UNTIL_OPEN).contains(&waited), "{waited} attempts waited for the silent endpoint");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_endpoint_gets_less_than_its_share() {
    let replicas = Replica::healthy(4).await;
    // Slow beside the others, whatever the machine makes of those.
    replicas[0].set(Mode::Slow(40 * Pace::measure().unit()));
    let caller = Caller::of(&target(&replicas)).await;
    caller.calls(200, CALLERS).await.none_failed();
    let before = counts(&replicas);
    caller.calls(CALLS, CALLERS).await.none_failed();
    let share = share(&replicas, 0, &before);
    assert!(share < 0.1, "the slow endpoint got {:.1} % of the requests, a fair share is 25 %", share * 100.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_ten_endpoints_dead_costs_no_call() {
    let mut replicas = Replica::healthy(10).await;
    let caller = unforgiving(&replicas).await;
    caller.calls(500, CALLERS).await.none_failed();
    let (dead, alive) = replicas.split_at_mut(5);
    let kill = async {
        for replica in &mut *dead {
            replica.kill().await;
        }
    };
    caller.calls_while(CALLS, CALLERS, kill).await.none_failed();
    assert!(alive.iter().all(|replica| replica.requests() > 50), "all five that are left share the load");
    // A call is late by its failed attempts, which are refused at once, and by nothing else.
    for replica in dead {
        let spoiled = caller.attempts(replica.address()).await.spoiled;
        assert!(spoiled <= UNTIL_OPEN, "{spoiled} attempts at one dead endpoint");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_endpoints_dead_a_call_fails_within_milliseconds_and_says_so() {
    let pace = Pace::measure();
    let mut replicas = Replica::healthy(3).await;
    let caller = Caller::of(&target(&replicas)).await;
    let quiet = caller.calls(100, 1).await;
    quiet.none_failed();
    for replica in &mut replicas {
        replica.kill().await;
    }
    // The breakers open on the way.
    let tally = caller.calls(200, CALLERS).await;
    assert!(tally.answered.is_empty(), "nobody is there to answer");
    let mut late = Vec::new();
    for _ in 0..100 {
        let started = Instant::now();
        let error = caller.get().await.expect_err("nobody is there to answer");
        late.push(started.elapsed());
        assert!(error.is_not_sent(), "{error}");
        let text = error.to_string();
        assert!(text.contains("circuit_open") || text.contains("no connection"), "{text}");
    }
    late.sort();
    // About as fast as an answer: the shortest wait of a retry would be longer by far.
    let most = 10 * quiet.median();
    assert!(late[50] < most, "half of the calls failed only after {:?}, answers took {:?}", late[50], quiet.median());

    // And it is found again within about a second, although every breaker was open.
    for replica in &mut replicas {
        replica.revive().await;
    }
    let found = async { while caller.get().await.is_err() {} };
    pace.within("the destination is found again", Duration::from_secs(4), found).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_go_to_the_one_endpoint_with_room() {
    let replicas = Replica::healthy(3).await;
    // Without probes: these are orders too.
    let caller =
        Caller::with(&target(&replicas), |builder| builder.set(OPEN_WAIT, FOR_EVER).set(MAX_OPEN_WAIT, FOR_EVER)).await;
    replicas[1..].iter().for_each(|replica| replica.set(Mode::Failing));
    let opened = tokio::time::timeout(PATIENCE, async {
        loop {
            let _ = caller.order().await;
            let states = breakers(&caller).await;
            if states.iter().filter(|state| *state == "open").count() == 2 {
                return;
            }
        }
    });
    opened.await.expect("the breakers of both that fail open");
    let mut lost = 0;
    for _ in 0..1_000 {
        // One at a time: the endpoint has room, whatever this machine is busy with.
        lost += usize::from(caller.order().await.is_err());
    }
    assert_eq!(lost, 0, "of 1000 orders");
}

/// The states of the breakers.
async fn breakers(caller: &Caller) -> Vec<String> {
    let page = caller.dependency().await;
    let endpoints = page["endpoints"].as_array().cloned().unwrap_or_default();
    endpoints.iter().map(|endpoint| endpoint["breaker"]["state"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_endpoint_is_not_held_back() {
    let mut replicas = Replica::healthy(1).await;
    let waits = |builder: TestServiceBuilder| builder.set(OPEN_WAIT, FOR_EVER).set(MAX_OPEN_WAIT, FOR_EVER);
    let caller = Caller::with(&target(&replicas), waits).await;
    for restart in 0..3 {
        caller.get().await.unwrap_or_else(|error| panic!("restart {restart}: {error}"));
        replicas[0].kill().await;
        let opened = tokio::time::timeout(PATIENCE, async {
            while breakers(&caller).await != ["open"] {
                caller.get().await.expect_err("nobody is there to answer");
            }
        });
        opened.await.expect("its breaker opens");
        replicas[0].revive().await;
        let back = tokio::time::timeout(PATIENCE, async {
            while breakers(&caller).await != ["closed"] {
                let _ = caller.get().await;
            }
        });
        back.await.expect("probed long before the wait of an hour is over");
    }
}

/// Restarts of two endpoints in turn, each away for half a second, 1.2 s apart, with every wait of the breaker at its default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a promise"]
async fn twenty_restarts_one_after_the_other() {
    let mut replicas = Replica::healthy(2).await;
    let caller = Caller::of(&target(&replicas)).await;
    caller.calls(300, CALLERS).await.none_failed();
    let restarts = async {
        for restart in 0..20 {
            replicas[restart % 2].kill().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            replicas[restart % 2].revive().await;
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    };
    let tally = caller.calls_until(CALLERS, restarts).await;
    let held = tally.failed.iter().filter(|(_, error)| error.to_string().contains("circuit_open")).count();
    println!("{held} of {} calls held back, {} failed", tally.failed.len() + tally.answered.len(), tally.failed.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_storm_stays_within_the_budget() {
    let replicas = Replica::healthy(3).await;
    for replica in &replicas {
        replica.set(Mode::Failing);
    }
    let caller = Caller::with(&target(&replicas), |builder| {
        let builder = builder.set("clients.shop.breaker.mode", "disabled").set("clients.shop.retry.budget_min", "0");
        builder.set("clients.shop.retry.backoff", "1ms").set("clients.shop.retry.max_backoff", "2ms")
    })
    .await;
    let before: u64 = counts(&replicas).iter().sum();
    let calls = 4_000;
    let tally = caller.calls(calls, 32).await;
    assert_eq!(tally.failed.len(), calls, "every endpoint fails");
    let offered = counts(&replicas).iter().sum::<u64>() - before;
    #[allow(clippy::cast_precision_loss, reason = "counts")]
    let amplification = offered as f64 / calls as f64;
    assert!((1.0..=1.2).contains(&amplification), "{offered} requests of {calls} calls: {amplification:.3}");
    assert!(amplification > 1.1, "the budget of a fifth is used: {amplification:.3}");
}
