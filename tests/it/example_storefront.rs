//! `examples/README.md` as a person walks it: the storefront and two instances of the inventory, in each way of finding them.

use std::{path::PathBuf, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{
    consul::Agent,
    http1,
    pace::Pace,
    process::{PATIENCE, Quickstart, Service},
};

/// A settings file of an example, as it stands in the repository.
fn settings(example: &str, file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example).join("config").join(file);
    path.to_str().expect("a path of text").to_owned()
}

fn configured(example: &str, files: &[&str]) -> Quickstart {
    let paths = files.iter().map(|file| settings(example, file));
    paths.fold(Quickstart::example(example), |start, path| start.arguments(&["--config", &path]))
}

async fn article(storefront: &Service) -> Value {
    let answer = storefront.get("/articles/pear").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

async fn order(storefront: &Service, key: &str) -> http1::Answer {
    let body = json!({ "sku": "pear", "count": 1 }).to_string();
    let mut connection = http1::Connection::open(storefront.http).await.unwrap();
    let head = format!(
        "PUT /orders/{key} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write(&format!("{head}{body}")).await.unwrap();
    connection.answer().await.unwrap()
}

/// Who answers, over so many requests.
async fn told_by(storefront: &Service, requests: usize) -> std::collections::BTreeSet<String> {
    let mut instances = std::collections::BTreeSet::new();
    for _ in 0..requests {
        instances.extend(article(storefront).await["told_by"].as_str().map(str::to_owned));
    }
    instances
}

async fn dependency(storefront: &Service) -> Value {
    storefront.operator("/admin/dependencies").await.json()[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_consul_one_instance_may_be_killed_and_without_any_the_shop_still_shows_prices() {
    let agent = Agent::start().await;
    let instance = || configured("inventory", &["default.toml"]).set("consul.address", &agent.address());
    let (mut one, mut two) = (instance().start().await, instance().start().await);
    agent
        .eventually("/v1/health/service/inventory?passing", |found| found.as_array().is_some_and(|all| all.len() == 2))
        .await;
    let shop = configured("storefront", &["default.toml"]).set("consul.address", &agent.address()).start().await;
    assert_eq!(told_by(&shop, 40).await.len(), 2, "both answer");
    assert_eq!(order(&shop, "k-1").await.status, 200);

    one.process.signal(Signal::KILL);
    one.process.exit_code().await;
    assert_eq!(told_by(&shop, 40).await.len(), 1, "the one that is left answers all");
    for key in 0..20 {
        let answer = order(&shop, &format!("killed-{key}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    timeout(PATIENCE, async {
        while dependency(&shop).await["status"] != "degraded" {
            article(&shop).await;
        }
    })
    .await
    .expect("operators see it");
    assert_eq!(shop.get("/readyz").await.status, 200, "the shop itself is ready");

    two.process.signal(Signal::KILL);
    two.process.exit_code().await;
    assert_eq!(article(&shop).await["stock"], Value::Null, "the fallback answers");
    let refused = Pace::measure().within("the refusal", Duration::from_secs(2), order(&shop, "k-2")).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    let metrics = shop.operator("/metrics").await.body;
    assert!(metrics.contains("chassis_client_fallbacks_total{"), "the fallback is counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_programs_run_in_one_process_and_with_a_list() {
    let shop = configured("storefront", &["default.toml", "one-process.toml"])
        .set("http.address", "127.0.0.1:0")
        .set("admin.address", "127.0.0.1:0")
        .start()
        .await;
    assert_eq!(article(&shop).await["stock"], 100);
    assert_eq!(order(&shop, "k-1").await.json()["left"], 99);

    let alone = || configured("inventory", &["default.toml", "alone.toml"]);
    let (one, two) = (alone().start().await, alone().start().await);
    let shop = configured("storefront", &["default.toml", "alone.toml"])
        .set("clients.inventory.target", &format!("static://{},{}", one.http, two.http))
        .start()
        .await;
    assert_eq!(told_by(&shop, 40).await.len(), 2, "both answer");
    assert_eq!(order(&shop, "k-1").await.status, 200);
}
