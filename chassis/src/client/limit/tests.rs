use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tower_layer::Layer as _;
use tower_service::Service as _;

use super::*;
use crate::{
    cause::Cause,
    client::{
        Outcome, RequestBody,
        body::WatchedBody,
        tests::peer::{OK, Peer, Step, after, get},
    },
    error::BoxError,
};

type Result = std::result::Result<Response<WatchedBody<http_body_util::Full<bytes::Bytes>, Held>>, BoxError>;

fn config(concurrency: u32, queue: u32) -> LimitConfig {
    LimitConfig { concurrency, queue }
}

fn send(limit: &Limit, peer: &Peer, request: Request<RequestBody>) -> tokio::task::JoinHandle<Result> {
    let call = LimitLayer::new(limit.clone()).layer(peer.clone()).call(request);
    tokio::spawn(call)
}

/// Lets all tasks come as far as they can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn standing(limit: &Limit) -> (u32, u32) {
    (limit.counts().in_use, limit.counts().queued)
}

#[tokio::test(start_paused = true)]
async fn as_many_calls_as_there_are_places_then_the_queue_then_none() {
    let (limit, peer) = (Limit::new(&config(2, 1)), Peer::default().then(after(100, OK)));
    let calls: Vec<_> = (0..3).map(|_| send(&limit, &peer, get(None))).collect();
    settle().await;
    assert_eq!((standing(&limit), peer.calls()), ((2, 1), 2));
    let started = Instant::now();
    let error = send(&limit, &peer, get(None)).await.unwrap().expect_err("one too many");
    assert_eq!(Outcome::of_error(&error), Outcome::Refused(Cause::BulkheadFull));
    assert_eq!(started.elapsed(), Duration::ZERO, "at once");
    for call in calls {
        call.await.unwrap().expect("an answer");
    }
    assert_eq!((standing(&limit), limit.counts().refused, peer.calls()), ((0, 0), 1, 3));
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_there_is_no_wait() {
    let (limit, peer) = (Limit::new(&config(1, 0)), Peer::of([Step::Hang]));
    let _first = send(&limit, &peer, get(None));
    settle().await;
    assert!(send(&limit, &peer, get(None)).await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn who_waits_first_is_served_first() {
    let (limit, peer) = (Limit::new(&config(1, 10)), Peer::default().then(after(10, OK)));
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut calls = Vec::new();
    for number in 0..6 {
        let (call, order) = (send(&limit, &peer, get(None)), order.clone());
        calls.push(tokio::spawn(async move {
            call.await.unwrap().expect("an answer");
            order.lock().unwrap().push(number);
        }));
        settle().await;
    }
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_kept_until_the_answer_was_read() {
    let (limit, peer) = (Limit::new(&config(1, 0)), Peer::default().then(OK));
    let first = send(&limit, &peer, get(None)).await.unwrap().expect("an answer");
    assert_eq!(standing(&limit), (1, 0), "its body is not read yet");
    assert!(send(&limit, &peer, get(None)).await.unwrap().is_err());
    first.into_body().collect().await.expect("the body");
    assert_eq!(standing(&limit), (0, 0));
    let second = send(&limit, &peer, get(None)).await.unwrap().expect("an answer");
    drop(second);
    assert_eq!(standing(&limit), (0, 0), "or dropped");
}

#[tokio::test(start_paused = true)]
async fn a_failed_or_dropped_call_gives_its_place_back() {
    let (limit, peer) = (Limit::new(&config(1, 1)), Peer::of([Step::BrokenOff, Step::Hang, OK]));
    assert!(send(&limit, &peer, get(None)).await.unwrap().is_err());
    assert_eq!(standing(&limit), (0, 0));
    let (hangs, waits) = (send(&limit, &peer, get(None)), send(&limit, &peer, get(None)));
    settle().await;
    assert_eq!(standing(&limit), (1, 1));
    waits.abort();
    settle().await;
    assert_eq!(standing(&limit), (1, 0), "who waits may go");
    let waits = send(&limit, &peer, get(None));
    hangs.abort();
    waits.await.unwrap().expect("the place of the dropped call");
    assert_eq!(standing(&limit), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_until_its_time_is_up_was_never_sent() {
    let (limit, peer) = (Limit::new(&config(1, 1)), Peer::of([Step::Hang]));
    let _first = send(&limit, &peer, get(None));
    let started = Instant::now();
    let error = send(&limit, &peer, get(70)).await.unwrap().expect_err("no place");
    assert_eq!(Outcome::of_error(&error), Outcome::Refused(Cause::DeadlineExceeded));
    assert_eq!((started.elapsed().as_millis(), peer.calls()), (70, 1));
    assert_eq!((standing(&limit), limit.counts().expired), ((1, 0), 1));
}

#[tokio::test(start_paused = true)]
async fn new_places_go_to_who_waits_at_once() {
    let (limit, peer) = (Limit::new(&config(1, 10)), Peer::default().then(Step::Hang));
    let _calls: Vec<_> = (0..5).map(|_| send(&limit, &peer, get(None))).collect();
    settle().await;
    assert_eq!(standing(&limit), (1, 4));
    limit.configure(&config(4, 10));
    settle().await;
    assert_eq!((standing(&limit), limit.counts().limit, peer.calls()), ((4, 1), 4, 4));
}

#[tokio::test(start_paused = true)]
async fn fewer_places_are_reached_as_calls_end_although_the_queue_is_never_empty() {
    let (limit, peer) = (Limit::new(&config(4, 100)), Peer::default().then(after(10, OK)));
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let call = send(&limit, &peer, get(None));
            // An answer that nobody drops keeps its place.
            tokio::spawn(async move { call.await.unwrap().map(|_| ()) })
        })
        .collect();
    settle().await;
    limit.configure(&config(1, 100));
    settle().await;
    assert_eq!(standing(&limit), (4, 36), "nobody is thrown out");
    tokio::time::sleep(Duration::from_millis(15)).await;
    assert_eq!(limit.counts().in_use, 1);
    for call in calls {
        call.await.unwrap().expect("an answer");
    }
    assert_eq!(peer.calls(), 40);
}

#[tokio::test(start_paused = true)]
async fn down_and_up_again_leaves_as_many_places_as_it_says() {
    let (limit, peer) = (Limit::new(&config(4, 0)), Peer::default().then(Step::Hang));
    let calls: Vec<_> = (0..4).map(|_| send(&limit, &peer, get(None))).collect();
    settle().await;
    limit.configure(&config(1, 0));
    limit.configure(&config(3, 0));
    for call in calls {
        call.abort();
    }
    settle().await;
    let _calls: Vec<_> = (0..10).map(|_| send(&limit, &peer, get(None))).collect();
    settle().await;
    assert_eq!((standing(&limit), limit.counts().refused), ((3, 0), 7));
    limit.configure(&config(2, 0));
    limit.configure(&config(6, 0));
    let _more: Vec<_> = (0..10).map(|_| send(&limit, &peer, get(None))).collect();
    settle().await;
    assert_eq!(limit.counts().in_use, 6);
}
