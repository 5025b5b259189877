use std::time::Duration;

use http::{Method, Request, Response};
use tokio::time::Instant;
use tower_layer::Layer as _;
use tower_service::Service as _;

use super::*;
use crate::{
    cause::Cause,
    client::{
        Attempt, Outcome, RequestBody, UpstreamAttempt,
        retry::{Budget, Retry, RetryConfig, RetryLayer},
        tests::peer::{OK, Peer, Step, after, get, grpc, request, status},
    },
    context::{GRPC_PREVIOUS_ATTEMPTS_HEADER, PREVIOUS_ATTEMPTS_HEADER},
    error::BoxError,
};

type Result = std::result::Result<Response<http_body_util::Full<bytes::Bytes>>, BoxError>;

fn budget(minimum: u32, ratio: f64) -> Budget {
    let config = RetryConfig { budget_min: minimum, budget_ratio: ratio, ..RetryConfig::default() };
    Budget::new(&config, Instant::now().into_std())
}

fn enabled() -> HedgeConfig {
    HedgeConfig { enabled: true, ..HedgeConfig::default() }
}

async fn send(hedge: &Hedge, peer: &Peer, request: Request<RequestBody>) -> Result {
    HedgeLayer::new(hedge.clone()).layer(peer.clone()).call(request).await
}

/// A destination whose calls take 10 ms; a hedge is sent after 11.25 ms at most.
async fn usual(budget: Budget) -> Hedge {
    let hedge = Hedge::new(&enabled(), budget, Instant::now().into_std());
    let peer = Peer::default().then(after(10, OK));
    for _ in 0..HEDGE_MIN_SAMPLES {
        send(&hedge, &peer, get(None)).await.expect("an answer");
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(peer.calls() as u64, HEDGE_MIN_SAMPLES, "nothing is hedged while too little is known");
    hedge
}

const DELAY: std::ops::RangeInclusive<u128> = 10..=13;

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_longer_than_most_is_sent_again_and_the_first_answer_counts() {
    let hedge = usual(budget(10, 0.2)).await;
    let (peer, started) = (Peer::of([after(5000, status(201)), after(10, OK)]), Instant::now());
    let response = send(&hedge, &peer, get(None)).await.expect("an answer");
    assert_eq!(response.status().as_u16(), 200);
    let took = started.elapsed().as_millis();
    assert!((20..=24).contains(&took), "{took} ms, two usual times");
    let seen = peer.seen();
    assert_eq!(seen[0].attempt, Some(Attempt { previous: 0, hedge: false }));
    assert!(!seen[0].headers.contains_key(&PREVIOUS_ATTEMPTS_HEADER));
    assert_eq!(seen[1].attempt, Some(Attempt { previous: 1, hedge: true }));
    assert_eq!((seen[1].headers[&PREVIOUS_ATTEMPTS_HEADER].as_bytes(), seen[1].body), (&b"1"[..], 4));
    assert!(DELAY.contains(&(seen[1].at - started).as_millis()), "{:?}", seen[1].at - started);
    assert_eq!(peer.under_way(), 0, "the other is dropped");
    let counts = hedge.counts(Instant::now().into_std());
    assert_eq!((counts.sent, counts.won, counts.budget_exhausted), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_call_itself_may_still_win() {
    let hedge = usual(budget(10, 0.2)).await;
    let peer = Peer::of([after(30, status(201)), Step::Hang]);
    assert_eq!(send(&hedge, &peer, get(None)).await.expect("an answer").status().as_u16(), 201);
    let counts = hedge.counts(Instant::now().into_std());
    assert_eq!((counts.sent, counts.won, peer.under_way()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_was_held_back_is_neither_sent_nor_lost() {
    let hedge = usual(budget(10, 0.2)).await;
    let peer = Peer::of([after(30, OK), Step::Held(Cause::CircuitOpen)]);
    assert_eq!(send(&hedge, &peer, get(None)).await.expect("an answer").status().as_u16(), 200);
    let counts = hedge.counts(Instant::now().into_std());
    assert_eq!((counts.sent, counts.won, counts.lost, counts.held_back), (0, 0, 0, 1));
}

/// Envoy's hedging on per-try time-outs asks nobody whether a second request does harm.
#[tokio::test(start_paused = true)]
async fn a_call_that_must_not_be_sent_twice_is_not_hedged() {
    let hedge = usual(budget(10, 0.2)).await;
    let mut for_a_retry = get(None);
    for_a_retry.extensions_mut().insert(UpstreamAttempt(1));
    let too_late = get(9);
    for call in [request(Method::POST, false, None), grpc(false, None), for_a_retry, too_late] {
        let peer = Peer::of([after(100, OK)]);
        let _ = send(&hedge, &peer, call).await;
        assert_eq!(peer.calls(), 1);
    }
    let peer = Peer::of([after(100, OK), OK]);
    let _ = send(&hedge, &peer, grpc(true, None)).await;
    assert_eq!(peer.seen()[1].headers[&GRPC_PREVIOUS_ATTEMPTS_HEADER], "1", "a gRPC call that is declared so is");
}

#[tokio::test(start_paused = true)]
async fn off_is_off_and_can_be_changed() {
    let hedge = usual(budget(10, 0.2)).await;
    hedge.configure(&HedgeConfig::default());
    let peer = Peer::default().then(after(100, OK));
    send(&hedge, &peer, get(None)).await.expect("an answer");
    assert_eq!((peer.calls(), hedge.counts(Instant::now().into_std()).delay), (1, None));
    hedge.configure(&HedgeConfig { min_delay: crate::config::Duration::from_millis(50), ..enabled() });
    let started = Instant::now();
    send(&hedge, &peer, get(None)).await.expect("an answer");
    let seen = peer.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!((seen[2].at - started).as_millis(), 50, "not before the shortest wait");
}

#[tokio::test(start_paused = true)]
async fn hedges_end_with_the_budget_that_they_share_with_retries() {
    let budget = budget(0, 0.1);
    let hedge = usual(budget.clone()).await;
    // A hundred calls have paid in nothing: without a known delay the retries inside would have, and there are none.
    let peer = Peer::default().then(after(15, OK));
    for _ in 0..50 {
        send(&hedge, &peer, get(None)).await.expect("an answer");
    }
    let counts = hedge.counts(Instant::now().into_std());
    assert_eq!(counts.sent + counts.budget_exhausted, 50);
    assert!(counts.sent <= 5 && counts.sent > 0, "{counts:?}");
    assert_eq!(budget.counts(Instant::now().into_std()).withdrawn, counts.sent);
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_hedge_is_the_calls() {
    let hedge = usual(budget(10, 0.2)).await;
    let peer = Peer::of([after(5, status(503))]);
    assert_eq!(send(&hedge, &peer, get(None)).await.expect("an answer").status().as_u16(), 503);
    assert_eq!(peer.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bad_answer_of_one_waits_for_the_other() {
    let hedge = usual(budget(10, 0.2)).await;
    for (steps, expected) in [
        ([after(20, status(503)), after(30, OK)], Ok(200)),
        ([after(60, OK), after(10, status(503))], Ok(200)),
        ([after(20, Step::BrokenOff), after(30, OK)], Ok(200)),
        // Both are bad: an answer before an error, the call's own before its hedge's.
        ([after(20, Step::BrokenOff), after(30, status(500))], Ok(500)),
        ([after(60, status(502)), after(10, status(503))], Ok(502)),
        ([after(60, Step::TimedOut), after(10, Step::BrokenOff)], Err(Outcome::TimedOut)),
    ] {
        let peer = Peer::of(steps);
        let result = send(&hedge, &peer, get(None)).await;
        let found = result.map(|response| response.status().as_u16()).map_err(|error| Outcome::of_error(&error));
        assert_eq!((found, peer.under_way()), (expected, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_ends_both_attempts() {
    let hedge = usual(budget(10, 0.2)).await;
    let peer = Peer::of([Step::Hang, Step::Hang]);
    let call = send(&hedge, &peer, get(None));
    assert!(tokio::time::timeout(Duration::from_secs(1), call).await.is_err());
    assert_eq!((peer.calls(), peer.under_way()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn failures_do_not_shorten_the_delay() {
    let hedge = usual(budget(10, 0.2)).await;
    let before = hedge.counts(Instant::now().into_std()).delay;
    let peer = Peer::default().then(status(503));
    // So many that the usual calls are no hundredth of all.
    for _ in 0..20_000 {
        let _ = send(&hedge, &peer, get(None)).await;
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(hedge.counts(Instant::now().into_std()).delay, before);
    assert!(before.is_some());
}

/// The call and its hedge share the attempts: three in all, not three each.
#[tokio::test(start_paused = true)]
async fn legs_count_their_attempts_together_and_pay_in_once() {
    let budget = budget(100, 0.2);
    let hedge = usual(budget.clone()).await;
    let config = RetryConfig { budget_min: 100, ..RetryConfig::default() };
    let retry = Retry::new(&config, budget.clone());
    // The first hangs until after the hedge, then all fail at once.
    let peer = Peer::of([after(30, status(503)), status(503), status(503)]);
    let stack = RetryLayer::new(retry.clone()).layer(peer.clone());
    let calls = budget.counts(Instant::now().into_std()).calls;
    let mut stack = HedgeLayer::new(hedge.clone()).layer(stack);
    let response = stack.call(get(None)).await.expect("an answer");
    assert_eq!((response.status().as_u16(), peer.calls()), (503, 3));
    let previous: Vec<_> = peer.seen().iter().filter_map(|seen| seen.attempt).map(|attempt| attempt.previous).collect();
    assert_eq!(previous, [0, 1, 2]);
    let counts = budget.counts(Instant::now().into_std());
    assert_eq!((counts.calls - calls, counts.withdrawn), (1, 2), "one call, a hedge and a retry");
    assert_eq!(retry.counts().retries(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_counts_the_attempts_that_the_call_has_had() {
    let budget = budget(100, 0.2);
    let hedge = usual(budget.clone()).await;
    let millisecond = crate::config::Duration::from_millis(1);
    let config =
        RetryConfig { budget_min: 100, backoff: millisecond, max_backoff: millisecond, ..RetryConfig::default() };
    let peer = Peer::of([status(503), Step::Hang, OK]);
    let stack = RetryLayer::new(Retry::new(&config, budget)).layer(peer.clone());
    let response = HedgeLayer::new(hedge).layer(stack).call(get(None)).await.expect("an answer");
    assert_eq!(response.status().as_u16(), 200);
    let attempts: Vec<_> = peer.seen().iter().filter_map(|seen| seen.attempt).collect();
    let attempt = |previous, hedge| Attempt { previous, hedge };
    assert_eq!(attempts, [attempt(0, false), attempt(1, false), attempt(2, true)]);
    assert_eq!(peer.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_is_counted_as_won_or_lost_when_its_race_is_over() {
    let hedge = usual(budget(10, 0.2)).await;
    let counted = |hedge: &Hedge| {
        let counts = hedge.counts(Instant::now().into_std());
        (counts.sent, counts.won, counts.lost)
    };
    let peer = Peer::of([after(100, OK), OK, after(100, OK), Step::Hang, Step::Hang, Step::Hang]);
    send(&hedge, &peer, get(None)).await.expect("the hedge's answer");
    assert_eq!(counted(&hedge), (1, 1, 0));
    let call = send(&hedge, &peer, get(None));
    let mut call = std::pin::pin!(call);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut call).await.is_err());
    assert_eq!(counted(&hedge), (2, 1, 0), "a race that goes on is neither won nor lost");
    call.await.expect("the first's answer");
    assert_eq!(counted(&hedge), (2, 1, 1));
    let given_up = send(&hedge, &peer, get(None));
    assert!(tokio::time::timeout(Duration::from_millis(50), given_up).await.is_err());
    assert_eq!(counted(&hedge), (3, 1, 2), "dropped with its call");
}
