//! Bad input at the door: what is no request gets 4xx or a closed connection, in time, and never counts as two requests.

use axum::{Router, body::Bytes, routing::get};
use chassis::{Chassis, settings::NoSettings, testing::TestService};

use crate::support::{
    raw::Raw,
    scrape::{sum, until_ended, until_nothing_is_in_flight},
};

async fn echo(body: Bytes) -> Bytes {
    body
}

fn service(chassis: Chassis<NoSettings>) -> Chassis<NoSettings> {
    let routes =
        Router::new().route("/", get(|| async { "whole" }).post(echo)).route("/second", get(|| async { "two" }));
    chassis.mount(routes)
}

/// Bytes of a head, of which each costs 150 ms: 20 times the time that a head may take.
const MANY: usize = 27;

async fn impatient() -> TestService {
    TestService::builder().set("http.header_read_timeout", "200ms").start(service).await.unwrap()
}

#[tokio::test]
async fn garbage_is_answered_400_or_not_at_all() {
    let service = impatient().await;
    for garbage in [
        &b"\0\x01\x02\x03\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        let mut raw = Raw::connect(service.http()).await;
        raw.send(garbage).await;
        let rest = String::from_utf8_lossy(&raw.rest().await).into_owned();
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400 "), "{garbage:?}: {rest}");
    }
    assert_eq!(service.get("/").await.unwrap().text(), "whole");
}

#[tokio::test]
async fn a_silent_connection_is_closed_within_the_header_timeout_and_counted() {
    let service = impatient().await;
    assert_eq!(Raw::connect(service.http()).await.rest().await, b"");
    until_ended(&service, "header_timeout", 1.0).await;
}

#[tokio::test]
async fn half_a_head_is_closed_within_the_header_timeout_and_counted() {
    let service = impatient().await;
    for half in ["G", "PRI * HT", "GET / HTTP/1.1\r\nhost: a\r\nx-half"] {
        let mut raw = Raw::connect(service.http()).await;
        raw.send(half).await;
        assert_eq!(raw.rest().await, b"", "{half}");
    }
    until_ended(&service, "header_timeout", 3.0).await;
}

#[tokio::test]
async fn half_a_second_head_is_closed_within_the_header_timeout() {
    let service = impatient().await;
    let mut raw = Raw::connect(service.http()).await;
    assert_eq!(raw.get("/").await.body, b"whole");
    raw.send("GET / HT").await;
    assert_eq!(raw.rest().await, b"");
    until_ended(&service, "header_timeout", 1.0).await;
}

#[tokio::test]
async fn a_head_sent_byte_by_byte_does_not_win_time() {
    let service = impatient().await;
    let mut raw = Raw::connect(service.http()).await;
    // Each byte comes well within the time-out; the whole head never does. Bytes are counted, not seconds: were the time-out one
    // of each byte, all of them would be taken.
    let head = b"GET / HTTP/1.1\r\nhost: a\r\n".iter().chain(b"x: y\r\n".iter().cycle());
    let mut sent = 0;
    for byte in head.take(MANY) {
        if !raw.send([*byte]).await {
            break;
        }
        sent += 1;
        let _ = raw.is_silent().await;
    }
    assert!(sent < MANY, "a head of {sent} bytes won time");
    until_ended(&service, "header_timeout", 1.0).await;
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_431() {
    let limits = TestService::builder().set("http.http1.max_headers", 10).set("http.http1.max_head_size", "8KiB");
    let service = limits.start(service).await.unwrap();
    let many = (0..20).fold(String::new(), |head, index| head + &format!("x-{index}: 1\r\n"));
    let large = format!("x-large: {}\r\n", "a".repeat(20_000));
    for head in [many, large] {
        let mut raw = Raw::connect(service.http()).await;
        raw.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{head}\r\n")).await;
        let rest = String::from_utf8_lossy(&raw.rest().await).into_owned();
        assert!(rest.starts_with("HTTP/1.1 431 "), "{rest}");
    }
    let mut raw = Raw::connect(service.http()).await;
    assert_eq!(raw.get("/").await.status, 200);
}

#[tokio::test]
async fn http_1_1_names_its_host_once_and_http_1_0_need_not() {
    let service = TestService::start(service).await.unwrap();
    let mut raw = Raw::connect(service.http()).await;
    for hosts in ["", "host: a\r\nhost: b\r\n"] {
        raw.send(format!("GET / HTTP/1.1\r\n{hosts}\r\n")).await;
        raw.answer().await.unwrap().assert_problem(400, "invalid_request");
    }
    raw.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
}

/// Sends one request whose end could be read in two ways, with another request hidden in its tail.
#[tokio::test]
async fn no_request_is_ever_read_as_two() {
    let service = impatient().await;
    let hidden = "GET /second HTTP/1.1\r\nhost: a\r\n\r\n";
    let inside = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    for (framing, body) in [
        ("content-length: 5\r\ntransfer-encoding: chunked", format!("0\r\n\r\n{hidden}")),
        ("transfer-encoding: chunked\r\ncontent-length: 5", format!("0\r\n\r\n{hidden}")),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4", inside),
        ("content-length: 0\r\ncontent-length: 35", hidden.into()),
        ("content-length: 0, 35", hidden.into()),
        ("content-length: +0", hidden.into()),
        ("content-length: -1", hidden.into()),
        ("content-length: 0x0", hidden.into()),
        ("content-length : 0", hidden.into()),
        ("content-length: 99999999999999999999", hidden.into()),
        ("x: y\r\n content-length: 0", hidden.into()),
        ("transfer-encoding: identity", format!("0\r\n\r\n{hidden}")),
        ("transfer-encoding: chunked, identity", format!("0\r\n\r\n{hidden}")),
        ("transfer-encoding : chunked", format!("0\r\n\r\n{hidden}")),
        ("transfer-encoding:\r\n chunked", format!("0\r\n\r\n{hidden}")),
        ("transfer-encoding: xchunked", format!("0\r\n\r\n{hidden}")),
        ("transfer-encoding: chunked", format!("-1\r\n\r\n{hidden}")),
        ("transfer-encoding: chunked", format!("0x0\r\n\r\n{hidden}")),
        ("transfer-encoding: chunked", format!("fffffffffffffffff\r\n{hidden}")),
        ("transfer-encoding: chunked", format!("1\r\nab\r\n0\r\n\r\n{hidden}")),
        ("transfer-encoding: chunked", format!(" 0\r\n\r\n{hidden}")),
    ] {
        let mut raw = Raw::connect(service.http()).await;
        raw.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{body}")).await;
        let rest = String::from_utf8_lossy(&raw.rest().await).into_owned();
        let answers: Vec<_> = rest.match_indices("HTTP/1.1 ").map(|(at, _)| &rest[at + 9..at + 12]).collect();
        let hidden_served = rest.ends_with("two") || answers.iter().filter(|status| **status == "200").count() > 1;
        assert!(!hidden_served && answers.len() <= 1, "{framing} {body}: {rest}");
    }
    let scrape = service.metrics().await.unwrap();
    assert_eq!(sum(&scrape, "http_server_request_duration_seconds_count", &["http_route=\"/second\""]), 0.0);
    until_nothing_is_in_flight(&service).await;
}

#[tokio::test]
async fn chunked_requests_without_a_length_share_a_connection() {
    let service = TestService::start(service).await.unwrap();
    let mut raw = Raw::connect(service.http()).await;
    for _ in 0..3 {
        raw.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
        let answer = raw.answer().await.unwrap();
        assert_eq!((answer.body.as_slice(), answer.header("connection")), (&b"abc"[..], ""));
    }
    raw.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc").await;
    assert_eq!(raw.answer().await.unwrap().header("connection"), "");
}

#[tokio::test]
async fn a_body_that_ends_halfway_leaves_nothing_in_flight() {
    let service = TestService::start(service).await.unwrap();
    for framing in ["content-length: 100\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n64\r\nhalf"] {
        let mut raw = Raw::connect(service.http()).await;
        raw.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}")).await;
        crate::support::scrape::until(&service, "http_server_active_requests", &[], 1.0).await;
        drop(raw);
        until_nothing_is_in_flight(&service).await;
    }
}
