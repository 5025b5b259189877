//! Typed clients of services that are processes of their own: killed, frozen, stopped, started again.

use chassis::{
    Chassis,
    client::{CallError, CallErrorKind, Client, Propagated},
    service::Created,
    testing::TestService,
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{
    pace::{PATIENCE, brief},
    process::{Quickstart, Service},
};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: u32,
    customer: String,
    items: Vec<Value>,
    total: u64,
}

#[chassis::client]
trait OrdersApi {
    #[get("/orders/{id}")]
    async fn order(&self, id: u32) -> Result<Order, CallError>;

    #[post("/orders", timeout = "2s")]
    async fn place(&self, order: &Value) -> Result<Created<Order>, CallError>;
}

#[derive(Debug, Deserialize)]
struct Text {
    text: String,
}

#[chassis::client]
trait FixtureApi: Send + Sync {
    #[get("/slow/{milliseconds}")]
    async fn slow(&self, milliseconds: u64) -> Result<Text, CallError>;
}

fn client(service: &Service) -> Client {
    Client::builder(format!("http://{}", service.http)).timeout(PATIENCE).propagate(Propagated::ALL).build().unwrap()
}

/// A service that asks another one.
struct Front(OrdersApiClient);

#[chassis::service]
impl Front {
    #[get("/customers/{order}")]
    async fn customer(&self, order: u32) -> Result<String, CallError> {
        self.0.order(order).await.map(|order| order.customer)
    }
}

#[tokio::test]
async fn a_typed_client_gets_what_anyone_gets() {
    let mut service = Quickstart::new().start().await;
    let orders = OrdersApiClient::new(client(&service));
    let order = orders.order(7).await.unwrap();
    let plain: Value = serde_json::from_str(&service.get("/orders/7").await.body).unwrap();
    assert_eq!((plain["customer"].as_str().unwrap(), &plain["total"]), (&*order.customer, &json!(order.total)));

    let new = json!({ "customer": "ada", "items": [{ "sku": "x", "count": 2, "cents": 50 }] });
    let placed = orders.place(&new).await.unwrap();
    assert_eq!((&*placed.value.customer, placed.value.total), ("ada", 100));
    let error = orders.place(&json!({ "customer": "ada", "items": [], "x": 1 })).await.unwrap_err();
    assert_eq!(error.status().unwrap(), 422);
    assert!(!error.problem().unwrap().violations().is_empty(), "{error}");
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn one_trace_goes_through_both_processes() {
    let mut service = Quickstart::new().start().await;
    let orders = OrdersApiClient::new(client(&service));
    let front = TestService::start(|chassis: Chassis| chassis.mount(Front(orders))).await.unwrap();
    let answer = front.get("/customers/7").await.unwrap();
    assert_eq!(answer.status, 200);
    let line = service.process.says(answer.header("x-trace-id")).await;
    assert!(line.contains("/orders/{id}"), "{line}");
    front.stop().await.unwrap();
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn a_killed_service_breaks_calls_off_and_one_started_again_is_found() {
    let mut service = Quickstart::fixture().start().await;
    let address = service.http;
    let fixture = FixtureApiClient::new(client(&service));
    let caller = fixture.clone();
    let call = tokio::spawn(async move { caller.slow(600_000).await });
    service.process.says("a slow request has begun").await;
    service.process.signal(Signal::KILL);
    let error = call.await.unwrap().unwrap_err();
    assert!(error.is_broken_off() && !error.never_sent(), "{error:?}");
    service.process.exit_code().await;
    let error = fixture.slow(0).await.unwrap_err();
    assert_eq!(error.kind(), CallErrorKind::NotSent);

    let again = Quickstart::fixture().set("http.address", &address.to_string());
    let mut service = again.start().await;
    assert_eq!(fixture.slow(0).await.unwrap().text, "slow");
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn a_frozen_service_costs_the_timeout_and_a_thawed_one_answers() {
    let mut service = Quickstart::fixture().start().await;
    let fixture = FixtureApiClient::new(client(&service));
    fixture.slow(0).await.unwrap();
    service.process.signal(Signal::STOP);
    let impatient = Client::builder(format!("http://{}", service.http)).timeout(brief()).build();
    let impatient = FixtureApiClient::new(impatient.unwrap());
    // The signal takes a moment to reach every thread.
    let error = loop {
        if let Err(error) = impatient.slow(0).await {
            break error;
        }
    };
    assert!(error.is_deadline_exceeded() && !error.never_sent(), "{error:?}");
    service.process.signal(Signal::CONT);
    fixture.slow(0).await.unwrap();
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn a_service_that_stops_in_order_breaks_no_call_off() {
    let mut service = Quickstart::fixture().set("shutdown.drain_delay", "300ms").start().await;
    let fixture = FixtureApiClient::new(client(&service));
    fixture.slow(0).await.unwrap();
    service.process.signal(Signal::TERM);
    let mut answered = 0;
    let error = loop {
        match fixture.slow(1).await {
            Ok(_) => answered += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), CallErrorKind::NotSent, "after {answered} answers: {error:?}");
    assert!(answered > 0);
    service.process.exit_code().await;
}
