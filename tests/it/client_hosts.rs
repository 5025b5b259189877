//! Clients of addresses that are known only at run time.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, extract::State, routing::post};
use chassis::{Chassis, HostClients, client::CallError, testing::TestService};
use http::{HeaderMap, Method, StatusCode, Uri};
use tokio::sync::Notify;

use crate::support::scrape::sum;

/// A receiver of callbacks: it answers with its path and query, and with whether a trace came; `/slow` waits.
async fn receiver(go: Arc<Notify>) -> TestService {
    async fn hook(State(go): State<Arc<Notify>>, uri: Uri, headers: HeaderMap) -> (StatusCode, String) {
        match uri.path() {
            "/down" => return (StatusCode::SERVICE_UNAVAILABLE, String::new()),
            "/slow" => go.notified().await,
            _ => {}
        }
        (StatusCode::OK, format!("{uri} {}", headers.contains_key("traceparent")))
    }
    let mount = move |chassis: Chassis| chassis.mount(Router::new().route("/{*path}", post(hook)).with_state(go));
    TestService::start(mount).await.unwrap()
}

/// A service whose template keeps so many hosts.
async fn front(hosts: u32) -> (TestService, HostClients) {
    let builder =
        TestService::builder().set("clients.callbacks.hosts", hosts).set("clients.callbacks.retry.attempts", "1");
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let start = |chassis: Chassis| {
        send.send(chassis.host_clients("callbacks").unwrap()).unwrap();
        chassis
    };
    (builder.start(start).await.unwrap(), receive.recv().unwrap())
}

async fn tell(clients: &HostClients, uri: &str) -> Result<String, CallError> {
    let client = clients.client_for(uri).unwrap();
    client.call(Method::POST, "").answer::<chassis::service::Raw<String>>().await.map(|answer| answer.0)
}

async fn rows(front: &TestService) -> Vec<(String, String)> {
    let rows = front.operator("/admin/dependencies").await.unwrap().json();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(|row| (text(row, "name"), text(row, "target"))).collect()
}

#[tokio::test]
async fn a_callback_has_a_stack_and_adds_no_series() {
    let go = Arc::new(Notify::new());
    let (front, clients) = front(2).await;
    let mut series = std::collections::BTreeSet::new();
    for call in 0..5 {
        let receiver = receiver(Arc::clone(&go)).await;
        let address = receiver.http();
        let hook = format!("http://{address}/hooks/{call}/");
        assert_eq!(clients.client_for(&hook).unwrap().target(), hook);
        assert_eq!(tell(&clients, &hook).await.unwrap(), format!("/hooks/{call}/ false"), "no trace for a stranger");
        let metrics = front.metrics().await.unwrap();
        let ours: Vec<_> = metrics.lines().filter(|line| line.contains("destination=\"callbacks\"")).collect();
        assert!(
            !metrics.contains(&address.port().to_string())
                || !ours.iter().any(|line| line.contains(&format!(":{}", address.port())))
        );
        series.insert(ours.len());
        let calls = sum(&metrics, "chassis_client_call_duration_seconds_count", &["destination=\"callbacks\""]);
        assert_eq!(calls, f64::from(call + 1));
    }
    assert_eq!(series.len(), 1, "{series:?}");
    assert_eq!(rows(&front).await.len(), 2, "the least recently used is dropped");
}

#[tokio::test]
async fn each_host_has_a_breaker_of_its_own() {
    let go = Arc::new(Notify::new());
    let (_front, clients) = front(10).await;
    let (bad, good) = (receiver(Arc::clone(&go)).await, receiver(go).await);
    let down = format!("http://{}/down", bad.http());
    let mut codes = std::collections::BTreeSet::new();
    for _ in 0..20 {
        codes.insert(tell(&clients, &down).await.unwrap_err().to_string().contains("circuit_open"));
    }
    assert!(codes.contains(&true), "the breaker of the one opens");
    tell(&clients, &format!("http://{}/hook", good.http())).await.expect("the other is not held back");
}

#[tokio::test]
async fn a_call_of_a_dropped_stack_ends_well() {
    let go = Arc::new(Notify::new());
    let (front, clients) = front(1).await;
    let (slow, other) = (receiver(Arc::clone(&go)).await, receiver(Arc::clone(&go)).await);
    let at = |address: SocketAddr, path: &str| format!("http://{address}{path}");
    let under_way = tokio::spawn({
        let (clients, hook) = (clients.clone(), at(slow.http(), "/slow"));
        async move { tell(&clients, &hook).await }
    });
    while sum(&front.metrics().await.unwrap(), "chassis_client_active", &["destination=\"callbacks\""]) == 0.0 {
        tokio::task::yield_now().await;
    }
    tell(&clients, &at(other.http(), "/hook")).await.unwrap();
    assert_eq!(rows(&front).await, [("callbacks".to_owned(), format!("http://{}", other.http()))]);
    go.notify_one();
    assert_eq!(under_way.await.unwrap().unwrap(), "/slow false");
}

#[tokio::test]
async fn an_address_of_another_kind_is_refused() {
    let (_front, clients) = front(1).await;
    for uri in [
        "file:///etc/passwd",
        "ftp://example.com/",
        "unix:/run/x",
        "consul://inventory",
        "http://a:b@example.com/",
        "http://example.com/?q=1",
        "/hook",
        "",
    ] {
        let error = clients.client_for(uri).unwrap_err().to_string();
        assert!(error.contains("expected the address of a service"), "{uri}: {error}");
        assert!(!error.contains("a:b"), "{error}");
    }
}

#[tokio::test]
async fn a_section_is_a_template_or_a_destination() {
    for (key, value) in [("target", "http://inventory"), ("critical", "true")] {
        let builder = TestService::builder().set("clients.callbacks.hosts", "5");
        let builder = builder.set(&format!("clients.callbacks.{key}"), value);
        let refusal = builder.start(|chassis: Chassis| chassis).await.unwrap_err().to_string();
        assert!(refusal.contains(&format!("clients.callbacks.{key}")) && refusal.contains("hosts"), "{refusal}");
    }
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let builder =
        TestService::builder().set("clients.callbacks.hosts", "5").set("clients.fixed.target", "http://fixed");
    let start = |chassis: Chassis| {
        let (one, other) = (chassis.client("callbacks").unwrap_err(), chassis.host_clients("fixed").unwrap_err());
        send.send((one.to_string(), other.to_string())).unwrap();
        chassis
    };
    let _service = builder.start(start).await.unwrap();
    let (one, other) = receive.recv().unwrap();
    assert!(one.contains("chassis.host_clients") && other.contains("clients.fixed.hosts"), "{one}; {other}");
}
