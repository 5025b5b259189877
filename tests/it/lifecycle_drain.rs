//! A stop under load loses nothing: no request, and no span.

use std::{collections::BTreeSet, error::Error, net::SocketAddr, sync::Arc};

use chassis::testing::{OtlpReceiver, ReceivedSpan};
use tokio::task::JoinSet;

use crate::support::{
    http2,
    load::{self, Load, Tally},
    process::{PATIENCE, Quickstart, Service},
};

const CONNECTIONS: u32 = 300;
/// Before the stop begins.
const ANSWERED_BEFORE: u32 = 3_000;
/// In all: a fast machine makes fewer than this within the drain delay.
const REQUESTS: u32 = 100_000;

/// Every request sampled, and room for all of their spans.
fn traced(receiver: &OtlpReceiver, protocol: &str, drain_delay: &str) -> Quickstart {
    Quickstart::new()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.http_endpoint())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_TRACES_SAMPLER", "always_on")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "131072")
        .set("shutdown.drain_delay", drain_delay)
        .set("shutdown.flush", "20s")
        .set("log.access.enabled", "false")
}

/// The orders that have a span.
fn orders(spans: &[ReceivedSpan]) -> BTreeSet<u32> {
    let paths = spans.iter().filter_map(|span| span.attributes.get("url.path")?.as_str());
    paths.filter_map(|path| path.strip_prefix("/orders/")?.parse().ok()).collect()
}

async fn stop(service: &mut Service, load: &Load) {
    load.reached(ANSWERED_BEFORE).await;
    load.stopping();
    assert_eq!(service.terminate().await, 0);
}

async fn every_answer_has_its_span(tally: &Tally, receiver: &OtlpReceiver) {
    let spans = receiver.wait_for_spans(tally.answered.len(), PATIENCE).await;
    let traced = orders(&spans);
    let without: Vec<_> = tally.answered.difference(&traced).take(10).collect();
    assert!(without.is_empty(), "{} answers, {} spans; without one: {without:?}", tally.answered.len(), traced.len());
    let without: Vec<_> = traced.difference(&tally.answered).take(10).collect();
    assert!(without.is_empty(), "served, and the caller knows nothing of it: {without:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_the_load_of_300_kept_alive_connections_loses_no_request_and_no_span() {
    for (protocol, drain_delay) in [("grpc", "300ms"), ("http/protobuf", "0s")] {
        let receiver = OtlpReceiver::start().await.unwrap();
        let mut service = traced(&receiver, protocol, drain_delay).start().await;
        let load = Load::of(REQUESTS);
        let connections = load.start(service.http, CONNECTIONS);
        stop(&mut service, &load).await;
        load::ended(connections, PATIENCE).await;
        let tally = load.tally();
        assert!(tally.lost.is_empty(), "lost {} of {}: {:?}", tally.lost.len(), tally.answered.len(), tally.lost);
        assert!(tally.closes >= CONNECTIONS, "every caller is told to move away: {}", tally.closes);
        every_answer_has_its_span(&tally, &receiver).await;
    }
}

/// Whether the server said that it has not looked at the request (GOAWAY), or the request was never sent.
fn may_be_sent_again(error: &hyper::Error) -> bool {
    let says_so = |error: &dyn Error| {
        let text = error.to_string();
        text.contains("connection error received: not a result of an error") || text.contains("refused stream")
    };
    error.is_canceled() || error.source().is_some_and(says_so)
}

/// Asks over one HTTP/2 connection after the other until nobody listens; many such share a connection.
async fn keep_asking(load: Arc<Load>, address: SocketAddr, streams: u32) {
    while let Ok(connection) = http2::Connection::open(address).await {
        let mut set = JoinSet::new();
        for _ in 0..streams {
            let (load, mut connection) = (load.clone(), connection.clone());
            set.spawn(async move {
                while let Some(order) = load.next() {
                    match connection.get(&format!("/orders/{order}")).await {
                        Ok((200, _)) => load.answered(order, false),
                        Ok((status, _)) => load.lost(order, format!("status {status}")),
                        Err(error) if load.is_stopping() && may_be_sent_again(&error) => return,
                        Err(error) => return load.lost(order, format!("{error}: {:?}", error.source())),
                    }
                }
            });
        }
        load::ended(set, PATIENCE).await;
    }
    assert!(load.is_stopping(), "somebody listens until the service stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_the_load_of_http2_streams_loses_no_request_that_was_served() {
    let receiver = OtlpReceiver::start().await.unwrap();
    let mut service = traced(&receiver, "grpc", "300ms").start().await;
    let load = Load::of(REQUESTS);
    let mut connections = JoinSet::new();
    for streams in [1, 20, 100] {
        connections.spawn(keep_asking(load.clone(), service.http, streams));
    }
    stop(&mut service, &load).await;
    load::ended(connections, PATIENCE).await;
    let tally = load.tally();
    assert!(tally.lost.is_empty(), "lost {} of {}: {:?}", tally.lost.len(), tally.answered.len(), tally.lost);
    every_answer_has_its_span(&tally, &receiver).await;
}
