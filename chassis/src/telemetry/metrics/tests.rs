#![allow(clippy::unwrap_used)]

use std::thread;

use http::{HeaderValue, Method, Version};
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        PeriodicReader, Temporality,
        data::{AggregatedMetrics, MetricData, ResourceMetrics},
        exporter::PushMetricExporter,
    },
};
use tonic::Code;

use super::{
    names::{HTTP_SERVER_REQUEST_DURATION, METRICS},
    *,
};
use crate::identity::BuildInfo;

pub(crate) fn identity() -> Identity {
    let build =
        BuildInfo { name: "orders", version: "1.2.3", git_commit: Some("abc1234"), built_at: "2026-11-21T00:00:00Z" };
    Identity {
        service: "orders".to_owned(),
        version: "1.2.3".to_owned(),
        instance_id: "one".to_owned(),
        environment: "test".to_owned(),
        build,
    }
}

pub(super) fn metrics_with(
    config: MetricsConfig,
    readers: impl FnOnce(MeterProviderBuilder) -> MeterProviderBuilder,
) -> Metrics {
    let resource = Resource::builder_empty().with_service_name("orders").build();
    Metrics::new(config, resource, &identity(), readers).unwrap()
}

pub(super) fn metrics() -> Metrics {
    metrics_with(MetricsConfig::default(), |builder| builder)
}

pub(super) fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render(None).unwrap().1.to_vec()).unwrap()
}

pub(super) fn open_metrics(metrics: &Metrics) -> String {
    let accept = HeaderValue::from_static("application/openmetrics-text");
    String::from_utf8(metrics.render(Some(&accept)).unwrap().1.to_vec()).unwrap()
}

/// The value of the only line that starts so and contains all of these labels.
pub(super) fn sample(scrape: &str, name: &str, labels: &[&str]) -> f64 {
    let found: Vec<_> = scrape
        .lines()
        .filter(|line| line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| line.contains(label)))
        .collect();
    assert_eq!(found.len(), 1, "{name} {labels:?} in\n{scrape}");
    found[0].split('}').next_back().unwrap().split(' ').next_back().unwrap().parse().unwrap()
}

pub(super) fn series(scrape: &str, name: &str) -> usize {
    scrape.lines().filter(|line| line.split(['{', ' ']).next() == Some(name)).count()
}

/// A destination of which everything is counted.
fn levels() -> ClientLevels {
    ClientLevels {
        forced: std::time::Duration::from_secs(300),
        destination: "inventory".into(),
        active: 3,
        queued: 1,
        endpoints: vec![("closed", 2), ("unreachable", 1)],
        stale: true,
        refused: vec![("circuit_open", 5)],
        retries: vec![("failed", 4)],
        retries_held_back: vec![("circuit_open", 3)],
        budget_exhausted: vec![("retry", 2), ("hedge", 1)],
        hedges: vec![("won", 1), ("lost", 2), ("held_back", 5)],
        fallbacks: vec![("GET /items/{id}".into(), "circuit_open", 1)],
        transitions: vec![("open", 1)],
    }
}

/// Uses every metric of the table once, so that a scrape shows all of them.
fn everything(runtime: &tokio::runtime::Handle) -> (Metrics, cgroup::tests::Fake) {
    let metrics = metrics();
    let server = metrics.server(Scheme::Http);
    let route = server.http_series("/orders/{id}", &Method::GET);
    drop(server.enter(&Method::GET));
    route.record(200, Version::HTTP_11, None, 0.003);
    route.record_sampled(503, Version::HTTP_2, Some("draining"), 0.3, (TraceId::from(7), SpanId::from(9)));
    let method = server.rpc_series("/orders.v1.Orders/GetOrder");
    method.record(Code::Ok, None, 0.003);
    method.record(Code::Unavailable, Some("draining"), 0.003);
    let client = metrics.client();
    client.calls("inventory", "GET /items/{id}").record("success", 0.004, None);
    let attempts = client.http_attempts("inventory", Some(8080), "GET");
    attempts.record(200, Version::HTTP_11, None, 0.003, None);
    attempts.record(0, Version::HTTP_11, Some("unreachable"), 0.3, Some((TraceId::from(7), SpanId::from(9))));
    client.rpc_attempts("inventory", Some(8080), "inventory.v1.Inventory/Reserve").record(
        Code::Unavailable,
        None,
        0.003,
        None,
    );
    metrics.observe_clients(|| vec![levels()]);
    metrics.observe_gauge(&names::REGISTRATION_REGISTERED, || vec![(Labels::new(), 1.0)]);
    metrics.observe_counter(&names::REGISTRATION_CALLS, || {
        vec![(vec![KeyValue::new(attribute::OUTCOME, "succeeded")], 1)]
    });
    let _open = metrics.connections("main").accept();
    metrics.connections("main").ended("closed");
    metrics.reject(Cause::Draining);
    metrics.observe_counter(&names::BACKGROUND_RESTARTS, || vec![(vec![KeyValue::new(attribute::TASK, "poller")], 1)]);
    metrics.observe_gauge(&names::LEADER, || vec![(vec![KeyValue::new(attribute::LEADER_NAME, "billing")], 1.0)]);
    metrics.observe_counter(&names::PANICS, || vec![(Labels::new(), 2)]);
    metrics.config_reloaded(true);
    metrics.observe_runtime(runtime);
    metrics.observe_bulkheads(|| vec![("orders::Orders::place".to_owned(), 1, 2)]);
    metrics.observe_health(|| vec![("store".to_owned(), "degraded")]);
    metrics.observe_gauge(&names::LOG_FILTER_OVERRIDE, || vec![(vec![], 0.0)]);
    metrics.observe_counter(&names::LOG_DROPPED_LINES, || vec![(vec![KeyValue::new(attribute::STREAM, "log")], 3)]);
    metrics.observe_counter(&names::TELEMETRY_EXPORTED_SPANS, || vec![(Labels::new(), 5)]);
    metrics.observe_counter(&names::TELEMETRY_DROPPED_SPANS, || {
        vec![(vec![KeyValue::new(attribute::REASON, "queue_full")], 4)]
    });
    metrics.meter("orders").u64_observable_gauge("broken").with_callback(|_| panic!("for the count")).build();
    text(&metrics);
    let group = cgroup::tests::Fake::limited();
    group.find("0::/pod\n").unwrap().observe(&metrics);
    // The group's files are read at collection, so they go to the caller.
    (metrics, group)
}

#[test]
fn a_request_of_3_ms_lands_in_the_bucket_of_5_ms() {
    let metrics = metrics();
    metrics.server(Scheme::Http).http_series("/orders/{id}", &Method::GET).record(200, Version::HTTP_11, None, 0.003);
    let scrape = text(&metrics);
    let bucket = |bound: &str| {
        sample(
            &scrape,
            "http_server_request_duration_seconds_bucket",
            &[&format!("le=\"{bound}\""), "http_route=\"/orders/{id}\""],
        )
    };
    assert_eq!((bucket("0.005"), bucket("+Inf")), (1.0, 1.0));
    let bounds = series(&scrape, "http_server_request_duration_seconds_bucket");
    assert_eq!(bounds, names::SECONDS_BUCKETS.len() + 1);
}

#[test]
fn configured_buckets_reach_the_scrape() {
    let buckets = [(HTTP_SERVER_REQUEST_DURATION.name.to_owned(), vec![0.001, 0.002])].into();
    let metrics = metrics_with(MetricsConfig { buckets, ..MetricsConfig::default() }, |builder| builder);
    metrics.server(Scheme::Http).http_series("/", &Method::GET).record(200, Version::HTTP_11, None, 0.0015);
    let scrape = text(&metrics);
    assert_eq!(sample(&scrape, "http_server_request_duration_seconds_bucket", &["le=\"0.002\""]), 1.0);
    assert_eq!(series(&scrape, "http_server_request_duration_seconds_bucket"), 3);
}

#[test]
fn boundaries_that_do_not_rise_are_refused() {
    for bounds in [vec![], vec![1.0, 1.0], vec![2.0, 1.0], vec![f64::NAN], vec![1.0, f64::INFINITY]] {
        let config = MetricsConfig { buckets: [("x".to_owned(), bounds)].into(), ..MetricsConfig::default() };
        let error =
            Metrics::new(config, Resource::builder_empty().build(), &identity(), |builder| builder).unwrap_err();
        assert!(error.to_string().starts_with("telemetry.metrics.buckets.x: found"), "{error}");
    }
}

#[test]
fn instruments_of_the_service_get_buckets_by_their_unit() {
    let metrics = metrics();
    let meter = metrics.meter("orders");
    meter.f64_histogram("store.time").with_unit("s").build().record(0.003, &[]);
    meter.f64_histogram("basket.size").with_unit("{item}").with_boundaries(vec![1.0, 2.0]).build().record(1.5, &[]);
    let scrape = text(&metrics);
    assert_eq!(sample(&scrape, "store_time_seconds_bucket", &["le=\"0.005\""]), 1.0);
    assert_eq!(sample(&scrape, "basket_size_bucket", &["le=\"2\""]), 1.0);
    assert_eq!(series(&scrape, "basket_size_bucket"), 3);
}

#[test]
fn ten_thousand_unknown_paths_add_one_series() {
    let metrics = metrics();
    let server = metrics.server(Scheme::Http);
    for _path in 0..10_000 {
        server.unmatched(&Method::GET).record(404, Version::HTTP_11, Some("not_found"), 0.001);
    }
    let scrape = text(&metrics);
    assert_eq!(series(&scrape, "http_server_request_duration_seconds_count"), 1);
    assert_eq!(sample(&scrape, "http_server_request_duration_seconds_count", &["http_route=\"unmatched\""]), 10_000.0);
}

#[test]
fn unknown_methods_share_one_series() {
    let metrics = metrics();
    let server = metrics.server(Scheme::Https);
    for n in 0..1_000 {
        let method = Method::from_bytes(format!("SCAN{n}").as_bytes()).unwrap();
        server.unmatched(&method).record(405, Version::HTTP_2, None, 0.001);
    }
    let labels = ["http_request_method=\"_OTHER\"", "url_scheme=\"https\"", "network_protocol_version=\"2\""];
    assert_eq!(sample(&text(&metrics), "http_server_request_duration_seconds_count", &labels), 1_000.0);
}

#[test]
fn a_method_is_known_by_its_exact_name_only() {
    for name in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "QUERY"] {
        assert_eq!(server::method_label(&Method::from_bytes(name.as_bytes()).unwrap()), name);
    }
    assert_eq!(server::method_label(&Method::from_bytes(b"get").unwrap()), "_OTHER");
}

#[test]
fn more_statuses_than_the_list_holds_are_still_counted() {
    let metrics = metrics();
    let route = metrics.server(Scheme::Http).http_series("/", &Method::GET);
    for _ in 0..2 {
        for status in 200..400 {
            route.record(status, Version::HTTP_11, None, 0.001);
        }
    }
    let scrape = text(&metrics);
    assert_eq!(series(&scrape, "http_server_request_duration_seconds_count"), 200);
    assert_eq!(sample(&scrape, "http_server_request_duration_seconds_count", &["code=\"399\""]), 2.0);
}

#[test]
fn series_past_the_limit_share_the_overflow_series() {
    let config = MetricsConfig { cardinality_limit: 10, ..MetricsConfig::default() };
    let metrics = metrics_with(config, |builder| builder);
    let server = metrics.server(Scheme::Http);
    for n in 0..30 {
        server.http_series(&format!("/{n}"), &Method::GET).record(200, Version::HTTP_11, None, 0.001);
    }
    let scrape = text(&metrics);
    assert_eq!(series(&scrape, "http_server_request_duration_seconds_count"), 11);
    assert_eq!(sample(&scrape, "http_server_request_duration_seconds_count", &["otel_metric_overflow"]), 20.0);
}

#[test]
fn the_error_type_is_the_word_of_the_refusal_or_the_status() {
    let metrics = metrics();
    let route = metrics.server(Scheme::Http).http_series("/", &Method::GET);
    route.record(200, Version::HTTP_11, None, 0.001);
    route.record(404, Version::HTTP_11, None, 0.001);
    route.record(429, Version::HTTP_11, Some("rate_limited"), 0.001);
    route.record(502, Version::HTTP_11, None, 0.001);
    let scrape = text(&metrics);
    let count = |labels: &[&str]| sample(&scrape, "http_server_request_duration_seconds_count", labels);
    assert_eq!(count(&["code=\"429\"", "error_type=\"rate_limited\""]), 1.0);
    assert_eq!(count(&["code=\"502\"", "error_type=\"502\""]), 1.0);
    let without =
        scrape.lines().filter(|line| line.contains("duration_seconds_count{") && !line.contains("error_type"));
    assert_eq!(without.count(), 2);
}

#[test]
fn only_a_failure_of_the_server_is_an_rpc_error() {
    let metrics = metrics();
    let method = metrics.server(Scheme::Http).rpc_series("/orders.v1.Orders/GetOrder");
    method.record(Code::NotFound, Some("not_found"), 0.001);
    method.record(Code::Unavailable, Some("draining"), 0.001);
    method.record(Code::Internal, None, 0.001);
    let scrape = text(&metrics);
    let count = |labels: &[&str]| sample(&scrape, "rpc_server_call_duration_seconds_count", labels);
    let method = "rpc_method=\"orders.v1.Orders/GetOrder\"";
    assert_eq!(count(&[method, "rpc_response_status_code=\"UNAVAILABLE\"", "error_type=\"draining\""]), 1.0);
    assert_eq!(count(&["rpc_response_status_code=\"INTERNAL\"", "error_type=\"INTERNAL\""]), 1.0);
    let not_found = scrape.lines().find(|line| line.contains("_count{") && line.contains("NOT_FOUND")).unwrap();
    assert!(!not_found.contains("error_type"), "{not_found}");
}

#[test]
fn requests_in_flight_end_with_their_guard() {
    let metrics = metrics();
    let server = metrics.server(Scheme::Http);
    let active = |method: &str| {
        sample(&text(&metrics), "http_server_active_requests", &[&format!("http_request_method=\"{method}\"")])
    };
    let mut guards: Vec<InFlight> = (0..5).map(|_| server.enter(&Method::GET)).collect();
    let call = server.enter(&Method::POST);
    assert_eq!((active("GET"), active("POST")), (5.0, 1.0));
    guards.truncate(2);
    drop(call);
    assert_eq!((active("GET"), active("POST")), (2.0, 0.0));
    // A guard may end on another thread than the one it began on.
    thread::spawn(move || drop(guards)).join().unwrap();
    assert_eq!(active("GET"), 0.0);
}

#[test]
fn an_aborted_request_is_no_longer_in_flight() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let metrics = metrics();
    let server = metrics.server(Scheme::Http);
    let active = |metrics: &Metrics| sample(&text(metrics), "http_server_active_requests", &["GET"]);
    runtime.block_on(async {
        let guard = server.enter(&Method::GET);
        let request = tokio::spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        assert_eq!(active(&metrics), 1.0);
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
    });
    assert_eq!(active(&metrics), 0.0);
}

#[test]
fn threads_that_meet_new_series_at_once_lose_no_request() {
    let metrics = metrics();
    let route = metrics.server(Scheme::Http).http_series("/", &Method::GET);
    thread::scope(|scope| {
        for offset in 0..4u16 {
            let route = &route;
            scope.spawn(move || {
                for n in 0..400 {
                    route.record(200 + (n + offset * 10) % 40, Version::HTTP_11, None, 0.001);
                }
            });
        }
    });
    let scrape = text(&metrics);
    let counts = scrape.lines().filter(|line| line.starts_with("http_server_request_duration_seconds_count{"));
    let counts: Vec<u32> = counts.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(counts, vec![40; 40]);
}

#[test]
fn connections_are_counted_per_listener() {
    let metrics = metrics();
    let (main, admin) = (metrics.connections("main"), metrics.connections("admin"));
    let open = (main.accept(), metrics.connections("main").accept(), admin.accept());
    admin.ended("idle");
    drop(open.0);
    let scrape = text(&metrics);
    assert_eq!(sample(&scrape, "chassis_connections_active", &["listener=\"main\""]), 1.0);
    assert_eq!(sample(&scrape, "chassis_connections_accepted_total", &["listener=\"main\""]), 2.0);
    assert_eq!(sample(&scrape, "chassis_connections_ended_total", &["listener=\"admin\"", "reason=\"idle\""]), 1.0);
}

#[test]
fn every_cause_counts_for_itself_from_zero() {
    let metrics = metrics();
    for (place, cause) in Cause::ALL.into_iter().enumerate() {
        (0..place).for_each(|_| metrics.reject(cause));
    }
    let scrape = text(&metrics);
    for (place, cause) in Cause::ALL.into_iter().enumerate() {
        let label = format!("cause=\"{}\"", cause.as_str());
        assert_eq!(sample(&scrape, "chassis_rejections_total", &[&label]), place as f64);
    }
}

#[test]
fn a_check_has_exactly_one_status() {
    let metrics = metrics();
    metrics.observe_health(|| vec![("store".to_owned(), "down"), ("config".to_owned(), "up")]);
    let scrape = text(&metrics);
    assert_eq!(sample(&scrape, "chassis_health_check_status", &["check=\"store\"", "status=\"down\""]), 1.0);
    assert_eq!(sample(&scrape, "chassis_health_check_status", &["check=\"store\"", "status=\"up\""]), 0.0);
    assert_eq!(series(&scrape, "chassis_health_check_status"), 8);
}

#[test]
fn labels_are_escaped_in_both_formats() {
    let metrics = metrics();
    let labels = vec![KeyValue::new(attribute::TASK, "a\"b\\c\nd")];
    metrics.observe_counter(&names::BACKGROUND_RESTARTS, move || vec![(labels.clone(), 1)]);
    for scrape in [text(&metrics), open_metrics(&metrics)] {
        assert!(scrape.contains("chassis_background_restarts_total{task=\"a\\\"b\\\\c\\nd\"} 1\n"), "{scrape}");
    }
}

#[test]
fn open_metrics_is_what_its_specification_says() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (metrics, _group) = everything(runtime.handle());
    let scrape = open_metrics(&metrics);
    assert!(scrape.ends_with("\n# EOF\n"));
    assert!(scrape.contains("# TYPE chassis_rejections counter\n"));
    assert!(scrape.contains("\nchassis_rejections_total{cause=\"draining\"} 1\n"));
    assert!(scrape.contains("# UNIT process_cpu_time_seconds seconds\n"));
    assert!(scrape.contains("# TYPE target info\n"));
    assert!(scrape.contains("\ntarget_info{service_name=\"orders\"} 1\n"));
    assert!(scrape.contains("# TYPE chassis_build info\n"));
    let mut families = std::collections::HashSet::new();
    for line in scrape.lines() {
        assert!(!line.is_empty());
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} twice");
            assert!(!(kind == "counter" && name.ends_with("_total")), "{name}");
        }
    }
    let bucket = |bound: &str| format!("le=\"{bound}\"}} ");
    assert!(scrape.contains(&bucket("1.0")) && scrape.contains(&bucket("+Inf")) && !scrape.contains(&bucket("1")));
}

#[test]
fn a_sampled_request_is_the_exemplar_of_its_bucket() {
    let metrics = metrics();
    let route = metrics.server(Scheme::Http).http_series("/orders/{id}", &Method::GET);
    route.record(200, Version::HTTP_11, None, 0.003);
    route.record_sampled(200, Version::HTTP_11, None, 0.3, (TraceId::from(0xabc), SpanId::from(0xdef)));
    route.record_sampled(200, Version::HTTP_11, None, 30.0, (TraceId::from(0x123), SpanId::from(0xdef)));
    let scrape = open_metrics(&metrics);
    let exemplars: Vec<_> = scrape.lines().filter(|line| line.contains(" # {")).collect();
    assert_eq!(exemplars.len(), 2, "{scrape}");
    let abc = " # {trace_id=\"00000000000000000000000000000abc\",span_id=\"0000000000000def\"} 0.3 ";
    assert!(exemplars[0].contains("le=\"0.5\"} 2") && exemplars[0].contains(abc), "{exemplars:?}");
    assert!(exemplars[1].contains("le=\"+Inf\"} 3"), "{exemplars:?}");
    assert!(!text(&metrics).contains(" # {"));
}

#[test]
fn every_documented_metric_is_found_in_a_scrape_and_no_other() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (metrics, _group) = everything(runtime.handle());
    let scrape = text(&metrics);
    let mut found: Vec<_> = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let mut expected: Vec<_> = METRICS.iter().map(MetricDoc::scrape_name).chain(["target_info".to_owned()]).collect();
    // The request in flight has ended: its series stays, at 0.
    assert_eq!(sample(&scrape, "http_server_active_requests", &["GET"]), 0.0);
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for metric in METRICS {
        assert!(scrape.contains(&format!("# HELP {} {}\n", metric.scrape_name(), metric.help)), "{}", metric.name);
    }
}

#[test]
fn every_attribute_of_a_series_is_documented() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (metrics, _group) = everything(runtime.handle());
    let scrape = text(&metrics);
    for metric in METRICS {
        let name = metric.scrape_name();
        let lines = scrape
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name}_count{{")));
        let mut shown: Vec<String> = lines
            .flat_map(|line| line.split_once('{').unwrap().1.rsplit_once('}').unwrap().0.split("\","))
            .map(|label| label.split_once('=').unwrap().0.to_owned())
            .collect();
        shown.sort_unstable();
        shown.dedup();
        let mut documented: Vec<_> = metric.attributes.iter().map(|attribute| attribute.replace('.', "_")).collect();
        documented.sort_unstable();
        assert_eq!(shown, documented, "{name}");
    }
}

/// Keeps the total of each pushed histogram and counter.
#[derive(Clone, Default)]
pub(super) struct Pushed(pub(super) Arc<Mutex<BTreeMap<String, u64>>>);

impl PushMetricExporter for Pushed {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
            let total = match metric.data() {
                AggregatedMetrics::F64(MetricData::Histogram(data)) => {
                    data.data_points().map(|point| point.count()).sum()
                }
                AggregatedMetrics::U64(MetricData::Sum(data)) => data.data_points().map(|point| point.value()).sum(),
                _ => continue,
            };
            self.0.lock().unwrap().insert(metric.name().to_owned(), total);
        }
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: std::time::Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

#[test]
fn two_readers_see_the_same_values() {
    let pushed = Pushed::default();
    let reader = PeriodicReader::builder(pushed.clone()).build();
    let metrics = metrics_with(MetricsConfig::default(), |builder| builder.with_reader(reader));
    let route = metrics.server(Scheme::Http).http_series("/", &Method::GET);
    (0..3).for_each(|_| route.record(200, Version::HTTP_11, None, 0.003));
    metrics.reject(Cause::Overloaded);
    let before = text(&metrics);
    metrics.sdk_provider().force_flush().unwrap();
    for scrape in [before, text(&metrics)] {
        let pushed = pushed.0.lock().unwrap();
        assert_eq!(pushed["http.server.request.duration"], 3);
        assert_eq!(sample(&scrape, "http_server_request_duration_seconds_count", &[]), 3.0);
        assert_eq!(pushed["chassis.rejections"], 1);
        assert_eq!(sample(&scrape, "chassis_rejections_total", &["overloaded"]), 1.0);
    }
}

#[test]
fn what_a_destination_counts_is_in_the_scrape_under_its_name() {
    let metrics = metrics();
    metrics.observe_clients(|| vec![levels()]);
    let scrape = text(&metrics);
    let of = |name: &str, label: &str| sample(&scrape, name, &["destination=\"inventory\"", label]);
    assert_eq!((of("chassis_client_active", ""), of("chassis_client_queued", "")), (3.0, 1.0));
    assert_eq!(of("chassis_client_endpoints", "state=\"closed\""), 2.0);
    assert_eq!(of("chassis_client_endpoints", "state=\"unreachable\""), 1.0);
    assert_eq!(of("chassis_client_endpoints", "state=\"half_open\""), 0.0, "a state without endpoints is there, too");
    assert_eq!(of("chassis_client_refused_total", "cause=\"circuit_open\""), 5.0);
    assert_eq!(of("chassis_client_retries_total", "reason=\"failed\""), 4.0);
    assert_eq!(of("chassis_client_retries_held_back_total", "cause=\"circuit_open\""), 3.0);
    assert_eq!(of("chassis_client_retry_budget_exhausted_total", "attempt=\"retry\""), 2.0);
    assert_eq!(of("chassis_client_hedges_total", "outcome=\"lost\""), 2.0);
    assert_eq!(of("chassis_client_breaker_transitions_total", "state=\"open\""), 1.0);
    assert_eq!(of("chassis_discovery_stale", ""), 1.0);
}

#[test]
fn an_attempt_is_an_error_from_400_on_and_with_any_code_but_ok() {
    let metrics = metrics();
    let client = metrics.client();
    let http = client.http_attempts("inventory", None, "GET");
    for status in [200, 399, 404, 503] {
        http.record(status, Version::HTTP_2, None, 0.003, None);
    }
    http.record(0, Version::HTTP_11, Some("timed_out"), 0.003, None);
    let rpc = client.rpc_attempts("inventory", None, "inventory.v1.Inventory/Reserve");
    for code in [Code::Ok, Code::NotFound] {
        rpc.record(code, None, 0.003, None);
    }
    rpc.record(Code::DeadlineExceeded, Some("timed_out"), 0.003, None);
    let scrape = text(&metrics);
    let error = |family: &str, label: &str| {
        let found =
            scrape.lines().find(|line| line.starts_with(&format!("{family}_seconds_count{{")) && line.contains(label));
        let line = found.unwrap_or_else(|| panic!("{label} in\n{scrape}"));
        line.split("error_type=\"").nth(1).map(|rest| rest.split('"').next().unwrap().to_owned())
    };
    let of_status = |status: &str| error("http_client_request_duration", &format!("status_code=\"{status}\""));
    assert_eq!([of_status("200"), of_status("399")], [None, None]);
    assert_eq!([of_status("404"), of_status("503")].map(Option::unwrap), ["404", "503"]);
    assert_eq!(error("http_client_request_duration", "timed_out").unwrap(), "timed_out");
    let of_code = |code: &str| error("rpc_client_call_duration", &format!("status_code=\"{code}\""));
    assert_eq!((of_code("OK"), of_code("NOT_FOUND").unwrap()), (None, "NOT_FOUND".to_owned()));
    assert_eq!(of_code("DEADLINE_EXCEEDED").unwrap(), "timed_out");
}

#[test]
fn a_second_scrape_shows_the_same_series() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (metrics, _group) = everything(runtime.handle());
    let lines = || text(&metrics).lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(), lines());
}

/// By hand: `cargo test -p chassis-rs --lib telemetry::metrics -- --ignored promtool --nocapture`. Needs `promtool`
/// (Debian package `prometheus`).
#[test]
#[ignore = "needs promtool"]
fn promtool_finds_nothing_to_say() {
    use std::{io::Write, process::*};
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (metrics, _group) = everything(runtime.handle());
    let mut promtool = Command::new("promtool");
    let promtool =
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool should be installed");
    promtool.stdin.take().unwrap().write_all(text(&metrics).as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}
