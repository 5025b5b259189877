//! gRPC deadlines: DEADLINE_EXCEEDED for a call and for a stream that already streams, and the handler is told.

use std::time::Duration;

use chassis::{Chassis, testing::TestService};
use tokio::time::timeout;
use tonic::Code;

use crate::support::{
    echo::{Client, Echo},
    pace::{PATIENCE, brief},
    scrape::{until, until_nothing_is_in_flight},
    witness::Witness,
};

async fn start(witness: &Witness) -> (TestService, Client) {
    let echo = Echo(witness.clone());
    // gRPC has no limit of the server's: this one must not touch it.
    let service = TestService::builder().set("http.request_timeout", "50ms");
    let service = service.start(|chassis: Chassis| chassis.grpc(echo)).await.unwrap();
    let client = Client::connect(service.http()).await;
    (service, client)
}

/// As the header `grpc-timeout` says it.
fn milliseconds(time: Duration) -> String {
    format!("{}m", time.as_millis())
}

#[tokio::test]
async fn a_call_whose_time_is_up_is_deadline_exceeded_and_its_handler_ends() {
    let witness = Witness::new();
    let (service, mut client) = start(&witness).await;
    let status = client.say("hang", &milliseconds(brief())).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    witness.ended(1).await;
    until_nothing_is_in_flight(&service).await;
    let labels = ["rpc_method=\"test.v1.Echo/Say\"", "DEADLINE_EXCEEDED", "error_type=\"deadline_exceeded\""];
    until(&service, "rpc_server_call_duration_seconds_count", &labels, 1.0).await;
    until(&service, "chassis_rejections_total", &["cause=\"deadline_exceeded\""], 1.0).await;
}

#[tokio::test]
async fn a_stream_that_streams_already_ends_with_deadline_exceeded() {
    let witness = Witness::new();
    let (service, mut client) = start(&witness).await;
    let mut words = client.repeat("again", &milliseconds(2 * brief())).await.unwrap();
    for _ in 0..2 {
        assert_eq!(words.message().await.unwrap().unwrap().text, "again");
    }
    let status = timeout(PATIENCE, words.message()).await.expect("an end").unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    witness.ended(1).await;
    until_nothing_is_in_flight(&service).await;
    let labels = ["rpc_method=\"test.v1.Echo/Repeat\"", "DEADLINE_EXCEEDED"];
    until(&service, "rpc_server_call_duration_seconds_count", &labels, 1.0).await;
}

#[tokio::test]
async fn a_deadline_of_zero_is_refused_before_the_handler_runs() {
    let witness = Witness::new();
    let (_service, mut client) = start(&witness).await;
    let status = client.say("hello", "0S").await.unwrap_err();
    assert_eq!((status.code(), witness.seen()), (Code::DeadlineExceeded, (0, 0)));
}

#[tokio::test]
async fn the_handler_knows_what_is_left_and_malformed_values_are_none() {
    let (_service, mut client) = start(&Witness::new()).await;
    let remaining =
        async |client: &mut Client, timeout: &str| client.say("remaining", timeout).await.unwrap().into_inner().text;
    for malformed in ["", "1", "S", "1.5S", "-1S", "123456789S", "1 S", "1s"] {
        assert_eq!(remaining(&mut client, malformed).await, "none", "{malformed}");
    }
    let left: u64 = remaining(&mut client, "5M").await.parse().unwrap();
    assert!((200_000..=300_000).contains(&left), "five minutes, less what the call took: {left}");
    // 99,999,999 hours are beyond any clock; a year is as good.
    let left: u64 = remaining(&mut client, "99999999H").await.parse().unwrap();
    assert!(left > 300 * 24 * 3600 * 1000, "{left}");
}

#[tokio::test]
async fn a_stream_without_a_deadline_is_not_limited_and_ends_with_its_caller() {
    let witness = Witness::new();
    let (service, mut client) = start(&witness).await;
    let mut words = client.repeat("again", "").await.unwrap();
    for _ in 0..2 {
        assert!(words.message().await.unwrap().is_some());
    }
    // Longer than the server's limit for HTTP requests.
    assert!(timeout(Duration::from_millis(200), words.message()).await.is_err());
    assert_eq!(witness.seen(), (1, 0));
    drop(words);
    witness.ended(1).await;
    until_nothing_is_in_flight(&service).await;
}
