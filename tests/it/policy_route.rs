//! What a route asks for beyond its handler holds over HTTP and gRPC alike, and every refusal has its word.

use chassis::{
    Chassis,
    testing::{TestResponse, TestService},
};
use http::Request;
use tonic::{Code, Status};

use crate::support::{
    echo::Client,
    raw::{PATIENCE, Raw},
    scrape::{sum, until, until_nothing_is_in_flight},
    shop::{DEPRECATED, SUNSET, Shop},
};

const IN_USE: &str = "chassis_bulkhead_in_use";
const BUSY: &str = "code_function_name=\"shop::Shop::busy\"";
const REJECTIONS: &str = "chassis_rejections_total";

async fn start() -> (TestService, Shop) {
    let shop = Shop::new();
    let routes = shop.routes();
    (TestService::start(|chassis: Chassis| chassis.mount(routes)).await.unwrap(), shop)
}

/// GET; a handler that waits in the place of a refusal is no reason to wait for ever.
async fn get(service: &TestService, path: &str) -> TestResponse {
    tokio::time::timeout(PATIENCE, service.get(path)).await.expect("an answer").unwrap()
}

fn assert_problem(answer: &TestResponse, status: u16, code: &str) {
    let json = answer.json();
    assert_eq!((answer.status.as_u16(), json["code"].as_str()), (status, Some(code)), "{}", answer.text());
}

async fn refusals(service: &TestService, cause: &str) -> f64 {
    sum(&service.metrics().await.unwrap(), REJECTIONS, &[&format!("cause=\"{cause}\"")])
}

/// Whether a status carries this in its details: they are protobuf, in which words stand as they are.
fn tells(status: &Status, key: &str, value: &str) -> bool {
    let length = u8::try_from(value.len()).unwrap();
    let wanted = [key.as_bytes(), &[0x12, length], value.as_bytes()].concat();
    status.details().windows(wanted.len()).any(|window| window == wanted)
}

#[tokio::test]
async fn one_more_than_the_concurrency_of_a_route_is_turned_away_until_there_is_room() {
    let (service, shop) = start().await;
    let mut first = Raw::connect(service.http()).await;
    first.send("GET /busy HTTP/1.1\r\nhost: a\r\n\r\n").await;
    shop.witness.began(1).await;
    let scrape = service.metrics().await.unwrap();
    assert_eq!((sum(&scrape, IN_USE, &[BUSY]), sum(&scrape, "chassis_bulkhead_limit", &[BUSY])), (1.0, 1.0));

    let refused = get(&service, "/busy").await;
    assert_problem(&refused, 503, "bulkhead_full");
    assert_eq!(refused.json()["retry_safe"], true);
    assert_eq!((refused.json()["retry_after"].as_u64(), refused.header("retry-after")), (Some(1), "1"));
    assert_eq!(refusals(&service, "bulkhead_full").await, 1.0);
    let labels = ["http_route=\"/busy\"", "error_type=\"bulkhead_full\""];
    until(&service, "http_server_request_duration_seconds_count", &labels, 1.0).await;

    // Nobody else is hurt.
    assert_eq!(get(&service, "/accept/json").await.status, 200);
    shop.let_go();
    assert_eq!(first.answer().await.unwrap().body, b"served");
    // Whoever has read the answer may ask again, at once.
    for _ in 0..20 {
        shop.let_go();
        assert_eq!(get(&service, "/busy").await.text(), "served");
    }
    until(&service, IN_USE, &[BUSY], 0.0).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_its_place_to_the_next() {
    let (service, shop) = start().await;
    let mut first = Raw::connect(service.http()).await;
    first.send("GET /busy HTTP/1.1\r\nhost: a\r\n\r\n").await;
    shop.witness.began(1).await;
    drop(first);
    shop.witness.ended(1).await;
    until(&service, IN_USE, &[BUSY], 0.0).await;
    shop.let_go();
    assert_eq!(get(&service, "/busy").await.status, 200);
}

#[tokio::test]
async fn a_streamed_answer_holds_its_place_until_its_body_ends() {
    let (service, shop) = start().await;
    let mut first = Raw::connect(service.http()).await;
    first.send("GET /stream HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(first.head().await.unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(first.chunk().await.unwrap(), b"piece");
    assert_problem(&get(&service, "/stream").await, 503, "bulkhead_full");
    shop.let_go();
    assert_eq!(first.chunk().await.unwrap(), b"");
    shop.let_go();
    assert_eq!(get(&service, "/stream").await.text(), "piece");

    let mut dropped = Raw::connect(service.http()).await;
    dropped.send("GET /stream HTTP/1.1\r\nhost: a\r\n\r\n").await;
    dropped.head().await.unwrap();
    drop(dropped);
    until(&service, IN_USE, &["shop::Shop::stream"], 0.0).await;
}

#[tokio::test]
async fn the_rpc_and_the_route_of_one_handler_share_their_places() {
    let (service, shop) = start().await;
    let mut client = Client::connect(service.http()).await;
    let mut second = client.clone();
    let call = tokio::spawn(async move { client.call("/test.v1.Shop/Busy", "a", "").await });
    shop.witness.began(1).await;
    assert_problem(&get(&service, "/busy").await, 503, "bulkhead_full");
    let refused = second.call("/test.v1.Shop/Busy", "b", "").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(tells(&refused, "retry_safe", "true"), "{refused:?}");
    assert_eq!(refusals(&service, "bulkhead_full").await, 2.0);
    shop.let_go();
    assert_eq!(call.await.unwrap().unwrap().get_ref().text, "a");
    for _ in 0..20 {
        shop.let_go();
        assert_eq!(second.call("/test.v1.Shop/Busy", "c", "").await.unwrap().get_ref().text, "c");
    }
    until_nothing_is_in_flight(&service).await;
    assert_eq!(sum(&service.metrics().await.unwrap(), IN_USE, &[BUSY]), 0.0);
}

#[tokio::test]
async fn a_body_above_the_routes_limit_is_413_announced_or_not() {
    let (service, shop) = start().await;
    let post = async |path: &str, body: &str| service.post(path, body).await;
    assert_eq!(post("/text", "12345678").await.unwrap().text(), "12345678");
    assert_problem(&post("/text", "123456789").await.unwrap(), 413, "payload_too_large");
    assert_problem(&post("/json", "\"1234567\"").await.unwrap(), 413, "payload_too_large");
    assert_eq!(refusals(&service, "payload_too_large").await, 2.0);
    for path in ["/text", "/json"] {
        let mut raw = Raw::connect(service.http()).await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n");
        raw.send(format!("{head}transfer-encoding: chunked\r\n\r\n5\r\n\"1234\r\n5\r\n5678\"\r\n0\r\n\r\n")).await;
        raw.answer().await.unwrap().assert_problem(413, "payload_too_large");
    }
    assert_eq!(refusals(&service, "payload_too_large").await, 4.0);
    assert_eq!(shop.witness.seen(), (1, 1), "no handler saw a body that is too large");
    // The other routes keep the server's limit.
    let large = format!("\"{}\"", "x".repeat(100));
    assert_eq!(post("/fail/twice/503", &large).await.unwrap().status, 503);
}

#[tokio::test]
async fn a_message_above_the_rpcs_limit_is_resource_exhausted() {
    let (service, _shop) = start().await;
    let mut client = Client::connect(service.http()).await;
    // Two bytes of field; the frame around the message does not count.
    let fits = "x".repeat(62);
    assert_eq!(client.call("/test.v1.Shop/Small", &fits, "").await.unwrap().get_ref().text, fits);
    let refused = client.call("/test.v1.Shop/Small", &format!("{fits}x"), "").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("64 bytes"), "{refused:?}");
    assert_eq!(refusals(&service, "payload_too_large").await, 1.0);
}

#[tokio::test]
async fn the_time_of_an_rpc_is_its_policys() {
    let (service, _shop) = start().await;
    let mut client = Client::connect(service.http()).await;
    let late = client.call("/test.v1.Shop/Slow", "a", "").await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
    assert_eq!(refusals(&service, "deadline_exceeded").await, 1.0);
}

#[tokio::test]
async fn every_answer_of_a_deprecated_route_says_so_whoever_gave_it() {
    let (service, _shop) = start().await;
    for (path, status) in [("thing", 200), ("missing", 404), ("%ff", 400), ("hang", 504), ("panic", 500)] {
        let answer = get(&service, &format!("/old/{path}")).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!((answer.header("deprecation"), answer.header("sunset")), (DEPRECATED, SUNSET), "{path}");
    }
    let head = Request::head(format!("http://{}/old/thing", service.http())).body(String::new()).unwrap();
    assert_eq!(service.send(head).await.unwrap().header("deprecation"), DEPRECATED);
    // Not another method of the same path, nor another route.
    for answer in [service.post("/old/thing", "").await.unwrap(), get(&service, "/accept/json").await] {
        assert_eq!((answer.status.as_u16(), answer.header("deprecation"), answer.header("sunset")), (200, "", ""));
    }
}

#[tokio::test]
async fn a_retry_is_safe_where_a_second_request_does_no_harm() {
    let (service, _shop) = start().await;
    let send = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(format!("http://{}{path}", service.http()));
        service.send(request.body(String::new()).unwrap()).await.unwrap().json()["retry_safe"].clone()
    };
    for (method, path, safe) in [
        ("GET", "/fail/503", Some(true)),
        ("PUT", "/fail/500", Some(true)),
        ("POST", "/fail/503", Some(false)),
        ("POST", "/fail/429", Some(false)),
        ("POST", "/fail/twice/503", Some(true)),
        ("POST", "/fail/twice/408", Some(true)),
        // Where nobody would think of a retry, nothing is said.
        ("GET", "/fail/404", None),
        ("GET", "/nowhere", None),
    ] {
        assert_eq!(send(method, path).await, serde_json::json!(safe), "{method} {path}");
    }
    let mut client = Client::connect(service.http()).await;
    for (path, safe) in [("/test.v1.Shop/Fail", "false"), ("/test.v1.Shop/FailTwice", "true")] {
        let status = client.call(path, "a", "").await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(tells(&status, "retry_safe", safe), "{path}: {status:?}");
    }
}

#[tokio::test]
async fn a_request_that_came_too_late_was_never_processed_and_a_retry_is_safe() {
    let (service, _shop) = start().await;
    let send = async |milliseconds: &str, path: &str| {
        let request = Request::post(format!("http://{}{path}", service.http()));
        let request = request.header("x-request-timeout-ms", milliseconds).body(String::new()).unwrap();
        let answer = service.send(request).await.unwrap();
        assert_problem(&answer, 504, "deadline_exceeded");
        answer.json()["retry_safe"].clone()
    };
    assert_eq!(send("0", "/text").await, true);
    assert_eq!(send("50", "/new/hang").await, false, "nobody knows how far the handler came");
    let mut client = Client::connect(service.http()).await;
    for (time, safe) in [("0m", "true"), ("50m", "false")] {
        let late = client.call("/test.v1.Shop/Busy", "a", time).await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
        assert!(tells(&late, "retry_safe", safe), "{time}: {late:?}");
    }
}

#[tokio::test]
async fn a_caller_that_excludes_the_answer_is_406_before_the_handler_runs() {
    let (service, shop) = start().await;
    let accepting = async |path: &str, accept: &str| {
        let request = Request::get(format!("http://{}{path}", service.http())).header("accept", accept);
        service.send(request.body(String::new()).unwrap()).await.unwrap()
    };
    for (path, own) in [
        ("/accept/json", "application/json"),
        ("/accept/events", "text/event-stream"),
        ("/accept/lines", "application/x-ndjson"),
    ] {
        for accept in ["text/html", &format!("{own};q=0"), &format!("*/*, {own};q=0.0")] {
            let refused = accepting(path, accept).await;
            assert_problem(&refused, 406, "invalid_request");
            let detail = refused.json()["detail"].clone();
            assert!(detail.as_str().is_some_and(|text| text.contains(accept) && text.contains(own)), "{detail}");
        }
        assert_eq!(shop.witness.seen().0, 0, "{path}");
    }
    assert_eq!(refusals(&service, "invalid_request").await, 9.0);
    for (path, accept) in [
        ("/accept/json", "application/json"),
        ("/accept/json", "text/html, */*;q=0.1"),
        ("/accept/events", "text/event-stream"),
        ("/accept/lines", "application/*"),
        // Nobody knows what it answers with.
        ("/accept/other", "text/html"),
        ("/fail/404", "text/html"),
    ] {
        assert_ne!(accepting(path, accept).await.status, 406, "{path} {accept}");
    }
    let labels = ["http_route=\"/accept/json\"", "http_response_status_code=\"406\""];
    until(&service, "http_server_request_duration_seconds_count", &labels, 3.0).await;
}

#[tokio::test]
async fn a_refusal_over_http2_leaves_the_connection_to_the_others() {
    let (service, shop) = start().await;
    let mut client = Client::connect(service.http()).await;
    let mut waits = client.clone();
    let call = tokio::spawn(async move { waits.call("/test.v1.Shop/Busy", "a", "").await });
    shop.witness.began(1).await;
    for _ in 0..3 {
        client.call("/test.v1.Shop/Busy", "b", "").await.unwrap_err();
        client.call("/test.v1.Shop/Small", "b", "").await.unwrap();
    }
    shop.let_go();
    assert!(tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap().is_ok());
}
