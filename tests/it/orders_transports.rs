//! `examples/orders` says the same to everybody: to curl, to a gRPC client in another language, to the typed client.

use std::collections::BTreeSet;

use chassis::{
    client::{CallError, Client},
    service::{Created, Raw as Whole},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{
    http1::Answer,
    orders::{place, send},
    process::{Quickstart, Service},
    python,
    raw::Raw,
};

/// One thing that a caller wants, as a call and as a request.
struct Wish {
    call: &'static str,
    message: Value,
    method: &'static str,
    path: &'static str,
    body: Option<Value>,
    /// What HTTP and gRPC answer.
    expected: (u16, &'static str),
}

const UNKNOWN: &str = "01981234-1234-7234-8234-123412341234";

/// A day in the life of an order, with every kind of mistake.
fn wishes() -> Vec<Wish> {
    let wish = |call, message, method, path, body: Value, expected| Wish {
        call,
        message,
        method,
        path,
        body: (!body.is_null()).then_some(body),
        expected,
    };
    let new = |key: &str, items: Value| json!({"key": key, "customer": "ada", "items": items});
    let items = json!([{"sku": "a-1", "count": 2, "cents": 250}, {"sku": "b", "count": 1, "cents": 1}]);
    let place = |order: Value, expected| wish("PlaceOrder", order.clone(), "POST", "/orders", order, expected);
    let id = || json!({"id": "$id"});
    let none = Value::Null;
    let pay = |cents: u64, expected| {
        let message = json!({"id": "$id", "payment": {"cents": cents}});
        wish("PayOrder", message, "POST", "/orders/$id/payment", json!({"cents": cents}), expected)
    };
    vec![
        place(new("k", items.clone()), (201, "OK")),
        place(new("k", items.clone()), (201, "OK")),
        place(new("k", json!([{"sku": "a-1", "count": 3, "cents": 250}])), (409, "ABORTED")),
        place(new("l", json!([])), (422, "INVALID_ARGUMENT")),
        place(new("", json!([{"sku": "a\0", "count": 0, "cents": 1}])), (422, "INVALID_ARGUMENT")),
        wish("GetOrder", id(), "GET", "/orders/$id", none.clone(), (200, "OK")),
        wish(
            "GetOrder",
            json!({"id": UNKNOWN}),
            "GET",
            "/orders/01981234-1234-7234-8234-123412341234",
            none.clone(),
            (404, "NOT_FOUND"),
        ),
        wish("GetOrder", json!({"id": "7"}), "GET", "/orders/7", none.clone(), (400, "INVALID_ARGUMENT")),
        wish(
            "ListOrders",
            json!({"customer": "ada", "limit": 1}),
            "GET",
            "/orders?customer=ada&limit=1",
            none.clone(),
            (200, "OK"),
        ),
        wish(
            "ListOrders",
            json!({"status": "ORDER_STATUS_PAID"}),
            "GET",
            "/orders?status=paid",
            none.clone(),
            (200, "OK"),
        ),
        wish("ListOrders", json!({"limit": 0}), "GET", "/orders?limit=0", none.clone(), (400, "INVALID_ARGUMENT")),
        wish("ShipOrder", id(), "PUT", "/orders/$id/shipment", none.clone(), (409, "ABORTED")),
        pay(1, (409, "ABORTED")),
        pay(501, (200, "OK")),
        pay(501, (409, "ABORTED")),
        wish("ShipOrder", id(), "PUT", "/orders/$id/shipment", none.clone(), (200, "OK")),
        wish("CancelOrder", id(), "PUT", "/orders/$id/cancellation", none.clone(), (409, "ABORTED")),
        wish(
            "CancelOrder",
            json!({"id": UNKNOWN}),
            "PUT",
            "/orders/01981234-1234-7234-8234-123412341234/cancellation",
            none,
            (404, "NOT_FOUND"),
        ),
    ]
}

/// What `foreign/orders.py` saw.
async fn seen_by_python(service: &Service, wishes: &[Wish]) -> Vec<Value> {
    let calls: Vec<_> = wishes.iter().map(|wish| json!([wish.call, wish.message])).collect();
    let seen = python::run("orders.py", &[&service.http.to_string(), &Value::from(calls).to_string()]).await;
    seen.as_array().expect("a list").clone()
}

/// What differs between two orders of the same kind, or between protobuf's JSON and ours.
fn evened(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let even = |(name, field): (&String, &Value)| {
                let field = match (name.as_str(), field.as_str()) {
                    ("id" | "order" | "placed_at" | "next", Some(_)) => json!("…"),
                    // protobuf's JSON writes 64-bit integers as text.
                    ("total" | "cents", Some(number)) => number.parse::<u64>().unwrap().into(),
                    ("status", Some(word)) => word.trim_start_matches("ORDER_STATUS_").to_lowercase().into(),
                    _ => evened(field),
                };
                (name.clone(), field)
            };
            Value::Object(fields.iter().map(even).collect())
        }
        Value::Array(items) => items.iter().map(evened).collect(),
        value => value.clone(),
    }
}

/// The violations of a problem, each with its place in gRPC's notation.
fn violations(problem: &Value) -> Vec<(String, String)> {
    let told = problem["violations"].as_array().into_iter().flatten().map(|violation| {
        let place = violation["pointer"].as_str().or(violation["parameter"].as_str()).expect("a place");
        let steps = place.trim_start_matches('/').split('/');
        let path = steps.fold(String::new(), |path, step| match (path.is_empty(), step.parse::<u32>()) {
            (_, Ok(index)) => format!("{path}[{index}]"),
            (true, _) => step.to_owned(),
            (false, _) => format!("{path}.{step}"),
        });
        (path, violation["message"].as_str().expect("a text").to_owned())
    });
    told.collect()
}

#[tokio::test]
async fn curl_and_a_grpc_client_in_another_language_get_the_same_answers_errors_included() {
    let wishes = wishes();
    let mut over_http = Quickstart::example("orders").start().await;
    let mut over_grpc = Quickstart::example("orders").start().await;
    let called: BTreeSet<_> = wishes.iter().map(|wish| wish.call).collect();
    assert_eq!(called.len(), 6, "every rpc is called: {called:?}");
    let calls = seen_by_python(&over_grpc, &wishes).await;
    assert_eq!(calls.len(), wishes.len());
    let mut id = String::new();
    for (wish, call) in wishes.iter().zip(calls) {
        let what = format!("{} {}", wish.call, wish.message);
        let path = wish.path.replace("$id", &id);
        let answer = send(over_http.http, wish.method, &path, wish.body.as_ref()).await;
        let body = answer.json();
        if let (true, Some(placed)) = (id.is_empty(), body["id"].as_str()) {
            placed.clone_into(&mut id);
        }
        let (status, code) = wish.expected;
        assert_eq!(answer.status, status, "{what}: {body}");
        assert_eq!(call["status"].as_str().unwrap_or("OK"), code, "{what}: {call}");
        if code == "OK" {
            assert_eq!(evened(&call["answer"]), evened(&body), "{what}");
            continue;
        }
        assert_eq!(call["reason"], body["code"], "{what}: one word over both");
        assert_eq!(call["domain"], "orders", "{what}");
        if body["code"] == "invalid_request" {
            // HTTP says what was found in the path, too.
            let (http, grpc) = (violations(&body), call["violations"].as_array().expect("violations"));
            assert!(!http.is_empty(), "{what}: {body}");
            assert_eq!(http.len(), grpc.len(), "{what}: {body}");
            // Each says the first mistake at once, with its place in its own notation.
            let first = grpc[0]["description"].as_str().expect("a text");
            for said in [&body["detail"], &call["message"]] {
                assert!(said.as_str().is_some_and(|said| said.contains(first)), "{what}: {said} has not {first}");
            }
            for ((field, text), told) in http.iter().zip(grpc) {
                assert_eq!(told["field"], **field, "{what}");
                assert!(text.ends_with(told["description"].as_str().expect("a text")), "{what}: {text} and {told}");
            }
        } else {
            assert_eq!((violations(&body).len(), &call["violations"]), (0, &Value::Null), "{what}");
            let told = |text: &Value| text.as_str().unwrap_or_default().replace(&id, "…");
            let (told_http, told_grpc) = (told(&body["detail"]), call["message"].as_str().unwrap().to_owned());
            // The two services have an order each: only the ids differ.
            assert_eq!(without_ids(&told_grpc), without_ids(&told_http.replace('…', UNKNOWN)), "{what}");
        }
    }
    for service in [&mut over_http, &mut over_grpc] {
        assert_eq!(service.terminate().await, 0);
    }
}

fn without_ids(text: &str) -> String {
    let words = text.split(' ').map(|word| if word.len() == 36 && word.contains('-') { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn both_ways_reach_the_same_order() {
    let mut service = Quickstart::example("orders").start().await;
    let order = send(
        service.http,
        "POST",
        "/orders",
        Some(&json!({"key": "k", "customer": "ada", "items": [{"sku": "a-1", "count": 2, "cents": 250}]})),
    )
    .await
    .json();
    let wish = Wish {
        call: "GetOrder",
        message: json!({"id": order["id"]}),
        method: "GET",
        path: "",
        body: None,
        expected: (200, "OK"),
    };
    let seen = seen_by_python(&service, &[wish]).await.remove(0)["answer"].take();
    assert_eq!((&seen["id"], &seen["placed_at"]), (&order["id"], &order["placed_at"]));
    assert_eq!(evened(&seen), evened(&order));
    assert_eq!(service.terminate().await, 0);
}

/// An order as a caller of the typed client writes it down.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: String,
    customer: String,
    items: Vec<Item>,
    total: u64,
    status: String,
    placed_at: String,
    version: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Item {
    sku: String,
    count: u32,
    cents: u64,
}

#[derive(Debug, Serialize)]
struct NewOrder {
    key: String,
    customer: String,
    items: Vec<Item>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Payment {
    cents: u64,
}

#[derive(Debug, Default, Serialize)]
struct Which {
    customer: Option<String>,
    limit: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Page {
    orders: Vec<Order>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The attributes and signatures of `examples/orders/src/api.rs`.
#[chassis::client]
trait OrdersApi: Send + Sync {
    #[post("/orders", timeout = "2s", idempotent)]
    async fn place(&self, order: &NewOrder) -> Result<Created<Order>, CallError>;

    #[get("/orders/{id}")]
    async fn order(&self, id: &str) -> Result<Order, CallError>;

    #[get("/orders")]
    async fn list(&self, query: &Which) -> Result<Page, CallError>;

    #[post("/orders/{id}/payment")]
    async fn pay(&self, id: &str, payment: Payment) -> Result<Order, CallError>;

    #[put("/orders/{id}/shipment")]
    async fn ship(&self, id: &str) -> Result<Order, CallError>;

    #[put("/orders/{id}/cancellation")]
    async fn cancel(&self, id: &str) -> Result<Order, CallError>;

    // It ends with the order's last event.
    #[get("/orders/{id}/events")]
    async fn follow(&self, id: &str) -> Result<Whole<String>, CallError>;

    #[get("/exports/orders")]
    async fn export(&self) -> Result<Whole<String>, CallError>;

    #[get("/customers/{customer}/orders")]
    async fn of_customer(&self, customer: &str) -> Result<Page, CallError>;
}

/// Of a problem, what does not differ from request to request: status, code, detail, and each violation with its place.
type Told = (u16, String, Option<String>, Vec<(String, String)>);

fn told_to_the_client(error: &CallError) -> Told {
    let problem = error.problem().expect("a problem");
    let violations = problem.violations().iter().map(|one| (one.place.clone(), one.message.clone())).collect();
    (problem.status().as_u16(), problem.code().to_owned(), problem.detail().map(str::to_owned), violations)
}

fn told_to_curl(answer: &Answer) -> Told {
    let problem = answer.json();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let violations = problem["violations"].as_array().into_iter().flatten().map(|one| {
        let place = text(&one["pointer"]).or(text(&one["parameter"])).expect("a place");
        (place, text(&one["message"]).expect("a message"))
    });
    (answer.status, text(&problem["code"]).expect("a code"), text(&problem["detail"]), violations.collect())
}

#[tokio::test]
async fn the_typed_client_gets_what_curl_gets_errors_included() {
    let mut service = Quickstart::example("orders").start().await;
    let client = OrdersApiClient::new(Client::new(&format!("http://{}", service.http)).unwrap());
    let items = vec![Item { sku: "a-1".to_owned(), count: 2, cents: 250 }];
    let new = NewOrder { key: "k".to_owned(), customer: "ada".to_owned(), items };
    let placed = client.place(&new).await.unwrap();
    let id = placed.value.id.clone();
    let path = placed.location.clone().unwrap();
    assert_eq!(path, format!("/orders/{id}"));
    assert_eq!(json!(placed.value), service.get(&path).await.json());
    assert_eq!(json!(client.place(&new).await.unwrap().value), json!(placed.value), "the same key");
    assert_eq!(json!(client.order(&id).await.unwrap()), service.get(&path).await.json());

    let which = Which { customer: Some("ada".to_owned()), limit: None };
    assert_eq!(json!(client.list(&which).await.unwrap()), service.get("/orders?customer=ada").await.json());
    let paid = client.pay(&id, Payment { cents: 500 }).await.unwrap();
    assert_eq!((&*paid.status, json!(paid)), ("paid", service.get(&path).await.json()));

    let payment = json!({"cents": 500});
    let items = vec![Item { sku: String::new(), count: 0, cents: 1 }];
    let wrong = NewOrder { key: String::new(), customer: "ada".to_owned(), items };
    let mut with_violations = 0;
    for (error, refused) in [
        (
            client.place(&wrong).await.map(drop).unwrap_err(),
            send(service.http, "POST", "/orders", Some(&json!(wrong))).await,
        ),
        (
            client.order(UNKNOWN).await.map(drop).unwrap_err(),
            send(service.http, "GET", &format!("/orders/{UNKNOWN}"), None).await,
        ),
        (
            client.pay(&id, Payment { cents: 500 }).await.map(drop).unwrap_err(),
            send(service.http, "POST", &format!("{path}/payment"), Some(&payment)).await,
        ),
        (
            client.list(&Which { customer: None, limit: Some(0) }).await.map(drop).unwrap_err(),
            send(service.http, "GET", "/orders?limit=0", None).await,
        ),
    ] {
        let told = told_to_the_client(&error);
        assert_eq!(told, told_to_curl(&refused), "{error}");
        assert!(told.2.is_some(), "{error}: no detail");
        with_violations += usize::from(!told.3.is_empty());
    }
    assert_eq!(with_violations, 2, "the order that is wrong, and the limit");

    assert_eq!(client.ship(&id).await.unwrap().status, "shipped");
    let Whole(events) = client.follow(&id).await.unwrap();
    assert!(events.contains("\"status\":\"shipped\""), "{events}");
    let other = client.place(&NewOrder { key: "l".to_owned(), ..new }).await.unwrap().value;
    assert_eq!(client.cancel(&other.id).await.unwrap().status, "cancelled");
    assert_eq!(json!(client.of_customer("ada").await.unwrap()), service.get("/customers/ada/orders").await.json());
    let Whole(lines) = client.export().await.unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(lines), service.get("/orders").await.json()["orders"]);
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn an_order_that_is_followed_tells_each_change_and_ends_with_the_last() {
    let mut service = Quickstart::example("orders").start().await;
    let order = place(service.http, "k", "ada").await;
    let path = format!("/orders/{}", order["id"].as_str().unwrap());
    let cancelled = send(service.http, "PUT", &format!("{path}/cancellation"), None).await;
    assert_eq!(cancelled.status, 200);
    // The stream has no length; it ends by itself.
    let mut connection = Raw::connect(service.http).await;
    connection.send(format!("GET {path}/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await;
    let raw = String::from_utf8(connection.rest().await).unwrap();
    assert!(raw.contains("content-type: text/event-stream"), "{raw}");
    for told in ["id: 1\n", "\"status\":\"placed\"", "id: 2\n", "\"status\":\"cancelled\""] {
        assert!(raw.contains(told), "{told} in {raw}");
    }
    assert_eq!(service.terminate().await, 0);
}
