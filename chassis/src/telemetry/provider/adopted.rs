//! The bridge from a `tracing` subscriber that is the service's own, installed before there is a chassis to export anything.

use std::{sync::Arc, sync::LazyLock, time::Duration};

use arc_swap::ArcSwapOption;
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceId, TraceState, TracerProvider},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample, Span, SpanData, SpanProcessor},
};
use tracing::Subscriber;
use tracing_subscriber::{Layer, registry::LookupSpan};

use super::{Pipeline, SpanSink, bridge, scope};
use crate::telemetry::sampling::Sampler;

/// Where the spans go; nowhere until a chassis has started that exports them.
static EXPORT: ArcSwapOption<Export> = ArcSwapOption::const_empty();

static PROVIDER: LazyLock<SdkTracerProvider> =
    LazyLock::new(|| SdkTracerProvider::builder().with_sampler(WhenExported).with_span_processor(ToPipeline).build());

struct Export {
    sampler: Sampler,
    pipeline: Arc<Pipeline>,
}

/// From now on the spans go there. A sink that goes nowhere changes nothing: another service may export.
pub(super) fn export_to(sink: &SpanSink, sampler: &Sampler) {
    if let Some(pipeline) = &sink.0 {
        EXPORT.store(Some(Arc::new(Export { sampler: sampler.clone(), pipeline: Arc::clone(pipeline) })));
    }
}

/// The sink takes no more spans. Those of a service that has started since go on.
pub(super) fn end_export_to(sink: &SpanSink) {
    let Some(pipeline) = &sink.0 else { return };
    EXPORT.rcu(|export| export.clone().filter(|export| !Arc::ptr_eq(&export.pipeline, pipeline)));
}

#[cfg(all(test, feature = "testing"))]
pub(super) fn is_exporting() -> bool {
    EXPORT.load().is_some()
}

/// A layer for a `tracing` subscriber of one's own: exports the spans that handlers make, as the chassis's own subscriber does.
///
/// A subscriber that is installed before [`Chassis::new`](crate::Chassis::new) stays, and the chassis adds nothing to it: its
/// filter and its format are the service's. With this layer in it the spans of handlers become children of their request's
/// span and leave over OTLP with it. Inside of a request they follow its sampling decision, outside of one
/// `telemetry.sampling` decides. Only spans of level `INFO` and above are exported, and no events.
///
/// It does nothing before a chassis has started, nothing when spans are exported nowhere (`OTEL_EXPORTER_OTLP_ENDPOINT` is not
/// set), and is not needed where the chassis installs the subscriber. Of several services in one process the last one started that
/// exports spans exports these, until it has stopped.
///
/// ```
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let subscriber = tracing_subscriber::registry().with(chassis::telemetry::tracing_layer());
/// # tracing::subscriber::with_default(subscriber, || tracing::info_span!("before any chassis").in_scope(|| ()));
/// ```
pub fn tracing_layer<S>() -> impl Layer<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    bridge(PROVIDER.tracer_with_scope(scope()))
}

#[derive(Debug, Clone)]
struct WhenExported;

impl ShouldSample for WhenExported {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        match &*EXPORT.load() {
            Some(export) => export.sampler.should_sample(parent, trace_id, name, kind, attributes, links),
            None => SamplingResult {
                decision: SamplingDecision::Drop,
                attributes: Vec::new(),
                trace_state: TraceState::default(),
            },
        }
    }
}

#[derive(Debug)]
struct ToPipeline;

impl SpanProcessor for ToPipeline {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if let Some(export) = &*EXPORT.load() {
            export.pipeline.push(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
