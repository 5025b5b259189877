//! The OpenTelemetry providers of the process: spans and metrics on their way out, and the orderly end of both.
//!
//! # How a span leaves
//!
//! The request's own span is made without the SDK's tracer and handed to a [`SpanSink`]; the spans that handlers make
//! with `tracing` come through [`Providers::tracing_layer`]. Both end in one bounded queue, which a thread of the SDK
//! empties in batches. A full queue drops the newest span and counts it; nobody ever waits for a receiver.
//!
//! # The end
//!
//! [`Providers::shutdown`] sends what is queued and returns when all of it is answered or the time is up, whatever the
//! receiver does. Dropping the providers instead gives the queue up at once: a destructor inside a runtime cannot wait
//! for work of that runtime.
//!
//! # Cost
//!
//! Without an endpoint there is no queue, no thread and no layer. A span that reaches [`SpanSink::export`] costs two
//! atomic additions and a move into the queue.

mod adopted;
#[cfg(feature = "testing")]
pub(crate) mod shared;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    Context, InstrumentationScope,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, ShouldSample, Span, SpanData,
        SpanExporter, SpanProcessor,
    },
};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{Layer, filter::dynamic_filter_fn, registry::LookupSpan};

pub use self::adopted::tracing_layer;
use super::otlp::{
    BatchSettings, MetricSettings, OtlpSettings, Target,
    export::{Exporter, Exporting, SpanCounts},
};
use super::sampling::Sampler;
use crate::{context::RequestContext, error::Error, identity::Identity};

/// The least important spans that are exported. Chosen: `#[tracing::instrument]` makes spans of this level; the
/// libraries under a service make theirs below it, several for each request.
const SPAN_LEVEL: LevelFilter = LevelFilter::INFO;

/// Who made the chassis's own spans.
const SCOPE_NAME: &str = "chassis";

/// Reads metrics at an interval and pushes them.
pub(crate) type MetricReader = PeriodicReader<Exporter<opentelemetry_otlp::MetricExporter>>;

/// The instrumentation scope of spans and metrics that the chassis makes itself.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(SCOPE_NAME).with_version(env!("CARGO_PKG_VERSION")).build()
}

/// The providers of the process. Made once at start; [`shutdown`](Self::shutdown) at the end.
pub(crate) struct Providers {
    resource: Resource,
    tracer: Option<SdkTracerProvider>,
    sink: SpanSink,
    metrics: Option<(Target, MetricSettings, Exporting)>,
    meter: Option<SdkMeterProvider>,
    stop: CancellationToken,
}

impl Providers {
    /// Sets up what the settings ask for; nothing runs when they ask for nothing.
    ///
    /// # Errors
    ///
    /// Something is to be exported and no tokio runtime runs here, or an exporter cannot be built.
    pub(crate) fn new(
        settings: &OtlpSettings,
        identity: &Identity,
        sampler: impl ShouldSample + 'static,
    ) -> Result<Self, Error> {
        let resource = settings.resource.resource(identity);
        let stop = CancellationToken::new();
        let mut providers =
            Self { resource, tracer: None, sink: SpanSink(None), metrics: None, meter: None, stop: stop.clone() };
        if settings.traces.is_none() && settings.metrics.is_none() {
            return Ok(providers);
        }
        let runtime = Handle::try_current()
            .map_err(|error| Error::internal("telemetry must be set up inside a tokio runtime").caused_by(error))?;
        let exporting = Exporting { runtime, stop, spans: Arc::default() };
        if let Some(target) = &settings.traces {
            let pipeline = Arc::new(Pipeline::new(target, &settings.batch, &exporting, &providers.resource)?);
            let tracer = SdkTracerProvider::builder()
                .with_resource(providers.resource.clone())
                .with_sampler(sampler)
                .with_span_processor(SharedProcessor(Arc::clone(&pipeline)))
                .build();
            providers.tracer = Some(tracer);
            providers.sink = SpanSink(Some(pipeline));
        }
        providers.metrics = settings.metrics.clone().map(|target| (target, settings.metric, exporting));
        Ok(providers)
    }

    /// Whom spans and metrics come from; a meter provider is built with it.
    pub(crate) fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Where finished spans of requests go.
    pub(crate) fn sink(&self) -> &SpanSink {
        &self.sink
    }

    /// Spans of a subscriber that was installed before go out here from now on.
    pub(crate) fn adopt_spans(&self, sampler: &Sampler) {
        adopted::export_to(&self.sink, sampler);
    }

    /// For code that makes spans by OpenTelemetry's own interface; `None` when spans go nowhere.
    pub(crate) fn tracer_provider(&self) -> Option<&SdkTracerProvider> {
        self.tracer.as_ref()
    }

    /// The reader that pushes metrics, for one meter provider; `None` when metrics are not pushed.
    ///
    /// It starts its thread at once, and the thread ends with the meter provider: give that back by
    /// [`with_meter_provider`](Self::with_meter_provider).
    ///
    /// # Errors
    ///
    /// The exporter cannot be built.
    pub(crate) fn metric_reader(&self) -> Result<Option<MetricReader>, Error> {
        let Some((target, settings, exporting)) = &self.metrics else { return Ok(None) };
        let exporter = exporting.metric_exporter(target, settings)?;
        Ok(Some(PeriodicReader::builder(exporter).with_interval(settings.interval).build()))
    }

    /// The meter provider whose last values are sent at shutdown.
    #[must_use]
    pub(crate) fn with_meter_provider(mut self, meter: SdkMeterProvider) -> Self {
        self.meter = Some(meter);
        self
    }

    /// The layer that exports the spans which handlers make with `tracing`; `None` when spans go nowhere.
    ///
    /// Inside of a request it follows the request's sampling decision, outside of one the sampler decides. Log events are
    /// not attached to spans: they are on standard output, with the trace's id.
    pub(crate) fn tracing_layer<S>(&self) -> Option<impl Layer<S> + Send + Sync + use<S>>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        Some(bridge(self.tracer.as_ref()?.tracer_with_scope(scope())))
    }

    /// Sends everything that is gathered, then ends all exporting. Returns within `timeout`, whatever the receivers do.
    ///
    /// `true` when all of it was accepted in time; else the rest is lost. A second call has nothing to send.
    pub(crate) async fn shutdown(&self, timeout: Duration) -> bool {
        let lost_before = self.sink.lost();
        adopted::end_export_to(&self.sink);
        self.sink.close();
        // The SDK's shutdown blocks its thread, and on the only thread of a runtime would wait for itself.
        let tracer = self
            .tracer
            .clone()
            .map(|tracer| tokio::task::spawn_blocking(move || tracer.shutdown_with_timeout(timeout)));
        let meter =
            self.meter.clone().map(|meter| tokio::task::spawn_blocking(move || meter.shutdown_with_timeout(timeout)));
        let flush = async { (ended(tracer).await, ended(meter).await) };
        let delivered = tokio::time::timeout(timeout, flush).await.is_ok_and(|(spans, metrics)| spans && metrics);
        // Ends exports that still wait for a dead receiver, and with them the SDK's threads and the two above.
        self.stop.cancel();
        delivered && self.sink.is_empty() && self.sink.lost() == lost_before
    }
}

impl Drop for Providers {
    fn drop(&mut self) {
        adopted::end_export_to(&self.sink);
        // Otherwise the SDK's own destructor waits seconds for exports which this very thread may have to drive.
        self.stop.cancel();
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Providers")
            .field("sink", &self.sink)
            .field("metrics", &self.metrics.as_ref().map(|(target, ..)| target))
            .finish_non_exhaustive()
    }
}

async fn ended(task: Option<JoinHandle<OTelSdkResult>>) -> bool {
    match task {
        None => true,
        Some(task) => matches!(task.await, Ok(Ok(()) | Err(opentelemetry_sdk::error::OTelSdkError::AlreadyShutdown))),
    }
}

fn bridge<S>(tracer: SdkTracer) -> impl Layer<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false);
    let filter = dynamic_filter_fn(|metadata, _| may_be_exported(metadata) && is_recording())
        .with_callsite_filter(
            |metadata| if may_be_exported(metadata) { Interest::sometimes() } else { Interest::never() },
        )
        .with_max_level_hint(SPAN_LEVEL);
    layer.with_filter(filter)
}

fn may_be_exported(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && *metadata.level() <= SPAN_LEVEL
}

/// Whether a span that begins here has a chance to be exported; asked before anything is spent on it.
fn is_recording() -> bool {
    enum Parent {
        Sampled(bool),
        None,
    }
    let parent = Context::map_current(|cx| {
        // The exporters' own threads: a span about sending spans would never end.
        if cx.is_telemetry_suppressed() {
            return Parent::Sampled(false);
        }
        if cx.has_active_span() { Parent::Sampled(cx.span().span_context().is_sampled()) } else { Parent::None }
    });
    match parent {
        Parent::Sampled(sampled) => sampled,
        // A request that is not recorded attaches no context. Outside of requests the sampler decides.
        Parent::None => RequestContext::with_current(|request| request.is_none()),
    }
}

/// The queue of finished spans and the thread that empties it.
struct Pipeline {
    processor: BatchSpanProcessor,
    counts: Arc<SpanCounts>,
    capacity: usize,
    closed: AtomicBool,
}

impl Pipeline {
    fn new(target: &Target, batch: &BatchSettings, exporting: &Exporting, resource: &Resource) -> Result<Self, Error> {
        #[cfg(feature = "testing")]
        shared::forget_the_gone();
        let mut exporter = exporting.span_exporter(target, batch.export_timeout)?;
        // The tracer provider can reach a shared processor no more.
        exporter.set_resource(resource);
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(batch.queue_size)
            .with_max_export_batch_size(batch.batch_size)
            .with_scheduled_delay(batch.schedule_delay)
            .build();
        Ok(Self {
            processor: BatchSpanProcessor::builder(exporter).with_batch_config(config).build(),
            counts: Arc::clone(&exporting.spans),
            capacity: batch.queue_size,
            closed: AtomicBool::new(false),
        })
    }

    fn push(&self, span: SpanData) {
        // The SDK drops in silence; with the places counted here its own queue is never full.
        if self.closed.load(Ordering::Relaxed) {
            self.counts.drop_one();
        } else if self.counts.enter_queue(self.capacity) {
            self.processor.on_end(span);
        }
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("counts", &self.counts)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// Where finished spans go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SpanSink(Option<Arc<Pipeline>>);

impl SpanSink {
    /// Whether spans go anywhere; when not, none need be made.
    pub(crate) fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Hands a finished span over. Never waits; a span that finds the queue full is dropped and counted.
    pub(crate) fn export(&self, span: SpanData) {
        if let Some(pipeline) = &self.0 {
            pipeline.push(span);
        }
    }

    /// Makes the handler's own spans under this one go the same way, where services share a bridge.
    #[cfg(feature = "testing")]
    pub(crate) fn claim_children_of(&self, span: opentelemetry::trace::SpanId) {
        if let Some(pipeline) = &self.0 {
            shared::claim(span, Arc::downgrade(pipeline));
        }
    }

    /// What became of the spans so far; `None` when spans go nowhere.
    pub(crate) fn counts(&self) -> Option<&SpanCounts> {
        self.0.as_ref().map(|pipeline| &*pipeline.counts)
    }

    fn close(&self) {
        if let Some(pipeline) = &self.0 {
            pipeline.closed.store(true, Ordering::Relaxed);
        }
    }

    /// Spans that were dropped or refused so far.
    fn lost(&self) -> u64 {
        self.counts().map_or(0, |counts| counts.dropped() + counts.failed())
    }

    /// Nothing waits for export.
    fn is_empty(&self) -> bool {
        self.counts().is_none_or(|counts| counts.queued() == 0)
    }
}

/// The pipeline as the tracer provider's processor.
#[derive(Debug)]
struct SharedProcessor(Arc<Pipeline>);

impl SpanProcessor for SharedProcessor {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.processor.shutdown_with_timeout(timeout)
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
