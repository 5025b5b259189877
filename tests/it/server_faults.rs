//! Faults while a request is served: callers that go, handlers that panic.

use std::convert::Infallible;

use axum::{
    Router,
    body::{Body, Bytes},
    routing::get,
};
use chassis::{Chassis, testing::TestService};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tonic::codegen::tokio_stream::{self, StreamExt};

use crate::support::{
    raw::Raw,
    scrape::{sum, until, until_nothing_is_in_flight},
    telemetry::eventually,
    witness::Witness,
};

const COUNT: &str = "http_server_request_duration_seconds_count";

fn frames(panic_at: usize) -> Body {
    let frames = tokio_stream::iter(0..3).map(move |index| {
        assert!(index < panic_at, "the body gives up");
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"part")))
    });
    Body::new(StreamBody::new(frames))
}

async fn explode() -> &'static str {
    if true {
        panic!("a secret of the handler");
    }
    "never"
}

fn routes() -> Router {
    Router::new()
        .route("/", get(|| async { "fine" }))
        .route("/panic", get(explode))
        .route("/panic-in-body", get(|| async { frames(1) }))
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_handler_and_is_counted() {
    let witness = Witness::new();
    let hang = witness.clone();
    let routes = routes().route("/hang", get(move || hang.hang()));
    let service = TestService::start(|chassis: Chassis| chassis.mount(routes)).await.unwrap();
    for round in 1..=3 {
        let mut raw = Raw::connect(service.http()).await;
        raw.send("GET /hang HTTP/1.1\r\nhost: a\r\n\r\n").await;
        witness.began(round).await;
        until(&service, "http_server_active_requests", &[], 1.0).await;
        drop(raw);
        witness.ended(round).await;
        until_nothing_is_in_flight(&service).await;
    }
    let aborted = ["error_type=\"aborted\"", "http_response_status_code=\"499\"", "http_route=\"/hang\""];
    until(&service, COUNT, &aborted, 3.0).await;
}

#[tokio::test]
async fn a_panic_is_a_500_with_the_trace_id_and_the_connection_goes_on() {
    let service = TestService::start(|chassis: Chassis| chassis.mount(routes())).await.unwrap();
    let panics = sum(&service.metrics().await.unwrap(), "chassis_panics_total", &[]);
    let mut raw = Raw::connect(service.http()).await;
    let answer = raw.get("/panic").await;
    answer.assert_problem(500, "internal");
    assert!(!String::from_utf8_lossy(&answer.body).contains("secret"), "{answer:?}");
    assert_eq!(raw.get("/").await.body, b"fine");
    let scrape = service.metrics().await.unwrap();
    // One counter for the process, in which other tests panic too.
    assert!(sum(&scrape, "chassis_panics_total", &[]) >= panics + 1.0);
    assert_eq!(sum(&scrape, COUNT, &["error_type=\"internal\"", "http_route=\"/panic\""]), 1.0);
    let health = service.operator("/health").await.unwrap().json();
    assert_eq!(health["checks"]["panics"]["status"], "degraded", "{health}");
    assert_eq!(service.get("/livez").await.unwrap().status, 200);
    assert_eq!(service.get("/readyz").await.unwrap().status, 200);
    let lines = chassis::testing::log_lines_of(answer.header("x-trace-id"));
    assert!(lines.iter().any(|line| line.to_string().contains("a secret of the handler")), "{lines:?}");
}

#[tokio::test]
async fn a_service_that_fails_everything_is_degraded_and_ready() {
    let unavailable = || async { http::StatusCode::SERVICE_UNAVAILABLE };
    let service = TestService::start(|chassis: Chassis| {
        chassis
            .mount(Router::new().route("/orders", get(unavailable)))
            .check("store", || async { Ok::<(), std::convert::Infallible>(()) })
    })
    .await
    .unwrap();
    for _ in 0..10 {
        assert_eq!(service.get("/orders").await.unwrap().status, 503);
        // A probe is no answer that the share is taken over.
        assert_eq!(service.get("/readyz").await.unwrap().status, 200);
    }
    let message = eventually("the check", async || {
        let health = service.operator("/health").await.unwrap().json();
        assert_eq!(health["checks"]["store"]["status"], "up");
        let check = &health["checks"]["responses"];
        (check["status"] == "degraded").then(|| check["message"].as_str().unwrap().to_owned())
    })
    .await;
    assert!(message.starts_with("10 of 10 requests") && message.contains("(100 %)"), "{message}");
    assert_eq!(service.get("/readyz").await.unwrap().status, 200);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_panic_in_a_body_breaks_that_answer_off_and_nothing_else() {
    let service = TestService::start(|chassis: Chassis| chassis.mount(routes())).await.unwrap();
    let mut other = Raw::connect(service.http()).await;
    assert_eq!(other.get("/").await.status, 200);
    let mut raw = Raw::connect(service.http()).await;
    raw.send("GET /panic-in-body HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(raw.answer().await.is_none(), "a body that breaks off must not look whole");
    assert_eq!(other.get("/").await.body, b"fine");
    until_nothing_is_in_flight(&service).await;
    until(&service, COUNT, &["error_type=\"broken_off\"", "http_route=\"/panic-in-body\""], 1.0).await;
    let health = service.operator("/health").await.unwrap().json();
    assert_eq!(health["checks"]["panics"]["status"], "degraded", "{health}");
}
