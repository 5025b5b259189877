//! A handler's own calls out carry its request's trace.

use axum::{Json, Router, routing::get};
use chassis::{
    Chassis, RequestContext,
    testing::{OtlpReceiver, TestService},
};
use http::{HeaderMap, Request};
use serde_json::{Value, json};

use crate::support::telemetry::spans_of;

fn headers_out() -> Value {
    let mut headers = HeaderMap::new();
    RequestContext::current().unwrap().inject(&mut headers);
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    json!({ "traceparent": text("traceparent"), "tracestate": text("tracestate"), "baggage": text("baggage") })
}

#[tracing::instrument]
async fn call() -> Value {
    tokio::task::yield_now().await;
    headers_out()
}

fn routes() -> Router {
    Router::new()
        .route("/plain", get(|| async { Json(headers_out()) }))
        .route("/in-a-span", get(|| async { Json(call().await) }))
}

#[tokio::test]
async fn the_callers_trace_state_and_baggage_travel_on_under_this_services_span() {
    let service = TestService::start(|chassis: Chassis| chassis.mount(routes())).await.unwrap();
    let request = Request::get(format!("http://{}/plain", service.http()))
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("tracestate", "rojo=00f067aa0ba902b7")
        .header("baggage", "tenant=blue");
    let out = service.send(request.body(String::new()).unwrap()).await.unwrap().json();
    let parent = out["traceparent"].as_str().unwrap();
    assert!(parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && parent.ends_with("-01"), "{parent}");
    assert!(!parent.contains("b7ad6b7169203331"), "the parent is this service's span, not the caller's: {parent}");
    assert_eq!((&out["tracestate"], &out["baggage"]), (&"rojo=00f067aa0ba902b7".into(), &"tenant=blue".into()));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_call_made_in_a_span_of_the_handler_is_that_spans_child() {
    let receiver = OtlpReceiver::start().await.unwrap();
    let builder = TestService::builder().export_to(&receiver);
    let service = builder.start(|chassis: Chassis| chassis.mount(routes())).await.unwrap();
    let answer = service.get("/in-a-span").await.unwrap();
    let trace_id = answer.header("x-trace-id").to_owned();
    let parent = answer.json()["traceparent"].as_str().unwrap().to_owned();
    service.stop().await.unwrap();
    let spans = spans_of(&receiver, &trace_id, 2).await;
    let call = spans.iter().find(|span| span.name == "call").unwrap();
    assert_eq!(parent, format!("00-{trace_id}-{}-{}", call.span_id, &parent[53..]));
}
