//! HTTP/2 with prior knowledge on the same port, and its limits.

use std::convert::Infallible;

use axum::{Router, body::Body, body::Bytes, routing::get};
use chassis::{
    Chassis,
    testing::{TestService, TestServiceBuilder},
};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::codegen::tokio_stream::{self, StreamExt};

use crate::support::{
    h2::{self, H2, frame},
    raw::{PATIENCE, Raw},
    scrape::{until, until_ended, until_nothing_is_in_flight},
    witness::Witness,
};

const ENHANCE_YOUR_CALM: u32 = 0xb;
const REFUSED_STREAM: u32 = 0x7;

async fn start(builder: TestServiceBuilder, witness: &Witness) -> TestService {
    let hang = witness.clone();
    let routes = Router::new().route("/", get(|| async { "over two" })).route("/hang", get(move || hang.hang()));
    let routes = routes.route("/bulk", get(|| async { Body::from(vec![b'a'; 1 << 20]) }));
    let routes = routes.route("/panic-in-body", get(|| async { breaking() }));
    builder.start(|chassis: Chassis| chassis.mount(routes)).await.unwrap()
}

/// A body that panics behind its first part.
fn breaking() -> Body {
    let frames = tokio_stream::iter(0..2).map(|index| {
        assert!(index < 1, "the body gives up");
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"part")))
    });
    Body::new(StreamBody::new(frames))
}

type Sender = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

async fn client(service: &TestService) -> Sender {
    let socket = TcpStream::connect(service.http()).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(service: &TestService, method: &str, path: &str) -> http::request::Builder {
    http::Request::builder().method(method).uri(format!("http://{}{path}", service.http()))
}

#[tokio::test]
async fn both_versions_are_served_on_one_port() {
    let service = start(TestService::builder(), &Witness::new()).await;
    let mut sender = client(&service).await;
    let answer = sender.send_request(request(&service, "GET", "/").body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "over two");
    let mut raw = Raw::connect(service.http()).await;
    assert_eq!(raw.get("/").await.body, b"over two");
}

#[tokio::test]
async fn a_refused_head_has_no_body_over_http2_either() {
    let service = start(TestService::builder(), &Witness::new()).await;
    let mut sender = client(&service).await;
    for (path, budget, status) in [("/nowhere", "1000", 404), ("/", "0", 504)] {
        let head = request(&service, "HEAD", path).header("x-request-timeout-ms", budget);
        let answer = sender.send_request(head.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (status, &"application/problem+json".parse().unwrap())
        );
        assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}

#[tokio::test]
async fn a_stream_over_the_limit_is_refused_and_the_others_go_on() {
    let witness = Witness::new();
    let service = start(TestService::builder().set("http.http2.max_concurrent_streams", 2), &witness).await;
    let mut h2 = H2::connect(service.http()).await;
    let settings = h2.until(h2::SETTINGS).await.unwrap();
    let limit = settings.payload.chunks(6).find(|setting| setting[..2] == [0, 3]).unwrap();
    assert_eq!(limit[2..], [0, 0, 0, 2]);
    for stream in [1, 3, 5] {
        h2.send(&h2::get(stream, "/hang")).await;
    }
    let refused = h2.until(h2::RST_STREAM).await.unwrap();
    assert_eq!((refused.stream, refused.error_code()), (5, REFUSED_STREAM));
    witness.began(2).await;
    assert_eq!(witness.seen(), (2, 0));
}

#[tokio::test]
async fn a_header_list_over_the_limit_is_refused() {
    let service = start(TestService::builder().set("http.http2.max_header_list_size", "4KiB"), &Witness::new()).await;
    let mut sender = client(&service).await;
    let large = request(&service, "GET", "/").header("x-large", "a".repeat(8000)).body(Empty::new()).unwrap();
    match sender.send_request(large).await {
        Ok(answer) => assert_eq!(answer.status(), 431),
        Err(error) => assert!(!error.is_timeout(), "{error}"),
    }
    assert_eq!(service.get("/").await.unwrap().status, 200);
}

#[tokio::test]
async fn rapid_reset_ends_the_connection_and_not_the_service() {
    let witness = Witness::new();
    // Below the default, which a slow machine would have to be flooded for.
    let service = start(TestService::builder().set("http.http2.max_pending_accept_reset_streams", 20), &witness).await;
    let mut h2 = H2::connect(service.http()).await;
    let cancel = 8u32.to_be_bytes();
    let mut flood = Vec::new();
    for stream in (1..4000).step_by(2) {
        flood.extend(h2::get(stream, "/hang"));
        flood.extend(frame(h2::RST_STREAM, 0, stream, &cancel));
    }
    // The connection may end before all of it is taken.
    let _ = h2.socket.write_all(&flood).await;
    let goaway = h2.until(h2::GOAWAY).await.expect("GOAWAY");
    assert_eq!(goaway.error_code(), ENHANCE_YOUR_CALM);
    while h2.frame().await.is_some() {}
    until_nothing_is_in_flight(&service).await;
    let (began, ended) = witness.seen();
    assert_eq!(began, ended);
    assert_eq!(service.get("/").await.unwrap().status, 200);
}

/// Floods with frames that each want an answer, and reads none; returns how many bytes were taken before the cut.
async fn flood(service: &TestService, unit: &[u8]) -> usize {
    let mut h2 = H2::connect(service.http()).await;
    let block = unit.repeat(4096);
    let mut taken = 0;
    let written = timeout(PATIENCE, async {
        while let Ok(count) = h2.socket.write(&block).await {
            taken += count;
        }
    });
    written.await.expect("the flood is ended");
    taken
}

#[tokio::test]
async fn floods_of_ping_and_settings_are_not_taken_without_end() {
    for unit in [frame(h2::PING, 0, 0, &[7; 8]), frame(h2::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9])] {
        let service = start(TestService::builder().set("http.write_timeout", "300ms"), &Witness::new()).await;
        let taken = flood(&service, &unit).await;
        // The kernel's buffers on both sides and both ways, not the server's memory.
        assert!(taken < 64 << 20, "{taken} bytes");
        assert_eq!(service.get("/").await.unwrap().status, 200);
        until(&service, "chassis_connections_active", &["listener=\"http\""], 1.0).await;
    }
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_dead() {
    let witness = Witness::new();
    let builder = TestService::builder().set("http.http2.keep_alive_interval", "100ms");
    let service = start(builder.set("http.http2.keep_alive_timeout", "100ms"), &witness).await;
    let mut h2 = H2::connect(service.http()).await;
    h2.send(&h2::get(1, "/hang")).await;
    witness.began(1).await;
    assert!(h2.until(h2::PING).await.is_some());
    while h2.frame().await.is_some() {}
    witness.ended(1).await;
    until_nothing_is_in_flight(&service).await;
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go_and_cut_when_it_does_not() {
    let builder = TestService::builder().set("http.idle_timeout", "200ms").set("http.write_timeout", "200ms");
    let service = start(builder, &Witness::new()).await;
    let mut h2 = H2::connect(service.http()).await;
    h2.send(&h2::get(1, "/")).await;
    assert_eq!(h2.until(h2::GOAWAY).await.unwrap().error_code(), 0);
    // The PING that comes with it is not answered.
    while h2.frame().await.is_some() {}
    until_ended(&service, "idle", 1.0).await;
}

#[tokio::test]
async fn a_caller_that_opens_no_window_is_cut_after_the_write_timeout() {
    let service = start(TestService::builder().set("http.write_timeout", "300ms"), &Witness::new()).await;
    // SETTINGS_INITIAL_WINDOW_SIZE 0: the head may come, of the body nothing.
    let mut h2 = H2::with_settings(service.http(), &[0, 4, 0, 0, 0, 0]).await;
    h2.send(&h2::get(1, "/bulk")).await;
    assert!(h2.until(h2::HEADERS).await.is_some());
    while h2.frame().await.is_some() {}
    until_ended(&service, "write_timeout", 1.0).await;
    until_nothing_is_in_flight(&service).await;
}

#[tokio::test]
async fn a_panic_in_a_body_breaks_its_stream_and_no_other() {
    let witness = Witness::new();
    let service = start(TestService::builder(), &witness).await;
    let mut h2 = H2::connect(service.http()).await;
    h2.send(&h2::get(1, "/hang")).await;
    h2.send(&h2::get(3, "/panic-in-body")).await;
    assert_eq!(h2.until(h2::RST_STREAM).await.unwrap().stream, 3);
    h2.send(&h2::get(5, "/")).await;
    let data = h2.until(h2::DATA).await.unwrap();
    assert_eq!((data.stream, data.payload.as_slice(), witness.seen()), (5, &b"over two"[..], (1, 0)));
}

#[tokio::test]
async fn a_stream_that_the_caller_resets_is_an_abort() {
    let witness = Witness::new();
    let service = start(TestService::builder(), &witness).await;
    let mut h2 = H2::connect(service.http()).await;
    h2.send(&h2::get(1, "/hang")).await;
    witness.began(1).await;
    until(&service, "http_server_active_requests", &[], 1.0).await;
    h2.send(&frame(h2::RST_STREAM, 0, 1, &8u32.to_be_bytes())).await;
    witness.ended(1).await;
    until_nothing_is_in_flight(&service).await;
    until(&service, "http_server_request_duration_seconds_count", &["error_type=\"aborted\"", "route=\"/hang\""], 1.0)
        .await;
    h2.send(&h2::get(3, "/")).await;
    let data = h2.until(h2::DATA).await.unwrap();
    assert_eq!((data.stream, data.payload.as_slice()), (3, &b"over two"[..]));
}

#[tokio::test]
async fn callers_whose_calls_time_out_end_no_connection() {
    let service = start(TestService::builder(), &Witness::new()).await;
    let mut h2 = H2::connect(service.http()).await;
    // Every stream that a connection may have, given up at once.
    let mut bytes = Vec::new();
    for stream in (1..400).step_by(2) {
        bytes.extend(h2::get(stream, "/hang"));
    }
    for stream in (1..400).step_by(2) {
        bytes.extend(frame(h2::RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    bytes.extend(h2::get(401, "/"));
    h2.send(&bytes).await;
    let data = h2.until(h2::DATA).await.expect("the patient call is answered");
    assert_eq!((data.stream, data.payload.as_slice()), (401, &b"over two"[..]));
    until_nothing_is_in_flight(&service).await;
}

#[tokio::test]
async fn a_caller_that_still_sends_reads_the_last_goaway() {
    let service = start(TestService::builder(), &Witness::new()).await;
    let mut h2 = H2::connect(service.http()).await;
    h2.send(&h2::get(1, "/")).await;
    assert!(h2.until(h2::DATA).await.is_some());
    service.handle().stop(true);
    let first = h2.until(h2::GOAWAY).await.expect("a first GOAWAY");
    assert_eq!(first.payload[..4], [0x7f, 0xff, 0xff, 0xff]);
    let ping = h2.until(h2::PING).await.expect("a PING");
    h2.send(&frame(h2::PING, h2::ACK, 0, &ping.payload)).await;
    let last = h2.until(h2::GOAWAY).await.expect("the last GOAWAY");
    assert_eq!(last.payload[..4], [0, 0, 0, 1]);
    assert!(h2.frame().await.is_none());
    // A socket that is closed by now would be reset by the first of these, and the others could not be sent.
    for _ in 0..100 {
        h2.send(&frame(h2::PING, 0, 0, &[1; 8])).await;
    }
    assert_eq!(h2.socket.read_to_end(&mut Vec::new()).await.expect("no reset"), 0);
    drop(h2);
    service.ended().await.unwrap();
}
