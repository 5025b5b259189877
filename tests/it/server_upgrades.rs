//! Connections that a handler has upgraded: counted, waited for, and cut at the end.

use axum::{Router, body::Body, extract::Request, response::Response, routing::get};
use chassis::{
    Chassis,
    shutdown::{Phase, Shutdown},
    testing::{TestService, TestServiceBuilder},
};
use http::StatusCode;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    raw::Raw,
    scrape::{until, until_ended},
    witness::Witness,
};

/// A close frame with the code 1001, "going away" (RFC 6455, section 7.4.1).
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// Echoes until the caller goes; with `tells`, says 1001 when the service stops.
async fn converse(request: Request, shutdown: Shutdown, witness: Witness, tells: bool) {
    let _at_work = witness.begin();
    let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
    let mut stream = TokioIo::new(upgraded);
    let mut bytes = [0; 100];
    loop {
        tokio::select! {
            read = stream.read(&mut bytes) => match read {
                Ok(count) if count > 0 => stream.write_all(&bytes[..count]).await.unwrap(),
                _ => return,
            },
            () = shutdown.reached(Phase::Stopping), if tells => {
                let _ = stream.write_all(&GOING_AWAY).await;
                // Half-closed, and still read: an upgraded stream is the handler's.
                let _ = stream.shutdown().await;
                let count = stream.read(&mut bytes).await.unwrap_or_default();
                assert_eq!(&bytes[..count], b"bye");
                return;
            }
        }
    }
}

async fn start(builder: TestServiceBuilder, witness: &Witness) -> TestService {
    let witness = witness.clone();
    let make = move |chassis: Chassis| {
        let shutdown = chassis.handle().shutdown();
        let talk = move |tells: bool| {
            let (shutdown, witness) = (shutdown.clone(), witness.clone());
            get(move |request: Request| async move {
                tokio::spawn(converse(request, shutdown, witness, tells));
                let switching = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
                switching.header("connection", "upgrade").header("upgrade", "talk").body(Body::empty()).unwrap()
            })
        };
        chassis.mount(
            Router::new().route("/", get(|| async { "served" })).route("/talk", talk(true)).route("/deaf", talk(false)),
        )
    };
    builder.start(make).await.unwrap()
}

async fn upgrade(service: &TestService, path: &str) -> Raw {
    let mut raw = Raw::connect(service.http()).await;
    raw.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: talk\r\n\r\n")).await;
    assert!(raw.head().await.expect("a head").starts_with("HTTP/1.1 101"));
    raw
}

#[tokio::test]
async fn an_upgraded_connection_counts_until_it_ends() {
    let witness = Witness::new();
    let service = start(TestService::builder().set("http.max_connections", 2), &witness).await;
    let (first, _second) = (upgrade(&service, "/talk").await, upgrade(&service, "/talk").await);
    until(&service, "chassis_connections_active", &["listener=\"http\""], 2.0).await;
    let mut third = Raw::connect(service.http()).await;
    third.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(third.is_silent().await);
    drop(first);
    assert_eq!(third.answer().await.expect("an answer").body, b"served");
    until_ended(&service, "closed", 1.0).await;
}

#[tokio::test]
async fn a_stop_waits_for_an_upgraded_stream() {
    let witness = Witness::new();
    let service = start(TestService::builder(), &witness).await;
    let mut talk = upgrade(&service, "/talk").await;
    witness.began(1).await;
    service.handle().stop(true);
    assert_eq!(talk.rest().await, GOING_AWAY);
    assert_eq!(witness.seen(), (1, 0), "the stop waits for the handler");
    talk.send("bye").await;
    service.ended().await.unwrap();
    assert_eq!(witness.seen(), (1, 1));
}

#[tokio::test]
async fn the_end_of_the_grace_cuts_an_upgraded_stream() {
    let witness = Witness::new();
    let service = start(TestService::builder().set("shutdown.grace", "200ms"), &witness).await;
    let mut deaf = upgrade(&service, "/deaf").await;
    service.handle().stop(true);
    assert_eq!(deaf.rest().await, b"");
    witness.ended(1).await;
    service.ended().await.unwrap();
}
