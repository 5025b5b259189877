//! The metrics of the request path: duration series found without a lock, and requests in flight that cannot leak.
//!
//! A [`HttpSeries`] belongs to one route and method, and lives where the route lives. Its first request with a given
//! status, protocol version and error binds an instrument to these attributes; each further one finds it by walking a
//! short list that only ever grows, and records through it. The list has a bounded length, so a handler that invents
//! statuses makes the metric slower, never larger.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use http::{Method, StatusCode, Version};
use opentelemetry::{
    KeyValue, StringValue, Value,
    metrics::{BoundHistogram, Histogram},
    trace::{SpanId, TraceId},
};
use tonic::Code;

use super::{
    Labels, Metrics,
    exemplars::{Exemplars, Slots},
    histogram,
};
use crate::telemetry::names::{self, OTHER, UNMATCHED_ROUTE, attribute};

/// The most bound series of one route and method. Chosen: a well-behaved handler has five to ten.
const MAX_SERIES: usize = 64;

/// Counters of requests in flight per method, to keep threads off each other's cache lines. Chosen: the workers of an
/// ordinary container; more workers share.
const SHARDS: usize = 8;

/// The scheme of a listener, the attribute `url.scheme`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    #[cfg_attr(not(test), expect(dead_code, reason = "no listener speaks TLS yet"))]
    Https,
}

impl Scheme {
    /// The word itself.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The methods that the semantic conventions know, and the word for all others, by [`method_index`].
pub(crate) const METHODS: [&str; 11] =
    ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "QUERY", "TRACE", "CONNECT", OTHER];

/// The place of a method among [`METHODS`].
#[inline]
pub(crate) fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::POST => 1,
        Method::PUT => 2,
        Method::DELETE => 3,
        Method::PATCH => 4,
        Method::HEAD => 5,
        Method::OPTIONS => 6,
        Method::QUERY => 7,
        Method::TRACE => 8,
        Method::CONNECT => 9,
        _ => METHODS.len() - 1,
    }
}

/// The method as a metric attribute: itself, or `_OTHER` for one the semantic conventions do not know.
pub(crate) fn method_label(method: &Method) -> &'static str {
    METHODS[method_index(method)]
}

/// The protocol version as a metric attribute: `1.1`, `2`.
pub(crate) fn version_label(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// The name of a gRPC code as the protocol writes it: `NOT_FOUND`.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// What an answer without a `grpc-status` comes to (gRPC over HTTP/2, "HTTP to gRPC status code mapping").
pub(crate) fn code_of_status(status: u16) -> Code {
    match StatusCode::from_u16(status) {
        Ok(StatusCode::OK) => Code::Unknown,
        Ok(StatusCode::BAD_REQUEST) => Code::Internal,
        Ok(StatusCode::UNAUTHORIZED) => Code::Unauthenticated,
        Ok(StatusCode::FORBIDDEN) => Code::PermissionDenied,
        Ok(StatusCode::NOT_FOUND) => Code::Unimplemented,
        Ok(
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT,
        ) => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// Whether a gRPC code is the server's failure, not the caller's (semantic conventions, gRPC server spans).
pub(crate) fn is_server_error(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The request metrics of the servers with one scheme.
#[derive(Debug)]
pub(crate) struct ServerMetrics {
    scheme: Scheme,
    http: Durations,
    rpc: Durations,
    active: Arc<[OnceLock<Active>; METHODS.len()]>,
    unmatched: [OnceLock<HttpSeries>; METHODS.len()],
}

impl ServerMetrics {
    pub(super) fn new(metrics: &Metrics, scheme: Scheme) -> Self {
        let active: Arc<[OnceLock<Active>; METHODS.len()]> = Arc::default();
        let observed = Arc::clone(&active);
        metrics.observe_level(&names::HTTP_SERVER_ACTIVE_REQUESTS, move || {
            let seen =
                METHODS.iter().zip(observed.iter()).filter_map(|(method, active)| Some((*method, active.get()?)));
            seen.map(|(method, active)| (in_flight_labels(method, scheme), active.count())).collect()
        });
        Self {
            scheme,
            http: Durations::new(metrics, &names::HTTP_SERVER_REQUEST_DURATION),
            rpc: Durations::new(metrics, &names::RPC_SERVER_CALL_DURATION),
            active,
            unmatched: Default::default(),
        }
    }

    /// Counts a request in flight until the guard is dropped. A gRPC call is the `POST` it is.
    #[inline]
    pub(crate) fn enter(&self, method: &Method) -> InFlight {
        self.active[method_index(method)].get_or_init(Active::default).enter()
    }

    /// The series of one route template and method. Make it once and keep it with the route.
    pub(crate) fn http_series(&self, route: &str, method: &Method) -> HttpSeries {
        HttpSeries {
            base: vec![
                KeyValue::new(attribute::HTTP_REQUEST_METHOD, method_label(method)),
                KeyValue::new(attribute::URL_SCHEME, self.scheme.as_str()),
                KeyValue::new(attribute::HTTP_ROUTE, route.to_owned()),
            ],
            durations: self.http.clone(),
            series: SeriesList::default(),
        }
    }

    /// The series of all requests with this method that no route matched.
    pub(crate) fn unmatched(&self, method: &Method) -> &HttpSeries {
        self.unmatched[method_index(method)].get_or_init(|| self.http_series(UNMATCHED_ROUTE, method))
    }

    /// The series of one gRPC method, `package.Service/Method` with or without the leading slash; [`OTHER`] for all
    /// methods that the server does not have. Make it once and keep it with the route.
    pub(crate) fn rpc_series(&self, method: &str) -> RpcSeries {
        RpcSeries {
            base: vec![
                KeyValue::new(attribute::RPC_SYSTEM_NAME, "grpc"),
                KeyValue::new(attribute::RPC_METHOD, method.trim_start_matches('/').to_owned()),
            ],
            durations: self.rpc.clone(),
            series: SeriesList::default(),
        }
    }
}

fn in_flight_labels(method: &'static str, scheme: Scheme) -> Labels {
    vec![KeyValue::new(attribute::HTTP_REQUEST_METHOD, method), KeyValue::new(attribute::URL_SCHEME, scheme.as_str())]
}

/// All series of one route template and method.
#[derive(Debug)]
pub(crate) struct HttpSeries {
    base: Labels,
    durations: Durations,
    series: SeriesList<(u16, Version, Word)>,
}

impl HttpSeries {
    /// Records a request that has ended. `error_type` is the word of the refusal or problem; without one, a status of
    /// 500 and above is its own error type.
    #[inline]
    pub(crate) fn record(&self, status: u16, version: Version, error_type: Option<&'static str>, seconds: f64) {
        match self.series.find((status, version, Word::of(error_type))) {
            Some(node) => node.handle.record(seconds),
            None => self.record_new(status, version, error_type, seconds, None),
        }
    }

    /// As [`record`](Self::record), for a request whose trace is kept: the trace becomes the bucket's exemplar.
    pub(crate) fn record_sampled(
        &self,
        status: u16,
        version: Version,
        error_type: Option<&'static str>,
        seconds: f64,
        trace: (TraceId, SpanId),
    ) {
        self.record_new(status, version, error_type, seconds, Some(trace));
    }

    #[cold]
    fn record_new(
        &self,
        status: u16,
        version: Version,
        error_type: Option<&'static str>,
        seconds: f64,
        trace: Option<(TraceId, SpanId)>,
    ) {
        let labels = || self.labels(status, version, error_type);
        self.series.record((status, version, Word::of(error_type)), &self.durations, labels, seconds, trace);
    }

    fn labels(&self, status: u16, version: Version, error_type: Option<&'static str>) -> Labels {
        let mut labels = self.base.clone();
        labels.push(KeyValue::new(attribute::HTTP_RESPONSE_STATUS_CODE, i64::from(status)));
        labels.push(KeyValue::new(attribute::NETWORK_PROTOCOL_VERSION, version_label(version)));
        let error_type = match error_type {
            Some(word) => Some(Value::from(word)),
            None if status >= 500 => Some(Value::from(StringValue::from(status.to_string()))),
            None => None,
        };
        labels.extend(error_type.map(|error_type| KeyValue::new(attribute::ERROR_TYPE, error_type)));
        labels
    }
}

/// All series of one gRPC method.
#[derive(Debug)]
pub(crate) struct RpcSeries {
    base: Labels,
    durations: Durations,
    series: SeriesList<(Code, Word)>,
}

impl RpcSeries {
    /// Records a call that has ended. `error_type` counts only where the code is the server's failure; without one,
    /// such a code is its own error type.
    #[inline]
    pub(crate) fn record(&self, code: Code, error_type: Option<&'static str>, seconds: f64) {
        match self.series.find((code, Word::of(error_type))) {
            Some(node) => node.handle.record(seconds),
            None => self.record_new(code, error_type, seconds, None),
        }
    }

    /// As [`record`](Self::record), for a call whose trace is kept: the trace becomes the bucket's exemplar.
    pub(crate) fn record_sampled(
        &self,
        code: Code,
        error_type: Option<&'static str>,
        seconds: f64,
        trace: (TraceId, SpanId),
    ) {
        self.record_new(code, error_type, seconds, Some(trace));
    }

    #[cold]
    fn record_new(&self, code: Code, error_type: Option<&'static str>, seconds: f64, trace: Option<(TraceId, SpanId)>) {
        let labels = || self.labels(code, error_type);
        self.series.record((code, Word::of(error_type)), &self.durations, labels, seconds, trace);
    }

    fn labels(&self, code: Code, error_type: Option<&'static str>) -> Labels {
        let mut labels = self.base.clone();
        labels.push(KeyValue::new(attribute::RPC_RESPONSE_STATUS_CODE, code_name(code)));
        if is_server_error(code) {
            labels.push(KeyValue::new(attribute::ERROR_TYPE, error_type.unwrap_or(code_name(code))));
        }
        labels
    }
}

/// A histogram of durations, and where the exemplars of its series are kept.
#[derive(Debug, Clone)]
pub(super) struct Durations {
    histogram: Histogram<f64>,
    scrape_name: Arc<str>,
    boundaries: Arc<[f64]>,
    exemplars: Arc<Exemplars>,
}

impl Durations {
    pub(super) fn new(metrics: &Metrics, metric: &names::MetricDoc) -> Self {
        Self {
            histogram: histogram(&metrics.0.meter, metric),
            scrape_name: metric.scrape_name().into(),
            boundaries: metrics.0.config.boundaries(metric.name, metric.unit).unwrap_or_default().into(),
            exemplars: Arc::clone(&metrics.0.exemplars),
        }
    }
}

/// A histogram bound to one set of attributes.
///
/// The bound instruments of the SDK are experimental; should they go, this type keeps the histogram and the attributes
/// and records unbound (110 ns instead of 15).
#[derive(Debug)]
struct DurationHandle(BoundHistogram<f64>);

impl DurationHandle {
    fn bind(histogram: &Histogram<f64>, labels: &[KeyValue]) -> Self {
        Self(histogram.bind(labels))
    }

    fn record(&self, seconds: f64) {
        self.0.record(seconds);
    }
}

/// The bound series of one route, a list that only grows: reading takes no lock, and a node never moves.
#[derive(Debug)]
pub(super) struct SeriesList<K> {
    head: Link<K>,
}

type Link<K> = OnceLock<Box<Node<K>>>;

#[derive(Debug)]
struct Node<K> {
    key: K,
    handle: DurationHandle,
    exemplars: OnceLock<Arc<Slots>>,
    next: Link<K>,
}

impl<K> Default for SeriesList<K> {
    fn default() -> Self {
        Self { head: OnceLock::new() }
    }
}

impl<K: Copy + PartialEq> SeriesList<K> {
    /// The node with this key, if there is one. This is the request path: a few loads and comparisons.
    #[inline]
    fn find(&self, key: K) -> Option<&Node<K>> {
        let mut link = &self.head;
        while let Some(node) = link.get() {
            if node.key == key {
                return Some(node);
            }
            link = &node.next;
        }
        None
    }

    /// Records, through a node made for it when the key is new, or unbound when the list is full.
    pub(super) fn record(
        &self,
        key: K,
        durations: &Durations,
        labels: impl Fn() -> Labels,
        seconds: f64,
        trace: Option<(TraceId, SpanId)>,
    ) {
        let Some(node) = self.find_or_add(key, || DurationHandle::bind(&durations.histogram, &labels())) else {
            return durations.histogram.record(seconds, &labels());
        };
        node.handle.record(seconds);
        if let Some((trace_id, span_id)) = trace {
            let slots = node
                .exemplars
                .get_or_init(|| durations.exemplars.slots(&durations.scrape_name, &labels(), &durations.boundaries));
            slots.put(seconds, trace_id, span_id);
        }
    }

    fn find_or_add(&self, key: K, bind: impl Fn() -> DurationHandle) -> Option<&Node<K>> {
        let mut link = &self.head;
        for _ in 0..MAX_SERIES {
            // Of two threads that come to the end of the list with different keys, one makes its node here, and the
            // other sees that node and goes on behind it.
            let node = link.get_or_init(|| {
                Box::new(Node { key, handle: bind(), exemplars: OnceLock::new(), next: OnceLock::new() })
            });
            if node.key == key {
                return Some(node);
            }
            link = &node.next;
        }
        None
    }
}

/// A static word compared by where it is, not by its letters, which is faster. Should the same word be in two places,
/// it gets two nodes, and these record into the same series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Word {
    address: usize,
    length: usize,
}

impl Word {
    #[inline]
    pub(super) fn of(word: Option<&'static str>) -> Self {
        word.map_or(Self { address: 0, length: 0 }, |word| Self { address: word.as_ptr().addr(), length: word.len() })
    }
}

/// The requests of one method in flight.
///
/// A request in flight holds a reference to one of the slots, and the number of references is the count. So the count
/// cannot leak: whatever ends the request drops the reference, a client that goes away included.
#[derive(Debug, Default)]
struct Active([Arc<Slot>; SHARDS]);

/// Aligned, so that each slot's reference count has cache lines of its own (two, as they are fetched in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot;

impl Active {
    #[inline]
    fn enter(&self) -> InFlight {
        InFlight { _slot: Arc::clone(&self.0[shard()]) }
    }

    fn count(&self) -> i64 {
        let references: usize = self.0.iter().map(|slot| Arc::strong_count(slot) - 1).sum();
        i64::try_from(references).unwrap_or(i64::MAX)
    }
}

/// The slot of this thread: threads take turns.
fn shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    SHARD.with(|shard| *shard)
}

/// A count that many threads add to.
#[derive(Debug, Default)]
pub(crate) struct SharedCount([CountSlot; SHARDS]);

/// Aligned as [`Slot`] is.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CountSlot(AtomicU64);

impl SharedCount {
    #[inline]
    pub(crate) fn add_one(&self) {
        self.0[shard()].0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|slot| slot.0.load(Ordering::Relaxed)).sum()
    }
}

/// A request counts as in flight until this is dropped.
#[derive(Debug)]
#[must_use = "the request counts as ended when this is dropped"]
pub(crate) struct InFlight {
    _slot: Arc<Slot>,
}
