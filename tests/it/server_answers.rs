//! Answers that reach their caller: their announced length, the deadline, uploads that are not read.

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    routing::{get, post},
};
use chassis::{
    Chassis,
    client::{CallError, Client},
    testing::TestService,
};
use http::{Response, StatusCode};
use tonic::codegen::tokio_stream;

use crate::support::{
    echo, h2,
    h2::{H2, frame},
    raw::Raw,
    scrape::{sum, until},
    witness::Witness,
};

const COUNT: &str = "http_server_request_duration_seconds_count";

/// An answer whose head announces so many bytes, and whose stream has so many parts of ten.
fn streamed(status: u16, announced: &'static str, parts: usize) -> Response<Body> {
    let parts = vec![Ok::<_, Infallible>(Bytes::from_static(b"0123456789")); parts];
    let body = Body::from_stream(tokio_stream::iter(parts));
    Response::builder().status(status).header("content-length", announced).body(body).unwrap()
}

fn answers() -> Router {
    Router::new()
        .route("/whole", get(|| async { streamed(200, "30", 3) }))
        .route("/range", get(|| async { streamed(206, "10", 1) }))
        .route("/empty", get(|| async { streamed(200, "0", 0) }))
        .route("/longer", get(|| async { streamed(200, "15", 3) }))
        .route("/not-modified", get(|| async { streamed(304, "30", 3) }))
        // A whole body goes out with the length that it has.
        .route("/corrected", get(|| async { ([("content-length", "30")], "short") }))
        .route("/shorter", get(|| async { streamed(200, "30", 1) }))
        .route("/nothing", get(|| async { streamed(200, "30", 0) }))
}

const COMPLETE: [(&str, &[u8]); 6] = [
    ("/whole", b"012345678901234567890123456789"),
    ("/range", b"0123456789"),
    ("/empty", b""),
    ("/longer", b"012345678901234"),
    ("/not-modified", b""),
    ("/corrected", b"short"),
];

/// Waits until each of these routes was recorded once, with this kind of error or none.
async fn recorded(service: &TestService, routes: impl IntoIterator<Item = &str>, error: Option<&str>) {
    for route in routes {
        let route = format!("http_route=\"{route}\"");
        until(service, COUNT, &[&route], 1.0).await;
        let scrape = service.metrics().await.unwrap();
        for kind in ["aborted", "broken_off"] {
            let label = format!("error_type=\"{kind}\"");
            let expected = if error == Some(kind) { 1.0 } else { 0.0 };
            assert_eq!(sum(&scrape, COUNT, &[&route, &label]), expected, "{route} {kind}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_its_announced_length_is_complete() {
    let service = TestService::start(|chassis: Chassis| chassis.mount(answers())).await.unwrap();
    let mut raw = Raw::connect(service.http()).await;
    for (path, body) in COMPLETE {
        raw.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let answer = raw.answer_to(path != "/not-modified").await.expect("an answer");
        assert_eq!(answer.body, body, "{path}");
    }
    recorded(&service, COMPLETE.map(|(path, _)| path), None).await;
    raw.send("HEAD /whole HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(raw.answer_to(false).await.expect("an answer").header("content-length"), "30");
    // The connection is as good as before.
    assert_eq!(raw.get("/range").await.body, b"0123456789");
}

#[tokio::test]
async fn an_answer_of_its_announced_length_is_complete_over_http2() {
    let service = TestService::start(|chassis: Chassis| chassis.mount(answers())).await.unwrap();
    let mut h2 = H2::connect(service.http()).await;
    for ((path, body), stream) in COMPLETE.into_iter().zip((1..).step_by(2)) {
        h2.send(&h2::get(stream, path)).await;
        let mut read: Vec<u8> = Vec::new();
        loop {
            let frame = h2.frame().await.expect("a frame");
            assert_ne!(frame.kind, h2::RST_STREAM, "{path}");
            if frame.stream == stream && frame.kind == h2::DATA {
                read.extend(&frame.payload);
            }
            if frame.stream == stream && frame.flags & h2::END_STREAM != 0 {
                break;
            }
        }
        assert_eq!(read, body, "{path}");
    }
    recorded(&service, COMPLETE.map(|(path, _)| path), None).await;
}

#[tokio::test]
async fn an_answer_shorter_than_announced_is_broken_off() {
    let paths = ["/shorter", "/nothing"];
    let service = TestService::start(|chassis: Chassis| chassis.mount(answers())).await.unwrap();
    for path in paths {
        let mut raw = Raw::connect(service.http()).await;
        raw.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let head = raw.head().await.expect("the head is sent before the answer breaks off");
        assert!(head.contains("content-length: 30"), "{head}");
        assert!(raw.rest().await.len() < 30, "{path}");
    }
    recorded(&service, paths, Some("broken_off")).await;
    let service = TestService::start(|chassis: Chassis| chassis.mount(answers())).await.unwrap();
    let mut h2 = H2::connect(service.http()).await;
    for (path, stream) in paths.into_iter().zip([1, 3]) {
        h2.send(&h2::get(stream, path)).await;
        assert_eq!(h2.until(h2::RST_STREAM).await.expect("a reset").stream, stream, "{path}");
    }
    recorded(&service, paths, Some("broken_off")).await;
}

struct Slow(Witness);

#[chassis::service]
impl Slow {
    #[get("/hang")]
    async fn hang(&self) -> &'static str {
        self.0.hang().await;
        "never"
    }
}

struct Front(Client);

#[chassis::service]
impl Front {
    #[get("/told")]
    async fn told(&self) -> Result<String, CallError> {
        self.0.call(http::Method::GET, "/hang").json().await
    }

    #[get("/fallback")]
    async fn fallback(&self) -> String {
        self.0.call(http::Method::GET, "/hang").json().await.unwrap_or_else(|_: CallError| "fallback".to_owned())
    }
}

#[tokio::test]
async fn the_answer_that_reports_a_passed_deadline_arrives() {
    let witness = Witness::new();
    let slow = TestService::start(|chassis: Chassis| chassis.mount(Slow(witness.clone()))).await.unwrap();
    let front = TestService::builder().set("clients.slow.target", format!("static://{}", slow.http()));
    let front = front.set("clients.slow.breaker.mode", "metrics_only");
    let make = |chassis: Chassis| {
        let client = chassis.client("slow").expect("a client");
        chassis.mount(Front(client))
    };
    let front = front.start(make).await.unwrap();
    for _ in 0..10 {
        let mut raw = Raw::connect(front.http()).await;
        raw.send("GET /told HTTP/1.1\r\nhost: a\r\nx-request-timeout-ms: 100\r\n\r\n").await;
        assert_eq!(raw.answer().await.expect("an answer").status, 504);
        raw.send("GET /fallback HTTP/1.1\r\nhost: a\r\nx-request-timeout-ms: 100\r\n\r\n").await;
        let answer = raw.answer().await.expect("an answer");
        assert!(answer.status == 200 && String::from_utf8_lossy(&answer.body).contains("fallback"), "{answer:?}");
    }
    let mut client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
    let client = client.http2_only(true).build_http::<http_body_util::Empty<Bytes>>();
    for _ in 0..10 {
        let request = http::Request::get(format!("http://{}/told", front.http()));
        let request = request.header("x-request-timeout-ms", "100").body(http_body_util::Empty::new()).unwrap();
        let answer = client.request(request).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
        http_body_util::BodyExt::collect(answer.into_body()).await.expect("a whole answer");
    }
}

/// Sends all of a large upload before it reads, as Python's `http.client` does; gives the status.
fn upload(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let part = [b'a'; 64 << 10];
    let length = part.len() * 160;
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    for _ in 0..160 {
        stream.write_all(&part)?;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
}

fn uploads() -> Router {
    Router::new()
        .route("/bytes", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/read-only", get(|| async { "text" }))
        .route("/unread", post(|| async { StatusCode::CONFLICT }))
}

#[tokio::test]
async fn the_caller_of_an_early_answer_reads_it() {
    let refusing = TestService::start(|chassis: Chassis| chassis.mount(uploads())).await.unwrap();
    let taking = TestService::builder().set("http.body_limit", "16MiB");
    let taking = taking.start(|chassis: Chassis| chassis.mount(uploads())).await.unwrap();
    let early = [("/bytes", "413", &refusing), ("/nowhere", "404", &taking), ("/read-only", "405", &taking)];
    for (path, status, service) in early.into_iter().chain([("/unread", "409", &taking)]) {
        let address = service.http();
        let told = tokio::task::spawn_blocking(move || upload(address, path)).await.unwrap();
        assert_eq!(told.expect("the whole upload is taken"), status, "{path}");
    }
}

#[tokio::test]
async fn an_early_answer_over_http2_ends_its_stream_alone() {
    let service = TestService::start(|chassis: Chassis| chassis.mount(uploads())).await.unwrap();
    let mut h2 = H2::connect(service.http()).await;
    // POST /bytes with `content-length: 9999999`.
    let mut block = vec![0x83, 0x86, 0x04, 6];
    block.extend(b"/bytes");
    block.extend([0x01, 4]);
    block.extend(b"test");
    block.extend([0x0f, 0x0d, 7]);
    block.extend(b"9999999");
    h2.send(&frame(h2::HEADERS, h2::END_HEADERS, 1, &block)).await;
    assert_eq!(h2.until(h2::HEADERS).await.expect("the answer").stream, 1);
    let reset = h2.until(h2::RST_STREAM).await.expect("a reset behind the answer");
    assert_eq!((reset.stream, reset.error_code()), (1, 0));
    h2.send(&frame(h2::DATA, 0, 1, &[b'a'; 1000])).await;
    h2.send(&h2::get(3, "/read-only")).await;
    let data = h2.until(h2::DATA).await.expect("the next answer");
    assert_eq!((data.stream, data.payload.as_slice()), (3, &b"text"[..]));
}

#[tokio::test]
async fn a_handler_sees_the_address_of_its_caller() {
    let routes = Router::new()
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }));
    // A listener for both families: an IPv4 caller is shown as one.
    let service = TestService::builder().set("http.address", "[::]:0");
    let make = |chassis: Chassis| chassis.mount(routes).grpc(echo::Echo(Witness::new()));
    let service = service.start(make).await.unwrap();
    for host in ["127.0.0.1", "::1"] {
        let address = SocketAddr::new(host.parse().unwrap(), service.http().port());
        assert_eq!(Raw::connect(address).await.get("/peer").await.body, host.as_bytes());
        let mut client = echo::Client::connect(address).await;
        assert_eq!(client.say("peer", "").await.unwrap().into_inner().text, host);
    }
}
