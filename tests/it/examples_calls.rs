//! The examples about calls of other services: deadlines, breakers and retries, a cache. Each serves both ends.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{
    http1::Answer,
    orders::send,
    process::{Quickstart, Service},
    raw::Raw,
    telemetry::eventually,
};

/// The example with its own settings, as it is documented to be started.
fn configured(example: &str) -> Quickstart {
    let path = format!("{}/../examples/{example}/config/default.toml", env!("CARGO_MANIFEST_DIR"));
    Quickstart::example(example).arguments(&["--config", &path])
}

/// Starts it and waits until the calling end has found the other one, a moment after both are there.
async fn start(example: Quickstart) -> Service {
    let service = example.start().await;
    eventually("the other end is found", async || {
        let dependency = service.operator("/admin/dependencies").await.json()[0].take();
        dependency["endpoints"].as_array().is_some_and(|found| !found.is_empty()).then_some(())
    })
    .await;
    service
}

async fn put(service: &Service, path: &str) -> Answer {
    send(service.http, "PUT", path, None).await
}

#[tokio::test]
async fn deadline_propagation_what_is_left_of_the_callers_time_arrives_at_the_second_service() {
    let mut service = start(configured("deadline-propagation")).await;
    let front = async |milliseconds: u64| {
        let mut connection = Raw::connect(service.http).await;
        let header = format!("x-request-timeout-ms: {milliseconds}");
        connection.send(format!("GET /front HTTP/1.1\r\nhost: localhost\r\n{header}\r\n\r\n")).await;
        connection.answer().await.unwrap()
    };
    let times = |answer: &Value| (answer["front"].as_u64().unwrap(), answer["back"].as_u64().unwrap());

    let (at_front, at_back) = times(&front(1_500).await.json());
    assert!(at_front <= 1_500, "{at_front}");
    assert!(at_back > 0 && at_back + 300 <= at_front, "{at_back} of {at_front}");
    let (at_front, at_back) = times(&service.get("/front").await.json());
    assert!((1_501..=2_000).contains(&at_front), "the route's own time: {at_front}");
    assert!(at_back > 0 && at_back + 300 <= at_front, "{at_back} of {at_front}");

    let calls = async || {
        let metrics = service.operator("/metrics").await.body;
        let count =
            |line: &&str| line.starts_with("http_server_request_duration_seconds_count") && line.contains("\"/back\"");
        metrics.lines().find(count).map(|line| line.rsplit(' ').next().unwrap().to_owned())
    };
    eventually("both calls are counted", async || (calls().await.as_deref() == Some("2")).then_some(())).await;
    front(200).await.assert_problem(504, "deadline_exceeded");
    assert_eq!(calls().await.as_deref(), Some("2"), "nobody waits, so nobody is asked");
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn breaker_and_retry_hide_what_they_can_and_tell_early_what_they_cannot() {
    let mut service = start(configured("breaker-and-retry")).await;
    let dependency = async || service.operator("/admin/dependencies").await.json()[0].take();
    let asked = async |mood: &str| put(&service, &format!("/weather/{mood}")).await.json().as_u64().unwrap();
    assert_eq!(service.get("/picnic").await.json(), json!({"text": "sunny", "asked": 1}));

    asked("flaky").await;
    for at in 0..12 {
        let answer = service.get("/picnic").await;
        assert_eq!(answer.status, 200, "call {at}: {}", answer.body);
    }
    let seen = dependency().await;
    assert!(seen["retry"]["retries"].as_u64().unwrap() >= 5, "{seen}");

    let before = asked("down").await;
    assert_eq!(service.get("/picnic").await.json()["code"], "dependency_failed");
    let refused = eventually("the breaker opens", async || {
        Some(service.get("/picnic").await).filter(|answer| answer.json()["code"] == "circuit_open")
    })
    .await;
    assert_eq!(refused.status, 503);
    let sent = asked("down").await - before;
    assert!((1..=12).contains(&sent), "{sent} requests until it was open");
    let seen = dependency().await;
    assert_eq!((&seen["status"], &seen["name"]), (&json!("down"), &json!("weather")), "{seen}");
    assert_eq!(service.get("/readyz").await.status, 200, "no reason to take this instance out of traffic");

    // While it is open, calls cost nobody anything: far more of them than requests that come through.
    let (before, started) = (asked("down").await, Instant::now());
    for _ in 0..100 {
        assert_ne!(service.get("/picnic").await.status, 200);
    }
    let (sent, took) = (asked("down").await - before, started.elapsed());
    let most = 10 + 10 * took.as_secs();
    assert!(sent <= most, "{sent} of 100 calls were sent in {took:?}");

    asked("fine").await;
    eventually("it is found again", async || (service.get("/picnic").await.status == 200).then_some(())).await;
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn cache_answers_a_price_is_kept_and_told_when_it_is_old_and_a_stock_is_neither() {
    let article = async |service: &Service, sku: &str| service.get(&format!("/articles/{sku}")).await;
    let cached = |ttl: &str| start(configured("cache-answers").set("app.prices.ttl", ttl));

    let mut service = cached("1h").await;
    let first = article(&service, "pear").await.json();
    assert_eq!(first, json!({"price": {"cents": 160, "asked": 1}, "old_price": false, "stock": 4}));
    assert_eq!(article(&service, "pear").await.json(), first, "nobody asks again");
    put(&service, "/supplier/down").await;
    let down = article(&service, "pear").await.json();
    assert_eq!((&down["price"], &down["old_price"]), (&first["price"], &json!(false)));
    assert_eq!(down["stock"], Value::Null, "the fallback, and not the stock of before");
    let unknown = article(&service, "fig").await;
    assert!(unknown.status >= 500, "nobody knows this price: {}", unknown.body);
    assert_eq!(service.terminate().await, 0);

    let mut service = cached("1ms").await;
    assert_eq!(article(&service, "pear").await.json(), first);
    put(&service, "/supplier/down").await;
    let old = eventually("the price is old", async || {
        Some(article(&service, "pear").await.json()).filter(|answer| answer["old_price"] == true)
    })
    .await;
    assert_eq!((&old["price"], &old["stock"]), (&first["price"], &Value::Null), "{old}");
    put(&service, "/supplier/up").await;
    let new = eventually("the price is new", async || {
        Some(article(&service, "pear").await.json()).filter(|answer| answer["old_price"] == false)
    })
    .await;
    assert!(new["price"]["asked"].as_u64() > Some(1), "{new}");
    assert_eq!(service.terminate().await, 0);
}
