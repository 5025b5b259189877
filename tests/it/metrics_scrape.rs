//! The scrape as a whole: what the documentation promises, what Prometheus accepts, what goes out over OTLP.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use chassis::{
    Chassis,
    client::CallError,
    settings::NoSettings,
    tasks::Restart,
    testing::{OtlpReceiver, TestResponse, TestService},
};
use http::{Request, uri::PathAndQuery};
use opentelemetry::KeyValue;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use crate::support::{
    telemetry::{eventually, exporting, sample, talkative},
    telemetry_grpc::{call, channel},
};

/// The families of the reference page: the second column of its table.
fn documented() -> BTreeSet<String> {
    let page = chassis::telemetry::metrics::reference_markdown();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('|').nth(2).unwrap().trim().trim_matches('`').to_owned()).collect()
}

/// The families of a scrape.
fn scraped(scrape: &str) -> BTreeSet<String> {
    let types = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// Whether this process is in a control group that tells `family`: the root group and version 1 tell less.
fn is_told_by_the_control_group(family: &str) -> bool {
    let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(path) = membership.lines().find_map(|line| line.strip_prefix("0::/")) else { return false };
    let (mount, own) = (Path::new("/sys/fs/cgroup"), Path::new("/sys/fs/cgroup").join(path));
    let group = if own.is_dir() { own } else { mount.to_owned() };
    let tells =
        |file: &str, word: &str| std::fs::read_to_string(group.join(file)).is_ok_and(|text| text.contains(word));
    mount.join("cgroup.controllers").exists()
        && match family {
            "chassis_cgroup_memory_usage_bytes" => tells("memory.current", ""),
            "chassis_cgroup_memory_limit_bytes" => tells("memory.max", "") && !tells("memory.max", "max"),
            "chassis_cgroup_cpu_limit" => tells("cpu.max", "") && !tells("cpu.max", "max"),
            _ => tells("cpu.stat", "nr_periods"),
        }
}

#[chassis::client]
trait AwayApi {
    #[get("/")]
    #[fallback(nothing)]
    async fn something(&self) -> Result<(), CallError>;

    async fn nothing(&self) -> Result<(), CallError> {
        Ok(())
    }
}

/// A service that has a background task and has done a bit of everything.
async fn busy() -> TestService {
    let (send, clients) = std::sync::mpsc::sync_channel(1);
    let (leaders, leader) = std::sync::mpsc::sync_channel(1);
    let make = |chassis: Chassis<NoSettings>| {
        send.send((chassis.client("away").unwrap(), chassis.channel("away").unwrap())).unwrap();
        // It stands for it, without Consul in vain.
        leaders.send(chassis.leader("busy").unwrap()).unwrap();
        let meter = chassis.meter("busy");
        let broken = meter.u64_observable_gauge("busy.broken");
        broken.with_callback(|_| panic!("a callback of the test's")).build();
        talkative(chassis).background("idle", Restart::default(), |stop| async move {
            stop.cancelled().await;
            Ok::<(), Infallible>(())
        })
    };
    // Nobody listens there: what calls out come to is counted all the same.
    let builder = TestService::builder().set("clients.away.target", "static://127.0.0.1:1");
    let service = builder.start(make).await.unwrap();
    let (client, out) = clients.recv().unwrap();
    AwayApiClient::new(client).something().await.unwrap();
    drop(leader.recv().unwrap());
    let say = PathAndQuery::from_static("/talk.v1.Talk/Say");
    let mut grpc = Grpc::new(out);
    grpc.ready().await.unwrap();
    let codec: ProstCodec<(), ()> = ProstCodec::default();
    grpc.unary(tonic::Request::new(()), say, codec).await.unwrap_err();
    for path in ["/orders/7", "/fail/500", "/panic", "/nowhere", "/livez"] {
        service.get(path).await.unwrap();
    }
    let channel = channel(&service).await;
    call(&channel, "talk.v1.Talk/Say", 1, &[]).await.0.unwrap();
    call(&channel, "talk.v1.Talk/Fail", 13, &[]).await.0.unwrap_err();
    drop(channel);
    eventually("an ended connection", async || {
        service.metrics().await.unwrap().contains("chassis_connections_ended_total{").then_some(())
    })
    .await;
    service
}

async fn scrape(service: &TestService, accept: &str) -> TestResponse {
    let request = Request::get(format!("http://{}/metrics", service.admin())).header("accept", accept);
    service.send(request.body(String::new()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn every_documented_metric_is_in_a_live_scrape_and_nothing_else_of_ours() {
    let service = busy().await;
    let found = scraped(&service.metrics().await.unwrap());
    let documented = documented();
    let missing: Vec<_> = documented
        .difference(&found)
        .filter(|name| !name.starts_with("chassis_cgroup_") || is_told_by_the_control_group(name))
        .collect();
    assert!(missing.is_empty(), "documented and not scraped: {missing:#?}");
    let ours = ["chassis_", "http_", "rpc_", "process_"];
    let undocumented: Vec<_> =
        found.difference(&documented).filter(|name| ours.iter().any(|prefix| name.starts_with(prefix))).collect();
    assert!(undocumented.is_empty(), "scraped and not documented: {undocumented:#?}");
    service.stop().await.unwrap();
}

/// Every name that a user may choose badly.
fn name_badly(chassis: Chassis<NoSettings>) -> Chassis<NoSettings> {
    let (shop, store) = (chassis.meter("shop"), chassis.meter("store"));
    let attributes = ["le", "quantile", "otel_scope_name", "__name__", "a.b", "a_b"].map(|key| KeyValue::new(key, "x"));
    shop.f64_histogram("shop.took").with_unit("s").build().record(0.5, &attributes);
    for meter in [&shop, &store] {
        meter.u64_counter("jobs").build().add(1, &attributes);
        meter.u64_counter("jobs").build().add(1, &[KeyValue::new("empty", "")]);
    }
    shop.f64_histogram("jobs").build().record(1.0, &[]);
    shop.f64_gauge("jobs.total").build().record(1.0, &[]);
    shop.u64_gauge("shop.took.seconds.sum").build().record(1, &[]);
    shop.u64_gauge("target_info").build().record(1, &[]);
    shop.u64_gauge("chassis.build.info").build().record(1, &[]);
    shop.u64_gauge("http.server.request.duration").with_unit("s").build().record(1, &[]);
    chassis
}

#[tokio::test]
async fn names_that_collide_leave_a_scrape_that_is_read() {
    let service = TestService::start(name_badly).await.unwrap();
    let scrape = service.metrics().await.unwrap();
    // Lints of style are about names such as `jobs_total` for a histogram; what cannot be read is an error.
    let said = promtool(&scrape);
    assert!(!said.contains("error while linting"), "{said}\n{scrape}");
    assert_eq!(
        sample(&scrape, "shop_took_seconds_count", &["exported_le=\"x\"", "a_b=\"x;x\""]),
        Some(1.0),
        "{scrape}"
    );
    for meter in ["shop", "store"] {
        let label = format!("otel_scope_name=\"{meter}\"");
        assert_eq!(sample(&scrape, "jobs_total", &[&label, "exported___name__=\"x\""]), Some(1.0), "{scrape}");
    }
    assert!(sample(&scrape, "chassis_build_info", &["version"]).is_some(), "{scrape}");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_callback_that_panics_leaves_all_other_metrics() {
    let receiver = OtlpReceiver::start().await.unwrap();
    let make = |chassis: Chassis<NoSettings>| {
        let meters = [opentelemetry::global::meter("elsewhere"), chassis.meter("shop")];
        let broken = meters[0].u64_observable_gauge("broken.elsewhere");
        broken.with_callback(|_| panic!("a callback of the test's")).build();
        let broken = meters[1].u64_observable_gauge("broken");
        broken.with_callback(|_| panic!("a callback of the test's")).build();
        chassis
    };
    let builder = TestService::builder().export_to(&receiver).env("OTEL_METRIC_EXPORT_INTERVAL", "50");
    let service = builder.start(make).await.unwrap();
    for scrapes in 0..3 {
        let answer = scrape(&service, "text/plain").await;
        let text = answer.text();
        assert_eq!(answer.status, 200);
        assert!(sample(&text, "chassis_build_info", &["version"]).is_some(), "{text}");
        assert!(scrapes == 0 || sample(&text, "chassis_metrics_callback_panics_total", &["\"broken\""]) > Some(0.0));
    }
    eventually("the check", async || {
        let health = service.operator("/health").await.unwrap().json();
        (health["checks"]["panics"]["status"] == "degraded").then_some(())
    })
    .await;
    eventually("a push", async || {
        receiver.metrics().iter().any(|metric| metric.name == "chassis.build.info").then_some(())
    })
    .await;
    service.stop().await.unwrap();
}

#[tokio::test]
async fn promtool_finds_nothing_to_complain_of() {
    let service = busy().await;
    let said = promtool(&service.metrics().await.unwrap());
    assert_eq!(said, "");
    service.stop().await.unwrap();
}

/// What Prometheus' own checker says of a scrape.
fn promtool(scrape: &str) -> String {
    let program = std::env::var_os("XTASK_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let mut promtool = Command::new(&program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {program:?}: {error}; run `cargo xtask test`, which brings it"));
    // One that reads no more says why below.
    let _ = promtool.stdin.take().unwrap().write_all(scrape.as_bytes());
    let said = promtool.wait_with_output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    // Without a complaint it says nothing, and one that failed says at least how it ended.
    if said.status.success() || !text.trim().is_empty() { text.trim().to_owned() } else { said.status.to_string() }
}

#[tokio::test]
async fn the_reader_chooses_the_format() {
    const TEXT: &str = "text/plain; version=0.0.4";
    const OPEN: &str = "application/openmetrics-text; version=1.0.0";
    let service = busy().await;
    for (accept, expected) in [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain", TEXT),
        ("text/html", TEXT),
        ("application/openmetrics-text", OPEN),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", OPEN),
        ("application/openmetrics-text;q=0.1,text/plain;q=0.9", TEXT),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OPEN,
        ),
    ] {
        let answer = scrape(&service, accept).await;
        assert!(answer.header("content-type").starts_with(expected), "{accept}: {}", answer.header("content-type"));
        assert_eq!(answer.text().ends_with("# EOF\n"), expected == OPEN, "{accept}");
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn exemplars_lead_to_a_trace_that_was_exported() {
    let (service, receiver) = exporting(TestService::builder()).await;
    let trace_id = service.get("/trace").await.unwrap().header("x-trace-id").to_owned();
    let channel = channel(&service).await;
    let (_, call_trace_id) = call(&channel, "talk.v1.Talk/Say", 1, &[]).await;
    drop(channel);
    let open = eventually("the exemplars", async || {
        let open = scrape(&service, "application/openmetrics-text").await.text();
        (open.matches("trace_id=").count() >= 2).then_some(open)
    })
    .await;
    for (family, trace_id) in
        [("http_server_request_duration_seconds", &trace_id), ("rpc_server_call_duration_seconds", &call_trace_id)]
    {
        let lines: Vec<_> = open.lines().filter(|line| line.starts_with(family) && line.contains(" # {")).collect();
        assert_eq!(lines.len(), 1, "one request, one exemplar: {lines:#?}");
        assert!(lines[0].contains("_bucket{") && lines[0].contains(trace_id.as_str()), "{}", lines[0]);
        let span_id = lines[0].split("span_id=\"").nth(1).unwrap().split('"').next().unwrap();
        let exported = eventually("the span", async || {
            receiver.spans().into_iter().find(|span| span.span_id.to_string() == span_id)
        })
        .await;
        assert_eq!(exported.trace_id.to_string(), *trace_id);
    }
    assert!(!service.metrics().await.unwrap().contains("trace_id="), "the text format has no exemplars");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_not_sampled_is_no_exemplar() {
    let (service, _receiver) = exporting(TestService::builder().set("telemetry.sampling.ratio", 0)).await;
    service.get("/trace").await.unwrap();
    let open = scrape(&service, "application/openmetrics-text").await.text();
    assert!(open.contains("http_server_request_duration_seconds_count") && !open.contains("trace_id="), "{open}");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn the_same_metrics_go_out_over_otlp() {
    let (service, receiver) = exporting(TestService::builder().env("OTEL_METRIC_EXPORT_INTERVAL", "50")).await;
    service.get("/orders/7").await.unwrap();
    let found = scraped(&service.metrics().await.unwrap());
    service.stop().await.unwrap();
    let page = chassis::telemetry::metrics::reference_markdown();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let cell = |row: &str, at: usize| row.split('|').nth(at).unwrap().trim().trim_matches('`').to_owned();
    let pushed: BTreeSet<String> = receiver.metrics().into_iter().map(|metric| metric.name).collect();
    for (name, family) in rows.map(|row| (cell(row, 1), cell(row, 2))).filter(|(_, family)| found.contains(family)) {
        assert!(pushed.contains(&name), "{family} is scraped, {name} is not pushed: {pushed:#?}");
    }
    let metrics = receiver.metrics();
    let latest = metrics.iter().rev().find(|metric| metric.name == "http.server.request.duration").unwrap();
    assert_eq!((latest.unit.as_str(), latest.scope.as_str()), ("s", "chassis"));
    let point = &latest.points[0];
    assert_eq!((point.attributes["http.route"].as_str(), point.count), (Some("/orders/{id}"), 1));
    assert_eq!(point.bounds.first(), Some(&0.005));
}

#[tokio::test]
async fn the_services_own_instruments_are_in_the_scrape_and_go_out_over_otlp() {
    let receiver = OtlpReceiver::start().await.unwrap();
    let make = |chassis: Chassis<NoSettings>| {
        let meter = chassis.meter("shop");
        meter
            .u64_counter("shop.orders")
            .with_description("Orders placed.")
            .build()
            .add(3, &[KeyValue::new("kind", "gift")]);
        meter
            .f64_histogram("shop.payment.duration")
            .with_unit("s")
            .with_description("Payments.")
            .build()
            .record(0.003, &[]);
        let sizes = meter.u64_histogram("shop.basket").with_boundaries(vec![1.0, 10.0]).build();
        sizes.record(5, &[]);
        chassis
    };
    let service = TestService::builder().export_to(&receiver).start(make).await.unwrap();
    let scrape = service.metrics().await.unwrap();
    assert_eq!(sample(&scrape, "shop_orders_total", &["kind=\"gift\""]), Some(3.0), "{scrape}");
    assert!(scrape.contains("# HELP shop_orders_total Orders placed."), "{scrape}");
    assert_eq!(sample(&scrape, "shop_payment_duration_seconds_bucket", &["le=\"0.005\""]), Some(1.0), "{scrape}");
    assert_eq!(sample(&scrape, "shop_payment_duration_seconds_bucket", &["le=\"10\""]), Some(1.0));
    assert_eq!(sample(&scrape, "shop_basket_bucket", &["le=\"1\""]), Some(0.0));
    assert_eq!(sample(&scrape, "shop_basket_bucket", &["le=\"10\""]), Some(1.0));
    service.stop().await.unwrap();
    let metrics = receiver.metrics();
    let orders = metrics.iter().find(|metric| metric.name == "shop.orders").unwrap();
    assert_eq!((orders.scope.as_str(), orders.points[0].value), ("shop", 3.0));
}

#[tokio::test]
async fn configured_buckets_reach_the_scrape() {
    let path = crate::support::telemetry_process::scratch("buckets.toml");
    std::fs::write(&path, "[telemetry.metrics.buckets]\n\"http.server.request.duration\" = [0.1, 1.5]\n").unwrap();
    let service = TestService::builder().file(&path).start(talkative).await.unwrap();
    service.get("/trace").await.unwrap();
    let scrape = service.metrics().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let bounds = scrape.lines().filter(|line| line.starts_with("http_server_request_duration_seconds_bucket"));
    assert_eq!(bounds.count(), 3, "{scrape}");
    assert!(sample(&scrape, "http_server_request_duration_seconds_bucket", &["le=\"1.5\""]).is_some(), "{scrape}");
    service.stop().await.unwrap();
}
