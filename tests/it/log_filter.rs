//! The log filter of a running service.

use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{
    telemetry::eventually,
    telemetry_process::{Quickstart, send},
};

async fn ask(quickstart: &Quickstart, method: Method, body: &Value) -> Response<Bytes> {
    let uri = format!("http://{}/admin/log-filter", quickstart.admin);
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    send(Request::builder().method(method).uri(uri).body(Full::new(body)).unwrap()).await
}

/// A request whose frames the library below tells in detail when it is asked to.
async fn over_http2(quickstart: &Quickstart) {
    let request = Request::get(format!("http://{}/orders/7", quickstart.http)).version(Version::HTTP_2);
    assert_eq!(send(request.body(Full::default()).unwrap()).await.status(), 200);
}

fn status(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap()
}

async fn in_force(quickstart: &Quickstart) -> Value {
    status(&ask(quickstart, Method::GET, &Value::Null).await)
}

#[tokio::test]
async fn an_override_takes_effect_and_ends_by_itself() {
    let quickstart = Quickstart::start(&[]).await;
    let configured = in_force(&quickstart).await;
    assert_eq!(
        (&configured["filter"], &configured["origin"]),
        (&"info,opentelemetry=warn".into(), &"configured".into())
    );
    let answer = ask(&quickstart, Method::PUT, &json!({ "filter": "trace", "ttl": "1s" })).await;
    assert_eq!((answer.status().as_u16(), &status(&answer)["filter"]), (200, &"trace".into()));
    over_http2(&quickstart).await;
    eventually("the configured filter is back", async || {
        (in_force(&quickstart).await["origin"] == "configured").then_some(())
    })
    .await;
    assert_eq!(in_force(&quickstart).await["filter"], configured["filter"]);
    over_http2(&quickstart).await;
    let (_, lines) = quickstart.stop().await;
    let at = |wanted: &str| lines.iter().position(|line| line["message"] == wanted).unwrap();
    let (begin, end) = (at("log filter overridden"), at("log filter override ended"));
    let detailed =
        |lines: &[Value]| lines.iter().filter(|line| line["target"].as_str().unwrap().starts_with("h2")).count();
    let counts = (detailed(&lines[..begin]), detailed(&lines[begin..end]) > 0, detailed(&lines[end..]));
    assert_eq!(counts, (0, true, 0), "{lines:#?}");
}

#[tokio::test]
async fn an_override_ends_when_it_is_taken_back() {
    let quickstart = Quickstart::start(&[("RUST_LOG", "warn")]).await;
    assert_eq!(in_force(&quickstart).await["filter"], "warn");
    let answer = ask(&quickstart, Method::PUT, &json!({ "filter": "debug" })).await;
    assert_eq!(status(&answer)["origin"], "override");
    assert!(
        in_force(&quickstart).await["remaining_seconds"].as_u64().unwrap() > 500,
        "ten minutes unless told otherwise"
    );
    assert_eq!(ask(&quickstart, Method::DELETE, &Value::Null).await.status(), 200);
    let now = in_force(&quickstart).await;
    assert_eq!(
        (&now["filter"], &now["origin"], &now["remaining_seconds"]),
        (&"warn".into(), &"configured".into(), &Value::Null)
    );
}

#[tokio::test]
async fn what_cannot_be_a_filter_is_refused_and_changes_nothing() {
    let quickstart = Quickstart::start(&[]).await;
    let before = in_force(&quickstart).await;
    for (body, said) in [
        (json!({ "filter": "shop=loud" }), "shop=loud"),
        (json!({ "filter": "debgu" }), "did you mean"),
        (json!({ "filter": "debug", "ttl": "0s" }), "at most 2h"),
        (json!({ "filter": "debug", "ttl": "3h" }), "at most 2h"),
        (json!({ "filter": "debug", "until": "noon" }), "until"),
        (json!({ "ttl": "1m" }), "filter"),
        (json!("debug"), "expected for example"),
        (Value::Null, "expected for example"),
    ] {
        let answer = ask(&quickstart, Method::PUT, &body).await;
        assert_eq!(answer.status(), 400, "{body}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{body}");
        assert!(status(&answer)["detail"].as_str().unwrap().contains(said), "{body}: {}", status(&answer));
    }
    assert_eq!(in_force(&quickstart).await, before);
}
