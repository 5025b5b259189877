//! A handler's own calls out carry its request's trace, and are seen in it.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{Json, Router, routing::get};
use chassis::{
    Chassis, RequestContext,
    client::{Client, Propagated},
    testing::{OtlpReceiver, ReceivedSpan, TestService},
};
use http::{HeaderMap, Method, Request, StatusCode};
use opentelemetry::trace::SpanKind;
use serde_json::{Value, json};

use crate::support::telemetry::{fresh_trace_id, get_with, sample, spans_of, talkative};

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

/// Fails the first time, then tells what came with the request.
async fn flaky(failed: Arc<AtomicU32>) -> Result<Json<Value>, StatusCode> {
    if failed.fetch_add(1, Ordering::Relaxed) == 0 {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let context = RequestContext::current().unwrap();
    let attempts = context.previous_attempts();
    Ok(Json(json!({ "priority": context.priority(), "caller": context.caller(), "attempts": attempts })))
}

/// A service whose `/items/{id}` fails the first time.
async fn inventory(receiver: &OtlpReceiver) -> TestService {
    let failed = Arc::new(AtomicU32::new(0));
    let routes = Router::new().route("/items/{id}", get(move || flaky(Arc::clone(&failed))));
    let builder = TestService::builder().set("service.name", "inventory").export_to(receiver);
    builder.start(|chassis: Chassis| chassis.mount(routes)).await.unwrap()
}

/// A service that asks it.
async fn front(receiver: &OtlpReceiver, inventory: &TestService) -> TestService {
    let target = format!("static://{}", inventory.http());
    let builder = TestService::builder().set("service.name", "front").set("clients.inventory.target", target);
    let start = |chassis: Chassis| {
        let client = chassis.client("inventory").unwrap();
        let ask = move || async move {
            let call = client.call(Method::GET, "/items/{id}").path("id", &7);
            Json(call.json::<Value>().await.unwrap())
        };
        chassis.mount(Router::new().route("/ask", get(ask)))
    };
    builder.export_to(receiver).start(start).await.unwrap()
}

#[tokio::test]
async fn each_call_of_a_request_has_a_parent_id_of_its_own() {
    let receiver = OtlpReceiver::start().await.unwrap();
    let told = TestService::start(talkative).await.unwrap();
    for sampled in ["00", "01"] {
        let target = format!("http://{}", told.http());
        let start = |chassis: Chassis| {
            let plain = Client::builder(&target).propagate(Propagated::ALL).build().unwrap();
            let clients = [plain, chassis.client("told").unwrap()];
            let ask = move || {
                let clients = clients.clone();
                async move {
                    let mut parents = vec![RequestContext::current().unwrap().trace().span_id.to_string()];
                    for client in clients.iter().flat_map(|client| [client; 2]) {
                        let trace: Value = client.call(Method::GET, "/trace").json().await.unwrap();
                        parents.push(trace["parent_id"].as_str().unwrap().to_owned());
                    }
                    Json(parents)
                }
            };
            chassis.mount(Router::new().route("/ask", get(ask)))
        };
        let builder = TestService::builder().set("clients.told.target", &target).export_to(&receiver);
        let front = builder.start(start).await.unwrap();
        let trace_id = fresh_trace_id();
        let parent = format!("00-{trace_id}-b7ad6b7169203331-{sampled}");
        let parents: Vec<String> =
            serde_json::from_value(get_with(&front, "/ask", &[("traceparent", &parent)]).await.json()).unwrap();
        front.stop().await.unwrap();
        let different: std::collections::HashSet<_> = parents.iter().collect();
        assert_eq!(different.len(), 5, "two plain ones, two of a destination, the request's own: {parents:?}");
        if sampled == "01" {
            let spans = spans_of(&receiver, &trace_id, 7).await;
            let known: Vec<_> = spans.iter().map(|span| span.span_id.to_string()).collect();
            assert!(
                parents.iter().all(|parent| known.contains(parent)),
                "no parent is missing: {parents:?} {spans:#?}"
            );
        }
    }
    told.stop().await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_tried_twice_is_one_tree_over_both_services() {
    let receiver = OtlpReceiver::start().await.unwrap();
    let inventory = inventory(&receiver).await;
    let front = front(&receiver, &inventory).await;
    let answer = get_with(&front, "/ask", &[("x-request-priority", "critical")]).await;
    assert_eq!(answer.json(), json!({ "priority": "critical", "caller": "front", "attempts": 1 }), "{}", answer.text());
    let trace_id = answer.header("x-trace-id").to_owned();
    let metrics = front.metrics().await.unwrap();
    front.stop().await.unwrap();
    inventory.stop().await.unwrap();

    let spans = spans_of(&receiver, &trace_id, 6).await;
    assert_eq!(spans.len(), 6, "{spans:#?}");
    let below = |parent: &ReceivedSpan| -> Vec<&ReceivedSpan> {
        let mut below: Vec<_> = spans.iter().filter(|span| span.parent_span_id == Some(parent.span_id)).collect();
        below.sort_by_key(|span| span.start_time);
        below
    };
    let root = spans.iter().find(|span| span.parent_span_id.is_none()).unwrap();
    assert_eq!((root.name.as_str(), &root.kind), ("GET /ask", &SpanKind::Server));
    let [call] = below(root)[..] else { panic!("{spans:#?}") };
    assert_eq!((call.name.as_str(), &call.kind), ("inventory GET /items/{id}", &SpanKind::Internal));
    let attempts = below(call);
    let resends: Vec<_> = attempts.iter().map(|span| span.attributes.get("http.request.resend_count")).collect();
    assert_eq!(resends, [None, Some(&1.into())]);
    for (attempt, status) in attempts.iter().zip([503, 200]) {
        assert_eq!((attempt.name.as_str(), &attempt.kind), ("GET /items/{id}", &SpanKind::Client));
        let [served] = below(attempt)[..] else { panic!("{spans:#?}") };
        assert_eq!((&served.kind, &served.resource["service.name"]), (&SpanKind::Server, &"inventory".into()));
        for span in [attempt, served] {
            assert_eq!(span.attributes["http.response.status_code"], status);
        }
    }
    let events: Vec<_> = attempts[0].events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        events,
        ["http.connect.start", "http.connect.done", "http.receive.start"],
        "an address needs no look-up"
    );

    let of = |name: &str, labels: &[&str]| sample(&metrics, name, labels);
    let call = ["destination=\"inventory\"", "method=\"GET /items/{id}\"", "outcome=\"success\""];
    assert_eq!(of("chassis_client_call_duration_seconds_count", &call), Some(1.0));
    for status in ["503", "200"] {
        let status = format!("http_response_status_code=\"{status}\"");
        assert_eq!(of("http_client_request_duration_seconds_count", &[&status]), Some(1.0), "{status}");
    }
    assert_eq!(of("chassis_client_retries_total", &["destination=\"inventory\"", "reason=\"failed\""]), Some(1.0));
    assert_eq!(of("chassis_client_endpoints", &["destination=\"inventory\"", "state=\"closed\""]), Some(1.0));
    assert_eq!(of("chassis_discovery_stale", &["destination=\"inventory\""]), Some(0.0));
}
