//! What callers of `examples/orders` say, as bytes on a connection.

use std::{io, net::SocketAddr};

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    http1::{Answer, Connection},
    process::{PATIENCE, Quickstart},
    telemetry::eventually,
};

/// The service with its orders in this database.
pub fn service(url: &str) -> Quickstart {
    Quickstart::example("orders").env("CHASSIS_APP__STORE__URL", url)
}

/// One request; a body is JSON.
///
/// # Errors
/// When no whole answer came.
pub async fn ask(connection: &mut Connection, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
    let body = body.map(Value::to_string);
    let content = body.as_ref().map_or_else(String::new, |_| "content-type: application/json\r\n".to_owned());
    let body = body.unwrap_or_default();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{content}content-length: {length}\r\n\r\n");
    connection.write(&(head + &body)).await?;
    connection.answer().await
}

/// One request on a connection of its own.
pub async fn send(address: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let asked = async { ask(&mut Connection::open(address).await?, method, path, body).await };
    let answer = timeout(PATIENCE, asked).await.expect("an answer in time");
    answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// An order of 501 cents.
pub fn new_order(key: &str, customer: &str) -> Value {
    let items = json!([{"sku": "a-1", "count": 2, "cents": 250}, {"sku": "b", "count": 1, "cents": 1}]);
    json!({"key": key, "customer": customer, "items": items})
}

/// Places an order.
pub async fn place(address: SocketAddr, key: &str, customer: &str) -> Value {
    let placed = send(address, "POST", "/orders", Some(&new_order(key, customer))).await;
    assert_eq!(placed.status, 201, "{placed:?}");
    placed.json()
}

/// Every order, through all pages.
pub async fn all(address: SocketAddr) -> Vec<Value> {
    let mut orders = Vec::new();
    let mut path = "/orders?limit=100".to_owned();
    loop {
        let page = send(address, "GET", &path, None).await.json();
        orders.extend(page["orders"].as_array().expect("orders").iter().cloned());
        let Some(next) = page["next"].as_str() else { return orders };
        path = format!("/orders?limit=100&after={next}");
    }
}

/// Asks again and again until the answer has this status.
pub async fn until(address: SocketAddr, path: &str, status: u16) -> Answer {
    eventually("the status comes", async || {
        Some(send(address, "GET", path, None).await).filter(|answer| answer.status == status)
    })
    .await
}
