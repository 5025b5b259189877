//! One endpoint of several fails, in every way that sockets know: no call may be lost, and few may be slow.
//!
//! The calls are idempotent, as GET is. Each test states the figure it holds.

use std::time::Duration;

use crate::support::replica::{Caller, Mode, Replica, target};

const CALLS: usize = 2_000;
const CALLERS: usize = 8;

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
    let settings = "clients.shop.breaker.open_wait";
    let caller = Caller::with(&target(&replicas), |builder| builder.set(settings, "200ms")).await;
    caller.calls(300, CALLERS).await.none_failed();
    let mut victim = replicas.remove(0);
    caller.calls_while(CALLS, CALLERS, victim.kill()).await.none_failed();
    // It is tried again each second, although the balancer would rather not; so its state is known.
    tokio::time::timeout(Duration::from_secs(5), async {
        while caller.dependency().await["status"] != "degraded" {
            caller.calls(50, CALLERS).await.none_failed();
        }
    })
    .await
    .expect("operators see that it is gone");

    victim.revive().await;
    let before = victim.requests();
    // Bounded by the test's own patience: the wait doubles while probes fail, and is 60 s at most by default.
    tokio::time::timeout(Duration::from_secs(10), async {
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
    let caller = Caller::of(&target(&replicas)).await;
    let before = counts(&replicas);
    caller.calls(CALLS, CALLERS).await.none_failed();
    let share = share(&replicas, 0, &before);
    assert!(share < 0.02, "the failing endpoint got {:.1} % of the requests", share * 100.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_resets_connections_costs_no_call() {
    let replicas = Replica::healthy(4).await;
    let caller = Caller::of(&target(&replicas)).await;
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
    let patience = Duration::from_millis(200);
    let caller = Caller::with(&target(&replicas), |builder| builder.set("clients.shop.attempt_timeout", "200ms")).await;
    caller.calls(200, CALLERS).await.none_failed();
    replicas[0].set(Mode::Silent);
    let tally = caller.calls(CALLS, CALLERS).await;
    tally.none_failed();
    // Seven failures in a row open its breaker; as many callers as there are may wait beside them.
    let slow = tally.slower_than(patience);
    assert!(slow <= 7 + CALLERS, "{slow} calls waited for the silent endpoint");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_endpoint_gets_less_than_its_share() {
    let replicas = Replica::healthy(4).await;
    replicas[0].set(Mode::Slow(Duration::from_millis(50)));
    let caller = Caller::of(&target(&replicas)).await;
    caller.calls(200, CALLERS).await.none_failed();
    let before = counts(&replicas);
    caller.calls(CALLS, CALLERS).await.none_failed();
    let share = share(&replicas, 0, &before);
    assert!(share < 0.05, "the slow endpoint got {:.1} % of the requests, a fair share is 25 %", share * 100.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_ten_endpoints_dead_costs_no_call() {
    let mut replicas = Replica::healthy(10).await;
    let caller = Caller::of(&target(&replicas)).await;
    caller.calls(500, CALLERS).await.none_failed();
    let (dead, alive) = replicas.split_at_mut(5);
    let kill = async {
        for replica in dead {
            replica.kill().await;
        }
    };
    let tally = caller.calls_while(CALLS, CALLERS, kill).await;
    tally.none_failed();
    assert!(alive.iter().all(|replica| replica.requests() > 50), "all five that are left share the load");
    assert!(tally.within(0.99) < Duration::from_millis(100), "p99 {:?}", tally.within(0.99));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_endpoints_dead_a_call_fails_within_milliseconds_and_says_so() {
    let mut replicas = Replica::healthy(3).await;
    let caller = Caller::of(&target(&replicas)).await;
    caller.calls(100, CALLERS).await.none_failed();
    for replica in &mut replicas {
        replica.kill().await;
    }
    // The breakers open on the way.
    let tally = caller.calls(200, CALLERS).await;
    assert!(tally.answered.is_empty(), "nobody is there to answer");
    let mut late = Vec::new();
    for _ in 0..100 {
        let started = std::time::Instant::now();
        let error = caller.get().await.expect_err("nobody is there to answer");
        late.push(started.elapsed());
        assert!(error.is_not_sent(), "{error}");
        let text = error.to_string();
        assert!(text.contains("circuit_open") || text.contains("no connection"), "{text}");
    }
    late.sort();
    assert!(late[50] < Duration::from_millis(5), "half of the calls failed only after {:?}", late[50]);

    // And it is found again within about a second, although every breaker was open.
    for replica in &mut replicas {
        replica.revive().await;
    }
    tokio::time::timeout(Duration::from_secs(5), async { while caller.get().await.is_err() {} })
        .await
        .expect("found again");
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
