//! What travels with a call out: everything to a service of the fleet, as its section says to others, and neither trace nor
//! baggage to an address of which nothing else is known.

use std::collections::BTreeSet;

use axum::{Json, Router, routing::get};
use chassis::{
    Chassis,
    client::{CallError, Client, Propagated},
    testing::TestService,
};
use http::{HeaderMap, Method, Request};
use serde_json::Value;

/// The headers that may travel.
const HEADERS: [&str; 7] = [
    "traceparent",
    "tracestate",
    "baggage",
    "x-request-timeout-ms",
    "x-caller-service",
    "user-agent",
    "x-request-priority",
];

/// Answers with the names of those that came.
async fn came(headers: HeaderMap) -> Json<Vec<&'static str>> {
    Json(HEADERS.into_iter().filter(|name| headers.contains_key(*name)).collect())
}

/// Calls by each of its clients.
struct Front(Vec<Client>);

#[chassis::service]
impl Front {
    #[get("/by/{client}")]
    async fn by(&self, client: usize) -> Result<Value, CallError> {
        self.0[client].call(Method::GET, "/headers").json().await
    }

    #[get("/streamed/{client}")]
    async fn streamed(&self, client: usize) -> Result<Value, CallError> {
        let answer: http::Response<axum::body::Body> = self.0[client].call(Method::GET, "/headers").answer().await?;
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        Ok(serde_json::from_slice(&body).unwrap())
    }
}

async fn sent(front: &TestService, path: &str) -> BTreeSet<String> {
    let request = Request::get(format!("http://{}{path}", front.http()))
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("tracestate", "rojo=1")
        .header("baggage", "tenant=blue")
        .header("x-request-priority", "critical")
        .header("x-request-timeout-ms", "5000");
    let answer = front.send(request.body(String::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_value(answer.json()).unwrap()
}

#[tokio::test]
async fn an_address_without_a_section_gets_neither_trace_nor_baggage() {
    let service =
        TestService::start(|chassis: Chassis| chassis.mount(Router::new().route("/headers", get(came)))).await;
    let service = service.unwrap();
    let address = format!("http://{}", service.http());
    let whole = HEADERS.map(str::to_owned).into_iter().collect::<BTreeSet<_>>();
    let only = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();

    let all = "[\"trace_context\", \"baggage\", \"deadline\", \"caller\", \"priority\"]";
    let mut builder = TestService::builder();
    let sections =
        [("fleet", None), ("named", Some(all)), ("partner", Some("[\"deadline\"]")), ("stranger", Some("[]"))];
    for (name, propagate) in sections {
        builder = builder.set(&format!("clients.{name}.target"), &address);
        if let Some(propagate) = propagate {
            builder = builder.set(&format!("clients.{name}.propagate"), propagate);
        }
    }
    let start = |chassis: Chassis| {
        let plain = Client::new(&address).unwrap();
        let fleet = Client::builder(&address).propagate(Propagated::ALL).build().unwrap();
        let mut clients = vec![plain, fleet];
        clients.extend(["fleet", "named", "partner", "stranger"].map(|name| chassis.client(name).unwrap()));
        chassis.mount(Front(clients))
    };
    let front = builder.start(start).await.unwrap();
    let time = only(&["x-request-timeout-ms"]);
    // A plain client has no name to tell.
    let unnamed = only(&["traceparent", "tracestate", "baggage", "x-request-timeout-ms", "x-request-priority"]);
    for (client, expected) in [&time, &unnamed, &whole, &whole, &time, &BTreeSet::new()].into_iter().enumerate() {
        assert_eq!(sent(&front, &format!("/by/{client}")).await, *expected, "client {client}");
        assert_eq!(sent(&front, &format!("/streamed/{client}")).await, *expected, "client {client}, streamed");
    }
}

#[tokio::test]
async fn a_word_that_is_none_is_refused() {
    let builder = TestService::builder()
        .set("clients.partner.target", "http://partner")
        .set("clients.partner.propagate", "[\"trace\"]");
    let refusal = builder.start(|chassis: Chassis| chassis).await.unwrap_err().to_string();
    assert!(refusal.contains("clients.partner.propagate") && refusal.contains("trace_context"), "{refusal}");
}
