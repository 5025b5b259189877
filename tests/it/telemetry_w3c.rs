//! W3C Trace Context over the wire: the cases of the official test suite, as far as a service without calls out shows them,
//! answered by a handler that tells what it found.

use chassis::testing::TestService;
use serde_json::{Value, json};

use crate::support::telemetry::{get_with, talkative};

const TRACE: &str = "12345678901234567890123456789012";
const PARENT: &str = "1234567890123456";

async fn service() -> TestService {
    TestService::start(talkative).await.unwrap()
}

async fn found(service: &TestService, headers: &[(&str, &str)]) -> Value {
    let answer = get_with(service, "/trace", headers).await;
    let found = answer.json();
    assert_eq!(answer.header("x-trace-id"), found["trace_id"], "{headers:?}");
    assert_ne!(found["trace_id"], "0".repeat(32), "{headers:?}");
    assert_ne!(found["span_id"], "0".repeat(16), "{headers:?}");
    assert_ne!(found["span_id"], PARENT, "the service has a span of its own: {headers:?}");
    found
}

/// The caller's trace goes on.
async fn continues(service: &TestService, headers: &[(&str, &str)], flags: u8) {
    let found = found(service, headers).await;
    let shown = (&found["trace_id"], &found["parent_id"], &found["flags"]);
    assert_eq!(shown, (&json!(TRACE), &json!(PARENT), &json!(flags)), "{headers:?}");
}

/// A trace begins here, and what came with the broken one is gone.
async fn begins(service: &TestService, headers: &[(&str, &str)]) {
    let found = found(service, headers).await;
    assert_ne!(found["trace_id"], TRACE, "{headers:?}");
    assert_eq!((&found["parent_id"], &found["state"]), (&json!(null), &json!(null)), "{headers:?}");
}

#[tokio::test]
async fn a_valid_traceparent_is_continued() {
    let service = service().await;
    for (flags, kept) in [("00", 0), ("01", 1), ("02", 2), ("03", 3)] {
        continues(&service, &[("traceparent", &format!("00-{TRACE}-{PARENT}-{flags}"))], kept).await;
    }
    let spelled =
        [("TraceParent", format!("00-{TRACE}-{PARENT}-01")), ("traceparent", format!("  00-{TRACE}-{PARENT}-01\t"))];
    for (name, value) in &spelled {
        continues(&service, &[(name, value)], 1).await;
    }
}

#[tokio::test]
async fn a_malformed_traceparent_starts_a_new_trace() {
    let service = service().await;
    let long = format!("00-{TRACE}-{PARENT}-01-what-the-future-will-be-like");
    let malformed = [
        String::new(),
        "00".to_owned(),
        format!("00-{TRACE}-{PARENT}"),
        format!("00-{TRACE}-{PARENT}-1"),
        format!("00-{TRACE}-{PARENT}-011"),
        format!("00-{TRACE}-{PARENT}-01-"),
        long,
        format!("0-{TRACE}-{PARENT}-01"),
        format!("000-{TRACE}-{PARENT}-01"),
        format!(".0-{TRACE}-{PARENT}-01"),
        format!("0.-{TRACE}-{PARENT}-01"),
        format!("00-{}-{PARENT}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-.{}-{PARENT}-01", &TRACE[1..]),
        format!("00-{TRACE}-.{}-01", &PARENT[1..]),
        format!("00-{}-{PARENT}-01", &TRACE[1..]),
        format!("00-{TRACE}1-{PARENT}-01"),
        format!("00-{TRACE}-{}-01", &PARENT[1..]),
        format!("00-{TRACE}-{PARENT}1-01"),
        format!("00-{TRACE}-{PARENT}-.0"),
        format!("00-{TRACE}-{PARENT}-0."),
        format!("00-{TRACE}-{PARENT}-0G"),
        format!("00-{}-{PARENT}-01", "A".repeat(32)),
        format!("00-{TRACE}-{}-01", "A".repeat(16)),
        format!("00_{TRACE}_{PARENT}_01"),
        format!("00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01"),
    ];
    for value in &malformed {
        begins(&service, &[("traceparent", value), ("tracestate", "foo=1")]).await;
    }
}

#[tokio::test]
async fn version_ff_is_refused_and_a_future_version_is_read_as_far_as_it_is_known() {
    let service = service().await;
    let value = |version: &str, rest: &str| format!("{version}-{TRACE}-{PARENT}-01{rest}");
    begins(&service, &[("traceparent", &value("ff", ""))]).await;
    for rest in ["", "-what-the-future-will-be-like"] {
        continues(&service, &[("traceparent", &value("cc", rest))], 1).await;
    }
    for rest in [".what-the-future-will-not-be-like", "1"] {
        begins(&service, &[("traceparent", &value("cc", rest))]).await;
    }
}

#[tokio::test]
async fn two_traceparents_start_a_new_trace() {
    let service = service().await;
    let (first, second) = (format!("00-{TRACE}-{PARENT}-01"), format!("00-{}-{PARENT}-01", TRACE.replace('1', "2")));
    for pair in [[&first, &second], [&first, &first]] {
        begins(&service, &pair.map(|value| ("traceparent", value.as_str()))).await;
    }
}

#[tokio::test]
async fn a_tracestate_without_traceparent_is_ignored() {
    let service = service().await;
    begins(&service, &[("tracestate", "foo=1")]).await;
}

#[tokio::test]
async fn a_valid_tracestate_is_kept_and_a_broken_one_does_no_harm_to_the_trace() {
    let service = service().await;
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let list = |members: usize| (0..members).map(|n| format!("bar{n:02}=1")).collect::<Vec<_>>().join(",");
    let key = |length: usize| format!("{}=1", "z".repeat(length));
    let tenant = |tenant: usize, system: usize| format!("{}@{}=1", "t".repeat(tenant), "v".repeat(system));
    let kept = [
        "foo=1".to_owned(),
        "foo=1,bar=2".to_owned(),
        "foo=1 \t , \t bar=2".to_owned(),
        "foo=1,".to_owned(),
        // Level 2 of the specification has no rule of its own for keys of tenants.
        "foo@@bar=1".to_owned(),
        "0=1,a_-*/=x".to_owned(),
        key(256),
        list(32),
        format!("foo={}", "v".repeat(256)),
    ];
    for state in &kept {
        let headers = [("traceparent", parent.as_str()), ("tracestate", state.as_str())];
        continues(&service, &headers, 1).await;
        let shown = found(&service, &headers).await["state"].as_str().map(str::to_owned);
        let tight: String = state.chars().filter(|c| ![' ', '\t'].contains(c)).collect();
        let shown = shown.map(|shown| shown.replace([' ', '\t'], ""));
        assert_eq!(shown.as_deref().map(|s| s.trim_end_matches(',')), Some(tight.trim_end_matches(',')), "{state}");
    }
    let broken = [
        "foo".to_owned(),
        "foo @=1".to_owned(),
        "@foo=1".to_owned(),
        "FOO=1".to_owned(),
        "foo.bar=1".to_owned(),
        "foo=bar=baz".to_owned(),
        "foo=,bar=3\u{7f}".to_owned(),
        key(257),
        tenant(242, 14),
        tenant(241, 15),
        list(33),
        format!("foo={}", "v".repeat(257)),
    ];
    for state in &broken {
        let Ok(value) = http::HeaderValue::from_str(state) else { continue };
        let headers = [("traceparent", parent.as_str()), ("tracestate", value.to_str().unwrap())];
        continues(&service, &headers, 1).await;
        assert_eq!(found(&service, &headers).await["state"], json!(null), "{state}");
    }
}

#[tokio::test]
async fn several_tracestates_are_one_list() {
    let service = service().await;
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let headers =
        [("traceparent", parent.as_str()), ("tracestate", "foo=1"), ("tracestate", ""), ("tracestate", "bar=2")];
    assert_eq!(found(&service, &headers).await["state"], "foo=1,bar=2");
    let headers = [("traceparent", parent.as_str()), ("tracestate", "foo=1"), ("tracestate", "foo=2")];
    assert_eq!(found(&service, &headers).await["state"], "foo=1", "of a key given twice the first counts");
}

#[tokio::test]
async fn b3_is_read_when_it_is_asked_for_and_only_then() {
    let b3 = TestService::builder().env("OTEL_PROPAGATORS", "b3").start(talkative).await.unwrap();
    for (headers, flags) in [
        (vec![("b3", format!("{TRACE}-{PARENT}-1"))], 1),
        (vec![("b3", format!("{TRACE}-{PARENT}-0"))], 0),
        (vec![("b3", format!("{TRACE}-{PARENT}-d"))], 1),
        (
            vec![
                ("x-b3-traceid", TRACE.to_owned()),
                ("x-b3-spanid", PARENT.to_owned()),
                ("x-b3-sampled", "1".to_owned()),
            ],
            1,
        ),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        continues(&b3, &headers, flags).await;
    }
    begins(&b3, &[("b3", "not-b3")]).await;
    begins(&b3, &[("traceparent", &format!("00-{TRACE}-{PARENT}-01"))]).await;
    begins(&service().await, &[("b3", &format!("{TRACE}-{PARENT}-1"))]).await;
}

#[tokio::test]
async fn baggage_is_readable_in_the_handler() {
    let service = service().await;
    for (baggage, user) in [
        ("user=ada", json!("ada")),
        ("a=b, user = ada%20l ;secret, c=d", json!("ada l")),
        ("broken,user=ada", json!("ada")),
        ("a=b", json!(null)),
    ] {
        assert_eq!(found(&service, &[("baggage", baggage)]).await["user"], user, "{baggage}");
    }
    let none = TestService::builder().env("OTEL_PROPAGATORS", "tracecontext").start(talkative).await.unwrap();
    assert_eq!(found(&none, &[("baggage", "user=ada")]).await["user"], json!(null));
}
