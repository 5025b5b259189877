//! The metrics of calls out: durations found without a lock, as those of the requests served, and levels that others keep.
//!
//! The conventions' names measure single attempts, since the metric beside a client's span has to be the duration of that
//! span, and an attempt is what has one. `chassis.client.call.duration` measures what the caller waited for.

use std::{sync::Arc, time::Duration};

use http::Version;
use opentelemetry::{
    KeyValue, StringValue, Value,
    trace::{SpanId, TraceId},
};
use tonic::Code;

use super::{
    Labels, Metrics, code_name,
    server::{Durations, SeriesList, Word},
    version_label,
};
use crate::telemetry::names::{self, attribute};

/// The trace of a measurement whose span is kept: it becomes the exemplar.
pub(crate) type Trace = (TraceId, SpanId);

/// The states of endpoints, all shown of each destination. `unreachable` is an open breaker whose last attempt found no
/// connection.
const STATES: [&str; 7] = ["closed", "open", "half_open", "forced_open", "disabled", "metrics_only", "unreachable"];

/// The duration metrics of calls out.
#[derive(Debug)]
pub(crate) struct ClientMetrics {
    calls: Durations,
    http: Durations,
    rpc: Durations,
}

impl ClientMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            calls: Durations::new(metrics, &names::CLIENT_CALL_DURATION),
            http: Durations::new(metrics, &names::HTTP_CLIENT_REQUEST_DURATION),
            rpc: Durations::new(metrics, &names::RPC_CLIENT_CALL_DURATION),
        }
    }

    /// The series of one method's calls: `GET /orders/{id}`, `orders.v1.Orders/GetOrder`. Make it once and keep it.
    pub(crate) fn calls(&self, destination: &str, method: &str) -> CallSeries {
        CallSeries {
            base: vec![
                KeyValue::new(attribute::DESTINATION, destination.to_owned()),
                KeyValue::new(attribute::METHOD, method.to_owned()),
            ],
            durations: self.calls.clone(),
            series: SeriesList::default(),
        }
    }

    /// The series of all attempts with one HTTP method. Make it once and keep it.
    pub(crate) fn http_attempts(&self, destination: &str, port: Option<u16>, method: &'static str) -> HttpAttempts {
        let mut base = vec![KeyValue::new(attribute::HTTP_REQUEST_METHOD, method)];
        base.extend(server(destination, port));
        HttpAttempts { base, durations: self.http.clone(), series: SeriesList::default() }
    }

    /// The series of all attempts of one gRPC method. Make it once and keep it.
    pub(crate) fn rpc_attempts(&self, destination: &str, port: Option<u16>, method: &str) -> RpcAttempts {
        let mut base = vec![
            KeyValue::new(attribute::RPC_SYSTEM_NAME, "grpc"),
            KeyValue::new(attribute::RPC_METHOD, method.to_owned()),
        ];
        base.extend(server(destination, port));
        RpcAttempts { base, durations: self.rpc.clone(), series: SeriesList::default() }
    }
}

/// What the conventions call the server: the group of instances that the call is for, not the one that it reaches.
fn server(destination: &str, port: Option<u16>) -> impl Iterator<Item = KeyValue> {
    let address = KeyValue::new(attribute::SERVER_ADDRESS, destination.to_owned());
    let port = port.map(|port| KeyValue::new(attribute::SERVER_PORT, i64::from(port)));
    [address].into_iter().chain(port)
}

/// All series of one method's calls.
#[derive(Debug)]
pub(crate) struct CallSeries {
    base: Labels,
    durations: Durations,
    series: SeriesList<Word>,
}

impl CallSeries {
    /// Records a call that has ended.
    #[inline]
    pub(crate) fn record(&self, outcome: &'static str, seconds: f64, trace: Option<Trace>) {
        let labels = || {
            let mut labels = self.base.clone();
            labels.push(KeyValue::new(attribute::OUTCOME, outcome));
            labels
        };
        self.series.record(Word::of(Some(outcome)), &self.durations, labels, seconds, trace);
    }
}

/// All series of the attempts with one HTTP method.
#[derive(Debug)]
pub(crate) struct HttpAttempts {
    base: Labels,
    durations: Durations,
    series: SeriesList<(u16, Version, Word)>,
}

impl HttpAttempts {
    /// Records an attempt that has ended; the status is 0 when none came. Without an `error_type`, a status of 400 and
    /// above is its own: to the one who asked, it is an error.
    #[inline]
    pub(crate) fn record(
        &self,
        status: u16,
        version: Version,
        error_type: Option<&'static str>,
        seconds: f64,
        trace: Option<Trace>,
    ) {
        let labels = || self.labels(status, version, error_type);
        self.series.record((status, version, Word::of(error_type)), &self.durations, labels, seconds, trace);
    }

    fn labels(&self, status: u16, version: Version, error_type: Option<&'static str>) -> Labels {
        let mut labels = self.base.clone();
        if status != 0 {
            labels.push(KeyValue::new(attribute::HTTP_RESPONSE_STATUS_CODE, i64::from(status)));
            labels.push(KeyValue::new(attribute::NETWORK_PROTOCOL_VERSION, version_label(version)));
        }
        let error_type = match error_type {
            Some(word) => Some(Value::from(word)),
            None if status >= 400 => Some(Value::from(StringValue::from(status.to_string()))),
            None => None,
        };
        labels.extend(error_type.map(|error_type| KeyValue::new(attribute::ERROR_TYPE, error_type)));
        labels
    }
}

/// All series of the attempts of one gRPC method.
#[derive(Debug)]
pub(crate) struct RpcAttempts {
    base: Labels,
    durations: Durations,
    series: SeriesList<(Code, Word)>,
}

impl RpcAttempts {
    /// Records an attempt that has ended. Without an `error_type`, any code but OK is its own: to the one who asked, it is
    /// an error.
    #[inline]
    pub(crate) fn record(&self, code: Code, error_type: Option<&'static str>, seconds: f64, trace: Option<Trace>) {
        let labels = || {
            let mut labels = self.base.clone();
            labels.push(KeyValue::new(attribute::RPC_RESPONSE_STATUS_CODE, code_name(code)));
            if code != Code::Ok {
                labels.push(KeyValue::new(attribute::ERROR_TYPE, error_type.unwrap_or(code_name(code))));
            }
            labels
        };
        self.series.record((code, Word::of(error_type)), &self.durations, labels, seconds, trace);
    }
}

/// What is counted of one destination, read when a reader collects.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientLevels {
    /// The name under `[clients]`.
    pub(crate) destination: Arc<str>,
    /// Calls under way.
    pub(crate) active: u64,
    /// Calls that wait for the concurrency limit.
    pub(crate) queued: u64,
    /// How many endpoints are in which state: a word of the breaker's, or `unreachable`. States left out have none.
    pub(crate) endpoints: Vec<(&'static str, u64)>,
    /// Whether the endpoints are the last known because their source is away.
    pub(crate) stale: bool,
    /// Calls held back, by cause.
    pub(crate) refused: Vec<(&'static str, u64)>,
    /// Attempts sent again, by the outcome of the one before.
    pub(crate) retries: Vec<(&'static str, u64)>,
    /// Retries that were decided on and not sent, by what held them back.
    pub(crate) retries_held_back: Vec<(&'static str, u64)>,
    /// Retries and hedges that the budget did not allow.
    pub(crate) budget_exhausted: Vec<(&'static str, u64)>,
    /// Hedges, by whether their answer was used, or that they were held back.
    pub(crate) hedges: Vec<(&'static str, u64)>,
    /// Calls that a fallback answered, by method and cause.
    pub(crate) fallbacks: Vec<(Arc<str>, &'static str, u64)>,
    /// For how long the breaker mode of an operator still holds, the longest of several.
    pub(crate) forced: Duration,
    /// Changes of breakers, by the new state.
    pub(crate) transitions: Vec<(&'static str, u64)>,
}

impl ClientLevels {
    fn labels(&self, more: Option<(&'static str, &'static str)>) -> Labels {
        let mut labels = vec![KeyValue::new(attribute::DESTINATION, Arc::clone(&self.destination))];
        labels.extend(more.map(|(name, word)| KeyValue::new(name, word)));
        labels
    }
}

/// Shows all that the destinations count.
pub(super) fn observe(metrics: &Metrics, read: impl Fn() -> Vec<ClientLevels> + Send + Sync + 'static) {
    let read: Arc<dyn Fn() -> Vec<ClientLevels> + Send + Sync> = Arc::new(read);

    let level = |value: fn(&ClientLevels) -> u64| {
        let read = Arc::clone(&read);
        move || read().iter().map(|of| (of.labels(None), i64::try_from(value(of)).unwrap_or(i64::MAX))).collect()
    };
    metrics.observe_level(&names::CLIENT_ACTIVE, level(|of| of.active));
    metrics.observe_level(&names::CLIENT_QUEUED, level(|of| of.queued));

    let counts = |name: &'static str, counts: fn(&ClientLevels) -> &[(&'static str, u64)]| {
        let read = Arc::clone(&read);
        move || {
            let mut series = Vec::new();
            for of in read() {
                series.extend(counts(&of).iter().map(|(word, count)| (of.labels(Some((name, word))), *count)));
            }
            series
        }
    };
    metrics.observe_counter(&names::CLIENT_REFUSED, counts(attribute::CAUSE, |of| &of.refused));
    metrics.observe_counter(&names::CLIENT_RETRIES, counts(attribute::REASON, |of| &of.retries));
    metrics.observe_counter(&names::CLIENT_RETRIES_HELD_BACK, counts(attribute::CAUSE, |of| &of.retries_held_back));
    metrics
        .observe_counter(&names::CLIENT_RETRY_BUDGET_EXHAUSTED, counts(attribute::ATTEMPT, |of| &of.budget_exhausted));
    metrics.observe_counter(&names::CLIENT_HEDGES, counts(attribute::OUTCOME, |of| &of.hedges));
    metrics.observe_counter(&names::CLIENT_BREAKER_TRANSITIONS, counts(attribute::STATE, |of| &of.transitions));

    let fallbacks = Arc::clone(&read);
    metrics.observe_counter(&names::CLIENT_FALLBACKS, move || {
        let mut series = Vec::new();
        for of in fallbacks() {
            for (method, cause, count) in &of.fallbacks {
                let mut labels = of.labels(Some((attribute::CAUSE, cause)));
                labels.push(KeyValue::new(attribute::METHOD, Arc::clone(method)));
                series.push((labels, *count));
            }
        }
        series
    });
    let forced = Arc::clone(&read);
    metrics.observe_gauge(&names::CLIENT_BREAKER_FORCED, move || {
        forced().iter().map(|of| (of.labels(None), of.forced.as_secs_f64())).collect()
    });
    let stale = Arc::clone(&read);
    metrics.observe_gauge(&names::DISCOVERY_STALE, move || {
        stale().iter().map(|of| (of.labels(None), f64::from(of.stale))).collect()
    });
    metrics.observe_gauge(&names::CLIENT_ENDPOINTS, move || {
        let mut series = Vec::new();
        for of in read() {
            for state in STATES {
                let count: u64 = of.endpoints.iter().filter(|(word, _)| *word == state).map(|(_, count)| count).sum();
                series.push((of.labels(Some((attribute::STATE, state))), count as f64));
            }
        }
        series
    });
}
