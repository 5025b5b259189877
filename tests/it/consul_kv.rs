//! Settings from the key-value store of a real Consul agent.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{interval, timeout};

use crate::support::{
    consul::Agent,
    process::{PATIENCE, Quickstart, Service},
};

/// The fixture as `orders`, with its settings in this agent's store.
fn orders(agent: &Agent) -> Quickstart {
    let fixture = Quickstart::fixture().set("service.name", "orders").set("consul.address", &agent.address());
    fixture.set("consul.kv.enabled", "true").set("log.format", "json")
}

async fn set(agent: &Agent, key: &str, value: &str) {
    agent.put(&format!("/v1/kv/config/{key}"), value).await;
}

/// Waits until a check looks as asked.
async fn check(service: &Service, name: &str, look: impl Fn(&str, &str) -> bool) {
    let mut seen = Value::Null;
    let mut tick = interval(Duration::from_millis(20));
    let looks = timeout(PATIENCE, async {
        loop {
            tick.tick().await;
            seen = service.operator("/health").await.json()["checks"][name].take();
            if look(seen["status"].as_str().unwrap_or_default(), seen["message"].as_str().unwrap_or_default()) {
                return;
            }
        }
    });
    assert!(looks.await.is_ok(), "{name}: {seen}");
}

async fn greeting(service: &Service) -> String {
    service.get("/greeting").await.json()["text"].as_str().unwrap().to_owned()
}

/// Waits until the service greets so.
async fn greets(service: &Service, words: &str) {
    let mut seen = String::new();
    let mut tick = interval(Duration::from_millis(20));
    let said = timeout(PATIENCE, async {
        while seen != words {
            tick.tick().await;
            seen = greeting(service).await;
        }
    });
    assert!(said.await.is_ok(), "found {seen:?}, expected {words:?}");
}

async fn origin(service: &Service, key: &str) -> String {
    let shown = service.operator("/admin/config").await.json();
    let entry = shown.as_array().unwrap().iter().find(|entry| entry["key"] == key).unwrap();
    entry["origin"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn settings_come_from_consul_with_their_place_and_follow_it_without_a_restart() {
    let mut agent = Agent::start().await;
    set(&agent, "application/app/greeting", "to all").await;
    set(&agent, "application/log/filter", "debug,hyper=warn,h2=warn\n").await;
    set(&agent, "orders/app/greeting", "to orders").await;
    set(&agent, "orders/config.toml", "[shutdown]\ngrace = \"7s\"\ndrain_delay = \"0s\"\n").await;
    set(&agent, "orders,prod/app/greeting", "to another profile").await;
    set(&agent, "others/app/greting", "none of ours").await;
    set(&agent, "orders/http/request_timeout", "9s").await;
    let mut service = orders(&agent).env("CHASSIS_HTTP__REQUEST_TIMEOUT", "8s").start().await;
    assert_eq!(greeting(&service).await, "to orders");
    for (key, place) in [
        ("app.greeting", "consul kv config/orders/app/greeting"),
        ("log.filter", "consul kv config/application/log/filter"),
        ("shutdown.grace", "consul kv config/orders/config.toml:2"),
        ("http.request_timeout", "environment CHASSIS_HTTP__REQUEST_TIMEOUT"),
    ] {
        assert_eq!(origin(&service, key).await, place, "{key}");
    }
    check(&service, "consul_kv", |status, _| status == "up").await;

    // Consul's own command line, as an operator would.
    agent.cli(&["kv", "put", "config/orders/app/greeting", "changed"]).await;
    greets(&service, "changed").await;
    service.process.says("\"changed\":\"app.greeting\"").await;

    // Wrong: nothing of it applies, and the check says which key it is.
    set(&agent, "orders/shutdown/grace", "soon").await;
    check(&service, "config", |status, message| {
        status == "degraded"
            && message.contains("shutdown.grace: found \"soon\"")
            && message.contains("(consul kv config/orders/shutdown/grace)")
    })
    .await;
    set(&agent, "orders/app/greeting", "hidden by the mistake").await;
    assert_eq!(service.get("/readyz").await.status, 200);
    assert_eq!(greeting(&service).await, "changed", "the last good value");
    agent.cli(&["kv", "delete", "config/orders/shutdown/grace"]).await;
    greets(&service, "hidden by the mistake").await;
    check(&service, "config", |status, _| status == "up").await;

    // A key that goes uncovers what is below.
    agent.cli(&["kv", "delete", "config/orders/app/greeting"]).await;
    greets(&service, "to all").await;
    assert_eq!(origin(&service, "app.greeting").await, "consul kv config/application/app/greeting");

    // Away and back.
    agent.kill().await;
    check(&service, "consul_kv", |status, message| status == "degraded" && message.contains("last values")).await;
    assert_eq!(greeting(&service).await, "to all");
    agent.begin().await;
    check(&service, "consul_kv", |status, _| status == "up").await;
    assert_eq!(greeting(&service).await, "to all");
    set(&agent, "orders,dev/app/greeting", "after all").await;
    greets(&service, "after all").await;
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn what_says_where_the_store_is_cannot_be_in_it_and_all_mistakes_are_told_at_once() {
    let agent = Agent::start().await;
    set(&agent, "orders/consul/address", "elsewhere:8500").await;
    set(&agent, "orders/http/adress", "127.0.0.1:0").await;
    set(&agent, "orders/http/address", "127.0.0.1:0").await;
    set(&agent, "application/config.toml", "[service]\nname = \"all\"\n").await;
    for command in [&["config", "check"][..], &["serve"]] {
        let ended = orders(&agent).env("CHASSIS_LOG__FORMAT", "xml").arguments(command).run().await;
        assert_eq!(ended.code, Some(78), "{ended:?}");
        for line in [
            "consul.address: cannot be set here: it says where this store is",
            "(consul kv config/orders/consul/address)",
            "service.name: cannot be set here: it names the folder that is read here",
            "(consul kv config/application/config.toml:2)",
            "http.address: cannot be set here: `healthcheck` has to know it without Consul",
            "http.adress: unknown; did you mean http.address? (consul kv config/orders/http/adress)",
        ] {
            assert!(ended.stderr.contains(line), "{line}\n{}", ended.stderr);
        }
    }
    for key in ["orders/consul/address", "orders/http/adress", "orders/http/address", "application/config.toml"] {
        agent.cli(&["kv", "delete", &format!("config/{key}")]).await;
    }
    set(&agent, "orders/admin/token", "hunter2\n").await;
    set(&agent, "orders/http/body_limit", "3MiB").await;
    let printed = orders(&agent).arguments(&["config", "print"]).run().await;
    assert!(printed.stdout.contains("http.body_limit = \"3MiB\"   # consul kv config/orders/http/body_limit"));
    assert!(printed.stdout.contains("admin.token = \"***\"   # consul kv config/orders/admin/token"));
    let explained = orders(&agent).arguments(&["config", "explain", "http.body_limit"]).run().await;
    assert!(explained.stdout.contains("Now: \"3MiB\"   # consul kv config/orders/http/body_limit"), "{explained:?}");
}

#[tokio::test]
async fn a_start_without_consul_is_refused_or_degraded_as_the_settings_say() {
    let mut agent = Agent::reserved();
    for command in [&["serve"][..], &["config", "check"]] {
        let refused = orders(&agent).set("consul.kv.wait", "300ms").arguments(command).run().await;
        assert_eq!(refused.code, Some(69), "{refused:?}");
        for part in [
            "consul.kv: found no settings from Consul at",
            &agent.address(),
            "within 300ms",
            "expected those of config/application/",
            "CHASSIS_CONSUL__KV__REQUIRED=false",
        ] {
            assert!(refused.stderr.contains(part), "{part}\n{}", refused.stderr);
        }
    }
    // What may be the cause is told with it.
    let mistaken =
        orders(&agent).set("consul.kv.wait", "300ms").env("CHASSIS_CONSUL__ADRESS", "there:8500").run().await;
    assert_eq!(mistaken.code, Some(78), "{mistaken:?}");
    for part in ["did you mean CHASSIS_CONSUL__ADDRESS?", "consul.kv: found no settings"] {
        assert!(mistaken.stderr.contains(part), "{part}\n{}", mistaken.stderr);
    }

    // Who waits for Consul hears a signal. There is nothing to drain yet.
    let mut waiting = orders(&agent).set("consul.kv.wait", "10m").spawn();
    // The handlers are there when the process sleeps in its wait; a signal before that would kill it.
    waiting.catches(Signal::TERM).await;
    waiting.signal(Signal::TERM);
    assert_eq!(waiting.exit_code().await, 0);

    let without = orders(&agent).set("consul.kv.wait", "300ms").set("consul.kv.required", "false");
    let mut service = without.set("app.greeting", "").start().await;
    check(&service, "consul_kv", |status, _| status == "degraded").await;
    assert_eq!(service.get("/readyz").await.status, 200);
    agent.begin().await;
    set(&agent, "orders/shutdown/grace", "11s").await;
    check(&service, "consul_kv", |status, _| status == "up").await;
    service.process.says("\"changed\":\"shutdown.grace\"").await;
    assert_eq!(origin(&service, "shutdown.grace").await, "consul kv config/orders/shutdown/grace");
    assert_eq!(service.terminate().await, 0);
}
