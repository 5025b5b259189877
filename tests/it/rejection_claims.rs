//! What a caller claims of its call decides nothing but the form of the answer.

use std::convert::Infallible;

use axum::{
    Router,
    body::{Body, Bytes},
    routing::post,
};
use chassis::{Chassis, testing::TestService};
use http::{HeaderValue, Method, Request};
use tonic::codegen::tokio_stream::{self, StreamExt};

use crate::support::{
    pace::{PATIENCE, brief, setting},
    scrape::sum,
    shop::Shop,
    telemetry::access_line,
};

/// One piece, and never an end.
fn flow() -> impl tokio_stream::Stream<Item = Result<Bytes, Infallible>> {
    tokio_stream::once(Ok(Bytes::from_static(b"piece"))).chain(tokio_stream::pending())
}

async fn start() -> TestService {
    let routes = Router::new()
        .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/hang", post(|| async { std::future::pending::<()>().await }))
        .route("/flow", post(|| async { Body::from_stream(flow()) }));
    let service = TestService::builder().set("http.body_limit", "8KiB");
    let service = service.set("http.request_timeout", setting(2 * brief()));
    service.start(|chassis: Chassis| chassis.mount(routes)).await.unwrap()
}

const GRPC: &str = "application/grpc";
const GRPC_WEB: &str = "application/grpc-web";

fn claims(service: &TestService, path: &str, content_type: &str, body: String) -> Request<String> {
    let request = Request::post(format!("http://{}{path}", service.http()));
    request.header("content-type", content_type).body(body).unwrap()
}

#[tokio::test]
async fn a_content_type_of_grpc_lifts_no_limit_of_http() {
    let service = start().await;
    for (claimed, answered) in [(GRPC, "application/grpc"), (GRPC_WEB, "application/grpc-web+proto")] {
        let large = service.send(claims(&service, "/length", claimed, "x".repeat(9 * 1024))).await.unwrap();
        assert_eq!(large.header("grpc-status"), "8", "RESOURCE_EXHAUSTED, in the form that was asked for: {large:?}");
        let slow = service.send(claims(&service, "/hang", claimed, String::new()));
        let slow = tokio::time::timeout(PATIENCE, slow).await.expect("the server's limit holds").unwrap();
        assert_eq!(slow.header("grpc-status"), "4", "DEADLINE_EXCEEDED: {slow:?}");
        assert_eq!(slow.header("content-type"), answered, "{slow:?}");
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_content_type_of_grpc_lifts_no_limit_of_a_route() {
    let shop = Shop::new();
    let routes = shop.routes();
    let service = TestService::start(|chassis: Chassis| chassis.mount(routes)).await.unwrap();
    for claimed in [GRPC, GRPC_WEB] {
        let mut slow = claims(&service, "/old/hang", claimed, String::new());
        *slow.method_mut() = Method::GET;
        let slow = tokio::time::timeout(PATIENCE, service.send(slow)).await.expect("the route's limit holds").unwrap();
        assert_eq!(slow.header("grpc-status"), "4", "DEADLINE_EXCEEDED: {slow:?}");
        let mut picky = claims(&service, "/accept/json", claimed, String::new());
        *picky.method_mut() = Method::GET;
        picky.headers_mut().insert("accept", HeaderValue::from_static("text/html"));
        let refused = service.send(picky).await.unwrap();
        assert_ne!(refused.header("grpc-status"), "", "{refused:?}");
        assert_eq!(shop.witness.seen().0, 0, "no handler is asked for what the caller excludes");
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_body_cut_at_the_time_of_such_a_caller_does_not_look_whole() {
    let service = start().await;
    for claimed in [GRPC, GRPC_WEB] {
        let mut request = claims(&service, "/flow", claimed, String::new());
        let time = format!("{}m", brief().as_millis());
        request.headers_mut().insert("grpc-timeout", time.parse().unwrap());
        let answer = tokio::time::timeout(PATIENCE, service.send(request)).await.expect("it is cut");
        assert!(answer.is_err(), "{claimed}: {answer:?}");
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn calls_that_only_claim_to_be_grpc_add_no_series_of_their_own() {
    let service = start().await;
    for n in 0..20 {
        for path in [format!("/junk{n}/x"), "/length".to_owned()] {
            let mut request = claims(&service, &path, GRPC, String::new());
            request.headers_mut().insert("grpc-timeout", "0n".parse().unwrap());
            service.send(request).await.unwrap();
        }
    }
    let scrape = service.metrics().await.unwrap();
    assert!(!scrape.contains("junk"), "{scrape}");
    let calls = sum(&scrape, "rpc_server_call_duration_seconds_count", &[]);
    assert_eq!(sum(&scrape, "rpc_server_call_duration_seconds_count", &["rpc_method=\"_OTHER\""]), calls);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn an_answer_of_known_length_is_complete_when_its_bytes_are_sent() {
    let service = start().await;
    for request in [
        Request::head(format!("http://{}/livez?", service.http())).body(String::new()).unwrap(),
        Request::head(format!("http://{}/nowhere", service.http())).body(String::new()).unwrap(),
        claims(&service, "/length", GRPC, "abc".into()),
    ] {
        let path = request.uri().path().to_owned();
        let answer = service.send(request).await.unwrap();
        // Successful probes write no line.
        if path != "/livez" {
            assert_eq!(access_line(answer.header("x-trace-id")).await["outcome"], "complete", "{path}");
        }
    }
    service.stop().await.unwrap();
}
