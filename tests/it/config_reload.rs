//! The configuration of a running process: what changes, what waits for a restart, what is refused.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{interval, timeout};

use crate::support::process::{PATIENCE, Quickstart, Service};

/// Waits until the `config` check looks as asked.
async fn config_check(service: &Service, look: impl Fn(&Value) -> bool) -> Value {
    let mut seen = Value::Null;
    let mut tick = interval(Duration::from_millis(20));
    let looks = async {
        loop {
            tick.tick().await;
            seen = service.operator("/health").await.json()["checks"]["config"].take();
            if look(&seen) {
                return;
            }
        }
    };
    let looks = timeout(PATIENCE, looks).await;
    assert!(looks.is_ok(), "{seen}");
    seen
}

/// Replaces the file and asks the process to look at once.
fn change(service: &Service, content: &str) {
    service.process.folder().write("config/default.toml", content);
    service.process.signal(Signal::HUP);
}

async fn greeting(service: &Service) -> String {
    service.get("/greeting").await.json()["text"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_reloadable_value_changes_without_a_restart() {
    let first = "[log]\nfilter = \"info\"\n[shutdown]\ndrain_delay = \"0s\"\n[app]\ngreeting = \"hello\"\n";
    let mut service = Quickstart::fixture().file("config/default.toml", first).start().await;
    assert_eq!(greeting(&service).await, "hello");
    assert!(service.process.logged("a slow request has begun").is_empty());

    // Found by itself, without a signal.
    let second =
        "[log]\nfilter = \"chassis=info,error\"\n[shutdown]\ndrain_delay = \"10m\"\n[app]\ngreeting = \"good day\"\n";
    service.process.folder().write("config/default.toml", second);
    let line = service.process.says("configuration reloaded").await;
    for key in ["log.filter", "shutdown.drain_delay", "app.greeting"] {
        assert!(line.contains(key), "{key} in {line}");
    }
    assert_eq!(greeting(&service).await, "good day");
    let filter = service.operator("/admin/log-filter").await.body;
    assert!(filter.contains("chassis=info,error"), "{filter}");
    assert_eq!(service.get("/slow/0").await.status, 200);
    assert!(service.process.logged("a slow request has begun").is_empty(), "the new filter leaves it out");
    let shown = service.operator("/admin/config").await.json();
    let delay = shown.as_array().unwrap().iter().find(|entry| entry["key"] == "shutdown.drain_delay").unwrap();
    assert_eq!((&delay["value"], &delay["origin"]), (&"\"10m\"".into(), &"config/default.toml:4".into()));

    service.process.signal(Signal::TERM);
    let draining = service.process.says("draining").await;
    assert!(draining.contains("\"delay\":\"10m\""), "the new delay counts: {draining}");
    service.process.signal(Signal::TERM);
    assert_eq!(service.process.exit_code().await, 0);
}

#[tokio::test]
async fn a_bad_file_keeps_the_last_good_value_and_shows_until_it_is_repaired() {
    let good = "[app]\ngreeting = \"hello\"\n";
    let mut service = Quickstart::fixture().file("config/default.toml", good).start().await;
    for (bad, reason) in [
        ("[app]\ngreeting = \"bye\"\ngreting = 1\n", "app.greting: unknown key; did you mean app.greeting?"),
        ("[app]\ngreeting = \"bye\"\n[shutdown]\ngrace = \"x\"\n", "shutdown.grace: found \"x\""),
        ("[app", "config/default.toml"),
        ("[app]\ngreeting = \"bye\"\n[log]\nfilter = \"a=b=c\"\n", "log.filter"),
    ] {
        change(&service, bad);
        let check = config_check(&service, |check| {
            check["status"] == "degraded" && check["message"].as_str().is_some_and(|message| message.contains(reason))
        });
        check.await;
        assert_eq!(greeting(&service).await, "hello", "{bad}");
        assert_eq!(service.get("/readyz").await.status, 200, "a wrong file takes no instance down");
    }
    change(&service, good);
    config_check(&service, |check| check["status"] == "up").await;
    change(&service, "[app]\ngreeting = \"repaired\"\n");
    service.process.says("\"changed\":\"app.greeting\"").await;
    assert_eq!(greeting(&service).await, "repaired");
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn a_change_that_needs_a_restart_is_said_and_not_made() {
    let mut service =
        Quickstart::fixture().file("config/default.toml", "[http]\nbody_limit = \"1MiB\"\n").start().await;
    change(&service, "[http]\nbody_limit = \"2MiB\"\n[app]\ngreeting = \"changed\"\n");
    let check = config_check(&service, |check| check["message"].is_string()).await;
    assert_eq!(
        (&check["status"], &check["message"]),
        (&"up".into(), &"a restart is needed for http.body_limit".into())
    );
    assert_eq!(greeting(&service).await, "changed", "the rest is taken over");
    let shown = service.operator("/admin/config").await.json();
    let limit = shown.as_array().unwrap().iter().find(|entry| entry["key"] == "http.body_limit").unwrap();
    assert_eq!(limit["value"], "\"1MiB\"", "what is shown is what is in effect");
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn a_hang_up_without_a_change_is_answered_in_the_log() {
    let mut service = Quickstart::fixture().start().await;
    service.process.signal(Signal::HUP);
    service.process.says("configuration reloaded").await;
    assert_eq!(service.terminate().await, 0);
}
