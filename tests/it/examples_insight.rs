//! The examples about what a service says of itself: its settings, its health, its metrics and spans.

use std::path::{Path, PathBuf};

use chassis::testing::OtlpReceiver;
use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    http1::Answer,
    process::{Quickstart, Service},
    telemetry::{eventually, named, spans_of},
};

/// A file of an example, as it stands in the repository.
fn file_of(example: &str, name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The example, in a folder with copies of these files of its own.
fn in_its_folder(example: &str, files: &[&str]) -> Quickstart {
    files.iter().fold(Quickstart::example(example), |start, name| start.file(name, &file_of(example, name)))
}

fn config_layers() -> Quickstart {
    in_its_folder("config-layers", &["config/default.toml", "config/prod.toml", "config/api-key"])
}

#[tokio::test]
async fn config_layers_each_source_is_stronger_than_the_one_before_and_says_its_name() {
    let prod = || config_layers().env("CHASSIS_PROFILE", "prod");
    let variable = || prod().env("CHASSIS_APP__GREETING", "hey");
    for (service, now) in [
        (Quickstart::example("config-layers"), "\"hi\"   # built-in default"),
        (config_layers(), "\"hello\"   # config/default.toml:4"),
        (prod(), "\"good day\"   # config/prod.toml:4"),
        (variable(), "\"hey\"   # environment CHASSIS_APP__GREETING"),
        (variable().set("app.greeting", "ahoy"), "\"ahoy\"   # command line --set app.greeting"),
    ] {
        let explained = service.arguments(&["config", "explain", "app.greeting"]).run().await;
        assert!(explained.stdout.contains(&format!("Now: {now}")), "{now} in {explained:?}");
    }
}

#[tokio::test]
async fn config_layers_a_changed_file_is_seen_while_it_runs_and_the_secret_never() {
    let mut service = config_layers().start().await;
    let greeting = async |service: &Service| service.get("/greeting/ada").await.json();
    assert_eq!(greeting(&service).await, json!({"text": "hello, ada", "has_key": true}));

    let changed = file_of("config-layers", "config/default.toml").replace("\"hello\"", "\"welcome\"");
    service.process.folder().write("config/default.toml", &changed);
    service.process.signal(Signal::HUP);
    service.process.says("configuration reloaded").await;
    assert_eq!(greeting(&service).await["text"], "welcome, ada");

    service.process.folder().write("config/default.toml", &changed.replace("greeting", "greting"));
    service.process.signal(Signal::HUP);
    eventually("the mistake is told", async || {
        let check = service.operator("/health").await.json()["checks"]["config"].take();
        let told = check["message"].as_str().is_some_and(|told| told.contains("did you mean app.greeting?"));
        (told && check["status"] == "degraded").then_some(())
    })
    .await;
    assert_eq!(greeting(&service).await["text"], "welcome, ada", "the last good value stays");

    let shown = service.operator("/admin/config").await.body;
    assert!(shown.contains("app.api_key"), "{shown}");
    let secret = file_of("config-layers", "config/api-key");
    let lines = service.process.stdout().join("\n");
    assert!(!shown.contains(secret.trim()) && !lines.contains(secret.trim()), "the secret is shown");
    assert_eq!(service.terminate().await, 0);
}

async fn until(service: &Service, path: &str, fits: impl Fn(&Answer) -> bool) -> Answer {
    eventually(path, async || Some(service.get(path).await).filter(|answer| fits(answer))).await
}

#[tokio::test]
async fn custom_health_check_only_the_critical_one_takes_the_service_out_of_traffic() {
    let mut service = in_its_folder("custom-health-check", &["prices.txt", "discounts.txt"]).start().await;
    let folder = service.process.folder().path().to_owned();
    let away = |name: &str| std::fs::rename(folder.join(name), folder.join("away")).unwrap();
    let back = |name: &str| std::fs::rename(Path::new(&folder).join("away"), folder.join(name)).unwrap();
    assert_eq!(service.get("/readyz").await.status, 200);

    away("discounts.txt");
    until(&service, "/readyz?verbose", |answer| answer.body.contains("discounts: down")).await;
    assert_eq!(service.get("/readyz").await.status, 200, "it is not critical");
    let told = service.operator("/health").await.json()["checks"]["discounts"]["message"].take();
    assert!(told.as_str().unwrap().starts_with("No such file"), "{told}");
    back("discounts.txt");

    away("prices.txt");
    let down = until(&service, "/readyz?verbose", |answer| answer.status == 503).await;
    assert!(down.body.contains("prices: down"), "{}", down.body);
    assert_eq!(service.get("/livez").await.status, 200, "a restart would bring nothing back");
    back("prices.txt");
    until(&service, "/readyz", |answer| answer.status == 200).await;
    service.process.folder().write("prices.txt", "");
    let degraded = until(&service, "/readyz?verbose", |answer| answer.body.contains("prices: degraded")).await;
    assert_eq!(degraded.status, 200, "it works");
    assert_eq!(service.terminate().await, 0);
}

#[tokio::test]
async fn custom_metric_and_span_are_in_the_metrics_the_log_and_the_trace() {
    let receiver = OtlpReceiver::start().await.unwrap();
    let mut service = Quickstart::example("custom-metric-and-span")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.http_endpoint())
        .env("OTEL_BSP_SCHEDULE_DELAY", "20")
        .start()
        .await;
    let answer = service.get("/postage/700").await;
    assert_eq!(answer.json(), 430);
    service.get("/postage/7").await;

    let metrics = service.operator("/metrics").await.body;
    let line = |name: &str, label: &str, value: &str| {
        let found = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
        assert!(found.clone().any(|line| line.ends_with(value)), "{name} {label} {value} in\n{metrics}");
    };
    line("parcels_weighed_total{", "size=\"small\"", " 1");
    line("parcels_weighed_total{", "size=\"letter\"", " 1");
    line("parcels_weight_grams_bucket{", "le=\"20\"", " 1");
    line("parcels_weight_grams_sum", "", " 707");

    let trace_id = answer.header("x-trace-id");
    let spans = spans_of(&receiver, trace_id, 2).await;
    let (request, own) = (named(&spans, "GET /postage/{grams}"), named(&spans, "weigh"));
    assert_eq!(own.parent_span_id, Some(request.span_id), "the span is the request's child");
    assert_eq!(own.attributes["grams"], "700");
    let line = service.process.says("\"weighed\"").await;
    assert!(line.contains(trace_id) && line.contains("weigh"), "{line}");
    assert_eq!(service.terminate().await, 0);
}
