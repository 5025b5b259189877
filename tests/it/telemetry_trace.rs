//! One trace id in the answer, the log and the spans, and the handler's own spans where they belong.

use chassis::testing::{ReceivedSpan, TestService, log_lines_of};
use opentelemetry::trace::SpanKind;
use serde_json::Value;

use crate::support::{
    telemetry::{access_line, exporting, fresh_trace_id, get_with, named, spans_of, talkative},
    telemetry_grpc::{call, channel},
};

/// The event that a place in the handler logged.
fn event(trace_id: &str, at: &str) -> Value {
    let lines = log_lines_of(trace_id);
    lines.iter().find(|line| line["at"] == at).unwrap_or_else(|| panic!("no event {at} in {lines:#?}")).clone()
}

/// outer and inner hang below the server's span, one below the other, and their events carry their ids.
fn check_children(spans: &[ReceivedSpan], server: &str) {
    let (server, outer, inner) = (named(spans, server), named(spans, "outer"), named(spans, "inner"));
    assert_eq!(server.kind, SpanKind::Server);
    assert_eq!(outer.kind, SpanKind::Internal);
    assert_eq!(outer.parent_span_id, Some(server.span_id));
    assert_eq!(inner.parent_span_id, Some(outer.span_id));
    let trace_id = server.trace_id.to_string();
    for span in [outer, inner] {
        assert_eq!(span.trace_id, server.trace_id);
        assert_eq!(event(&trace_id, &span.name)["span_id"], span.span_id.to_string());
        assert!(server.start_time <= span.start_time && span.end_time <= server.end_time, "{spans:#?}");
    }
}

#[tokio::test]
async fn the_trace_id_is_the_same_in_answer_log_and_span() {
    let (service, receiver) = exporting(TestService::builder()).await;
    let answer = service.get("/orders/7").await.unwrap();
    let trace_id = answer.header("x-trace-id");
    assert_eq!((answer.status.as_u16(), answer.text().as_str(), trace_id.len()), (200, "8", 32));
    let spans = spans_of(&receiver, trace_id, 3).await;
    let server = named(&spans, "GET /orders/{id}");
    let server_span_id = server.span_id.to_string();
    assert_eq!(access_line(trace_id).await["span_id"], server_span_id);
    assert_eq!(event(trace_id, "handler")["span_id"], server_span_id);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn instrumented_functions_are_children_of_the_request() {
    let (service, receiver) = exporting(TestService::builder()).await;
    for _ in 0..20 {
        let answer = service.get("/orders/7").await.unwrap();
        let spans = spans_of(&receiver, answer.header("x-trace-id"), 3).await;
        check_children(&spans, "GET /orders/{id}");
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn instrumented_functions_are_children_of_the_grpc_call() {
    let (service, receiver) = exporting(TestService::builder()).await;
    let channel = channel(&service).await;
    for _ in 0..5 {
        let (answer, trace_id) = call(&channel, "talk.v1.Talk/Say", 7, &[]).await;
        assert_eq!(answer.unwrap(), 8);
        let spans = spans_of(&receiver, &trace_id, 3).await;
        check_children(&spans, "talk.v1.Talk/Say");
        let server = named(&spans, "talk.v1.Talk/Say").span_id.to_string();
        assert_eq!(access_line(&trace_id).await["span_id"], server);
        assert_eq!(event(&trace_id, "handler")["span_id"], server);
    }
    drop(channel);
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_task_that_moves_between_threads_stays_in_its_trace() {
    let (service, receiver) = exporting(TestService::builder()).await;
    let mut has_moved = false;
    for _ in 0..20 {
        let answer = service.get("/moved").await.unwrap();
        has_moved |= answer.text() == "true";
        let trace_id = answer.header("x-trace-id");
        let spans = spans_of(&receiver, trace_id, 3).await;
        let (server, moved, inner) = (named(&spans, "GET /moved"), named(&spans, "moved"), named(&spans, "inner"));
        assert_eq!((moved.parent_span_id, inner.parent_span_id), (Some(server.span_id), Some(moved.span_id)));
        assert_eq!(event(trace_id, "moved")["span_id"], moved.span_id.to_string());
        assert_eq!(event(trace_id, "inner")["span_id"], inner.span_id.to_string());
    }
    assert!(has_moved, "the task never changed its thread, so nothing was tested");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn requests_beside_each_other_keep_their_spans_apart() {
    let (service, receiver) = exporting(TestService::builder()).await;
    let answers = tokio::task::JoinSet::from_iter((0..50).map(|id| {
        let request = http::Request::get(format!("http://{}/orders/{id}", service.http())).body(String::new()).unwrap();
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
        async move { client.request(request).await.unwrap().headers()["x-trace-id"].to_str().unwrap().to_owned() }
    }));
    for trace_id in answers.join_all().await {
        let spans = spans_of(&receiver, &trace_id, 3).await;
        assert_eq!(spans.len(), 3);
        check_children(&spans, "GET /orders/{id}");
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_task_spawned_in_the_requests_scope_belongs_to_its_trace() {
    let (service, receiver) = exporting(TestService::builder()).await;
    let answer = service.get("/spawned").await.unwrap();
    let spans = spans_of(&receiver, answer.header("x-trace-id"), 3).await;
    check_children(&spans, "GET /spawned");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_not_sampled_exports_nothing_and_its_lines_still_carry_its_ids() {
    let (service, receiver) = exporting(TestService::builder()).await;
    let channel = channel(&service).await;
    let trace_id = fresh_trace_id();
    let parent = format!("00-{trace_id}-00f067aa0ba902b7-00");
    for path in ["/orders/7", "/spawned"] {
        assert_eq!(get_with(&service, path, &[("traceparent", &parent)]).await.header("x-trace-id"), trace_id);
    }
    let (_, of_call) = call(&channel, "talk.v1.Talk/Say", 7, &[("traceparent", &parent)]).await;
    assert_eq!(of_call, trace_id);
    let server_span = access_line(&trace_id).await["span_id"].clone();
    for at in ["handler", "outer", "inner"] {
        assert_eq!(event(&trace_id, at)["span_id"], server_span, "the first request's own id");
    }
    drop(channel);
    service.stop().await.unwrap();
    assert_eq!(receiver.spans(), []);
}

#[tokio::test]
async fn without_an_exporter_lines_carry_the_requests_ids() {
    let service = TestService::start(talkative).await.unwrap();
    let answer = service.get("/orders/7").await.unwrap();
    let trace_id = answer.header("x-trace-id");
    let server_span = access_line(trace_id).await["span_id"].clone();
    for at in ["handler", "outer", "inner"] {
        assert_eq!(event(trace_id, at)["span_id"], server_span, "{at}");
    }
    service.stop().await.unwrap();
}
