//! What a caller claims of its call decides nothing but the form of the answer.

use axum::{Router, body::Bytes, routing::post};
use chassis::{Chassis, testing::TestService};
use http::Request;

use crate::support::{scrape::sum, telemetry::access_line};

async fn start() -> TestService {
    let routes = Router::new()
        .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/hang", post(|| async { std::future::pending::<()>().await }));
    let service = TestService::builder().set("http.body_limit", "8KiB").set("http.request_timeout", "100ms");
    service.start(|chassis: Chassis| chassis.mount(routes)).await.unwrap()
}

fn claims_grpc(service: &TestService, path: &str, body: String) -> Request<String> {
    let request = Request::post(format!("http://{}{path}", service.http()));
    request.header("content-type", "application/grpc").body(body).unwrap()
}

#[tokio::test]
async fn a_content_type_of_grpc_lifts_no_limit_of_http() {
    let service = start().await;
    let large = service.send(claims_grpc(&service, "/length", "x".repeat(9 * 1024))).await.unwrap();
    assert_eq!(large.header("grpc-status"), "8", "RESOURCE_EXHAUSTED, in the form that was asked for: {large:?}");
    let slow = service.send(claims_grpc(&service, "/hang", String::new())).await.unwrap();
    assert_eq!(slow.header("grpc-status"), "4", "DEADLINE_EXCEEDED: {slow:?}");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn calls_that_only_claim_to_be_grpc_add_no_series_of_their_own() {
    let service = start().await;
    for n in 0..20 {
        for path in [format!("/junk{n}/x"), "/length".to_owned()] {
            let mut request = claims_grpc(&service, &path, String::new());
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
        claims_grpc(&service, "/length", "abc".into()),
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
