//! What is gathered gets out, and a receiver that does not answer holds up nothing.

use std::time::Duration;

use chassis::testing::{OtlpReceiver, TestService, TestServiceBuilder};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
    time::timeout,
};
use tonic::transport::server::TcpIncoming;

use crate::support::{
    echo::Echo,
    telemetry::{PATIENCE, eventually, sample, talkative},
    telemetry_process::{Quickstart, get},
    witness::Witness,
};

/// An export is given up after an hour (the values are milliseconds), far longer than these tests wait: whatever comes did not
/// wait for that.
const NEVER_GIVEN_UP: [(&str, &str); 3] = [
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000"),
    ("OTEL_BSP_EXPORT_TIMEOUT", "3600000"),
    ("OTEL_METRIC_EXPORT_TIMEOUT", "3600000"),
];

/// Accepts every connection and never says a word.
async fn silent_receiver() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let hold = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    (endpoint, hold)
}

/// An address where nobody listens.
async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn sending_to(endpoint: &str, protocol: &str) -> TestServiceBuilder {
    TestService::builder()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .set("log.access.enabled", false)
}

/// What the log says to change, once telemetry cannot be delivered there.
async fn hint(endpoint: &str, protocol: &str) -> Option<String> {
    let builder = sending_to(endpoint, protocol).env("OTEL_BSP_SCHEDULE_DELAY", "20");
    let service = builder.start(talkative).await.unwrap();
    service.get("/orders/7").await.unwrap();
    let line = eventually("a line about the receiver", async || {
        let is_it = |line: &serde_json::Value| {
            let says = |key: &str, text: &str| line[key].as_str().is_some_and(|found| found.starts_with(text));
            says("message", "telemetry cannot be delivered") && says("url", endpoint) && line["signal"] == "spans"
        };
        chassis::testing::log_lines().into_iter().find(is_it)
    })
    .await;
    service.stop().await.unwrap();
    line["hint"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_receiver_of_the_other_protocol_is_recognized() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let grpc_only = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_service(Echo(Witness::new()));
    let server = tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let said = hint(&grpc_only, "http/protobuf").await;
    assert!(said.is_some_and(|said| said.contains("set OTEL_EXPORTER_OTLP_PROTOCOL=grpc")), "over HTTP to gRPC");
    server.abort();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http_only = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
        }
    });
    let said = hint(&http_only, "grpc").await;
    assert!(said.is_some_and(|said| said.contains("set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")), "gRPC to HTTP");
    server.abort();
    assert_eq!(hint(&closed_port().await, "grpc").await, None, "nothing is said of one that does not answer");
}

async fn dropped(service: &TestService, reason: &str) -> f64 {
    let scrape = service.metrics().await.unwrap();
    sample(&scrape, "chassis_telemetry_dropped_spans_total", &[&format!("reason=\"{reason}\"")]).unwrap()
}

#[tokio::test]
async fn a_stop_right_after_a_request_delivers_its_spans_and_metrics() {
    for protocol in ["grpc", "http/protobuf"] {
        let receiver = OtlpReceiver::start().await.unwrap();
        let service = sending_to(&receiver.http_endpoint(), protocol).start(talkative).await.unwrap();
        let answer = service.get("/orders/7").await.unwrap();
        service.stop().await.unwrap();
        let spans = receiver.spans();
        assert_eq!(spans.len(), 3, "{protocol}: {spans:#?}");
        assert!(spans.iter().all(|span| span.trace_id.to_string() == answer.header("x-trace-id")), "{protocol}");
        let metrics = receiver.metrics();
        let durations = metrics.iter().find(|metric| metric.name == "http.server.request.duration");
        let points = &durations.unwrap_or_else(|| panic!("{protocol}: no durations")).points;
        assert_eq!(points.iter().map(|point| point.count).sum::<u64>(), 1, "{protocol}");
        let paths: Vec<String> = receiver.requests().into_iter().map(|request| request.path).collect();
        let over_http = paths.iter().any(|path| path == "/v1/traces");
        assert_eq!(over_http, protocol == "http/protobuf", "{paths:?}");
    }
}

#[tokio::test]
async fn a_sigterm_delivers_the_last_span() {
    let receiver = OtlpReceiver::start().await.unwrap();
    for protocol in ["grpc", "http/protobuf"] {
        let endpoint = receiver.http_endpoint();
        let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
        let quickstart = Quickstart::start(&env).await;
        let answer = get(&format!("http://{}/orders/7", quickstart.http)).await;
        let trace_id = answer.headers()["x-trace-id"].to_str().unwrap().to_owned();
        let (code, lines) = quickstart.stop().await;
        assert_eq!(code, 0, "{lines:#?}");
        assert!(receiver.spans().iter().any(|span| span.trace_id.to_string() == trace_id), "{protocol}: {lines:#?}");
    }
}

#[tokio::test]
async fn a_silent_receiver_slows_no_request_costs_bounded_memory_and_is_counted() {
    for protocol in ["grpc", "http/protobuf"] {
        let (endpoint, receiver) = silent_receiver().await;
        let service = sending_to(&endpoint, protocol)
            .env("OTEL_BSP_MAX_QUEUE_SIZE", "50")
            .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
            .env("OTEL_BSP_SCHEDULE_DELAY", "1");
        let service = NEVER_GIVEN_UP.iter().fold(service, |service, (name, value)| service.env(name, *value));
        let service = service.start(talkative).await.unwrap();
        for _ in 0..300 {
            let answer = timeout(PATIENCE, service.get("/trace")).await;
            assert_eq!(answer.expect("a request waits for no export").unwrap().status, 200, "{protocol}");
        }
        let lost = eventually("the queue is full", async || {
            let lost = dropped(&service, "queue_full").await;
            (lost >= 240.0).then_some(lost)
        })
        .await;
        // At most one batch is on its way beside the queue.
        assert!(lost <= 300.0, "{protocol}: {lost}");
        service.handle().stop(true);
        let flushed = service.handle().flush(Duration::from_millis(300));
        timeout(PATIENCE, flushed).await.expect("a flush ends at its deadline");
        service.stop().await.unwrap();
        receiver.abort();
    }
}

#[tokio::test]
async fn a_receiver_that_is_not_there_fails_no_request_and_is_counted() {
    for protocol in ["grpc", "http/protobuf"] {
        let service = sending_to(&closed_port().await, protocol)
            .env("OTEL_BSP_SCHEDULE_DELAY", "1")
            .start(talkative)
            .await
            .unwrap();
        for _ in 0..20 {
            assert_eq!(service.get("/trace").await.unwrap().status, 200);
        }
        eventually("the loss is counted", async || {
            let lost = dropped(&service, "export_failed").await + dropped(&service, "queue_full").await;
            (lost >= 20.0).then_some(())
        })
        .await;
        service.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_receiver_does_not_hold_the_exit_up_beyond_its_deadline() {
    let (endpoint, receiver) = silent_receiver().await;
    for protocol in ["grpc", "http/protobuf"] {
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_BSP_SCHEDULE_DELAY", "10"),
            ("CHASSIS_SHUTDOWN__FLUSH", "500ms"),
        ];
        let quickstart = Quickstart::start(&[&env[..], &NEVER_GIVEN_UP].concat()).await;
        let url = format!("http://{}/orders/7", quickstart.http);
        for _ in 0..5 {
            assert_eq!(get(&url).await.status(), 200);
        }
        let (code, lines) = quickstart.stop().await;
        assert_eq!(code, 0, "{lines:#?}");
        let said = |line: &&serde_json::Value| line["message"].as_str().is_some_and(|m| m.contains("did not reach"));
        assert_eq!(lines.iter().filter(said).count(), 1, "the loss is told: {lines:#?}");
    }
    receiver.abort();
}
