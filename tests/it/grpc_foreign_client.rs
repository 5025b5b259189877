//! A gRPC client in another language: Python's grpcio, which shares no code with the service.

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::support::{
    http2::{self, Next},
    process::Quickstart,
    python,
};

/// protobuf's JSON writes 64-bit integers as strings.
fn numbers_as_text(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if matches!(name.as_str(), "cents" | "total") {
                    *field = field.to_string().into();
                }
                numbers_as_text(field);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(numbers_as_text),
        _ => {}
    }
}

#[tokio::test]
async fn a_client_in_another_language_sees_the_same_orders_health_and_reflection() {
    let mut service = Quickstart::new().start().await;
    let seen = python::run("client.py", &[&service.http.to_string()]).await;

    let mut order = service.get("/orders/7").await.json();
    numbers_as_text(&mut order);
    let orders = &seen["orders"];
    assert_eq!(orders["order"], order, "the same order over both protocols");
    assert_eq!(
        orders["unknown"],
        json!({
            "code": "NOT_FOUND",
            "message": "there is no order 0",
            "details": {
                "code": 5,
                "message": "there is no order 0",
                "types": ["type.googleapis.com/google.rpc.ErrorInfo"],
                "reason": "unknown_order",
                "domain": "quickstart",
            },
        })
    );
    assert_eq!(
        (&orders["unknown_method"], &orders["unknown_service"]),
        (&"UNIMPLEMENTED".into(), &"UNIMPLEMENTED".into())
    );
    let services = orders["services"].as_array().unwrap();
    for name in ["grpc.health.v1.Health", "orders.v1.Orders"] {
        assert!(services.contains(&name.into()), "{name} in {services:?}");
    }

    let health = &seen["health"];
    assert_eq!(health["check"], json!({"": "SERVING", "orders.v1.Orders": "SERVING"}));
    assert_eq!(health["check_unknown"], "NOT_FOUND");
    assert_eq!((&health["list"][""], &health["list"]["orders.v1.Orders"]), (&"SERVING".into(), &"SERVING".into()));
    assert_eq!(health["watch"], json!(["SERVING", "DEADLINE_EXCEEDED"]));
    assert_eq!(health["watch_unknown"], json!(["SERVICE_UNKNOWN", "DEADLINE_EXCEEDED"]), "the stream stays open");
    assert_eq!(service.terminate().await, 0);
}

/// grpcio's own clock ends a call before the service's answer comes; a client that waits sees what the service says.
#[tokio::test]
async fn a_deadline_ends_an_open_stream_with_deadline_exceeded_from_the_service_itself() {
    let mut service = Quickstart::new().start().await;
    let mut connection = http2::Connection::open(service.http).await.unwrap();
    let deadline = HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), HeaderValue::from_static("300m"))]);
    let mut watch = connection.call("/grpc.health.v1.Health/Watch", &[], deadline).await.unwrap();
    assert_eq!(watch.next().await, Next::Message([8, 1].as_slice().into()), "SERVING");
    assert_eq!(watch.next().await, Next::End("4".to_owned()), "DEADLINE_EXCEEDED");
    assert_eq!(service.terminate().await, 0);
}
