//! Metrics: one OpenTelemetry meter provider with two outlets, the Prometheus scrape and, when wanted, OTLP.
//!
//! Every metric of the chassis is an entry of `names::METRICS`, and instruments are made from entries only. What is
//! counted on the request path is counted by prebound series (`server`); all else is kept in plain atomics, or
//! already kept by somebody, and read when a reader collects. A part of the chassis that keeps a number hands in a
//! closure by `observe_*`; this module need not know it.

mod buckets;
mod cgroup;
mod client;
mod exemplars;
mod expose;
mod families;
mod guard;
mod process;
mod runtime;
mod scrape;
mod server;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    metrics::{Histogram, Meter, MeterProvider},
};
use opentelemetry_sdk::{
    Resource,
    metrics::{Aggregation, Instrument, InstrumentKind, MeterProviderBuilder, SdkMeterProvider, Stream},
};
use serde::{Deserialize, Serialize};

pub(crate) use self::guard::GuardedProvider;
pub use self::scrape::ScrapeError;
pub(crate) use self::{
    client::{CallSeries, ClientLevels, ClientMetrics, HttpAttempts, RpcAttempts},
    server::{
        HttpSeries, InFlight, METHODS, RpcSeries, Scheme, ServerMetrics, SharedCount, code_name, code_of_status,
        is_server_error, method_index, method_label, version_label,
    },
};
use self::{exemplars::Exemplars, scrape::Scrape};
use super::names::{self, MetricDoc, attribute};
use crate::{cause::Cause, error::Error, identity::Identity};

pub use super::names::reference_markdown;

/// The most series one metric may have. The OpenTelemetry SDK's own default.
const DEFAULT_CARDINALITY_LIMIT: u32 = 2000;

/// How metrics are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Bucket boundaries of single histograms: the metric's name and its boundaries, rising, in the metric's unit.
    /// A histogram in seconds that is not named here has the boundaries of the semantic conventions, 0.005 to 10.
    pub buckets: BTreeMap<String, Vec<f64>>,
    /// The most series one metric may have; further ones share the series `otel_metric_overflow="true"`.
    /// The default is the OpenTelemetry SDK's.
    #[schemars(range(min = 1, max = 100_000), extend("x-unit" = "series"))]
    pub cardinality_limit: u32,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { buckets: BTreeMap::new(), cardinality_limit: DEFAULT_CARDINALITY_LIMIT }
    }
}

impl MetricsConfig {
    /// The boundaries of a histogram; `None` leaves them to the instrument.
    fn boundaries(&self, name: &str, unit: &str) -> Option<&[f64]> {
        let seconds = || (unit == "s").then_some(&names::SECONDS_BUCKETS[..]);
        self.buckets.get(name).map(Vec::as_slice).or_else(seconds)
    }

    /// The view of every instrument: buckets by name or unit, and the limit of series.
    fn stream(&self, instrument: &Instrument) -> Option<Stream> {
        let mut stream = Stream::builder().with_cardinality_limit(self.cardinality_limit as usize);
        if instrument.kind() == InstrumentKind::Histogram
            && let Some(boundaries) = self.boundaries(instrument.name(), instrument.unit())
        {
            stream = stream.with_aggregation(Aggregation::ExplicitBucketHistogram {
                boundaries: boundaries.to_vec(),
                record_min_max: true,
            });
        }
        // Cannot fail: `check` has seen the limit and all boundaries.
        stream.build().ok()
    }

    /// What the schema cannot say: the key, and what is wrong.
    pub(crate) fn problems(&self) -> Vec<(String, String)> {
        let limit = (self.cardinality_limit == 0)
            .then(|| ("telemetry.metrics.cardinality_limit".to_owned(), "found 0, expected at least 1".to_owned()));
        let buckets = buckets::problems(&self.buckets).into_iter();
        let buckets = buckets.map(|(name, message)| (format!("telemetry.metrics.buckets.{name}"), message));
        limit.into_iter().chain(buckets).collect()
    }

    /// The same as a refusal, for settings that were not loaded.
    fn check(&self) -> Result<(), Error> {
        match self.problems().first() {
            Some((key, message)) => Err(Error::config(format!("{key}: {message}"))),
            None => Ok(()),
        }
    }
}

/// The meter of the chassis's own instruments.
const METER_NAME: &str = "chassis";

/// The attributes of one series.
pub(crate) type Labels = Vec<KeyValue>;

/// The metrics of one service instance. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    provider: GuardedProvider,
    scrape: Scrape,
    meter: Meter,
    config: Arc<MetricsConfig>,
    exemplars: Arc<Exemplars>,
    events: Arc<Events>,
    listeners: Arc<Mutex<Vec<Connections>>>,
    servers: [OnceLock<Arc<ServerMetrics>>; 2],
    clients: OnceLock<Arc<ClientMetrics>>,
}

/// Counts of rare events, read when a reader collects. All series exist from the start, at 0, so that a first
/// occurrence is an increase for the reader.
#[derive(Debug, Default)]
struct Events {
    /// By the place of the cause in its declaration.
    rejections: [AtomicU64; Cause::ALL.len()],
    reloads_applied: AtomicU64,
    reloads_rejected: AtomicU64,
}

/// Declares the methods that make an observed instrument from an entry of the table and a closure.
macro_rules! observed {
    ($($(#[$doc:meta])* $method:ident $value:ty, $make:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// The closure runs once for each reader and collection, on the reader's thread: it must be quick and must not
        /// make instruments. Of two values for the same attributes the later counts.
        pub(crate) fn $method(&self, metric: &MetricDoc, read: impl Fn() -> Vec<(Labels, $value)> + Send + Sync + 'static) {
            self.0
                .meter
                .$make(metric.name)
                .with_unit(metric.unit)
                .with_description(metric.help)
                .with_callback(move |observer| {
                    for (labels, value) in read() {
                        observer.observe(value, &labels);
                    }
                })
                .build();
        }
    )*};
}

impl Metrics {
    /// Makes the meter provider with its Prometheus reader; `readers` may add further readers (OTLP) to the builder.
    ///
    /// # Errors
    ///
    /// Exit code 78 when the boundaries of a histogram do not rise.
    pub(crate) fn new(
        config: MetricsConfig,
        resource: Resource,
        identity: &Identity,
        readers: impl FnOnce(MeterProviderBuilder) -> MeterProviderBuilder,
    ) -> Result<Self, Error> {
        config.check()?;
        let config = Arc::new(config);
        // The version keeps it apart from a meter of the service's own with this name.
        let scope = InstrumentationScope::builder(METER_NAME).with_version(env!("CARGO_PKG_VERSION")).build();
        let scrape = Scrape::new(scope.clone());
        let view = Arc::clone(&config);
        let builder = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(scrape.reader())
            .with_view(move |instrument: &Instrument| view.stream(instrument));
        let provider = GuardedProvider::new(readers(builder).build());
        let meter = provider.meter_with_scope(scope);
        let metrics = Self(Arc::new(Inner {
            provider,
            scrape,
            meter,
            config,
            exemplars: Arc::default(),
            events: Arc::default(),
            listeners: Arc::default(),
            servers: Default::default(),
            clients: OnceLock::new(),
        }));
        metrics.observe_own(identity);
        process::observe(&metrics);
        if let Some(cgroup) = cgroup::Cgroup::of_this_process() {
            cgroup.observe(&metrics);
        }
        Ok(metrics)
    }

    /// A meter for the service's own instruments; they appear in the scrape and go out over OTLP like all others.
    ///
    /// A histogram with unit `s` gets the buckets of the semantic conventions, also when it advises its own by
    /// `with_boundaries`; set other ones by `telemetry.metrics.buckets`.
    ///
    /// A callback of an observable instrument that panics harms no other metric: its instrument is left out of this
    /// collection, `chassis.metrics.callback.panics` counts it, and the first panic is logged.
    #[must_use]
    pub fn meter(&self, name: &'static str) -> Meter {
        self.0.provider.meter(name)
    }

    /// The provider of all meters: to be made the global one.
    pub(crate) fn provider(&self) -> &GuardedProvider {
        &self.0.provider
    }

    /// The count of panics of metric callbacks. It holds nothing else of the metrics.
    pub(crate) fn callback_panics(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let faults = Arc::clone(self.0.provider.faults());
        move || faults.panics().iter().map(|(_, count)| count).sum()
    }

    /// The SDK's provider: to be flushed and shut down, and not for making meters.
    pub(crate) fn sdk_provider(&self) -> &SdkMeterProvider {
        self.0.provider.sdk()
    }

    observed! {
        /// Shows counts that somebody keeps.
        observe_counter u64, u64_observable_counter;
        /// Shows amounts that only grow, such as seconds.
        observe_amount f64, f64_observable_counter;
        /// Shows numbers that go up and down and may be added up.
        observe_level i64, i64_observable_up_down_counter;
        /// Shows values of the moment.
        observe_gauge f64, f64_observable_gauge;
    }

    /// Shows the health checks: the closure gives each check's name and the word of its status
    /// (`up`, `degraded`, `down`, `unknown`).
    pub(crate) fn observe_health(&self, read: impl Fn() -> Vec<(String, &'static str)> + Send + Sync + 'static) {
        self.observe_gauge(&names::HEALTH_CHECK_STATUS, move || {
            let mut series = Vec::new();
            for (check, current) in read() {
                for status in ["up", "degraded", "down", "unknown"] {
                    let labels =
                        vec![KeyValue::new(attribute::CHECK, check.clone()), KeyValue::new(attribute::STATUS, status)];
                    series.push((labels, f64::from(status == current)));
                }
            }
            series
        });
    }

    /// Shows the concurrency limits: the closure gives each handler's name, what it uses now, and its limit.
    pub(crate) fn observe_bulkheads(&self, read: impl Fn() -> Vec<(String, u32, u32)> + Send + Sync + 'static) {
        let read = Arc::new(read);
        let levels = |level: fn(&(String, u32, u32)) -> u32| {
            let read = Arc::clone(&read);
            move || {
                let labels = |handler: &str| vec![KeyValue::new(attribute::CODE_FUNCTION_NAME, handler.to_owned())];
                read().iter().map(|bulkhead| (labels(&bulkhead.0), i64::from(level(bulkhead)))).collect()
            }
        };
        self.observe_level(&names::BULKHEAD_IN_USE, levels(|bulkhead| bulkhead.1));
        self.observe_level(&names::BULKHEAD_LIMIT, levels(|bulkhead| bulkhead.2));
    }

    /// Shows what tokio says of a runtime. Call it once; a second runtime would take the first one's place.
    pub(crate) fn observe_runtime(&self, handle: &tokio::runtime::Handle) {
        runtime::observe(self, handle);
    }

    /// The request metrics of the servers with this scheme, always the same ones.
    pub(crate) fn server(&self, scheme: Scheme) -> Arc<ServerMetrics> {
        let server = || Arc::new(ServerMetrics::new(self, scheme));
        Arc::clone(self.0.servers[scheme as usize].get_or_init(server))
    }

    /// The metrics of calls out, always the same ones.
    pub(crate) fn client(&self) -> Arc<ClientMetrics> {
        Arc::clone(self.0.clients.get_or_init(|| Arc::new(ClientMetrics::new(self))))
    }

    /// Shows what the destinations of calls out count. Call it once, with a closure that looks at all of them.
    pub(crate) fn observe_clients(&self, read: impl Fn() -> Vec<ClientLevels> + Send + Sync + 'static) {
        client::observe(self, read);
    }

    /// The connection counts of the listener with this name, always the same ones.
    pub(crate) fn connections(&self, listener: &'static str) -> Connections {
        let mut listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = listeners.iter().find(|known| known.0.listener == listener) {
            return known.clone();
        }
        let new = Connections(Arc::new(ConnectionCounts {
            listener,
            accepted: AtomicU64::new(0),
            ended: Mutex::default(),
            active: AtomicI64::new(0),
        }));
        listeners.push(new.clone());
        new
    }

    /// A request was refused, or failed by the chassis's doing.
    pub(crate) fn reject(&self, cause: Cause) {
        self.0.events.rejections[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A configuration change was seen while running, and taken over or not.
    pub(crate) fn config_reloaded(&self, applied: bool) {
        let events = &self.0.events;
        let count = if applied { &events.reloads_applied } else { &events.reloads_rejected };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn observe_own(&self, identity: &Identity) {
        let faults = Arc::clone(self.0.provider.faults());
        self.observe_counter(&names::METRICS_CALLBACK_PANICS, move || {
            let series = |(name, count)| (vec![KeyValue::new(attribute::INSTRUMENT, name)], count);
            faults.panics().into_iter().map(series).collect()
        });
        let events = Arc::clone(&self.0.events);
        self.observe_counter(&names::REJECTIONS, move || {
            let count = |cause: Cause| events.rejections[cause as usize].load(Ordering::Relaxed);
            Cause::ALL.map(|cause| (vec![KeyValue::new(attribute::CAUSE, cause.as_str())], count(cause))).into()
        });
        let events = Arc::clone(&self.0.events);
        self.observe_counter(&names::CONFIG_RELOADS, move || {
            let outcome = |word, count: &AtomicU64| {
                (vec![KeyValue::new(attribute::OUTCOME, word)], count.load(Ordering::Relaxed))
            };
            vec![outcome("applied", &events.reloads_applied), outcome("rejected", &events.reloads_rejected)]
        });

        let listeners = Arc::clone(&self.0.listeners);
        self.observe_level(&names::CONNECTIONS_ACTIVE, move || {
            each(&listeners, |known| known.active.load(Ordering::Relaxed))
        });
        let listeners = Arc::clone(&self.0.listeners);
        self.observe_counter(&names::CONNECTIONS_ACCEPTED, move || {
            each(&listeners, |known| known.accepted.load(Ordering::Relaxed))
        });
        let listeners = Arc::clone(&self.0.listeners);
        self.observe_counter(&names::CONNECTIONS_ENDED, move || ended(&listeners));

        let labels = vec![
            KeyValue::new(attribute::VERSION, identity.version.clone()),
            KeyValue::new(attribute::GIT_COMMIT, identity.build.git_commit.unwrap_or("unknown")),
        ];
        self.observe_gauge(&names::BUILD_INFO, move || vec![(labels.clone(), 1.0)]);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// The connection counts of one listener. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connections(Arc<ConnectionCounts>);

#[derive(Debug)]
struct ConnectionCounts {
    listener: &'static str,
    accepted: AtomicU64,
    ended: Mutex<BTreeMap<&'static str, u64>>,
    active: AtomicI64,
}

impl Connections {
    /// A connection was accepted and is going to be served; it counts as open until the guard is dropped.
    pub(crate) fn accept(&self) -> OpenConnection {
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
        self.0.active.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(&self.0))
    }

    /// A connection has ended, for this reason.
    pub(crate) fn ended(&self, reason: &'static str) {
        *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }
}

/// One open connection.
#[derive(Debug)]
#[must_use = "the connection counts as closed when this is dropped"]
pub(crate) struct OpenConnection(Arc<ConnectionCounts>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One value for each listener.
fn each<T>(listeners: &Mutex<Vec<Connections>>, value: impl Fn(&ConnectionCounts) -> T) -> Vec<(Labels, T)> {
    let listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
    listeners
        .iter()
        .map(|Connections(known)| (vec![KeyValue::new(attribute::LISTENER, known.listener)], value(known)))
        .collect()
}

/// One count for each listener and reason.
fn ended(listeners: &Mutex<Vec<Connections>>) -> Vec<(Labels, u64)> {
    let listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
    let mut counts = Vec::new();
    for Connections(known) in listeners.iter() {
        let ended = known.ended.lock().unwrap_or_else(PoisonError::into_inner);
        counts.extend(ended.iter().map(|(reason, count)| {
            let labels =
                [KeyValue::new(attribute::LISTENER, known.listener), KeyValue::new(attribute::REASON, *reason)];
            (labels.into(), *count)
        }));
    }
    counts
}

fn histogram(meter: &Meter, metric: &MetricDoc) -> Histogram<f64> {
    meter.f64_histogram(metric.name).with_unit(metric.unit).with_description(metric.help).build()
}

#[cfg(test)]
pub(crate) mod tests;
