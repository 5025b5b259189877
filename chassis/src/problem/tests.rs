use std::{collections::BTreeMap, io};

use axum::response::Response;
use opentelemetry::trace::TraceId;
use prost::Message;
use serde_json::{Value, json};

use super::{
    grpc::{BadRequest, ErrorInfo, RetryInfo, RpcStatus},
    *,
};
use crate::cause::ErrorType;

async fn document(response: Response) -> Value {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body in memory");
    serde_json::from_slice(&bytes).expect("a problem is JSON")
}

fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.headers().get(name).map(|value| value.to_str().expect("text"))
}

fn details(status: &tonic::Status) -> (RpcStatus, BTreeMap<String, Vec<u8>>) {
    let decoded = RpcStatus::decode(status.details()).expect("google.rpc.Status");
    let parts = decoded.details.iter().map(|any| (any.type_url.clone(), any.value.clone())).collect();
    (decoded, parts)
}

#[derive(Debug, thiserror::Error)]
#[error("the store failed")]
struct StoreError(#[source] io::Error);

fn store_failed(why: &str) -> Problem {
    Problem::unavailable("store").explained_by(&StoreError(io::Error::other(why.to_owned())))
}

#[tokio::test]
async fn a_problem_has_every_member_of_the_contract() {
    let problem = Problem::invalid("order_invalid")
        .type_uri("https://example.com/invalid")
        .title("The order is not valid")
        .detail("two fields are wrong")
        .retry_after(Duration::from_millis(1500))
        .retry_safe(true)
        .violation("/items/0/sku", "is empty")
        .with("limit", 3);
    let response = problem.into_http(Some(TraceId::from(0xabc)));
    assert_eq!(response.status(), 400);
    assert_eq!(header(&response, "content-type"), Some("application/problem+json"));
    assert_eq!(header(&response, "retry-after"), Some("2"));
    assert_eq!(response.extensions().get(), Some(&ErrorType("order_invalid")));
    assert_eq!(
        document(response).await,
        json!({
            "type": "https://example.com/invalid",
            "title": "The order is not valid",
            "status": 400,
            "detail": "two fields are wrong",
            "instance": "urn:trace:00000000000000000000000000000abc",
            "code": "order_invalid",
            "trace_id": "00000000000000000000000000000abc",
            "retry_after": 2,
            "retry_safe": true,
            "violations": [{ "pointer": "/items/0/sku", "message": "is empty" }],
            "limit": 3,
        })
    );
}

#[tokio::test]
async fn a_violation_names_a_parameter_where_there_is_no_body() {
    let problem = || Problem::invalid("order_invalid").parameter_violation("limit", "is too large");
    let body = document(problem().into_http(None)).await;
    assert_eq!(body["violations"], json!([{ "parameter": "limit", "message": "is too large" }]));
    let (_, parts) = details(&problem().into_status());
    let bad = BadRequest::decode(&*parts["type.googleapis.com/google.rpc.BadRequest"]).expect("BadRequest");
    assert_eq!((&*bad.field_violations[0].field, &*bad.field_violations[0].description), ("limit", "is too large"));
}

#[test]
fn a_header_is_sent_beside_the_problems_own_and_over_http_alone() {
    let accept = HeaderValue::from_static("application/json");
    let problem = || {
        Problem::invalid("type_wrong")
            .header(::http::header::ACCEPT, accept.clone())
            .header(::http::header::CONTENT_TYPE, accept.clone())
    };
    let response = problem().into_http(None);
    assert_eq!(header(&response, "accept"), Some("application/json"));
    assert_eq!(header(&response, "content-type"), Some("application/problem+json"));
    assert_eq!(response.headers().get_all("content-type").iter().count(), 1);
    assert_eq!(header(&problem().into_grpc(), "accept"), None);
}

#[tokio::test]
async fn a_plain_problem_is_about_blank_and_short() {
    let body = document(Problem::not_found("order_unknown").into_http(None)).await;
    assert_eq!(body, json!({ "type": "about:blank", "title": "Not Found", "status": 404, "code": "order_unknown" }));
}

#[tokio::test]
async fn every_cause_speaks_both_transports_in_one_word() {
    for cause in Cause::ALL {
        let response = Problem::from(cause).into_http(None);
        assert_eq!(response.status(), cause.http_status());
        assert_eq!(response.extensions().get(), Some(&ErrorType(cause.as_str())));
        assert_eq!(document(response).await["code"], cause.as_str());

        let response = Problem::from(cause).into_grpc();
        assert_eq!(response.extensions().get(), Some(&ErrorType(cause.as_str())));
        let status = Problem::from(cause).into_status();
        assert_eq!(status.code(), cause.grpc_code());
        let (_, parts) = details(&status);
        let info = ErrorInfo::decode(&*parts["type.googleapis.com/google.rpc.ErrorInfo"]).expect("ErrorInfo");
        assert_eq!(info.reason, cause.as_str());
    }
}

#[test]
fn every_kind_has_its_status_and_its_grpc_code() {
    let table: Vec<_> = KINDS
        .iter()
        .map(|(kind, make)| {
            let problem = make("word");
            (*kind, problem.status().as_u16(), problem.grpc_code())
        })
        .collect();
    assert_eq!(
        table,
        [
            ("invalid", 400, Code::InvalidArgument),
            ("unauthenticated", 401, Code::Unauthenticated),
            ("forbidden", 403, Code::PermissionDenied),
            ("not_found", 404, Code::NotFound),
            ("conflict", 409, Code::Aborted),
            ("already_exists", 409, Code::AlreadyExists),
            ("gone", 410, Code::NotFound),
            ("precondition_failed", 412, Code::FailedPrecondition),
            ("payload_too_large", 413, Code::ResourceExhausted),
            ("unprocessable", 422, Code::InvalidArgument),
            ("too_many_requests", 429, Code::ResourceExhausted),
            ("internal", 500, Code::Internal),
            ("not_implemented", 501, Code::Unimplemented),
            ("unavailable", 503, Code::Unavailable),
            ("timeout", 504, Code::DeadlineExceeded),
        ]
    );
}

#[test]
fn no_error_status_becomes_grpc_ok() {
    for status in (100..1000).filter_map(|status| StatusCode::from_u16(status).ok()) {
        assert_ne!(Problem::new(status, "word").grpc_code(), Code::Ok, "{status}");
    }
}

#[test]
fn a_grpc_answer_is_trailers_only() {
    let response = Problem::not_found("order_unknown").detail("50 % of café").into_grpc();
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), Some("application/grpc"));
    assert_eq!(header(&response, "grpc-status"), Some("5"));
    assert_eq!(header(&response, "grpc-message"), Some("50%20%25%20of%20caf%C3%A9"));
    assert!(header(&response, "grpc-status-details-bin").is_some());
    assert!(http_body::Body::is_end_stream(response.body()));
}

#[test]
fn grpc_details_carry_violations_retry_and_further_members() {
    let status = Problem::invalid("order_invalid")
        .detail("wrong")
        .violation("/items/0/a~1b", "is empty")
        .retry_after(Duration::from_millis(250))
        .with("limit", 3)
        .with("unit", "items")
        .into_status();
    let (rpc, parts) = details(&status);
    assert_eq!((rpc.code, &*rpc.message), (3, "wrong"));
    let info = ErrorInfo::decode(&*parts["type.googleapis.com/google.rpc.ErrorInfo"]).expect("ErrorInfo");
    assert_eq!((&*info.metadata["limit"], &*info.metadata["unit"]), ("3", "items"));
    let bad = BadRequest::decode(&*parts["type.googleapis.com/google.rpc.BadRequest"]).expect("BadRequest");
    assert_eq!((&*bad.field_violations[0].field, &*bad.field_violations[0].description), ("items[0].a/b", "is empty"));
    let retry = RetryInfo::decode(&*parts["type.googleapis.com/google.rpc.RetryInfo"]).expect("RetryInfo");
    assert_eq!(retry.retry_delay, Some(prost_types::Duration { seconds: 0, nanos: 250_000_000 }));
}

#[test]
fn a_grpc_answer_fits_into_headers_whatever_was_put_in() {
    let mut problem = Problem::invalid("order_invalid").detail("é".repeat(5000)).with("blob", "x".repeat(9000));
    for n in 0..500 {
        problem = problem.violation(format!("/items/{n}"), "is empty");
    }
    let response = problem.into_grpc();
    let bytes: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(bytes < 8192, "{bytes}");
}

#[test]
fn the_callers_mistake_is_explained() {
    let problem = Problem::not_found("order_unknown").explained_by(&StoreError(io::Error::other("inside")));
    assert_eq!((problem.0.detail.as_deref(), problem.0.cause.as_deref()), (Some("the store failed"), None));
}

#[tokio::test]
async fn the_services_fault_is_not_shown() {
    let error = || store_failed("password of db-7 refused");
    assert_eq!(error().0.cause.as_deref(), Some("the store failed: password of db-7 refused"));
    assert_eq!(
        document(error().into_http(None)).await,
        json!({
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "code": "store",
            "retry_safe": false,
        })
    );
    let status = error().into_status();
    assert_eq!(status.message(), "Service Unavailable");
    assert!(!String::from_utf8_lossy(status.details()).contains("db-7"));
}

#[test]
fn the_services_fault_is_logged_once_with_its_code() {
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);
    struct Fields(String);
    impl tracing::field::Visit for Fields {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
            self.0.push_str(&format!("{}={value:?} ", field.name()));
        }
    }
    impl tracing::Subscriber for Lines {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            let mut fields = Fields(format!("{} ", event.metadata().level()));
            event.record(&mut fields);
            self.0.lock().expect("no panic").push(fields.0);
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let _ = store_failed("disk is full").into_http(None);
        let _ = store_failed("disk is full").into_grpc();
        let _ = Problem::conflict("sold_out").into_http(None);
        let _ = Problem::from(Cause::Overloaded).into_http(None);
    });
    let lines = lines.0.lock().expect("no panic");
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in &*lines {
        assert!(line.starts_with("ERROR"), "{line}");
        assert!(line.contains("error.type=\"store\""), "{line}");
        assert!(line.contains("error=the store failed: disk is full"), "{line}");
    }
}

#[test]
fn a_source_that_is_repeated_in_the_text_is_told_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("read failed: {0}")]
    struct Repeats(#[source] io::Error);
    assert_eq!(with_sources(&Repeats(io::Error::other("disk"))), "read failed: disk");
}

#[tokio::test]
async fn a_problems_own_member_cannot_be_replaced() {
    let problem = Problem::invalid("word").with("status", 200).with("x", 1).with("x", 2);
    let body = document(problem.into_http(None)).await;
    assert_eq!((&body["status"], &body["x"]), (&json!(400), &json!(2)));
}

#[test]
fn a_grpc_answer_fits_into_the_headers_of_any_client_whatever_its_letters() {
    for letter in ["a", "é", "語", "🦀", "%", " "] {
        let text = letter.repeat(5000 / letter.len());
        let problem = Problem::invalid("order_invalid").detail(text.clone()).retry_after(Duration::from_secs(2));
        let problem = (0..100).fold(problem, |problem, at| problem.violation(format!("/items/{at}"), &text[..60]));
        let response = problem.with("more", text).into_grpc();
        // As grpc-core counts them (RFC 9113, section 6.5.2).
        let size: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(size < 7 << 10, "{letter}: {size}");
        assert!(size > 2 << 10, "{letter}: as much as fits is sent, found {size}");
    }
}
