//! The access log: which requests have a line, and what is left out of it.

use chassis::testing::{TestService, TestServiceBuilder, log_lines_of};
use serde_json::Value;

use crate::support::{
    telemetry::{access_line, fresh_trace_id, get_with, sample, talkative},
    telemetry_grpc::{call, channel},
    telemetry_process::{Quickstart, get},
};

/// The access lines of these paths, asked for one after the other in one trace.
async fn lines_of(builder: TestServiceBuilder, paths: &[&str]) -> Vec<Value> {
    let service = builder.start(talkative).await.unwrap();
    let trace_id = fresh_trace_id();
    let parent = format!("00-{trace_id}-00f067aa0ba902b7-00");
    for path in paths {
        assert_eq!(get_with(&service, path, &[("traceparent", &parent)]).await.header("x-trace-id"), trace_id);
    }
    service.stop().await.unwrap();
    let mut lines = log_lines_of(&trace_id);
    lines.retain(|line| line["target"] == "chassis::access");
    lines
}

fn paths(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["url.path"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn sampling_of_successes_keeps_failures_and_slow_requests() {
    let asked = ["/trace", "/fail/500", "/trace", "/panic", "/orders/7"];
    let none = TestService::builder().set("log.access.success_ratio", 0);
    assert_eq!(paths(&lines_of(none.clone(), &asked).await), ["/fail/500", "/panic"]);
    // Everything is slow from one millisecond on; this handler takes three.
    let slow = lines_of(none.set("log.access.slow", "3ms"), &["/short"]).await;
    assert_eq!((paths(&slow), &slow[0]["level"]), (vec!["/short"], &"WARN".into()));
    assert_eq!(lines_of(TestService::builder(), &asked).await.len(), asked.len());
    assert!(lines_of(TestService::builder().set("log.access.enabled", false), &asked).await.is_empty());
}

#[tokio::test]
async fn the_query_is_left_out_or_shown_without_its_secrets() {
    let asked = ["/trace?page=2&token=hunter2&user%5Bpassword%5D=hunter2&api-key=hunter2"];
    let without = lines_of(TestService::builder(), &asked).await;
    assert!(!without[0].to_string().contains("page=2") && !without[0].to_string().contains("hunter2"), "{without:#?}");
    let with = lines_of(TestService::builder().set("log.access.query", true), &asked).await;
    assert_eq!(with[0]["url.query"], "page=2&token=***&user%5Bpassword%5D=***&api-key=***");
}

#[tokio::test]
async fn a_line_says_what_was_asked_and_how_it_ended() {
    let service = TestService::start(talkative).await.unwrap();
    let answer = get_with(&service, "/orders/7", &[("user-agent", "curl/8")]).await;
    let line = access_line(answer.header("x-trace-id")).await;
    for (key, value) in [
        ("level", Value::from("INFO")),
        ("protocol", "http".into()),
        ("http.request.method", "GET".into()),
        ("url.path", "/orders/7".into()),
        ("http.route", "/orders/{id}".into()),
        ("http.response.status_code", 200.into()),
        ("http.response.body.size", 1.into()),
        ("network.peer.address", "127.0.0.1".into()),
        ("user_agent.original", "curl/8".into()),
        ("outcome", "complete".into()),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    let channel = channel(&service).await;
    let (_, trace_id) = call(&channel, "talk.v1.Talk/Fail", 14, &[]).await;
    let line = access_line(&trace_id).await;
    for (key, value) in [
        ("level", "ERROR"),
        ("protocol", "grpc"),
        ("url.path", "/talk.v1.Talk/Fail"),
        ("rpc.response.status_code", "UNAVAILABLE"),
        ("error.type", "UNAVAILABLE"),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    drop(channel);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_probe_that_succeeds_has_no_line_and_is_counted() {
    let lines = lines_of(TestService::builder(), &["/livez", "/readyz", "/startupz", "/trace"]).await;
    assert_eq!(paths(&lines), ["/trace"]);
    let service = TestService::start(talkative).await.unwrap();
    service.get("/livez").await.unwrap();
    let channel = channel(&service).await;
    // An empty message is a question for the whole server.
    let (_, trace_id) = call(&channel, "grpc.health.v1.Health/Check", 0, &[]).await;
    let scrape = service.metrics().await.unwrap();
    for (name, label) in [
        ("http_server_request_duration_seconds_count", "http_route=\"/livez\""),
        ("rpc_server_call_duration_seconds_count", "rpc_method=\"grpc.health.v1.Health/Check\""),
    ] {
        assert_eq!(sample(&scrape, name, &[label]), Some(1.0), "{scrape}");
    }
    drop(channel);
    service.stop().await.unwrap();
    assert_eq!(log_lines_of(&trace_id), Vec::<Value>::new());
}

#[tokio::test]
async fn a_probe_that_fails_has_a_line_and_no_error() {
    let make = |chassis: chassis::Chassis<chassis::settings::NoSettings>| {
        talkative(chassis).check("store", || async { Err::<(), _>(chassis::health::CheckError::down("gone")) })
    };
    let service = TestService::builder().start(make).await.unwrap();
    let answer = service.get("/readyz").await.unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(access_line(answer.header("x-trace-id")).await["level"], "INFO");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_caller_can_cause_is_no_error() {
    let service = TestService::start(talkative).await.unwrap();
    // Nobody waits for the answer of the first; the second ends by the caller's own limit.
    for (path, timeout) in [("/trace", "0"), ("/hang", "30")] {
        let answer = get_with(&service, path, &[("x-request-timeout-ms", timeout)]).await;
        assert_eq!(answer.status, 504);
        let line = access_line(answer.header("x-trace-id")).await;
        assert_eq!((&line["level"], &line["error.type"]), (&"INFO".into(), &"deadline_exceeded".into()), "{line}");
    }
    let channel = channel(&service).await;
    for unknown in ["talk.v1.Talk/NoSuch", "no.Such/Method"] {
        let (answer, trace_id) = call(&channel, unknown, 1, &[]).await;
        assert_eq!(answer.unwrap_err().code(), tonic::Code::Unimplemented);
        assert_eq!(access_line(&trace_id).await["level"], "INFO", "{unknown}");
    }
    drop(channel);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn the_servers_own_limit_is_an_error() {
    let service = TestService::builder().set("http.request_timeout", "30ms").start(talkative).await.unwrap();
    let answer = get_with(&service, "/hang", &[("x-request-timeout-ms", "60000")]).await;
    assert_eq!(access_line(answer.header("x-trace-id")).await["level"], "ERROR");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_and_a_stop_say_little_and_nothing_of_the_sdk() {
    let quickstart = Quickstart::start(&[]).await;
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(get(&format!("http://{}{path}", quickstart.http)).await.status(), 200);
    }
    let (code, lines) = quickstart.stop().await;
    assert_eq!(code, 0);
    assert!(lines.len() <= 10, "{lines:#?}");
    let of_the_sdk = lines.iter().any(|line| line["target"].as_str().unwrap().starts_with("opentelemetry"));
    assert!(!of_the_sdk && !lines.iter().any(|line| line["target"] == "chassis::access"), "{lines:#?}");
}
