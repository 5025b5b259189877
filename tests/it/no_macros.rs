//! `examples/no-macros` is quickstart by hand: whoever asks cannot tell the two apart.

use http::HeaderMap;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    http2::{Connection, Next},
    orders::send,
    process::Quickstart,
};

/// What differs from request to request, and the names of the two.
fn evened(answer: &str) -> Value {
    let Ok(mut value) = serde_json::from_str::<Value>(answer) else { return answer.into() };
    for member in ["trace_id", "instance"] {
        if value.get(member).is_some() {
            value[member] = json!("…");
        }
    }
    value
}

#[tokio::test]
async fn a_service_written_by_hand_answers_as_the_macros_service_does() {
    let mut quickstart = Quickstart::new().start().await;
    let mut by_hand = Quickstart::example("no-macros")
        .env("CHASSIS_HTTP__ADDRESS", "127.0.0.1:0")
        .env("CHASSIS_ADMIN__ADDRESS", "127.0.0.1:0")
        .spawn();
    let line: Value = serde_json::from_str(&by_hand.says("\"serving\"").await).unwrap();
    let address = line["http"].as_str().unwrap().parse().unwrap();

    let order = json!({"customer": "ada", "items": [{"sku": "a-1", "count": 2, "cents": 250}]});
    for (method, path, body, status) in [
        ("GET", "/orders/7", None, 200),
        ("GET", "/orders/0", None, 404),
        ("GET", "/orders/seven", None, 400),
        ("DELETE", "/orders/7", None, 405),
        ("POST", "/orders", Some(order.clone()), 201),
        ("POST", "/orders", Some(json!({"customer": "ada", "items": []})), 422),
        ("POST", "/orders", Some(json!({"customer": "ada", "items": [{"sku": "a-1", "count": -2, "cents": 1}]})), 422),
        ("POST", "/orders", None, 400),
        ("GET", "/no/such/path", None, 404),
    ] {
        let one = send(quickstart.http, method, path, body.as_ref()).await;
        let other = send(address, method, path, body.as_ref()).await;
        assert_eq!((one.status, other.status), (status, status), "{method} {path}");
        assert_eq!(evened(&one.body), evened(&other.body), "{method} {path}");
        for header in ["content-type", "allow", "location"] {
            assert_eq!(one.header(header), other.header(header), "{method} {path}: {header}");
        }
    }

    let mut documents = Vec::new();
    for address in [quickstart.http, address] {
        let mut document = send(address, "GET", "/openapi.json", None).await.json();
        assert!(document["paths"]["/orders/{id}"]["get"].is_object(), "{document}");
        document["info"]["title"] = json!("…");
        documents.push(document);
    }
    assert_eq!(documents[0], documents[1], "one document");

    for (message, code) in [(&[8, 7][..], "0"), (&[8, 0], "5")] {
        let mut answers = Vec::new();
        for address in [quickstart.http, address] {
            let mut connection = Connection::open(address).await.unwrap();
            let mut call = connection.call("/orders.v1.Orders/GetOrder", message, HeaderMap::new()).await.unwrap();
            let mut answer = vec![call.next().await];
            if let Next::Message(_) = answer[0] {
                answer.push(call.next().await);
            }
            assert_eq!(answer.last(), Some(&Next::End(code.to_owned())));
            answers.push(answer);
        }
        assert_eq!(answers[0], answers[1], "the same message");
    }

    let plain = send(address, "GET", "/plain", None).await;
    assert_eq!((plain.status, &*plain.body), (200, "as axum has it"), "a plain router is mounted as it is");

    by_hand.signal(Signal::TERM);
    assert_eq!(by_hand.exit_code().await, 0);
    assert_eq!(quickstart.terminate().await, 0);
}
