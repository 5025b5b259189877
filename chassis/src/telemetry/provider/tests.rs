#![allow(clippy::unwrap_used)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Instant, SystemTime},
};

use opentelemetry::{
    KeyValue,
    metrics::MeterProvider,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId},
};
use opentelemetry_sdk::trace::Sampler;
use tokio::{net::TcpListener, time::timeout};
use tracing_subscriber::prelude::*;

use super::*;
use crate::{
    identity::BuildInfo,
    telemetry::sampling::{SamplerKind, SamplingConfig},
    testing::OtlpReceiver,
};

/// Longer than anything here takes; only a broken promise waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// An export that is given up only after twice that time, in milliseconds: whatever comes before did not wait for one.
const LONG_EXPORT: (&str, &str) = ("OTEL_EXPORTER_OTLP_TIMEOUT", "120000");
const LONG_BATCH: (&str, &str) = ("OTEL_BSP_EXPORT_TIMEOUT", "120000");
const PROTOCOLS: [&str; 2] = ["grpc", "http/protobuf"];

fn identity() -> Identity {
    Identity {
        service: "orders".to_owned(),
        version: "1.2.3".to_owned(),
        instance_id: "a-1".to_owned(),
        environment: "test".to_owned(),
        build: BuildInfo { name: "orders", version: "1.2.3", git_commit: None, built_at: "" },
    }
}

fn providers_with(endpoint: &str, protocol: &str, more: &[(&str, &str)], sampler: Sampler) -> Providers {
    let fixed = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
    let env: Vec<_> = fixed.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let settings = OtlpSettings::from_env(&env).unwrap();
    // The environment has its say in the identity first, as in a service.
    Providers::new(&settings, &settings.resource.identify(identity()), sampler).unwrap()
}

fn providers(endpoint: &str, protocol: &str, more: &[(&str, &str)]) -> Providers {
    providers_with(endpoint, protocol, more, Sampler::AlwaysOn)
}

fn request_context(flags: TraceFlags) -> SpanContext {
    SpanContext::new(TraceId::from(7), SpanId::from(9), flags, false, Default::default())
}

fn server_span() -> SpanData {
    let now = SystemTime::now();
    SpanData {
        span_context: request_context(TraceFlags::SAMPLED),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Server,
        name: "GET /orders/{id}".into(),
        start_time: now,
        end_time: now,
        attributes: vec![KeyValue::new("http.response.status_code", 503)],
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status: Status::error("overloaded"),
        instrumentation_scope: scope(),
    }
}

/// Accepts connections and never says a word.
async fn silent_listener() -> (SocketAddr, tokio_util::task::AbortOnDropHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let held = tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            streams.push(stream);
        }
    });
    (address, tokio_util::task::AbortOnDropHandle::new(held))
}

async fn closed_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

async fn last_span_arrives_when_shut_down_at_once() {
    for protocol in PROTOCOLS {
        let receiver = OtlpReceiver::start().await.unwrap();
        let providers = providers(&receiver.http_endpoint(), protocol, &[]);
        providers.sink().export(server_span());

        assert!(providers.shutdown(PATIENCE).await, "{protocol}");

        let spans = receiver.spans();
        assert_eq!(spans.len(), 1, "{protocol}");
        let span = &spans[0];
        assert_eq!((span.name.as_str(), &span.kind), ("GET /orders/{id}", &SpanKind::Server));
        assert_eq!((span.trace_id, span.span_id, span.parent_span_id), (TraceId::from(7), SpanId::from(9), None));
        assert_eq!(span.attributes["http.response.status_code"], 503);
        assert_eq!(span.status, Status::error("overloaded"));
        assert_eq!(span.scope, "chassis");
        assert_eq!(providers.sink().counts().unwrap().exported(), 1);
    }
}

#[tokio::test]
async fn last_span_arrives_from_a_single_threaded_runtime() {
    last_span_arrives_when_shut_down_at_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_span_arrives_from_a_multi_threaded_runtime() {
    last_span_arrives_when_shut_down_at_once().await;
}

#[tokio::test]
async fn a_full_batch_is_sent_without_being_asked() {
    for protocol in PROTOCOLS {
        let receiver = OtlpReceiver::start().await.unwrap();
        let batch = [("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2"), ("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
        let providers = providers(&receiver.http_endpoint(), protocol, &batch);
        providers.sink().export(server_span());
        providers.sink().export(server_span());
        assert_eq!(receiver.wait_for_spans(2, PATIENCE).await.len(), 2, "{protocol}");
    }
}

#[tokio::test]
async fn silent_receiver_costs_bounded_memory_and_time() {
    const QUEUE: usize = 8;
    const SPANS: u64 = 1_000;
    for protocol in PROTOCOLS {
        let (address, _held) = silent_listener().await;
        let providers = providers(
            &format!("http://{address}"),
            protocol,
            &[("OTEL_BSP_MAX_QUEUE_SIZE", "8"), ("OTEL_BSP_SCHEDULE_DELAY", "1"), LONG_EXPORT, LONG_BATCH],
        );
        let started = Instant::now();
        for _ in 0..SPANS {
            providers.sink().export(server_span());
            assert!(providers.sink().counts().unwrap().queued() <= QUEUE);
        }
        // One batch may be on its way, one more queue may wait; nothing blocked to get there.
        let counts = providers.sink().counts().unwrap();
        assert!(counts.dropped() >= SPANS - 2 * QUEUE as u64, "{protocol}: {counts:?}");
        assert!(started.elapsed() < PATIENCE, "{protocol}");

        let shutdown = providers.shutdown(Duration::from_millis(100));
        assert!(!timeout(PATIENCE, shutdown).await.expect("it ends at its deadline"), "{protocol}");
        assert_eq!(counts.exported(), 0);
    }
}

#[tokio::test]
async fn closed_port_loses_spans_and_says_so() {
    for protocol in PROTOCOLS {
        let providers = providers(&format!("http://{}", closed_port().await), protocol, &[]);
        providers.sink().export(server_span());
        let started = Instant::now();
        assert!(!providers.shutdown(PATIENCE).await, "{protocol}");
        assert!(started.elapsed() < PATIENCE, "{protocol}");
        let counts = providers.sink().counts().unwrap();
        assert_eq!((counts.exported(), counts.failed(), counts.queued()), (0, 1, 0), "{protocol}");
    }
}

#[tokio::test]
async fn a_span_after_shutdown_is_counted_as_dropped() {
    let receiver = OtlpReceiver::start().await.unwrap();
    let providers = providers(&receiver.grpc_endpoint(), "grpc", &[]);
    assert!(providers.shutdown(PATIENCE).await);
    providers.sink().export(server_span());
    assert_eq!(providers.sink().counts().unwrap().dropped(), 1);
    assert!(receiver.spans().is_empty());
}

#[tokio::test]
async fn one_export_takes_no_longer_than_its_limit() {
    for protocol in PROTOCOLS {
        let (address, _held) = silent_listener().await;
        let limits = [("OTEL_BSP_EXPORT_TIMEOUT", "50"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000")];
        let providers = providers(&format!("http://{address}"), protocol, &limits);
        providers.sink().export(server_span());
        let started = Instant::now();
        assert!(!providers.shutdown(PATIENCE).await, "{protocol}");
        assert!(started.elapsed() < PATIENCE, "{protocol}");
        assert_eq!(providers.sink().counts().unwrap().failed(), 1, "{protocol}");
    }
}

#[tokio::test]
async fn dropped_without_shutdown_returns_at_once() {
    for protocol in PROTOCOLS {
        let (address, _held) = silent_listener().await;
        let providers = providers(&format!("http://{address}"), protocol, &[LONG_EXPORT, LONG_BATCH]);
        providers.sink().export(server_span());
        let started = Instant::now();
        drop(providers);
        assert!(started.elapsed() < PATIENCE, "{protocol}: {:?}", started.elapsed());
    }
}

#[test]
fn nothing_is_set_up_without_an_endpoint() {
    // Outside of a runtime: nothing that could run may need one.
    let settings = OtlpSettings::from_env(&[]).unwrap();
    let providers = Providers::new(&settings, &identity(), Sampler::AlwaysOn).unwrap();
    assert!(!providers.sink().is_enabled());
    assert!(providers.tracer_provider().is_none());
    assert!(providers.metric_reader().unwrap().is_none());
    assert!(providers.tracing_layer::<tracing_subscriber::Registry>().is_none());
}

#[test]
fn export_outside_of_a_runtime_is_refused_not_a_panic() {
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), "http://127.0.0.1:4318".to_owned())];
    let settings = OtlpSettings::from_env(&env).unwrap();
    assert!(Providers::new(&settings, &identity(), Sampler::AlwaysOn).is_err());
}

#[tokio::test]
async fn headers_and_resource_arrive() {
    for (protocol, path) in
        [("grpc", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"), ("http/protobuf", "/v1/traces")]
    {
        let receiver = OtlpReceiver::start().await.unwrap();
        let more = [
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20token"),
            ("OTEL_RESOURCE_ATTRIBUTES", "team=pay,service.name=ignored"),
            ("OTEL_SERVICE_NAME", "named"),
        ];
        let providers = providers(&receiver.http_endpoint(), protocol, &more);
        providers.sink().export(server_span());
        assert!(providers.shutdown(PATIENCE).await);

        let requests = receiver.requests();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].path, path);
        assert_eq!(requests[0].headers["authorization"], "Bearer token");

        let resource = &receiver.spans()[0].resource;
        for (key, value) in [
            ("service.name", "named"),
            ("service.version", "1.2.3"),
            ("service.instance.id", "a-1"),
            ("deployment.environment.name", "test"),
            ("telemetry.sdk.language", "rust"),
            ("team", "pay"),
        ] {
            assert_eq!(resource[key], value, "{key}");
        }
    }
}

/// The names and parents of the spans that `work` makes with `tracing`.
async fn exported(sampler: Sampler, work: impl FnOnce()) -> Vec<(String, Option<SpanId>, SpanId)> {
    let receiver = OtlpReceiver::start().await.unwrap();
    let providers = providers_with(&receiver.grpc_endpoint(), "grpc", &[], sampler);
    let subscriber = tracing_subscriber::registry().with(providers.tracing_layer());
    tracing::subscriber::with_default(subscriber, work);
    assert!(providers.shutdown(PATIENCE).await);
    receiver.spans().into_iter().map(|span| (span.name, span.parent_span_id, span.span_id)).collect()
}

#[tokio::test]
async fn spans_of_a_handler_are_children_of_the_request() {
    // A root sampler that says no shows that the request's decision counts.
    let parent_based = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
    let spans = exported(parent_based, || {
        let request = Context::new().with_remote_span_context(request_context(TraceFlags::SAMPLED));
        let _attached = request.attach();
        tracing::info_span!("load order").in_scope(|| tracing::info_span!("query").in_scope(|| tracing::info!("rows")));
    })
    .await;
    let [(inner, inner_parent, _), (outer, outer_parent, outer_id)] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((outer.as_str(), *outer_parent), ("load order", Some(SpanId::from(9))));
    assert_eq!((inner.as_str(), *inner_parent), ("query", Some(*outer_id)));
}

#[tokio::test]
async fn spans_of_an_adopted_subscriber_go_to_the_last_service_that_exports_until_it_has_stopped() {
    let subscriber = || tracing_subscriber::registry().with(super::tracing_layer());
    let span = || tracing::subscriber::with_default(subscriber(), || drop(tracing::info_span!("work")));
    let receivers = [OtlpReceiver::start().await.unwrap(), OtlpReceiver::start().await.unwrap()];
    let everything = || {
        crate::telemetry::sampling::Sampler::new(&SamplingConfig {
            sampler: SamplerKind::AlwaysOn,
            ..SamplingConfig::default()
        })
    };
    let exporting = |receiver: &OtlpReceiver| {
        let providers = providers_with(&receiver.grpc_endpoint(), "grpc", &[], Sampler::AlwaysOn);
        providers.adopt_spans(&everything());
        providers
    };
    let first = exporting(&receivers[0]);
    let silent = Providers::new(&OtlpSettings::from_env(&[]).unwrap(), &identity(), Sampler::AlwaysOn).unwrap();
    silent.adopt_spans(&everything());
    span();
    let second = exporting(&receivers[1]);
    span();
    span();
    // One that others have followed takes nothing from them when it ends.
    assert!(first.shutdown(PATIENCE).await && silent.shutdown(PATIENCE).await);
    span();
    assert!(second.shutdown(PATIENCE).await);
    assert_eq!(receivers.map(|receiver| receiver.spans().len()), [1, 3]);
    assert!(!super::adopted::is_exporting(), "what has stopped is kept alive by nobody");
}

#[tokio::test]
async fn spans_under_an_unsampled_context_are_not_exported() {
    // A sampler that would take every span shows that it is not asked.
    let spans = exported(Sampler::AlwaysOn, || {
        let request = Context::new().with_remote_span_context(request_context(TraceFlags::NOT_SAMPLED));
        let _attached = request.attach();
        tracing::info_span!("work").in_scope(|| drop(tracing::info_span!("part")));
    })
    .await;
    assert!(spans.is_empty(), "{spans:?}");
}

#[tokio::test]
async fn outside_of_a_request_the_sampler_decides() {
    let work = || drop(tracing::info_span!("tick"));
    assert_eq!(exported(Sampler::AlwaysOn, work).await.len(), 1);
    assert_eq!(exported(Sampler::AlwaysOff, work).await.len(), 0);
}

#[tokio::test]
async fn spans_below_the_exported_level_are_not_made() {
    let spans = exported(Sampler::AlwaysOn, || {
        assert!(tracing::debug_span!("poll").is_disabled());
    })
    .await;
    assert!(spans.is_empty(), "{spans:?}");
}

#[tokio::test]
async fn last_metrics_arrive_when_shut_down_at_once() {
    for protocol in PROTOCOLS {
        let receiver = OtlpReceiver::start().await.unwrap();
        let providers = providers(&receiver.http_endpoint(), protocol, &[]);
        let meter = SdkMeterProvider::builder()
            .with_resource(providers.resource().clone())
            .with_reader(providers.metric_reader().unwrap().unwrap())
            .build();
        let providers = providers.with_meter_provider(meter.clone());
        let attributes = [KeyValue::new("queue", "mail")];
        meter.meter("test").u64_counter("jobs").with_unit("{job}").build().add(3, &attributes);
        meter.meter("test").f64_histogram("took").with_boundaries(vec![1.0]).build().record(0.5, &attributes);

        assert!(providers.shutdown(PATIENCE).await, "{protocol}");

        let jobs = receiver.wait_for_metric("jobs", Duration::ZERO).await.unwrap();
        assert_eq!((jobs.unit.as_str(), jobs.points[0].value), ("{job}", 3.0));
        assert_eq!(jobs.points[0].attributes["queue"], "mail");
        assert_eq!(jobs.resource["service.name"], "orders");
        let took = receiver.wait_for_metric("took", Duration::ZERO).await.unwrap();
        assert_eq!((took.points[0].count, &took.points[0].buckets[..]), (1, &[1, 0][..]));
    }
}

#[tokio::test]
async fn silent_receiver_of_metrics_does_not_delay_the_end() {
    for protocol in PROTOCOLS {
        let (address, _held) = silent_listener().await;
        let metrics_alone = [("OTEL_TRACES_EXPORTER", "none"), LONG_EXPORT, ("OTEL_METRIC_EXPORT_TIMEOUT", "120000")];
        let providers = providers(&format!("http://{address}"), protocol, &metrics_alone);
        let meter = SdkMeterProvider::builder().with_reader(providers.metric_reader().unwrap().unwrap()).build();
        let providers = providers.with_meter_provider(meter.clone());
        meter.meter("test").u64_counter("jobs").build().add(1, &[]);
        let shutdown = providers.shutdown(Duration::from_millis(100));
        assert!(!timeout(PATIENCE, shutdown).await.expect("it ends at its deadline"), "{protocol}");
    }
}
