//! The connections of calls out: which calls share one, when there is a second, and what ends one.

use std::{
    error::Error as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use chassis::{
    Chassis,
    client::{CallError, CallErrorKind, Client, Outcome},
    service::{NoContent, Raw},
    testing::{TestService, TestServiceBuilder},
};
use http::{Method, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::task::AbortOnDropHandle;

use crate::support::{
    h2::{ACK, END_HEADERS, END_STREAM, Frame, GOAWAY, H2, HEADERS, PING, RST_STREAM, SETTINGS, frame},
    raw::PATIENCE,
    replica::Caller,
};

const MANY: usize = 8;
const BIG: usize = 3 << 20;

struct Answers;

#[chassis::service]
impl Answers {
    #[get("/big")]
    async fn big(&self) -> Raw<Bytes> {
        Raw(Bytes::from_static(&[0; BIG]))
    }

    #[get("/small")]
    async fn small(&self) -> NoContent {
        NoContent
    }

    #[get("/head/{kib}")]
    async fn head(&self, kib: usize) -> Response<Body> {
        let mut response = Response::builder();
        for _ in 0..kib {
            response = response.header("x-filler", "x".repeat(1024));
        }
        response.body(Body::empty()).unwrap()
    }
}

/// A caller of this address over HTTP/2, with settings of the client.
async fn http2(address: SocketAddr, settings: &[(&str, &str)]) -> Caller {
    Caller::with(&format!("static://{address}"), |mut builder: TestServiceBuilder| {
        builder = builder.set("clients.shop.protocol", "http2");
        for (key, value) in settings {
            builder = builder.set(&format!("clients.shop.{key}"), *value);
        }
        builder
    })
    .await
}

async fn small(client: &Client) -> Result<(), CallError> {
    client.call(Method::GET, "/small").answer().await
}

async fn post(client: &Client) -> Result<(), CallError> {
    client.call(Method::POST, "/orders").answer().await
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

#[tokio::test]
async fn unread_answers_do_not_stop_other_calls() {
    let server = TestService::start(|chassis: Chassis| chassis.mount(Answers)).await.unwrap();
    let one_each = [("pool.stream_window", "64KiB"), ("pool.connection_window", "64KiB")];
    for settings in [&[][..], &one_each[..]] {
        let caller = http2(server.http(), settings).await;
        let mut unread = Vec::new();
        for _ in 0..MANY {
            let answer: Response<Body> = within(caller.client.call(Method::GET, "/big").answer()).await.unwrap();
            unread.push(answer);
        }
        within(small(&caller.client)).await.unwrap();
        for answer in unread {
            let read = within(axum::body::to_bytes(answer.into_body(), usize::MAX)).await.unwrap();
            assert_eq!(read.len(), BIG);
        }
    }
}

/// Accepts a connection of HTTP/2 and greets it.
async fn greet(listener: &TcpListener, settings: &[u8]) -> H2 {
    let (mut socket, _) = within(listener.accept()).await.unwrap();
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).await.unwrap();
    let mut h2 = H2 { socket };
    h2.send(&frame(SETTINGS, 0, 0, settings)).await;
    h2
}

/// `:status: 204` of HPACK's static table.
fn answer(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &[0x89])
}

async fn request(h2: &mut H2) -> u32 {
    h2.until(HEADERS).await.expect("a request").stream
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn plain(address: SocketAddr) -> Client {
    Client::builder(format!("http://{address}")).http2().build().unwrap()
}

fn spawn<T: Send + 'static>(call: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(call))
}

#[tokio::test]
async fn calls_beyond_the_allowed_streams_have_another_connection() {
    let (listener, address) = listen().await;
    let client = plain(address);
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            spawn(async move { small(&client).await })
        })
        .collect();
    // SETTINGS_MAX_CONCURRENT_STREAMS: 1.
    let one = [0, 3, 0, 0, 0, 1];
    let mut first = greet(&listener, &one).await;
    let stream = request(&mut first).await;
    let mut second = greet(&listener, &one).await;
    let other = request(&mut second).await;
    second.send(&answer(other)).await;
    first.send(&answer(stream)).await;
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
}

/// A cold destination whose handshake takes longer than the first callers wait.
#[tokio::test]
async fn impatient_calls_cost_the_others_nothing() {
    let (listener, address) = listen().await;
    let caller = http2(address, &[]).await;
    for _ in 0..6 {
        let call = caller.client.call(Method::GET, "/small").timeout(Duration::from_millis(50));
        let error = call.answer::<()>().await.unwrap_err();
        assert!(error.is_deadline_exceeded() && error.never_sent(), "{error:?}");
    }
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let client = caller.client.clone();
            spawn(async move { small(&client).await })
        })
        .collect();
    let mut h2 = greet(&listener, &[]).await;
    for _ in 0..4 {
        let stream = request(&mut h2).await;
        h2.send(&answer(stream)).await;
    }
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
    let second = tokio::select! { biased; _ = listener.accept() => true, () = std::future::ready(()) => false };
    assert!(!second, "one connection, begun by the first call");
}

#[tokio::test]
async fn after_a_goaway_no_stream_is_opened_there() {
    let (listener, address) = listen().await;
    let client = plain(address);
    let slow = spawn({
        let client = client.clone();
        async move { post(&client).await }
    });
    let mut first = greet(&listener, &[]).await;
    let stream = request(&mut first).await;
    let last = [0x7fff_ffff_u32.to_be_bytes(), 0_u32.to_be_bytes()].concat();
    first.send(&frame(GOAWAY, 0, 0, &last)).await;
    first.send(&frame(PING, 0, 0, &[7; 8])).await;
    while first.until(PING).await.expect("it goes on").flags & ACK == 0 {}
    let next = spawn(async move { post(&client).await });
    let mut second = greet(&listener, &[]).await;
    let other = request(&mut second).await;
    second.send(&answer(other)).await;
    within(next).await.unwrap().unwrap();
    // What has begun there goes on.
    first.send(&answer(stream)).await;
    within(slow).await.unwrap().unwrap();
}

/// What a server of HTTP/2 reads after the answer to a call whose caller has gone, up to the end of a PING.
async fn after(deadline: bool) -> Vec<Frame> {
    let (listener, address) = listen().await;
    let client = plain(address);
    let call = client.call(Method::GET, "/small");
    let call = if deadline { call.timeout(Duration::from_millis(100)) } else { call };
    let call = spawn(call.answer::<()>());
    let mut h2 = greet(&listener, &[]).await;
    let stream = request(&mut h2).await;
    if deadline {
        assert!(within(call).await.unwrap().unwrap_err().is_deadline_exceeded());
    } else {
        call.abort();
        h2.until(RST_STREAM).await.expect("a reset");
        return Vec::new();
    }
    h2.send(&answer(stream)).await;
    h2.send(&frame(PING, 0, 0, &[7; 8])).await;
    let mut frames = Vec::new();
    loop {
        let frame = h2.frame().await.expect("it goes on");
        if frame.kind == PING && frame.flags & ACK != 0 {
            return frames;
        }
        frames.push(frame);
    }
}

#[tokio::test]
async fn a_deadline_that_both_ends_know_resets_nothing() {
    let frames = after(true).await;
    assert!(!frames.iter().any(|frame| frame.kind == RST_STREAM), "{frames:?}");
    // The server does not know of a caller that loses interest.
    after(false).await;
}

/// A server of HTTP/1.1 that answers each request with what this makes of its number, and counts them.
async fn http1(
    make: impl Fn(usize) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>, AbortOnDropHandle<()>) {
    let (listener, address) = listen().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let serving = spawn(async move {
        let mut connections = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let (make, counted) = (make.clone(), Arc::clone(&counted));
            connections.push(spawn(async move {
                while head(&mut socket).await {
                    let number = counted.fetch_add(1, SeqCst);
                    if socket.write_all(&make(number)).await.is_err() {
                        return;
                    }
                }
            }));
        }
    });
    (address, seen, serving)
}

/// Reads the head of a request without a body.
async fn head(socket: &mut TcpStream) -> bool {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        match socket.read_buf(&mut read).await {
            Ok(1..) => {}
            _ => return false,
        }
    }
    true
}

fn text(text: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into_bytes()
}

async fn read(client: &Client) -> Result<Bytes, CallError> {
    let Raw(read): Raw<Bytes> = client.call(Method::GET, "/").answer().await?;
    Ok(read)
}

#[tokio::test]
async fn an_answer_to_no_request_answers_none() {
    let twice = |number: usize| [text(&number.to_string()), text("not asked for")].concat();
    let (address, _, _serving) = http1(twice).await;
    let client = Client::new(&format!("http://{address}")).unwrap();
    for number in 0..200 {
        assert_eq!(read(&client).await.unwrap(), number.to_string());
    }
}

/// The bytes come while the connection is idle, and the next call begins before the runtime has heard of them.
#[tokio::test]
async fn unexpected_bytes_end_an_idle_connection() {
    let (listener, address) = listen().await;
    let (say, mut said) = mpsc::channel::<()>(1);
    let (done, mut is_done) = mpsc::channel::<()>(1);
    let serving = spawn(async move {
        for number in 0.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            assert!(head(&mut socket).await);
            socket.write_all(&text(&format!("{number}"))).await.unwrap();
            said.recv().await;
            socket.write_all(&text("not asked for")).await.unwrap();
            done.send(()).await.unwrap();
        }
    });
    let client = Client::new(&format!("http://{address}")).unwrap();
    for number in 0..50 {
        assert_eq!(within(read(&client)).await.unwrap(), number.to_string());
        say.send(()).await.unwrap();
        is_done.recv().await.unwrap();
    }
    drop(serving);
}

fn too_large(error: &CallError, key: &str) {
    assert_eq!(error.kind(), CallErrorKind::TooLarge, "{error:?}");
    assert!(error.to_string().contains(key), "{error}");
}

#[tokio::test]
async fn an_answer_with_many_headers_is_read_or_named() {
    let (address, seen, _serving) = http1(|number| {
        let headers = "x-many: value\r\n".repeat(if number == 0 { 900 } else { 1_001 });
        format!("HTTP/1.1 204 No Content\r\n{headers}\r\n").into_bytes()
    })
    .await;
    let caller = Caller::of(&format!("static://{address}")).await;
    small(&caller.client).await.unwrap();
    for _ in 0..10 {
        too_large(&small(&caller.client).await.unwrap_err(), "pool.max_headers");
    }
    assert_eq!(seen.load(SeqCst), 11, "nothing is tried again");
    let dependency = caller.dependency().await;
    assert_eq!(dependency["endpoints"][0]["breaker"]["state"], "closed", "{dependency}");
    assert_eq!(dependency["endpoints"][0]["breaker"]["failed"].as_u64().unwrap_or(0), 0, "{dependency}");
}

#[tokio::test]
async fn a_large_head_over_http2_is_read_or_named() {
    let server = TestService::start(|chassis: Chassis| chassis.mount(Answers)).await.unwrap();
    let caller = http2(server.http(), &[]).await;
    let head = |kib: usize| caller.client.call(Method::GET, "/head/{kib}").path("kib", &kib).answer::<Response<Body>>();
    within(head(40)).await.unwrap();
    for _ in 0..10 {
        too_large(&within(head(600)).await.unwrap_err(), "pool.max_head_size");
    }
    let dependency = caller.dependency().await;
    assert_eq!(dependency["endpoints"][0]["breaker"]["state"], "closed", "{dependency}");
}

/// The whole of an error that says that there was no connection.
fn refused(error: CallError) -> String {
    assert_eq!(error.kind(), CallErrorKind::NotSent, "{error:?}");
    let mut text = String::new();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!("{error}: "));
        source = error.source();
    }
    assert_eq!(Outcome::of_error(&error.into()), Outcome::Unreachable);
    text
}

/// A server that says this to whoever connects.
async fn says(bytes: Vec<u8>) -> (SocketAddr, AbortOnDropHandle<()>) {
    let (listener, address) = listen().await;
    let serving = spawn(async move {
        let mut connections = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut byte = [0];
            let _ = socket.read(&mut byte).await;
            let _ = socket.write_all(&bytes).await;
            connections.push(socket);
        }
    });
    (address, serving)
}

#[tokio::test]
async fn the_wrong_protocol_is_named_with_its_key() {
    let http1 = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec();
    let alert = vec![0x15, 3, 1, 0, 2, 2, 70];
    let settings = [frame(SETTINGS, 0, 0, &[]), frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 1])].concat();
    for (bytes, http2, speaks, key) in [
        (http1, true, "speaks HTTP/1.1, expected HTTP/2", "protocol = \"http1\""),
        (alert.clone(), true, "speaks TLS", "tls.enabled"),
        (alert, false, "speaks TLS", "tls.enabled"),
        (settings, false, "speaks HTTP/2, expected HTTP/1.1", "protocol = \"http2\""),
    ] {
        let (address, _serving) = says(bytes).await;
        let builder = Client::builder(format!("http://{address}"));
        let client = if http2 { builder.http2() } else { builder }.build().unwrap();
        let text = refused(within(post(&client)).await.unwrap_err());
        assert!(text.contains(speaks) && text.contains(key) && text.contains(&address.to_string()), "{text}");
    }
}
