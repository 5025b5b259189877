//! gRPC passes the same layers as HTTP: rejections in its own words, metrics, trace ids, panics.

use axum::{Router, routing::get};
use chassis::{Chassis, testing::TestService};
use tonic::Code;

use crate::support::{
    echo::{Client, Echo},
    raw::Raw,
    scrape::{sum, until, until_nothing_is_in_flight},
    telemetry::access_line,
    witness::Witness,
};

const COUNT: &str = "rpc_server_call_duration_seconds_count";

async fn start(witness: &Witness) -> (TestService, Client) {
    let echo = Echo(witness.clone());
    let routes = Router::new().route("/plain", get(|| async { "plain" }));
    let service = TestService::start(|chassis: Chassis| chassis.mount(routes).grpc(echo)).await.unwrap();
    let client = Client::connect(service.http()).await;
    (service, client)
}

#[tokio::test]
async fn a_call_is_measured_and_carries_its_trace_id() {
    let (service, mut client) = start(&Witness::new()).await;
    let answer = client.say("hello", "").await.unwrap();
    assert_eq!(answer.get_ref().text, "hello");
    assert_eq!(answer.metadata().get("x-trace-id").unwrap().len(), 32);
    until(&service, COUNT, &["rpc_method=\"test.v1.Echo/Say\"", "\"OK\""], 1.0).await;
    until_nothing_is_in_flight(&service).await;
}

#[tokio::test]
async fn what_nobody_serves_is_unimplemented_and_adds_no_series() {
    let (service, mut client) = start(&Witness::new()).await;
    for path in ["/no.such.Service/Method", "/test.v1.Echo/NoSuchMethod", "/plain/no"] {
        let status = client.call(path, "hello", "").await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
        assert_eq!(status.metadata().get("x-trace-id").unwrap().len(), 32, "{path}");
    }
    until(&service, COUNT, &["rpc_method=\"_OTHER\"", "UNIMPLEMENTED"], 3.0).await;
    assert_eq!(sum(&service.metrics().await.unwrap(), COUNT, &["NoSuchMethod"]), 0.0);
}

#[tokio::test]
async fn a_method_that_answers_unimplemented_keeps_its_name() {
    let (service, mut client) = start(&Witness::new()).await;
    assert_eq!(client.say("unimplemented", "").await.unwrap_err().code(), Code::Unimplemented);
    until(&service, COUNT, &["rpc_method=\"test.v1.Echo/Say\"", "UNIMPLEMENTED"], 1.0).await;
    assert_eq!(sum(&service.metrics().await.unwrap(), COUNT, &["_OTHER"]), 0.0);
}

#[tokio::test]
async fn a_call_of_nothing_served_is_no_error() {
    let http_only = TestService::start(|chassis: Chassis| chassis).await.unwrap();
    let (both, _client) = start(&Witness::new()).await;
    for (service, path) in [(&http_only, "/test.v1.Echo/Say"), (&both, "/test.v1.Echo/NoSuchMethod")] {
        let status = Client::connect(service.http()).await.call(path, "a", "").await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        let trace_id = status.metadata().get("x-trace-id").unwrap().to_str().unwrap();
        let line = access_line(trace_id).await;
        assert_eq!(
            (&line["level"], &line["rpc.response.status_code"]),
            (&"INFO".into(), &"UNIMPLEMENTED".into()),
            "{line}"
        );
    }
}

#[tokio::test]
async fn plain_http_beside_grpc_still_hears_problems() {
    let (service, _client) = start(&Witness::new()).await;
    let mut raw = Raw::connect(service.http()).await;
    raw.get("/nowhere").await.assert_problem(404, "not_found");
    for path in ["/test.v1.Echo/Say", "/test.v1.Echo/NoSuchMethod"] {
        raw.get(path).await.assert_problem(415, "invalid_request");
    }
    assert_eq!(raw.get("/plain").await.body, b"plain");
}

#[tokio::test]
async fn a_panic_is_internal_and_the_next_call_on_the_connection_works() {
    let (service, mut client) = start(&Witness::new()).await;
    let status = client.say("panic", "").await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    assert!(!status.message().contains("secret"), "{status:?}");
    assert_eq!(client.say("hello", "").await.unwrap().into_inner().text, "hello");
    until(&service, COUNT, &["INTERNAL", "error_type=\"internal\""], 1.0).await;
    let health = service.operator("/health").await.unwrap().json();
    assert_eq!(health["checks"]["panics"]["status"], "degraded", "{health}");
}

#[tokio::test]
async fn a_message_over_tonics_limit_is_refused_and_the_body_limit_does_not_count() {
    let (service, mut client) = start(&Witness::new()).await;
    // Above http.body_limit, below tonic's 4 MiB.
    assert_eq!(client.say(&"a".repeat(2 << 20), "").await.unwrap().into_inner().text.len(), 2 << 20);
    let status = client.say(&"a".repeat(5 << 20), "").await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    until_nothing_is_in_flight(&service).await;
}

#[tokio::test]
async fn a_caller_that_gives_up_ends_the_handler_and_is_cancelled() {
    let witness = Witness::new();
    let (service, mut client) = start(&witness).await;
    let call = tokio::spawn(async move { client.say("hang", "").await.map(|_| ()) });
    witness.began(1).await;
    call.abort();
    witness.ended(1).await;
    until_nothing_is_in_flight(&service).await;
    until(&service, COUNT, &["rpc_method=\"test.v1.Echo/Say\"", "CANCELLED"], 1.0).await;
}
