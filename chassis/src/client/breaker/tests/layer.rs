//! The layer, with a service that answers as it is told and a clock that stands still.

use std::{convert::Infallible, future::pending};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;
use crate::{
    client::{
        CallInfo, NotSent, RequestBody, TimedOut,
        balance::{Available as _, Bypass},
        deadline::{AttemptTimeout, AttemptTimeoutLayer},
        tests::peer::{self, OK, Peer, Step, after},
    },
    error::BoxError,
};

type Answer = Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;
type Frames = Vec<Result<Frame<Bytes>, BoxError>>;

/// Opens at the first failure.
fn breaker() -> Breaker {
    Breaker::new(&BreakerConfig { consecutive_failures: 1, ..consecutive() })
}

fn full(status: StatusCode) -> Answer {
    let mut response =
        Response::new(Full::new(Bytes::from_static(b"{}")).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    Ok(response)
}

/// An answer in these frames, which then ends, or goes on for ever.
fn frames(frames: Frames, ends: bool) -> Answer {
    let frames = listed(frames, ends);
    Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
}

fn listed(frames: Frames, ends: bool) -> impl futures_core::Stream<Item = Result<Frame<Bytes>, BoxError>> {
    struct Listed(std::vec::IntoIter<Result<Frame<Bytes>, BoxError>>, bool);
    impl futures_core::Stream for Listed {
        type Item = Result<Frame<Bytes>, BoxError>;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            match self.0.next() {
                None if !self.1 => std::task::Poll::Pending,
                next => std::task::Poll::Ready(next),
            }
        }
    }
    Listed(frames.into_iter(), ends)
}

fn data() -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(b"x")))
}

fn status(code: &'static str) -> Result<Frame<Bytes>, BoxError> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    Ok(Frame::trailers(trailers))
}

fn http() -> Request<RequestBody> {
    Request::new(RequestBody::default())
}

fn grpc() -> Request<RequestBody> {
    let mut request = http();
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
    request
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// One call with this answer after 3 ms.
async fn call(
    breaker: &Breaker,
    request: Request<RequestBody>,
    answer: impl FnOnce() -> Answer + Clone + Send,
) -> Result<Response<AnswerBody<UnsyncBoxBody<Bytes, BoxError>>>, BoxError> {
    let service = service_fn(move |_: Request<RequestBody>| {
        let answer = answer.clone();
        async move {
            tokio::time::sleep(3 * MS).await;
            answer()
        }
    });
    BreakerLayer::new(breaker.clone()).layer(service).oneshot(request).await
}

/// One call, read to its end; the breaker's (calls, failed) after it.
async fn counted(request: Request<RequestBody>, answer: impl FnOnce() -> Answer + Clone + Send) -> (u64, u64) {
    let breaker = Breaker::new(&quiet());
    if let Ok(response) = call(&breaker, request, answer).await {
        let _ = response.into_body().collect().await;
    }
    let counts = breaker.counts(now());
    (counts.calls, counts.failed)
}

const GOOD: (u64, u64) = (1, 0);
const BAD: (u64, u64) = (1, 1);
const NOT_COUNTED: (u64, u64) = (0, 0);

#[tokio::test(start_paused = true)]
async fn an_http_call_is_judged_by_its_status_and_by_whether_the_answer_comes_to_its_end() {
    for (status, expected) in [(200, GOOD), (404, GOOD), (501, GOOD), (500, BAD), (503, BAD), (429, BAD)] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(counted(http(), move || full(status)).await, expected, "{status}");
    }
    assert_eq!(counted(http(), || frames(vec![data(), data()], true)).await, GOOD);
    assert_eq!(counted(http(), || frames(vec![data(), Err("reset".into())], true)).await, BAD);
}

#[tokio::test(start_paused = true)]
async fn a_grpc_call_is_judged_by_its_trailers() {
    for (code, expected) in [("0", GOOD), ("5", GOOD), ("14", BAD), ("8", BAD), ("4", BAD), ("13", BAD)] {
        assert_eq!(counted(grpc(), move || frames(vec![data(), status(code)], true)).await, expected, "{code}");
        let trailers_only = move || {
            let mut response = full(StatusCode::OK)?;
            response.headers_mut().insert("grpc-status", HeaderValue::from_static(code));
            Ok(response)
        };
        assert_eq!(counted(grpc(), trailers_only).await, expected, "{code} in the head");
    }
    assert_eq!(counted(grpc(), || frames(vec![data()], true)).await, BAD, "cut short");
    assert_eq!(counted(grpc(), || frames(Vec::new(), true)).await, BAD, "without a status");
    assert_eq!(counted(grpc(), || full(StatusCode::BAD_GATEWAY)).await, BAD, "a proxy between");
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_of_this_side_held_back_is_not_counted_and_what_failed_is() {
    let held_back = || Err(NotSent::new(Cause::BulkheadFull).into());
    assert_eq!(counted(http(), held_back).await, NOT_COUNTED);
    assert_eq!(counted(http(), || Err(TimedOut.into())).await, BAD);
    assert_eq!(counted(grpc(), || Err("reset".into())).await, BAD);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_counts_by_its_head_and_not_at_all_when_only_the_end_would_tell() {
    let breaker = Breaker::new(&quiet());
    drop(call(&breaker, http(), || frames(vec![data()], false)).await.unwrap());
    assert_eq!(breaker.counts(now()).calls, 1);
    drop(call(&breaker, grpc(), || frames(vec![data()], false)).await.unwrap());
    assert_eq!(breaker.counts(now()).calls, 1);
    // Its status was there already.
    let mut body = call(&breaker, grpc(), || frames(vec![status("14")], false)).await.unwrap().into_body();
    assert!(body.frame().await.is_some());
    drop(body);
    assert_eq!((breaker.counts(now()).calls, breaker.counts(now()).failed), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn open_it_refuses_at_once_and_says_when_to_come_back() {
    let breaker = breaker();
    let _ = call(&breaker, http(), || full(StatusCode::SERVICE_UNAVAILABLE)).await;
    let before = now();
    let error = call(&breaker, http(), || unreachable!("it is open")).await.expect_err("a refusal");
    let not_sent = error.downcast_ref::<NotSent>().expect("it was not sent");
    assert_eq!((not_sent.cause(), not_sent.wait()), (Cause::CircuitOpen, Some(ms(1000))));
    assert_eq!(now(), before);
    assert_eq!(Outcome::of_error(&error), Outcome::Refused(Cause::CircuitOpen));
}

#[tokio::test(start_paused = true)]
async fn a_call_with_the_balancers_leave_passes_an_open_breaker() {
    let breaker = breaker();
    let _ = call(&breaker, http(), || full(StatusCode::SERVICE_UNAVAILABLE)).await;
    let mut request = http();
    request.extensions_mut().insert(Bypass);
    let response = call(&breaker, request, || full(StatusCode::OK)).await.expect("an answer");
    drop(response);
    assert_eq!((breaker.state(now()), breaker.counts(now()).calls), (BreakerState::Open, 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_gives_its_probe_back() {
    let breaker = breaker();
    let _ = call(&breaker, http(), || full(StatusCode::SERVICE_UNAVAILABLE)).await;
    tokio::time::advance(ms(1000)).await;
    let service = service_fn(|_: Request<RequestBody>| pending::<Result<Response<Full<Bytes>>, BoxError>>());
    let probe = BreakerLayer::new(breaker.clone()).layer(service).oneshot(http());
    assert!(tokio::time::timeout(ms(10), probe).await.is_err());
    assert!(breaker.is_available(now()), "{breaker:?}");
    let response = call(&breaker, http(), || full(StatusCode::OK)).await.expect("the next probe");
    response.into_body().collect().await.expect("its body");
    assert_eq!(breaker.state(now()), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_time_until_the_head_may_be_slow_and_a_stream_may_take_its_time() {
    let config = BreakerConfig { slow_call: Some(ms(100).into()), slow_rate: 1.0, minimum_calls: 1, ..quiet() };
    let breaker = Breaker::new(&config);
    let response = call(&breaker, grpc(), || frames(vec![data(), status("0")], true)).await.unwrap();
    tokio::time::advance(ms(60_000)).await;
    response.into_body().collect().await.unwrap();
    assert_eq!((breaker.counts(now()).calls, breaker.counts(now()).slow), (1, 0), "counted when it ended");
    let slow = || async {
        tokio::time::sleep(ms(101)).await;
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    };
    let service = service_fn(move |_: Request<RequestBody>| async move { slow().await.map_err(BoxError::from) });
    let _ = BreakerLayer::new(breaker.clone()).layer(service).oneshot(http()).await;
    assert_eq!(breaker.counts(now()).trip_reason, None, "one of two");
    let service = service_fn(move |_: Request<RequestBody>| async move { slow().await.map_err(BoxError::from) });
    tokio::time::advance(ms(20_000)).await;
    let _ = BreakerLayer::new(breaker.clone()).layer(service).oneshot(http()).await;
    assert_eq!(breaker.counts(now()).trip_reason, Some(TripReason::SlowRate));
}

/// So that a balancer knows before it lets go of the request.
#[tokio::test(start_paused = true)]
async fn a_place_that_was_taken_is_used_by_the_next_call_and_given_back_when_there_is_none() {
    let breaker = Breaker::new(&BreakerConfig { consecutive_failures: 1, probes: 1, ..consecutive() });
    let layer = BreakerLayer::new(breaker.clone());
    let answers = layer.layer(service_fn(|_: Request<RequestBody>| async { full(StatusCode::OK) }));
    let fails = layer.layer(service_fn(|_: Request<RequestBody>| async { full(StatusCode::INTERNAL_SERVER_ERROR) }));
    drop(fails.oneshot(http()).await.unwrap());
    tokio::time::advance(Duration::from_secs(60)).await;
    let now = tokio::time::Instant::now().into_std();
    let mut first = answers.clone();
    first.admit(now, false).unwrap();
    assert!(answers.clone().admit(now, false).is_err(), "the only probe is taken");
    let refused = first.clone().oneshot(http()).await.unwrap_err();
    assert!(refused.is::<NotSent>(), "not by a clone: {refused}");
    drop(first);
    let mut second = answers.clone();
    second.admit(now, false).unwrap();
    drop(second.oneshot(http()).await.unwrap());
    assert_eq!(breaker.state(now), BreakerState::Closed);
}

/// The breaker's (calls, failed) after these steps, each with this much time for its call.
async fn timed(attempt: Option<Duration>, steps: impl IntoIterator<Item = (Step, u64)>) -> (u64, u64) {
    let breaker = Breaker::new(&quiet());
    let (steps, times): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    let attempts = AttemptTimeoutLayer::new(AttemptTimeout::new(attempt)).layer(Peer::of(steps));
    let service = BreakerLayer::new(breaker.clone()).layer(attempts);
    for millis in times {
        if let Ok(response) = service.clone().oneshot(peer::get(millis)).await {
            let _ = response.into_body().collect().await;
        }
    }
    let counts = breaker.counts(now());
    (counts.calls, counts.failed)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_leaves_the_endpoint_too_little_time_says_nothing_of_it() {
    let slow = || (after(60, OK), 1000);
    for millis in [1, 20, 119] {
        assert_eq!(timed(None, [slow(), (Step::Hang, millis)]).await, GOOD, "{millis} ms");
        // What it told the endpoint, the endpoint keeps to.
        let told = after(0, peer::status(504));
        assert_eq!(timed(None, [slow(), (told, millis)]).await, GOOD, "504 of {millis} ms");
    }
    assert_eq!(timed(None, [(Step::Hang, 99)]).await, NOT_COUNTED, "before the first answer");
    assert_eq!(timed(None, [slow(), (peer::status(503), 20)]).await, (2, 1), "that was not the time");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_frozen_is_at_fault_when_calls_have_time() {
    let slow = || (after(60, OK), 1000);
    assert_eq!(timed(None, [slow(), (Step::Hang, 120), (Step::Hang, 1000)]).await, (3, 2));
    assert_eq!(timed(None, [(Step::Hang, 100)]).await, BAD, "it has never answered");
    assert_eq!(timed(None, [slow(), (peer::status(504), 1000)]).await, (2, 1));
    // An attempt's own time is this side's word of what is too long.
    assert_eq!(timed(Some(20 * MS), [slow(), (Step::Hang, 1000)]).await, (2, 2));
}

#[tokio::test(start_paused = true)]
async fn grpcs_word_for_too_little_time_is_no_failure_when_there_was_too_little() {
    for (millis, expected) in [(20, NOT_COUNTED), (1000, BAD)] {
        for head in [true, false] {
            let breaker = Breaker::new(&quiet());
            let service = service_fn(move |_: Request<RequestBody>| async move {
                let mut response = frames(if head { Vec::new() } else { vec![data(), status("4")] }, true)?;
                if head {
                    response.headers_mut().insert("grpc-status", HeaderValue::from_static("4"));
                }
                Ok::<_, BoxError>(response)
            });
            let attempts = AttemptTimeoutLayer::new(AttemptTimeout::new(None)).layer(service);
            let service = BreakerLayer::new(breaker.clone()).layer(attempts);
            let response = service.oneshot(peer::grpc(true, millis)).await.unwrap();
            let _ = response.into_body().collect().await;
            assert_eq!((breaker.counts(now()).calls, breaker.counts(now()).failed), expected, "{millis} {head}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_rest_does_not_come_in_time_is_a_time_out() {
    let get: fn() -> Request<RequestBody> = || peer::get(1000);
    let grpc: fn() -> Request<RequestBody> = || peer::grpc(true, 1000);
    let streamed: fn() -> Request<RequestBody> = || {
        let mut request = peer::get(1000);
        CallInfo::with(&mut request, |info| info.passage.streamed = true);
        request
    };
    let nothing: fn() -> Answer = || frames(Vec::new(), false);
    let some: fn() -> Answer = || frames(vec![data()], false);
    for (request, answer, wait, expected, text) in [
        (get, nothing, 1000, BAD, "a head alone"),
        (get, some, 1000, BAD, "a part"),
        (get, some, 500, GOOD, "its reader has lost interest"),
        (streamed, some, 1000, GOOD, "it may take its time"),
        (grpc, nothing, 1000, BAD, "a head alone over gRPC"),
        (grpc, some, 1000, NOT_COUNTED, "a stream"),
    ] {
        let breaker = Breaker::new(&quiet());
        let until = tokio::time::Instant::now() + ms(wait);
        let body = call(&breaker, request(), answer).await.unwrap().into_body();
        assert!(tokio::time::timeout_at(until, body.collect()).await.is_err(), "{text}");
        assert_eq!((breaker.counts(now()).calls, breaker.counts(now()).failed), expected, "{text}");
    }
}
