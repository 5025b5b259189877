//! What owners of `main` build on: a server of their own, a subscriber of their own.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use adopt_tonic::{
    Catalogue, Shop, Stock,
    proto::{self, catalogue_client::CatalogueClient, catalogue_server::CatalogueServer},
};
use axum::{Router, routing::get};
use chassis::{
    Chassis,
    error::Exit,
    shutdown::{Phase, Shutdown},
    testing::{OtlpReceiver, TestService, log_lines},
};
use opentelemetry::trace::SpanKind;
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::{
    Code,
    service::Routes,
    transport::{Endpoint, Server, server::TcpIncoming},
};

use crate::support::{
    http1::{self, Connection},
    process::{PATIENCE, Quickstart},
    telemetry::eventually,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn routes() -> Router {
    Router::new().route("/hello", get(|| async { "hello" })).route("/never", get(std::future::pending::<&str>))
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn adopt_own_server_that_ends_by_itself_ends_the_service_with_an_error() {
    let ends: [fn() -> Result<(), io::Error>; 2] = [|| Ok(()), || Err(io::Error::other("the certificate is gone"))];
    for (end, told) in ends.into_iter().zip(["it ended by itself", "the certificate is gone"]) {
        let (_listener, address) = listener().await;
        let serve = move |_: Router, _: Shutdown| async move { end() };
        let service = TestService::start(move |chassis: Chassis| chassis.mount(routes()).own_server(address, serve))
            .await
            .unwrap();
        let error = service.ended().await.unwrap_err();
        assert!(error.to_string().contains("the main port stopped accepting"), "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test]
async fn adopt_own_server_that_never_ends_is_dropped_when_the_grace_period_is_over() {
    let (listener, address) = listener().await;
    let (dropped, mut heard) = tokio::sync::oneshot::channel::<Infallible>();
    let serve = move |routes: Router, _: Shutdown| async move {
        let _dropped = dropped;
        axum::serve(listener, routes).await
    };
    let service = TestService::builder()
        .set("shutdown.grace", "50ms")
        .start(move |chassis: Chassis| chassis.mount(routes()).own_server(address, serve))
        .await
        .unwrap();
    assert_eq!(service.http(), address, "the address that was told is the address of the service");
    let mut connection = Connection::open(address).await.unwrap();
    connection.write("GET /never HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(service.get("/hello").await.unwrap().text(), "hello");
    assert!(heard.try_recv().is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Empty));
    tokio::time::timeout(PATIENCE, service.stop()).await.expect("the stop ends").unwrap();
    assert!(heard.await.is_err(), "dropped");
}

#[tokio::test]
async fn adopt_own_server_serves_callers_through_the_drain_and_tells_them_to_go() {
    let (listener, address) = listener().await;
    let serve = move |routes: Router, shutdown: Shutdown| async move {
        let stopping = async move { shutdown.reached(Phase::Stopping).await };
        axum::serve(listener, routes).with_graceful_shutdown(stopping).await
    };
    let service = TestService::builder()
        .set("shutdown.drain_delay", "1m")
        .start(move |chassis: Chassis| chassis.mount(routes()).own_server(address, serve))
        .await
        .unwrap();
    let mut kept = Connection::open(address).await.unwrap();
    assert!(!kept.get("/hello").await.unwrap().closes());
    service.handle().stop(false);
    service.handle().shutdown().reached(Phase::Draining).await;
    let answer = kept.get("/hello").await.unwrap();
    assert_eq!((answer.status, answer.closes()), (200, true), "served, and told to go");
    assert_eq!(http1::get(address, "/hello").await.status, 200, "new callers are let in");
    assert_eq!(http1::get(address, "/readyz").await.status, 503);
    service.stop().await.unwrap();
    assert!(Connection::open(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn adopt_own_server_that_stops_listening_before_its_callers_know_is_told_of() {
    let (listener, address) = listener().await;
    let serve = move |routes: Router, shutdown: Shutdown| async move {
        // A phase too early.
        let draining = async move { shutdown.reached(Phase::Draining).await };
        axum::serve(listener, routes).with_graceful_shutdown(draining).await
    };
    let service = TestService::builder()
        .set("shutdown.drain_delay", "1m")
        .start(move |chassis: Chassis| chassis.mount(routes()).own_server(address, serve))
        .await
        .unwrap();
    service.handle().stop(false);
    eventually("the warning", async || {
        let lines = log_lines();
        let told =
            |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("ended before the drain delay"));
        lines.iter().any(told).then_some(())
    })
    .await;
    assert_eq!(service.handle().shutdown().phase(), Phase::Draining, "the delay goes on");
    assert!(Connection::open(address).await.is_err(), "and callers are refused");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn adopt_own_server_that_fails_while_it_stops_ends_the_service_with_its_error() {
    for (phase, panics) in [(Phase::Draining, false), (Phase::Stopping, false), (Phase::Draining, true)] {
        let (listener, address) = listener().await;
        let serve = move |routes: Router, shutdown: Shutdown| async move {
            let failing = async move { shutdown.reached(phase).await };
            tokio::select! {
                ended = axum::serve(listener, routes) => ended,
                () = failing => {
                    assert!(!panics, "the certificate is gone");
                    Err(io::Error::other("the certificate is gone"))
                }
            }
        };
        let closed = Arc::new(AtomicBool::new(false));
        let hook = closed.clone();
        let make = move |chassis: Chassis| {
            let chassis = chassis.mount(routes()).own_server(address, serve);
            chassis.on_shutdown("closed", move || async move { hook.store(true, Ordering::Release) })
        };
        let service = TestService::start(make).await.unwrap();
        let error = service.stop().await.unwrap_err();
        assert_eq!(error.exit(), Exit::Internal, "{error}");
        assert!(error.to_string().contains("failed while it stopped"), "{error}");
        assert!(error.to_string().contains(if panics { "panic" } else { "the certificate is gone" }), "{error}");
        assert!(closed.load(Ordering::Acquire), "the stop goes on in order");
    }
}

/// What was said of `http.address` for a server of its own that listens there.
fn told_of(address: SocketAddr) -> Vec<Value> {
    let mut lines = log_lines();
    lines.retain(|line| line["listens"] == address.to_string());
    lines
}

#[tokio::test]
async fn adopt_own_server_that_listens_elsewhere_than_http_address_says_is_told_of_and_no_other() {
    for elsewhere in [false, true] {
        let (listener, address) = listener().await;
        let (_other, configured) = self::listener().await;
        let configured = if elsewhere { configured } else { address };
        let serve = move |routes: Router, _: Shutdown| async move { axum::serve(listener, routes).await };
        let service = TestService::builder()
            .set("http.address", configured)
            .start(move |chassis: Chassis| chassis.mount(routes()).own_server(address, serve))
            .await
            .unwrap();
        let lines = told_of(address);
        assert_eq!(lines.len(), usize::from(elsewhere), "{lines:#?}");
        for line in lines {
            assert_eq!((&line["level"], &line["address"]), (&"WARN".into(), &configured.to_string().into()), "{line}");
            assert_eq!(line["from"], "command line --set http.address", "{line}");
        }
        service.stop().await.unwrap();
    }
}

struct Full;

impl Stock for Full {
    async fn count(&self, _: &str) -> Result<u32, adopt_tonic::BoxError> {
        Ok(7)
    }
}

#[tokio::test]
async fn adopt_own_server_may_be_tonics() {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let serve = move |routes: Router, shutdown: Shutdown| async move {
        let stopping = async move { shutdown.reached(Phase::Stopping).await };
        Server::builder().serve_with_incoming_shutdown(Routes::from(routes).prepare(), incoming, stopping).await
    };
    let catalogue = CatalogueServer::new(Catalogue(Arc::new(Shop::new(Full))));
    let service =
        TestService::start(move |chassis: Chassis| chassis.grpc(catalogue).own_server(address, serve)).await.unwrap();
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = CatalogueClient::new(channel);
    let answer = client.get_count(proto::GetCountRequest { sku: "pear".into() }).await.unwrap();
    assert_eq!(answer.metadata().get("x-trace-id").map(|id| id.len()), Some(32));
    assert_eq!(answer.into_inner().count, 7);
    let refused = client.get_article(proto::GetArticleRequest { sku: "fig".into() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    drop(client);
    service.stop().await.unwrap();
}

/// An application with `tracing_subscriber::fmt::init()`, from its first line to its end.
async fn fmt_init(rust_log: Option<&str>) -> (Vec<String>, Vec<String>) {
    let mut process = Quickstart::example("own-fmt-init")
        .env("CHASSIS_HTTP__ADDRESS", "127.0.0.1:0")
        .env("CHASSIS_ADMIN__ADDRESS", "127.0.0.1:0");
    if let Some(directives) = rust_log {
        process = process.env("RUST_LOG", directives);
    }
    let mut process = process.spawn();
    process.catches(rustix::process::Signal::TERM).await;
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.exit_code().await, 0);
    (process.stdout(), process.stderr())
}

#[tokio::test]
async fn adopt_fmt_init_logs_as_without_the_chassis() {
    let (stdout, stderr) = fmt_init(None).await;
    for line in [" INFO own_fmt_init: the application begins", "a tracing subscriber was installed before the chassis"]
    {
        assert!(stdout.iter().any(|found| found.contains(line)), "{line:?} in {stdout:#?}");
    }
    assert!(stderr.is_empty(), "{stderr:#?}");
}

#[tokio::test]
async fn adopt_a_subscriber_that_hides_warnings_is_named_on_stderr() {
    let (stdout, stderr) = fmt_init(Some("error")).await;
    assert!(!stdout.iter().any(|line| line.contains("the application begins")), "{stdout:#?}");
    assert!(stderr.len() == 1 && stderr[0].contains("RUST_LOG=info"), "{stderr:#?}");
}

#[tokio::test]
async fn adopt_own_tracing_subscriber_has_trace_ids_on_its_lines_and_its_spans_under_the_requests() {
    let receiver = OtlpReceiver::start().await.unwrap();
    let process = Quickstart::example("own-tracing-subscriber")
        .env("CHASSIS_HTTP__ADDRESS", "127.0.0.1:0")
        .env("CHASSIS_ADMIN__ADDRESS", "127.0.0.1:0")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.grpc_endpoint())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let mut process = process.spawn();
    let serving = process.says("serving").await;
    let address = serving.split_once("http=").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    for (flags, parent) in [("01", "b7ad6b7169203331"), ("00", "b7ad6b7169203332")] {
        let mut connection = Connection::open(address).await.unwrap();
        let head =
            format!("GET /hello/ada HTTP/1.1\r\nhost: localhost\r\ntraceparent: 00-{TRACE}-{parent}-{flags}\r\n\r\n");
        connection.write(&head).await.unwrap();
        let answer = connection.answer().await.unwrap();
        assert_eq!((answer.status, &*answer.body), (200, r#""hello, ada""#));
        assert_eq!(answer.header("x-trace-id"), TRACE);
    }
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.exit_code().await, 0);
    let lines = process.stdout();
    let greeted: Vec<_> = lines.iter().filter(|line| line.contains("greeting")).collect();
    assert!(greeted.len() == 2 && greeted.iter().all(|line| line.starts_with(&format!("[{TRACE}] "))), "{lines:#?}");
    assert!(
        lines.iter().all(|line| !line.starts_with('{')),
        "every line is of the service's own subscriber: {lines:#?}"
    );
    let spans = receiver.wait_for_spans(2, PATIENCE).await;
    assert_eq!(spans.len(), 2, "of the request that is recorded, and of no other: {spans:#?}");
    let request = spans.iter().find(|span| span.kind == SpanKind::Server).expect("the request's span");
    let greet = spans.iter().find(|span| span.name == "greet").expect("the handler's span");
    assert_eq!((greet.parent_span_id, greet.trace_id), (Some(request.span_id), request.trace_id));
}
