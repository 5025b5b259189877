//! HTTP deadlines: the caller's header, the route's own, the server's; whichever ends first.

use std::{convert::Infallible, time::Duration};

use axum::{Router, body::Body, body::Bytes, routing::get};
use chassis::{
    Chassis, RequestContext,
    service::{RouteInfo, RoutePolicy, Routes},
    testing::{TestService, TestServiceBuilder},
};
use http::Method;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tonic::codegen::tokio_stream::{self, StreamExt};

use crate::support::{
    pace::{Pace, brief, setting},
    raw::{Answer, Raw},
    scrape::{until, until_nothing_is_in_flight},
    witness::Witness,
};

struct Slow(Witness);

#[chassis::service]
impl Slow {
    #[get("/hang")]
    async fn hang(&self) -> &'static str {
        self.0.hang().await;
        "never"
    }

    #[get("/short", timeout = "50ms")]
    async fn short(&self) -> &'static str {
        self.0.hang().await;
        "never"
    }

    #[get("/remaining")]
    async fn remaining(&self) -> u128 {
        RequestContext::current().and_then(|context| context.remaining()).unwrap_or(Duration::MAX).as_millis()
    }

    #[get("/remaining/short", timeout = "15s")]
    async fn remaining_of_short(&self) -> u128 {
        RequestContext::current().and_then(|context| context.remaining()).unwrap_or(Duration::MAX).as_millis()
    }
}

async fn start(builder: TestServiceBuilder, witness: &Witness) -> TestService {
    let slow = Slow(witness.clone());
    builder.start(|chassis: Chassis| chassis.mount(slow)).await.unwrap()
}

async fn get_within(service: &TestService, path: &str, milliseconds: &str) -> Answer {
    let mut raw = Raw::connect(service.http()).await;
    raw.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-request-timeout-ms: {milliseconds}\r\n\r\n")).await;
    raw.answer().await.unwrap()
}

#[tokio::test]
async fn the_callers_time_is_kept_and_the_handler_ends_with_it() {
    let witness = Witness::new();
    let service = start(TestService::builder(), &witness).await;
    let time = brief().as_millis().to_string();
    get_within(&service, "/hang", &time).await.assert_problem(504, "deadline_exceeded");
    witness.ended(1).await;
    until_nothing_is_in_flight(&service).await;
    until(&service, "chassis_rejections_total", &["cause=\"deadline_exceeded\""], 1.0).await;
    let labels = ["error_type=\"deadline_exceeded\"", "http_route=\"/hang\"", "http_response_status_code=\"504\""];
    until(&service, "http_server_request_duration_seconds_count", &labels, 1.0).await;
}

#[tokio::test]
async fn no_time_at_all_is_refused_before_the_handler_runs() {
    let witness = Witness::new();
    let service = start(TestService::builder(), &witness).await;
    get_within(&service, "/hang", "0").await.assert_problem(504, "deadline_exceeded");
    assert_eq!(witness.seen(), (0, 0));
}

#[tokio::test]
async fn the_routes_own_time_and_the_servers_are_kept() {
    let witness = Witness::new();
    let service = start(TestService::builder(), &witness).await;
    let mut raw = Raw::connect(service.http()).await;
    raw.get("/short").await.assert_problem(504, "deadline_exceeded");
    // The connection is as good as before.
    assert_eq!(raw.get("/remaining").await.status, 200);
    witness.ended(1).await;

    let hang = || async { std::future::pending::<()>().await };
    let routes = axum::Router::new().route("/hang", axum::routing::get(hang));
    let service = TestService::builder().set("http.request_timeout", "50ms");
    let service = service.start(|chassis: chassis::Chassis| chassis.mount(routes)).await.unwrap();
    let mut raw = Raw::connect(service.http()).await;
    raw.get("/hang").await.assert_problem(504, "deadline_exceeded");
    assert_eq!(raw.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_route_that_asks_for_more_time_than_the_server_gives_refuses_the_start() {
    let builder = TestService::builder().set("http.request_timeout", "1s");
    let refused = builder.start(|chassis: chassis::Chassis| chassis.mount(Patient)).await.unwrap_err();
    assert_eq!(refused.exit().code(), 78);
    let message = refused.to_string();
    assert!(message.contains("/patient") && message.contains("http.request_timeout"), "{message}");
}

struct Patient;

#[chassis::service]
impl Patient {
    #[get("/patient", timeout = "2s")]
    async fn wait(&self) -> u8 {
        0
    }
}

#[tokio::test]
async fn the_smallest_of_all_limits_counts_and_the_handler_is_told() {
    let pace = Pace::measure();
    let service = start(TestService::builder().set("http.request_timeout", "20s"), &Witness::new()).await;
    for (path, header, most) in [
        ("/remaining", "", 20_000),
        ("/remaining", "10000", 10_000),
        ("/remaining", "60000", 20_000),
        ("/remaining/short", "", 15_000),
        ("/remaining/short", "10000", 10_000),
        ("/remaining/short", "60000", 15_000),
        ("/remaining", "soon", 20_000),
        ("/remaining", "-1", 20_000),
        ("/remaining", "1.5", 20_000),
        ("/remaining", "99999999999999999999", 20_000),
        ("/remaining", "9999999999", 20_000),
    ] {
        let left = Duration::from_millis(get_within(&service, path, header).await.json().as_u64().unwrap());
        let most = Duration::from_millis(most);
        assert!(left <= most && pace.most(left) > most, "{path} {header}: {left:?}");
    }
}

/// One event at once, and never another.
fn events(witness: &Witness) -> Router {
    let events = witness.clone();
    Router::new().route(
        "/events",
        get(move || async move {
            let at_work = events.begin();
            let first = tokio_stream::once(Bytes::from_static(b"data: first\n\n"));
            let frames = first.chain(tokio_stream::pending()).map(move |bytes| {
                let _at_work = &at_work;
                Ok::<_, Infallible>(Frame::data(bytes))
            });
            Body::new(StreamBody::new(frames))
        }),
    )
}

#[tokio::test]
async fn a_body_that_streams_may_outlive_the_servers_limit_and_not_the_callers() {
    let witness = Witness::new();
    let (routes, short) = (events(&witness), brief());
    let service = TestService::builder().set("http.request_timeout", setting(short));
    let service = service.start(|chassis: Chassis| chassis.mount(routes)).await.unwrap();
    let mut raw = Raw::connect(service.http()).await;
    raw.send("GET /events HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(raw.head().await.unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(raw.chunk().await.unwrap(), b"data: first\n\n");
    assert!(raw.is_silent_for(3 * short).await, "neither more nor an end");
    assert_eq!(witness.seen(), (1, 0));
    let mut limited = Raw::connect(service.http()).await;
    let time = short.as_millis();
    limited.send(format!("GET /events HTTP/1.1\r\nhost: a\r\nx-request-timeout-ms: {time}\r\n\r\n")).await;
    assert!(limited.answer().await.is_none(), "broken off, and not as if it were whole");
    witness.ended(1).await;
    drop(raw);
    witness.ended(2).await;
    until_nothing_is_in_flight(&service).await;
}

#[tokio::test]
async fn a_caller_that_has_time_shortens_no_stream_to_the_limit_of_the_server_or_of_the_route() {
    let short = brief();
    let limited = RouteInfo::new(Method::GET, "/events", "events").policy(RoutePolicy::new().timeout(short));
    for (server, infos) in [(short, vec![]), (Duration::from_secs(20), vec![limited])] {
        let witness = Witness::new();
        let routes = Routes { router: events(&witness), infos, grpc: None };
        let service = TestService::builder().set("http.request_timeout", setting(server));
        let service = service.start(|chassis: Chassis| chassis.mount(routes)).await.unwrap();
        let mut raw = Raw::connect(service.http()).await;
        raw.send("GET /events HTTP/1.1\r\nhost: a\r\nx-request-timeout-ms: 30000\r\n\r\n").await;
        assert!(raw.head().await.unwrap().starts_with("HTTP/1.1 200"));
        assert_eq!(raw.chunk().await.unwrap(), b"data: first\n\n");
        assert!(raw.is_silent_for(3 * short).await, "neither more nor an end");
        assert_eq!(witness.seen(), (1, 0));
    }
}
