use std::time::Duration;

use http::{Method, Request, Response};
use tokio::time::Instant;
use tower_layer::Layer as _;
use tower_service::Service as _;

use super::*;
use crate::{
    cause::Cause,
    client::{
        Attempt, CallInfo, Outcome, RequestBody, UpstreamAttempt,
        balance::{Others, Tried},
        tests::peer::{OK, Peer, Step, after, get, grpc, request, status},
    },
    context::{GRPC_PREVIOUS_ATTEMPTS_HEADER, PREVIOUS_ATTEMPTS_HEADER},
    error::BoxError,
};

type Result = std::result::Result<Response<RetryBody<http_body_util::Full<bytes::Bytes>>>, BoxError>;

fn generous() -> RetryConfig {
    RetryConfig { budget_min: 1000, ..RetryConfig::default() }
}

fn retry(config: &RetryConfig) -> Retry {
    Retry::new(config, Budget::new(config, Instant::now().into_std()))
}

async fn send(retry: &Retry, peer: &Peer, request: Request<RequestBody>) -> Result {
    RetryLayer::new(retry.clone()).layer(peer.clone()).call(request).await
}

/// What the call came to, after how many attempts.
async fn outcome(steps: impl IntoIterator<Item = Step>, request: Request<RequestBody>) -> (Outcome, usize) {
    let protocol = request.extensions().get::<CallInfo>().expect("a call").protocol;
    let peer = Peer::of(steps);
    let outcome = match send(&retry(&generous()), &peer, request).await {
        Ok(response) => Outcome::of_head(protocol, &response).unwrap_or(Outcome::Success),
        Err(error) => Outcome::of_error(&error),
    };
    (outcome, peer.calls())
}

fn post() -> Request<RequestBody> {
    request(Method::POST, false, None)
}

const BUSY: Step = Step::Answer(503, &[("retry-after", "1")]);

#[tokio::test(start_paused = true)]
async fn a_failure_of_an_idempotent_call_is_tried_again() {
    assert_eq!(outcome([status(503), OK], get(None)).await, (Outcome::Success, 2));
    assert_eq!(outcome([Step::BrokenOff, OK], get(None)).await, (Outcome::Success, 2));
    assert_eq!(outcome([Step::TimedOut, status(500), OK], get(None)).await, (Outcome::Success, 3));
    assert_eq!(
        outcome([status(503), OK], request(Method::POST, true, None)).await,
        (Outcome::Success, 2),
        "declared so"
    );
    assert_eq!(outcome([status(503), status(503), status(503)], get(None)).await, (Outcome::Failed, 3), "three in all");
}

#[tokio::test(start_paused = true)]
async fn a_post_that_an_endpoint_may_have_seen_is_sent_once() {
    for step in [status(503), Step::BrokenOff, Step::TimedOut, BUSY, Step::Answer(429, &[("retry-after", "1")])] {
        assert_eq!(outcome([step], post()).await.1, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_tried_again_whatever_it_is() {
    assert_eq!(outcome([Step::Unreachable, OK], post()).await, (Outcome::Success, 2));
    assert_eq!(outcome([Step::Untouched, OK], post()).await, (Outcome::Success, 2));
    assert_eq!(
        outcome([Step::Unreachable, status(503)], post()).await,
        (Outcome::Failed, 2),
        "and no further once sent"
    );
}

/// Dapr retries every status above 399.
#[tokio::test(start_paused = true)]
async fn a_mistake_of_the_caller_is_not_tried_again() {
    for code in [400, 401, 403, 404, 409, 412, 422, 501] {
        assert_eq!(outcome([status(code)], get(None)).await, (Outcome::Success, 1), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_this_side_held_back_is_told_at_once() {
    let started = Instant::now();
    for cause in [Cause::CircuitOpen, Cause::NoEndpoints, Cause::BulkheadFull, Cause::DeadlineExceeded] {
        assert_eq!(outcome([Step::Held(cause)], get(None)).await, (Outcome::Refused(cause), 1));
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_turned_a_call_away_is_asked_again_when_it_said() {
    let started = Instant::now();
    assert_eq!(outcome([status(429)], get(None)).await, (Outcome::Throttled, 1), "it did not say");
    assert_eq!(started.elapsed(), Duration::ZERO);
    let asked = Step::Answer(429, &[("retry-after", "1")]);
    assert_eq!(outcome([asked, OK], get(None)).await, (Outcome::Success, 2));
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_millis(1030), "{waited:?}");
}

/// Retries that begin after the deadline are work for nobody; go-micro and Dapr make them.
#[tokio::test(start_paused = true)]
async fn no_retry_past_the_deadline_and_the_answer_is_handed_on_as_it_is() {
    let (peer, retry) = (Peer::of([BUSY]), retry(&generous()));
    let response = send(&retry, &peer, get(900)).await.expect("the answer");
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
    let body = http_body_util::BodyExt::collect(response.into_body()).await.expect("the body");
    assert_eq!(body.to_bytes(), "answer 503", "its body unread");
    assert_eq!((peer.calls(), retry.counts().too_late), (1, 1));
    assert_eq!(retry.budget().counts(Instant::now().into_std()).withdrawn, 0, "a retry that is not made costs nothing");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_took_all_of_the_time_is_the_last() {
    let (peer, retry) = (Peer::of([after(100, Step::TimedOut)]), retry(&generous()));
    let error = send(&retry, &peer, get(100)).await.expect_err("no time is left");
    assert_eq!((Outcome::of_error(&error), peer.calls()), (Outcome::TimedOut, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_for_a_request_that_is_a_retry_is_not_tried_again() {
    for (upstream, attempts) in [(0, 2), (1, 1)] {
        let mut request = get(None);
        request.extensions_mut().insert(UpstreamAttempt(upstream));
        assert_eq!(outcome([status(503), OK], request).await.1, attempts, "{upstream} attempts before");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_tried_again_also_for_a_request_that_is_a_retry() {
    for call in [get(None), post()] {
        let mut request = call;
        request.extensions_mut().insert(UpstreamAttempt(1));
        assert_eq!(outcome([Step::Unreachable, status(503)], request).await, (Outcome::Failed, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn endpoint_and_layers_inside_are_told_which_attempt_it_is() {
    for (call, header, other) in [
        (get(None), PREVIOUS_ATTEMPTS_HEADER, GRPC_PREVIOUS_ATTEMPTS_HEADER),
        (grpc(true, None), GRPC_PREVIOUS_ATTEMPTS_HEADER, PREVIOUS_ATTEMPTS_HEADER),
    ] {
        let peer = Peer::of([status(503), status(503), OK]);
        let _ = send(&retry(&generous()), &peer, call).await;
        let seen = peer.seen();
        assert_eq!(seen.len(), 3);
        assert_eq!((seen[0].attempt, seen[0].headers.get(&header)), (None, None), "the first says nothing");
        for (previous, seen) in (1..).zip(&seen[1..]) {
            assert_eq!(seen.attempt, Some(Attempt { previous, hedge: false }));
            assert_eq!(seen.headers[&header], previous.to_string());
            assert!(!seen.headers.contains_key(&other));
            assert_eq!(seen.body, 4, "with the whole body");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_sent_once_even_if_nobody_got_it() {
    let stream = RequestBody::stream(http_body_util::StreamBody::new(Never));
    assert_eq!(outcome([Step::Unreachable], get(None).map(|_| stream)).await.1, 1);
}

struct Never;

impl futures_core::Stream for Never {
    type Item = std::result::Result<http_body::Frame<bytes::Bytes>, BoxError>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn of_grpc_only_an_answer_that_is_nothing_but_a_status_is_tried_again() {
    let unavailable = Step::Answer(200, &[("grpc-status", "14")]);
    assert_eq!(outcome([unavailable.clone(), OK], grpc(true, None)).await, (Outcome::Success, 2), "trailers only");
    assert_eq!(outcome([unavailable], grpc(false, None)).await, (Outcome::Failed, 1));
    // What follows the head may be anything; the caller has it.
    assert_eq!(outcome([OK], grpc(true, None)).await, (Outcome::Success, 1));
    let invalid = Step::Answer(200, &[("grpc-status", "3")]);
    assert_eq!(outcome([invalid], grpc(true, None)).await, (Outcome::Success, 1));
}

#[tokio::test(start_paused = true)]
async fn a_push_back_is_followed_to_the_millisecond_or_forbids_the_retry() {
    let started = Instant::now();
    let wait = Step::Answer(200, &[("grpc-status", "8"), ("grpc-retry-pushback-ms", "321")]);
    assert_eq!(outcome([wait, OK], grpc(true, None)).await, (Outcome::Success, 2));
    assert_eq!(started.elapsed(), Duration::from_millis(321));
    for step in [
        Step::Answer(200, &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")]),
        Step::Answer(200, &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "soon")]),
    ] {
        assert_eq!(outcome([step], grpc(true, None)).await, (Outcome::Failed, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_ends_the_retries_and_is_counted() {
    let config = RetryConfig { budget_min: 0, budget_ratio: 0.2, ..RetryConfig::default() };
    let (peer, retry) = (Peer::default().then(status(503)), retry(&config));
    for _ in 0..100 {
        let _ = send(&retry, &peer, get(None)).await;
    }
    assert_eq!(peer.calls(), 120, "amplification is 1.2");
    let counts = retry.counts();
    assert_eq!((counts.retries(), counts.failed), (20, 20));
    assert!(counts.budget_exhausted >= 80, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn retries_sent_and_held_back_are_counted_apart() {
    let held = [Cause::CircuitOpen, Cause::BulkheadFull].map(Step::Held);
    let (retry, sent) = (retry(&generous()), [status(503), status(503), OK]);
    send(&retry, &Peer::of(sent), get(None)).await.expect("the third answer");
    let counts = retry.counts();
    assert_eq!((counts.retries(), counts.failed, counts.held_back), (2, 2, 0));
    for step in held {
        let _ = send(&retry, &Peer::of([status(503), step]), get(None)).await;
    }
    // Given up during the wait, nothing was sent.
    let peer = Peer::of([BUSY, OK]);
    let waiting = send(&retry, &peer, get(None));
    assert!(tokio::time::timeout(Duration::from_millis(1), waiting).await.is_err());
    let counts = retry.counts();
    assert_eq!((counts.retries(), counts.held_back), (2, 3), "{counts:?}");
    assert_eq!(retry.held_back(), [("circuit_open", 1), ("bulkhead_full", 1), ("cancelled", 1)]);
    // Given up once it was sent, it counts as sent.
    let peer = Peer::of([status(503), after(60_000, OK)]);
    let hanging = send(&retry, &peer, get(None));
    assert!(tokio::time::timeout(Duration::from_secs(30), hanging).await.is_err());
    assert_eq!(retry.counts().retries(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_time_out_costs_twice() {
    let config = RetryConfig { budget_min: 0, budget_ratio: 1.0, attempts: 2, ..RetryConfig::default() };
    let (peer, retry) = (Peer::default().then(Step::TimedOut), retry(&config));
    for _ in 0..100 {
        let _ = send(&retry, &peer, get(None)).await;
    }
    assert_eq!(peer.calls(), 150);
}

#[tokio::test(start_paused = true)]
async fn other_settings_count_for_the_next_attempt_and_keep_the_counts() {
    let (peer, retry) = (Peer::default().then(status(503)), retry(&generous()));
    let _ = send(&retry, &peer, get(None)).await;
    assert_eq!(peer.calls(), 3);
    retry.configure(&RetryConfig { attempts: 1, ..generous() });
    let _ = send(&retry, &peer, get(None)).await;
    assert_eq!((peer.calls(), retry.counts().failed), (4, 2));
    retry.configure(&RetryConfig { attempts: 5, ..generous() });
    let _ = send(&retry, &peer, get(None)).await;
    assert_eq!(peer.calls(), 9);
}

/// A call of which one attempt was sent is not "never sent" because its retry was not: the caller would send a POST again.
#[tokio::test(start_paused = true)]
async fn a_retry_that_was_held_back_does_not_make_the_call_unsent() {
    let peer = Peer::of([Step::BrokenOff, Step::Held(Cause::CircuitOpen)]);
    let error = send(&retry(&generous()), &peer, get(None)).await.expect_err("both failed");
    assert_eq!(Outcome::of_error(&error), Outcome::Failed, "{error}");
    assert!(error.to_string().contains("broke"), "{error}");
    let never = [Step::Unreachable, Step::Held(Cause::CircuitOpen)];
    assert_eq!(outcome(never, post()).await, (Outcome::Refused(Cause::CircuitOpen), 2), "that one was never sent");
}

#[tokio::test(start_paused = true)]
async fn when_a_retry_was_not_sent_the_answer_before_it_is_the_calls() {
    for last in [Step::Held(Cause::CircuitOpen), Step::Unreachable] {
        let peer = Peer::of([Step::Answer(503, &[("x-from", "the endpoint")]), last.clone(), last.clone()]);
        let response = send(&retry(&generous()), &peer, get(None)).await.expect("the endpoint's answer");
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-from"]),
            (503, &"the endpoint".parse().unwrap())
        );
        assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(10));
        let body = http_body_util::BodyExt::collect(response.into_body()).await.expect("the body");
        assert_eq!(body.to_bytes(), "answer 503", "with all of its body");
        let refused = Step::Answer(200, &[("grpc-status", "14"), ("grpc-message", "shutting down")]);
        let peer = Peer::of([refused, last.clone(), last]);
        let response = send(&retry(&generous()), &peer, grpc(true, None)).await.expect("the endpoint's answer");
        let status = tonic::Status::from_header_map(response.headers()).expect("a status");
        assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "shutting down"));
    }
}

/// `Retry-After` of one instance says nothing of the others.
#[tokio::test(start_paused = true)]
async fn a_retry_elsewhere_does_not_wait_for_the_instance_that_asked_for_it() {
    struct Other(bool);
    impl Others for Other {
        fn has_untried(&self, _: &Tried) -> bool {
            self.0
        }
    }
    for (other, shortest, longest) in [(true, 0, 25), (false, 1000, 1025)] {
        for answer in [BUSY, Step::Answer(429, &[("retry-after", "1")])] {
            let tried = Tried::new();
            tried.ask(|| std::sync::Arc::new(Other(other)));
            let mut request = get(None);
            request.extensions_mut().insert(tried);
            let started = Instant::now();
            assert_eq!(outcome([answer, OK], request).await, (Outcome::Success, 2));
            let waited = started.elapsed().as_millis();
            assert!((shortest..=longest).contains(&waited), "{waited} ms, another is there: {other}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_ends_its_attempt_and_makes_no_other() {
    let peer = Peer::of([status(503), Step::Hang]);
    let retry = retry(&generous());
    let call = send(&retry, &peer, get(None));
    assert!(tokio::time::timeout(Duration::from_secs(5), call).await.is_err());
    assert_eq!((peer.calls(), peer.under_way()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_small_rest_of_a_failed_answer_is_read_and_a_large_one_let_go() {
    use http_body_util::StreamBody;

    use super::drain::{DRAIN_LIMIT, drop_or_keep};

    let read = |size: usize| async move {
        let polls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        drop_or_keep(Counted(vec![0u8; size].into(), polls.clone()), Instant::now()).await;
        polls.load(std::sync::atomic::Ordering::Relaxed)
    };
    assert_eq!(
        (read(DRAIN_LIMIT as usize).await, read(DRAIN_LIMIT as usize + 1).await),
        (2, 0),
        "to its end, or not at all"
    );
    // One that does not come takes no longer than the wait.
    let started = Instant::now();
    drop_or_keep(StreamBody::new(Never), started + Duration::from_millis(20)).await;
    assert_eq!(started.elapsed(), Duration::from_millis(20));
}

/// A body that says how long it is, and how often it was asked.
struct Counted(http_body_util::Full<bytes::Bytes>, std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl http_body::Body for Counted {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<std::result::Result<http_body::Frame<bytes::Bytes>, std::convert::Infallible>>> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}
