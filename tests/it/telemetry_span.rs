//! The server's span as it arrives at the receiver.

use chassis::testing::TestService;
use opentelemetry::trace::{SpanKind, Status};
use serde_json::json;

use crate::support::{
    telemetry::{exporting, fresh_trace_id, get_with, named, spans_of},
    telemetry_grpc::{call, channel},
};

const PARENT: &str = "00f067aa0ba902b7";

#[tokio::test]
async fn the_span_says_what_the_conventions_ask_for() {
    let (service, receiver) = exporting(TestService::builder()).await;
    let answer = get_with(&service, "/orders/7?token=hunter2", &[("user-agent", "curl/8")]).await;
    let spans = spans_of(&receiver, answer.header("x-trace-id"), 3).await;
    let span = named(&spans, "GET /orders/{id}");
    assert_eq!((span.kind.clone(), span.status.clone(), span.parent_span_id), (SpanKind::Server, Status::Unset, None));
    assert_eq!((span.scope.as_str(), span.trace_state.as_str()), ("chassis", ""));
    let expected = json!({
        "http.request.method": "GET", "http.route": "/orders/{id}", "http.response.status_code": 200,
        "url.path": "/orders/7", "url.scheme": "http", "network.protocol.version": "1.1",
        "client.address": "127.0.0.1", "user_agent.original": "curl/8",
        "server.address": "127.0.0.1", "server.port": service.http().port(),
    });
    assert_eq!(json!(span.attributes), expected, "and no secret of the query");
    assert!(span.start_time < span.end_time);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn the_span_names_whom_the_caller_asked_for() {
    let (service, receiver) = exporting(TestService::builder()).await;
    for (host, address, port) in [
        ("orders.example:1234", "orders.example", 1234),
        ("orders.example", "orders.example", 80),
        ("[::1]:90", "::1", 90),
    ] {
        let answer = get_with(&service, "/trace", &[("host", host)]).await;
        let spans = spans_of(&receiver, answer.header("x-trace-id"), 1).await;
        let attributes = &spans[0].attributes;
        assert_eq!((&attributes["server.address"], &attributes["server.port"]), (&json!(address), &json!(port)));
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn probes_have_no_span_unless_asked_for() {
    for traced in [false, true] {
        let (service, receiver) = exporting(TestService::builder().set("telemetry.sampling.probes", traced)).await;
        let parent = format!("00-{}-{PARENT}-01", fresh_trace_id());
        for path in ["/livez", "/readyz", "/startupz", "/trace"] {
            get_with(&service, path, &[("traceparent", &parent)]).await;
        }
        let channel = channel(&service).await;
        call(&channel, "grpc.health.v1.Health/Check", 0, &[("traceparent", &parent)]).await.0.unwrap();
        drop(channel);
        service.stop().await.unwrap();
        assert_eq!(receiver.spans().len(), if traced { 5 } else { 1 }, "{:#?}", receiver.spans());
    }
}

#[tokio::test]
async fn a_4xx_is_the_callers_fault_and_a_5xx_is_an_error() {
    let (service, receiver) = exporting(TestService::builder()).await;
    for (path, name, status, failed, error_type) in [
        ("/fail/400", "GET /fail/{status}", 400, false, json!(null)),
        ("/fail/404", "GET /fail/{status}", 404, false, json!("not_found")),
        ("/fail/500", "GET /fail/{status}", 500, true, json!("500")),
        ("/fail/503", "GET /fail/{status}", 503, true, json!("503")),
        ("/panic", "GET /panic", 500, true, json!("internal")),
        ("/no/such/route", "GET", 404, false, json!("not_found")),
    ] {
        let answer = service.get(path).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{path}");
        let spans = spans_of(&receiver, answer.header("x-trace-id"), 1).await;
        let span = named(&spans, name);
        assert_eq!(matches!(span.status, Status::Error { .. }), failed, "{path}: {span:#?}");
        assert!(failed || span.status == Status::Unset, "{path}: {span:#?}");
        assert_eq!(span.attributes["http.response.status_code"], status, "{path}");
        assert_eq!(span.attributes.get("error.type").cloned().unwrap_or_default(), error_type, "{path}");
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn the_callers_span_is_the_parent_and_its_state_is_kept() {
    let (service, receiver) = exporting(TestService::builder()).await;
    let trace_id = fresh_trace_id();
    let headers =
        [("traceparent", format!("00-{trace_id}-{PARENT}-01")), ("tracestate", "rojo=1,congo=t61".to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = get_with(&service, "/orders/7", &headers).await;
    assert_eq!(answer.header("x-trace-id"), trace_id);
    let spans = spans_of(&receiver, &trace_id, 3).await;
    let server = named(&spans, "GET /orders/{id}");
    assert_eq!(server.parent_span_id.unwrap().to_string(), PARENT);
    for span in &spans {
        assert_eq!(span.trace_state, "rojo=1,congo=t61", "{}", span.name);
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_calls_span_says_what_the_rpc_conventions_ask_for() {
    let (service, receiver) = exporting(TestService::builder()).await;
    let channel = channel(&service).await;
    let trace_id = fresh_trace_id();
    let parent = format!("00-{trace_id}-{PARENT}-01");
    call(&channel, "talk.v1.Talk/Say", 7, &[("traceparent", &parent)]).await.0.unwrap();
    let spans = spans_of(&receiver, &trace_id, 3).await;
    let span = named(&spans, "talk.v1.Talk/Say");
    assert_eq!((span.kind.clone(), span.status.clone()), (SpanKind::Server, Status::Unset));
    assert_eq!(span.parent_span_id.unwrap().to_string(), PARENT);
    for (key, value) in
        [("rpc.system.name", "grpc"), ("rpc.method", "talk.v1.Talk/Say"), ("rpc.response.status_code", "OK")]
    {
        assert_eq!(span.attributes[key], value);
    }
    assert_eq!(span.attributes["server.port"], i64::from(service.http().port()));
    assert!(!span.attributes.contains_key("error.type"), "{span:#?}");
    drop(channel);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_calls_span_is_an_error_when_the_code_is_the_servers_fault() {
    let (service, receiver) = exporting(TestService::builder()).await;
    let channel = channel(&service).await;
    for (code, name, failed) in [(5, "NOT_FOUND", false), (13, "INTERNAL", true), (14, "UNAVAILABLE", true)] {
        let (answer, trace_id) = call(&channel, "talk.v1.Talk/Fail", code, &[]).await;
        assert_eq!(answer.unwrap_err().code() as u32, code);
        let spans = spans_of(&receiver, &trace_id, 1).await;
        let span = named(&spans, "talk.v1.Talk/Fail");
        assert_eq!(matches!(span.status, Status::Error { .. }), failed, "{name}: {span:#?}");
        assert_eq!(span.attributes["rpc.response.status_code"], name);
        assert_eq!(span.attributes["error.type"], name);
    }
    drop(channel);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn spans_and_metrics_say_who_sent_them() {
    let builder = TestService::builder()
        .set("service.instance_id", "i-7")
        .env("OTEL_RESOURCE_ATTRIBUTES", "team=pay%2Croll,deployment.environment.name=staging")
        .env("OTEL_SERVICE_NAME", "shop");
    let (service, receiver) = exporting(builder).await;
    let answer = service.get("/trace").await.unwrap();
    let spans = spans_of(&receiver, answer.header("x-trace-id"), 1).await;
    let info = service.operator("/info").await.unwrap().json();
    service.stop().await.unwrap();
    let metrics = receiver.metrics();
    let of_metric = &metrics.iter().find(|metric| metric.name == "http.server.request.duration").unwrap().resource;
    for resource in [&spans[0].resource, of_metric] {
        for (key, value) in [
            ("service.name", "shop"),
            ("service.version", "1.2.3"),
            ("service.instance.id", "i-7"),
            ("deployment.environment.name", "staging"),
            ("team", "pay,roll"),
            ("telemetry.sdk.language", "rust"),
        ] {
            assert_eq!(resource[key], value);
        }
    }
    assert_eq!((&info["service"], &info["instance_id"]), (&json!("shop"), &json!("i-7")), "{info}");
}
