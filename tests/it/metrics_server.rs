//! The request metrics, as a scrape shows them.

use std::collections::BTreeSet;

use chassis::testing::TestService;
use http::{Method, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    telemetry::{access_line, eventually, sample, talkative},
    telemetry_grpc::{call, channel},
};

const DURATION: &str = "http_server_request_duration_seconds";
const CALLS: &str = "rpc_server_call_duration_seconds";

/// The series of a family: its sample lines without their values.
fn series(scrape: &str, family: &str) -> BTreeSet<String> {
    let lines = scrape.lines().filter(|line| line.starts_with(family));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[tokio::test]
async fn a_request_of_3_ms_lands_in_the_bucket_of_5_ms() {
    let service = TestService::start(talkative).await.unwrap();
    // On a busy machine 3 ms may take longer; the time that each took is on its access line.
    let mut took = Vec::new();
    for _ in 0..20 {
        let answer = service.get("/short").await.unwrap();
        let seconds = access_line(answer.header("x-trace-id")).await["duration_seconds"].as_f64().unwrap();
        assert!(seconds > 0.003, "{seconds}");
        took.push(seconds);
    }
    let scrape = service.metrics().await.unwrap();
    for le in ["0.005", "0.01", "0.025", "0.05", "0.1", "1", "10"] {
        let bound: f64 = le.parse().unwrap();
        let within = took.iter().filter(|seconds| **seconds <= bound).count() as f64;
        let bucket = sample(&scrape, &format!("{DURATION}_bucket"), &["/short", &format!("le=\"{le}\"")]);
        assert_eq!(bucket, Some(within), "le={le}: {took:?}");
    }
    let bounds =
        scrape.lines().filter(|line| line.starts_with(DURATION) && line.contains("/short")).filter_map(|line| {
            let (_, rest) = line.split_once("le=\"")?;
            Some(rest.split_once('"')?.0.to_owned())
        });
    let expected = "0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 +Inf";
    assert_eq!(bounds.collect::<Vec<_>>().join(" "), expected);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn ten_thousand_random_paths_add_one_series_and_two_hundred_random_methods_another() {
    let service = TestService::builder().set("log.access.enabled", false).start(talkative).await.unwrap();
    service.get("/trace").await.unwrap();
    let before = series(&service.metrics().await.unwrap(), &format!("{DURATION}_count"));
    let mut stream = TcpStream::connect(service.http()).await.unwrap();
    let mut answer = vec![0; 1 << 16];
    let request = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let paths = (0..10_000).map(|n| request("GET", &format!("/{:x}/{n}", n * 2_654_435_761_u64 % 4_294_967_291)));
    let methods = (0..200).map(|n| request(&format!("M{n}"), "/trace"));
    let mut sent = 0;
    let requests: Vec<String> = paths.chain(methods).collect();
    for batch in requests.chunks(100) {
        stream.write_all(batch.concat().as_bytes()).await.unwrap();
        sent += batch.len();
        let mut heads = 0;
        let mut tail = Vec::new();
        while heads < batch.len() {
            let read = stream.read(&mut answer).await.unwrap();
            assert_ne!(read, 0, "the connection ended after {sent}");
            tail.extend_from_slice(&answer[..read]);
            heads = String::from_utf8_lossy(&tail).matches("HTTP/1.1 4").count();
        }
    }
    drop(stream);
    let added = eventually("all are counted", async || {
        let scrape = service.metrics().await.unwrap();
        let added = &series(&scrape, &format!("{DURATION}_count")) - &before;
        let count = |labels: &[&str]| sample(&scrape, &format!("{DURATION}_count"), labels).unwrap_or(0.0);
        let unmatched = count(&["http_request_method=\"GET\"", "http_route=\"unmatched\""]);
        let other = count(&["http_request_method=\"_OTHER\"", "http_route=\"/trace\""]);
        (unmatched == 10_000.0 && other == 200.0).then_some(added)
    })
    .await;
    assert_eq!(added.len(), 2, "{added:#?}");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn two_hundred_unknown_grpc_methods_are_other() {
    let service = TestService::builder().set("log.access.enabled", false).start(talkative).await.unwrap();
    let channel = channel(&service).await;
    call(&channel, "talk.v1.Talk/Say", 1, &[]).await.0.unwrap();
    for n in 0..100 {
        for method in [format!("talk.v1.Talk/Random{n}"), format!("random{n}.v1.Service/Call")] {
            let status = call(&channel, &method, 1, &[]).await.0.unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unimplemented, "{method}");
        }
    }
    // A service that is not there is the router's refusal, a method that is not there the stub's answer.
    let refused = [("UNIMPLEMENTED", 100.0), ("method_not_allowed", 100.0)];
    let scrape = eventually("all are counted", async || {
        let scrape = service.metrics().await.unwrap();
        let other = |error: &str| {
            let labels = ["rpc_method=\"_OTHER\"", &format!("error_type=\"{error}\"")];
            sample(&scrape, &format!("{CALLS}_count"), &labels)
        };
        refused.iter().all(|(error, count)| other(error) == Some(*count)).then_some(scrape)
    })
    .await;
    assert_eq!(series(&scrape, &format!("{CALLS}_count")).len(), 3, "{scrape}");
    let known = ["rpc_method=\"talk.v1.Talk/Say\"", "rpc_response_status_code=\"OK\"", "rpc_system_name=\"grpc\""];
    assert_eq!(sample(&scrape, &format!("{CALLS}_count"), &known), Some(1.0));
    assert_eq!(series(&scrape, DURATION), BTreeSet::new(), "a call is no HTTP request");
    drop(channel);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn requests_in_flight_are_back_at_zero_after_their_callers_went_away() {
    let service = TestService::start(talkative).await.unwrap();
    let active = async || {
        let scrape = service.metrics().await.unwrap();
        sample(&scrape, "http_server_active_requests", &["http_request_method=\"GET\""]).unwrap_or(0.0)
    };
    let mut callers = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(service.http()).await.unwrap();
        stream.write_all(b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        callers.push(stream);
    }
    eventually("ten are in flight", async || (active().await == 10.0).then_some(())).await;
    drop(callers);
    eventually("none is in flight", async || (active().await == 0.0).then_some(())).await;
    let scrape = service.metrics().await.unwrap();
    let aborted = ["/hang", "http_response_status_code=\"499\"", "error_type=\"aborted\""];
    assert_eq!(sample(&scrape, &format!("{DURATION}_count"), &aborted), Some(10.0), "{scrape}");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_known_method_without_a_route_is_refused_and_counted_with_its_route() {
    let service = TestService::start(talkative).await.unwrap();
    let request = Request::builder().method(Method::DELETE).uri(format!("http://{}/trace", service.http()));
    let answer = service.send(request.body(String::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status, 405);
    let scrape = service.metrics().await.unwrap();
    let labels = ["http_request_method=\"DELETE\"", "http_route=\"/trace\"", "http_response_status_code=\"405\""];
    assert_eq!(sample(&scrape, &format!("{DURATION}_count"), &labels), Some(1.0), "{scrape}");
    service.stop().await.unwrap();
}
