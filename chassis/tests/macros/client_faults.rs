//! What a client says when the other end is dead, mute, or talks nonsense.

use std::{error::Error, net::SocketAddr, time::Duration};

use chassis::{
    client::{CallError, CallErrorKind, Client},
    config::ByteSize,
    problem::IntoProblem,
    service::{Created, NoContent},
};
use http::Method;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_util::task::AbortOnDropHandle;

#[derive(Debug, Deserialize)]
struct Order {
    #[allow(dead_code, reason = "read from the answer")]
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    #[allow(dead_code, reason = "read from the answer")]
    count: u8,
}

/// Reads the head of one request.
async fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.expect("a readable socket") == 0 {
            break;
        }
        head.push(byte[0]);
    }
    head
}

/// Answers the first request of each connection with these bytes, and closes it.
async fn answering(answer: impl Into<Vec<u8>>) -> (Client, AbortOnDropHandle<()>) {
    let answer = answer.into();
    let (listener, address) = listener().await;
    let served = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_head(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (client(address), AbortOnDropHandle::new(served))
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn client(address: SocketAddr) -> Client {
    Client::builder(format!("http://{address}")).answer_limit(ByteSize::kib(1)).build().expect("an address")
}

async fn order(client: &Client) -> CallError {
    client.call(Method::POST, "/orders/7").json::<Order>().await.expect_err("no order")
}

fn json(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_dead_service_is_never_sent_to() {
    let (listener, address) = listener().await;
    drop(listener);
    let error = order(&client(address)).await;
    assert_eq!((error.kind(), error.never_sent(), error.retry_safe()), (CallErrorKind::NotSent, true, true));
    let said = error.to_string();
    assert!(said.starts_with(&format!("POST http://{address}/orders/7: not sent: no connection: tcp ")), "{said}");
    assert!(said.contains("refused"), "{said}");
    let mut text = String::new();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&error.to_string());
        source = error.source();
    }
    assert!(text.contains("refused"), "{text}");
    assert_eq!((error.status(), error.into_problem().status().as_u16()), (None, 503));
}

#[tokio::test]
async fn a_service_that_never_answers_is_given_up_when_the_time_is_up() {
    let (_listener, address) = listener().await;
    let client = Client::builder(format!("http://{address}")).timeout(Duration::from_millis(20)).build().unwrap();
    let error = order(&client).await;
    assert!(error.is_deadline_exceeded() && !error.never_sent() && !error.retry_safe(), "{error:?}");
    assert!(error.to_string().ends_with(": the time was up before the answer was there"), "{error}");
    assert_eq!(error.into_problem().status(), 504);
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_given_up_when_the_time_is_up() {
    let (listener, address) = listener().await;
    let _served = AbortOnDropHandle::new(tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        read_head(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.expect("a writable socket");
        std::future::pending::<()>().await;
    }));
    let client = Client::builder(format!("http://{address}")).timeout(Duration::from_millis(50)).build().unwrap();
    assert!(order(&client).await.is_deadline_exceeded());
}

#[tokio::test]
async fn a_service_that_closes_instead_of_answering_may_have_acted() {
    let (client, _served) = answering("").await;
    let error = order(&client).await;
    assert!(error.is_broken_off() && !error.never_sent() && !error.retry_safe(), "{error:?}");
    assert_eq!(error.status(), None);
    assert!(error.to_string().contains(": the connection failed before an answer came: "), "{error}");
    assert_eq!(error.into_problem().status(), 502);
}

#[tokio::test]
async fn an_answer_that_breaks_off_in_the_middle_is_told_so() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"items\":[",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ite",
    ] {
        let (client, _served) = answering(answer).await;
        let error = order(&client).await;
        assert!(error.is_broken_off(), "{error:?}");
        assert_eq!(error.status().unwrap(), 200);
        assert!(error.source().is_some());
    }
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_for_is_told_with_the_place() {
    for (answer, told) in [
        (
            json(r#"{"items":[{"count":1},{"count":"two"}]}"#),
            "200, and the answer does not fit: items[1].count: invalid type",
        ),
        (json(r#"{"items""#), "200, and the answer is not JSON: "),
        (json(""), "200, and the answer is empty, expected JSON"),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi".to_owned(),
            "200, and found \"text/html\", expected application/json",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
            "200, and found no content-type, expected application/json",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), "204, and the answer is empty, expected JSON"),
    ] {
        let (client, _served) = answering(answer).await;
        let error = order(&client).await;
        assert!(error.is_undecodable(), "{error:?}");
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_told() {
    let (client, _served) = answering("220 mail.example ESMTP\r\n").await;
    assert!(order(&client).await.is_broken_off());
}

#[tokio::test]
async fn a_status_without_a_problem_is_told_as_it_is() {
    for (answer, told) in [
        ("HTTP/1.1 500 Oops\r\ncontent-length: 5\r\n\r\nOops!", "found the status 500, expected a success (2xx)"),
        ("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", "found the status 302, expected a success"),
        // A problem that breaks off is none, and its status is still what happened.
        (
            "HTTP/1.1 404 No\r\ncontent-type: application/problem+json\r\ncontent-length: 99\r\n\r\n{",
            "found the status 404, expected a success",
        ),
    ] {
        let (client, _served) = answering(answer).await;
        let error = order(&client).await;
        assert_eq!(error.kind(), CallErrorKind::UnexpectedStatus);
        assert!(error.to_string().contains(told), "{error}");
    }
    let (client, _served) = answering("HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(order(&client).await.retry_after(), Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_success_of_another_kind_than_the_method_says_is_told() {
    let (client, _served) = answering(json("7")).await;
    let error = client.call(Method::POST, "/").answer::<Created<u8>>().await.unwrap_err();
    assert!(error.to_string().ends_with(": found the status 200, expected 201"), "{error}");
    let error = client.call(Method::POST, "/").answer::<NoContent>().await.unwrap_err();
    assert!(error.to_string().ends_with(": found the status 200, expected 204"), "{error}");
}

#[tokio::test]
async fn an_answer_larger_than_the_limit_is_not_read() {
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n500\r\n{}\r\n0\r\n\r\n",
        " ".repeat(0x500)
    );
    for answer in [json(&" ".repeat(1025)), chunked] {
        let (client, _served) = answering(answer).await;
        let error = order(&client).await;
        assert_eq!((error.kind(), error.status().unwrap().as_u16()), (CallErrorKind::TooLarge, 200));
        assert!(error.to_string().ends_with("200, and the answer is larger than the limit of 1024 bytes"), "{error}");
    }
    let (client, _served) = answering(json(&format!("{}{{\"items\":[]}}", " ".repeat(1024 - 12)))).await;
    client.call(Method::GET, "/").json::<Order>().await.unwrap();
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection_and_the_next_has_another() {
    let (listener, address) = listener().await;
    let (asked, was_asked) = oneshot::channel();
    let (closed, was_closed) = oneshot::channel();
    let _served = AbortOnDropHandle::new(tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        read_head(&mut stream).await;
        asked.send(()).expect("the test waits");
        let rest = stream.read(&mut [0]).await;
        closed.send(rest.is_err() || rest.is_ok_and(|n| n == 0)).expect("the test waits");
        let (mut stream, _) = listener.accept().await.expect("another connection");
        read_head(&mut stream).await;
        stream.write_all(json(r#"{"items":[]}"#).as_bytes()).await.expect("a writable socket");
    }));
    let client = client(address);
    tokio::select! {
        biased;
        asked = was_asked => asked.unwrap(),
        _ = client.call(Method::GET, "/").json::<Order>() => unreachable!("nothing answers"),
    }
    assert!(was_closed.await.unwrap(), "the connection was closed");
    client.call(Method::GET, "/").json::<Order>().await.unwrap();
}

#[tokio::test]
async fn the_connections_end_with_the_last_client() {
    let (listener, address) = listener().await;
    let (closed, was_closed) = oneshot::channel();
    let _served = AbortOnDropHandle::new(tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        read_head(&mut stream).await;
        stream.write_all(json(r#"{"items":[]}"#).as_bytes()).await.expect("a writable socket");
        let rest = stream.read(&mut [0]).await;
        closed.send(rest.is_err() || rest.is_ok_and(|n| n == 0)).expect("the test waits");
    }));
    let client = client(address);
    client.call(Method::GET, "/").json::<Order>().await.unwrap();
    drop(client);
    assert!(was_closed.await.unwrap());
}
