//! Connections: slow readers, idle ones, the limit, the kinds of sockets.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::get,
};
use chassis::{Chassis, testing::TestService};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::net::UnixStream;
use tonic::codegen::tokio_stream::{self, StreamExt};

use crate::support::{
    raw::{PATIENCE, Raw},
    scrape::{until, until_ended, until_nothing_is_in_flight},
    witness::Witness,
};

const CHUNK: usize = 64 << 10;
const CHUNKS: usize = 1024;

/// 64 MiB in pieces that are counted as they are taken.
fn large(taken: Arc<AtomicUsize>, witness: &Witness) -> Body {
    let at_work = witness.begin();
    let frames = tokio_stream::iter(0..CHUNKS).map(move |_| {
        let _at_work = &at_work;
        taken.fetch_add(CHUNK, Ordering::Relaxed);
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'a'; CHUNK])))
    });
    Body::new(StreamBody::new(frames))
}

#[tokio::test]
async fn a_caller_that_never_reads_a_large_answer_is_cut_and_holds_little() {
    let (taken, witness) = (Arc::new(AtomicUsize::new(0)), Witness::new());
    let routes = Router::new().route("/large", {
        let (taken, witness) = (taken.clone(), witness.clone());
        get(move || async move { large(taken, &witness) })
    });
    let service = TestService::builder().set("http.write_timeout", "300ms");
    let service = service.start(|chassis: Chassis| chassis.mount(routes)).await.unwrap();
    let mut raw = Raw::connect(service.http()).await;
    raw.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until_ended(&service, "write_timeout", 1.0).await;
    witness.ended(1).await;
    // What was taken fills the kernel's two buffers and hyper's own; the rest was never made.
    assert!(taken.load(Ordering::Relaxed) < CHUNK * CHUNKS / 2, "{taken:?}");
    until_nothing_is_in_flight(&service).await;
    until(&service, "http_server_request_duration_seconds_count", &["error_type=\"aborted\""], 1.0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let witness = Witness::new();
    let (release, released) = tokio::sync::watch::channel(false);
    let routes = Router::new().route("/", get(|| async { "quick" })).route("/long", {
        let witness = witness.clone();
        get(move || async move {
            let _at_work = witness.begin();
            let _ = released.clone().wait_for(|released| *released).await;
            "long"
        })
    });
    let builder = TestService::builder().set("http.idle_timeout", "200ms").set("http.write_timeout", "100ms");
    let service = builder.start(|chassis: Chassis| chassis.mount(routes)).await.unwrap();
    let mut busy = Raw::connect(service.http()).await;
    busy.send("GET /long HTTP/1.1\r\nhost: a\r\n\r\n").await;
    witness.began(1).await;
    let mut idle = Raw::connect(service.http()).await;
    // Before the request: the service's time begins with its answer, which this test may get late.
    let started = std::time::Instant::now();
    assert_eq!(idle.get("/").await.body, b"quick");
    assert_eq!(idle.rest().await, b"");
    assert!(started.elapsed() >= std::time::Duration::from_millis(200), "closed after {:?}", started.elapsed());
    until_ended(&service, "idle", 1.0).await;
    release.send_replace(true);
    assert_eq!(busy.answer().await.unwrap().body, b"long");
    assert_eq!(busy.get("/").await.body, b"quick");
}

#[tokio::test]
async fn the_connection_over_the_limit_waits_until_one_ends() {
    let routes = Router::new().route("/", get(|| async { "served" }));
    let service = TestService::builder().set("http.max_connections", 2);
    let service = service.start(|chassis: Chassis| chassis.mount(routes)).await.unwrap();
    let (mut first, mut second) = (Raw::connect(service.http()).await, Raw::connect(service.http()).await);
    assert_eq!((first.get("/").await.status, second.get("/").await.status), (200, 200));
    let mut third = Raw::connect(service.http()).await;
    third.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(third.is_silent().await);
    drop(first);
    assert_eq!(third.answer().await.unwrap().body, b"served");
    assert_eq!(second.get("/").await.body, b"served");
}

#[tokio::test]
async fn an_idle_connection_hears_of_the_stop_though_it_drained_first() {
    let routes = Router::new().route("/", get(|| async { "served" }));
    // A grace period that is longer than the test waits: the stop does not end by it.
    let service = TestService::builder().set("shutdown.drain_delay", "100ms").set("shutdown.grace", "10m");
    let service = service.start(|chassis: Chassis| chassis.mount(routes)).await.unwrap();
    let mut idle = Raw::connect(service.http()).await;
    assert_eq!(idle.get("/").await.status, 200);
    service.handle().stop(false);
    assert_eq!(idle.rest().await, b"");
    tokio::time::timeout(PATIENCE, service.ended()).await.expect("the stop ends").unwrap();
}

#[tokio::test]
async fn a_unix_socket_is_served() {
    let path = std::env::temp_dir().join(format!("chassis-door-{}.sock", std::process::id()));
    let routes = Router::new().route("/", get(|| async { "over a file" }));
    let service = TestService::builder().set("http.address", format!("unix:{}", path.display()));
    let service = service.start(|chassis: Chassis| chassis.mount(routes)).await.unwrap();
    assert_eq!(service.bound().http.to_string(), format!("unix:{}", path.display()));
    let mut raw = Raw::on(UnixStream::connect(&path).await.unwrap());
    assert_eq!(raw.get("/").await.body, b"over a file");
    drop(raw);
    service.stop().await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn ipv6_and_port_0_are_served_and_the_port_is_told() {
    let routes = Router::new().route("/", get(|| async { "served" }));
    let service = TestService::builder().set("http.address", "[::1]:0").set("admin.address", "[::1]:0");
    let service = service.start(|chassis: Chassis| chassis.mount(routes)).await.unwrap();
    assert!(service.http().is_ipv6() && service.http().port() != 0 && service.admin().port() != 0);
    assert_eq!(service.get("/").await.unwrap().text(), "served");
    assert_eq!(service.operator("/livez").await.unwrap().status, 200);
}
