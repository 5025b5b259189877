//! Whether anybody has looked at a request: what the other end says, and what follows from it for a second attempt.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use chassis::{
    Chassis,
    client::{CallError, CallErrorKind, Client},
    testing::TestService,
};
use http::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::h2::{GOAWAY, H2, HEADERS, RST_STREAM, SETTINGS, frame};

const CANCEL: u32 = 8;
const REFUSED_STREAM: u32 = 7;

/// What a server over HTTP/2 answers each request with.
#[derive(Clone, Copy)]
enum Answer {
    Reset(u32),
    /// The last stream that it has looked at; then it closes.
    GoAway(u32),
}

impl Answer {
    fn frames(self, stream: u32) -> Vec<u8> {
        match self {
            Self::Reset(code) => frame(RST_STREAM, 0, stream, &code.to_be_bytes()),
            Self::GoAway(last) => frame(GOAWAY, 0, 0, &[last.to_be_bytes(), 0_u32.to_be_bytes()].concat()),
        }
    }
}

/// Answers every request so, and counts them.
async fn serve(answer: Answer) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(talk(socket, answer, counted.clone()));
        }
    });
    (address, seen)
}

async fn talk(mut socket: TcpStream, answer: Answer, seen: Arc<AtomicUsize>) {
    let mut preface = [0; 24];
    if socket.read_exact(&mut preface).await.is_err() {
        return;
    }
    let mut h2 = H2 { socket };
    h2.send(&frame(SETTINGS, 0, 0, &[])).await;
    while let Some(request) = h2.until(HEADERS).await {
        seen.fetch_add(1, Ordering::SeqCst);
        h2.send(&answer.frames(request.stream)).await;
        if matches!(answer, Answer::GoAway(_)) {
            return;
        }
    }
}

/// What becomes of a POST.
async fn post(address: SocketAddr) -> CallError {
    let client = Client::builder(format!("http://{address}")).http2().build().unwrap();
    client.call(Method::POST, "/orders").answer::<()>().await.unwrap_err()
}

#[tokio::test]
async fn a_refused_stream_and_one_after_the_last_of_a_goaway_were_not_looked_at() {
    for answer in [Answer::Reset(REFUSED_STREAM), Answer::GoAway(0)] {
        let (address, _) = serve(answer).await;
        let error = post(address).await;
        assert!(error.never_sent() && error.retry_safe(), "{error:?}");
        assert_eq!(error.kind(), CallErrorKind::NotSent);
        assert!(error.to_string().contains("before it looked at the request: "), "{error}");
    }
}

#[tokio::test]
async fn of_a_stream_that_was_reset_or_cut_nobody_knows() {
    for answer in [Answer::Reset(CANCEL), Answer::GoAway(1)] {
        let (address, _) = serve(answer).await;
        let error = post(address).await;
        assert!(!error.never_sent() && !error.retry_safe(), "{error:?}");
        assert_eq!(error.kind(), CallErrorKind::BrokenOff);
    }
}

#[tokio::test]
async fn a_request_that_was_written_on_http1_may_have_been_looked_at() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            socket.read_buf(&mut read).await.unwrap();
        }
        socket.shutdown().await.unwrap();
        listener
    });
    let client = Client::new(&format!("http://{address}")).unwrap();
    let error = client.call(Method::POST, "/orders").answer::<()>().await.unwrap_err();
    assert!(error.is_broken_off() && !error.never_sent(), "{error:?}");
    drop(requests.await.unwrap());
}

struct Orders;

#[chassis::service]
impl Orders {
    #[post("/orders")]
    async fn place(&self) -> chassis::service::NoContent {
        chassis::service::NoContent
    }
}

/// A client of these endpoints, and the service that it is of.
async fn client(settings: &[(&str, String)]) -> (TestService, Client) {
    let mut builder = TestService::builder().set("clients.orders.protocol", "http2");
    for (key, value) in settings {
        builder = builder.set(&format!("clients.orders.{key}"), value);
    }
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let start = |chassis: Chassis| {
        send.send(chassis.client("orders").unwrap()).unwrap();
        chassis
    };
    (builder.start(start).await.unwrap(), receive.recv().unwrap())
}

#[tokio::test]
async fn what_nobody_has_looked_at_is_sent_to_another_endpoint_whatever_its_method() {
    let (refusing, seen) = serve(Answer::Reset(REFUSED_STREAM)).await;
    let orders = TestService::start(|chassis: Chassis| chassis.mount(Orders)).await.unwrap();
    let target = format!("static://{refusing},{}", orders.http());
    let (_front, client) = client(&[("target", target), ("breaker.mode", "disabled".to_owned())]).await;
    for _ in 0..20 {
        client.call(Method::POST, "/orders").answer::<()>().await.unwrap();
    }
    assert!(seen.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn what_may_have_been_looked_at_is_not_sent_again_unless_that_does_no_harm() {
    let (resetting, seen) = serve(Answer::Reset(CANCEL)).await;
    let (_front, client) = client(&[("target", format!("static://{resetting}"))]).await;
    client.call(Method::POST, "/orders").answer::<()>().await.unwrap_err();
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    client.call(Method::GET, "/orders").answer::<()>().await.unwrap_err();
    assert_eq!(seen.load(Ordering::SeqCst), 4, "three attempts");
}
