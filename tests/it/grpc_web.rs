//! gRPC-Web over HTTP/1.1, its frames written by hand.

use chassis::{Chassis, testing::TestService};
use prost::Message;

use crate::support::{
    echo::{Echo, word},
    raw::{Answer, Raw},
    scrape::{until, until_nothing_is_in_flight},
    witness::Witness,
};

const CONTENT_TYPE: &str = "application/grpc-web+proto";

async fn start(witness: &Witness) -> TestService {
    let echo = Echo(witness.clone());
    TestService::start(|chassis: Chassis| chassis.grpc(echo)).await.unwrap()
}

pub(crate) async fn call(service: &TestService, path: &str, text: &str, more: &str) -> Answer {
    let message = word(text).encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let length = frame.len();
    let head = format!("content-type: {CONTENT_TYPE}\r\nx-grpc-web: 1\r\ncontent-length: {length}\r\n{more}\r\n");
    let mut raw = Raw::connect(service.http()).await;
    raw.send([format!("POST {path} HTTP/1.1\r\nhost: a\r\n{head}").as_bytes(), &frame].concat()).await;
    let answer = raw.answer().await.expect("a whole answer");
    assert_eq!((answer.status, answer.header("content-type")), (200, CONTENT_TYPE), "{answer:?}");
    assert_eq!(answer.header("x-trace-id").len(), 32);
    answer
}

/// The messages and the status of an answer, which is in its headers or in its last frame.
pub(crate) fn read(answer: &Answer) -> (Vec<Vec<u8>>, String) {
    let (mut messages, mut status) = (Vec::new(), answer.header("grpc-status").to_owned());
    let mut rest = answer.body.as_slice();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        let payload = &rest[5..5 + length];
        if rest[0] == 0x80 {
            let trailers = String::from_utf8(payload.to_vec()).unwrap().to_lowercase();
            let of = |line: &str| Some(line.strip_prefix("grpc-status:")?.trim().to_owned());
            assert_eq!(status, "", "the status is said twice");
            status = trailers.lines().find_map(of).expect("a status");
        } else {
            messages.push(payload.to_vec());
        }
        rest = &rest[5 + length..];
    }
    (messages, status)
}

#[tokio::test]
async fn a_unary_call_is_answered_in_frames() {
    let service = start(&Witness::new()).await;
    let (messages, status) = read(&call(&service, "/test.v1.Echo/Say", "hello", "").await);
    assert_eq!((messages, status.as_str()), (vec![word("hello").encode_to_vec()], "0"));
    let labels = ["rpc_method=\"test.v1.Echo/Say\"", "\"OK\""];
    until(&service, "rpc_server_call_duration_seconds_count", &labels, 1.0).await;
}

#[tokio::test]
async fn a_deadline_ends_a_call_and_a_stream_in_the_callers_protocol() {
    let witness = Witness::new();
    let service = start(&witness).await;
    let (messages, status) = read(&call(&service, "/test.v1.Echo/Say", "hang", "grpc-timeout: 100m\r\n").await);
    assert_eq!((messages.len(), status.as_str()), (0, "4"));
    let (messages, status) = read(&call(&service, "/test.v1.Echo/Repeat", "again", "grpc-timeout: 200m\r\n").await);
    assert_eq!((messages.len(), status.as_str()), (2, "4"));
    witness.ended(2).await;
    until_nothing_is_in_flight(&service).await;
    until(&service, "rpc_server_call_duration_seconds_count", &["DEADLINE_EXCEEDED"], 2.0).await;
}

#[tokio::test]
async fn a_rejection_is_in_the_callers_protocol() {
    let service = start(&Witness::new()).await;
    for (path, text, expected) in [
        ("/no.such.Service/Method", "hello", "12"),
        ("/test.v1.Echo/NoSuchMethod", "hello", "12"),
        ("/test.v1.Echo/Say", "panic", "13"),
    ] {
        let (messages, status) = read(&call(&service, path, text, "").await);
        assert_eq!((messages.len(), status.as_str()), (0, expected), "{path}");
    }
    let mut raw = Raw::connect(service.http()).await;
    let head = format!("content-type: {CONTENT_TYPE}\r\ncontent-length: 0\r\n\r\n");
    raw.send(format!("POST /test.v1.Echo/Say HTTP/1.1\r\n{head}")).await;
    let answer = raw.answer().await.unwrap();
    assert_eq!((answer.header("content-type"), answer.header("grpc-status")), (CONTENT_TYPE, "3"), "{answer:?}");
}
