//! Bodies above the limit, bodies that take too long.

use axum::{Router, body::Bytes, routing::post};
use chassis::{Chassis, settings::NoSettings, testing::TestService};

use crate::support::{
    raw::Raw,
    scrape::{sum, until_nothing_is_in_flight},
};

#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Note {
    text: String,
}

struct Notes;

#[chassis::service]
impl Notes {
    #[post("/notes")]
    async fn keep(&self, note: Note) -> Note {
        note
    }
}

fn service(chassis: Chassis<NoSettings>) -> Chassis<NoSettings> {
    chassis.mount(Notes).mount(Router::new().route("/bytes", post(|body: Bytes| async move { body })))
}

async fn small() -> TestService {
    TestService::builder().set("http.body_limit", "1KiB").start(service).await.unwrap()
}

#[tokio::test]
async fn a_body_announced_above_the_limit_is_413_at_once_and_not_read() {
    let service = small().await;
    for path in ["/notes", "/bytes"] {
        let mut raw = Raw::connect(service.http()).await;
        let head = "content-type: application/json\r\ncontent-length: 1025\r\n\r\n";
        raw.send(format!("POST {path} HTTP/1.1\r\nhost: a\r\n{head}")).await;
        raw.answer().await.unwrap().assert_problem(413, "payload_too_large");
        // Not kept, since the body that was announced is not waited for.
        assert_eq!(raw.rest().await, b"");
    }
    let scrape = service.metrics().await.unwrap();
    assert_eq!(sum(&scrape, "chassis_rejections_total", &["cause=\"payload_too_large\""]), 2.0);
}

#[tokio::test]
async fn a_body_streamed_above_the_limit_is_413() {
    let service = small().await;
    let chunk = format!("400\r\n{}\r\n", "a".repeat(1024));
    let head = "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut raw = Raw::connect(service.http()).await;
    raw.send(format!("POST /notes HTTP/1.1\r\nhost: a\r\n{head}{chunk}{chunk}")).await;
    raw.answer().await.unwrap().assert_problem(413, "payload_too_large");
    assert_eq!(raw.rest().await, b"");
    // A plain axum extractor speaks for itself; the status is the same.
    let mut raw = Raw::connect(service.http()).await;
    raw.send(format!("POST /bytes HTTP/1.1\r\nhost: a\r\n{head}{chunk}{chunk}")).await;
    assert_eq!(raw.answer().await.unwrap().status, 413);
    until_nothing_is_in_flight(&service).await;
}

#[tokio::test]
async fn a_body_of_the_limit_passes() {
    let service = small().await;
    let mut raw = Raw::connect(service.http()).await;
    let body = "a".repeat(1024);
    raw.send(format!("POST /bytes HTTP/1.1\r\nhost: a\r\ncontent-length: 1024\r\n\r\n{body}")).await;
    assert_eq!(raw.answer().await.unwrap().body.len(), 1024);
    raw.send(format!(
        "POST /bytes HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n400\r\n{body}\r\n0\r\n\r\n"
    ))
    .await;
    assert_eq!(raw.answer().await.unwrap().body.len(), 1024);
}

#[tokio::test]
async fn a_body_slower_than_the_request_timeout_is_408_for_it_is_the_caller_who_is_slow() {
    let service = TestService::builder().set("http.request_timeout", "200ms").start(service).await.unwrap();
    let mut raw = Raw::connect(service.http()).await;
    let head = "content-type: application/json\r\ncontent-length: 100\r\n\r\n{\"te";
    raw.send(format!("POST /notes HTTP/1.1\r\nhost: a\r\n{head}")).await;
    raw.answer().await.unwrap().assert_problem(408, "deadline_exceeded");
    assert_eq!(raw.rest().await, b"");
    until_nothing_is_in_flight(&service).await;
}

#[tokio::test]
async fn a_caller_that_asks_before_it_sends_is_told_before_it_sends() {
    let service = small().await;
    let mut raw = Raw::connect(service.http()).await;
    let ask = |length: u32| {
        format!("POST /bytes HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n")
    };
    raw.send(ask(3)).await;
    assert_eq!(raw.answer().await.unwrap().status, 100);
    raw.send("abc").await;
    assert_eq!(raw.answer().await.unwrap().body, b"abc");
    raw.send(ask(5000)).await;
    raw.answer().await.unwrap().assert_problem(413, "payload_too_large");
}
