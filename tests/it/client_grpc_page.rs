//! A gRPC call that a proxy answers in its own terms: one code for the caller, the metrics and the breaker.

use std::net::{Ipv4Addr, SocketAddr};

use axum::response::IntoResponse as _;
use chassis::{Chassis, client::Channel, testing::TestService};
use http::{HeaderMap, HeaderValue, StatusCode, header, uri::PathAndQuery};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, client::Grpc};
use tonic_prost::ProstCodec;

use crate::support::{
    echo::{Word, word},
    scrape::sum,
};

const PAGE: &str = "<html><body>upstream is away</body></html>";

/// A proxy whose upstream is away: every request is answered with this status and content type, and with more headers.
async fn proxy(status: u16, content_type: &'static str, more: HeaderMap) -> (SocketAddr, AbortOnDropHandle<()>) {
    let status = StatusCode::from_u16(status).unwrap();
    let answer = move || {
        let answer = (status, more.clone(), [(header::CONTENT_TYPE, content_type)], PAGE).into_response();
        std::future::ready(answer)
    };
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(answer);
    (address, AbortOnDropHandle::new(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })))
}

/// A channel to this address, and the service that it is of.
async fn channel(to: SocketAddr) -> (TestService, Channel) {
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let start = |chassis: Chassis| {
        send.send(chassis.channel("inventory").unwrap()).unwrap();
        chassis
    };
    let builder = TestService::builder().set("clients.inventory.target", format!("http://{to}"));
    (builder.start(start).await.unwrap(), receive.recv().unwrap())
}

/// The status that a unary call, or one that is answered by a stream, ends with.
async fn end(channel: Channel, streams: bool) -> Status {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec: ProstCodec<Word, Word> = ProstCodec::default();
    let request = tonic::Request::new(word("hello"));
    let path = PathAndQuery::from_static(if streams { "/test.v1.Echo/Repeat" } else { "/test.v1.Echo/Say" });
    if !streams {
        return grpc.unary(request, path, codec).await.unwrap_err();
    }
    match grpc.server_streaming(request, path, codec).await {
        Ok(answer) => answer.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    }
}

async fn attempts(front: &TestService) -> serde_json::Value {
    front.operator("/admin/dependencies").await.unwrap().json()[0]["endpoints"][0].clone()
}

#[tokio::test]
async fn a_proxys_page_has_one_code_for_all() {
    for (status, content_type, code, name, failed) in [
        (400, "text/html", Code::Internal, "INTERNAL", true),
        (401, "text/html", Code::Unauthenticated, "UNAUTHENTICATED", false),
        (403, "text/html", Code::PermissionDenied, "PERMISSION_DENIED", false),
        (404, "text/html", Code::Unimplemented, "UNIMPLEMENTED", false),
        (429, "text/plain", Code::Unavailable, "UNAVAILABLE", true),
        (502, "text/html", Code::Unavailable, "UNAVAILABLE", true),
        (503, "text/html", Code::Unavailable, "UNAVAILABLE", true),
        (504, "application/json", Code::Unavailable, "UNAVAILABLE", true),
        (500, "text/html", Code::Unknown, "UNKNOWN", true),
        (302, "text/html", Code::Unknown, "UNKNOWN", true),
        (200, "text/html", Code::Unknown, "UNKNOWN", true),
    ] {
        let (address, _serving) = proxy(status, content_type, HeaderMap::new()).await;
        let (front, channel) = channel(address).await;
        for streams in [false, true] {
            let told = end(channel.clone(), streams).await;
            assert_eq!(told.code(), code, "{status} {streams}: {told}");
            assert!(told.message().contains(&format!("HTTP {status}")), "{told}");
            assert!(told.message().contains(content_type) && !told.message().contains("flag"), "{told}");
        }
        let metrics = front.metrics().await.unwrap();
        let label = format!("rpc_response_status_code=\"{name}\"");
        assert_eq!(sum(&metrics, "rpc_client_call_duration_seconds_count", &[&label]), 2.0, "{metrics}");
        let endpoint = attempts(&front).await;
        let expected = if failed { (2, 0) } else { (0, 2) };
        let counts = &endpoint["attempts"];
        assert_eq!(
            (counts["failed"].as_u64(), counts["success"].as_u64()),
            (Some(expected.0), Some(expected.1)),
            "{endpoint:#}"
        );
        assert_eq!(endpoint["breaker"]["window"]["failed"].as_u64(), Some(expected.0), "{endpoint:#}");
        if failed {
            let message = endpoint["last_error"]["message"].as_str().unwrap();
            assert!(message.starts_with(name) && message.contains(content_type), "{message}");
        }
    }
}

#[tokio::test]
async fn a_grpc_status_beside_an_http_status_is_kept() {
    let more = HeaderMap::from_iter([
        (header::HeaderName::from_static("grpc-status"), HeaderValue::from_static("7")),
        (header::HeaderName::from_static("grpc-message"), HeaderValue::from_static("not for you")),
    ]);
    for status in [200, 403, 503] {
        let (address, _serving) = proxy(status, "application/grpc", more.clone()).await;
        let (front, channel) = channel(address).await;
        for streams in [false, true] {
            let told = end(channel.clone(), streams).await;
            assert_eq!((told.code(), told.message()), (Code::PermissionDenied, "not for you"), "{status}");
        }
        let endpoint = attempts(&front).await;
        assert_eq!(
            (endpoint["attempts"]["success"].as_u64(), endpoint["breaker"]["window"]["failed"].as_u64()),
            (Some(2), Some(0))
        );
    }
}
