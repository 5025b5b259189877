//! Traces, metrics and logs: what the service says of itself while it runs.

pub mod audit;
pub mod log;
pub mod metrics;
pub(crate) mod names;
pub(crate) mod otlp;
pub mod propagation;
pub(crate) mod provider;
pub(crate) mod resource;
pub mod sampling;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry::KeyValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::provider::tracing_layer;
use self::{
    log::{LogConfig, Logs},
    metrics::{Metrics, MetricsConfig, Scheme},
    names::attribute,
    otlp::OtlpSettings,
    propagation::Formats,
    provider::Providers,
    sampling::{Sampler, SamplerKind, SamplingConfig},
};
use crate::{
    client::observe::ClientObserver, // floor: made here, as the observer of requests served
    error::Error,
    identity::Identity,
    observe::Observer, // floor: made here, because only here all of its parts are known
};

/// Traces and metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Which traces are recorded.
    pub sampling: SamplingConfig,
    /// The header formats that trace context is read from and written to: `tracecontext`, `baggage`, `b3`, `b3multi`, `none`.
    ///
    /// Default as OpenTelemetry has it.
    pub propagators: Vec<String>,
    /// Metrics.
    pub metrics: MetricsConfig,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            sampling: SamplingConfig::default(),
            propagators: vec!["tracecontext".into(), "baggage".into()],
            metrics: MetricsConfig::default(),
        }
    }
}

/// All of it, running.
pub(crate) struct Telemetry {
    pub(crate) logs: Logs,
    pub(crate) metrics: Metrics,
    pub(crate) providers: Providers,
    pub(crate) sampler: Sampler,
    formats: Formats,
}

impl Telemetry {
    /// Starts what the configuration and the `OTEL_*` variables ask for. Must run inside the runtime.
    pub(crate) fn start(
        config: &TelemetryConfig,
        log: &LogConfig,
        otlp: &OtlpSettings,
        identity: &Identity,
        output: Option<log::LineSink>,
    ) -> Result<Self, Error> {
        let formats = formats(config).map_err(|message| Error::config(format!("telemetry.propagators: {message}")))?;
        // When spans go nowhere, no trace starts here: the flag would make others record traces whose root never exists.
        let sampling = match otlp.traces {
            Some(_) => config.sampling,
            None => SamplingConfig { sampler: SamplerKind::ParentBasedAlwaysOff, ..config.sampling },
        };
        let sampler = Sampler::new(&sampling);
        let providers = Providers::new(otlp, identity, sampler.clone())?;
        let bridge = match &output {
            // A service under test shares the process's subscriber with others.
            #[cfg(feature = "testing")]
            Some(_) => Some(Box::new(provider::shared::tracing_layer()) as log::ExtraLayer),
            _ => providers.tracing_layer().map(|layer| Box::new(layer) as log::ExtraLayer),
        };
        let in_tests = output.is_some();
        let logs = Logs::start(log, identity, bridge, output)?;
        // In the chassis's own subscriber the same spans come through the bridge.
        if !in_tests && !logs.control.is_installed() {
            providers.adopt_spans(&sampler);
        }
        let reader = providers.metric_reader()?;
        let metrics =
            Metrics::new(config.metrics.clone(), providers.resource().clone(), identity, |builder| match reader {
                Some(reader) => builder.with_reader(reader),
                None => builder,
            })?;
        opentelemetry::global::set_meter_provider(metrics.provider().clone());
        if let Some(tracer) = providers.tracer_provider() {
            opentelemetry::global::set_tracer_provider(tracer.clone());
        }
        let providers = providers.with_meter_provider(metrics.sdk_provider().clone());
        let telemetry = Self { logs, metrics, providers, sampler, formats };
        telemetry.observe_itself();
        Ok(telemetry)
    }

    fn observe_itself(&self) {
        let sink = self.logs.sink.clone();
        let audit = self.logs.audit.clone();
        self.metrics.observe_counter(&names::LOG_DROPPED_LINES, move || {
            let stream = |name| vec![KeyValue::new(attribute::STREAM, name)];
            vec![(stream("log"), sink.dropped()), (stream("audit"), audit.dropped())]
        });
        let control = self.logs.control.clone();
        self.metrics.observe_gauge(&names::LOG_FILTER_OVERRIDE, move || {
            vec![(vec![], control.status().remaining_seconds.unwrap_or_default() as f64)]
        });
        let spans = self.providers.sink().clone();
        self.metrics.observe_counter(&names::TELEMETRY_EXPORTED_SPANS, move || {
            vec![(vec![], spans.counts().map_or(0, |counts| counts.exported()))]
        });
        let spans = self.providers.sink().clone();
        self.metrics.observe_counter(&names::TELEMETRY_DROPPED_SPANS, move || {
            let counts = spans.counts();
            let (dropped, failed) = counts.map_or((0, 0), |counts| (counts.dropped(), counts.failed()));
            vec![
                (vec![KeyValue::new(attribute::REASON, "queue_full")], dropped),
                (vec![KeyValue::new(attribute::REASON, "export_failed")], failed),
            ]
        });
    }

    pub(crate) fn observer(&self) -> Observer {
        Observer::new(
            self.formats,
            self.sampler.clone(),
            self.providers.sink().clone(),
            self.logs.access.clone(),
            self.metrics.clone(),
            self.metrics.server(Scheme::Http),
        )
    }

    /// What observes the calls to one destination, by its name under `[clients]`; the port when all endpoints have the same.
    pub(crate) fn client_observer(&self, destination: &str, port: Option<u16>, identity: &Identity) -> ClientObserver {
        let (sampler, spans) = (self.sampler.clone(), self.providers.sink().clone());
        ClientObserver::new(destination, port, self.formats, sampler, spans, &self.metrics, identity)
    }

    /// Sends what is gathered and writes what is logged, within `timeout`.
    pub(crate) async fn shutdown(self: Arc<Self>, timeout: Duration) {
        let started = Instant::now();
        if !self.providers.shutdown(timeout).await {
            tracing::warn!(?timeout, "the last spans or metrics did not reach their receiver");
        }
        let rest = timeout.saturating_sub(started.elapsed()).max(LAST_LINES);
        let logs = self.clone();
        let _ = tokio::task::spawn_blocking(move || logs.logs.flush(rest)).await;
    }
}

/// What the log gets of the flush when spans and metrics have used it up. Chosen: far more than a pipe that is read takes.
const LAST_LINES: Duration = Duration::from_millis(200);

/// The formats that the list of words names.
pub(crate) fn formats(config: &TelemetryConfig) -> Result<Formats, String> {
    config.propagators.join(",").parse()
}
