//! The text of an error of a call names its reason on one line.

use std::net::Ipv4Addr;

use axum::{Router, routing::get};
use chassis::{
    Chassis,
    client::{CallError, CallErrorKind, Client},
    testing::TestService,
};
use http::{Method, header};
use serde_json::Value;
use tokio::net::TcpListener;

/// A port that refuses connections.
async fn closed() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port()
}

async fn call(client: &Client, path: &'static str) -> CallError {
    client.call(Method::GET, path).json::<Value>().await.unwrap_err()
}

/// The client `inventory` of a service with these settings.
async fn client(settings: &[(&str, String)]) -> (TestService, Client) {
    let mut builder = TestService::builder();
    for (key, value) in settings {
        builder = builder.set(key, value);
    }
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let start = |chassis: Chassis| {
        send.send(chassis.client("inventory").unwrap()).unwrap();
        chassis
    };
    (builder.start(start).await.unwrap(), receive.recv().unwrap())
}

#[tokio::test]
async fn a_call_that_found_no_connection_says_why() {
    let refused = format!("http://127.0.0.1:{}", closed().await);
    let unknown = "http://nobody.invalid:8080".to_owned();
    for (address, reason) in [(refused, "onnection refused"), (unknown, "failed to lookup address")] {
        let plain = Client::new(&address).unwrap();
        let (_service, named) = client(&[("clients.inventory.target", address)]).await;
        for client in [plain, named] {
            let text = call(&client, "/items").await.to_string();
            assert!(text.contains(": not sent: no connection: ") && text.contains(reason), "{text}");
            assert!(!text.contains('\n') && !text.contains("client error"), "{text}");
            assert_eq!(text.matches(reason).count(), 1, "{text}");
        }
    }
}

#[tokio::test]
async fn a_registry_that_is_away_is_named() {
    let consul = format!("http://127.0.0.1:{}", closed().await);
    let settings = [("clients.inventory.target", "consul://inventory".to_owned()), ("consul.address", consul.clone())];
    let (_service, client) = client(&settings).await;
    let error = call(&client, "/items").await;
    let text = error.to_string();
    assert_eq!(error.kind(), CallErrorKind::NotSent, "{text}");
    assert!(text.contains("its endpoints are not known") && text.contains(&consul), "{text}");
    assert!(text.contains("onnection refused"), "{text}");
}

#[tokio::test]
async fn an_answer_with_a_coding_is_named() {
    let packed =
        || async { ([(header::CONTENT_TYPE, "application/json"), (header::CONTENT_ENCODING, "gzip")], "\u{1f}") };
    let mount = |chassis: Chassis| chassis.mount(Router::new().route("/packed", get(packed)));
    let service = TestService::start(mount).await.unwrap();
    let client = Client::new(&format!("http://{}", service.http())).unwrap();
    let error = call(&client, "/packed").await;
    assert!(error.is_undecodable() && error.to_string().contains("content-encoding \"gzip\""), "{error}");
}
